//! Unique ids where the provider names messages itself (EMAILID, RFC 8474): Cyrus, whose ids are made of what a message holds.

use std::collections::BTreeMap;

use super::{login, world_of};
use crate::harness::client::Client;
use crate::harness::daemon::Daemon;
use crate::harness::mail;
use crate::harness::relay::Link;
use crate::harness::wait_for;
use crate::harness::world::{Kind, World};

const MAILBOX: &str = "Orders";

/// Puts this message and those after it into the mailbox, made anew.
fn fill(c: &mut Client, first: usize) {
    c.cmd_ok(&format!("CREATE {MAILBOX}"));
    for n in first..12 {
        c.append(MAILBOX, "", &mail::big(n as u64, 2_000 + 100 * n));
    }
}

fn validity(world: &World) -> String {
    let lines = world.straight().cmd_ok(&format!("EXAMINE {MAILBOX}")).lines().join("\n");
    lines.split("UIDVALIDITY ").nth(1).and_then(|rest| rest.split(']').next()).expect("a UIDVALIDITY").to_owned()
}

/// Messages by unique id.
fn maildrop(daemon: &Daemon, device: &str) -> BTreeMap<String, Vec<u8>> {
    let mut pop = login(daemon, device);
    let ids = pop.list("UIDL");
    ids.into_iter().map(|(number, id)| (id, pop.multi(&format!("RETR {number}")))).collect()
}

#[test]
fn an_emailid_outlasts_a_new_uidvalidity() {
    let pop3 = format!("mailbox = \"{MAILBOX}\"");
    let Some(mut world) = world_of(Kind::Cyrus, Link::default(), &pop3, |c| fill(c, 0)) else { return };
    let offered = world.straight().cmd_ok("CAPABILITY").lines().join(" ");
    assert!(offered.contains(" OBJECTID"), "{offered}");
    let first = maildrop(world.daemon(), "");
    assert_eq!(first.len(), 12);
    assert!(first.keys().all(|id| id.bytes().all(|b| b.is_ascii_digit())), "no number of this mailbox: {first:?}");
    // Another device deletes five.
    let mut pop = login(world.daemon(), "+laptop");
    (1..=5).for_each(|number| drop(pop.ok(&format!("DELE {number}"))));
    pop.ok("QUIT");
    let left = maildrop(world.daemon(), "+laptop");
    assert_eq!(left.len(), 7);

    // The mailbox goes and comes back, as after a provider's repair, without its first message: no number is what it was.
    let before = validity(&world);
    let mut c = world.straight();
    c.cmd_ok(&format!("DELETE {MAILBOX}"));
    fill(&mut c, 1);
    assert_ne!(validity(&world), before);
    let daemon = world.daemon();
    wait_for("the mailbox to be read anew", || login(daemon, "").stat().0 == 11);
    let again = maildrop(daemon, "");
    assert_eq!(again.len(), 11);
    assert!(again.iter().all(|(id, raw)| first.get(id) == Some(raw)), "every id names what it named");
    assert_eq!(maildrop(daemon, "+laptop"), left, "what a device has deleted stays deleted for it");
    assert!(daemon.bodies_filled() < 12.5, "and no message was fetched again: {}", daemon.bodies_filled());

    world.daemon_mut().kill();
    world.daemon_mut().drop_cache();
    world.daemon_mut().restart();
    assert_eq!(maildrop(world.daemon(), ""), again, "the ids are the provider's, not ours");
    assert_eq!(maildrop(world.daemon(), "+laptop"), left);
}
