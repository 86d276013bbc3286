//! The bytes of one connection whose commands are lines (POP3, SMTP): lines in, buffered answers out, with every limit and time-out
//! in one place. `imap/io` is the same for commands with literals.
//!
//! Answers collect in [`LineIo::out`] and leave before the connection waits for anything: for the client's next bytes, or for
//! something below that takes longer than [`FEED_AFTER`]. So a pipelined batch of commands is answered in one write. A client that
//! does not read blocks itself only, until [`WRITE_TIMEOUT`] ends it. While a session idles it holds no buffer at all.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::net::Stream;
use crate::wire::lines::Lines;

/// A client that takes no byte for so long is gone or stuck; shorter than any provider's own patience with us.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// Silence before login: enough for a person to answer a certificate warning, too short to collect idle strangers.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// All the time there is to log in, however busy a stranger keeps us.
const LOGIN_TOTAL: Duration = Duration::from_secs(180);
/// A wait below that takes longer lets the answers so far go out.
const FEED_AFTER: Duration = Duration::from_millis(20);
/// Answers leave at this size at the latest: four TLS records.
const OUT_FULL: usize = 64 * 1024;
/// What one read takes. It lies on the stack, so an idle session has none.
const READ: usize = 4 * 1024;

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
            (LOGIN_TIMEOUT.min(LOGIN_TOTAL.saturating_sub(self.opened.elapsed())), Stop::NoLogin)
        };
        // A time-out of nothing would still read what has come: who never stops talking would never be late.
        if !self.logged_in && self.opened.elapsed() >= LOGIN_TOTAL {
            return Err(Stop::NoLogin);
        }
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
        let (stream, lines) = (&mut self.stream, &mut self.lines);
        let count = poll_fn(|cx| {
            let mut space = [0; READ];
            let mut space = ReadBuf::new(&mut space);
            match Pin::new(&mut *stream).poll_read(cx, &mut space) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {
                    lines.buffer().extend_from_slice(space.filled());
                    Poll::Ready(Ok(space.filled().len()))
                }
            }
        })
        .await;
        match count {
            Ok(0) | Err(_) => Err(Stop::Gone),
            Ok(_) => Ok(()),
        }
    }

    /// Sends what has collected.
    pub(crate) async fn flush(&mut self) -> Result<(), Stop> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        let mut rest = &out[..];
        while !rest.is_empty() {
            match timeout(WRITE_TIMEOUT, self.stream.write(rest)).await {
                Ok(Ok(count)) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
                _ => return Err(Stop::Gone),
            }
        }
        match timeout(WRITE_TIMEOUT, self.stream.flush()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Stop::Gone),
        }
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
            // A failure here changes nothing: the connection is over.
            let _ = timeout(WRITE_TIMEOUT, self.stream.shutdown()).await;
        }
    }
}
