//! Thunderbird with the daemon as its only server: reads, stars, moves, deletes, files a draft and sends, seen at the upstream.
//!
//! `tests/clients/thunderbird.py` is the hand on the mouse; here stands what must have come of it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mailweir::daemon::simulated::Scenario;

use crate::harness::answer::Value;
use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::exim::Exim;
use crate::harness::simulated::Simulated;
use crate::harness::world::{Endpoint, Kind, World};
use crate::harness::{
    ADDRESS, LOCAL_PASSWORD, UPSTREAM_PASSWORD, UPSTREAM_USER, free_port, scratch, straight_run, wait_for,
};

const SENT: &str = "[Gmail]/Sent Mail";

const SUBJECTS: [&str; 5] = ["read me", "star me", "move me", "delete me", "left alone"];

#[test]
fn over_tls() {
    in_daily_use(Kind::Dovecot, "tls");
}

#[test]
fn over_starttls() {
    in_daily_use(Kind::Bare, "starttls");
}

#[test]
fn before_cyrus() {
    in_daily_use(Kind::Cyrus, "tls");
}

fn in_daily_use(kind: Kind, tls: &str) {
    let world = World::new(kind, |c| {
        for (n, subject) in SUBJECTS.iter().enumerate() {
            let head = format!("From: Bob <bob@example.net>\r\nTo: ann@example.org\r\nSubject: {subject}\r\n");
            let date =
                format!("Date: Mon, 1 Jun 2026 10:0{n}:00 +0000\r\nMessage-ID: <thunderbird.{n}@example.org>\r\n");
            c.append("INBOX", "", format!("{head}{date}\r\nPlain words to be read\r\n").as_bytes());
        }
        c.cmd_ok("CREATE Work");
        ["Work", "Drafts", "Trash"].iter().for_each(|name| {
            c.cmd_ok(&format!("SUBSCRIBE {name}"));
        });
    });
    let Endpoint { imap, imaps, ca_file, user, password } = world.endpoint();
    let port = if tls == "tls" { imaps.port() } else { imap.port() };
    drive(&format!("{tls}-{kind:?}"), tls, port, &ca_file, (user, password), &[]);

    // It has ended; what it said last may be under way still. Then each message is in one place, once.
    let mut c = world.straight();
    let mut look = || ["INBOX", "Work", "Trash", "Drafts"].map(|name| (name, contents(&mut c, name)));
    let mut found = look();
    wait_for("what was moved and deleted to leave INBOX", || {
        found = look();
        !found[0].1.iter().any(|(subject, _)| ["move me", "delete me"].contains(&subject.as_str()))
    });
    let has = |flags: &[String], flag: &str| flags.iter().any(|f| f.eq_ignore_ascii_case(flag));
    let once = |subject: &str, mailbox: &str| -> Vec<String> {
        let mut places = Vec::new();
        for (name, messages) in &found {
            places.extend(messages.iter().filter(|(s, _)| s == subject).map(|(_, flags)| (*name, flags.clone())));
        }
        let [(name, flags)] = &places[..] else { panic!("{subject:?} is not in one place: {places:?}") };
        assert_eq!(*name, mailbox, "{subject:?}");
        assert!(!has(flags, "\\Deleted"), "{subject:?} is left deleted");
        flags.clone()
    };
    assert!(has(&once("read me", "INBOX"), "\\Seen"));
    assert!(has(&once("star me", "INBOX"), "\\Flagged"));
    once("left alone", "INBOX");
    once("move me", "Work");
    once("delete me", "Trash");
    assert!(has(&once("a draft", "Drafts"), "\\Draft"));

    if !world.is_straight() {
        let refused = || -> Vec<String> {
            let all = world.daemon().metrics().into_iter().filter(|(_, count)| *count > 0.0).map(|(name, _)| name);
            let commands = all.filter(|name| name.starts_with("mailweir_commands_total"));
            commands.filter(|name| name.contains("\"no\"") || name.contains("\"bad\"")).collect()
        };
        assert!(refused().is_empty(), "the daemon refused {:?}", refused());
        wait_for("its sessions to end", || world.daemon().metric("mailweir_client_sessions", &["imap"]) < 0.5);
    }
}

