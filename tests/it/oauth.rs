//! OAuth 2 with real servers on both sides: Dovecot's own oauth2 passdb, which introspects every token at a real authorization
//! server; consents given as a person gives them, with a browser's forms.

mod browser;
mod itself;
mod killed;
mod sending;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::oauth::{AuthServer, Browser, Login};
use crate::harness::relay::{Fault, Link, Relay};
use crate::harness::{ADDRESS, UPSTREAM_USER, straight_run, wait_for};

/// A token that does not end while a test runs.
const LONG: u32 = 3600;

struct World {
    // The daemon is dropped first, then what it talks to.
    daemon: Daemon,
    mail: Relay,
    tokens: Relay,
    dovecot: Dovecot,
    auth: AuthServer,
    browser: Browser,
}

impl World {
    /// One message in INBOX, and nobody has consented yet.
    fn new(seconds: u32, bearer_only: bool) -> Option<Self> {
        if straight_run() {
            return None;
        }
        let auth = AuthServer::start(seconds);
        let introspection = Some(auth.introspection_url());
        let dovecot = Dovecot::with(Options { introspection, bearer_only, ..Options::default() });
        dovecot.client().append("INBOX", "", b"Subject: first\r\n\r\nthe first body\r\n");
        let (mail, tokens) = (Relay::to(dovecot.imap, Link::default()), Relay::to(auth.addr, Link::default()));
        let account = Account { pop3: auth.settings(tokens.addr), ..Account::at(mail.addr) };
        let daemon = Daemon::start(Setup::new(account));
        Some(Self { daemon, mail, tokens, dovecot, auth, browser: Browser::new() })
    }

    /// Consents with a browser that comes back to this computer.
    fn log_in(&self) {
        let (done, said) = self.log_in_as(UPSTREAM_USER);
        assert!(done, "{said}");
    }

    fn log_in_as(&self, user: &str) -> (bool, String) {
        let mut login = Login::start(&self.daemon.config_file(), ADDRESS, &["--no-browser"]);
        let page = self.browser.open(&login.line("http://"), &[]);
        let page = self.browser.consent(page, user);
        assert!(page.body.contains("That is all"), "{} {}", page.address, page.body);
        login.end()
    }

    fn needs_login(&self) -> bool {
        self.daemon.metric("mailweir_needs_login", &[]) == 1.0
    }

    /// Reads the message with that UID whole.
    fn read(client: &mut Client, uid: u32) -> bool {
        client.cmd(&format!("UID FETCH {uid} BODY.PEEK[TEXT]")).by_uid().len() == 1
    }
}

#[test]
fn a_consent_by_browser_opens_the_mailbox_of_a_daemon_that_waits_for_it() {
    let Some(world) = World::new(LONG, false) else { return };
    wait_for("the daemon to find that nobody has consented", || world.needs_login());
    let (status, ready) = world.daemon.http_get("/readyz");
    assert!(status == 503 && ready.contains("mailweir account login ann@example.org"), "{status} {ready}");
    // Mail programs are let in, and told what to do.
    let mut client = Client::connect(world.daemon.imap);
    let told = client.cmd_ok("LOGIN ann@example.org local-secret").lines();
    assert!(told.iter().any(|line| line.starts_with("* NO [ALERT]") && line.contains("account login")), "{told:?}");

    // A consent given as somebody else is found out, and not stored.
    let (done, said) = world.log_in_as("bob");
    assert!(!done && said.contains("Nothing was stored"), "{said}");
    assert!(world.needs_login());
    let other = World { browser: Browser::new(), ..world };
    other.log_in();
    wait_for("the daemon to take the consent over", || !other.needs_login());
    let mut client = other.daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    assert!(World::read(&mut client, 1));
    assert_eq!(other.daemon.http_get("/readyz").0, 200);
    assert!(other.dovecot.log().contains("method=XOAUTH2"), "{}", other.dovecot.log());
}

