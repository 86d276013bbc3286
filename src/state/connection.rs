//! Connections to the file: one that writes, a few that read.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{Error, schema};

/// Readers kept open: as many as the store's pool has threads; more at once open their own.
const READERS: usize = 4;

/// How long a statement waits for a lock: only another program (`sqlite3`, a backup) can hold one.
const BUSY: Duration = Duration::from_secs(3);

/// The open file.
pub(super) struct Connections {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic inside a transaction rolls it back when it is dropped, so the connection is as good as before.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Failed(format!("{}: {error}", path.display()));
        create_private(path).map_err(failed)?;
        let mut writer = Connection::open_with_flags(path, flags())?;
        configure(&writer)?;
        // FULL: a commit is on the disk when it returns.
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        let sound: String = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(Error::Failed(format!("{} is damaged ({sound}): put a backup in its place", path.display())));
        }
        schema::migrate(&mut writer)?;
        Ok(Self { path: path.to_path_buf(), writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) })
    }

    /// Runs a change in one transaction: all of it is on the disk when this returns, or nothing.
    pub(super) fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Error> {
        let mut writer = lock(&self.writer);
        // Immediate: two that begin by reading cannot then refuse each other the write.
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Reads what is committed, without waiting for a writer.
    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let kept = lock(&self.readers).pop();
        let reader = match kept {
            Some(reader) => reader,
            None => {
                let reader = Connection::open_with_flags(&self.path, flags())?;
                configure(&reader)?;
                reader.pragma_update(None, "query_only", true)?;
                reader
            }
        };
        let value = query(&reader)?;
        let mut readers = lock(&self.readers);
        if readers.len() < READERS {
            readers.push(reader);
        }
        Ok(value)
    }
}

fn flags() -> OpenFlags {
    // Made by us before, with its mode; our own lock around each connection makes SQLite's needless.
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)
}

/// Makes the file, or makes sure that nobody else can read it: it holds tokens. SQLite gives its `-wal` and `-shm`
/// files the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
    }
    drop(file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    #[cfg(unix)]
    fn nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deeper").join("state.db");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let connections = Connections::open(&path).unwrap();
        connections.write(|db| db.execute("INSERT INTO kv (key, value) VALUES ('a', x'00')", [])).unwrap();
        let mut files = 0;
        for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
            files += 1;
        }
        assert_eq!(files, 3, "the file, its log and its index");
    }

    #[test]
    fn a_commit_is_made_to_last() {
        let dir = tempfile::tempdir().unwrap();
        let connections = Connections::open(&dir.path().join("state.db")).unwrap();
        let writer = lock(&connections.writer);
        let synchronous: i64 = writer.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        let journal: String = writer.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!((synchronous, journal.as_str()), (2, "wal"));
    }

    #[test]
    fn readers_see_whole_changes_and_do_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let connections = Arc::new(Connections::open(&dir.path().join("state.db")).unwrap());
        let ended = Arc::new(AtomicBool::new(false));
        let read = |connections: &Connections| {
            let sum = "SELECT count(*), count(DISTINCT bytes) FROM ledger";
            connections.read(|db| db.query_row(sum, [], |row| Ok((row.get(0)?, row.get(1)?)))).unwrap()
        };
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (connections, ended) = (Arc::clone(&connections), Arc::clone(&ended));
                std::thread::spawn(move || {
                    let mut reads = 0;
                    while !ended.load(Ordering::Relaxed) || reads == 0 {
                        let (rows, values): (i64, i64) = read(&connections);
                        assert!(
                            (rows, values) == (0, 0) || (rows, values) == (20, 1),
                            "half a change: {rows} {values}"
                        );
                        reads += 1;
                    }
                })
            })
            .collect();
        for round in 0..30 {
            connections
                .write(|db| {
                    db.execute("DELETE FROM ledger", [])?;
                    // Read in the middle of the change, by another connection.
                    assert_eq!(read(&connections), if round == 0 { (0, 0) } else { (20, 1) });
                    for bucket in 0..20 {
                        let row = rusqlite::params![bucket, round];
                        db.execute("INSERT INTO ledger VALUES ('ann', 'upload', ?, ?)", row)?;
                    }
                    Ok(())
                })
                .unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
        assert!(lock(&connections.readers).len() <= READERS);
    }

    #[test]
    fn a_failed_change_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let connections = Connections::open(&dir.path().join("state.db")).unwrap();
        let result = connections.write(|db| {
            db.execute("INSERT INTO kv (key, value) VALUES ('a', x'00')", [])?;
            db.execute("INSERT INTO nowhere VALUES (1)", [])
        });
        assert!(result.is_err());
        let count: i64 = connections.read(|db| db.query_row("SELECT count(*) FROM kv", [], |row| row.get(0))).unwrap();
        assert_eq!(count, 0);
        assert!(connections.read(|db| db.execute("DELETE FROM kv", [])).is_err(), "a reader cannot write");
    }

    #[test]
    fn a_damaged_file_is_reported_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        fs::write(&path, vec![0x55; 8192]).unwrap();
        assert!(Connections::open(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), vec![0x55; 8192]);
    }
}
