//! Listening: binding with clear words, and an accept loop that cannot be overrun.
//!
//! A place is taken before a connection is accepted (a [`Gate`] is shared by all listeners): when all are taken, newcomers wait in the
//! system's queue instead of costing us memory. One address in the network gets only a share, so that a single broken or hostile
//! device does not lock the others out; and some places are for this computer alone, so that the network together does not lock out its
//! owner. Who is in the queue cannot be seen, so a stranger for whom there is no place is accepted and closed. The place is a [`Ticket`] that
//! goes with the connection and is given back on drop.
//!
//! The loop knows no protocol: it hands a [`Stream`] on and accepts the next. It ends when told to, and at no error.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::stream::Stream;

/// Client connections over all listeners: at some 40 KiB for an idle one this is 160 MiB, and more clients than an office has.
pub const MAX_CONNECTIONS: usize = 4096;

/// Client connections of one address of the network. Mail programs open up to ten each, and an office may stand behind one address;
/// with this a stranger takes a thirtieth of all places.
pub const MAX_PER_PEER: usize = 128;

/// Places besides, for connections of this computer itself: its mail programs, however many strangers there are.
pub const OWN_CONNECTIONS: usize = 128;

/// Connections the system keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// Pauses after an accept that failed for want of something (file descriptors, memory): at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// An address that cannot be listened on, with the mend.
#[derive(Debug, thiserror::Error)]
#[error("listen.{key}: cannot listen on {address}: {reason}. {mend}")]
pub struct BindError {
    /// The configuration's key: `imap`, `pop3s`, …
    pub key: String,
    pub address: SocketAddr,
    pub reason: String,
    pub mend: &'static str,
}

/// Binds all addresses of one key, or tells every one that cannot be. An IPv6 address takes no IPv4 connections, on any system:
/// `"[::]:1143"` and `"0.0.0.0:1143"` can stand side by side. Must be called within the runtime.
pub fn bind(key: &str, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Vec<BindError>> {
    let mut listeners = Vec::new();
    let mut errors = Vec::new();
    for address in addresses {
        match bind_one(*address) {
            Ok(listener) => listeners.push(listener),
            Err(e) => errors.push(bind_error(key, *address, &e)),
        }
    }
    if errors.is_empty() { Ok(listeners) } else { Err(errors) }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // On Unix this lets a restart bind while old connections linger; on Windows it would let another program take the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind_error(key: &str, address: SocketAddr, e: &io::Error) -> BindError {
    let (reason, mend) = match e.kind() {
        io::ErrorKind::AddrInUse => (
            "the port is in use".to_owned(),
            "Another mail server, or another mailweir, holds it: stop that one, or choose another port.",
        ),
        io::ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            "Ports below 1024 need special rights: choose one above (1143, 1993, …), or let the system's service open them (`mailweir service install --system`).",
        ),
        io::ErrorKind::AddrNotAvailable => {
            ("this computer has no such address".to_owned(), "Use one it has, or \"0.0.0.0\" for all.")
        }
        _ => (e.to_string(), "Check the address."),
    };
    BindError { key: key.to_owned(), address, reason, mend }
}

/// The places for client connections, shared by all listeners.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    /// What of them the network may take.
    networks: Arc<Semaphore>,
    per_peer: usize,
    peers: Peers,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(MAX_CONNECTIONS, MAX_PER_PEER, OWN_CONNECTIONS)
    }
}

impl Gate {
    /// Room for `total` connections, of which one peer may hold `per_peer`; and for `own` more of this computer itself.
    pub fn new(total: usize, per_peer: usize, own: usize) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { places: places(total + own), networks: places(total), per_peer, peers: Peers::default() }
    }

    /// Waits for a place. `None` never happens while the gate lives: its semaphore is not closed.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// A ticket for a connection from `peer` to our address `ours`, or `None` when it holds its share already, or the network all of its.
    /// This computer itself has no share: whoever can connect from here has nobody to lock out but himself.
    fn admit(&self, peer: IpAddr, ours: IpAddr, place: OwnedSemaphorePermit) -> Option<Ticket> {
        if is_own(peer, ours) {
            return Some(Ticket { _place: place, _network: None });
        }
        let networks = Arc::clone(&self.networks).try_acquire_owned().ok()?;
        let counted = self.peers.enter(shared_by(peer), self.per_peer)?;
        Some(Ticket { _place: place, _network: Some((networks, counted)) })
    }
}

