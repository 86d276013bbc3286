//! Whole messages: from disk, from a download in flight, or fetched now, once, for all who wait.
//!
//! A body is fetched at most once at a time: the first to miss makes a [`Flight`], the others join it and are fed while the bytes
//! arrive. Bytes from disk are verified by the store on every read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::account::Inner;
use super::error::Error;
use super::mailbox::State;
use super::recent::Recent;
use crate::metrics::BodyRead;
use crate::model::{Uid, UidSet};
use crate::store::BodyKey;
use crate::upstream::{BodyEvent, BodyPart, Class, FetchMeta};

/// Read ahead of one client: messages, and octets of them (at least one message). A client that never reads holds two such batches.
const AHEAD_MESSAGES: usize = 64;
const AHEAD_OCTETS: u64 = 2 << 20;
/// The same for the first batch, which somebody waits for: read from disk in well under a millisecond.
const FIRST_OCTETS: u64 = 256 << 10;
/// Pieces between the upstream session and the flights; each is at most a read buffer.
const PIECES: usize = 16;

/// The downloads in flight of an account, and a few bodies read lately.
#[derive(Default)]
pub(crate) struct Bodies {
    flights: Mutex<HashMap<BodyKey, Arc<Flight>>>,
    recent: Mutex<Recent>,
}

/// One download: what has arrived, and who waits is told of more.
pub(crate) struct Flight {
    pieces: Mutex<Vec<Bytes>>,
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Known once upstream began to send.
    len: Option<u64>,
    pieces: usize,
    end: Option<Result<(), Error>>,
}

impl Flight {
    fn new() -> Arc<Self> {
        Arc::new(Self { pieces: Mutex::default(), progress: watch::Sender::new(Progress::default()) })
    }

    fn begin(&self, len: u64) {
        self.progress.send_modify(|progress| progress.len = Some(len));
    }

    fn push(&self, piece: Bytes) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.push(piece);
        let count = pieces.len();
        drop(pieces);
        self.progress.send_modify(|progress| progress.pieces = count);
    }

    fn end(&self, end: Result<(), Error>) {
        self.progress.send_if_modified(|progress| {
            let first = progress.end.is_none();
            if first {
                progress.end = Some(end);
            }
            first
        });
    }

    fn joined(&self) -> Bytes {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let [only] = pieces.as_slice() {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
        pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.freeze()
    }

    /// Waits until it is known how long the body will be.
    async fn begun(self: &Arc<Self>) -> Result<u64, Error> {
        let mut progress = self.progress.subscribe();
        let now = progress.wait_for(|progress| progress.len.is_some() || progress.end.is_some()).await;
        match now.as_deref() {
            Ok(Progress { end: Some(Err(error)), .. }) => Err(error.clone()),
            Ok(Progress { len: Some(len), .. }) => Ok(*len),
            Ok(_) | Err(_) => Err(Error::Internal("a download ended without a word".into())),
        }
    }

    async fn ended(self: &Arc<Self>) -> Result<(), Error> {
        let mut progress = self.progress.subscribe();
        let now = progress.wait_for(|progress| progress.end.is_some()).await;
        match now.as_deref() {
            Ok(Progress { end: Some(end), .. }) => end.clone(),
            Ok(_) | Err(_) => Err(Error::Internal("a download ended without a word".into())),
        }
    }
}

/// A raw message, whole or still arriving.
pub struct Body {
    from: From,
}

enum From {
    Memory { body: Bytes, told: bool },
    Flight { flight: Arc<Flight>, len: u64, next: usize },
}

impl Body {
    fn memory(body: Bytes) -> Self {
        Self { from: From::Memory { body, told: false } }
    }

    /// Octets; known before the last one is here.
    pub fn len(&self) -> u64 {
        match &self.from {
            From::Memory { body, .. } => body.len() as u64,
            From::Flight { len, .. } => *len,
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
        }
    }

