//! From what upstream said to the next snapshot: pure, and the only place that makes one (Law 1, Law 9).

use std::sync::{Arc, OnceLock};

use super::snapshot::Snapshot;
use crate::model::{Keyword, MessageMeta, ModSeq, Pages, PagesDelta, Uid, UidSet};
use crate::upstream::FetchMeta;

/// What one completed exchange with upstream told of a mailbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delta {
    /// FETCH lines: flags of known messages, everything of new ones.
    pub(crate) seen: Vec<FetchMeta>,
    pub(crate) vanished: UidSet,
    /// UIDNEXT where it was told; never goes back.
    pub(crate) uid_next: Option<Uid>,
}

/// A delta laid upon a snapshot.
#[derive(Debug)]
pub(crate) struct Merged {
    /// What the store has to write.
    pub(crate) upserts: Vec<MessageMeta>,
    pub(crate) vanished: UidSet,
    /// UIDs told of too little to be added: their date and size are to be fetched, then merged again.
    pub(crate) incomplete: UidSet,
    /// The next version; `None` when nothing changed.
    pub(crate) snapshot: Option<Snapshot>,
}

/// Lays `delta` upon `old`. `now_ms` (milliseconds since the epoch) seeds the mod-sequence, so that one from after a lost
/// cache is never below one told before it.
pub(crate) fn merge(old: &Snapshot, delta: Delta, now_ms: u64) -> Merged {
    let modseq = ModSeq(now_ms.max(old.highest_modseq.0 + 1));
    let mut upserts: Vec<MessageMeta> = Vec::new();
    let mut incomplete = UidSet::new();
    let mut new_keywords: Vec<Keyword> = Vec::new();
    for meta in delta.seen {
        let Some(uid) = meta.uid else { continue };
        if delta.vanished.contains(uid.0) {
            continue;
        }
        let message = match old.messages.get(uid) {
            Some(known) => match meta.flags {
                Some(flags) if flags != known.flags => MessageMeta { flags, modseq, ..known.clone() },
                _ => continue,
            },
            None => match (meta.flags, meta.internal_date, meta.size) {
                (Some(flags), Some(internal_date), Some(size)) => {
                    MessageMeta { uid, flags, modseq, internal_date, size, gm_msgid: meta.gm_msgid.unwrap_or(0) }
                }
                _ => {
                    incomplete.insert(uid.0);
                    continue;
                }
            },
        };
        for keyword in message.flags.keywords() {
            if old.keywords.binary_search(keyword).is_err() {
                new_keywords.push(keyword.clone());
            }
        }
        upserts.push(message);
    }
    let vanished: UidSet = old.messages.select(&delta.vanished).map(|(_, message)| message.uid.0).collect();
    let uid_next = upserts
        .iter()
        .map(|message| Uid(message.uid.0.saturating_add(1)))
        .chain(delta.uid_next)
        .fold(old.uid_next, Uid::max);
    if upserts.is_empty() && vanished.is_empty() && uid_next == old.uid_next {
        return Merged { upserts, vanished, incomplete, snapshot: None };
    }
    let messages = old.messages.apply(PagesDelta { upserts: upserts.clone(), vanished: vanished.clone() });
    let touched = !upserts.is_empty() || !vanished.is_empty();
    let snapshot = Snapshot {
        messages,
        uid_next,
        highest_modseq: if touched { modseq } else { old.highest_modseq },
        keywords: with_keywords(&old.keywords, new_keywords),
        counts: OnceLock::new(),
        ..old.clone()
    };
    Merged { upserts, vanished, incomplete, snapshot: Some(snapshot) }
}

/// A mailbox read from the store.
pub(crate) fn restore(base: Snapshot, messages: Vec<MessageMeta>) -> Snapshot {
    let mut keywords: Vec<Keyword> = messages.iter().flat_map(|message| message.flags.keywords().to_vec()).collect();
    keywords.sort();
    keywords.dedup();
    Snapshot { messages: Pages::from_messages(messages), keywords: keywords.into(), ..base }
}

pub(crate) fn with_keywords(old: &Arc<[Keyword]>, new: Vec<Keyword>) -> Arc<[Keyword]> {
    if new.is_empty() {
        return Arc::clone(old);
    }
    let mut all: Vec<Keyword> = old.iter().cloned().chain(new).collect();
    all.sort();
    all.dedup();
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Flags, InternalDate};

    fn full(uid: u32, flags: &str) -> FetchMeta {
        FetchMeta {
            uid: Some(Uid(uid)),
            flags: Some(Flags::parse(flags.split(' '))),
            internal_date: Some(InternalDate::default()),
            size: Some(10),
            ..FetchMeta::default()
        }
    }

    fn flags_only(uid: u32, flags: &str) -> FetchMeta {
        FetchMeta { uid: Some(Uid(uid)), flags: Some(Flags::parse(flags.split(' '))), ..FetchMeta::default() }
    }

    #[test]
    fn new_changed_and_vanished() {
        let old = Snapshot::empty("INBOX".into());
        let first = merge(&old, Delta { seen: vec![full(3, ""), full(5, "work")], ..Delta::default() }, 1000);
        let first = first.snapshot.unwrap();
        assert_eq!((first.messages.len(), first.uid_next, first.highest_modseq), (2, Uid(6), ModSeq(1000)));
        assert_eq!(first.keywords.len(), 1);

        let delta = Delta {
            seen: vec![flags_only(3, "\\Seen"), flags_only(9, "\\Seen")],
            vanished: UidSet::parse("5,7").unwrap(),
            uid_next: Some(Uid(20)),
        };
        // The clock went backwards: the mod-sequence does not.
        let second = merge(&first, delta, 5);
        assert_eq!(second.incomplete.to_string(), "9");
        assert_eq!(second.vanished.to_string(), "5");
        let second = second.snapshot.unwrap();
        assert_eq!(second.messages.uids().to_string(), "3");
        assert_eq!((second.uid_next, second.highest_modseq), (Uid(20), ModSeq(1001)));
    }

    #[test]
    fn an_echo_of_what_is_known_changes_nothing() {
        let old = Snapshot::empty("INBOX".into());
        let old = merge(&old, Delta { seen: vec![full(3, "\\Seen")], ..Delta::default() }, 1).snapshot.unwrap();
        let echo = merge(&old, Delta { seen: vec![flags_only(3, "\\Seen")], ..Delta::default() }, 2);
        assert!(echo.snapshot.is_none() && echo.upserts.is_empty());
    }
}
