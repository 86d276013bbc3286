//! Opening the database: guarded, under a watchdog, and setting aside what is damaged.
//!
//! sled 0.34 panics on many kinds of damage while it opens, and panics again on every retry. So opening runs in a
//! thread of its own, a panic counts as damage, the directory is renamed and a fresh database made in its place.
//! What is not damage (a lock held by another process, a full disk, no permission) is reported and nothing is moved.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use super::disk::Disk;
use super::files::Files;
use super::index::Index;
use super::{Error, Inner, Opened, Options, STRIPES, disk};

/// The database's directory in the account's.
pub(super) const DB: &str = "db";

/// A file that says: the database was found corrupt while it ran, the next open sets it aside.
pub(super) const DAMAGED: &str = "damaged";

/// A file that says: a call panicked, the next open reads the whole database to see whether it is to blame.
pub(super) const SUSPECT: &str = "suspect";

/// Row of the default tree: the store was closed in order.
pub(super) const CLEAN: &str = "clean";

/// Row of the default tree: see [`super::Store::marker`].
pub(super) const MARKER: &str = "marker";

/// Row of the default tree: bytes of all keys and values, as the last sweep has counted them.
pub(super) const LOGICAL: &str = "logical";

/// Row of the default tree: the next mailbox id.
pub(super) const NEXT_MAILBOX: &str = "next-mailbox";

/// A database of 100,000 messages opens in about a second when cold; ten times that on a slow disk, and some more.
const WATCHDOG: Duration = Duration::from_secs(30);

/// How long a database that was just closed may still be held: its threads end within milliseconds.
const CLOSING: Duration = Duration::from_secs(2);

const CLOSING_STEP: Duration = Duration::from_millis(5);

/// Written out this often in the background: what a crash of the machine may lose, and fetches again.
const FLUSH_MS: u64 = 500;

/// The open database.
pub(super) struct Trees {
    pub(super) db: sled::Db,
    pub(super) mbox: sled::Tree,
    pub(super) idx: sled::Tree,
    pub(super) gone: sled::Tree,
    pub(super) mark: sled::Tree,
    pub(super) env: sled::Tree,
    pub(super) head: sled::Tree,
    pub(super) body: sled::Tree,
    pub(super) small: sled::Tree,
    pub(super) lru: sled::Tree,
    pub(super) file: sled::Tree,
    pub(super) blob: sled::Tree,
    pub(super) octets: sled::Tree,
}

impl Trees {
    /// Opens the trees and reads the mailboxes, which is where damage shows early.
    pub(super) fn open(path: &Path, page_cache: u64, suspect: bool) -> sled::Result<(Self, Index)> {
        // Compression and segment size stay what they are for good: another value refuses to open.
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(page_cache.clamp(1 << 20, 64 << 20))
            .flush_every_ms(Some(FLUSH_MS))
            .mode(sled::Mode::LowSpace);
        let db = config.open()?;
        let trees = Self {
            mbox: db.open_tree("mbox")?,
            idx: db.open_tree("idx")?,
            gone: db.open_tree("gone")?,
            mark: db.open_tree("mark")?,
            env: db.open_tree("env")?,
            head: db.open_tree("head")?,
            body: db.open_tree("body")?,
            small: db.open_tree("small")?,
            lru: db.open_tree("lru")?,
            file: db.open_tree("file")?,
            blob: db.open_tree("blob")?,
            octets: db.open_tree("octets")?,
            db,
        };
        let index = Index::read(&trees)?;
        if suspect {
            for tree in trees.all() {
                tree.iter().try_for_each(|row| row.map(|_| ()))?;
            }
        }
        Ok((trees, index))
    }

    /// Every tree, the default one first.
    pub(super) fn all(&self) -> [&sled::Tree; 13] {
        let Self { db, mbox, idx, gone, mark, env, head, body, small, lru, file, blob, octets } = self;
        [db, mbox, idx, gone, mark, env, head, body, small, lru, file, blob, octets]
    }
}

enum Fault {
    /// Set it aside and start afresh.
    Damage(String),
    /// Nothing wrong with the data.
    Outside(String),
}

/// Is this error the database's own state, rather than the system's?
pub(super) fn is_damage(error: &sled::Error) -> bool {
    match error {
        sled::Error::Corruption { .. } | sled::Error::Unsupported(_) => true,
        sled::Error::CollectionNotFound(_) | sled::Error::ReportableBug(_) => true,
        // Another process has it: sled says so as "other".
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => false,
        sled::Error::Io(error) => {
            matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other
            )
        }
    }
}

/// Leaves word for the next open.
pub(super) fn mark(dir: &Path, word: &str) {
    if let Err(error) = fs::write(dir.join(word), b"") {
        tracing::warn!(%error, word, "cannot mark the database: it will be opened as if nothing had happened");
    }
}

