//! A provider that punishes without a word: answers come at less than a kilobyte a second. It is noticed, the session is given up for another,
//! and where the other is no better what somebody waits for arrives all the same.

use std::time::Duration;

use crate::harness::daemon::{Account, Setup};
use crate::harness::dovecot::Dovecot;
use crate::harness::inside::Inside;
use crate::harness::mail;
use crate::harness::relay::{Fault, Link, Relay};
use crate::harness::trap::{Act, Place, Point, Trap};
use crate::harness::{PATIENCE, straight_run, wait_for};

/// Longer than an answer may come drop by drop before that is noticed (`upstream/session/octets.rs`).
const NOTICED: Duration = Duration::from_secs(31);

struct Stage {
    /// Held: it ends when it is dropped.
    _dovecot: Dovecot,
    relay: Relay,
    inside: Inside,
}

impl Stage {
    fn set(messages: &[Vec<u8>]) -> Self {
        let dovecot = Dovecot::start();
        let mut straight = dovecot.client();
        for message in messages {
            straight.append("INBOX", "", message);
        }
        let relay = Relay::to(dovecot.imap, Link::default());
        // One session at a time, so that each new one is told from the others' coming and going.
        let account = Account { connections: 1, limits_more: "compress = false".into(), ..Account::at(relay.addr) };
        let inside = Inside::start(Setup { prefetch: "none", ..Setup::new(account) });
        Self { _dovecot: dovecot, relay, inside }
    }

    fn received(&self) -> f64 {
        self.inside.daemon.metric("mailweir_upstream_received_bytes_total", &[])
    }

    fn noticed(&self) -> f64 {
        self.inside.daemon.metric("mailweir_upstream_refusals_total", &["trickle"])
    }

    /// Lets some drops come, then the time pass in which that is noticed.
    fn let_drip(&self) {
        let from = self.received();
        wait_for("some drops", || self.received() > from + 1000.0);
        self.inside.jump(NOTICED);
    }
}

/// One session is slow, and the next is not: at its pace the message would take minutes.
#[test]
fn a_slow_session_is_given_up_for_another() {
    if straight_run() {
        return;
    }
    let message = mail::big(1, 300_000);
    let stage = Stage::set(std::slice::from_ref(&message));
    let mut c = stage.inside.daemon.client();
    c.cmd_ok("SELECT INBOX");
    let opened = stage.relay.accepted();
    stage.relay.set_trap(Trap::new("BODY.PEEK[]", Point::Command, Place::Before, Act::Trickle));
    let fetching = c.start("UID FETCH 1 (BODY.PEEK[])").unwrap();
    assert!(stage.relay.sprung(PATIENCE), "the fetch never came");
    stage.relay.go_on();
    stage.let_drip();
    let got = c.finish(&fetching).unwrap();
    assert_eq!(got.by_uid()[&1]["BODY[]"].bytes(), message, "one body, over two sessions");
    assert!((stage.noticed() - 1.0).abs() < 0.5, "noticed {} times", stage.noticed());
    let sessions = stage.relay.accepted() - opened;
    assert_eq!(sessions, 1, "new sessions");
}

/// All of them are: one more is tried, and then what was asked for comes as it comes. Nobody is logged in to again and again.
#[test]
fn a_slow_provider_is_not_hammered() {
    if straight_run() {
        return;
    }
    let message = mail::big(2, 16_000);
    let stage = Stage::set(std::slice::from_ref(&message));
    let mut c = stage.inside.daemon.client();
    c.cmd_ok("SELECT INBOX");
    let opened = stage.relay.accepted();
    stage.relay.set(Fault::Trickle);
    let fetching = c.start("UID FETCH 1 (BODY.PEEK[])").unwrap();
    stage.let_drip();
    wait_for("another session", || stage.relay.accepted() > opened);
    // That is slow as well, and no other comes after it.
    stage.let_drip();
    let got = c.finish(&fetching).unwrap();
    assert_eq!(got.by_uid()[&1]["BODY[]"].bytes(), message);
    let sessions = stage.relay.accepted() - opened;
    assert_eq!(sessions, 1, "new sessions");
    // It stands where the owner looks.
    let (_, status) = stage.inside.daemon.http_get("/status.json");
    assert!(status.contains("very slowly"), "{status}");
}