#[test]
fn a_code_typed_elsewhere_opens_it_by_oauthbearer() {
    let Some(world) = World::new(LONG, true) else { return };
    let mut login = Login::start(&world.daemon.config_file(), ADDRESS, &["--device"]);
    let address = login.line("On any device, visit ").split(' ').next_back().unwrap().to_owned();
    let code = login.line("and type the code ").split(' ').next_back().unwrap().to_owned();
    let page = world.browser.type_code(&address, &code, UPSTREAM_USER);
    assert!(page.body.contains("Sign-in Success"), "{}", page.body);
    let (done, said) = login.end();
    assert!(done && said.contains("takes the login"), "{said}");
    assert!(said.contains("The running daemon takes it over"), "{said}");
    wait_for("the daemon to hear of it", || world.daemon.server().errors().contains("was read again"));
    let mut client = world.daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    assert!(World::read(&mut client, 1));
    assert!(world.dovecot.log().contains("method=OAUTHBEARER"), "{}", world.dovecot.log());
}

#[test]
fn an_address_pasted_from_another_computer_opens_it() {
    let Some(world) = World::new(LONG, false) else { return };
    let mut login = Login::start(&world.daemon.config_file(), ADDRESS, &["--paste"]);
    let page = world.browser.open(&login.line("http://"), &[]);
    let page = world.browser.consent(page, UPSTREAM_USER);
    assert!(page.address.starts_with("http://127.0.0.1/?code="), "{}", page.address);
    login.paste(&page.address);
    let (done, said) = login.end();
    assert!(done, "{said}");
    wait_for("the daemon to take the consent over", || !world.needs_login());
    // What is not the answer to what was asked is refused.
    let mut login = Login::start(&world.daemon.config_file(), ADDRESS, &["--paste"]);
    login.line("http://");
    login.paste(&page.address);
    let (done, said) = login.end();
    assert!(!done && said.contains("not the answer"), "{said}");
}

/// Gmail ends a session with its token. Tokens of some seconds, sessions cut with each: no client notices, and one whose IDLE runs all
/// the while is told of new mail.
#[test]
fn sessions_that_end_with_the_token_are_made_anew() {
    const SECONDS: u32 = 12;
    let Some(mut world) = World::new(SECONDS, false) else { return };
    world.log_in();
    let mut idler = world.daemon.client();
    wait_for("the mailbox", || idler.cmd("SELECT INBOX").is_ok());
    let idle = idler.idle();
    let mut reader = world.daemon.client();
    reader.cmd_ok("SELECT INBOX");
    let mut known = 1;
    for round in 2..=4 {
        // A new access token has been had, ahead of the old one's end.
        let before = world.auth.tokens().len();
        wait_for("a new token", || world.auth.tokens().len() > before);
        world.mail.cut();
        known += 1;
        world.dovecot.client().append("INBOX", "", format!("Subject: {round}\r\n\r\nbody {round}\r\n").as_bytes());
        idler.until(&format!("* {known} EXISTS"));
        wait_for("the new message", || reader.cmd_ok("NOOP").is_ok() && World::read(&mut reader, known));
        assert!(!world.needs_login());
    }
    idler.done(&idle);
    // Each refresh gave a refresh token of its own, as the server rotates them.
    let tokens = world.auth.tokens();
    let mut different = tokens.clone();
    different.sort();
    different.dedup();
    assert!(tokens.len() >= 8 && different.len() == tokens.len(), "{tokens:?}");
    // The newest is on the disk: a daemon that is killed goes on with it.
    world.daemon.kill();
    world.daemon.restart();
    let mut client = world.daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    world.dovecot.client().append("INBOX", "", b"Subject: last\r\n\r\nlast\r\n");
    wait_for("the last message", || client.cmd_ok("NOOP").is_ok() && World::read(&mut client, known + 1));
    assert!(!world.needs_login());
    nothing_secret_is_left(&mut world);
}

