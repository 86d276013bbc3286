//! An account in memory for the tests of the client protocols: correct, instant, with knobs for what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::watch;

use super::backend;
use super::imap::{Login, LoginError};
use crate::engine::{Append, Appended, Error, Snapshot, StatusData};
use crate::model::{Folder, Folders, Role, SystemFlags, UidValidity};
use crate::secret::Secret;

mod mailbox;

pub(crate) use mailbox::FakeMailbox;

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
        let mailbox = FakeMailbox::new(self.clone(), name, UidValidity(inner.next_validity));
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
            recent: 0,
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
