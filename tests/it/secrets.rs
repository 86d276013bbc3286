//! Secrets stay where they were put: a busy session of everything the program does, at the loudest log there is, and then every octet it
//! has written anywhere is searched for every secret it was ever given, in every form.

mod memory;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::client::{Client, quoted};
use crate::harness::daemon::PROGRAM;
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::exim::Exim;
use crate::harness::oauth::{AuthServer, Browser, CLIENT_SECRET, Login};
use crate::harness::pop::Pop;
use crate::harness::process::Server;
use crate::harness::search::Wanted;
use crate::harness::smtp::Smtp;
use crate::harness::{PATIENCE, UPSTREAM_PASSWORD, accepts, free_port, scratch, straight_run, wait_for};

/// The password of a mail program, with what has to be quoted.
const LOCAL: &str = "Lokal\"Geheim\\ 9c1d77";
/// One that is typed wrong: people type another account's.
const TYPED_WRONG: &str = "Vertippt-Geheim-31f0";
/// One the provider does not take.
const UPSTREAM_WRONG: &str = "Falsch-Geheim-6b2e";
/// One in the configuration itself, in a line that is broken.
const IN_THE_FILE: &str = "Klartext-Geheim-88ad";

const LOUD: (&str, &str) = ("MAILWEIR_LOG", "trace");

/// All that is needed, in one directory: the servers' own files lie elsewhere.
struct World {
    home: tempfile::TempDir,
    config: PathBuf,
    imap: SocketAddr,
    pop3: SocketAddr,
    submission: SocketAddr,
    http: SocketAddr,
    /// Everything commands have printed.
    printed: Vec<(String, Vec<u8>)>,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A file that only we can read; what its owner wrote there himself is not searched.
    fn secret_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    /// Runs a command; its status. What it prints is kept for the search.
    fn run(&mut self, arguments: &[&str]) -> Output {
        let config = self.config.clone();
        self.run_with(&config, arguments)
    }

    fn run_with(&mut self, config: &Path, arguments: &[&str]) -> Output {
        let out = Command::new(PROGRAM)
            .args(arguments)
            .arg("--config")
            .arg(config)
            .env(LOUD.0, LOUD.1)
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .output()
            .expect("mailweir");
        let name = arguments.join(" ");
        self.printed.push((format!("{name}: output"), out.stdout.clone()));
        self.printed.push((format!("{name}: errors"), out.stderr.clone()));
        out
    }

    fn http(&mut self, path: &str) {
        use std::io::{Read as _, Write as _};
        let mut tcp = TcpStream::connect(self.http).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(tcp, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = Vec::new();
        tcp.read_to_end(&mut page).unwrap();
        assert!(page.len() > 100, "{path}");
        self.printed.push((format!("the page {path}"), page));
    }

    /// What the system shows of a process.
    fn proc(&mut self, what: &str, pid: u32) {
        for file in ["cmdline", "environ", "status", "maps"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).expect("/proc");
            self.printed.push((format!("/proc, {file} of {what}"), bytes));
        }
    }
}

