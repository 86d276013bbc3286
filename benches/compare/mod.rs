//! Native Dovecot and mailweir side by side: the same mail, the same client, rounds taken in turn, medians.
//!
//! The client has NODELAY and quick acknowledgements, looks at the last line of an answer alone and is the same for
//! both, so what it costs lowers both and makes a ratio look smaller than it is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::harness;
use super::harness::client::Client;
use super::harness::daemon::{Daemon, Resources};
use super::harness::dovecot::Dovecot;

/// Whether to measure: `cargo bench` asks for it, `cargo test --benches` and `MAILWEIR_BENCH=small` want each row once on
/// little mail.
pub fn measures() -> bool {
    let small = std::env::var("MAILWEIR_BENCH").is_ok_and(|v| v == "small");
    std::env::args().any(|a| a == "--bench") && !small
}

/// A test runner asks what tests there are: none.
pub fn is_listing() -> bool {
    std::env::args().any(|a| a == "--list")
}

/// A size: set by `MAILWEIR_BENCH_<name>`, else the full one or that of a smoke run.
pub fn size(name: &str, full: usize, smoke: usize) -> usize {
    let set = std::env::var(format!("MAILWEIR_BENCH_{name}")).ok().and_then(|v| v.parse().ok());
    set.unwrap_or_else(|| if measures() { full } else { smoke })
}

/// One of the two servers.
pub struct Target<'a> {
    pub imap: SocketAddr,
    pub imaps: SocketAddr,
    pub ca_file: PathBuf,
    pub user: &'static str,
    pub password: &'static str,
    /// Names the side in mailboxes of its own.
    pub name: &'static str,
    pids: Box<dyn Fn() -> Vec<u32> + Send + Sync + 'a>,
}

impl<'a> Target<'a> {
    pub fn native(dovecot: &'a Dovecot) -> Self {
        Self {
            imap: dovecot.imap,
            imaps: dovecot.imaps,
            ca_file: dovecot.ca_file().to_owned(),
            user: harness::UPSTREAM_USER,
            password: harness::UPSTREAM_PASSWORD,
            name: "Dovecot",
            pids: Box::new(|| dovecot.pids()),
        }
    }

    pub fn ours(daemon: &Daemon) -> Self {
        let pid = daemon.pid();
        Self {
            imap: daemon.imap,
            imaps: daemon.imaps,
            ca_file: daemon.ca_file(),
            user: harness::ADDRESS,
            password: harness::LOCAL_PASSWORD,
            name: "mailweir",
            pids: Box::new(move || vec![pid]),
        }
    }

    pub fn connect(&self, tls: bool) -> Client {
        let c = if tls { Client::connect_tls(self.imaps, &self.ca_file) } else { Client::connect(self.imap) };
        let mut c = c.quick_ack().login(self.user, self.password);
        c.set_timeout(Duration::from_secs(300));
        c
    }

    pub fn selected(&self, tls: bool, mailbox: &str) -> Client {
        let mut c = self.connect(tls);
        c.cmd_ok(&format!("SELECT {mailbox}"));
        c
    }

    pub fn resources(&self) -> Resources {
        Resources::of(&(self.pids)())
    }
}

/// Sends a command and drains the answer: how long, how long to the first byte, how many bytes.
pub fn ask(c: &mut Client, command: &str) -> (Duration, Duration, u64) {
    let start = Instant::now();
    let tag = c.start(command).expect("send");
    let (bytes, first) = c.drain_answer(&tag).unwrap_or_else(|e| panic!("{command}: {e}"));
    (start.elapsed(), first - start, bytes)
}

pub fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1000.0
}

pub fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    ms(start.elapsed())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Which way is better.
#[derive(Clone, Copy)]
pub enum Better {
    Lower,
    Higher,
}

pub struct Table {
    pub rounds: usize,
    /// Only rows whose name contains this are measured.
    only: Option<String>,
}

impl Table {
    pub fn new(rounds: usize) -> Self {
        Self { rounds, only: std::env::var("MAILWEIR_BENCH_ONLY").ok() }
    }

    pub fn head(&self, title: &str) {
        println!("\n{:<46} {:>12} {:>12} {:>9}", title, "Dovecot", "mailweir", "ratio");
    }

    pub fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Runs `measure` on both in turn and prints the medians. The ratio is above 1 where mailweir does better.
    pub fn row(
        &self,
        name: &str,
        unit: &str,
        better: Better,
        targets: [&Target<'_>; 2],
        mut measure: impl FnMut(&Target<'_>) -> f64,
    ) {
        if !self.wants(name) {
            return;
        }
        let mut values = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            // Who goes first changes, so that neither always finds the other's caches.
            for side in [round % 2, 1 - round % 2] {
                values[side].push(measure(targets[side]));
            }
        }
        self.print(name, unit, better, values.map(median));
    }

    pub fn print(&self, name: &str, unit: &str, better: Better, [native, ours]: [f64; 2]) {
        let ratio = match better {
            Better::Lower => native / ours,
            Better::Higher => ours / native,
        };
        println!("{:<46} {native:>12.3} {ours:>12.3} {ratio:>8.2}x", format!("{name}, {unit}"));
    }
}
