//! The durable state: what cannot be fetched again. SQLite, and only this module names it (Law 3).
//!
//! Small and few: the byte ledger, what POP3 logins have hidden, keywords a provider cannot keep, writes not yet settled upstream, messages not yet sent, the markers that
//! tell a shortened cache, and named values. Every change is committed with `synchronous=FULL` before the call returns,
//! so what is acknowledged after it survives a power cut. `sqlite3` can read the file; with the daemon stopped a
//! backup is a copy of it.
//!
//! All calls block: the engine makes them through the store's pool (Law 4). One connection writes; reads have their
//! own and never wait for it (WAL). Unlike the cache nothing is ever thrown away here on a fault: it is reported, and
//! a person decides.

mod connection;
mod hidden;
mod journal;
mod keywords;
mod outbox;
mod schema;

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::budget::{Counted, Entry};
use connection::Connections;
pub use hidden::{HiddenCount, PopLogin};
pub use journal::JournalEntry;
pub use keywords::LocalKeywords;
pub use outbox::{OutboxItem, OutboxRoom, OutboxRow, OutboxSum};

/// The beginning of the named values that hold an account's tokens.
const TOKENS: &str = "oauth2:";
/// The same for the maximum of sessions that the provider's words have left.
pub const LOWERED: &str = "lowered:";
/// The same for until when nothing is sent, in seconds since the epoch.
pub const SENDING: &str = "sending:";
/// The same for what another process of ours has sent.
pub const BESIDE: &str = "sent_beside:";
/// The same for what holds back an account's messages that wait to be sent.
pub const HELD: &str = "outbox_hold:";

/// What goes wrong in the durable state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// SQLite or the file system; the text is for the log.
    #[error("state: {0}")]
    Failed(String),
    /// Written by a newer version of this program, which has to be used again.
    #[error("state: written by a newer version (format {found}, this one knows {known})")]
    Newer { found: i64, known: i64 },
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The durable state of all accounts. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct State {
    connections: Arc<Connections>,
}

impl State {
    /// Opens the file, making it (mode 0600) and bringing its format up to date if need be.
    ///
    /// # Errors
    /// [`Error::Failed`] if it cannot be opened or does not check out, [`Error::Newer`] if it is not for us.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { connections: Arc::new(Connections::open(path)?) })
    }

    /// Holds every commit up until `release` says so or is gone.
    #[cfg(test)]
    pub(crate) fn stall(&self, begun: &std::sync::mpsc::Sender<()>, release: &std::sync::mpsc::Receiver<()>) {
        let held = self.connections.write(|_| {
            begun.send(()).expect("somebody waits for it");
            let _ = release.recv();
            Ok(())
        });
        held.expect("nothing is written");
    }

    /// What is counted for an account, oldest first.
    pub fn load_ledger(&self, account: &str, what: Counted) -> Result<Vec<Entry>, Error> {
        self.connections.read(|db| {
            let sql = "SELECT bucket, bytes FROM ledger WHERE account = ? AND direction = ? ORDER BY bucket";
            let mut rows = db.prepare_cached(sql)?;
            let entry =
                |row: &rusqlite::Row<'_>| Ok(Entry { begin: unsigned(row.get(0)?), bytes: unsigned(row.get(1)?) });
            rows.query_map(params![account, what.as_str()], entry)?.collect()
        })
    }

    /// Replaces what is counted for an account, all of `counts` at once: one flush of the disk. Entries are ordered and each begins elsewhere.
    pub fn save_ledgers(&self, account: &str, counts: &[(Counted, Vec<Entry>)]) -> Result<(), Error> {
        self.connections.write(|db| put_ledgers(db, account, counts))
    }

    /// The same, and changes a named value (`None`: there is none) in the same commit.
    pub fn save_ledgers_and(
        &self,
        account: &str,
        counts: &[(Counted, Vec<Entry>)],
        (key, change): (&str, impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>),
    ) -> Result<(), Error> {
        self.connections.write(|db| {
            put_ledgers(db, account, counts)?;
            change_value(db, key, change)
        })
    }

    /// The number last given to [`State::set_marker`], 0 for none: how far the account's cache was known to be.
    pub fn marker(&self, account: &str) -> Result<u64, Error> {
        self.connections.read(|db| {
            let mut rows = db.prepare_cached("SELECT seq FROM marker WHERE account = ?")?;
            let seq = rows.query_row([account], |row| row.get(0)).optional()?;
            Ok(seq.map_or(0, unsigned))
        })
    }

    /// Written after the cache has the same number, flushed.
    pub fn set_marker(&self, account: &str, seq: u64) -> Result<(), Error> {
        self.connections.write(|db| {
            let sql = "INSERT INTO marker (account, seq) VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq";
            db.prepare_cached(sql)?.execute(params![account, signed(seq)])?;
            Ok(())
        })
    }

    /// A named value.
    pub fn value(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.connections.read(|db| get_value(db, key))
    }

    /// Sets a named value; `None` removes it.
    pub fn set_value(&self, key: &str, value: Option<&[u8]>) -> Result<(), Error> {
        self.connections.write(|db| put_value(db, key, value))
    }

    /// Makes another named value of one (`None`: there is none), in one commit.
    pub fn change_value(
        &self,
        key: &str,
        change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>,
    ) -> Result<(), Error> {
        self.connections.write(|db| change_value(db, key, change))
    }

    /// An account's sealed OAuth tokens.
    pub fn tokens(&self, account: &str) -> Result<Option<Vec<u8>>, Error> {
        self.value(&format!("{TOKENS}{account}"))
    }

    /// Replaces them.
    pub fn set_tokens(&self, account: &str, sealed: &[u8]) -> Result<(), Error> {
        self.set_value(&format!("{TOKENS}{account}"), Some(sealed))
    }

    /// Forgets them.
    pub fn forget_tokens(&self, account: &str) -> Result<(), Error> {
        self.set_value(&format!("{TOKENS}{account}"), None)
    }

    /// Forgets everything of an account (`mailweir account remove`), unfinished writes too.
    pub fn remove_account(&self, account: &str) -> Result<(), Error> {
        self.connections.write(|db| {
            db.execute(
                "DELETE FROM pop3_hidden WHERE login IN (SELECT id FROM pop3_login WHERE account = ?)",
                [account],
            )?;
            for table in ["pop3_login", "ledger", "local_keywords", "local_changes", "journal", "outbox", "marker"] {
                db.execute(&format!("DELETE FROM {table} WHERE account = ?"), [account])?;
            }
            for key in [TOKENS, LOWERED, SENDING, HELD, BESIDE] {
                db.execute("DELETE FROM kv WHERE key = ?", [format!("{key}{account}")])?;
            }
            Ok(())
        })
    }
}

