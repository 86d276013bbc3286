//! Bytes of the last 24 hours, in buckets of ten minutes.
//!
//! A bucket counts until all of it is 24 hours old, so the window is never shorter than the provider's.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

/// Seconds of a bucket: 145 of them make a day, few enough to write down often.
const BUCKET: u64 = 600;

/// Buckets that count besides the running one.
const DAY: u64 = 24 * 3600 / BUCKET;

/// One bucket, for the durable state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its beginning, in seconds since the epoch.
    pub begin: u64,
    pub bytes: u64,
}

/// The bytes of one direction, oldest first.
#[derive(Default)]
pub(super) struct Ledger {
    buckets: VecDeque<(u64, u64)>,
}

impl Ledger {
    /// Drops what is too old. What lies in the future, because the clock was set back, counts from now on: it was
    /// spent, and would otherwise count until that future has passed.
    fn settle(&mut self, now: SystemTime) -> u64 {
        let present = seconds(now) / BUCKET;
        let mut late = 0;
        while let Some((_, bytes)) = self.buckets.back().filter(|(bucket, _)| *bucket > present) {
            late = bytes.saturating_add(late);
            self.buckets.pop_back();
        }
        if late > 0 {
            self.put(present, late);
        }
        while self.buckets.front().is_some_and(|(bucket, _)| bucket.saturating_add(DAY) < present) {
            self.buckets.pop_front();
        }
        present
    }

    fn put(&mut self, bucket: u64, bytes: u64) {
        match self.buckets.back_mut() {
            Some((last, sum)) if *last == bucket => *sum = sum.saturating_add(bytes),
            _ => self.buckets.push_back((bucket, bytes)),
        }
    }

    fn sum(&self) -> u64 {
        self.buckets.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes))
    }

    pub(super) fn used(&mut self, now: SystemTime) -> u64 {
        self.settle(now);
        self.sum()
    }

    pub(super) fn add(&mut self, bytes: u64, now: SystemTime) {
        let present = self.settle(now);
        if bytes > 0 {
            self.put(present, bytes);
        }
    }

    /// Forgets so much of what was added last.
    pub(super) fn take_back(&mut self, mut bytes: u64, now: SystemTime) {
        self.settle(now);
        for (_, counted) in self.buckets.iter_mut().rev() {
            let back = bytes.min(*counted);
            *counted -= back;
            bytes -= back;
        }
    }

    /// How long until `bytes` more are within `limit`; `None` for now. Bytes that never fit wait for a whole day.
    pub(super) fn wait(&mut self, bytes: u64, limit: u64, now: SystemTime) -> Option<Duration> {
        self.settle(now);
        let mut used = self.sum();
        let fits = |used: u64| bytes == 0 || used.checked_add(bytes).is_some_and(|sum| sum <= limit);
        if fits(used) {
            return None;
        }
        for (bucket, spent) in &self.buckets {
            used = used.saturating_sub(*spent);
            if fits(used) {
                let free = (bucket + DAY + 1) * BUCKET;
                return Some(Duration::from_secs(free.saturating_sub(seconds(now))));
            }
        }
        Some(Duration::from_secs(DAY * BUCKET))
    }

    /// The last 24 hours, the oldest first. The bucket that is partly older counts for the first.
    pub(super) fn hours(&mut self, now: SystemTime) -> [u64; 24] {
        let present = self.settle(now);
        let mut hours = [0_u64; 24];
        for (bucket, bytes) in &self.buckets {
            let ago = present.saturating_sub(*bucket) * BUCKET / 3600;
            let at = 23_usize.saturating_sub(usize::try_from(ago).unwrap_or(usize::MAX));
            if let Some(hour) = hours.get_mut(at) {
                *hour = hour.saturating_add(*bytes);
            }
        }
        hours
    }

    pub(super) fn export(&mut self, now: SystemTime) -> Vec<Entry> {
        self.settle(now);
        self.buckets.iter().map(|(bucket, bytes)| Entry { begin: bucket * BUCKET, bytes: *bytes }).collect()
    }

    pub(super) fn import(&mut self, entries: &[Entry], now: SystemTime) {
        let own = self.buckets.drain(..);
        let theirs = entries.iter().map(|entry| (entry.begin / BUCKET, entry.bytes));
        let mut all: Vec<_> = own.chain(theirs).collect();
        all.sort_unstable();
        for (bucket, bytes) in all {
            self.put(bucket, bytes);
        }
        self.settle(now);
    }
}

/// The beginning of the bucket a moment falls into, in seconds since the epoch.
pub(super) fn bucket(at: SystemTime) -> u64 {
    seconds(at) / BUCKET * BUCKET
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Every spending by itself: counts until its bucket's end is a day old.
    fn naive(spent: &[(u64, u64)], now: u64) -> u64 {
        spent.iter().filter(|(when, _)| (when / BUCKET + 1) * BUCKET + 86_400 > now).map(|(_, bytes)| bytes).sum()
    }

    #[test]
    fn random_spending_agrees_with_a_list() {
        for seed in 1..=8 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut ledger = Ledger::default();
            let mut spent: Vec<(u64, u64)> = Vec::new();
            let mut now = 1_000_000_000;
            for step in 0..2000 {
                now += rng.random_range(0..if step % 50 == 0 { 40_000 } else { 900 });
                let bytes = rng.random_range(0..100);
                match rng.random_range(0..4) {
                    0 => {
                        let limit = rng.random_range(0..3000);
                        let wait = ledger.wait(bytes, limit, at(now)).map(|wait| wait.as_secs());
                        let fits = |when: u64| bytes == 0 || naive(&spent, when) + bytes <= limit;
                        match wait {
                            None => assert!(fits(now), "seed {seed} step {step}"),
                            Some(wait) if bytes > limit => assert_eq!(wait, 86_400, "seed {seed} step {step}"),
                            Some(wait) => {
                                assert!(!fits(now) && !fits(now + wait - 1), "seed {seed} step {step}: too long");
                                assert!(fits(now + wait), "seed {seed} step {step}: too short");
                            }
                        }
                    }
                    1 => {
                        let mut again = Ledger::default();
                        again.import(&ledger.export(at(now)), at(now));
                        ledger = again;
                    }
                    _ => {
                        ledger.add(bytes, at(now));
                        spent.push((now, bytes));
                    }
                }
                assert_eq!(ledger.used(at(now)), naive(&spent, now), "seed {seed} step {step}");
                assert_eq!(ledger.hours(at(now)).iter().sum::<u64>(), naive(&spent, now), "seed {seed} step {step}");
                assert!(ledger.buckets.len() as u64 <= DAY + 1);
            }
        }
    }

    #[test]
    fn hours_are_told_by_their_age() {
        let mut ledger = Ledger::default();
        let now = 1_000_000_000 / BUCKET * BUCKET;
        for (ago, bytes) in [(86_400, 1), (82_800, 2), (3600, 4), (3000, 8), (0, 16)] {
            ledger.add(bytes, at(now - ago));
        }
        let hours = ledger.hours(at(now));
        assert_eq!((hours[0], hours[22], hours[23]), (3, 4, 24));
        assert_eq!(ledger.hours(at(now + 1800))[22..], [12, 16]);
    }

    #[test]
    fn a_clock_set_back_neither_frees_nor_locks() {
        let mut ledger = Ledger::default();
        ledger.add(10, at(1_000_000));
        ledger.add(20, at(90_000_000));
        assert_eq!(ledger.used(at(1_000_000)), 20, "what was far in the future counts now");
        assert_eq!(ledger.used(at(1_000_000 + 86_400 + 600)), 0, "and leaves like anything else");
    }
}
