//! Many clients, few upstream connections, and no client in another's way.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::answer::{Status, Value};
use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::mail::{self, Sizes};
use crate::harness::relay::{Fault, Link, Relay};
use crate::harness::world::{Kind, World};
use crate::harness::{seed, straight_run, wait_for};

const USUAL: u64 = 200;

fn fill(c: &mut Client) {
    mail::load(c, "INBOX", 19, USUAL, Sizes::Usual);
}

#[test]
fn forty_clients_use_no_more_connections_than_allowed() {
    let world = World::new(Kind::Dovecot, fill);
    if world.is_straight() {
        return;
    }
    let mut clients: Vec<_> = (0..40).map(|_| world.client()).collect();
    let mut tags = Vec::new();
    for c in &mut clients {
        c.cmd_ok("SELECT INBOX");
        tags.push(c.start("UID FETCH 1:* (BODY.PEEK[])").unwrap());
    }
    for (c, tag) in clients.iter_mut().zip(&tags) {
        assert_eq!(c.finish(tag).unwrap().by_uid().len(), USUAL as usize);
    }
    assert!(world.relay.peak() <= 3, "{} at once", world.relay.peak());
    assert!(world.upstream.dovecot().sessions() <= 3);
    assert!(world.daemon().metric("mailweir_upstream_connections", &[]) <= 3.0);
    assert!((world.daemon().metric("mailweir_client_sessions", &["imap"]) - 40.0).abs() < 0.5);
    // Every body crossed the link once: headers and talk are allowed a third on top.
    let bytes: u64 = (0..USUAL).map(|n| mail::message(19, n, Sizes::Usual).bytes.len() as u64).sum();
    assert!(world.relay.down() < bytes * 4 / 3 + 200_000, "{} of {bytes}", world.relay.down());
}

/// Waits until nothing has gone over the link for four times the pause between two logins, however long the start takes.
fn at_rest(relay: &Relay) {
    const REST: Duration = Duration::from_secs(2);
    let mut seen = ((relay.bytes(), relay.accepted()), Instant::now());
    wait_for("the link to be at rest", || {
        let now = (relay.bytes(), relay.accepted());
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        seen.1.elapsed() >= REST
    });
}

#[test]
fn two_hundred_idle_clients_cost_the_upstream_nothing() {
    let world = World::new(Kind::Dovecot, fill);
    if world.is_straight() {
        return;
    }
    let mut first = world.client();
    first.cmd_ok("SELECT INBOX");
    first.idle();
    // What a mail program does at its start is paid once, by the first.
    let mut second = world.client();
    second.cmd_ok("SELECT INBOX");
    second.cmd_ok("NOOP");
    // And what the daemon does at its own start, whoever comes: it reads the account, and its logins keep half a second between them.
    at_rest(&world.relay);
    let (bytes, accepted) = (world.relay.bytes(), world.relay.accepted());
    let mut clients: Vec<_> = (0..200).map(|_| world.client()).collect();
    for c in &mut clients {
        c.cmd_ok("SELECT INBOX");
        c.idle();
    }
    assert!(world.relay.peak() <= 3, "{} at once", world.relay.peak());
    assert_eq!(world.relay.accepted(), accepted, "no connection was made for them");
    let more = world.relay.bytes() - bytes;
    assert!(more < 10_000, "{more} bytes for 200 clients: one would cost that alone");
    // All 200 hear of one change, for the price of one.
    world.straight().append("INBOX", "", b"Subject: for all\r\n\r\nx\r\n");
    for c in &mut clients {
        c.until(&format!("* {} EXISTS", USUAL + 1));
    }
    let more = world.relay.bytes() - bytes;
    assert!(more < 20_000, "{more} bytes to tell 200 clients of one message");
}

/// One program downloads everything over a slow line; somebody else opens a message. With one connection he waits for the part that is
/// under way, with two for nothing.
#[test]
fn a_download_of_everything_starves_nobody() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let mut straight = dovecot.client();
    for n in 0..150 {
        straight.append("INBOX", "", &mail::big(n, 60_000));
    }
    for (connections, most) in [(2, Duration::from_secs(3)), (1, Duration::from_secs(8))] {
        // Nine megabytes at half a megabyte a second.
        let relay = Relay::to(dovecot.imap, Link { rate: 500_000, ..Link::default() });
        let daemon = Daemon::start(Setup::new(Account { connections, ..Account::at(relay.addr) }));
        let mut bulk = daemon.client();
        bulk.cmd_ok("EXAMINE INBOX");
        let started = Instant::now();
        bulk.start("UID FETCH 1:* (BODY.PEEK[])").unwrap();
        wait_for("the download to be under way", || relay.down() > 700_000);
        let mut person = daemon.client();
        person.cmd_ok("EXAMINE INBOX");
        let asked = Instant::now();
        let got = person.cmd_ok("UID FETCH 150 (BODY.PEEK[])").by_uid();
        let took = asked.elapsed();
        assert_eq!(got[&150]["BODY[]"].bytes().len(), mail::big(149, 60_000).len());
        println!("{connections} connections: the message took {took:?}, {:?} into the download", started.elapsed());
        assert!(took < most, "{connections} connections: {took:?}");
        assert!(daemon.bodies_filled() < 120.0, "the download was not over: {}", daemon.bodies_filled());
    }
}

