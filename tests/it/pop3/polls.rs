//! Programs that ask every minute, and what that costs the provider: nothing.

use super::{login, world};
use crate::harness::mail::{self, Sizes};
use crate::harness::wait_for;

const CLIENTS: usize = 20;
const POLLS: usize = 50;

#[test]
fn a_thousand_polls_cost_upstream_nothing() {
    let Some(world) = world("", |c| mail::load(c, "INBOX", 113, 100, Sizes::Small)) else { return };
    let daemon = world.daemon();
    login(daemon, "").ok("QUIT");
    // The watcher is connected when what happens upstream is told without being asked for.
    let mut straight = world.straight();
    straight.append("INBOX", "", b"Subject: watched\r\n\r\n");
    wait_for("the watcher", || login(daemon, "").stat().0 == 101);
    let mut imap = world.client();
    imap.cmd_ok("SELECT INBOX");
    imap.idle();
    straight.append("INBOX", "", b"Subject: pushed\r\n\r\n");
    imap.until("* 102 EXISTS");
    drop(imap);
    settled(|| world.relay.up());
    let (up, accepted) = (world.relay.up(), world.relay.accepted());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut uidl = Vec::new();
                for poll in 0..POLLS {
                    let mut pop = login(daemon, &format!("+client{client}"));
                    assert_eq!(pop.stat().0, 102);
                    let ids = pop.list("UIDL");
                    assert!(poll == 0 || ids == uidl, "ids change");
                    uidl = ids;
                    assert_eq!(pop.list("LIST").len(), 102);
                    pop.ok("QUIT");
                }
            });
        }
    });
    assert_eq!((world.relay.up(), world.relay.accepted()), (up, accepted), "commands were sent upstream");
    assert_eq!(
        daemon.metric("mailweir_commands_total", &["protocol=\"pop3\"", "command=\"uidl\"", "outcome=\"ok\""]),
        1000.0
    );
    wait_for("the sessions to end", || daemon.metric("mailweir_client_sessions", &["pop3"]) < 0.5);
}

/// Waits until a count has not changed over many looks.
fn settled(mut count: impl FnMut() -> u64) {
    let (mut last, mut same) = (count(), 0);
    wait_for("the talk with upstream to end", || {
        let now = count();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same >= 200
    });
}
