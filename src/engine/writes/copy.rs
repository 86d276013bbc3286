//! COPY and MOVE (RFC 9051 §6.4.7, §6.4.8; RFC 6851).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::expunge::expunge_on;
use super::settle::{Window, matched};
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::engine::snapshot::Snapshot;
use crate::model::{FlagOp, Flags, SystemFlags, Uid, UidSet, UidValidity};
use crate::store::BodyKey;
use crate::upstream::{self, Class, CopyUid, Lease};

/// What copied messages became (COPYUID, RFC 4315 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub uid_validity: UidValidity,
    /// (source, destination), ascending by source.
    pub pairs: Vec<(Uid, Uid)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    Copy,
    Move,
}

impl Inner {
    pub(crate) async fn copy(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        to: &str,
        mode: CopyMode,
    ) -> Result<Option<Copied>, Error> {
        let to = self.resolve(to).await?;
        let (account, state, uids) = (Arc::clone(self), Arc::clone(state), uids.clone());
        self.run_to_end(async move {
            let snapshot = state.snapshot();
            let there: UidSet = snapshot.messages.select(&uids).map(|(_, message)| message.uid.0).collect();
            if there.is_empty() {
                return Ok(None);
            }
            let target = account.state(&to).await?;
            let window = Window::before(&target);
            let carry = account.begin_carry(&state, &target, &there).await?;
            let copied = match mode {
                CopyMode::Copy => account.copy_only(&state, &there, &target, &window).await,
                CopyMode::Move => account.move_only(&state, &there, &target, &window).await,
            };
            let keywords = account.end_carry(&state, carry).await;
            let copied = copied?.map(sorted);
            account.seen_upstream();
            account.carry_keywords(&snapshot, &target, copied.as_ref(), &window, &keywords).await;
            if let Some(copied) = &copied {
                account.carry_bodies(&state, &snapshot, &target, copied).await;
            }
            Ok(copied)
        })
        .await
    }

