//! Whole messages: from disk, from a download in flight, or fetched now, once, for all who wait.
//!
//! A body is fetched at most once at a time: the first to miss makes a [`Flight`], the others join it and are fed while the bytes
//! arrive (`download`). Bytes from disk are verified by the store on every read; a large body is read piece by piece (`stored`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{Instrument as _, error};

use super::account::Inner;
use super::appetite::Appetite;
use super::error::Error;
use super::flight::Flight;
use super::mailbox::State;
use super::parts::Walks;
use super::recent::Recent;
use super::stored::{Opened, Stored};
use crate::metrics::BodyRead;
use crate::model::Uid;
use crate::store::{BodyKey, Store};
use crate::upstream::Class;

/// Read ahead of one client: messages, and octets of them (at least one message). A client that never reads holds two such batches.
const AHEAD_MESSAGES: usize = 256;
const AHEAD_OCTETS: u64 = 2 << 20;
/// The same where there is one connection only: whoever opens a message meanwhile waits for the rest of such a batch.
const ALONE_OCTETS: u64 = 512 << 10;
/// A cached body above this is handed out while it is read; reading less is done within a millisecond or two.
const STREAM_ABOVE: u64 = 1 << 20;
/// Octets of a body in memory handed out at once: what is done to each octet on its way out must not delay the first.
const MEMORY_PIECE: usize = 128 << 10;
/// The same for the first batch, which somebody waits for: read from disk in well under a millisecond.
const FIRST_OCTETS: u64 = 256 << 10;

/// The downloads in flight of an account, and a few bodies read lately.
#[derive(Default)]
pub(crate) struct Bodies {
    pub(super) flights: Mutex<HashMap<BodyKey, Arc<Flight>>>,
    recent: Mutex<Recent>,
    pub(super) walks: Mutex<Walks>,
}

impl Bodies {
    /// A body read lately.
    pub(super) fn remembered(&self, key: BodyKey) -> Option<Bytes> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).find(key)
    }

    /// Keeps a body in memory for a while.
    pub(super) fn remember(&self, key: BodyKey, body: &Bytes) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).keep(key, body);
    }
}

/// A raw message, whole or still arriving.
pub struct Body {
    from: From,
}

enum From {
    /// `rest`: what was not handed out yet.
    Memory {
        body: Bytes,
        rest: Bytes,
    },
    /// `skip`: octets of the next piece that were handed out before.
    Flight {
        flight: Arc<Flight>,
        len: u64,
        next: usize,
        skip: usize,
    },
    Stored(Box<Stored>),
}

impl Body {
    fn memory(body: Bytes) -> Self {
        Self { from: From::Memory { rest: body.clone(), body } }
    }

    /// Octets; known before the last one is here.
    pub fn len(&self) -> u64 {
        match &self.from {
            From::Memory { body, .. } => body.len() as u64,
            From::Flight { len, .. } => *len,
            From::Stored(stored) => stored.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it; waits until it has arrived.
    pub async fn whole(&self) -> Result<Bytes, Error> {
        match &self.from {
            From::Memory { body, .. } => Ok(body.clone()),
            From::Flight { flight, .. } => flight.ended().await.map(|()| flight.joined()),
            From::Stored(stored) => stored.whole().await,
        }
    }

    /// `count` octets from `start` on, as soon as these are here: what comes behind them is not waited for. Shorter at the end.
    /// Asked of a body of which no [`Self::chunk`] was taken; none is to be taken afterwards.
    pub async fn range(&mut self, start: u64, count: u64) -> Result<Bytes, Error> {
        let end = start.saturating_add(count).min(self.len());
        let start = start.min(end);
        match &self.from {
            From::Memory { body, .. } => return Ok(slice(body, start, end)),
            From::Flight { flight, .. } => return flight.range(start..end).await,
            // Whoever reads in stretches comes back for the next: the whole is remembered, and read from disk once.
            From::Stored(stored) if stored.len() <= super::recent::ONE => {
                return stored.whole().await.map(|body| slice(&body, start, end));
            }
            From::Stored(_) => {}
        }
        let (mut at, mut cut) = (0, BytesMut::new());
        while at < end
            && let Some(piece) = self.chunk().await.transpose()?
        {
            cut.extend_from_slice(&slice(&piece, start.saturating_sub(at), end - at));
            at += piece.len() as u64;
        }
        Ok(cut.freeze())
    }

    /// The next piece as it arrives, `None` after [`Self::len`] octets. After an error the literal begun at a client cannot be
    /// completed: its connection has to be closed.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        if let From::Stored(stored) = &mut self.from {
            match stored.next().await {
                Some(Ok(piece)) => return Some(Ok(piece)),
                None => return None,
                Some(Err(_)) => {
                    let len = stored.len();
                    match stored.upstream_flight().await {
                        Ok((flight, next, skip)) => self.from = From::Flight { flight, len, next, skip },
                        Err(error) => return Some(Err(error)),
                    }
                }
            }
        }
        match &mut self.from {
            From::Stored(_) => None,
            From::Memory { rest, .. } => {
                let piece = rest.split_to(rest.len().min(MEMORY_PIECE));
                (!piece.is_empty()).then_some(Ok(piece))
            }
            From::Flight { flight, next, skip, .. } => {
                let piece = flight.piece(*next).await;
                if let Some(Ok(_)) = &piece {
                    *next += 1;
                }
                let skip = std::mem::take(skip);
                piece.map(|piece| piece.map(|piece| piece.slice(skip.min(piece.len())..)))
            }
        }
    }
}