/// As a person at it; `more` is behind what every run needs. Its picture is called after `name`.
fn drive(name: &str, tls: &str, port: u16, ca_file: &Path, (user, password): (&str, &str), more: &[&str]) {
    let home = scratch("thunderbird");
    // Kept beside what the build makes, so that a person can look at it.
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    let picture = pictures.join(format!("thunderbird-{name}.png").to_lowercase());
    let _ = std::fs::remove_file(&picture);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/thunderbird.py");
    let out = Command::new("python3")
        .arg("-B")
        .arg(script)
        .arg(home.path())
        .args([&port.to_string(), tls])
        .arg(ca_file)
        .args([user, password])
        .arg(&picture)
        .args(more)
        .output()
        .expect("python3; tests/run installs it");
    let log = std::fs::read_to_string(home.path().join("thunderbird.log")).unwrap_or_default();
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{}\n{said}\n{errors}\n--- Thunderbird ---\n{log}", out.status);
    print!("{said}");
    assert!(picture.exists(), "no picture");
}

/// Gmail files what was sent through it, and Thunderbird files its own copy too: the letter is there once, and went up once.
#[test]
fn a_letter_over_gmail_is_sent_once_and_filed_once() {
    if straight_run() {
        return;
    }
    let (gmail, exim) = (Simulated::start(Scenario::gmail()), Exim::start());
    let smtp = format!(
        "host = \"localhost\"\nport = {}\ntls = \"implicit\"\nca_file = \"{}\"\nusername = \"{UPSTREAM_USER}\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}",
        exim.smtps.port(),
        exim.ca_file().display()
    );
    let mut setup = Setup::new(Account { smtp, ..gmail.account(gmail.addr) });
    let submissions = free_port();
    setup.listen_more = format!("submissions = [\"127.0.0.1:{submissions}\"]\n");
    let daemon = Daemon::start(setup);
    daemon.client().cmd_ok("SELECT INBOX");
    let before = gmail.counts().octets_in;
    // The provider's own hand: what its server for sending has taken goes into Sent.
    let letter = std::thread::scope(|scope| {
        let filed = scope.spawn(|| {
            let letter = wait_at_most(Duration::from_secs(120), || exim.sent().pop());
            gmail.straight().append(SENT, "\\Seen", &letter);
            letter
        });
        let port = submissions.to_string();
        let more = [port.as_str(), "[Gmail]/Sent%20Mail"];
        drive("letter", "tls", daemon.imaps.port(), &daemon.ca_file(), (ADDRESS, LOCAL_PASSWORD), &more);
        filed.join().expect("the letter was filed")
    });
    assert!(letter.len() > 300_000, "{} octets", letter.len());
    assert_eq!(exim.sent().len(), 1, "sent once");
    let appends = daemon.metric("mailweir_commands_total", &["APPEND", "\"ok\""]);
    assert!((appends - 1.0).abs() < f64::EPSILON, "Thunderbird has filed its own: {appends}");
    let mut straight = gmail.straight();
    let copies = contents(&mut straight, SENT).into_iter().filter(|(subject, _)| subject == "a letter").count();
    assert_eq!(copies, 1, "in Sent once");
    let up = gmail.counts().octets_in - before;
    let once = letter.len() as u64;
    assert!((once..once + once / 2).contains(&up), "{up} octets for a letter of {once}, which its own hand has filed");
    assert_eq!(contents(&mut daemon.client(), SENT).into_iter().filter(|(s, _)| s == "a letter").count(), 1);
}

/// Looks again and again.
fn wait_at_most<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        match look() {
            Some(found) => return found,
            None => assert!(Instant::now() < end, "gave up after {patience:?}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Subject and flags of each message.
fn contents(client: &mut Client, mailbox: &str) -> Vec<(String, Vec<String>)> {
    client.cmd_ok(&format!("EXAMINE \"{mailbox}\""));
    let all = client.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])").by_uid();
    let of = |items: &std::collections::BTreeMap<String, Value>| {
        let head = items["BODY[HEADER.FIELDS (SUBJECT)]"].text();
        let subject = head.trim().split_once(": ").expect("a subject").1.to_owned();
        (subject, items["FLAGS"].list().iter().map(Value::text).collect())
    };
    all.values().map(of).collect()
}
