//! Keywords on an upstream that keeps none (RFC 9051 §7.1: PERMANENTFLAGS without `\*`): kept by the daemon, for all its clients and for
//! good. The upstream is a Dovecot whose user lacks the right to set flags but `\Seen` and `\Deleted`, everywhere but in `Free`.

use std::collections::BTreeMap;

use crate::harness::answer::Status;
use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::straight_run;

/// A Dovecot with five messages in INBOX, and a daemon in front of it; nothing when the tests run straight.
fn world() -> Option<(Dovecot, Daemon)> {
    if straight_run() {
        return None;
    }
    let dovecot = Dovecot::with(Options { few_flags: true, ..Options::default() });
    let mut up = dovecot.client();
    for n in 1..=5 {
        up.append("INBOX", "", format!("Message-ID: <{n}@x>\r\nSubject: {n}\r\n\r\nbody {n}\r\n").as_bytes());
    }
    for name in ["Free", "Shut", "Later"] {
        up.cmd_ok(&format!("CREATE {name}"));
    }
    // The upstream is what this test says it is.
    let permanent = |up: &mut Client, name: &str| up.cmd_ok(&format!("SELECT {name}")).code("PERMANENTFLAGS").unwrap();
    assert!(permanent(&mut up, "Free").contains("\\*"));
    assert_eq!(permanent(&mut up, "INBOX"), "(\\Deleted \\Seen)");
    up.cmd_ok("STORE 1 +FLAGS ($Label1)");
    assert_eq!(flags(&mut up)[&1], "");
    let daemon = Daemon::start(Setup::new(Account::at(dovecot.imap)));
    Some((dovecot, daemon))
}

/// The flags of the selected mailbox by UID, sorted, without \Recent.
fn flags(c: &mut Client) -> BTreeMap<u64, String> {
    let all = c.cmd_ok("UID FETCH 1:* (FLAGS)").by_uid();
    let text = |items: &BTreeMap<String, crate::harness::answer::Value>| {
        let mut names: Vec<String> = items["FLAGS"].list().iter().map(|flag| flag.text()).collect();
        names.retain(|name| name != "\\Recent");
        names.sort();
        names.join(" ")
    };
    all.iter().map(|(uid, items)| (*uid, text(items))).collect()
}

fn select(c: &mut Client, name: &str) -> BTreeMap<u64, String> {
    c.cmd_ok(&format!("SELECT {name}"));
    flags(c)
}

fn highest(c: &mut Client) -> u64 {
    let status = c.cmd_ok("STATUS INBOX (HIGHESTMODSEQ)").lines().concat();
    status.split(['(', ')', ' ']).find_map(|word| word.parse().ok()).expect("a mod-sequence")
}

/// Rows of the durable state for one mailbox.
fn rows(daemon: &Daemon, mailbox: &str) -> i64 {
    let db = rusqlite::Connection::open(daemon.data_dir().join("state.sqlite")).unwrap();
    db.query_row("SELECT count(*) FROM local_keywords WHERE mailbox = ?", [mailbox], |row| row.get(0)).unwrap()
}