/// The octets from `start` to `end`, as far as there are any.
fn slice(body: &Bytes, start: u64, end: u64) -> Bytes {
    let within = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(body.len());
    body.slice(within(start).min(within(end))..within(end))
}

/// Reads of whole messages in a given order.
pub struct BodyReads {
    account: Arc<Inner>,
    state: Arc<State>,
    appetite: Arc<Appetite>,
    /// Messages asked for in all.
    asked: usize,
    rest: VecDeque<Uid>,
    ready: VecDeque<Sourced>,
    ahead: Option<Ahead>,
}

/// A batch being read: what is in it, and the task that reads it.
struct Ahead {
    uids: Vec<Uid>,
    task: JoinHandle<Vec<Sourced>>,
}

/// A message of a batch, and where its body will come from.
struct Sourced(Uid, Result<Source, Error>);

/// Where a body will come from.
enum Source {
    Memory(Bytes),
    Flight(Arc<Flight>),
    Stored(Box<Stored>),
}

impl BodyReads {
    pub(crate) fn new(account: Arc<Inner>, state: Arc<State>, appetite: Arc<Appetite>, uids: Vec<Uid>) -> Self {
        Self { account, state, appetite, asked: uids.len(), rest: uids.into(), ready: VecDeque::new(), ahead: None }
    }

    /// The next message; `None` at the end. The body may still be arriving.
    pub async fn next(&mut self) -> Option<(Uid, Result<Body, Error>)> {
        if self.ready.is_empty() {
            self.ready = match self.ahead.take() {
                Some(mut ahead) => self.arrived(&mut ahead).await.into(),
                // Nothing to do beside it, so it is no task of its own: one FETCH of one message, the commonest there is, is then
                // answered without a change of threads.
                None => {
                    let batch = self.next_batch(FIRST_OCTETS)?;
                    self.account.sources(&self.state, batch, &self.appetite, self.asked).await.into()
                }
            };
        }
        if self.ahead.is_none() {
            self.ahead = self.look_ahead();
        }
        let Sourced(uid, source) = self.ready.pop_front()?;
        let body = match source {
            Err(error) => Err(error),
            Ok(Source::Memory(body)) => Ok(Body::memory(body)),
            Ok(Source::Flight(flight)) => {
                flight.begun().await.map(|len| Body { from: From::Flight { flight, len, next: 0, skip: 0 } })
            }
            Ok(Source::Stored(stored)) => Ok(Body { from: From::Stored(stored) }),
        };
        Some((uid, body))
    }

    /// Begins to read the next batch.
    fn look_ahead(&mut self) -> Option<Ahead> {
        let alone = self.account.options.connections == 1;
        let batch = self.next_batch(if alone { ALONE_OCTETS } else { AHEAD_OCTETS })?;
        let (account, state, appetite) =
            (Arc::clone(&self.account), Arc::clone(&self.state), Arc::clone(&self.appetite));
        let (uids, asked) = (batch.clone(), self.asked);
        let task =
            tokio::spawn(async move { account.sources(&state, batch, &appetite, asked).await }.in_current_span());
        Some(Ahead { uids, task })
    }

