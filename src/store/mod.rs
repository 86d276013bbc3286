//! The cache of one account: a sled database for everything small, and files beside it for bodies.
//!
//! ```text
//! <dir>/db/          sled 0.34: index, anchors, summaries, small bodies, references, LRU (see `key`)
//! <dir>/cas/<aa>/    bodies above 4 KiB and other long values, named by the BLAKE3 of their raw bytes (see `files`)
//! <dir>/tmp/         files being written; emptied when the store is opened
//! <dir>/db.bad-<ts>/ the last database that was found damaged
//! ```
//!
//! Everything here can be thrown away and fetched again (what cannot lives in `state/`), and the code leans on it:
//! nothing is synced, a write goes `file -> reference -> body -> summary -> index` so that a crash at any point
//! leaves at most something nobody refers to, a missing part is a miss, and a value or file that does not check out
//! (crc32c, BLAKE3) is a miss too. Wrong bytes are never served.
//!
//! Only this module names sled (Law 3). All calls block, so the engine makes them through [`StorePool`] (Law 4).
//! After a fault of the database the store refuses everything with [`Error::Failed`]: its owner drops every clone and
//! opens it again ([`Store::remains`]). A database found corrupt while running is set aside by that next open.

mod again;
mod body;
mod check;
mod codec;
mod disk;
mod files;
mod index;
mod key;
mod long;
mod octets;
mod open;
mod pool;
mod rewrite;
mod summary;
mod sweep;
#[cfg(test)]
mod tests;
mod value;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::model::{ModSeq, Uid, UidValidity};
use disk::Disk;
use files::Files;
use index::Index;
use key::{Key, Owner};
use open::Trees;

pub use again::Remains;
pub use body::BodyReader;
pub use pool::StorePool;
pub use sweep::Swept;

/// What goes wrong in the store, for the log and for deciding whether to go on without it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database or the file system failed; see the module for what to do.
    #[error("store: {0}")]
    Failed(String),
    /// Disk below its reserve: nothing is cached, everything still passes through.
    #[error("disk full: caching is off")]
    Full,
}

/// Identifies a mailbox in the store; stays through a RENAME, and is not used again after removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxId(pub u32);

impl MailboxId {
    /// From here on ids are of one process and never stored: no store makes two thousand million mailboxes.
    const TRANSIENT: u32 = 1 << 31;

    /// An id for a mailbox the store cannot keep. What is written under it is dropped: kept, it would meet another mailbox that has the
    /// same id in the next process.
    pub fn transient(number: u64) -> Self {
        Self(Self::TRANSIENT | (number % u64::from(Self::TRANSIENT)) as u32)
    }

    pub(crate) fn is_transient(self) -> bool {
        self.0 >= Self::TRANSIENT
    }
}

impl BodyKey {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Message { mailbox, .. } if mailbox.is_transient())
    }
}

/// What is kept of a mailbox besides its messages ("anchors"), written after the data it covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxRecord {
    /// The name as the account has it, in UTF-8. Unique in the store.
    pub name: String,
    /// 0: not known yet.
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

/// Which parts of a [`SummaryRecord`] a read asks for: the header lies apart and is compressed, so it costs more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SummaryWant {
    pub header: bool,
    pub envelope: bool,
    /// `body_structure` and `body`.
    pub structure: bool,
}

impl SummaryWant {
    /// Everything.
    pub const ALL: Self = Self { header: true, envelope: true, structure: true };
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// sled's page cache, 16..=64 MiB.
    pub page_cache: u64,
    /// Free disk below which nothing is cached: max(1 GiB, 5%) in production.
    pub disk_reserve: u64,
}

impl Options {
    /// The production values for the disk `dir` lies on (or will lie on): 32 MiB of page cache, and a reserve of 1 GiB
    /// or a twentieth of the disk, whichever is more.
    pub fn for_disk(dir: &Path) -> Self {
        let known = dir.ancestors().find_map(|dir| fs4::total_space(dir).ok());
        Self { page_cache: 32 << 20, disk_reserve: (known.unwrap_or(0) / 20).max(1 << 30) }
    }
}

