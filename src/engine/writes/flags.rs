//! STORE (RFC 9051 §6.4.6, RFC 7162 §3.1.3).

use std::sync::Arc;

use tracing::warn;

use super::settle::Fault;
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::{State, Turn};
use crate::engine::mirror::Delta;
use crate::engine::snapshot::Snapshot;
use crate::engine::sync::plan::Ladder;
use crate::model::{FlagOp, Flags, ModSeq, UidSet};
use crate::upstream::{Class, FetchMeta, Lease};

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
                since = account.condition(&lease, &turn);
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
                Err(error) => match Fault::from(error) {
                    Fault::Refused(error) => return Err(error),
                    Fault::Lost(reason) => {
                        warn!(account = %account.label(), mailbox = %state.name, reason, "connection lost during STORE: looking");
                        drop(lease);
                        let before = unchanged_since.map(|_| snapshot);
                        account.settle_flags(&state, &mut turn, &todo, op, &flags, before).await?
                    }
                },
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

    /// After a connection was lost in a STORE: looks, and stores what is seen not to be stored. With a condition (RFC 7162 §3.1.3) `before` is
    /// what was there when it was tested: a message that has changed since, and not just as we meant it to, was changed by somebody
    /// else, and fails the condition. Gives those.
    async fn settle_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        todo: &UidSet,
        op: FlagOp,
        flags: &Flags,
        before: Option<Arc<Snapshot>>,
    ) -> Result<UidSet, Error> {
        let mut lease = self.ready(state, Class::Interactive).await?;
        self.sync_on(&mut lease, state, turn).await?;
        let (mut undone, mut modified) = (UidSet::new(), UidSet::new());
        for (_, message) in state.snapshot().messages.select(todo) {
            let known = before.as_ref().and_then(|before| before.messages.get(message.uid)).map(|known| &known.flags);
            match settled(known, &message.flags, op, flags) {
                Settled::Done => {}
                Settled::Undone => undone.insert(message.uid.0),
                Settled::Modified => modified.insert(message.uid.0),
            }
        }
        if undone.is_empty() {
            return Ok(modified);
        }
        let since = before.and_then(|_| self.condition(&lease, turn));
        let (told, late) = lease.store(&undone, op, flags, since).await?;
        self.commit_flags(state, turn, &undone.minus(&late), op, flags, told).await;
        Ok(modified.union(&late))
    }

    /// What UNCHANGEDSINCE is asked of upstream right after a look, where it keeps mod-sequences.
    fn condition(&self, lease: &Lease, turn: &Turn) -> Option<u64> {
        let keeps = Ladder::of(lease.caps()) != Ladder::Bare && turn.upstream_modseq > 0;
        keeps.then_some(turn.upstream_modseq)
    }
}

/// What became of a STORE whose answer was lost, for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Done,
    Undone,
    /// Somebody else has changed it.
    Modified,
}

/// `before`: the flags when the condition was tested; `None` without a condition.
fn settled(before: Option<&Flags>, now: &Flags, op: FlagOp, flags: &Flags) -> Settled {
    let is_stored = now.apply(op, flags) == *now;
    match before {
        None if is_stored => Settled::Done,
        None => Settled::Undone,
        Some(before) if before.apply(op, flags) == *now => Settled::Done,
        Some(before) if before == now => Settled::Undone,
        // Perhaps ours was stored as well. Told so, the client looks and asks again; told OK, it would believe what it did not see.
        Some(_) => Settled::Modified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_has_changed_fails_the_condition() {
        use FlagOp::{Add, Remove, Replace};
        let table = [
            (None, "", Add, "\\Seen", Settled::Undone),
            (None, "\\Seen a", Add, "\\Seen", Settled::Done),
            (None, "\\Seen a", Replace, "\\Seen", Settled::Undone),
            (Some(""), "", Add, "\\Seen", Settled::Undone),
            (Some(""), "\\Seen", Add, "\\Seen", Settled::Done),
            (Some(""), "\\Seen a", Add, "\\Seen", Settled::Modified),
            (Some(""), "a", Add, "\\Seen", Settled::Modified),
            (Some("a"), "a", Add, "a", Settled::Done),
            (Some("a b"), "b", Remove, "a", Settled::Done),
            (Some("a b"), "a b", Remove, "a", Settled::Undone),
            (Some("a b"), "", Remove, "a", Settled::Modified),
            (Some("a b"), "c", Replace, "c", Settled::Done),
            (Some("a b"), "a", Replace, "c", Settled::Modified),
        ];
        let parse = |text: &str| Flags::parse(text.split(' ').filter(|flag| !flag.is_empty()));
        for (before, now, op, flags, want) in table {
            let got = settled(before.map(parse).as_ref(), &parse(now), op, &parse(flags));
            assert_eq!(got, want, "{before:?} {now} {op:?} {flags}");
        }
    }
}
