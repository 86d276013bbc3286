//! A TCP relay between two ends: counts bytes, can be slow like a far link, and can break like a bad one.
//!
//! The link's delay and rate are real waits, since they are what is being simulated. Faults work on the connections
//! that are open and on those to come, until they are lifted.

mod pump;

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use self::pump::pump;
use super::trap::Trap;

/// What the link is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Bytes in a second, each way; 0 is as fast as it goes.
    pub rate: u64,
    /// Every RFC822.SIZE the server tells is another one, too large or too small: a provider that only estimates.
    pub wrong_sizes: bool,
}

impl Link {
    /// A round trip of 50 ms at 50 Mbit/s.
    pub fn wan() -> Self {
        Self { delay: Duration::from_millis(25), rate: 50_000_000 / 8, ..Self::default() }
    }
}

/// Which way bytes flow. Up is towards the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

/// What is wrong with the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Bytes are taken and not passed on: a dead NAT entry, a sleeping laptop.
    Stall,
    /// Connections are refused: closed as soon as they are accepted.
    Refuse,
    /// One byte in a millisecond.
    Trickle,
}

#[derive(Default)]
struct Shared {
    up: AtomicU64,
    down: AtomicU64,
    open: AtomicUsize,
    peak: AtomicUsize,
    accepted: AtomicUsize,
    turns: AtomicUsize,
    last_was_up: AtomicBool,
    stop: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    fault: Fault,
    /// Bytes left until every open connection is cut, by way; the next is counted from the cut before it.
    cuts: VecDeque<(Way, u64)>,
    trap: Option<Trap>,
    /// The trap has sprung, and waits for [`Relay::go_on`].
    sprung: bool,
    /// What is held back by [`Act::Late`] may go.
    late: bool,
    /// See [`Relay::withhold_uids`].
    withholds_uids: bool,
    /// The connection the trap has caught.
    caught: Option<usize>,
    open: Vec<Arc<Pair>>,
}

/// One connection: its two ends, and what has become of it.
struct Pair {
    id: usize,
    client: TcpStream,
    server: TcpStream,
    fate: Mutex<Fate>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Well,
    /// Nothing passes.
    Over,
    /// Nothing passes, and no end is told: closing it resets it.
    Aborted,
    /// Nothing passes down.
    HalfClosed,
    /// Nothing passes for now.
    Stalled {
        late: bool,
    },
    /// The client of a stalled one has closed; in order, or not.
    Left {
        late: bool,
    },
    Slow,
}

impl Pair {
    fn fate(&self) -> Fate {
        *self.fate.lock().unwrap()
    }

    fn set(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
    }

    fn cut(&self) {
        self.set(Fate::Over);
        for end in [&self.client, &self.server] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// The kernel sends a reset when the last handle of a socket without linger goes; waking the readers lets go of theirs.
    fn abort(&self) {
        self.set(Fate::Aborted);
        for end in [&self.client, &self.server] {
            let _ = socket2::SockRef::from(end).set_linger(Some(Duration::ZERO));
            let _ = end.shutdown(Shutdown::Read);
        }
    }

    fn half_close(&self) {
        self.set(Fate::HalfClosed);
        let _ = self.client.shutdown(Shutdown::Write);
    }

    /// The client has closed.
    fn left(&self, in_order: bool) {
        let mut fate = self.fate.lock().unwrap();
        if let Fate::Stalled { late } = *fate {
            *fate = Fate::Left { late: late && in_order };
        }
    }
}

/// A running relay.
pub struct Relay {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    /// Listens on a free port of loopback and passes on to `target`.
    pub fn to(target: SocketAddr, link: Link) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", super::free_port())).expect("relay");
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let for_thread = shared.clone();
        std::thread::spawn(move || accept(&listener, target, link, &for_thread));
        Self { addr, shared }
    }

    /// Bytes passed towards the server so far.
    pub fn up(&self) -> u64 {
        self.shared.up.load(Ordering::SeqCst)
    }

