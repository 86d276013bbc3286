//! What is written, byte for byte, and read back by our own reader.

use super::*;
use crate::wire::imap::response::{self, Response, response};

fn written(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    out.escape_ascii().to_string()
}

#[test]
fn fetch_lines() {
    let mut out = BytesMut::new();
    let date = InternalDate::parse("17-Jul-1996 02:44:25 -0700").unwrap();
    let mut fetch = Fetch::begin(&mut out, 12);
    fetch.uid(&mut out, Uid(4_294_967_295));
    fetch.flags(&mut out, &Flags::parse(["\\Seen", "kw"]));
    fetch.modseq(&mut out, ModSeq(u64::MAX));
    fetch.internal_date(&mut out, &date);
    fetch.size(&mut out, 4286);
    fetch.raw(&mut out, "ENVELOPE", b"(NIL)");
    fetch.bytes(&mut out, "BODY[1]", b"a)\r\n");
    fetch.nil(&mut out, "BODY[2]");
    fetch.end(&mut out);
    let want = "* 12 FETCH (UID 4294967295 FLAGS (\\Seen kw) MODSEQ (18446744073709551615) \
                INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" RFC822.SIZE 4286 ENVELOPE (NIL) \
                BODY[1] {4}\r\na)\r\n BODY[2] NIL)\r\n";
    assert_eq!(std::str::from_utf8(&out), Ok(want));
    let Response::Fetch { seq: 12, items } = response(&out[..out.len() - 2]) else { panic!("not a FETCH") };
    let data = items.data();
    assert_eq!((data.uid, data.internal_date, data.size), (Some(u32::MAX), Some(date), Some(4286)));
    assert_eq!(data.other("BODY[1]").as_deref(), Some(&b"a)\r\n"[..]));
}

#[test]
fn small_lines() {
    let set = UidSet::parse("1:3,5").unwrap();
    assert_eq!(written(|out| exists(out, 0)), "* 0 EXISTS\\r\\n");
    assert_eq!(written(|out| recent(out, 1)), "* 1 RECENT\\r\\n");
    assert_eq!(written(|out| expunge(out, 7)), "* 7 EXPUNGE\\r\\n");
    assert_eq!(written(|out| vanished(out, true, &set)), "* VANISHED (EARLIER) 1:3,5\\r\\n");
    assert_eq!(written(|out| vanished(out, false, &UidSet::new())), "");
    assert_eq!(written(|out| search(out, [], Some(ModSeq(9)))), "* SEARCH\\r\\n");
    assert_eq!(written(|out| search(out, [3, 4], Some(ModSeq(9)))), "* SEARCH 3 4 (MODSEQ 9)\\r\\n");
    assert_eq!(
        written(|out| status(out, "a b", [(StatusItem::Messages, Some(3)), (StatusItem::AppendLimit, None)])),
        "* STATUS \\\"a b\\\" (MESSAGES 3 APPENDLIMIT NIL)\\r\\n"
    );
    let all = Esearch {
        tag: "a1",
        uid: true,
        min: Some(1),
        max: Some(5),
        count: Some(4),
        all: Some(&set),
        modseq: Some(ModSeq(7)),
    };
    assert_eq!(
        written(|out| esearch(out, &all)),
        "* ESEARCH (TAG \\\"a1\\\") UID MIN 1 MAX 5 ALL 1:3,5 COUNT 4 MODSEQ 7\\r\\n"
    );
    let none = Esearch { tag: "a", all: Some(&UidSet::new()), count: Some(0), ..Esearch::default() };
    assert_eq!(written(|out| esearch(out, &none)), "* ESEARCH (TAG \\\"a\\\") COUNT 0\\r\\n");
}

#[test]
fn lists_are_read_back() {
    for name in ["INBOX", "a b", "[Gmail]/x", "NIL", "", "q\"\\", "caf\u{e9}", "&BCc-", "a\r\nb"] {
        for delimiter in [None, Some('/'), Some('\\'), Some('"')] {
            let line = List {
                kind: ListKind::Lsub,
                attributes: &["\\Noselect", "\\Sent"],
                delimiter,
                name,
                subscribed_children: true,
            };
            let mut out = BytesMut::new();
            list(&mut out, &line);
            let want = response::List {
                kind: ListKind::Lsub,
                attributes: line.attributes.to_vec(),
                delimiter,
                name: name.into(),
            };
            assert_eq!(response(&out[..out.len() - 2]), Response::List(want), "{name:?} {delimiter:?}");
        }
    }
}

#[test]
fn status_lines_hold_no_line_ends() {
    let table = [
        (Some("a"), Some("ALERT"), "x\r\n* BYE y", "a NO [ALERT] x  * BYE y\\r\\n"),
        (None, None, "", "* NO done\\r\\n"),
        (None, None, "[Gmail]/x is gone", "* NO (Gmail]/x is gone\\r\\n"),
        (Some("a"), Some("X\r\n"), "caf\u{e9}", "a NO [X  ] caf?\\r\\n"),
    ];
    for (tag, code, text, want) in table {
        assert_eq!(written(|out| status_line(out, tag, Status::No, code, text)), want);
    }
}

#[test]
fn strings_choose_their_form() {
    let long = vec![b'a'; MAX_QUOTED + 1];
    let table: [(&[u8], &str, &str); 9] = [
        (b"abc", "abc", "\\\"abc\\\""),
        (b"", "\\\"\\\"", "\\\"\\\""),
        (b"a b", "\\\"a b\\\"", "\\\"a b\\\""),
        (b"nil", "\\\"nil\\\"", "\\\"nil\\\""),
        (b"a\"\\", "\\\"a\\\\\\\"\\\\\\\\\\\"", "\\\"a\\\\\\\"\\\\\\\\\\\""),
        (b"a]", "\\\"a]\\\"", "\\\"a]\\\""),
        (b"\xe9", "{1}\\r\\n\\xe9", "{1}\\r\\n\\xe9"),
        (b"a\nb", "{3}\\r\\na\\nb", "{3}\\r\\na\\nb"),
        (b"\0", "{1}\\r\\n\\x00", "{1}\\r\\n\\x00"),
    ];
    for (bytes, as_astring, as_string) in table {
        assert_eq!(written(|out| astring(out, bytes)), as_astring);
        assert_eq!(written(|out| nstring(out, Some(bytes))), as_string);
        let mut out = BytesMut::new();
        string(&mut out, bytes);
        assert_eq!(response::nstring(&out).as_deref(), Some(bytes));
    }
    assert_eq!(written(|out| nstring(out, None)), "NIL");
    assert!(written(|out| astring(out, &long)).starts_with("{1025}\\r\\na"));
}
