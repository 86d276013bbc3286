//! The mark by which a cache that has silently lost its tail is told from one in step.
//!
//! sled can lose what was written last without a word (a truncated log, a directory put back from a copy). So a number is written to the
//! cache and flushed, and then to the durable state: a cache with a lower number than the state's, or with none where the state knows
//! one, is older than what clients have been told. Then the index of every mailbox is forgotten and read anew from the provider before
//! it is believed. Bodies are verified by themselves and stay where they can. All calls block.

use crate::state::{self, State};
use crate::store::{self, MailboxRecord, Store};

/// What goes wrong on either side.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    State(#[from] state::Error),
}

/// How a cache was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    InStep,
    /// Empty, though the state knows of one: dropped by somebody, or made anew.
    Gone,
    /// Older than the state knows: its index has been forgotten.
    Older,
}

/// Compares, and forgets what is not to be believed.
pub(super) fn settle(store: &Store, state: &State, account: &str) -> Result<Found, Error> {
    let (cache, known) = (store.marker()?, state.marker(account)?);
    if cache >= known {
        return Ok(Found::InStep);
    }
    let found = if store.mailboxes()?.is_empty() { Found::Gone } else { Found::Older };
    forget(store)?;
    match advance(store, state, account) {
        // Next time it is found older once more, and that is all.
        Ok(()) | Err(Error::Store(store::Error::Full)) => Ok(found),
        Err(error) => Err(error),
    }
}

/// Writes the next number down: the cache first, flushed, then the state.
pub(super) fn advance(store: &Store, state: &State, account: &str) -> Result<(), Error> {
    let next = store.marker()?.max(state.marker(account)?) + 1;
    store.set_marker(next)?;
    state.set_marker(account, next)?;
    Ok(())
}

/// Forgets the index of every mailbox: the next look reads it whole. Names and ids stay.
pub(super) fn forget(store: &Store) -> Result<(), store::Error> {
    for (id, record) in store.mailboxes()? {
        store.clear(id)?;
        // An empty mailbox would agree with its record: only an unknown UIDVALIDITY is never believed.
        let unknown =
            MailboxRecord { name: record.name, highest_modseq: record.highest_modseq, ..MailboxRecord::default() };
        store.put_mailbox(id, &unknown)?;
    }
    Ok(())
}

/// Whether the account was at another server before, or another user's there: UIDs there may look like the old ones and are not. Then the
/// cache is cleared and nothing is hidden from POP3 any more; where it is now is kept.
pub(super) fn is_elsewhere(store: &Store, state: &State, account: &str, place: &str) -> Result<bool, Error> {
    let key = format!("place/{account}");
    let known = state.value(&key)?;
    if known.as_deref() == Some(place.as_bytes()) {
        return Ok(false);
    }
    if known.is_some() {
        for (id, record) in store.mailboxes()? {
            state.forget_local_keywords(account, &record.name, None)?;
            store.remove_mailbox(id)?;
        }
        state.unhide(account, None)?;
    }
    // Last: after a crash on the way everything is cleared once more.
    state.set_value(&key, Some(place.as_bytes()))?;
    Ok(known.is_some())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::{InternalDate, MessageMeta, ModSeq, Uid, UidSet, UidValidity};

    fn open(dir: &Path) -> Store {
        Store::open(dir, &store::Options { page_cache: 16 << 20, disk_reserve: 0 }).unwrap()
    }

    fn fill(store: &Store, exists: u32) {
        let id = store.mailbox_id("INBOX").unwrap();
        let messages: Vec<MessageMeta> = (1..=exists)
            .map(|uid| MessageMeta {
                uid: Uid(uid),
                flags: crate::model::Flags::default(),
                modseq: ModSeq(5),
                internal_date: InternalDate::default(),
                size: 10,
                gm_msgid: 0,
            })
            .collect();
        let record = MailboxRecord {
            name: "INBOX".into(),
            uid_validity: UidValidity(7),
            uid_next: Uid(exists + 1),
            highest_modseq: ModSeq(5),
            exists,
            ..MailboxRecord::default()
        };
        store.commit(id, &messages, &UidSet::new(), &record).unwrap();
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() { copy(&entry.path(), &target) } else { drop(std::fs::copy(entry.path(), target)) }
        }
    }

    #[test]
    fn what_was_kept_of_another_provider_is_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let state = State::open(&home.path().join("state.sqlite")).unwrap();
        let store = open(&home.path().join("cache"));
        let at = |place: &str| is_elsewhere(&store, &state, "ann", place).unwrap();
        let login = state::PopLogin { account: "ann", mailbox: "INBOX", device: "" };
        let hidden = || state.hidden(&login).unwrap().len();
        assert!(!at("ann@a:993"), "new");
        fill(&store, 3);
        let id = crate::model::UniqueId::Number(UidValidity(7), Uid(1));
        state.hide(&login, &[id], std::time::SystemTime::now()).unwrap();
        assert!(!at("ann@a:993"));
        assert_eq!((store.mailboxes().unwrap().len(), hidden()), (1, 1));
        assert!(at("ann@b:993"));
        assert_eq!((store.mailboxes().unwrap().len(), hidden()), (0, 0));
        assert!(!at("ann@b:993"));
    }

    #[test]
    fn an_older_cache_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let (cache, old) = (home.path().join("cache"), home.path().join("old"));
        let state = State::open(&home.path().join("state.sqlite")).unwrap();
        let store = open(&cache);
        assert_eq!(settle(&store, &state, "ann").unwrap(), Found::InStep, "both are new");
        fill(&store, 3);
        advance(&store, &state, "ann").unwrap();
        drop(store);
        copy(&cache, &old);

        let store = open(&cache);
        assert_eq!(settle(&store, &state, "ann").unwrap(), Found::InStep);
        fill(&store, 5);
        advance(&store, &state, "ann").unwrap();
        assert_eq!(settle(&store, &state, "bob").unwrap(), Found::InStep, "unknown to the state");
        drop(store);

        let store = open(&old);
        assert_eq!(settle(&store, &state, "ann").unwrap(), Found::Older);
        let mailboxes = store.mailboxes().unwrap();
        assert_eq!(mailboxes.len(), 1);
        let (id, record) = &mailboxes[0];
        assert_eq!((record.name.as_str(), record.uid_validity, record.exists), ("INBOX", UidValidity(0), 0));
        assert!(store.load(*id).unwrap().is_empty());
        assert_eq!(settle(&store, &state, "ann").unwrap(), Found::InStep, "once");

        let empty = open(&home.path().join("empty"));
        assert_eq!(settle(&empty, &state, "ann").unwrap(), Found::Gone);
        assert_eq!(settle(&empty, &state, "ann").unwrap(), Found::InStep);
    }
}
