//! An account in memory for the tests of the client protocols: correct, instant, with knobs for what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::watch;

use super::backend;
use super::imap::{Login, LoginError};
use crate::engine::{Append, Appended, Copied, CopyMode, Error, Snapshot, StatusData, Summary, Want};
use crate::message;
use crate::model::{
    FlagOp, Flags, Folder, Folders, InternalDate, Keyword, MessageMeta, ModSeq, PagesDelta, Role, SystemFlags, Uid,
    UidSet, UidValidity,
};
use crate::secret::Secret;

/// Two accounts: `ann` with `pw`, and nobody else. `slow` is slowed down, `away` cannot be served.
#[derive(Clone)]
pub(crate) struct FakeLogin(pub(crate) FakeAccount);

impl Login for FakeLogin {
    type Account = FakeAccount;

    async fn verify(&self, _peer: IpAddr, user: &str, password: &Secret) -> Result<FakeAccount, LoginError> {
        match (user, password.expose()) {
            ("ann", b"pw") => Ok(self.0.clone()),
            ("slow", _) => Err(LoginError::Slowed),
            ("away", _) => Err(LoginError::Unavailable),
            _ => Err(LoginError::Wrong),
        }
    }
}

/// Cheap to clone; all clones are the same account.
#[derive(Clone)]
pub(crate) struct FakeAccount(Arc<Mutex<Inner>>);

struct Inner {
    mailboxes: BTreeMap<String, FakeMailbox>,
    subscribed: BTreeSet<String>,
    roles: BTreeMap<String, Role>,
    next_validity: u32,
    /// Whether everything that may have to ask the provider waits.
    held: watch::Sender<bool>,
}

#[derive(Clone)]
pub(crate) struct FakeMailbox(Arc<Shared>);

struct Shared {
    account: FakeAccount,
    watch: watch::Sender<Arc<Snapshot>>,
    stored: Mutex<Stored>,
}

#[derive(Default)]
struct Stored {
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
    hold: Option<Arc<tokio::sync::Notify>>,
}

impl FakeAccount {
    pub(crate) fn new() -> Self {
        let account = Self(Arc::new(Mutex::new(Inner {
            mailboxes: BTreeMap::new(),
            subscribed: BTreeSet::from(["INBOX".to_owned()]),
            roles: BTreeMap::new(),
            next_validity: 100,
            held: watch::Sender::new(false),
        })));
        account.make("INBOX");
        account.make("Sent");
        account.inner().roles.insert("Sent".to_owned(), Role::Sent);
        account
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn make(&self, name: &str) -> FakeMailbox {
        let mut inner = self.inner();
        inner.next_validity += 1;
        let mut snapshot = Snapshot::empty(name.into());
        snapshot.uid_validity = UidValidity(inner.next_validity);
        let mailbox = FakeMailbox(Arc::new(Shared {
            account: self.clone(),
            watch: watch::Sender::new(Arc::new(snapshot)),
            stored: Mutex::default(),
        }));
        inner.mailboxes.insert(name.to_owned(), mailbox.clone());
        mailbox
    }

    /// From now on the provider gives no answer (`true`), or it does again.
    pub(crate) fn hold(&self, on: bool) {
        self.inner().held.send_replace(on);
    }

    async fn provider(&self) {
        let mut held = self.inner().held.subscribe();
        // The other end is in the account and outlives this.
        let _ = held.wait_for(|held| !held).await;
    }

    pub(crate) fn mailbox(&self, name: &str) -> FakeMailbox {
        self.inner().mailboxes[name].clone()
    }

    fn find(&self, name: &str) -> Result<FakeMailbox, Error> {
        self.inner().mailboxes.get(name).cloned().ok_or_else(|| Error::NoSuchMailbox(name.to_owned()))
    }
}

impl backend::Account for FakeAccount {
    type Mailbox = FakeMailbox;

    fn address(&self) -> &str {
        "ann@example.org"
    }

