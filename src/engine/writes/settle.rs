//! Telling what a write brought, where upstream did not say so: by what is new in the mailbox it was to go to.

use std::collections::HashMap;

use tokio::time::Duration;

use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::engine::snapshot::Snapshot;
use crate::model::{MessageMeta, Uid, UidSet, UidValidity};
use crate::upstream::{self, Lease};

/// How a step of a write failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection is gone, or of no use any more: what became of the step is to be looked for.
    Lost(String),
    /// The step was refused, by upstream or by ourselves: it was not carried out.
    Refused(Error),
}

impl From<upstream::Error> for Fault {
    fn from(error: upstream::Error) -> Self {
        match error {
            upstream::Error::Lost { reason, .. } | upstream::Error::Protocol(reason) => Self::Lost(reason),
            error => Self::Refused(error.into()),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Lost(reason) => Self::Unavailable(format!("The connection to the provider was lost: {reason}")),
            Fault::Refused(error) => error,
        }
    }
}

/// A server may still be at work on a command whose connection is lost: what is not there at the first look is looked for so often
/// again. Servers copy and store within a second; one that takes longer is believed not to have done it.
pub(super) const LOOKS: usize = 2;
pub(super) const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What was in a mailbox before a write, so that what the write brought can be told.
pub(super) struct Window {
    /// `None`: nothing can be told to be new.
    uid_next: Option<Uid>,
    uid_validity: UidValidity,
    /// New, and known to be something else.
    taken: UidSet,
}

impl Window {
    /// The mirror is believed to know what is there for so long after a look.
    const FRESH: Duration = Duration::from_secs(2);

    /// As the mirror has it: it may know less than upstream holds, never more.
    pub(super) fn before(target: &State) -> Self {
        let snapshot = target.snapshot();
        Self {
            uid_next: target.is_known().then_some(snapshot.uid_next),
            uid_validity: snapshot.uid_validity,
            taken: UidSet::new(),
        }
    }

    /// The same where the mirror has just held all there is, so that nothing others have brought is taken for ours.
    pub(super) fn fresh(target: &State) -> Option<Self> {
        let is_fresh = target.is_live() || target.counted().is_some_and(|at| at.elapsed() < Self::FRESH);
        (is_fresh && target.is_known()).then(|| Self::before(target))
    }

    /// As upstream has it now.
    pub(super) async fn ask(lease: &mut Lease, target: &State) -> Result<Self, Fault> {
        match lease.status(&target.name).await.map_err(Fault::from) {
            Ok(status) => Ok(Self {
                uid_next: status.uid_next,
                uid_validity: status.uid_validity.unwrap_or_default(),
                taken: UidSet::new(),
            }),
            // The write itself will say why.
            Err(Fault::Refused(_)) => {
                Ok(Self { uid_next: None, uid_validity: UidValidity::default(), taken: UidSet::new() })
            }
            Err(fault) => Err(fault),
        }
    }

    /// This one is known, and none of the next ones.
    pub(super) fn take(&mut self, uid: Option<Uid>) {
        if let Some(Uid(uid)) = uid {
            self.taken.insert(uid);
        }
    }

    /// UIDVALIDITY, and the lowest UID of what is new, where that is known.
    pub(super) fn begin(&self) -> (UidValidity, Option<Uid>) {
        (self.uid_validity, self.uid_next)
    }

    /// Whether anything can be told to be new.
    pub(super) fn is_known(&self) -> bool {
        self.uid_next.is_some()
    }

    /// Whether a message was not there before.
    pub(super) fn is_new(&self, uid_validity: UidValidity, uid: Uid) -> bool {
        uid_validity == self.uid_validity && self.uid_next.is_some_and(|next| uid >= next)
    }

    pub(super) fn arrivals(&self, now: &Snapshot) -> Vec<MessageMeta> {
        let Some(next) = self.uid_next.filter(|_| now.uid_validity == self.uid_validity) else { return Vec::new() };
        let first = now.messages.lower_bound(next);
        let new = now.messages.iter_from(first).map(|(_, message)| message.clone());
        new.filter(|message| !self.taken.contains(message.uid.0)).collect()
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
