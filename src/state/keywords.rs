//! Keywords that live here because the provider keeps none (design §6, weak upstreams).
//!
//! They belong to a message by mailbox name, UIDVALIDITY and UID. With a new UIDVALIDITY they are the engine's to move
//! or to forget.

use std::collections::BTreeMap;

use rusqlite::params;

use super::{Error, State};
use crate::model::{Keyword, Uid, UidValidity};

impl State {
    /// The keywords kept for a mailbox's messages; messages without any are not listed.
    pub fn local_keywords(
        &self,
        account: &str,
        mailbox: &str,
        uid_validity: UidValidity,
    ) -> Result<BTreeMap<Uid, Vec<Keyword>>, Error> {
        self.connections.read(|db| {
            let sql = "SELECT uid, keyword FROM local_keywords WHERE account = ? AND mailbox = ? AND uidvalidity = ?
                       ORDER BY uid, keyword";
            let mut rows = db.prepare_cached(sql)?;
            let mut rows = rows.query(params![account, mailbox, uid_validity.0])?;
            let mut all: BTreeMap<Uid, Vec<Keyword>> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (uid, text): (u32, String) = (row.get(0)?, row.get(1)?);
                // Anything else can only have been written by hand.
                if let Some(keyword) = Keyword::new(&text) {
                    all.entry(Uid(uid)).or_default().push(keyword);
                }
            }
            Ok(all)
        })
    }

    /// Replaces the keywords of the messages given, all in one commit; an empty list forgets a message.
    pub fn set_local_keywords(
        &self,
        account: &str,
        mailbox: &str,
        uid_validity: UidValidity,
        messages: &[(Uid, Vec<Keyword>)],
    ) -> Result<(), Error> {
        self.connections.write(|db| {
            let mut delete = db.prepare_cached(
                "DELETE FROM local_keywords WHERE account = ? AND mailbox = ? AND uidvalidity = ? AND uid = ?",
            )?;
            let mut insert = db.prepare_cached("INSERT OR IGNORE INTO local_keywords VALUES (?, ?, ?, ?, ?)")?;
            for (uid, keywords) in messages {
                delete.execute(params![account, mailbox, uid_validity.0, uid.0])?;
                for keyword in keywords {
                    insert.execute(params![account, mailbox, uid_validity.0, uid.0, keyword.as_str()])?;
                }
            }
            Ok(())
        })
    }

    /// Forgets a mailbox's keywords, but for those of one UIDVALIDITY if one is given.
    pub fn forget_local_keywords(&self, account: &str, mailbox: &str, keep: Option<UidValidity>) -> Result<(), Error> {
        let sql = "DELETE FROM local_keywords WHERE account = ? AND mailbox = ? AND uidvalidity IS NOT ?";
        let keep = keep.map(|validity| validity.0);
        self.connections.write(|db| db.prepare_cached(sql)?.execute(params![account, mailbox, keep]).map(|_| ()))
    }

    /// A mailbox was renamed; what the new name had belongs to nobody any more.
    pub fn rename_local_keywords(&self, account: &str, from: &str, to: &str) -> Result<(), Error> {
        if from == to {
            return Ok(());
        }
        self.connections.write(|db| {
            db.execute("DELETE FROM local_keywords WHERE account = ? AND mailbox = ?", params![account, to])?;
            let sql = "UPDATE local_keywords SET mailbox = ? WHERE account = ? AND mailbox = ?";
            db.execute(sql, params![to, account, from]).map(|_| ())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keywords(names: &str) -> Vec<Keyword> {
        names.split_whitespace().map(|name| Keyword::new(name).unwrap()).collect()
    }

    #[test]
    fn keywords_are_kept_by_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let (old, new) = (UidValidity(u32::MAX), UidValidity(2));
        {
            let state = State::open(&path).unwrap();
            let set = |validity, uid, names| {
                state.set_local_keywords("ann", "INBOX", validity, &[(Uid(uid), keywords(names))]).unwrap();
            };
            set(old, 1, "work $Later");
            set(old, 1, "Work WORK home");
            set(old, 2, "x");
            set(old, 2, "");
            set(new, 9, "y");
        }
        let state = State::open(&path).unwrap();
        let found = |mailbox: &str, validity| state.local_keywords("ann", mailbox, validity).unwrap();
        assert_eq!(found("INBOX", old), BTreeMap::from([(Uid(1), keywords("home Work"))]));
        assert_eq!(found("INBOX", new), BTreeMap::from([(Uid(9), keywords("y"))]));
        assert!(state.local_keywords("bob", "INBOX", old).unwrap().is_empty());
        state.forget_local_keywords("ann", "INBOX", Some(new)).unwrap();
        assert!(found("INBOX", old).is_empty());
        state.set_local_keywords("ann", "Old", new, &[(Uid(5), keywords("z"))]).unwrap();
        state.rename_local_keywords("ann", "INBOX", "Old").unwrap();
        assert_eq!(found("Old", new), BTreeMap::from([(Uid(9), keywords("y"))]));
        assert!(found("INBOX", new).is_empty());
        state.forget_local_keywords("ann", "Old", None).unwrap();
        assert!(found("Old", new).is_empty());
    }
}
