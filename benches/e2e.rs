//! End to end against native Dovecot, in the same run: the same mail, the same client, rounds taken in turn, medians.
//!
//! `cargo bench --bench e2e` measures and prints the ratios. Without `--bench` (as in `cargo test --benches`) it runs
//! every row once on little mail, which shows that the rows still work and measures nothing; so does `MAILWEIR_BENCH=small`.
//! The sizes can be set: `MAILWEIR_BENCH_{ROUNDS,BIG,USUAL,BODY,CLIENTS}`, the last a list.
//!
//! Memory is counted on a daemon freshly started for each row: one that has worked holds free memory, in which new clients
//! would seem to cost nothing.
//!
//! The client has NODELAY and quick acknowledgements, looks at the last line of an answer alone and is the same for
//! both, so what it costs lowers both and makes a ratio look smaller than it is.
#![allow(unreachable_pub, reason = "the harness is a module here and in the integration tests")]
#![allow(dead_code, reason = "each of the two uses its own part of the harness")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(unused_imports, reason = "the harness's own tests are left out of a bench that is not libtest's")]

#[path = "../tests/it/harness/mod.rs"]
mod harness;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::daemon::{Account, Daemon, Resources, Setup};
use harness::dovecot::Dovecot;
use harness::mail::{self, Sizes};

/// How much of everything.
struct Scale {
    rounds: usize,
    big: u64,
    usual: u64,
    body: usize,
    clients: Vec<usize>,
    /// Bytes to pass for CPU seconds per GB; a clock tick is 10 ms, so it takes some.
    cpu_bytes: u64,
}

impl Scale {
    fn from_env(is_bench: bool) -> Self {
        let number = |name: &str, full: usize, smoke: usize| {
            let set = std::env::var(format!("MAILWEIR_BENCH_{name}")).ok().and_then(|v| v.parse().ok());
            set.unwrap_or(if is_bench { full } else { smoke })
        };
        let clients = std::env::var("MAILWEIR_BENCH_CLIENTS")
            .unwrap_or_else(|_| if is_bench { "200,2000".to_owned() } else { "10".to_owned() });
        Self {
            rounds: number("ROUNDS", 7, 1),
            big: number("BIG", 100_000, 1_000) as u64,
            usual: number("USUAL", 1_000, 50) as u64,
            body: number("BODY", 25_000_000, 1_000_000),
            clients: clients.split(',').map(|n| n.trim().parse().expect("MAILWEIR_BENCH_CLIENTS")).collect(),
            cpu_bytes: if is_bench { 500_000_000 } else { 2_000_000 },
        }
    }
}

/// One of the two servers.
struct Target<'a> {
    imap: SocketAddr,
    imaps: SocketAddr,
    ca_file: PathBuf,
    user: &'static str,
    password: &'static str,
    pids: Box<dyn Fn() -> Vec<u32> + 'a>,
}

impl Target<'_> {
    fn connect(&self, tls: bool) -> Client {
        let c = if tls { Client::connect_tls(self.imaps, &self.ca_file) } else { Client::connect(self.imap) };
        let mut c = c.quick_ack().login(self.user, self.password);
        c.set_timeout(Duration::from_secs(300));
        c
    }

    fn selected(&self, tls: bool, mailbox: &str) -> Client {
        let mut c = self.connect(tls);
        c.cmd_ok(&format!("SELECT {mailbox}"));
        c
    }

    fn resources(&self) -> Resources {
        Resources::of(&(self.pids)())
    }
}

