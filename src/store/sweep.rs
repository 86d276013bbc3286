//! Putting right what a crash left over, and collecting what nobody refers to any more.
//!
//! Writes are ordered so that a crash leaves only surplus: a file without a reference, a reference without a record,
//! a small body without one. [`Inner::repair`] runs when the store was not closed in order; [`Store::sweep`] does the
//! same from time to time while it works, each row under the lock of its owner, and takes the summaries and bodies
//! of messages that are gone as well.

use std::collections::{HashMap, HashSet};

use super::files::{Hash, on_disk};
use super::key::{self, Key, Owner};
use super::open::LOGICAL;
use super::value::{self, BodyRecord, Long, Place};
use super::{BodyKey, Error, Inner, MailboxId, Store, lock};
use crate::model::{Uid, UidValidity};

/// What a sweep has taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Summaries of messages that are gone.
    pub summaries: u64,
    /// Bodies of messages that are gone, or without their bytes.
    pub bodies: u64,
    /// Files nobody referred to.
    pub files: u64,
    /// Rows of other kinds that led nowhere.
    pub rows: u64,
}

impl Store {
    /// Takes away what nobody refers to. To be called now and then (a day is fine) when the mailboxes are in step
    /// with upstream; a mailbox that counts fewer messages than it should is left alone. Reads the whole database:
    /// about a second for 100,000 messages.
    pub fn sweep(&self) -> Result<Swept, Error> {
        let _watch = self.inner.sound()?;
        self.inner.apply_touches()?;
        let mut swept = Swept::default();
        self.inner.sweep_messages(&mut swept)?;
        self.inner.sweep_references(&mut swept)?;
        self.inner.measure_logical()?;
        Ok(swept)
    }
}

/// The messages of mailboxes that can be believed.
#[derive(Default)]
struct Alive {
    /// By mailbox, its UIDVALIDITY and its UIDs, ascending.
    mailboxes: HashMap<MailboxId, (UidValidity, Vec<Uid>)>,
    /// Mailboxes that are being synchronised: nothing of them is judged.
    unsettled: HashSet<MailboxId>,
    providers: HashSet<u64>,
}

impl Alive {
    fn holds(&self, key: BodyKey) -> bool {
        match key {
            // A message may be on its way into a mailbox that is not settled.
            BodyKey::Provider(id) => !self.unsettled.is_empty() || self.providers.contains(&id),
            BodyKey::Message { mailbox, uid_validity, uid } => match self.mailboxes.get(&mailbox) {
                Some((validity, uids)) => *validity == uid_validity && uids.binary_search(&uid).is_ok(),
                None => self.unsettled.contains(&mailbox),
            },
        }
    }
}

impl Inner {
    /// Opened after a crash: everything that leads nowhere goes, files that can be recognised are taken back.
    pub(super) fn repair(&self) -> Result<(), Error> {
        let mut swept = Swept { rows: self.forget_unknown_mailboxes()?.into(), ..Swept::default() };
        self.sweep_references(&mut swept)?;
        self.count_files()?;
        if swept != Swept::default() {
            tracing::info!(?swept, dir = %self.dir.display(), "the cache was not closed in order: leftovers removed");
        }
        Ok(())
    }

    /// Adds up the files by their references, without looking at the directory.
    pub(super) fn count_files(&self) -> Result<(), Error> {
        let (mut sum, mut last) = (0, None);
        for row in &self.trees.file {
            let (key, value) = self.sled(row)?;
            let hash: Option<Hash> = key.first_chunk::<32>().copied();
            if hash != last {
                sum += on_disk(value::number(&value).unwrap_or(0));
                last = hash;
            }
        }
        self.files.set_bytes(sum);
        Ok(())
    }

    /// Forgets the summaries and bodies kept under a mailbox's UIDs, of one UIDVALIDITY or of all.
    pub(super) fn forget_bodies(&self, id: MailboxId, uid_validity: Option<u32>) -> Result<(), Error> {
        let key = |validity: u32, uid: u32| {
            Key::body(BodyKey::Message { mailbox: id, uid_validity: UidValidity(validity), uid: Uid(uid) })
        };
        let (from, to) = match uid_validity {
            Some(validity) => (key(validity, 0), key(validity, u32::MAX)),
            None => (key(0, 0), key(u32::MAX, u32::MAX)),
        };
        for tree in [&self.trees.env, &self.trees.head] {
            for row in tree.range::<&[u8], _>(&*from..=&*to).keys() {
                let _guard = lock(&self.summaries);
                self.remove_summary(&self.sled(row)?)?;
            }
        }
        for row in self.trees.body.range::<&[u8], _>(&*from..=&*to).keys() {
            self.remove_body(&self.sled(row)?)?;
        }
        for row in self.trees.octets.range::<&[u8], _>(&*from..=&*to).keys() {
            self.sled(self.trees.octets.remove(self.sled(row)?))?;
        }
        Ok(())
    }

