//! Bodies: where they lie, reading them verified, and evicting those not read for longest.
//!
//! The record of a body is small and of fixed width; the bytes are in `small` or in a file that other keys may
//! share. LRU is coarse: a body moves in it at most once an hour, and such moves are written together.

use bytes::Bytes;

use super::codec::Codec;
use super::files::{Chunks, Hash};
use super::key::{self, Key, Owner};
use super::value::{BodyRecord, Long, Place};
use super::{BodyKey, Error, Inner, Store, SummaryWant, lock};

/// A body of at most this many bytes, compressed, lies in the database.
const INLINE: usize = 4096;

/// A longer one is not even tried: mail does not shrink sixteenfold.
const INLINE_RAW: usize = 64 * 1024;

/// Moves in the LRU kept in memory before they are written.
const TOUCHES: usize = 64;

/// Longest body kept, a provider's limit many times over (25 to 150 MB): a length beyond it is somebody's mistake.
const LONGEST: u64 = u32::MAX as u64;

/// Bodies taken out between two looks at how much that freed.
const EVICT_BATCH: usize = 256;

impl Store {
    /// Which of the keys have a body. (That it can be read as well shows when it is read.)
    pub fn has_bodies(&self, keys: &[BodyKey]) -> Result<Vec<bool>, Error> {
        let _watch = self.inner.sound()?;
        keys.iter().map(|key| self.inner.sled(self.inner.trees.body.contains_key(Key::body(*key)))).collect()
    }

    /// The verified body (BLAKE3), or nothing: a mismatch is a miss and the record is dropped.
    pub fn body(&self, key: BodyKey) -> Result<Option<Bytes>, Error> {
        let _watch = self.inner.sound()?;
        let key = Key::body(key);
        let Some(record) = self.inner.body_record(&key)? else { return Ok(None) };
        match self.inner.body_bytes(&key, &record)? {
            Some(bytes) => {
                self.inner.touch(key, &record)?;
                Ok(Some(bytes))
            }
            None => {
                self.inner.drop_damaged(&key, &record)?;
                Ok(None)
            }
        }
    }

    /// The body piece by piece, each verified before it is handed out: the first bytes of a large message without
    /// reading the last.
    pub fn open_body(&self, key: BodyKey) -> Result<Option<BodyReader>, Error> {
        let _watch = self.inner.sound()?;
        let short = Key::body(key);
        let Some(record) = self.inner.body_record(&short)? else { return Ok(None) };
        let source = match record.place {
            Place::Inline => match self.body(key)? {
                Some(bytes) => Source::Whole(Some(bytes)),
                None => return Ok(None),
            },
            Place::File => match self.inner.file(self.inner.files.open_file(&record.hash, record.len))? {
                Some(chunks) => {
                    self.inner.touch(short, &record)?;
                    Source::File(chunks)
                }
                None => {
                    self.inner.drop_damaged(&short, &record)?;
                    return Ok(None);
                }
            },
        };
        Ok(Some(BodyReader { store: self.clone(), key: short, record, source }))
    }

    /// Keeps a body, replacing what was there.
    pub fn put_body(&self, key: BodyKey, body: &[u8]) -> Result<(), Error> {
        if key.is_transient() {
            return Ok(());
        }
        let _watch = self.inner.sound()?;
        let len = body.len() as u64;
        if len > LONGEST {
            return Err(Error::Failed(format!("a body of {len} bytes")));
        }
        self.inner.disk.room(len)?;
        let key = Key::body(key);
        let hash = *blake3::hash(body).as_bytes();
        let _guard = self.inner.lock_body(&key);
        let place = match inline_value(body) {
            Some(value) => {
                self.inner.sled(self.inner.trees.small.insert(key, value))?;
                Place::Inline
            }
            None => {
                self.inner.refer(&hash, body, Owner::Body(&key))?;
                Place::File
            }
        };
        self.inner.write_body(&key, BodyRecord { place, len, hour: (self.inner.hour)(), hash })
    }

    /// Forgets bodies; a file goes with the last key that refers to it.
    pub fn remove_bodies(&self, keys: &[BodyKey]) -> Result<(), Error> {
        let _watch = self.inner.sound()?;
        for key in keys {
            self.inner.remove_body(&Key::body(*key))?;
        }
        Ok(())
    }

    /// Makes the second key of each pair stand for the same message as the first, without copying a file: after COPY
    /// or MOVE, or when a UIDVALIDITY changed and the messages are recognised. What the second has already stays.
    pub fn alias(&self, pairs: &[(BodyKey, BodyKey)]) -> Result<(), Error> {
        let _watch = self.inner.sound()?;
        for (from, to) in pairs.iter().filter(|(from, to)| from != to && !to.is_transient()) {
            let (source, target) = (Key::body(*from), Key::body(*to));
            if let Some(summary) = self.inner.summary(&source, SummaryWant::ALL)? {
                self.put_summaries(&[(*to, summary)])?;
            }
            if let Some(octets) = self.inner.sled(self.inner.trees.octets.get(source))? {
                self.inner.sled(self.inner.trees.octets.insert(target, octets))?;
            }
            self.inner.alias_body(&source, &target)?;
        }
        Ok(())
    }

