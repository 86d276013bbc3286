//! The log: its forms, its spans, and what never stands in it.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Busy, file};
use crate::harness::client::Client;
use crate::harness::daemon::PROGRAM;
use crate::harness::pop::Pop;
use crate::harness::process::Server;
use crate::harness::smtp::Smtp;
use crate::harness::{ADDRESS, LOCAL_PASSWORD, PATIENCE, UPSTREAM_PASSWORD, scratch};

/// What must not be found in any log, planted everywhere it could come from.
const PLANTED: [&str; 8] = [
    "planted-literal",
    "planted-quoted",
    "planted-plain",
    "planted-body",
    "planted-typo",
    "planted-pass",
    "planted-auth",
    "planted-mail",
];

/// Everything, by everybody: what even the loudest log does not say.
#[test]
fn secrets_and_literals_stand_in_no_log() {
    let busy = Busy::start(|setup| setup.log = ("trace", &[]));
    busy.work();
    let plain = |password: &str| STANDARD.encode(format!("\0{ADDRESS}\0{password}"));
    let mut c = Client::connect(busy.daemon.imap);
    c.cmd(&format!("LOGIN {ADDRESS} {{15+}}\r\nplanted-literal"));
    c.cmd(&format!("LOGIN {ADDRESS} \"planted-quoted\""));
    c.cmd(&format!("AUTHENTICATE PLAIN {}", plain("planted-plain")));
    // Commands that are none, with a password where none belongs.
    c.cmd(&format!("LOGINN {ADDRESS} planted-typo"));
    c.c("LOGIN ann planted-typo");
    let mut c = busy.daemon.client();
    c.append("INBOX", "", b"Subject: planted-mail\r\n\r\nplanted-body\r\n");
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("UID FETCH * (ENVELOPE BODY.PEEK[] BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
    let mut pop = Pop::connect(busy.daemon.pop3);
    pop.ok(&format!("USER {ADDRESS}"));
    pop.err("PASS planted-pass");
    pop.err(&format!("AUTH PLAIN {}", plain("planted-auth")));
    pop.ask("PASSS planted-typo");
    let mut pop = Pop::connect(busy.daemon.pop3).login(ADDRESS, LOCAL_PASSWORD);
    let last = pop.stat().0;
    pop.multi(&format!("RETR {last}"));
    let mut smtp = Smtp::greeted(TcpStream::connect(busy.submission).expect("the submission listener"));
    smtp.ehlo();
    smtp.says("AUTH LOGIN", "334");
    smtp.says(&STANDARD.encode(ADDRESS), "334");
    smtp.says(&STANDARD.encode("planted-auth"), "535");
    smtp.says("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBsb2NhbC1zZWNyZXQ=", "235");
    smtp.send("ann@example.org", &["bob@example.net"], "Subject: planted-mail\r\n\r\nplanted-body\r\n");

    let log = busy.daemon.server().errors();
    for expected in [
        "C: LOGIN (not shown)",
        "C: AUTHENTICATE (not shown)",
        "C: pass (not shown)",
        "upstream C: ",
        "upstream S: ",
        "upstream C: AUTH (not shown)",
        "upstream C: MAIL FROM:<ann@example.org>",
        "upstream S: 354",
    ] {
        assert!(log.contains(expected), "the trace is not on: {expected} is not in {} octets", log.len());
    }
    assert!(log.contains("BODY[] {"), "what is sent is traced");
    for secret in PLANTED.into_iter().chain([LOCAL_PASSWORD, UPSTREAM_PASSWORD]) {
        for form in [
            secret.to_owned(),
            STANDARD.encode(secret),
            STANDARD.encode(format!("\0{ADDRESS}\0{secret}")),
            STANDARD.encode(format!("\0ann\0{secret}")),
        ] {
            let line = log.lines().find(|line| line.contains(&form));
            assert!(line.is_none(), "{secret}: {line:?}");
        }
    }
}

#[test]
fn sessions_and_leases_have_spans() {
    let busy = Busy::start(|setup| setup.log = ("mailweir=debug", &[]));
    busy.work();
    let log = busy.daemon.server().errors();
    assert!(!log.contains('\u{1b}'), "no colours in a pipe");
    let find = |parts: &[&str]| {
        assert!(log.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?} in\n{log}");
    };
    find(&[
        "session{protocol=\"imap\"",
        "peer=127.0.0.1",
        "account=\"ann@example.org\"",
        "command=\"FETCH\"",
        "outcome=\"ok\"",
        "octets=",
    ]);
    find(&["session{protocol=\"pop3\"", "account=\"ann@example.org\"", "command=\"dele\""]);
    find(&["session{protocol=\"smtp\"", "account=\"ann@example.org\"", "command=\"data\""]);
    // What a client has asked for can be followed to the provider.
    find(&["session{protocol=\"imap\"", "lease{id=", "class=Interactive", "send", "command=UID MOVE"]);
    find(&["lease{id=", "class=Sync", "send"]);
}

#[test]
fn at_info_no_command_is_told() {
    let busy = Busy::start(|_| {});
    let before = busy.daemon.server().errors().lines().count();
    let mut c = busy.daemon.client();
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("FETCH 1:* BODY.PEEK[]");
    let warm = busy.daemon.server().errors().lines().count();
    for _ in 0..50 {
        c.cmd_ok("FETCH 1:* FLAGS");
        c.cmd_ok("STORE 1 +FLAGS (\\Seen)");
        c.cmd_ok("STORE 1 -FLAGS (\\Seen)");
        c.cmd_ok("NOOP");
    }
    let after = busy.daemon.server().errors();
    // Connections may still be opened; two hundred commands are not told.
    assert!(after.lines().count() - warm < 10, "{before} {warm} {after}");
}

#[test]
fn json_is_a_line_an_event() {
    let busy = Busy::start(|setup| setup.more = "[log]\nformat = \"json\"\nlevel = \"off\"\n".into());
    busy.work();
    let log = busy.daemon.server().errors();
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let opened = events.iter().find(|event| event["fields"]["message"] == "upstream session opened");
    let opened = opened.unwrap_or_else(|| panic!("RUST_LOG goes before the configuration: {log}"));
    assert!(opened["level"] == "INFO" && opened["fields"]["account"] == ADDRESS, "{opened}");
}

#[test]
fn arguments_go_before_the_environment() {
    let busy = Busy::start(|setup| setup.log = ("trace", &["--log-level", "warn", "--log-format", "json"]));
    busy.work();
    let log = busy.daemon.server().errors();
    assert!(!log.contains("\"INFO\"") && !log.contains("TRACE"), "{log}");
}

#[test]
fn colours_are_for_terminals() {
    let mut busy = Busy::start(|_| {});
    busy.daemon.stop();
    let on_terminal = |environment: &str| {
        // It logs its first line within a moment; the end comes by itself, as nothing else ends a program whose terminal has gone.
        let config = busy.daemon.config_file();
        let command = format!("env {environment} RUST_LOG=info timeout 5 {PROGRAM} run --config {}", config.display());
        let out = Command::new("script").args(["-qec", &command, "/dev/null"]).output().expect("script, of bsdutils");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(said.contains("upstream session opened"), "{said}");
        said
    };
    assert!(on_terminal("TERM=xterm").contains('\u{1b}'));
    assert!(!on_terminal("NO_COLOR=1").contains('\u{1b}'));
}

/// systemd's journal as it speaks to programs, in a place of the test's own: a mount namespace with a socket where the journal's is.
#[test]
fn the_journal_gets_fields() {
    let busy = Busy::start(|_| {});
    let home = scratch("journal");
    let script = home.path().join("journal.sh");
    let inner = format!(
        "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && python3 {} /run/systemd/journal/socket & \
         while ! [ -S /run/systemd/journal/socket ]; do sleep 0.05; done; \
         exec env RUST_LOG=info {PROGRAM} run --log-format journald --config {}",
        file("tests/clients/journal.py").display(),
        busy.daemon.config_file().display()
    );
    std::fs::write(&script, format!("{inner}\n")).unwrap();
    let mut busy = busy;
    busy.daemon.stop();
    let journal = Server::start(Path::new("unshare"), &["-m", "sh", script.to_str().unwrap()], &[], home.path(), &[]);
    let is_told = |out: &[String]| {
        let has = |part: &str| out.iter().any(|line| line.contains(part));
        has("MESSAGE=upstream session opened") && has("SYSLOG_IDENTIFIER=mailweir") && has("F_ACCOUNT=ann@example.org")
    };
    assert!(journal.wait_output(PATIENCE, is_told), "{}", journal.printed());
    assert!(!journal.errors().contains("upstream session opened"), "not twice: {}", journal.printed());
}
