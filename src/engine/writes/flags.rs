//! STORE (RFC 9051 §6.4.6, RFC 7162 §3.1.3).

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;

use super::settle::Fault;
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::keywords::{Share, permanent};
use crate::engine::mailbox::{State, Turn};
use crate::engine::mirror::Delta;
use crate::engine::snapshot::Snapshot;
use crate::engine::sync::plan::Ladder;
use crate::engine::sync::window;
use crate::model::{FlagOp, Flags, ModSeq, Uid, UidSet};
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
                since = account.condition(&lease, &turn);
            }
            let snapshot = state.snapshot();
            let there: UidSet = snapshot.messages.select(&uids).map(|(_, message)| message.uid.0).collect();
            let hidden = state.hidden(&there);
            let todo = there.minus(&failed).minus(&hidden);
            if todo.is_empty() {
                return if hidden.is_empty() { Ok(failed) } else { Err(window::hidden()) };
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
                Err(error) => match Fault::from(error) {
                    Fault::Refused(error) => {
                        // Some of it may have been stored all the same: in another piece of a long set, or of this one before it was
                        // refused. Nobody else will tell us of that.
                        account.look_again(lease, &state, &mut turn).await;
                        return Err(error);
                    }
                    Fault::Lost(reason) => {
                        warn!(account = %account.label(), mailbox = %state.name, reason, "connection lost during STORE: looking");
                        drop(lease);
                        let before = unchanged_since.map(|_| snapshot);
                        account.settle_flags(&state, &mut turn, &todo, op, &share, before).await?
                    }
                },
            };
            account.seen_upstream();
            if hidden.is_empty() { Ok(failed.union(&modified)) } else { Err(window::hidden()) }
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

    /// After a connection was lost in a STORE: looks, and stores what is seen not to be stored. With a condition (RFC 7162 §3.1.3) `before` is
    /// what was there when it was tested: a message that has changed since, and not just as we meant it to, was changed by somebody
    /// else, and fails the condition. Gives those.
    async fn settle_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        todo: &UidSet,
        op: FlagOp,
        share: &Share,
        before: Option<Arc<Snapshot>>,
    ) -> Result<UidSet, Error> {
        let mut lease = self.ready(state, Class::Interactive).await?;
        self.sync_on(&mut lease, state, turn).await?;
        let (mut undone, mut modified) = (UidSet::new(), UidSet::new());
        // Upstream's part alone: what is kept here has not been touched yet.
        let known: BTreeMap<Uid, Flags> = match &before {
            Some(before) => self.bare_flags(state, before, todo).await.into_iter().collect(),
            None => BTreeMap::new(),
        };
        for (uid, now) in self.bare_flags(state, &state.snapshot(), todo).await {
            match settled(known.get(&uid), &now, op, &share.upstream) {
                Settled::Done => {}
                Settled::Undone => undone.insert(uid.0),
                Settled::Modified => modified.insert(uid.0),
            }
        }
        let mut told = Vec::new();
        if !undone.is_empty() {
            let since = before.and_then(|_| self.condition(&lease, turn));
            let (stored, late) = lease.store(&undone, op, &share.upstream, since).await?;
            told = stored;
            modified = modified.union(&late);
        }
        self.commit_flags(state, turn, &todo.minus(&modified), op, share, told).await?;
        Ok(modified)
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
