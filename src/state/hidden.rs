//! Messages that POP3 logins have deleted for themselves (design §6, POP3).
//!
//! A login is an account's mailbox seen from one device. A hidden message is two numbers: its UIDVALIDITY and UID, or 0 and the
//! provider's id. Each change is one commit: what QUIT was answered for is here, all of it, and a crash leaves no half.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{Error, State, signed, unsigned};
use crate::model::{Uid, UidValidity, UniqueId};

/// Entries under a UIDVALIDITY that is no more can hide nothing; they go this long after they were made, in case the provider takes
/// the change back.
const OUTLIVED: Duration = Duration::from_secs(90 * 86_400);

/// Whose hide set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopLogin<'a> {
    pub account: &'a str,
    pub mailbox: &'a str,
    /// Empty for a login without one.
    pub device: &'a str,
}

/// How many messages a login hides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenCount {
    pub mailbox: String,
    pub device: String,
    pub messages: u64,
}

impl State {
    /// What a login hides.
    pub fn hidden(&self, login: &PopLogin<'_>) -> Result<HashSet<UniqueId>, Error> {
        self.connections.read(|db| {
            let sql = "SELECT validity, number FROM pop3_hidden JOIN pop3_login ON id = login
                       WHERE account = ? AND mailbox = ? AND device = ?";
            let mut rows = db.prepare_cached(sql)?;
            let id = |row: &rusqlite::Row<'_>| Ok(unique_id(row.get(0)?, row.get(1)?));
            rows.query_map(params![login.account, login.mailbox, login.device], id)?.collect()
        })
    }

    /// Hides more of a mailbox from a login; all of it is on the disk when this returns, or none. What is hidden already stays so.
    pub fn hide(&self, login: &PopLogin<'_>, ids: &[UniqueId], now: SystemTime) -> Result<(), Error> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.connections.write(|db| {
            let known = login_id(db, login)?;
            let mut insert = db.prepare_cached("INSERT OR IGNORE INTO pop3_hidden VALUES (?, ?, ?, ?)")?;
            for id in ids {
                let (validity, number) = numbers(*id);
                insert.execute(params![known, validity, number, signed(now.as_secs())])?;
            }
            if let Some(current) = ids.iter().find_map(validity) {
                let outlived = signed(now.saturating_sub(OUTLIVED).as_secs());
                let sql = "DELETE FROM pop3_hidden WHERE login = ? AND validity NOT IN (0, ?) AND hidden_at < ?";
                db.prepare_cached(sql)?.execute(params![known, current.0, outlived])?;
            }
            Ok(())
        })
    }

    /// Shows an account's hidden messages again, to one device or to all; how many there were.
    pub fn unhide(&self, account: &str, device: Option<&str>) -> Result<u64, Error> {
        self.connections.write(|db| {
            let sql = "DELETE FROM pop3_hidden WHERE login IN
                       (SELECT id FROM pop3_login WHERE account = ?1 AND (?2 IS NULL OR device = ?2))";
            let shown = db.execute(sql, params![account, device])?;
            db.execute(
                "DELETE FROM pop3_login WHERE account = ?1 AND (?2 IS NULL OR device = ?2)",
                params![account, device],
            )?;
            Ok(shown as u64)
        })
    }

    /// What an account's logins hide.
    pub fn hidden_counts(&self, account: &str) -> Result<Vec<HiddenCount>, Error> {
        self.connections.read(|db| {
            let sql = "SELECT mailbox, device, (SELECT count(*) FROM pop3_hidden WHERE login = id) FROM pop3_login
                       WHERE account = ? ORDER BY mailbox, device";
            let mut rows = db.prepare_cached(sql)?;
            let count = |row: &rusqlite::Row<'_>| {
                Ok(HiddenCount { mailbox: row.get(0)?, device: row.get(1)?, messages: unsigned(row.get(2)?) })
            };
            rows.query_map([account], count)?.collect()
        })
    }
}

/// The login's number, made if it has none.
fn login_id(db: &Transaction<'_>, login: &PopLogin<'_>) -> rusqlite::Result<i64> {
    let key = params![login.account, login.mailbox, login.device];
    let sql = "SELECT id FROM pop3_login WHERE account = ? AND mailbox = ? AND device = ?";
    match db.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()? {
        Some(known) => Ok(known),
        None => {
            db.execute("INSERT INTO pop3_login (account, mailbox, device) VALUES (?, ?, ?)", key)?;
            Ok(db.last_insert_rowid())
        }
    }
}

