//! The mirror keeps in step: pushes, lost connections, offline reading, kill -9, a deleted cache.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::answer::{Status, Value};
use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::Dovecot;
use crate::harness::fleet::{Fleet, Role};
use crate::harness::mail::{self, Sizes};
use crate::harness::relay::{Fault, Link, Relay, Way};
use crate::harness::world::{Kind, World};
use crate::harness::{seed, straight_run, wait_for};
use crate::{everywhere, over_dovecot};

everywhere!(the_fleet_agrees, a_lost_connection_is_made_again, mailbox_made_anew);
over_dovecot!(a_push_comes_in_under_a_second_and_once);

fn small(c: &mut Client) {
    mail::load(c, "INBOX", 17, 40, Sizes::Small);
}

fn the_fleet_agrees(kind: Kind) {
    let world = World::new(kind, small);
    let mut fleet = Fleet::new(seed(21));
    for _ in 0..4 {
        fleet.join("through", Role::Reads, world.client());
    }
    fleet.join("straight", Role::ReadsAndWrites, world.straight());
    fleet.run(300);
    fleet.settle(world.straight());
}

fn a_push_comes_in_under_a_second_and_once(kind: Kind) {
    let world = World::new(kind, small);
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("SELECT INBOX");
    up.cmd_ok("SELECT INBOX");
    let tag = c.idle();
    let (mut took, mut told) = (Vec::new(), Vec::new());
    for round in 1..=5 {
        let start = Instant::now();
        up.cmd_ok(&format!("STORE {round} +FLAGS (Push{round})"));
        told.extend(c.until(&format!("* {round} FETCH (<*>Push{round}<*>)")));
        took.push(start.elapsed());
    }
    // The median: at any one moment this machine may be doing something else.
    took.sort();
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
    up.append("INBOX", "", b"Subject: last\r\n\r\nlast\r\n");
    // The new mail comes after everything before it, so a second telling would have been seen by now.
    told.extend(c.until("* 41 EXISTS"));
    told.extend(c.done(&tag).lines());
    told.extend(c.cmd_ok("NOOP").lines());
    for round in 1..=5 {
        let telling = format!("* {round} FETCH (");
        assert_eq!(told.iter().filter(|line| line.starts_with(&telling)).count(), 1, "message {round}: {told:?}");
    }
    assert_eq!(told.iter().filter(|line| line.ends_with(" EXISTS")).count(), 1, "{told:?}");
}

/// What one session changes another is told at once: no upstream notice stands between.
#[test]
fn a_change_through_the_daemon_is_pushed_at_once() {
    let world = World::new(Kind::Dovecot, |c| {
        for n in 1..=20 {
            c.append("INBOX", "", format!("Subject: {n}\r\n\r\nbody\r\n").as_bytes());
        }
    });
    if world.is_straight() {
        return;
    }
    let (mut reader, mut idler) = (world.client(), world.client());
    reader.cmd_ok("SELECT INBOX");
    idler.cmd_ok("SELECT INBOX");
    idler.idle();
    let mut took = Vec::new();
    for n in 1..=20 {
        reader.cmd_ok(&format!("FETCH {n} BODY[]"));
        let answered = Instant::now();
        idler.until(&format!("* {n} FETCH (<*>\\Seen<*>)"));
        took.push(answered.elapsed());
    }
    took.sort();
    // Dovecot's own notice comes after 500 ms.
    assert!(took[10] < Duration::from_millis(50), "median {:?}", took[10]);
}

fn a_lost_connection_is_made_again(kind: Kind) {
    let world = World::new(kind, small);
    if world.is_straight() {
        return;
    }
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("SELECT INBOX");
    for (n, lose) in [Relay::cut as fn(&Relay), Relay::reset, Relay::half_close].into_iter().enumerate() {
        lose(&world.relay);
        c.cmd_ok("NOOP");
        up.append("INBOX", "", b"Subject: later\r\n\r\nlater\r\n");
        let expected = format!("* {} EXISTS", 41 + n);
        world.poll(&mut c, |l| l == expected);
    }
}