    /// The next piece as it arrives, `None` after [`Self::len`] octets. After an error the literal begun at a client cannot be
    /// completed: its connection has to be closed.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        match &mut self.from {
            From::Memory { told: true, .. } => None,
            From::Memory { body, told } => {
                *told = true;
                (!body.is_empty()).then(|| Ok(body.clone()))
            }
            From::Flight { flight, next, .. } => {
                let mut progress = flight.progress.subscribe();
                let at = *next;
                let now = progress.wait_for(|progress| progress.pieces > at || progress.end.is_some()).await;
                let Ok(now) = now.map(|now| now.clone()) else {
                    return Some(Err(Error::Internal("a download ended without a word".into())));
                };
                if now.pieces > at {
                    *next += 1;
                    let pieces = flight.pieces.lock().unwrap_or_else(PoisonError::into_inner);
                    return pieces.get(at).cloned().map(Ok);
                }
                match now.end {
                    Some(Err(error)) => Some(Err(error)),
                    _ => None,
                }
            }
        }
    }
}

/// Reads of whole messages in a given order.
pub struct BodyReads {
    account: Arc<Inner>,
    state: Arc<State>,
    rest: VecDeque<Uid>,
    ready: VecDeque<(Uid, Result<Source, Error>)>,
    ahead: Option<JoinHandle<Vec<(Uid, Result<Source, Error>)>>>,
}

/// Where a body will come from.
enum Source {
    Memory(Bytes),
    Flight(Arc<Flight>),
}

impl BodyReads {
    pub(crate) fn new(account: Arc<Inner>, state: Arc<State>, uids: Vec<Uid>) -> Self {
        Self { account, state, rest: uids.into(), ready: VecDeque::new(), ahead: None }
    }

    /// The next message; `None` at the end. The body may still be arriving.
    pub async fn next(&mut self) -> Option<(Uid, Result<Body, Error>)> {
        if self.ready.is_empty() {
            self.ready = match self.ahead.take() {
                Some(ahead) => ahead.await.unwrap_or_default().into(),
                // Nothing to do beside it, so it is no task of its own: one FETCH of one message, the commonest there is, is then
                // answered without a change of threads.
                None => {
                    let batch = self.next_batch(FIRST_OCTETS)?;
                    self.account.sources(&self.state, batch, Class::Interactive).await.into()
                }
            };
        }
        if self.ahead.is_none() {
            self.ahead = self.look_ahead();
        }
        let (uid, source) = self.ready.pop_front()?;
        let body = match source {
            Err(error) => Err(error),
            Ok(Source::Memory(body)) => Ok(Body::memory(body)),
            Ok(Source::Flight(flight)) => {
                flight.begun().await.map(|len| Body { from: From::Flight { flight, len, next: 0 } })
            }
        };
        Some((uid, body))
    }

    /// Begins to read the next batch.
    fn look_ahead(&mut self) -> Option<JoinHandle<Vec<(Uid, Result<Source, Error>)>>> {
        let batch = self.next_batch(AHEAD_OCTETS)?;
        let (account, state) = (Arc::clone(&self.account), Arc::clone(&self.state));
        Some(tokio::spawn(async move { account.sources(&state, batch, Class::Interactive).await }))
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
            ahead.abort();
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
        let missing: Vec<Uid> = uids.iter().zip(have).filter(|(_, have)| !have).map(|(uid, _)| *uid).collect();
        for (_, source) in self.fly(state, &missing, class) {
            source.ended().await.or_else(|error| if error == Error::Expunged { Ok(()) } else { Err(error) })?;
        }
        Ok(())
    }

    /// One whole message.
    pub(crate) async fn body(self: &Arc<Self>, state: &Arc<State>, uid: Uid) -> Result<Bytes, Error> {
        let mut sources = self.sources(state, vec![uid], Class::Interactive).await;
        match sources.pop() {
            Some((_, Ok(Source::Memory(body)))) => Ok(body),
            Some((_, Ok(Source::Flight(flight)))) => flight.ended().await.map(|()| flight.joined()),
            Some((_, Err(error))) => Err(error),
            None => Err(Error::Internal("no source for a body".into())),
        }
    }

