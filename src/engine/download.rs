//! Downloads: one lease for what is asked together, flights fed as octets arrive, and another attempt when a session is lost.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Duration, Instant, sleep};
use tracing::{Instrument as _, debug, error, warn};

use super::account::Inner;
use super::error::Error;
use super::flight::{Flight, Landing};
use super::mailbox::State;
use super::sync::window;
use crate::metrics::BodyRead;
use crate::model::{Uid, UidSet};
use crate::store::{BodyKey, Store};
use crate::upstream::{self, BodyEvent, BodyPart, Class, FetchMeta};
use crate::wire::pop3;

/// Pieces between the upstream session and the flights; each is at most a read buffer.
const PIECES: usize = 16;
/// Bodies that wait to be stored, in count and in octets (a longer one waits alone): the download goes on meanwhile.
const UNSTORED: usize = 64;
const UNSTORED_KIB: u32 = 8 << 10;
/// Attempts that bring nothing new before those who wait are told so.
const FRUITLESS: usize = 3;
/// Attempts at all: a line that breaks after every few octets is no line, and each attempt costs the whole of a body again.
const ATTEMPTS: usize = 10;
/// With octets at clients already, a connection that cannot be had now is waited for this long between two attempts.
const RESUME_WAIT: Duration = Duration::from_secs(5);
/// No further attempt is begun this long after the last one that brought anything: the clients have given up.
const RESUME_WITHIN: Duration = Duration::from_secs(90);

/// A body that is all here and not stored yet.
struct Landed {
    uid: Uid,
    key: BodyKey,
    body: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

/// Flights begun together, by UID.
type Begun = HashMap<Uid, (BodyKey, Arc<Flight>)>;

impl Inner {
    /// Joins the downloads of these messages that are in flight, and begins one for the others. Messages the mirror does not
    /// hold any more have none.
    pub(super) fn fly(self: &Arc<Self>, state: &Arc<State>, uids: &[Uid], class: Class) -> Vec<(Uid, Arc<Flight>)> {
        let snapshot = state.snapshot();
        let mut all = Vec::with_capacity(uids.len());
        let mut begun: Begun = HashMap::new();
        let mut flights = self.bodies.flights.lock().unwrap_or_else(PoisonError::into_inner);
        for uid in uids {
            let Some(message) = snapshot.messages.get(*uid) else { continue };
            let key = state.body_key(&snapshot, *uid);
            let flight = if let Some(flight) = flights.get(&key) {
                self.body_read(BodyRead::Joined);
                Arc::clone(flight)
            } else if let Some(body) = self.bodies.remembered(key) {
                // The caller has looked in the cache before, and a download may have ended since. It leaves its body in memory before
                // it takes its flight off the list, so whoever finds none looks there once more: a body is fetched once.
                self.body_read(BodyRead::Hit);
                Flight::landed(body)
            } else if state.is_hidden(*uid) {
                self.body_read(BodyRead::Refused);
                Flight::refused(window::hidden())
            } else {
                match self.options.allowance.download(u64::from(message.size), class) {
                    Ok(grant) => {
                        let flight = Flight::new(grant);
                        flights.insert(key, Arc::clone(&flight));
                        begun.insert(*uid, (key, Arc::clone(&flight)));
                        flight
                    }
                    // Nobody joins this one: it may be granted to the next who asks.
                    Err(error) => {
                        self.body_read(BodyRead::Refused);
                        Flight::refused(error)
                    }
                }
            };
            all.push((*uid, flight));
        }
        drop(flights);
        if !begun.is_empty() {
            let (account, state) = (Arc::clone(self), Arc::clone(state));
            // In the span of whoever asks first, so that the log tells on whose behalf.
            self.tasks.spawn(async move { account.download(&state, begun, class).await }.in_current_span());
        }
        all
    }

