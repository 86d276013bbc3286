//! Lines of servers, the odd ones above all: every one must come out as something of use.
#![expect(clippy::type_complexity, reason = "the type of a table is its heading")]

use super::*;
use crate::model::{InternalDate, Uid, UidValidity};

fn status_of(line: &[u8]) -> (String, Status, Option<String>, String) {
    let owned = |code: Option<&[u8]>| code.map(|code| code.escape_ascii().to_string());
    match response(line) {
        Response::Tagged { tag, status, code, text } => (tag.to_owned(), status, owned(code), text.into_owned()),
        Response::Status { status, code, text } => ("*".to_owned(), status, owned(code), text.into_owned()),
        other => panic!("{}: {other:?}", line.escape_ascii()),
    }
}

#[test]
fn status_lines() {
    use Status::*;
    let table: [(&[u8], &str, Status, Option<&str>, &str); 27] = [
        (b"a OK", "a", Ok, None, ""),
        (b"a OK ", "a", Ok, None, ""),
        (b"* OK", "*", Ok, None, ""),
        (b"* PREAUTH", "*", Preauth, None, ""),
        (b"* BYE ", "*", Bye, None, ""),
        (b"a1 ok done", "a1", Ok, None, "done"),
        (b"a1 No  two  words ", "a1", No, None, "two  words"),
        (b"A-1 BAD x", "A-1", Bad, None, "x"),
        (b"a NO caf\xe9", "a", No, None, "caf\u{fffd}"),
        (b"a NO caf\xc3\xa9", "a", No, None, "caf\u{e9}"),
        (b"a NO [Gmail]/foo does not exist", "a", No, None, "[Gmail]/foo does not exist"),
        (b"a NO [ALERT]text", "a", No, Some("ALERT"), "text"),
        (b"a NO [ALERT] text", "a", No, Some("ALERT"), "text"),
        (b"* OK [X \"a]b\"] y", "*", Ok, Some("X \\\"a]b\\\""), "y"),
        (b"* OK [X-FOO a b] y", "*", Ok, Some("X-FOO a b"), "y"),
        (b"* OK [UIDNEXT 0]", "*", Ok, Some("UIDNEXT 0"), ""),
        (b"* OK [UIDNEXT 5] ", "*", Ok, Some("UIDNEXT 5"), ""),
        (b"* OK [PERMANENTFLAGS (a]b \\*)] x", "*", Ok, Some("PERMANENTFLAGS (a]b \\\\*)"), "x"),
        (b"* OK [PERMANENTFLAGS (\\*] x", "*", Ok, Some("PERMANENTFLAGS (\\\\*"), "x"),
        (b"* OK [X \"unclosed] y", "*", Ok, Some("X \\\"unclosed"), "y"),
        (b"* OK [unclosed", "*", Ok, None, "[unclosed"),
        (b"* OK []", "*", Ok, Some(""), ""),
        (b"* OK still here {40}", "*", Ok, None, "still here {40}"),
        (b"a NO x {99}", "a", No, None, "x {99}"),
        (b"*  OK  [CLOSED]  bye", "*", Ok, Some("CLOSED"), "bye"),
        (b"* BYE [UNAVAILABLE] Temporary System Error", "*", Bye, Some("UNAVAILABLE"), "Temporary System Error"),
        (b"* BAD \0", "*", Bad, None, "\0"),
    ];
    for (line, tag, status, code, text) in table {
        let want = (tag.to_owned(), status, code.map(str::to_owned), text.to_owned());
        assert_eq!(status_of(line), want, "{}", line.escape_ascii());
    }
}

