//! Free space and space taken, by reality: what the file system says, not what was written.
//!
//! sled must never meet a full disk (it answers with errors that stay), so every write asks here first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Error;

/// How long an answer of the file system is believed: one call per second is nothing, one per write is not.
const FRESH: Duration = Duration::from_secs(1);

/// How long the size of the database's directory is believed; it is a walk.
const MEASURED: Duration = Duration::from_secs(60);

/// The disk one account's cache lies on.
pub(super) struct Disk {
    dir: PathBuf,
    reserve: u64,
    free: Mutex<Option<(Instant, u64)>>,
    taken: Mutex<Option<(Instant, u64)>>,
}

impl Disk {
    pub(super) fn new(dir: &Path, reserve: u64) -> Self {
        Self { dir: dir.to_path_buf(), reserve, free: Mutex::new(None), taken: Mutex::new(None) }
    }

    /// Is there room for `bytes` more above the reserve?
    ///
    /// # Errors
    /// [`Error::Full`] if not, [`Error::Failed`] if the file system does not say.
    pub(super) fn room(&self, bytes: u64) -> Result<(), Error> {
        let mut last = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, free) = match *last {
            Some((since, free)) if now.duration_since(since) < FRESH => (since, free),
            _ => (now, fs4::available_space(&self.dir).map_err(|error| Error::Failed(format!("free space: {error}")))?),
        };
        let left = free.saturating_sub(bytes);
        if left < self.reserve {
            *last = Some((since, free));
            return Err(Error::Full);
        }
        *last = Some((since, left));
        Ok(())
    }

    /// Bytes the database's directory takes, at most a minute old.
    pub(super) fn database_bytes(&self, db: &Path) -> u64 {
        let mut last = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, bytes)) = *last
            && since.elapsed() < MEASURED
        {
            return bytes;
        }
        // A file that went away while we looked takes nothing.
        let bytes = measure(db).unwrap_or(0);
        *last = Some((Instant::now(), bytes));
        bytes
    }
}

/// Bytes taken by everything below a directory.
pub(super) fn measure(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Files come and go while the database works.
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() { measure(&entry.path()).unwrap_or(0) } else { allocated(&meta) };
    }
    Ok(sum)
}

#[cfg(unix)]
fn allocated(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(meta) * 512
}

#[cfg(not(unix))]
fn allocated(meta: &fs::Metadata) -> u64 {
    super::files::on_disk(meta.len())
}

/// Makes the account's directory, readable by nobody else: it holds mail.
#[cfg(unix)]
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}
