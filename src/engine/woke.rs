//! After a sleep of the machine ([`crate::net::wake`]): what was true before it is not believed, and everything is looked at at once.

use std::sync::PoisonError;

use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep};

use super::account::{Account, Inner};

impl Account {
    /// The machine has slept for so long. Watchers give their sessions back, and every session has to show that it lives; the keepers go
    /// round; that upstream was reached is as long ago as it is.
    pub fn woke(&self, slept: Duration) {
        self.inner.woke(slept);
    }
}

impl Inner {
    pub(super) fn woke(&self, slept: Duration) {
        {
            let mut seen = self.last_seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = seen.and_then(|at| at.checked_sub(slept));
        }
        self.pool.woke(slept);
    }

    /// Sleeps so long, or until the machine has slept: a keeper that did not look since goes round.
    pub(super) async fn rest(woken: &mut watch::Receiver<Option<Instant>>, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            Ok(()) = woken.changed() => {}
        }
    }
}