/// Deleted and made again under the same name: another UIDVALIDITY, other mail.
fn mailbox_made_anew(kind: Kind) {
    let world = World::new(kind, |c| {
        c.cmd_ok("CREATE Work");
        c.append("Work", "", b"Subject: old\r\n\r\nold\r\n");
    });
    let (mut c, mut up) = (world.client(), world.straight());
    let old = c.cmd_ok("SELECT Work").code("UIDVALIDITY").unwrap();
    c.cmd_ok("FETCH 1 BODY.PEEK[]");
    c.cmd_ok("UNSELECT");
    up.cmd_ok("DELETE Work");
    up.cmd_ok("CREATE Work");
    up.append("Work", "", b"Subject: fresh\r\n\r\nfresh\r\n");
    let fresh = up.cmd_ok("EXAMINE Work").code("UIDVALIDITY").unwrap();
    assert_ne!(old, fresh, "the upstream gives another");
    wait_for("the new UIDVALIDITY", || c.cmd("SELECT Work").code("UIDVALIDITY").as_deref() == Some(&fresh));
    let body = c.cmd_ok("UID FETCH 1 BODY.PEEK[]").by_uid();
    assert_eq!(body[&1]["BODY[]"].text(), "Subject: fresh\r\n\r\nfresh\r\n");
}

/// All UIDs, flags and bodies of INBOX.
fn everything(c: &mut Client) -> BTreeMap<u64, BTreeMap<String, Value>> {
    c.cmd_ok("EXAMINE INBOX");
    c.cmd_ok("UID FETCH 1:* (UID RFC822.SIZE BODY.PEEK[])").by_uid()
}

#[test]
fn what_is_cached_is_read_offline() {
    let mut world = World::new(Kind::Dovecot, |c| {
        small(c);
        c.cmd_ok("CREATE Cold");
        c.append("Cold", "", b"Subject: cold\r\n\r\ncold\r\n");
    });
    if world.is_straight() {
        return;
    }
    let before = everything(&mut world.client());
    assert_eq!(before.len(), 40);
    world.client().cmd_ok("SELECT Cold");
    world.relay.set(Fault::Refuse);
    world.relay.cut();
    // Twice: with the daemon that was running, and with one that starts without a network.
    for restarted in [false, true] {
        if restarted {
            world.daemon_mut().stop();
            world.daemon_mut().restart();
        }
        let mut c = world.client();
        let start = Instant::now();
        assert_eq!(everything(&mut c), before, "restarted: {restarted}");
        let names = c.cmd_ok("LIST \"\" *").names("LIST");
        assert!(names.contains(&"Cold".to_owned()), "{names:?}");
        c.cmd_ok("STATUS INBOX (MESSAGES UNSEEN)");
        c.cmd_ok("SEARCH UNSEEN");
        assert_eq!(c.cmd_ok("SELECT Cold").count("EXISTS"), Some(1));
        let answer = c.cmd("FETCH 1 BODY.PEEK[]");
        assert_eq!(answer.status, Status::No);
        assert!(answer.text.starts_with("[UNAVAILABLE]"), "{}", answer.text);
        assert!(start.elapsed() < Duration::from_secs(10), "offline is not slow: {:?}", start.elapsed());
    }
    world.relay.set(Fault::None);
    let mut c = world.client();
    c.cmd_ok("SELECT Cold");
    wait_for("the network to be noticed", || c.cmd("FETCH 1 BODY.PEEK[]").is_ok());
}

