//! How the count comes to the disk, and when.

use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Spending, key};
use crate::budget::Direction;
use crate::state::{self, State};

/// How often the count is saved while anything is spent.
pub(super) const SAVE_EVERY: Duration = Duration::from_secs(20);
/// The longest lead of the count on disk: below a hundredth of what the strictest provider grants in a day, and a second's worth of a
/// fast line between two flushes of the disk.
pub(super) const LEAD_MOST: u64 = 4 << 20;
/// The shortest, for an account at rest.
const LEAD_LEAST: u64 = 64 << 10;
/// No more than such a part of a small limit.
const LEAD_PART: u64 = 50;
/// But this much in any case: one read from a socket.
const LEAD_FLOOR: u64 = 4 << 10;
/// A lead as long as this many times what was spent since the last save.
const LEAD_GROWTH: u64 = 4;
/// Who waits for the count to be saved goes on after this: a disk that hangs is no reason to leave mail unread.
pub(super) const COVER_WAIT: Duration = Duration::from_secs(5);
/// And nobody waits for it again so soon.
pub(super) const HOPELESS_FOR: Duration = Duration::from_secs(60);
#[derive(Clone, Copy)]
pub(super) struct Saved {
    pub(super) recorded: u64,
    pub(super) at: Instant,
    /// The lead the count on disk was given, by direction.
    pub(super) lead: [u64; 2],
}

/// The maximum of sessions as the provider's words have left it.
#[derive(Clone, Copy, Default)]
pub(super) struct Lowered {
    pub(super) maximum: Option<usize>,
    pub(super) is_saved: bool,
}

impl Spending {
    /// Whether the count is to be saved because of the time.
    pub(in crate::daemon) fn is_save_due(&self) -> bool {
        let saved = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let lowered = *self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        !lowered.is_saved || self.recorded() > saved.recorded && saved.at.elapsed() >= SAVE_EVERY
    }

    /// Resolves when the count is to be saved because of what was spent. Nothing is lost when it is given up.
    pub(in crate::daemon) async fn save_wanted(&self) {
        self.save.notified().await;
    }

    /// Saves the count with its lead. Blocks.
    pub(in crate::daemon) fn save(&self, state: &State) -> Result<(), state::Error> {
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
    pub(in crate::daemon) fn save_end(&self, state: &State) -> Result<(), state::Error> {
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
    pub(super) fn watch_headroom(&self) -> bool {
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
}

/// How the state names what the provider's words have left of the maximum of sessions.
pub(super) fn lowered_key(address: &str) -> String {
    format!("lowered:{}", key(address))
}