#[test]
fn codes() {
    let set = |text: &str| UidSet::parse(text).unwrap();
    let uids = |pairs: &[(u32, u32)]| pairs.iter().map(|(a, b)| (Uid(*a), Uid(*b))).collect();
    let other = |name: &'static str, rest: &'static str| Code::Other { name: name.into(), rest: rest.as_bytes() };
    let table: Vec<(&str, Code<'_>)> = vec![
        ("UIDVALIDITY 3857529045", Code::UidValidity(3_857_529_045)),
        ("uidnext  4392 ", Code::UidNext(4392)),
        ("UNSEEN 12", Code::Unseen(12)),
        ("HIGHESTMODSEQ 715194045007", Code::HighestModSeq(715_194_045_007)),
        ("NOMODSEQ", Code::NoModSeq),
        ("PERMANENTFLAGS (\\Deleted $a \\*)", Code::PermanentFlags(vec!["\\Deleted", "$a", "\\*"])),
        ("PERMANENTFLAGS ()", Code::PermanentFlags(vec![])),
        ("READ-ONLY", Code::ReadOnly),
        ("read-write", Code::ReadWrite),
        ("APPENDUID 38505 3955", Code::AppendUid { uid_validity: UidValidity(38505), uids: set("3955") }),
        ("APPENDUID 38505 5:7", Code::AppendUid { uid_validity: UidValidity(38505), uids: set("5:7") }),
        (
            "COPYUID 38505 304,319:320 3956:3958",
            Code::CopyUid { uid_validity: UidValidity(38505), pairs: uids(&[(304, 3956), (319, 3957), (320, 3958)]) },
        ),
        ("COPYUID 1 9,3 11,10", Code::CopyUid { uid_validity: UidValidity(1), pairs: uids(&[(9, 11), (3, 10)]) }),
        ("COPYUID 1 1:3 1:2", other("COPYUID", "1 1:3 1:2")),
        ("COPYUID 1 1:4294967295 1:4294967295", other("COPYUID", "1 1:4294967295 1:4294967295")),
        ("MODIFIED 7,9:11", Code::Modified(set("7,9:11"))),
        ("MODIFIED x", other("MODIFIED", "x")),
        ("CAPABILITY IMAP4rev1 IDLE ", Code::Capability(vec!["IMAP4rev1", "IDLE"])),
        ("CLOSED", Code::Closed),
        ("TRYCREATE", Code::TryCreate),
        ("OVERQUOTA", Code::OverQuota),
        ("AUTHENTICATIONFAILED", Code::AuthenticationFailed),
        ("BADCHARSET (utf-8 us-ascii)", Code::BadCharset),
        ("THROTTLED", other("THROTTLED", "")),
        ("MAILBOXID (x)", other("MAILBOXID", "(x)")),
        ("", other("", "")),
    ];
    for (text, want) in table {
        assert_eq!(Code::read(text.as_bytes()), want, "{text}");
    }
}

#[test]
fn simple_lines() {
    let set = |text: &str| UidSet::parse(text).unwrap();
    let table: Vec<(&[u8], Response<'_>)> = vec![
        (b"+", Response::Continue(b"")),
        (b"+ ", Response::Continue(b"")),
        (b"+ idling", Response::Continue(b"idling")),
        (b"+ eyJzdGF0dXMiOiI0MDAifQ== ", Response::Continue(b"eyJzdGF0dXMiOiI0MDAifQ==")),
        (b"* 3 EXISTS", Response::Exists(3)),
        (b"* 3 EXISTS ", Response::Exists(3)),
        (b"* 0 recent", Response::Recent(0)),
        (b"*  03 EXPUNGE", Response::Expunge(3)),
        (b"* CAPABILITY IMAP4rev1  IDLE ", Response::Capability(vec!["IMAP4rev1", "IDLE"])),
        (b"* ENABLED CONDSTORE QRESYNC", Response::Enabled(vec!["CONDSTORE", "QRESYNC"])),
        (b"* ENABLED", Response::Enabled(vec![])),
        (b"* FLAGS (\\Seen  a]b \\* )", Response::Flags(vec!["\\Seen", "a]b", "\\*"])),
        (b"* VANISHED 1:4,9 ", Response::Vanished { earlier: false, uids: set("1:4,9") }),
        (b"* VANISHED (EARLIER) 41,43:116", Response::Vanished { earlier: true, uids: set("41,43:116") }),
        (b"* SEARCH", Response::Search { numbers: vec![], modseq: None }),
        (b"* SEARCH 2 3  6 ", Response::Search { numbers: vec![2, 3, 6], modseq: None }),
        (b"* SEARCH 2 5 (MODSEQ 917162500)", Response::Search { numbers: vec![2, 5], modseq: Some(917_162_500) }),
        (b"* SEARCH 2 x 0 5", Response::Search { numbers: vec![2, 5], modseq: None }),
        (b"* NAMESPACE ((\"\" \"/\")) NIL NIL", Response::Namespace(b"((\"\" \"/\")) NIL NIL")),
        (b"* QUOTA \"\" ()", Response::Quota(b"\"\" ()")),
        (b"* QUOTAROOT INBOX \"\"", Response::QuotaRoot(b"INBOX \"\"")),
        (b"* ID NIL", Response::Id(b"NIL")),
        (b"* VANISHED x", Response::Other(b"* VANISHED x")),
        (b"* 99999999999 EXISTS", Response::Other(b"* 99999999999 EXISTS")),
        (b"* 3", Response::Other(b"* 3")),
        (b"* X-VENDOR hello", Response::Other(b"* X-VENDOR hello")),
        (b"* ABCDEFGHIJKLMNOP q", Response::Other(b"* ABCDEFGHIJKLMNOP q")),
        (b"*", Response::Other(b"*")),
        (b"", Response::Other(b"")),
        (b"a", Response::Other(b"a")),
        (b"a BYE x", Response::Other(b"a BYE x")),
        (b"(a) OK x", Response::Other(b"(a) OK x")),
        (b"* LIST", Response::Other(b"* LIST")),
        (b"* STATUS x", Response::Other(b"* STATUS x")),
    ];
    for (line, want) in table {
        assert_eq!(response(line), want, "{}", line.escape_ascii());
    }
}

