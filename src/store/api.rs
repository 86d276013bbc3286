//! CONTRACT STUB: what the engine asks of the store. All calls block (the engine calls them on its bounded store pool).
#![allow(unused_variables, missing_docs)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::*;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("store: {0}")]
    Failed(String),
    /// Disk below its reserve: nothing is cached, everything still passes through.
    #[error("disk full: caching is off")]
    Full,
}

/// Identifies a mailbox in the store; stays through a RENAME.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxId(pub u32);

/// What is kept of a mailbox besides its messages ("anchors"), written after the data it covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxRecord {
    pub name: String,
    pub uid_validity: UidValidity,
    pub uid_next: Uid,
    /// Ours.
    pub highest_modseq: ModSeq,
    /// The upstream's HIGHESTMODSEQ this state corresponds to, 0 for none.
    pub upstream_modseq: u64,
    /// Messages that should be there: fewer found on load means loss, and the mailbox is resynchronised.
    pub exists: u32,
    pub read_only: bool,
    /// PERMANENTFLAGS as a flag list text, if upstream limits them; `\*` kept as text.
    pub permanent: Option<String>,
}

/// Identity of a message's body in the account: the provider's id if there is one, else mailbox and UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyKey {
    Provider(u64),
    Message { mailbox: MailboxId, uid_validity: UidValidity, uid: Uid },
}

/// Rendered facts told to clients, immutable for a UID once stored. Empty = not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummaryRecord {
    pub header: Bytes,
    pub envelope: Bytes,
    pub body_structure: Bytes,
    pub body: Bytes,
}

/// One account's cache: a sled database and a directory of body files. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    _private: Arc<()>,
}

impl Store {
    /// Opens `<dir>`, guarded (catch_unwind, a damaged database is renamed aside and a fresh one made; `was_reset()` tells).
    pub fn open(dir: &Path, options: &Options) -> Result<Self, Error> {
        todo!()
    }
    pub fn was_reset(&self) -> bool {
        todo!()
    }
    pub fn mailboxes(&self) -> Result<Vec<(MailboxId, MailboxRecord)>, Error> {
        todo!()
    }
    /// Finds by name or makes an id.
    pub fn mailbox_id(&self, name: &str) -> Result<MailboxId, Error> {
        todo!()
    }
    pub fn put_mailbox(&self, id: MailboxId, record: &MailboxRecord) -> Result<(), Error> {
        todo!()
    }
    pub fn remove_mailbox(&self, id: MailboxId) -> Result<(), Error> {
        todo!()
    }
    /// All messages of a mailbox ascending (fixed-width index records). Records with a bad checksum are left out (exists then disagrees).
    pub fn load(&self, id: MailboxId) -> Result<Vec<MessageMeta>, Error> {
        todo!()
    }
    /// Commit of a delta: messages, removals, the expunge log, then the record, in this order (batches of 64).
    /// `vanished` is logged under `record.highest_modseq`.
    pub fn commit(
        &self,
        id: MailboxId,
        upserts: &[MessageMeta],
        vanished: &UidSet,
        record: &MailboxRecord,
    ) -> Result<(), Error> {
        todo!()
    }
    /// Forgets all messages and the log of a mailbox (UIDVALIDITY changed); bodies stay reachable by provider id.
    pub fn clear(&self, id: MailboxId) -> Result<(), Error> {
        todo!()
    }
    /// The expunge log, ascending: (modseq, uids). Bounded by the store (oldest dropped); second value: the modseq from which on it is complete.
    pub fn vanished(&self, id: MailboxId) -> Result<(Vec<(ModSeq, UidSet)>, ModSeq), Error> {
        todo!()
    }
    /// The folder list as opaque versioned bytes (engine serialises), for offline start.
    pub fn put_blob(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        todo!()
    }
    pub fn blob(&self, name: &str) -> Result<Option<Bytes>, Error> {
        todo!()
    }
    pub fn summaries(&self, keys: &[BodyKey]) -> Result<Vec<Option<SummaryRecord>>, Error> {
        todo!()
    }
    /// Adds what is not known yet; what is stored already stays as it is (first answer told is the one kept).
    pub fn put_summaries(&self, records: &[(BodyKey, SummaryRecord)]) -> Result<(), Error> {
        todo!()
    }
    /// Which of the keys have a body.
    pub fn has_bodies(&self, keys: &[BodyKey]) -> Result<Vec<bool>, Error> {
        todo!()
    }
    /// The verified body (BLAKE3), or nothing: a mismatch is a miss and the record is dropped.
    pub fn body(&self, key: BodyKey) -> Result<Option<Bytes>, Error> {
        todo!()
    }
    pub fn put_body(&self, key: BodyKey, body: &[u8]) -> Result<(), Error> {
        todo!()
    }
    pub fn remove_bodies(&self, keys: &[BodyKey]) -> Result<(), Error> {
        todo!()
    }
    /// Bytes on disk now (body files counted, sled directory measured).
    pub fn disk_bytes(&self) -> u64 {
        todo!()
    }
    /// Evicts least recently used bodies until body files are below `target` bytes; returns bytes freed.
    pub fn evict(&self, target: u64) -> Result<u64, Error> {
        todo!()
    }
    /// Compares everything with everything; the findings in words (empty: sound). Used by `cache check` and at the end of tests.
    pub fn check(&self) -> Result<Vec<String>, Error> {
        todo!()
    }
    pub fn flush(&self) -> Result<(), Error> {
        todo!()
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    /// sled's page cache, 16..=64 MiB.
    pub page_cache: u64,
    /// Free disk below which nothing is cached: max(1 GiB, 5%) in production.
    pub disk_reserve: u64,
}
