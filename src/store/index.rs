//! Mailboxes, their messages and what vanished from them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::key::{self, Key};
use super::open::{NEXT_MAILBOX, Trees};
use super::value::{self, Messages};
use super::{Error, Inner, MailboxId, MailboxRecord, Store, lock};
use crate::model::{MessageMeta, ModSeq, Uid, UidSet};

/// Rows in one batch. Each makes sled roll its log over twice, which costs two writes to the disk there and then; and it holds up readers for
/// as long as it takes, half a millisecond.
const BATCH: usize = 256;

/// So few rows go one by one: they wait in the log's buffer for the next flush, and cost no write of their own. Nothing relies on batches
/// being whole.
const FEW: usize = 8;

/// Rows of the expunge log kept for a mailbox; a client that was away longer compares everything.
const LOG_ROWS: u32 = 10_000;

/// The log is cut back to this when it is full, so that cutting is rare.
const LOG_CUT: u32 = 9_000;

/// "Complete from never": above every mod-sequence (RFC 7162 §3.1.1: below 2^63).
const NEVER: ModSeq = ModSeq(u64::MAX >> 1);

/// What is known of the mailboxes without asking the database.
pub(super) struct Index {
    names: HashMap<String, MailboxId>,
    next: u32,
    /// Rows of the expunge logs counted so far.
    log_rows: HashMap<MailboxId, u32>,
}

impl Index {
    pub(super) fn names(&self) -> &HashMap<String, MailboxId> {
        &self.names
    }

    /// The id of the next mailbox that is made.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    pub(super) fn set_next(&mut self, next: u32) {
        self.next = next;
    }

    /// Reads the mailboxes. A record that does not check out is removed; its messages are swept later.
    pub(super) fn read(trees: &Trees) -> sled::Result<Self> {
        let mut index = Self { names: HashMap::new(), next: 1, log_rows: HashMap::new() };
        for row in &trees.mbox {
            let (key, value) = row?;
            match (key::mailbox_of(&key), value::mailbox_record(&value)) {
                (Some(id), Some(_)) if id.is_transient() => {
                    // Written by a version that kept what it should not: its id would use up all others.
                    trees.mbox.remove(key)?;
                }
                (Some(id), Some(record)) => {
                    index.next = index.next.max(id.0.saturating_add(1));
                    index.names.insert(record.name, id);
                }
                _ => {
                    tracing::warn!("a mailbox record of the cache is damaged: it will be synchronised anew");
                    trees.mbox.remove(key)?;
                }
            }
        }
        let next = trees.db.get(NEXT_MAILBOX)?.and_then(|value| value::number(&value)).unwrap_or(0);
        index.next = index.next.max(u32::try_from(next).unwrap_or(0));
        Ok(index)
    }
}

impl Store {
    /// Every mailbox known.
    pub fn mailboxes(&self) -> Result<Vec<(MailboxId, MailboxRecord)>, Error> {
        let _watch = self.inner.sound()?;
        let mut all = Vec::new();
        for row in &self.inner.trees.mbox {
            let (key, value) = self.inner.sled(row)?;
            all.extend(key::mailbox_of(&key).zip(value::mailbox_record(&value)));
        }
        Ok(all)
    }

    /// Finds a mailbox by name or makes an id (and an empty record) for it.
    pub fn mailbox_id(&self, name: &str) -> Result<MailboxId, Error> {
        let _watch = self.inner.sound()?;
        let mut index = lock(&self.inner.index);
        if let Some(id) = index.names.get(name) {
            return Ok(*id);
        }
        self.inner.disk.room(0)?;
        let id = MailboxId(index.next);
        let next = id.0.checked_add(1).ok_or_else(|| Error::Failed("mailbox ids are used up".into()))?;
        self.inner.sled(self.inner.trees.db.insert(NEXT_MAILBOX, value::number_value(next.into())))?;
        index.next = next;
        let record = MailboxRecord { name: name.to_owned(), ..MailboxRecord::default() };
        self.inner.write_record(&mut index, id, &record)?;
        Ok(id)
    }

    /// Replaces the record; another name in it is a RENAME.
    ///
    /// # Errors
    /// [`Error::Failed`] if another mailbox has that name: rename that one first.
    pub fn put_mailbox(&self, id: MailboxId, record: &MailboxRecord) -> Result<(), Error> {
        if id.is_transient() {
            return Ok(());
        }
        let _watch = self.inner.sound()?;
        self.inner.disk.room(0)?;
        let mut index = lock(&self.inner.index);
        self.inner.write_record(&mut index, id, record)
    }

