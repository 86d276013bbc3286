//! Copying a database fresh: sled 0.34 gives room inside its log back to itself only, and under random removal its
//! log settles at ten times what is in it. A copy brings it back to twice (half a second for 20,000 messages).
//!
//! It is done while opening, when nobody waits on a query and nobody writes. The steps are renames, so that a crash
//! between any two of them is finished by the next open.

use std::fs;
use std::io;
use std::path::Path;

use super::disk;
use super::open::{self, DB, LOGICAL, Trees};
use super::value;

/// The copy being written.
const NEW: &str = "db.new";

/// The database the copy has replaced.
const OLD: &str = "db.old";

/// The log may be this many times its content; the measured plateau without copying is 10.
const BLOAT: u64 = 4;

/// Below this nothing is copied: an empty database takes 1 MiB, and the log is cut in segments.
const SMALL: u64 = 64 << 20;

/// Rows in one batch of the copy.
const BATCH: usize = 256;

/// Has the log outgrown its content, as measured by the last sweep?
pub(super) fn is_due(dir: &Path, trees: &Trees) -> sled::Result<bool> {
    let Some(logical) = trees.db.get(LOGICAL)?.and_then(|value| value::number(&value)) else { return Ok(false) };
    let taken = disk::measure(&dir.join(DB)).unwrap_or(0);
    Ok(taken > SMALL.max(logical.saturating_mul(BLOAT)))
}

/// Copies everything into a new database beside this one.
pub(super) fn copy(dir: &Path, trees: &Trees, page_cache: u64) -> sled::Result<()> {
    let (fresh, _) = Trees::open(&dir.join(NEW), page_cache, false)?;
    for (from, to) in trees.all().into_iter().zip(fresh.all()) {
        let mut batch = sled::Batch::default();
        for (at, row) in from.iter().enumerate() {
            let (key, value) = row?;
            batch.insert(key, value);
            if at % BATCH == BATCH - 1 {
                to.apply_batch(std::mem::take(&mut batch))?;
            }
        }
        to.apply_batch(batch)?;
    }
    fresh.db.flush()?;
    Ok(())
}

/// Puts the finished copy in place. Both databases are closed.
pub(super) fn swap(dir: &Path) -> io::Result<()> {
    open::closed(&dir.join(DB));
    open::closed(&dir.join(NEW));
    fs::rename(dir.join(DB), dir.join(OLD))?;
    finish(dir)
}

/// Ends what a crash has interrupted: without a database the copy is complete and takes its place; beside one it is
/// not, and goes.
pub(super) fn finish(dir: &Path) -> io::Result<()> {
    let (db, new, old) = (dir.join(DB), dir.join(NEW), dir.join(OLD));
    if new.exists() {
        if old.exists() && !db.exists() {
            fs::rename(&new, &db)?;
        } else {
            fs::remove_dir_all(&new)?;
        }
    }
    if old.exists() {
        if db.exists() { fs::remove_dir_all(&old)? } else { fs::rename(&old, &db)? }
    }
    Ok(())
}