pub(super) fn open(dir: &Path, options: &Options, hour: fn() -> u32) -> Result<Inner, Error> {
    let failed = |what: &str, error: io::Error| Error::Failed(format!("{what} {}: {error}", dir.display()));
    disk::create_private(dir).map_err(|error| failed("cannot make", error))?;
    let db = dir.join(DB);
    super::rewrite::finish(dir).map_err(|error| failed("cannot put in place the copy in", error))?;
    let mut opened = if db.exists() { Opened::Known } else { Opened::New };
    let (marked, suspect) = (dir.join(DAMAGED), dir.join(SUSPECT));
    if marked.exists() {
        set_aside(dir).map_err(|error| failed("cannot set aside", error))?;
        fs::remove_file(&marked).map_err(|error| failed("cannot clean up", error))?;
        opened = Opened::Reset;
    }
    let (trees, index) =
        match guarded(&db, options.page_cache, suspect.exists()).and_then(|found| lean(dir, found, options)) {
            Ok(found) => found,
            Err(Fault::Outside(why)) => return Err(Error::Failed(why)),
            Err(Fault::Damage(why)) => {
                tracing::warn!(dir = %dir.display(), why, "the cache's database is damaged and starts afresh");
                set_aside(dir).map_err(|error| failed("cannot set aside", error))?;
                opened = Opened::Reset;
                guarded(&db, options.page_cache, false).map_err(|fault| match fault {
                    Fault::Damage(why) | Fault::Outside(why) => Error::Failed(why),
                })?
            }
        };
    if suspect.exists() {
        fs::remove_file(&suspect).map_err(|error| failed("cannot clean up", error))?;
    }
    let files = Files::open(dir).map_err(|error| failed("cannot make", error))?;
    let inner = Inner {
        dir: dir.to_path_buf(),
        options: options.clone(),
        trees,
        files,
        disk: Disk::new(dir, options.disk_reserve),
        index: Mutex::new(index),
        summaries: Mutex::new(()),
        bodies: (0..STRIPES).map(|_| Mutex::new(())).collect(),
        touched: Mutex::new(HashSet::new()),
        failed: OnceLock::new(),
        hour,
        opened,
    };
    // Removed before the first write, in the same log: it can only be there if nothing followed it.
    if inner.sled(inner.trees.db.remove(CLEAN))?.is_some() {
        inner.count_files()?;
    } else {
        inner.repair()?;
    }
    Ok(inner)
}

/// Copies the database fresh if it has outgrown its content. A copy that fails (a full disk) leaves it as it was.
fn lean(dir: &Path, found: (Trees, Index), options: &Options) -> Result<(Trees, Index), Fault> {
    let outside = |error: &dyn std::fmt::Display| Fault::Outside(format!("copying the database: {error}"));
    let fault = |error: sled::Error| if is_damage(&error) { Fault::Damage(error.to_string()) } else { outside(&error) };
    if !super::rewrite::is_due(dir, &found.0).map_err(fault)? || Disk::new(dir, options.disk_reserve).room(0).is_err() {
        return Ok(found);
    }
    super::rewrite::copy(dir, &found.0, options.page_cache).map_err(fault)?;
    drop(found);
    super::rewrite::swap(dir).map_err(|error| outside(&error))?;
    tracing::info!(dir = %dir.display(), "the cache's database was copied fresh");
    guarded(&dir.join(DB), options.page_cache, false)
}

/// Opens in a thread with a watchdog. A thread that hangs is left behind: it holds the lock, so nothing else can be
/// done with the database in this process.
fn guarded(path: &Path, page_cache: u64, suspect: bool) -> Result<(Trees, Index), Fault> {
    // One of ours that was just closed lets go of its lock a moment later, when sled's own threads have ended.
    closed(path);

    let (tell, told) = sync_channel(1);
    let owned: PathBuf = path.to_path_buf();
    let work = move || {
        let result = catch_unwind(AssertUnwindSafe(|| Trees::open(&owned, page_cache, suspect)));
        // Nobody listens any more only when the watchdog has ended; then the trees close here.
        let _ = tell.send(result);
    };
    std::thread::Builder::new()
        .name("store-open".into())
        .spawn(work)
        .map_err(|error| Fault::Outside(format!("no thread: {error}")))?;
    match told.recv_timeout(WATCHDOG) {
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(Ok(Err(error))) if is_damage(&error) => Err(Fault::Damage(error.to_string())),
        Ok(Ok(Err(error))) => Err(Fault::Outside(error.to_string())),
        Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(Fault::Damage("panicked while opening".into())),
        Err(RecvTimeoutError::Timeout) => {
            Err(Fault::Outside(format!("the database does not open within {} s", WATCHDOG.as_secs())))
        }
    }
}

/// Waits until nobody holds the database, or for [`CLOSING`]: then opening says who does. Whether it is free.
pub(super) fn closed(path: &Path) -> bool {
    let Ok(log) = fs::File::open(path.join("db")) else { return true };
    let mut waited = Duration::ZERO;
    while fs4::fs_std::FileExt::try_lock_exclusive(&log).is_ok_and(|locked| !locked) {
        if waited >= CLOSING {
            return false;
        }
        std::thread::sleep(CLOSING_STEP);
        waited += CLOSING_STEP;
    }
    true
}

/// Renames the database to `db.bad-<ts>` and removes older ones: one is kept, for whoever wants to look.
fn set_aside(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("db.bad-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    match fs::rename(dir.join(DB), dir.join(format!("db.bad-{seconds}"))) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
