//! CONTRACT STUB for session/: signatures are fixed, bodies come with the engine.
#![allow(unused_variables, clippy::unused_async, missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::model::*;

/// What goes wrong below a session; `session/imap/reply.rs` maps every variant to `NO [CODE] text` in ONE place.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// [NONEXISTENT], or [TRYCREATE] for COPY/MOVE/APPEND destinations.
    #[error("mailbox does not exist: {0}")]
    NoSuchMailbox(String),
    /// [ALREADYEXISTS]
    #[error("mailbox exists already: {0}")]
    Exists(String),
    /// [CANNOT]
    #[error("{0}")]
    Cannot(String),
    /// The message is gone: [EXPUNGEISSUED] where the view has not been told yet.
    #[error("message is gone")]
    Expunged,
    /// Upstream out of reach and the answer is not cached: [UNAVAILABLE], in plain words.
    #[error("{0}")]
    Unavailable(String),
    /// Our budget or the provider's limit: [LIMIT].
    #[error("{0}")]
    Limit(String),
    /// Upstream said NO or BAD: its own response code (e.g. "OVERQUOTA", without brackets) and text, handed on.
    #[error("{text}")]
    Refused { code: Option<String>, text: String },
    /// A literal or message above the limit: [TOOBIG].
    #[error("message larger than {limit} bytes")]
    TooBig { limit: u64 },
    /// UIDVALIDITY changed or mailbox vanished under the session: the session is closed with BYE.
    #[error("mailbox changed identity")]
    Gone,
    /// Our fault: [SERVERBUG]
    #[error("{0}")]
    Internal(String),
}

/// One version of one mailbox, immutable. Cheap to hold, cheap to compare (`messages.same`).
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub name: Arc<str>,
    pub uid_validity: UidValidity,
    pub uid_next: Uid,
    /// At least the greatest modseq of any message and of any expunge.
    pub highest_modseq: ModSeq,
    pub messages: Pages,
    /// Keywords known in the mailbox, for the FLAGS response (besides the five system flags).
    pub keywords: Arc<[Keyword]>,
    /// What a client may change for good (PERMANENTFLAGS); `None`: everything incl. `\*`.
    pub permanent: Option<Flags>,
    pub read_only: bool,
    /// Deleted, renamed or given a new UIDVALIDITY: sessions that have it selected must end with BYE.
    pub dead: bool,
}

/// What STATUS tells, all from the mirror.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatusData {
    pub messages: u32,
    pub uid_next: Uid,
    pub uid_validity: UidValidity,
    pub unseen: u32,
    pub deleted: u32,
    pub highest_modseq: ModSeq,
    pub size: u64,
}

/// What is known of a message beyond its meta: made once from the raw header / message, kept in the store.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The raw header block incl. the empty line that ends it. Empty when not asked.
    pub header: Bytes,
    /// ENVELOPE, rendered: `(…)`.
    pub envelope: Bytes,
    /// BODYSTRUCTURE rendered `(…)`; empty when not asked.
    pub body_structure: Bytes,
    /// BODY (without extension data) rendered; empty when not asked.
    pub body: Bytes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    pub header: bool,
    pub envelope: bool,
    /// BODYSTRUCTURE and BODY.
    pub structure: bool,
}

/// An account as sessions see it. Clone freely.
#[derive(Clone)]
pub struct Account {
    _private: Arc<()>,
}

impl Account {
    pub fn address(&self) -> &str {
        todo!()
    }
    /// The mailboxes; waits for the first LIST after a first start, else immediate.
    pub async fn folders(&self) -> Result<Arc<Folders>, Error> {
        todo!()
    }
    /// Opens a mailbox for SELECT/EXAMINE; fresh if it can be had quickly. Holding the Mailbox keeps it watched upstream.
    pub async fn open(&self, name: &str) -> Result<Mailbox, Error> {
        todo!()
    }
    pub async fn status(&self, name: &str) -> Result<StatusData, Error> {
        todo!()
    }
    pub async fn create(&self, name: &str, role: Option<Role>) -> Result<(), Error> {
        todo!()
    }
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        todo!()
    }
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        todo!()
    }
    pub async fn subscribe(&self, name: &str, on: bool) -> Result<(), Error> {
        todo!()
    }
    /// Uploads messages (MULTIAPPEND: several), in order. `[APPENDUID]` data when known.
    pub async fn append(&self, mailbox: &str, messages: Vec<Append>) -> Result<Option<Appended>, Error> {
        todo!()
    }
    /// Largest message APPEND takes (APPENDLIMIT), octets.
    pub fn append_limit(&self) -> u64 {
        todo!()
    }
    /// Raw untagged QUOTA / QUOTAROOT lines from upstream (without `* ` and CRLF); Cannot if upstream has no QUOTA.
    pub async fn quota(&self, root: &str) -> Result<Vec<Bytes>, Error> {
        todo!()
    }
    pub async fn quota_root(&self, mailbox: &str) -> Result<Vec<Bytes>, Error> {
        todo!()
    }
    /// What upstream can do beyond our base, for CAPABILITY.
    pub fn offers_quota(&self) -> bool {
        todo!()
    }
}

