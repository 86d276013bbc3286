//! FETCH, STORE, SEARCH, SORT and THREAD: what is read of messages and changed about them.

use super::*;

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
