//! How a relay passes octets on: late, at its rate, and under the fault in force.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::{Fate, Fault, Link, Pair, Shared, Way};
use crate::harness::trap::Act;

/// What was read and when it is due; and whether that was all.
#[derive(Default)]
struct Queue {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    ended: bool,
}

/// Puts another first digit into every RFC822.SIZE; nothing gets longer or shorter by it, however the bytes come.
#[derive(Default)]
struct Estimate {
    /// Octets of the item's name that were just seen.
    seen: usize,
}

impl Estimate {
    const ITEM: &[u8] = b"RFC822.SIZE ";

    fn rewrite(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            match Self::ITEM.get(self.seen) {
                Some(want) if want == byte => self.seen += 1,
                Some(_) => self.seen = usize::from(*byte == b'R'),
                None => {
                    // 1 and 2 change places, 3 and 4, and so on.
                    *byte = match *byte {
                        b'9' => b'1',
                        digit @ b'1'..=b'8' => ((digit - b'1') ^ 1) + b'1',
                        other => other,
                    };
                    self.seen = 0;
                }
            }
        }
    }
}

/// One direction: a thread that reads and stamps, and one that passes on when the time has come.
pub(super) fn pump(pair: &Arc<Pair>, way: Way, link: Link, shared: &Arc<Shared>, ends: &Arc<AtomicUsize>) {
    let queue = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
    {
        let (pair, shared, ends, queue) = (pair.clone(), shared.clone(), ends.clone(), queue.clone());
        std::thread::spawn(move || write(&pair, way, &shared, &ends, &queue));
    }
    let (pair, shared) = (pair.clone(), shared.clone());
    std::thread::spawn(move || read(&pair, way, link, &shared, &queue));
}

fn read(pair: &Pair, way: Way, link: Link, shared: &Shared, queue: &(Mutex<Queue>, Condvar)) {
    let mut from = if way == Way::Up { &pair.client } else { &pair.server };
    let (queue, more) = queue;
    let mut chunk = [0; 16 * 1024];
    let mut busy_until = Instant::now();
    let mut estimate = (link.wrong_sizes && way == Way::Down).then(Estimate::default);
    let in_order = loop {
        let n = match from.read(&mut chunk) {
            Ok(0) => break true,
            Ok(n) => n,
            Err(_) => break false,
        };
        if let Some(estimate) = &mut estimate {
            estimate.rewrite(&mut chunk[..n]);
        }
        let now = Instant::now();
        if link.rate > 0 {
            let takes = Duration::from_secs_f64(n as f64 / link.rate as f64);
            busy_until = busy_until.max(now) + takes;
        } else {
            busy_until = now;
        }
        let mut state = queue.lock().unwrap();
        // What is under way on the link is bounded, as in a real one: 4 MiB is beyond any window here.
        while state.chunks.len() > 256 && !shared.stop.load(Ordering::SeqCst) {
            state = more.wait(state).unwrap();
        }
        state.chunks.push_back((busy_until + link.delay, chunk[..n].to_vec()));
        more.notify_all();
    };
    queue.lock().unwrap().ended = true;
    more.notify_all();
    if way == Way::Up {
        pair.left(in_order);
        // Under the lock, so that who has just looked and is about to wait is not missed.
        let _state = shared.state.lock().unwrap();
        shared.changed.notify_all();
    }
}

fn write(pair: &Arc<Pair>, way: Way, shared: &Shared, ends: &AtomicUsize, queue: &(Mutex<Queue>, Condvar)) {
    let (queue, more) = queue;
    let (from, to) = if way == Way::Up { (&pair.client, &pair.server) } else { (&pair.server, &pair.client) };
    let mut held = Vec::new();
    loop {
        let mut state = queue.lock().unwrap();
        let next = loop {
            match state.chunks.pop_front() {
                Some(next) => break Some(next),
                None if state.ended => break None,
                None => state = more.wait(state).unwrap(),
            }
        };
        more.notify_all();
        drop(state);
        let Some((due, bytes)) = next else { break };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if pass(pair, &bytes, &mut held, way, shared) {
            continue;
        }
        // Ends the reading thread as well; the queue then closes.
        let _ = from.shutdown(Shutdown::Read);
        let mut state = queue.lock().unwrap();
        while !state.ended {
            state.chunks.clear();
            more.notify_all();
            state = more.wait(state).unwrap();
        }
        break;
    }
    if pair.fate() != Fate::Aborted {
        let _ = to.shutdown(Shutdown::Write);
    }
    let _ = from.shutdown(Shutdown::Read);
    if ends.fetch_sub(1, Ordering::SeqCst) == 1 {
        shared.open.fetch_sub(1, Ordering::SeqCst);
        shared.state.lock().unwrap().open.retain(|open| open.id != pair.id);
    }
}