#[test]
fn an_upstream_that_was_never_reached_is_said_plainly_and_login_works() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    dovecot.client().append("INBOX", "", b"Subject: a\r\n\r\na\r\n");
    let relay = Relay::to(dovecot.imap, Link::default());
    relay.set(Fault::Refuse);
    let daemon = Daemon::start(Setup::new(Account::at(relay.addr)));
    let mut c = daemon.client();
    let answer = c.cmd("SELECT INBOX");
    assert_eq!(answer.status, Status::No);
    assert!(answer.text.starts_with("[UNAVAILABLE]"), "{}", answer.text);
    assert_eq!(daemon.http_get("/healthz").0, 200);
    assert_eq!(daemon.http_get("/readyz").0, 503);
    relay.set(Fault::None);
    wait_for("INBOX", || c.cmd("SELECT INBOX").is_ok());
    wait_for("readiness", || daemon.http_get("/readyz").0 == 200);
}

/// A dead line that nobody closes: what is cached is served as fast as ever.
#[test]
fn a_stalled_link_stalls_no_cached_answer() {
    let world = World::new(Kind::Dovecot, small);
    if world.is_straight() {
        return;
    }
    let mut c = world.client();
    let before = everything(&mut c);
    world.relay.set(Fault::Stall);
    let start = Instant::now();
    assert_eq!(everything(&mut world.client()), before);
    assert_eq!(everything(&mut c), before);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    world.relay.set(Fault::None);
}

/// Cut in the middle of what the upstream says, at many places: right bytes or NO, and the session lives.
///
/// A few cuts a daemon: one that loses every session within a second rightly tries more and more seldom.
#[test]
fn cuts_at_any_byte_never_give_wrong_mail() {
    let mut rng = StdRng::seed_from_u64(seed(31));
    for _ in 0..6 {
        let world = World::new(Kind::Dovecot, |c| mail::load(c, "INBOX", 23, 60, Sizes::Usual));
        if world.is_straight() {
            return;
        }
        let mut c = world.client();
        c.cmd_ok("EXAMINE INBOX");
        for _ in 0..4 {
            let uid = rng.random_range(1..=60);
            let expected = mail::message(23, uid - 1, Sizes::Usual).bytes;
            let at = rng.random_range(1..expected.len() as u64 + 400);
            world.relay.cut_after(Way::Down, at);
            let command = format!("UID FETCH {uid} (BODY.PEEK[])");
            let body = |c: &mut Client| {
                let answer = c.cmd(&command);
                match answer.by_uid().remove(&uid).and_then(|mut items| items.remove("BODY[]")) {
                    Some(body) => assert_eq!(body, Value::Text(expected.clone()), "UID {uid}, cut after {at}"),
                    None => assert_eq!(answer.status, Status::No, "UID {uid}, cut after {at}: {answer:?}"),
                }
                answer.is_ok()
            };
            body(&mut c);
            wait_for("the body after all", || body(&mut c));
        }
    }
}

/// The client has a part of the body already when the line breaks: it gets the rest, and the same body.
#[test]
fn a_body_cut_in_the_middle_is_completed() {
    let bodies: Vec<Vec<u8>> = (0..4).map(|n| mail::big(70 + n, 3_000_000)).collect();
    let world = World::new(Kind::Dovecot, |c| {
        for body in &bodies {
            c.append("INBOX", "", body);
        }
    });
    if world.is_straight() {
        return;
    }
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    let filled = world.daemon().bodies_filled();
    for (n, (body, cuts)) in
        bodies.iter().zip([&[1_500_000][..], &[10_000], &[2_900_000], &[1_000_000, 2_000_000]]).enumerate()
    {
        let uid = n as u64 + 1;
        world.relay.cut_after_each(Way::Down, cuts);
        let tag = c.start(&format!("UID FETCH {uid} (BODY.PEEK[])")).unwrap();
        let answer = c.finish(&tag).expect("the answer");
        assert!(answer.is_ok(), "UID {uid}: {answer:?}");
        let told = answer.by_uid();
        assert!(told[&uid]["BODY[]"] == Value::Text(body.clone()), "UID {uid}: another body");
        assert!(!world.relay.cut_waits(), "UID {uid}: was not cut");
    }
    let filled = world.daemon().bodies_filled() - filled;
    assert!((filled - 4.0).abs() < 0.5, "each is counted once: {filled}");
}