/// Sends a command and drains the answer: how long, how long to the first byte, how many bytes.
fn ask(c: &mut Client, command: &str) -> (Duration, Duration, u64) {
    let start = Instant::now();
    let tag = c.start(command).expect("send");
    let (bytes, first) = c.drain_answer(&tag).unwrap_or_else(|e| panic!("{command}: {e}"));
    (start.elapsed(), first - start, bytes)
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Which way is better, and what is aimed at.
#[derive(Clone, Copy)]
enum Better {
    Lower,
    Higher,
}

struct Table {
    rounds: usize,
}

impl Table {
    fn head(&self) {
        println!("{:<46} {:>12} {:>12} {:>9}", "", "Dovecot", "mailweir", "ratio");
    }

    /// Runs `measure` on both in turn and prints the medians. The ratio is above 1 where mailweir does better.
    fn row(
        &self,
        name: &str,
        unit: &str,
        better: Better,
        targets: [&Target<'_>; 2],
        mut measure: impl FnMut(&Target<'_>) -> f64,
    ) {
        let mut values = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            // Who goes first changes, so that neither always finds the other's caches.
            for side in [round % 2, 1 - round % 2] {
                values[side].push(measure(targets[side]));
            }
        }
        self.print(name, unit, better, values.map(median));
    }

    fn print(&self, name: &str, unit: &str, better: Better, [native, ours]: [f64; 2]) {
        let ratio = match better {
            Better::Lower => native / ours,
            Better::Higher => ours / native,
        };
        println!("{:<46} {native:>12.3} {ours:>12.3} {ratio:>8.2}x", format!("{name}, {unit}"));
    }
}

fn main() {
    let args: Vec<_> = std::env::args().collect();
    if args.iter().any(|a| a == "--list") {
        return;
    }
    let small = std::env::var("MAILWEIR_BENCH").is_ok_and(|v| v == "small");
    let scale = Scale::from_env(args.iter().any(|a| a == "--bench") && !small);
    open_many_files();
    let dovecot = Dovecot::start();
    fill(&dovecot, &scale);
    let daemon = Daemon::start(Setup::new(Account::at(dovecot.imap)));
    let native = Target {
        imap: dovecot.imap,
        imaps: dovecot.imaps,
        ca_file: dovecot.ca_file().to_owned(),
        user: harness::UPSTREAM_USER,
        password: harness::UPSTREAM_PASSWORD,
        pids: Box::new(|| dovecot.pids()),
    };
    let ours = of_daemon(&daemon);
    let both = [&native, &ours];
    for target in both {
        warm(target);
    }
    let table = Table { rounds: scale.rounds };
    for tls in [false, true] {
        println!("\n{}", if tls { "TLS on the client's side" } else { "plain" });
        table.head();
        rows(&table, both, tls, &scale);
    }
    for clients in &scale.clients {
        for tls in [false, true] {
            idle_memory(&table, &dovecot, &native, *clients, tls);
        }
    }
    pushes(&table, both);
    println!("\nmailweir's memory after all this: {} KiB", ours.resources().pss_kib);
}

fn of_daemon(daemon: &Daemon) -> Target<'_> {
    Target {
        imap: daemon.imap,
        imaps: daemon.imaps,
        ca_file: daemon.ca_file(),
        user: harness::ADDRESS,
        password: harness::LOCAL_PASSWORD,
        pids: Box::new(|| vec![daemon.pid()]),
    }
}

/// Raises our own soft limit to the hard one: thousands of sockets are on our side as well, and the servers inherit it.
fn open_many_files() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let hard = limits.lines().find_map(|l| l.strip_prefix("Max open files")).and_then(|l| l.split_whitespace().nth(1));
    let Some(hard) = hard.map(str::to_owned) else { return };
    let pid = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={hard}:{hard}")]).status();
    if !raised.is_ok_and(|s| s.success()) {
        println!("the limit of open files could not be raised");
    }
}

/// `Big` with many small messages, `Usual` as a mailbox is, `Huge` with one large one.
fn fill(dovecot: &Dovecot, scale: &Scale) {
    let mut c = dovecot.client();
    for name in ["Big", "Usual", "Huge"] {
        c.cmd_ok(&format!("CREATE {name}"));
    }
    mail::load(&mut c, "Big", 1, scale.big, Sizes::Small);
    mail::load(&mut c, "Usual", 2, scale.usual, Sizes::Usual);
    c.append("Huge", "\\Seen", &mail::big(3, scale.body));
    c.append("INBOX", "", b"Subject: a\r\n\r\na\r\n");
}

/// Everything the rows ask for, once: what follows is warm on both sides.
fn warm(target: &Target<'_>) {
    let mut c = target.selected(false, "Big");
    ask(&mut c, "UID FETCH 1:* (UID FLAGS)");
    c.cmd_ok("SELECT Usual");
    ask(&mut c, "FETCH 1:* (ENVELOPE BODYSTRUCTURE)");
    ask(&mut c, "FETCH 1:* (BODY.PEEK[])");
    c.cmd_ok("SELECT Huge");
    ask(&mut c, "FETCH 1 (BODY.PEEK[])");
    target.connect(true).cmd_ok("NOOP");
}

