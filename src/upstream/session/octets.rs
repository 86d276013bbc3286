//! Octets in and out of a session: reads with a limit, the queue of what is to be written, literals without a copy.
//!
//! Everything here may be cancelled: what was read is in the framer, what was not written is still queued.

use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::trace;

use super::{CHECK_TIMEOUT, DRIPS, Drip, Fault, Session};
use crate::upstream::answer::Answer;
use crate::upstream::types::Class;
use crate::upstream::words::Meaning;
use crate::wire::imap::framer::Frame;

/// The socket takes nothing for so long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// After a failed write: how long the reason (a BYE) may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A provider that punishes without a word lets answers through at less than a kilobyte a second (Gmail's, of old). So slow
const DRIP_OCTETS: u64 = 30 * 1024;
/// for so long,
const DRIP_TIME: Duration = Duration::from_secs(30);
/// and steadily: a server that thinks for half a minute and then answers briefly sends in a read or two.
const DRIP_READS: u32 = 10;
/// Octets of a literal written at once, so that a time-out speaks of progress.
const WRITE_PIECE: usize = 64 * 1024;

impl Session {
    pub(super) async fn fill(&mut self, limit: Option<Duration>) -> Result<(), Fault> {
        let Some(link) = &mut self.link else { return Err(self.already_lost()) };
        let read = link.read_buf(self.framer.buffer());
        let read = match limit {
            Some(limit) => tokio::select! {
                biased;
                read = read => Ok(read),
                waited = patience(limit, self.gate.woken(), self.used) => Err(waited),
            },
            None => Ok(read.await),
        };
        match read {
            Ok(Ok(0)) => Err(Fault::Lost("the provider closed the connection".into())),
            Ok(Ok(octets)) => {
                if self.note_pace(octets) {
                    Err(Fault::Lost(DRIPS.into()))
                } else {
                    Ok(())
                }
            }
            Ok(Err(error)) => Err(Fault::Lost(error.to_string())),
            Err(waited) => Err(Fault::Lost(format!("the provider said nothing for {} s", waited.as_secs()))),
        }
    }

    /// Notices an answer that is let through drop by drop, and tells the account's gate. Whether what is under way is to be broken off, and
    /// asked for again over another session: never what changes anything, and only where such a session is to be had meanwhile.
    fn note_pace(&mut self, octets: usize) -> bool {
        if !self.busy {
            return false;
        }
        self.drip.octets += octets as u64;
        self.drip.reads += 1;
        let now = Instant::now();
        if now.saturating_duration_since(self.drip.since) < DRIP_TIME {
            return false;
        }
        if self.drip.octets < DRIP_OCTETS && self.drip.reads >= DRIP_READS {
            self.meter.refused(Meaning::Trickle);
            self.drips |= self.gate.lock().trickles(self.opened, now);
        }
        self.drip = Drip::begin(now);
        self.drips && self.reads && matches!(self.class, Some(Class::Interactive | Class::Sync))
    }

    pub(super) fn already_lost(&self) -> Fault {
        let reason = self.loss.as_ref().map_or("the connection is closed", |loss| loss.reason.as_str());
        Fault::Lost(reason.into())
    }

    /// The next frame, waiting as long as `limit` for each read.
    pub(in crate::upstream) async fn frame(&mut self, limit: Option<Duration>) -> Result<Frame, Fault> {
        loop {
            match self.framer.next() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => self.fill(limit).await?,
                Err(error) => return Err(Fault::Protocol(error.to_string())),
            }
        }
    }

    /// The next message; literals too large to stand in it are left out.
    pub(super) async fn message(&mut self, limit: Option<Duration>) -> Result<Bytes, Fault> {
        loop {
            if let Frame::Message(message) = self.frame(limit).await? {
                trace!(parent: &self.span, account = %self.label, octets = message.len(), "received");
                self.trace_received(&message);
                return Ok(message);
            }
        }
    }

    /// Hands everything queued to the socket. May be cancelled: what was not handed on stays queued.
    pub(in crate::upstream) async fn flush(&mut self) -> Result<(), Fault> {
        while !self.out.is_empty() {
            let Some(link) = &mut self.link else { return Err(self.already_lost()) };
            let written = timeout(WRITE_TIMEOUT, link.write(&self.out)).await;
            let octets = self.written(written).await?;
            self.out.advance(octets.min(self.out.len()));
        }
        self.flush_link().await
    }

    /// Hands a literal to the socket without copying it.
    pub(super) async fn write_literal(&mut self, literal: &Bytes) -> Result<(), Fault> {
        self.flush().await?;
        let mut rest = literal.clone();
        while !rest.is_empty() {
            let Some(link) = &mut self.link else { return Err(self.already_lost()) };
            let piece = rest.get(..rest.len().min(WRITE_PIECE)).unwrap_or_default();
            let written = timeout(WRITE_TIMEOUT, link.write(piece)).await;
            let octets = self.written(written).await?;
            rest.advance(octets.min(rest.len()));
        }
        Ok(())
    }

    pub(super) async fn written(
        &mut self,
        written: Result<std::io::Result<usize>, tokio::time::error::Elapsed>,
    ) -> Result<usize, Fault> {
        let reason = match written {
            Ok(Ok(octets)) if octets > 0 => {
                self.handed += octets as u64;
                return Ok(octets);
            }
            Ok(Ok(_)) => "the connection takes nothing more".into(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the provider took nothing for {} s", WRITE_TIMEOUT.as_secs()),
        };
        Err(Fault::Lost(self.last_words().await.unwrap_or(reason)))
    }

    pub(super) async fn flush_link(&mut self) -> Result<(), Fault> {
        let Some(link) = &mut self.link else { return Err(self.already_lost()) };
        match timeout(WRITE_TIMEOUT, link.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::Lost(error.to_string())),
            Err(_) => Err(Fault::Lost("the connection takes nothing more".into())),
        }
    }

    /// A server that hangs up mostly says why; the write fails before that was read.
    pub(super) async fn last_words(&mut self) -> Option<String> {
        let read = async {
            loop {
                let message = self.message(None).await.ok()?;
                if let Answer::Bye(status) = Answer::read(message) {
                    return Some(self.farewell(&status));
                }
            }
        };
        timeout(LAST_WORDS, read).await.ok().flatten()
    }
}

/// Waits as long as an answer may take; gives how long that was. After a sleep of the machine a connection last `used` before it is in
/// doubt, and has less.
async fn patience(limit: Duration, mut woken: watch::Receiver<Option<Instant>>, used: Instant) -> Duration {
    let doubt = limit.min(CHECK_TIMEOUT);
    if woken.borrow_and_update().is_none_or(|woken| woken <= used) {
        tokio::select! {
            () = sleep(limit) => return limit,
            Ok(()) = woken.changed() => {}
        }
    }
    sleep(doubt).await;
    doubt
}