#[test]
fn esearch_lines() {
    let set = |text: &str| UidSet::parse(text).ok_or(text).unwrap();
    let table: Vec<(&str, Esearch<'_>)> = vec![
        (
            "(TAG \"A282\") UID MIN 2 COUNT 3 MAX 9 ALL 2,10:11 MODSEQ 9",
            Esearch {
                tag: Some("A282".into()),
                uid: true,
                min: Some(2),
                max: Some(9),
                count: Some(3),
                all: Some(set("2,10:11")),
                modseq: Some(9),
            },
        ),
        ("(TAG \"a\")", Esearch { tag: Some("a".into()), ..Esearch::default() }),
        ("( tag a )", Esearch { tag: Some("a".into()), ..Esearch::default() }),
        ("UID ALL 1:3", Esearch { uid: true, all: Some(set("1:3")), ..Esearch::default() }),
        (
            "(TAG \"a\") UID PARTIAL (1:10 2,3) ADDTO (0 5) COUNT 7 ",
            Esearch { tag: Some("a".into()), uid: true, count: Some(7), ..Esearch::default() },
        ),
        ("(TAG \"a", Esearch::default()),
        ("", Esearch::default()),
    ];
    for (line, want) in table {
        assert_eq!(response(format!("* ESEARCH {line}").as_bytes()), Response::Esearch(want), "{line}");
    }
}

#[test]
fn listed_names() {
    let table: [(&[u8], &[&str], Option<char>, &str); 14] = [
        (b"(\\HasNoChildren) \"/\" INBOX", &["\\HasNoChildren"], Some('/'), "INBOX"),
        (b"() \".\" inbox", &[], Some('.'), "INBOX"),
        (b"() NIL x", &[], None, "x"),
        (b"() \"\" x", &[], None, "x"),
        (b"(\\Noselect) \"/\" \"\"", &["\\Noselect"], Some('/'), ""),
        (
            b"(\\HasChildren \\Drafts) \"/\" \"[Gmail]/&BCc-\" ",
            &["\\HasChildren", "\\Drafts"],
            Some('/'),
            "[Gmail]/&BCc-",
        ),
        (b"() \"\\\\\" \"a\\\\b\"", &[], Some('\\'), "a\\b"),
        (b"() \"/\" {3}\r\na b", &[], Some('/'), "a b"),
        (b"() \"/\" {3}\na b", &[], Some('/'), "a b"),
        (b"() \"/\" Foo Bar", &[], Some('/'), "Foo Bar"),
        (b"(HasNoChildren) \"/\" x ", &["HasNoChildren"], Some('/'), "x"),
        (b"( \\A  \\B ) \"/\" x (\"CHILDINFO\" (\"SUBSCRIBED\"))", &["\\A", "\\B"], Some('/'), "x"),
        (b"() \"/\" \"x y\" (\"OLDNAME\" (\"z\"))", &[], Some('/'), "x y"),
        (b"() \"/\" NIL", &[], Some('/'), "NIL"),
    ];
    for (line, attributes, delimiter, name) in table {
        for (word, kind) in [("LIST", ListKind::List), ("LSUB", ListKind::Lsub), ("XLIST", ListKind::Xlist)] {
            let message = [b"* ", word.as_bytes(), b" ", line].concat();
            let want = List { kind, attributes: attributes.to_vec(), delimiter, name: name.into() };
            assert_eq!(response(&message), Response::List(want), "{}", line.escape_ascii());
        }
    }
}

