//! The tables, as a list of steps from one format to the next.

use rusqlite::{Connection, TransactionBehavior};

use super::Error;

/// Step n brings format n to format n + 1. A step that was released is never changed, only followed by another.
const STEPS: [&str; 4] = [
    "
    CREATE TABLE ledger (
        account   TEXT NOT NULL,
        direction TEXT NOT NULL,            -- 'download', 'upload', 'messages', 'recipients'
        bucket    INTEGER NOT NULL,         -- its beginning, seconds since the epoch
        bytes     INTEGER NOT NULL,
        PRIMARY KEY (account, direction, bucket)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE local_keywords (           -- keywords the provider cannot keep
        account     TEXT NOT NULL,
        mailbox     TEXT NOT NULL,
        uidvalidity INTEGER NOT NULL,
        uid         INTEGER NOT NULL,
        keyword     TEXT NOT NULL COLLATE NOCASE,
        PRIMARY KEY (account, mailbox, uidvalidity, uid, keyword)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE journal (                  -- writes accepted and not yet settled upstream
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        kind    TEXT NOT NULL,
        payload BLOB NOT NULL,
        created INTEGER NOT NULL            -- seconds since the epoch
    ) STRICT;
    CREATE INDEX journal_account ON journal (account, id);

    CREATE TABLE marker (                   -- how far the cache was known to be
        account TEXT PRIMARY KEY,
        seq     INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE kv (
        key   TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE local_changes (            -- messages whose local keywords changed lately
        account     TEXT NOT NULL,
        mailbox     TEXT NOT NULL,
        uidvalidity INTEGER NOT NULL,
        uid         INTEGER NOT NULL,
        modseq      INTEGER NOT NULL,       -- of the change
        PRIMARY KEY (account, mailbox, uidvalidity, uid)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE pop3_login (               -- whoever hides messages from itself
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        mailbox TEXT NOT NULL,
        device  TEXT NOT NULL,              -- empty for a login without one
        UNIQUE (account, mailbox, device)
    ) STRICT;

    CREATE TABLE pop3_hidden (
        login     INTEGER NOT NULL,
        validity  INTEGER NOT NULL,         -- UIDVALIDITY, or 0 where the number is the provider's message id
        number    INTEGER NOT NULL,         -- UID, or the provider's message id
        hidden_at INTEGER NOT NULL,         -- seconds since the epoch
        PRIMARY KEY (login, validity, number)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE outbox (                   -- messages accepted and not yet where they are to go
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        due     INTEGER NOT NULL,           -- looked at next, seconds since the epoch
        created INTEGER NOT NULL,
        octets  INTEGER NOT NULL,           -- of its file; 0 where it does not count against a limit
        payload BLOB NOT NULL
    ) STRICT;
    CREATE INDEX outbox_account ON outbox (account, id);
",
];

/// Brings the file to the newest format, one step a transaction: a crash leaves a format, never half of one.
pub(super) fn migrate(db: &mut Connection) -> Result<(), Error> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    db.execute_batch("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT")?;
    loop {
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 =
            step.query_row("SELECT coalesce(max(version), 0) FROM schema_version", [], |row| row.get(0))?;
        if found > known {
            return Err(Error::Newer { found, known });
        }
        let Some(sql) = usize::try_from(found).ok().and_then(|at| STEPS.get(at)) else { return Ok(()) };
        step.execute_batch(sql)?;
        step.execute("DELETE FROM schema_version", [])?;
        step.execute("INSERT INTO schema_version (version) VALUES (?)", [found + 1])?;
        step.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file of any format holds is there in the newest.
    #[test]
    fn every_old_file_is_brought_to_the_newest_format() {
        for format in 0..=STEPS.len() {
            let mut db = Connection::open_in_memory().unwrap();
            if format > 0 {
                db.execute_batch("CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT").unwrap();
                db.execute_batch(&STEPS[..format].concat()).unwrap();
                db.execute("INSERT INTO schema_version (version) VALUES (?)", [format as i64]).unwrap();
                db.execute_batch(
                    "INSERT INTO ledger VALUES ('ann', 'upload', 600, 7);
                     INSERT INTO journal (account, kind, payload, created) VALUES ('ann', 'append', x'01', 1);",
                )
                .unwrap();
            }
            migrate(&mut db).unwrap();
            let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(count("SELECT version FROM schema_version"), STEPS.len() as i64, "from format {format}");
            let kept = i64::from(format > 0);
            assert_eq!(count("SELECT count(*) FROM ledger WHERE bytes = 7"), kept, "from format {format}");
            assert_eq!(count("SELECT count(*) FROM journal"), kept, "from format {format}");
            for table in ["local_changes", "pop3_login", "pop3_hidden", "outbox"] {
                assert_eq!(count(&format!("SELECT count(*) FROM {table}")), 0, "from format {format}");
            }
        }
    }

    #[test]
    fn steps_run_once_and_newer_files_are_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        db.execute("INSERT INTO kv (key, value) VALUES ('a', x'01')", []).unwrap();
        migrate(&mut db).unwrap();
        let kept: i64 = db.query_row("SELECT count(*) FROM kv", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 1);
        db.execute("UPDATE schema_version SET version = 99", []).unwrap();
        let newest = i64::try_from(STEPS.len()).unwrap();
        assert!(matches!(migrate(&mut db), Err(Error::Newer { found: 99, known }) if known == newest));
    }
}
