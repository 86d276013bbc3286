//! A real authorization server (the npm package `oidc-provider`, see `tests/clients/authserver.mjs`), and a browser for it: curl with a
//! jar for its cookies, filling in the forms it is shown.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::daemon::PROGRAM;
use super::{free_port, servers_dir, wait_for};

/// The secret of those of its clients that have one (`mailweir-with-secret`, `ann`).
pub const CLIENT_SECRET: &str = "Client-Geheim-52c1aa90d3";

/// What Dovecot proves itself with when it asks about a token.
pub const INTROSPECTION_USER: &str = "dovecot:dovecot-secret";

/// The running server; it ends with its standard input.
pub struct AuthServer {
    child: Child,
    input: Option<ChildStdin>,
    printed: Printed,
    pub addr: SocketAddr,
}

impl AuthServer {
    /// Its access tokens hold for so many seconds.
    pub fn start(seconds: u32) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/authserver.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(servers_dir().join("oidc")).arg(addr.port().to_string()).arg(seconds.to_string());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node (tests/run installs it and the package)");
        let input = child.stdin.take();
        let printed = Printed::follow(child.stdout.take().unwrap());
        let mut server = Self { child, input, printed, addr };
        wait_for("the authorization server", || server.printed.text().contains("ready") || server.has_ended());
        assert!(!server.has_ended(), "it does not start (is oidc-provider there? tests/run installs it)");
        server
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    /// Takes back every consent, and every token with it.
    pub fn revoke(&mut self) {
        let before = self.printed.text().matches("revoked\n").count();
        self.say("revoke");
        wait_for("the end of the consents", || self.printed.text().matches("revoked\n").count() > before);
    }

    /// Ends every access token before its time; consents stay.
    pub fn expire(&mut self) {
        let before = self.printed.text().matches("expired\n").count();
        self.say("expire");
        wait_for("the end of the tokens", || self.printed.text().matches("expired\n").count() > before);
    }

    /// Every token given so far, of both kinds.
    pub fn tokens(&mut self) -> Vec<String> {
        let before = self.printed.text().len();
        self.say("tokens");
        wait_for("the list of tokens", || self.printed.text()[before..].ends_with("end\n"));
        self.printed.text()[before..].lines().filter(|line| *line != "end").map(str::to_owned).collect()
    }

    fn say(&mut self, word: &str) {
        writeln!(self.input.as_mut().expect("it runs"), "{word}").expect("the authorization server listens");
    }

    /// The lines of `[account.oauth2]`; tokens are asked for at `tokens`, which may be a relay.
    pub fn settings(&self, tokens: SocketAddr) -> String {
        let addr = self.addr;
        format!(
            "[account.oauth2]\nclient_id = \"mailweir\"\nauthorize_url = \"http://{addr}/auth\"\ntoken_url = \"http://{tokens}/token\"\n\
             device_url = \"http://{addr}/device/auth\"\nscopes = [\"mail\"]\n"
        )
    }

    /// Where Dovecot asks about a token.
    pub fn introspection_url(&self) -> String {
        format!("http://{INTROSPECTION_USER}@{}/token/introspection", self.addr)
    }
}

