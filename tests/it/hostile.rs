//! What no mail program sends: the daemon answers BAD, NO or BYE, keeps its memory, and serves the others.

use std::fmt::Write as _;
use std::io::ErrorKind;

use crate::harness::client::Client;
use crate::harness::world::{Kind, World};

/// What all of this may leave behind in the daemon.
const ALLOWED_KIB: u64 = 48 * 1024;

/// Everything said until the connection ends or the tagged answer comes.
fn said(client: &mut Client, tag: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match client.try_line() {
            Ok(line) => lines.push(String::from_utf8_lossy(&line).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                lines.push("(end)".to_owned());
                return lines;
            }
            Err(error) => panic!("{error}; so far {lines:?}"),
        }
        if lines.last().is_some_and(|line| line.starts_with(&format!("{tag} ")) || line.starts_with('+')) {
            return lines;
        }
    }
}

/// Sends and looks at the last thing said. A connection that is cut while we send is an end like any other.
fn send(client: &mut Client, bytes: &[u8], tag: &str) -> String {
    if client.try_send(bytes).is_err() {
        return "(end)".to_owned();
    }
    said(client, tag).pop().unwrap_or_default()
}

#[test]
fn bytes_that_are_no_commands() {
    let world = World::new(Kind::Dovecot, |c| {
        c.append("INBOX", "", b"Subject: x\r\n\r\ny\r\n");
    });
    if world.is_straight() {
        return;
    }
    let before = world.daemon().resources().rss_kib;
    let megabyte = vec![b'x'; 1 << 20];
    // What is sent, and how the last thing said begins: before login, and after it.
    let table: Vec<(Vec<u8>, &str, &str)> = vec![
        (megabyte.clone(), "(end)", "(end)"),
        ([b"a LOGIN ", &megabyte[..]].concat(), "(end)", "(end)"),
        (b"a NOOP\n".to_vec(), "(end)", "(end)"),
        (b"a NOOP\rb NOOP\r\n".to_vec(), "a BAD", "a BAD"),
        (b"a NO\0OP\r\n".to_vec(), "a BAD", "a BAD"),
        (b"a LOGIN {20000}\r\n".to_vec(), "a BAD", "a BAD"),
        (b"a SELECT {20000000}\r\n".to_vec(), "a BAD", "a "),
        (b"a SELECT {99999999999999999999}\r\n".to_vec(), "a BAD", "a "),
        (b"a APPEND INBOX {1073741824}\r\n".to_vec(), "a BAD", "a NO [TOOBIG]"),
        (b"a APPEND INBOX {1073741824+}\r\n".to_vec(), "(end)", "(end)"),
        (b"a APPEND INBOX {18446744073709551616+}\r\n".to_vec(), "(end)", "(end)"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "(end)", "GET BAD"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n".to_vec(), "* BAD", "* BAD"),
        (b"EHLO x\r\n".to_vec(), "(end)", "EHLO BAD"),
        (format!("a SEARCH {}\r\n", "(".repeat(60_000)).into_bytes(), "(end)", "a BAD"),
        (format!("a SEARCH {}ALL{}\r\n", "(".repeat(30_000), ")".repeat(30_000)).into_bytes(), "(end)", "a BAD"),
        (format!("a SEARCH {}ALL\r\n", "NOT ".repeat(15_000)).into_bytes(), "(end)", "a BAD"),
        (format!("a SEARCH {}ALL ALL\r\n", "OR ALL ".repeat(9_000)).into_bytes(), "(end)", "a BAD"),
        (format!("a SEARCH {}ALL\r\n", "OR ".repeat(20_000)).into_bytes(), "(end)", "a BAD"),
        (format!("a FETCH 1 {}\r\n", "(".repeat(60_000)).into_bytes(), "(end)", "a BAD"),
        (format!("a FETCH 1 BODY[{}1]\r\n", "1.".repeat(30_000)).into_bytes(), "(end)", "a BAD"),
        (format!("a FETCH 1 ({}UID)\r\n", "BODY[] ".repeat(9_000)).into_bytes(), "(end)", "a "),
        (format!("a STORE 1 FLAGS ({}x)\r\n", "abcdefg ".repeat(8_000)).into_bytes(), "(end)", "a "),
        (format!("a LIST \"\" \"{}\"\r\n", "%*".repeat(30_000)).into_bytes(), "(end)", "a "),
        (format!("a CREATE \"{}\"\r\n", "x/".repeat(30_000)).into_bytes(), "(end)", "a "),
        (format!("a ID ({})\r\n", "\"a\" \"b\" ".repeat(8_000)).into_bytes(), "(end)", "a "),
        (format!("a FETCH {} UID\r\n", "1,".repeat(30_000) + "1").into_bytes(), "(end)", "a "),
        (b"a LOGOUT\r\nb SELECT INBOX\r\n".to_vec(), "a OK", "a OK"),
    ];
    for (bytes, stranger, known) in &table {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        for (mut client, want) in [(world.connection(), stranger), (world.client(), known)] {
            // To the end means past the tagged BAD in front of the BYE.
            let until = if *want == "(end)" { "-" } else { want.split(' ').next().unwrap_or_default() };
            let last = send(&mut client, bytes, until);
            assert!(last.starts_with(want), "{shown:?} ({} octets): {last} where {want} was to come", bytes.len());
            if last != "(end)" && !last.contains("BYE") && !bytes.windows(6).any(|w| w == b"LOGOUT") {
                let then = send(&mut client, b"zz NOOP\r\n", "zz");
                assert!(then.starts_with("zz OK"), "after {shown:?}: {then}");
            }
        }
    }
    let grown = world.daemon().resources().rss_kib.saturating_sub(before);
    assert!(grown < ALLOWED_KIB, "{grown} KiB more");
    world.client().cmd_ok("SELECT INBOX");
}

/// Searches that are long but meant: one OR for each word or address.
#[test]
fn a_long_search_is_answered() {
    let world = World::new(Kind::Dovecot, |c| {
        for n in 0..6 {
            c.append("INBOX", "", format!("Subject: word{n}\r\nMessage-ID: <{n}@x>\r\n\r\nbody{n}\r\n").as_bytes());
        }
    });
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    for (key, found) in [("HEADER Message-ID <{}@x>", 5), ("SUBJECT word{}", 5), ("BODY body{}", 5), ("UID {}", 6)] {
        let mut command = "SEARCH".to_owned();
        for n in (2..400).rev() {
            let _ = write!(command, " OR {}", key.replace("{}", &n.to_string()));
        }
        let _ = write!(command, " {}", key.replace("{}", "1"));
        assert_eq!(c.cmd_ok(&command).search().len(), found, "{key}");
    }
}

/// Mail built to hurt whoever reads it: nested and split beyond sense, with headers of megabytes.
#[test]
fn mail_built_to_hurt() {
    let mut nested = String::new();
    for n in 0..2000 {
        let _ = write!(nested, "Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n");
    }
    let mut letters = "Subject: outer\r\n".to_owned();
    for n in 0..1000 {
        let _ = write!(letters, "Content-Type: message/rfc822\r\n\r\nSubject: inner {n}\r\n");
    }
    let parts = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n",
        "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n".repeat(20_000)
    );
    let long_line = format!("Subject: {}\r\n\r\nbody\r\n", "x".repeat(1 << 20));
    let header = format!("{}\r\nbody\r\n", "X-Field: value of the field\r\n".repeat(200_000));
    let addresses = format!("To: {}a@b.example\r\n\r\nbody\r\n", "a@b.example, ".repeat(50_000));
    let open = format!("Content-Type: multipart/mixed; boundary=\"{}\r\n\r\nbody\r\n", "=".repeat(100_000));
    let comments = format!("From: {}\r\nDate: {}\r\n\r\nx\r\n", "(".repeat(100_000), "(".repeat(100_000));
    let samples = [nested, letters, parts, long_line, header, addresses, open, comments];
    let world = World::new(Kind::Dovecot, |c| {
        for sample in &samples {
            c.append("INBOX", "", sample.as_bytes());
        }
    });
    if world.is_straight() {
        return;
    }
    let before = world.daemon().resources().rss_kib;
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    for (n, sample) in samples.iter().enumerate() {
        let n = n + 1;
        for item in
            ["ENVELOPE", "BODYSTRUCTURE", "BODY", "BODY.PEEK[1.1.1.1.1.1.1.1.MIME]", "BODY.PEEK[HEADER.FIELDS (To)]"]
        {
            // An answer of its kind, or a plain no; never silence and never the end.
            let answer = c.cmd(&format!("FETCH {n} ({item})"));
            assert!(answer.is_ok(), "{n} {item}: {}", answer.text);
        }
        let answer = c.cmd_ok(&format!("FETCH {n} (RFC822.SIZE BODY.PEEK[])"));
        let items = &answer.fetches()[0].1;
        assert_eq!(items["BODY[]"].bytes().len(), sample.len(), "{n}");
        c.cmd_ok(&format!("SEARCH {n} OR (TEXT nowhere FROM y) (SENTSINCE 1-Jan-2020 BODY z)"));
    }
    let grown = world.daemon().resources().rss_kib.saturating_sub(before);
    assert!(grown < 3 * ALLOWED_KIB, "{grown} KiB more");
}
