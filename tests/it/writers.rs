//! Many clients write to one account at once, and nothing is lost, doubled or told wrongly: random runs with the seed printed, and kill -9.

mod killed;

use crate::everywhere;
use crate::harness::fleet::{ASIDE, Fleet, Role};
use crate::harness::mail::{self, Sizes};
use crate::harness::world::{Kind, World};
use crate::harness::{seed, steps};

everywhere!(the_fleet_writes_and_agrees);

/// Ten sessions through the daemon, three of them with QRESYNC, and one straight at the upstream, all of them reading and writing one mailbox.
fn the_fleet_writes_and_agrees(kind: Kind) {
    let world = World::new(kind, |c| {
        mail::load(c, "INBOX", 19, 40, Sizes::Small);
        c.cmd_ok(&format!("CREATE {ASIDE}"));
    });
    let mut fleet = Fleet::new(seed(51));
    let name = if world.is_straight() { "straight" } else { "through" };
    for n in 0..10 {
        if n % 3 == 2 {
            fleet.join_with_qresync(name, Role::Everything, world.client());
        } else {
            fleet.join(name, Role::Everything, world.client());
        }
    }
    fleet.join(if kind == Kind::Cyrus { "straight-cyrus" } else { "straight" }, Role::Everything, world.straight());
    fleet.run(steps(400));
    fleet.settle(world.straight());
}
