//! What the pool holds and who waits, for people who look at it.

use std::time::Duration;

use tokio::time::Instant;

use super::Pool;
use crate::upstream::error::Error;
use crate::upstream::types::Class;

/// How many wait for a session, by why they want it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Somebody looks at a screen.
    pub people: usize,
    /// Programs that download everything.
    pub bulk: usize,
    /// The mirror that is kept in step.
    pub sync: usize,
    pub prefetch: usize,
}

/// The pool at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub waits: Waits,
    /// The maximum the provider's words have left of the configured one; `None`: all of it.
    pub lowered: Option<usize>,
    /// Why nothing is asked of the provider now, and how long that lasts at most; no time where it needs the user.
    pub blocked: Option<(String, Option<Duration>)>,
    /// Only what somebody waits for is fetched, for so long.
    pub resting: Option<Duration>,
}

impl Pool {
    /// What stands in the way now, and who waits.
    pub fn standing(&self) -> Standing {
        let now = Instant::now();
        let mut waits = Waits::default();
        {
            let state = self.shared.lock();
            for waiter in state.waiting.iter().filter(|waiter| !waiter.answer.is_closed()) {
                match waiter.party.class {
                    Class::Interactive => waits.people += 1,
                    Class::Bulk => waits.bulk += 1,
                    Class::Sync => waits.sync += 1,
                    Class::Prefetch => waits.prefetch += 1,
                    // Watching is what is left to do when nothing else is.
                    Class::Watch => {}
                }
            }
        }
        // One lock at a time: the pool's is taken before the gate's elsewhere.
        let mut gate = self.shared.gate.lock();
        let stopped = gate.stopped().map(|reason| (reason.to_owned(), None));
        let blocked = stopped.or_else(|| match gate.may_connect(now) {
            Err(Error::Unavailable { reason, retry_after }) => Some((reason, Some(retry_after))),
            // A refused login that is tried again by itself, much later.
            Err(Error::Login(reason)) => Some((reason, gate.connecting_in(now))),
            Err(error) => Some((error.to_string(), Some(Duration::ZERO))),
            Ok(()) => None,
        });
        let resting = match gate.may_work_behind(now) {
            Err(Error::Unavailable { retry_after, .. }) => Some(retry_after),
            _ => None,
        };
        Standing { waits, lowered: gate.lowered(), blocked, resting }
    }
}
