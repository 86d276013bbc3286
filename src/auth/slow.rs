//! Slowing those who guess passwords, without slowing those who know theirs.
//!
//! Failures are counted per address and per network (/24 or /64). They have two effects, and success has neither undone nor
//! worsened by them:
//!
//! - the answer to a wrong password comes later and later ([`Delays::answer_delay`]), up to some seconds;
//! - while a source has recent failures, its attempts are let through one by one ([`Delays::reserve`]), so opening a hundred
//!   connections does not give a hundred guesses. Somebody with the right password behind the same address waits his turn of a fraction of a
//!   second, and is answered at once.
//!
//! The time is an argument. The table is bounded; what is forgotten first is what failed longest ago.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// A source without a failure for this long starts afresh.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);

/// Sources remembered: 1 MiB or so, and more than one attacker has networks.
const MAX_SOURCES: usize = 8192;

/// The first delay; each further failure doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// The longest delay: mail programs wait 30 to 60 seconds for an answer, and should get it as "wrong password", not as a dead server.
const LONGEST_DELAY: Duration = Duration::from_secs(8);

/// Failures of a whole network before its members' answers are delayed: one neighbour's misconfigured phone must not count.
const NETWORK_TOLERANCE: u32 = 20;

/// Time between two attempts of an address with recent failures (5 guesses a second).
const ADDRESS_GAP: Duration = Duration::from_millis(200);

/// The same for a network with more failures than are tolerated.
const NETWORK_GAP: Duration = Duration::from_millis(50);

/// An attempt that would have to wait longer than this is refused unseen.
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// Recent failures by source.
#[derive(Debug, Default)]
pub(crate) struct Delays(HashMap<Source, Record>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Address(IpAddr),
    Network(IpAddr),
}

#[derive(Debug)]
struct Record {
    failures: u32,
    last: Instant,
    /// When the next attempt may be looked at.
    next_turn: Instant,
}

impl Delays {
    /// When an attempt from `peer` may be looked at; `None` when too many are waiting already.
    pub(crate) fn reserve(&mut self, peer: IpAddr, now: Instant) -> Option<Instant> {
        let gaps = sources(peer).map(|source| (source, self.gap(source, now)));
        let turn = gaps.iter().filter(|(_, gap)| gap.is_some()).filter_map(|(s, _)| self.0.get(s)).map(|r| r.next_turn);
        let turn = turn.fold(now, Ord::max);
        if turn - now > LONGEST_TURN {
            return None;
        }
        for (source, gap) in gaps {
            if let (Some(gap), Some(record)) = (gap, self.0.get_mut(&source)) {
                record.next_turn = turn + gap;
            }
        }
        Some(turn)
    }

    /// Counts a wrong password.
    pub(crate) fn failed(&mut self, peer: IpAddr, now: Instant) {
        for source in sources(peer) {
            if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&source) {
                self.make_room(now);
            }
            let record = self.0.entry(source).or_insert(Record { failures: 0, last: now, next_turn: now });
            if now.duration_since(record.last) >= FORGET_AFTER {
                record.failures = 0;
            }
            record.failures = record.failures.saturating_add(1);
            record.last = now;
        }
    }

    /// How long the answer to a wrong password from `peer` is held back.
    pub(crate) fn answer_delay(&self, peer: IpAddr, now: Instant) -> Duration {
        let delays = sources(peer).map(|source| {
            let failures = self.failures(source, now);
            let beyond = match source {
                Source::Address(_) => failures,
                Source::Network(_) => failures.saturating_sub(NETWORK_TOLERANCE),
            };
            match beyond {
                0 => Duration::ZERO,
                // 2^5 times the first is the longest already.
                n => (FIRST_DELAY * 2_u32.pow((n - 1).min(5))).min(LONGEST_DELAY),
            }
        });
        delays.into_iter().max().unwrap_or_default()
    }

    fn gap(&self, source: Source, now: Instant) -> Option<Duration> {
        let failures = self.failures(source, now);
        match source {
            Source::Address(_) => (failures > 0).then_some(ADDRESS_GAP),
            Source::Network(_) => (failures > NETWORK_TOLERANCE).then_some(NETWORK_GAP),
        }
    }

    fn failures(&self, source: Source, now: Instant) -> u32 {
        self.0.get(&source).filter(|r| now.duration_since(r.last) < FORGET_AFTER).map_or(0, |r| r.failures)
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, r| now.duration_since(r.last) < FORGET_AFTER);
        if self.0.len() < MAX_SOURCES {
            return;
        }
        // A flood of sources: the older half goes, so that the next thousands of failures need no such walk.
        let mut times: Vec<_> = self.0.values().map(|r| r.last).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let mut to_drop = middle;
        self.0.retain(|_, r| {
            let goes = r.last <= median && to_drop > 0;
            to_drop -= usize::from(goes);
            !goes
        });
    }
}

