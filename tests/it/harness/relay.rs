//! A TCP relay between two ends: counts bytes, can be slow like a far link, and can break like a bad one.
//!
//! The link's delay and rate are real waits, since they are what is being simulated. Faults work on the connections
//! that are open and on those to come, until they are lifted.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What the link is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Bytes in a second, each way; 0 is as fast as it goes.
    pub rate: u64,
}

impl Link {
    /// A round trip of 50 ms at 50 Mbit/s.
    pub fn wan() -> Self {
        Self { delay: Duration::from_millis(25), rate: 50_000_000 / 8 }
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
    pairs: Vec<(TcpStream, TcpStream)>,
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
        for (a, b) in self.shared.state.lock().unwrap().pairs.drain(..) {
            let _ = a.shutdown(Shutdown::Both);
            let _ = b.shutdown(Shutdown::Both);
        }
    }

    /// Closes every open connection with a reset.
    pub fn reset(&self) {
        for (a, b) in self.shared.state.lock().unwrap().pairs.drain(..) {
            for end in [a, b] {
                let _ = socket2::SockRef::from(&end).set_linger(Some(Duration::ZERO));
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }

    /// The server's side stops sending but goes on reading.
    pub fn half_close(&self) {
        for (client, _) in &self.shared.state.lock().unwrap().pairs {
            let _ = client.shutdown(Shutdown::Write);
        }
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
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.peak.fetch_max(open, Ordering::SeqCst);
        let pair = (client.try_clone().unwrap(), server.try_clone().unwrap());
        shared.state.lock().unwrap().pairs.push(pair);
        let ends = Arc::new(AtomicUsize::new(2));
        pump(client.try_clone().unwrap(), server.try_clone().unwrap(), Way::Up, link, shared.clone(), ends.clone());
        pump(server, client, Way::Down, link, shared.clone(), ends);
    }
}

/// One direction: a thread that reads and stamps, and one that passes on when the time has come.
fn pump(mut from: TcpStream, mut to: TcpStream, way: Way, link: Link, shared: Arc<Shared>, ends: Arc<AtomicUsize>) {
    let queue = Arc::new((Mutex::new((VecDeque::<(Instant, Vec<u8>)>::new(), false)), Condvar::new()));
    let writer_queue = queue.clone();
    let writer_shared = shared.clone();
    let done = move |from: &TcpStream, to: &TcpStream, shared: &Shared| {
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
        if ends.fetch_sub(1, Ordering::SeqCst) == 1 {
            shared.open.fetch_sub(1, Ordering::SeqCst);
            let gone = (from.peer_addr().ok(), to.peer_addr().ok());
            let mut state = shared.state.lock().unwrap();
            state.pairs.retain(|(a, b)| {
                let pair = (a.peer_addr().ok(), b.peer_addr().ok());
                pair.0.is_some() && pair != gone && pair != (gone.1, gone.0)
            });
        }
    };
    let reader_side = from.try_clone().unwrap();
    std::thread::spawn(move || {
        let (queue, more) = &*writer_queue;
        loop {
            let (due, bytes) = {
                let mut state = queue.lock().unwrap();
                loop {
                    if let Some(next) = state.0.pop_front() {
                        more.notify_all();
                        break next;
                    }
                    if state.1 {
                        drop(state);
                        done(&reader_side, &to, &writer_shared);
                        return;
                    }
                    state = more.wait(state).unwrap();
                }
            };
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if !pass(&mut to, &bytes, way, &writer_shared) {
                // Ends the reading thread as well; the queue then closes.
                let _ = reader_side.shutdown(Shutdown::Read);
                let mut state = queue.lock().unwrap();
                state.0.clear();
                while !state.1 {
                    state = more.wait(state).unwrap();
                    state.0.clear();
                    more.notify_all();
                }
                drop(state);
                done(&reader_side, &to, &writer_shared);
                return;
            }
        }
    });
    std::thread::spawn(move || {
        let (queue, more) = &*queue;
        let mut chunk = [0; 16 * 1024];
        let mut busy_until = Instant::now();
        loop {
            let n = match from.read(&mut chunk) {
                Ok(n) if n > 0 => n,
                _ => break,
            };
            let now = Instant::now();
            if link.rate > 0 {
                let takes = Duration::from_secs_f64(n as f64 / link.rate as f64);
                busy_until = busy_until.max(now) + takes;
            } else {
                busy_until = now;
            }
            let mut state = queue.lock().unwrap();
            // What is under way on the link is bounded, as in a real one: 4 MiB is beyond any window here.
            while state.0.len() > 256 && !shared.stop.load(Ordering::SeqCst) {
                state = more.wait(state).unwrap();
            }
            state.0.push_back((busy_until + link.delay, chunk[..n].to_vec()));
            more.notify_all();
        }
        queue.lock().unwrap().1 = true;
        more.notify_all();
    });
}

/// Passes bytes on under the fault in force. False when the connection is to end.
fn pass(to: &mut TcpStream, bytes: &[u8], way: Way, shared: &Shared) -> bool {
    let count = if way == Way::Up { &shared.up } else { &shared.down };
    if !shared.last_was_up.swap(way == Way::Up, Ordering::SeqCst) && way == Way::Up {
        shared.turns.fetch_add(1, Ordering::SeqCst);
    }
    let mut state = shared.state.lock().unwrap();
    while state.fault == Fault::Stall && !shared.stop.load(Ordering::SeqCst) {
        state = shared.changed.wait(state).unwrap();
    }
    let trickle = state.fault == Fault::Trickle;
    if let Some((cut_way, left)) = state.cuts.front_mut()
        && *cut_way == way
    {
        if (bytes.len() as u64) < *left {
            *left -= bytes.len() as u64;
        } else {
            let last = *left as usize;
            state.cuts.pop_front();
            count.fetch_add(last as u64, Ordering::SeqCst);
            let _ = to.write_all(&bytes[..last]);
            for (a, b) in state.pairs.drain(..) {
                let _ = a.shutdown(Shutdown::Both);
                let _ = b.shutdown(Shutdown::Both);
            }
            return false;
        }
    }
    drop(state);
    // Counted before it is passed on: who has read it finds it counted.
    count.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    let sent = if trickle {
        bytes.iter().try_for_each(|b| {
            std::thread::sleep(Duration::from_millis(1));
            to.write_all(&[*b])
        })
    } else {
        to.write_all(bytes)
    };
    sent.is_ok()
}

#[cfg(test)]
mod tests {
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
        let relay = Relay::to(echo(), Link { delay: Duration::from_millis(20), rate: 0 });
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
    fn rate_is_kept() {
        let relay = Relay::to(echo(), Link { delay: Duration::ZERO, rate: 1_000_000 });
        let mut tcp = TcpStream::connect(relay.addr).unwrap();
        let start = Instant::now();
        tcp.write_all(&vec![7; 200_000]).unwrap();
        tcp.read_exact(&mut vec![0; 200_000]).unwrap();
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(195) && took < Duration::from_millis(2000), "{took:?}");
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