#[test]
fn mailbox_status() {
    let plain = |mailbox: &'static str| MailboxStatus { mailbox: mailbox.into(), ..MailboxStatus::default() };
    let table: Vec<(&str, MailboxStatus<'_>)> = vec![
        (
            "inbox (MESSAGES 231 UIDNEXT 44292 UIDVALIDITY 7 UNSEEN 3 HIGHESTMODSEQ 99 SIZE 5 DELETED 1 RECENT 0)",
            MailboxStatus {
                messages: Some(231),
                uid_next: Some(44292),
                uid_validity: Some(7),
                unseen: Some(3),
                highest_modseq: Some(99),
                size: Some(5),
                deleted: Some(1),
                recent: Some(0),
                ..plain("INBOX")
            },
        ),
        (
            "\"a b\" (MESSAGES 1 X-FOO (a (b)) UNSEEN 2 ) ",
            MailboxStatus { messages: Some(1), unseen: Some(2), ..plain("a b") },
        ),
        ("Foo Bar (MESSAGES 1)", MailboxStatus { messages: Some(1), ..plain("Foo Bar") }),
        ("{1}\r\nx (MAILBOXID (abc) APPENDLIMIT NIL UNSEEN 2)", MailboxStatus { unseen: Some(2), ..plain("x") }),
        ("x ()", plain("x")),
        ("x (MESSAGES", plain("x")),
        ("x (MESSAGES -1 UNSEEN 4)", MailboxStatus { unseen: Some(4), ..plain("x") }),
    ];
    for (line, want) in table {
        assert_eq!(response(format!("* STATUS {line}").as_bytes()), Response::MailboxStatus(want), "{line}");
    }
}

fn items(line: &[u8]) -> Vec<(String, String)> {
    let message = [b"* 7 FETCH ", line].concat();
    let Response::Fetch { seq: 7, items } = response(&message) else { panic!("{}", line.escape_ascii()) };
    items.map(|(name, value)| (name.escape_ascii().to_string(), value.escape_ascii().to_string())).collect()
}

#[test]
fn fetch_items_of_all_shapes() {
    let table: [(&[u8], &[(&str, &str)]); 31] = [
        (b"(UID 5 FLAGS (\\Seen))", &[("UID", "5"), ("FLAGS", "(\\\\Seen)")]),
        (b"()", &[]),
        (b"( UID  5 )", &[("UID", "5")]),
        (b"(UID 5", &[("UID", "5")]),
        (b"(FLAGS(\\Seen) UID 5) ", &[("FLAGS", "(\\\\Seen)"), ("UID", "5")]),
        (b"(X-GM-LABELS (\\Inbox \"a b\") UID 5)", &[("X-GM-LABELS", "(\\\\Inbox \\\"a b\\\")"), ("UID", "5")]),
        (b"(X-UNKNOWN NIL UID 5)", &[("X-UNKNOWN", "NIL"), ("UID", "5")]),
        (b"(BODY[] {5}\r\na)\r\n( UID 5)", &[("BODY[]", "{5}\\r\\na)\\r\\n("), ("UID", "5")]),
        (b"(BODY[] {3}\nab) UID 5)", &[("BODY[]", "{3}\\nab)"), ("UID", "5")]),
        (b"(BODY[] {0}\r\n UID 5)", &[("BODY[]", "{0}\\r\\n"), ("UID", "5")]),
        (b"(BINARY[1] ~{2}\r\n\0) UID 5)", &[("BINARY[1]", "~{2}\\r\\n\\x00)"), ("UID", "5")]),
        (b"(BINARY[3]<0> \"x\" UID 5)", &[("BINARY[3]<0>", "\\\"x\\\""), ("UID", "5")]),
        (
            b"(BODY[HEADER.FIELDS (FROM \"a]b\" c]d)]<0> \"x)\\\"\" UID 5)",
            &[("BODY[HEADER.FIELDS (FROM \\\"a]b\\\" c]d)]<0>", "\\\"x)\\\\\\\"\\\""), ("UID", "5")],
        ),
        (
            b"(BODY[HEADER.FIELDS ({3}\r\na)b)] NIL UID 5)",
            &[("BODY[HEADER.FIELDS ({3}\\r\\na)b)]", "NIL"), ("UID", "5")],
        ),
        (b"(FLAGS (a]b a{5} a\"b \\*) UID 5)", &[("FLAGS", "(a]b a{5} a\\\"b \\\\*)"), ("UID", "5")]),
        (b"(FLAGS (\\Seen ) UID 5)", &[("FLAGS", "(\\\\Seen )"), ("UID", "5")]),
        (
            b"(ENVELOPE (\"d\" \"caf\xe9\" () NIL) UID 5)",
            &[("ENVELOPE", "(\\\"d\\\" \\\"caf\\xe9\\\" () NIL)"), ("UID", "5")],
        ),
        (b"(ENVELOPE ({4}\r\na\"(\r NIL) UID 5)", &[("ENVELOPE", "({4}\\r\\na\\\"(\\r NIL)"), ("UID", "5")]),
        (b"(BODYSTRUCTURE (NIL \"MIXED\") UID 5)", &[("BODYSTRUCTURE", "(NIL \\\"MIXED\\\")"), ("UID", "5")]),
        (
            b"(BODYSTRUCTURE (\"a\" \"b\" NIL -1 (\"attachment\")) UID 5)",
            &[("BODYSTRUCTURE", "(\\\"a\\\" \\\"b\\\" NIL -1 (\\\"attachment\\\"))"), ("UID", "5")],
        ),
        (b"(BODYSTRUCTURE ((\"a\") (\"b\")) UID 5)", &[("BODYSTRUCTURE", "((\\\"a\\\") (\\\"b\\\"))"), ("UID", "5")]),
        (b"(RFC822.SIZE -1 UID 5)", &[("RFC822.SIZE", "-1"), ("UID", "5")]),
        (b"(PREVIEW \"x\" SAVEDATE NIL UID 5)", &[("PREVIEW", "\\\"x\\\""), ("SAVEDATE", "NIL"), ("UID", "5")]),
        (b"(UID)", &[("UID", "")]),
        (b"(UID 5 BODY[", &[("UID", "5")]),
        (b"(UID 5 X \"unclosed)", &[("UID", "5")]),
        (b"(UID 5 X (unclosed)", &[("UID", "5"), ("X", "(unclosed)")]),
        (b"(UID 5 X ((unclosed)", &[("UID", "5")]),
        (b"(UID 5 X {9}\r\nshort)", &[("UID", "5"), ("X", "{9}\\r\\nshort")]),
        (b"(UID 5 (nameless) FLAGS ())", &[("UID", "5")]),
        (b"", &[]),
    ];
    for (line, want) in table {
        let want: Vec<_> = want.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(items(line), want, "{}", line.escape_ascii());
    }
}

