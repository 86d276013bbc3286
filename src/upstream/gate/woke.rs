//! The gate behind its lock; and what a sleep of the machine means for an account: waits went on in it, and connections may have died
//! of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::GateState;

/// The gate of one account.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Gate {
    state: Mutex<GateState>,
    /// When the machine woke last.
    woken: watch::Sender<Option<Instant>>,
}

impl Gate {
    /// The state; held for moments only, never across an await.
    pub(in crate::upstream) fn lock(&self) -> MutexGuard<'_, GateState> {
        // Nothing that can panic runs under the lock; if it did, the state would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GateState {
    /// The machine has slept for so long, and the clock of all the waits stood still. Those of ours are over, as the network is another
    /// one; what the provider asked for has run on. A stop stays: it needs the user.
    pub(super) fn woke(&mut self, slept: Duration, now: Instant) {
        let earlier = |at: Instant| at.checked_sub(slept).unwrap_or(now).min(at);
        self.connecting = self.connecting.take().filter(|wait| wait.told);
        for wait in [&mut self.connecting, &mut self.speaking].into_iter().flatten() {
            wait.until = earlier(wait.until);
        }
        self.trickling = self.trickling.map(|(since, until)| (earlier(since), earlier(until)));
        self.kicked = self.kicked.map(earlier);
        self.lowered = self.lowered.map(|(maximum, until)| (maximum, earlier(until)));
    }
}

impl Gate {
    /// The machine has slept for so long.
    pub(in crate::upstream) fn woke(&self, slept: Duration) {
        let now = Instant::now();
        self.lock().woke(slept, now);
        self.woken.send_replace(Some(now));
    }

    /// When the machine woke last, and each time it does.
    pub(in crate::upstream) fn woken(&self) -> watch::Receiver<Option<Instant>> {
        self.woken.subscribe()
    }

    /// Whether the machine has slept since.
    pub(in crate::upstream) fn slept_since(&self, at: Instant) -> bool {
        self.woken.borrow().is_some_and(|woken| woken > at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::words::Meaning;

    #[test]
    fn waits_pass_in_a_sleep_and_stops_do_not() {
        let (now, hour) = (Instant::now() + Duration::from_secs(100_000), Duration::from_secs(3600));
        let after = |meaning, slept| {
            let mut gate = GateState::default();
            (0..8).for_each(|_| gate.connect_failed(Meaning::Ordinary, "no route", 0, now, 0.5));
            assert!(gate.may_connect(now).is_err());
            gate.connect_failed(meaning, "said so", 0, now, 0.5);
            gate.woke(slept, now);
            gate.may_connect(now).is_ok()
        };
        let table = [
            (Meaning::Ordinary, Duration::from_secs(60), true),
            (Meaning::Throttled(Some(hour)), Duration::from_secs(60), false),
            (Meaning::Throttled(Some(hour)), hour, true),
            (Meaning::Bandwidth(Some(hour)), hour / 2, false),
            (Meaning::Credentials, Duration::from_secs(60), false),
            (Meaning::Credentials, hour, true),
            (Meaning::AppPassword, hour * 100, false),
        ];
        for (meaning, slept, free) in table {
            assert_eq!(after(meaning, slept), free, "{meaning:?} after {slept:?}");
        }
    }
}
