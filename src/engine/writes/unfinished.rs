//! The journal of unfinished writes: what must be undone, or finished, if the connection is lost or this program is killed in the middle.
//!
//! Only a write of several steps has an entry: a plain EXPUNGE that spares what others have marked, a MOVE made of COPY, STORE and
//! EXPUNGE, a MULTIAPPEND taken back when it fails. It is on the disk before the first step that would need an undo, and removed when
//! the write has ended, well or ill. The others (STORE, COPY, MOVE, UID EXPUNGE, APPEND) are one command each, answered when upstream has
//! answered: after a crash nobody was told anything, and nothing is half done.
//!
//! What is left, by a crash or because upstream is out of reach, is settled by looking (`recover`), before anything else is written to the
//! mailboxes it concerns: a client that asks for the same again must not double it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tracing::{error, warn};

use super::identity::Ids;
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::model::{UidSet, UidValidity};

/// The layout of [`Payload`]. One that is not known stays where it is: a newer version of this program has written it.
const VERSION: u32 = 1;
/// Whether the provider refuses for the moment or for good cannot be told from all its words: so often it is asked.
const TRIES: u8 = 5;
/// What it refuses for the moment may be waited for so long: a mailbox in use, a server being put in order.
const WAITED_FOR: Duration = Duration::from_secs(24 * 3600);

/// What stands in the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    version: u32,
    /// User and server: in another account the same numbers mean other messages.
    upstream: String,
    #[serde(flatten)]
    write: Option<Write>,
}

/// A write of several steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "write", rename_all = "snake_case")]
pub(super) enum Write {
    /// Messages that others have marked `\Deleted` and that are unmarked while a plain EXPUNGE takes those next to them.
    Spare(Messages),
    /// A MOVE by COPY, STORE and EXPUNGE.
    Move(Move),
    /// Messages of a MULTIAPPEND, to be taken back if the others do not follow.
    Append(Messages),
}

impl Write {
    fn kind(&self) -> &'static str {
        match self {
            Self::Spare(_) => "spare",
            Self::Move(_) => "move",
            Self::Append(_) => "append",
        }
    }

    fn concerns(&self, mailbox: &str) -> bool {
        match self {
            Self::Spare(messages) | Self::Append(messages) => messages.mailbox == mailbox,
            Self::Move(moving) => moving.source.mailbox == mailbox || moving.to == mailbox,
        }
    }
}

/// Messages beyond doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Messages {
    pub(super) mailbox: String,
    uid_validity: u32,
    #[serde(with = "text")]
    pub(super) uids: UidSet,
    /// What the provider calls them, where it calls them anything and that was known when this was written.
    #[serde(with = "pairs", default, skip_serializing_if = "Ids::is_empty")]
    pub(super) ids: Ids,
}

impl Messages {
    pub(super) fn new(mailbox: &str, uid_validity: UidValidity, uids: UidSet) -> Self {
        Self { mailbox: mailbox.into(), uid_validity: uid_validity.0, uids, ids: Ids::new() }
    }

    pub(super) fn with_ids(self, ids: Ids) -> Self {
        Self { ids, ..self }
    }

    pub(super) fn uid_validity(&self) -> UidValidity {
        UidValidity(self.uid_validity)
    }
}

/// A move under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Move {
    #[serde(flatten)]
    pub(super) source: Messages,
    /// Those that were `\Deleted` before.
    #[serde(with = "text")]
    pub(super) marked: UidSet,
    pub(super) to: String,
    /// 0: not known.
    pub(super) to_validity: u32,
    /// UIDNEXT of the target before the COPY, if it was told.
    pub(super) to_next: Option<u32>,
    /// What COPYUID told: source, copy.
    pub(super) told: Vec<(u32, u32)>,
    /// The COPY was acknowledged; from here on the sources may be marked and expunged.
    pub(super) copied: bool,
}

impl Move {
    pub(super) fn to_validity(&self) -> UidValidity {
        UidValidity(self.to_validity)
    }
}

/// An account's unfinished writes that no running write owns.
#[derive(Default)]
pub(crate) struct Unfinished {
    left: Mutex<Vec<Left>>,
    /// The entries of earlier runs have been read.
    read: AtomicBool,
    /// Held by whoever settles what is left. Comes before a mailbox's turn.
    pub(super) settling: tokio::sync::Mutex<()>,
    /// Told when a write gives up and leaves its entry.
    pub(super) given_up: Notify,
}

