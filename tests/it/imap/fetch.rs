//! FETCH and UID FETCH: every rev1 item, sections byte for byte, \Seen where it must be set and nowhere else.

use crate::everywhere;
use crate::harness::answer::{Status, Value};
use crate::harness::client::Client;
use crate::harness::mail::{self, Sizes};
use crate::harness::world::{Kind, World};

everywhere!(
    bodies_are_upstreams_bytes,
    parts_and_partials,
    header_fields,
    seen_is_set_by_reading_and_not_by_peeking,
    sets_and_macros,
    old_names
);

const LETTER: &[u8] = b"From: Ann <ann@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: two\r\n parts\r\nDate: Mon, 3 Mar 2025 10:00:00 +0100\r\n\
Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\npreamble\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
first\r\nlines\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\n\r\nplain\r\n--i\r\n\
Content-Type: text/html\r\n\r\n<b>html</b>\r\n--i--\r\n--b\r\nContent-Type: application/octet-stream; name=x.bin\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--b--\r\nepilogue\r\n";

fn fill(c: &mut Client) {
    c.append("INBOX", "", LETTER);
    mail::load(c, "INBOX", 3, 20, Sizes::Usual);
}

fn item(c: &mut Client, what: &str) -> Value {
    let answer = c.cmd_ok(&format!("FETCH 1 ({what})"));
    let fetches = answer.fetches();
    let (_, items) = fetches.iter().find(|(n, i)| *n == 1 && i.keys().any(|k| k != "FLAGS")).expect("FETCH 1");
    let (_, value) = items.iter().find(|(k, _)| *k != "FLAGS" && *k != "UID").expect("the item");
    value.clone()
}

fn bodies_are_upstreams_bytes(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("EXAMINE INBOX");
    up.cmd_ok("EXAMINE INBOX");
    let items = "UID RFC822.SIZE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT]";
    let (ours, theirs) =
        (c.cmd_ok(&format!("FETCH 1:* ({items})")).by_uid(), up.cmd_ok(&format!("FETCH 1:* ({items})")).by_uid());
    assert_eq!(ours.len(), 21);
    for (uid, items) in &theirs {
        for (name, value) in items.iter().filter(|(k, _)| *k != "FLAGS") {
            assert_eq!(&ours[uid][name], value, "{name} of UID {uid}");
        }
    }
    // And a second time, from what is kept.
    let again = c.cmd_ok(&format!("FETCH 1:* ({items})")).by_uid();
    assert_eq!(again.len(), 21);
    for (uid, items) in &again {
        assert_eq!(items["BODY[]"], theirs[uid]["BODY[]"], "UID {uid} again");
    }
}

fn parts_and_partials(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    let table: &[(&str, &str)] = &[
        ("BODY.PEEK[1]", "first\r\nlines"),
        ("BODY.PEEK[1.MIME]", "Content-Type: text/plain; charset=utf-8\r\n\r\n"),
        ("BODY.PEEK[2.HEADER]", "Subject: inner\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n"),
        ("BODY.PEEK[2.1]", "plain"),
        ("BODY.PEEK[2.2]", "<b>html</b>"),
        ("BODY.PEEK[2.2.MIME]", "Content-Type: text/html\r\n\r\n"),
        ("BODY.PEEK[3]", "AAECAw=="),
        ("BODY.PEEK[1]<0.5>", "first"),
        ("BODY.PEEK[1]<6.100>", "\nlines"),
        ("BODY.PEEK[1]<100.5>", ""),
        ("BODY.PEEK[3]<2.3>", "ECA"),
    ];
    for (what, expected) in table {
        assert_eq!(item(&mut c, what).text(), *expected, "{what}");
    }
    // A chunked read ends exactly at the size, as Thunderbird reads large mail.
    let whole = item(&mut c, "BODY.PEEK[]");
    assert_eq!(whole, Value::Text(LETTER.to_vec()));
    let mut pieced = Vec::new();
    while pieced.len() < LETTER.len() {
        let piece = item(&mut c, &format!("BODY.PEEK[]<{}.100>", pieced.len()));
        assert!(!piece.bytes().is_empty(), "a piece at {}", pieced.len());
        pieced.extend_from_slice(piece.bytes());
    }
    assert_eq!(pieced, LETTER);
    assert_eq!(item(&mut c, &format!("BODY.PEEK[]<{}.100>", LETTER.len())).bytes(), b"");
}

