//! What vanished from a mailbox, as far back as it is remembered.

use std::collections::VecDeque;

use crate::model::{ModSeq, UidSet};

/// Expunges remembered per mailbox in memory; the store keeps its own bound. 10,000 entries are some hundred KB.
const MOST: usize = 10_000;

/// What vanished, with our mod-sequences, ascending (RFC 7162 §3.2.7).
#[derive(Debug, Default)]
pub(crate) struct VanishedLog {
    entries: VecDeque<(ModSeq, UidSet)>,
    /// The log is complete for everything after this.
    floor: ModSeq,
}

impl VanishedLog {
    pub(crate) fn new(entries: Vec<(ModSeq, UidSet)>, floor: ModSeq) -> Self {
        Self { entries: entries.into(), floor }
    }

    pub(crate) fn push(&mut self, modseq: ModSeq, uids: UidSet) {
        if uids.is_empty() {
            return;
        }
        self.entries.push_back((modseq, uids));
        while self.entries.len() > MOST {
            if let Some((dropped, _)) = self.entries.pop_front() {
                self.floor = dropped;
            }
        }
    }

    pub(crate) fn since(&self, since: ModSeq) -> Option<UidSet> {
        if since < self.floor {
            return None;
        }
        let newer = self.entries.iter().filter(|(modseq, _)| *modseq > since);
        Some(newer.fold(UidSet::new(), |all, (_, uids)| all.union(uids)))
    }
}
