//! What clients are told of a message besides its index record: envelope, structures, header.
//!
//! Envelope and structures lie together in `env`, plain while small; the header lies in `head`, compressed. So a
//! listing of a thousand envelopes touches no header and decompresses nothing.

use bytes::Bytes;

use super::key::{Key, Owner};
use super::long::Form;
use super::{BodyKey, Error, Inner, Store, SummaryRecord, SummaryWant, lock};

/// Records in one batch.
const BATCH: usize = 64;

impl Store {
    /// The summaries kept for these keys, with the parts asked for (others are empty). `None`: nothing of what is
    /// asked for is known.
    pub fn summaries(&self, keys: &[BodyKey], want: SummaryWant) -> Result<Vec<Option<SummaryRecord>>, Error> {
        let _watch = self.inner.sound()?;
        keys.iter().map(|key| self.inner.summary(&Key::body(*key), want)).collect()
    }

    /// Adds what is not known yet; what is stored already stays as it is (the first answer told is the one kept).
    pub fn put_summaries(&self, records: &[(BodyKey, SummaryRecord)]) -> Result<(), Error> {
        let _watch = self.inner.sound()?;
        let kept: Vec<(BodyKey, SummaryRecord)>;
        let records = if records.iter().any(|(key, _)| key.is_transient()) {
            kept = records.iter().filter(|(key, _)| !key.is_transient()).cloned().collect();
            kept.as_slice()
        } else {
            records
        };
        let sum = |record: &SummaryRecord| {
            record.header.len() + record.envelope.len() + record.body_structure.len() + record.body.len()
        };
        self.inner.disk.room(records.iter().map(|(_, record)| sum(record) as u64).sum())?;
        let _guard = lock(&self.inner.summaries);
        records.chunks(BATCH).try_for_each(|chunk| self.inner.put_summaries(chunk))
    }
}

/// `env`: two lengths, then envelope, BODYSTRUCTURE and BODY.
fn joined(record: &SummaryRecord) -> Vec<u8> {
    let len = |bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&len(&record.envelope)[..], &len(&record.body_structure), &record.envelope, &record.body_structure, &record.body]
        .concat()
}

/// Undoes [`joined`], without copying.
fn split(bytes: &Bytes) -> Option<[Bytes; 3]> {
    let (envelope, rest) = bytes.split_first_chunk::<4>()?;
    let (structure, rest) = rest.split_first_chunk::<4>()?;
    let (envelope, structure) = (u32::from_le_bytes(*envelope) as usize, u32::from_le_bytes(*structure) as usize);
    let (first, rest) = rest.split_at_checked(envelope)?;
    let (second, third) = rest.split_at_checked(structure)?;
    Some([bytes.slice_ref(first), bytes.slice_ref(second), bytes.slice_ref(third)])
}

/// The known, filled up with the new where it is empty; whether that changed anything.
fn fill(known: &mut Bytes, new: &Bytes) -> bool {
    let fills = known.is_empty() && !new.is_empty();
    if fills {
        *known = new.clone();
    }
    fills
}

impl Inner {
    pub(super) fn summary(&self, key: &Key, want: SummaryWant) -> Result<Option<SummaryRecord>, Error> {
        let mut record = SummaryRecord::default();
        let mut known = false;
        if (want.envelope || want.structure)
            && let Some(value) = self.sled(self.trees.env.get(key))?
            && let Some([envelope, structure, body]) = self.long_read(&value)?.as_ref().and_then(split)
        {
            if want.envelope {
                known |= !envelope.is_empty();
                record.envelope = envelope;
            }
            if want.structure {
                known |= !structure.is_empty() || !body.is_empty();
                record.body_structure = structure;
                record.body = body;
            }
        }
        if want.header
            && let Some(value) = self.sled(self.trees.head.get(key))?
            && let Some(header) = self.long_read(&value)?
        {
            known |= !header.is_empty();
            record.header = header;
        }
        Ok(known.then_some(record))
    }

    /// Under the lock of the summaries. Headers first, then envelopes; each tree in one batch.
    fn put_summaries(&self, records: &[(BodyKey, SummaryRecord)]) -> Result<(), Error> {
        let (mut heads, mut envs) = (sled::Batch::default(), sled::Batch::default());
        let mut replaced = Vec::new();
        for (at, (key, new)) in records.iter().enumerate() {
            let key = Key::body(*key);
            // The same key twice in one batch: the first is the one kept, so add up what it gives here.
            if records.iter().take(at).any(|(earlier, _)| Key::body(*earlier) == key) {
                self.sled(self.trees.head.apply_batch(std::mem::take(&mut heads)))?;
                self.sled(self.trees.env.apply_batch(std::mem::take(&mut envs)))?;
            }
            let mut known = self.summary(&key, SummaryWant::ALL)?.unwrap_or_default();
            if fill(&mut known.header, &new.header) {
                let value = self.long_value(Owner::Header(&key), &known.header, Form::Dense)?;
                replaced.push((key, true, self.sled(self.trees.head.get(key))?, value.clone()));
                heads.insert(key, value);
            }
            let filled = [
                fill(&mut known.envelope, &new.envelope),
                fill(&mut known.body_structure, &new.body_structure),
                fill(&mut known.body, &new.body),
            ];
            if filled.contains(&true) {
                let value = self.long_value(Owner::Envelope(&key), &joined(&known), Form::Quick)?;
                replaced.push((key, false, self.sled(self.trees.env.get(key))?, value.clone()));
                envs.insert(key, value);
            }
        }
        self.sled(self.trees.head.apply_batch(heads))?;
        self.sled(self.trees.env.apply_batch(envs))?;
        for (key, header, old, new) in &replaced {
            let owner = if *header { Owner::Header(key) } else { Owner::Envelope(key) };
            self.release_long(owner, old.as_deref(), Some(new))?;
        }
        Ok(())
    }

    /// Removes a summary. Under the lock of the summaries.
    pub(super) fn remove_summary(&self, key: &[u8]) -> Result<(), Error> {
        let env = self.sled(self.trees.env.remove(key))?;
        self.release_long(Owner::Envelope(key), env.as_deref(), None)?;
        let head = self.sled(self.trees.head.remove(key))?;
        self.release_long(Owner::Header(key), head.as_deref(), None)
    }
}
