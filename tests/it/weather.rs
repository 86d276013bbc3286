//! A provider in a bad mood, simulated: IDLE that hears nothing or is dropped, answers that come drop by drop.

use std::time::{Duration, Instant};

use mailweir::daemon::simulated::Scenario;

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::inside::Inside;
use crate::harness::mail;
use crate::harness::simulated::Simulated;
use crate::harness::{straight_run, wait_for};

/// IDLE is taken and nothing is ever told: what came is seen when IDLE is renewed, inside the provider's limit.
#[test]
fn an_idle_that_hears_nothing_is_looked_behind() {
    if straight_run() {
        return;
    }
    for name in ["outlook", "gmail"] {
        let scenario = Scenario { idle_deaf_after: Some(Duration::ZERO), ..Scenario::named(name).unwrap() };
        let simulated = Simulated::start(scenario);
        let inside = Inside::start(Setup::new(simulated.account(simulated.addr)));
        let mut c = inside.daemon.client();
        let count = c.cmd_ok("SELECT INBOX").count("EXISTS").unwrap();
        let tag = c.idle();
        wait_for("the daemon to idle", || simulated.provider.idling() > 0);
        simulated.provider.deliver(1);
        inside.jump(Duration::from_secs(541));
        c.until(&format!("* {} EXISTS", count + 1));
        c.done(&tag);
        assert_eq!(simulated.counts().throttled, 0, "{name}");
    }
}

/// A connection dropped while it idles is opened again without hammering, and nothing is missed.
#[test]
fn a_dropped_idle_is_begun_again() {
    if straight_run() {
        return;
    }
    let scenario = Scenario { idle_dropped_after: Some(Duration::from_secs(1)), ..Scenario::gmail() };
    let simulated = Simulated::start(scenario);
    let daemon = Daemon::start(Setup::new(simulated.account(simulated.addr)));
    let mut c = daemon.client();
    let count = c.cmd_ok("SELECT INBOX").count("EXISTS").unwrap();
    let tag = c.idle();
    let started = Instant::now();
    for round in 1..=4 {
        let dropped = simulated.counts().logins;
        wait_for("the next login", || simulated.counts().logins > dropped);
        simulated.provider.deliver(u64::from(round));
        c.until(&format!("* {} EXISTS", count + round));
    }
    c.done(&tag);
    let (logins, seconds) = (simulated.counts().logins, started.elapsed().as_secs());
    println!("{logins} logins in {seconds} s");
    assert!(logins <= 4 + seconds, "{logins} logins in {seconds} s");
    assert_eq!(simulated.counts().refused, 0);
    assert!(c.cmd_ok("UID SEARCH ALL").search().len() as u32 == count + 4);
}

/// Less than a kilobyte a second and not a word of why: it is noticed, only those who wait are served, and the rest goes on later.
#[test]
fn while_it_trickles_only_those_who_wait_are_served() {
    if straight_run() {
        return;
    }
    let simulated = Simulated::start(Scenario::gmail());
    let inside = Inside::start(Setup { prefetch: "all", ..Setup::new(simulated.account(simulated.addr)) });
    let mut c = inside.daemon.client();
    let count = c.cmd_ok("SELECT INBOX").count("EXISTS").unwrap();
    let filled = || inside.daemon.bodies_filled() as u64;
    let mut seen = (0, Instant::now());
    wait_for("prefetch to be done", || {
        if filled() != seen.0 {
            seen = (filled(), Instant::now());
        }
        seen.0 > 0 && seen.1.elapsed() > Duration::from_millis(700)
    });
    let noticed = || inside.daemon.metric("mailweir_upstream_refusals_total", &["meaning=\"trickle\""]) as u64;
    let mut straight = simulated.straight();
    simulated.provider.set_trickling(true);
    // A quarter of a minute of drops, which the daemon's clock takes for more than twice that.
    straight.append("INBOX", "", &mail::big(7, 15_000));
    wait_for("the message", || c.cmd_ok("NOOP").count("EXISTS") == Some(count + 1));
    let reading = c.start("FETCH * (BODY.PEEK[])").unwrap();
    while noticed() == 0 {
        let before = simulated.counts().octets_out;
        wait_for("some drops", || noticed() > 0 || simulated.counts().octets_out > before + 200);
        inside.jump(Duration::from_secs(4));
    }
    assert!(c.finish(&reading).unwrap().is_ok(), "who waits is served");
    let tag = c.idle();
    let had = filled();
    simulated.provider.deliver(2);
    simulated.provider.deliver(3);
    c.until(&format!("* {} EXISTS", count + 3));
    c.done(&tag);
    let newest = *c.cmd_ok("UID SEARCH ALL").search().iter().max().unwrap();
    assert!(c.cmd_ok(&format!("UID FETCH {newest} BODY.PEEK[]")).by_uid()[&u64::from(newest)].contains_key("BODY[]"));
    let (_, status) = inside.daemon.http_get("/status.json");
    println!("{} bodies after {had}, {status}", filled());
    assert!(filled() <= had + 2, "one for a person, and at most the one that was under way");
    simulated.provider.set_trickling(false);
    inside.jump(Duration::from_secs(601));
    wait_for("prefetch to go on", || {
        inside.jump(Duration::from_secs(5));
        c.cmd_ok("NOOP");
        filled() >= had + 2
    });
}
