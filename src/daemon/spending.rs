//! What one account spends, and whether it may: the budget behind the pool's and the engine's questions (Law 6).
//!
//! One value answers all of them: the pool asks for connections, logins and commands ([`Permits`]) and tells what went over the wire
//! ([`Meter`]), the engine asks before anything big ([`Allowance`]). The count of the last 24 hours is the durable state's. What stands
//! there runs ahead of what was spent, by a lead that follows use: it is written again when half of the lead is used or
//! [`SAVE_EVERY`] is over, and nobody reads or sends beyond it. So a crash forgets nothing, and counts at most one lead too
//! much, beside what was promised and under way.

mod view;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::problems::Problems;
use crate::budget::{self, Budget, Direction, Limits, Refused};
use crate::config;
use crate::engine::{Allowance, Error, Grant};
use crate::metrics::{AccountMetrics, Held};
use crate::state::{self, State};
use crate::upstream::{self, Class, Pacing, Permit, Permits};
use view::words;

mod meter;

/// How often the count is saved while anything is spent.
const SAVE_EVERY: Duration = Duration::from_secs(20);
/// The longest lead of the count on disk: below a hundredth of what the strictest provider grants in a day, and a second's worth of a
/// fast line between two flushes of the disk.
const LEAD_MOST: u64 = 4 << 20;
/// The shortest, for an account at rest.
const LEAD_LEAST: u64 = 64 << 10;
/// No more than such a part of a small limit.
const LEAD_PART: u64 = 50;
/// But this much in any case: one read from a socket.
const LEAD_FLOOR: u64 = 4 << 10;
/// A lead as long as this many times what was spent since the last save.
const LEAD_GROWTH: u64 = 4;
/// Who waits for the count to be saved goes on after this: a disk that hangs is no reason to leave mail unread.
const COVER_WAIT: Duration = Duration::from_secs(5);
/// And nobody waits for it again so soon.
const HOPELESS_FOR: Duration = Duration::from_secs(60);
/// A refusal is told as long as it is this young, and would be repeated.
const NOTICE_FOR: Duration = Duration::from_secs(600);
/// Logins in the long run: one every two seconds carries a bad line, and is no storm.
const LOGINS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("not zero");
/// Logins at once (spaced by the pool's pacing all the same): all connections of an account, several times over.
const LOGIN_BURST: NonZeroU32 = NonZeroU32::new(30).expect("not zero");
/// That the day's octets are spent is logged once in this time.
const TELL_EVERY: Duration = Duration::from_secs(3600);

/// One account's budget, its count and its metrics.
pub(super) struct Spending {
    address: String,
    budget: Budget,
    metrics: AccountMetrics,
    pacing: Pacing,
    connected: Mutex<Vec<Held>>,
    open: AtomicUsize,
    /// Octets recorded since the start, both ways.
    recorded: AtomicU64,
    saved: Mutex<Saved>,
    told: Mutex<Option<Instant>>,
    /// What was refused last to somebody who waited.
    refused: Mutex<Option<Wish>>,
    /// The count is to be saved now.
    save: Notify,
    /// It was.
    covered: Notify,
    /// The disk did not answer in time; until then it is not waited for.
    hopeless: Mutex<Option<Instant>>,
    lowered: Mutex<Lowered>,
    problems: Problems,
}

#[derive(Clone, Copy)]
struct Wish {
    direction: Direction,
    class: budget::Class,
    octets: u64,
    at: Instant,
}

#[derive(Clone, Copy)]
struct Saved {
    recorded: u64,
    at: Instant,
    /// The lead the count on disk was given, by direction.
    lead: [u64; 2],
}

/// The maximum of sessions as the provider's words have left it.
#[derive(Clone, Copy, Default)]
struct Lowered {
    maximum: Option<usize>,
    is_saved: bool,
}

impl fmt::Debug for Spending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spending").field(&self.address).finish()
    }
}