fn rows(table: &Table, both: [&Target<'_>; 2], tls: bool, scale: &Scale) {
    use Better::{Higher, Lower};
    let row = |name: &str, unit: &str, better, measure: &mut dyn FnMut(&Target<'_>) -> f64| {
        table.row(name, unit, better, both, measure);
    };
    row("connect and log in", "ms", Lower, &mut |t| median((0..5).map(|_| time(|| drop(t.connect(tls)))).collect()));
    row("SELECT of the big mailbox, new connection", "ms", Lower, &mut |t| {
        let mut c = t.connect(tls);
        ms(ask(&mut c, "SELECT Big").0)
    });
    row("SELECT of it again", "ms", Lower, &mut |t| {
        let mut c = t.selected(tls, "Big");
        median((0..5).map(|_| ms(ask(&mut c, "SELECT Big").0)).collect())
    });
    row("UID FETCH 1:* (UID FLAGS) of it", "ms", Lower, &mut |t| {
        let mut c = t.selected(tls, "Big");
        ms(ask(&mut c, "UID FETCH 1:* (UID FLAGS)").0)
    });
    row("ENVELOPE and BODYSTRUCTURE, warm", "ms", Lower, &mut |t| {
        let mut c = t.selected(tls, "Usual");
        ms(ask(&mut c, "FETCH 1:* (ENVELOPE BODYSTRUCTURE)").0)
    });
    row("whole bodies, warm", "MB/s", Higher, &mut |t| {
        let mut c = t.selected(tls, "Usual");
        let (took, _, bytes) = ask(&mut c, "FETCH 1:* (BODY.PEEK[])");
        bytes as f64 / 1e6 / took.as_secs_f64()
    });
    row("one big body", "MB/s", Higher, &mut |t| {
        let mut c = t.selected(tls, "Huge");
        let (took, _, bytes) = ask(&mut c, "FETCH 1 (BODY.PEEK[])");
        bytes as f64 / 1e6 / took.as_secs_f64()
    });
    row("one big body, first byte", "ms", Lower, &mut |t| {
        let mut c = t.selected(tls, "Huge");
        ms(ask(&mut c, "FETCH 1 (BODY.PEEK[])").1)
    });
    row("bodies one by one", "1/s", Higher, &mut |t| {
        let mut c = t.selected(tls, "Usual");
        let start = Instant::now();
        for n in 1..=scale.usual {
            ask(&mut c, &format!("UID FETCH {n} (BODY.PEEK[])"));
        }
        scale.usual as f64 / start.elapsed().as_secs_f64()
    });
    let cpu = both.map(|t| {
        let mut c = t.selected(tls, "Usual");
        let before = t.resources().cpu;
        let mut bytes = 0;
        while bytes < scale.cpu_bytes {
            bytes += ask(&mut c, "FETCH 1:* (BODY.PEEK[])").2;
        }
        (t.resources().cpu - before).as_secs_f64() / (bytes as f64 / 1e9)
    });
    table.print("processor, bodies", "s/GB", Lower, cpu);
}

fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    ms(start.elapsed())
}

/// Proportional memory a client in IDLE adds, and what it takes to get them all there.
fn idle_memory(table: &Table, dovecot: &Dovecot, native: &Target<'_>, clients: usize, tls: bool) {
    let leg = if tls { "TLS" } else { "plain" };
    let daemon = Daemon::start(Setup::new(Account::at(dovecot.imap)));
    let ours = of_daemon(&daemon);
    let mut setup = [0.0; 2];
    let mut memory = [0.0; 2];
    for (side, target) in [native, &ours].into_iter().enumerate() {
        // What the first client brings with it (the mailbox, certificates) is not what each costs.
        let first = target.selected(tls, "INBOX");
        let before = target.resources().pss_kib;
        let start = Instant::now();
        let mut idle: Vec<_> = (0..clients).map(|_| target.selected(tls, "INBOX")).collect();
        for c in &mut idle {
            c.idle();
        }
        setup[side] = start.elapsed().as_secs_f64();
        let grown = target.resources().pss_kib.saturating_sub(before);
        // Below a tenth of a KiB nothing can be told.
        memory[side] = (grown as f64 / clients as f64).max(0.1);
        drop(first);
    }
    println!();
    table.head();
    table.print(&format!("{clients} idle {leg} clients, memory of each"), "KiB", Better::Lower, memory);
    table.print(&format!("{clients} idle {leg} clients, all there"), "s", Better::Lower, setup);
}

/// A flag changed by one session until another in IDLE is told: both at the same server, then the change straight at Dovecot,
/// behind mailweir's back.
fn pushes(table: &Table, both: [&Target<'_>; 2]) {
    println!();
    table.head();
    table.row("a change until the push, same server", "ms", Better::Lower, both, |t| push(t, t));
    table.row("the same, the change at Dovecot", "ms", Better::Lower, both, |t| push(both[0], t));
}

fn push(at: &Target<'_>, to: &Target<'_>) -> f64 {
    let (mut writer, mut idler) = (at.selected(false, "INBOX"), to.selected(false, "INBOX"));
    idler.idle();
    // Set first if it is not, so that there is a change to tell whatever was before, and all news of that is over.
    writer.cmd_ok("STORE 1 +FLAGS.SILENT (\\Flagged)");
    while idler.line_within(Duration::from_millis(1200)).is_some() {}
    let start = Instant::now();
    writer.cmd_ok("STORE 1 -FLAGS (\\Flagged)");
    idler.until("* 1 FETCH <*>");
    ms(start.elapsed())
}
