//! A download in flight: what has arrived, who waits for more, and how a broken one goes on.
//!
//! A session may be lost in the middle of a body whose first octets clients already have. The message is then fetched again from
//! its beginning, and a [`Landing`] compares what comes with what was handed out: only what lies behind it is news. So a client is
//! told one body, whatever happened upstream, or its connection ends.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::watch;

use super::allowance::Grant;
use super::error::Error;

/// One download: what has arrived, and who waits is told of more.
pub(crate) struct Flight {
    arrived: Mutex<Arrived>,
    progress: watch::Sender<Progress>,
    /// The octets set aside for it, until it has ended.
    grant: Mutex<Option<Grant>>,
}

#[derive(Default)]
struct Arrived {
    pieces: Vec<Bytes>,
    octets: u64,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Known once upstream began to send.
    len: Option<u64>,
    pieces: usize,
    octets: u64,
    end: Option<Result<(), Error>>,
}

/// A piece of a body that was handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) octets: usize,
    pub(super) hash: blake3::Hash,
}

/// The provider told two different bodies of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Differs;

impl Flight {
    /// One about to begin, with the octets set aside for it.
    pub(super) fn new(grant: Grant) -> Arc<Self> {
        Arc::new(Self { arrived: Mutex::default(), progress: watch::Sender::default(), grant: Mutex::new(Some(grant)) })
    }

    /// One that ended before it began.
    pub(super) fn refused(error: Error) -> Arc<Self> {
        let flight = Self::new(Box::new(()));
        flight.end(Err(error));
        flight
    }