#[test]
fn fetch_data_takes_what_it_can() {
    fn data(line: &str) -> FetchData<'_> {
        match response(line.as_bytes()) {
            Response::Fetch { items, .. } => items.data(),
            other => panic!("{other:?}"),
        }
    }
    let all = data(
        "* 7 FETCH (uid 5 Flags (\\seen $x \\Recent) MODSEQ (65402) INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" \
         RFC822.SIZE 4286 X-GM-MSGID 1278455344230334865 X-GM-THRID 7 X-GM-LABELS (\\Inbox) EMAILID (Mx) THREADID NIL \
         ENVELOPE (NIL) BODYSTRUCTURE (NIL) BODY (x) BODY[TEXT] {2}\r\nab)",
    );
    assert_eq!(all.uid, Some(5));
    assert_eq!(all.flags.as_ref().map(ToString::to_string).as_deref(), Some("\\Seen $x"));
    assert_eq!(all.modseq, Some(65402));
    assert_eq!(all.internal_date, InternalDate::parse("17-Jul-1996 02:44:25 -0700"));
    assert_eq!(all.size, Some(4286));
    assert_eq!((all.gm_msgid, all.gm_thrid), (Some(1_278_455_344_230_334_865), Some(7)));
    assert_eq!(all.gm_labels, Some(&b"(\\Inbox)"[..]));
    assert_eq!(all.email_id, Some(&b"Mx"[..]));
    assert_eq!(
        (all.envelope, all.body_structure, all.body),
        (Some(&b"(NIL)"[..]), Some(&b"(NIL)"[..]), Some(&b"(x)"[..]))
    );
    assert_eq!(all.other("body[text]").as_deref(), Some(&b"ab"[..]));
    assert_eq!(all.others.len(), 2);

    let table = [
        ("MODSEQ (0)", FetchData { modseq: Some(0), ..FetchData::default() }),
        ("MODSEQ 9", FetchData { modseq: Some(9), ..FetchData::default() }),
        ("MODSEQ()", FetchData::default()),
        ("RFC822.SIZE 4294967296", FetchData { size: Some(u32::MAX), ..FetchData::default() }),
        ("RFC822.SIZE -1", FetchData::default()),
        ("INTERNALDATE NIL", FetchData::default()),
        ("INTERNALDATE \"31-Feb-2024 00:00:00 +0000\"", FetchData::default()),
        (
            "INTERNALDATE \"1-Jan-2024 00:00:60 GMT\"",
            FetchData { internal_date: InternalDate::parse("1-Jan-2024 00:00:59 +0000"), ..FetchData::default() },
        ),
        ("FLAGS NIL", FetchData::default()),
        ("FLAGS ()", FetchData { flags: Some(Flags::default()), ..FetchData::default() }),
        ("UID 0", FetchData::default()),
    ];
    for (line, want) in table {
        assert_eq!(data(&format!("* 7 FETCH ({line})")), want, "{line}");
        let mut with_uid = want.clone();
        with_uid.uid = Some(9);
        if !line.starts_with("UID") {
            assert_eq!(data(&format!("* 7 FETCH ({line} UID 9)")), with_uid, "{line}");
        }
    }
}

