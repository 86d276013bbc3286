//! What is below TLS and compression: the transport, and who counts what crosses it.
//!
//! Whoever counts may also hold up ([`Tap::hold`]): nothing is read or written that he has not let through, so that a count which is
//! written down beforehand is never behind (Law 6).

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

/// Octets let through at once: what a read or a write mostly moves, so that one connection does not hold back the others' share.
const PIECE: usize = 64 * 1024;

/// Which way octets cross a socket, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

/// Hears how many octets cross a connection's socket, as the other end and every meter on the way count them, and may hold them up.
/// Called while the connection is polled; must not block.
pub trait Tap: Send + Sync {
    fn received(&self, octets: u64);
    fn sent(&self, octets: u64);

    /// Sets octets aside for one read or write, `most` at most; 0: none may cross now. They are given back by [`Tap::release`] when what has
    /// crossed of them was told.
    fn hold(&self, _way: Way, most: u64) -> u64 {
        most
    }

    fn release(&self, _way: Way, _held: u64) {}

    /// Resolves when [`Tap::hold`] is to be asked again.
    fn room(&self, _way: Way) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What is below TLS, and who counts it.
pub(super) struct Socket {
    transport: Transport,
    tap: Option<Arc<dyn Tap>>,
    /// What a read and a write wait for before they are tried.
    waits: [Option<BoxFuture<'static, ()>>; 2],
}

#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Memory(DuplexStream),
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// Runs one poll method on whichever transport there is.
macro_rules! on_socket {
    ($self:expr, $io:ident => $call:expr) => {
        match &mut $self.transport {
            Transport::Tcp($io) => {
                let $io = Pin::new($io);
                $call
            }
            Transport::Memory($io) => {
                let $io = Pin::new($io);
                $call
            }
        }
    };
}

impl Socket {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, tap: None, waits: [None, None] }
    }

    pub(super) fn set_tap(&mut self, tap: Arc<dyn Tap>) {
        self.tap = Some(tap);
    }

    pub(super) fn is_tapped(&self) -> bool {
        self.tap.is_some()
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// How much may cross now, set aside.
    fn poll_hold(&mut self, cx: &mut Context<'_>, way: Way, most: usize) -> Poll<usize> {
        let Some(tap) = &self.tap else { return Poll::Ready(most) };
        let wait = match way {
            Way::In => &mut self.waits[0],
            Way::Out => &mut self.waits[1],
        };
        // Nothing to move is no reason to wait: a write of nothing flushes.
        let most = most.min(PIECE);
        loop {
            if let Some(waiting) = wait {
                ready!(waiting.as_mut().poll(cx));
                *wait = None;
            }
            let held = tap.hold(way, most as u64);
            if held > 0 || most == 0 {
                return Poll::Ready(usize::try_from(held).unwrap_or(most).min(most));
            }
            *wait = Some(tap.room(way));
        }
    }

    /// Tells what has crossed of what was held.
    fn tell(&self, way: Way, held: usize, crossed: usize) {
        let Some(tap) = &self.tap else { return };
        match way {
            _ if crossed == 0 => {}
            Way::In => tap.received(crossed as u64),
            Way::Out => tap.sent(crossed as u64),
        }
        tap.release(way, held as u64);
    }

    fn told(&self, held: usize, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let octets = if let Poll::Ready(Ok(octets)) = &written { *octets } else { 0 };
        self.tell(Way::Out, held, octets);
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let held = ready!(this.poll_hold(cx, Way::In, buf.remaining()));
        let before = buf.filled().len();
        let polled = if held >= buf.remaining() {
            on_socket!(this, io => io.poll_read(cx, buf))
        } else {
            let mut piece = ReadBuf::new(buf.initialize_unfilled_to(held));
            let polled = on_socket!(this, io => io.poll_read(cx, &mut piece));
            let octets = piece.filled().len();
            buf.advance(octets);
            polled
        };
        this.tell(Way::In, held, buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let held = ready!(this.poll_hold(cx, Way::Out, buf.len()));
        let piece = buf.get(..held).unwrap_or(buf);
        let written = on_socket!(this, io => io.poll_write(cx, piece));
        this.told(held, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let total = bufs.iter().map(|buf| buf.len()).sum();
        let held = ready!(this.poll_hold(cx, Way::Out, total));
        if held >= total {
            let written = on_socket!(this, io => io.poll_write_vectored(cx, bufs));
            return this.told(held, written);
        }
        // As many of the first as were let through.
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        let piece = first.get(..held).unwrap_or(first);
        let written = on_socket!(this, io => io.poll_write(cx, piece));
        this.told(held, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(io) => io.is_write_vectored(),
            Transport::Memory(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        on_socket!(this, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        on_socket!(this, io => io.poll_shutdown(cx))
    }
}