fn put_ledgers(db: &Transaction<'_>, account: &str, counts: &[(Counted, Vec<Entry>)]) -> rusqlite::Result<()> {
    // Few buckets have changed since the last time, and what is as it was is not written.
    let mut forget =
        db.prepare_cached("DELETE FROM ledger WHERE account = ? AND direction = ? AND (bucket < ? OR bucket > ?)")?;
    let mut put = db.prepare_cached(
        "INSERT INTO ledger (account, direction, bucket, bytes) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET bytes = excluded.bytes WHERE bytes <> excluded.bytes",
    )?;
    for (what, entries) in counts {
        let ends = entries.first().zip(entries.last());
        let (first, last) = ends.map_or((i64::MAX, 0), |(a, b)| (signed(a.begin), signed(b.begin)));
        forget.execute(params![account, what.as_str(), first, last])?;
        for entry in entries {
            put.execute(params![account, what.as_str(), signed(entry.begin), signed(entry.bytes)])?;
        }
    }
    Ok(())
}

fn get_value(db: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT value FROM kv WHERE key = ?")?.query_row([key], |row| row.get(0)).optional()
}

fn put_value(db: &Transaction<'_>, key: &str, value: Option<&[u8]>) -> rusqlite::Result<()> {
    match value {
        Some(value) => {
            let sql = "INSERT INTO kv (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value";
            db.prepare_cached(sql)?.execute(params![key, value])?;
        }
        None => drop(db.prepare_cached("DELETE FROM kv WHERE key = ?")?.execute([key])?),
    }
    Ok(())
}

fn change_value(
    db: &Transaction<'_>,
    key: &str,
    change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>,
) -> rusqlite::Result<()> {
    let next = change(get_value(db, key)?);
    put_value(db, key, next.as_deref())
}

/// SQLite's integers have a sign; none of our numbers comes near the bound.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Direction;

    #[test]
    fn ledger_marker_and_values_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let entries = [Entry { begin: 600, bytes: 7 }, Entry { begin: 1200, bytes: 1 << 40 }];
        {
            let state = State::open(&path).unwrap();
            let old = [Entry { begin: 0, bytes: 1 }, Entry { begin: 600, bytes: 9 }, Entry { begin: 9000, bytes: 1 }];
            state.save_ledgers("ann", &[(Counted::Bytes(Direction::Download), old.to_vec())]).unwrap();
            let both = [
                (Counted::Bytes(Direction::Download), entries.to_vec()),
                (Counted::Bytes(Direction::Upload), entries[..1].to_vec()),
            ];
            state.save_ledgers("ann", &both).unwrap();
            state.save_ledgers("bob", &[(Counted::Bytes(Direction::Download), old.to_vec())]).unwrap();
            state.save_ledgers("bob", &[(Counted::Bytes(Direction::Download), Vec::new())]).unwrap();
            state.set_marker("ann", 4).unwrap();
            state.set_marker("ann", 5).unwrap();
            state.set_tokens("ann", b"sealed").unwrap();
            state.set_value("sending:ann", Some(b"1")).unwrap();
            state.set_value("outbox_hold:ann", Some(b"{}")).unwrap();
            state.set_value("token", Some(b"\0secret")).unwrap();
            state.set_value("other", Some(b"x")).unwrap();
            state.set_value("other", None).unwrap();
        }
        let state = State::open(&path).unwrap();
        assert_eq!(state.load_ledger("ann", Counted::Bytes(Direction::Download)).unwrap(), entries);
        assert_eq!(state.load_ledger("ann", Counted::Bytes(Direction::Upload)).unwrap(), entries[..1]);
        assert_eq!(state.load_ledger("bob", Counted::Bytes(Direction::Download)).unwrap(), []);
        assert_eq!((state.marker("ann").unwrap(), state.marker("bob").unwrap()), (5, 0));
        assert_eq!(state.value("token").unwrap().as_deref(), Some(&b"\0secret"[..]));
        assert_eq!(state.value("other").unwrap(), None);
        assert_eq!(state.tokens("ann").unwrap().as_deref(), Some(&b"sealed"[..]));
        assert_eq!(state.tokens("bob").unwrap(), None);
        state.remove_account("ann").unwrap();
        assert_eq!(state.tokens("ann").unwrap(), None);
        assert_eq!(state.load_ledger("ann", Counted::Bytes(Direction::Download)).unwrap(), []);
        assert_eq!(state.marker("ann").unwrap(), 0);
        assert!(state.value("token").unwrap().is_some(), "values belong to nobody");
        assert_eq!(state.value("sending:ann").unwrap(), None);
        assert_eq!(state.value("outbox_hold:ann").unwrap(), None);
    }
}
