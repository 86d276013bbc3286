//! Whether messages are the ones that are meant, before anything makes them go.
//!
//! UIDVALIDITY unchanged is the rule of every server, and [`Inner::ready`] checks it. Where the provider gives message ids (X-GM-MSGID, EMAILID) they
//! are asked for as well: a server that gave a UID to another message, or a mirror that is wrong, must not cost a message.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::error;

use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::model::UidSet;
use crate::upstream::{FetchMeta, Items, Lease};

impl Inner {
    /// Compares the provider's ids of these messages of the selected mailbox with the mirror's. Where one differs nothing may be done by UID:
    /// the mirror of the mailbox is given up, to be read anew, and the sessions that have it selected end.
    pub(super) async fn check_identity(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        uids: &UidSet,
    ) -> Result<(), Error> {
        let snapshot = state.snapshot();
        let known: HashMap<u32, u64> = snapshot
            .messages
            .select(uids)
            .filter(|(_, message)| message.gm_msgid != 0)
            .map(|(_, message)| (message.uid.0, message.gm_msgid))
            .collect();
        if known.is_empty() || lease.caps().message_id_item().is_none() {
            return Ok(());
        }
        let asked: UidSet = known.keys().copied().collect();
        let mut strangers = UidSet::new();
        let mut compare = |meta: FetchMeta| {
            if let (Some(uid), Some(id)) = (meta.uid, meta.gm_msgid)
                && known.get(&uid.0).is_some_and(|known| *known != id)
            {
                strangers.insert(uid.0);
            }
        };
        lease.fetch_meta(&asked.to_string(), Items::Id, None, &mut compare).await?;
        if strangers.is_empty() {
            return Ok(());
        }
        error!(account = %self.label(), mailbox = %state.name, uids = %strangers,
            "other messages than the mirror's have these UIDs: nothing is done, and the mailbox is read anew");
        self.replace(state).await;
        Err(Error::Gone)
    }
}
