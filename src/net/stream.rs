//! One connection: plain TCP or TLS, client or server side, one type.
//!
//! Sessions and the upstream pool are written against [`Stream`] alone, so STARTTLS is a change of value and not of
//! type, and nothing above is generic over its transport. TLS halves are boxed: a plain connection that idles should not
//! pay for the size of a TLS state it does not have.
//!
//! For tests (and for the simulated provider, which needs no socket) a stream can also run over memory:
//! [`Stream::pair`] gives two connected ends that may be upgraded to TLS like any other.
//!
//! A peer that closes TCP without TLS's `close_notify` is read as end of stream, not as an error: mail servers and clients
//! do this every day, and IMAP, POP3 and SMTP all mark the end of every line, literal and message themselves, so a cut
//! connection is noticed by the framing above.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::deflate::Deflate;
use super::socket::{Socket, Tap, Transport};
use super::unread;

/// How long a connection is silent before the system asks whether the peer is still there. One minute is below the shortest
/// time-out of home routers' address translation, so it also keeps idle connections in their tables.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Time between two unanswered keepalive probes; with the systems' usual 4 to 9 probes a dead peer is noticed within minutes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long a client may take for its TLS handshake. Generous for a slow phone; short enough that a peer that connects and
/// says nothing does not hold a place for long.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes each direction of an in-memory pair holds before its writer waits; about a socket's default.
const MEMORY_BUFFER: usize = 64 * 1024;