impl Spending {
    /// The budget of an account with what was counted before. Blocks.
    pub(super) fn load(
        address: &str,
        limits: &config::Limits,
        metrics: AccountMetrics,
        state: &State,
    ) -> Result<Self, state::Error> {
        let now = SystemTime::now();
        let budget = Budget::new(limits_of(limits), now);
        for direction in Direction::ALL {
            budget.import(direction, &state.load_ledger(&key(address), direction)?, now);
        }
        let lowered = state.value(&lowered_key(address))?;
        let lowered = lowered.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        let spending = Self {
            address: address.to_owned(),
            budget,
            metrics,
            pacing: Pacing::default(),
            connected: Mutex::default(),
            open: AtomicUsize::new(0),
            recorded: AtomicU64::new(0),
            saved: Mutex::new(Saved { recorded: 0, at: Instant::now(), lead: [0; 2] }),
            told: Mutex::default(),
            refused: Mutex::default(),
            save: Notify::new(),
            covered: Notify::new(),
            hopeless: Mutex::default(),
            lowered: Mutex::new(Lowered { maximum: lowered, is_saved: true }),
            problems: Problems::default(),
        };
        spending.save(state)?;
        Ok(spending)
    }

    /// The maximum of sessions the provider's words had left before.
    pub(super) fn lowered_before(&self) -> Option<usize> {
        self.lowered.lock().unwrap_or_else(PoisonError::into_inner).maximum
    }

    /// Takes new limits; what was spent stays spent.
    pub(super) fn set_limits(&self, limits: &config::Limits) {
        self.budget.set_limits(limits_of(limits), SystemTime::now());
    }

    /// Octets of the last 24 hours, and how many there may be.
    pub(super) fn used(&self, direction: Direction) -> (u64, Option<u64>) {
        (self.budget.used(direction, SystemTime::now()), self.budget.limit(direction))
    }

    /// Upstream sessions open now.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Octets both ways since the start.
    pub(super) fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    pub(super) fn metrics(&self) -> &AccountMetrics {
        &self.metrics
    }

    /// Whether the count is to be saved because of the time.
    pub(super) fn is_save_due(&self) -> bool {
        let saved = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let lowered = *self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        !lowered.is_saved || self.recorded() > saved.recorded && saved.at.elapsed() >= SAVE_EVERY
    }

    /// Resolves when the count is to be saved because of what was spent. Nothing is lost when it is given up.
    pub(super) async fn save_wanted(&self) {
        self.save.notified().await;
    }

    /// Saves the count with its lead. Blocks.
    pub(super) fn save(&self, state: &State) -> Result<(), state::Error> {
        let (recorded, before) = (self.recorded(), *self.saved.lock().unwrap_or_else(PoisonError::into_inner));
        let spent = recorded - before.recorded;
        let lead = Direction::ALL.map(|direction| self.lead(direction, spent));
        let done = self.save_with(state, lead);
        if done.is_ok() {
            *self.hopeless.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let saved = Saved { recorded, at: Instant::now(), lead };
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        }
        self.covered.notify_waiters();
        done
    }

    /// Saves the bare count: at an end in order, when nothing more will be spent. Blocks.
    pub(super) fn save_end(&self, state: &State) -> Result<(), state::Error> {
        self.save_with(state, [0; 2])
    }

    fn save_with(&self, state: &State, lead: [u64; 2]) -> Result<(), state::Error> {
        let lowered = *self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        if !lowered.is_saved {
            let text = lowered.maximum.map(|maximum| maximum.to_string());
            state.set_value(&lowered_key(&self.address), text.as_ref().map(String::as_bytes))?;
            let mut now = self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
            now.is_saved = now.maximum == lowered.maximum;
        }
        let now = SystemTime::now();
        // The keeper may be late by a tick or two.
        let until = now + SAVE_EVERY + SAVE_EVERY / 2;
        for (direction, lead) in Direction::ALL.into_iter().zip(lead) {
            let (entries, mark) = self.budget.export_ahead(direction, lead, now, until);
            state.save_ledger(&key(&self.address), direction, &entries)?;
            self.budget.set_covered(direction, mark);
        }
        Ok(())
    }