#[test]
fn a_consent_taken_back_is_said_and_mended_without_a_restart() {
    const SECONDS: u32 = 8;
    let Some(mut world) = World::new(SECONDS, false) else { return };
    world.log_in();
    let mut client = world.daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    assert!(World::read(&mut client, 1));
    for _ in 0..2 {
        world.auth.revoke();
        world.mail.cut();
        wait_for("the loss of the consent", || world.needs_login());
        let mut told = Vec::new();
        wait_for("the alert", || {
            told.extend(client.cmd_ok("NOOP").lines());
            told.iter().any(|line| line.starts_with("* NO [ALERT]"))
        });
        let again = client.cmd_ok("NOOP").lines();
        assert!(!again.iter().any(|line| line.contains("ALERT")), "told once: {again:?}");
        // What was fetched before stays readable, in sessions old and new.
        assert!(World::read(&mut client, 1));
        let mut late = world.daemon.client();
        late.cmd_ok("SELECT INBOX");
        assert!(World::read(&mut late, 1));
        let (status, text) = world.daemon.http_get("/status.json");
        assert!(status == 200 && text.contains("\"needs_login\": \"mailweir needs a login"), "{text}");
        let (status, text) = world.daemon.http_get("/readyz");
        assert!(status == 503 && text.contains("needs a login"), "{status} {text}");

        // Twice within the minute after which the provider's own refusals may be overridden: this one is ours.
        world.log_in();
        wait_for("the consent to be taken over", || !world.needs_login());
        wait_for("/readyz to be green", || world.daemon.http_get("/readyz").0 == 200);
        let uid = world.dovecot.client().append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n");
        let uid = uid.expect("APPENDUID");
        wait_for("the new message", || client.cmd_ok("NOOP").is_ok() && World::read(&mut client, uid));
    }
    nothing_secret_is_left(&mut world);
}

#[test]
fn an_authorization_server_that_is_away_costs_no_consent() {
    const SECONDS: u32 = 8;
    let Some(mut world) = World::new(SECONDS, false) else { return };
    world.log_in();
    let mut client = world.daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    assert!(World::read(&mut client, 1));
    world.tokens.set(Fault::Refuse);
    world.tokens.cut();
    let gone = Instant::now();
    // Past the end of every token there is, with sessions that ended with them.
    wait_for("the tokens to end", || gone.elapsed() > Duration::from_secs(u64::from(SECONDS) + 1));
    world.mail.cut();
    wait_for("the daemon to notice", || world.daemon.server().errors().contains("no access token now"));
    assert!(World::read(&mut client, 1), "cached mail is served");
    world.daemon.client().cmd_ok("SELECT INBOX");
    assert!(!world.needs_login());
    // And through a restart.
    assert_eq!(world.daemon.stop(), 0);
    world.daemon.restart();
    let mut client = world.daemon.client();
    client.cmd_ok("SELECT INBOX");
    assert!(World::read(&mut client, 1) && !world.needs_login());

    world.tokens.set(Fault::None);
    let uid = world.dovecot.client().append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n").expect("APPENDUID");
    wait_for("the new message", || client.cmd_ok("NOOP").is_ok() && World::read(&mut client, uid));
    assert!(!world.needs_login());
}

/// No token that was ever given stands in a file, or in what the daemon has printed.
fn nothing_secret_is_left(world: &mut World) {
    let tokens = world.auth.tokens();
    assert!(!tokens.is_empty());
    let home = world.daemon.config_file().parent().unwrap().to_path_buf();
    let mut files = Vec::new();
    collect(&home, &mut files);
    assert!(files.iter().any(|file| file.ends_with("data/state.sqlite")), "{files:?}");
    let mut places: Vec<(String, Vec<u8>)> =
        files.iter().filter_map(|file| Some((file.display().to_string(), std::fs::read(file).ok()?))).collect();
    places.push(("its output".into(), world.daemon.server().printed().into_bytes()));
    for (place, bytes) in &places {
        for token in &tokens {
            let found = bytes.windows(token.len()).any(|part| part == token.as_bytes());
            assert!(!found, "a token stands in {place}");
        }
    }
}

fn collect(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}
