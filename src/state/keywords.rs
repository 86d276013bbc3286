//! Keywords that live here because the provider keeps none (design §6, weak upstreams).
//!
//! They belong to a message by mailbox name, UIDVALIDITY and UID. Beside them stands which messages' keywords changed lately, with the
//! mod-sequence of the change: a cache that lost its last moments in a crash is told by it what its clients may have heard already.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::{Error, State, signed, unsigned};
use crate::model::{Keyword, ModSeq, Uid, UidSet, UidValidity};

/// How long a change is remembered, in mod-sequences, which run with the clock: ten minutes in milliseconds. The cache is flushed twice
/// a second, and one that is behind for longer is read anew.
const REMEMBERED: u64 = 600_000;

/// What is kept for one mailbox under one UIDVALIDITY.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalKeywords {
    /// Messages without any are not listed.
    pub keywords: BTreeMap<Uid, Vec<Keyword>>,
    /// The latest changes, also of messages that have no keywords left.
    pub changed: BTreeMap<Uid, ModSeq>,
}

impl State {
    /// What is kept for a mailbox. More than one UIDVALIDITY stands there only until the engine has seen which is the true one.
    pub fn local_keywords(&self, account: &str, mailbox: &str) -> Result<BTreeMap<UidValidity, LocalKeywords>, Error> {
        self.connections.read(|db| {
            let mut all: BTreeMap<UidValidity, LocalKeywords> = BTreeMap::new();
            let sql = "SELECT uidvalidity, uid, keyword FROM local_keywords WHERE account = ? AND mailbox = ?
                       ORDER BY uidvalidity, uid, keyword";
            let mut rows = db.prepare_cached(sql)?;
            let mut rows = rows.query(params![account, mailbox])?;
            while let Some(row) = rows.next()? {
                let (validity, uid, text): (u32, u32, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                // Anything else can only have been written by hand.
                if let Some(keyword) = Keyword::new(&text) {
                    all.entry(UidValidity(validity)).or_default().keywords.entry(Uid(uid)).or_default().push(keyword);
                }
            }
            let sql = "SELECT uidvalidity, uid, modseq FROM local_changes WHERE account = ? AND mailbox = ?";
            let mut rows = db.prepare_cached(sql)?;
            let mut rows = rows.query(params![account, mailbox])?;
            while let Some(row) = rows.next()? {
                let (validity, uid, modseq): (u32, u32, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                all.entry(UidValidity(validity)).or_default().changed.insert(Uid(uid), ModSeq(unsigned(modseq)));
            }
            Ok(all)
        })
    }

    /// Replaces the keywords of the messages given, all in one commit; an empty list leaves a message none. `modseq` is that of the
    /// change.
    pub fn set_local_keywords(
        &self,
        account: &str,
        mailbox: &str,
        uid_validity: UidValidity,
        messages: &[(Uid, Vec<Keyword>)],
        modseq: ModSeq,
    ) -> Result<(), Error> {
        self.connections.write(|db| {
            let mut delete = db.prepare_cached(
                "DELETE FROM local_keywords WHERE account = ? AND mailbox = ? AND uidvalidity = ? AND uid = ?",
            )?;
            let mut insert = db.prepare_cached("INSERT OR IGNORE INTO local_keywords VALUES (?, ?, ?, ?, ?)")?;
            let mut change = db.prepare_cached("INSERT OR REPLACE INTO local_changes VALUES (?, ?, ?, ?, ?)")?;
            for (uid, keywords) in messages {
                delete.execute(params![account, mailbox, uid_validity.0, uid.0])?;
                for keyword in keywords {
                    insert.execute(params![account, mailbox, uid_validity.0, uid.0, keyword.as_str()])?;
                }
                change.execute(params![account, mailbox, uid_validity.0, uid.0, signed(modseq.0)])?;
            }
            let old = signed(modseq.0.saturating_sub(REMEMBERED));
            db.prepare_cached("DELETE FROM local_changes WHERE account = ? AND mailbox = ? AND modseq < ?")?
                .execute(params![account, mailbox, old])
                .map(|_| ())
        })
    }

    /// Forgets the keywords of messages that are gone.
    pub fn forget_local_messages(
        &self,
        account: &str,
        mailbox: &str,
        uid_validity: UidValidity,
        gone: &UidSet,
    ) -> Result<(), Error> {
        self.connections.write(|db| {
            for table in TABLES {
                let sql = format!(
                    "DELETE FROM {table} WHERE account = ? AND mailbox = ? AND uidvalidity = ? AND uid BETWEEN ? AND ?"
                );
                let mut delete = db.prepare_cached(&sql)?;
                for range in gone.ranges() {
                    delete.execute(params![account, mailbox, uid_validity.0, range.start(), range.end()])?;
                }
            }
            Ok(())
        })
    }

    /// Forgets a mailbox's keywords, but for those of one UIDVALIDITY if one is given.
    pub fn forget_local_keywords(&self, account: &str, mailbox: &str, keep: Option<UidValidity>) -> Result<(), Error> {
        let keep = keep.map(|validity| validity.0);
        self.connections.write(|db| {
            for table in TABLES {
                let sql = format!("DELETE FROM {table} WHERE account = ? AND mailbox = ? AND uidvalidity IS NOT ?");
                db.prepare_cached(&sql)?.execute(params![account, mailbox, keep])?;
            }
            Ok(())
        })
    }

    /// Mailboxes were renamed, each (from, to), in this order; what a new name had belongs to nobody any more.
    pub fn rename_local_keywords(&self, account: &str, renamed: &[(String, String)]) -> Result<(), Error> {
        self.connections.write(|db| {
            for (from, to) in renamed.iter().filter(|(from, to)| from != to) {
                rename(db, account, from, to)?;
            }
            Ok(())
        })
    }
}

const TABLES: [&str; 2] = ["local_keywords", "local_changes"];

fn rename(db: &Connection, account: &str, from: &str, to: &str) -> rusqlite::Result<()> {
    for table in TABLES {
        db.prepare_cached(&format!("DELETE FROM {table} WHERE account = ? AND mailbox = ?"))?
            .execute(params![account, to])?;
        db.prepare_cached(&format!("UPDATE {table} SET mailbox = ? WHERE account = ? AND mailbox = ?"))?
            .execute(params![to, account, from])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keywords(names: &str) -> Vec<Keyword> {
        names.split_whitespace().map(|name| Keyword::new(name).unwrap()).collect()
    }

    fn kept(messages: &[(u32, &str)], changed: &[(u32, u64)]) -> LocalKeywords {
        LocalKeywords {
            keywords: messages.iter().map(|(uid, names)| (Uid(*uid), keywords(names))).collect(),
            changed: changed.iter().map(|(uid, modseq)| (Uid(*uid), ModSeq(*modseq))).collect(),
        }
    }

    #[test]
    fn keywords_are_kept_by_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let (old, new) = (UidValidity(u32::MAX), UidValidity(2));
        {
            let state = State::open(&path).unwrap();
            let set = |validity, uid, names, modseq| {
                let messages = [(Uid(uid), keywords(names))];
                state.set_local_keywords("ann", "INBOX", validity, &messages, ModSeq(modseq)).unwrap();
            };
            set(old, 1, "work $Later", 10);
            set(old, 1, "Work WORK home", 11);
            set(old, 2, "x", 12);
            set(old, 2, "", 13);
            set(new, 9, "y", 14);
        }
        let state = State::open(&path).unwrap();
        let found = |mailbox: &str| state.local_keywords("ann", mailbox).unwrap();
        let of_new = kept(&[(9, "y")], &[(9, 14)]);
        let of_old = kept(&[(1, "home Work")], &[(1, 11), (2, 13)]);
        assert_eq!(found("INBOX"), BTreeMap::from([(old, of_old), (new, of_new.clone())]));
        assert!(state.local_keywords("bob", "INBOX").unwrap().is_empty());
        state.forget_local_keywords("ann", "INBOX", Some(new)).unwrap();
        assert_eq!(found("INBOX"), BTreeMap::from([(new, of_new.clone())]));
        state.set_local_keywords("ann", "Old", new, &[(Uid(5), keywords("z"))], ModSeq(15)).unwrap();
        state.rename_local_keywords("ann", &[("INBOX".into(), "Old".into()), ("Old".into(), "Old".into())]).unwrap();
        assert_eq!(found("Old"), BTreeMap::from([(new, of_new)]));
        assert!(found("INBOX").is_empty());
        state.forget_local_keywords("ann", "Old", None).unwrap();
        assert!(found("Old").is_empty());
    }

    #[test]
    fn what_is_gone_and_what_is_long_ago_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.db")).unwrap();
        let validity = UidValidity(7);
        let set = |uids: std::ops::RangeInclusive<u32>, modseq| {
            let messages: Vec<_> = uids.map(|uid| (Uid(uid), keywords("a b"))).collect();
            state.set_local_keywords("ann", "INBOX", validity, &messages, ModSeq(modseq)).unwrap();
        };
        set(1..=9, 1_000_000);
        state.forget_local_messages("ann", "INBOX", validity, &UidSet::parse("2:3,5,8:4000000000").unwrap()).unwrap();
        state.forget_local_messages("ann", "INBOX", UidValidity(8), &UidSet::parse("1:9").unwrap()).unwrap();
        let found = || state.local_keywords("ann", "INBOX").unwrap().remove(&validity).unwrap();
        let left = [(1, "a b"), (4, "a b"), (6, "a b"), (7, "a b")];
        let then = [(1, 1_000_000), (4, 1_000_000), (6, 1_000_000), (7, 1_000_000)];
        assert_eq!(found(), kept(&left, &then));
        set(4..=4, 1_000_000 + REMEMBERED);
        assert_eq!(found().changed.len(), 4);
        set(6..=6, 1_000_001 + REMEMBERED);
        assert_eq!(found(), kept(&left, &[(4, 1_000_000 + REMEMBERED), (6, 1_000_001 + REMEMBERED)]));
    }
}
