//! A selected mailbox of the simulated account, and reading from it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::Tally;
use super::account::Shared;
use crate::engine::{Copied, CopyMode, Error, Snapshot, Summary, Want};
use crate::message;
use crate::model::{FlagOp, Flags, ModSeq, Uid, UidSet};
use crate::session::backend::{self, Gmail};

/// Octets of one piece of a body, as a provider sends them.
const CHUNK: usize = 64 * 1024;

/// Cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    shared: Arc<Shared>,
    name: Arc<str>,
    newest: watch::Receiver<Arc<Snapshot>>,
}

impl Mailbox {
    pub(super) fn new(shared: Arc<Shared>, name: Arc<str>, newest: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { shared, name, newest }
    }

    fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.newest.borrow())
    }

    /// Refuses what is meant for a mailbox that was deleted or renamed since: another one may bear its name now.
    fn alive(&self) -> Result<(), Error> {
        if self.newest.borrow().dead { Err(Error::Gone) } else { Ok(()) }
    }

    fn body(&self, uid: Uid) -> Result<Bytes, Error> {
        let msgid = self.newest.borrow().messages.get(uid).map(|meta| meta.gm_msgid);
        msgid.and_then(|msgid| self.shared.raw(msgid)).ok_or(Error::Expunged)
    }
}

impl backend::Mailbox for Mailbox {
    type Reads = BodyReads;

    fn snapshot(&self) -> Arc<Snapshot> {
        self.newest()
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.newest.clone()
    }

    /// No log is kept: only QRESYNC asks for it, and this provider has none.
    fn vanished_since(&self, _since: ModSeq) -> Option<UidSet> {
        None
    }

    async fn summaries(&self, uids: &[Uid], _want: Want) -> Vec<Result<Arc<Summary>, Error>> {
        let mut summaries = Vec::with_capacity(uids.len());
        for uid in uids {
            let summary = self.body(*uid).map(|raw| {
                let structure = message::parse(&raw);
                Arc::new(Summary {
                    header: raw.slice(structure.header()),
                    envelope: structure.envelope(&raw).into(),
                    body_structure: structure.body_structure(&raw).into(),
                    body: structure.body(&raw).into(),
                })
            });
            summaries.push(summary);
        }
        summaries
    }

    fn read(&self, uids: Vec<Uid>) -> BodyReads {
        BodyReads { mailbox: self.clone(), uids: uids.into_iter() }
    }

    async fn store(
        &self,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<UidSet, Error> {
        self.alive()?;
        self.shared.store(&self.name, uids, op, flags, unchanged_since)
    }

    async fn expunge(&self, uids: Option<&UidSet>) -> Result<(), Error> {
        self.alive()?;
        self.shared.expunge(&self.name, uids)
    }

    async fn copy(&self, uids: &UidSet, to: &str, mode: CopyMode) -> Result<Option<Copied>, Error> {
        self.alive()?;
        self.shared.copy(&self.name, uids, to, mode).map(Some)
    }

    async fn search_text(&self, within: &UidSet, needle: &[u8], body_only: bool) -> Result<UidSet, Error> {
        let needle = String::from_utf8_lossy(needle);
        let there: Vec<Uid> = self.newest().messages.select(within).map(|(_, meta)| meta.uid).collect();
        let found = there
            .into_iter()
            .filter(|uid| self.body(*uid).is_ok_and(|raw| message::text_contains(&raw, &needle, body_only)));
        Ok(found.map(|uid| uid.0).collect())
    }

    async fn refresh(&self) -> Result<(), Error> {
        Ok(())
    }

    fn gmail(&self, uid: Uid) -> Gmail {
        let msgid = self.newest.borrow().messages.get(uid).map(|meta| meta.gm_msgid);
        msgid.map(|msgid| self.shared.gmail(&self.name, msgid)).unwrap_or_default()
    }
}

pub struct BodyReads {
    mailbox: Mailbox,
    uids: std::vec::IntoIter<Uid>,
}

impl backend::BodyReads for BodyReads {
    type Body = Body;

    async fn next(&mut self) -> Option<(Uid, Result<Body, Error>)> {
        let uid = self.uids.next()?;
        let body =
            self.mailbox.body(uid).map(|raw| Body { raw, sent: 0, tally: Arc::clone(&self.mailbox.shared.tally) });
        Some((uid, body))
    }
}

/// A message on its way out; what leaves is counted.
pub struct Body {
    raw: Bytes,
    sent: usize,
    tally: Arc<Tally>,
}

impl backend::Body for Body {
    fn len(&self) -> u64 {
        self.raw.len() as u64
    }

    async fn whole(&self) -> Result<Bytes, Error> {
        self.tally.body_sent();
        self.tally.octets_sent(self.raw.len());
        Ok(self.raw.clone())
    }

    async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        if self.sent >= self.raw.len() {
            return None;
        }
        if self.sent == 0 {
            self.tally.body_sent();
        }
        let end = (self.sent + CHUNK).min(self.raw.len());
        let piece = self.raw.slice(self.sent..end);
        self.sent = end;
        self.tally.octets_sent(piece.len());
        Some(Ok(piece))
    }
}
