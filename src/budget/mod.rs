//! What an account may use of its provider: connections, logins, bytes per rolling day (Law 6).
//!
//! A provider that is asked for too much locks the account, for everybody, for hours. So nothing is spent without
//! having asked here first: a connection holds a permit and gives it back on drop; a login waits for its turn; bytes
//! are counted in a window of 24 hours that survives a restart (`state/` keeps it). Interactive work may go to the
//! limit; background work stops earlier, so that what a person asks for is not refused because of a prefetch.
//!
//! Everything that depends on time takes `now` (Law 9). Wall time, because the window goes on while we do not run.

mod connections;
mod ledger;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::{Quota, RateLimiter};

pub use connections::ConnectionPermit;
use connections::Connections;
pub use ledger::Entry;
use ledger::Ledger;

/// Part of a day's bytes that background work leaves alone, in percent.
const RESERVE: u64 = 20;

/// When to come back if only running transfers are in the way.
const PROMISED_WAIT: Duration = Duration::from_secs(60);

/// Which way the bytes go, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Download,
    Upload,
}

impl Direction {
    pub const ALL: [Self; 2] = [Self::Download, Self::Upload];

    /// The word used in metrics, in the state and towards people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

/// Who waits for the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A person, through a mail program: up to the limit.
    Interactive,
    /// Nobody: synchronisation ahead of need, prefetch. Stops a fifth below the limit.
    Background,
}

/// What the provider grants, from the configuration and the preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Upstream connections at once, at least 1.
    pub connections: u32,
    /// Bytes in 24 hours; `None`: not limited.
    pub download_per_day: Option<u64>,
    pub upload_per_day: Option<u64>,
    /// Logins a minute in the long run.
    pub logins_per_minute: NonZeroU32,
    /// Logins at once, when none was made for a while.
    pub login_burst: NonZeroU32,
}

impl Limits {
    fn of(&self, direction: Direction) -> Option<u64> {
        match direction {
            Direction::Download => self.download_per_day,
            Direction::Upload => self.upload_per_day,
        }
    }
}

/// The day's bytes are spent; in words a mail program can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("today's {} limit of {limit} bytes is used up; try again in {} minutes", direction.as_str(), minutes(*retry_after))]
pub struct Refused {
    pub direction: Direction,
    /// What this class may use in 24 hours, in bytes.
    pub limit: u64,
    /// When so many bytes will be free again, if nothing else is spent.
    pub retry_after: Duration,
}

fn minutes(wait: Duration) -> u64 {
    wait.as_secs().div_ceil(60)
}

/// One account's budget. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

struct Inner {
    connections: Connections,
    spending: Mutex<Spending>,
}

struct Spending {
    limits: Limits,
    download: Ledger,
    upload: Ledger,
    /// Bytes set aside and not gone over the wire yet: download, upload.
    promised: [u64; 2],
    logins: Logins,
}

impl Spending {
    fn ledger(&mut self, direction: Direction) -> &mut Ledger {
        match direction {
            Direction::Download => &mut self.download,
            Direction::Upload => &mut self.upload,
        }
    }

    fn promised(&mut self, direction: Direction) -> &mut u64 {
        let [download, upload] = &mut self.promised;
        match direction {
            Direction::Download => download,
            Direction::Upload => upload,
        }
    }

    /// What a class may use in 24 hours.
    fn limit_for(&self, direction: Direction, class: Class) -> Option<u64> {
        self.limits.of(direction).map(|limit| match class {
            Class::Interactive => limit,
            // In this order for limits near the end of the numbers.
            Class::Background => limit - limit / 100 * RESERVE - limit % 100 * RESERVE / 100,
        })
    }
}

/// Bytes set aside until they have gone over the wire, and are counted there.
#[must_use = "set aside only while it is held"]
pub struct Reservation {
    budget: Budget,
    direction: Direction,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut spending = self.budget.spending();
        let promised = spending.promised(self.direction);
        *promised = promised.saturating_sub(self.bytes);
    }
}

impl Budget {
    pub fn new(limits: Limits, now: SystemTime) -> Self {
        let connections = Connections::new(limits.connections);
        let logins = Logins::new(&limits, now);
        let spending =
            Spending { limits, download: Ledger::default(), upload: Ledger::default(), promised: [0; 2], logins };
        Self { inner: Arc::new(Inner { connections, spending: Mutex::new(spending) }) }
    }

    fn spending(&self) -> MutexGuard<'_, Spending> {
        // Every change is a single step of arithmetic, so a panic elsewhere leaves nothing half done.
        self.inner.spending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New limits after a reload. Connections above the new limit stay until they end; what was spent stays spent.
    pub fn set_limits(&self, limits: Limits, now: SystemTime) {
        self.inner.connections.resize(limits.connections);
        let mut spending = self.spending();
        let paces = |limits: &Limits| (limits.logins_per_minute, limits.login_burst);
        if paces(&limits) != paces(&spending.limits) {
            spending.logins = Logins::new(&limits, now);
        }
        spending.limits = limits;
    }