    /// Bytes passed from the server so far.
    pub fn down(&self) -> u64 {
        self.shared.down.load(Ordering::SeqCst)
    }

    /// Both ways.
    pub fn bytes(&self) -> u64 {
        self.up() + self.down()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The most that were open at once.
    pub fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }

    /// How many were ever made.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How often the talk turned from down to up: round trips, where one connection is at work.
    pub fn turns(&self) -> usize {
        self.shared.turns.load(Ordering::SeqCst)
    }

    /// Sets or lifts a fault.
    pub fn set(&self, fault: Fault) {
        self.shared.state.lock().unwrap().fault = fault;
        self.shared.changed.notify_all();
    }

    /// Closes every open connection now, in order (FIN).
    pub fn cut(&self) {
        self.shared.state.lock().unwrap().open.drain(..).for_each(|pair| pair.cut());
        self.shared.changed.notify_all();
    }

    /// Closes every open connection with a reset.
    pub fn reset(&self) {
        self.shared.state.lock().unwrap().open.drain(..).for_each(|pair| pair.abort());
        self.shared.changed.notify_all();
    }

    /// The server's side stops sending but goes on reading.
    pub fn half_close(&self) {
        self.shared.state.lock().unwrap().open.iter().for_each(|pair| pair.half_close());
    }

    /// From now on answers lose their APPENDUID and COPYUID codes: Dovecot gives them whatever its capabilities say.
    pub fn withhold_uids(&self) {
        self.shared.state.lock().unwrap().withholds_uids = true;
    }

    /// Sets a trap: the talk is held at that place until [`Self::go_on`].
    pub fn set_trap(&self, trap: Trap) {
        let mut state = self.shared.state.lock().unwrap();
        (state.trap, state.sprung, state.late) = (Some(trap), false, false);
    }

    /// Waits until the trap has sprung; false if it has not within `patience`, and then it is taken away.
    pub fn sprung(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.state.lock().unwrap();
        while !state.sprung {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.trap = None;
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
        true
    }

    /// Lets the trap do what it is to do.
    pub fn go_on(&self) {
        self.shared.state.lock().unwrap().sprung = false;
        self.shared.changed.notify_all();
    }

    /// What [`Act::Late`] has held back arrives; back when the server has done with that connection.
    pub fn deliver_late(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state.late = true;
        let caught = state.caught;
        drop(state);
        self.shared.changed.notify_all();
        super::wait_for("the late connection to end", || {
            !self.shared.state.lock().unwrap().open.iter().any(|pair| Some(pair.id) == caught)
        });
    }

    /// Cuts every open connection once `bytes` more have gone that way: in the middle of whatever that is.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.cut_after_each(way, &[bytes]);
    }

    /// The same again and again: each cut is counted from the one before it.
    pub fn cut_after_each(&self, way: Way, bytes: &[u64]) {
        self.shared.state.lock().unwrap().cuts = bytes.iter().map(|bytes| (way, *bytes)).collect();
    }

