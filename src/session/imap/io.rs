//! The bytes of one connection: frames in, buffered answers out, with every limit and time-out in one place.
//!
//! Answers collect in [`Io::out`] and leave before the connection waits for anything: for the client's next bytes, or for
//! something below that takes longer than [`FEED_AFTER`]. So a pipelined batch of commands is answered in one write, and a
//! slow body does not hold back what stands before it. A client that does not read blocks itself only, until
//! its time-out ends it. While a session idles it holds no buffer at all: thousands of them are the normal case.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::net::Stream;
use crate::session::protocol;
use crate::session::socket::{self, FEED_AFTER, Gone, OUT_FULL};
use crate::wire::imap::framer::{Frame, Framer, FramingError, Limits, Side};

/// Autologout (RFC 9051 §5.4: at least 30 minutes).
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Silence in the middle of a literal, which no person is typing.
const LITERAL_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// mbsync gives up after 20 seconds without a byte (its `Timeout`), Outlook after a minute; others after more.
const STILL_WORKING: Duration = Duration::from_secs(10);
/// Chunks from here on go to the socket as they are; below, copying them is cheaper than a system call.
const DIRECT: usize = 16 * 1024;

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The client closed, broke the connection or read nothing for too long: nobody to talk to.
    Gone,
    /// Nobody to talk to in the middle of a literal, or all has been said: close without a word.
    Close,
    /// Say BYE first.
    Bye { code: Option<&'static str>, text: &'static str },
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// Why there is no next frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    Stop(Stop),
    Framing(FramingError),
}

pub(crate) struct Io {
    stream: Stream,
    framer: Framer,
    limits: Limits,
    /// In the middle of a streamed literal.
    in_literal: bool,
    logged_in: bool,
    opened: Instant,
    /// When one of the two last said something. The silence of a command is counted over all its waits, not for each by itself.
    quiet_since: Instant,
    shutdown: CancellationToken,
    trace: protocol::Sent,
    /// Answers not yet sent.
    pub(crate) out: BytesMut,
}

impl Io {
    pub(crate) fn new(stream: Stream, shutdown: CancellationToken) -> Self {
        let opened = Instant::now();
        Self {
            stream,
            framer: Framer::new(Side::Server, Limits::BEFORE_LOGIN),
            limits: Limits::BEFORE_LOGIN,
            in_literal: false,
            logged_in: false,
            opened,
            quiet_since: opened,
            shutdown,
            trace: protocol::Sent::default(),
            out: BytesMut::new(),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// From now on the limits and time-outs of a client that has logged in. `largest_message` is APPEND's limit.
    pub(crate) fn set_logged_in(&mut self, largest_message: u64) {
        self.logged_in = true;
        // Whether a message is too big is for APPEND to answer, in its own words.
        self.limits = Limits { max_literal: largest_message.max(Limits::COMMANDS.max_literal), ..Limits::COMMANDS };
        self.framer.set_limits(self.limits);
    }

    /// The next frame. What is in [`Self::out`] leaves before waiting for the client.
    pub(crate) async fn frame(&mut self) -> Result<Frame, ReadError> {
        if self.shutdown.is_cancelled() {
            return Err(ReadError::Stop(shutting_down()));
        }
        loop {
            match self.framer.next().map_err(ReadError::Framing)? {
                Some(frame) => {
                    match frame {
                        Frame::LiteralStart { .. } => self.in_literal = true,
                        Frame::LiteralEnd => self.in_literal = false,
                        _ => {}
                    }
                    self.quiet_since = Instant::now();
                    return Ok(frame);
                }
                None => self.fill().await.map_err(ReadError::Stop)?,
            }
        }
    }

    /// The literal just announced is refused; its command is dropped.
    pub(crate) fn refuse_literal(&mut self) {
        self.framer.refuse_literal();
        self.in_literal = false;
    }

    /// Whether the stream of frames cannot be read on.
    pub(crate) fn is_broken(&self) -> bool {
        self.framer.is_broken()
    }

    async fn fill(&mut self) -> Result<(), Stop> {
        self.flush().await?;
        const LATE: &str = "Login takes too long";
        let login = match self.logged_in {
            true => None,
            false => Some(socket::login_patience(self.opened).ok_or(Stop::Bye { code: None, text: LATE })?),
        };
        let (limit, text) = match login {
            _ if self.in_literal => (LITERAL_TIMEOUT, "Disconnected while waiting for a literal"),
            None => (COMMAND_TIMEOUT, "Autologout, idle for too long"),
            Some(limit) => (limit, LATE),
        };
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(shutting_down()),
            read = timeout(limit, self.read()) => match read {
                Err(_) => Err(Stop::Bye { code: None, text }),
                Ok(read) => read,
            }
        }
    }

    /// Reads what has come. Cancelling it loses nothing.
    pub(crate) async fn read(&mut self) -> Result<(), Stop> {
        if self.in_literal {
            return match self.stream.read_buf(self.framer.buffer()).await {
                Ok(0) | Err(_) => Err(Stop::Gone),
                Ok(_) => Ok(()),
            };
        }
        if self.framer.is_between_messages() {
            // Lets go of the block the last command stood in. Not in the middle of a message that is dropped: what is still to come of it
            // would be taken for commands.
            self.framer = Framer::new(Side::Server, self.limits);
        }
        Ok(socket::read_some(&mut self.stream, self.framer.buffer()).await?)
    }

    /// A frame that is here already, without reading. For IDLE.
    pub(crate) fn buffered_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        self.framer.next().map_err(ReadError::Framing)
    }

    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Sends what has collected.
    pub(crate) async fn flush(&mut self) -> Result<(), Stop> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.send(&[]).await
    }

    /// Sends if much has collected.
    pub(crate) async fn flush_if_full(&mut self) -> Result<(), Stop> {
        if self.out.len() < OUT_FULL { Ok(()) } else { self.send(&[]).await }
    }

    /// Adds a piece of a body. A large one leaves at once, in one write with what stands before it.
    pub(crate) async fn body(&mut self, chunk: &[u8]) -> Result<(), Stop> {
        if chunk.len() >= DIRECT {
            return self.send(chunk).await;
        }
        self.out.extend_from_slice(chunk);
        self.flush_if_full().await
    }

    async fn send(&mut self, body: &[u8]) -> Result<(), Stop> {
        let head = std::mem::take(&mut self.out);
        self.trace.take([&head, body]);
        socket::write_all(&mut self.stream, &head, body).await?;
        self.quiet_since = Instant::now();
        Ok(())
    }

    /// Waits for something below. What has collected goes out meanwhile, and a long wait is kept alive with words that every
    /// client ignores. The work is boxed at once: held in place it would be in the state of every command, some kilobytes of each,
    /// and so in that of a session that only idles.
    pub(crate) fn wait<T>(&mut self, work: impl Future<Output = T>) -> impl Future<Output = Result<T, Stop>> {
        self.wait_saying(Box::pin(work), Some("Still working"))
    }

    /// The same in the middle of a literal, where nothing else may be said.
    pub(crate) fn wait_in_literal<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = Result<T, Stop>> {
        self.wait_saying(Box::pin(work), None)
    }

    async fn wait_saying<T, W: Future<Output = T>>(
        &mut self,
        mut work: Pin<Box<W>>,
        words: Option<&'static str>,
    ) -> Result<T, Stop> {
        let still_working = |out: &mut BytesMut| {
            if let Some(words) = words {
                super::reply::untagged(out, "OK", None, words);
            }
        };
        if words.is_some() && self.quiet_since.elapsed() >= STILL_WORKING {
            // Many short waits are a long one.
            still_working(&mut self.out);
        } else if let Ok(done) = timeout(FEED_AFTER, work.as_mut()).await {
            return Ok(done);
        }
        loop {
            // Both at once: work that stood still behind a client that does not read might hold what other clients need.
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
            if words.is_none() {
                return Ok(work.await);
            }
            if let Ok(done) = timeout_at(self.quiet_since + STILL_WORKING, work.as_mut()).await {
                return Ok(done);
            }
            still_working(&mut self.out);
        }
    }

    /// Becomes TLS after STARTTLS. What came in the clear behind that command is an injection (RFC 9051 §6.2.1, §11.1): it is
    /// forgotten here with the framer that holds it, never run.
    pub(crate) async fn start_tls(
        self,
        config: std::sync::Arc<tokio_rustls::rustls::ServerConfig>,
    ) -> Result<Self, Stop> {
        let Self { stream, limits, logged_in, opened, quiet_since, shutdown, .. } = self;
        let stream = stream.start_tls_server(config).await.map_err(|_| Stop::Gone)?;
        let framer = Framer::new(Side::Server, limits);
        let (in_literal, trace, out) = (false, protocol::Sent::default(), BytesMut::new());
        Ok(Self { stream, framer, limits, in_literal, logged_in, opened, quiet_since, shutdown, trace, out })
    }

    /// Says the last words, if any, and closes.
    pub(crate) async fn close(mut self, stop: &Stop) {
        if let Stop::Bye { code, text } = stop {
            super::reply::untagged(&mut self.out, "BYE", *code, text);
        }
        if !matches!(stop, Stop::Gone) && self.flush().await.is_ok() {
            socket::shut(self.stream).await;
        }
    }
}