#[test]
fn a_store_is_split_and_told() {
    let Some((dovecot, daemon)) = world() else { return };
    let (mut c, mut other, mut up) = (daemon.client(), daemon.client(), dovecot.client());
    up.cmd_ok("SELECT INBOX");
    // The first one to see a message has it \Recent; here that is somebody else.
    daemon.client().cmd_ok("SELECT INBOX");
    let permanent = c.cmd_ok("SELECT INBOX").code("PERMANENTFLAGS").unwrap();
    assert_eq!(permanent, "(\\Deleted \\Seen \\*)");
    other.cmd_ok("SELECT INBOX (CONDSTORE)");
    let before = highest(&mut c);
    let tag = other.idle();

    let told = c.cmd_ok("STORE 1:2 +FLAGS (\\Seen $Label1)").lines();
    assert_eq!(told.iter().filter(|line| line.contains("FLAGS (\\Seen $Label1)")).count(), 2, "{told:?}");
    other.until("* 1 FETCH (<*>FLAGS (<*>$Label1<*>");
    other.until("* 2 FETCH (<*>FLAGS (<*>$Label1<*>");
    other.done(&tag);
    assert_eq!(flags(&mut c), flags(&mut other));
    assert_eq!(flags(&mut c)[&1], "$Label1 \\Seen");
    up.cmd_ok("NOOP");
    assert_eq!(flags(&mut up), [(1, "\\Seen"), (2, "\\Seen"), (3, ""), (4, ""), (5, "")].map(owned).into());
    let permanent = other.cmd_ok("SELECT INBOX").code("PERMANENTFLAGS").unwrap();
    assert_eq!(permanent, "(\\Deleted \\Seen $Label1 \\*)");
    assert_eq!(c.cmd_ok("SEARCH KEYWORD $label1").search(), [1, 2]);
    assert_eq!(c.cmd_ok("SEARCH UNKEYWORD $Label1 NOT SEEN").search(), [3, 4, 5]);
    let changed = c.cmd_ok(&format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {before})")).by_uid();
    assert_eq!(changed.keys().copied().collect::<Vec<_>>(), [1, 2]);

    // Keywords only, silently; upstream's part comes and goes meanwhile.
    up.cmd_ok("STORE 3 +FLAGS (\\Seen)");
    c.cmd_ok("UID STORE 3:4 +FLAGS.SILENT (work $Label1)");
    assert_eq!(c.cmd_ok("SEARCH KEYWORD work").search(), [3, 4]);
    let late = c.cmd(&format!("UID STORE 1:5 (UNCHANGEDSINCE {before}) +FLAGS (\\Seen late)"));
    assert_eq!(late.code("MODIFIED").as_deref(), Some("1:4"), "{}", late.text);
    c.cmd_ok("UID STORE 2,3 FLAGS (work)");
    c.cmd_ok("UID STORE 4 -FLAGS (WORK)");
    let want = [(1, "$Label1 \\Seen"), (2, "work"), (3, "work"), (4, "$Label1"), (5, "\\Seen late")];
    assert_eq!(flags(&mut c), want.map(owned).into());
    other.cmd_ok("NOOP");
    assert_eq!(flags(&mut other), want.map(owned).into());
    up.cmd_ok("NOOP");
    assert_eq!(flags(&mut up), [(1, "\\Seen"), (2, ""), (3, ""), (4, ""), (5, "\\Seen")].map(owned).into());

    // Where the client may not write, nothing is kept here either.
    other.cmd_ok("EXAMINE INBOX");
    assert_eq!(other.cmd("STORE 1 +FLAGS (x)").status, Status::No);
    // Upstream keeps these itself.
    c.cmd_ok("SELECT Free");
    assert_eq!(c.append("Free", "$Label1 \\Flagged", b"Subject: free\r\n\r\nx\r\n"), Some(1));
    c.cmd_ok("NOOP");
    c.cmd_ok("STORE 1 +FLAGS (work)");
    assert_eq!(select(&mut up, "Free")[&1], "$Label1 \\Flagged work");
    assert_eq!(rows(&daemon, "Free"), 0);
}

fn owned((uid, flags): (u64, &str)) -> (u64, String) {
    (uid, flags.to_owned())
}