    /// Forgets a mailbox, its messages, its log, and the summaries and bodies that only it refers to.
    pub fn remove_mailbox(&self, id: MailboxId) -> Result<(), Error> {
        if id.is_transient() {
            return Ok(());
        }
        let _watch = self.inner.sound()?;
        let mut index = lock(&self.inner.index);
        // The record last: if this is cut short, the mailbox is still there and counts too few messages.
        self.inner.clear_messages(&mut index, id)?;
        self.inner.sled(self.inner.trees.mark.remove(Key::mailbox(id)))?;
        self.inner.sled(self.inner.trees.mbox.remove(Key::mailbox(id)))?;
        index.names.retain(|_, of| *of != id);
        drop(index);
        self.inner.forget_bodies(id, None)
    }

    /// All messages of a mailbox, ascending. Records with a bad checksum are left out (`exists` then disagrees).
    pub fn load(&self, id: MailboxId) -> Result<Vec<MessageMeta>, Error> {
        let _watch = self.inner.sound()?;
        let mut messages = Vec::new();
        let mut reader = Messages::default();
        for row in self.inner.trees.idx.scan_prefix(Key::mailbox(id)) {
            let (key, value) = self.inner.sled(row)?;
            messages.extend(key::uid_of(&key).and_then(|uid| reader.read(uid, &value)));
        }
        Ok(messages)
    }

    /// Commits a delta: messages, removals, the expunge log, then the record, in this order. `vanished` is logged
    /// under `record.highest_modseq`. A crash in the middle leaves the old record, hence a resynchronisation.
    ///
    /// The summaries and bodies of what vanished stay for sessions that have not been told; [`Store::sweep`] takes
    /// them.
    pub fn commit(
        &self,
        id: MailboxId,
        upserts: &[MessageMeta],
        vanished: &UidSet,
        record: &MailboxRecord,
    ) -> Result<(), Error> {
        if id.is_transient() {
            return Ok(());
        }
        let _watch = self.inner.sound()?;
        self.inner.disk.room(0)?;
        let mut index = lock(&self.inner.index);
        self.inner.check_name(&index, id, record)?;
        for chunk in upserts.chunks(BATCH) {
            let rows = chunk.iter().map(|message| (Key::message(id, message.uid), value::message_value(message)));
            self.inner.write_rows(&self.inner.trees.idx, rows)?;
        }
        self.inner.remove_messages(id, vanished)?;
        self.inner.log_vanished(&mut index, id, vanished, record.highest_modseq)?;
        self.inner.write_record(&mut index, id, record)
    }

    /// Writes the whole of a mailbox in place of what is there. Summaries and bodies stay: under the same UIDVALIDITY they are what
    /// they were, and [`Store::sweep`] takes the others.
    pub fn replace(&self, id: MailboxId, messages: &[MessageMeta], record: &MailboxRecord) -> Result<(), Error> {
        if id.is_transient() {
            return Ok(());
        }
        let _watch = self.inner.sound()?;
        let mut index = lock(&self.inner.index);
        self.inner.clear_messages(&mut index, id)?;
        self.inner.sled(self.inner.trees.mark.remove(Key::mailbox(id)))?;
        drop(index);
        self.commit(id, messages, &UidSet::new(), record)
    }

    /// Forgets all messages and the log of a mailbox (UIDVALIDITY changed), and the summaries and bodies kept under
    /// the UIDVALIDITY of its record. What is kept by provider id stays; see [`Store::alias`] for the rest.
    pub fn clear(&self, id: MailboxId) -> Result<(), Error> {
        if id.is_transient() {
            return Ok(());
        }
        let _watch = self.inner.sound()?;
        let mut index = lock(&self.inner.index);
        self.inner.clear_messages(&mut index, id)?;
        self.inner.sled(self.inner.trees.mark.remove(Key::mailbox(id)))?;
        let record = self.inner.record(id)?;
        drop(index);
        match record {
            Some(record) => self.inner.forget_bodies(id, Some(record.uid_validity.0)),
            None => Ok(()),
        }
    }