    /// Whether a cut that was set still waits.
    pub fn cut_waits(&self) -> bool {
        !self.shared.state.lock().unwrap().cuts.is_empty()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
        // The accepting thread sees the flag when it is woken by one more connection.
        let _ = TcpStream::connect(self.addr);
        self.cut();
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, link: Link, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        if shared.state.lock().unwrap().fault == Fault::Refuse {
            continue;
        }
        let Ok(server) = TcpStream::connect(target) else { continue };
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
            // What is counted as passed on is to have been passed on, but for this.
            socket2::SockRef::from(end).set_send_buffer_size(64 * 1024).unwrap();
        }
        let id = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.peak.fetch_max(open, Ordering::SeqCst);
        let pair = Arc::new(Pair { id, client, server, fate: Mutex::default() });
        shared.state.lock().unwrap().open.push(pair.clone());
        let ends = Arc::new(AtomicUsize::new(2));
        pump(&pair, Way::Up, link, shared, &ends);
        pump(&pair, Way::Down, link, shared, &ends);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A server that echoes lines.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                let mut tcp = tcp.unwrap();
                std::thread::spawn(move || {
                    let mut chunk = [0; 4096];
                    while let Ok(n @ 1..) = tcp.read(&mut chunk) {
                        if tcp.write_all(&chunk[..n]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        addr
    }

    #[test]
    fn counts_and_delays() {
        let relay = Relay::to(echo(), Link { delay: Duration::from_millis(20), ..Link::default() });
        let mut tcp = TcpStream::connect(relay.addr).unwrap();
        let start = Instant::now();
        tcp.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        tcp.read_exact(&mut back).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
        assert_eq!((relay.up(), relay.down(), relay.open(), relay.peak()), (5, 5, 1, 1));
        drop(tcp);
        crate::harness::wait_for("the connection to end", || relay.open() == 0);
    }

    #[test]
    fn sizes_are_told_wrong() {
        let relay = Relay::to(echo(), Link { wrong_sizes: true, ..Link::default() });
        let mut tcp = TcpStream::connect(relay.addr).unwrap();
        let lines = |one: &str, two: &str, three: &str| {
            format!("* 1 FETCH (UID 1 RFC822.SIZE {one})\r\n* 2 FETCH (RRFC822.SIZE {two} RFC822.SIZE {three})\r\n")
        };
        let sent = lines("12", "907", "0");
        for byte in sent.bytes() {
            tcp.write_all(&[byte]).unwrap();
        }
        let mut back = vec![0; sent.len()];
        tcp.read_exact(&mut back).unwrap();
        assert_eq!(String::from_utf8(back).unwrap(), lines("22", "107", "0"));
    }

    #[test]
    fn rate_is_kept() {
        let relay = Relay::to(echo(), Link { rate: 1_000_000, ..Link::default() });
        let mut tcp = TcpStream::connect(relay.addr).unwrap();
        let start = Instant::now();
        tcp.write_all(&vec![7; 200_000]).unwrap();
        tcp.read_exact(&mut vec![0; 200_000]).unwrap();
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(195) && took < Duration::from_millis(2000), "{took:?}");
    }

    #[test]
    fn withholds_uids() {
        let relay = Relay::to(echo(), Link::default());
        relay.withhold_uids();
        let mut tcp = TcpStream::connect(relay.addr).unwrap();
        tcp.write_all(b"* OK [COPYUID 7 1,2 3:4] Moved\r\na OK [APPENDUID 7 1] done\r\nb OK [COPYUID\r\nc OK\r\n")
            .unwrap();
        tcp.shutdown(Shutdown::Write).unwrap();
        let mut got = String::new();
        tcp.read_to_string(&mut got).unwrap();
        assert_eq!(got, "* OK Moved\r\na OK done\r\nb OK [COPYUID\r\nc OK\r\n");
    }

    #[test]
    fn cuts_in_the_middle() {
        let relay = Relay::to(echo(), Link::default());
        let mut tcp = TcpStream::connect(relay.addr).unwrap();
        relay.cut_after(Way::Down, 3);
        tcp.write_all(b"hello").unwrap();
        let mut got = Vec::new();
        let _ = tcp.read_to_end(&mut got);
        assert_eq!(got, b"hel");
        crate::harness::wait_for("the connection to end", || relay.open() == 0);
        assert!(!relay.cut_waits());
    }

    #[test]
    fn stalls_and_goes_on() {
        let relay = Relay::to(echo(), Link::default());
        let mut tcp = TcpStream::connect(relay.addr).unwrap();
        relay.set(Fault::Stall);
        tcp.write_all(b"hello").unwrap();
        tcp.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(tcp.read(&mut [0; 5]).is_err(), "stalled");
        relay.set(Fault::None);
        tcp.set_read_timeout(Some(super::super::PATIENCE)).unwrap();
        tcp.read_exact(&mut [0; 5]).unwrap();
        relay.set(Fault::Refuse);
        let mut refused = TcpStream::connect(relay.addr).unwrap();
        assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0);
        relay.cut();
        assert_eq!(tcp.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
