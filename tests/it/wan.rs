//! A far upstream: 50 ms round trip, 50 Mbit/s. What is warm costs a round trip or two, whatever its size.

use std::time::Instant;

use crate::harness::client::Client;
use crate::harness::mail::{self, Sizes};
use crate::harness::pop::Pop;
use crate::harness::relay::Link;
use crate::harness::world::{Kind, World};
use crate::harness::{ADDRESS, LOCAL_PASSWORD};

/// Seconds: what [`Link::wan`] takes for one.
const ROUND_TRIP: f64 = 0.05;

fn far(fill: impl FnOnce(&mut Client)) -> World {
    World::with(Kind::Dovecot, Link::wan(), |setup| setup, fill)
}

#[test]
fn warm_select_and_flags_of_a_hundred_thousand() {
    const COUNT: u64 = 100_000;
    let world = far(|c| mail::load(c, "INBOX", 43, COUNT, Sizes::Small));
    if world.is_straight() {
        return;
    }
    let mut first = world.client();
    first.set_timeout(std::time::Duration::from_secs(120));
    first.cmd_ok("SELECT INBOX");
    first.cmd_ok("UID FETCH 1:* (UID FLAGS)");
    let (bytes, turns) = (world.relay.bytes(), world.relay.turns());
    let mut c = world.client();
    assert_eq!(c.cmd_ok("SELECT INBOX").count("EXISTS"), Some(COUNT as u32));
    assert_eq!(c.cmd_ok("UID FETCH 1:* (UID FLAGS)").untagged.len() as u64, COUNT);
    let (bytes, turns) = (world.relay.bytes() - bytes, world.relay.turns() - turns);
    assert!(bytes <= 100_000, "{bytes} bytes upstream");
    assert!(turns <= 2, "{turns} round trips");

    // An old program's first login: the maildrop is there, and nothing is read for it.
    let (bytes, filled) = (world.relay.bytes(), world.daemon().bodies_filled());
    let mut pop = Pop::connect(world.daemon().pop3).login(ADDRESS, LOCAL_PASSWORD);
    assert_eq!(pop.stat().0 as u64, COUNT);
    for command in ["LIST", "UIDL"] {
        assert_eq!(pop.list(command).len() as u64, COUNT, "{command}");
    }
    pop.ok("QUIT");
    assert!(world.relay.bytes() - bytes < 2_000, "{} bytes upstream", world.relay.bytes() - bytes);
    assert!((world.daemon().bodies_filled() - filled).abs() < 0.5);
}

#[test]
fn warm_envelopes_and_bodies_cost_no_upstream_byte() {
    let world = far(|c| mail::load(c, "INBOX", 47, 300, Sizes::Usual));
    if world.is_straight() {
        return;
    }
    let ask = |c: &mut Client| {
        c.cmd_ok("SELECT INBOX");
        let mut size = c.cmd_ok("FETCH 1:* (UID ENVELOPE BODYSTRUCTURE RFC822.SIZE)").untagged.len();
        size += c.cmd_ok("FETCH 1:* (BODY.PEEK[])").untagged.len();
        size + c.cmd_ok("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)])").untagged.len()
    };
    assert_eq!(ask(&mut world.client()), 900);
    let (bytes, filled) = (world.relay.bytes(), world.daemon().bodies_filled());
    assert_eq!(ask(&mut world.client()), 900);
    assert!((world.daemon().bodies_filled() - filled).abs() < 0.5);
    // An IDLE or a poll may fall in between; a body or an envelope may not.
    assert!(world.relay.bytes() - bytes < 2_000, "{} bytes", world.relay.bytes() - bytes);
}

/// Not a round trip more than directly, and passed on while it comes. How much time that takes is told by `benches/e2e`.
#[test]
fn the_first_byte_of_a_cold_big_body() {
    let bodies: Vec<Vec<u8>> = (53..56).map(|seed| mail::big(seed, 25_000_000)).collect();
    let world = far(|c| {
        for body in &bodies {
            c.append("INBOX", "", body);
        }
    });
    if world.is_straight() {
        return;
    }
    let open = |mut c: Client| {
        c.cmd_ok("EXAMINE INBOX");
        c.cmd_ok("NOOP");
        c
    };
    let measure = |c: &mut Client, n: usize| {
        let start = Instant::now();
        let tag = c.start(&format!("FETCH {} (BODY.PEEK[])", n + 1)).unwrap();
        let (size, first) = c.drain_answer(&tag).expect("the body");
        assert!(size > bodies[n].len() as u64);
        ((first - start).as_secs_f64(), start.elapsed().as_secs_f64())
    };
    let (user, password) = (crate::harness::UPSTREAM_USER, crate::harness::UPSTREAM_PASSWORD);
    let mut direct = open(Client::connect(world.relay.addr).login(user, password));
    let mut through = open(world.client());
    // The best of some: a machine that is busy at one moment only adds to it.
    let mut more = f64::INFINITY;
    let mut whole = Vec::new();
    for n in 0..bodies.len() {
        let (direct, through) = (measure(&mut direct, n), measure(&mut through, n));
        println!("first byte and all, in seconds: direct {direct:?}, through {through:?}");
        assert!(through.0 < through.1 / 2.0, "the first byte comes long before the last: {through:?}");
        more = more.min(through.0 - direct.0);
        whole.push(through.1 / direct.1);
    }
    whole.sort_by(f64::total_cmp);
    assert!(whole[1] <= 1.2, "all of it: {whole:?}");
    assert!(more < ROUND_TRIP, "the first byte comes {more} s later than directly");
    let down = world.relay.down();
    measure(&mut open(world.client()), 0);
    assert!(world.relay.down() - down < 2_000, "what is here is not fetched again");
}