    /// The expunge log, ascending, and the mod-sequence from which on it is complete: whoever knew the mailbox at
    /// that mod-sequence or later finds here all that has vanished since. Bounded: the oldest is dropped.
    pub fn vanished(&self, id: MailboxId) -> Result<(Vec<(ModSeq, UidSet)>, ModSeq), Error> {
        let _watch = self.inner.sound()?;
        // Under the lock, so that the log is not cut between reading it and reading where it begins.
        let _index = lock(&self.inner.index);
        let mut floor = self.inner.floor(id)?.unwrap_or(NEVER);
        let mut log: Vec<(ModSeq, UidSet)> = Vec::new();
        for row in self.inner.trees.gone.scan_prefix(Key::mailbox(id)) {
            let (key, value) = self.inner.sled(row)?;
            let Some(modseq) = key::modseq_of(&key) else { continue };
            let Some(uids) = value::vanished_set(&value) else {
                // What a damaged row held is not known: complete only from after it.
                floor = floor.max(modseq);
                continue;
            };
            match log.last_mut() {
                Some((last, all)) if *last == modseq => *all = all.union(&uids),
                _ => log.push((modseq, uids)),
            }
        }
        Ok((log, floor))
    }
}

impl Inner {
    pub(super) fn record(&self, id: MailboxId) -> Result<Option<MailboxRecord>, Error> {
        let value = self.sled(self.trees.mbox.get(Key::mailbox(id)))?;
        Ok(value.and_then(|value| value::mailbox_record(&value)))
    }

    fn check_name(&self, index: &Index, id: MailboxId, record: &MailboxRecord) -> Result<(), Error> {
        match index.names.get(&record.name) {
            Some(other) if *other != id => Err(Error::Failed("another mailbox has this name".into())),
            _ => Ok(()),
        }
    }

    fn write_record(&self, index: &mut Index, id: MailboxId, record: &MailboxRecord) -> Result<(), Error> {
        self.check_name(index, id, record)?;
        let value = value::mailbox_value(record);
        if value.len() > value::LONGEST {
            return Err(Error::Failed("mailbox record too long".into()));
        }
        let old = self.sled(self.trees.mbox.insert(Key::mailbox(id), value))?;
        if let Some(old) = old.and_then(|value| value::mailbox_record(&value))
            && old.name != record.name
        {
            index.names.remove(&old.name);
        }
        index.names.insert(record.name.clone(), id);
        index.next = index.next.max(id.0.saturating_add(1));
        // From the first state on that is known, everything that vanishes is logged.
        if record.highest_modseq.0 > 0 && self.floor(id)?.is_none() {
            self.set_floor(id, record.highest_modseq)?;
        }
        Ok(())
    }

    fn floor(&self, id: MailboxId) -> Result<Option<ModSeq>, Error> {
        let value = self.sled(self.trees.mark.get(Key::mailbox(id)))?;
        Ok(value.and_then(|value| value::number(&value)).map(ModSeq))
    }

    fn set_floor(&self, id: MailboxId, floor: ModSeq) -> Result<(), Error> {
        self.sled(self.trees.mark.insert(Key::mailbox(id), value::number_value(floor.0)))?;
        Ok(())
    }

    /// Walks what exists, not what the set says: it may be `1:4294967295`.
    fn remove_messages(&self, id: MailboxId, vanished: &UidSet) -> Result<(), Error> {
        for range in vanished.ranges() {
            let (from, to) = (Key::message(id, Uid(*range.start())), Key::message(id, Uid(*range.end())));
            self.remove_rows(&self.trees.idx, self.trees.idx.range::<&[u8], _>(&*from..=&*to))?;
        }
        Ok(())
    }

    /// Removes rows in batches; returns how many.
    fn remove_rows(&self, tree: &sled::Tree, rows: sled::Iter) -> Result<u32, Error> {
        let mut removed = 0;
        let mut keys = rows.keys();
        loop {
            let batch: Vec<sled::IVec> =
                keys.by_ref().take(BATCH).map(|key| self.sled(key)).collect::<Result<_, _>>()?;
            if batch.is_empty() {
                return Ok(removed);
            }
            removed += batch.len() as u32;
            self.write_rows(tree, batch.into_iter().map(|key| (key, None::<sled::IVec>)))?;
        }
    }