    /// How far the count on disk is to run ahead, `spent` octets after it was last written.
    fn lead(&self, direction: Direction, spent: u64) -> u64 {
        let most = self.budget.limit(direction).map_or(LEAD_MOST, |limit| (limit / LEAD_PART).min(LEAD_MOST));
        let most = most.max(LEAD_FLOOR);
        spent.saturating_mul(LEAD_GROWTH).clamp(LEAD_LEAST.min(most), most)
    }

    /// Asks for the next save in time; whether somebody who is about to spend has to wait for it.
    fn watch_headroom(&self) -> bool {
        let lead = self.saved.lock().unwrap_or_else(PoisonError::into_inner).lead;
        let mut is_out = false;
        for (direction, lead) in Direction::ALL.into_iter().zip(lead) {
            let headroom = self.budget.headroom(direction);
            if headroom < lead.max(LEAD_FLOOR) / 2 {
                self.save.notify_one();
            }
            is_out |= headroom < lead / 8 || headroom == 0;
        }
        is_out
    }

    fn reserve(&self, direction: Direction, class: budget::Class, octets: u64) -> Result<Grant, Error> {
        let now = SystemTime::now();
        match self.budget.reserve(direction, class, octets, now) {
            Ok(reservation) => Ok(Box::new(reservation)),
            Err(refused) => Err(Error::Limit(self.refusal(&refused, class, octets, now))),
        }
    }

    /// A refusal in words; remembered and told where somebody waits.
    fn refusal(&self, refused: &Refused, class: budget::Class, octets: u64, now: SystemTime) -> String {
        let words = words(refused, now);
        self.tell(class, &words);
        if matches!(class, budget::Class::Interactive | budget::Class::Bulk) {
            let wish = Wish { direction: refused.direction, class, octets, at: Instant::now() };
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(wish);
        }
        words
    }

    fn tell(&self, class: budget::Class, words: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Prefetch that stops in time for those who wait is the budget at work, and no news.
        if matches!(class, budget::Class::Interactive | budget::Class::Bulk)
            && told.is_none_or(|at| at.elapsed() >= TELL_EVERY)
        {
            *told = Some(Instant::now());
            warn!(account = %self.address, "{words}");
        }
    }

    fn record(&self, direction: Direction, octets: u64) {
        self.recorded.fetch_add(octets, Ordering::Relaxed);
        self.budget.record(direction, octets, SystemTime::now());
        self.watch_headroom();
    }
}

/// How the state names what the provider's words have left of the maximum of sessions.
fn lowered_key(address: &str) -> String {
    format!("lowered:{}", key(address))
}

/// How the state names an account: addresses are compared without case.
pub(super) fn key(address: &str) -> String {
    address.to_ascii_lowercase()
}

fn limits_of(limits: &config::Limits) -> Limits {
    Limits {
        connections: limits.connections,
        download_per_day: limits.download_per_day,
        upload_per_day: limits.upload_per_day,
        shares: limits.shares,
        commands_per_second: limits.commands_per_second,
        logins_per_minute: LOGINS_PER_MINUTE,
        login_burst: LOGIN_BURST,
    }
}

impl Permits for Spending {
    fn connection(&self) -> Result<Permit, upstream::Error> {
        self.may_talk()?;
        match self.budget.try_connection() {
            Some(permit) => Ok(Box::new(permit)),
            None => Err(upstream::Error::Budget("all connections of this account are in use".into())),
        }
    }