/// Whether both ends are this computer: it also comes by an address of its own in the network, where nothing listens on loopback.
fn is_own(peer: IpAddr, ours: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback() || peer == ours.to_canonical()
}

/// How many connections each peer holds. Bounded by the places: it has only peers that are connected.
#[derive(Clone, Debug, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Peers {
    /// Counts one more for `peer` while the guard is held, unless it has `limit` already.
    fn enter(&self, peer: IpAddr, limit: usize) -> Option<Counted> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = peers.get(&peer).copied().unwrap_or_default();
        if held >= limit {
            return None;
        }
        peers.insert(peer, held + 1);
        Some(Counted { peer, peers: self.clone() })
    }

    fn leave(&self, peer: IpAddr) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match peers.get_mut(&peer) {
            Some(held) if *held > 1 => *held -= 1,
            _ => {
                peers.remove(&peer);
            }
        }
    }
}

/// By what a peer is counted: an IPv6 host has a whole /64 to itself and changes within it at will.
fn shared_by(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// A place held by one connection; dropping it gives the place back.
#[derive(Debug)]
pub struct Ticket {
    _place: OwnedSemaphorePermit,
    /// `None`: of this computer.
    _network: Option<(OwnedSemaphorePermit, Counted)>,
}

/// A connection in its peer's share.
#[derive(Debug)]
struct Counted {
    peer: IpAddr,
    peers: Peers,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.peers.leave(self.peer);
    }
}

/// Accepts until `stop` becomes true (or its sender is gone) and hands each connection to `handle`, which spawns a task and
/// returns at once; the ticket goes with the connection. The listener is closed on return.
pub async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    mut stop: watch::Receiver<bool>,
    mut handle: impl FnMut(Stream, Ticket),
) {
    let mut backoff = BACKOFF.0;
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = next(&listener, &gate) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                backoff = BACKOFF.0;
                let peer = stream.peer_ip();
                match gate.admit(peer, stream.local_addr().ip(), place) {
                    Some(ticket) => handle(stream, ticket),
                    None => {
                        tracing::debug!(%peer, "connection closed: this address, or the network, holds its share of connections")
                    }
                }
            }
            // The peer was gone before we looked.
            Err(e) if is_peers_fault(&e) => {}
            Err(e) => {
                tracing::warn!("cannot accept connections for {} ms: {e}", backoff.as_millis());
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = (backoff * 2).min(BACKOFF.1);
            }
        }
    }
}

async fn next(listener: &TcpListener, gate: &Gate) -> io::Result<(Stream, OwnedSemaphorePermit)> {
    let place = gate.place().await.ok_or_else(|| io::Error::other("the gate is closed"))?;
    let (tcp, _) = listener.accept().await?;
    // Options can only fail on a socket whose peer has gone.
    let stream = Stream::from_tcp(tcp).map_err(|e| io::Error::new(io::ErrorKind::ConnectionAborted, e))?;
    Ok((stream, place))
}

