//! How much one client has had fetched lately: whether a person reads with it, or it downloads everything.
//!
//! Somebody who opens messages waits for each of them; a program that fetches its whole mailbox waits for the whole. The first is served
//! first, and from the last part of the day's allowance ([`Class::Interactive`]); the second is [`Class::Bulk`]. The measure is what was
//! not in the cache: reading from there costs the provider nothing.

use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

use crate::upstream::Class;

/// More messages than this within [`LATELY`] are not opened one by one by anybody,
const MESSAGES: u64 = 30;
/// nor so many octets, in more than one message.
const OCTETS: u64 = 64 << 20;
const LATELY: Duration = Duration::from_secs(300);

/// One client's; see the module.
#[derive(Debug, Default)]
pub(crate) struct Appetite {
    lately: Mutex<Lately>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    /// As of when the counts stand; they drain within [`LATELY`].
    at: Option<Instant>,
    messages: u64,
    octets: u64,
}

impl Appetite {
    /// Takes note of messages that have to be fetched for the client, and gives the class of that. `asked`: messages of the request they
    /// belong to, here or not; who asks for many in one go downloads from the first of them on.
    pub(crate) fn class_of(&self, asked: usize, messages: u64, octets: u64, now: Instant) -> Class {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let past = lately.at.map_or(LATELY, |at| now.saturating_duration_since(at)).min(LATELY);
        let left = |count: u64| {
            let gone = u128::from(count) * past.as_millis() / LATELY.as_millis();
            count.saturating_sub(u64::try_from(gone).unwrap_or(count))
        };
        lately.messages = left(lately.messages).saturating_add(messages);
        lately.octets = left(lately.octets).saturating_add(octets);
        lately.at = Some(now);
        if asked as u64 > MESSAGES || lately.messages > MESSAGES || (lately.messages > 1 && lately.octets > OCTETS) {
            Class::Bulk
        } else {
            Class::Interactive
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_told_from_a_download() {
        let now = Instant::now();
        let reader = Appetite::default();
        for minute in 0..60 {
            for _ in 0..4 {
                let at = now + Duration::from_secs(60 * minute);
                assert_eq!(reader.class_of(1, 1, 100_000, at), Class::Interactive, "minute {minute}");
            }
        }
        assert_eq!(Appetite::default().class_of(1, 1, 1 << 30, now), Class::Interactive, "one message of any size");
        let all = Appetite::default();
        assert_eq!(all.class_of(31, 1, 1000, now), Class::Bulk, "in one go");
        let one_by_one = Appetite::default();
        let classes: Vec<Class> = (0..40).map(|_| one_by_one.class_of(1, 1, 1000, now)).collect();
        assert_eq!(classes.iter().filter(|class| **class == Class::Bulk).count(), 10);
        assert_eq!(one_by_one.class_of(1, 1, 1000, now + LATELY), Class::Interactive, "after a rest");
        let large = Appetite::default();
        assert_eq!(large.class_of(1, 1, OCTETS, now), Class::Interactive);
        assert_eq!(large.class_of(1, 1, 1, now), Class::Bulk);
    }
}
