//! One client's numbering of its selected mailbox.
//!
//! A view is the version of the mailbox that the client knows, message for message and number for number. The only way it
//! changes is [`View::catch_up`], which says at the same time what the client has to be told, so the two cannot drift
//! apart. It is a reference to shared pages and a few words: a thousand idle views of one mailbox share its memory.
//!
//! Law 2: sequence numbers live here, and [`View::catch_up`] with its [`Tell`] is the one place that decides whether an
//! EXPUNGE may be told (RFC 9051 §7.5.1, RFC 3501 §7.4.1). Messages that are gone but may not be told yet stay in the view,
//! with the flags last known, until it may. Law 9: pure, no I/O, no clock.

use std::sync::Arc;

use crate::engine::Snapshot;
use crate::model::{
    Change, FlagOp, Flags, Keyword, MessageMeta, ModSeq, Pages, Seq, SequenceSet, Uid, UidSet,
};
use crate::wire::imap::command::Numbers;

/// What the client knows of its mailbox.
#[derive(Clone, Debug)]
pub struct View {
    shown: Pages,
    keywords: Arc<[Keyword]>,
    /// Everything up to here has been told.
    highest: ModSeq,
}

/// How much may be told now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tell<'a> {
    /// EXPUNGE and VANISHED: not while answering FETCH, STORE or SEARCH, whose numbers they would shift under the client's
    /// feet, nor in IDLE's absence when no command is in progress. Their UID forms allow it.
    pub expunge: bool,
    /// The client knows mod-sequences (CONDSTORE): a change of a mod-sequence alone is told too.
    pub mod_sequences: bool,
    /// The STORE that is being answered.
    pub store: Option<&'a Stored<'a>>,
}

/// A STORE of this client, for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The messages asked for.
    pub uids: &'a UidSet,
    pub op: FlagOp,
    pub flags: &'a Flags,
    pub silent: bool,
    /// Those of them that UNCHANGEDSINCE held back; their state is told in full (RFC 7162 §3.1.3).
    pub failed: &'a UidSet,
}

/// What the client has to be told to know what the view now shows, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// A keyword was not known before: FLAGS and PERMANENTFLAGS are told anew.
    pub keywords: bool,
    /// Ascending, numbers as before this catch-up. To be told from the last to the first, so that each is right when it is read.
    pub expunged: Vec<(Seq, Uid)>,
    /// The number of messages, if some arrived.
    pub exists: Option<u32>,
    /// Messages to tell with FETCH, ascending, numbers as after the EXPUNGEs.
    pub changed: Vec<Changed>,
}

impl News {
    pub fn is_empty(&self) -> bool {
        !self.keywords && self.expunged.is_empty() && self.exists.is_none() && self.changed.is_empty()
    }
}

/// A message to tell with FETCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    pub seq: Seq,
    /// The client knows the flags (its own STORE .SILENT) and lacks the new mod-sequence only.
    pub mod_sequence_only: bool,
}

/// A message came up below one the client knows. Numbers cannot express that, so the session has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renumbered;

/// A sequence number the client cannot know (RFC 9051 §6.4.5: such a set is an error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadNumber;

impl View {
    /// The view of a mailbox just selected.
    pub fn new(snapshot: &Snapshot) -> Self {
        Self {
            shown: snapshot.messages.clone(),
            keywords: Arc::clone(&snapshot.keywords),
            highest: snapshot.highest_modseq,
        }
    }

    /// The messages as the client numbers them: index 0 has sequence number 1.
    pub fn messages(&self) -> &Pages {
        &self.shown
    }

    /// The HIGHESTMODSEQ a client may be told now. It stands still while an expunge is held back: a client that resynchronised
    /// from a later value would never hear of that expunge (RFC 7162 §3.2.5).
    pub fn highest_modseq(&self) -> ModSeq {
        self.highest
    }

    /// The UIDs a command's set names. In the UID form `*` is the last message (RFC 9051 `seq-range`) and UIDs that do not exist
    /// are no error. A sequence number beyond the last is one, and in an empty mailbox every set of them is, as in Dovecot.
    /// `saved` stands for `$`.
    pub fn resolve(&self, numbers: &Numbers, saved: &UidSet) -> Result<UidSet, BadNumber> {
        if numbers.uid || numbers.set.is_saved() {
            return Ok(self.resolve_uids(&numbers.set, saved));
        }
        if self.shown.is_empty() || numbers.set.largest_named() > self.shown.len() {
            return Err(BadNumber);
        }
        Ok(self.numbers_to_uids(&numbers.set.resolve(self.shown.len())))
    }

