//! A large cached body on its way to a client: read from disk piece by piece, one piece ahead, so that the first octet goes out
//! before the last one was read and a client that never reads holds a megabyte at most.
//!
//! The store verifies each piece. One that is damaged in the middle is met by fetching the message again: the octets handed out
//! are compared (by their hashes, which the store has at hand) with the beginning of what upstream sends, as a client is told one
//! body, and the rest follows from there.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tracing::warn;

use super::account::Inner;
use super::error::Error;
use super::flight::{Flight, Told};
use super::mailbox::State;
use crate::model::Uid;
use crate::store::{self, BodyKey, BodyReader};
use crate::upstream::Class;

/// A reader and the piece it has just read, with its BLAKE3.
pub(super) type Opened = (BodyReader, Option<(Bytes, [u8; 32])>);

pub(super) struct Stored {
    account: Arc<Inner>,
    state: Arc<State>,
    uid: Uid,
    key: BodyKey,
    len: u64,
    /// What was handed out: octets, and the pieces they were.
    told: u64,
    pieces: Vec<Told>,
    /// The piece before the reader's place, when it was not read by a task.
    first: Option<Opened>,
    ahead: Option<JoinHandle<Result<Opened, store::Error>>>,
}

impl Stored {
    /// Around a reader whose first piece is read.
    pub(super) fn new(account: &Arc<Inner>, state: &Arc<State>, uid: Uid, key: BodyKey, opened: Opened) -> Self {
        Self {
            account: Arc::clone(account),
            state: Arc::clone(state),
            uid,
            key,
            len: opened.0.len(),
            told: 0,
            pieces: Vec::new(),
            first: Some(opened),
            ahead: None,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The next piece; `None` at the end. An error is the disk's: [`Self::upstream_flight`] may mend it.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, store::Error>> {
        let opened = match (self.first.take(), &mut self.ahead) {
            (Some(opened), _) => Ok(opened),
            (None, Some(ahead)) => {
                // Awaited in place, so that a caller who gives up loses nothing.
                let read = ahead.await;
                self.ahead = None;
                read.unwrap_or_else(|failure| Err(store::Error::Failed(failure.to_string())))
            }
            (None, None) if self.told == self.len => return None,
            (None, None) => Err(store::Error::Failed("the cached body was given up".into())),
        };
        match opened {
            Ok((reader, Some((piece, hash)))) => {
                self.pieces.push(Told { octets: piece.len(), hash: hash.into() });
                self.told += piece.len() as u64;
                if self.told < self.len {
                    self.ahead = Some(self.read(reader));
                }
                Some(Ok(piece))
            }
            Ok((_, None)) if self.told == self.len => None,
            Ok((_, None)) => Some(Err(store::Error::Failed("a cached body is too short".into()))),
            Err(error) => Some(Err(error)),
        }
    }

    fn read(&self, mut reader: BodyReader) -> JoinHandle<Result<Opened, store::Error>> {
        let account = Arc::clone(&self.account);
        tokio::spawn(async move { account.disk(move |_| reader.next_chunk().map(|piece| (reader, piece))).await })
    }

    /// After a failure of the disk: the same message in flight from upstream, and the place behind what was handed out.
    pub(super) async fn upstream_flight(&self) -> Result<(Arc<Flight>, usize, usize), Error> {
        let (account, mailbox) = (self.account.label(), &self.state.name);
        warn!(%account, %mailbox, uid = %self.uid, "a cached body broke off: it is fetched again");
        let mut flights = self.account.fly(&self.state, &[self.uid], Class::Interactive);
        let Some((_, flight)) = flights.pop() else { return Err(Error::Expunged) };
        let differs = || Error::Unavailable("The provider now has another message under this number".into());
        if flight.begun().await? != self.len {
            return Err(differs());
        }
        match flight.behind(&self.pieces).await? {
            Some((piece, octets)) => Ok((flight, piece, octets)),
            None => Err(differs()),
        }
    }

    /// All of it at once.
    pub(super) async fn whole(&self) -> Result<Bytes, Error> {
        let key = self.key;
        if let Ok(Some(body)) = self.account.disk(move |store| store.body(key)).await {
            self.account.bodies.remember(key, &body);
            return Ok(body);
        }
        let mut flights = self.account.fly(&self.state, &[self.uid], Class::Interactive);
        let Some((_, flight)) = flights.pop() else { return Err(Error::Expunged) };
        flight.ended().await.map(|()| flight.joined())
    }
}
