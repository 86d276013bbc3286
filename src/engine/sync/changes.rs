//! What has changed in a mailbox since it was last looked at: asked for as the plan says, and committed.
//!
//! With the mailbox's turn held, as all of [`super::run`].

use std::sync::Arc;

use tokio::time::Instant;

use super::listing::fetch_from;
use super::plan::{FlagsPlan, RECENT};
use super::window::Shown;
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
                    fetch_from(lease, Uid(1), Items::Flags, Some(modseq), &mut |meta| delta.seen.push(meta)).await?;
                delta.vanished = delta.vanished.union(&told);
            }
            FlagsPlan::From(uid) => {
                if !old.messages.is_empty() {
                    fetch_from(lease, uid, Items::Flags, None, &mut |meta| delta.seen.push(meta)).await?;
                }
                if uid <= Uid(1) || old.messages.len() <= RECENT {
                    turn.swept = Some(Instant::now());
                }
            }
        }
        if let Some(from) = new_from
            && exists(lease) > 0
        {
            fetch_from(lease, from, Items::All, None, &mut |meta| delta.seen.push(meta)).await?;
        }
        let mut wanting = wanting(&old, &delta.seen);
        let shown = self.shown(lease, state, turn, selected, &old).await?;
        if let Shown::From(lowest) = shown {
            delta.vanished = delta.vanished.intersect(&from(lowest));
        } else {
            delta.vanished = UidSet::new();
        }
        if let Shown::From(lowest) = shown
            && count_after(&old, &delta, lowest) != exists(lease)
            && let Some(all) = self.list_uids(lease, state, turn).await?
        {
            // More may have fallen out of what is shown while it was listed.
            let lowest = if lowest > Uid(1) { Uid(all.min().unwrap_or(u32::MAX)).max(lowest) } else { lowest };
            let have = old.messages.uids().intersect(&from(lowest));
            delta.vanished = delta.vanished.union(&have.minus(&all));
            let full: UidSet = delta.seen.iter().filter(|meta| meta.size.is_some()).filter_map(uid_of).collect();
            wanting = wanting.union(&all.minus(&old.messages.uids()).minus(&full));
        }
        for part in lease.portions(&wanting) {
            lease.fetch_meta(&part.to_string(), Items::All, None, &mut |meta| delta.seen.push(meta)).await?;
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

pub(super) fn uid_of(meta: &FetchMeta) -> Option<u32> {
    meta.uid.map(|uid| uid.0)
}

/// UIDs that are news to us and of which date and size were not told.
fn wanting(old: &Snapshot, seen: &[FetchMeta]) -> UidSet {
    let full: UidSet = seen.iter().filter(|meta| meta.size.is_some()).filter_map(uid_of).collect();
    let partly = seen.iter().filter(|meta| meta.size.is_none()).filter_map(uid_of);
    partly.filter(|uid| old.messages.get(Uid(*uid)).is_none() && !full.contains(*uid)).collect()
}

/// All UIDs from this one on.
fn from(lowest: Uid) -> UidSet {
    let mut all = UidSet::new();
    all.insert_range(lowest.0.max(1)..=u32::MAX);
    all
}

/// How many messages there are from `lowest` on after the delta, counting those still wanting.
fn count_after(old: &Snapshot, delta: &Delta, lowest: Uid) -> u32 {
    let below = old.messages.lower_bound(lowest);
    let gone = old.messages.select(&delta.vanished).filter(|(_, message)| message.uid >= lowest).count() as u32;
    let new: UidSet = delta
        .seen
        .iter()
        .filter_map(uid_of)
        .filter(|uid| *uid >= lowest.0 && old.messages.get(Uid(*uid)).is_none() && !delta.vanished.contains(*uid))
        .collect();
    old.messages.len() - below - gone + new.len() as u32
}
