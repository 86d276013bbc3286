//! EXPUNGE and UID EXPUNGE (RFC 9051 §6.4.3, §6.4.9), on upstreams with and without UIDPLUS.

use std::sync::Arc;

use tracing::warn;

use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::engine::snapshot::Snapshot;
use crate::model::{FlagOp, Flags, SystemFlags, UidSet};
use crate::upstream::{self, Class, Lease};

impl Inner {
    pub(crate) async fn expunge(self: &Arc<Self>, state: &Arc<State>, only: Option<&UidSet>) -> Result<(), Error> {
        let (account, state, only) = (Arc::clone(self), Arc::clone(state), only.cloned());
        self.run_to_end(async move {
            let mut turn = state.turn.lock().await;
            let mut lease = account.ready(&state, Class::Interactive).await?;
            account.sync_on(&mut lease, &state, &mut turn).await?;
            let target = deleted(&state.snapshot(), only.as_ref());
            if target.is_empty() {
                return Ok(());
            }
            match expunge_on(&mut lease, &target).await {
                Ok(()) => {}
                Err(upstream::Error::Lost { reason, .. }) => {
                    warn!(account = %account.label(), mailbox = %state.name, %reason, "connection lost during EXPUNGE: looking");
                    drop(lease);
                    lease = account.ready(&state, Class::Interactive).await?;
                    account.sync_on(&mut lease, &state, &mut turn).await?;
                    // Still there, still \Deleted, and still what the client asked to be rid of.
                    let left = deleted(&state.snapshot(), Some(&target));
                    if !left.is_empty() {
                        expunge_on(&mut lease, &left).await?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            account.sync_on(&mut lease, &state, &mut turn).await?;
            account.seen_upstream();
            Ok(())
        })
        .await
    }
}

/// UIDs marked `\Deleted`, of all or of some.
fn deleted(snapshot: &Snapshot, only: Option<&UidSet>) -> UidSet {
    let marked = snapshot.messages.iter().filter(|message| message.flags.has(SystemFlags::DELETED));
    marked.map(|message| message.uid.0).filter(|uid| only.is_none_or(|only| only.contains(*uid))).collect()
}

/// Expunges just these, on upstreams with and without UIDPLUS.
pub(super) async fn expunge_on(lease: &mut Lease, target: &UidSet) -> Result<(), upstream::Error> {
    if lease.caps().has("UIDPLUS") {
        return lease.uid_expunge(target).await;
    }
    // Plain EXPUNGE takes everything that is \Deleted, also what others have marked and our last look did not cover: upstream itself is
    // asked, and what is not meant is spared for the moment (Law 10).
    let spared = lease.search(b"DELETED").await?.minus(target);
    let mark = Flags::new(SystemFlags::DELETED, []);
    if !spared.is_empty() {
        lease.store(&spared, FlagOp::Remove, &mark, None).await?;
    }
    let done = lease.expunge().await;
    if !spared.is_empty() {
        lease.store(&spared, FlagOp::Add, &mark, None).await?;
    }
    done
}
