//! What an account's spending looks like from outside: words for a reader, hours for a chart.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::Spending;
use crate::budget::{Class, Direction, Refused};
use crate::daemon::problems::Problems;
use crate::daemon::status::{Hour, octets};

/// For a mail program to show.
pub(super) fn words(refused: &Refused, now: SystemTime) -> String {
    format!(
        "The {} allowance of this account ({} in 24 hours) is used up; it opens again {}",
        refused.direction.as_str(),
        octets(refused.limit),
        clock(refused.retry_after, now),
    )
}

/// When it is over: `in 3 h 5 min, at 14:20 UTC`.
pub(super) fn clock(wait: Duration, now: SystemTime) -> String {
    let minutes = wait.as_secs().div_ceil(60);
    let left = match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    };
    let at = OffsetDateTime::from(now + wait);
    format!("in {left}, at {:02}:{:02} UTC", at.hour(), at.minute())
}

impl Spending {
    /// What went wrong lately.
    pub(in crate::daemon) fn problems(&self) -> &Problems {
        &self.problems
    }

    /// The last 24 hours, the oldest first.
    pub(in crate::daemon) fn hours(&self) -> Vec<Hour> {
        let now = SystemTime::now();
        let [down, up] = Direction::ALL.map(|direction| self.budget.hours(direction, now));
        down.into_iter().zip(up).map(|(downloaded, uploaded)| Hour { downloaded, uploaded }).collect()
    }

    /// How long prefetch rests because its part of the day is spent; `None`: it does not.
    pub(in crate::daemon) fn prefetch_rests(&self) -> Option<Duration> {
        let refused = self.budget.reserve(Direction::Download, Class::Prefetch, 1, SystemTime::now());
        refused.err().map(|refused| refused.retry_after)
    }
}
