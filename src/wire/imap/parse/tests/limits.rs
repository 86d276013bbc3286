//! What must be refused, and what no version of the codec may let through.

use super::*;

#[test]
fn refusals_say_the_tag_and_never_the_text() {
    let deep = format!("a SEARCH {}ALL", "NOT ".repeat(5000));
    let parens = format!("a SEARCH {}", "(".repeat(60_000));
    let ors = format!("a SEARCH {}", "OR ALL ".repeat(3000));
    let keys = format!("a SEARCH {}", "ALL ".repeat(3000));
    let ranges = format!("a FETCH {}1 FLAGS", "1,".repeat(SequenceSet::MAX_RANGES));
    let table: Vec<&[u8]> = vec![
        b"a ",
        b"a",
        b"a NOOP x",
        b"a LOGIN secretword",
        b"a LOGIN secretword secretword secretword",
        b"a LOGIN \"secretword x",
        b"a LOGIN {90}\r\nsecretword",
        b"a AUTHENTICATE PLAIN ###",
        b"a SELECT",
        b"a SELECT {1}x",
        b"a SELECT a b",
        b"a SELECT x (FOO)",
        b"a SELECT x (QRESYNC (1 2 (1:2 3)))",
        b"a SELECT x (QRESYNC (1 2 1:*))",
        b"a DELETE {3}\r\na\r\n",
        b"a DELETE \"\xff\"",
        b"a CREATE x (USE (\\Foo))",
        b"a CREATE x (USE (\\Drafts \\Sent))",
        b"a LIST \"\"",
        b"a LIST (RECURSIVEMATCH) \"\" *",
        b"a LIST (FOO) \"\" *",
        b"a LIST \"\" * RETURN (FOO)",
        b"a LSUB \"\" (a b)",
        b"a STATUS x ()",
        b"a STATUS x (MAILBOXID)",
        b"a STATUS x MESSAGES",
        b"a FETCH 0 FLAGS",
        b"a FETCH 1",
        b"a FETCH 1 ()",
        b"a FETCH 1 (X-MINE)",
        b"a FETCH 1 BODY[",
        b"a FETCH 1 BODY[0]",
        b"a FETCH 1 BODY[1.]x",
        b"a FETCH 1 BODY[MIME]",
        b"a FETCH 1 BODY[1TEXT]x",
        b"a FETCH 1 BODY[HEADER.FIELDS ()]",
        b"a FETCH 1 BODY[]<0>",
        b"a FETCH 1 (FLAGS",
        b"a FETCH 1 FLAGS (VANISHED)",
        b"a FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)",
        b"a FETCH 1 FLAGS (CHANGEDSINCE 99999999999999999999999)",
        b"a STORE 1 FLAGS",
        b"a STORE 1 +FLAGS (\\*)",
        b"a STORE 1 FLAGS (\\Recent)",
        b"a STORE 1 -FLAGS.SILENT \\Seen \\recent",
        b"a STORE 1 FOO (\\Seen)",
        b"a SEARCH",
        b"a SEARCH FOO",
        b"a SEARCH ()",
        b"a SEARCH SINCE 31-Feb-1994",
        b"a SEARCH SINCE \"1-Feb-1994 12:00:00 +0000\"",
        b"a SEARCH RETURN (FOO) ALL",
        b"a SEARCH (ALL",
        b"a UID EXPUNGE",
        b"a APPEND x",
        b"a RENAME x",
        deep.as_bytes(),
        parens.as_bytes(),
        ors.as_bytes(),
        keys.as_bytes(),
        ranges.as_bytes(),
    ];
    for message in table {
        let error = refused(message);
        let shown = message.escape_ascii().to_string();
        let shown = shown.get(..60).unwrap_or(&shown);
        assert_eq!(error.tag.as_deref(), Some("a"), "{shown}");
        assert!(!error.unknown && !error.text.is_empty(), "{shown}");
        assert!(!error.text.contains("secretword") && error.text.is_ascii(), "{shown}: {error}");
        assert!(!error.text.contains(['\r', '\n']), "{shown}: {error}");
    }
    for message in [&b"a FOO x"[..], b"a XAPPLEPUSHSERVICE (x y)", b"a UID FOO", b"a UID SELECT x", b"a GETMETADATA x"]
    {
        assert!(refused(message).unknown, "{}", message.escape_ascii());
    }
    for message in [&b""[..], b" NOOP", b"* NOOP", b"a+b NOOP", b"\x80 NOOP", b"GET\"/ HTTP/1.1", b"{3} x"] {
        assert_eq!(refused(message).tag, None, "{}", message.escape_ascii());
    }
}