/// One account's cache: a sled database and a directory of body files. Cheap to clone; when the last clone is dropped
/// the database is written out and closed, and only then can it be opened again.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.inner.dir).finish()
    }
}

/// Locks for the bodies of a key; see [`Files::lock`] for those of a file. A key's lock is taken before a file's.
const STRIPES: usize = 64;

struct Inner {
    dir: PathBuf,
    options: Options,
    trees: Trees,
    files: Files,
    disk: Disk,
    /// Names, ids and lengths of logs; held by whatever changes mailboxes and messages.
    index: Mutex<Index>,
    /// Held by whatever changes summaries.
    summaries: Mutex<()>,
    /// Held by whatever changes the body of a key.
    bodies: Vec<Mutex<()>>,
    /// Bodies read in an hour later than the one written down, see `body`.
    touched: Mutex<HashSet<Key>>,
    /// The first fault; everything is refused after it.
    failed: OnceLock<String>,
    hour: fn() -> u32,
    opened: Opened,
}

/// What the store found when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    Known,
    New,
    Reset,
}

/// Hours since the epoch: the grain of the LRU.
fn wall_hour() -> u32 {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    u32::try_from(seconds / 3600).unwrap_or(u32::MAX)
}

/// A lock whose holder panicked is taken over: what it guards is rebuilt from the database or holds no data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the cache in `dir`, making it if need be. A damaged database is set aside as `db.bad-<ts>` (one is kept)
    /// and a new one made; [`Store::was_reset`] tells. After a crash, what refers to nothing is swept first.
    ///
    /// # Errors
    /// [`Error::Failed`] if another process has it open, the disk refuses, or it does not open within 30 seconds.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, Error> {
        Self::open_at(dir, options, wall_hour)
    }

    fn open_at(dir: &Path, options: &Options, hour: fn() -> u32) -> Result<Self, Error> {
        open::open(dir, options, hour).map(|inner| Self { inner: Arc::new(inner) })
    }

    /// It refuses everything after a fault, see [`Store::remains`].
    pub fn has_failed(&self) -> bool {
        self.inner.failed.get().is_some()
    }

    /// The database was damaged and is now empty: every mailbox is to be synchronised anew.
    pub fn was_reset(&self) -> bool {
        self.inner.opened == Opened::Reset
    }

    /// There was no database. If the durable state knows of one ([`Store::marker`]), it has been lost.
    pub fn is_new(&self) -> bool {
        self.inner.opened == Opened::New
    }

    /// Ends the store as sled does when it panics, or finds itself corrupt.
    #[cfg(test)]
    pub(crate) fn break_down(&self, corrupt: bool) -> Error {
        if corrupt {
            let corruption = sled::Error::Corruption { at: None, bt: () };
            return self.inner.sled::<()>(Err(corruption)).unwrap_err();
        }
        let _watch = self.inner.sound();
        panic!("as sled does");
    }

    /// The number last given to [`Store::set_marker`], 0 for none. A lower number than the durable state remembers
    /// means that the database has silently lost its tail: nothing in it is to be believed without a full comparison.
    pub fn marker(&self) -> Result<u64, Error> {
        let value = self.inner.sled(self.inner.trees.db.get(open::MARKER))?;
        Ok(value.and_then(|value| value::number(&value)).unwrap_or(0))
    }

    /// Writes the number down and flushes; the caller then writes it to the durable state.
    pub fn set_marker(&self, number: u64) -> Result<(), Error> {
        self.inner.disk.room(0)?;
        self.inner.sled(self.inner.trees.db.insert(open::MARKER, value::number_value(number)))?;
        self.flush()
    }

    /// The folder list and such, as opaque versioned bytes (the engine serialises), for an offline start. `name` is
    /// at most 200 bytes.
    pub fn put_blob(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let _watch = self.inner.sound()?;
        self.inner.disk.room(bytes.len() as u64)?;
        if name.len() > 200 {
            return Err(Error::Failed(format!("name of {} bytes", name.len())));
        }
        let _guard = lock(&self.inner.summaries);
        let owner = Owner::Blob(name.as_bytes());
        let value = self.inner.long_value(owner, bytes, long::Form::Dense)?;
        let old = self.inner.sled(self.inner.trees.blob.insert(name, value.as_slice()))?;
        self.inner.release_long(owner, old.as_deref(), Some(&value))
    }

    /// What was put under this name; nothing if it is not there or damaged.
    pub fn blob(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let _watch = self.inner.sound()?;
        match self.inner.sled(self.inner.trees.blob.get(name))? {
            Some(value) => self.inner.long_read(&value),
            None => Ok(None),
        }
    }

    /// Whether there is room above the reserve for anything at all.
    ///
    /// # Errors
    /// [`Error::Full`] if not, [`Error::Failed`] if the file system does not say.
    pub fn room(&self) -> Result<(), Error> {
        self.inner.disk.room(0)
    }

    /// Bytes on disk now: body files counted, the database's directory measured (at most a minute ago).
    pub fn disk_bytes(&self) -> u64 {
        self.inner.files.bytes() + self.inner.disk.database_bytes(&self.inner.dir.join(open::DB))
    }

    /// Bytes on disk of the files alone: what [`Store::evict`] can bring down.
    pub fn file_bytes(&self) -> u64 {
        self.inner.files.bytes()
    }

    /// Writes out what is pending and waits until it is on the disk.
    pub fn flush(&self) -> Result<(), Error> {
        let _watch = self.inner.sound()?;
        self.inner.apply_touches()?;
        self.inner.sled(self.inner.trees.db.flush())?;
        // sled's flush only starts the writing; this is the barrier (0.2 ms).
        let log = self.inner.dir.join(open::DB).join("db");
        let synced = std::fs::File::open(log).and_then(|log| log.sync_data());
        synced.map_err(|error| Error::Failed(format!("flush: {error}")))
    }
}