/// The configuration: `ann` by OAuth with an application's secret, `bob` by a password of a command, `u1` with a wrong one.
fn configuration(world: &World, dovecot: &Dovecot, auth: &AuthServer) -> String {
    let (imap, submission) = (dovecot.imap.port(), dovecot.submission.port());
    let local = world.secret_file("local.pw", LOCAL).display().to_string();
    let client = world.secret_file("client.secret", CLIENT_SECRET).display().to_string();
    let wrong = world.secret_file("wrong.pw", UPSTREAM_WRONG).display().to_string();
    world.secret_file("bob.pw", UPSTREAM_PASSWORD);
    // Notes what it can see of us: its environment, its arguments, and those of who called it.
    let script = world.path("give-password");
    let text = "#!/bin/sh\nfor pid in self $PPID; do cat /proc/$pid/cmdline /proc/$pid/environ; done >>seen-by-command 2>&1\nexec cat bob.pw\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let account = |name: &str, password: &str, more: &str| {
        format!(
            "[[account]]\naddress = \"{name}@example.org\"\npassword = {{ file = \"{local}\" }}\n[account.imap]\nhost = \"localhost\"\nport = {imap}\ntls = \"none\"\n\
             username = \"{name}\"\n{password}\n[account.smtp]\nhost = \"localhost\"\nport = {submission}\ntls = \"none\"\n{more}\n"
        )
    };
    let at = auth.addr;
    let oauth = format!(
        "[account.oauth2]\nclient_id = \"mailweir-with-secret\"\nclient_secret = {{ file = \"{client}\" }}\nauthorize_url = \"http://{at}/auth\"\n\
         token_url = \"http://{at}/token\"\nscopes = [\"mail\"]\n"
    );
    let command = format!("password = {{ command = [\"{}\"] }}", script.display());
    format!(
        "data_dir = \"data\"\n[listen]\nimap = [\"{}\"]\npop3 = [\"{}\"]\nsubmission = [\"{}\"]\nhttp = [\"{}\"]\n[cache]\nprefetch = \"all\"\n{}{}{}",
        world.imap,
        world.pop3,
        world.submission,
        world.http,
        account("ann", "", &oauth),
        account("bob", &command, ""),
        account("u1", &format!("password = {{ file = \"{wrong}\" }}"), ""),
    )
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Logins by every protocol and mechanism; mail read and sent.
fn work(world: &World, exim: &Exim) {
    for name in ["ann", "bob"] {
        let user = format!("{name}@example.org");
        let mut client = Client::connect(world.imap);
        client.cmd_ok(&format!("LOGIN {user} {}", quoted(LOCAL)));
        wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
        let mut client = Client::connect(world.imap);
        client.cmd_ok(&format!("AUTHENTICATE PLAIN {}", base64(&format!("\0{user}\0{LOCAL}"))));
        client.cmd_ok("SELECT INBOX");
        client.cmd_ok("FETCH 1:* (FLAGS BODY.PEEK[])");
        // What is no command, with the secret in it.
        client.cmd(&format!("{LOCAL} x"));

        let mut pop = Pop::connect(world.pop3).login(&user, LOCAL);
        pop.ok("STAT");
        pop.ok("QUIT");

        let mut smtp = Smtp::greeted(TcpStream::connect(world.submission).unwrap());
        smtp.ehlo();
        smtp.says(&format!("AUTH PLAIN {}", base64(&format!("\0{user}\0{LOCAL}"))), "235");
        let before = exim.sent().len();
        smtp.send(&user, &["carl@example.net"], "Subject: x\r\n\r\nx\r\n");
        exim.wait_sent(before + 1);
        smtp.says("QUIT", "221");
    }
}

/// Wrong logins, few: each makes the next slower.
fn guess(world: &World) {
    let user = "bob@example.org";
    let mut client = Client::connect(world.imap);
    assert!(!client.cmd(&format!("LOGIN {user} {TYPED_WRONG}")).is_ok());
    // The password where the name goes.
    assert!(!client.cmd(&format!("LOGIN {TYPED_WRONG} x")).is_ok());
    let mut pop = Pop::connect(world.pop3);
    pop.ok(&format!("USER {user}"));
    pop.err(&format!("PASS {TYPED_WRONG}"));
    let mut smtp = Smtp::greeted(TcpStream::connect(world.submission).unwrap());
    smtp.ehlo();
    smtp.says("AUTH LOGIN", "334");
    smtp.says(&base64(user), "334");
    smtp.says(&base64(TYPED_WRONG), "535");
    smtp.ask(TYPED_WRONG);
    // Nobody logs in upstream with this one.
    let mut client = Client::connect(world.imap);
    client.cmd_ok(&format!("LOGIN u1@example.org {}", quoted(LOCAL)));
    client.cmd("SELECT INBOX");
}