    /// Where each body comes from, in the order asked: memory, disk, or a flight begun or joined now.
    async fn sources(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: Vec<Uid>,
        class: Class,
    ) -> Vec<(Uid, Result<Source, Error>)> {
        let snapshot = state.snapshot();
        let keys: Vec<BodyKey> = uids.iter().map(|uid| state.body_key(&snapshot, *uid)).collect();
        let mut found: Vec<Option<Bytes>> = {
            let recent = self.bodies.recent.lock().unwrap_or_else(PoisonError::into_inner);
            keys.iter().map(|key| recent.find(*key)).collect()
        };
        let wanted: Vec<(usize, BodyKey)> = (0..)
            .zip(keys.iter().copied())
            .filter(|(index, _)| found.get(*index).is_some_and(Option::is_none))
            .collect();
        if !wanted.is_empty() {
            let asked = wanted.clone();
            let read = self
                .disk(move |store| asked.iter().map(|(_, key)| store.body(*key)).collect::<Result<Vec<_>, _>>())
                .await
                .unwrap_or_default();
            let mut recent = self.bodies.recent.lock().unwrap_or_else(PoisonError::into_inner);
            for ((index, key), body) in wanted.into_iter().zip(read) {
                if let (Some(body), Some(place)) = (body, found.get_mut(index)) {
                    recent.keep(key, &body);
                    *place = Some(body);
                }
            }
        }
        let missing: Vec<Uid> =
            uids.iter().zip(&found).filter(|(_, body)| body.is_none()).map(|(uid, _)| *uid).collect();
        (missing.len()..uids.len()).for_each(|_| self.metrics.body_read(BodyRead::Hit));
        let mut flights: HashMap<Uid, Arc<Flight>> = self.fly(state, &missing, class).into_iter().collect();
        let sources = uids.into_iter().zip(found).map(|(uid, body)| {
            let source = match (body, flights.remove(&uid)) {
                (Some(body), _) => Ok(Source::Memory(body)),
                (None, Some(flight)) => Ok(Source::Flight(flight)),
                (None, None) => Err(Error::Expunged),
            };
            (uid, source)
        });
        sources.collect()
    }

    /// Joins the downloads of these messages that are in flight, and begins one for the others. Messages the mirror does not
    /// hold any more have none.
    fn fly(self: &Arc<Self>, state: &Arc<State>, uids: &[Uid], class: Class) -> Vec<(Uid, Arc<Flight>)> {
        let snapshot = state.snapshot();
        let mut all = Vec::with_capacity(uids.len());
        let mut begun: HashMap<Uid, (BodyKey, Arc<Flight>)> = HashMap::new();
        let mut flights = self.bodies.flights.lock().unwrap_or_else(PoisonError::into_inner);
        for uid in uids {
            if snapshot.messages.get(*uid).is_none() {
                continue;
            }
            let key = state.body_key(&snapshot, *uid);
            let flight = match flights.get(&key) {
                Some(flight) => {
                    self.metrics.body_read(BodyRead::Joined);
                    Arc::clone(flight)
                }
                None => {
                    let flight = Flight::new();
                    flights.insert(key, Arc::clone(&flight));
                    begun.insert(*uid, (key, Arc::clone(&flight)));
                    flight
                }
            };
            all.push((*uid, flight));
        }
        drop(flights);
        if !begun.is_empty() {
            let (account, state) = (Arc::clone(self), Arc::clone(state));
            self.tasks.spawn(async move { account.download(&state, begun, class).await });
        }
        all
    }

