//! A mailbox's messages as shared pages.
//!
//! An immutable, ordered list of [`MessageMeta`] cut into pages behind `Arc`. A change copies the pages it
//! touches and the table of pages, nothing else; two versions are compared by page identity first, so that what
//! did not change costs a pointer comparison per [`PAGE`] messages.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{MessageMeta, Uid, UidSet};

/// Messages in a full page. A flag change copies one page (about 256 x 56 bytes); 100,000 messages are 391 pages.
const PAGE: usize = 256;

/// A run of messages with ascending UIDs, never empty.
pub type Page = [MessageMeta];

#[derive(Clone, Debug)]
struct Slot {
    page: Arc<Page>,
    /// Messages in the pages before this one.
    before: u32,
    /// The page's last UID, so that no page but the right one is touched in search of a message.
    last: Uid,
}

/// One version of a mailbox's messages, ascending by UID. Cloning is one reference count.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    slots: Arc<[Slot]>,
    len: u32,
}

/// What makes a new version from an old one.
#[derive(Clone, Debug, Default)]
pub struct PagesDelta {
    /// New or changed messages; of two with one UID the later wins.
    pub upserts: Vec<MessageMeta>,
    pub vanished: UidSet,
}

/// One difference between two versions, told in the order of UIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// In the old version only.
    Vanished { uid: Uid },
    /// In the new version only.
    Arrived(&'a MessageMeta),
    /// In both, and different.
    Changed { old: &'a MessageMeta, new: &'a MessageMeta },
}

impl Pages {
    /// From messages in any order; of two with one UID the later wins.
    pub fn from_messages(messages: Vec<MessageMeta>) -> Self {
        Self::default().apply(PagesDelta { upserts: messages, vanished: UidSet::new() })
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The message at `index`, from 0.
    pub fn at(&self, index: u32) -> Option<&MessageMeta> {
        let slot = self.slots.partition_point(|slot| slot.before <= index).checked_sub(1)?;
        let slot = self.slots.get(slot)?;
        slot.page.get((index - slot.before) as usize)
    }

    /// The index of the first message whose UID is at least `uid` (`len` if none).
    pub fn lower_bound(&self, uid: Uid) -> u32 {
        match self.slot_of(uid) {
            Some(slot) => slot.before + slot.page.partition_point(|message| message.uid < uid) as u32,
            None => self.len,
        }
    }

    /// The first page that ends at this UID or behind it.
    fn slot_of(&self, uid: Uid) -> Option<&Slot> {
        self.slots.get(self.slots.partition_point(|slot| slot.last < uid))
    }

    /// The index of a UID, from 0.
    pub fn index_of(&self, uid: Uid) -> Option<u32> {
        let slot = self.slot_of(uid)?;
        let place = slot.page.binary_search_by_key(&uid, |message| message.uid).ok()?;
        Some(slot.before + place as u32)
    }

    pub fn get(&self, uid: Uid) -> Option<&MessageMeta> {
        let page = &self.slot_of(uid)?.page;
        page.get(page.binary_search_by_key(&uid, |message| message.uid).ok()?)
    }

    pub fn last(&self) -> Option<&MessageMeta> {
        self.slots.last().and_then(|slot| slot.page.last())
    }

    pub fn iter(&self) -> impl Iterator<Item = &MessageMeta> {
        self.slots.iter().flat_map(|slot| slot.page.iter())
    }

    /// The messages from `index` on, with their indices.
    pub fn iter_from(&self, index: u32) -> impl Iterator<Item = (u32, &MessageMeta)> {
        let first = self.slots.partition_point(|slot| slot.before + slot.page.len() as u32 <= index);
        let skip = self.slots.get(first).map_or(0, |slot| index.saturating_sub(slot.before));
        let messages = self.slots.iter().skip(first).flat_map(|slot| slot.page.iter()).skip(skip as usize);
        (index..).zip(messages)
    }

    /// The messages whose UIDs lie in the set, ascending, with their indices.
    pub fn select<'a>(&'a self, uids: &'a UidSet) -> impl Iterator<Item = (u32, &'a MessageMeta)> {
        uids.ranges().flat_map(move |range: RangeInclusive<u32>| {
            self.iter_from(self.lower_bound(Uid(*range.start())))
                .take_while(move |(_, message)| message.uid.0 <= *range.end())
        })
    }

    pub fn uids(&self) -> UidSet {
        self.iter().map(|message| message.uid.0).collect()
    }