    /// Waits for a free connection, in order.
    pub async fn connection(&self) -> ConnectionPermit {
        self.inner.connections.take().await
    }

    /// A connection if one is free and nobody waits for it.
    pub fn try_connection(&self) -> Option<ConnectionPermit> {
        self.inner.connections.try_take()
    }

    /// Connections in use.
    pub fn connections_used(&self) -> u32 {
        self.inner.connections.used()
    }

    /// Asks for a login; if refused, for how long to wait before asking again.
    pub fn login(&self, now: SystemTime) -> Result<(), Duration> {
        self.spending().logins.take(now)
    }

    /// Bytes counted in the last 24 hours (to ten minutes).
    pub fn used(&self, direction: Direction, now: SystemTime) -> u64 {
        self.spending().ledger(direction).used(now)
    }

    /// Bytes allowed in 24 hours.
    pub fn limit(&self, direction: Direction) -> Option<u64> {
        self.spending().limits.of(direction)
    }

    /// Counts the bytes, if they are within what this class may use.
    ///
    /// # Errors
    /// [`Refused`], and nothing is counted.
    pub fn try_spend(&self, direction: Direction, class: Class, bytes: u64, now: SystemTime) -> Result<(), Refused> {
        let mut spending = self.spending();
        if let Some(limit) = spending.limit_for(direction, class) {
            let wait = spending.ledger(direction).wait(bytes, limit, now);
            if let Some(retry_after) = wait {
                return Err(Refused { direction, limit, retry_after });
            }
        }
        spending.ledger(direction).add(bytes, now);
        Ok(())
    }

    /// Sets bytes aside for what is about to be fetched or sent, if they are within what this class may use. They are not
    /// counted: what really goes over the wire is ([`Budget::record`]). Until the reservation is dropped nobody else is
    /// promised them; bytes of it that have arrived by then weigh twice for that while, which errs on the safe side.
    ///
    /// # Errors
    /// [`Refused`], and nothing is set aside.
    pub fn reserve(
        &self,
        direction: Direction,
        class: Class,
        bytes: u64,
        now: SystemTime,
    ) -> Result<Reservation, Refused> {
        let mut spending = self.spending();
        let promised = *spending.promised(direction);
        if let Some(limit) = spending.limit_for(direction, class) {
            let ledger = spending.ledger(direction);
            if ledger.wait(promised.saturating_add(bytes), limit, now).is_some() {
                // In the way may be no more than what is promised to others: that ends within moments.
                let retry_after = ledger.wait(bytes, limit, now).unwrap_or(PROMISED_WAIT);
                return Err(Refused { direction, limit, retry_after });
            }
        }
        *spending.promised(direction) = promised.saturating_add(bytes);
        drop(spending);
        Ok(Reservation { budget: self.clone(), direction, bytes })
    }

    /// Counts bytes that have gone over the wire unasked: answers longer than thought, the protocol's own.
    pub fn record(&self, direction: Direction, bytes: u64, now: SystemTime) {
        self.spending().ledger(direction).add(bytes, now);
    }

    /// Takes back what was spent and not used: the download ended early. Newest first, never below nothing.
    pub fn give_back(&self, direction: Direction, bytes: u64) {
        self.spending().ledger(direction).give_back(bytes);
    }

    /// What is counted, for the durable state. At most 145 entries.
    pub fn export(&self, direction: Direction, now: SystemTime) -> Vec<Entry> {
        self.spending().ledger(direction).export(now)
    }

    /// Adds what an earlier run has counted. To be called once, before anything is spent.
    pub fn import(&self, direction: Direction, entries: &[Entry], now: SystemTime) {
        self.spending().ledger(direction).import(entries, now);
    }
}

/// The pace of logins: governor, with its clock led by `now`.
struct Logins {
    limiter: RateLimiter<
        governor::state::NotKeyed,
        governor::state::InMemoryState,
        FakeRelativeClock,
        governor::middleware::NoOpMiddleware<<FakeRelativeClock as governor::clock::Clock>::Instant>,
    >,
    clock: FakeRelativeClock,
    last: SystemTime,
}

impl Logins {
    fn new(limits: &Limits, now: SystemTime) -> Self {
        let clock = FakeRelativeClock::default();
        let quota = Quota::per_minute(limits.logins_per_minute).allow_burst(limits.login_burst);
        Self { limiter: RateLimiter::direct_with_clock(quota, clock.clone()), clock, last: now }
    }

    fn take(&mut self, now: SystemTime) -> Result<(), Duration> {
        // A clock set back makes a pause, not an error.
        self.clock.advance(now.duration_since(self.last).unwrap_or(Duration::ZERO));
        self.last = now;
        self.limiter.check().map_err(|refused| refused.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            connections: 2,
            download_per_day: Some(1000),
            upload_per_day: None,
            logins_per_minute: NonZeroU32::new(6).unwrap(),
            login_burst: NonZeroU32::new(3).unwrap(),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_200 + seconds)
    }

