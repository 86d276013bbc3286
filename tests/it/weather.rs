//! A provider in a bad mood, simulated: IDLE that hears nothing or is dropped.

use std::time::{Duration, Instant};

use mailweir::daemon::simulated::Scenario;

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::inside::Inside;
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
