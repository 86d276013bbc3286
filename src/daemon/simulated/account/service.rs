//! The simulated account as sessions ask of it: mailboxes as such, and uploads.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::{APPEND_LIMIT, Account, Batch, INBOX, Inner, Label, MAX_MAILBOXES, MAX_OCTETS, ROOT, built_in, everything};
use crate::daemon::simulated::mailbox::Mailbox;
use crate::daemon::simulated::now;
use crate::engine::{Append, Appended, Error, Snapshot, StatusData};
use crate::model::{Folder, Folders, InternalDate, Role};
use crate::session::backend;

impl backend::Account for Account {
    type Mailbox = Mailbox;

    fn address(&self) -> &str {
        &self.shared.address
    }

    async fn folders(&self) -> Result<Arc<Folders>, Error> {
        let inner = self.shared.inner();
        let folder = |name: &str, role, noselect| Folder {
            name: name.into(),
            delimiter: Some('/'),
            noselect,
            noinferiors: false,
            subscribed: inner.subscribed.contains(name),
            role,
        };
        let mut list: Vec<Folder> = inner.boxes.iter().map(|(name, there)| folder(name, there.role, false)).collect();
        list.push(folder(ROOT, None, true));
        list.sort_by(|a, b| (&*a.name != INBOX, &a.name).cmp(&(&*b.name != INBOX, &b.name)));
        let dangling = inner.subscribed.iter().filter(|name| !inner.boxes.contains_key(name.as_str()) && *name != ROOT);
        let dangling = dangling.map(|name| Arc::from(name.as_str())).collect();
        Ok(Arc::new(Folders { list, delimiter: Some('/'), prefix: "".into(), dangling }))
    }

    async fn open(&self, name: &str) -> Result<Mailbox, Error> {
        let inner = self.shared.inner();
        let name = inner.name(name)?;
        let newest = inner.boxes.get(&name).map(|there| there.newest.subscribe()).ok_or(Error::Gone)?;
        Ok(Mailbox::new(Arc::clone(&self.shared), name, newest))
    }

    async fn status(&self, name: &str) -> Result<StatusData, Error> {
        let inner = self.shared.inner();
        let name = inner.name(name)?;
        Ok(inner.newest(&name)?.status())
    }

    async fn create(&self, name: &str, role: Option<Role>) -> Result<(), Error> {
        if role.is_some() || name.starts_with("[Gmail]/") {
            return Err(Error::Cannot("Invalid mailbox name. (Failure)".to_owned()));
        }
        let mut inner = self.shared.inner();
        if built_in(name) || inner.boxes.contains_key(name) {
            return Err(Error::Exists(name.to_owned()));
        }
        if inner.boxes.len() >= MAX_MAILBOXES {
            return Err(Error::Limit("Too many labels. (Failure)".to_owned()));
        }
        inner.make(name, None);
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let mut inner = self.shared.inner();
        if built_in(name) {
            return Err(Error::Cannot("Cannot delete a system folder. (Failure)".to_owned()));
        }
        let name = inner.name(name)?;
        let mut batch = Batch::default();
        for meta in inner.metas(&name, &everything())? {
            // The messages stay: a label goes, nothing else.
            inner.take_label(&mut batch, meta.gm_msgid, &name);
        }
        inner.publish(batch);
        if let Some(gone) = inner.boxes.remove(&name) {
            Inner::bury(&gone);
        }
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let mut inner = self.shared.inner();
        if built_in(from) || built_in(to) || to.starts_with("[Gmail]/") {
            return Err(Error::Cannot("Cannot rename a system folder. (Failure)".to_owned()));
        }
        inner.name(from)?;
        if inner.boxes.contains_key(to) {
            return Err(Error::Exists(to.to_owned()));
        }
        for old in inner.below(from) {
            let rest = old.strip_prefix(from).unwrap_or_default();
            let new: Arc<str> = format!("{to}{rest}").into();
            let Some(moved) = inner.boxes.remove(&old) else { continue };
            let last = Arc::clone(&moved.newest.borrow());
            Inner::bury(&moved);
            let snapshot = Snapshot { name: Arc::clone(&new), ..(*last).clone() };
            inner.boxes.insert(Arc::clone(&new), Label { newest: watch::Sender::new(Arc::new(snapshot)), ..moved });
            for message in inner.messages.values_mut() {
                if let Some(uid) = message.places.remove(&old) {
                    message.places.insert(Arc::clone(&new), uid);
                }
            }
        }
        Ok(())
    }

    async fn subscribe(&self, name: &str, on: bool) -> Result<(), Error> {
        let mut inner = self.shared.inner();
        if on {
            if inner.subscribed.len() >= MAX_MAILBOXES {
                return Err(Error::Limit("Too many subscriptions. (Failure)".to_owned()));
            }
            inner.subscribed.insert(name.to_owned());
        } else {
            inner.subscribed.remove(name);
        }
        Ok(())
    }

    async fn append(&self, mailbox: &str, messages: Vec<Append>) -> Result<Option<Appended>, Error> {
        let mut inner = self.shared.inner();
        let mailbox = inner.name(mailbox)?;
        let coming: u64 = messages.iter().map(|message| message.body.len() as u64).sum();
        if inner.octets.saturating_add(coming) > MAX_OCTETS {
            return Err(Error::Refused { code: Some("OVERQUOTA".into()), text: "Account is full. (Failure)".into() });
        }
        let mut batch = Batch::default();
        let mut uids = Vec::new();
        for message in messages {
            let date = message.date.unwrap_or_else(|| InternalDate { seconds: now(), zone: 0 });
            uids.extend(inner.take_in(&mut batch, message.body, message.flags, date, &[Arc::clone(&mailbox)]));
        }
        inner.publish(batch);
        let uid_validity = inner.boxes.get(&mailbox).map(|there| there.uid_validity).unwrap_or_default();
        Ok(Some(Appended { uid_validity, uids }))
    }

    fn append_limit(&self) -> u64 {
        APPEND_LIMIT
    }

    async fn quota(&self, root: &str) -> Result<Vec<Bytes>, Error> {
        if !root.is_empty() {
            return Err(Error::Refused {
                code: Some("NONEXISTENT".into()),
                text: "No such quota root. (Failure)".into(),
            });
        }
        let used = self.shared.inner().octets / 1024;
        Ok(vec![format!("QUOTA \"\" (STORAGE {used} {})", MAX_OCTETS / 1024).into()])
    }

    async fn quota_root(&self, mailbox: &str) -> Result<Vec<Bytes>, Error> {
        let name = self.shared.inner().name(mailbox)?;
        // A name may hold anything a client once chose: only one that can stand in quotes is told.
        let quoted =
            if name.bytes().all(|b| (0x20..0x7f).contains(&b) && !b"\"\\".contains(&b)) { &*name } else { INBOX };
        let mut lines = vec![Bytes::from(format!("QUOTAROOT \"{quoted}\" \"\""))];
        lines.extend(self.quota("").await?);
        Ok(lines)
    }

    fn offers_quota(&self) -> bool {
        true
    }
}
