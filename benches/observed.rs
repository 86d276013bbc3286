//! What logs and metrics cost: the daemon with its log at INFO and without one, on the same mail in the same run, rounds taken in turn.
//!
//! `cargo bench --bench observed`. Three daemons each read what is warm: one with `level = "info"`, one with `"off"`, and a second one with
//! `"off"`, which shows how far two that are alike differ. What counts is the processor time of the daemon, thread by thread from the
//! scheduler: other programs disturb it far less than the time on the wall. The daemons are started anew several times, as where things
//! lie in memory is luck. Medians of all rounds, and half of all differences of paired rounds stand between the last two columns.
//!
//! There is no switch for metrics, so these are counted (how often a round records something, from `/metrics` itself) and
//! timed here, one by one, alone and with another thread that does the same; that, divided by the processor time of the round, is their share.
//! `MAILWEIR_BENCH_BASELINE=program` puts another build in the place of the second and third, for instance one whose recording functions in
//! `src/metrics/mod.rs` are empty, run with its log off: the two ways of counting should then agree.
//!
//! On a machine of few processors, where a round trip takes either of two times as the scheduler has it, pin it to one:
//! `taskset -c 0 cargo bench --bench observed`. So measured in November 2026 with 10 starts: the log costs -0.8 %, 1.2 %, 0.8 % and 1.0 %
//! of the four rows (two that are alike differ by up to 1.9 %), the counting 0.0 % to 0.4 %; allowed are 3 % together.
//!
//! Sizes by `MAILWEIR_BENCH_{STARTS,ROUNDS,USUAL}`; a smoke run as in `e2e`.
#![allow(unreachable_pub, reason = "the harness is a module here and in the integration tests")]
#![allow(dead_code, reason = "each of the two uses its own part of the harness")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(unused_imports, reason = "the harness's own tests are left out of a bench that is not libtest's")]

mod compare;
#[path = "../tests/it/harness/mod.rs"]
mod harness;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use compare::{Target, ask, median, size};
use harness::client::Client;
use harness::daemon::{Account, Daemon, Setup};
use harness::dovecot::Dovecot;
use harness::mail::{self, Sizes};
use mailweir::metrics::{BodyRead, Metrics, Protocol};

/// What the issue allows.
const ALLOWED_PERCENT: f64 = 3.0;
/// Between two scrapes of Prometheus, as `config/prometheus` sets it up.
const SCRAPED_EVERY: f64 = 15.0;

/// A row: its name, and what one round asks.
struct Row {
    name: &'static str,
    ask: fn(&mut Client, u64),
}

const ROWS: [Row; 4] = [
    Row {
        name: "ENVELOPE and BODYSTRUCTURE, warm",
        ask: |c, _| {
            ask(c, "FETCH 1:* (ENVELOPE BODYSTRUCTURE)");
        },
    },
    Row {
        name: "whole bodies, warm",
        ask: |c, _| {
            ask(c, "FETCH 1:* (BODY.PEEK[])");
        },
    },
    Row {
        name: "bodies one by one",
        ask: |c, messages| {
            for uid in 1..=messages {
                ask(c, &format!("UID FETCH {uid} (BODY.PEEK[])"));
            }
        },
    },
    // The cheapest command there is: an upper bound for every other.
    Row {
        name: "flags one by one",
        ask: |c, messages| {
            for uid in 1..=messages {
                ask(c, &format!("UID FETCH {uid} (FLAGS)"));
            }
        },
    },
];

/// One side.
struct Side {
    daemon: Daemon,
    client: Option<Client>,
}

impl Side {
    fn start(dovecot: &Dovecot, level: &'static str, program: Option<PathBuf>) -> Self {
        let mut setup = Setup::new(Account::at(dovecot.imap));
        setup.log = (level, &[]);
        if let Some(program) = program {
            setup.program = program;
        }
        Self { daemon: Daemon::start(setup), client: None }
    }

    /// Anew, and everything is in its memory.
    fn again(&mut self, messages: u64) {
        self.client = None;
        self.daemon.stop();
        self.daemon.restart();
        let mut client = Target::ours(&self.daemon).selected(false, "Usual");
        ROWS.iter().for_each(|row| (row.ask)(&mut client, messages));
        self.client = Some(client);
    }

    /// One round: seconds of the daemon's processor time, and on the wall.
    fn round(&mut self, row: &Row, messages: u64) -> (f64, f64) {
        let pid = self.daemon.pid();
        let client = self.client.as_mut().expect("started");
        let (before, start) = (threads(pid), Instant::now());
        (row.ask)(client, messages);
        let took = start.elapsed();
        let after = threads(pid);
        let used: u64 = after.iter().map(|(id, now)| now.saturating_sub(before.get(id).copied().unwrap_or(0))).sum();
        (used as f64 / 1e9, took.as_secs_f64())
    }