#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) id: i64,
    /// `None`: settled, and only to be removed.
    pub(super) write: Option<Write>,
    /// When the write was begun.
    created: SystemTime,
    tries: u8,
}

impl Left {
    /// Whether it has been waited for long enough.
    pub(super) fn is_old(&self, now: SystemTime) -> bool {
        now.duration_since(self.created).is_ok_and(|age| age >= WAITED_FOR)
    }
}

impl Unfinished {
    pub(super) fn is_read(&self) -> bool {
        self.read.load(Ordering::Acquire)
    }

    pub(super) fn first(&self, wanted: impl Fn(&Write) -> bool) -> Option<Left> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.iter().find(|left| left.write.as_ref().is_none_or(&wanted)).cloned()
    }

    pub(super) fn concerning(&self, mailboxes: &[&str]) -> Option<Left> {
        self.first(|write| mailboxes.iter().any(|mailbox| write.concerns(mailbox)))
    }

    fn leave(&self, id: i64, write: Option<Write>, created: SystemTime) {
        let left = Left { id, write, created, tries: 0 };
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(left);
        self.given_up.notify_one();
    }

    pub(super) fn forget(&self, id: i64) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).retain(|left| left.id != id);
    }

    /// Counts a refusal; whether it was the last that is waited for.
    pub(super) fn refused(&self, id: i64) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = left.iter_mut().find(|left| left.id == id) else { return false };
        left.tries = left.tries.saturating_add(1);
        left.tries >= TRIES
    }
}

/// An entry of a running write. Dropped before [`Entry::done`] it is left to be settled later.
pub(super) struct Entry {
    account: Arc<Inner>,
    id: i64,
    write: Option<Write>,
    created: SystemTime,
}

impl Entry {
    /// Replaces what is written down; on the disk when this returns.
    pub(super) async fn change(&mut self, write: Write) -> Result<(), Error> {
        let (id, bytes) = (self.id, self.account.payload(&write)?);
        self.account.durable(move |state, _| state.journal_change(id, &bytes)).await?;
        self.write = Some(write);
        Ok(())
    }

    /// The write has ended; whether the journal says so too. If not, the entry is removed later, but for an APPEND's: what it names
    /// would be taken back after a crash in between, so it is taken back in any case and nobody is told that it is there.
    pub(super) async fn done(mut self) -> bool {
        if !matches!(self.write, Some(Write::Append(_))) {
            self.write = None;
        }
        let id = self.id;
        let is_done = self.account.durable(move |state, _| state.journal_done(id)).await.is_ok();
        if is_done {
            // Nothing is left for `drop`.
            self.id = 0;
        }
        is_done
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.id != 0 {
            self.account.unfinished.leave(self.id, self.write.take(), self.created);
        }
    }
}

impl Inner {
    /// Writes down what is about to be done; on the disk when this returns.
    pub(super) async fn write_down(self: &Arc<Self>, write: Write) -> Result<Entry, Error> {
        let (kind, bytes) = (write.kind(), self.payload(&write)?);
        let created = SystemTime::now();
        let (tell, mut told) = oneshot::channel();
        let added = self.durable(move |state, key| {
            let id = state.journal_add(key, kind, &bytes, created)?;
            if tell.send(id).is_err() {
                // Nobody waits any more, and the write is not made: an entry would undo what somebody does later.
                state.journal_done(id)?;
            }
            Ok(())
        });
        match (added.await, told.try_recv()) {
            (Ok(()), Ok(id)) => Ok(Entry { account: Arc::clone(self), id, write: Some(write), created }),
            (Err(error), Ok(id)) => {
                self.unfinished.leave(id, None, created);
                Err(error)
            }
            (Err(error), Err(_)) => Err(error),
            (Ok(()), Err(_)) => Err(Error::Internal("The journal gave no answer".into())),
        }
    }

    fn payload(&self, write: &Write) -> Result<Vec<u8>, Error> {
        let payload = Payload { version: VERSION, upstream: self.options.upstream.clone(), write: Some(write.clone()) };
        serde_json::to_vec(&payload).map_err(|failure| Error::Internal(failure.to_string()))
    }