    fn login(&self) -> BoxFuture<'_, ()> {
        async {
            self.pacing.login().await;
            while let Err(wait) = self.budget.login(SystemTime::now()) {
                tokio::time::sleep(wait).await;
            }
        }
        .boxed()
    }

    fn command(&self) -> Result<Option<Duration>, upstream::Error> {
        self.may_talk()?;
        Ok(self.budget.command(SystemTime::now()).err())
    }

    fn is_covered(&self) -> bool {
        let is_out = self.watch_headroom();
        let hopeless = *self.hopeless.lock().unwrap_or_else(PoisonError::into_inner);
        !is_out || hopeless.is_some_and(|until| Instant::now() < until)
    }

    fn covered(&self) -> BoxFuture<'_, ()> {
        async {
            let covered = async {
                loop {
                    let saved = self.covered.notified();
                    if self.is_covered() {
                        return;
                    }
                    saved.await;
                }
            };
            if timeout(COVER_WAIT, covered).await.is_err() {
                warn!(account = %self.address, "the count of bytes is not saved in time: a crash would forget some");
                let until = Instant::now() + HOPELESS_FOR;
                *self.hopeless.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
            }
        }
        .boxed()
    }

    fn lowered(&self, maximum: Option<usize>) {
        let mut lowered = self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        *lowered = Lowered { maximum, is_saved: lowered.is_saved && lowered.maximum == maximum };
        drop(lowered);
        match maximum {
            Some(maximum) => {
                info!(account = %self.address, maximum, "the provider bears fewer connections than configured")
            }
            None => info!(account = %self.address, "all configured connections may be used again"),
        }
    }
}

impl Spending {
    fn may_talk(&self) -> Result<(), upstream::Error> {
        let now = SystemTime::now();
        self.budget
            .may_talk(now)
            .map_err(|refused| upstream::Error::Budget(self.refusal(&refused, budget::Class::Interactive, 1, now)))
    }
}

impl Allowance for Spending {
    fn download(&self, octets: u64, class: Class) -> Result<Grant, Error> {
        let class = match class {
            Class::Interactive => budget::Class::Interactive,
            Class::Bulk => budget::Class::Bulk,
            Class::Sync | Class::Watch => budget::Class::Sync,
            Class::Prefetch => budget::Class::Prefetch,
        };
        self.reserve(Direction::Download, class, octets)
    }

    fn upload(&self, octets: u64) -> Result<Grant, Error> {
        self.reserve(Direction::Upload, budget::Class::Interactive, octets)
    }

    fn is_slow(&self) -> bool {
        self.budget.is_slow(SystemTime::now())
    }

