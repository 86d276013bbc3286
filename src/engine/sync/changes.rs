//! What has changed in a mailbox since it was last looked at: asked for as the plan says, and committed.
//!
//! With the mailbox's turn held, as all of [`super::run`].

use std::sync::Arc;

use tokio::time::Instant;

use super::plan::{FlagsPlan, RECENT};
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::{State, Turn};
use crate::engine::mirror::Delta;
use crate::engine::snapshot::Snapshot;
use crate::model::{Uid, UidSet};
use crate::upstream::{FetchMeta, Items, Lease, Selected};

impl Inner {
    pub(super) async fn read_changes(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        selected: &Selected,
        flags: FlagsPlan,
        new_from: Option<Uid>,
    ) -> Result<(), Error> {
        let old = state.snapshot();
        let mut delta = Delta {
            seen: selected.changed.clone(),
            vanished: selected.vanished.clone(),
            uid_next: Some(selected.uid_next),
        };
        match flags {
            FlagsPlan::Known => {}
            FlagsPlan::Since(modseq) => {
                let told =
                    lease.fetch_meta("1:*", Items::Flags, Some(modseq), &mut |meta| delta.seen.push(meta)).await?;
                delta.vanished = delta.vanished.union(&told);
            }
            FlagsPlan::From(uid) => {
                if !old.messages.is_empty() {
                    let set = format!("{uid}:*");
                    lease.fetch_meta(&set, Items::Flags, None, &mut |meta| delta.seen.push(meta)).await?;
                }
                if uid <= Uid(1) || old.messages.len() <= RECENT {
                    turn.swept = Some(Instant::now());
                }
            }
        }
        if let Some(from) = new_from
            && exists(lease) > 0
        {
            let set = format!("{from}:*");
            lease.fetch_meta(&set, Items::All, None, &mut |meta| delta.seen.push(meta)).await?;
        }
        let mut wanting = wanting(&old, &delta.seen);
        if count_after(&old, &delta) != exists(lease) {
            let all = lease.search_uids().await?;
            if all.len() == u64::from(exists(lease)) {
                let have = old.messages.uids();
                delta.vanished = delta.vanished.union(&have.minus(&all));
                let full: UidSet = delta.seen.iter().filter(|meta| meta.size.is_some()).filter_map(uid_of).collect();
                wanting = wanting.union(&all.minus(&have).minus(&full));
            }
        }
        if !wanting.is_empty() {
            lease.fetch_meta(&wanting.to_string(), Items::All, None, &mut |meta| delta.seen.push(meta)).await?;
        }
        turn.upstream_modseq = selected.highest_modseq;
        self.commit(state, turn, delta, Some(selected)).await;
        Ok(())
    }
}

/// EXISTS as it stands now, which may differ from what SELECT said.
pub(super) fn exists(lease: &Lease) -> u32 {
    lease.selected().map_or(0, |(_, selected)| selected.exists)
}

fn uid_of(meta: &FetchMeta) -> Option<u32> {
    meta.uid.map(|uid| uid.0)
}

/// UIDs that are news to us and of which date and size were not told.
fn wanting(old: &Snapshot, seen: &[FetchMeta]) -> UidSet {
    let full: UidSet = seen.iter().filter(|meta| meta.size.is_some()).filter_map(uid_of).collect();
    let partly = seen.iter().filter(|meta| meta.size.is_none()).filter_map(uid_of);
    partly.filter(|uid| old.messages.get(Uid(*uid)).is_none() && !full.contains(*uid)).collect()
}

/// How many messages there are after the delta, counting those still wanting.
fn count_after(old: &Snapshot, delta: &Delta) -> u32 {
    let gone = old.messages.select(&delta.vanished).count() as u32;
    let new: UidSet = delta
        .seen
        .iter()
        .filter_map(uid_of)
        .filter(|uid| old.messages.get(Uid(*uid)).is_none() && !delta.vanished.contains(*uid))
        .collect();
    old.messages.len() - gone + new.len() as u32
}
