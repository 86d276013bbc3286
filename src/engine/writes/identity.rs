//! Whether messages are the ones that are meant, before anything makes them go.
//!
//! UIDVALIDITY unchanged is the rule of every server, and [`Inner::ready`] checks it. Where the provider gives message ids (X-GM-MSGID, EMAILID) they
//! are asked for as well: a server that gave a UID to another message, or a mirror that is wrong, must not cost a message. What is
//! settled later has its ids in the journal: the mirror that is read after a crash agrees with anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::error;

use super::unfinished::Messages;
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::engine::snapshot::Snapshot;
use crate::model::UidSet;
use crate::upstream::{self, FetchMeta, Items, Lease};

/// The provider's ids by UID, of those that have one.
pub(super) type Ids = BTreeMap<u32, u64>;

/// As the mirror knows them.
pub(super) fn ids(snapshot: &Snapshot, uids: &UidSet) -> Ids {
    let known = snapshot.messages.select(uids).filter(|(_, message)| message.gm_msgid != 0);
    known.map(|(_, message)| (message.uid.0, message.gm_msgid)).collect()
}

impl Inner {
    /// Compares the provider's ids of these messages of the selected mailbox with the mirror's. Where one differs nothing may be done by UID:
    /// the mirror of the mailbox is given up, to be read anew, and the sessions that have it selected end.
    pub(super) async fn check_identity(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        uids: &UidSet,
    ) -> Result<(), Error> {
        let known = ids(&state.snapshot(), uids);
        let strangers = strangers(lease, &known).await?;
        if strangers.is_empty() {
            return Ok(());
        }
        error!(account = %self.label(), mailbox = %state.name, uids = %strangers,
            "other messages than the mirror's have these UIDs: nothing is done, and the mailbox is read anew");
        self.replace(state).await;
        Err(Error::Gone)
    }

    /// The same with the ids that were written down when a write began, of those of its messages that it is about now.
    pub(super) async fn check_written(
        &self,
        lease: &mut Lease,
        messages: &Messages,
        uids: &UidSet,
    ) -> Result<(), upstream::Error> {
        let mut known = messages.ids.clone();
        known.retain(|uid, _| uids.contains(*uid));
        self.check_ids(lease, &messages.mailbox, &known).await
    }

    /// Compares the provider's ids of messages of the selected mailbox with these. Where one differs the write that is about them is at its
    /// end: [`upstream::Error::Replaced`], as if the mailbox were another.
    pub(super) async fn check_ids(&self, lease: &mut Lease, mailbox: &str, known: &Ids) -> Result<(), upstream::Error> {
        let strangers = strangers(lease, known).await?;
        if strangers.is_empty() {
            return Ok(());
        }
        error!(account = %self.label(), mailbox, uids = %strangers,
            "other messages than those a write was about have these UIDs now: nothing is done to them");
        Err(upstream::Error::Replaced)
    }
}

/// The ids of these messages of the selected mailbox as upstream tells them, where it gives any.
pub(super) async fn told_ids(lease: &mut Lease, uids: &UidSet) -> Result<Ids, upstream::Error> {
    let mut told = Ids::new();
    if uids.is_empty() || lease.caps().message_id_item().is_none() {
        return Ok(told);
    }
    let mut note = |meta: FetchMeta| {
        if let (Some(uid), Some(id)) = (meta.uid, meta.gm_msgid)
            && uids.contains(uid.0)
        {
            told.insert(uid.0, id);
        }
    };
    lease.fetch_meta(&uids.to_string(), Items::Id, None, &mut note).await?;
    Ok(told)
}

/// Those that have another id than this one.
async fn strangers(lease: &mut Lease, known: &Ids) -> Result<UidSet, upstream::Error> {
    let told = told_ids(lease, &known.keys().copied().collect()).await?;
    Ok(told.iter().filter(|(uid, id)| known.get(uid).is_some_and(|known| known != *id)).map(|(uid, _)| *uid).collect())
}
