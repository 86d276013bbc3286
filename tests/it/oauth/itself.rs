//! Applications that act by themselves, with nobody's consent: client credentials at a real authorization server (Microsoft's way for
//! organisations), and a service account's signed assertions (Google's), which no server from a registry takes; Dovecot behind both.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{LONG, World};
use crate::harness::daemon::{Account, Daemon, PROGRAM, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::oauth::{AuthServer, CLIENT_SECRET};
use crate::harness::search::Searched as _;
use crate::harness::{accepts, free_port, scratch, straight_run, wait_for};

/// Serves the one message, over sessions whose token ended, and needs nobody's login.
fn reads_mail_past_the_tokens_end(daemon: &Daemon, dovecot: &Dovecot, mut new_token: impl FnMut() -> usize) {
    let mut client = daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    assert!(World::read(&mut client, 1));
    let before = new_token();
    wait_for("a token after the first", || new_token() > before);
    let uid = dovecot.client().append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n").expect("APPENDUID");
    wait_for("the new message", || client.cmd_ok("NOOP").is_ok() && World::read(&mut client, uid));
    assert!(daemon.metric("mailweir_needs_login", &[]) < 1.0);
}

#[test]
fn client_credentials_of_an_organisation() {
    if straight_run() {
        return;
    }
    let mut auth = AuthServer::start(8);
    let introspection = Some(auth.introspection_url());
    let dovecot = Dovecot::with(Options { introspection, token_user: Some("client_id"), ..Options::default() });
    dovecot.client().append("INBOX", "", b"Subject: first\r\n\r\nthe first body\r\n");
    let home = scratch("credentials");
    let secret = home.path().join("client.secret");
    private(&secret, CLIENT_SECRET);
    let settings = |grant: &str, secret: &Path| {
        format!(
            "[account.oauth2]\ngrant = \"{grant}\"\nclient_id = \"ann\"\nclient_secret = {{ file = \"{}\" }}\ntoken_url = \"http://{}/token\"\nscopes = [\"mail\"]\n",
            secret.display(),
            auth.addr
        )
    };
    let pop3 = settings("client-credentials", &secret);
    let wrong = home.path().join("wrong.secret");
    private(&wrong, "not-the-secret");
    let wrong = settings("client", &wrong);
    let mut daemon = Daemon::start(Setup::new(Account { pop3, ..Account::at(dovecot.imap) }));
    reads_mail_past_the_tokens_end(&daemon, &dovecot, || auth.tokens().len());
    assert!(dovecot.log().contains("method=XOAUTH2"));

    // A secret that is not the application's: told as what it is, not as somebody's consent.
    daemon.change(|setup| setup.accounts[0].pop3 = wrong);
    let (well, said) = check(&daemon.config_file());
    assert!(!well && said.contains("FAILED: OAuth application refused") && said.contains("client_secret"), "{said}");
    daemon.reload("was read again");
    wait_for("the alert", || daemon.metric("mailweir_needs_login", &[]) == 1.0);
    let (_, text) = daemon.http_get("/status.json");
    assert!(text.contains("Mend [account.oauth2]") && !text.contains("account login"), "{text}");
}

/// The double of the endpoint; it ends with its standard input.
struct Assertions {
    child: Child,
    input: Option<ChildStdin>,
    out: std::io::BufReader<std::process::ChildStdout>,
    addr: SocketAddr,
}

impl Assertions {
    fn start(public_key: &Path) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/jwtbearer.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(addr.port().to_string()).arg(public_key).args(["robot@project.example", "mail more"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node");
        let (input, out) = (child.stdin.take(), std::io::BufReader::new(child.stdout.take().unwrap()));
        let mut server = Self { child, input, out, addr };
        assert_eq!(server.line(), "ready");
        assert!(accepts(addr));
        server
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.out, &mut line).unwrap();
        line.trim().to_owned()
    }

    fn tokens(&mut self) -> Vec<String> {
        writeln!(self.input.as_mut().unwrap(), "tokens").unwrap();
        std::iter::from_fn(|| Some(self.line()).filter(|line| line != "end" && !line.is_empty())).collect()
    }
}

impl Drop for Assertions {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The private key in PEM and the file with the public one, by openssl: 2048 bits, as the provider gives them.
fn key_pair(dir: &Path, name: &str) -> (String, PathBuf) {
    let (private, public) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.pub")));
    let openssl = |arguments: &[&str]| {
        let out = Command::new("openssl").args(arguments).output().expect("openssl (tests/run installs it)");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let (key, half) = (private.to_str().unwrap(), public.to_str().unwrap());
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key]);
    openssl(&["pkey", "-in", key, "-pubout", "-out", half]);
    (std::fs::read_to_string(private).unwrap(), public)
}

#[test]
fn a_service_account_proves_itself_by_its_key() {
    if straight_run() {
        return;
    }
    let home = scratch("service");
    let (pem, public) = key_pair(home.path(), "right");
    let mut endpoint = Assertions::start(&public);
    let introspection = Some(format!("http://{}/introspection", endpoint.addr));
    let dovecot = Dovecot::with(Options { introspection, ..Options::default() });
    dovecot.client().append("INBOX", "", b"Subject: first\r\n\r\nthe first body\r\n");
    let key_file = |name: &str, pem: &str, who: &str| {
        let file = home.path().join(name);
        let line = pem.replace('\n', "\\n");
        let text = format!(
            "{{\"type\":\"service_account\",\"project_id\":\"p\",\"private_key_id\":\"key-1\",\"private_key\":\"{line}\",\"client_email\":\"{who}\",\
             \"token_uri\":\"https://elsewhere.example/token\"}}"
        );
        private(&file, &text);
        file
    };
    let settings = |file: &Path| {
        format!(
            "[account.oauth2]\ngrant = \"service-account\"\nkey = {{ file = \"{}\" }}\ntoken_url = \"http://{}/token\"\nscopes = [\"mail\", \"more\"]\n",
            file.display(),
            endpoint.addr
        )
    };
    let right = settings(&key_file("robot.json", &pem, "robot@project.example"));
    let foreign = settings(&key_file("foreign.json", &key_pair(home.path(), "foreign").0, "robot@project.example"));
    let exposed = key_file("exposed.json", &pem, "robot@project.example");
    std::fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let exposed = settings(&exposed);
    let mut daemon = Daemon::start(Setup::new(Account { pop3: right, ..Account::at(dovecot.imap) }));
    reads_mail_past_the_tokens_end(&daemon, &dovecot, || endpoint.tokens().len());

    let mut told = |lines: &str, want: &[&str]| {
        daemon.change(|setup| setup.accounts[0].pop3 = lines.to_owned());
        let (well, said) = check(&daemon.config_file());
        assert!(!well && want.iter().all(|want| said.contains(want)), "wanted {want:?}\n{said}");
        assert!(!said.contains("PRIVATE KEY") && !pem.lines().any(|line| said.contains(line)), "{said}");
    };
    told(&foreign, &["Invalid JWT Signature", "OAuth application refused"]);
    told(&exposed, &["chmod 600"]);
    for token in endpoint.tokens() {
        assert!(!daemon.server().printed().contains(&token));
    }
}

fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn check(config: &Path) -> (bool, String) {
    let out = Command::new(PROGRAM).args(["check", "--config"]).arg(config).output_searched().expect("mailweir");
    (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
}

/// Not meant to be long-lived: what the two tests above ask for ends in seconds; this is what they do not meet.
#[test]
fn nobody_is_asked_where_the_application_acts_by_itself() {
    let Some(mut world) = World::new(LONG, false) else { return };
    let at = world.auth.addr;
    let lines = format!(
        "[account.oauth2]\ngrant = \"client-credentials\"\nclient_id = \"ann\"\nclient_secret = {{ plain = \"{CLIENT_SECRET}\" }}\ntoken_url = \"http://{at}/token\"\n"
    );
    world.daemon.change(|setup| setup.accounts[0].pop3 = lines);
    let out = Command::new(PROGRAM)
        .args(["account", "login", "ann@example.org", "--config"])
        .arg(world.daemon.config_file())
        .output_searched()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(1) && said.contains("there is nothing to consent to"), "{said}");
}
