//! What a provider grants, who may use how much of it, and the words for what is spent.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Direction;

/// What is left of a limit for what cannot be promised beforehand: answers' own words, a greeting, what comes unasked. A hundredth,
const FLOOR_PART: u64 = 100;
/// and no more than this.
const FLOOR_MOST: u64 = 1 << 20;

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
pub(super) fn floor(limit: u64) -> u64 {
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
    /// Bytes of an answer that the system of this computer holds unread for a session, at most.
    pub unread_most: u64,
}

impl Limits {
    pub(super) fn of(&self, direction: Direction) -> Option<u64> {
        match direction {
            Direction::Download => self.download_per_day,
            Direction::Upload => self.upload_per_day,
        }
    }

    /// What a class may use in 24 hours.
    pub(super) fn for_class(&self, direction: Direction, class: Class) -> Option<u64> {
        let shares = self.shares;
        self.of(direction).map(|limit| match class {
            Class::Interactive => limit - floor(limit),
            Class::Bulk | Class::Sync => limit - part(limit, shares.reserve).max(floor(limit)),
            Class::Prefetch => part(limit, shares.prefetch),
        })
    }

    /// From where on synchronisation goes slowly.
    pub(super) fn slow_from(&self, direction: Direction) -> Option<u64> {
        self.of(direction).map(|limit| part(limit, self.shares.sync))
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
