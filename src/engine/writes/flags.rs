//! STORE (RFC 9051 §6.4.6, RFC 7162 §3.1.3).

use std::sync::Arc;

use tracing::warn;

use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::keywords::{Share, permanent};
use crate::engine::mailbox::{State, Turn};
use crate::engine::mirror::Delta;
use crate::engine::sync::plan::Ladder;
use crate::model::{FlagOp, Flags, ModSeq, UidSet};
use crate::upstream::{self, Class, FetchMeta};

impl Inner {
    pub(crate) async fn store_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<UidSet, Error> {
        let (account, state, uids, flags) = (Arc::clone(self), Arc::clone(state), uids.clone(), flags.clone());
        self.run_to_end(async move {
            account.settle_left(&[&state.name]).await?;
            let mut turn = state.turn.lock().await;
            if unchanged_since.is_none() && account.store_here(&state, &mut turn, &uids, op, &flags).await? {
                return Ok(UidSet::new());
            }
            let mut lease = account.ready(&state, Class::Interactive).await?;
            let mut failed = UidSet::new();
            let mut since = None;
            if let Some(unchanged_since) = unchanged_since {
                // The test is against what is true upstream now, not against what we heard last.
                account.sync_on(&mut lease, &state, &mut turn).await?;
                let snapshot = state.snapshot();
                let newer = snapshot.messages.select(&uids).filter(|(_, message)| message.modseq > unchanged_since);
                failed = newer.map(|(_, message)| message.uid.0).collect();
                let keeps = Ladder::of(lease.caps()) != Ladder::Bare && turn.upstream_modseq > 0;
                since = keeps.then_some(turn.upstream_modseq);
            }
            let snapshot = state.snapshot();
            let there: UidSet = snapshot.messages.select(&uids).map(|(_, message)| message.uid.0).collect();
            let todo = there.minus(&failed);
            if todo.is_empty() {
                return Ok(failed);
            }
            let keeps = match lease.selected() {
                Some((_, selected)) if !selected.read_only => selected.permanent_flags.as_deref().and_then(permanent),
                // Refused by upstream itself, all of it.
                _ => None,
            };
            let share = account.share(&state, &todo, op, &flags, keeps.as_ref()).await?;
            let stored = match share.goes_up {
                true => lease.store(&todo, op, &share.upstream, since).await,
                false => Ok((Vec::new(), UidSet::new())),
            };
            let modified = match stored {
                Ok((told, modified)) => {
                    account.commit_flags(&state, &mut turn, &todo.minus(&modified), op, &share, told).await?;
                    modified
                }
                Err(upstream::Error::Lost { reason, .. }) => {
                    warn!(account = %account.label(), mailbox = %state.name, %reason, "connection lost during STORE: looking");
                    drop(lease);
                    account.settle_flags(&state, &mut turn, &todo, op, &share).await?;
                    UidSet::new()
                }
                Err(error) => return Err(error.into()),
            };
            account.seen_upstream();
            Ok(failed.union(&modified))
        })
        .await
    }

    /// A STORE of nothing but keywords that upstream does not keep needs no session there; whether it was one.
    async fn store_here(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
    ) -> Result<bool, Error> {
        let snapshot = state.snapshot();
        let Some(permanent) = snapshot.permanent.as_ref().filter(|_| !snapshot.read_only) else { return Ok(false) };
        if snapshot.dead {
            return Err(Error::Gone);
        }
        let there: UidSet = snapshot.messages.select(uids).map(|(_, message)| message.uid.0).collect();
        let share = self.share(state, &there, op, flags, Some(permanent)).await?;
        if !share.goes_up {
            self.commit_flags(state, turn, &there, op, &share, Vec::new()).await?;
        }
        Ok(!share.goes_up)
    }

    /// Takes over the flags upstream told; for a message it said nothing of but OK, the flags it was told to have. Then commits what is
    /// kept here; if that fails, what upstream has done is shown all the same.
    async fn commit_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        stored: &UidSet,
        op: FlagOp,
        share: &Share,
        told: Vec<FetchMeta>,
    ) -> Result<(), Error> {
        let snapshot = state.snapshot();
        let named: UidSet =
            told.iter().filter(|meta| meta.flags.is_some()).filter_map(|meta| meta.uid.map(|uid| uid.0)).collect();
        let silent = stored.minus(&named);
        let computed = self.bare_flags(state, &snapshot, &silent).await.into_iter().map(|(uid, flags)| FetchMeta {
            uid: Some(uid),
            flags: Some(if share.goes_up { flags.apply(op, &share.upstream) } else { flags }),
            ..FetchMeta::default()
        });
        let mut seen: Vec<FetchMeta> = computed.collect();
        let kept = self.keep_stored(state, stored, op, &share.here).await;
        // Only messages we hold: a new one is for the next look, which asks for all of it.
        seen.extend(told.into_iter().filter(|meta| meta.uid.is_some_and(|uid| snapshot.messages.get(uid).is_some())));
        self.commit(state, turn, Delta { seen, ..Delta::default() }, None).await;
        kept
    }

    /// After a connection was lost in a STORE: looks, and stores what is seen not to be stored.
    async fn settle_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        todo: &UidSet,
        op: FlagOp,
        share: &Share,
    ) -> Result<(), Error> {
        let mut lease = self.ready(state, Class::Interactive).await?;
        self.sync_on(&mut lease, state, turn).await?;
        let snapshot = state.snapshot();
        let bare = self.bare_flags(state, &snapshot, todo).await;
        let undone = bare.iter().filter(|(_, flags)| flags.apply(op, &share.upstream) != *flags);
        let undone: UidSet = undone.map(|(uid, _)| uid.0).collect();
        let told = match undone.is_empty() {
            true => Vec::new(),
            false => lease.store(&undone, op, &share.upstream, None).await?.0,
        };
        self.commit_flags(state, turn, todo, op, share, told).await
    }
}