    /// Evicts least recently read bodies until body files take at most `target` bytes on disk; returns bytes freed.
    /// Small bodies inside the database go in their turn, though the database gives their room back only to itself.
    pub fn evict(&self, target: u64) -> Result<u64, Error> {
        let _watch = self.inner.sound()?;
        self.inner.apply_touches()?;
        let before = self.inner.files.bytes();
        while self.inner.files.bytes() > target {
            let oldest: Vec<_> = self.inner.trees.lru.iter().keys().take(EVICT_BATCH).collect();
            if oldest.is_empty() {
                break;
            }
            for row in oldest {
                if self.inner.files.bytes() <= target {
                    break;
                }
                let row = self.inner.sled(row)?;
                self.inner.evict_row(&row)?;
            }
        }
        Ok(before.saturating_sub(self.inner.files.bytes()))
    }
}

/// The row of a body that is small enough for the database.
fn inline_value(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() > INLINE_RAW {
        return None;
    }
    let codec = Codec::Lz4;
    match codec.squeeze(body) {
        Some(bytes) if bytes.len() <= INLINE => {
            Some(Long::Squeezed { codec, len: body.len() as u64, bytes: &bytes }.value())
        }
        _ if body.len() <= INLINE => Some(Long::Plain(body).value()),
        _ => None,
    }
}

impl Inner {
    pub(super) fn body_record(&self, key: &[u8]) -> Result<Option<BodyRecord>, Error> {
        let value = self.sled(self.trees.body.get(key))?;
        Ok(value.and_then(|value| BodyRecord::read(&value)))
    }

    /// The bytes a record stands for, verified; `None` if they are gone or damaged.
    pub(super) fn body_bytes(&self, key: &[u8], record: &BodyRecord) -> Result<Option<Bytes>, Error> {
        match record.place {
            Place::File => self.file(self.files.read(&record.hash, record.len)),
            Place::Inline => {
                let Some(value) = self.sled(self.trees.small.get(key))? else { return Ok(None) };
                // The row has a checksum of its own. For a few KiB a hash of what was in it costs more than all the rest.
                let bytes = self.long_read(&value)?;
                Ok(bytes.filter(|bytes| bytes.len() as u64 == record.len))
            }
        }
    }

    /// Writes the record, its place in the LRU, and gives up what the record before stood for. Under the key's lock.
    fn write_body(&self, key: &Key, record: BodyRecord) -> Result<(), Error> {
        let old = self.sled(self.trees.body.insert(key, record.value()))?;
        self.sled(self.trees.lru.insert(Key::lru(record.hour, key), &[]))?;
        let Some(old) = old.and_then(|value| BodyRecord::read(&value)) else { return Ok(()) };
        if old.hour != record.hour {
            self.sled(self.trees.lru.remove(Key::lru(old.hour, key)))?;
        }
        if old.place == Place::Inline && record.place != Place::Inline {
            self.sled(self.trees.small.remove(key))?;
        }
        if old.place == Place::File && (record.place != Place::File || old.hash != record.hash) {
            self.release(&old.hash, Owner::Body(key))?;
        }
        Ok(())
    }

    pub(super) fn remove_body(&self, key: &[u8]) -> Result<(), Error> {
        let _guard = self.lock_body(key);
        self.remove_body_locked(key)
    }

    /// Under the key's lock.
    pub(super) fn remove_body_locked(&self, key: &[u8]) -> Result<(), Error> {
        let Some(value) = self.sled(self.trees.body.remove(key))? else { return Ok(()) };
        let Some(record) = BodyRecord::read(&value) else {
            // The damaged record no longer says where its bytes are; `small` is cheap to ask, a file is swept.
            self.sled(self.trees.small.remove(key))?;
            return Ok(());
        };
        self.sled(self.trees.lru.remove(Key::lru(record.hour, key)))?;
        match record.place {
            Place::Inline => self.sled(self.trees.small.remove(key)).map(|_| ()),
            Place::File => self.release(&record.hash, Owner::Body(key)).map(|_| ()),
        }
    }

    /// A body could not be read: drops it, and if it is a file, everything that refers to that file.
    fn drop_damaged(&self, key: &[u8], record: &BodyRecord) -> Result<(), Error> {
        tracing::warn!(message = %super::value::name_of(key), "a cached body is damaged or gone: it will be fetched again");
        if record.place == Place::File {
            return self.drop_damaged_file(&record.hash, record.len);
        }
        let _guard = self.lock_body(key);
        // Somebody may have mended it since.
        match self.body_record(key)? {
            Some(now) if now.hash == record.hash && self.body_bytes(key, &now)?.is_none() => {
                self.remove_body_locked(key)
            }
            _ => Ok(()),
        }
    }

