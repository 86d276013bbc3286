//! The one way a mailbox of the mirror changes, and how it ends (Law 1).

use std::sync::{Arc, PoisonError};

use super::facts::lay_facts;
use crate::engine::account::{Inner, LONG_CALL, now_ms};
use crate::engine::mailbox::{State, Turn};
use crate::engine::mirror::{self, Delta};
use crate::engine::snapshot::Snapshot;
use crate::model::MessageMeta;
use crate::store::MailboxRecord;
use crate::upstream::Selected;

impl Inner {
    /// The one way a mailbox changes: handed to the store, then mirror, then publish (Law 1). Nobody waits for the store but the next
    /// commit of the mailbox: so the store takes commits in their order and is one behind at most, and a crash costs it no more than
    /// what it had not flushed. A store that fails costs time after the next start, never correctness: the mirror goes on and the
    /// store is written anew at the next commit.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        mut delta: Delta,
        facts: Option<&Selected>,
    ) {
        let storing = Arc::clone(&state.storing).lock_owned().await;
        let old = state.snapshot();
        let mut local = state.local.lock().await;
        local.overlay.enter(old.uid_validity);
        local.overlay.lay(&mut delta.seen);
        let merged = mirror::merge(&old, delta, now_ms());
        let left = old.messages.len() - merged.vanished.len() as u32;
        let arrived = merged.snapshot.as_ref().is_some_and(|next| next.messages.len() > left);
        let changed = merged.snapshot.is_some();
        let mut next = merged.snapshot.unwrap_or_else(|| (*old).clone());
        let facts_changed = facts.is_some_and(|selected| lay_facts(&mut next, selected));
        let record = record(&next, turn);
        let id = state.id();
        let behind = state.take_store_lost();
        let (mut upserts, vanished) = (merged.upserts, merged.vanished.clone());
        let mut everything: Vec<MessageMeta> =
            if behind { next.messages.iter().cloned().collect() } else { Vec::new() };
        local.overlay.strip(&mut upserts);
        local.overlay.strip(&mut everything);
        drop(local);
        let (account, of) = (Arc::clone(self), Arc::clone(state));
        self.tasks.spawn(async move {
            let stored = account
                .disk_within(LONG_CALL, move |store| {
                    // Bodies of what vanished stay: a MOVE takes them along, and the sweep clears away what nobody has.
                    if behind {
                        store.replace(id, &everything, &record)
                    } else {
                        store.commit(id, &upserts, &vanished, &record)
                    }
                })
                .await;
            if stored.is_err() {
                of.set_store_lost();
            }
            drop(storing);
        });
        self.forget_keywords(state, &merged.vanished).await;
        if !changed && !facts_changed {
            return;
        }
        let mut log = state.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(next.highest_modseq, merged.vanished);
        drop(log);
        state.publish(next);
        if arrived {
            self.mail_arrived();
        }
    }

    /// Ends a mailbox state whose UIDs mean nothing any more; the next open begins a new one.
    pub(crate) async fn replace(self: &Arc<Self>, state: &Arc<State>) {
        // Nobody may read the old rows between the end of the state and theirs.
        let _loading = self.loading.lock().await;
        self.forget(state);
        let _storing = state.storing.lock().await;
        let id = state.id();
        // A failure is told by `disk`; the stale record disagrees with upstream's UIDVALIDITY and is never believed.
        let _ = self.disk_within(LONG_CALL, move |store| store.clear(id)).await;
    }
}

pub(crate) fn record(snapshot: &Snapshot, turn: &Turn) -> MailboxRecord {
    MailboxRecord {
        name: snapshot.name.to_string(),
        uid_validity: snapshot.uid_validity,
        uid_next: snapshot.uid_next,
        highest_modseq: snapshot.highest_modseq,
        upstream_modseq: turn.upstream_modseq,
        exists: snapshot.messages.len(),
        read_only: snapshot.read_only,
        permanent: snapshot.permanent.as_ref().map(ToString::to_string),
    }
}