    /// A new version. Pages the delta does not touch are shared with this one.
    pub fn apply(&self, delta: PagesDelta) -> Self {
        let PagesDelta { mut upserts, vanished } = delta;
        // Stable: of two upserts for one UID the last written wins. United before the pages are made, or the end of a page could come
        // between the two.
        upserts.sort_by_key(|message| message.uid);
        upserts.dedup_by(|next, kept| {
            let is_same = next.uid == kept.uid;
            if is_same {
                std::mem::swap(next, kept);
            }
            is_same
        });
        let mut upserts = upserts.into_iter().peekable();
        let mut pages: Vec<Arc<Page>> = Vec::with_capacity(self.slots.len() + 1);
        for (index, slot) in self.slots.iter().enumerate() {
            let (Some(first), Some(last)) = (slot.page.first(), slot.page.last()) else { continue };
            // The last page also takes what is appended, so that pages fill up.
            let is_last = index + 1 == self.slots.len();
            let grows = is_last && slot.page.len() < PAGE;
            let touched = upserts.peek().is_some_and(|next| next.uid <= last.uid || grows)
                || overlaps(&vanished, first.uid, last.uid);
            if !touched {
                pages.push(Arc::clone(&slot.page));
                continue;
            }
            let mut merged: Vec<MessageMeta> = Vec::with_capacity(slot.page.len() + 8);
            for message in slot.page.iter() {
                while let Some(new) = upserts.next_if(|new| new.uid < message.uid) {
                    push(&mut merged, new);
                }
                push(&mut merged, message.clone());
            }
            while let Some(new) = upserts.next_if(|new| new.uid <= last.uid || (grows && merged.len() < PAGE)) {
                push(&mut merged, new);
            }
            merged.retain(|message| !vanished.contains(message.uid.0));
            cut(merged, &mut pages);
        }
        let mut tail: Vec<MessageMeta> = Vec::new();
        for new in upserts {
            push(&mut tail, new);
        }
        tail.retain(|message| !vanished.contains(message.uid.0));
        cut(tail, &mut pages);
        Self::from_pages(pages)
    }

    /// This version plus those messages of `old` that it lacks: what a session shows while it may not yet be told
    /// of an EXPUNGE (RFC 9051 §7.5.1). Pages without such messages are shared with this version.
    pub fn retaining(&self, old: &Self) -> Self {
        let mut gone = Vec::new();
        old.diff(self, |change| {
            if let Change::Vanished { uid } = change
                && let Some(message) = old.get(uid)
            {
                gone.push(message.clone());
            }
        });
        if gone.is_empty() { self.clone() } else { self.apply(PagesDelta { upserts: gone, vanished: UidSet::new() }) }
    }

    /// Tells what differs in `new`, ascending by UID. Pages that are the same object are skipped.
    pub fn diff<'a>(&'a self, new: &'a Self, mut tell: impl FnMut(Change<'a>)) {
        if Arc::ptr_eq(&self.slots, &new.slots) {
            return;
        }
        let (mut old_cursor, mut new_cursor) = (Cursor::new(self), Cursor::new(new));
        loop {
            if old_cursor.at_page_start()
                && new_cursor.at_page_start()
                && let (Some(a), Some(b)) = (old_cursor.page(), new_cursor.page())
                && Arc::ptr_eq(a, b)
            {
                old_cursor.skip_page();
                new_cursor.skip_page();
                continue;
            }
            match (old_cursor.message(), new_cursor.message()) {
                (None, None) => return,
                (Some(old), Some(new)) if old.uid == new.uid => {
                    if old != new {
                        tell(Change::Changed { old, new });
                    }
                    old_cursor.step();
                    new_cursor.step();
                }
                (Some(old), new) if new.is_none_or(|new| old.uid < new.uid) => {
                    tell(Change::Vanished { uid: old.uid });
                    old_cursor.step();
                }
                (_, Some(new)) => {
                    tell(Change::Arrived(new));
                    new_cursor.step();
                }
                // Covered by the guard above; stepping keeps the loop finite.
                (Some(_), None) => old_cursor.step(),
            }
        }
    }

    /// Whether both are the same object, and so certainly equal.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.slots, &other.slots)
    }

    fn from_pages(pages: Vec<Arc<Page>>) -> Self {
        let mut before = 0;
        let slots = pages.into_iter().map(|page| {
            let last = page.last().map_or(Uid(0), |last| last.uid);
            let slot = Slot { page, before, last };
            before += slot.page.len() as u32;
            slot
        });
        let slots: Vec<Slot> = slots.collect();
        Self { slots: slots.into(), len: before }
    }
}

impl PartialEq for Pages {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && (self.same(other) || self.iter().eq(other.iter()))
    }
}

struct Cursor<'a> {
    pages: &'a Pages,
    slot: usize,
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn new(pages: &'a Pages) -> Self {
        Self { pages, slot: 0, offset: 0 }
    }

    fn page(&self) -> Option<&'a Arc<Page>> {
        self.pages.slots.get(self.slot).map(|slot| &slot.page)
    }

    fn at_page_start(&self) -> bool {
        self.offset == 0
    }

    fn message(&self) -> Option<&'a MessageMeta> {
        self.page().and_then(|page| page.get(self.offset))
    }

    fn step(&mut self) {
        self.offset += 1;
        if self.page().is_some_and(|page| self.offset >= page.len()) {
            self.skip_page();
        }
    }

    fn skip_page(&mut self) {
        self.slot += 1;
        self.offset = 0;
    }
}

