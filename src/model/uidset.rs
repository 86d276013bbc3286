//! Sets of message numbers: resolved ([`UidSet`]) and as a client wrote them ([`SequenceSet`]).

use std::fmt;
use std::ops::RangeInclusive;

/// A set of numbers (UIDs, or sequence numbers already resolved): ascending, disjoint, non-adjacent ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidSet {
    ranges: Vec<(u32, u32)>,
}

impl UidSet {
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(from, to)| u64::from(to - from) + 1).sum()
    }

    pub fn min(&self) -> Option<u32> {
        self.ranges.first().map(|range| range.0)
    }

    pub fn max(&self) -> Option<u32> {
        self.ranges.last().map(|range| range.1)
    }

    pub fn contains(&self, number: u32) -> bool {
        let index = self.ranges.partition_point(|range| range.1 < number);
        self.ranges.get(index).is_some_and(|range| range.0 <= number)
    }

    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u32>> + '_ {
        self.ranges.iter().map(|(from, to)| *from..=*to)
    }

    /// The numbers, ascending. Mind sets such as `1:4294967295`: intersect with what exists first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges().flatten()
    }

    pub fn insert(&mut self, number: u32) {
        self.insert_range(number..=number);
    }

    /// Adds a range; appending in ascending order is cheap, anything else costs a move of the tail.
    pub fn insert_range(&mut self, range: RangeInclusive<u32>) {
        let (from, to) = (*range.start(), *range.end());
        if from > to {
            return;
        }
        if let Some(last) = self.ranges.last_mut() {
            if last.1 < u32::MAX && from == last.1 + 1 {
                last.1 = to;
                return;
            }
            if from <= last.1 {
                return self.merge(from, to);
            }
        }
        self.ranges.push((from, to));
    }

    fn merge(&mut self, from: u32, to: u32) {
        // Ranges touching [from-1, to+1] melt into one.
        let first = self.ranges.partition_point(|range| range.1 < from.saturating_sub(1));
        let last = self.ranges.partition_point(|range| range.0 <= to.saturating_add(1));
        let merged = match self.ranges.get(first..last) {
            Some([only @ .., end]) => (only.first().unwrap_or(end).0.min(from), end.1.max(to)),
            _ => (from, to),
        };
        self.ranges.splice(first..last, [merged]);
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.ranges.iter().chain(&other.ranges).copied().collect();
        all.sort_unstable();
        let mut out = Self::new();
        for (from, to) in all {
            out.insert_range(from..=to);
        }
        out
    }

    pub fn intersect(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        let mut out = Self::new();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            let (from, to) = (x.0.max(y.0), x.1.min(y.1));
            out.insert_range(from..=to);
            if x.1 < y.1 {
                a.next();
            } else {
                b.next();
            }
        }
        out
    }

    /// What is in `self` and not in `other`.
    pub fn minus(&self, other: &Self) -> Self {
        let mut out = Self::new();
        for (from, to) in &self.ranges {
            let mut next = u64::from(*from);
            let begin = other.ranges.partition_point(|range| range.1 < *from);
            for hole in other.ranges.iter().skip(begin).take_while(|hole| hole.0 <= *to) {
                if u64::from(hole.0) > next {
                    out.insert_range(next as u32..=hole.0 - 1);
                }
                next = u64::from(hole.1) + 1;
            }
            if next <= u64::from(*to) {
                out.insert_range(next as u32..=*to);
            }
        }
        out
    }

    /// Reads `1,3:7` (no `*`), as in COPYUID, VANISHED and ESEARCH. Nothing for malformed text or a 0.
    pub fn parse(text: &str) -> Option<Self> {
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (from, to) = part.split_once(':').unwrap_or((part, part));
            let (from, to) = (number(from)?, number(to)?);
            ranges.push((from.min(to), from.max(to)));
        }
        ranges.sort_unstable();
        Some(ranges.into_iter().fold(Self::new(), |mut set, (from, to)| {
            set.insert_range(from..=to);
            set
        }))
    }

    /// The set cut into pieces whose text is at most `max_bytes` long each (command line limits, Yahoo: about
    /// 1000 octets), every piece at least one range.
    pub fn split(&self, max_bytes: usize) -> Vec<Self> {
        let mut out = Vec::new();
        let mut piece = Self::new();
        let mut used = 0;
        for (from, to) in &self.ranges {
            let cost = if from == to { from.to_string().len() } else { format!("{from}:{to}").len() } + 1;
            if used + cost > max_bytes && !piece.is_empty() {
                out.push(std::mem::take(&mut piece));
                used = 0;
            }
            piece.ranges.push((*from, *to));
            used += cost;
        }
        if !piece.is_empty() {
            out.push(piece);
        }
        out
    }

    /// The set cut into portions of at most `most` numbers each, ascending.
    pub fn portions(&self, most: u64) -> Vec<Self> {
        let most = most.max(1);
        let mut out = Vec::new();
        let (mut portion, mut room) = (Self::new(), most);
        for (mut from, to) in self.ranges.iter().copied() {
            loop {
                let count = (u64::from(to - from) + 1).min(room);
                // At most `to - from + 1`, so it fits.
                let last = u32::try_from(u64::from(from) + count - 1).unwrap_or(to);
                portion.ranges.push((from, last));
                room -= count;
                if room == 0 {
                    out.push(std::mem::take(&mut portion));
                    room = most;
                }
                if last == to {
                    break;
                }
                from = last + 1;
            }
        }
        if !portion.is_empty() {
            out.push(portion);
        }
        out
    }
}

