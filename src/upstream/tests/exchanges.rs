//! Each exchange as a transcript.

use bytes::Bytes;

use super::*;
use crate::model::{FlagOp, Flags, InternalDate, Role, Uid, UidSet, UidValidity};

fn set(text: &str) -> UidSet {
    UidSet::parse(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn select_says_all_and_costs_nothing_again() {
    let (provider, mut lease) = lease(
        "CONDSTORE ENABLE",
        r#"C: w3 SELECT "INBOX" (CONDSTORE)
           S: * FLAGS (\Seen x)
           S: * 3 EXISTS
           S: * 0 RECENT
           S: * OK [UIDVALIDITY 7] ok
           S: * OK [UIDNEXT 11]
           S: * OK [HIGHESTMODSEQ 99]
           S: * OK [PERMANENTFLAGS (\Seen \*)] x
           S: * WHAT (is this
           S: * OK [UNSEEN 2] caf\xE9
           S: w3 OK [READ-WRITE] done
           C: w4 NOOP
           S: * 4 EXISTS
           S: * 1 EXPUNGE
           S: * STATUS other (MESSAGES 3 ODD x)
           S: w4 OK
           C: w5 SELECT "gone" (CONDSTORE)
           S: w5 NO [NONEXISTENT] Unknown Mailbox: gone (Failure)
           C: w6 SELECT "old" (CONDSTORE)
           S: * 9 EXISTS
           S: * OK [CLOSED] was INBOX
           S: * 1 EXISTS
           S: * OK [NOMODSEQ] no
           S: w6 OK [READ-ONLY] Only
           C: w7 UID FETCH 1:* (UID FLAGS)
           S: w7 OK"#,
    )
    .await;
    let selected = lease.select("INBOX").await.unwrap();
    assert_eq!((selected.exists, selected.uid_validity, selected.uid_next), (3, UidValidity(7), Uid(11)));
    assert_eq!((selected.highest_modseq, selected.read_only), (99, false));
    assert_eq!(selected.flags, ["\\Seen", "x"]);
    assert_eq!(selected.permanent_flags.as_deref().unwrap(), ["\\Seen", "\\*"]);
    lease.noop().await.unwrap();
    let other = StatusLine { mailbox: "other".into(), messages: Some(3), ..StatusLine::default() };
    assert_eq!(lease.take_events(), [Event::Exists(4), Event::Expunge(1), Event::Status(other)]);
    assert_eq!(lease.select("INBOX").await.unwrap().exists, 3);
    let refused = lease.select("gone").await.unwrap_err();
    assert!(matches!(refused, Error::No { code: Some(code), bad: false, .. } if code == "NONEXISTENT"));
    assert!(lease.selected().is_none());
    let old = lease.select("old").await.unwrap();
    assert_eq!((old.exists, old.read_only, old.permanent_flags, old.highest_modseq), (1, true, None, 0));
    // Without mod-sequences none is asked for.
    lease.fetch_meta("1:*", Items::Flags, None, &mut |_| {}).await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn qresync_tells_what_changed() {
    let (provider, mut lease) = lease(
        "CONDSTORE QRESYNC ENABLE",
        r#"C: w3 SELECT "INBOX" (QRESYNC (7 90))
           S: * OK [UIDVALIDITY 7] ok
           S: * VANISHED (EARLIER) 2,4:5
           S: * 1 FETCH (UID 1 FLAGS (\Seen) MODSEQ (95))
           S: * OK [HIGHESTMODSEQ 99] x
           S: * 1 EXISTS
           S: w3 OK
           C: w4 UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ) (CHANGEDSINCE 95 VANISHED)
           S: * VANISHED (EARLIER) 6
           S: * VANISHED 7
           S: * 1 FETCH (UID 1 RFC822.SIZE 99999999999 INTERNALDATE " 1-Feb-2020 10:00:00 +0100" MODSEQ (98) FLAGS ())
           S: * 2 FETCH (FLAGS (\Deleted))
           S: w4 OK"#,
    )
    .await;
    let selected = lease.reselect("INBOX", Some((UidValidity(7), 90))).await.unwrap();
    assert_eq!(selected.vanished, set("2,4:5"));
    assert_eq!((selected.changed[0].uid, selected.changed[0].modseq), (Some(Uid(1)), Some(95)));
    let mut seen = Vec::new();
    let vanished = lease.fetch_meta("1:*", Items::All, Some(95), &mut |meta| seen.push(meta)).await.unwrap();
    assert_eq!(vanished, set("6"));
    assert_eq!((seen.len(), seen[0].size, seen[0].modseq), (1, Some(u32::MAX), Some(98)));
    assert_eq!(seen[0].internal_date, InternalDate::parse("1-Feb-2020 10:00:00 +0100"));
    let events = lease.take_events();
    assert!(matches!(&events[..], [Event::Vanished(gone), Event::Fetch(meta)] if *gone == set("7") && meta.seq == 2));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn sets_are_cut_to_the_line_limit_and_pipelined() {
    let provider = Provider::new([session(
        "X-GM-EXT-1",
        r#"C: w2 UID FETCH 100000001,100000003,100000005 (UID FLAGS X-GM-MSGID)
           C: w3 UID FETCH 100000007 (UID FLAGS X-GM-MSGID)
           S: * 1 FETCH (X-GM-MSGID 18446744073709551615 UID 100000001 FLAGS (\Recent))
           S: w2 OK
           S: w3 OK"#,
    )]);
    let quirks = Quirks { line_limit: Some(200), ..Quirks::default() };
    let pool = Pool::new(Config { quirks, ..config(&provider, 1) });
    let mut lease = pool.lease(Class::Sync, None).await.unwrap();
    let mut seen = Vec::new();
    let uids = "100000001,100000003,100000005,100000007";
    lease.fetch_meta(uids, Items::Id, None, &mut |meta| seen.push(meta)).await.unwrap();
    assert_eq!((seen[0].gm_msgid, seen[0].flags.clone()), (Some(u64::MAX), Some(Flags::default())));
    provider.done().await;
}

/// RFC 8474 §5.1. Servers that do not offer it are not asked (the test before).
#[tokio::test(start_paused = true)]
async fn an_emailid_is_a_message_id_and_is_not_asked_where_it_cannot_have_changed() {
    let (provider, mut lease) = lease(
        "OBJECTID",
        r#"C: w2 UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE EMAILID)
           S: * 1 FETCH (UID 1 EMAILID (M6d99ac3275bb4e) FLAGS ())
           S: * 2 FETCH (UID 2 EMAILID (M6d99ac3275bb4e) FLAGS ())
           S: * 3 FETCH (UID 3 EMAILID (m6d99ac3275bb4e) FLAGS ())
           S: * 4 FETCH (UID 4 EMAILID NIL FLAGS ())
           S: w2 OK
           C: w3 UID FETCH 1:* (UID FLAGS)
           S: w3 OK"#,
    )
    .await;
    let mut ids = Vec::new();
    lease.fetch_meta("1:*", Items::All, None, &mut |meta| ids.push(meta.gm_msgid)).await.unwrap();
    // Kept on disk and told to POP3 programs: the same for ever.
    let [one, other] = [992_617_703_518_316_377, 8_950_771_164_750_033_378];
    assert_eq!(ids, [Some(one), Some(one), Some(other), None]);
    lease.fetch_meta("1:*", Items::Flags, None, &mut |_| {}).await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn searches() {
    let (provider, mut lease) = lease(
        "",
        r#"C: w2 UID SEARCH ALL
           S: * SEARCH 5 1 2 
           S: * SEARCH 9 (MODSEQ 917162500)
           S: w2 OK
           C: w3 UID SEARCH CHARSET UTF-8 TEXT {2}
           S: + go on
           C: é NOT SEEN
           S: * SEARCH
           S: w3 OK"#,
    )
    .await;
    assert_eq!(lease.search_uids().await.unwrap(), set("1:2,5,9"));
    let program = "CHARSET UTF-8 TEXT {2}\r\né NOT SEEN";
    assert!(lease.search(program.as_bytes()).await.unwrap().is_empty());
    assert!(matches!(lease.search(b"ALL\r\nw9 LOGOUT").await, Err(Error::No { bad: true, .. })));
    provider.done().await;

    let (provider, mut lease) = super::lease(
        "ESEARCH LITERAL-",
        r#"C: w2 UID SEARCH RETURN (ALL) ALL
           S: * ESEARCH (TAG "w2") UID ALL 1:3,7
           S: w2 OK
           C: w3 UID SEARCH RETURN (ALL) TEXT {1+}
           C: x
           S: * ESEARCH (TAG "w3") UID
           S: w3 OK"#,
    )
    .await;
    assert_eq!(lease.search_uids().await.unwrap(), set("1:3,7"));
    assert!(lease.search(b"TEXT {1}\r\nx").await.unwrap().is_empty());
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn store_copy_move_expunge() {
    let (provider, mut lease) = lease(
        "CONDSTORE ENABLE UIDPLUS MOVE",
        r#"C: w3 UID STORE 1:3 (UNCHANGEDSINCE 5) +FLAGS (\Seen x)
           S: * 1 FETCH (UID 1 FLAGS (\Seen x) MODSEQ (9))
           S: * 2 FETCH (FLAGS (\Seen x))
           S: w3 OK [MODIFIED 3] partly
           C: w4 UID STORE 8 (UNCHANGEDSINCE 5) -FLAGS (\Seen)
           S: w4 NO [MODIFIED 8] some are gone
           C: w5 UID STORE 8 FLAGS ()
           S: w5 NO read only
           C: w6 UID COPY 1:2 "a \"b"
           S: w6 OK [COPYUID 7 1:2 31:32] Done
           C: w7 UID MOVE 3 "Trash"
           S: * OK [COPYUID 8 3 40] Moved
           S: * 3 EXPUNGE
           S: w7 OK
           C: w8 UID COPY 9 "x"
           S: w8 OK [COPYUID 8 9:10 40] nonsense
           C: w9 UID EXPUNGE 4
           S: * 1 EXPUNGE
           S: w9 OK
           C: w10 EXPUNGE
           S: w10 OK"#,
    )
    .await;
    let (told, modified) =
        lease.store(&set("1:3"), FlagOp::Add, &Flags::parse(["\\Seen", "x"]), Some(5)).await.unwrap();
    assert_eq!((told.len(), told[0].modseq, modified), (1, Some(9), set("3")));
    let (_, modified) = lease.store(&set("8"), FlagOp::Remove, &Flags::parse(["\\Seen"]), Some(5)).await.unwrap();
    assert_eq!(modified, set("8"));
    assert!(lease.store(&set("8"), FlagOp::Replace, &Flags::default(), None).await.is_err());
    let copied = lease.copy(&set("1:2"), "a \"b").await.whole().unwrap().unwrap();
    assert_eq!(copied.pairs, [(Uid(1), Uid(31)), (Uid(2), Uid(32))]);
    lease.take_events();
    let moved = lease.move_to(&set("3"), "Trash").await.whole().unwrap().unwrap();
    assert_eq!((moved.uid_validity, &moved.pairs[..]), (UidValidity(8), &[(Uid(3), Uid(40))][..]));
    assert_eq!(lease.take_events(), [Event::Expunge(3)]);
    assert_eq!(lease.copy(&set("9"), "x").await.whole().unwrap(), None);
    lease.uid_expunge(&set("4")).await.unwrap();
    lease.expunge().await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn single_moves_where_copyuid_lies() {
    let provider = Provider::new([session(
        "MOVE UIDPLUS",
        "C: w2 UID MOVE 1 \"T\"\nC: w3 UID MOVE 2 \"T\"\nS: * OK [COPYUID 5 1 8]\nS: w2 OK\nS: w3 OK [COPYUID 5 2 7]",
    )]);
    let quirks = Quirks { single_moves: true, ..Quirks::default() };
    let pool = Pool::new(Config { quirks, ..config(&provider, 1) });
    let mut lease = pool.lease(Class::Interactive, None).await.unwrap();
    let moved = lease.move_to(&set("1:2"), "T").await.whole().unwrap().unwrap();
    assert_eq!(moved.pairs, [(Uid(1), Uid(8)), (Uid(2), Uid(7))]);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn append_waits_or_not_and_a_refused_literal_is_not_sent() {
    let flags = Flags::parse(["\\Seen"]);
    let date = InternalDate::parse("1-Feb-2020 10:00:00 +0100");
    let body = Bytes::from_static(b"a: b\r\n\r\nc\r\n");
    let (provider, mut lease) = lease(
        "UIDPLUS",
        r#"C: w2 APPEND "Sent" (\Seen) " 1-Feb-2020 10:00:00 +0100" {11}
           S: * 5 EXISTS
           S: + OK
           C: a: b
           C: 
           C: c
           C: 
           S: w2 OK [APPENDUID 7 33] done
           C: w3 APPEND "nope" {11}
           S: w3 NO [TRYCREATE] no such mailbox {40}
           C: w4 APPEND "full" {11}
           S: w4 BAD odd
           C: w5 NOOP
           S: w5 OK"#,
    )
    .await;
    assert_eq!(lease.append("Sent", &flags, date, &body).await.unwrap(), Some((UidValidity(7), Uid(33))));
    let refused = lease.append("nope", &Flags::default(), None, &body).await.unwrap_err();
    assert!(matches!(refused, Error::No { code: Some(code), .. } if code == "TRYCREATE"));
    assert!(matches!(lease.append("full", &Flags::default(), None, &body).await, Err(Error::No { bad: true, .. })));
    lease.noop().await.unwrap();
    provider.done().await;

    let (provider, mut lease) =
        super::lease("LITERAL+", "C: w2 APPEND \"Sent\" {11+}\nC: a: b\nC: \nC: c\nC: \nS: w2 OK done").await;
    assert_eq!(lease.append("Sent", &Flags::default(), None, &body).await.unwrap(), None);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn lists() {
    let (provider, mut lease) = lease(
        "XLIST NAMESPACE LIST-STATUS QUOTA",
        r#"C: w2 LIST "" "*"
           C: w3 LSUB "" "*"
           C: w4 XLIST "" "*"
           S: * LIST (\HasNoChildren) "|" inbox
           S: * LIST (\Noselect) "|" {7}
           S- Foo\r\nBar
           S: 
           S: * LIST () "|" &BB4-
           S: w2 OK
           S: * LSUB () "|" INBOX
           S: w3 OK
           S: * XLIST (\Inbox) "|" Eingang
           S: * XLIST (\HasNoChildren \Spam) "|" &BB4-
           S: w4 OK
           C: w5 NAMESPACE
           S: * NAMESPACE (("INBOX." ".")) NIL NIL
           S: w5 OK
           C: w6 LIST "" "*" RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN))
           S: * LIST () "|" INBOX
           S: * STATUS INBOX (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 7 UNSEEN 1 )
           S: w6 OK
           C: w7 STATUS "INBOX" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)
           S: * STATUS "Other" (MESSAGES 1)
           S: * STATUS Inbox (MESSAGES 4)
           S: w7 OK
           C: w8 GETQUOTAROOT "INBOX"
           S: * QUOTAROOT INBOX ""
           S: * QUOTA "" (STORAGE 10 999999999999)
           S: w8 OK
           C: w9 STATUS "x" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)
           S: w9 OK"#,
    )
    .await;
    let names = lease.list().await.unwrap();
    let short: Vec<_> = names.iter().map(|line| (line.name.as_str(), line.lsub, line.attributes.join(" "))).collect();
    assert_eq!(short[0], ("INBOX", false, "\\HasNoChildren".into()));
    assert_eq!(short[2], ("&BB4-", false, "\\Spam".into()));
    assert_eq!(short[3], ("INBOX", true, String::new()));
    assert_eq!(lease.namespace_prefix().await.unwrap(), ("INBOX.".into(), Some('.')));
    let all = lease.list_status().await.unwrap();
    assert_eq!((all.len(), all[0].uid_next, all[0].highest_modseq), (1, Some(Uid(9)), None));
    assert_eq!(lease.status("INBOX").await.unwrap().messages, Some(4));
    assert!(matches!(&lease.take_events()[..], [Event::Status(line)] if line.mailbox == "Other"));
    let quota = lease.quota_root("INBOX").await.unwrap();
    assert_eq!(quota, [&b"QUOTAROOT INBOX \"\""[..], b"QUOTA \"\" (STORAGE 10 999999999999)"]);
    assert!(lease.status("x").await.is_err());
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn mailboxes_and_special_use() {
    let (provider, mut lease) = lease(
        "CREATE-SPECIAL-USE SPECIAL-USE LIST-EXTENDED UNSELECT",
        r#"C: w2 LIST "" "*" RETURN (SPECIAL-USE)
           C: w3 LSUB "" "*"
           S: * LIST (\Sent) "/" Sent
           S: w2 OK
           S: w3 BAD what
           C: w4 CREATE "Bin" (USE (\Trash))
           S: w4 OK
           C: w5 SELECT "Bin"
           S: w5 OK
           C: w6 UNSELECT
           S: w6 OK
           C: w7 RENAME "Bin" "Bin2"
           S: w7 OK
           C: w8 UNSUBSCRIBE "Bin2"
           S: w8 OK
           C: w9 DELETE {6}
           S: + 
           C: a
           C: bcd
           S: w9 OK
           C: w10 LIST "" ""
           S: * LIST (\Noselect) "/" ""
           S: w10 OK
           C: w11 NOOP
           S: * STATUS x (MESSAGES 1)
           S: * OK [NOTIFICATIONOVERFLOW] lost
           S: w11 OK"#,
    )
    .await;
    assert_eq!(lease.list().await.unwrap()[0].attributes, ["\\Sent"]);
    lease.create("Bin", Some(Role::Trash)).await.unwrap();
    lease.select("Bin").await.unwrap();
    lease.rename("Bin", "Bin2").await.unwrap();
    lease.subscribe("Bin2", false).await.unwrap();
    lease.delete("a\r\nbcd").await.unwrap();
    assert_eq!(lease.namespace_prefix().await.unwrap(), (String::new(), Some('/')));
    lease.noop().await.unwrap();
    assert_eq!(lease.take_events(), [Event::Overflow]);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn leaving_without_unselect_expunges_nothing() {
    let (provider, mut lease) = lease(
        "",
        r#"C: w2 SELECT "a"
           S: w2 OK
           C: w3 EXAMINE "a"
           S: * 3 EXISTS
           S: w3 OK
           C: w4 CLOSE
           S: w4 OK"#,
    )
    .await;
    lease.select("a").await.unwrap();
    lease.close_mailbox().await.unwrap();
    lease.close_mailbox().await.unwrap();
    assert!(lease.take_events().is_empty() && lease.selected().is_none());
    // Without UIDPLUS a single message cannot be expunged, and nothing is sent.
    assert!(matches!(lease.uid_expunge(&set("1")).await, Err(Error::No { .. })));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn idle_returns_what_is_heard_and_is_renewed() {
    let (provider, mut lease) = lease(
        "IDLE",
        r#"C: w2 IDLE
           S: + idling
           S: * OK Still here {40}
           S: * 5 EXISTS
           S: * 1 RECENT
           C: DONE
           S: * 2 EXPUNGE
           S: w2 OK
           C: w3 IDLE
           S: + 
           C: DONE
           S: w3 OK
           C: w4 IDLE
           S: w4 NO not now
           C: w5 NOOP
           S: w5 OK"#,
    )
    .await;
    let renew = Duration::from_secs(600);
    assert_eq!(lease.idle(renew, pace(), std::future::pending()).await.unwrap(), [Event::Exists(5), Event::Expunge(2)]);
    let start = tokio::time::Instant::now();
    assert_eq!(lease.idle(renew, pace(), std::future::pending()).await.unwrap(), []);
    assert_eq!(start.elapsed(), renew);
    assert_eq!(lease.idle(renew, pace(), std::future::pending()).await.unwrap(), []);
    lease.noop().await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn idle_may_be_cancelled_and_the_session_goes_on() {
    let (provider, mut lease) = lease(
        "IDLE",
        r#"C: w2 IDLE
           S: + idling
           C: DONE
           S: * 2 EXISTS
           S: w2 OK
           C: w3 NOOP
           S: w3 OK"#,
    )
    .await;
    let cut = tokio::time::timeout(
        Duration::from_secs(5),
        lease.idle(Duration::from_secs(600), pace(), std::future::pending()),
    )
    .await;
    assert!(cut.is_err());
    lease.noop().await.unwrap();
    assert_eq!(lease.take_events(), [Event::Exists(2)]);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn the_pace_of_polling_may_change() {
    let noops: String = (2..=5).map(|n| format!("C: w{n} NOOP\nS: w{n} OK\n")).collect();
    let (provider, mut lease) = lease("", &noops).await;
    let (pace, paced) = tokio::sync::watch::channel(Duration::from_secs(300));
    let start = tokio::time::Instant::now();
    let change = async {
        tokio::time::sleep(Duration::from_secs(310)).await;
        // The last NOOP was ten seconds ago; then one is due every five.
        pace.send_replace(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(7)).await;
    };
    assert_eq!(lease.idle(Duration::from_secs(600), paced, change).await.unwrap(), []);
    assert_eq!(start.elapsed(), Duration::from_secs(317));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn without_idle_there_is_polling() {
    let (provider, mut lease) = lease(
        "",
        "C: w2 NOOP\nS: w2 OK\nC: w3 NOOP\nS: * 9 EXISTS\nS: w3 OK\nC: w4 NOOP\nS: w4 OK\nC: w5 NOOP\nS: w5 OK",
    )
    .await;
    let start = tokio::time::Instant::now();
    assert_eq!(lease.idle(Duration::from_secs(600), pace(), std::future::pending()).await.unwrap(), [Event::Exists(9)]);
    assert_eq!(start.elapsed(), POLL_INTERVAL);
    assert_eq!(lease.idle(Duration::from_secs(10), pace(), std::future::pending()).await.unwrap(), []);
    provider.done().await;
}
