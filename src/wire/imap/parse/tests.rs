//! Commands as clients write them, against what they mean; and what must be refused.

use super::*;
use crate::model::{FlagOp, Flags, InternalDate, ModSeq, Role, SectionText, SequenceSet, UidSet, UidValidity};
use crate::wire::imap::command::*;

fn read(message: &[u8]) -> Command {
    let full = [b"a1 ", message].concat();
    match command(&full) {
        Ok(tagged) => {
            assert_eq!(tagged.tag, "a1");
            tagged.command
        }
        Err(error) => panic!("{}: {error:?}", message.escape_ascii()),
    }
}

fn refused(message: &[u8]) -> CommandError {
    match command(message) {
        Err(error) => error,
        Ok(tagged) => panic!("{}: {tagged:?}", message.escape_ascii()),
    }
}

/// `Debug` is the plainest way to compare whole commands in a table; secrets show nothing in it.
fn debug(message: &str) -> String {
    format!("{:?}", read(message.as_bytes()))
}

fn fetch_items(text: &str) -> Vec<FetchItem> {
    match read(text.as_bytes()) {
        Command::Fetch(fetch) => fetch.items,
        other => panic!("{other:?}"),
    }
}

fn search(text: &str) -> Search {
    match read(text.as_bytes()) {
        Command::Search(search) => search,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plain_commands() {
    let table = [
        ("NOOP", "Noop"),
        ("noop ", "Noop"),
        ("CAPABILITY", "Capability"),
        ("LOGOUT", "Logout"),
        ("starttls", "Starttls"),
        ("NAMESPACE", "Namespace"),
        ("IDLE", "Idle"),
        ("CHECK", "Check"),
        ("CLOSE", "Close"),
        ("UNSELECT", "Unselect"),
        ("EXPUNGE", "Expunge"),
        ("UID EXPUNGE 1:3,*", "UidExpunge(SequenceSet([(Some(1), Some(3)), (None, None)]))"),
        ("DELETE inbox", "Delete(\"INBOX\")"),
        ("DELETE Inbox/x", "Delete(\"Inbox/x\")"),
        ("SUBSCRIBE {3}\r\na b", "Subscribe(\"a b\")"),
        ("UNSUBSCRIBE \"a \\\"b\\\\\"", "Unsubscribe(\"a \\\"b\\\\\")"),
        ("RENAME  a {1+}\r\nb ", "Rename { from: \"a\", to: \"b\" }"),
        ("DELETE \"Entw\u{fc}rfe & R&-D\"", "Delete(\"Entw&APw-rfe & R&-D\")"),
        ("DELETE \"&BBIERQQ-\"", "Delete(\"&BBIERQQ-\")"),
        ("CREATE x", "Create { mailbox: \"x\", role: None }"),
        ("CREATE x (USE (\\Drafts))", "Create { mailbox: \"x\", role: Some(Drafts) }"),
        ("ENABLE CONDSTORE qresync X-Odd", "Enable([\"CONDSTORE\", \"QRESYNC\", \"X-ODD\"])"),
        ("ENABLE IMAP4rev2 UTF8=ACCEPT", "Enable([\"IMAP4REV2\", \"UTF8=ACCEPT\"])"),
        ("GETQUOTA \"\"", "GetQuota(\"\")"),
        ("GETQUOTAROOT inbox", "GetQuotaRoot(\"INBOX\")"),
        ("ID NIL", "Id(None)"),
        ("ID (\"name\" \"x\" \"v\" NIL)", "Id(Some([(\"name\", Some(\"x\")), (\"v\", None)]))"),
        ("ID ( \"name\"  \"x\" )", "Id(Some([(\"name\", Some(\"x\"))]))"),
        ("AUTHENTICATE plain  ", "Authenticate { mechanism: \"PLAIN\", initial: None }"),
        ("AUTHENTICATE XOAUTH2 eHg=", "Authenticate { mechanism: \"XOAUTH2\", initial: Some([secret]) }"),
        ("AUTHENTICATE PLAIN =", "Authenticate { mechanism: \"PLAIN\", initial: Some([secret]) }"),
        (
            "UID COPY 1 {5}\r\ninbox",
            "Copy { numbers: Numbers { set: SequenceSet([(Some(1), Some(1))]), uid: true }, mailbox: \"INBOX\" }",
        ),
        (
            "MOVE 2 x",
            "Move { numbers: Numbers { set: SequenceSet([(Some(2), Some(2))]), uid: false }, mailbox: \"x\" }",
        ),
    ];
    for (message, want) in table {
        assert_eq!(debug(message), want, "{message}");
    }
}

#[test]
fn credentials() {
    let table: [(&[u8], &[u8], &[u8]); 6] = [
        (b"LOGIN ann pw", b"ann", b"pw"),
        (b"LOGIN \"ann@example.org\" \"p\\\"w\\\\\"", b"ann@example.org", b"p\"w\\"),
        (b"LOGIN {3}\r\nann {4+}\r\np w ", b"ann", b"p w "),
        (b"login ann \"p\xe4w\"", b"ann", b"p\xe4w"),
        (b"LOGIN ann \"p\xc3\xa4w\" ", b"ann", b"p\xc3\xa4w"),
        (b"LOGIN  ann p]w", b"ann", b"p]w"),
    ];
    for (message, want_user, want_password) in table {
        match read(message) {
            Command::Login { user, password } => {
                assert_eq!((user.as_slice(), password.expose()), (want_user, want_password));
            }
            other => panic!("{other:?}"),
        }
    }
    match read(b"AUTHENTICATE PLAIN AGFubgBwdw==") {
        Command::Authenticate { initial: Some(initial), .. } => assert_eq!(initial.expose(), b"\0ann\0pw"),
        other => panic!("{other:?}"),
    }
    match read(b"AUTHENTICATE PLAIN =") {
        Command::Authenticate { initial: Some(initial), .. } => assert_eq!(initial.expose(), b""),
        other => panic!("{other:?}"),
    }
}

#[test]
fn select_and_its_parameters() {
    let select = |text: &str| match read(text.as_bytes()) {
        Command::Select(select) => select,
        other => panic!("{other:?}"),
    };
    let plain = Select { mailbox: "INBOX".into(), read_only: false, condstore: false, qresync: None };
    assert_eq!(select("SELECT \"inbox\""), plain);
    assert_eq!(select("EXAMINE INBOX "), Select { read_only: true, ..plain.clone() });
    assert_eq!(select("SELECT INBOX (CONDSTORE)"), Select { condstore: true, ..plain.clone() });
    let set = |text: &str| UidSet::parse(text).unwrap();
    let qresync = |known: Option<&str>, matches: Option<(&str, &str)>| Qresync {
        uid_validity: UidValidity(67_890_007),
        modseq: ModSeq(90_060_115_194_045_000),
        known: known.map(set),
        matches: matches.map(|(a, b)| (set(a), set(b))),
    };
    let table = [
        ("(QRESYNC (67890007 90060115194045000))", false, qresync(None, None)),
        ("(QRESYNC (67890007 90060115194045000 41,43:211))", false, qresync(Some("41,43:211"), None)),
        (
            "(CONDSTORE QRESYNC (67890007 90060115194045000 1:9 (1,3:5 2,4:6)))",
            true,
            qresync(Some("1:9"), Some(("1,3:5", "2,4:6"))),
        ),
        ("(QRESYNC ( 67890007  90060115194045000 (1 2) ) CONDSTORE )", true, qresync(None, Some(("1", "2")))),
    ];
    for (text, condstore, qresync) in table {
        let want = Select { condstore, qresync: Some(qresync), ..plain.clone() };
        assert_eq!(select(&format!("SELECT INBOX {text}")), want, "{text}");
    }
}

#[test]
fn lists() {
    let list = |text: &str| match read(text.as_bytes()) {
        Command::List(list) => list,
        other => panic!("{other:?}"),
    };
    let plain = |patterns: &[&str]| List {
        kind: ListKind::List,
        reference: String::new(),
        patterns: patterns.iter().map(|p| (*p).to_owned()).collect(),
        select: ListSelect::default(),
        returns: ListReturn::default(),
        extended: false,
    };
    assert_eq!(list("LIST \"\" *"), plain(&["*"]));
    assert_eq!(list("LIST \"\" \"%\""), plain(&["%"]));
    assert_eq!(list("LIST \"\" \"\""), plain(&[""]));
    assert_eq!(list("LIST \"\" inbox"), plain(&["INBOX"]));
    assert_eq!(list("LSUB foo/ a*b%"), List { kind: ListKind::Lsub, reference: "foo/".into(), ..plain(&["a*b%"]) });
    assert_eq!(list("XLIST \"\" \"*\""), List { kind: ListKind::Xlist, ..plain(&["*"]) });
    let children = ListReturn { children: true, ..ListReturn::default() };
    assert_eq!(
        list("LIST \"\" (\"a\" INBOX {1}\r\nc) RETURN (CHILDREN)"),
        List { returns: children, extended: true, ..plain(&["a", "INBOX", "c"]) }
    );
    assert_eq!(
        list("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %"),
        List {
            select: ListSelect { subscribed: true, recursive_match: true, ..ListSelect::default() },
            extended: true,
            ..plain(&["%"])
        }
    );
    assert_eq!(
        list("LIST (special-use remote) \"\" \"*\" RETURN ( SUBSCRIBED SPECIAL-USE STATUS (MESSAGES HIGHESTMODSEQ) )"),
        List {
            select: ListSelect { special_use: true, remote: true, ..ListSelect::default() },
            returns: ListReturn {
                subscribed: true,
                special_use: true,
                status: vec![StatusItem::Messages, StatusItem::HighestModSeq],
                ..ListReturn::default()
            },
            extended: true,
            ..plain(&["*"])
        }
    );
    assert_eq!(list("LIST () \"\" * RETURN ()"), List { extended: true, ..plain(&["*"]) });
}

#[test]
fn status_items() {
    match read(b"STATUS x (messages RECENT  UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE DELETED APPENDLIMIT SIZE )") {
        Command::Status { mailbox, items } => {
            assert_eq!(mailbox, "x");
            use StatusItem::*;
            assert_eq!(
                items,
                [Messages, Recent, UidNext, UidValidity, Unseen, HighestModSeq, Size, Deleted, AppendLimit]
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn fetch_items_and_macros() {
    use FetchItem::*;
    let fast = vec![Flags, InternalDate, Rfc822Size];
    let all: Vec<_> = fast.iter().cloned().chain([Envelope]).collect();
    let full: Vec<_> = all.iter().cloned().chain([Body]).collect();
    let table = [
        ("FETCH 1 FAST", fast),
        ("FETCH 1 all", all.clone()),
        ("FETCH 1 (ALL)", all),
        ("FETCH 1 FULL", full),
        ("FETCH 1  ( UID  FLAGS )", vec![Uid, Flags]),
        ("FETCH 1 BODY", vec![Body]),
        ("UID FETCH 1:* (UID RFC822.SIZE RFC822.PEEK)", vec![Uid, Rfc822Size, Rfc822Peek]),
        ("FETCH 1 (RFC822 RFC822.HEADER RFC822.TEXT MODSEQ)", vec![Rfc822, Rfc822Header, Rfc822Text, ModSeq]),
        ("FETCH 1 (BODYSTRUCTURE BODYSTRUCTURE INTERNALDATE ENVELOPE)", vec![BodyStructure, InternalDate, Envelope]),
    ];
    for (text, want) in table {
        assert_eq!(fetch_items(text), want, "{text}");
    }
}

#[test]
fn fetch_sections() {
    let fields = |names: &[&str]| SectionText::HeaderFields(names.iter().map(|n| (*n).to_owned()).collect());
    let table = [
        ("BODY[]", vec![], SectionText::Whole, "", None, false),
        ("body.peek[]", vec![], SectionText::Whole, "", None, true),
        ("BODY[1.2]<0.0>", vec![1, 2], SectionText::Whole, "1.2", Some((0, 0)), false),
        ("BODY[text]<10.99999999999>", vec![], SectionText::Text, "TEXT", Some((10, u32::MAX)), false),
        ("BODY.PEEK[3.header]", vec![3], SectionText::Header, "3.HEADER", None, true),
        ("BODY[1.MIME]", vec![1], SectionText::Mime, "1.MIME", None, false),
        ("BODY[HEADER.FIELDS (From X-a)]", vec![], fields(&["From", "X-a"]), "HEADER.FIELDS (From X-a)", None, false),
        (
            "BODY.PEEK[HEADER.FIELDS (\"To\" {2}\r\nCc)]<0.5>",
            vec![],
            fields(&["To", "Cc"]),
            "HEADER.FIELDS (To Cc)",
            Some((0, 5)),
            true,
        ),
        (
            "BODY[4.header.fields  ( \"a b\" \"x]\" ) ]",
            vec![4],
            fields(&["a b", "x]"]),
            "4.HEADER.FIELDS (\"a b\" \"x]\")",
            None,
            false,
        ),
        (
            "BODY[HEADER.FIELDS.NOT (x)]",
            vec![],
            SectionText::HeaderFieldsNot(vec!["x".into()]),
            "HEADER.FIELDS.NOT (x)",
            None,
            false,
        ),
    ];
    for (text, path, part, spelled, partial, peek) in table {
        let items = fetch_items(&format!("FETCH 1 ({text})"));
        let section = crate::model::Section { path, text: part, spelled: spelled.into() };
        assert_eq!(items, [FetchItem::Section(BodySection { section, partial, peek })], "{text}");
    }
}

#[test]
fn fetch_modifiers() {
    let table = [
        ("UID FETCH 1:* FLAGS (CHANGEDSINCE 0)", Some(0), false),
        ("FETCH 1:* (FLAGS) (CHANGEDSINCE 12345)", Some(12345), false),
        ("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345 VANISHED)", Some(12345), true),
        ("UID FETCH 1:* (FLAGS) (VANISHED CHANGEDSINCE 9223372036854775807)", Some(i64::MAX as u64), true),
    ];
    for (text, since, vanished) in table {
        match read(text.as_bytes()) {
            Command::Fetch(fetch) => {
                assert_eq!((fetch.changed_since, fetch.vanished), (since.map(ModSeq), vanished), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn stores() {
    let table = [
        ("STORE 1 +FLAGS (\\Seen $Junk)", FlagOp::Add, false, "\\Seen $Junk", None),
        ("STORE 1 flags.silent \\Deleted work", FlagOp::Replace, true, "\\Deleted work", None),
        ("UID STORE 1 (UNCHANGEDSINCE 7) -FLAGS.SILENT (\\Draft)", FlagOp::Remove, true, "\\Draft", Some(7)),
        ("STORE 1 FLAGS ()", FlagOp::Replace, false, "", None),
        ("STORE 1 +FLAGS (\\Odd \\Recent a]b)", FlagOp::Add, false, "a]b", None),
    ];
    for (text, op, silent, flags, since) in table {
        match read(text.as_bytes()) {
            Command::Store(store) => {
                assert_eq!((store.op, store.silent, store.unchanged_since), (op, silent, since.map(ModSeq)), "{text}");
                assert_eq!(store.flags.to_string(), flags, "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn search_keys() {
    use SearchKey::*;
    let flag = |name: &str| Flag(Flags::parse([name]));
    let set = |text: &str| SequenceSet::parse(text).unwrap();
    let day = InternalDate::day_of(1994, 2, 1);
    let header = |name: &str, text: &[u8]| Header(name.into(), text.to_vec());
    let table = [
        ("ALL", All),
        ("UNSEEN", Not(Box::new(flag("\\Seen")))),
        ("KEYWORD $Forwarded", flag("$Forwarded")),
        ("UNKEYWORD x", Not(Box::new(flag("x")))),
        ("SINCE 1-Feb-1994", Since(day)),
        ("SENTBEFORE \"01-feb-1994\"", SentBefore(day)),
        ("ON 1-FEB-1994", On(day)),
        ("FROM \"ann\"", header("FROM", b"ann")),
        ("HEADER Message-ID <a@b>", header("Message-ID", b"<a@b>")),
        ("HEADER {2}\r\nTo {0}\r\n", header("To", b"")),
        ("SUBJECT \"\u{e4}\"", header("SUBJECT", b"\xc3\xa4")),
        ("BODY x", Body(b"x".to_vec())),
        ("TEXT {1+}\r\nx", Text(b"x".to_vec())),
        ("LARGER 4294967296", Larger(u32::MAX)),
        ("SMALLER 5", Smaller(5)),
        ("OLDER 60", Older(60)),
        ("YOUNGER 60", Younger(60)),
        ("MODSEQ 99", ModSeq(crate::model::ModSeq(99))),
        ("MODSEQ \"/flags/\\\\draft\" all 62", ModSeq(crate::model::ModSeq(62))),
        ("UID 1:*", Uid(set("1:*"))),
        ("UID $", Saved),
        ("$", Saved),
        ("2,4:*", Sequence(set("2,4:*"))),
        ("*", Sequence(set("*"))),
        ("NEW", New),
        ("OLD", Old),
        ("RECENT", Recent),
        ("OR SEEN (DRAFT $)", Or(Box::new(flag("\\Seen")), Box::new(And(vec![flag("\\Draft"), Saved])))),
        ("not NOT all", Not(Box::new(Not(Box::new(All))))),
        ("( (ALL) )", All),
        ("1 UNDELETED  SEEN", And(vec![Sequence(set("1")), Not(Box::new(flag("\\Deleted"))), flag("\\Seen")])),
    ];
    for (text, key) in table {
        assert_eq!(
            search(&format!("UID SEARCH {text}")),
            Search { uid: true, returns: None, charset: None, key },
            "{text}"
        );
    }
    let both = search("SEARCH RETURN (MIN COUNT save) CHARSET utf-8 ALL");
    assert_eq!(both.returns, Some(SearchReturn { min: true, count: true, save: true, ..SearchReturn::default() }));
    assert_eq!(both.charset.as_deref(), Some("UTF-8"));
    let empty = search("SEARCH RETURN () ALL").returns;
    assert_eq!(empty, Some(SearchReturn { all: true, ..SearchReturn::default() }));
    assert_eq!(search("SEARCH CHARSET \"US-ASCII\" 1").charset.as_deref(), Some("US-ASCII"));
}

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

#[test]
fn append_heads() {
    let table: [(&str, &str, &str, Option<&str>); 7] = [
        ("A1 APPEND INBOX {310}", "INBOX", "", None),
        ("A1 append \"a b\" (\\Seen $x) ", "a b", "\\Seen $x", None),
        ("A1 APPEND {5}\r\nInbox (\\Seen) {310+}", "INBOX", "\\Seen", None),
        ("A1 APPEND {3+}\r\nbox ~{310+}", "box", "", None),
        ("A1 APPEND x \"17-Jul-1996 02:44:25 -0700\" ", "x", "", Some("17-Jul-1996 02:44:25 -0700")),
        ("A1 APPEND  x  ()  \" 1-Jul-1996 02:44:25 -0700\"  ", "x", "", Some(" 1-Jul-1996 02:44:25 -0700")),
        ("A1 APPEND \"Entw\u{fc}rfe\" ", "Entw&APw-rfe", "", None),
    ];
    for (head, mailbox, flags, date) in table {
        let (destination, found) = append_head(head.as_bytes(), true).unwrap();
        assert_eq!(destination, Some(("A1".to_owned(), mailbox.to_owned())), "{head}");
        assert_eq!(found.flags.to_string(), flags, "{head}");
        assert_eq!(found.date.map(|date| date.to_string()).as_deref(), date, "{head}");
    }
    let (destination, found) =
        append_head(b"A1 APPEND x (\\Draft) {0}\r\n (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3}", false).unwrap();
    assert_eq!((destination, found.flags.to_string().as_str(), found.date.is_some()), (None, "\\Seen", true));
    for head in [
        "A1 APPEND",
        "A1 APPEND x UTF8 (~{3}",
        "A1 APPEND x CATENATE (",
        "A1 APPEND x \"when\" ",
        "A1 APPEND x (a",
        "A1 APPEND x foo ",
    ] {
        assert_eq!(append_head(head.as_bytes(), true).unwrap_err().tag.as_deref(), Some("A1"), "{head}");
    }
    assert!(append_tail(b"A1 APPEND x {0}\r\n").is_ok());
    assert!(append_tail(b"A1 APPEND x (\\Seen) {0}\r\n ").is_ok());
    assert!(append_tail(b"A1 APPEND x {0}\r\n)").is_err());
    assert!(append_tail(b"A1 APPEND x").is_err());
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

/// Counts of the enum above keep the table of roles honest.
#[test]
fn every_role_can_be_created() {
    for role in Role::ALL {
        let text = format!("CREATE x (USE ({}))", role.attribute());
        assert!(matches!(read(text.as_bytes()), Command::Create { role: Some(found), .. } if found == role));
    }
}

#[test]
fn sort_and_thread() {
    let key = SearchKey::Flag(Flags::parse(["\\Seen"]));
    let Command::Sort(sort) = read(b"UID SORT (reverse DATE Subject) utf-8 SEEN") else { panic!() };
    let criteria = vec![(SortKey::Date, true), (SortKey::Subject, false)];
    assert_eq!(sort, Sort { uid: true, criteria, charset: "UTF-8".into(), key: key.clone() });
    let Command::Thread(thread) = read(b"THREAD References US-ASCII SEEN") else { panic!() };
    let algorithm = ThreadAlgorithm::References;
    assert_eq!(thread, Thread { uid: false, algorithm, charset: "US-ASCII".into(), key });
    for text in ["SORT () UTF-8 ALL", "SORT (REVERSE) UTF-8 ALL", "SORT (DATE) ALL", "SORT DATE UTF-8 ALL"] {
        refused(text.as_bytes());
    }
    for text in ["THREAD JWZ UTF-8 ALL", "THREAD REFERENCES ALL", "THREAD REFERENCES UTF-8", "UID THREAD"] {
        refused(text.as_bytes());
    }
}

#[test]
fn a_row_of_ors_is_not_deep() {
    let long = format!("SEARCH {}SEEN", "OR SEEN ".repeat(1000));
    read(long.as_bytes());
    let deep = format!("SEARCH {}SEEN", "NOT ".repeat(100));
    refused(deep.as_bytes());
    let keys = |text: &[u8]| match read(text) {
        Command::Search(search) => search.key,
        other => panic!("{other:?}"),
    };
    assert_eq!(keys(b"SEARCH OR 1 OR 2 3"), keys(b"SEARCH OR OR 1 2 3"));
}