    /// Fetches bodies and lands their flights, whatever happens.
    async fn download(
        self: Arc<Self>,
        state: &Arc<State>,
        mut begun: HashMap<Uid, (BodyKey, Arc<Flight>)>,
        class: Class,
    ) {
        let keys: Vec<BodyKey> = begun.values().map(|(key, _)| *key).collect();
        let mut done = self.download_round(state, &mut begun, class).await;
        if done.as_ref().is_err_and(Error::is_outage) && begun.values().all(|(_, flight)| flight.untouched()) {
            // The session was dead before the first octet: another one may do.
            done = self.download_round(state, &mut begun, class).await;
        }
        if let Err(error) = &done {
            debug!(account = %self.label(), mailbox = %state.name, %error, "bodies could not be fetched");
            begun.iter().for_each(|_| self.metrics.body_read(BodyRead::Refused));
        }
        // What upstream said OK to and did not send is gone, or cannot be had.
        let missing = match done {
            Ok(()) if begun.is_empty() => Ok(()),
            Ok(()) => {
                state.set_stale();
                self.missing_reason(state, &begun).await
            }
            Err(error) => Err(error),
        };
        for (_, flight) in begun.values() {
            flight.end(missing.clone());
        }
        let mut flights = self.bodies.flights.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().for_each(|key| drop(flights.remove(key)));
    }

    /// Why upstream did not send what it was asked for: expunged meanwhile, or not to be had.
    async fn missing_reason(
        self: &Arc<Self>,
        state: &Arc<State>,
        begun: &HashMap<Uid, (BodyKey, Arc<Flight>)>,
    ) -> Result<(), Error> {
        let now = tokio::time::Instant::now();
        if self.freshen(state, now, Class::Interactive).await.is_ok() {
            let snapshot = state.snapshot();
            for (uid, (_, flight)) in begun {
                if snapshot.messages.get(*uid).is_none() {
                    flight.end(Err(Error::Expunged));
                }
            }
        }
        Err(Error::Unavailable("The provider does not hand out this message".into()))
    }

    /// One attempt; flights that landed are taken out of `begun`.
    async fn download_round(
        self: &Arc<Self>,
        state: &Arc<State>,
        begun: &mut HashMap<Uid, (BodyKey, Arc<Flight>)>,
        class: Class,
    ) -> Result<(), Error> {
        let uids: UidSet = begun.keys().map(|uid| uid.0).collect();
        let mut lease = self.ready(state, class).await?;
        let (out, events) = mpsc::channel(PIECES);
        let fetch = async {
            let done = lease.fetch_bodies(&uids, BodyPart::Whole, false, &out).await;
            drop(out);
            done
        };
        let (fetched, ()) = tokio::join!(fetch, self.land(events, begun));
        self.seen_upstream();
        Ok(fetched?)
    }

    /// Feeds flights with what arrives, and stores what is complete.
    async fn land(
        self: &Arc<Self>,
        mut events: mpsc::Receiver<BodyEvent>,
        begun: &mut HashMap<Uid, (BodyKey, Arc<Flight>)>,
    ) {
        let mut current: Option<(Uid, u64, u64)> = None;
        while let Some(event) = events.recv().await {
            match event {
                BodyEvent::Start { uid, len, .. } => {
                    current = begun.get(&uid).map(|(_, flight)| {
                        flight.begin(len);
                        (uid, len, 0)
                    });
                }
                BodyEvent::Chunk(piece) => {
                    if let Some((uid, _, got)) = &mut current
                        && let Some((_, flight)) = begun.get(uid)
                    {
                        *got += piece.len() as u64;
                        flight.push(piece);
                    }
                }
                BodyEvent::End => {
                    let Some((uid, len, got)) = current.take() else { continue };
                    if len != got {
                        warn!(account = %self.label(), len, got, "upstream's literal has another length than it said");
                        continue;
                    }
                    if let Some((key, flight)) = begun.remove(&uid) {
                        self.metrics.body_read(BodyRead::Filled);
                        self.keep(key, &flight).await;
                        flight.end(Ok(()));
                        self.bodies.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                    }
                }
                BodyEvent::Done { meta: FetchMeta { .. }, .. } => {}
            }
        }
    }

    async fn keep(self: &Arc<Self>, key: BodyKey, flight: &Arc<Flight>) {
        let body = flight.joined();
        self.bodies.recent.lock().unwrap_or_else(PoisonError::into_inner).keep(key, &body);
        // A body that cannot be stored is served all the same, and fetched again the next time.
        let _ = self.disk(move |store| store.put_body(key, &body)).await;
    }
}

impl Flight {
    fn untouched(&self) -> bool {
        self.progress.borrow().len.is_none()
    }
}
