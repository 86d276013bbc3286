//! The keywords kept here for one mailbox, laid over what upstream says of its messages: pure.
//!
//! The mirror and what sessions see is the union; the index on disk holds upstream's part alone, so that a cache that lost its last
//! moments never contradicts the durable state.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::error::Error;
use crate::engine::snapshot::Snapshot;
use crate::model::{FlagOp, Flags, Keyword, MessageMeta, ModSeq, SystemFlags, Uid, UidSet, UidValidity};
use crate::state::LocalKeywords;
use crate::upstream::FetchMeta;

/// Keywords of one message: a program that tags has a dozen, and the index takes no value above 7 KiB.
const PER_MESSAGE: usize = 64;
/// Different keywords of one mailbox: all of them stand in every FLAGS response. Cyrus takes 128 (MAX_USER_FLAGS).
const NAMES: usize = 256;
/// Keywords of all messages of a mailbox: Thunderbird marks each with `NonJunk`, and this is some 50 MB of memory.
const PER_MAILBOX: usize = 500_000;

/// What is kept of a mailbox. A [`Keyword`] is at most 255 octets long by itself.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// What `own` belongs to; 0 before the mailbox has been read.
    validity: UidValidity,
    /// Keywords only, never empty.
    own: BTreeMap<Uid, Flags>,
    /// How many messages have each.
    names: BTreeMap<Keyword, usize>,
    total: usize,
    /// What is kept under other UIDVALIDITYs: of before, or of a mailbox that has not been read yet.
    others: BTreeMap<UidValidity, BTreeMap<Uid, Flags>>,
    /// Messages being moved away, and what they had when they left: for where they go.
    leaving: UidSet,
    left: BTreeMap<Uid, Flags>,
}

/// Messages whose keywords are to change, each with all it has then.
pub(crate) type Changes = Vec<(Uid, Flags)>;

impl Overlay {
    pub(crate) fn new(kept: &BTreeMap<UidValidity, LocalKeywords>) -> Self {
        let flags = |keywords: &Vec<Keyword>| Flags::new(SystemFlags::default(), keywords.iter().cloned());
        let of = |kept: &LocalKeywords| kept.keywords.iter().map(|(uid, keywords)| (*uid, flags(keywords))).collect();
        Self { others: kept.iter().map(|(validity, kept)| (*validity, of(kept))).collect(), ..Self::default() }
    }