    /// A counter of its `/metrics`, over all labels.
    fn counted(&self, name: &str) -> f64 {
        let (_, text) = self.daemon.http_get("/metrics");
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// Nanoseconds on a processor of each thread of a process (`/proc/PID/task/TID/schedstat`).
fn threads(pid: u32) -> HashMap<u32, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs");
    let used = tasks.flatten().filter_map(|task| {
        let id = task.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some((id, stat.split(' ').next()?.parse().ok()?))
    });
    used.collect()
}

fn main() {
    if compare::is_listing() {
        return;
    }
    let (starts, rounds) = (size("STARTS", 6, 1), size("ROUNDS", 30, 1));
    let messages = size("USUAL", 1_000, 20) as u64;
    let baseline = std::env::var_os("MAILWEIR_BENCH_BASELINE").map(PathBuf::from);
    let dovecot = Dovecot::start();
    let mut c = dovecot.client();
    c.cmd_ok("CREATE Usual");
    mail::load(&mut c, "Usual", 2, messages, Sizes::Usual);
    let mut sides = [
        Side::start(&dovecot, "info", None),
        Side::start(&dovecot, "off", baseline.clone()),
        Side::start(&dovecot, "off", baseline.clone()),
    ];
    let mut used: Vec<[Vec<f64>; 3]> = ROWS.iter().map(|_| Default::default()).collect();
    let mut walls: Vec<[Vec<f64>; 3]> = ROWS.iter().map(|_| Default::default()).collect();
    for _ in 0..starts {
        sides.iter_mut().for_each(|side| side.again(messages));
        for round in 0..rounds {
            for (at, row) in ROWS.iter().enumerate() {
                // Who goes first changes.
                for side in (0..3).map(|side| (side + round) % 3) {
                    let (cpu, wall) = sides[side].round(row, messages);
                    used[at][side].push(cpu * 1e3);
                    walls[at][side].push(wall * 1e3);
                }
            }
        }
    }
    let without = if baseline.is_some() { "the baseline" } else { "log off" };
    for (title, values) in [("processor of the daemon, ms a round", &used), ("on the wall, ms a round", &walls)] {
        println!(
            "\n{title:<40} {:>10} {without:>12} {:>10} {:>9} {:>12} {:>18}",
            "log at INFO", "again", "costs", "like differ", "half between"
        );
        for (row, values) in ROWS.iter().zip(values) {
            print(row.name, values);
        }
    }
    metrics(&mut sides[0], &used, messages);
}

/// Medians of the three sides, what the first costs more than the second, by how much the third differs from the second though it is alike, and
/// the quartiles of what the first costs in each round.
fn print(name: &str, values: &[Vec<f64>; 3]) {
    let [on, off, again] = values.each_ref().map(|values| median(values.clone()));
    let mut paired: Vec<f64> = values[0].iter().zip(&values[1]).map(|(on, off)| percent(*on, *off)).collect();
    paired.sort_by(f64::total_cmp);
    let at = |part: usize| paired[(paired.len() * part / 4).min(paired.len() - 1)];
    println!(
        "{name:<40} {on:>10.3} {off:>12.3} {again:>10.3} {:>+8.2}% {:>+11.2}% {:>+8.2}% {:>+7.2}%",
        percent(on, off),
        percent(again, off),
        at(1),
        at(3)
    );
}

fn percent(on: f64, off: f64) -> f64 {
    (on / off - 1.0) * 100.0
}

/// What counting itself takes of each row.
fn metrics(side: &mut Side, used: &[[Vec<f64>; 3]], messages: u64) {
    let times = if compare::measures() { 2_000_000 } else { 1_000 };
    let registry = Metrics::default();
    let command = || registry.command(Protocol::Imap, "FETCH", "ok", Duration::from_micros(70));
    let read = || registry.body_read(BodyRead::Hit);
    let [command, read] = [each(times, command), each(times, read)];
    println!(
        "\ncounting, ns: a command {:.0} (beside another thread {:.0}), a body {:.0} ({:.0})",
        command[0], command[1], read[0], read[1]
    );
    println!("{:<40} {:>10} {:>10} {:>10} {:>14}", "of a round", "commands", "bodies", "share", "beside another");
    for (row, used) in ROWS.iter().zip(used) {
        let names = ["mailweir_commands_total", "mailweir_body_reads_total"];
        let before = names.map(|name| side.counted(name));
        side.round(row, messages);
        let [commands, bodies] = [0, 1].map(|at| side.counted(names[at]) - before[at]);
        assert!(commands >= 1.0, "{} is counted", row.name);
        let round = median(used[0].clone()) * 1e6;
        let share = |at: usize| (commands * command[at] + bodies * read[at]) / round * 100.0;
        let judged = if share(1) < ALLOWED_PERCENT { "" } else { "  above what is allowed" };
        println!("{:<40} {commands:>10} {bodies:>10} {:>9.2}% {:>13.2}%{judged}", row.name, share(0), share(1));
    }
    let pid = side.daemon.pid();
    let scrapes: Vec<f64> = (0..20)
        .map(|_| {
            let before: u64 = threads(pid).values().sum();
            side.daemon.http_get("/metrics");
            threads(pid).values().sum::<u64>().saturating_sub(before) as f64 / 1e6
        })
        .collect();
    let scrape = median(scrapes);
    println!(
        "a scrape takes {scrape:.2} ms of the processor: {:.3} % of one, every {SCRAPED_EVERY} s",
        scrape / SCRAPED_EVERY / 10.0
    );
}

/// Nanoseconds of one call: alone, and beside another thread that makes it too. The median of some tries.
fn each(times: u32, call: impl Fn() + Sync) -> [f64; 2] {
    let timed = || {
        let start = Instant::now();
        (0..times).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(times)
    };
    timed();
    let alone = median((0..5).map(|_| timed()).collect());
    let over = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                (0..100).for_each(|_| call());
            }
        });
        let beside = median((0..5).map(|_| timed()).collect());
        over.store(true, Ordering::Relaxed);
        beside
    });
    [alone, beside]
}