fn validity(id: &UniqueId) -> Option<UidValidity> {
    match id {
        UniqueId::Number(validity, _) => Some(*validity),
        UniqueId::Provider(_) => None,
    }
}

/// SQLite's integers have a sign; a provider's id keeps its 64 bits.
fn numbers(id: UniqueId) -> (u32, i64) {
    match id {
        UniqueId::Number(validity, uid) => (validity.0, i64::from(uid.0)),
        UniqueId::Provider(id) => (0, i64::from_ne_bytes(id.to_ne_bytes())),
    }
}

fn unique_id(validity: u32, number: i64) -> UniqueId {
    match validity {
        0 => UniqueId::Provider(u64::from_ne_bytes(number.to_ne_bytes())),
        _ => UniqueId::Number(UidValidity(validity), Uid(u32::try_from(number).unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn number(validity: u32, uid: u32) -> UniqueId {
        UniqueId::Number(UidValidity(validity), Uid(uid))
    }

    #[test]
    fn each_login_hides_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let login = |account, mailbox, device| PopLogin { account, mailbox, device };
        let (plain, laptop) = (login("ann", "INBOX", ""), login("ann", "INBOX", "laptop"));
        {
            let state = State::open(&path).unwrap();
            state
                .hide(&plain, &[number(7, 1), number(u32::MAX, u32::MAX), UniqueId::Provider(u64::MAX)], at(5))
                .unwrap();
            state.hide(&plain, &[number(7, 1), UniqueId::Provider(1)], at(6)).unwrap();
            state.hide(&laptop, &[number(7, 2)], at(6)).unwrap();
            state.hide(&login("bob", "INBOX", ""), &[number(7, 3)], at(6)).unwrap();
        }
        let state = State::open(&path).unwrap();
        let want = [number(7, 1), number(u32::MAX, u32::MAX), UniqueId::Provider(u64::MAX), UniqueId::Provider(1)];
        assert_eq!(state.hidden(&plain).unwrap(), want.into());
        assert_eq!(state.hidden(&laptop).unwrap(), [number(7, 2)].into());
        assert!(state.hidden(&login("ann", "Other", "")).unwrap().is_empty());
        let count = |mailbox: &str, device: &str, messages| HiddenCount {
            mailbox: mailbox.into(),
            device: device.into(),
            messages,
        };
        assert_eq!(state.hidden_counts("ann").unwrap(), [count("INBOX", "", 4), count("INBOX", "laptop", 1)]);
        assert_eq!(state.unhide("ann", Some("")).unwrap(), 4);
        assert_eq!(state.hidden_counts("ann").unwrap(), [count("INBOX", "laptop", 1)]);
        assert_eq!((state.unhide("ann", None).unwrap(), state.unhide("ann", None).unwrap()), (1, 0));
        assert_eq!(state.hidden(&login("bob", "INBOX", "")).unwrap().len(), 1, "another account's stay");
        state.remove_account("bob").unwrap();
        assert_eq!(state.hidden_counts("bob").unwrap(), []);
        state.hide(&login("bob", "INBOX", ""), &[], at(7)).unwrap();
        assert!(
            state.hidden(&login("bob", "INBOX", "")).unwrap().is_empty(),
            "nothing is left under a number used again"
        );
    }

    #[test]
    fn what_outlived_its_uidvalidity_goes_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.db")).unwrap();
        let login = PopLogin { account: "ann", mailbox: "INBOX", device: "" };
        state.hide(&login, &[number(1, 5), UniqueId::Provider(9)], at(1000)).unwrap();
        let soon = 1000 + OUTLIVED.as_secs();
        state.hide(&login, &[number(2, 5)], at(soon)).unwrap();
        assert_eq!(state.hidden(&login).unwrap().len(), 3);
        state.hide(&login, &[number(2, 6)], at(soon + 1)).unwrap();
        assert_eq!(state.hidden(&login).unwrap(), [number(2, 5), number(2, 6), UniqueId::Provider(9)].into());
    }
}
