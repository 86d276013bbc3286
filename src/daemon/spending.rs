//! What one account spends, and whether it may: the budget behind the pool's and the engine's questions (Law 6).
//!
//! One value answers all of them: the pool asks for connections and logins ([`Permits`]) and tells what went over the wire ([`Meter`]), the
//! engine asks before anything big ([`Allowance`]). The count of the last 24 hours is the durable state's: read at start, saved every
//! [`SAVE_EVERY`] or as soon as much has come together, and at the end.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::warn;

use super::status::octets;
use crate::budget::{self, Budget, Direction, Limits, Refused};
use crate::config;
use crate::engine::{Allowance, Error, Grant};
use crate::metrics::{AccountMetrics, Held, Login};
use crate::state::{self, State};
use crate::upstream::{self, Class, Meter, Outcome, Pacing, Permit, Permits};

/// What a crash may forget to have been spent.
const SAVE_EVERY: Duration = Duration::from_secs(20);
/// So many octets are saved at once: below a hundredth of what the strictest provider grants in a day.
const SAVE_OCTETS: u64 = 4 << 20;
/// And so large a part of a small limit.
const SAVE_PART: u64 = 20;
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
}

#[derive(Clone, Copy)]
struct Saved {
    recorded: u64,
    at: Instant,
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
        Ok(Self {
            address: address.to_owned(),
            budget,
            metrics,
            pacing: Pacing::default(),
            connected: Mutex::default(),
            open: AtomicUsize::new(0),
            recorded: AtomicU64::new(0),
            saved: Mutex::new(Saved { recorded: 0, at: Instant::now() }),
            told: Mutex::default(),
        })
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

    /// Brings the metrics of the budget up to date.
    pub(super) fn refresh_metrics(&self) {
        let (used, limit) = self.used(Direction::Download);
        self.metrics.set_download(used, limit);
        let (used, limit) = self.used(Direction::Upload);
        self.metrics.set_upload(used, limit);
    }

    /// Whether so much has been spent, or so long ago, that the count is to be saved.
    pub(super) fn is_save_due(&self) -> bool {
        let saved = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let unsaved = self.recorded() - saved.recorded;
        let much = Direction::ALL
            .into_iter()
            .filter_map(|direction| self.budget.limit(direction))
            .fold(SAVE_OCTETS, |much, limit| much.min(limit / SAVE_PART));
        unsaved > 0 && (unsaved >= much || saved.at.elapsed() >= SAVE_EVERY)
    }

    /// Saves the count. Blocks.
    pub(super) fn save(&self, state: &State) -> Result<(), state::Error> {
        let (recorded, now) = (self.recorded(), SystemTime::now());
        for direction in Direction::ALL {
            state.save_ledger(&key(&self.address), direction, &self.budget.export(direction, now))?;
        }
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Saved { recorded, at: Instant::now() };
        Ok(())
    }

    fn reserve(&self, direction: Direction, class: budget::Class, octets: u64) -> Result<Grant, Error> {
        let now = SystemTime::now();
        match self.budget.reserve(direction, class, octets, now) {
            Ok(reservation) => Ok(Box::new(reservation)),
            Err(refused) => {
                let words = words(&refused, now);
                self.tell(class, &words);
                Err(Error::Limit(words))
            }
        }
    }

    fn tell(&self, class: budget::Class, words: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Prefetch that stops in time for those who wait is the budget at work, and no news.
        if class == budget::Class::Interactive && told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            warn!(account = %self.address, "{words}");
        }
    }

    fn record(&self, direction: Direction, octets: u64) {
        self.recorded.fetch_add(octets, Ordering::Relaxed);
        self.budget.record(direction, octets, SystemTime::now());
    }
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
        logins_per_minute: LOGINS_PER_MINUTE,
        login_burst: LOGIN_BURST,
    }
}

/// For a mail program to show.
fn words(refused: &Refused, now: SystemTime) -> String {
    let minutes = refused.retry_after.as_secs().div_ceil(60);
    let wait = match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    };
    let at = OffsetDateTime::from(now + refused.retry_after);
    format!(
        "The {} allowance of this account ({} in 24 hours) is used up; it opens again in {wait}, at {:02}:{:02} UTC",
        refused.direction.as_str(),
        octets(refused.limit),
        at.hour(),
        at.minute(),
    )
}

impl Meter for Spending {
    fn received(&self, octets: u64) {
        self.record(Direction::Download, octets);
        self.metrics.received(octets);
    }

    fn sent(&self, octets: u64) {
        self.record(Direction::Upload, octets);
        self.metrics.sent(octets);
    }

    fn login(&self, outcome: Outcome) {
        self.metrics.login(match outcome {
            Outcome::Ok => Login::Ok,
            Outcome::Refused | Outcome::Limited => Login::Refused,
            Outcome::Failed => Login::Failed,
        });
    }

    fn connections(&self, open: usize) {
        self.open.store(open, Ordering::Relaxed);
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.resize_with(open, || self.metrics.connection());
    }
}

impl Permits for Spending {
    fn connection(&self) -> Result<Permit, upstream::Error> {
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
}

impl Allowance for Spending {
    fn download(&self, octets: u64, class: Class) -> Result<Grant, Error> {
        let class = match class {
            Class::Interactive => budget::Class::Interactive,
            Class::Sync | Class::Prefetch | Class::Watch => budget::Class::Background,
        };
        self.reserve(Direction::Download, class, octets)
    }

    fn upload(&self, octets: u64) -> Result<Grant, Error> {
        self.reserve(Direction::Upload, budget::Class::Interactive, octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn spending(state: &State, download: Option<u64>) -> Spending {
        let limits = config::Limits { connections: 2, download_per_day: download, upload_per_day: None };
        Spending::load("Ann@Example.org", &limits, Metrics::default().account("ann"), state).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_is_saved_in_time_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let first = spending(&state, Some(1_000_000));
        assert!(!first.is_save_due(), "nothing was spent");
        first.received(1000);
        assert!(!first.is_save_due());
        tokio::time::advance(SAVE_EVERY).await;
        assert!(first.is_save_due(), "time has passed");
        first.save(&state).unwrap();
        assert!(!first.is_save_due());
        first.received(50_000);
        assert!(first.is_save_due(), "a twentieth of the limit");
        first.sent(7);
        first.save(&state).unwrap();
        first.received(1);
        let again = spending(&state, Some(1_000_000));
        assert_eq!(again.used(Direction::Download), (51_000, Some(1_000_000)));
        assert_eq!(again.used(Direction::Upload), (7, None));
    }

    #[tokio::test]
    async fn who_is_refused_is_told_when_to_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let spending = spending(&state, Some(100_000));
        assert!(spending.download(80_000, Class::Prefetch).is_ok());
        assert!(matches!(spending.download(80_001, Class::Prefetch), Err(Error::Limit(_))));
        let held = spending.download(100_000, Class::Interactive).unwrap();
        assert!(matches!(spending.download(1, Class::Interactive), Err(Error::Limit(_))));
        drop(held);
        spending.received(60_000);
        let Err(Error::Limit(words)) = spending.download(50_000, Class::Interactive) else { panic!("above the limit") };
        assert!(words.contains("100.0 kB in 24 hours") && words.contains(" h ") && words.contains(" UTC"), "{words}");
        assert!(spending.upload(u64::MAX / 2).is_ok(), "not limited");
        spending.set_limits(&config::Limits { connections: 1, download_per_day: None, upload_per_day: Some(10) });
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
