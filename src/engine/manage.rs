//! CREATE, DELETE, RENAME, SUBSCRIBE: upstream first, then the list of mailboxes is asked for again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::account::Inner;
use super::error::Error;
use super::folders::canonical;
use super::snapshot::Snapshot;
use crate::model::{Flags, MessageMeta, Role, Uid, UidSet};
use crate::upstream::Class;

impl Inner {
    pub(crate) async fn create(self: &Arc<Self>, name: &str, role: Option<Role>) -> Result<(), Error> {
        let (account, name) = (Arc::clone(self), canonical(name));
        self.run_to_end(async move {
            let mut changing = account.change_folders().await?;
            changing.lease.create(&name, role).await?;
            account.folders_changed(changing).await;
            Ok(())
        })
        .await
    }

    pub(crate) async fn delete(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        let (account, name) = (Arc::clone(self), canonical(name));
        self.run_to_end(async move {
            account.settle_left(&[&name]).await?;
            let mut changing = account.change_folders().await?;
            let done = changing.lease.delete(&name).await.map_err(Error::from);
            account.audit_mailbox("delete", &name, None, &done);
            done?;
            // A failure leaves rows that no UIDVALIDITY to come will have.
            let _ = account.durable(move |db, account| db.forget_local_keywords(account, &name, None)).await;
            account.folders_changed(changing).await;
            Ok(())
        })
        .await
    }

    pub(crate) async fn subscribe(self: &Arc<Self>, name: &str, on: bool) -> Result<(), Error> {
        let (account, name) = (Arc::clone(self), canonical(name));
        self.run_to_end(async move {
            let mut changing = account.change_folders().await?;
            changing.lease.subscribe(&name, on).await?;
            account.folders_changed(changing).await;
            Ok(())
        })
        .await
    }

    /// RENAME (RFC 9051 §6.3.6). The cache moves along, and keywords kept here, children too.
    pub(crate) async fn rename(self: &Arc<Self>, from: &str, to: &str) -> Result<(), Error> {
        let (account, from, to) = (Arc::clone(self), canonical(from), canonical(to));
        self.run_to_end(async move {
            let before = account.folders.newest();
            // Of its children too: they get new names.
            let names = before.iter().flat_map(|before| &before.list).map(|folder| &*folder.name);
            let concerned: Vec<&str> = names.filter(|name| name.starts_with(&*from)).chain([&*from]).collect();
            account.settle_left(&concerned).await?;
            if from == "INBOX" {
                return account.rename_inbox(&to).await;
            }
            let mut changing = account.change_folders().await?;
            let done = changing.lease.rename(&from, &to).await.map_err(Error::from);
            account.audit_mailbox("rename", &from, Some(&to), &done);
            done?;
            // The lease goes with it: what follows takes turns (turn before lease, never the other way round).
            let changed = account.list_changed(changing).await;
            let mut moved = Vec::new();
            for folder in before.iter().flat_map(|before| &before.list) {
                let below = folder.delimiter.and_then(|delimiter| {
                    folder.name.strip_prefix(&*from).filter(|rest| rest.starts_with(delimiter)).map(str::to_owned)
                });
                let rest = if *folder.name == *from { Some(String::new()) } else { below };
                if let Some(rest) = rest {
                    moved.push((folder.name.to_string(), format!("{to}{rest}")));
                }
            }
            for (old, _) in &moved {
                if let Some(state) = account.known_state(old) {
                    account.forget(&state);
                    // A write that has begun ends under the old name; the next one sees that the mailbox is gone.
                    drop(state.turn.lock().await);
                    state.stored().await;
                }
            }
            let renamed = moved.clone();
            // It is renamed whatever becomes of the keywords; a failure is told by `durable`.
            let _ = account.durable(move |db, account| db.rename_local_keywords(account, &renamed)).await;
            for (_, new) in &moved {
                // Opened since upstream renamed it: without its keywords.
                if let Some(state) = account.known_state(new) {
                    account.forget(&state);
                    state.stored().await;
                }
            }
            let kept = account
                .disk(move |store| {
                    let records = store.mailboxes()?;
                    for (old, new) in moved {
                        for (id, record) in records.iter().filter(|(_, record)| record.name == old) {
                            let record = crate::store::MailboxRecord { name: new.clone(), ..record.clone() };
                            store.put_mailbox(*id, &record)?;
                        }
                    }
                    Ok(())
                })
                .await;
            if kept.is_err() {
                warn!(account = %account.label(), "the cache of a renamed mailbox is lost");
            }
            account.take_changed(changed).await;
            Ok(())
        })
        .await
    }