impl Inner {
    /// Refuses after a fault. What it returns is held during a call, and sees a panic pass.
    fn sound(&self) -> Result<Watch<'_>, Error> {
        match self.failed.get() {
            Some(why) => Err(Error::Failed(why.clone())),
            None => Ok(Watch { inner: self }),
        }
    }

    /// A result of the database. The first error ends the store: sled's own stay until it is opened again.
    fn sled<T>(&self, result: sled::Result<T>) -> Result<T, Error> {
        result.map_err(|error| {
            let why = self.failed.get_or_init(|| {
                if open::is_damage(&error) {
                    open::mark(&self.dir, open::DAMAGED);
                }
                tracing::error!(dir = %self.dir.display(), %error, "the cache's database failed");
                error.to_string()
            });
            Error::Failed(why.clone())
        })
    }

    /// A result of the file system. Not the end of the store: one file may be unreadable and the next one fine.
    fn file<T>(&self, result: std::io::Result<T>) -> Result<T, Error> {
        result.map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::Full,
            _ => Error::Failed(format!("body file: {error}")),
        })
    }

    fn lock_body(&self, key: &[u8]) -> Option<MutexGuard<'_, ()>> {
        // Spread by the low bytes: neighbours in a mailbox differ there.
        let sum = key.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        self.bodies.get(sum % STRIPES).map(lock)
    }
}

/// sled panics on some kinds of damage. A call that panics ends the store, and the next open reads all of the database
/// before it believes it.
struct Watch<'a> {
    inner: &'a Inner,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inner.failed.get_or_init(|| {
                open::mark(&self.inner.dir, open::SUSPECT);
                "a call panicked".into()
            });
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.failed.get().is_none() && self.apply_touches().is_ok() {
            // Without this mark the next open looks for what a crash has left over. If it cannot be written, it will.
            let _ = self.trees.db.insert(open::CLEAN, &[]);
            let _ = self.trees.db.flush();
        }
    }
}