#[test]
fn they_outlive_a_crash_and_the_cache() {
    let Some((dovecot, mut daemon)) = world() else { return };
    let mut c = daemon.client();
    let validity = c.cmd_ok("SELECT INBOX (CONDSTORE)").code("UIDVALIDITY").unwrap();
    c.cmd_ok("UID STORE 1:3 +FLAGS (work)");
    daemon.stop();
    daemon.restart();
    let mut c = daemon.client();
    let mut want: BTreeMap<u64, String> = [(1, "work"), (2, "work"), (3, "work"), (4, ""), (5, "")].map(owned).into();
    assert_eq!(select(&mut c, "INBOX"), want);
    for round in 1..=6 {
        let before = highest(&mut c);
        // Killed at once: the cache has not seen it, the durable state has.
        let (command, named) = match round % 2 {
            1 => ("+FLAGS", format!("\\Seen k{round} work")),
            _ => ("-FLAGS", "work".to_owned()),
        };
        c.cmd_ok(&format!("UID STORE 2 {command} ({named})"));
        let was = select(&mut c, "INBOX");
        daemon.kill();
        daemon.restart();
        c = daemon.client();
        c.cmd_ok("ENABLE QRESYNC");
        let told = c.cmd_ok(&format!("SELECT INBOX (QRESYNC ({validity} {before}))"));
        let told: Vec<u64> = told.by_uid().keys().copied().collect();
        assert!(told.contains(&2), "round {round}: a client of before hears of it: {told:?}");
        assert!(told.iter().all(|uid| *uid == 2), "round {round}: and of nothing else: {told:?}");
        assert_eq!(flags(&mut c), was, "round {round}");
        want = was;
    }
    assert_eq!(want[&2], "\\Seen k1 k3 k5");
    daemon.stop();
    daemon.drop_cache();
    daemon.restart();
    assert_eq!(select(&mut daemon.client(), "INBOX"), want);
    // The state alone is what they live in: upstream knows none.
    assert_eq!(select(&mut dovecot.client(), "INBOX")[&2], "\\Seen");
}

#[test]
fn they_go_where_the_message_goes() {
    let Some((dovecot, mut daemon)) = world() else { return };
    let (mut c, mut other) = (daemon.client(), daemon.client());
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("STORE 1:4 +FLAGS (work)");
    c.cmd_ok("STORE 2 +FLAGS (two)");
    // Open in another session, so that the copy is seen by a watcher too; and one that was never opened.
    other.cmd_ok("SELECT Shut");
    c.cmd_ok("COPY 1:2 Shut");
    assert_eq!(flags_after_noop(&mut other, 2), [(1, "work"), (2, "two work")].map(owned).into());
    c.cmd_ok("COPY 2,5 Later");
    c.cmd_ok("MOVE 2:3 Shut");
    assert_eq!(flags(&mut c), [(1, "work"), (4, "work"), (5, "")].map(owned).into());
    assert_eq!(rows(&daemon, "INBOX"), 2);
    let shut = [(1, "work"), (2, "two work"), (3, "two work"), (4, "work")].map(owned).into();
    assert_eq!(flags_after_noop(&mut other, 4), shut);
    assert_eq!(select(&mut other, "Later"), [(1, "two work"), (2, "")].map(owned).into());

    // From where upstream keeps them to where it does not, opened or not, and back.
    c.append("Free", "\\Flagged up", b"Subject: free\r\n\r\nx\r\n");
    c.cmd_ok("SELECT Free");
    c.cmd_ok("COPY 1 Later");
    c.cmd_ok("CREATE New");
    c.cmd_ok("COPY 1 New");
    c.cmd_ok("MOVE 1 INBOX");
    assert_eq!(select(&mut c, "Later")[&3], "up");
    assert_eq!(select(&mut c, "New")[&1], "up");
    assert_eq!(select(&mut c, "INBOX")[&6], "up");
    c.cmd_ok("UID MOVE 6 Free");
    assert_eq!(select(&mut c, "Free")[&2], "up");
    assert_eq!(select(&mut dovecot.client(), "Free")[&2], "", "kept here, for upstream has lost it in INBOX");

    // Gone with the message, with the mailbox, and along with a new name.
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("UID STORE 1,4 +FLAGS (\\Deleted)");
    c.cmd_ok("UID EXPUNGE 1");
    assert_eq!(rows(&daemon, "INBOX"), 1);
    let mut up = dovecot.client();
    up.cmd_ok("SELECT INBOX");
    up.cmd_ok("EXPUNGE");
    c.cmd_ok("NOOP");
    crate::harness::wait_for("the expunge", || c.cmd_ok("NOOP").lines().is_empty() && rows(&daemon, "INBOX") == 0);
    c.cmd_ok("RENAME Shut Opened");
    assert_eq!(select(&mut c, "Opened")[&2], "two work");
    assert_eq!((rows(&daemon, "Shut"), rows(&daemon, "Opened")), (0, 6));
    c.cmd_ok("UNSELECT");
    c.cmd_ok("DELETE Opened");
    assert_eq!(rows(&daemon, "Opened"), 0);
    // Made anew behind our back, with another UIDVALIDITY.
    up.cmd_ok("UNSELECT");
    up.cmd_ok("DELETE Later");
    up.cmd_ok("CREATE Later");
    up.append("Later", "", b"Subject: anew\r\n\r\nx\r\n");
    daemon.stop();
    daemon.restart();
    let mut c = daemon.client();
    crate::harness::wait_for("the new mailbox", || {
        c.cmd("SELECT Later").is_ok() && flags(&mut c) == [(1, "")].map(owned).into()
    });
    assert_eq!(rows(&daemon, "Later"), 0);
}