fn shutting_down() -> Stop {
    Stop::Bye { code: Some("UNAVAILABLE"), text: "Server is shutting down" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_behind_a_client_that_does_not_read() {
        let (client, server) = Stream::pair();
        let mut io = Io::new(server, CancellationToken::new());
        io.out.extend_from_slice(&[b'x'; 500_000]);
        let (done, is_done) = tokio::sync::oneshot::channel();
        let session = tokio::spawn(async move {
            let work = async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                let _ = done.send(());
            };
            io.wait(work).await
        });
        // Nobody reads, and the work is done all the same; the session itself ends by its write time-out.
        timeout(Duration::from_secs(6), is_done).await.unwrap().unwrap();
        assert_eq!(session.await.unwrap(), Err(Stop::Gone));
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn many_short_waits_are_a_long_one() {
        let (mut client, server) = Stream::pair();
        let mut io = Io::new(server, CancellationToken::new());
        for pause in [Duration::from_secs(7), Duration::from_millis(15)] {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(65) {
                io.wait(tokio::time::sleep(pause)).await.unwrap();
                io.wait_in_literal(tokio::time::sleep(Duration::from_millis(1))).await.unwrap();
            }
            // Once in 10 seconds, whatever the waits.
            let mut alive = [0; 6 * "* OK Still working\r\n".len()];
            client.read_exact(&mut alive).await.unwrap();
            assert_eq!(alive, *"* OK Still working\r\n".repeat(6).as_bytes());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_collected_leaves_before_a_wait() {
        let (mut client, server) = Stream::pair();
        let mut io = Io::new(server, CancellationToken::new());
        io.out.extend_from_slice(b"early\r\n");
        let session = tokio::spawn(async move { io.wait(tokio::time::sleep(Duration::from_secs(15))).await });
        let mut early = [0; 7];
        timeout(Duration::from_secs(1), client.read_exact(&mut early)).await.unwrap().unwrap();
        assert_eq!(&early, b"early\r\n");
        assert_eq!(session.await.unwrap(), Ok(()));
        let mut alive = String::new();
        client.read_to_string(&mut alive).await.unwrap();
        assert_eq!(alive, "* OK Still working\r\n");
    }
}
