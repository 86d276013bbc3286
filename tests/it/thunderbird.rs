//! Thunderbird with the daemon as its only server: reads, stars, moves, deletes and files a draft, seen at the upstream.
//!
//! `tests/clients/thunderbird.py` is the hand on the mouse; here stands what must have come of it.

use std::path::Path;
use std::process::Command;

use crate::harness::answer::Value;
use crate::harness::client::Client;
use crate::harness::world::{Endpoint, Kind, World};
use crate::harness::{scratch, wait_for};

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
    let home = scratch("thunderbird");
    // Kept beside what the build makes, so that a person can look at it.
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    let picture = pictures.join(format!("thunderbird-{tls}-{kind:?}.png").to_lowercase());
    let _ = std::fs::remove_file(&picture);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/thunderbird.py");
    let out = Command::new("python3")
        .arg("-B")
        .arg(script)
        .arg(home.path())
        .args([&port.to_string(), tls])
        .arg(&ca_file)
        .args([user, password])
        .arg(&picture)
        .output()
        .expect("python3; tests/run installs it");
    let log = std::fs::read_to_string(home.path().join("thunderbird.log")).unwrap_or_default();
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{}\n{said}\n{errors}\n--- Thunderbird ---\n{log}", out.status);
    print!("{said}");
    assert!(picture.exists(), "no picture");

    // It has ended, so all of it is upstream; each message is in one place, once.
    let mut c = world.straight();
    let found = ["INBOX", "Work", "Trash", "Drafts"].map(|name| (name, contents(&mut c, name)));
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

/// Subject and flags of each message.
fn contents(client: &mut Client, mailbox: &str) -> Vec<(String, Vec<String>)> {
    client.cmd_ok(&format!("EXAMINE {mailbox}"));
    let all = client.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])").by_uid();
    let of = |items: &std::collections::BTreeMap<String, Value>| {
        let head = items["BODY[HEADER.FIELDS (SUBJECT)]"].text();
        let subject = head.trim().split_once(": ").expect("a subject").1.to_owned();
        (subject, items["FLAGS"].list().iter().map(Value::text).collect())
    };
    all.values().map(of).collect()
}