impl Drop for AuthServer {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends by itself; a test that fails may leave it in any state.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child prints, as it comes.
#[derive(Clone, Default)]
pub(super) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    pub(super) fn follow(mut from: impl std::io::Read + Send + 'static) -> Self {
        let printed = Self::default();
        let kept = printed.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut piece) {
                kept.0.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        printed
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// `mailweir account login` under way.
pub struct Login {
    child: Child,
    out: Printed,
    err: Printed,
}

impl Login {
    pub fn start(config: &Path, address: &str, flags: &[&str]) -> Self {
        Self::run(config, &[&["account", "login", address], flags].concat())
    }

    /// Another command that has a person consent.
    pub fn run(config: &Path, arguments: &[&str]) -> Self {
        Self::run_with(Command::new(PROGRAM), config, arguments)
    }

    /// The same as somebody whose home is `home`.
    pub fn run_at(home: &Path, config: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.env("HOME", home).env_remove("XDG_DATA_HOME");
        Self::run_with(command, config, arguments)
    }

    fn run_with(mut command: Command, config: &Path, arguments: &[&str]) -> Self {
        command.args(arguments).arg("--config").arg(config);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mailweir");
        let (out, err) = (Printed::follow(child.stdout.take().unwrap()), Printed::follow(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    /// The first line of its output that begins so; waits for it.
    pub fn line(&mut self, beginning: &str) -> String {
        let mut found = None;
        wait_for(beginning, || {
            let text = self.out.text();
            // Whole lines only.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            found = whole.lines().find(|line| line.starts_with(beginning)).map(str::to_owned);
            found.is_some() || self.child.try_wait().expect("wait").is_some()
        });
        found.unwrap_or_else(|| panic!("never said: {}{}", self.out.text(), self.err.text()))
    }

    /// Types a line.
    pub fn paste(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for its end: whether it succeeded, and all it said.
    pub fn end(mut self) -> (bool, String) {
        let mut status = None;
        wait_for("the end of the login", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        let mut rest = String::new();
        // Both pipes are at their end soon after; what the followers have read until then is all of it.
        wait_for("its last words", || {
            let now = self.out.text() + &self.err.text();
            let settled = now == rest && !now.is_empty();
            rest = now;
            settled
        });
        (status.is_some_and(|status| status.success()), rest)
    }
}

/// A browser with its cookies.
pub struct Browser {
    dir: tempfile::TempDir,
}

/// A page: where it was found in the end, and what it says.
pub struct Page {
    pub address: String,
    pub body: String,
}

impl Browser {
    pub fn new() -> Self {
        Self { dir: super::scratch("browser") }
    }

    /// Fetches a page, following redirects; one that leads where nobody answers is where it ends.
    pub fn open(&self, address: &str, form: &[(&str, &str)]) -> Page {
        let jar = self.dir.path().join("jar");
        let mut command = Command::new("curl");
        command.args(["-sS", "-L", "--max-time", "20", "-w", "\n%{url_effective}", "-c"]).arg(&jar).arg("-b").arg(&jar);
        for (name, value) in form {
            command.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        let out = command.arg(address).output().expect("curl");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (body, address) = text.rsplit_once('\n').expect("curl says where it ended");
        Page { address: address.to_owned(), body: body.to_owned() }
    }

    /// Logs in as `user` and consents, from whatever page that begins at.
    pub fn consent(&self, mut page: Page, user: &str) -> Page {
        // Name and password, then the consent; each is one form.
        for _ in 0..4 {
            let Some(action) = attribute(&page.body, "action=\"") else { return page };
            page = if page.body.contains("name=\"login\"") {
                self.open(&action, &[("prompt", "login"), ("login", user), ("password", "any")])
            } else if page.body.contains("value=\"consent\"") {
                self.open(&action, &[("prompt", "consent")])
            } else {
                return page;
            };
        }
        page
    }

    /// Types a code where a device said, and consents.
    pub fn type_code(&self, address: &str, code: &str, user: &str) -> Page {
        let page = self.open(address, &[]);
        let (action, xsrf) = (attribute(&page.body, "action=\""), attribute(&page.body, "name=\"xsrf\" value=\""));
        let (action, xsrf) = (action.expect("a form"), xsrf.expect("its token"));
        let page = self.open(&action, &[("xsrf", &xsrf), ("user_code", code), ("confirm", "yes")]);
        self.consent(page, user)
    }
}

fn attribute(body: &str, before: &str) -> Option<String> {
    let (_, rest) = body.split_once(before)?;
    rest.split_once('"').map(|(value, _)| value.replace("&amp;", "&"))
}
