//! How the count comes to the disk, and when: the rule is the budget's ([`crate::budget`]), the lead is chosen here.
//!
//! The lead is what crosses in a second at the pace of the moment, 16 KiB to 1 MiB. The count is written again when half of it is used, when it is
//! longer than the pace asks for, and in any case while anything is spent. Only where the disk does not answer for seconds is the rule
//! given up, and said so in the log.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, TryLockError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout};
use tracing::warn;

use super::sending::stopped_key;
use super::{Spending, key};
use crate::budget::{Counted, Direction};
use crate::state::{self, State};

/// A flush interval: the lead is what crosses in this time at the pace of the moment.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest lead: below a thousandth of what the strictest provider grants in a day, and at 50 MB/s a save every ten milliseconds.
pub(super) const LEAD_MOST: u64 = 1 << 20;
/// The shortest, for an account at rest: a few looks.
pub(super) const LEAD_LEAST: u64 = 16 << 10;
/// No more than such a part of a small limit,
const LEAD_PART: u64 = 50;
/// but this much in any case: one read from a socket.
const LEAD_FLOOR: u64 = 4 << 10;
/// What an end in order counts more: a session that is cut in the middle of an answer leaves some hundred octets unread.
pub(super) const END_LEAD: u64 = 4 << 10;
/// How often the count is saved while little is spent.
pub(super) const SAVE_EVERY: Duration = Duration::from_secs(20);
/// Who waits for the count to be saved goes on after this: a disk that hangs is no reason to leave mail unread.
pub(super) const COVER_WAIT: Duration = Duration::from_secs(5);
/// And nobody waits for it again so soon.
pub(super) const HOPELESS_FOR: Duration = Duration::from_secs(60);

/// Whether the count may be saved with a lead.
#[derive(Default)]
pub(super) enum Saving {
    #[default]
    Goes,
    Ended,
}

#[derive(Clone, Copy)]
pub(super) struct Saved {
    pub(super) at: Instant,
    /// By direction: octets counted by then, and the lead the count on disk was given.
    pub(super) total: [u64; 2],
    pub(super) lead: [u64; 2],
}

/// The maximum of sessions as the provider's words have left it.
#[derive(Clone, Copy, Default)]
pub(super) struct Lowered {
    pub(super) maximum: Option<usize>,
    pub(super) is_saved: bool,
}

impl Spending {
    /// The account's work begins, or begins again after [`Spending::save_end`].
    pub(in crate::daemon) fn begin(&self) {
        *self.saving.lock().unwrap_or_else(PoisonError::into_inner) = Saving::Goes;
        self.save.notify_one();
    }

    /// Whether the count is to be saved because of the time: something was spent, or the lead is longer than the pace asks for.
    pub(in crate::daemon) fn is_save_due(&self) -> bool {
        let saved = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let lowered = *self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        let age = saved.at.elapsed();
        let is_long =
            || Direction::ALL.into_iter().zip(self.leads(saved)).zip(saved.lead).any(|((_, now), then)| now < then / 2);
        !lowered.is_saved
            || age >= INTERVAL && is_long()
            || age >= SAVE_EVERY && Direction::ALL.map(|direction| self.budget.total(direction)) != saved.total
    }

    /// Resolves when the count is to be saved because of what was spent. Nothing is lost when it is given up.
    pub(in crate::daemon) async fn save_wanted(&self) {
        loop {
            self.save.notified().await;
            // Before the look: what is counted after it asks again, and what was counted before is seen.
            self.is_asked.store(false, Ordering::SeqCst);
            // What was asked for may have been done meanwhile.
            if self.is_short() {
                self.is_asked.store(true, Ordering::SeqCst);
                return;
            }
            self.covered.notify_waiters();
        }
    }