    /// The batch that was read ahead. A task that panicked is an error for each of its messages: left out they would look expunged.
    async fn arrived(&self, ahead: &mut Ahead) -> Vec<Sourced> {
        match (&mut ahead.task).await {
            Ok(batch) => batch,
            Err(failure) => {
                error!(account = %self.account.label(), %failure, "reading messages ahead failed");
                let broken = || Error::Internal("An internal error; see the log".into());
                std::mem::take(&mut ahead.uids).into_iter().map(|uid| Sourced(uid, Err(broken()))).collect()
            }
        }
    }

    /// As if the task that reads these ahead had panicked.
    #[cfg(test)]
    pub(crate) fn break_ahead(&mut self, uids: Vec<Uid>) {
        self.ahead = Some(Ahead { uids, task: tokio::spawn(async { panic!("as a test wants it") }) });
    }

    /// The next messages of at most so many octets, or one; `None` at the end.
    fn next_batch(&mut self, most: u64) -> Option<Vec<Uid>> {
        let snapshot = self.state.snapshot();
        let mut batch = Vec::new();
        let mut octets = 0;
        while batch.len() < AHEAD_MESSAGES
            && let Some(uid) = self.rest.front().copied()
        {
            octets += snapshot.messages.get(uid).map_or(0, |message| u64::from(message.size));
            if octets > most && !batch.is_empty() {
                break;
            }
            batch.push(uid);
            self.rest.pop_front();
        }
        (!batch.is_empty()).then_some(batch)
    }
}

impl Drop for BodyReads {
    fn drop(&mut self) {
        // A download begun goes on by itself; only the reading from disk stops.
        if let Some(ahead) = &self.ahead {
            ahead.task.abort();
        }
    }
}

impl Inner {
    /// Makes sure the bodies of these messages are in the cache (prefetch).
    pub(crate) async fn fill(self: &Arc<Self>, state: &Arc<State>, uids: &[Uid], class: Class) -> Result<(), Error> {
        let snapshot = state.snapshot();
        let keys: Vec<BodyKey> = uids.iter().map(|uid| state.body_key(&snapshot, *uid)).collect();
        let have = self
            .disk(move |store| store.has_bodies(&keys))
            .await
            .map_err(|_| Error::Internal("the cache failed".into()))?;
        let missing = uids.iter().zip(have).filter(|(uid, have)| !have && !state.is_hidden(**uid));
        let missing: Vec<Uid> = missing.map(|(uid, _)| *uid).collect();
        for (_, source) in self.fly(state, &missing, class) {
            source.ended().await.or_else(|error| if error == Error::Expunged { Ok(()) } else { Err(error) })?;
        }
        Ok(())
    }

    /// What the cache has of these, in one call; as many answers as questions.
    async fn read_cached(&self, wanted: &[Wanted]) -> Vec<Option<Cached>> {
        if wanted.is_empty() {
            return Vec::new();
        }
        let asked = wanted.to_vec();
        let read = self.disk(move |store| {
            let read = asked.iter().map(|one| {
                let large = one.octets > STREAM_ABOVE;
                if large { open(store, one.key) } else { Ok(store.body(one.key)?.map(Cached::Whole)) }
            });
            read.collect::<Result<Vec<_>, _>>()
        });
        // A cache that failed is a miss for all of them.
        read.await.unwrap_or_else(|_| wanted.iter().map(|_| None).collect())
    }

