//! The bytes of one connection whose commands are lines (POP3, SMTP): lines in, buffered answers out, with every limit and time-out
//! in one place. `imap/io` is the same for commands with literals.
//!
//! Answers collect in [`LineIo::out`] and leave before the connection waits for anything: for the client's next bytes, or for
//! something below that takes longer than [`FEED_AFTER`]. So a pipelined batch of commands is answered in one write. A client that
//! does not read blocks itself only, until its time-out ends it. While a session idles it holds no buffer at all.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::socket::{self, FEED_AFTER, Gone, OUT_FULL};
use crate::net::Stream;
use crate::wire::lines::Lines;

/// What a client sends ahead while its command is worked on is read up to this, to notice its end: hundreds of recipients. Beyond it a client
/// that goes is noticed when the work is done.
const READ_AHEAD: usize = 16 * 1024;

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The client closed, broke the connection or read nothing for too long: nobody to talk to.
    Gone,
    /// All has been said, or nothing more may be: close without a word.
    Close,
    /// We are told to end.
    Shutdown,
    /// The client said nothing for too long.
    Silence,
    /// It has not logged in for too long.
    NoLogin,
    /// A line above the limit.
    LongLine,
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// How much a protocol bears of its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Octets of a line before login, where SASL's responses come, and after it.
    pub(crate) line_before_login: usize,
    pub(crate) line: usize,
    /// Silence after login.
    pub(crate) silence: Duration,
}

pub(crate) struct LineIo {
    stream: Stream,
    lines: Lines,
    patience: Patience,
    logged_in: bool,
    opened: Instant,
    shutdown: CancellationToken,
    /// Answers not yet sent.
    pub(crate) out: BytesMut,
}

impl LineIo {
    pub(crate) fn new(stream: Stream, patience: Patience, shutdown: CancellationToken) -> Self {
        let lines = Lines::new(patience.line_before_login);
        Self { stream, lines, patience, logged_in: false, opened: Instant::now(), shutdown, out: BytesMut::new() }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// From now on the limits and time-outs of a client that has logged in.
    pub(crate) fn set_logged_in(&mut self) {
        self.logged_in = true;
        let mut lines = self.fresh_lines();
        lines.buffer().extend_from_slice(self.lines.buffer());
        self.lines = lines;
    }

    fn fresh_lines(&self) -> Lines {
        Lines::new(if self.logged_in { self.patience.line } else { self.patience.line_before_login })
    }

    /// The next line. What is in [`Self::out`] leaves before waiting for the client.
    pub(crate) async fn line(&mut self) -> Result<Bytes, Stop> {
        if self.shutdown.is_cancelled() {
            return Err(Stop::Shutdown);
        }
        loop {
            match self.lines.next_line() {
                Ok(Some(line)) => return Ok(line),
                Ok(None) => self.fill().await?,
                Err(_) => return Err(Stop::LongLine),
            }
        }
    }

    /// Whether the next line is here already.
    pub(crate) fn has_line(&self) -> bool {
        self.lines.has_line()
    }

    /// What has come, for what is not lines: at least one octet. What is not used of it goes back by [`Self::put_back`].
    pub(crate) async fn octets(&mut self) -> Result<BytesMut, Stop> {
        if self.shutdown.is_cancelled() {
            return Err(Stop::Shutdown);
        }
        if !self.lines.has_buffered() {
            self.fill().await?;
        }
        Ok(self.lines.take_buffered())
    }

    pub(crate) fn put_back(&mut self, rest: &[u8]) {
        self.lines.put_back(rest);
    }

    async fn fill(&mut self) -> Result<(), Stop> {
        self.flush().await?;
        let (limit, stop) = if self.logged_in {
            (self.patience.silence, Stop::Silence)
        } else {
            (socket::login_patience(self.opened).ok_or(Stop::NoLogin)?, Stop::NoLogin)
        };
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Stop::Shutdown),
            read = timeout(limit, self.read()) => read.unwrap_or(Err(stop)),
        }
    }

    /// Reads what has come. Cancelling it loses nothing.
    async fn read(&mut self) -> Result<(), Stop> {
        if !self.lines.has_buffered() {
            // Lets go of the block the last command stood in.
            self.lines = self.fresh_lines();
        }
        Ok(socket::read_some(&mut self.stream, self.lines.buffer()).await?)
    }

    /// Sends what has collected.
    pub(crate) async fn flush(&mut self) -> Result<(), Stop> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        Ok(socket::write_all(&mut self.stream, &out, &[]).await?)
    }

    /// Sends if much has collected.
    pub(crate) async fn flush_if_full(&mut self) -> Result<(), Stop> {
        if self.out.len() < OUT_FULL { Ok(()) } else { self.flush().await }
    }

    /// Waits for something below. What has collected goes out meanwhile. The work is boxed at once, so that the state of a session
    /// that only idles has no room for it.
    pub(crate) fn wait<T>(&mut self, work: impl Future<Output = T>) -> impl Future<Output = Result<T, Stop>> {
        self.wait_for(Box::pin(work))
    }

    /// The same for work that is nobody's once the client is gone: that is noticed at once, and the work given up. Who has only closed his
    /// own side stays where all he wanted has come (`is_whole` of what is not used yet).
    pub(crate) async fn wait_while_here<T>(
        &mut self,
        work: impl Future<Output = T>,
        is_whole: fn(&[u8]) -> bool,
    ) -> Result<T, Stop> {
        let mut work = Box::pin(work);
        if let Ok(done) = timeout(FEED_AFTER, work.as_mut()).await {
            return Ok(done);
        }
        {
            let mut flush = pin!(self.flush());
            tokio::select! {
                biased;
                done = work.as_mut() => {
                    flush.await?;
                    return Ok(done);
                }
                flushed = flush.as_mut() => flushed?,
            }
        }
        while self.lines.buffer().len() < READ_AHEAD {
            tokio::select! {
                biased;
                done = work.as_mut() => return Ok(done),
                read = self.read() => match read {
                    Ok(()) => {}
                    Err(_) if is_whole(self.lines.buffer()) => break,
                    Err(stop) => return Err(stop),
                }
            }
        }
        Ok(work.await)
    }

    async fn wait_for<T, W: Future<Output = T>>(&mut self, mut work: Pin<Box<W>>) -> Result<T, Stop> {
        if self.out.is_empty() {
            return Ok(work.await);
        }
        if let Ok(done) = timeout(FEED_AFTER, work.as_mut()).await {
            return Ok(done);
        }
        // Both at once: work that stood still behind a client that does not read might hold what other clients need.
        let mut flush = pin!(self.flush());
        tokio::select! {
            biased;
            done = work.as_mut() => {
                flush.await?;
                return Ok(done);
            }
            flushed = flush.as_mut() => flushed?,
        }
        Ok(work.await)
    }

    /// Becomes TLS, by the protocol's own command. What came in the clear behind that command is an injection (RFC 2595 §2.1, RFC
    /// 3207 §4.2): it is forgotten here with the lines that hold it, never run.
    pub(crate) async fn start_tls(self, config: Arc<ServerConfig>) -> Result<Self, Stop> {
        let Self { stream, patience, opened, shutdown, .. } = self;
        let stream = stream.start_tls_server(config).await.map_err(|_| Stop::Gone)?;
        Ok(Self { opened, ..Self::new(stream, patience, shutdown) })
    }

    /// Sends what has collected, last words included, and closes.
    pub(crate) async fn close(mut self, stop: Stop) {
        if stop != Stop::Gone && self.flush().await.is_ok() {
            socket::shut(self.stream).await;
        }
    }
}