    /// Reads what an earlier run has left.
    pub(super) async fn read_unfinished(&self) -> Result<(), Error> {
        for entry in self.durable(|state, key| state.journal_pending(key)).await? {
            let (id, kind, created) = (entry.id, entry.kind, entry.created);
            match serde_json::from_slice::<Payload>(&entry.payload) {
                Ok(Payload { version, .. }) if version > VERSION => {
                    warn!(account = %self.label(), kind, version, "an unfinished write of a newer version of this program is left alone");
                }
                Ok(Payload { upstream, write: Some(write), .. }) if upstream == self.options.upstream => {
                    warn!(account = %self.label(), kind, "a write was not finished: it is settled as soon as the provider is reached");
                    self.unfinished.leave(id, Some(write), created);
                }
                Ok(Payload { write: Some(_), .. }) => {
                    warn!(account = %self.label(), kind, "an unfinished write to another provider is forgotten");
                    self.unfinished.leave(id, None, created);
                }
                Ok(Payload { write: None, .. }) | Err(_) => {
                    error!(account = %self.label(), kind, "an unfinished write cannot be read and is forgotten");
                    self.unfinished.leave(id, None, created);
                }
            }
        }
        self.unfinished.read.store(true, Ordering::Release);
        Ok(())
    }
}

/// Sets as IMAP writes them.
mod text {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::UidSet;

    pub(super) fn serialize<S: Serializer>(set: &UidSet, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(set)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UidSet, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Ok(UidSet::new());
        }
        UidSet::parse(&text).ok_or_else(|| D::Error::custom("not a set of UIDs"))
    }
}

/// Ids as a list: a map's keys would be text, which serde does not read back as numbers behind `flatten`.
mod pairs {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Ids;

    pub(super) fn serialize<S: Serializer>(ids: &Ids, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(ids)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Ids, D::Error> {
        Ok(Vec::<(u32, u64)>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in journals out there: may be added to, never changed.
    #[test]
    fn the_layout_stays() {
        let messages = || Messages::new("Wörk", UidValidity(7), UidSet::parse("1:3,9").unwrap());
        let moving = Move {
            source: messages(),
            marked: UidSet::new(),
            to: "b".into(),
            to_validity: 8,
            to_next: Some(5),
            told: vec![(1, 5)],
            copied: true,
        };
        let named = |messages: Messages| messages.with_ids([(1, 7), (9, u64::MAX)].into());
        let head = r#"{"version":1,"upstream":"ann@x:993","write":"#;
        let table = [
            (Write::Spare(messages()), r#""spare","mailbox":"Wörk","uid_validity":7,"uids":"1:3,9"}"#),
            (Write::Append(messages()), r#""append","mailbox":"Wörk","uid_validity":7,"uids":"1:3,9"}"#),
            (
                Write::Append(named(messages())),
                r#""append","mailbox":"Wörk","uid_validity":7,"uids":"1:3,9","ids":[[1,7],[9,18446744073709551615]]}"#,
            ),
            (
                Write::Move(Move { source: named(messages()), ..moving.clone() }),
                r#""move","mailbox":"Wörk","uid_validity":7,"uids":"1:3,9","ids":[[1,7],[9,18446744073709551615]],"marked":"","to":"b","to_validity":8,"to_next":5,"told":[[1,5]],"copied":true}"#,
            ),
            (
                Write::Move(moving),
                r#""move","mailbox":"Wörk","uid_validity":7,"uids":"1:3,9","marked":"","to":"b","to_validity":8,"to_next":5,"told":[[1,5]],"copied":true}"#,
            ),
        ];
        for (write, text) in table {
            let payload = Payload { version: 1, upstream: "ann@x:993".into(), write: Some(write.clone()) };
            assert_eq!(serde_json::to_string(&payload).unwrap(), format!("{head}{text}"));
            let read: Payload = serde_json::from_str(&format!("{head}{text}")).unwrap();
            assert_eq!(read.write, Some(write));
        }
        let newer: Payload =
            serde_json::from_str(r#"{"version":2,"upstream":"x","write":"juggle","balls":3}"#).unwrap();
        assert_eq!((newer.version, newer.write), (2, None));
    }
}