/// A provider with a cap like Gmail's, and a household beyond it.
#[test]
fn more_clients_than_the_provider_would_take() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::with(Options { max_connections: Some(4), ..Options::default() });
    mail::load(&mut dovecot.client(), "INBOX", 1, 20, Sizes::Small);
    let daemon = Daemon::start(Setup::new(Account::at(dovecot.imap)));
    let mut clients: Vec<_> = (0..20).map(|_| daemon.client()).collect();
    for c in &mut clients {
        c.cmd_ok("SELECT INBOX");
        assert_eq!(c.cmd_ok("UID FETCH 1:* (BODY.PEEK[])").by_uid().len(), 20);
    }
    assert!(!dovecot.log().contains("Maximum number of connections"), "the provider had to refuse");
}

/// The peer that shares its cache carelessly gives out other messages' data within seconds.
#[test]
fn ten_sessions_at_once_never_get_another_messages_data() {
    let world = World::new(Kind::Dovecot, fill);
    let seed = seed(51);
    std::thread::scope(|scope| {
        for n in 0..10 {
            let mut c = world.client();
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed + n);
                c.cmd_ok("EXAMINE INBOX");
                for _ in 0..40 {
                    let uid = rng.random_range(1..=USUAL);
                    let sample = mail::message(19, uid - 1, Sizes::Usual).bytes;
                    match rng.random_range(0..3) {
                        0 => {
                            let got = c.cmd_ok(&format!("UID FETCH {uid} (BODY.PEEK[])")).by_uid();
                            assert_eq!(got[&uid]["BODY[]"], Value::Text(sample), "UID {uid}");
                        }
                        1 => {
                            let got = c.cmd_ok(&format!("UID FETCH {uid} (ENVELOPE)")).by_uid();
                            let id = got[&uid]["ENVELOPE"].list()[9].text();
                            assert_eq!(id, format!("<19.{}@example.org>", uid - 1), "UID {uid}");
                        }
                        _ => {
                            let key = format!("UID SEARCH HEADER Message-ID \"<19.{}@example.org>\"", uid - 1);
                            assert_eq!(c.cmd_ok(&key).search(), [uid as u32], "{key}");
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn a_slow_account_is_nobody_elses_trouble() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    mail::load(&mut dovecot.client(), "INBOX", 1, 20, Sizes::Small);
    mail::load(&mut dovecot.client_as("bob"), "INBOX", 2, 20, Sizes::Small);
    let (slow, quick) = (Relay::to(dovecot.imap, Link::default()), Relay::to(dovecot.imap, Link::default()));
    let mut setup = Setup::new(Account::at(quick.addr));
    setup.accounts.push(Account {
        address: "bob@example.org".to_owned(),
        username: "bob".to_owned(),
        ..Account::at(slow.addr)
    });
    let daemon = Daemon::start(setup);
    let bob = || Client::connect(daemon.imap).login("bob@example.org", crate::harness::LOCAL_PASSWORD);
    let mut stuck = bob();
    stuck.cmd_ok("SELECT INBOX");
    slow.set(Fault::Stall);
    let mut waiting: Vec<_> = (0..20).map(|_| bob()).collect();
    for c in &mut waiting {
        c.start("SELECT INBOX").unwrap();
        c.start("UID FETCH 1:* (BODY.PEEK[])").unwrap();
    }
    let start = Instant::now();
    let mut c = daemon.client();
    c.cmd_ok("SELECT INBOX");
    assert_eq!(c.cmd_ok("UID FETCH 1:* (BODY.PEEK[])").by_uid().len(), 20);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    slow.set(Fault::None);
}

/// A wrong upstream password: the provider is not hammered, the client is told in words.
#[test]
fn refused_logins_are_not_repeated_fast() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let relay = Relay::to(dovecot.imap, Link::default());
    let account = Account { password: "wrong".to_owned(), ..Account::at(relay.addr) };
    let daemon = Daemon::start(Setup::new(account));
    let mut c = daemon.client();
    for _ in 0..20 {
        assert_eq!(c.cmd("SELECT INBOX").status, Status::No);
    }
    assert!(relay.accepted() <= 3, "{} connections for 20 commands", relay.accepted());
    let log = daemon.server().printed();
    assert!(!log.contains("wrong\"") && !log.contains(" wrong"), "the password is in the log");
}
