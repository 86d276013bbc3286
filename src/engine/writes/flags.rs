//! STORE (RFC 9051 §6.4.6, RFC 7162 §3.1.3).

use std::sync::Arc;

use tracing::warn;

use crate::engine::account::Inner;
use crate::engine::error::Error;
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
            let modified = match lease.store(&todo, op, &flags, since).await {
                Ok((told, modified)) => {
                    account.commit_flags(&state, &mut turn, &todo.minus(&modified), op, &flags, told).await;
                    modified
                }
                Err(upstream::Error::Lost { reason, .. }) => {
                    warn!(account = %account.label(), mailbox = %state.name, %reason, "connection lost during STORE: looking");
                    drop(lease);
                    account.settle_flags(&state, &mut turn, &todo, op, &flags).await?;
                    UidSet::new()
                }
                Err(error) => return Err(error.into()),
            };
            account.seen_upstream();
            Ok(failed.union(&modified))
        })
        .await
    }

    /// Takes over the flags upstream told; for a message it said nothing of but OK, the flags it was told to have.
    async fn commit_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        stored: &UidSet,
        op: FlagOp,
        flags: &Flags,
        told: Vec<FetchMeta>,
    ) {
        let snapshot = state.snapshot();
        let named: UidSet =
            told.iter().filter(|meta| meta.flags.is_some()).filter_map(|meta| meta.uid.map(|uid| uid.0)).collect();
        let silent = stored.minus(&named);
        let computed = snapshot.messages.select(&silent).map(|(_, message)| FetchMeta {
            uid: Some(message.uid),
            flags: Some(message.flags.apply(op, flags)),
            ..FetchMeta::default()
        });
        let mut seen: Vec<FetchMeta> = computed.collect();
        // Only messages we hold: a new one is for the next look, which asks for all of it.
        seen.extend(told.into_iter().filter(|meta| meta.uid.is_some_and(|uid| snapshot.messages.get(uid).is_some())));
        self.commit(state, turn, Delta { seen, ..Delta::default() }, None).await;
    }

    /// After a connection was lost in a STORE: looks, and stores what is seen not to be stored.
    async fn settle_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        todo: &UidSet,
        op: FlagOp,
        flags: &Flags,
    ) -> Result<(), Error> {
        let mut lease = self.ready(state, Class::Interactive).await?;
        self.sync_on(&mut lease, state, turn).await?;
        let snapshot = state.snapshot();
        let undone =
            snapshot.messages.select(todo).filter(|(_, message)| message.flags.apply(op, flags) != message.flags);
        let undone: UidSet = undone.map(|(_, message)| message.uid.0).collect();
        if undone.is_empty() {
            return Ok(());
        }
        let (told, _) = lease.store(&undone, op, flags, None).await?;
        self.commit_flags(state, turn, &undone, op, flags, told).await;
        Ok(())
    }
}
