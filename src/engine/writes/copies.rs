//! Copies of messages in another mailbox, beyond doubt: which they are, and taking them back.
//!
//! A copy is sure when upstream told it by COPYUID, or when it is new there since the copying began and equal to its source in size and in
//! every octet of its header; and, where the provider gives ids, has its source's (X-GM-MSGID; EMAILID, RFC 8474 §5.1).
//!
//! What is found here is read straight from upstream: nothing of it is committed, so no turn is needed, and whoever holds the source's turn
//! may look at the target without a second one (two moves in opposite directions would wait for each other).

use std::collections::{BTreeMap, HashMap};

use bytes::BytesMut;
use futures_util::future::join;
use tokio::sync::mpsc;

use super::identity::Ids;
use super::settle::Fault;
use super::unfinished::{Messages, Move};
use crate::engine::account::Inner;
use crate::engine::audit::Record;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::model::{FlagOp, Flags, SystemFlags, Uid, UidSet, UidValidity};
use crate::upstream::{BodyEvent, BodyPart, FetchMeta, Items, Lease};

/// Pieces of headers between the upstream session and us.
const PIECES: usize = 16;
/// Octets of one header that are held: no mail program writes one of 4 MiB.
const HEADER_MOST: u64 = 4 << 20;

impl Inner {
    /// Which of `sources` have a copy, and which it is. Leaves either mailbox selected.
    pub(super) async fn find_copies(
        &self,
        lease: &mut Lease,
        state: &State,
        sources: &UidSet,
        moving: &Move,
    ) -> Result<BTreeMap<u32, u32>, Fault> {
        let mut copies = BTreeMap::new();
        let first = moving.told.iter().map(|(_, copy)| *copy).chain(moving.to_next).min();
        let Some(first) = first else { return Ok(copies) };
        if !select_for_write(lease, &moving.to, moving.to_validity()).await? {
            return Ok(copies);
        }
        let mut arrived: BTreeMap<u32, u32> = BTreeMap::new();
        let mut ids = Ids::new();
        if lease.selected().is_some_and(|(_, selected)| selected.exists > 0) {
            let mut note = |meta: FetchMeta| {
                // `n:*` names the last message even if it is older (RFC 9051 §9, seq-range).
                if let (Some(Uid(uid)), Some(size)) = (meta.uid, meta.size)
                    && uid >= first
                {
                    arrived.insert(uid, size);
                    ids.extend(meta.gm_msgid.map(|id| (uid, id)));
                }
            };
            lease.fetch_meta(&format!("{first}:*"), Items::All, None, &mut note).await?;
        }
        let told: BTreeMap<u32, u32> = moving.told.iter().copied().collect();
        let fits = |from: u32, to: u32| match (moving.source.ids.get(&from), ids.get(&to)) {
            (Some(from), Some(to)) => from == to,
            _ => true,
        };
        let is_sure =
            |(from, to): &(&u32, &u32)| sources.contains(**from) && arrived.contains_key(to) && fits(**from, **to);
        copies.extend(told.iter().filter(is_sure));
        let untold = sources.minus(&told.keys().copied().collect());
        let snapshot = state.snapshot();
        let sizes: HashMap<u32, u32> =
            snapshot.messages.select(&untold).map(|(_, message)| (message.uid.0, message.size)).collect();
        let taken: UidSet = told.values().copied().collect();
        let next = moving.to_next.unwrap_or(u32::MAX);
        let candidates = arrived.iter().filter(|(uid, size)| {
            **uid >= next && !taken.contains(**uid) && sizes.values().any(|source| source == *size)
        });
        let candidates: UidSet = candidates.map(|(uid, _)| *uid).collect();
        if untold.is_empty() || candidates.is_empty() {
            return Ok(copies);
        }
        let theirs = hashes(lease, &candidates).await?;
        if !select_for_write(lease, &state.name, snapshot.uid_validity).await? {
            return Err(Error::Gone.into());
        }
        let ours = hashes(lease, &untold).await?;
        copies.extend(paired(&sizes, &ours, &arrived, &theirs, fits));
        Ok(copies)
    }

