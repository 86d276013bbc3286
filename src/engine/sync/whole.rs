//! The first reading of a mailbox: part after part, the newest first, and one commit at the end.
//!
//! With the mailbox's turn held, as all of [`super::run`]. What the parts have brought outlives a broken line in the turn, and a kill in the
//! store ([`super::resume`]).

use std::sync::{Arc, OnceLock, PoisonError};

use tokio::time::Instant;
use tracing::{debug, warn};

use super::changes::{exists, uid_of};
use super::commit::record;
use super::facts::lay_facts;
use super::resume;
use crate::engine::account::{Inner, LONG_CALL, now_ms};
use crate::engine::error::Error;
use crate::engine::mailbox::{Reading, State, Turn};
use crate::engine::mirror::{self, Delta};
use crate::engine::snapshot::Snapshot;
use crate::engine::vanished::VanishedLog;
use crate::model::{MessageMeta, ModSeq, Uid, UidSet};
use crate::upstream::{FetchMeta, Items, Lease, Selected};

/// Messages a first reading asks for at once, about: less than a megabyte of answer, which is what a kill in the middle costs.
const READING: u32 = 5000;
/// Messages between two words about how far a first reading is.
const TELL: usize = 250;

impl Inner {
    /// Reads everything. Gives the mod-sequence of the beginning when that was an earlier attempt, and changes since are to be asked for.
    pub(super) async fn read_whole(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        selected: &Selected,
    ) -> Result<Option<u64>, Error> {
        let begun = turn.reading.take().filter(|reading| reading.uid_validity == selected.uid_validity);
        let was_begun = begun.as_ref().map(|reading| reading.upstream_modseq);
        let mut reading = begun.unwrap_or_else(|| Reading {
            uid_validity: selected.uid_validity,
            upstream_modseq: selected.highest_modseq,
            seen: Vec::new(),
            from: None,
            is_kept: false,
        });
        let read = self.read_parts(lease, state, selected, &mut reading).await;
        if let Err(error) = read {
            if !reading.seen.is_empty() {
                turn.reading = Some(reading);
            }
            return Err(error);
        }
        let (mut seen, is_kept) = (reading.seen, reading.is_kept);
        let old = state.snapshot();
        {
            let mut local = state.local.lock().await;
            local.overlay.enter(selected.uid_validity);
            local.overlay.lay(&mut seen);
        }
        let mut messages: Vec<MessageMeta> = {
            let base = Snapshot { messages: crate::model::Pages::default(), ..(*old).clone() };
            let merged = mirror::merge(&base, Delta { seen, ..Delta::default() }, now_ms());
            if !merged.incomplete.is_empty() {
                warn!(account = %self.label(), mailbox = %state.name, uids = %merged.incomplete, "upstream told too little of these messages");
            }
            merged.upserts
        };
        let highest = messages.iter().map(|message| message.modseq).max().unwrap_or(old.highest_modseq);
        let highest = highest.max(ModSeq(now_ms())).max(ModSeq(old.highest_modseq.0 + 1));
        let last = messages.iter().map(|message| message.uid.0.saturating_add(1)).max().unwrap_or(1);
        let base = Snapshot {
            uid_validity: selected.uid_validity,
            uid_next: Uid(last.max(selected.uid_next.0)),
            highest_modseq: highest,
            counts: OnceLock::new(),
            ..(*old).clone()
        };
        let mut snapshot = mirror::restore(base, messages.clone());
        lay_facts(&mut snapshot, selected);
        // Of a reading that goes on with what an earlier one has kept, the flags are as old as that: until the changes since then are read,
        // the record says so.
        turn.upstream_modseq = was_begun.unwrap_or(selected.highest_modseq);
        turn.complete = true;
        turn.swept = was_begun.is_none().then(Instant::now);
        state.local.lock().await.overlay.strip(&mut messages);
        let record = record(&snapshot, turn);
        let storing = state.storing.lock().await;
        let (id, blob) = (state.id(), resume::blob_name(&state.name));
        state.take_store_lost();
        let stored = self
            .disk_within(LONG_CALL, move |store| {
                // What the parts have left there is written over and never taken away: a kill now costs the last part.
                if !is_kept {
                    store.clear(id)?;
                }
                store.commit(id, &messages, &UidSet::new(), &record)?;
                // What a part of the reading has left.
                match blob {
                    Some(name) if store.blob(&name)?.is_some_and(|mark| !mark.is_empty()) => store.put_blob(&name, b""),
                    _ => Ok(()),
                }
            })
            .await;
        drop(storing);
        if stored.is_err() {
            state.set_store_lost();
        }
        *state.log.lock().unwrap_or_else(PoisonError::into_inner) =
            VanishedLog::new(Vec::new(), snapshot.highest_modseq);
        debug!(account = %self.label(), mailbox = %state.name, messages = snapshot.messages.len(), "mailbox read");
        self.settle_keywords(state, &snapshot).await;
        state.publish(snapshot);
        self.mail_arrived();
        Ok(was_begun)
    }

    /// Reads part after part, the newest first, until everything is read. What a part has brought stays in `reading`.
    async fn read_parts(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        selected: &Selected,
        reading: &mut Reading,
    ) -> Result<(), Error> {
        let most = lease.message_limit();
        let widest = READING.min(most.unwrap_or(READING));
        let mut width = widest;
        // Of what an earlier reading has brought some may have gone: then the count says nothing.
        let is_fresh = reading.from.is_none();
        let running = self.readings.begin(&state.name, reading.messages(), u64::from(selected.exists));
        while reading.from != Some(1) && selected.exists > 0 {
            let (mut from, set) = match reading.from {
                None if selected.uid_next.0 == 0 => (1, "1:*".to_owned()),
                None => {
                    let from = selected.uid_next.0.saturating_sub(width).max(1);
                    (from, format!("{from}:*"))
                }
                Some(below) => {
                    let from = below.saturating_sub(width).max(1);
                    (from, format!("{from}:{}", below - 1))
                }
            };
            let mut part: Vec<FetchMeta> = Vec::new();
            let (have, of) = (reading.seen.len() as u64, u64::from(exists(lease)));
            let hear = &mut |meta| {
                part.push(meta);
                if part.len().is_multiple_of(TELL) {
                    running.step(have + part.len() as u64, of);
                }
            };
            lease.fetch_meta(&set, Items::All, None, hear).await?;
            // `*` is the last message even where it is below the range.
            part.retain(|meta| meta.uid.is_none_or(|uid| uid.0 >= from));
            let got = u32::try_from(part.len()).unwrap_or(u32::MAX);
            // Where UIDs are sparse the next part is wider.
            width = if got < widest / 4 { width.saturating_mul(4) } else { widest };
            // Answered for the highest only, perhaps: the next part begins below the lowest of them.
            if most.is_some_and(|most| got >= most)
                && let Some(lowest) = part.iter().filter_map(uid_of).min()
            {
                from = from.max(lowest);
            }
            let begin = reading.seen.len();
            reading.seen.append(&mut part);
            reading.from = Some(from);
            let have = reading.messages();
            if is_fresh && have >= u64::from(exists(lease)) {
                return Ok(());
            }
            running.step(have, u64::from(exists(lease)));
            self.keep_reading(state, selected, reading, begin).await;
        }
        Ok(())
    }
}
