//! MULTIAPPEND is all or nothing (RFC 3502 §6.3.11): what is to be taken back of one that fails, and taking it back.

use std::sync::Arc;

use tracing::{info, warn};

use super::append::Place;
use super::copies::select_for_write;
use super::identity::{Ids, told_ids};
use super::settle::{Fault, Window};
use super::unfinished::{Entry, Messages, Write};
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::model::{Uid, UidSet};
use crate::upstream::Class;

/// What stands in the journal of a MULTIAPPEND under way.
#[derive(Default)]
pub(super) struct Undo {
    pub(super) entry: Option<Entry>,
    /// What the provider calls the messages that are stored.
    pub(super) ids: Ids,
}

impl Undo {
    /// Writes down what is to be taken back if the others do not follow: at once, and with their ids when those are known.
    pub(super) async fn note(
        &mut self,
        account: &Arc<Inner>,
        target: &Arc<State>,
        ours: Messages,
    ) -> Result<(), Error> {
        if ours.uids.is_empty() {
            return Ok(());
        }
        self.write(account, ours.clone()).await?;
        let unnamed: UidSet = ours.uids.iter().filter(|uid| !self.ids.contains_key(uid)).collect();
        match account.ids_of(target, &ours, &unnamed).await {
            Ok(ids) if ids.is_empty() => Ok(()),
            Ok(ids) => {
                self.ids.extend(ids);
                self.write(account, ours).await
            }
            Err(fault) => {
                // Upstream has told their UIDs a moment ago; the ids are a second lock.
                let error = Error::from(fault);
                info!(account = %account.label(), mailbox = %target.name, %error, "the ids of messages of a MULTIAPPEND are not known");
                Ok(())
            }
        }
    }

    async fn write(&mut self, account: &Arc<Inner>, ours: Messages) -> Result<(), Error> {
        let write = Write::Append(ours.with_ids(self.ids.clone()));
        match &mut self.entry {
            Some(entry) => entry.change(write).await,
            None => {
                self.entry = Some(account.write_down(write).await?);
                Ok(())
            }
        }
    }
}

/// Those of which upstream told the UIDs, and which are new: Gmail names a message the account held before.
pub(super) fn ours(mailbox: &str, places: &[Place], window: &Window) -> Messages {
    let told = places.iter().filter_map(|place| match place {
        Place::Told(validity, Uid(uid)) if window.is_new(*validity, Uid(*uid)) => Some(*uid),
        Place::Told(..) | Place::Seen(..) | Place::Somewhere => None,
    });
    Messages::new(mailbox, window.begin().0, told.collect())
}

impl Inner {
    /// What the provider calls these, where it calls messages anything.
    async fn ids_of(&self, target: &State, stored: &Messages, uids: &UidSet) -> Result<Ids, Fault> {
        if uids.is_empty() {
            return Ok(Ids::new());
        }
        let mut lease = self.pool.lease(Class::Interactive, Some(&target.name)).await?;
        if lease.caps().message_id_item().is_none()
            || !select_for_write(&mut lease, &stored.mailbox, stored.uid_validity()).await?
        {
            return Ok(Ids::new());
        }
        Ok(told_ids(&mut lease, uids).await?)
    }

    /// Takes back messages of a MULTIAPPEND that failed later on. They are ours: we have been told their UIDs.
    pub(super) async fn take_back(self: &Arc<Self>, target: &Arc<State>, stored: &Messages) -> Result<(), Error> {
        let uids = &stored.uids;
        if uids.is_empty() {
            return Ok(());
        }
        if self.holds_the_only_copy(&target.name) {
            return Err(Error::Cannot("what is expunged there is gone for good".into()));
        }
        let taken = async {
            let mut lease = self.pool.lease(Class::Interactive, Some(&target.name)).await?;
            Ok::<_, Error>(self.expunge_copies(&mut lease, stored).await?)
        };
        let taken = taken.await;
        if let Err(error) = &taken {
            warn!(account = %self.label(), mailbox = %target.name, %uids, %error, "messages of a failed MULTIAPPEND are not taken back now");
        }
        self.show_arrivals(target).await;
        taken
    }
}