fn is_peers_fault(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    use super::*;

    const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 5));

    fn localhost() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[tokio::test]
    async fn every_address_that_cannot_be_bound_is_told() {
        let held = bind("imap", &[localhost()]).unwrap();
        let taken = held[0].local_addr().unwrap();
        let nobodys: SocketAddr = "192.0.2.1:1143".parse().unwrap();
        let errors = bind("imap", &[taken, localhost(), nobodys]).unwrap_err();
        assert_eq!(errors.iter().map(|e| e.address).collect::<Vec<_>>(), [taken, nobodys]);
        let words = errors[0].to_string();
        assert!(words.starts_with("listen.imap:") && words.contains("the port is in use"), "{words}");
        let denied = bind_error("imap", localhost(), &io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(denied.contains("below 1024"), "{denied}");
    }

    #[tokio::test]
    async fn a_full_gate_keeps_newcomers_waiting_and_a_stop_ends_the_loop() {
        let listener = bind("imap", &[localhost()]).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (sender, mut accepted) = mpsc::unbounded_channel();
        let gate = Arc::new(Gate::new(1, 1, 0));
        let server = tokio::spawn(serve(listener, Arc::clone(&gate), stopped, move |stream, ticket| {
            sender.send((stream, ticket)).unwrap();
        }));
        let _first = TcpStream::connect(address).await.unwrap();
        let held = accepted.recv().await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        // The loop waits for a place, so it has taken none and the second connection stays in the queue.
        tokio::task::yield_now().await;
        assert!(accepted.try_recv().is_err() && gate.places.available_permits() == 0);
        drop(held);
        assert!(accepted.recv().await.is_some());
        stop.send(true).unwrap();
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
    }

    #[tokio::test]
    async fn one_address_gets_its_share_only() {
        let gate = Gate::new(10, 2, 0);
        let admit = async |peer: &str| gate.admit(peer.parse().unwrap(), OURS, gate.place().await.unwrap());
        let first = admit("192.168.1.9").await.unwrap();
        let _second = admit("::ffff:192.168.1.9").await.unwrap();
        assert!(admit("192.168.1.9").await.is_none());
        assert!(admit("192.168.1.10").await.is_some());
        drop(first);
        assert!(admit("192.168.1.9").await.is_some());
        let _a = admit("2001:db8::1").await.unwrap();
        let _b = admit("2001:db8::ffff").await.unwrap();
        assert!(admit("2001:db8::2").await.is_none() && admit("2001:db8:0:1::2").await.is_some());
        let own: Vec<_> = [admit("127.0.0.1").await, admit("127.0.0.1").await, admit("127.0.0.1").await].into();
        assert!(own.iter().all(Option::is_some));
        drop((own, _a, _b, _second));
        assert!(gate.peers.0.lock().unwrap().is_empty() && gate.places.available_permits() == 10);
        assert_eq!(gate.networks.available_permits(), 10);
    }

    #[tokio::test]
    async fn the_network_does_not_lock_this_computer_out() {
        let listener = bind("http", &[localhost()]).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let (sender, mut accepted) = mpsc::unbounded_channel();
        let gate = Arc::new(Gate::new(6, 2, 3));
        let server = tokio::spawn(serve(listener, Arc::clone(&gate), stopped, move |stream, ticket| {
            sender.send((stream, ticket)).unwrap();
        }));
        let admit = async |peer: &str| gate.admit(peer.parse().unwrap(), OURS, gate.place().await.unwrap());
        let mut strangers = Vec::new();
        for peer in ["192.168.1.7", "192.168.1.8", "2001:db8::1"] {
            strangers.extend([admit(peer).await.unwrap(), admit(peer).await.unwrap()]);
        }
        assert!(admit("192.168.1.9").await.is_none(), "all places of the network are taken");
        // By loopback, while the loop holds a place for whoever comes next; and by an address in the network.
        let _client = TcpStream::connect(address).await.unwrap();
        let here = accepted.recv().await.unwrap();
        let by_own_address = admit("192.168.1.5").await.unwrap();
        drop((here, by_own_address, strangers));
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        assert_eq!((gate.places.available_permits(), gate.networks.available_permits()), (9, 6));
        assert!(gate.peers.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_peer_over_its_share_is_closed_and_the_next_is_served() {
        let listener = bind("imap", &[localhost()]).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let (sender, mut accepted) = mpsc::unbounded_channel();
        let server = tokio::spawn(serve(listener, Arc::new(Gate::new(8, 0, 0)), stopped, move |stream, ticket| {
            sender.send((stream, ticket)).unwrap();
        }));
        // Loopback has no share, so a share of nothing does not keep it out.
        let mut client = TcpStream::connect(address).await.unwrap();
        drop(accepted.recv().await.unwrap());
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        server.abort();
    }
}
