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

/// Something that keeps us from the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// In words.
    pub why: String,
    /// How long until it is tried again, at most; `None`: not before the user acts.
    pub wait: Option<Duration>,
    /// The user is needed, though it may be tried again.
    pub needs_user: bool,
}

/// The pool at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub waits: Waits,
    /// The maximum the provider's words have left of the configured one; `None`: all of it.
    pub lowered: Option<usize>,
    /// Why nothing is asked of the provider now.
    pub blocked: Option<Blocked>,
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
        let stopped = gate.stopped().map(|why| Blocked { why: why.to_owned(), wait: None, needs_user: true });
        let blocked = stopped.or_else(|| match gate.may_connect(now) {
            Ok(()) => None,
            Err(Error::Unavailable { reason, retry_after }) => {
                Some(Blocked { why: reason, wait: Some(retry_after), needs_user: false })
            }
            // A refused login that is tried again by itself, much later.
            Err(Error::Login(why)) => Some(Blocked { why, wait: gate.connecting_in(now), needs_user: true }),
            Err(error) => Some(Blocked { why: error.to_string(), wait: Some(Duration::ZERO), needs_user: false }),
        });
        let resting = match gate.may_work_behind(now) {
            Err(Error::Unavailable { retry_after, .. }) => Some(retry_after),
            _ => None,
        };
        Standing { waits, lowered: gate.lowered(), blocked, resting }
    }
}
