//! Full-text search: in the cached bodies where all of them are here, else asked upstream.

use std::sync::Arc;

use super::account::Inner;
use super::error::Error;
use super::mailbox::State;
use crate::message;
use crate::model::{Uid, UidSet};
use crate::provider::Quirk;
use crate::store::BodyKey;
use crate::upstream::Class;

/// Most messages searched here while upstream can be asked: reading them costs about a millisecond each.
const LOCAL: u64 = 2000;
/// Bodies read in one call on the store pool, so that a long search leaves room for others.
const STEP: usize = 16;
/// Messages a provider is asked to search at once whose answers are cut off or wrong at times: Yahoo tells 1000 numbers at most.
const SEARCH_MOST: u64 = 500;
/// Longest UID set put in front of a search key.
const SET_MOST: usize = 512;

impl Inner {
    pub(crate) async fn search_text(
        self: &Arc<Self>,
        state: &Arc<State>,
        within: &UidSet,
        needle: &[u8],
        body_only: bool,
    ) -> Result<UidSet, Error> {
        let snapshot = state.snapshot();
        let uids: Vec<Uid> = snapshot.messages.select(within).map(|(_, message)| message.uid).collect();
        let keys: Vec<BodyKey> = uids.iter().map(|uid| state.body_key(&snapshot, *uid)).collect();
        let asked = keys.clone();
        let have = self.disk(move |store| store.has_bodies(&asked)).await.unwrap_or_default();
        let all_here = have.len() == uids.len() && have.iter().all(|here| *here);
        if all_here && uids.len() as u64 <= LOCAL {
            return self.search_here(&uids, &keys, needle, body_only).await;
        }
        if self.options.has(Quirk::SearchUnreliable) {
            return self.search_both(state, &uids, &keys, &have, needle, body_only).await;
        }
        match self.search_upstream(state, within, needle, body_only).await {
            // Slow, but right; and it works without the network.
            Err(error) if all_here && error.is_outage() => self.search_here(&uids, &keys, needle, body_only).await,
            done => done,
        }
    }

    /// Where upstream's SEARCH is not to be trusted further than needed: what is cached is searched here, the rest upstream, in ranges no longer
    /// than it answers for. An answer that is cut off would look like a whole one.
    async fn search_both(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &[Uid],
        keys: &[BodyKey],
        have: &[bool],
        needle: &[u8],
        body_only: bool,
    ) -> Result<UidSet, Error> {
        let is_here = |index: usize| have.get(index).copied().unwrap_or(false);
        let away: UidSet = (0..).zip(uids).filter(|(index, _)| !is_here(*index)).map(|(_, uid)| uid.0).collect();
        let hidden = state.hidden(&away).len();
        if hidden > 0 {
            let text = format!(
                "{hidden} of these messages are not cached, and the provider does not show them any more: whether they match cannot be known"
            );
            return Err(Error::Cannot(text));
        }
        let here = (0..).zip(uids.iter().zip(keys)).filter(|(index, _)| is_here(*index));
        let (uids, keys): (Vec<Uid>, Vec<BodyKey>) = here.map(|(_, (uid, key))| (*uid, *key)).unzip();
        let mut found = UidSet::new();
        if !away.is_empty() {
            // Ranges of the mailbox: what else lies in them counts for the length of the answer as well.
            let all = state.snapshot().messages.uids();
            for range in all.portions(SEARCH_MOST) {
                let (Some(first), Some(last)) = (range.min(), range.max()) else { continue };
                let part = away.intersect(&range);
                if part.is_empty() {
                    continue;
                }
                let mut stretch = UidSet::new();
                stretch.insert_range(first..=last);
                found = found.union(&self.search_upstream(state, &stretch, needle, body_only).await?.intersect(&part));
            }
        }
        Ok(found.union(&self.search_here(&uids, &keys, needle, body_only).await?))
    }

    async fn search_here(
        self: &Arc<Self>,
        uids: &[Uid],
        keys: &[BodyKey],
        needle: &[u8],
        body_only: bool,
    ) -> Result<UidSet, Error> {
        let needle: Arc<str> = message::fold(&String::from_utf8_lossy(needle)).into();
        let mut found = UidSet::new();
        for (uids, keys) in uids.chunks(STEP).zip(keys.chunks(STEP)) {
            let (keys, needle) = (keys.to_vec(), Arc::clone(&needle));
            let hits = self
                .disk(move |store| {
                    let bodies = keys.iter().map(|key| store.body(*key));
                    let hits = bodies
                        .map(|body| body.map(|body| body.map(|raw| message::text_contains(&raw, &needle, body_only))));
                    hits.collect::<Result<Vec<_>, _>>()
                })
                .await
                .map_err(|_| Error::Internal("the cache failed".into()))?;
            for (uid, hit) in uids.iter().zip(hits) {
                match hit {
                    Some(true) => found.insert(uid.0),
                    Some(false) => {}
                    None => return Err(Error::Unavailable("A message to be searched is no longer cached".into())),
                }
            }
        }
        Ok(found)
    }

    async fn search_upstream(
        self: &Arc<Self>,
        state: &Arc<State>,
        within: &UidSet,
        needle: &[u8],
        body_only: bool,
    ) -> Result<UidSet, Error> {
        let mut lease = self.ready(state, Class::Interactive).await?;
        let mut program = bytes::BytesMut::new();
        if !needle.is_ascii() {
            program.extend_from_slice(b"CHARSET UTF-8 ");
        }
        // A short set spares upstream work; a long one could overrun its command line, and intersecting here does the same.
        let set = within.to_string();
        if set.len() <= SET_MOST {
            program.extend_from_slice(format!("UID {set} ").as_bytes());
        }
        program.extend_from_slice(if body_only { b"BODY " } else { b"TEXT " });
        crate::wire::imap::write::astring(&mut program, needle);
        let found = lease.search(&program).await?;
        self.seen_upstream();
        Ok(found.intersect(within))
    }
}