    async fn folders(&self) -> Result<Arc<Folders>, Error> {
        let inner = self.inner();
        let folder = |name: &String| Folder {
            name: name.as_str().into(),
            delimiter: Some('/'),
            noselect: false,
            noinferiors: false,
            subscribed: inner.subscribed.contains(name),
            role: inner.roles.get(name).copied(),
        };
        let dangling = inner.subscribed.iter().filter(|name| !inner.mailboxes.contains_key(*name));
        Ok(Arc::new(Folders {
            list: inner.mailboxes.keys().map(folder).collect(),
            delimiter: Some('/'),
            prefix: "".into(),
            dangling: dangling.map(|name| name.as_str().into()).collect(),
        }))
    }

    async fn open(&self, name: &str) -> Result<FakeMailbox, Error> {
        self.provider().await;
        self.find(name)
    }

    async fn status(&self, name: &str) -> Result<StatusData, Error> {
        self.provider().await;
        let snapshot = self.find(name)?.now();
        let count =
            |flag, has| snapshot.messages.iter().filter(|message| message.flags.has(flag) == has).count() as u32;
        Ok(StatusData {
            messages: snapshot.messages.len(),
            uid_next: snapshot.uid_next,
            uid_validity: snapshot.uid_validity,
            unseen: count(SystemFlags::SEEN, false),
            deleted: count(SystemFlags::DELETED, true),
            highest_modseq: snapshot.highest_modseq,
            size: snapshot.messages.iter().map(|message| u64::from(message.size)).sum(),
        })
    }

    async fn create(&self, name: &str, role: Option<Role>) -> Result<(), Error> {
        self.provider().await;
        if self.find(name).is_ok() {
            return Err(Error::Exists(name.to_owned()));
        }
        self.make(name);
        if let Some(role) = role {
            self.inner().roles.insert(name.to_owned(), role);
        }
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        self.provider().await;
        self.find(name)?.change(|snapshot, _| snapshot.dead = true);
        self.inner().mailboxes.remove(name);
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.provider().await;
        let old = self.find(from)?;
        let new = self.make(to);
        let stored = std::mem::take(&mut *old.stored());
        *new.stored() = stored;
        let before = old.now();
        new.change(|snapshot, _| *snapshot = Snapshot { name: to.into(), ..(*before).clone() });
        old.change(|snapshot, _| snapshot.dead = true);
        self.inner().mailboxes.remove(from);
        Ok(())
    }

    async fn subscribe(&self, name: &str, on: bool) -> Result<(), Error> {
        self.provider().await;
        let mut inner = self.inner();
        if on {
            inner.subscribed.insert(name.to_owned())
        } else {
            inner.subscribed.remove(name)
        };
        Ok(())
    }

    async fn append(&self, mailbox: &str, messages: Vec<Append>) -> Result<Option<Appended>, Error> {
        self.provider().await;
        let mailbox = self.find(mailbox)?;
        // As the engine's: it goes on when the client has gone.
        let stored = tokio::spawn(async move {
            let hold = mailbox.stored().hold.clone();
            if let Some(hold) = hold {
                hold.notified().await;
            }
            let store = |m: &Append| mailbox.deliver_with(&m.body, m.flags.clone(), m.date);
            let uids = messages.iter().map(store).collect();
            Appended { uid_validity: mailbox.now().uid_validity, uids }
        });
        Ok(Some(stored.await.unwrap()))
    }

    fn append_limit(&self) -> u64 {
        10_000_000
    }

    async fn quota(&self, root: &str) -> Result<Vec<Bytes>, Error> {
        self.provider().await;
        Ok(vec![format!("QUOTA \"{root}\" (STORAGE 10 512)").into()])
    }

    async fn quota_root(&self, _mailbox: &str) -> Result<Vec<Bytes>, Error> {
        self.provider().await;
        Ok(vec!["QUOTAROOT INBOX \"\"".into(), "QUOTA \"\" (STORAGE 10 512)".into()])
    }

    fn offers_quota(&self) -> bool {
        true
    }
}

impl FakeMailbox {
    fn stored(&self) -> MutexGuard<'_, Stored> {
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
