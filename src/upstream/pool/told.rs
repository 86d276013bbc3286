//! What the pool tells of itself: who waits, how long it was, and on whose behalf a session works now.

use tokio::time::{Instant, timeout};
use tracing::debug_span;

use super::{Pool, State, all_in_use, patience};
use crate::upstream::error::Error;
use crate::upstream::lease::Lease;
use crate::upstream::types::Class;

impl Pool {
    /// That the provider has refused the login, in its words: nothing is tried before a later time, or before the user acts.
    pub fn refused(&self) -> Option<String> {
        self.shared.gate.lock().refused(Instant::now())
    }

    /// Waits so long as the class bears, and tells how long it was. From then on log lines of the session are those of this lease, on
    /// whose behalf it was asked for.
    pub(super) async fn timed(
        &self,
        class: Class,
        mailbox: Option<&str>,
        lease: impl Future<Output = Result<Lease, Error>>,
    ) -> Result<Lease, Error> {
        let began = Instant::now();
        let mut lease = timeout(patience(class), lease).await.unwrap_or_else(|_| Err(all_in_use()));
        self.shared.config.meter.waited(class, began.elapsed());
        if let Ok(lease) = &mut lease {
            // Below info: there is one for each exchange or two.
            lease.session.span =
                debug_span!("lease", id = lease.id, account = %self.shared.config.label, ?class, mailbox);
        }
        lease
    }
}

impl State {
    /// How many wait, by class in its order.
    pub(super) fn waiting(&self) -> [usize; 5] {
        let mut waiting = [0; 5];
        for waiter in &self.waiting {
            if let Some(count) = waiting.get_mut(waiter.party.class.index()) {
                *count += 1;
            }
        }
        waiting
    }
}
