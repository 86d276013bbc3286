//! Progress: bars on a terminal, which `script` gives; and not one control character where there is none.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::daemon::{Account, Daemon, PROGRAM, Setup};
use crate::harness::dovecot::{Dovecot, descendants};
use crate::harness::mail::{self, Sizes};
use crate::harness::process::Server;
use crate::harness::relay::{Fault, Link, Relay};
use crate::harness::search::Searched as _;
use crate::harness::{PATIENCE, UPSTREAM_PASSWORD, UPSTREAM_USER, scratch, straight_run, wait_for};

const MESSAGES: u64 = 4000;

/// What a program says on a terminal, to its end.
fn on_a_terminal(arguments: &[&str], home: &Path) -> String {
    let inner = format!("{PROGRAM} {}", arguments.join(" "));
    let mut command = Command::new("timeout");
    command.args(["60", "script", "-qefc", &inner, "/dev/null"]);
    command.env("TERM", "xterm").env("UPSTREAM", UPSTREAM_PASSWORD).current_dir(home).stdin(Stdio::null());
    let out = command.output_searched().expect("script (tests/run installs it)");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}");
    said
}

/// The same where there is none.
fn into_a_pipe(arguments: &[&str], home: &Path) -> String {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("TERM", "xterm").env("UPSTREAM", UPSTREAM_PASSWORD).current_dir(home);
    let out = command.stdin(Stdio::null()).output_searched().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
    said
}

fn is_plain(said: &str) -> bool {
    !said.chars().any(|c| c.is_control() && c != '\n')
}

/// Without what steers the terminal.
fn words(said: &str) -> String {
    let mut out = String::new();
    let mut rest = said.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\x1b' {
            out.push(c);
        } else if rest.next_if_eq(&'[').is_some() {
            // A control sequence ends with a letter (ECMA-48 §5.4).
            while rest.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
            rest.next();
        }
    }
    out
}

#[test]
fn a_first_sync_shows_bars_on_a_terminal_only() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    mail::load(&mut dovecot.client(), "INBOX", 49, MESSAGES, Sizes::Small);
    let relay = Relay::to(dovecot.imap, Link { rate: 150_000, ..Link::default() });
    relay.set(Fault::Refuse);
    let account = Account { limits_more: "compress = false".into(), ..Account::at(relay.addr) };
    // Makes the configuration; it finds nobody at home.
    let mut daemon = Daemon::start(Setup::new(account));
    daemon.stop();
    relay.set(Fault::None);

    let config = daemon.config_file();
    let home = config.parent().unwrap();
    let inner = format!("{PROGRAM} run --config {}", config.display());
    let env = [("TERM", "xterm"), ("MAILWEIR_LOG", "info")];
    let mut terminal = Server::start(Path::new("/usr/bin/script"), &["-qefc", &inner, "/dev/null"], &env, home, &[]);
    wait_for("the end of the reading, on the terminal", || {
        let (status, body) = daemon.http_get_if_up("/status.json").unwrap_or_default();
        status == 200 && body.contains("\"in_step\"") && body.contains(&format!("\"messages\": {MESSAGES}"))
    });
    let run = descendants(terminal.pid()).into_iter().find(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "mailweir"
    });
    let killed = Command::new("kill").args(["-TERM", &run.expect("the daemon below script").to_string()]).status();
    assert!(killed.unwrap().success());
    assert_eq!(terminal.wait_end(PATIENCE), Some(0));
    let said = terminal.printed();
    let plain = words(&said);
    assert!(said.contains('\x1b') && plain.contains("ann@example.org INBOX"), "{said}");
    assert!(plain.contains(" of 4,000 messages, about ") && plain.contains(" left"), "{said}");
    // Log lines are whole, whatever is drawn around them.
    let opened = "INFO mailweir::upstream::pool: upstream session opened account=ann@example.org";
    assert!(plain.lines().any(|line| line.trim_end().ends_with(opened)), "{said}");
    assert!(plain.contains(&format!("http {}", daemon.http)), "{said}");

    // The same into a pipe.
    daemon.drop_cache();
    daemon.restart();
    wait_for("the end of the reading", || daemon.http_get("/status.json").1.contains("\"in_step\""));
    daemon.server().signal("HUP");
    wait_for("the reload", || daemon.server().errors().contains("read again"));
    let printed = daemon.server().printed();
    assert!(is_plain(&printed), "{printed:?}");
    daemon.stop();

    let check = ["cache", "check", "--config", config.to_str().unwrap()];
    let said = on_a_terminal(&check, home);
    assert!(said.contains('\x1b') && words(&said).contains(" of ") && said.contains("sound"), "{said:?}");
    let said = into_a_pipe(&check, home);
    assert_eq!(said, "ann@example.org: sound\n");

    // Far enough that there is time to show it: what is over at once is not worth a drawing.
    let far = Relay::to(dovecot.imap, Link { delay: Duration::from_millis(200), ..Link::default() });
    let server = format!("localhost:{}", far.addr.port());
    for (name, shows) in [("one", true), ("two", false)] {
        let file = home.join(format!("{name}.toml"));
        let who = ["account", "add", "ann@example.org", "--non-interactive", "--username", UPSTREAM_USER];
        let at = ["--imap", &server, "--imap-tls", "none", "--upstream-password-env", "UPSTREAM", "--config"];
        let add = [&who[..], &at, &[file.to_str().unwrap()]].concat();
        let said = if shows { on_a_terminal(&add, home) } else { into_a_pipe(&add, home) };
        assert!(said.contains("takes the login"), "{said}");
        assert_eq!((words(&said).contains("Logging in at localhost"), !is_plain(&said)), (shows, shows), "{said:?}");
    }
}

#[test]
fn the_demonstration_is_quiet_in_a_pipe() {
    if straight_run() {
        return;
    }
    let home = scratch("terminal");
    let said = on_a_terminal(&["demo", "--for", "2"], home.path());
    assert!(words(&said).contains("Filling a simulated provider"), "{said:?}");
    let said = into_a_pipe(&["demo", "--for", "2"], home.path());
    assert!(said.contains("status page") && is_plain(&said), "{said:?}");
}
