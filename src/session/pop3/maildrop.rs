//! The maildrop: what one session shows of a mailbox, fixed at login, and the only place where POP3's message numbers live (Law 2).
//!
//! It is the snapshot of that moment less what this login has hidden. Nothing changes it but DELE and RSET, which only mark
//! (RFC 1939 §6: what is deleted goes at QUIT). It costs a session nothing per message while nothing is hidden: 100,000 messages are
//! shared with the mirror. Pure: no I/O, no clock (Law 9).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::engine::Snapshot;
use crate::model::{MessageMeta, Uid, UniqueId};

/// What of the mailbox is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// What this login has hidden.
    pub(crate) hidden: HashSet<UniqueId>,
    /// Show what has arrived since then, hidden or not, and nothing else: seconds since the epoch.
    pub(crate) recent_since: Option<i64>,
    /// Show so many at most: the newest.
    pub(crate) newest: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Maildrop {
    snapshot: Arc<Snapshot>,
    /// Octets RETR sends, where they are known to be others than RFC822.SIZE.
    octets: Arc<HashMap<Uid, u32>>,
    shown: Shown,
    /// Messages with the provider's id of another one before them in the mailbox: an id names one message of a maildrop.
    twins: HashSet<Uid>,
    total: u64,
    /// By number, from bit 1; empty while nothing is deleted.
    deleted: Vec<u64>,
    deleted_count: u32,
    deleted_octets: u64,
}

/// Which messages of the snapshot have numbers.
#[derive(Debug)]
enum Shown {
    /// From this index on, all.
    From(u32),
    /// These indices, ascending.
    Some(Vec<u32>),
}

/// Why a number is not a message's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoMessage {
    /// There are only so many.
    Beyond(u32),
    Deleted,
}

impl Maildrop {
    pub(crate) fn new(snapshot: Arc<Snapshot>, octets: Arc<HashMap<Uid, u32>>, choice: &Choice) -> Self {
        let mut maildrop = Self {
            twins: twins(&snapshot),
            snapshot,
            octets,
            shown: Shown::From(0),
            total: 0,
            deleted: Vec::new(),
            deleted_count: 0,
            deleted_octets: 0,
        };
        maildrop.shown = maildrop.choose(choice);
        maildrop.total = maildrop.sum();
        maildrop
    }

    fn choose(&self, choice: &Choice) -> Shown {
        let all = self.snapshot.messages.len();
        let newest = choice.newest.unwrap_or(all);
        let mut some: Vec<u32> = match choice.recent_since {
            None if choice.hidden.is_empty() => return Shown::From(all.saturating_sub(newest)),
            None => self.select(|message| !choice.hidden.contains(&self.id(message))),
            Some(since) => self.select(|message| message.internal_date.seconds >= since),
        };
        some.drain(..some.len().saturating_sub(newest as usize));
        Shown::Some(some)
    }

    fn select(&self, shows: impl Fn(&MessageMeta) -> bool) -> Vec<u32> {
        (0..).zip(self.snapshot.messages.iter()).filter(|(_, message)| shows(message)).map(|(index, _)| index).collect()
    }

    fn sum(&self) -> u64 {
        match &self.shown {
            // Counted once for all sessions; what is known better is put right.
            Shown::From(0) => {
                let known = self.octets.iter().filter_map(|(uid, octets)| {
                    self.snapshot.messages.get(*uid).map(|message| (u64::from(*octets), u64::from(message.size)))
                });
                known.fold(self.snapshot.status().size, |sum, (octets, size)| sum.saturating_sub(size) + octets)
            }
            Shown::From(first) => {
                self.snapshot.messages.iter_from(*first).map(|(_, message)| u64::from(self.octets(message))).sum()
            }
            Shown::Some(some) => some
                .iter()
                .filter_map(|index| self.snapshot.messages.at(*index))
                .map(|m| u64::from(self.octets(m)))
                .sum(),
        }
    }

    /// Messages with a number, deleted or not.
    pub(crate) fn len(&self) -> u32 {
        match &self.shown {
            Shown::From(first) => self.snapshot.messages.len().saturating_sub(*first),
            Shown::Some(some) => some.len() as u32,
        }
    }