    /// Where each body comes from, in the order asked: memory, disk, or a flight begun or joined now.
    async fn sources(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: Vec<Uid>,
        appetite: &Appetite,
        asked: usize,
    ) -> Vec<Sourced> {
        let snapshot = state.snapshot();
        let keys: Vec<BodyKey> = uids.iter().map(|uid| state.body_key(&snapshot, *uid)).collect();
        let mut found: Vec<Option<Cached>> = {
            let recent = self.bodies.recent.lock().unwrap_or_else(PoisonError::into_inner);
            keys.iter().map(|key| recent.find(*key).map(Cached::Whole)).collect()
        };
        let size = |uid: Uid| snapshot.messages.get(uid).map_or(0, |message| u64::from(message.size));
        let wanted: Vec<Wanted> = (0..)
            .zip(uids.iter().zip(&keys))
            .filter(|(index, _)| found.get(*index).is_some_and(Option::is_none))
            .map(|(index, (uid, key))| Wanted { index, key: *key, octets: size(*uid) })
            .collect();
        let (first, second) = halves(&wanted);
        let (read, more) = tokio::join!(self.read_cached(first), self.read_cached(second));
        for (Wanted { index, key, .. }, body) in wanted.iter().zip(read.into_iter().chain(more)) {
            if let Some(Cached::Whole(body)) = &body {
                self.bodies.remember(*key, body);
            }
            if let Some(place) = found.get_mut(*index) {
                *place = body;
            }
        }
        let missing: Vec<Uid> =
            uids.iter().zip(&found).filter(|(_, body)| body.is_none()).map(|(uid, _)| *uid).collect();
        (missing.len()..uids.len()).for_each(|_| self.body_read(BodyRead::Hit));
        let class = if missing.is_empty() {
            Class::Interactive
        } else {
            let octets = missing.iter().map(|uid| size(*uid)).sum();
            appetite.class_of(asked, missing.len() as u64, octets, Instant::now())
        };
        let mut flights: HashMap<Uid, Arc<Flight>> = self.fly(state, &missing, class).into_iter().collect();
        let sources = uids.into_iter().zip(keys).zip(found).map(|((uid, key), body)| {
            let source = match (body, flights.remove(&uid)) {
                (Some(Cached::Whole(body)), _) => Ok(Source::Memory(body)),
                (Some(Cached::Open(opened)), _) => {
                    Ok(Source::Stored(Box::new(Stored::new(self, state, uid, key, *opened))))
                }
                (None, Some(flight)) => Ok(Source::Flight(flight)),
                (None, None) => Err(Error::Expunged),
            };
            Sourced(uid, source)
        });
        sources.collect()
    }
}

/// A body to look for in the cache: its place in the batch, its key and how long it should be.
#[derive(Clone, Copy)]
struct Wanted {
    index: usize,
    key: BodyKey,
    octets: u64,
}

/// Two parts to be read at the same time, if there is enough for two.
fn halves(wanted: &[Wanted]) -> (&[Wanted], &[Wanted]) {
    let all: u64 = wanted.iter().map(|one| one.octets).sum();
    if all <= FIRST_OCTETS {
        return (wanted, &[]);
    }
    let mut before = 0;
    let first = wanted.iter().take_while(|one| {
        let is_first = before < all / 2;
        before += one.octets;
        is_first
    });
    wanted.split_at(first.count())
}

/// What the store has of a body.
enum Cached {
    Whole(Bytes),
    Open(Box<Opened>),
}

/// Opens a large body and reads its first piece. One that is damaged there is a miss.
fn open(store: &Store, key: BodyKey) -> Result<Option<Cached>, crate::store::Error> {
    let Some(mut reader) = store.open_body(key)? else { return Ok(None) };
    Ok(match reader.next_chunk() {
        Ok(Some(piece)) => Some(Cached::Open(Box::new((reader, Some(piece))))),
        Ok(None) if reader.is_empty() => Some(Cached::Whole(Bytes::new())),
        Ok(None) | Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_worth_it_is_read_in_two_halves() {
        let batch = |octets: &[u64]| -> Vec<Wanted> {
            let all = octets.iter().enumerate();
            all.map(|(index, octets)| Wanted { index, key: BodyKey::Provider(0), octets: *octets }).collect()
        };
        let table: [(&[u64], usize); 6] = [
            (&[], 0),
            (&[FIRST_OCTETS], 1),
            (&[FIRST_OCTETS + 1], 1),
            (&[FIRST_OCTETS, 1, 1], 1),
            (&[FIRST_OCTETS; 6], 3),
            (&[1, 1, FIRST_OCTETS], 3),
        ];
        for (octets, first) in table {
            let all = batch(octets);
            let (one, two) = halves(&all);
            assert_eq!((one.len(), one.len() + two.len()), (first, all.len()), "{octets:?}");
            assert!(one.iter().chain(two).map(|wanted| wanted.index).eq(0..all.len()), "{octets:?}");
        }
    }
}
