//! What an account costs its provider: octets with and without compression, against mbsync's on the same mailbox, and for a day on which
//! nothing happens.

use std::time::{Duration, Instant};

use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::inside::Inside;
use crate::harness::mail::{self, Sizes};
use crate::harness::relay::{Link, Relay};
use crate::harness::world::Endpoint;
use crate::harness::{UPSTREAM_PASSWORD, UPSTREAM_USER, scratch, straight_run, wait_for};
use crate::interop::pull;

/// A mail program at the upstream itself, over a relay.
fn straight(dovecot: &Dovecot, relay: &Relay) -> Endpoint {
    Endpoint {
        imap: relay.addr,
        imaps: dovecot.imaps,
        ca_file: dovecot.ca_file().to_owned(),
        user: UPSTREAM_USER,
        password: UPSTREAM_PASSWORD,
    }
}

/// Waits until nothing has gone over the link for a while.
fn at_rest(relay: &Relay, rest: Duration) {
    let mut seen = (relay.bytes(), Instant::now());
    wait_for("the link to be at rest", || {
        if relay.bytes() != seen.0 {
            seen = (relay.bytes(), Instant::now());
        }
        seen.1.elapsed() >= rest
    });
}

/// What the daemon has counted of the link: all of it, to the octet.
fn assert_counted(daemon: &Daemon, relay: &Relay) {
    wait_for("the counts to agree", || {
        let (down, up) = (relay.down() as f64, relay.up() as f64);
        let received = daemon.metric("mailweir_upstream_received_bytes_total", &[]);
        let sent = daemon.metric("mailweir_upstream_sent_bytes_total", &[]);
        (received - down).abs() < 0.5 && (sent - up).abs() < 0.5
    });
}

#[test]
fn compressed_a_first_sync_is_a_fraction() {
    const COUNT: u64 = 20_000;
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::with(Options { compress: true, ..Options::default() });
    mail::load(&mut dovecot.client(), "INBOX", 29, COUNT, Sizes::Small);
    let mut took = Vec::new();
    for (appended, compress) in [true, false].into_iter().enumerate() {
        let relay = Relay::to(dovecot.imap, Link::default());
        let account = Account { limits_more: format!("compress = {compress}"), ..Account::at(relay.addr) };
        let daemon = Daemon::start(Setup::new(account));
        let mut c = daemon.client();
        assert_eq!(c.cmd_ok("SELECT INBOX").count("EXISTS"), Some((COUNT as usize + appended) as u32));
        at_rest(&relay, Duration::from_millis(700));
        let synced = relay.down();
        // Bodies arrive whole, and a change goes up.
        let got = c.cmd_ok("UID FETCH 1:200 (FLAGS BODY.PEEK[])").by_uid();
        for n in 1..=200 {
            assert_eq!(got[&n]["BODY[]"].bytes(), mail::message(29, n - 1, Sizes::Small).bytes, "UID {n}");
        }
        c.cmd_ok("UID STORE 7 +FLAGS (\\Flagged)");
        c.append("INBOX", "", &mail::big(1, 100_000));
        at_rest(&relay, Duration::from_millis(300));
        assert_counted(&daemon, &relay);
        took.push((synced, relay.down() - synced));
    }
    let [(with, bodies_with), (without, bodies_without)] = took[..] else { panic!("two runs") };
    println!(
        "first sync of {COUNT}: {with} octets compressed, {without} not; 200 bodies {bodies_with} and {bodies_without}"
    );
    assert!(with * 3 < without, "{with} of {without}");
    assert!(bodies_with < bodies_without);
}

/// Over TLS, as providers are reached: the handshake and the records count too.
#[test]
fn under_tls_every_octet_of_the_socket_counts() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::with(Options { compress: true, ..Options::default() });
    mail::load(&mut dovecot.client(), "INBOX", 31, 100, Sizes::Usual);
    let relay = Relay::to(dovecot.imaps, Link::default());
    let account = Account { tls: "implicit", ca_file: Some(dovecot.ca_file().to_owned()), ..Account::at(relay.addr) };
    let daemon = Daemon::start(Setup::new(account));
    let mut c = daemon.client();
    c.cmd_ok("SELECT INBOX");
    assert_eq!(c.cmd_ok("UID FETCH 1:* (BODY.PEEK[])").by_uid().len(), 100);
    at_rest(&relay, Duration::from_millis(700));
    assert_counted(&daemon, &relay);
}