    /// Messages not deleted, and their octets.
    pub(crate) fn left(&self) -> (u32, u64) {
        (self.len() - self.deleted_count, self.total.saturating_sub(self.deleted_octets))
    }

    /// A message by its number.
    pub(crate) fn message(&self, number: u32) -> Result<&MessageMeta, NoMessage> {
        let message = self.at(number).ok_or(NoMessage::Beyond(self.len()))?;
        if self.is_deleted(number) { Err(NoMessage::Deleted) } else { Ok(message) }
    }

    /// The first message not deleted whose number is at least this one.
    pub(crate) fn next(&self, number: u32) -> Option<(u32, &MessageMeta)> {
        let number = (number.max(1)..=self.len()).find(|number| !self.is_deleted(*number))?;
        self.at(number).map(|message| (number, message))
    }

    fn at(&self, number: u32) -> Option<&MessageMeta> {
        let place = number.checked_sub(1)?;
        let index = match &self.shown {
            Shown::From(first) => first.checked_add(place)?,
            Shown::Some(some) => *some.get(place as usize)?,
        };
        self.snapshot.messages.at(index)
    }

    fn is_deleted(&self, number: u32) -> bool {
        self.deleted.get((number / 64) as usize).is_some_and(|bits| bits >> (number % 64) & 1 == 1)
    }

    /// Octets RETR sends, as far as is known.
    pub(crate) fn octets(&self, message: &MessageMeta) -> u32 {
        self.octets.get(&message.uid).copied().unwrap_or(message.size)
    }

    /// What names a message for good.
    pub(crate) fn id(&self, message: &MessageMeta) -> UniqueId {
        if message.gm_msgid == 0 || self.twins.contains(&message.uid) {
            UniqueId::Number(self.snapshot.uid_validity, message.uid)
        } else {
            UniqueId::Provider(message.gm_msgid)
        }
    }

    /// Marks a message as deleted.
    pub(crate) fn delete(&mut self, number: u32) -> Result<(), NoMessage> {
        let octets = self.message(number).map(|message| u64::from(self.octets(message)))?;
        if self.deleted.is_empty() {
            self.deleted = vec![0; (self.len() / 64) as usize + 1];
        }
        if let Some(bits) = self.deleted.get_mut((number / 64) as usize) {
            *bits |= 1 << (number % 64);
        }
        self.deleted_count += 1;
        self.deleted_octets += octets;
        Ok(())
    }

    /// Undoes every deletion.
    pub(crate) fn reset(&mut self) {
        self.deleted = Vec::new();
        (self.deleted_count, self.deleted_octets) = (0, 0);
    }