#[test]
fn no_secret_stands_in_anything_that_is_written() {
    if straight_run() {
        return;
    }
    let mut auth = AuthServer::start(20);
    let exim = Exim::start();
    let (introspection, relay) = (Some(auth.introspection_url()), Some(exim.inside));
    let dovecot = Dovecot::with(Options { introspection, relay, ..Options::default() });
    for user in ["ann", "bob"] {
        dovecot.client_as(user).append("INBOX", "", b"Subject: first\r\n\r\nthe first body\r\n");
    }
    let home = scratch("secrets");
    let config = home.path().join("mailweir.toml");
    let free = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut world =
        World { home, config, imap: free(), pop3: free(), submission: free(), http: free(), printed: Vec::new() };
    let text = configuration(&world, &dovecot, &auth);
    std::fs::write(&world.config, &text).unwrap();

    // The consent, twice: pasted, and one that is answered with nonsense.
    let codes = consent(&mut world);
    let arguments = ["run", "--config", world.config.to_str().unwrap()];
    let env = [LOUD, ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")];
    let server = Server::start(Path::new(PROGRAM), &arguments, &env, world.home.path(), &[]);
    wait_for("the daemon", || accepts(world.submission) && accepts(world.http));
    work(&world, &exim);
    guess(&world);
    // Renewed once, at least.
    let given = auth.tokens().len();
    wait_for("a renewal", || auth.tokens().len() > given);
    // And refused: the error in the challenge, the server's words.
    auth.expire();
    work(&world, &exim);

    commands(&mut world, &dovecot);
    for page in ["/", "/metrics", "/status.json", "/readyz", "/healthz", "/nothing"] {
        world.http(page);
    }
    world.proc("the daemon", server.pid());
    auth.revoke();
    wait_for("the loss of the consent", || server.errors().contains("needs a login"));
    world.http("/status.json");
    world.run(&["status"]);
    world.run(&["check", "ann@example.org"]);
    server.signal("TERM");
    let mut server = server;
    assert_eq!(server.wait_end(PATIENCE), Some(0));
    let log = server.printed();
    assert!(log.contains("TRACE") && log.len() > 100_000, "the log is loud: {} octets", log.len());
    world.printed.push(("the daemon's log".into(), log.into_bytes()));

    search(&world, &mut auth, &codes);
}

/// Everything else the program can be told to do.
fn commands(world: &mut World, dovecot: &Dovecot) {
    let server = format!("localhost:{}", dovecot.imap.port());
    let smtp = format!("localhost:{}", dovecot.submission.port());
    let (upstream, local, wrong) = (world.path("bob.pw"), world.path("local.pw"), world.path("wrong.pw"));
    let add = |address: &'static str, user: &'static str, password: &Path| -> Vec<String> {
        let words = [
            "account",
            "add",
            address,
            "--non-interactive",
            "--username",
            user,
            "--imap",
            &server,
            "--imap-tls",
            "none",
        ];
        let more = ["--smtp", &smtp, "--smtp-tls", "none", "--upstream-password-file", password.to_str().unwrap()];
        let last = ["--local-password-file", local.to_str().unwrap()];
        let all = words.iter().chain(&more).chain(&last);
        all.map(ToString::to_string).collect()
    };
    let mut said = |arguments: &[String], well: bool| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let out = world.run(&arguments);
        assert_eq!(
            out.status.success(),
            well,
            "{arguments:?}: {}",
            String::from_utf8_lossy(&out.stderr).lines().last().unwrap_or_default()
        );
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    said(&add("u2@example.org", "u2", &upstream), true);
    said(&add("u2@example.org", "u2", &upstream), true);
    said(&add("u3@example.org", "u3", &wrong), false);
    said(&words("account list"), true);
    said(&words("check bob@example.org"), true);
    said(&words("check ann@example.org"), true);
    said(&words("check u1@example.org"), false);
    said(&words("check bob@example.org --send-test carl@example.net"), true);
    said(&words("account pop3 bob@example.org"), true);
    said(&words("account remove u2@example.org"), true);
    said(&words("service print"), true);
    said(&words("status"), true);
    said(&words("certs show"), true);
    said(&words("cache check"), false);
    for help in
        ["--help", "account add --help", "account login --help", "check --help", "run --help", "service install --help"]
    {
        said(&words(help), true);
    }
    // Broken configurations: a secret where a reference goes, a line that does not end, a key that does not exist.
    for (name, line) in [
        ("bare", format!("password = \"{IN_THE_FILE}\"\n")),
        ("open", format!("password = {{ plain = \"{IN_THE_FILE}\n")),
        (
            "odd",
            format!(
                "password = {{ plain = \"{IN_THE_FILE}\", file = \"{IN_THE_FILE}\" }}\npasswort = \"{IN_THE_FILE}\"\n"
            ),
        ),
        ("list", format!("password = [\"{IN_THE_FILE}\"]\n")),
    ] {
        let path = world
            .secret_file(&format!("broken-{name}.toml"), &format!("[[account]]\naddress = \"x@example.org\"\n{line}"));
        for command in [&["run"][..], &["check"], &["account", "list"]] {
            let out = world.run_with(&path, command);
            assert_eq!(out.status.code(), Some(2), "{name}");
        }
    }
}

/// The codes that were typed on the way.
fn consent(world: &mut World) -> Vec<String> {
    let mut codes = Vec::new();
    for nonsense in [true, false] {
        let browser = Browser::new();
        let mut login = Login::start(&world.config, "ann@example.org", &["--paste"]);
        let page = browser.open(&login.line("http://"), &[]);
        let page = browser.consent(page, "ann");
        let code = page.address.split("code=").nth(1).expect("a code").split('&').next().unwrap().to_owned();
        login.paste(&if nonsense { page.address.replace("state=", "state=x") } else { page.address.clone() });
        codes.push(code);
        let (done, said) = login.end();
        assert_eq!(done, !nonsense, "{said}");
        world.printed.push(("account login".into(), said.into_bytes()));
    }
    codes
}

fn search(world: &World, auth: &mut AuthServer, codes: &[String]) {
    let mut wanted = Wanted::default();
    wanted.add("the provider's password", UPSTREAM_PASSWORD);
    wanted.add("a password the provider refuses", UPSTREAM_WRONG);
    wanted.add("the local password", LOCAL);
    wanted.add("a mistyped password", TYPED_WRONG);
    wanted.add("the application's secret", CLIENT_SECRET);
    wanted.add("a secret in the configuration", IN_THE_FILE);
    let tokens = auth.tokens();
    assert!(tokens.len() >= 4, "{} tokens", tokens.len());
    for (number, token) in tokens.iter().enumerate() {
        wanted.add(&format!("token {number}"), token);
    }
    for code in codes {
        wanted.add("an authorization code", code);
    }
    let key = std::fs::read(world.path("mailweir.key")).expect("the key of the tokens");
    let mut octets = 0;
    for (place, bytes) in &world.printed {
        octets += bytes.len();
        let found = wanted.found_in(bytes);
        assert!(found.is_empty(), "{found:?} stand in {place}:\n{}", around(&wanted, bytes));
    }
    let files = wanted.files_below(world.home.path());
    let own: Vec<PathBuf> = [
        "local.pw",
        "client.secret",
        "wrong.pw",
        "bob.pw",
        "broken-bare.toml",
        "broken-open.toml",
        "broken-odd.toml",
        "broken-list.toml",
    ]
    .map(|name| world.path(name))
    .to_vec();
    let strange: Vec<_> = files.iter().filter(|file| !own.contains(file)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    // The search does find: what people wrote themselves.
    assert!(own.iter().all(|file| files.contains(file)), "{files:?}");
    // The key is not in the store it opens.
    let state = std::fs::read(world.path("data/state.sqlite")).unwrap();
    assert!(key.len() >= 32 && !state.windows(key.len()).any(|part| part == key));
    assert!(world.path("seen-by-command").metadata().unwrap().len() > 100, "the command has looked");
    println!(
        "{} secrets in all forms, {} places and every file: {octets} octets printed, none found",
        6 + tokens.len() + codes.len(),
        world.printed.len()
    );
}

/// The lines with something in them, for the one who has to find out.
fn around(wanted: &Wanted, bytes: &[u8]) -> String {
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !wanted.found_in(line).is_empty());
    lines.take(5).map(|line| String::from_utf8_lossy(line).chars().take(400).collect::<String>() + "\n").collect()
}
