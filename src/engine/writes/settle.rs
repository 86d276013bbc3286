//! Telling what a write brought, where upstream did not say so: by what is new in the mailbox it was to go to.

use std::collections::HashMap;

use crate::engine::mailbox::State;
use crate::engine::snapshot::Snapshot;
use crate::model::{MessageMeta, Uid};

/// What was in a mailbox before a write, so that what the write brought can be told.
pub(super) struct Window {
    pub(super) known: bool,
    uid_next: Uid,
}

impl Window {
    pub(super) fn before(target: &State) -> Self {
        Self { known: target.is_known(), uid_next: target.snapshot().uid_next }
    }

    pub(super) fn arrivals(&self, now: &Snapshot) -> Vec<MessageMeta> {
        if !self.known {
            // Never seen before: nothing can be told to be new.
            return Vec::new();
        }
        let first = now.messages.lower_bound(self.uid_next);
        now.messages.iter_from(first).map(|(_, message)| message.clone()).collect()
    }
}

/// Finds messages among those that arrived by size and date: how many have one of their own there, and which became which, if that is
/// beyond doubt. Two that look alike could be taken for each other, and one would be given the other's body.
pub(super) fn matched<'a>(
    sources: impl Iterator<Item = &'a MessageMeta>,
    arrived: &[MessageMeta],
) -> (usize, Option<Vec<(Uid, Uid)>>) {
    let look = |message: &MessageMeta| (message.size, message.internal_date.seconds);
    let mut alike: HashMap<_, (Vec<Uid>, Vec<Uid>)> = HashMap::new();
    for message in sources {
        alike.entry(look(message)).or_default().0.push(message.uid);
    }
    for message in arrived {
        if let Some((_, there)) = alike.get_mut(&look(message)) {
            there.push(message.uid);
        }
    }
    let found = alike.values().map(|(here, there)| here.len().min(there.len())).sum();
    let pairs = alike.values().map(|(here, there)| match (here.as_slice(), there.as_slice()) {
        ([here], [there]) => Some((*here, *there)),
        _ => None,
    });
    (found, pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Flags, InternalDate, ModSeq};

    fn message(uid: u32, size: u32, seconds: i64) -> MessageMeta {
        MessageMeta {
            uid: Uid(uid),
            flags: Flags::default(),
            modseq: ModSeq(1),
            internal_date: InternalDate { seconds, ..InternalDate::default() },
            size,
            gm_msgid: 0,
        }
    }

    /// UID, size and seconds of messages; how many are found, and which became which.
    struct Case {
        sources: &'static [(u32, u32, i64)],
        arrived: &'static [(u32, u32, i64)],
        found: usize,
        pairs: Option<&'static [(u32, u32)]>,
    }

    #[test]
    fn copies_are_told_apart_or_not_told() {
        let case = |sources, arrived, found, pairs| Case { sources, arrived, found, pairs };
        let table = [
            case(&[(1, 10, 5), (2, 11, 5)], &[(71, 11, 5), (72, 10, 5), (73, 9, 9)], 2, Some(&[(1, 72), (2, 71)])),
            case(&[(1, 10, 5)], &[], 0, None),
            case(&[(1, 10, 5), (2, 11, 5)], &[(71, 11, 5)], 1, None),
            // Alike: all are there, and which is which is not known.
            case(&[(1, 10, 5), (2, 10, 5)], &[(71, 10, 5), (72, 10, 5)], 2, None),
            case(&[(1, 10, 5)], &[(71, 10, 5), (72, 10, 5)], 1, None),
        ];
        let make = |list: &[(u32, u32, i64)]| -> Vec<MessageMeta> {
            list.iter().map(|(uid, size, seconds)| message(*uid, *size, *seconds)).collect()
        };
        for Case { sources, arrived, found, pairs } in table {
            let (got, mut told) = matched(make(sources).iter(), &make(arrived));
            if let Some(told) = &mut told {
                told.sort_unstable();
            }
            let pairs: Option<Vec<_>> = pairs.map(|p| p.iter().map(|(a, b)| (Uid(*a), Uid(*b))).collect());
            assert_eq!((got, told), (found, pairs), "{sources:?} {arrived:?}");
        }
    }
}
