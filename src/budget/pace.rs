//! Logins a minute, commands a second.

use std::time::{Duration, SystemTime};

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::{Quota, RateLimiter};

use super::Limits;

/// So many of something in a time: governor, with its clock led by `now`.
pub(super) struct Pace {
    limiter: RateLimiter<
        governor::state::NotKeyed,
        governor::state::InMemoryState,
        FakeRelativeClock,
        governor::middleware::NoOpMiddleware<<FakeRelativeClock as governor::clock::Clock>::Instant>,
    >,
    clock: FakeRelativeClock,
    last: SystemTime,
}

impl Pace {
    pub(super) fn of_logins(limits: &Limits, now: SystemTime) -> Self {
        Self::new(Quota::per_minute(limits.logins_per_minute).allow_burst(limits.login_burst), now)
    }

    /// A second's worth may be said at once: what a mail program does when it opens a mailbox comes in one go.
    pub(super) fn of_commands(limits: &Limits, now: SystemTime) -> Option<Self> {
        limits.commands_per_second.map(|rate| Self::new(Quota::per_second(rate), now))
    }

    fn new(quota: Quota, now: SystemTime) -> Self {
        let clock = FakeRelativeClock::default();
        Self { limiter: RateLimiter::direct_with_clock(quota, clock.clone()), clock, last: now }
    }

    pub(super) fn take(&mut self, now: SystemTime) -> Result<(), Duration> {
        // A clock set back makes a pause, not an error.
        self.clock.advance(now.duration_since(self.last).unwrap_or(Duration::ZERO));
        self.last = now;
        self.limiter.check().map_err(|refused| refused.wait_time_from(self.clock.now()))
    }
}