    /// From now on this is about messages under that UIDVALIDITY.
    pub(crate) fn enter(&mut self, validity: UidValidity) {
        if self.validity == validity {
            return;
        }
        let own = self.others.remove(&validity).unwrap_or_default();
        let before = std::mem::replace(&mut self.own, own);
        if !before.is_empty() {
            self.others.insert(self.validity, before);
        }
        self.validity = validity;
        (self.names, self.total) = (BTreeMap::new(), 0);
        for keyword in self.own.values().flat_map(Flags::keywords) {
            *self.names.entry(keyword.clone()).or_default() += 1;
            self.total += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// Whether anything is kept, under whatever UIDVALIDITY.
    pub(crate) fn keeps_any(&self) -> bool {
        !self.own.is_empty() || !self.others.is_empty()
    }

    /// Forgets what is kept under other UIDVALIDITYs; whether there was any.
    pub(crate) fn forget_others(&mut self) -> bool {
        !std::mem::take(&mut self.others).is_empty()
    }

    /// All that is kept under this UIDVALIDITY.
    pub(crate) fn all(&self) -> &BTreeMap<Uid, Flags> {
        &self.own
    }

    /// What is kept of a message.
    pub(crate) fn of(&self, uid: Uid) -> Flags {
        self.own.get(&uid).cloned().unwrap_or_default()
    }

    /// Upstream's part of a message's flags.
    pub(crate) fn bare(&self, message: &MessageMeta) -> Flags {
        match self.own.get(&message.uid) {
            Some(own) => message.flags.apply(FlagOp::Remove, own),
            None => message.flags.clone(),
        }
    }

    /// Turns what upstream told into what clients are told.
    pub(crate) fn lay(&self, seen: &mut [FetchMeta]) {
        if self.own.is_empty() {
            return;
        }
        for meta in seen {
            if let (Some(flags), Some(uid)) = (&mut meta.flags, meta.uid)
                && let Some(own) = self.own.get(&uid)
            {
                *flags = flags.apply(FlagOp::Add, own);
            }
        }
    }

    /// Takes messages of the mirror back to what upstream told, for the index.
    pub(crate) fn strip(&self, messages: &mut [MessageMeta]) {
        if self.own.is_empty() {
            return;
        }
        for message in messages {
            message.flags = self.bare(message);
        }
    }

    /// Lays what is kept over an index just read (ascending). Messages changed after `known`, the index's own mod-sequence, get
    /// `fresh`: the index has lost that change, and clients may know it or not. Those are returned as the index is to have them.
    pub(crate) fn restore(
        &self,
        messages: &mut [MessageMeta],
        changed: &BTreeMap<Uid, ModSeq>,
        known: ModSeq,
        fresh: ModSeq,
    ) -> Vec<MessageMeta> {
        let mut late = Vec::new();
        for (uid, _) in changed.iter().filter(|(_, modseq)| **modseq > known) {
            if let Ok(at) = messages.binary_search_by_key(uid, |message| message.uid)
                && let Some(message) = messages.get_mut(at)
            {
                message.modseq = fresh;
                late.push(message.clone());
            }
        }
        for (uid, own) in &self.own {
            if let Ok(at) = messages.binary_search_by_key(uid, |message| message.uid)
                && let Some(message) = messages.get_mut(at)
            {
                message.flags = message.flags.apply(FlagOp::Add, own);
            }
        }
        late
    }

    /// What a STORE of these keywords changes of messages that are there.
    pub(crate) fn changes(&self, snapshot: &Snapshot, uids: &UidSet, op: FlagOp, keywords: &Flags) -> Changes {
        if keywords.keywords().is_empty() && self.own.is_empty() {
            return Vec::new();
        }
        let changed = snapshot.messages.select(uids).filter_map(|(_, message)| {
            let old = self.of(message.uid);
            let new = match op {
                // What upstream has of it already need not be kept twice.
                FlagOp::Add => old.apply(op, &keywords.apply(FlagOp::Remove, &self.bare(message))),
                FlagOp::Remove | FlagOp::Replace => old.apply(op, keywords),
            };
            let new = Flags::new(SystemFlags::default(), new.keywords().iter().cloned());
            (new != old).then_some((message.uid, new))
        });
        changed.collect()
    }

    /// Whether there is room for these changes.
    pub(crate) fn check(&self, changes: &Changes) -> Result<(), Error> {
        let mut total = self.total;
        let mut fresh: BTreeSet<&Keyword> = BTreeSet::new();
        for (uid, new) in changes {
            let old = self.own.get(uid).map_or(0, |old| old.keywords().len());
            if new.keywords().len() > PER_MESSAGE.max(old) {
                return Err(limit(format!("a message may have {PER_MESSAGE} of them")));
            }
            total = (total + new.keywords().len()).saturating_sub(old);
            fresh.extend(new.keywords().iter().filter(|keyword| !self.names.contains_key(keyword)));
        }
        if !fresh.is_empty() && self.names.len() + fresh.len() > NAMES {
            return Err(limit(format!("a mailbox may have {NAMES} different ones")));
        }
        if total > PER_MAILBOX.max(self.total) {
            return Err(limit(format!("the messages of a mailbox may have {PER_MAILBOX} together")));
        }
        Ok(())
    }

    /// Takes over changes that are committed.
    pub(crate) fn take(&mut self, changes: &Changes) {
        for (uid, new) in changes {
            self.forget_one(*uid);
            for keyword in new.keywords() {
                *self.names.entry(keyword.clone()).or_default() += 1;
                self.total += 1;
            }
            if !new.keywords().is_empty() {
                self.own.insert(*uid, new.clone());
            }
        }
    }

    /// Messages are gone; those of them that had keywords.
    pub(crate) fn forget(&mut self, gone: &UidSet) -> UidSet {
        let mut had = UidSet::new();
        for range in gone.ranges() {
            let uids: Vec<Uid> = self.own.range(Uid(*range.start())..=Uid(*range.end())).map(|(uid, _)| *uid).collect();
            for uid in uids {
                had.insert(uid.0);
                if let Some(flags) = self.forget_one(uid)
                    && self.leaving.contains(uid.0)
                {
                    self.left.insert(uid, flags);
                }
            }
        }
        had
    }

    /// Messages with keywords that a mailbox just read whole does not hold. Those from its UIDNEXT on may have come since.
    pub(crate) fn orphans(&self, there: &UidSet, uid_next: Uid) -> UidSet {
        self.own.range(..uid_next).map(|(uid, _)| uid.0).filter(|uid| !there.contains(*uid)).collect()
    }

    /// Messages are about to be moved away: what they have is not lost when they vanish, until [`Self::settle_leaving`].
    pub(crate) fn set_leaving(&mut self, uids: &UidSet) {
        self.leaving = self.leaving.union(uids);
    }

    /// The move has ended, well or not: what the messages have, or had when they vanished.
    pub(crate) fn settle_leaving(&mut self, uids: &UidSet) -> BTreeMap<Uid, Flags> {
        self.leaving = self.leaving.minus(uids);
        let mut had: BTreeMap<Uid, Flags> = BTreeMap::new();
        for uid in uids.iter().map(Uid) {
            let kept = self.left.remove(&uid).or_else(|| self.own.get(&uid).cloned());
            had.extend(kept.map(|flags| (uid, flags)));
        }
        had
    }

    fn forget_one(&mut self, uid: Uid) -> Option<Flags> {
        let old = self.own.remove(&uid)?;
        for keyword in old.keywords() {
            self.total -= 1;
            if let Some(count) = self.names.get_mut(keyword) {
                *count -= 1;
                if *count == 0 {
                    self.names.remove(keyword);
                }
            }
        }
        Some(old)
    }
}

fn limit(why: String) -> Error {
    Error::Limit(format!("The provider keeps no such keywords, so they are kept here, and {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mirror;
    use crate::model::InternalDate;

    fn flags(text: &str) -> Flags {
        Flags::parse(text.split(' '))
    }

    fn message(uid: u32, text: &str) -> MessageMeta {
        MessageMeta {
            uid: Uid(uid),
            flags: flags(text),
            modseq: ModSeq(5),
            internal_date: InternalDate::default(),
            size: 10,
            gm_msgid: 0,
        }
    }

    fn overlay(kept: &[(u32, &str)]) -> Overlay {
        let mut overlay = Overlay::default();
        overlay.enter(UidValidity(7));
        overlay.take(&kept.iter().map(|(uid, text)| (Uid(*uid), flags(text))).collect());
        overlay
    }

    fn snapshot(messages: &[(u32, &str)]) -> Snapshot {
        let messages = messages.iter().map(|(uid, text)| message(*uid, text)).collect();
        mirror::restore(Snapshot::empty("a".into()), messages)
    }

    fn uids(text: &str) -> UidSet {
        UidSet::parse(text).unwrap()
    }

    #[test]
    fn what_is_laid_on_can_be_taken_off() {
        let overlay = overlay(&[(2, "work $Later")]);
        let told =
            |uid: u32, text: &str| FetchMeta { uid: Some(Uid(uid)), flags: Some(flags(text)), ..FetchMeta::default() };
        let mut seen = [told(1, "\\Seen"), told(2, "\\Seen here"), FetchMeta::default()];
        overlay.lay(&mut seen);
        let laid: Vec<String> = seen.iter().flat_map(|meta| &meta.flags).map(ToString::to_string).collect();
        assert_eq!(laid, ["\\Seen", "\\Seen $Later here work"]);
        let mut messages = [message(1, "\\Seen"), message(2, "\\Seen $Later here work")];
        overlay.strip(&mut messages);
        assert_eq!(messages, [message(1, "\\Seen"), message(2, "\\Seen here")]);
    }

    #[test]
    fn a_store_changes_what_differs() {
        // Upstream has `here` on message 3.
        let snapshot = snapshot(&[(1, "\\Seen"), (2, "work"), (3, "here work")]);
        let overlay = overlay(&[(2, "work"), (3, "work")]);
        let table = [
            (FlagOp::Add, "work here", "1:9", "1:here work 2:here work"),
            (FlagOp::Add, "WORK", "2:3", ""),
            (FlagOp::Remove, "work", "1:9", "2: 3:"),
            (FlagOp::Remove, "other", "1:9", ""),
            (FlagOp::Replace, "x", "1:2", "1:x 2:x"),
            (FlagOp::Replace, "", "1:9", "2: 3:"),
            (FlagOp::Replace, "work", "1:9", "1:work"),
        ];
        for (op, keywords, which, want) in table {
            let changes = overlay.changes(&snapshot, &uids(which), op, &flags(keywords));
            let told: Vec<String> = changes.iter().map(|(uid, flags)| format!("{uid}:{flags}")).collect();
            assert_eq!(told.join(" "), want, "{op:?} {keywords} {which}");
        }
    }

    #[test]
    fn an_index_that_lost_a_change_is_told_apart() {
        let overlay = overlay(&[(2, "work"), (4, "late"), (9, "gone")]);
        let mut messages: Vec<MessageMeta> = (1..=5).map(|uid| message(uid, "\\Seen")).collect();
        let changed = [(2, 100), (3, 101), (4, 102), (9, 103)].map(|(uid, modseq)| (Uid(uid), ModSeq(modseq))).into();
        let late = overlay.restore(&mut messages, &changed, ModSeq(100), ModSeq(500));
        let told: Vec<_> =
            late.iter().map(|message| (message.uid.0, message.flags.to_string(), message.modseq.0)).collect();
        assert_eq!(told, [(3, "\\Seen".into(), 500), (4, "\\Seen".into(), 500)], "as upstream has them");
        let shown: Vec<_> = messages.iter().map(|message| (message.flags.to_string(), message.modseq.0)).collect();
        let want = [("\\Seen", 5), ("\\Seen work", 5), ("\\Seen", 500), ("\\Seen late", 500), ("\\Seen", 5)];
        assert_eq!(shown, want.map(|(text, modseq)| (text.to_owned(), modseq)));
    }

    #[test]
    fn a_uidvalidity_has_its_own() {
        let kept = LocalKeywords {
            keywords: BTreeMap::from([(Uid(1), vec![Keyword::new("work").unwrap()])]),
            changed: BTreeMap::new(),
        };
        let mut overlay = Overlay::new(&BTreeMap::from([(UidValidity(7), kept.clone()), (UidValidity(8), kept)]));
        assert!(overlay.is_empty());
        overlay.enter(UidValidity(8));
        overlay.take(&vec![(Uid(1), flags("other"))]);
        overlay.enter(UidValidity(7));
        assert_eq!(overlay.of(Uid(1)), flags("work"));
        overlay.enter(UidValidity(8));
        assert_eq!(overlay.of(Uid(1)), flags("other"));
        assert!(overlay.forget_others() && !overlay.forget_others());
        overlay.enter(UidValidity(7));
        assert!(overlay.is_empty());
    }

    #[test]
    fn what_leaves_is_remembered_for_where_it_goes() {
        let mut overlay = overlay(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
        overlay.set_leaving(&uids("2:3,9"));
        assert_eq!(overlay.forget(&uids("1:2")).to_string(), "1:2");
        assert_eq!(overlay.orphans(&uids("4"), Uid(4)).to_string(), "3");
        let had = overlay.settle_leaving(&uids("2:3,9"));
        assert_eq!(had, BTreeMap::from([(Uid(2), flags("b")), (Uid(3), flags("c"))]));
        overlay.forget(&uids("3"));
        assert!(overlay.settle_leaving(&uids("2:3")).is_empty());
        assert_eq!((overlay.total, overlay.names.len(), overlay.of(Uid(4))), (1, 1, flags("d")));
    }

    #[test]
    fn there_are_limits() {
        let many = |names: std::ops::Range<usize>| -> Flags {
            Flags::new(SystemFlags::default(), names.map(|n| Keyword::new(&format!("k{n}")).unwrap()))
        };
        let mut overlay = overlay(&[]);
        assert!(overlay.check(&vec![(Uid(1), many(0..PER_MESSAGE))]).is_ok());
        assert!(matches!(overlay.check(&vec![(Uid(1), many(0..PER_MESSAGE + 1))]), Err(Error::Limit(_))));
        for (uid, first) in (0..NAMES).step_by(PER_MESSAGE).enumerate() {
            overlay.take(&vec![(Uid(uid as u32 + 1), many(first..first + PER_MESSAGE))]);
        }
        assert_eq!((overlay.names.len(), overlay.total), (NAMES, NAMES));
        assert!(overlay.check(&vec![(Uid(9), many(5..9))]).is_ok(), "names that are there already");
        assert!(matches!(overlay.check(&vec![(Uid(9), many(NAMES..NAMES + 1))]), Err(Error::Limit(_))));
        overlay.total = PER_MAILBOX;
        assert!(matches!(overlay.check(&vec![(Uid(9), many(0..1))]), Err(Error::Limit(_))));
        assert!(overlay.check(&vec![(Uid(1), many(0..1))]).is_ok(), "less than before");
    }
}
