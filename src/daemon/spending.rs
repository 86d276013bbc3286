//! What one account spends, and whether it may: the budget behind the pool's and the engine's questions (Law 6).
//!
//! One value answers all of them: the pool asks for connections, logins and commands ([`crate::upstream::Permits`]) and tells what went over the wire
//! ([`crate::upstream::Meter`]), the engine asks before anything big ([`crate::engine::Allowance`]). The count of the last 24 hours is the durable state's. What stands
//! there runs ahead of what was spent by at most one flush interval, and never behind it (`saving`, and the rule in [`crate::budget`]).

mod meter;
mod roles;
mod saving;
mod sending;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::problems::Problems;
use crate::budget::{self, Budget, Counted, Direction, Limits, Refused, SendLimits};
use crate::config;
use crate::engine::{Error, Grant};
use crate::metrics::{AccountMetrics, Held};
use crate::net;
use crate::provider::Quirk;
use crate::state::{self, State};
use crate::upstream::Pacing;
use saving::{Lowered, Saved, Saving, lowered_key};
use sending::{RESTARTS, Sending};
use view::{clock, words};

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
    /// Taken by whoever writes to the disk.
    saving: Mutex<Saving>,
    saved: Mutex<Saved>,
    told: Mutex<Option<Instant>>,
    /// What was refused last to somebody who waited.
    refused: Mutex<Option<Wish>>,
    /// The count is to be saved now.
    save: Notify,
    /// By direction: with less headroom than this it is.
    short_below: [AtomicU64; 2],
    /// That was asked for, and nobody has begun to.
    is_asked: AtomicBool,
    /// It was.
    covered: Notify,
    /// How many wait for that.
    waiting: AtomicUsize,
    /// The disk did not answer in time; until then it is not waited for.
    hopeless: Mutex<Option<Instant>>,
    lowered: Mutex<Lowered>,
    problems: Problems,
    sending: Mutex<Sending>,
}

#[derive(Clone, Copy)]
struct Wish {
    direction: Direction,
    class: budget::Class,
    octets: u64,
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
            budget.import(direction, &state.load_ledger(&key(address), Counted::Bytes(direction))?, now);
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
            saving: Mutex::default(),
            saved: Mutex::new(Saved { at: Instant::now(), total: [0; 2], lead: [0; 2] }),
            told: Mutex::default(),
            refused: Mutex::default(),
            save: Notify::new(),
            short_below: Default::default(),
            is_asked: AtomicBool::new(false),
            covered: Notify::new(),
            waiting: AtomicUsize::new(0),
            hopeless: Mutex::default(),
            lowered: Mutex::new(Lowered { maximum: lowered, is_saved: true }),
            problems: Problems::default(),
            sending: Mutex::new(Sending::load(address, state, now)?),
        };
        spending.sending().limits = send_limits_of(limits);
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
        self.sending().limits = send_limits_of(limits);
    }

    /// Learns what is odd about the account's provider.
    pub(super) fn set_quirks(&self, quirks: &[Quirk]) {
        self.sending().restarts = quirks.contains(&RESTARTS);
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
        let headroom = self.budget.record(direction, octets, SystemTime::now());
        self.watch_headroom(direction, headroom);
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
        shares: limits.shares,
        commands_per_second: limits.commands_per_second,
        logins_per_minute: LOGINS_PER_MINUTE,
        login_burst: LOGIN_BURST,
        unread_most: net::unread_most(),
    }
}

fn send_limits_of(limits: &config::Limits) -> SendLimits {
    SendLimits { messages_per_day: limits.messages_per_day, recipients_per_day: limits.recipients_per_day }
}
