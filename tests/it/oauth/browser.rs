//! A consent as its owner gives it: Chromium, opened by mailweir or at its word, against a real authorization server.

use std::process::{Command, Stdio};

use super::{LONG, World};
use crate::harness::chromium::Chromium;
use crate::harness::daemon::PROGRAM;
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::oauth::{AuthServer, Login};
use crate::harness::{ADDRESS, UPSTREAM_USER, scratch, straight_run, wait_for};

/// Runs the program on a terminal of its own, on a desktop whose browser is `Chromium`; its exit status and all it printed.
fn on_a_desktop(browser: &Chromium, command: &str) -> (bool, String, String) {
    let (bin, last) = browser.as_the_desktops(UPSTREAM_USER);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let out = Command::new("script")
        .args(["-qec", command, "/dev/null"])
        .env("PATH", path)
        .env("DISPLAY", ":77")
        .stdin(Stdio::null())
        .output()
        .expect("script (tests/run installs it)");
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    // The program ends with the consent, a moment before its browser has shown the page.
    let mut page = String::new();
    if out.status.success() {
        wait_for("the browser's last page", || {
            page = std::fs::read_to_string(&last).unwrap_or_default();
            page.ends_with('}')
        });
    }
    (out.status.success(), said, page)
}

/// `account login` on a desktop: it opens the browser, waits for it on a port of this computer, and answers it with a page.
#[test]
fn account_login_opens_the_browser_and_is_come_back_to() {
    let Some(world) = World::new(LONG, false) else { return };
    wait_for("the daemon to find that nobody has consented", || world.needs_login());
    let browser = Chromium::new();
    let config = world.daemon.config_file();
    let command = format!("'{PROGRAM}' account login {ADDRESS} --config '{}'", config.display());
    let (done, said, page) = on_a_desktop(&browser, &command);
    assert!(done && said.contains("takes the login"), "{said}");
    assert!(
        page.contains("\"status\":200") && page.contains("That is all.") && page.contains("\"title\":\"mailweir\""),
        "{page}"
    );
    assert!(page.contains("\"address\":\"http://127.0.0.1:") && page.contains("code="), "{page}");
    wait_for("the daemon to take the consent over", || !world.needs_login());
    let mut client = world.daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    assert!(World::read(&mut client, 1));
}

/// `account add` of somebody new, the consent part of it.
#[test]
fn account_add_consents_on_the_way() {
    if straight_run() {
        return;
    }
    let auth = AuthServer::start(LONG);
    let dovecot = Dovecot::with(Options { introspection: Some(auth.introspection_url()), ..Options::default() });
    let (home, browser) = (scratch("accounts"), Chromium::new());
    let config = home.path().join("new/mailweir.toml");
    let command = format!(
        "HOME='{home}' XDG_DATA_HOME='{home}/data' '{PROGRAM}' account add ann@example.org --username {UPSTREAM_USER} --imap localhost:{imap} \
         --imap-tls none --client-id mailweir --token-url http://{at}/token --authorize-url http://{at}/auth --scope mail --config '{config}'",
        home = home.path().display(),
        imap = dovecot.imap.port(),
        at = auth.addr,
        config = config.display(),
    );
    let (done, said, page) = on_a_desktop(&browser, &command);
    assert!(done && said.contains("The consent is stored") && said.contains("Start it with `mailweir run`"), "{said}");
    assert!(page.contains("That is all."), "{page}");
    assert!(std::fs::read_to_string(&config).unwrap().contains("client_id = \"mailweir\""));
}

/// The code of `--device`, typed into a browser that knows nothing of this computer.
#[test]
fn a_code_is_approved_in_a_browser() {
    let Some(world) = World::new(LONG, false) else { return };
    let mut login = Login::start(&world.daemon.config_file(), ADDRESS, &["--device"]);
    let address = login.line("On any device, visit ").split(' ').next_back().unwrap().to_owned();
    let code = login.line("and type the code ").split(' ').next_back().unwrap().to_owned();
    let page = Chromium::new().consent(UPSTREAM_USER, &address, Some(&code));
    assert!(page.contains("Sign-in Success"), "{page}");
    let (done, said) = login.end();
    assert!(done && said.contains("takes the login"), "{said}");
    wait_for("the daemon to take the consent over", || !world.needs_login());
    let mut client = world.daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    assert!(World::read(&mut client, 1));
}
