//! Many clients write to one account at once, and nothing is lost, doubled or told wrongly: random runs with the seed printed, and kill -9.

use crate::everywhere;
use crate::harness::fleet::{Fleet, Role};
use crate::harness::mail::{self, Sizes};
use crate::harness::seed;
use crate::harness::world::{Kind, World};

everywhere!(the_fleet_writes_and_agrees);

/// Ten sessions through the daemon and one straight at the upstream, all of them reading and writing one mailbox.
fn the_fleet_writes_and_agrees(kind: Kind) {
    let world = World::new(kind, |c| mail::load(c, "INBOX", 19, 40, Sizes::Small));
    let mut fleet = Fleet::new(seed(51));
    for _ in 0..10 {
        fleet.join("through", Role::ReadsAndWrites, world.client());
    }
    fleet.join("straight", Role::ReadsAndWrites, world.straight());
    fleet.run(400);
    fleet.settle(world.straight());
}