/// A strict `nz-number`: digits only, no sign, no leading zero, not 0.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl fmt::Display for UidSet {
    /// `1,3:7`, the `sequence-set` grammar. Empty for the empty set, which IMAP cannot write.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if from == to {
                write!(f, "{from}")?;
            } else {
                write!(f, "{from}:{to}")?;
            }
        }
        Ok(())
    }
}

impl FromIterator<u32> for UidSet {
    fn from_iter<T: IntoIterator<Item = u32>>(numbers: T) -> Self {
        let mut set = Self::new();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

/// A `sequence-set` as a client wrote it: ranges whose ends may be `*` (`None`), in the client's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceSet(pub Vec<(Option<u32>, Option<u32>)>);

impl SequenceSet {
    /// Most ranges one command may carry: a 64 KiB line holds no more than 32768.
    pub const MAX_RANGES: usize = 32_768;

    /// `$`, the result a SEARCH has saved (RFC 5182): written as no range at all, which no client can write otherwise.
    pub fn saved() -> Self {
        Self(Vec::new())
    }

    pub fn is_saved(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads `1,3:*`. Nothing for malformed text, a 0, or more than [`Self::MAX_RANGES`].
    pub fn parse(text: &str) -> Option<Self> {
        let end = |text: &str| if text == "*" { Some(None) } else { number(text).map(Some) };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (from, to) = part.split_once(':').unwrap_or((part, part));
            ranges.push((end(from)?, end(to)?));
        }
        (ranges.len() <= Self::MAX_RANGES).then_some(Self(ranges))
    }

    /// The set with `*` read as `max` (RFC 9051 `seq-range`: the order of the ends does not matter, and
    /// `559:*` always holds the last message). `max` is the highest UID, or the number of messages; 0 when the
    /// mailbox is empty, and then `*` is nothing.
    pub fn resolve(&self, max: u32) -> UidSet {
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(self.0.len());
        for (from, to) in &self.0 {
            let ends = (from.unwrap_or(max), to.unwrap_or(max));
            let (from, to) = (ends.0.min(ends.1).max(1), ends.0.max(ends.1));
            ranges.push((from, to));
        }
        ranges.sort_unstable();
        ranges.into_iter().fold(UidSet::new(), |mut set, (from, to)| {
            set.insert_range(from..=to);
            set
        })
    }

    /// The highest number named outright, ignoring `*`.
    pub fn largest_named(&self) -> u32 {
        self.0.iter().flat_map(|(from, to)| [from.unwrap_or(0), to.unwrap_or(0)]).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn text_survives_the_round_trip() {
        for (text, want) in [("1", "1"), ("3,1:2", "1:3"), ("7:5,9", "5:7,9"), ("4294967295", "4294967295")] {
            assert_eq!(UidSet::parse(text).unwrap().to_string(), want);
        }
        for bad in ["", "0", "1,", "a", "1:*", "+1", "01", "4294967296", "1:2:3"] {
            assert_eq!(UidSet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn portions() {
        let table = [
            ("1:10", 4, "1:4 5:8 9:10"),
            ("1:3,7,9:12", 4, "1:3,7 9:12"),
            ("5", 1, "5"),
            ("1:2", 0, "1 2"),
            ("1:4294967295", u64::MAX, "1:4294967295"),
            ("4294967294:4294967295", 1, "4294967294 4294967295"),
        ];
        for (text, most, want) in table {
            let portions = UidSet::parse(text).unwrap().portions(most);
            let told = portions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            assert_eq!(told, want, "{text} by {most}");
        }
        assert_eq!(UidSet::new().portions(3), []);
    }

    #[test]
    fn star_is_the_last_message() {
        let table = [
            ("*", 5, "5"),
            ("7:*", 5, "5:7"),
            ("*:2", 5, "2:5"),
            ("1:*", 0, "1"),
            ("*", 0, ""),
            ("2,4:*,1", 5, "1:2,4:5"),
        ];
        for (text, max, want) in table {
            assert_eq!(SequenceSet::parse(text).unwrap().resolve(max).to_string(), want, "{text} of {max}");
        }
    }

    #[test]
    fn operations_agree_with_a_plain_set() {
        let mut seed = 7u32;
        let mut random = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % below
        };
        for _ in 0..300 {
            let mut sets = [UidSet::new(), UidSet::new()];
            let mut models = [BTreeSet::new(), BTreeSet::new()];
            for which in 0..2 {
                for _ in 0..random(12) {
                    let from = 1 + random(40);
                    let to = from + random(6);
                    sets[which].insert_range(from..=to);
                    models[which].extend(from..=to);
                }
                assert_eq!(sets[which].iter().collect::<BTreeSet<_>>(), models[which]);
                assert!(sets[which].ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", sets[which]);
            }
            let [a, b] = &sets;
            let [x, y] = &models;
            assert!(a.union(b).iter().eq(x.union(y).copied()));
            assert!(a.intersect(b).iter().eq(x.intersection(y).copied()));
            assert!(a.minus(b).iter().eq(x.difference(y).copied()));
            assert!(a.split(10).iter().flat_map(UidSet::iter).eq(x.iter().copied()));
        }
    }
}