    fn sweep_messages(&self, swept: &mut Swept) -> Result<(), Error> {
        // The candidates are gathered first, then what is alive: a message committed in between is alive.
        let mut candidates: HashSet<Vec<u8>> = HashSet::new();
        for tree in [&self.trees.env, &self.trees.head, &self.trees.body, &self.trees.octets] {
            for row in tree.iter().keys() {
                candidates.insert(self.sled(row)?.to_vec());
            }
        }
        swept.rows += u64::from(self.forget_unknown_mailboxes()?);
        let alive = self.alive()?;
        for candidate in candidates {
            let key = key::body_key(&candidate);
            if key.is_some_and(|key| alive.holds(key)) {
                continue;
            }
            let has_body = self.sled(self.trees.body.contains_key(&candidate))?;
            if let Some(BodyKey::Provider(_)) = key {
                // Its body may be wanted again, when a mailbox has changed its UIDVALIDITY; the LRU decides.
                if has_body {
                    continue;
                }
            } else if has_body {
                self.remove_body(&candidate)?;
                swept.bodies += 1;
            }
            swept.rows += u64::from(self.sled(self.trees.octets.remove(&candidate))?.is_some());
            let _guard = lock(&self.summaries);
            if self.sled(self.trees.env.contains_key(&candidate))?
                || self.sled(self.trees.head.contains_key(&candidate))?
            {
                self.remove_summary(&candidate)?;
                swept.summaries += 1;
            }
        }
        Ok(())
    }

    fn alive(&self) -> Result<Alive, Error> {
        let mut alive = Alive::default();
        let mut records = HashMap::new();
        for row in &self.trees.mbox {
            let (key, value) = self.sled(row)?;
            records.extend(key::mailbox_of(&key).zip(value::mailbox_record(&value)));
        }
        for (id, record) in records {
            let mut uids = Vec::new();
            for row in self.trees.idx.scan_prefix(Key::mailbox(id)) {
                let (key, value) = self.sled(row)?;
                uids.extend(key::uid_of(&key));
                alive.providers.extend(value::provider_id(&value).filter(|id| *id != 0));
            }
            if uids.len() == record.exists as usize && record.uid_validity.0 != 0 {
                alive.mailboxes.insert(id, (record.uid_validity, uids));
            } else {
                alive.unsettled.insert(id);
            }
        }
        Ok(alive)
    }

    /// Files, the rows that refer to them, the records, small bodies and the LRU are made to agree.
    fn sweep_references(&self, swept: &mut Swept) -> Result<(), Error> {
        let mut present: HashMap<Hash, u64> = HashMap::new();
        let mut strangers = Vec::new();
        let walked = self.files.walk(|hash, len, path| match hash {
            Some(hash) => drop(present.insert(hash, len)),
            None => strangers.push(path.to_path_buf()),
        });
        self.file(walked)?;
        for path in strangers {
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            self.file(removed)?;
            swept.files += 1;
        }
        for row in self.trees.file.iter().keys() {
            let row = self.sled(row)?;
            match Owner::of(&row) {
                Some((hash, owner)) => self.sweep_reference(&hash, owner, swept)?,
                None => drop(self.sled(self.trees.file.remove(&row))?),
            }
        }
        for row in self.trees.body.iter().keys() {
            self.sweep_body(&self.sled(row)?, swept)?;
        }
        for row in self.trees.small.iter().keys() {
            let key = self.sled(row)?;
            let _guard = self.lock_body(&key);
            if self.body_record(&key)?.is_none_or(|record| record.place != Place::Inline) {
                self.sled(self.trees.small.remove(&key))?;
                swept.rows += 1;
            }
        }
        for row in self.trees.lru.iter().keys() {
            let row = self.sled(row)?;
            let Some((hour, key)) = key::lru_entry(&row) else { continue };
            let _guard = self.lock_body(key);
            if self.body_record(key)?.is_none_or(|record| record.hour != hour) {
                self.sled(self.trees.lru.remove(&row))?;
                swept.rows += 1;
            }
        }
        for hash in present.keys() {
            self.sweep_file(hash, swept)?;
        }
        Ok(())
    }