/// What the codec's grammar takes, the readers beside it must take too, for every command that is offered.
#[test]
fn nothing_the_codec_knows_is_refused() {
    use imap_codec::CommandCodec;
    use imap_codec::decode::Decoder;
    let table = [
        "SELECT INBOX (CONDSTORE)",
        "SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541 (1,3 2,4)))",
        "EXAMINE {5}\r\nINBOX",
        "LIST \"\" a]b*",
        "LSUB \"#news.\" \"comp.mail.*\"",
        "STATUS blurdybloop (UIDNEXT MESSAGES HIGHESTMODSEQ SIZE DELETED)",
        "FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])",
        "UID FETCH 1:* (BODY.PEEK[1.2.HEADER]<0.100> BODY[TEXT] BODY[] ENVELOPE)",
        "UID FETCH 1:* FLAGS (CHANGEDSINCE 5 VANISHED)",
        "STORE 2:4 (UNCHANGEDSINCE 12) +FLAGS.SILENT (\\Deleted kw)",
        "SEARCH CHARSET UTF-8 OR FROM x NOT (TO \"y\" LARGER 5) UNSEEN",
        "UID SEARCH MODSEQ \"/flags/\\\\seen\" all 5",
        "SEARCH OLDER 5 YOUNGER 6 SENTSINCE \"1-Feb-1994\" KEYWORD a UNKEYWORD b HEADER x \"\"",
        "COPY 2:4 MEETING",
        "UID MOVE 42:69 foo",
        "UID EXPUNGE 3000:3002",
        "RENAME blurdybloop sarasoop",
    ];
    for text in table {
        let line = format!("a1 {text}\r\n");
        assert!(CommandCodec::default().decode(line.as_bytes()).is_ok(), "the codec: {text}");
        read(text.as_bytes());
    }
}

/// Hazards measured in the codec, which must not come back through it.
#[test]
fn hazards_of_the_codec_stay_out() {
    // A set is neither reordered nor merged, and the largest number is not `*`.
    for text in ["500:4294967294", "4294967295", "9,1:3,2", "*:5", "*"] {
        match read(format!("UID STORE {text} +FLAGS (\\Deleted)").as_bytes()) {
            Command::Store(store) => assert_eq!(store.numbers.set, SequenceSet::parse(text).unwrap(), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    // A name that came as a literal without consent is not answered in that form.
    match read(b"STATUS {4+}\r\nabcd (MESSAGES)") {
        Command::Status { mailbox, .. } => {
            let mut out = bytes::BytesMut::new();
            crate::wire::imap::write::status(&mut out, &mailbox, [(StatusItem::Messages, Some(1))]);
            assert_eq!(&out[..], b"* STATUS abcd (MESSAGES 1)\r\n");
        }
        other => panic!("{other:?}"),
    }
    // A scattered set of the longest kind is read in the time of its length.
    let set: Vec<String> = (1..SequenceSet::MAX_RANGES).map(|n| (n * 2).to_string()).collect();
    assert!(matches!(read(format!("UID FETCH {} FLAGS", set.join(",")).as_bytes()), Command::Fetch(_)));
    // Credentials show nothing, in this build as in any.
    for message in ["LOGIN ann hushhush", "AUTHENTICATE PLAIN AGh1c2hodXNoAGh1c2hodXNo", "LOGIN ann \"hush\\\"hush\""] {
        assert!(!debug(message).contains("hush"), "{message}");
    }
}
