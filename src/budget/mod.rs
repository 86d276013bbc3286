//! What an account may use of its provider: connections, logins, bytes per rolling day (Law 6).
//!
//! A provider that is asked for too much locks the account, for everybody, for hours. So nothing is spent without
//! having asked here first: a connection holds a permit and gives it back on drop; a login and a command wait for their turn; bytes
//! are counted in a window of 24 hours that survives a restart (`state/` keeps it). What a person asks for may go to the
//! limit; everything else stops earlier ([`Class`], [`Shares`]), so that a message is not refused because of a prefetch.
//!
//! The count on disk runs ahead of the count here ([`Budget::export_ahead`]): whoever is about to spend what it does not cover waits
//! until it was written ([`Budget::headroom`]), so a crash forgets nothing.
//!
//! Everything that depends on time takes `now` (Law 9). Wall time, because the window goes on while we do not run.

mod connections;
mod ledger;
mod marks;
mod sends;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::{Quota, RateLimiter};

pub use connections::ConnectionPermit;
use connections::Connections;
pub use ledger::Entry;
use ledger::Ledger;
pub use sends::{SendLimits, Sends};

/// What is left of a limit for what cannot be promised beforehand: answers' own words, a greeting, what comes unasked. A hundredth,
const FLOOR_PART: u64 = 100;
/// and no more than this.
const FLOOR_MOST: u64 = 1 << 20;

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

    fn index(self) -> usize {
        match self {
            Self::Download => 0,
            Self::Upload => 1,
        }
    }

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
    /// A mail program that downloads everything: up to the reserve.
    Bulk,
    /// The mirror kept in step: slowly above [`Shares::sync`], up to the reserve.
    Sync,
    /// Nobody: bodies fetched before they are asked for. Up to [`Shares::prefetch`].
    Prefetch,
}

/// How far each class may go, in percent of what the provider grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Where prefetch stops.
    pub prefetch: u8,
    /// From where on synchronisation goes slowly.
    pub sync: u8,
    /// The last part, for what a person asks for.
    pub reserve: u8,
}

impl Default for Shares {
    fn default() -> Self {
        Self { prefetch: 50, sync: 80, reserve: 10 }
    }
}

/// So many percent of a limit, for limits near the end of the numbers too.
fn part(limit: u64, percent: u8) -> u64 {
    let percent = u64::from(percent.min(100));
    limit / 100 * percent + limit % 100 * percent / 100
}

/// What is kept back of a limit, see [`FLOOR_PART`].
fn floor(limit: u64) -> u64 {
    (limit / FLOOR_PART).min(FLOOR_MOST)
}

