//! Envelope, structure and header of messages: from the store, else computed from the cached body, else fetched in batches.
//!
//! What a client has once been told of a UID stays so (RFC 9051 §2.3): the store keeps the first answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::account::Inner;
use super::error::Error;
use super::mailbox::State;
use super::snapshot::Snapshot;
use super::sync::window;
use crate::message;
use crate::model::{Uid, UidSet};
use crate::store::{BodyKey, SummaryRecord};
use crate::upstream::{self, BodyEvent, BodyPart, Class};

/// Where a structure is asked for, a message up to this size is fetched whole instead: its structure is then computed from the
/// truth, and the body a client usually asks for next is here.
const WHOLE_BELOW: u32 = 64 << 10;
/// A header above this is cut off behind its last whole line: no mail program writes one, and it is held in memory. Refused, one such
/// message would spoil every FETCH of its mailbox's envelopes.
const HEADER_MOST: usize = 4 << 20;
/// Headers fetched by one command: some 200 KB of answer.
const HEADER_BATCH: usize = 64;
/// What a header and a structure are taken to weigh before they are asked for, octets: mail from lists and shops carries
/// that much of trace and signatures.
const HEADER_GUESS: u64 = 3 << 10;
/// Pieces between the upstream session and us.
const PIECES: usize = 16;

/// What is known of a message beyond its meta. A part that was not asked for may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The raw header block with the empty line that ends it.
    pub header: Bytes,
    /// ENVELOPE as FETCH answers it, `(…)`.
    pub envelope: Bytes,
    /// BODYSTRUCTURE, `(…)`.
    pub body_structure: Bytes,
    /// BODY: the structure without extension data.
    pub body: Bytes,
}

/// Which parts of a [`Summary`] are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    pub header: bool,
    pub envelope: bool,
    /// BODYSTRUCTURE and BODY.
    pub structure: bool,
}

impl Want {
    fn met_by(self, record: &SummaryRecord) -> bool {
        (!self.header || !record.header.is_empty())
            && (!self.envelope || !record.envelope.is_empty())
            && (!self.structure || !record.body_structure.is_empty())
    }
}

impl From<SummaryRecord> for Summary {
    fn from(record: SummaryRecord) -> Self {
        Self {
            header: record.header,
            envelope: record.envelope,
            body_structure: record.body_structure,
            body: record.body,
        }
    }
}

impl Inner {
    pub(crate) async fn summaries(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &[Uid],
        want: Want,
    ) -> Vec<Result<Arc<Summary>, Error>> {
        let snapshot = state.snapshot();
        let keys: Vec<BodyKey> = uids.iter().map(|uid| state.body_key(&snapshot, *uid)).collect();
        let mut records = self.known_summaries(&keys, want).await;
        let lacking = |records: &[SummaryRecord]| -> Vec<Uid> {
            let pairs = uids.iter().zip(records);
            pairs.filter(|(_, record)| !want.met_by(record)).map(|(uid, _)| *uid).collect()
        };
        let mut failure = Error::Expunged;
        if !lacking(&records).is_empty() {
            // One at a time per mailbox: whoever waited here finds in the store what the one before has fetched.
            let _fetching = state.summaries.lock().await;
            records = self.known_summaries(&keys, want).await;
            let missing = lacking(&records);
            let mut made: HashMap<BodyKey, SummaryRecord> = HashMap::new();
            for batch in missing.chunks(HEADER_BATCH) {
                let mut new = HashMap::new();
                let done = self.make_summaries(state, &snapshot, batch, want, &mut new).await;
                made.extend(new);
                if let Err(error) = done {
                    failure = error;
                    break;
                }
            }
            for (key, record) in keys.iter().zip(&mut records) {
                if let Some(new) = made.remove(key) {
                    *record = new;
                }
            }
        }
        let results = records.into_iter().map(|record| {
            if want.met_by(&record) { Ok(Arc::new(Summary::from(record))) } else { Err(failure.clone()) }
        });
        results.collect()
    }

    /// What the cache has of it.
    pub(super) async fn known_summaries(&self, keys: &[BodyKey], want: Want) -> Vec<SummaryRecord> {
        let asked = keys.to_vec();
        let want =
            crate::store::SummaryWant { header: want.header, envelope: want.envelope, structure: want.structure };
        let known = self.disk(move |store| store.summaries(&asked, want)).await;
        let mut known: Vec<SummaryRecord> =
            known.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect();
        known.resize(keys.len(), SummaryRecord::default());
        known
    }

