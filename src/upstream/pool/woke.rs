//! After a sleep of the machine.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Pool;

impl Pool {
    /// The machine has slept for so long. Every session is in doubt until it has answered: those at rest are asked at once, those that
    /// idle are given back, and what waits for an answer waits some seconds more. Waits that would have ended in the sleep are over.
    pub fn woke(&self, slept: Duration) {
        self.shared.gate.woke(slept);
        let mut state = self.shared.lock();
        self.shared.pump(&mut state);
    }

    /// When the machine woke last, and each time it does.
    pub fn woken(&self) -> watch::Receiver<Option<Instant>> {
        self.shared.gate.woken()
    }
}
