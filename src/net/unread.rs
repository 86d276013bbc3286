//! How much of a connection that is counted the system of this computer may hold unread: it has left the other end, which counts it, and is
//! not counted here yet (Law 6).
//!
//! A receive buffer of our own size is the better bound ([`ASKED`]). But a system may give less than is asked for (Linux ships with 208 KiB as
//! `net.core.rmem_max`), and a buffer that was set is a buffer that grows no more: 2.4 MB/s over a line of 100 ms. There the
//! system's own sizing is left at work, if it ends where we can bear it ([`OWN_MOST`]): 24 MB/s on the same line. `TCP_WINDOW_CLAMP` is no third
//! way: Linux moves the clamp along with a buffer that it sizes itself (seen on 6.18: clamped to 512 KiB, grown to 6 MiB).

use std::io;
use std::sync::OnceLock;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;

/// Asked of the system as the receive buffer; Linux takes twice that, for what a packet needs beside its octets. Half a megabyte on the way is
/// 5 MB/s over a line of 100 ms.
const ASKED: usize = 512 * 1024;
/// The longest buffer of the system's own that we bear. Linux has had 6 MiB since 2.6.17; where there are 32 (6.16 and later) it
/// grants what we ask for. It is what a crash in the middle of a large message may count too much for each session.
const OWN_MOST: u64 = 8 << 20;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// A buffer of so many octets is asked for; twice that is what can be in it.
    Asked(usize),
    /// The system's own sizing, which ends there.
    Own(u64),
}

impl Bound {
    /// `granted`: what [`ASKED`] has given on this system; `own`: where its own sizing ends, if that is known.
    fn choose(granted: Option<usize>, own: Option<u64>) -> Self {
        match own {
            Some(most) if granted.is_some_and(|granted| granted < ASKED) && most <= OWN_MOST => Self::Own(most),
            _ => Self::Asked(ASKED),
        }
    }

    fn most(self) -> u64 {
        match self {
            Self::Asked(octets) => 2 * octets as u64,
            Self::Own(most) => most,
        }
    }

    fn set(self, tcp: &TcpStream) -> io::Result<()> {
        match self {
            Self::Asked(octets) => SockRef::from(tcp).set_recv_buffer_size(octets),
            Self::Own(_) => Ok(()),
        }
    }
}

/// Octets at most of a connection that is counted that are held unread.
pub fn unread_most() -> u64 {
    bound().most()
}

/// Sees to it for one connection.
pub(super) fn keep(tcp: &TcpStream) -> io::Result<()> {
    bound().set(tcp)
}

/// As the system is when it is first asked for: the count relies on one bound.
fn bound() -> Bound {
    static BOUND: OnceLock<Bound> = OnceLock::new();
    *BOUND.get_or_init(|| {
        let bound = Bound::choose(granted(ASKED).ok(), own_most());
        tracing::debug!(?bound, "held unread of a connection at most");
        bound
    })
}

/// What the system gives who asks for a buffer, found by asking: a limit need not be readable, in a container least of all.
fn granted(asked: usize) -> io::Result<usize> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(asked)?;
    socket.recv_buffer_size()
}

/// Where the system's own sizing ends.
#[cfg(target_os = "linux")]
fn own_most() -> Option<u64> {
    // IPv6 keeps to it too.
    last_of_three(&std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").ok()?)
}

/// Others do not tell, or in ways of their own; all of them grant more than we ask for.
#[cfg(not(target_os = "linux"))]
fn own_most() -> Option<u64> {
    None
}

/// `least, first, most`, as Linux writes it.
#[cfg(any(target_os = "linux", test))]
fn last_of_three(text: &str) -> Option<u64> {
    let [_, _, most] = text.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    most.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::{Duration, timeout};

    use super::*;

    #[test]
    fn a_buffer_is_asked_for_where_it_is_granted() {
        const ASKED: usize = super::ASKED;
        const MIB: u64 = 1 << 20;
        let table = [
            ("granted, doubled", Some(2 * ASKED), Some(32 * MIB), Bound::Asked(ASKED)),
            ("granted as it is", Some(ASKED), None, Bound::Asked(ASKED)),
            ("Debian 12", Some(425_984), Some(6 * MIB), Bound::Own(6 * MIB)),
            ("little, and too much of its own", Some(425_984), Some(32 * MIB), Bound::Asked(ASKED)),
            ("little, and nothing known", Some(425_984), None, Bound::Asked(ASKED)),
            ("nothing known", None, Some(6 * MIB), Bound::Asked(ASKED)),
        ];
        for (name, granted, own, want) in table {
            assert_eq!(Bound::choose(granted, own), want, "{name}");
        }
        assert_eq!((Bound::Asked(ASKED).most(), Bound::Own(6 * MIB).most()), (MIB, 6 * MIB));
        for (text, want) in
            [("4096\t131072\t6291456\n", Some(6 * MIB)), ("4096 131072", None), ("", None), ("a b c", None)]
        {
            assert_eq!(last_of_three(text), want, "{text:?}");
        }
    }

    /// However the reader pauses, and however long the system has had to size its buffer.
    #[tokio::test]
    async fn no_more_is_held_unread() {
        let own = own_most().unwrap_or(OWN_MOST);
        for bound in [Bound::Asked(ASKED), Bound::Own(own)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            bound.set(&near).unwrap();
            let (far, _) = listener.accept().await.unwrap();
            // What the sender holds itself is not held here.
            SockRef::from(&far).set_send_buffer_size(16 * 1024).unwrap();
            let piece = vec![7; 256 * 1024];
            let mut taken = 0;
            // Reads with a pause before each: until the sender gets nothing more away.
            for _ in 0..6 {
                let mut unread = fill(&far, &piece).await;
                assert!(unread >= 64 * 1024, "{bound:?}: {unread} octets before a pause: nothing was tried");
                let mut buffer = vec![0; 64 * 1024];
                let mut all = 0;
                while unread > all {
                    let read = timeout(Duration::from_millis(200), near.read(&mut buffer)).await;
                    let Ok(read) = read else { break };
                    all += read.unwrap() as u64;
                }
                unread = all;
                taken += unread;
                assert!(unread <= bound.most() + 64 * 1024, "{bound:?}: {unread} octets");
            }
            assert!(taken > 0);
        }
    }

    /// Writes until nothing more is taken; how much was.
    async fn fill(far: &TcpStream, piece: &[u8]) -> u64 {
        let mut written = 0;
        while let Ok(ready) = timeout(Duration::from_millis(100), far.writable()).await {
            ready.unwrap();
            match far.try_write(piece) {
                Ok(octets) => written += octets as u64,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        written
    }
}
