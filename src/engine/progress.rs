//! What an account is doing, for who looks at it: first readings under way, mailboxes and how far they are, where bodies came from.
//!
//! Plain counts behind short locks; nothing here is asked by the work itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Duration, Instant};

use super::account::{Account, Inner};
use super::mailbox::Watched;
use crate::metrics::BodyRead;

/// An estimate is told when so much is read: before that it says more of the first packet than of the line.
const ESTIMATE_FROM: Duration = Duration::from_millis(500);

/// How far the first reading of a mailbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub mailbox: Arc<str>,
    pub messages: u64,
    /// How many there are.
    pub of: u64,
    /// How much longer it takes at the pace so far; unknown at the very beginning.
    pub left: Option<Duration>,
}

/// The first readings that are under way: as many as there are sessions, at most.
#[derive(Debug, Default)]
pub(crate) struct Readings(Mutex<HashMap<Arc<str>, Run>>);

#[derive(Clone, Copy, Debug)]
struct Run {
    began: Instant,
    /// Messages that were here when it began: an earlier attempt's.
    first: u64,
    messages: u64,
    of: u64,
}

impl Run {
    fn left(&self, now: Instant) -> Option<Duration> {
        let took = now.saturating_duration_since(self.began);
        let read = self.messages.saturating_sub(self.first);
        if took < ESTIMATE_FROM || read == 0 {
            return None;
        }
        let missing = self.of.saturating_sub(self.messages);
        // Both are counts of messages, far below where a float loses whole numbers.
        Duration::try_from_secs_f64(took.as_secs_f64() * missing as f64 / read as f64).ok()
    }
}

/// A reading under way; over when it is dropped.
#[must_use = "told only while it is held"]
pub(crate) struct Running<'a> {
    readings: &'a Readings,
    mailbox: Arc<str>,
}

impl Readings {
    /// Begins to tell of a reading that has `messages` of `of` from an earlier attempt.
    pub(crate) fn begin(&self, mailbox: &Arc<str>, messages: u64, of: u64) -> Running<'_> {
        let run = Run { began: Instant::now(), first: messages, messages, of };
        self.lock().insert(Arc::clone(mailbox), run);
        Running { readings: self, mailbox: Arc::clone(mailbox) }
    }

    /// What is under way, by name.
    pub(crate) fn all(&self) -> Vec<Progress> {
        let now = Instant::now();
        let progress = |(mailbox, run): (&Arc<str>, &Run)| Progress {
            mailbox: Arc::clone(mailbox),
            messages: run.messages,
            of: run.of,
            left: run.left(now),
        };
        let mut all: Vec<Progress> = self.lock().iter().map(progress).collect();
        all.sort_by(|a, b| a.mailbox.cmp(&b.mailbox));
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running<'_> {
    /// So many are read now, of so many.
    pub(crate) fn step(&self, messages: u64, of: u64) {
        if let Some(run) = self.readings.lock().get_mut(&self.mailbox) {
            (run.messages, run.of) = (messages.min(of), of);
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.readings.lock().remove(&self.mailbox);
    }
}

/// Where this account's bodies came from, since the start.
#[derive(Debug, Default)]
pub(crate) struct ReadCounts([AtomicU64; 4]);

/// Messages read by mail programs and by prefetch, by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// From the cache.
    pub hit: u64,
    /// Fetched from upstream.
    pub filled: u64,
    /// From a download that was running already.
    pub joined: u64,
    /// Not to be had.
    pub refused: u64,
}

/// A mailbox at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// As upstream names it.
    pub mailbox: Arc<str>,
    pub messages: u64,
    /// It was read whole; until then it cannot be served.
    pub known: bool,
    /// Upstream tells of changes as they happen.
    pub live: bool,
    /// Since it was last seen to agree with upstream.
    pub checked: Option<Duration>,
}

impl Inner {
    /// Counts a body read, in the metrics and here.
    pub(crate) fn body_read(&self, read: BodyRead) {
        self.metrics.body_read(read);
        let [hit, filled, joined, refused] = &self.reads.0;
        let count = match read {
            BodyRead::Hit => hit,
            BodyRead::Filled => filled,
            BodyRead::Joined => joined,
            BodyRead::Refused => refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Account {
    /// The first readings of mailboxes that are under way.
    pub fn readings(&self) -> Vec<Progress> {
        self.inner.readings.all()
    }

    /// Where bodies came from since the start.
    pub fn reads(&self) -> Reads {
        let [hit, filled, joined, refused] = [0, 1, 2, 3].map(|at: usize| {
            let counts = &self.inner.reads.0;
            counts.get(at).map_or(0, |count| count.load(Ordering::Relaxed))
        });
        Reads { hit, filled, joined, refused }
    }

    /// Every mailbox of the list that can hold messages, in the list's order; empty until the list is known.
    pub fn overview(&self) -> Vec<Overview> {
        let Some(folders) = self.inner.folders.newest() else { return Vec::new() };
        let folders = folders.list.iter().filter(|folder| !folder.noselect);
        let overview = folders.map(|folder| {
            let state = self.inner.known_state(&folder.name);
            let state = state.as_deref();
            Overview {
                mailbox: Arc::clone(&folder.name),
                messages: state.map_or(0, |state| u64::from(state.snapshot().messages.len())),
                known: state.is_some_and(super::mailbox::State::is_known),
                live: state.is_some_and(|state| state.watched() == Watched::Live),
                checked: state.and_then(|state| state.checked()).map(|at| at.elapsed()),
            }
        });
        overview.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_follows_the_pace() {
        let readings = Readings::default();
        let name: Arc<str> = "INBOX".into();
        let running = readings.begin(&name, 1000, 5000);
        let left = || readings.all().first().and_then(|progress| progress.left);
        assert_eq!(left(), None, "nothing is known of the line yet");
        tokio::time::advance(Duration::from_secs(10)).await;
        running.step(2000, 5000);
        assert_eq!(left(), Some(Duration::from_secs(30)), "what an earlier attempt read does not count for the pace");
        running.step(9000, 5000);
        assert_eq!(readings.all()[0].messages, 5000, "never more than all");
        drop(running);
        assert_eq!(readings.all(), []);
    }
}