pub struct Append {
    pub flags: Flags,
    pub date: Option<InternalDate>,
    pub body: Bytes,
}

#[derive(Clone, Debug)]
pub struct Appended {
    pub uid_validity: UidValidity,
    pub uids: Vec<Uid>,
}

#[derive(Clone, Debug)]
pub struct Copied {
    pub uid_validity: UidValidity,
    /// (source, destination), ascending by source.
    pub pairs: Vec<(Uid, Uid)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    Copy,
    Move,
}

/// A mailbox a session has selected. Clone freely; the last drop ends the interest.
#[derive(Clone)]
pub struct Mailbox {
    _private: Arc<()>,
}

impl Mailbox {
    pub fn snapshot(&self) -> Arc<Snapshot> {
        todo!()
    }
    /// Wakes when a newer snapshot is there.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        todo!()
    }
    /// What vanished after `since` (RFC 7162 VANISHED (EARLIER)); `None` if the log does not reach back so far, and then the
    /// caller answers with every UID of the asked set (below UIDNEXT) that does not exist.
    pub fn vanished_since(&self, since: ModSeq) -> Option<UidSet> {
        todo!()
    }
    /// Envelope, structure, header for some messages (batches of at most 64), in the order asked. A message that cannot be had
    /// is an Err of its own.
    pub async fn summaries(&self, uids: &[Uid], want: Want) -> Vec<Result<Arc<Summary>, Error>> {
        todo!()
    }
    /// Reads whole messages in the order given, reading ahead from disk and upstream as it sees fit.
    pub fn read(&self, uids: Vec<Uid>) -> BodyReads {
        todo!()
    }
    /// STORE. When it returns, the newest snapshot holds the new flags. Returns the UIDs that failed UNCHANGEDSINCE ([MODIFIED]).
    pub async fn store(
        &self,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<UidSet, Error> {
        todo!()
    }
    /// EXPUNGE (None: all \Deleted) or UID EXPUNGE. When it returns, the newest snapshot lacks them.
    pub async fn expunge(&self, uids: Option<&UidSet>) -> Result<(), Error> {
        todo!()
    }
    /// COPY or MOVE; `None` when upstream gave no COPYUID.
    pub async fn copy(&self, uids: &UidSet, to: &str, mode: CopyMode) -> Result<Option<Copied>, Error> {
        todo!()
    }
    /// Which of `within` have `needle` (UTF-8, case-insensitive substring) in header+body text (`TEXT`) or body only (`BODY`),
    /// locally where cached, else asked upstream.
    pub async fn search_text(&self, within: &UidSet, needle: &[u8], body_only: bool) -> Result<UidSet, Error> {
        todo!()
    }
    /// A round trip upstream if the mailbox is not being watched and was not checked lately (CHECK, and NOOP where useful).
    pub async fn refresh(&self) -> Result<(), Error> {
        todo!()
    }
}

/// Reads of whole messages in order.
pub struct BodyReads {
    _private: (),
}

impl BodyReads {
    /// The next message; `None` at the end. The body may still be arriving (see [`Body`]).
    pub async fn next(&mut self) -> Option<(Uid, Result<Body, Error>)> {
        todo!()
    }
}

/// A raw message, whole or still arriving.
pub struct Body {
    _private: (),
}

impl Body {
    /// Octets, known before the last one is here.
    pub fn len(&self) -> u64 {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All of it; waits until it has arrived.
    pub async fn whole(&self) -> Result<Bytes, Error> {
        todo!()
    }
    /// The next piece as it arrives, `None` after `len()` octets: for BODY[] straight to the client. An Err in the middle means the
    /// client connection must be closed (its literal cannot be completed).
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        todo!()
    }
}