/// Passes bytes on under the fault in force. False when the connection is to end.
fn pass(pair: &Arc<Pair>, bytes: &[u8], held: &mut Vec<u8>, way: Way, shared: &Shared) -> bool {
    if !shared.last_was_up.swap(way == Way::Up, Ordering::SeqCst) && way == Way::Up {
        shared.turns.fetch_add(1, Ordering::SeqCst);
    }
    let mut state = shared.state.lock().unwrap();
    while state.fault == Fault::Stall && !shared.stop.load(Ordering::SeqCst) {
        state = shared.changed.wait(state).unwrap();
    }
    // What a connection had to say when it was cut does not count for those after it.
    if let Some((cut_way, left)) = state.cuts.front_mut()
        && *cut_way == way
        && !matches!(pair.fate(), Fate::Over | Fate::Aborted)
    {
        if (bytes.len() as u64) < *left {
            *left -= bytes.len() as u64;
        } else {
            let last = *left as usize;
            state.cuts.pop_front();
            send(pair, &bytes[..last], way, false, shared);
            state.open.drain(..).for_each(|pair| pair.cut());
            return false;
        }
    }
    let trickle = state.fault == Fault::Trickle;
    held.extend_from_slice(bytes);
    while !held.is_empty() {
        // A line is held back until it is whole while somebody may want it: each message of IMAP ends one.
        let whole = state.trap.is_some() || state.withholds_uids;
        let mut line = match held.iter().position(|b| *b == b'\n') {
            Some(end) if whole => end + 1,
            None if whole => return true,
            _ => held.len(),
        };
        if state.withholds_uids && way == Way::Down {
            line -= withhold(held, line);
        }
        let sprung = state.trap.as_mut().and_then(|trap| trap.at(pair.id, way, &held[..line]));
        let act = sprung.and_then(|_| state.trap.take()).map(|trap| trap.act);
        drop(state);
        let piece: Vec<u8> = held.drain(..sprung.unwrap_or(line)).collect();
        if !permitted(pair, way, shared) || !send(pair, &piece, way, trickle || pair.fate() == Fate::Slow, shared) {
            return false;
        }
        state = shared.state.lock().unwrap();
        if let Some(act) = act {
            state.sprung = true;
            state.caught = Some(pair.id);
            shared.changed.notify_all();
            while state.sprung && !shared.stop.load(Ordering::SeqCst) {
                state = shared.changed.wait(state).unwrap();
            }
            match act {
                Act::Cut => pair.cut(),
                Act::CutAll => state.open.drain(..).for_each(|pair| pair.cut()),
                Act::Reset => pair.abort(),
                Act::HalfClose => pair.half_close(),
                Act::Stall => pair.set(Fate::Stalled { late: false }),
                Act::Late => pair.set(Fate::Stalled { late: true }),
                Act::Trickle => pair.set(Fate::Slow),
            }
        }
    }
    true
}

/// Takes the code that names UIDs out of a line of so many octets; how many that were.
fn withhold(held: &mut Vec<u8>, line: usize) -> usize {
    for code in [&b"[APPENDUID "[..], b"[COPYUID "] {
        let text = &held[..line];
        let Some(from) = text.windows(code.len()).position(|part| part == code) else { continue };
        let Some(end) = text[from..].windows(2).position(|part| part == b"] ") else { continue };
        held.drain(from..from + end + 2);
        return end + 2;
    }
    0
}

/// Whether bytes may pass that way; waits while the connection is stalled.
fn permitted(pair: &Pair, way: Way, shared: &Shared) -> bool {
    let mut state = shared.state.lock().unwrap();
    loop {
        match pair.fate() {
            Fate::Well | Fate::Slow => return true,
            Fate::Over | Fate::Aborted => return false,
            Fate::HalfClosed => return way == Way::Up,
            Fate::Left { late: false } => return false,
            Fate::Left { late: true } if way == Way::Down => return false,
            Fate::Left { late: true } if state.late => return true,
            Fate::Stalled { .. } | Fate::Left { .. } if shared.stop.load(Ordering::SeqCst) => return false,
            Fate::Stalled { .. } | Fate::Left { .. } => state = shared.changed.wait(state).unwrap(),
        }
    }
}

fn send(pair: &Pair, bytes: &[u8], way: Way, slowly: bool, shared: &Shared) -> bool {
    let (mut to, count) = if way == Way::Up { (&pair.server, &shared.up) } else { (&pair.client, &shared.down) };
    // Counted before it is passed on: who has read it finds it counted.
    count.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    let sent = if slowly {
        bytes.iter().try_for_each(|b| {
            std::thread::sleep(Duration::from_millis(1));
            to.write_all(&[*b])
        })
    } else {
        to.write_all(bytes)
    };
    sent.is_ok()
}
