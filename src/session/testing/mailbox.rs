//! A mailbox of the account in memory: what is in it, what somebody else does to it, and reading from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::watch;

use super::FakeAccount;
use crate::engine::{Copied, CopyMode, Error, Snapshot, Summary, Want};
use crate::message;
use crate::model::{
    FlagOp, Flags, InternalDate, Keyword, MessageMeta, ModSeq, PagesDelta, SystemFlags, Uid, UidSet, UidValidity,
};
use crate::session::backend;

#[derive(Clone)]
pub(crate) struct FakeMailbox(Arc<Shared>);

struct Shared {
    account: FakeAccount,
    watch: watch::Sender<Arc<Snapshot>>,
    stored: Mutex<Stored>,
}

#[derive(Default)]
pub(super) struct Stored {
    bodies: BTreeMap<u32, Bytes>,
    vanished: Vec<(ModSeq, u32)>,
    /// The log begins here: older questions cannot be answered.
    log_from: ModSeq,
    /// Bodies of these cannot be had.
    unavailable: UidSet,
    /// Every call of summaries: what was wanted of whom.
    asked: Vec<(Vec<Uid>, Want)>,
    text_searches: Vec<UidSet>,
    /// The next body breaks off after so many octets.
    break_off: Option<usize>,
    /// Bodies stop in their middle until the notice.
    stall: Option<Arc<tokio::sync::Notify>>,
    pub(super) hold: Option<Arc<tokio::sync::Notify>>,
}

impl FakeMailbox {
    pub(super) fn new(account: FakeAccount, name: &str, uid_validity: UidValidity) -> Self {
        let snapshot = Snapshot { uid_validity, ..Snapshot::empty(name.into()) };
        let watch = watch::Sender::new(Arc::new(snapshot));
        Self(Arc::new(Shared { account, watch, stored: Mutex::default() }))
    }