    /// What is marked as deleted.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = &MessageMeta> {
        let words = (0u32..).zip(&self.deleted).filter(|(_, bits)| **bits != 0);
        let numbers = words.flat_map(|(word, _)| word * 64..word * 64 + 64);
        numbers.filter(|number| self.is_deleted(*number)).filter_map(|number| self.at(number))
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// Messages whose provider's id another before them has. Only where there are such ids at all.
fn twins(snapshot: &Snapshot) -> HashSet<Uid> {
    if snapshot.messages.at(0).is_none_or(|first| first.gm_msgid == 0)
        && snapshot.messages.last().is_none_or(|l| l.gm_msgid == 0)
    {
        return HashSet::new();
    }
    let mut seen = HashSet::with_capacity(snapshot.messages.len() as usize);
    let again = snapshot.messages.iter().filter(|message| message.gm_msgid != 0 && !seen.insert(message.gm_msgid));
    again.map(|message| message.uid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Flags, InternalDate, ModSeq, Pages, UidValidity};

    /// UID, octets, days, provider's id.
    fn snapshot(messages: &[(u32, u32, i64, u64)]) -> Arc<Snapshot> {
        let meta = |(uid, size, days, id): &(u32, u32, i64, u64)| MessageMeta {
            uid: Uid(*uid),
            flags: Flags::default(),
            modseq: ModSeq(1),
            internal_date: InternalDate { seconds: days * 86_400, zone: 0 },
            size: *size,
            gm_msgid: *id,
        };
        let mut snapshot = Snapshot::empty("INBOX".into());
        snapshot.uid_validity = UidValidity(9);
        snapshot.messages = Pages::from_messages(messages.iter().map(meta).collect());
        Arc::new(snapshot)
    }

    fn uids(maildrop: &Maildrop) -> Vec<u32> {
        (1..=maildrop.len()).filter_map(|n| maildrop.at(n)).map(|message| message.uid.0).collect()
    }

    #[test]
    fn what_is_shown() {
        let of = |choice: &Choice| {
            let snapshot = snapshot(&[(1, 10, 1, 0), (3, 20, 2, 0), (4, 30, 3, 0), (9, 40, 4, 0)]);
            Maildrop::new(snapshot, Arc::new(HashMap::from([(Uid(3), 22), (Uid(7), 5)])), choice)
        };
        let hidden: HashSet<UniqueId> = [3, 4].map(|uid| UniqueId::Number(UidValidity(9), Uid(uid))).into();
        let table = [
            (Choice::default(), vec![1, 3, 4, 9], 102),
            (Choice { newest: Some(3), ..Choice::default() }, vec![3, 4, 9], 92),
            (Choice { newest: Some(9), ..Choice::default() }, vec![1, 3, 4, 9], 102),
            (Choice { newest: Some(0), ..Choice::default() }, vec![], 0),
            (Choice { hidden: hidden.clone(), ..Choice::default() }, vec![1, 9], 50),
            (Choice { hidden: hidden.clone(), newest: Some(1), ..Choice::default() }, vec![9], 40),
            (Choice { hidden: hidden.clone(), recent_since: Some(3 * 86_400), newest: None }, vec![4, 9], 70),
            (Choice { hidden, recent_since: Some(0), newest: Some(2) }, vec![4, 9], 70),
        ];
        for (choice, want, octets) in table {
            let maildrop = of(&choice);
            assert_eq!((uids(&maildrop), maildrop.left()), (want.clone(), (want.len() as u32, octets)), "{choice:?}");
        }
    }

    #[test]
    fn deleting_and_thinking_better_of_it() {
        let all: Vec<(u32, u32, i64, u64)> = (1..=200).map(|n| (n * 2, n, 0, 0)).collect();
        let mut maildrop = Maildrop::new(snapshot(&all), Arc::default(), &Choice::default());
        let whole = maildrop.left();
        for number in [1, 63, 64, 65, 200] {
            maildrop.delete(number).unwrap();
            assert_eq!(maildrop.delete(number), Err(NoMessage::Deleted));
        }
        assert_eq!(maildrop.delete(0), Err(NoMessage::Beyond(200)));
        assert_eq!(maildrop.delete(201), Err(NoMessage::Beyond(200)));
        assert_eq!(maildrop.message(u32::MAX).unwrap_err(), NoMessage::Beyond(200));
        assert_eq!(maildrop.left(), (195, whole.1 - (1 + 63 + 64 + 65 + 200)));
        assert_eq!(maildrop.deleted().map(|m| m.uid.0).collect::<Vec<_>>(), [2, 126, 128, 130, 400]);
        assert_eq!(maildrop.next(63).map(|(number, _)| number), Some(66));
        assert_eq!((maildrop.next(200).is_none(), maildrop.next(0).map(|(number, _)| number)), (true, Some(2)));
        maildrop.reset();
        assert_eq!((maildrop.left(), maildrop.deleted().count()), (whole, 0));
    }

    #[test]
    fn an_id_names_one_message() {
        let maildrop = Maildrop::new(
            snapshot(&[(1, 1, 0, 77), (2, 1, 0, 78), (3, 1, 0, 77), (4, 1, 0, 0)]),
            Arc::default(),
            &Choice::default(),
        );
        let ids: Vec<String> = (1..=4).map(|n| maildrop.id(maildrop.at(n).unwrap()).to_string()).collect();
        assert_eq!(ids, ["77", "78", "9.3", "9.4"]);
    }
}
