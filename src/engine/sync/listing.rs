//! Asking upstream for many messages at once, and for the UIDs of all, where it answers for a limited number only.
//!
//! MESSAGELIMIT (RFC 9738): a FETCH is answered for so many messages, the highest first, and what was left out is asked for again. A
//! SEARCH may be cut off without a word (Yahoo: at 1000), or be wrong; UID FETCH is not. Either list is believed only where its count
//! agrees with EXISTS: what is not on a list that is believed counts as expunged, and mail programs delete their copies of it.

use tokio::time::{Duration, Instant};
use tracing::debug;

use super::changes::exists;
use crate::engine::account::Inner;
use crate::engine::mailbox::{State, Turn, Unlisted};
use crate::model::{Uid, UidSet};
use crate::provider::Quirk;
use crate::upstream::{self, FetchMeta, Items, Lease};

/// A server whose lists contradict its own counts is asked for them again after this long, or when it counts otherwise: a list of
/// 100,000 messages is some 3 MB.
const LIST_AGAIN: Duration = Duration::from_secs(600);

impl Inner {
    /// The UIDs of all messages; `None` where upstream's lists do not agree with its count.
    pub(super) async fn list_uids(
        &self,
        lease: &mut Lease,
        state: &State,
        turn: &mut Turn,
    ) -> Result<Option<UidSet>, upstream::Error> {
        let before = Unlisted { exists: exists(lease), uid_next: state.snapshot().uid_next, at: Instant::now() };
        if turn.unlisted.as_ref().is_some_and(|tried| tried.is_like(&before) && tried.at.elapsed() < LIST_AGAIN) {
            return Ok(None);
        }
        let agrees = |lease: &Lease, all: &UidSet| all.len() == u64::from(exists(lease));
        if !self.options.has(Quirk::SearchUnreliable) {
            let all = lease.search_uids().await?;
            if agrees(lease, &all) {
                turn.unlisted = None;
                return Ok(Some(all));
            }
        }
        let mut all = UidSet::new();
        fetch_from(lease, Uid(1), Items::Uid, None, &mut |meta| {
            if let Some(uid) = meta.uid {
                all.insert(uid.0);
            }
        })
        .await?;
        if agrees(lease, &all) {
            turn.unlisted = None;
            return Ok(Some(all));
        }
        debug!(account = %self.label(), mailbox = %state.name, listed = all.len(), exists = exists(lease), "the list of messages does not agree with their count");
        turn.unlisted = Some(before);
        Ok(None)
    }
}

/// UID FETCH of everything from `from` on, the highest first where one command is answered for a limited number of messages.
pub(super) async fn fetch_from(
    lease: &mut Lease,
    from: Uid,
    items: Items,
    changed_since: Option<u64>,
    sink: &mut (dyn FnMut(FetchMeta) + Send),
) -> Result<UidSet, upstream::Error> {
    let most = lease.message_limit();
    let mut vanished = UidSet::new();
    let mut to: Option<u32> = None;
    loop {
        let set = to.map_or_else(|| format!("{from}:*"), |to| format!("{from}:{to}"));
        let (mut count, mut lowest) = (0, u32::MAX);
        let hear = &mut |meta: FetchMeta| {
            if let Some(uid) = meta.uid {
                count += 1;
                lowest = lowest.min(uid.0);
            }
            sink(meta);
        };
        vanished = vanished.union(&lease.fetch_meta(&set, items, changed_since, hear).await?);
        // Cut off perhaps, and some are left to be asked for: each round ends below the one before.
        let is_cut = most.is_some_and(|most| count >= most);
        if !is_cut || lowest <= from.0 || to.is_some_and(|to| lowest > to) {
            return Ok(vanished);
        }
        to = Some(lowest - 1);
    }
}