    /// One that has landed already.
    pub(super) fn landed(body: Bytes) -> Arc<Self> {
        let flight = Self::new(Box::new(()));
        flight.progress.send_modify(|progress| progress.len = Some(body.len() as u64));
        if !body.is_empty() {
            flight.push(body);
        }
        flight.end(Ok(()));
        flight
    }

    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, piece: Bytes) {
        let mut arrived = self.arrived();
        arrived.octets += piece.len() as u64;
        arrived.pieces.push(piece);
        let (count, octets) = (arrived.pieces.len(), arrived.octets);
        drop(arrived);
        self.progress.send_modify(|progress| (progress.pieces, progress.octets) = (count, octets));
    }

    /// The first end is the one that counts.
    pub(super) fn end(&self, end: Result<(), Error>) {
        self.progress.send_if_modified(|progress| {
            let first = progress.end.is_none();
            if first {
                progress.end = Some(end);
            }
            first
        });
        self.release();
    }

    /// Gives back the octets set aside.
    fn release(&self) {
        *self.grant.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Octets here so far.
    pub(super) fn octets(&self) -> u64 {
        self.arrived().octets
    }

    /// Whether the length has been told, to clients too perhaps.
    pub(super) fn has_begun(&self) -> bool {
        self.progress.borrow().len.is_some()
    }

    pub(super) fn joined(&self) -> Bytes {
        let arrived = self.arrived();
        if let [only] = arrived.pieces.as_slice() {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(arrived.pieces.iter().map(Bytes::len).sum());
        arrived.pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.freeze()
    }

    /// Waits until it is known how long the body will be.
    pub(super) async fn begun(&self) -> Result<u64, Error> {
        let mut progress = self.progress.subscribe();
        let now = progress.wait_for(|progress| progress.len.is_some() || progress.end.is_some()).await;
        match now.as_deref() {
            Ok(Progress { end: Some(Err(error)), .. }) => Err(error.clone()),
            Ok(Progress { len: Some(len), .. }) => Ok(*len),
            Ok(_) | Err(_) => Err(without_a_word()),
        }
    }

    pub(super) async fn ended(&self) -> Result<(), Error> {
        let mut progress = self.progress.subscribe();
        let now = progress.wait_for(|progress| progress.end.is_some()).await;
        match now.as_deref() {
            Ok(Progress { end: Some(end), .. }) => end.clone(),
            Ok(_) | Err(_) => Err(without_a_word()),
        }
    }

    /// The piece at this place, as soon as it is here; `None` behind the last one.
    pub(super) async fn piece(&self, at: usize) -> Option<Result<Bytes, Error>> {
        let mut progress = self.progress.subscribe();
        let now = progress.wait_for(|progress| progress.pieces > at || progress.end.is_some()).await;
        let Ok(now) = now.map(|now| now.clone()) else { return Some(Err(without_a_word())) };
        if now.pieces > at {
            return self.arrived().pieces.get(at).cloned().map(Ok);
        }
        now.end.and_then(Result::err).map(Err)
    }

    /// The octets of a stretch, as soon as the last of them is here; what lies behind the end of the body is left out.
    pub(super) async fn range(&self, stretch: Range<u64>) -> Result<Bytes, Error> {
        let len = self.begun().await?;
        let (start, end) = (stretch.start.min(len), stretch.end.min(len));
        if start >= end {
            return Ok(Bytes::new());
        }
        let mut progress = self.progress.subscribe();
        let now = progress.wait_for(|progress| progress.octets >= end || progress.end.is_some()).await;
        let Ok(now) = now.map(|now| now.clone()) else { return Err(without_a_word()) };
        if now.octets < end {
            return Err(now.end.and_then(Result::err).unwrap_or_else(without_a_word));
        }
        let mut cut = BytesMut::with_capacity(usize::try_from(end - start).unwrap_or_default());
        let mut at = 0;
        for piece in &self.arrived().pieces {
            let within = |place: u64| usize::try_from(place.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
            cut.extend_from_slice(piece.get(within(start)..within(end)).unwrap_or_default());
            at += piece.len() as u64;
            if at >= end {
                break;
            }
        }
        Ok(cut.freeze())
    }

    /// Waits for the first octets and shows that they are these: the place behind them, as piece and octets of it, or nothing if
    /// they are others.
    pub(super) async fn behind(&self, told: &[Told]) -> Result<Option<(usize, usize)>, Error> {
        let (mut at, mut skip) = (0, 0);
        for Told { octets, hash } in told {
            let mut hasher = blake3::Hasher::new();
            let mut left = *octets;
            while left > 0 {
                let Some(piece) = self.piece(at).await.transpose()? else { return Ok(None) };
                let rest = piece.get(skip..).unwrap_or_default();
                let taken = left.min(rest.len());
                hasher.update(rest.get(..taken).unwrap_or_default());
                left -= taken;
                (at, skip) = if taken < rest.len() { (at, skip + taken) } else { (at + 1, 0) };
            }
            if hasher.finalize() != *hash {
                return Ok(None);
            }
        }
        Ok(Some((at, skip)))
    }
}

fn without_a_word() -> Error {
    Error::Internal("a download ended without a word".into())
}

/// One attempt's octets on their way into a flight.
pub(super) struct Landing {
    flight: Arc<Flight>,
    len: u64,
    got: u64,
    /// Where in the flight's pieces we are: what comes next is compared with what lies there.
    piece: usize,
    offset: usize,
}

impl Landing {
    pub(super) fn begin(flight: &Arc<Flight>, len: u64) -> Result<Self, Differs> {
        let mut same = true;
        flight.progress.send_if_modified(|progress| match progress.len {
            Some(known) => {
                same = known == len;
                false
            }
            None => {
                progress.len = Some(len);
                true
            }
        });
        let landing = Self { flight: Arc::clone(flight), len, got: 0, piece: 0, offset: 0 };
        if same { Ok(landing) } else { Err(Differs) }
    }

    /// The next octets: what is here already has to be the same, the rest is handed on.
    pub(super) fn take(&mut self, mut chunk: Bytes) -> Result<(), Differs> {
        self.got += chunk.len() as u64;
        if self.got > self.len {
            return Err(Differs);
        }
        if self.is_whole() {
            // Counted by now: nothing is set aside any more when the client has the last octet and asks for more.
            self.flight.release();
        }
        while !chunk.is_empty() {
            let known = self.flight.arrived().pieces.get(self.piece).cloned();
            let Some(known) = known else {
                self.piece += 1;
                self.flight.push(chunk);
                return Ok(());
            };
            let known = known.get(self.offset..).unwrap_or_default();
            let both = known.len().min(chunk.len());
            if known.get(..both) != chunk.get(..both) {
                return Err(Differs);
            }
            chunk.advance(both);
            self.offset += both;
            if both == known.len() {
                (self.piece, self.offset) = (self.piece + 1, 0);
            }
        }
        Ok(())
    }

    pub(super) fn is_whole(&self) -> bool {
        self.got == self.len
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn take(landing: &mut Landing, body: &[u8], rng: &mut StdRng) -> Result<(), Differs> {
        let mut rest = body;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rng.random_range(1..=rest.len().min(40)));
            landing.take(Bytes::copy_from_slice(piece))?;
            rest = after;
        }
        Ok(())
    }

    /// Broken at any place any number of times, in pieces of any size: the flight holds the body once.
    #[test]
    fn attempts_make_one_body() {
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let body: Vec<u8> = (0..rng.random_range(1..500)).map(|_| rng.random()).collect();
            let flight = Flight::new(Box::new(()));
            for _ in 0..rng.random_range(0..5) {
                let mut landing = Landing::begin(&flight, body.len() as u64).unwrap();
                let cut = rng.random_range(0..body.len());
                take(&mut landing, &body[..cut], &mut rng).unwrap();
                assert!(!landing.is_whole(), "seed {seed}");
                assert!(flight.octets() >= cut as u64, "seed {seed}");
            }
            let mut landing = Landing::begin(&flight, body.len() as u64).unwrap();
            take(&mut landing, &body, &mut rng).unwrap();
            assert!(landing.is_whole(), "seed {seed}");
            assert_eq!(
                (flight.joined(), flight.octets()),
                (Bytes::from(body.clone()), body.len() as u64),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn another_body_is_not_mixed_in() {
        let flight = Flight::new(Box::new(()));
        Landing::begin(&flight, 6).unwrap().take(Bytes::from_static(b"abc")).unwrap();
        assert_eq!(Landing::begin(&flight, 7).err(), Some(Differs), "another length");
        let mut other = Landing::begin(&flight, 6).unwrap();
        assert_eq!(other.take(Bytes::from_static(b"abX")), Err(Differs));
        let mut longer = Landing::begin(&flight, 6).unwrap();
        assert_eq!(longer.take(Bytes::from_static(b"abcdefg")), Err(Differs));
        assert_eq!(flight.joined(), "abc");
    }

    /// A stretch is there as soon as its last octet is, whatever the pieces; and not before.
    #[tokio::test]
    async fn a_stretch_does_not_wait_for_the_rest() {
        use futures_util::FutureExt as _;

        let flight = Flight::new(Box::new(()));
        assert_eq!(flight.range(0..1).now_or_never(), None, "before anything is known");
        let mut landing = Landing::begin(&flight, 10).unwrap();
        assert_eq!(flight.range(10..20).now_or_never(), Some(Ok(Bytes::new())), "behind the end");
        for piece in ["ab", "cde", "f"] {
            landing.take(piece.into()).unwrap();
        }
        for (start, end) in (0..=6).flat_map(|start| (start..=6).map(move |end| (start, end))) {
            let want = "abcdef".get(start..end).unwrap();
            assert_eq!(flight.range(start as u64..end as u64).now_or_never(), Some(Ok(want.into())), "{start}..{end}");
        }
        assert_eq!(flight.range(0..7).now_or_never(), None);
        let gone = Error::Unavailable("gone".into());
        flight.end(Err(gone.clone()));
        assert_eq!(flight.range(0..7).await, Err(gone.clone()));
        // The whole body has failed by now; whoever asks from the beginning is told.
        assert_eq!(flight.begun().await, Err(gone));
        let landed = Flight::landed("abc".into());
        assert_eq!(landed.range(1..100).await, Ok("bc".into()));
    }

    #[tokio::test]
    async fn a_reader_goes_on_behind_what_it_has() {
        let flight = Flight::new(Box::new(()));
        let mut landing = Landing::begin(&flight, 6).unwrap();
        for piece in ["ab", "cd", "ef"] {
            landing.take(piece.into()).unwrap();
        }
        flight.end(Ok(()));
        let table = [("", (0, 0)), ("a", (0, 1)), ("ab", (1, 0)), ("abcde", (2, 1)), ("abcdef", (3, 0))];
        let told = |pieces: &[&str]| -> Vec<Told> {
            pieces.iter().map(|p| Told { octets: p.len(), hash: blake3::hash(p.as_bytes()) }).collect()
        };
        for (have, place) in table {
            assert_eq!(flight.behind(&told(&[have])).await, Ok(Some(place)), "{have}");
            // However it was cut when it was handed out.
            for (cut, again) in (0..=have.len()).flat_map(|cut| (cut..=have.len()).map(move |again| (cut, again))) {
                let pieces = [&have[..cut], &have[cut..again], &have[again..]];
                assert_eq!(flight.behind(&told(&pieces)).await, Ok(Some(place)), "{pieces:?}");
            }
        }
        assert_eq!(flight.behind(&told(&["abX"])).await, Ok(None));
        assert_eq!(flight.behind(&told(&["ab", "Xd"])).await, Ok(None));
        assert_eq!(flight.behind(&told(&["ab", "cdefg"])).await, Ok(None));
    }
}