/// A cached body whose file is damaged in the middle: the client has the first pieces by then, and the rest comes from upstream.
#[test]
fn a_cached_body_damaged_in_the_middle_is_completed() {
    let body = mail::big(77, 6_000_000);
    let mut world = World::new(Kind::Dovecot, |c| {
        c.append("INBOX", "", &body);
    });
    if world.is_straight() {
        return;
    }
    let read = |c: &mut Client| {
        c.cmd_ok("EXAMINE INBOX");
        let told = c.cmd_ok("UID FETCH 1 (BODY.PEEK[])").by_uid();
        assert!(told[&1]["BODY[]"] == Value::Text(body.clone()), "another body");
    };
    read(&mut world.client());
    for stopped in [true, false] {
        // Away with what is still in memory.
        world.daemon_mut().stop();
        world.daemon_mut().restart();
        if stopped {
            damage_largest(&world.daemon().data_dir());
        }
        let filled = world.daemon().bodies_filled();
        read(&mut world.client());
        let filled = world.daemon().bodies_filled() - filled;
        assert!((filled - if stopped { 1.0 } else { 0.0 }).abs() < 0.5, "damaged {stopped}: {filled} filled");
    }
}

/// Flips a byte in the middle of the largest file below.
fn damage_largest(dir: &std::path::Path) {
    let mut dirs = vec![dir.to_owned()];
    let mut largest = (0, std::path::PathBuf::new());
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                dirs.push(entry.path());
            } else if entry.path().components().any(|part| part.as_os_str() == "cas") {
                largest = largest.max((meta.len(), entry.path()));
            }
        }
    }
    let mut bytes = std::fs::read(&largest.1).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&largest.1, bytes).unwrap();
}

#[test]
fn a_deleted_cache_costs_nothing_but_time() {
    let mut world = World::new(Kind::Dovecot, small);
    if world.is_straight() {
        return;
    }
    let validity = |c: &mut Client| c.cmd_ok("EXAMINE INBOX").code("UIDVALIDITY");
    let (before, was) = (everything(&mut world.client()), validity(&mut world.client()));
    world.daemon_mut().stop();
    world.daemon().delete_data();
    world.daemon_mut().restart();
    assert_eq!(everything(&mut world.client()), before);
    assert_eq!(validity(&mut world.client()), was);
    world.daemon_mut().stop();
    world.daemon().drop_cache();
    world.daemon_mut().restart();
    assert_eq!(everything(&mut world.client()), before);
}

#[test]
fn after_kill_nine_at_any_moment_it_agrees_with_upstream() {
    let mut world = World::new(Kind::Dovecot, small);
    if world.is_straight() {
        return;
    }
    let seed = seed(41);
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..8 {
        let mut fleet = Fleet::new(seed + round);
        for _ in 0..3 {
            fleet.join("through", Role::Reads, world.client());
        }
        fleet.join("straight", Role::ReadsAndWrites, world.straight());
        fleet.run(rng.random_range(1..60));
        // New mail is under way into the mirror at the very moment of the kill.
        mail::load(&mut world.straight(), "INBOX", 100 + round, rng.random_range(1..30), Sizes::Small);
        world.daemon_mut().kill();
        world.daemon_mut().restart();
    }
    let mut fleet = Fleet::new(seed);
    fleet.join("through", Role::Reads, world.client());
    fleet.join("straight", Role::Reads, world.straight());
    fleet.settle(world.straight());
}

#[test]
fn sigterm_ends_it_in_order() {
    let mut world = World::new(Kind::Dovecot, small);
    if world.is_straight() {
        return;
    }
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    let tag = c.idle();
    let start = Instant::now();
    assert_eq!(world.daemon_mut().stop(), 0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let last = c.until("* BYE<*>");
    assert!(!last.iter().any(|l| l.starts_with(&tag)), "{last:?}");
    assert!(c.is_closed());
}