    fn notice(&self) -> Option<String> {
        let wish = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let Wish { direction, class, octets, .. } = wish.filter(|wish| wish.at.elapsed() < NOTICE_FOR)?;
        let now = SystemTime::now();
        self.budget.reserve(direction, class, octets, now).err().map(|refused| words(&refused, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::upstream::Meter as _;

    fn spending(state: &State, download: Option<u64>) -> Spending {
        let limits = config::Limits { connections: 2, download_per_day: download, ..config::Limits::default() };
        Spending::load("Ann@Example.org", &limits, Metrics::default().account("ann"), state).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_on_disk_is_ahead_of_what_was_spent() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        // What a crash now would leave to be counted.
        let kept = |direction| -> u64 {
            let entries = state.load_ledger("ann@example.org", direction).unwrap();
            entries.iter().map(|entry| entry.bytes).sum()
        };
        let first = spending(&state, Some(1_000_000));
        let lead = kept(Direction::Download);
        assert_eq!(lead, 20_000, "a fiftieth of the limit");
        assert!(first.is_covered() && !first.is_save_due(), "nothing was spent");
        first.received(9000);
        assert!(first.is_covered() && first.save_wanted().now_or_never().is_none());
        first.received(2000);
        assert!(first.is_covered() && first.save_wanted().now_or_never().is_some(), "half of the lead is used");
        first.received(9000);
        assert!(!first.is_covered(), "and now nearly all");
        assert!(kept(Direction::Download) >= 20_000);
        let mut waiting = std::pin::pin!(first.covered());
        assert!(waiting.as_mut().now_or_never().is_none());
        first.save(&state).unwrap();
        first.covered().await;
        assert_eq!(kept(Direction::Download), 40_000);
        // A promise is covered before it is used.
        let grant = Allowance::download(&first, 100_000, Class::Interactive).unwrap();
        assert!(!first.is_covered());
        first.save(&state).unwrap();
        assert_eq!(kept(Direction::Download), 140_000);
        drop(grant);
        first.sent(7);
        tokio::time::advance(SAVE_EVERY).await;
        assert!(first.is_save_due(), "time has passed");
        first.save(&state).unwrap();
        assert!(!first.is_save_due());
        // After a crash all of it counts; after an end in order what was spent.
        let again = spending(&state, Some(1_000_000));
        assert_eq!(again.used(Direction::Download), (40_000, Some(1_000_000)));
        first.save_end(&state).unwrap();
        let again = spending(&state, Some(1_000_000));
        assert_eq!(again.used(Direction::Download), (20_000, Some(1_000_000)));
        assert_eq!(again.used(Direction::Upload), (7, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_waited_for_so_long() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let spending = spending(&state, None);
        spending.received(LEAD_MOST * 2);
        let start = Instant::now();
        spending.covered().await;
        assert_eq!(start.elapsed(), COVER_WAIT);
        assert!(spending.is_covered(), "not again for a while");
        tokio::time::advance(HOPELESS_FOR).await;
        assert!(!spending.is_covered());
        spending.save(&state).unwrap();
        assert!(spending.is_covered());
    }

    #[tokio::test]
    async fn what_the_provider_bears_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let first = spending(&state, None);
        assert_eq!(first.lowered_before(), None);
        Permits::lowered(&first, Some(1));
        assert!(first.is_save_due());
        first.save(&state).unwrap();
        assert!(!first.is_save_due());
        let again = spending(&state, None);
        assert_eq!(again.lowered_before(), Some(1));
        Permits::lowered(&again, None);
        again.save(&state).unwrap();
        assert_eq!(spending(&state, None).lowered_before(), None);
    }

    #[tokio::test]
    async fn when_all_is_spent_nothing_is_opened_and_nothing_said() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let spending = spending(&state, Some(100_000));
        assert!(spending.connection().is_ok() && spending.command().is_ok() && spending.notice().is_none());
        spending.received(99_900);
        for refused in [spending.connection().err(), spending.command().err()] {
            let Some(upstream::Error::Budget(words)) = refused else { panic!("all is spent") };
            assert!(words.contains("100.0 kB in 24 hours") && words.contains(" UTC"), "{words}");
        }
        assert!(spending.notice().is_some_and(|words| words.contains("opens again in")));
        assert!(spending.is_slow());
    }

    #[tokio::test]
    async fn who_is_refused_is_told_when_to_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let spending = spending(&state, Some(100_000));
        assert!(spending.download(50_000, Class::Prefetch).is_ok());
        assert!(matches!(spending.download(50_001, Class::Prefetch), Err(Error::Limit(_))));
        assert!(matches!(spending.download(90_001, Class::Bulk), Err(Error::Limit(_))));
        let held = spending.download(99_000, Class::Interactive).unwrap();
        assert!(matches!(spending.download(1, Class::Interactive), Err(Error::Limit(_))));
        drop(held);
        spending.received(60_000);
        let Err(Error::Limit(words)) = spending.download(50_000, Class::Interactive) else { panic!("above the limit") };
        assert!(words.contains("100.0 kB in 24 hours") && words.contains(" h ") && words.contains(" UTC"), "{words}");
        assert!(spending.upload(u64::MAX / 2).is_ok(), "not limited");
        spending.set_limits(&config::Limits { connections: 1, upload_per_day: Some(10), ..config::Limits::default() });
        assert!(spending.download(50_000, Class::Interactive).is_ok());
        assert!(spending.upload(11).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn three_logins_take_a_second_and_a_storm_is_slowed() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let spending = spending(&state, None);
        let start = Instant::now();
        for _ in 0..3 {
            Permits::login(&spending).await;
        }
        assert!(start.elapsed() <= Duration::from_secs(1));
        let permits = (spending.connection().unwrap(), spending.connection().unwrap());
        assert!(matches!(spending.connection(), Err(upstream::Error::Budget(_))));
        drop(permits);
        assert!(spending.connection().is_ok());
    }
}