fn overlaps(set: &UidSet, first: Uid, last: Uid) -> bool {
    if set.is_empty() {
        return false;
    }
    let mut page = UidSet::new();
    page.insert_range(first.0..=last.0);
    !page.intersect(set).is_empty()
}

/// Appends, replacing the last one if it has the same UID.
fn push(messages: &mut Vec<MessageMeta>, message: MessageMeta) {
    match messages.last_mut() {
        Some(last) if last.uid == message.uid => *last = message,
        _ => messages.push(message),
    }
}

fn cut(messages: Vec<MessageMeta>, pages: &mut Vec<Arc<Page>>) {
    // A page that grew a little stays one page, so that its neighbours keep their identity.
    if messages.len() <= PAGE + PAGE / 2 {
        if !messages.is_empty() {
            pages.push(messages.into());
        }
        return;
    }
    pages.extend(messages.chunks(PAGE).map(Arc::from));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Flags, InternalDate, ModSeq};
    use std::collections::BTreeMap;

    fn message(uid: u32, modseq: u64) -> MessageMeta {
        MessageMeta {
            uid: Uid(uid),
            flags: Flags::default(),
            modseq: ModSeq(modseq),
            internal_date: InternalDate::default(),
            size: 1,
            gm_msgid: 0,
        }
    }

    #[test]
    fn one_change_of_many_copies_one_page() {
        let old = Pages::from_messages((1..=10_000).map(|uid| message(uid, 1)).collect());
        let new = old.apply(PagesDelta { upserts: vec![message(5000, 2)], vanished: UidSet::new() });
        let shared = old.slots.iter().zip(new.slots.iter()).filter(|(a, b)| Arc::ptr_eq(&a.page, &b.page)).count();
        assert_eq!(shared, old.slots.len() - 1);
        let mut changes = 0;
        old.diff(&new, |change| {
            assert!(matches!(change, Change::Changed { new, .. } if new.uid == Uid(5000)));
            changes += 1;
        });
        assert_eq!(changes, 1);
    }

    /// As a server tells them that answers a question for flags with all it was ever asked.
    #[test]
    fn a_message_told_twice_is_there_once_wherever_pages_end() {
        for had in [0, 1, 100, 196, 255, 256, 300] {
            let old = Pages::from_messages((1..=had).map(|uid| message(uid, 1)).collect());
            let told = (had + 1..=had + 600).flat_map(|uid| [message(uid, 2), message(uid, 3)]).collect();
            let new = old.apply(PagesDelta { upserts: told, vanished: UidSet::new() });
            assert!(new.iter().map(|m| m.uid.0).eq(1..=had + 600), "{had}");
            assert!(new.iter_from(had).all(|(_, m)| m.modseq == ModSeq(3)), "{had}: the last written wins");
        }
    }

    #[test]
    fn random_versions_agree_with_a_map() {
        for seed in 1..=6u32 {
            let mut state = seed;
            let mut random = move |below: u32| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) % below
            };
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut pages = Pages::default();
            for step in 1..60u64 {
                let mut delta = PagesDelta::default();
                let mut next = model.clone();
                for _ in 0..random(400) {
                    let uid = 1 + random(3000);
                    delta.upserts.push(message(uid, step));
                    next.insert(uid, step);
                }
                for _ in 0..random(60) {
                    let from = 1 + random(3000);
                    let to = from + random(9);
                    delta.vanished.insert_range(from..=to);
                    next.retain(|uid, _| !(from..=to).contains(uid));
                }
                let version = pages.apply(delta);
                let mut patched = model.clone();
                pages.diff(&version, |change| match change {
                    Change::Vanished { uid } => drop(patched.remove(&uid.0)),
                    Change::Arrived(new) => assert_eq!(patched.insert(new.uid.0, new.modseq.0), None),
                    Change::Changed { new, .. } => drop(patched.insert(new.uid.0, new.modseq.0)),
                });
                assert_eq!(patched, next, "seed {seed} step {step}: the difference is not the change");
                assert!(version.iter().map(|m| (m.uid.0, m.modseq.0)).eq(next.iter().map(|(a, b)| (*a, *b))));
                let retained = version.retaining(&pages);
                let both: std::collections::BTreeSet<u32> = model.keys().chain(next.keys()).copied().collect();
                assert!(retained.iter().map(|m| m.uid.0).eq(both), "seed {seed} step {step}");
                for (index, uid) in next.keys().enumerate() {
                    assert_eq!(version.index_of(Uid(*uid)), Some(index as u32));
                    assert_eq!(version.at(index as u32).map(|m| m.uid), Some(Uid(*uid)));
                }
                pages = version;
                model = next;
            }
        }
    }
}