    async fn copy_only(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let mut lease = self.ready(state, Class::Interactive).await?;
        match lease.copy(uids, &target.name).await {
            Ok(copied) => Ok(copied),
            Err(upstream::Error::Lost { reason, sent: true }) => {
                warn!(account = %self.label(), mailbox = %state.name, %reason, "connection lost during COPY: looking");
                drop(lease);
                self.settle_copy(state, uids, target, window).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// After a connection was lost in a COPY: whether the copies are there, by size and internal date among what is new.
    async fn settle_copy(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let source = state.snapshot();
        self.freshen(target, Instant::now(), Class::Interactive).await?;
        let arrived = target.snapshot();
        let (found, pairs) =
            matched(source.messages.select(uids).map(|(_, message)| message), &window.arrivals(&arrived));
        if found as u64 == uids.len() {
            return Ok(pairs.map(|pairs| CopyUid { uid_validity: arrived.uid_validity, pairs }));
        }
        let lost = "The connection to the provider was lost while copying";
        Err(Error::Unavailable(match found {
            0 => format!("{lost}: nothing was copied"),
            some => format!("{lost}: {some} of {} messages were copied", uids.len()),
        }))
    }

    async fn move_only(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let mut turn = state.turn.lock().await;
        let mut lease = self.ready(state, Class::Interactive).await?;
        let before = state.snapshot();
        let moved = if lease.caps().has("MOVE") {
            lease.move_to(uids, &target.name).await
        } else {
            move_by_copy(&mut lease, uids, &target.name).await
        };
        match moved {
            Ok(moved) => {
                self.sync_on(&mut lease, state, &mut turn).await?;
                Ok(moved)
            }
            Err(upstream::Error::Lost { reason, .. }) => {
                warn!(account = %self.label(), mailbox = %state.name, %reason, "connection lost during MOVE: looking");
                drop(lease);
                self.sync(state, &mut turn).await?;
                drop(turn);
                self.settle_move(&before, state, uids, target, window).await
            }
            Err(error) => {
                // Some may have been moved before it was refused (RFC 6851 §3.3).
                self.sync_on(&mut lease, state, &mut turn).await?;
                Err(error.into())
            }
        }
    }

    /// After a connection was lost in a MOVE: what left the source has been moved; the rest stays where it is, unharmed.
    async fn settle_move(
        self: &Arc<Self>,
        before: &Snapshot,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let now = state.snapshot();
        let left: UidSet = now.messages.select(uids).map(|(_, message)| message.uid.0).collect();
        if left.is_empty() {
            self.freshen(target, Instant::now(), Class::Interactive).await?;
            let arrived = target.snapshot();
            let sources = before.messages.select(uids).map(|(_, message)| message);
            let (_, pairs) = matched(sources, &window.arrivals(&arrived));
            return Ok(pairs.map(|pairs| CopyUid { uid_validity: arrived.uid_validity, pairs }));
        }
        let moved = uids.len() - left.len();
        Err(Error::Unavailable(format!(
            "The connection to the provider was lost while moving: {moved} of {} messages were moved, the others are where they were",
            uids.len()
        )))
    }

    /// Shows the copies, with the keywords they had where they come from and upstream does not keep. Those go to their place before the
    /// copies are shown, unless the place is yet to be found.
    async fn carry_keywords(
        self: &Arc<Self>,
        before: &Snapshot,
        target: &Arc<State>,
        copied: Option<&Copied>,
        window: &Window,
        keywords: &BTreeMap<Uid, Flags>,
    ) {
        if keywords.is_empty() {
            return self.show_arrivals(target).await;
        }
        let uids = match copied {
            Some(copied) => {
                let uids = self.keep_copies(target, copied, keywords).await;
                self.show_arrivals(target).await;
                uids
            }
            None => {
                self.show_arrivals(target).await;
                let (arrived, wanted) = (target.snapshot(), keywords.keys().map(|uid| uid.0).collect());
                let sources = before.messages.select(&wanted).map(|(_, message)| message);
                let (_, pairs) = matched(sources, &window.arrivals(&arrived));
                let Some(pairs) = pairs else {
                    warn!(account = %self.label(), mailbox = %target.name, "which copy is which is not told: their keywords are lost");
                    return;
                };
                self.keep_copies(target, &Copied { uid_validity: arrived.uid_validity, pairs }, keywords).await
            }
        };
        self.show_kept(target, &uids).await;
    }

    /// Gives copies the bodies of what they were copied from.
    async fn carry_bodies(
        self: &Arc<Self>,
        source: &Arc<State>,
        before: &Snapshot,
        target: &Arc<State>,
        copied: &Copied,
    ) {
        let after = target.snapshot();
        if after.uid_validity != copied.uid_validity {
            return;
        }
        let keys = copied.pairs.iter().filter(|(_, to)| after.messages.get(*to).is_some());
        let keys: Vec<(BodyKey, BodyKey)> = keys
            .map(|(from, to)| {
                // Named outright: after a MOVE the source's snapshot does not hold them any more.
                (source.body_key(before, *from), target.body_key(&after, *to))
            })
            .filter(|(from, to)| from != to)
            .collect();
        // What cannot be carried is fetched when asked for.
        let _ = self.disk(move |store| store.alias(&keys)).await;
    }
}

/// MOVE where upstream has none: COPY, mark, expunge, in this order (RFC 6851 §3.3).
async fn move_by_copy(lease: &mut Lease, uids: &UidSet, to: &str) -> Result<Option<CopyUid>, upstream::Error> {
    let copied = lease.copy(uids, to).await?;
    lease.store(uids, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await?;
    expunge_on(lease, uids).await?;
    Ok(copied)
}

fn sorted(copied: CopyUid) -> Copied {
    let mut pairs = copied.pairs;
    pairs.sort_unstable();
    Copied { uid_validity: copied.uid_validity, pairs }
}
