//! CREATE, DELETE, RENAME, SUBSCRIBE: upstream first, then the list of mailboxes is asked for again.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::account::Inner;
use super::error::Error;
use super::folders::canonical;
use crate::model::Role;
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
            changing.lease.delete(&name).await?;
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

    /// RENAME (RFC 9051 §6.3.6). The cache moves along, and keywords kept here, children too. INBOX stays and is emptied: its messages
    /// get new UIDs, and their keywords are lost.
    pub(crate) async fn rename(self: &Arc<Self>, from: &str, to: &str) -> Result<(), Error> {
        let (account, from, to) = (Arc::clone(self), canonical(from), canonical(to));
        self.run_to_end(async move {
            let before = account.folders.newest();
            // Of its children too: they get new names.
            let names = before.iter().flat_map(|before| &before.list).map(|folder| &*folder.name);
            let concerned: Vec<&str> = names.filter(|name| name.starts_with(&*from)).chain([&*from]).collect();
            account.settle_left(&concerned).await?;
            let mut changing = account.change_folders().await?;
            changing.lease.rename(&from, &to).await?;
            // The lease goes with it: what follows takes turns (turn before lease, never the other way round).
            let changed = account.list_changed(changing).await;
            if from == "INBOX" {
                account.take_changed(changed).await;
                if let Some(inbox) = account.known_state("INBOX") {
                    // Upstream has renamed it, whatever the look finds: where INBOX got a new UIDVALIDITY (Dovecot), the old one is
                    // dead now and the sessions that have it selected hear of it.
                    match account.freshen(&inbox, Instant::now(), Class::Interactive).await {
                        Ok(()) | Err(Error::Gone) => {}
                        Err(error) => {
                            warn!(account = %account.label(), %error, "INBOX cannot be looked at after its renaming")
                        }
                    }
                }
                return Ok(());
            }
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
}