/// A connection, plain or TLS, either side. See the module's words.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    /// Between TLS and the caller, once COMPRESS was agreed on.
    deflate: Option<Box<Deflate>>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Stream {
    /// Wraps a connected socket and sets what every leg wants: no Nagle delay (answers are written whole, and a delayed tail
    /// would cost 40 ms each), and TCP keepalive (a sleeping laptop or a router that forgot us is noticed).
    pub fn from_tcp(tcp: TcpStream) -> io::Result<Self> {
        let (peer, local) = (tcp.peer_addr()?, tcp.local_addr()?);
        tcp.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
        #[cfg(any(target_os = "linux", target_os = "macos", target_os = "windows", target_os = "freebsd"))]
        let keepalive = keepalive.with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
        Ok(Self::plain(Transport::Tcp(tcp), peer, local))
    }

    fn plain(transport: Transport, peer: SocketAddr, local: SocketAddr) -> Self {
        Self { inner: Inner::Plain(Socket::new(transport)), deflate: None, peer, local }
    }

    /// Two ends of one connection in memory, both seen as `127.0.0.1`.
    pub fn pair() -> (Self, Self) {
        let (a, b) = tokio::io::duplex(MEMORY_BUFFER);
        let (at, bt) = (SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1), SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 2));
        let end = |half, peer, local| Self::plain(Transport::Memory(half), peer, local);
        (end(a, bt, at), end(b, at, bt))
    }

    /// The same, with all that crosses its socket from now on told to `tap`. Said before TLS begins, its handshake is counted too.
    pub fn tapped(mut self, tap: Arc<dyn Tap>) -> Self {
        let socket = match &mut self.inner {
            Inner::Plain(socket) => socket,
            Inner::Server(tls) => tls.get_mut().0,
            Inner::Client(tls) => tls.get_mut().0,
        };
        socket.set_tap(tap);
        self
    }

    /// Bounds what the system holds of what was received and not read yet: [`super::unread_most`].
    pub fn bound_unread(&self) -> io::Result<()> {
        match self.socket().transport() {
            Transport::Tcp(tcp) => unread::keep(tcp),
            Transport::Memory(_) => Ok(()),
        }
    }

    /// Bounds what is held here of what was written and not taken by the other end's system, to about twice `octets`.
    pub fn bound_unsent(&self, octets: usize) -> io::Result<()> {
        match self.socket().transport() {
            Transport::Tcp(tcp) => SockRef::from(tcp).set_send_buffer_size(octets),
            Transport::Memory(_) => Ok(()),
        }
    }

    /// Whether somebody counts what crosses its socket.
    pub fn is_tapped(&self) -> bool {
        self.socket().is_tapped()
    }

    /// Compressed both ways from now on (RFC 4978). `ahead`: what the caller has read beyond the line that agreed on it, which is
    /// compressed already. What is written is on its way only after a flush.
    pub fn deflated(mut self, ahead: &[u8]) -> Self {
        self.deflate = Some(Box::new(Deflate::new(ahead)));
        self
    }

    /// Whether what is read and written here travels compressed.
    pub fn is_deflated(&self) -> bool {
        self.deflate.is_some()
    }

    fn socket(&self) -> &Socket {
        match &self.inner {
            Inner::Plain(socket) => socket,
            Inner::Server(tls) => tls.get_ref().0,
            Inner::Client(tls) => tls.get_ref().0,
        }
    }

    /// The other end's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The address of our end: for an accepted connection, the one the client asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other end's host, an IPv4 address mapped into IPv6 shown as IPv4.
    pub fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// Ends the connection with a reset: what was written and has not left this computer is never sent. An orderly close leaves it to the
    /// kernel, which goes on trying for minutes.
    pub fn abort(self) {
        if let Transport::Tcp(tcp) = self.socket().transport() {
            // Without it the close is an orderly one: nothing else can be done.
            let _ = tcp.set_zero_linger();
        }
    }

    /// Waits for the peer's first octet, without taking it: whether TLS begins with it, as the record type of a handshake (RFC 8446 §5.1)
    /// does and no line of a text protocol. Has no time-out of its own. Memory cannot be looked into: false.
    pub async fn begins_with_tls(&mut self) -> io::Result<bool> {
        let Transport::Tcp(tcp) = self.socket().transport() else { return Ok(false) };
        let mut first = [0];
        Ok(tcp.peek(&mut first).await? == 1 && first == [22])
    }

    /// Whether what is written here is encrypted.
    pub fn is_tls(&self) -> bool {
        !matches!(self.inner, Inner::Plain(_))
    }

    /// Whether the TLS handshake was a short one, on a ticket of an earlier connection.
    pub fn is_resumed(&self) -> bool {
        let kind = match &self.inner {
            Inner::Plain(_) => None,
            Inner::Server(tls) => tls.get_ref().1.handshake_kind(),
            Inner::Client(tls) => tls.get_ref().1.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    /// The guard to call between the `STARTTLS` line and the handshake, with whatever the caller has read beyond that line.
    /// Such bytes came in the clear; taken for something said under TLS they would be an injected command or answer
    /// (RFC 3207 §4.2, RFC 9051 §6.2.1). Fails if there are any: the caller then drops the connection.
    pub fn ensure_nothing_buffered(read_ahead: &[u8]) -> io::Result<()> {
        if read_ahead.is_empty() {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} bytes arrived in the clear after STARTTLS; the connection is not safe to go on with",
                read_ahead.len()
            ),
        ))
    }

    /// Becomes TLS, as the server. Fails when it is TLS already, when the handshake fails, or after
    /// [`HANDSHAKE_TIMEOUT`] ([`io::ErrorKind::TimedOut`]).
    pub async fn start_tls_server(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let (socket, peer, local) = self.into_plain()?;
        let handshake = TlsAcceptor::from(config).accept(socket);
        let tls = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the client did not finish its TLS handshake in time")
        })??;
        Ok(Self { inner: Inner::Server(Box::new(tls)), deflate: None, peer, local })
    }

    /// Becomes TLS, as the client, checking the server against `name` by `config`. Has no time-out of its own: dialling has
    /// one for everything. A certificate fault comes as [`io::ErrorKind::InvalidData`] with a
    /// [`tokio_rustls::rustls::Error`] inside.
    pub async fn start_tls_client(self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let (socket, peer, local) = self.into_plain()?;
        let tls = TlsConnector::from(config).connect(name, socket).await?;
        Ok(Self { inner: Inner::Client(Box::new(tls)), deflate: None, peer, local })
    }

    fn into_plain(self) -> io::Result<(Socket, SocketAddr, SocketAddr)> {
        if self.deflate.is_some() {
            // RFC 4978 §5: STARTTLS comes first.
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the connection is compressed already"));
        }
        match self.inner {
            Inner::Plain(socket) => Ok((socket, self.peer, self.local)),
            Inner::Server(_) | Inner::Client(_) => {
                Err(io::Error::new(io::ErrorKind::AlreadyExists, "the connection is encrypted already"))
            }
        }
    }
}