    fn sweep_reference(&self, hash: &Hash, owner: Owner<'_>, swept: &mut Swept) -> Result<(), Error> {
        let refers = |value: Option<sled::IVec>| {
            let long = value.as_deref().and_then(Long::read);
            matches!(long, Some(Long::File { hash: of, .. }) if of == *hash)
        };
        // The lock of the owner: it is held from before the file is written until the record is.
        let (_body, _summaries);
        let wanted = match owner {
            Owner::Body(key) => {
                _body = self.lock_body(key);
                self.body_record(key)?.is_some_and(|record| record.place == Place::File && record.hash == *hash)
            }
            Owner::Envelope(key) | Owner::Header(key) | Owner::Blob(key) => {
                _summaries = lock(&self.summaries);
                refers(self.sled(match owner {
                    Owner::Envelope(_) => self.trees.env.get(key),
                    Owner::Header(_) => self.trees.head.get(key),
                    _ => self.trees.blob.get(key),
                })?)
            }
        };
        if wanted && self.files.exists(hash) {
            return Ok(());
        }
        swept.rows += 1;
        if wanted {
            // The record leads to a file that is gone.
            match owner {
                Owner::Body(key) => return self.remove_body_locked(key),
                Owner::Envelope(key) | Owner::Header(key) => return self.remove_summary(key),
                Owner::Blob(key) => drop(self.sled(self.trees.blob.remove(key))?),
            }
        }
        self.release(hash, owner).map(|_| ())
    }

    fn sweep_body(&self, key: &[u8], swept: &mut Swept) -> Result<(), Error> {
        let _guard = self.lock_body(key);
        let Some(value) = self.sled(self.trees.body.get(key))? else { return Ok(()) };
        let bytes = match BodyRecord::read(&value) {
            None => false,
            Some(record) => {
                self.sled(self.trees.lru.insert(Key::lru(record.hour, key), &[]))?;
                match record.place {
                    Place::Inline => self.sled(self.trees.small.contains_key(key))?,
                    Place::File => self.sled(self.trees.file.contains_key(Owner::Body(key).reference(&record.hash)))?,
                }
            }
        };
        if !bytes {
            self.remove_body_locked(key)?;
            swept.bodies += 1;
        }
        Ok(())
    }

    /// A file without a reference goes, unless it says that it is the body of a provider's message that has none: the
    /// database was lost, and a download is saved.
    fn sweep_file(&self, hash: &Hash, swept: &mut Swept) -> Result<(), Error> {
        if self.is_referred(hash)? || !self.files.exists(hash) {
            return Ok(());
        }
        if let Some((label, len)) = self.file(self.files.label(hash))?
            && let Some((_, Owner::Body(key))) = Owner::of(&[hash.as_slice(), &label].concat())
            && let Some(BodyKey::Provider(_)) = key::body_key(key)
        {
            let _guard = self.lock_body(key);
            if !self.sled(self.trees.body.contains_key(key))? && self.disk.room(0).is_ok() {
                return self.take_back(hash, key, len);
            }
        }
        let _guard = self.files.lock(hash);
        if !self.is_referred(hash)? {
            self.file(self.files.remove(hash))?;
            swept.files += 1;
        }
        Ok(())
    }

    fn take_back(&self, hash: &Hash, key: &[u8], len: u64) -> Result<(), Error> {
        let _guard = self.files.lock(hash);
        let Some(on_disk) = self.file(self.files.len(hash))? else { return Ok(()) };
        let hour = (self.hour)();
        let record = BodyRecord { place: Place::File, len, hour, hash: *hash };
        self.sled(self.trees.file.insert(Owner::Body(key).reference(hash), value::number_value(on_disk)))?;
        self.sled(self.trees.body.insert(key, record.value()))?;
        self.sled(self.trees.lru.insert(Key::lru(hour, key), &[]))?;
        Ok(())
    }

    fn is_referred(&self, hash: &Hash) -> Result<bool, Error> {
        match self.trees.file.scan_prefix(hash).next() {
            Some(row) => self.sled(row).map(|_| true),
            None => Ok(false),
        }
    }

    /// Adds up keys and values: what the database would take if it held nothing else.
    fn measure_logical(&self) -> Result<(), Error> {
        let mut sum = 0;
        for tree in self.trees.all() {
            for row in tree {
                let (key, value) = self.sled(row)?;
                sum += (key.len() + value.len()) as u64;
            }
        }
        self.sled(self.trees.db.insert(LOGICAL, value::number_value(sum)))?;
        Ok(())
    }
}