    /// Saves the count with its lead. Blocks.
    pub(in crate::daemon) fn save(&self, state: &State) -> Result<(), state::Error> {
        // Held while the disk is written to, in a thread of its own: two saves must not overtake each other.
        let saving = match self.saving.try_lock() {
            Ok(saving) => saving,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // One hangs at the disk: another thread that waits for it would help nobody.
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        if matches!(*saving, Saving::Ended) {
            return Ok(());
        }
        self.is_asked.store(false, Ordering::SeqCst);
        let before = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let lead = self.leads(before);
        let (at, total) = (Instant::now(), Direction::ALL.map(|direction| self.budget.total(direction)));
        let done = self.save_with(state, lead);
        if done.is_ok() {
            *self.hopeless.lock().unwrap_or_else(PoisonError::into_inner) = None;
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Saved { at, total, lead };
            for (below, lead) in self.short_below.iter().zip(lead) {
                below.store(short_below(lead), Ordering::Relaxed);
            }
        }
        self.covered.notify_waiters();
        done
    }

    /// Saves the count at an end in order. Nothing crosses a socket any more until [`Spending::begin`]; what a session that was cut in the
    /// middle of an answer left unread is within [`END_LEAD`]. Blocks.
    pub(in crate::daemon) fn save_end(&self, state: &State) -> Result<(), state::Error> {
        let mut saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        *saving = Saving::Ended;
        self.save_with(state, [END_LEAD, 0])
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
        let (mut counts, mut marks) = (Vec::new(), Vec::new());
        for (direction, lead) in Direction::ALL.into_iter().zip(lead) {
            let (entries, mark) = self.budget.export_ahead(direction, lead, now, until);
            counts.push((Counted::Bytes(direction), entries));
            marks.push((direction, mark));
        }
        let sent = self.sending().export(now);
        let is_new = !self.sending().is_saved();
        if is_new {
            let text = sent.stopped.map(|seconds| seconds.to_string());
            state.set_value(&stopped_key(&self.address), text.as_ref().map(String::as_bytes))?;
        }
        counts.extend(sent.counts);
        state.save_ledgers(&key(&self.address), &counts)?;
        self.sending().set_saved(sent.mark);
        for (direction, mark) in marks {
            self.budget.set_covered(direction, mark);
        }
        Ok(())
    }

    /// How far the count on disk is to run ahead: what crosses in an interval at the pace since it was last written.
    fn leads(&self, saved: Saved) -> [u64; 2] {
        let millis = u64::try_from(saved.at.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        Direction::ALL.map(|direction| {
            let before = match direction {
                Direction::Download => saved.total[0],
                Direction::Upload => saved.total[1],
            };
            let spent = self.budget.total(direction).saturating_sub(before);
            let pace = spent.saturating_mul(INTERVAL.as_millis() as u64) / millis;
            let most = self.budget.limit(direction).map_or(LEAD_MOST, |limit| (limit / LEAD_PART).min(LEAD_MOST));
            let most = most.max(LEAD_FLOOR);
            pace.clamp(LEAD_LEAST.min(most), most)
        })
    }

    /// Whether half of a lead is used, or a message was counted.
    fn is_short(&self) -> bool {
        if !self.sending().is_saved() {
            return true;
        }
        let lead = self.saved.lock().unwrap_or_else(PoisonError::into_inner).lead;
        let headroom = Direction::ALL.map(|direction| self.budget.headroom(direction));
        lead.into_iter().zip(headroom).any(|(lead, headroom)| headroom < short_below(lead))
    }

    /// Asks for the next save in time, once: this is called for every read and every write of a socket.
    pub(super) fn watch_headroom(&self, direction: Direction, headroom: u64) {
        let [download, upload] = &self.short_below;
        let below = match direction {
            Direction::Download => download,
            Direction::Upload => upload,
        };
        if headroom < below.load(Ordering::Relaxed) && !self.is_asked.swap(true, Ordering::SeqCst) {
            self.save.notify_one();
        }
    }

    /// The disk does not answer, and is not waited for.
    fn is_hopeless(&self) -> bool {
        let hopeless = *self.hopeless.lock().unwrap_or_else(PoisonError::into_inner);
        hopeless.is_some_and(|until| Instant::now() < until)
    }

    /// Octets that may cross now, set aside.
    pub(super) fn hold_octets(&self, direction: Direction, most: u64) -> u64 {
        match self.budget.hold(direction, most) {
            0 if most > 0 && self.is_hopeless() => {
                self.budget.hold_uncovered(direction, most);
                most
            }
            held => held,
        }
    }

    pub(super) fn release_octets(&self, direction: Direction, held: u64) {
        self.budget.release(direction, held);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.covered.notify_waiters();
        }
    }

    /// Resolves when something may cross, or when there is no hope that the count will be saved.
    pub(super) async fn wait_for_room(&self, direction: Direction) {
        let _waiting = Waiting::new(&self.waiting);
        let room = async {
            loop {
                let mut told = std::pin::pin!(self.covered.notified());
                told.as_mut().enable();
                let held = self.hold_octets(direction, 1);
                self.budget.release(direction, held);
                if held > 0 {
                    return;
                }
                self.save.notify_one();
                told.await;
            }
        };
        if timeout(COVER_WAIT, room).await.is_err() {
            warn!(account = %self.address, "the count of bytes is not saved in time: a crash would forget some");
            let until = Instant::now() + HOPELESS_FOR;
            *self.hopeless.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
    }
}

/// With less headroom than this the count is to be saved: half of the lead is used.
fn short_below(lead: u64) -> u64 {
    lead.max(LEAD_FLOOR) / 2
}

/// One who waits for room.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How the state names what the provider's words have left of the maximum of sessions.
pub(super) fn lowered_key(address: &str) -> String {
    format!("{}{}", state::LOWERED, key(address))
}