    /// Fetches bodies and lands their flights, whatever happens.
    async fn download(self: Arc<Self>, state: &Arc<State>, mut begun: Begun, class: Class) {
        let own: Vec<(BodyKey, Arc<Flight>)> = begun.values().cloned().collect();
        let done = self.attempts(state, &mut begun, class).await.map_err(Error::from);
        if let Err(error) = &done {
            debug!(account = %self.label(), mailbox = %state.name, %error, "bodies could not be fetched");
            begun.iter().for_each(|_| self.body_read(BodyRead::Refused));
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
        for (key, flight) in own {
            // Those that landed are off the list already, and another flight may have begun under their key.
            if flights.get(&key).is_some_and(|listed| Arc::ptr_eq(listed, &flight)) {
                flights.remove(&key);
            }
        }
    }

    /// Attempts until everything has landed, or nothing more is to be hoped for.
    async fn attempts(
        self: &Arc<Self>,
        state: &Arc<State>,
        begun: &mut Begun,
        class: Class,
    ) -> Result<(), upstream::Error> {
        let mut fruitless = 0;
        let mut fruit = Instant::now();
        let mut attempt = 1;
        loop {
            let before = amount(begun);
            let Err(error) = self.attempt(state, begun, class).await else { return Ok(()) };
            if amount(begun) == before {
                fruitless += 1;
            } else {
                (fruitless, fruit) = (0, Instant::now());
            }
            let half_told = begun.values().any(|(_, flight)| flight.has_begun());
            let wait = match &error {
                upstream::Error::Lost { .. } => Duration::ZERO,
                upstream::Error::Unavailable { retry_after, .. } if half_told => (*retry_after).min(RESUME_WAIT),
                _ => return Err(error),
            };
            if begun.is_empty() || fruitless >= FRUITLESS || attempt >= ATTEMPTS || fruit.elapsed() >= RESUME_WITHIN {
                return Err(error);
            }
            attempt += 1;
            debug!(account = %self.label(), mailbox = %state.name, attempt, %error, "bodies are fetched again");
            tokio::select! {
                () = self.stop.cancelled() => return Err(error),
                () = sleep(wait) => {}
            }
        }
    }

    /// Why upstream did not send what it was asked for: expunged meanwhile, or not to be had.
    async fn missing_reason(self: &Arc<Self>, state: &Arc<State>, begun: &Begun) -> Result<(), Error> {
        if self.freshen(state, Instant::now(), Class::Interactive).await.is_ok() {
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
    async fn attempt(
        self: &Arc<Self>,
        state: &Arc<State>,
        begun: &mut Begun,
        class: Class,
    ) -> Result<(), upstream::Error> {
        let uids: UidSet = begun.keys().map(|uid| uid.0).collect();
        let (out, events) = mpsc::channel(PIECES);
        let fetch = self.fetch_parts(state, class, &uids, BodyPart::Whole, false, out);
        let (fetched, ()) = tokio::join!(fetch, self.land(state, events, begun, class));
        fetched
    }

    /// Fetches a part of messages over whatever session is free, in one round trip. [`upstream::Error::Replaced`] when the mailbox is not
    /// the one we mean any more. Reads only: a write goes through [`Self::ready`].
    pub(super) async fn fetch_parts(
        self: &Arc<Self>,
        state: &Arc<State>,
        class: Class,
        uids: &UidSet,
        part: BodyPart,
        structure: bool,
        out: mpsc::Sender<BodyEvent>,
    ) -> Result<(), upstream::Error> {
        let snapshot = state.snapshot();
        if snapshot.dead {
            return Err(upstream::Error::Replaced);
        }
        let mut lease = tokio::select! {
            lease = self.pool.lease_to_read(class, Some(&state.name)) => lease?,
            () = out.closed() => {
                return Err(upstream::Error::Lost { reason: "nobody waits for it any more".into(), sent: false });
            }
        };
        let done = lease.fetch_bodies_in(&state.name, snapshot.uid_validity, uids, part, structure, &out).await;
        drop(lease);
        match &done {
            Ok(()) | Err(upstream::Error::No { .. }) => self.seen_upstream(),
            Err(upstream::Error::Replaced) => self.suspect(state),
            Err(_) => {}
        }
        done
    }

    /// The same for a caller that may go away in the middle, as a client does. The exchange is ended in order then: what is under way is
    /// read to its end and dropped, if it is little (`upstream/exchange/bodies`), where cutting it would cost a session, and a login.
    pub(super) async fn fetch_parts_apart(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: UidSet,
        part: BodyPart,
        structure: bool,
        out: mpsc::Sender<BodyEvent>,
    ) -> Result<(), upstream::Error> {
        let (account, state) = (Arc::clone(self), Arc::clone(state));
        let fetch = async move { account.fetch_parts(&state, Class::Interactive, &uids, part, structure, out).await };
        self.tasks.spawn(fetch.in_current_span()).await.unwrap_or_else(|failure| {
            error!(account = %self.label(), %failure, "a task of the engine panicked");
            Err(upstream::Error::Protocol("an internal error; see the log".into()))
        })
    }

    /// Feeds flights with what arrives, and stores what is complete.
    async fn land(
        self: &Arc<Self>,
        state: &Arc<State>,
        events: mpsc::Receiver<BodyEvent>,
        begun: &mut Begun,
        class: Class,
    ) {
        let (landed, unstored) = mpsc::channel(UNSTORED);
        tokio::join!(self.feed(events, begun, class, landed), self.keep_all(state, unstored));
    }

    async fn feed(
        self: &Arc<Self>,
        mut events: mpsc::Receiver<BodyEvent>,
        begun: &mut Begun,
        class: Class,
        landed: mpsc::Sender<Landed>,
    ) {
        let room = Arc::new(Semaphore::new(UNSTORED_KIB as usize));
        let mut current: Option<(Uid, Landing)> = None;
        while let Some(event) = events.recv().await {
            match event {
                BodyEvent::Start { uid, len, .. } => {
                    current = None;
                    match begun.get(&uid).map(|(_, flight)| Landing::begin(flight, len)) {
                        Some(Ok(landing)) => current = Some((uid, landing)),
                        Some(Err(_)) => self.give_up(begun, uid),
                        None => {}
                    }
                }
                BodyEvent::Chunk(piece) => {
                    if let Some((uid, landing)) = &mut current
                        && landing.take(piece).is_err()
                    {
                        let uid = *uid;
                        current = None;
                        self.give_up(begun, uid);
                    }
                }
                BodyEvent::End => {
                    let Some((uid, landing)) = current.take() else { continue };
                    if !landing.is_whole() {
                        warn!(account = %self.label(), %uid, "upstream's literal has another length than it said");
                        continue;
                    }
                    if let Some((key, flight)) = begun.remove(&uid) {
                        self.body_read(BodyRead::Filled);
                        self.counts.body_fetched(class.index());
                        let body = flight.joined();
                        self.bodies.remember(key, &body);
                        flight.end(Ok(()));
                        let kib = u32::try_from(body.len() >> 10).unwrap_or(u32::MAX).saturating_add(1);
                        // Neither is ever closed while this runs.
                        let room = Arc::clone(&room).acquire_many_owned(kib.min(UNSTORED_KIB)).await;
                        let _ = landed.send(Landed { uid, key, body, room: room.ok() }).await;
                    }
                }
                BodyEvent::Done { meta: FetchMeta { .. }, .. } => {}
            }
        }
    }

    /// Ends a flight of which upstream told two different bodies.
    fn give_up(self: &Arc<Self>, begun: &mut Begun, uid: Uid) {
        let Some((key, flight)) = begun.remove(&uid) else { return };
        warn!(account = %self.label(), %uid, "upstream sent another body than the one it had begun to send");
        self.body_read(BodyRead::Refused);
        flight.end(Err(Error::Unavailable("The provider sent two different bodies of this message".into())));
        self.bodies.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Stores what has landed, as much as is there at a time. Until it is stored its flight stays on the list, so that whoever asks
    /// meanwhile joins it.
    async fn keep_all(self: &Arc<Self>, state: &Arc<State>, mut unstored: mpsc::Receiver<Landed>) {
        let mut batch: Vec<Landed> = Vec::new();
        while unstored.recv_many(&mut batch, UNSTORED).await > 0 {
            let keys: Vec<BodyKey> = batch.iter().map(|landed| landed.key).collect();
            let snapshot = state.snapshot();
            let told = |uid| snapshot.messages.get(uid).map(|message| u64::from(message.size));
            // Given back when the call has answered or was given up: a disk that hangs must not hold up the session that feeds it.
            let rooms: Vec<_> = batch.iter_mut().map(|landed| landed.room.take()).collect();
            let bodies: Vec<_> = batch.drain(..).map(|landed| (told(landed.uid), landed)).collect();
            // A body that cannot be stored is served all the same, and fetched again the next time; each is tried, whatever
            // becomes of the one before.
            let put = move |store: &Store| {
                let mut known = Vec::new();
                let stored = bodies.iter().map(|(told, one)| {
                    store.put_body(one.key, &one.body)?;
                    let octets = pop3::octets(&one.body);
                    if told.is_some_and(|told| told != octets) {
                        store.put_octets(one.key, octets)?;
                    }
                    known.push((one.uid, octets));
                    Ok(())
                });
                stored.fold(Ok(()), Result::and).map(|()| known)
            };
            let known = self.disk(put).await.unwrap_or_default();
            drop(rooms);
            for (uid, octets) in known {
                state.note_octets(uid, octets);
            }
            let mut flights = self.bodies.flights.lock().unwrap_or_else(PoisonError::into_inner);
            for key in keys {
                flights.remove(&key);
            }
        }
    }
}

/// What is still to land, and how much of it is here: an attempt that changed neither was in vain.
fn amount(begun: &Begun) -> (usize, u64) {
    (begun.len(), begun.values().map(|(_, flight)| flight.octets()).sum())
}