/// What the provider grants, from the configuration and the preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Upstream connections at once, at least 1.
    pub connections: u32,
    /// Bytes in 24 hours; `None`: not limited.
    pub download_per_day: Option<u64>,
    pub upload_per_day: Option<u64>,
    pub shares: Shares,
    /// Commands a second in the long run, where the provider counts them.
    pub commands_per_second: Option<NonZeroU32>,
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
    /// What the account may use in 24 hours, in bytes.
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
    /// Bytes counted since the start, and how far that count is covered by what was written down.
    total: [u64; 2],
    covered: [u64; 2],
    logins: Pace,
    commands: Option<Pace>,
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
        let shares = self.limits.shares;
        self.limits.of(direction).map(|limit| match class {
            Class::Interactive => limit - floor(limit),
            Class::Bulk | Class::Sync => limit - part(limit, shares.reserve).max(floor(limit)),
            Class::Prefetch => part(limit, shares.prefetch),
        })
    }

    fn count(&mut self, direction: Direction, bytes: u64, now: SystemTime) {
        let total = &mut self.total[direction.index()];
        *total = total.saturating_add(bytes);
        self.ledger(direction).add(bytes, now);
    }

    fn headroom(&self, direction: Direction) -> u64 {
        let at = direction.index();
        let [total, promised, covered] = [self.total, self.promised, self.covered].map(|of| of[at]);
        covered.saturating_sub(total.saturating_add(promised))
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
        let spending = Spending {
            logins: Pace::of_logins(&limits, now),
            commands: Pace::of_commands(&limits, now),
            limits,
            download: Ledger::default(),
            upload: Ledger::default(),
            promised: [0; 2],
            total: [0; 2],
            covered: [0; 2],
        };
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
        let logins = |limits: &Limits| (limits.logins_per_minute, limits.login_burst);
        if logins(&limits) != logins(&spending.limits) {
            spending.logins = Pace::of_logins(&limits, now);
        }
        if limits.commands_per_second != spending.limits.commands_per_second {
            spending.commands = Pace::of_commands(&limits, now);
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

    /// The same for a command, where the provider counts them.
    pub fn command(&self, now: SystemTime) -> Result<(), Duration> {
        self.spending().commands.as_mut().map_or(Ok(()), |pace| pace.take(now))
    }

    /// Whether there is anything left to say a word with: neither direction is spent.
    ///
    /// # Errors
    /// [`Refused`] by the direction that is; then nothing at all is to be sent, and no connection opened.
    pub fn may_talk(&self, now: SystemTime) -> Result<(), Refused> {
        let mut spending = self.spending();
        for direction in Direction::ALL {
            let Some(limit) = spending.limits.of(direction) else { continue };
            let promised = *spending.promised(direction);
            let ledger = spending.ledger(direction);
            if ledger.wait(promised.saturating_add(1), limit - floor(limit) / 2, now).is_some() {
                let retry_after = ledger.wait(1, limit - floor(limit) / 2, now).unwrap_or(PROMISED_WAIT);
                return Err(Refused { direction, limit, retry_after });
            }
        }
        Ok(())
    }

    /// Whether so much of the day is spent that synchronisation goes slowly.
    pub fn is_slow(&self, now: SystemTime) -> bool {
        let mut spending = self.spending();
        let share = spending.limits.shares.sync;
        Direction::ALL.into_iter().any(|direction| {
            let limit = spending.limits.of(direction);
            limit.is_some_and(|limit| spending.ledger(direction).used(now) >= part(limit, share))
        })
    }

    /// Bytes counted in the last 24 hours (to ten minutes).
    pub fn used(&self, direction: Direction, now: SystemTime) -> u64 {
        self.spending().ledger(direction).used(now)
    }

    /// Bytes allowed in 24 hours.
    pub fn limit(&self, direction: Direction) -> Option<u64> {
        self.spending().limits.of(direction)
    }

    /// Bytes of the last 24 hours, hour by hour, the oldest first; together they are what [`Budget::used`] counts. Counted in steps
    /// of ten minutes, so an hour is that to ten minutes.
    pub fn hours(&self, direction: Direction, now: SystemTime) -> [u64; 24] {
        self.spending().ledger(direction).hours(now)
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
                let limit = spending.limits.of(direction).unwrap_or(limit);
                return Err(Refused { direction, limit, retry_after });
            }
        }
        spending.count(direction, bytes, now);
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
                let limit = spending.limits.of(direction).unwrap_or(limit);
                return Err(Refused { direction, limit, retry_after });
            }
        }
        *spending.promised(direction) = promised.saturating_add(bytes);
        drop(spending);
        Ok(Reservation { budget: self.clone(), direction, bytes })
    }

    /// Counts bytes that have gone over the wire unasked: answers longer than thought, the protocol's own.
    pub fn record(&self, direction: Direction, bytes: u64, now: SystemTime) {
        self.spending().count(direction, bytes, now);
    }

    /// Takes back what was spent and not used: the download ended early. Newest first, never below nothing.
    pub fn give_back(&self, direction: Direction, bytes: u64) {
        self.spending().ledger(direction).give_back(bytes);
    }

    /// What is counted, for the durable state. At most 145 entries.
    pub fn export(&self, direction: Direction, now: SystemTime) -> Vec<Entry> {
        self.spending().ledger(direction).export(now)
    }

    /// What is to be written down so that a crash forgets nothing: what is counted, what is promised, and `lead` bytes more, in the
    /// bucket that `until` falls into; `until` is when it will have been written again. When it is written, [`Budget::set_covered`] is to be
    /// told the second value.
    pub fn export_ahead(
        &self,
        direction: Direction,
        lead: u64,
        now: SystemTime,
        until: SystemTime,
    ) -> (Vec<Entry>, u64) {
        let mut spending = self.spending();
        let ahead = spending.promised[direction.index()].saturating_add(lead);
        let mut entries = spending.ledger(direction).export(now);
        let last = Entry { begin: ledger::bucket(until), bytes: ahead };
        match entries.last_mut() {
            Some(entry) if entry.begin == last.begin => entry.bytes = entry.bytes.saturating_add(ahead),
            _ if ahead > 0 => entries.push(last),
            _ => {}
        }
        (entries, spending.total[direction.index()].saturating_add(ahead))
    }

    /// The count up to `mark` is written down.
    pub fn set_covered(&self, direction: Direction, mark: u64) {
        self.spending().covered[direction.index()] = mark;
    }

    /// Bytes that may be spent before the count has to be written again, beside what is promised.
    pub fn headroom(&self, direction: Direction) -> u64 {
        self.spending().headroom(direction)
    }

    /// Adds what an earlier run has counted. To be called once, before anything is spent.
    pub fn import(&self, direction: Direction, entries: &[Entry], now: SystemTime) {
        self.spending().ledger(direction).import(entries, now);
    }
}