    /// Makes what is lacking: from cached bodies first, then from upstream; and stores it.
    async fn make_summaries(
        self: &Arc<Self>,
        state: &Arc<State>,
        snapshot: &Snapshot,
        uids: &[Uid],
        want: Want,
        made: &mut HashMap<BodyKey, SummaryRecord>,
    ) -> Result<(), Error> {
        let keys: Vec<(Uid, BodyKey)> = uids.iter().map(|uid| (*uid, state.body_key(snapshot, *uid))).collect();
        let asked: Vec<BodyKey> = keys.iter().map(|(_, key)| *key).collect();
        let cached = self.disk(move |store| store.has_bodies(&asked)).await.unwrap_or_default();
        let mut whole: Vec<(Uid, BodyKey)> = Vec::new();
        let mut headers: HashMap<Uid, BodyKey> = HashMap::new();
        let mut local: HashSet<Uid> = HashSet::new();
        let mut failure = None;
        for (index, (uid, key)) in keys.into_iter().enumerate() {
            let Some(message) = snapshot.messages.get(uid) else { continue };
            let here = cached.get(index).copied().unwrap_or(false);
            if here {
                local.insert(uid);
            } else if state.is_hidden(uid) {
                failure = Some(window::hidden());
                continue;
            }
            if here || (want.structure && message.size <= WHOLE_BELOW) {
                whole.push((uid, key));
            } else {
                headers.insert(uid, key);
            }
        }
        if !headers.is_empty() {
            match self.fetch_headers(state, &headers, want, made).await {
                Ok(unusable) => {
                    whole.extend(unusable.into_iter().filter_map(|uid| headers.get(&uid).map(|key| (uid, *key))));
                }
                // What is cached is answered all the same; nothing more is asked for.
                Err(error) => {
                    whole.retain(|(uid, _)| local.contains(uid));
                    failure = Some(error);
                }
            }
        }
        let mut reads = super::bodies::BodyReads::new(
            Arc::clone(self),
            Arc::clone(state),
            Arc::default(),
            whole.iter().map(|(uid, _)| *uid).collect(),
        );
        let key_of: HashMap<Uid, BodyKey> = whole.into_iter().collect();
        while let Some((uid, body)) = reads.next().await {
            let body = match body {
                Ok(body) => body.whole().await,
                Err(error) => Err(error),
            };
            match body {
                Ok(body) => {
                    if let Some(key) = key_of.get(&uid) {
                        made.insert(*key, summarise(body).await);
                    }
                }
                // One message that is gone or cannot be had spoils none of the others.
                Err(Error::Expunged) => {}
                Err(error) => failure = Some(error),
            }
        }
        let records: Vec<(BodyKey, SummaryRecord)> = made.iter().map(|(key, record)| (*key, record.clone())).collect();
        // What cannot be stored is answered all the same.
        let _ = self.disk(move |store| store.put_summaries(&records)).await;
        failure.map_or(Ok(()), Err)
    }

    /// Fetches headers, and upstream's BODYSTRUCTURE where one is wanted. The result names messages whose structure cannot be used.
    async fn fetch_headers(
        self: &Arc<Self>,
        state: &Arc<State>,
        headers: &HashMap<Uid, BodyKey>,
        want: Want,
        made: &mut HashMap<BodyKey, SummaryRecord>,
    ) -> Result<Vec<Uid>, Error> {
        let _grant = self.options.allowance.download(HEADER_GUESS * headers.len() as u64, Class::Interactive)?;
        match self.fetch_headers_once(state, headers, want, made).await {
            // A session that died in the pool shows it only now; a few headers are soon asked for again.
            Err(upstream::Error::Lost { .. }) => Ok(self.fetch_headers_once(state, headers, want, made).await?),
            done => Ok(done?),
        }
    }

    async fn fetch_headers_once(
        self: &Arc<Self>,
        state: &Arc<State>,
        headers: &HashMap<Uid, BodyKey>,
        want: Want,
        made: &mut HashMap<BodyKey, SummaryRecord>,
    ) -> Result<Vec<Uid>, upstream::Error> {
        let uids: UidSet = headers.keys().map(|uid| uid.0).collect();
        let (out, mut events) = mpsc::channel(PIECES);
        let fetch = self.fetch_parts_apart(state, uids, BodyPart::Header, want.structure, out);
        let mut unusable = Vec::new();
        let read = async {
            let mut header = BytesMut::new();
            while let Some(event) = events.recv().await {
                match event {
                    BodyEvent::Start { .. } => header.clear(),
                    BodyEvent::Chunk(piece) if header.len() <= HEADER_MOST => header.extend_from_slice(&piece),
                    BodyEvent::Chunk(_) | BodyEvent::End => {}
                    BodyEvent::Done { meta, body_structure } => {
                        cut_off(&mut header);
                        let header = header.split().freeze();
                        let Some((uid, key)) = meta.uid.and_then(|uid| headers.get(&uid).map(|key| (uid, *key))) else {
                            continue;
                        };
                        if header.is_empty() {
                            continue;
                        }
                        let mut record = SummaryRecord {
                            envelope: message::envelope_of_header(&header).into(),
                            header,
                            ..SummaryRecord::default()
                        };
                        match body_structure.as_deref().map(message::upstream_structure) {
                            Some(Some(structure)) => {
                                record.body = structure.body().into();
                                record.body_structure = body_structure.unwrap_or_default();
                            }
                            Some(None) => unusable.push(uid),
                            None if want.structure => unusable.push(uid),
                            None => {}
                        }
                        made.insert(key, record);
                    }
                }
            }
        };
        let (fetched, ()) = tokio::join!(fetch, read);
        fetched?;
        Ok(unusable)
    }
}

/// A header beyond [`HEADER_MOST`] ends behind the last line that fits.
fn cut_off(header: &mut BytesMut) {
    if header.len() <= HEADER_MOST {
        return;
    }
    header.truncate(HEADER_MOST - 2);
    let end = header.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    header.truncate(end);
    header.extend_from_slice(b"\r\n");
}

/// Computes everything from the raw message; a large one off the async threads.
async fn summarise(raw: Bytes) -> SummaryRecord {
    /// Parsed in well under a millisecond.
    const SMALL: usize = 256 << 10;
    if raw.len() <= SMALL {
        return summary_of(&raw);
    }
    tokio::task::spawn_blocking(move || summary_of(&raw)).await.unwrap_or_default()
}

fn summary_of(raw: &Bytes) -> SummaryRecord {
    let structure = message::parse(raw);
    SummaryRecord {
        // Copied, so that a summary does not hold its whole message in memory.
        header: Bytes::copy_from_slice(raw.get(structure.header()).unwrap_or_default()),
        envelope: structure.envelope(raw).into(),
        body_structure: structure.body_structure(raw).into(),
        body: structure.body(raw).into(),
    }
}
