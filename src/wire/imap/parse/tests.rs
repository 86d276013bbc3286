//! Commands as clients write them, against what they mean; and what must be refused.

use super::*;
use crate::model::{FlagOp, Flags, InternalDate, ModSeq, Role, SectionText, SequenceSet, UidSet, UidValidity};
use crate::wire::imap::command::*;

mod limits;
mod reading;

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

/// Counts of the enum above keep the table of roles honest.
#[test]
fn every_role_can_be_created() {
    for role in Role::ALL {
        let text = format!("CREATE x (USE ({}))", role.attribute());
        assert!(matches!(read(text.as_bytes()), Command::Create { role: Some(found), .. } if found == role));
    }
}
