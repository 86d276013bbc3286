//! Writes that are not settled upstream (Law 11): those of several steps, which a crash could leave half done.
//!
//! An entry is added before the first step that would need an undo, changed as the write goes on, and done when upstream
//! has acknowledged the last step or looking has shown how it ended. What a payload means is the engine's business.

use std::time::{Duration, SystemTime};

use rusqlite::params;

use super::{Error, State, signed, unsigned};

/// An unfinished write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Ascending in the order of acceptance, never used twice.
    pub id: i64,
    pub kind: String,
    pub payload: Vec<u8>,
    /// To the second.
    pub created: SystemTime,
}

impl State {
    /// Adds an unfinished write; on the disk when this returns.
    pub fn journal_add(&self, account: &str, kind: &str, payload: &[u8], now: SystemTime) -> Result<i64, Error> {
        let created = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        self.connections.write(|db| {
            db.prepare_cached("INSERT INTO journal (account, kind, payload, created) VALUES (?, ?, ?, ?)")?
                .execute(params![account, kind, payload, signed(created)])?;
            Ok(db.last_insert_rowid())
        })
    }

    /// Replaces the payload of an unfinished write; on the disk when this returns.
    pub fn journal_change(&self, id: i64, payload: &[u8]) -> Result<(), Error> {
        self.connections.write(|db| {
            let changed =
                db.prepare_cached("UPDATE journal SET payload = ? WHERE id = ?")?.execute(params![payload, id])?;
            // Written down nowhere is not written down.
            if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
        })
    }

    /// The write is settled. No matter if it was already.
    pub fn journal_done(&self, id: i64) -> Result<(), Error> {
        self.connections.write(|db| db.prepare_cached("DELETE FROM journal WHERE id = ?")?.execute([id]).map(|_| ()))
    }

    /// The unfinished writes of an account, in the order they were accepted.
    pub fn journal_pending(&self, account: &str) -> Result<Vec<JournalEntry>, Error> {
        self.connections.read(|db| {
            let mut rows =
                db.prepare_cached("SELECT id, kind, payload, created FROM journal WHERE account = ? ORDER BY id")?;
            let entry = |row: &rusqlite::Row<'_>| {
                let created = SystemTime::UNIX_EPOCH + Duration::from_secs(unsigned(row.get(3)?));
                Ok(JournalEntry { id: row.get(0)?, kind: row.get(1)?, payload: row.get(2)?, created })
            };
            rows.query_map([account], entry)?.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let ids = {
            let state = State::open(&path).unwrap();
            let ids: Vec<i64> =
                (0..5u8).map(|n| state.journal_add("ann", "append", &vec![n; 100_000], now).unwrap()).collect();
            state.journal_add("bob", "append", b"", now).unwrap();
            state.journal_change(ids[3], b"changed").unwrap();
            state.journal_done(ids[1]).unwrap();
            state.journal_done(ids[4]).unwrap();
            state.journal_done(ids[4]).unwrap();
            assert!(state.journal_change(ids[4], b"late").is_err(), "what is done is not changed");
            ids
        };
        let state = State::open(&path).unwrap();
        let pending = state.journal_pending("ann").unwrap();
        assert_eq!(pending.iter().map(|entry| entry.id).collect::<Vec<_>>(), [ids[0], ids[2], ids[3]]);
        let want = JournalEntry { id: ids[2], kind: "append".into(), payload: vec![2; 100_000], created: now };
        assert_eq!(pending.get(1), Some(&want));
        assert_eq!(pending[2].payload, b"changed");
        assert!(state.journal_add("ann", "move", b"x", now).unwrap() > ids[4], "an id is not used twice");
        assert_eq!(state.journal_pending("bob").unwrap().len(), 1);
        assert_eq!(state.journal_pending("eve").unwrap(), []);
    }
}