/// What a stream runs over.
#[derive(Debug)]
enum Inner {
    Plain(Socket),
    Server(Box<tokio_rustls::server::TlsStream<Socket>>),
    Client(Box<tokio_rustls::client::TlsStream<Socket>>),
}

macro_rules! on_inner {
    ($self:expr, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Inner::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Inner::Server($io) => {
                let $io = Pin::new($io.as_mut());
                $call
            }
            Inner::Client($io) => {
                let $io = Pin::new($io.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Inner {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match on_inner!(self, io => io.poll_read(cx, buf)) {
            // No close_notify: see the module's words.
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for Inner {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_inner!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_inner!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Server(io) => io.is_write_vectored(),
            Self::Client(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_inner!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_inner!(self, io => io.poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { inner, deflate, .. } = self.get_mut();
        match deflate {
            Some(deflate) => deflate.poll_read(Pin::new(inner), cx, buf),
            None => Pin::new(inner).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, deflate, .. } = self.get_mut();
        match deflate {
            Some(deflate) => deflate.poll_write(Pin::new(inner), cx, buf),
            None => Pin::new(inner).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { inner, deflate, .. } = self.get_mut();
        match deflate {
            Some(deflate) => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                deflate.poll_write(Pin::new(inner), cx, first)
            }
            None => Pin::new(inner).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.deflate.is_none() && self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, deflate, .. } = self.get_mut();
        if let Some(deflate) = deflate {
            ready!(deflate.poll_flush(Pin::new(inner), cx))?;
        }
        Pin::new(inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, deflate, .. } = self.get_mut();
        if let Some(deflate) = deflate {
            ready!(deflate.poll_flush(Pin::new(inner), cx))?;
        }
        Pin::new(inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn sockets_get_their_options() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = Stream::from_tcp(tcp).unwrap();
        let Transport::Tcp(tcp) = stream.socket().transport() else { panic!("not a socket") };
        assert!(tcp.nodelay().unwrap() && SockRef::from(tcp).keepalive().unwrap());
        assert_eq!(stream.peer_addr(), listener.local_addr().unwrap());
        assert!(!stream.is_tls() && !stream.is_resumed() && stream.is_write_vectored());
    }

    #[tokio::test]
    async fn an_aborted_connection_is_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for aborts in [false, true] {
            let stream = Stream::from_tcp(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()).unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            if aborts {
                stream.abort();
            } else {
                drop(stream);
            }
            let end = other.read(&mut [0; 1]).await.map_err(|error| error.kind());
            assert_eq!(end, if aborts { Err(io::ErrorKind::ConnectionReset) } else { Ok(0) });
        }
    }

    #[tokio::test]
    async fn a_pair_in_memory_carries_bytes_both_ways() {
        let (mut a, mut b) = Stream::pair();
        assert_eq!((a.peer_addr(), a.local_addr()), (b.local_addr(), b.peer_addr()));
        let written = a.write_vectored(&[IoSlice::new(b"he"), IoSlice::new(b"llo")]).await.unwrap();
        a.write_all(&b"hello"[written..]).await.unwrap();
        a.shutdown().await.unwrap();
        let mut got = Vec::new();
        b.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"hello");
    }

    #[test]
    fn bytes_read_ahead_of_a_handshake_are_refused() {
        assert!(Stream::ensure_nothing_buffered(b"").is_ok());
        let e = Stream::ensure_nothing_buffered(b"A2 LOGIN x y\r\n").unwrap_err();
        assert!(e.to_string().contains("14 bytes arrived in the clear"), "{e}");
    }
}
