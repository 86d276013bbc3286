//! Writes: upstream first, answered from upstream's own outcome (Law 11).
//!
//! Every write runs in a task of its own, so that a client that goes away does not cut it in half. A connection lost in the middle is
//! settled by looking: what upstream then holds decides, and only what is seen not to have happened is asked for again.
//!
//! - `flags`: STORE · `expunge`: EXPUNGE and UID EXPUNGE · `copy`: COPY · `moves`: MOVE · `copies`: finding copies and taking them back ·
//!   `append`: APPEND, and `appended`: what follows it · `arrived`: whether an interrupted one was stored · `sent`: copies the provider files itself ·
//!   `filed`: whether a message is in a mailbox
//! - `identity`: whether messages are the ones that are meant · `undo`: taking back a MULTIAPPEND
//! - `settle`: telling what a write brought, where upstream did not say so · `unfinished`: the journal of writes of several steps ·
//!   `recover`: settling what stands there

mod append;
mod appended;
mod arrived;
mod copies;
mod copy;
mod expunge;
mod filed;
mod flags;
mod identity;
mod moves;
mod recover;
mod sent;
mod settle;
mod undo;
mod unfinished;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::info;

use super::account::Inner;
use super::error::Error;
use super::mailbox::{State, Turn, Watched};
use super::mirror::Delta;
use crate::model::UidSet;
use crate::upstream::{self, Class, Event, Lease};

pub use append::{Append, Appended};
pub use copy::{Copied, CopyMode};
pub use filed::Filed;
pub(super) use sent::Filer;
pub use sent::Unsent;
pub(super) use unfinished::Unfinished;

impl Inner {
    /// A session that has the mailbox selected, and it is the mailbox we mean (identity check before anything destructive).
    pub(crate) async fn ready(self: &Arc<Self>, state: &Arc<State>, class: Class) -> Result<Lease, Error> {
        let snapshot = state.snapshot();
        if snapshot.dead {
            return Err(Error::Gone);
        }
        let mut lease = self.pool.lease(class, Some(&state.name)).await?;
        let (validity, next) = (snapshot.uid_validity, snapshot.uid_next);
        let mut selected = lease.select_seeing(&state.name, validity, next).await;
        if matches!(selected, Err(upstream::Error::Lost { .. })) {
            // A session that died in the pool: nothing was asked of it yet, so another one is as good.
            drop(lease);
            lease = self.pool.lease(class, Some(&state.name)).await?;
            selected = lease.select_seeing(&state.name, validity, next).await;
        }
        let selected = selected?;
        if selected.uid_validity != snapshot.uid_validity {
            drop(lease);
            self.suspect(state);
            return Err(Error::Gone);
        }
        Ok(lease)
    }

    /// A mailbox was seen to have another UIDVALIDITY: a look finds the same and ends the sessions that have the old one selected.
    pub(crate) fn suspect(self: &Arc<Self>, state: &Arc<State>) {
        state.set_stale();
        drop(self.wish_look(state, Instant::now(), Class::Sync));
    }

    /// Brings a mailbox in step after a write that has ended: how it ended is known, and stays so if this cannot be done now.
    async fn look_again(self: &Arc<Self>, mut lease: Lease, state: &Arc<State>, turn: &mut Turn) {
        let looked = match self.sync_on(&mut lease, state, turn).await {
            Err(Error::Unavailable(_)) if !lease.is_usable() => {
                drop(lease);
                self.sync(state, turn).await
            }
            looked => looked,
        };
        if let Err(error) = looked {
            info!(account = %self.label(), mailbox = %state.name, %error, "what a write has changed is shown later");
            state.set_stale();
        }
    }

    /// Shows that these messages have gone, if upstream has named them in this session as it took them (VANISHED); else they are to be
    /// looked for. Whether it has.
    async fn show_gone(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        uids: &UidSet,
    ) -> bool {
        let vanished = lease.take_events().into_iter().filter_map(|event| match event {
            Event::Vanished(uids) => Some(uids),
            _ => None,
        });
        let named = vanished.fold(UidSet::new(), |all, uids| all.union(&uids));
        if !lease.has_qresync() || !uids.minus(&named).is_empty() {
            return false;
        }
        self.commit(state, turn, Delta { vanished: uids.clone(), ..Delta::default() }, None).await;
        true
    }

    /// Brings a mailbox that has just got messages in step, if it was ever read.
    pub(crate) async fn show_arrivals(self: &Arc<Self>, target: &Arc<State>) {
        target.set_stale();
        if target.is_known()
            && let Err(error) = self.freshen(target, Instant::now(), Class::Interactive).await
        {
            info!(account = %self.label(), mailbox = %target.name, %error, "new messages are shown later");
        }
    }

    /// The same if anybody looks at it. Nobody waits for what nobody sees: whoever opens it, or asks for its STATUS, has it looked at.
    async fn show_if_open(self: &Arc<Self>, target: &Arc<State>) {
        if target.interest.load(Ordering::Relaxed) > 0 || target.watched() != Watched::No {
            self.show_arrivals(target).await;
        } else {
            target.set_stale();
        }
    }
}

#[cfg(test)]
mod tests;
