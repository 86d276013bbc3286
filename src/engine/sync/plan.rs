//! What has to be asked to bring a mailbox in step: a pure function of what we know and what SELECT said (Law 9).
//!
//! The ladder (RFC 4549 §6, RFC 7162 §6): QRESYNC tells all in the SELECT itself; CONDSTORE tells changed flags, and
//! expunges are found by comparing counts, then sets; a bare server is asked for UIDs above UIDNEXT, its count is compared, and
//! flags are swept: the recent part each time, the whole now and then.

use crate::model::{Uid, UidValidity};
use crate::upstream::{Caps, Selected};

/// The recent messages whose flags a bare server is asked for at each look. A mailbox up to this size is always swept whole:
/// about 100 KB of answer.
pub(crate) const RECENT: u32 = 2000;

/// What upstream can tell by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ladder {
    Qresync,
    Condstore,
    Bare,
}

impl Ladder {
    pub(crate) fn of(caps: &Caps) -> Self {
        if caps.has("QRESYNC") {
            Self::Qresync
        } else if caps.has("CONDSTORE") {
            Self::Condstore
        } else {
            Self::Bare
        }
    }
}

/// What the mirror has before the look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) uid_validity: UidValidity,
    pub(crate) uid_next: Uid,
    /// The upstream's mod-sequence the mirror corresponds to, 0 for none.
    pub(crate) upstream_modseq: u64,
    /// Whether the mailbox was ever read whole under this UIDVALIDITY.
    pub(crate) complete: bool,
    /// Whether the whole of a large bare mailbox is due for a flag sweep.
    pub(crate) sweep_due: bool,
    /// UID of the message [`RECENT`] from the end (1 if there are fewer).
    pub(crate) recent_from: Uid,
}

/// What to ask, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The UIDs we hold mean nothing any more.
    Reset,
    /// Read everything.
    Whole,
    Changes {
        flags: FlagsPlan,
        /// Messages from this UID on are new.
        new_from: Option<Uid>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagsPlan {
    /// Nothing changed, or SELECT has told it.
    Known,
    /// `CHANGEDSINCE`.
    Since(u64),
    /// A sweep from this UID on.
    From(Uid),
}

impl FlagsPlan {
    /// What changed, and what went, between the parts of a reading that was begun at this mod-sequence.
    pub(crate) fn since_begun(ladder: Ladder, upstream_modseq: u64) -> Self {
        match ladder {
            Ladder::Bare => Self::From(Uid(1)),
            _ if upstream_modseq == 0 => Self::From(Uid(1)),
            _ => Self::Since(upstream_modseq),
        }
    }
}

pub(crate) fn plan(known: Known, selected: &Selected, ladder: Ladder) -> Plan {
    if known.uid_validity != UidValidity(0) && known.uid_validity != selected.uid_validity {
        return Plan::Reset;
    }
    if !known.complete {
        return Plan::Whole;
    }
    let keeps_modseq = selected.highest_modseq > 0 && known.upstream_modseq > 0;
    let flags = match ladder {
        // A mod-sequence that runs backwards (a restored server) says nothing about changes.
        Ladder::Qresync if keeps_modseq && selected.highest_modseq >= known.upstream_modseq => FlagsPlan::Known,
        Ladder::Condstore if keeps_modseq && selected.highest_modseq == known.upstream_modseq => FlagsPlan::Known,
        Ladder::Condstore if keeps_modseq && selected.highest_modseq > known.upstream_modseq => {
            FlagsPlan::Since(known.upstream_modseq)
        }
        Ladder::Qresync | Ladder::Condstore => FlagsPlan::From(Uid(1)),
        Ladder::Bare if known.sweep_due => FlagsPlan::From(Uid(1)),
        Ladder::Bare => FlagsPlan::From(known.recent_from),
    };
    // A server that does not tell UIDNEXT has to be asked each time.
    let new = selected.uid_next == Uid(0) || selected.uid_next > known.uid_next;
    Plan::Changes { flags, new_from: new.then_some(known.uid_next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder() {
        use FlagsPlan::{From, Known as Told, Since};
        use Ladder::{Bare, Condstore, Qresync};
        let known = Known {
            uid_validity: UidValidity(7),
            uid_next: Uid(100),
            upstream_modseq: 50,
            complete: true,
            sweep_due: false,
            recent_from: Uid(40),
        };
        let selected = |validity, next, modseq| Selected {
            uid_validity: UidValidity(validity),
            uid_next: Uid(next),
            highest_modseq: modseq,
            ..Selected::default()
        };
        let changes = |flags, new: Option<u32>| Plan::Changes { flags, new_from: new.map(Uid) };
        let table = [
            ("another validity", known, selected(8, 100, 50), Qresync, Plan::Reset),
            ("never read", Known { complete: false, ..known }, selected(7, 100, 50), Qresync, Plan::Whole),
            ("qresync told it", known, selected(7, 100, 60), Qresync, changes(Told, None)),
            ("qresync ran backwards", known, selected(7, 100, 49), Qresync, changes(From(Uid(1)), None)),
            ("qresync and new mail", known, selected(7, 101, 60), Qresync, changes(Told, Some(100))),
            ("no modseq kept", known, selected(7, 100, 0), Qresync, changes(From(Uid(1)), None)),
            ("condstore, quiet", known, selected(7, 100, 50), Condstore, changes(Told, None)),
            ("condstore, changed", known, selected(7, 102, 51), Condstore, changes(Since(50), Some(100))),
            ("condstore ran backwards", known, selected(7, 100, 49), Condstore, changes(From(Uid(1)), None)),
            ("bare", known, selected(7, 100, 0), Bare, changes(From(Uid(40)), None)),
            ("bare, no uidnext", known, selected(7, 0, 0), Bare, changes(From(Uid(40)), Some(100))),
            ("bare, sweep", Known { sweep_due: true, ..known }, selected(7, 100, 0), Bare, changes(From(Uid(1)), None)),
        ];
        for (name, known, selected, ladder, want) in table {
            assert_eq!(plan(known, &selected, ladder), want, "{name}");
        }
    }
}