    /// Expunges copies of ours. Only with UIDPLUS: a plain EXPUNGE could take what others mark meanwhile.
    pub(super) async fn expunge_copies(&self, lease: &mut Lease, copies: &Messages) -> Result<(), Fault> {
        let (mailbox, validity, uids) = (&copies.mailbox, copies.uid_validity(), &copies.uids);
        if !lease.caps().has("UIDPLUS") && !lease.caps().has("IMAP4REV2") {
            return Err(Error::Cannot("upstream cannot expunge single messages".into()).into());
        }
        if !select_for_write(lease, mailbox, validity).await? {
            return Err(Error::Gone.into());
        }
        self.check_written(lease, copies, uids).await?;
        lease.store(uids, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await?;
        let gone = lease.uid_expunge(uids).await;
        if self.options.audit.is_some() {
            let record = self.bare_record("take_back", mailbox);
            let record = Record { uid_validity: Some(validity), uids: uids.clone(), ..record };
            self.end_audit(
                Some(record),
                &gone.as_ref().map_err(|error| Error::from(error.clone())).map(|_| ()),
                UidSet::new(),
            );
        }
        gone?;
        if let Some(state) = self.known_state(mailbox) {
            state.set_stale();
        }
        Ok(())
    }
}

/// Selects a mailbox anew; whether it is there and is the one that is meant.
pub(super) async fn select_for_write(lease: &mut Lease, mailbox: &str, validity: UidValidity) -> Result<bool, Fault> {
    match lease.reselect(mailbox, None).await.map_err(Fault::from) {
        Ok(selected) => Ok(selected.uid_validity == validity),
        Err(Fault::Refused(error)) if !error.is_passing() && !error.is_outage() => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Copies by what they were copied from, with the ids they must have.
pub(super) fn copies_of(pairs: &[(Uid, Uid)], sources: &Ids, mailbox: &str, validity: UidValidity) -> Messages {
    let uids = pairs.iter().map(|(_, to)| to.0).collect();
    let ids = pairs.iter().filter_map(|(from, to)| Some((to.0, *sources.get(&from.0)?))).collect();
    Messages::new(mailbox, validity, uids).with_ids(ids)
}

/// Gives every source one arrival of its own that fits it and is equal to it in size and header. Two sources that are equal themselves are
/// interchangeable.
fn paired(
    sizes: &HashMap<u32, u32>,
    ours: &BTreeMap<u32, blake3::Hash>,
    arrived: &BTreeMap<u32, u32>,
    theirs: &BTreeMap<u32, blake3::Hash>,
    fits: impl Fn(u32, u32) -> bool,
) -> Vec<(u32, u32)> {
    let mut free: HashMap<(u32, blake3::Hash), Vec<u32>> = HashMap::new();
    for (uid, hash) in theirs.iter().rev() {
        if let Some(size) = arrived.get(uid) {
            free.entry((*size, *hash)).or_default().push(*uid);
        }
    }
    let pair = |(uid, hash): (&u32, &blake3::Hash)| {
        let free = free.get_mut(&(*sizes.get(uid)?, *hash))?;
        let at = free.iter().rposition(|copy| fits(*uid, *copy))?;
        Some((*uid, free.remove(at)))
    };
    ours.iter().filter_map(pair).collect()
}

/// The BLAKE3 of each message's header. A message that is gone has none.
async fn hashes(lease: &mut Lease, uids: &UidSet) -> Result<BTreeMap<u32, blake3::Hash>, Fault> {
    let mut hashes = BTreeMap::new();
    let mut note = |uid: u32, header: &[u8]| {
        hashes.insert(uid, blake3::hash(header));
    };
    headers(lease, uids, &mut note).await?;
    Ok(hashes)
}

/// Fetches the headers of messages in the selected mailbox; each is shown to `see` when it is here.
pub(super) async fn headers(
    lease: &mut Lease,
    uids: &UidSet,
    see: &mut (dyn FnMut(u32, &[u8]) + Send),
) -> Result<(), Fault> {
    if uids.is_empty() {
        return Ok(());
    }
    let (out, mut events) = mpsc::channel(PIECES);
    let fetch = async {
        let fetched = lease.fetch_bodies(uids, BodyPart::Header, false, &out).await;
        drop(out);
        fetched
    };
    let gather = async {
        let mut current: Option<(u32, BytesMut)> = None;
        while let Some(event) = events.recv().await {
            match event {
                BodyEvent::Start { uid, len, .. } => {
                    // What is beyond is not compared.
                    current =
                        Some((uid.0, BytesMut::with_capacity(usize::try_from(len.min(HEADER_MOST)).unwrap_or(0))));
                }
                BodyEvent::Chunk(octets) => {
                    if let Some((_, header)) = &mut current
                        && (header.len() as u64) < HEADER_MOST
                    {
                        header.extend_from_slice(&octets);
                    }
                }
                BodyEvent::End => {
                    if let Some((uid, header)) = current.take() {
                        see(uid, &header);
                    }
                }
                BodyEvent::Done { .. } => {}
            }
        }
    };
    let (fetched, ()) = join(fetch, gather).await;
    Ok(fetched?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_a_copy_of_its_own_or_none() {
        let hash = |text: &&str| blake3::hash(text.as_bytes());
        let sizes = HashMap::from([(1, 10), (2, 10), (3, 20)]);
        let headers = |list: &[(u32, &str)]| list.iter().map(|(uid, text)| (*uid, hash(text))).collect();
        let ours: BTreeMap<u32, blake3::Hash> = headers(&[(1, "a"), (2, "a"), (3, "b")]);
        for (arrived, theirs, want) in [
            (vec![(7, 10), (8, 10), (9, 20)], vec![(7, "a"), (8, "a"), (9, "b")], vec![(1, 7), (2, 8), (3, 9)]),
            (vec![(7, 10), (9, 20)], vec![(7, "a"), (9, "c")], vec![(1, 7)]),
            (vec![(7, 11), (8, 20)], vec![(7, "a"), (8, "a")], vec![]),
            (vec![], vec![], vec![]),
        ] {
            let arrived: BTreeMap<u32, u32> = arrived.into_iter().collect();
            assert_eq!(paired(&sizes, &ours, &arrived, &headers(&theirs), |_, _| true), want);
        }
        let (arrived, theirs) = (BTreeMap::from([(7, 10), (8, 10)]), headers(&[(7, "a"), (8, "a")]));
        let fits = |from, to| (from, to) == (1, 8);
        assert_eq!(paired(&sizes, &ours, &arrived, &theirs, fits), [(1, 8)]);
    }
}