    pub(super) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.stored.lock().unwrap()
    }

    pub(crate) fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.watch.borrow())
    }

    /// Publishes a new version with the next mod-sequence.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Snapshot, ModSeq) -> T) -> T {
        let mut snapshot = Snapshot { counts: std::sync::OnceLock::new(), ..(*self.now()).clone() };
        let modseq = ModSeq(snapshot.highest_modseq.0 + 1);
        snapshot.highest_modseq = modseq;
        let done = change(&mut snapshot, modseq);
        self.0.watch.send_replace(Arc::new(snapshot));
        done
    }

    pub(crate) fn deliver(&self, raw: &str) -> Uid {
        self.deliver_with(raw.as_bytes(), Flags::default(), None)
    }

    pub(crate) fn deliver_with(&self, raw: &[u8], flags: Flags, date: Option<InternalDate>) -> Uid {
        let default = InternalDate::parse("17-Jul-2026 02:44:25 +0200").unwrap();
        self.change(|snapshot, modseq| {
            let uid = snapshot.uid_next;
            self.stored().bodies.insert(uid.0, Bytes::copy_from_slice(raw));
            add_keywords(snapshot, &flags);
            let meta = MessageMeta {
                uid,
                flags,
                modseq,
                internal_date: date.unwrap_or(default),
                size: raw.len() as u32,
                gm_msgid: 0,
            };
            snapshot.uid_next = Uid(uid.0 + 1);
            snapshot.messages = snapshot.messages.apply(PagesDelta { upserts: vec![meta], vanished: UidSet::new() });
            uid
        })
    }

    /// Somebody else sets flags.
    pub(crate) fn flag(&self, uid: u32, op: FlagOp, names: &str) {
        let flags = Flags::parse(names.split(' '));
        self.store_now(&UidSet::from_iter([uid]), op, &flags, None);
    }

    /// Somebody else expunges.
    pub(crate) fn vanish(&self, uids: &str) {
        self.remove(&UidSet::parse(uids).unwrap());
    }

    fn remove(&self, uids: &UidSet) {
        self.change(|snapshot, modseq| {
            let there: UidSet = snapshot.messages.select(uids).map(|(_, message)| message.uid.0).collect();
            self.stored().vanished.extend(there.iter().map(|uid| (modseq, uid)));
            snapshot.messages = snapshot.messages.apply(PagesDelta { upserts: Vec::new(), vanished: there });
        });
    }

    pub(crate) fn forget_log(&self) {
        let from = self.now().highest_modseq;
        self.stored().log_from = from;
    }

    pub(crate) fn lose_body(&self, uid: u32) {
        self.stored().unavailable.insert(uid);
    }

    pub(crate) fn break_off(&self, after: usize) {
        self.stored().break_off = Some(after);
    }

    /// From now on each body stops behind its first piece, until the notice.
    pub(crate) fn stall_bodies(&self) -> Arc<tokio::sync::Notify> {
        let notify = Arc::new(tokio::sync::Notify::new());
        self.stored().stall = Some(Arc::clone(&notify));
        notify
    }

    /// From now on summaries and uploads wait for the notice.
    pub(crate) fn hold(&self) -> Arc<tokio::sync::Notify> {
        let notify = Arc::new(tokio::sync::Notify::new());
        self.stored().hold = Some(Arc::clone(&notify));
        notify
    }

    pub(crate) fn asked_summaries(&self) -> Vec<(Vec<Uid>, Want)> {
        std::mem::take(&mut self.stored().asked)
    }

    pub(crate) fn text_searches(&self) -> Vec<UidSet> {
        std::mem::take(&mut self.stored().text_searches)
    }

    fn store_now(&self, uids: &UidSet, op: FlagOp, flags: &Flags, unchanged: Option<ModSeq>) -> UidSet {
        let mut failed = UidSet::new();
        self.change(|snapshot, modseq| {
            let mut upserts = Vec::new();
            for (_, message) in snapshot.messages.select(uids) {
                if unchanged.is_some_and(|limit| message.modseq > limit) {
                    failed.insert(message.uid.0);
                    continue;
                }
                let new = message.flags.apply(op, flags);
                if new != message.flags {
                    upserts.push(MessageMeta { flags: new, modseq, ..message.clone() });
                }
            }
            add_keywords(snapshot, flags);
            snapshot.messages = snapshot.messages.apply(PagesDelta { upserts, vanished: UidSet::new() });
        });
        failed
    }

    fn body(&self, uid: Uid) -> Result<Bytes, Error> {
        let stored = self.stored();
        if stored.unavailable.contains(uid.0) {
            return Err(Error::Unavailable("The provider cannot be reached".to_owned()));
        }
        match self.now().messages.get(uid) {
            Some(_) => stored.bodies.get(&uid.0).cloned().ok_or(Error::Expunged),
            None => Err(Error::Expunged),
        }
    }
}

fn add_keywords(snapshot: &mut Snapshot, flags: &Flags) {
    let known: Vec<Keyword> = snapshot.keywords.to_vec();
    let all = Flags::new(SystemFlags::default(), known.iter().chain(flags.keywords()).cloned());
    if all.keywords().len() != known.len() {
        snapshot.keywords = all.keywords().into();
    }
}

impl backend::Mailbox for FakeMailbox {
    type Reads = FakeReads;

    fn snapshot(&self) -> Arc<Snapshot> {
        self.now()
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.watch.subscribe()
    }

    fn vanished_since(&self, since: ModSeq) -> Option<UidSet> {
        let stored = self.stored();
        let recent = stored.vanished.iter().filter(|(modseq, _)| *modseq > since);
        (since >= stored.log_from).then(|| recent.map(|(_, uid)| *uid).collect())
    }

    async fn summaries(&self, uids: &[Uid], want: Want) -> Vec<Result<Arc<Summary>, Error>> {
        self.0.account.provider().await;
        let hold = self.stored().hold.clone();
        if let Some(hold) = hold {
            hold.notified().await;
        }
        self.stored().asked.push((uids.to_vec(), want));
        uids.iter()
            .map(|uid| {
                let raw = self.body(*uid)?;
                let structure = message::parse(&raw);
                Ok(Arc::new(Summary {
                    header: raw.slice(structure.header()),
                    envelope: structure.envelope(&raw).into(),
                    body_structure: structure.body_structure(&raw).into(),
                    body: structure.body(&raw).into(),
                }))
            })
            .collect()
    }