    /// The same for a set that holds UIDs in any case.
    pub fn resolve_uids(&self, set: &SequenceSet, saved: &UidSet) -> UidSet {
        if set.is_saved() { saved.clone() } else { set.resolve(self.shown.last().map_or(0, |last| last.uid.0)) }
    }

    /// The UIDs at those sequence numbers, numbers beyond the last left out.
    pub fn numbers_to_uids(&self, numbers: &UidSet) -> UidSet {
        let mut uids = UidSet::new();
        for range in numbers.ranges() {
            let count = (range.end() - range.start()) as usize + 1;
            for (_, message) in self.shown.iter_from(range.start().saturating_sub(1)).take(count) {
                uids.insert(message.uid.0);
            }
        }
        uids
    }

    /// The sequence numbers of those UIDs that are shown.
    pub fn uids_to_numbers(&self, uids: &UidSet) -> UidSet {
        self.shown.select(uids).map(|(index, _)| index + 1).collect()
    }

    /// Goes on to the newest version and says what the client has to hear. Cost: the pages that differ.
    pub fn catch_up(&mut self, newest: &Snapshot, tell: Tell<'_>) -> Result<News, Renumbered> {
        let mut news = News { keywords: self.take_keywords(&newest.keywords), ..News::default() };
        if self.shown.same(&newest.messages) && tell.store.is_none() {
            self.highest = newest.highest_modseq;
            return Ok(news);
        }
        let target = if tell.expunge { newest.messages.clone() } else { newest.messages.retaining(&self.shown) };
        let last_shown = self.shown.last().map_or(Uid(0), |last| last.uid);
        let (mut arrived, mut renumbered) = (0, false);
        let (shown, expunged) = (&self.shown, &mut news.expunged);
        let mut changed: Vec<(Uid, bool)> = Vec::new();
        shown.diff(&target, |change| match change {
            Change::Vanished { uid } => {
                // The index is there: the difference names messages of `shown` only.
                if let Some(index) = shown.index_of(uid) {
                    expunged.push((Seq(index + 1), uid));
                }
            }
            Change::Arrived(new) => {
                arrived += 1;
                renumbered |= new.uid <= last_shown;
            }
            Change::Changed { old, new } => match tell.store {
                Some(stored) if stored.uids.contains(new.uid.0) => {}
                _ => {
                    if old.flags != new.flags || (tell.mod_sequences && old.modseq != new.modseq) {
                        changed.push((new.uid, false));
                    }
                }
            },
        });
        if renumbered {
            return Err(Renumbered);
        }
        if let Some(stored) = tell.store {
            for (_, old) in shown.select(stored.uids) {
                // Gone for others already: nothing can be said of its flags.
                if let Some(new) = newest.messages.get(old.uid)
                    && let Some(mod_sequence_only) = stored.answer(old, new, tell.mod_sequences)
                {
                    changed.push((new.uid, mod_sequence_only));
                }
            }
            changed.sort_unstable();
        }
        news.changed = changed
            .into_iter()
            .filter_map(|(uid, mod_sequence_only)| {
                target.index_of(uid).map(|index| Changed { seq: Seq(index + 1), mod_sequence_only })
            })
            .collect();
        news.exists = (arrived > 0).then_some(target.len());
        if target.len() == newest.messages.len() {
            self.highest = newest.highest_modseq;
        }
        self.shown = target;
        Ok(news)
    }

    fn take_keywords(&mut self, newest: &Arc<[Keyword]>) -> bool {
        if Arc::ptr_eq(&self.keywords, newest) {
            return false;
        }
        let fresh = newest.iter().any(|keyword| !self.keywords.contains(keyword));
        self.keywords = Arc::clone(newest);
        fresh
    }
}

impl Stored<'_> {
    /// What this STORE's answer says of a message: nothing, everything (`false`), or its mod-sequence only (`true`).
    fn answer(&self, old: &MessageMeta, new: &MessageMeta, mod_sequences: bool) -> Option<bool> {
        if !self.silent || self.failed.contains(new.uid.0) {
            return Some(false);
        }
        if new.flags != old.flags.apply(self.op, self.flags) {
            // Somebody else changed it too: silence covers what the client asked for, not what it cannot know.
            return Some(false);
        }
        (mod_sequences && old.modseq != new.modseq).then_some(true)
    }
}