fn header_fields(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    let table: &[(&str, &str)] = &[
        ("BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "Subject: two\r\n parts\r\n\r\n"),
        ("BODY.PEEK[HEADER.FIELDS (subject FROM)]", "From: Ann <ann@example.org>\r\nSubject: two\r\n parts\r\n\r\n"),
        ("BODY.PEEK[HEADER.FIELDS (X-NONE)]", "\r\n"),
        ("BODY.PEEK[2.HEADER.FIELDS (SUBJECT)]", "Subject: inner\r\n\r\n"),
    ];
    for (what, expected) in table {
        assert_eq!(item(&mut c, what).text(), *expected, "{what}");
    }
    let rest = item(&mut c, "BODY.PEEK[HEADER.FIELDS.NOT (FROM TO DATE MESSAGE-ID CONTENT-TYPE MIME-VERSION)]").text();
    assert_eq!(rest, "Subject: two\r\n parts\r\n\r\n");
}

fn seen_is_set_by_reading_and_not_by_peeking(kind: Kind) {
    let world = World::new(kind, |c| {
        for n in 1..=6 {
            c.append("INBOX", "", format!("Subject: {n}\r\n\r\nbody {n}\r\n").as_bytes());
        }
    });
    let (mut c, mut up) = (world.client(), world.straight());
    up.cmd_ok("SELECT INBOX");
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("FETCH 1 (BODY.PEEK[] ENVELOPE BODYSTRUCTURE RFC822.HEADER RFC822.SIZE)");
    assert_eq!(c.cmd_ok("SEARCH SEEN").search(), [] as [u32; 0]);
    for (n, what) in [(2, "BODY[]"), (3, "RFC822"), (4, "RFC822.TEXT"), (5, "BODY[TEXT]"), (6, "BODY[HEADER]")] {
        let answer = c.cmd_ok(&format!("FETCH {n} {what}"));
        let told = answer
            .fetches()
            .iter()
            .any(|(m, i)| *m == n && i.get("FLAGS").is_some_and(|f| format!("{f:?}").contains("\\Seen")));
        assert!(told, "{what} tells the new flag (RFC 3501 §6.4.5): {:?}", answer.lines());
    }
    assert_eq!(c.cmd_ok("SEARCH SEEN").search(), [2, 3, 4, 5, 6]);
    up.cmd_ok("NOOP");
    assert_eq!(up.cmd_ok("SEARCH SEEN").search(), [2, 3, 4, 5, 6], "set upstream before the answer was OK");
}

fn sets_and_macros(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("EXAMINE INBOX");
    up.cmd_ok("EXAMINE INBOX");
    let numbers = |c: &mut Client, command: &str| -> Vec<u32> {
        let mut all: Vec<_> = c.cmd_ok(command).fetches().into_iter().map(|f| f.0).collect();
        all.sort_unstable();
        all
    };
    for set in ["1", "*", "5:3", "2,4,6:8", "19:*", "*:20", "1,1,2:3,3"] {
        let command = format!("FETCH {set} (UID)");
        assert_eq!(numbers(&mut c, &command), numbers(&mut up, &command), "{command}");
    }
    for set in ["1", "*", "500:*", "900:901", "1:3,20:*", "4294967295"] {
        let command = format!("UID FETCH {set} (FLAGS)");
        assert_eq!(numbers(&mut c, &command), numbers(&mut up, &command), "{command}");
    }
    assert_ne!(c.cmd("FETCH 22:30 FLAGS").status, Status::Ok, "numbers beyond the end");
    for (name, items) in [
        ("ALL", &["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"][..]),
        ("FAST", &["FLAGS", "INTERNALDATE", "RFC822.SIZE"]),
        ("FULL", &["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"]),
    ] {
        let fetches = c.cmd_ok(&format!("FETCH 1 {name}")).fetches();
        assert!(items.iter().all(|i| fetches[0].1.contains_key(*i)), "{name}: {fetches:?}");
    }
    let envelope = item(&mut c, "ENVELOPE");
    let fields = envelope.list();
    assert_eq!(fields.len(), 10);
    assert_eq!(fields[0].text(), "Mon, 3 Mar 2025 10:00:00 +0100");
    assert_eq!(fields[1].text(), "two parts");
    assert_eq!(format!("{:?}", fields[2]), "[[\"Ann\", NIL, \"ann\", \"example.org\"]]");
    assert_eq!(fields[9].text(), "<1@example.org>");
}

fn old_names(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    let fetches = c.cmd_ok("FETCH 1 (RFC822.HEADER RFC822.TEXT RFC822)").fetches();
    let items = &fetches[0].1;
    let whole = [items["RFC822.HEADER"].bytes(), items["RFC822.TEXT"].bytes()].concat();
    assert_eq!(whole, LETTER);
    assert_eq!(items["RFC822"].bytes(), LETTER);
}