    /// Writes, or without a value removes, at most [`BATCH`] rows.
    fn write_rows<K, V>(
        &self,
        tree: &sled::Tree,
        rows: impl ExactSizeIterator<Item = (K, Option<V>)>,
    ) -> Result<(), Error>
    where
        K: AsRef<[u8]> + Into<sled::IVec>,
        V: Into<sled::IVec>,
    {
        if rows.len() <= FEW {
            for (key, value) in rows {
                match value {
                    Some(value) => self.sled(tree.insert(key, value))?,
                    None => self.sled(tree.remove(key))?,
                };
            }
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        for (key, value) in rows {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.sled(tree.apply_batch(batch))
    }

    fn clear_messages(&self, index: &mut Index, id: MailboxId) -> Result<(), Error> {
        self.remove_rows(&self.trees.idx, self.trees.idx.scan_prefix(Key::mailbox(id)))?;
        self.remove_rows(&self.trees.gone, self.trees.gone.scan_prefix(Key::mailbox(id)))?;
        index.log_rows.remove(&id);
        Ok(())
    }

    /// Removes the messages and logs of mailboxes that have no record.
    pub(super) fn forget_unknown_mailboxes(&self) -> Result<u32, Error> {
        let mut index = lock(&self.index);
        let mut removed = 0;
        for tree in [&self.trees.idx, &self.trees.gone, &self.trees.mark] {
            let mut from = Key::mailbox(MailboxId(0));
            while let Some(row) = tree.range::<&[u8], _>(&*from..).next() {
                let (key, _) = self.sled(row)?;
                let Some(id) = key::mailbox_of(&key) else { break };
                if self.record(id)?.is_none() {
                    removed += self.remove_rows(tree, tree.scan_prefix(Key::mailbox(id)))?;
                    index.log_rows.remove(&id);
                }
                let Some(next) = id.0.checked_add(1) else { break };
                from = Key::mailbox(MailboxId(next));
            }
        }
        Ok(removed)
    }

    fn log_vanished(&self, index: &mut Index, id: MailboxId, uids: &UidSet, modseq: ModSeq) -> Result<(), Error> {
        if uids.is_empty() {
            return Ok(());
        }
        let mut first = Key::vanished(id, modseq, 0);
        let mut part: u16 = 0;
        // More may have vanished under the same mod-sequence before.
        if let Some(row) =
            self.trees.gone.range::<&[u8], _>(&*first..=&*Key::vanished(id, modseq, u16::MAX)).next_back()
        {
            let (key, _) = self.sled(row)?;
            let last = key.last_chunk::<2>().map_or(u16::MAX, |part| u16::from_be_bytes(*part));
            part = last.saturating_add(1);
            first = Key::vanished(id, modseq, part);
        }
        let rows = value::vanished_values(uids);
        let mut key = first;
        let mut keyed: Vec<(Key, &Vec<u8>)> = Vec::with_capacity(rows.len());
        for row in &rows {
            keyed.push((key, row));
            let Some(next) = part.checked_add(1) else {
                return Err(Error::Failed("too many rows of the expunge log under one mod-sequence".into()));
            };
            part = next;
            key = Key::vanished(id, modseq, part);
        }
        for chunk in keyed.chunks(BATCH) {
            self.write_rows(&self.trees.gone, chunk.iter().map(|(key, row)| (*key, Some(row.as_slice()))))?;
        }
        let added = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let count = match index.log_rows.entry(id) {
            Entry::Occupied(known) => {
                let count = known.into_mut();
                *count = count.saturating_add(added);
                count
            }
            Entry::Vacant(unknown) => {
                let rows = self.trees.gone.scan_prefix(Key::mailbox(id)).count();
                unknown.insert(u32::try_from(rows).unwrap_or(u32::MAX))
            }
        };
        if *count > LOG_ROWS {
            *count -= self.cut_log(id, *count - LOG_CUT)?;
        }
        Ok(())
    }

    /// Drops the oldest rows of the log; the floor rises first, so that a crash in between only loses what is there.
    fn cut_log(&self, id: MailboxId, rows: u32) -> Result<u32, Error> {
        let oldest = || self.trees.gone.scan_prefix(Key::mailbox(id)).take(rows as usize);
        let Some(last) = oldest().last() else { return Ok(0) };
        let (key, _) = self.sled(last)?;
        if let Some(modseq) = key::modseq_of(&key) {
            let floor = self.floor(id)?.unwrap_or(ModSeq(0));
            self.set_floor(id, floor.max(modseq))?;
        }
        let mut removed = 0;
        let mut batch = sled::Batch::default();
        for row in oldest() {
            batch.remove(self.sled(row)?.0);
            removed += 1;
        }
        self.sled(self.trees.gone.apply_batch(batch))?;
        Ok(removed)
    }
}
