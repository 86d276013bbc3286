//! How sessions end, and what is deleted then: two devices, policies and --unhide. (Kill -9 at every step: `killed`.)

use std::collections::BTreeSet;
use std::time::Duration;

use super::{account_pop3, login, upstream, world};
use crate::harness::daemon::Daemon;
use crate::harness::mail::{self, Sizes};
use crate::harness::pop::Pop;
use crate::harness::{ADDRESS, LOCAL_PASSWORD};

fn ids(pop: &mut Pop) -> BTreeSet<String> {
    pop.list("UIDL").into_iter().map(|(_, id)| id).collect()
}

/// What the state holds of the login without a device.
pub(super) fn hidden(daemon: &Daemon) -> BTreeSet<i64> {
    let db = rusqlite::Connection::open(daemon.data_dir().join("state.sqlite")).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    let sql = "SELECT number FROM pop3_hidden JOIN pop3_login ON id = login WHERE account = ? AND device = ''";
    let mut rows = db.prepare(sql).unwrap();
    rows.query_map([ADDRESS], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn two_devices_get_every_message_once_and_unhide_brings_them_back() {
    let Some(world) = world("", |c| mail::load(c, "INBOX", 89, 30, Sizes::Small)) else { return };
    let before = upstream(&world);
    let daemon = world.daemon();
    let fetch_all = |device: &str| {
        let mut pop = login(daemon, device);
        let got = ids(&mut pop);
        for number in 1..=pop.stat().0 {
            pop.multi(&format!("RETR {number}"));
            pop.ok(&format!("DELE {number}"));
        }
        pop.ok("QUIT");
        got
    };
    assert_eq!(account_pop3(daemon, &[]).0, format!("{ADDRESS}: nothing is hidden\n"));
    let laptop = fetch_all("+laptop");
    assert_eq!(laptop.len(), 30);
    assert_eq!(fetch_all("+Laptop").len(), 0, "a device's name is the same in any case");
    assert_eq!(fetch_all("+phone"), laptop);
    world.straight().append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n");
    crate::harness::wait_for("the new message", || login(daemon, "+laptop").stat().0 == 1);
    assert_eq!(fetch_all("+laptop").len(), 1);
    assert_eq!(login(daemon, "").stat().0, 31, "a login without a device is one of its own");
    assert_eq!(login(daemon, "+phone").stat().0, 1);
    assert_eq!(upstream(&world), (before.0 + 1, before.1 + 1), "upstream holds everything as it was");
    let mut imap = world.client();
    imap.cmd_ok("SELECT INBOX");
    assert_eq!(imap.cmd_ok("FETCH 1:* (FLAGS)").untagged.len(), 31, "other clients see everything");

    let (told, log) = account_pop3(daemon, &[]);
    assert_eq!(log, "", "who only looks changes nothing");
    assert!(told.contains("31 messages of INBOX are hidden from laptop"), "{told}");
    assert!(told.contains("30 messages of INBOX are hidden from phone"), "{told}");
    let (told, log) = account_pop3(daemon, &["--unhide", "--device", "Laptop"]);
    assert_eq!(told, format!("{ADDRESS}: 31 messages are shown again\n"));
    let audit = |log: &str, who: &str, count: &str| {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("audit") && line.contains(who)).collect();
        assert!(lines.len() == 1 && lines[0].contains(ADDRESS) && lines[0].contains(count), "{log}");
    };
    audit(&log, "laptop", "31");
    assert_eq!((login(daemon, "+laptop").stat().0, login(daemon, "+phone").stat().0), (31, 1));
    let (told, log) = account_pop3(daemon, &["--unhide"]);
    assert_eq!(told, format!("{ADDRESS}: 30 messages are shown again\n"));
    audit(&log, "every device", "30");
    assert_eq!(login(daemon, "+phone").stat().0, 31);
    assert_eq!(daemon.metric("mailweir_pop3_deletions_total", &["policy=\"hide\""]), 61.0);
    let log = daemon.server().printed();
    let audit: Vec<&str> =
        log.lines().filter(|line| line.contains("audit") && line.contains("deleted over POP3")).collect();
    assert_eq!(audit.len(), 3, "{audit:?}");
    assert!(audit[0].contains("laptop") && audit[0].contains("1:30") && audit[0].contains("hide"), "{audit:?}");
}

#[test]
fn archive_trash_and_seen() {
    for (policy, mailbox) in [("trash", Some("Trash")), ("archive", Some("Attic")), ("seen", None)] {
        let Some(world) = world(&format!("on_dele = \"{policy}\""), |c| {
            c.cmd_ok("CREATE Attic");
            for n in 0..10 {
                c.append("INBOX", "", format!("Subject: {n}\r\n\r\n").as_bytes());
            }
        }) else {
            return;
        };
        let mut pop = login(world.daemon(), "");
        pop.ok("DELE 2");
        pop.ok("DELE 5");
        drop(pop);
        assert_eq!(upstream(&world), (10, 10), "{policy}: without QUIT nothing happens");
        let mut pop = login(world.daemon(), "");
        pop.ok("DELE 3");
        pop.ok("DELE 7");
        pop.ok("QUIT");
        assert_eq!(upstream(&world), if mailbox.is_some() { (8, 8) } else { (10, 8) }, "{policy}");
        if let Some(mailbox) = mailbox {
            let status = world.straight().cmd_ok(&format!("STATUS {mailbox} (MESSAGES)")).lines().join("");
            assert!(status.contains("MESSAGES 2"), "{policy}: moved, not lost: {status}");
        }
        assert_eq!(login(world.daemon(), "").stat().0, 8, "{policy}");
        assert_eq!(login(world.daemon(), "+laptop").stat().0, if mailbox.is_some() { 8 } else { 10 }, "{policy}");
    }
}

/// Both are told that it is done, and it is done once.
#[test]
fn two_sessions_of_one_login_delete_the_same_at_once() {
    for policy in ["hide", "seen", "trash"] {
        let Some(world) = world(&format!("on_dele = \"{policy}\""), |c| {
            for n in 0..10 {
                c.append("INBOX", "", format!("Subject: {n}\r\n\r\n").as_bytes());
            }
        }) else {
            return;
        };
        let mut sessions = [login(world.daemon(), ""), login(world.daemon(), "")];
        for (pop, numbers) in sessions.iter_mut().zip([[2, 5], [5, 7]]) {
            numbers.iter().for_each(|number| drop(pop.ok(&format!("DELE {number}"))));
        }
        let answers = std::thread::scope(|scope| {
            sessions.each_mut().map(|pop| scope.spawn(|| pop.ask("QUIT"))).map(|quit| quit.join().unwrap())
        });
        assert!(answers.iter().all(|answer| answer == "+OK Bye, 2 messages deleted"), "{policy}: {answers:?}");
        let want = match policy {
            "hide" => (10, 10),
            "seen" => (10, 7),
            _ => (7, 7),
        };
        assert_eq!(upstream(&world), want, "{policy}");
        let status = world.straight().cmd_ok("STATUS Trash (MESSAGES)").lines().join("");
        assert!(status.contains(if policy == "trash" { "MESSAGES 3" } else { "MESSAGES 0" }), "{policy}: {status}");
        assert_eq!(login(world.daemon(), "").stat().0, 7, "{policy}");
        let left = hidden(world.daemon());
        assert_eq!(left, if policy == "trash" { BTreeSet::new() } else { [2, 5, 7].into() }, "{policy}");
    }
}

/// QUIT with upstream away: nothing is acknowledged, nothing is done, and the next QUIT does it.
#[test]
fn a_move_that_cannot_be_done_is_not_acknowledged() {
    let Some(world) = world("on_dele = \"trash\"", |c| mail::load(c, "INBOX", 97, 5, Sizes::Small)) else { return };
    let mut pop = login(world.daemon(), "");
    pop.ok("DELE 1");
    world.relay.set(crate::harness::relay::Fault::Refuse);
    world.relay.cut();
    let answer = pop.err("QUIT");
    assert!(answer.starts_with("-ERR [SYS/TEMP] Some deleted messages stay"), "{answer}");
    assert_eq!((upstream(&world).0, hidden(world.daemon()).len()), (5, 0));
    world.relay.set(crate::harness::relay::Fault::None);
    crate::harness::wait_for("QUIT to be done", || {
        let mut pop = login(world.daemon(), "");
        assert_eq!(pop.stat().0, 5);
        pop.ok("DELE 1");
        pop.ask("QUIT").starts_with("+OK")
    });
    assert_eq!((upstream(&world).0, login(world.daemon(), "").stat().0), (4, 4));
}

#[test]
fn what_is_not_acknowledged_is_not_hidden() {
    let Some(mut world) = world("", |c| mail::load(c, "INBOX", 101, 40, Sizes::Small)) else { return };
    let deleting = |daemon: &Daemon, number: u32| {
        let mut pop = login(daemon, "");
        pop.ok(&format!("DELE {number}"));
        pop
    };
    drop(deleting(world.daemon(), 1));
    let mut pop = deleting(world.daemon(), 1);
    pop.send(b"QUIT").unwrap();
    drop(pop);
    let mut pop = deleting(world.daemon(), 1);
    pop.ok("RSET");
    pop.ok("QUIT");
    let open = deleting(world.daemon(), 1);
    world.daemon_mut().kill();
    drop(open);
    world.daemon_mut().restart();
    let mut open = deleting(world.daemon(), 1);
    assert_eq!(world.daemon_mut().stop(), 0, "the end in order");
    assert_eq!(open.try_line().unwrap(), "-ERR [SYS/TEMP] Server is shutting down");
    world.daemon_mut().restart();
    assert_eq!((login(world.daemon(), "").stat().0, hidden(world.daemon()).len()), (40, 0));
    deleting(world.daemon(), 1).ok("QUIT");
    world.daemon_mut().kill();
    world.daemon_mut().restart();
    assert_eq!((login(world.daemon(), "").stat().0, hidden(world.daemon()).len()), (39, 1), "acknowledged is kept");
}

#[test]
fn recent_shows_what_was_hidden() {
    let Some(world) = world("", |c| {
        // APPEND dates a message with the moment; the generator's are years old.
        mail::load(c, "INBOX", 107, 5, Sizes::Small);
        c.append("INBOX", "", b"Subject: today\r\n\r\n");
    }) else {
        return;
    };
    let mut pop = login(world.daemon(), "+tablet");
    for number in 1..=6 {
        pop.ok(&format!("DELE {number}"));
    }
    pop.ok("QUIT");
    assert_eq!(login(world.daemon(), "+tablet").stat().0, 0);
    let mut recent = Pop::connect(world.daemon().pop3).login(&format!("recent:{ADDRESS}+tablet"), LOCAL_PASSWORD);
    assert_eq!(recent.stat().0, 1);
    assert_eq!(recent.multi("TOP 1 0"), b"Subject: today\r\n\r\n");
}

#[test]
fn another_separator() {
    let Some(world) = world("device_separator = \"#\"", |c| mail::load(c, "INBOX", 109, 3, Sizes::Small)) else {
        return;
    };
    let mut pop = login(world.daemon(), "#laptop");
    pop.ok("DELE 1");
    pop.ok("QUIT");
    assert_eq!((login(world.daemon(), "#laptop").stat().0, login(world.daemon(), "").stat().0), (2, 3));
    let mut pop = Pop::connect(world.daemon().pop3);
    pop.ok(&format!("USER {ADDRESS}+laptop"));
    assert!(pop.err(&format!("PASS {LOCAL_PASSWORD}")).starts_with("-ERR [AUTH]"));
}