/// INBOX is renamed: its messages are elsewhere, with their keywords, and a new INBOX has none.
#[test]
fn they_leave_with_the_messages_of_inbox() {
    let Some((dovecot, mut daemon)) = world() else { return };
    let mut c = daemon.client();
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("STORE 2:3 +FLAGS (work)");
    c.cmd_ok("STORE 3 +FLAGS (\\Seen later)");
    c.cmd_ok("UNSELECT");
    c.cmd_ok("RENAME INBOX Old");
    let want: BTreeMap<u64, String> =
        [(1, ""), (2, "work"), (3, "\\Seen later work"), (4, ""), (5, "")].map(owned).into();
    assert_eq!(select(&mut c, "Old"), want);
    assert_eq!((rows(&daemon, "INBOX"), rows(&daemon, "Old")), (0, 3));
    dovecot.client().append("INBOX", "", b"Subject: anew\r\n\r\nx\r\n");
    // Two of Dovecot's own sessions may each make the new INBOX ("indexid changed"): who has the first one selected is shown out, rightly.
    crate::harness::wait_for("the new message, without what the old one had", || {
        let mut c = daemon.client();
        let is_there = c.try_cmd("SELECT INBOX").is_ok_and(|answer| answer.count("EXISTS") == Some(1));
        is_there && c.try_cmd("SEARCH KEYWORD work").is_ok_and(|answer| answer.is_ok() && answer.search().is_empty())
    });
    daemon.stop();
    daemon.drop_cache();
    daemon.restart();
    assert_eq!(select(&mut daemon.client(), "Old"), want);
}

/// What is there once there are so many messages.
fn flags_after_noop(c: &mut Client, count: usize) -> BTreeMap<u64, String> {
    crate::harness::wait_for("the messages", || {
        c.cmd_ok("NOOP");
        flags(c).len() == count
    });
    flags(c)
}

#[test]
fn what_is_appended_has_them() {
    let Some((dovecot, mut daemon)) = world() else { return };
    let mut c = daemon.client();
    let mut other = daemon.client();
    other.cmd_ok("SELECT INBOX");
    // A mailbox that nobody has opened, and one that somebody looks at.
    assert_eq!(c.append("Shut", "\\Seen work $Forwarded", b"Subject: a\r\n\r\na\r\n"), Some(1));
    assert_eq!(c.append("INBOX", "\\Seen work", b"Subject: b\r\n\r\nb\r\n"), Some(6));
    assert_eq!(flags_after_noop(&mut other, 6)[&6], "\\Seen work");
    let tag = c.tag();
    c.c(&format!("{tag} APPEND Shut (one) {{3}}")).until_continue();
    c.raw(b"x\r\n").c(" (\\Seen two) {3}").until_continue();
    c.raw(b"y\r\n").c(" {3}").until_continue();
    c.raw(b"z\r\n\r\n");
    let answer = c.finish(&tag).unwrap();
    assert!(answer.is_ok(), "{}", answer.text);
    daemon.kill();
    daemon.restart();
    let mut c = daemon.client();
    let want = [(1, "$Forwarded \\Seen work"), (2, "one"), (3, "\\Seen two"), (4, "")];
    assert_eq!(select(&mut c, "Shut"), want.map(owned).into());
    assert_eq!(
        select(&mut dovecot.client(), "Shut"),
        [(1, "\\Seen"), (2, ""), (3, "\\Seen"), (4, "")].map(owned).into()
    );
}