#[test]
fn no_more_than_mbsync_takes() {
    const COUNT: u64 = 2000;
    /// mbsync started by cron every five minutes.
    const RUNS: u64 = 288;
    /// Of the day that many minutes are played.
    const PLAYED: u64 = 60;
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    mail::load(&mut dovecot.client(), "INBOX", 41, COUNT, Sizes::Usual);
    let home = scratch("mbsync");
    let relay = Relay::to(dovecot.imap, Link::default());
    let endpoint = straight(&dovecot, &relay);
    let direct = pull(&endpoint, "None", &home.path().join("direct"));
    let first = relay.bytes();
    // The same again: nothing is new.
    pull(&endpoint, "None", &home.path().join("direct"));
    let idle_day = (relay.bytes() - first) * RUNS;

    let own = Relay::to(dovecot.imap, Link::default());
    let inside = Inside::start(Setup { prefetch: "all", ..Setup::new(Account::at(own.addr)) });
    let mut c = inside.daemon.client();
    assert_eq!(c.cmd_ok("SELECT INBOX").count("EXISTS"), Some(COUNT as u32));
    wait_for("every body", || inside.daemon.bodies_filled() > COUNT as f64 - 0.5);
    at_rest(&own, Duration::from_millis(700));
    let own_first = own.bytes();
    let near = Endpoint {
        imap: inside.daemon.imap,
        imaps: inside.daemon.imaps,
        ca_file: inside.daemon.ca_file(),
        user: crate::harness::ADDRESS,
        password: crate::harness::LOCAL_PASSWORD,
    };
    let through = pull(&near, "STARTTLS", &home.path().join("through"));
    assert!(direct == through, "the same content");
    let second = own.bytes() - own_first;

    // An hour of polling, by a program that asks every minute and one that idles.
    let idler = c.idle();
    let mut poller = inside.daemon.client();
    poller.cmd_ok("SELECT INBOX");
    at_rest(&own, Duration::from_millis(300));
    let before = own.bytes();
    for _ in 0..PLAYED {
        inside.jump(Duration::from_secs(60));
        poller.cmd_ok("NOOP");
        at_rest(&own, Duration::from_millis(40));
    }
    let own_idle_day = (own.bytes() - before) * 1440 / PLAYED;
    println!(
        "first sync: {own_first} octets, mbsync {first}; second client {second}; idle day {own_idle_day}, mbsync {idle_day}"
    );
    assert!(own_first <= first, "{own_first} of mbsync's {first}");
    assert!(second < 500, "{second} octets for the second client");
    assert!(own_idle_day <= idle_day, "{own_idle_day} of mbsync's {idle_day}");

    // Ten programs read the message that has just come: one body.
    c.done(&idler);
    let (filled, down) = (inside.daemon.bodies_filled(), own.down());
    dovecot.client().append("INBOX", "", &mail::big(3, 200_000));
    let mut readers: Vec<Client> = (0..10).map(|_| inside.daemon.client()).collect();
    for reader in &mut readers {
        reader.cmd_ok("SELECT INBOX");
        wait_for("the new message", || {
            reader.cmd_ok("NOOP").count("EXISTS").is_some() || {
                reader.cmd_ok("STATUS INBOX (MESSAGES)").lines().iter().any(|line| line.contains("2001"))
            }
        });
    }
    let tags: Vec<String> =
        readers.iter_mut().map(|reader| reader.start("UID FETCH 2001 (BODY.PEEK[])").unwrap()).collect();
    for (reader, tag) in readers.iter_mut().zip(&tags) {
        assert_eq!(reader.finish(tag).unwrap().by_uid()[&2001]["BODY[]"].bytes().len(), mail::big(3, 200_000).len());
    }
    let bodies = inside.daemon.bodies_filled() - filled;
    assert!((bodies - 1.0).abs() < 0.5, "{bodies} bodies");
    assert!(own.down() - down < 230_000, "{}", own.down() - down);
}