    /// INBOX stays and is emptied: its messages are in a new mailbox then, with the UIDs they had or with others.
    async fn rename_inbox(self: &Arc<Self>, to: &str) -> Result<(), Error> {
        let mut inbox = self.state(&"INBOX".into()).await?;
        if !inbox.is_known() && inbox.local.lock().await.overlay.keeps_any() {
            // What is kept is kept of messages; which these are is to be known.
            inbox = self.in_step(&"INBOX".into()).await?;
        }
        // Held until it is done: no STORE comes between what is taken along and the renaming. Nobody waits for this turn with the right to
        // change the list in hand.
        let turn = inbox.turn.lock().await;
        let (before, kept) = (inbox.snapshot(), self.kept(&inbox).await?);
        let mut changing = self.change_folders().await?;
        let done = changing.lease.rename("INBOX", to).await.map_err(Error::from);
        self.audit_mailbox("rename", "INBOX", Some(to), &done);
        done?;
        let changed = self.list_changed(changing).await;
        self.pool.leave("INBOX");
        if !kept.is_empty() {
            // Where the UIDs stay and the UIDVALIDITY with them (Dovecot) this is all, and no crash comes between. A failure is told by
            // `durable`.
            let renamed = [("INBOX".to_owned(), to.to_owned())];
            let _ = self.durable(move |db, account| db.rename_local_keywords(account, &renamed)).await;
            if let Some(state) = self.known_state(to) {
                self.forget(&state);
            }
        }
        drop(turn);
        self.take_changed(changed).await;
        if !kept.is_empty()
            && let Err(error) = self.follow_keywords(&before, to, kept).await
        {
            warn!(account = %self.label(), mailbox = to, %error, "keywords of a renamed INBOX are lost");
        }
        // Upstream has renamed it, whatever the look finds: where INBOX got a new UIDVALIDITY (Dovecot), the old one is dead now and the
        // sessions that have it selected hear of it.
        match self.freshen(&inbox, Instant::now(), Class::Interactive).await {
            Ok(()) | Err(Error::Gone) => {}
            Err(error) => warn!(account = %self.label(), %error, "INBOX cannot be looked at after its renaming"),
        }
        Ok(())
    }

    /// Gives messages that are in another mailbox now, where that gave them other UIDs, the keywords they had.
    async fn follow_keywords(
        self: &Arc<Self>,
        before: &Snapshot,
        to: &str,
        kept: BTreeMap<Uid, Flags>,
    ) -> Result<(), Error> {
        let target = self.in_step(&to.into()).await?;
        let after = target.snapshot();
        if after.uid_validity == before.uid_validity {
            return Ok(());
        }
        let look = |message: &MessageMeta| (message.size, message.internal_date.seconds);
        let (here, there): (Vec<_>, Vec<_>) = (before.messages.iter().collect(), after.messages.iter().collect());
        // In the order they had (what came since the last look stands behind), or else those that look like no other.
        let in_order = here.len() <= there.len() && here.iter().zip(&there).all(|(old, new)| look(old) == look(new));
        let only = |all: &[&MessageMeta]| {
            let mut only = HashMap::new();
            for message in all {
                only.entry(look(message)).and_modify(|only| *only = None).or_insert(Some(message.uid));
            }
            only
        };
        let (only_here, only_there) = if in_order { Default::default() } else { (only(&here), only(&there)) };
        let mut new = Vec::new();
        let mut lost = UidSet::new();
        for (place, old) in here.iter().enumerate() {
            let Some(flags) = kept.get(&old.uid) else { continue };
            let is = match in_order {
                true => there.get(place).map(|message| message.uid),
                false => {
                    let sole = |of: &HashMap<_, Option<Uid>>| of.get(&look(old)).copied().flatten();
                    sole(&only_here).and_then(|_| sole(&only_there))
                }
            };
            match is {
                Some(uid) => new.push((uid, flags.clone())),
                None => lost.insert(old.uid.0),
            }
        }
        if !lost.is_empty() {
            warn!(account = %self.label(), mailbox = to, uids = %lost, "which message is which is not told: their keywords are lost");
        }
        let uids = new.iter().map(|(uid, _)| uid.0).collect();
        self.keep_new(&target, after.uid_validity, new).await?;
        self.show_kept(&target, &uids).await;
        Ok(())
    }
}
