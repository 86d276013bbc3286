//! Bodies read lately, kept in memory: what Thunderbird's chunked fetches walk through, and what several clients of one account
//! fetch one after the other.
//!
//! Bounded in octets. What goes when it is full is chosen by chance, the newest excepted: clients walk a mailbox in order, and
//! with "the oldest goes" a walk through a little more than fits would find nothing of what the walk before left. Pure but for
//! the counter the chance comes from.

use std::collections::HashMap;

use bytes::Bytes;

use crate::store::BodyKey;

/// Octets kept for an account.
const OCTETS: u64 = 16 << 20;
/// A body above this is not kept at all. Between the two it is kept alone: somebody may be walking through it in pieces.
pub(super) const ONE: u64 = 32 << 20;

/// The bodies kept.
#[derive(Debug, Default)]
pub(super) struct Recent {
    bodies: HashMap<BodyKey, Bytes>,
    /// The same keys, in any order.
    keys: Vec<BodyKey>,
    octets: u64,
    chance: u64,
}

impl Recent {
    pub(super) fn find(&self, key: BodyKey) -> Option<Bytes> {
        self.bodies.get(&key).cloned()
    }

    pub(super) fn keep(&mut self, key: BodyKey, body: &Bytes) {
        let octets = body.len() as u64;
        if octets > ONE || self.bodies.contains_key(&key) {
            return;
        }
        while self.octets + octets > OCTETS && !self.keys.is_empty() {
            self.drop_one();
        }
        self.octets += octets;
        self.keys.push(key);
        self.bodies.insert(key, body.clone());
    }

    fn drop_one(&mut self) {
        let at = self.next_chance() % self.keys.len().max(1) as u64;
        if let Some(body) = self.bodies.remove(&self.keys.swap_remove(at as usize)) {
            self.octets -= body.len() as u64;
        }
    }

    /// A multiplicative walk over all numbers; nobody gains by guessing what goes.
    fn next_chance(&mut self) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.chance >> 33
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(recent: &mut Recent, bodies: u64, octets: usize) -> u64 {
        let mut found = 0;
        for n in 0..bodies {
            match recent.find(BodyKey::Provider(n)) {
                Some(body) => {
                    assert_eq!(body[..8], n.to_le_bytes());
                    found += 1;
                }
                None => {
                    let mut body = n.to_le_bytes().to_vec();
                    body.resize(octets, 0);
                    recent.keep(BodyKey::Provider(n), &body.into());
                }
            }
            let sum: u64 = recent.bodies.values().map(|body| body.len() as u64).sum();
            assert!(recent.octets == sum && sum <= OCTETS && recent.keys.len() == recent.bodies.len());
        }
        found
    }

    #[test]
    fn a_second_walk_finds_most_of_the_first() {
        let mut recent = Recent::default();
        let octets = 1 << 17;
        let fits = OCTETS >> 17;
        assert_eq!(walk(&mut recent, fits, octets), 0);
        assert_eq!(walk(&mut recent, fits, octets), fits, "what fits stays");
        let more = fits + fits / 10;
        walk(&mut recent, more, octets);
        let found = walk(&mut recent, more, octets);
        assert!(found > more / 2, "{found} of {more}, a tenth of which does not fit");
    }

    #[test]
    fn one_large_body_is_kept_alone_and_a_larger_one_not_at_all() {
        let mut recent = Recent::default();
        walk(&mut recent, 10, 1000);
        recent.keep(BodyKey::Provider(100), &vec![0; OCTETS as usize + 1].into());
        assert!(recent.find(BodyKey::Provider(100)).is_some() && recent.keys.len() == 1);
        recent.keep(BodyKey::Provider(101), &vec![0; ONE as usize + 1].into());
        assert!(recent.find(BodyKey::Provider(101)).is_none() && recent.keys.len() == 1);
        recent.keep(BodyKey::Provider(102), &Bytes::from_static(b"small"));
        assert!(recent.find(BodyKey::Provider(100)).is_none() && recent.find(BodyKey::Provider(102)).is_some());
    }
}
