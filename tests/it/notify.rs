//! NOTIFY (RFC 5465) where upstream offers it: one session hears of every mailbox.

use std::time::{Duration, Instant};

use crate::harness::client::Client;
use crate::harness::world::{Kind, World};
use crate::harness::{PATIENCE, wait_for};

/// More than there are sessions to watch them.
const NAMES: [&str; 4] = ["Work", "Third", "Fourth", "Fifth"];

fn fill(c: &mut Client) {
    for name in NAMES {
        c.cmd_ok(&format!("CREATE {name}"));
        c.append(name, "", b"Subject: old\r\n\r\nold\r\n");
    }
}

/// A client that idles on each, and the daemon at rest.
fn idling(world: &World) -> Vec<(Client, String)> {
    let idle = |name: &&str| {
        let mut c = world.client();
        c.cmd_ok(&format!("SELECT {name}"));
        let tag = c.idle();
        (c, tag)
    };
    let all = NAMES.iter().map(idle).collect();
    let mut before = (0, Instant::now());
    wait_for("the daemon to have nothing more to ask", || {
        if world.relay.up() != before.0 {
            before = (world.relay.up(), Instant::now());
        }
        before.1.elapsed() > Duration::from_secs(2)
    });
    all
}

#[test]
fn a_change_in_any_mailbox_is_told_in_under_a_second_and_once() {
    let world = World::new(Kind::Dovecot, fill);
    if world.is_straight() {
        return;
    }
    let mut all = idling(&world);
    let mut up = world.straight();
    let mut took = Vec::new();
    let mut timed = |c: &mut Client, pattern: &str, change: &mut dyn FnMut()| {
        let start = Instant::now();
        change();
        c.until(pattern);
        took.push(start.elapsed());
    };
    for (name, (c, _)) in NAMES.iter().zip(&mut all) {
        up.cmd_ok(&format!("SELECT {name}"));
        timed(c, "* 1 FETCH (<*>\\Flagged<*>)", &mut || {
            up.cmd_ok("STORE 1 +FLAGS.SILENT (\\Flagged)");
        });
        timed(c, "* 2 EXISTS", &mut || {
            up.append(name, "", b"Subject: new\r\n\r\nnew\r\n");
        });
        up.cmd_ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
        timed(c, "* 1 EXPUNGE", &mut || {
            up.cmd_ok("EXPUNGE");
        });
    }
    // The median: at any one moment this machine may be doing something else.
    took.sort();
    println!("{took:?}");
    assert!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
    for (mut c, tag) in all {
        let mut rest = c.done(&tag).lines();
        rest.extend(c.cmd_ok("NOOP").lines());
        assert!(!rest.iter().any(|line| line.contains("EXISTS") || line.contains("EXPUNGE")), "told twice: {rest:?}");
    }
}

#[test]
fn mailboxes_that_are_waited_for_cost_nothing_upstream() {
    let world = World::new(Kind::Dovecot, fill);
    if world.is_straight() {
        return;
    }
    let mut all = idling(&world);
    let (start, mut before) = (Instant::now(), (0, Instant::now()));
    // Longer than any two polls are apart.
    while before.1.elapsed() < Duration::from_secs(17) {
        assert!(start.elapsed() < 2 * PATIENCE, "octets towards upstream while nothing happens");
        assert_eq!(all[0].0.line_within(Duration::from_millis(100)), None);
        if world.relay.up() != before.0 {
            before = (world.relay.up(), Instant::now());
        }
    }
}