fn sources(peer: IpAddr) -> [Source; 2] {
    let peer = peer.to_canonical();
    let network = match peer {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & 0xffff_ff00).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    };
    [Source::Address(peer), Source::Network(network)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn answers_come_later_with_each_failure_and_recover() {
        let (mut delays, now, peer) = (Delays::default(), Instant::now(), ip("192.0.2.7"));
        let mut seen = vec![delays.answer_delay(peer, now).as_millis()];
        for _ in 0..8 {
            delays.failed(peer, now);
            seen.push(delays.answer_delay(peer, now).as_millis());
        }
        assert_eq!(seen, [0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(delays.answer_delay(ip("192.0.2.8"), now), Duration::ZERO, "a neighbour is not delayed");
        let later = now + FORGET_AFTER;
        assert_eq!(delays.answer_delay(peer, later), Duration::ZERO);
        delays.failed(peer, later);
        assert_eq!(delays.answer_delay(peer, later), FIRST_DELAY);
    }

    #[test]
    fn a_network_that_guesses_from_many_addresses_is_slowed_as_a_whole() {
        for (template, neighbour) in [("192.0.2.", "192.0.2.250"), ("2001:db8::", "2001:db8::fffa")] {
            let (mut delays, now) = (Delays::default(), Instant::now());
            for i in 0..NETWORK_TOLERANCE + 3 {
                delays.failed(ip(&format!("{template}{i}")), now);
            }
            assert_eq!(delays.answer_delay(ip(neighbour), now), FIRST_DELAY * 4);
            assert_eq!(delays.answer_delay(ip("198.51.100.1"), now), Duration::ZERO);
        }
    }

    #[test]
    fn attempts_of_a_failing_source_take_turns_and_the_queue_is_bounded() {
        let (mut delays, now, peer) = (Delays::default(), Instant::now(), ip("192.0.2.7"));
        for _ in 0..100 {
            assert_eq!(delays.reserve(peer, now), Some(now), "nobody waits before the first failure");
        }
        delays.failed(peer, now);
        let turns: Vec<_> = (0..60).map_while(|_| delays.reserve(peer, now)).collect();
        assert_eq!(turns[..3], [now, now + ADDRESS_GAP, now + 2 * ADDRESS_GAP]);
        assert_eq!(turns.len(), 51, "10 s of turns, then refusals");
        assert_eq!(delays.reserve(ip("192.0.2.8"), now), Some(now), "a neighbour does not wait");
        let later = now + Duration::from_secs(60);
        assert_eq!(delays.reserve(peer, later), Some(later));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_newest() {
        let (mut delays, start) = (Delays::default(), Instant::now());
        let peer = |i: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 | i << 8));
        for i in 0..20_000_u32 {
            delays.failed(peer(i), start + Duration::from_millis(i.into()));
        }
        assert!(delays.0.len() <= MAX_SOURCES + 1, "{}", delays.0.len());
        let now = start + Duration::from_secs(20);
        assert_eq!(delays.answer_delay(peer(19_999), now), FIRST_DELAY);
        assert_eq!(delays.answer_delay(peer(0), now), Duration::ZERO);
        // All at the same moment: still bounded.
        for i in 20_000..40_000_u32 {
            delays.failed(peer(i), now);
        }
        assert!(delays.0.len() <= MAX_SOURCES + 1, "{}", delays.0.len());
    }
}