    fn drop_damaged_file(&self, hash: &Hash, len: u64) -> Result<(), Error> {
        {
            let _guard = self.files.lock(hash);
            if self.files.is_sound(hash, len) {
                return Ok(());
            }
            self.file(self.files.remove(hash))?;
        }
        let mut owners = Vec::new();
        for row in self.trees.file.scan_prefix(hash).keys() {
            owners.push(self.sled(row)?);
        }
        for row in owners {
            match Owner::of(&row) {
                Some((_, Owner::Body(key))) => {
                    let _guard = self.lock_body(key);
                    match self.body_record(key)? {
                        Some(now) if now.hash == *hash && self.files.exists(hash) => {}
                        Some(now) if now.place == Place::File && now.hash == *hash => self.remove_body_locked(key)?,
                        _ => {}
                    }
                }
                Some((_, Owner::Envelope(key) | Owner::Header(key))) => {
                    let _guard = lock(&self.summaries);
                    if !self.files.exists(hash) {
                        self.remove_summary(key)?;
                    }
                }
                // A blob is written again by its owner, who sees it missing.
                Some((_, Owner::Blob(_))) | None => {}
            }
        }
        Ok(())
    }

    fn alias_body(&self, from: &Key, to: &Key) -> Result<(), Error> {
        let _guard = self.lock_body(to);
        if self.sled(self.trees.body.contains_key(to))? {
            return Ok(());
        }
        let Some(record) = self.body_record(from)? else { return Ok(()) };
        self.disk.room(0)?;
        match record.place {
            Place::Inline => {
                let Some(value) = self.sled(self.trees.small.get(from))? else { return Ok(()) };
                self.sled(self.trees.small.insert(to, value))?;
            }
            Place::File => {
                let _file = self.files.lock(&record.hash);
                // The length in the row is that of the file; any row of this hash has it.
                let Some(other) = self.trees.file.scan_prefix(record.hash).next() else { return Ok(()) };
                let (_, value) = self.sled(other)?;
                if !self.files.exists(&record.hash) {
                    return Ok(());
                }
                self.sled(self.trees.file.insert(Owner::Body(to).reference(&record.hash), value))?;
            }
        }
        self.write_body(to, record)
    }

    /// Notes that a body was read, if that was not noted in this hour yet.
    fn touch(&self, key: Key, record: &BodyRecord) -> Result<(), Error> {
        if record.hour == (self.hour)() {
            return Ok(());
        }
        let full = {
            let mut touched = lock(&self.touched);
            touched.insert(key);
            touched.len() >= TOUCHES
        };
        if full { self.apply_touches() } else { Ok(()) }
    }

    /// Writes the moves in the LRU. On a full disk they are forgotten: a wrong order costs less than a write.
    pub(super) fn apply_touches(&self) -> Result<(), Error> {
        let touched = std::mem::take(&mut *lock(&self.touched));
        if touched.is_empty() || self.disk.room(0).is_err() {
            return Ok(());
        }
        let hour = (self.hour)();
        for key in touched {
            let _guard = self.lock_body(&key);
            if let Some(record) = self.body_record(&key)?
                && record.hour != hour
            {
                self.write_body(&key, BodyRecord { hour, ..record })?;
            }
        }
        Ok(())
    }

    fn evict_row(&self, row: &[u8]) -> Result<(), Error> {
        if let Some((hour, key)) = key::lru_entry(row) {
            let _guard = self.lock_body(key);
            if self.body_record(key)?.is_some_and(|record| record.hour == hour) {
                return self.remove_body_locked(key);
            }
        }
        // Left over: the body has moved on or is gone.
        self.sled(self.trees.lru.remove(row)).map(|_| ())
    }
}

/// A body being read from its beginning to its end. What is evicted meanwhile stays readable.
pub struct BodyReader {
    store: Store,
    key: Key,
    record: BodyRecord,
    source: Source,
}

enum Source {
    Whole(Option<Bytes>),
    File(Chunks),
}

impl BodyReader {
    /// Octets of the whole.
    pub fn len(&self) -> u64 {
        self.record.len
    }

    pub fn is_empty(&self) -> bool {
        self.record.len == 0
    }

    /// The next piece (at most 512 KiB) and its BLAKE3, `None` at the end. Blocks.
    ///
    /// # Errors
    /// [`Error::Failed`] if the piece is damaged; the body is then dropped, and what was handed out before was right.
    pub fn next_chunk(&mut self) -> Result<Option<(Bytes, [u8; 32])>, Error> {
        let chunk = match &mut self.source {
            Source::Whole(bytes) => {
                let whole = bytes.take().filter(|bytes| !bytes.is_empty());
                return Ok(whole.map(|bytes| (bytes, self.record.hash)));
            }
            Source::File(chunks) => self.store.inner.file(chunks.next_chunk())?,
        };
        match chunk {
            Some(chunk) => Ok(Some(chunk).filter(|(bytes, _)| !bytes.is_empty())),
            None => {
                self.store.inner.drop_damaged(&self.key, &self.record)?;
                Err(Error::Failed("a cached body is damaged".into()))
            }
        }
    }
}