    fn read(&self, uids: Vec<Uid>) -> FakeReads {
        FakeReads { mailbox: self.clone(), uids: uids.into_iter() }
    }

    async fn store(
        &self,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<UidSet, Error> {
        // Others get a turn while a write is under way.
        tokio::task::yield_now().await;
        self.0.account.provider().await;
        Ok(self.store_now(uids, op, flags, unchanged_since))
    }

    async fn expunge(&self, uids: Option<&UidSet>) -> Result<(), Error> {
        tokio::task::yield_now().await;
        self.0.account.provider().await;
        let deleted: UidSet = self
            .now()
            .messages
            .iter()
            .filter(|m| m.flags.has(SystemFlags::DELETED) && uids.is_none_or(|uids| uids.contains(m.uid.0)))
            .map(|m| m.uid.0)
            .collect();
        self.remove(&deleted);
        Ok(())
    }

    async fn copy(&self, uids: &UidSet, to: &str, mode: CopyMode) -> Result<Option<Copied>, Error> {
        tokio::task::yield_now().await;
        self.0.account.provider().await;
        let destination = self.0.account.find(to)?;
        let mut pairs = Vec::new();
        for (_, message) in self.now().messages.select(uids) {
            let raw = self.body(message.uid)?;
            let new = destination.deliver_with(&raw, message.flags.clone(), Some(message.internal_date));
            pairs.push((message.uid, new));
        }
        if mode == CopyMode::Move {
            self.remove(uids);
        }
        Ok(Some(Copied { uid_validity: destination.now().uid_validity, pairs }))
    }

    async fn search_text(&self, within: &UidSet, needle: &[u8], body_only: bool) -> Result<UidSet, Error> {
        self.0.account.provider().await;
        self.stored().text_searches.push(within.clone());
        let needle = String::from_utf8_lossy(needle);
        let found = |uid: &u32| self.body(Uid(*uid)).is_ok_and(|raw| message::text_contains(&raw, &needle, body_only));
        Ok(within.iter().filter(found).collect())
    }

    async fn refresh(&self) -> Result<(), Error> {
        self.0.account.provider().await;
        Ok(())
    }
}

pub(crate) struct FakeReads {
    mailbox: FakeMailbox,
    uids: std::vec::IntoIter<Uid>,
}

impl backend::BodyReads for FakeReads {
    type Body = FakeBody;

    async fn next(&mut self) -> Option<(Uid, Result<FakeBody, Error>)> {
        let uid = self.uids.next()?;
        self.mailbox.0.account.provider().await;
        let break_off = self.mailbox.stored().break_off;
        let stall = self.mailbox.stored().stall.clone();
        Some((uid, self.mailbox.body(uid).map(|raw| FakeBody { raw, at: 0, break_off, stall })))
    }
}

pub(crate) struct FakeBody {
    raw: Bytes,
    at: usize,
    break_off: Option<usize>,
    stall: Option<Arc<tokio::sync::Notify>>,
}

impl backend::Body for FakeBody {
    fn len(&self) -> u64 {
        self.raw.len() as u64
    }

    async fn whole(&self) -> Result<Bytes, Error> {
        Ok(self.raw.clone())
    }

    /// Pieces of odd sizes, so that every border is met.
    async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        tokio::task::yield_now().await;
        if self.at > 0
            && let Some(notice) = self.stall.take()
        {
            notice.notified().await;
        }
        if self.break_off.is_some_and(|after| self.at >= after) {
            return Some(Err(Error::Unavailable("The connection broke".to_owned())));
        }
        let end = (self.at * 2 + 7).min(self.raw.len());
        let piece = self.raw.slice(self.at..end);
        self.at = end;
        (!piece.is_empty()).then_some(Ok(piece))
    }
}