#[test]
fn there_are_limits() {
    let Some((dovecot, daemon)) = world() else { return };
    let mut c = daemon.client();
    c.cmd_ok("SELECT INBOX");
    let many = |names: std::ops::Range<u32>| names.map(|n| format!("k{n}")).collect::<Vec<_>>().join(" ");
    c.cmd_ok(&format!("STORE 1 +FLAGS ({})", many(0..64)));
    // All or nothing: the part that upstream would keep is not stored either.
    let answer = c.cmd("STORE 1:2 +FLAGS (\\Seen one-more)");
    assert_eq!((answer.status, answer.code("LIMIT")), (Status::No, Some(String::new())), "{}", answer.text);
    assert_eq!(c.cmd_ok("SEARCH SEEN").search(), [] as [u32; 0]);
    assert_eq!(select(&mut dovecot.client(), "INBOX")[&2], "");
    for n in 1..4 {
        c.cmd_ok(&format!("STORE {} +FLAGS ({})", n + 1, many(n * 64..n * 64 + 64)));
    }
    let answer = c.cmd("STORE 5 +FLAGS (the-257th)");
    assert_eq!((answer.status, answer.code("LIMIT")), (Status::No, Some(String::new())), "{}", answer.text);
    let answer = c.cmd("COPY 1:4 Shut");
    assert!(answer.is_ok(), "{}", answer.text);
    c.cmd_ok("STORE 1:5 -FLAGS (k0 k64)");
    c.cmd_ok("STORE 5 +FLAGS (the-257th)");
}

/// The durable state cannot be written: whatever needs it is refused, what upstream has done is shown, and nothing is left half done that
/// can be undone.
#[test]
fn what_cannot_be_kept_is_not_acknowledged() {
    let Some((dovecot, daemon)) = world() else { return };
    let mut c = daemon.client();
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("STORE 1 +FLAGS (work)");
    let state = rusqlite::Connection::open(daemon.data_dir().join("state.sqlite")).unwrap();
    state.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = c.cmd("STORE 1:2 +FLAGS (\\Seen other)");
    assert_eq!((answer.status, answer.code("SERVERBUG")), (Status::No, Some(String::new())), "{}", answer.text);
    assert_eq!(c.cmd("STORE 1 -FLAGS (work)").status, Status::No);
    let want = [(1, "\\Seen work"), (2, "\\Seen"), (3, ""), (4, ""), (5, "")].map(owned).into();
    assert_eq!(flags(&mut c), want);
    let tag = c.tag();
    c.c(&format!("{tag} APPEND INBOX (other) {{3}}")).until_continue();
    c.raw(b"x\r\n\r\n");
    let answer = c.finish(&tag).unwrap();
    assert_eq!(answer.status, Status::No, "{}", answer.text);
    assert_eq!(dovecot.client().cmd_ok("STATUS INBOX (MESSAGES)").lines(), ["* STATUS INBOX (MESSAGES 5)"]);
    state.execute_batch("ROLLBACK").unwrap();
    assert_eq!(flags(&mut c), want);
    c.cmd_ok("STORE 1:2 +FLAGS (\\Seen other)");
    assert_eq!(c.cmd_ok("SEARCH KEYWORD other").search(), [1, 2]);
    assert_eq!(c.cmd_ok("SEARCH KEYWORD work").search(), [1]);
}