use crate::model::Flags;

#[test]
fn heads_of_streamed_literals() {
    let head = fetch_head(b"* 12 FETCH (UID 5 BODY[HEADER] {0}\r\n BODY[] ").unwrap();
    assert_eq!((head.seq, head.data.uid, head.item), (12, Some(5), &b"BODY[]"[..]));
    assert_eq!(head.data.others.len(), 1);
    assert_eq!(fetch_head(b"* 12 FETCH (BODY[]").map(|head| head.item), Some(&b"BODY[]"[..]));
    assert_eq!(fetch_head(b"* 12 FETCH (UID 5 ENVELOPE (\"x\" "), None);
    assert_eq!(fetch_head(b"* LIST () \"/\" "), None);
    assert_eq!(fetch_head(b"* 12 FETCH ("), None);
}

#[test]
fn strings() {
    let table: [(&[u8], Option<&[u8]>); 9] = [
        (b"NIL", None),
        (b"nil", None),
        (b"\"NIL\"", Some(b"NIL")),
        (b"\"a\\\"b\\\\\"", Some(b"a\"b\\")),
        (b"{3}\r\na\0b", Some(b"a\0b")),
        (b"~{1}\nx", Some(b"x")),
        (b"{9}\r\nx", None),
        (b"atom", Some(b"atom")),
        (b"\"", Some(b"")),
    ];
    for (value, want) in table {
        assert_eq!(nstring(value).as_deref(), want, "{}", value.escape_ascii());
    }
}

/// The deepest line a server can send within the framer's limit neither recurses nor takes long.
#[test]
fn depth_is_no_matter() {
    let line = [b"* 1 FETCH (BODYSTRUCTURE ".as_slice(), &b"(".repeat(1_000_000), &b")".repeat(1_000_000), b" UID 5)"]
        .concat();
    let Response::Fetch { items, .. } = response(&line) else { panic!("not a FETCH") };
    assert_eq!(items.data().uid, Some(5));
}

/// What the codec writes, these readers understand: the grammar as somebody else read it.
#[test]
fn the_codecs_own_writing_is_read() {
    use imap_codec::ResponseCodec;
    use imap_codec::decode::Decoder;
    use imap_codec::encode::Encoder;
    let table = [
        "* 12 FETCH (UID 5 FLAGS (\\Seen kw) INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" RFC822.SIZE 44 MODSEQ (7) BODY[1.TEXT]<3> {2}\r\nab)",
        "* LIST (\\Noselect) \"/\" ~/Mail/foo",
        "* STATUS blurdybloop (MESSAGES 231 UIDNEXT 44292)",
        "* SEARCH 2 84 882",
        "* VANISHED (EARLIER) 1:4",
        "* CAPABILITY IMAP4REV1 IDLE",
        "* OK [UIDVALIDITY 7] x",
        "a1 OK [COPYUID 1 2:3 4:5] done",
        "* QUOTA \"\" (STORAGE 10 512)",
        "* 23 EXISTS",
    ];
    for text in table {
        let line = format!("{text}\r\n");
        let (_, decoded) = ResponseCodec::default().decode(line.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let encoded = ResponseCodec::default().encode(&decoded).dump();
        let encoded = encoded.strip_suffix(b"\r\n").unwrap();
        let (ours, theirs) = (response(text.as_bytes()), response(encoded));
        assert!(!matches!(theirs, Response::Other(_)), "{}", encoded.escape_ascii());
        match (ours, theirs) {
            (Response::Fetch { items: a, .. }, Response::Fetch { items: b, .. }) => assert_eq!(a.data(), b.data()),
            (a, b) => assert_eq!(a, b, "{}", encoded.escape_ascii()),
        }
    }
}