    #[test]
    fn background_work_cannot_touch_the_reserve() {
        use Class::{Background, Interactive};
        let budget = Budget::new(limits(), at(0));
        let spend = |class, bytes, when| budget.try_spend(Direction::Download, class, bytes, at(when));
        let steps = [
            (Background, 800, 0, true),
            (Background, 1, 1, false),
            (Interactive, 199, 2, true),
            (Interactive, 2, 3, false),
            (Interactive, 1, 4, true),
            (Interactive, 1, 5, false),
            (Interactive, 0, 6, true),
            (Background, 1, 86_400, false),
            (Background, 800, 86_400 + 600, true),
        ];
        for (class, bytes, when, granted) in steps {
            assert_eq!(spend(class, bytes, when).is_ok(), granted, "{class:?} {bytes} at {when}");
        }
        let refused = spend(Interactive, 500, 86_400 + 600).unwrap_err();
        assert_eq!(refused.to_string(), "today's download limit of 1000 bytes is used up; try again in 1450 minutes");
        assert_eq!(refused.retry_after, Duration::from_secs(86_400 + 600));
        budget.give_back(Direction::Download, 300);
        assert_eq!(budget.used(Direction::Download, at(86_400 + 601)), 500);
        assert!(spend(Interactive, 500, 86_400 + 601).is_ok());
        assert!(budget.try_spend(Direction::Upload, Background, u64::MAX / 2, at(0)).is_ok(), "not limited");
    }

    #[test]
    fn what_is_promised_is_promised_once_and_not_counted() {
        let budget = Budget::new(limits(), at(0));
        let reserve = |class, bytes| budget.reserve(Direction::Download, class, bytes, at(1));
        let first = reserve(Class::Background, 500).unwrap();
        assert_eq!(budget.used(Direction::Download, at(1)), 0);
        assert_eq!(reserve(Class::Background, 301).err().unwrap().retry_after, PROMISED_WAIT);
        let second = reserve(Class::Interactive, 500).unwrap();
        assert!(reserve(Class::Interactive, 1).is_err());
        budget.record(Direction::Download, 500, at(1));
        drop((first, second));
        assert!(reserve(Class::Interactive, 501).is_err_and(|refused| refused.retry_after > PROMISED_WAIT));
        assert!(reserve(Class::Interactive, 500).is_ok());
        assert!(budget.reserve(Direction::Upload, Class::Background, u64::MAX, at(1)).is_ok(), "not limited");
    }

    #[test]
    fn the_reserve_is_a_fifth_of_any_limit() {
        for (limit, background) in [(0, 0), (1, 1), (99, 80), (100, 80), (2_500_000_000, 2_000_000_000)] {
            let budget = Budget::new(Limits { download_per_day: Some(limit), ..limits() }, at(0));
            let spend = |bytes| budget.try_spend(Direction::Download, Class::Background, bytes, at(0));
            assert_eq!(spend(background + 1).unwrap_err().limit, background, "{limit}");
            assert!(spend(background).is_ok(), "{limit}");
        }
        let budget = Budget::new(Limits { download_per_day: Some(u64::MAX), ..limits() }, at(0));
        assert!(budget.try_spend(Direction::Download, Class::Background, 1 << 62, at(0)).is_ok());
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let budget = Budget::new(limits(), at(0));
        budget.record(Direction::Download, 600, at(0));
        budget.record(Direction::Download, 300, at(40_000));
        let kept = budget.export(Direction::Download, at(50_000));
        let again = Budget::new(limits(), at(60_000));
        again.import(Direction::Download, &kept, at(60_000));
        assert_eq!(again.used(Direction::Download, at(60_000)), 900);
        assert_eq!(again.used(Direction::Download, at(90_000)), 300, "the older part has left the window");
    }

    #[test]
    fn logins_are_paced() {
        let budget = Budget::new(limits(), at(0));
        for _ in 0..3 {
            assert_eq!(budget.login(at(0)), Ok(()), "the burst");
        }
        assert_eq!(budget.login(at(0)), Err(Duration::from_secs(10)));
        assert_eq!(budget.login(at(4)), Err(Duration::from_secs(6)));
        assert_eq!(budget.login(at(10)), Ok(()));
        assert_eq!(budget.login(at(5)), Err(Duration::from_secs(10)), "a clock set back");
        assert_eq!(budget.login(at(1000)), Ok(()));
    }

    #[tokio::test]
    async fn connections_come_back_and_limits_change() {
        let budget = Budget::new(limits(), at(0));
        let (one, two) = (budget.connection().await, budget.connection().await);
        assert!(budget.try_connection().is_none());
        budget.set_limits(Limits { connections: 1, ..limits() }, at(1));
        drop(one);
        assert!(budget.try_connection().is_none(), "one is in use, and one is allowed");
        assert_eq!(budget.connections_used(), 1);
        drop(two);
        let one = budget.try_connection().unwrap();
        assert!(budget.try_connection().is_none());
        budget.set_limits(Limits { connections: 3, ..limits() }, at(2));
        let more = (budget.try_connection().unwrap(), budget.try_connection().unwrap());
        assert!(budget.try_connection().is_none());
        assert_eq!(budget.connections_used(), 3);
        drop((one, more));
        assert_eq!(budget.connections_used(), 0);
    }
}