/// So many of something in a time: governor, with its clock led by `now`.
struct Pace {
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
    fn of_logins(limits: &Limits, now: SystemTime) -> Self {
        Self::new(Quota::per_minute(limits.logins_per_minute).allow_burst(limits.login_burst), now)
    }

    /// A second's worth may be said at once: what a mail program does when it opens a mailbox comes in one go.
    fn of_commands(limits: &Limits, now: SystemTime) -> Option<Self> {
        limits.commands_per_second.map(|rate| Self::new(Quota::per_second(rate), now))
    }

    fn new(quota: Quota, now: SystemTime) -> Self {
        let clock = FakeRelativeClock::default();
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
            shares: Shares::default(),
            commands_per_second: None,
            logins_per_minute: NonZeroU32::new(6).unwrap(),
            login_burst: NonZeroU32::new(3).unwrap(),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_200 + seconds)
    }

    #[test]
    fn each_class_stops_where_its_share_ends() {
        use Class::{Bulk, Interactive, Prefetch, Sync};
        let budget = Budget::new(limits(), at(0));
        let spend = |class, bytes, when| budget.try_spend(Direction::Download, class, bytes, at(when));
        let steps = [
            (Prefetch, 501, 0, false),
            (Prefetch, 500, 0, true),
            (Prefetch, 1, 1, false),
            (Sync, 400, 1, true),
            (Sync, 1, 1, false),
            (Bulk, 1, 1, false),
            (Interactive, 89, 2, true),
            (Interactive, 2, 3, false),
            (Interactive, 1, 4, true),
            (Interactive, 1, 5, false),
            (Interactive, 0, 6, true),
            (Prefetch, 1, 86_400, false),
            (Prefetch, 500, 86_400 + 600, true),
            (Bulk, 300, 86_400 + 600, true),
        ];
        for (class, bytes, when, granted) in steps {
            assert_eq!(spend(class, bytes, when).is_ok(), granted, "{class:?} {bytes} at {when}");
        }
        let refused = spend(Interactive, 500, 86_400 + 600).unwrap_err();
        assert_eq!(refused.to_string(), "today's download limit of 1000 bytes is used up; try again in 1450 minutes");
        assert_eq!(refused.retry_after, Duration::from_secs(86_400 + 600));
        budget.give_back(Direction::Download, 300);
        assert_eq!(budget.used(Direction::Download, at(86_400 + 601)), 500);
        assert!(spend(Interactive, 490, 86_400 + 601).is_ok());
        assert!(budget.try_spend(Direction::Upload, Prefetch, u64::MAX / 2, at(0)).is_ok(), "not limited");
    }

    #[test]
    fn what_is_promised_is_promised_once_and_not_counted() {
        let budget = Budget::new(limits(), at(0));
        let reserve = |class, bytes| budget.reserve(Direction::Download, class, bytes, at(1));
        let first = reserve(Class::Sync, 500).unwrap();
        assert_eq!(budget.used(Direction::Download, at(1)), 0);
        assert_eq!(reserve(Class::Bulk, 401).err().unwrap().retry_after, PROMISED_WAIT);
        let second = reserve(Class::Interactive, 490).unwrap();
        assert!(reserve(Class::Interactive, 1).is_err());
        budget.record(Direction::Download, 500, at(1));
        drop((first, second));
        assert!(reserve(Class::Interactive, 491).is_err_and(|refused| refused.retry_after > PROMISED_WAIT));
        assert!(reserve(Class::Interactive, 490).is_ok());
        assert!(budget.reserve(Direction::Upload, Class::Prefetch, u64::MAX, at(1)).is_ok(), "not limited");
    }

    #[test]
    fn shares_are_percents_of_any_limit() {
        let table = [(0, 0, 0), (1, 0, 1), (99, 49, 90), (100, 50, 90), (2_500_000_000, 1_250_000_000, 2_250_000_000)];
        for (limit, prefetch, sync) in table {
            for (class, most) in [(Class::Prefetch, prefetch), (Class::Sync, sync), (Class::Bulk, sync)] {
                let budget = Budget::new(Limits { download_per_day: Some(limit), ..limits() }, at(0));
                let spend = |bytes| budget.try_spend(Direction::Download, class, bytes, at(0));
                assert_eq!(spend(most + 1).unwrap_err().limit, limit, "{limit} {class:?}");
                assert!(spend(most).is_ok(), "{limit} {class:?}");
            }
        }
        let own = Shares { prefetch: 10, sync: 20, reserve: 70 };
        let budget = Budget::new(Limits { shares: own, ..limits() }, at(0));
        assert!(budget.try_spend(Direction::Download, Class::Prefetch, 101, at(0)).is_err());
        assert!(budget.try_spend(Direction::Download, Class::Bulk, 301, at(0)).is_err());
        assert!(!budget.is_slow(at(0)));
        budget.record(Direction::Download, 200, at(0));
        assert!(budget.is_slow(at(0)) && !budget.is_slow(at(90_000)));
        let budget = Budget::new(Limits { download_per_day: Some(u64::MAX), ..limits() }, at(0));
        assert!(budget.try_spend(Direction::Download, Class::Prefetch, 1 << 62, at(0)).is_ok());
    }

    #[test]
    fn when_all_is_spent_not_a_word_is_said() {
        let budget = Budget::new(Limits { download_per_day: Some(100_000), ..limits() }, at(0));
        budget.record(Direction::Download, 99_000, at(0));
        assert_eq!(budget.may_talk(at(0)), Ok(()), "what cannot be promised lives off the floor");
        budget.record(Direction::Download, 500, at(0));
        let refused = budget.may_talk(at(0)).unwrap_err();
        assert_eq!((refused.direction, refused.limit), (Direction::Download, 100_000));
        assert_eq!(budget.may_talk(at(0) + refused.retry_after), Ok(()));
        let upload = Budget::new(Limits { upload_per_day: Some(100), ..limits() }, at(0));
        upload.record(Direction::Upload, 100, at(0));
        assert_eq!(upload.may_talk(at(0)).unwrap_err().direction, Direction::Upload);
    }

    #[test]
    fn the_count_on_disk_runs_ahead() {
        let (budget, down) = (Budget::new(limits(), at(0)), Direction::Download);
        assert_eq!(budget.headroom(down), 0, "nothing is covered before it was written once");
        budget.record(down, 100, at(0));
        let (entries, mark) = budget.export_ahead(down, 50, at(0), at(20));
        assert_eq!(entries.iter().map(|entry| entry.bytes).sum::<u64>(), 150);
        assert_eq!(budget.headroom(down), 0, "not yet written");
        budget.set_covered(down, mark);
        assert_eq!(budget.headroom(down), 50);
        let promise = budget.reserve(down, Class::Interactive, 40, at(0)).unwrap();
        assert_eq!(budget.headroom(down), 10);
        budget.record(down, 40, at(0));
        drop(promise);
        assert_eq!(budget.headroom(down), 10);
        // A promise is written down with the count, and the lead stands in the bucket it may be spent in.
        let _promise = budget.reserve(down, Class::Interactive, 300, at(590)).unwrap();
        let (entries, mark) = budget.export_ahead(down, 50, at(590), at(610));
        let first = at(0).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 600 * 600;
        assert_eq!(entries, [Entry { begin: first, bytes: 140 }, Entry { begin: first + 600, bytes: 350 }]);
        budget.set_covered(down, mark);
        assert_eq!(budget.headroom(down), 50);
        // After a crash it all counts.
        let again = Budget::new(limits(), at(595));
        again.import(down, &entries, at(595));
        assert_eq!(again.used(down, at(595)), 490);
    }

    #[test]
    fn commands_are_paced_where_they_are_counted() {
        let budget = Budget::new(Limits { commands_per_second: NonZeroU32::new(2), ..limits() }, at(0));
        assert!(budget.command(at(0)).is_ok() && budget.command(at(0)).is_ok());
        assert_eq!(budget.command(at(0)), Err(Duration::from_millis(500)));
        assert!(budget.command(at(1)).is_ok());
        budget.set_limits(limits(), at(1));
        for _ in 0..100 {
            assert!(budget.command(at(1)).is_ok(), "not counted");
        }
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
