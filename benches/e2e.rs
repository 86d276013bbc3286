//! End to end against native Dovecot, in the same run: the same mail, the same client, rounds taken in turn, medians.
//!
//! `cargo bench --bench e2e` measures and prints the ratios. Without `--bench` (as in `cargo test --benches`) it runs
//! every row once on little mail, which shows that the rows still work and measures nothing; so does `MAILWEIR_BENCH=small`.
//! The sizes can be set: `MAILWEIR_BENCH_{ROUNDS,BIG,USUAL,MANY,BODY,CLIENTS}`, the last a list. `MAILWEIR_BENCH_ONLY`
//! measures only the rows whose name contains it.
//!
//! Memory is counted on a daemon freshly started for each row: one that has worked holds free memory, in which new clients
//! would seem to cost nothing.
#![allow(unreachable_pub, reason = "the harness is a module here and in the integration tests")]
#![allow(dead_code, reason = "each of the two uses its own part of the harness")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(unused_imports, reason = "the harness's own tests are left out of a bench that is not libtest's")]

mod compare;
#[path = "../tests/it/harness/mod.rs"]
mod harness;

use std::process::Command;
use std::time::{Duration, Instant};

use compare::{Better, Table, Target, ask, measures, median, ms, size, time};
use harness::client::Client;
use harness::daemon::{Account, Daemon, Setup};
use harness::dovecot::Dovecot;
use harness::mail::{self, Sizes};
use harness::relay::{Link, Relay};

/// Clients that read at once.
const AT_ONCE: usize = 20;
/// Starts of the daemon for what is measured on a fresh one.
const STARTS: usize = 3;

/// How much of everything.
struct Scale {
    rounds: usize,
    big: u64,
    usual: u64,
    many: u64,
    body: usize,
    clients: Vec<usize>,
    /// Bytes to pass for CPU seconds per GB; a clock tick is 10 ms, so it takes some.
    cpu_bytes: u64,
}

impl Scale {
    fn from_env() -> Self {
        let clients = std::env::var("MAILWEIR_BENCH_CLIENTS")
            .unwrap_or_else(|_| if measures() { "200,2000".to_owned() } else { "10".to_owned() });
        Self {
            rounds: size("ROUNDS", 7, 1),
            big: size("BIG", 100_000, 1_000) as u64,
            usual: size("USUAL", 1_000, 50) as u64,
            many: size("MANY", 8_000, 100) as u64,
            body: size("BODY", 25_000_000, 1_000_000),
            clients: clients.split(',').map(|n| n.trim().parse().expect("MAILWEIR_BENCH_CLIENTS")).collect(),
            cpu_bytes: if measures() { 500_000_000 } else { 2_000_000 },
        }
    }
}

fn main() {
    if compare::is_listing() {
        return;
    }
    let scale = Scale::from_env();
    open_many_files();
    let dovecot = Dovecot::start();
    fill(&dovecot, &scale);
    let mut daemon = Daemon::start(Setup::new(Account::at(dovecot.imap)));
    let native = Target::native(&dovecot);
    let ours = Target::ours(&daemon);
    let both = [&native, &ours];
    for target in both {
        warm(target);
    }
    let table = Table::new(scale.rounds);
    for tls in [false, true] {
        table.head(if tls { "TLS on the client's side" } else { "plain" });
        rows(&table, both, tls, &scale);
    }
    table.head("plain");
    searches(&table, both);
    table.head("plain");
    table.row("a change until the push, same server", "ms", Better::Lower, both, |t| push(t, t));
    table.row("the same, the change at Dovecot", "ms", Better::Lower, both, |t| push(both[0], t));
    println!("\nmailweir's memory after all this: {} KiB", ours.resources().pss_kib);
    fresh(&table, &native, &mut daemon, &scale);
    far(&table, &dovecot, &scale);
    for clients in &scale.clients {
        for tls in [false, true] {
            idle_memory(&table, &dovecot, &native, *clients, tls);
        }
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

/// `Big` with many small messages, `Usual` as a mailbox is, `Many` with more of these than memory keeps, `Huge` with one large one.
fn fill(dovecot: &Dovecot, scale: &Scale) {
    let mut c = dovecot.client();
    for name in ["Big", "Usual", "Many", "Huge"] {
        c.cmd_ok(&format!("CREATE {name}"));
    }
    mail::load(&mut c, "Big", 1, scale.big, Sizes::Small);
    mail::load(&mut c, "Usual", 2, scale.usual, Sizes::Usual);
    mail::load(&mut c, "Many", 4, scale.many, Sizes::Usual);
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
    ask(&mut c, "SEARCH BODY nowhere");
    for mailbox in ["Many", "Huge"] {
        c.cmd_ok(&format!("SELECT {mailbox}"));
        ask(&mut c, "FETCH 1:* (BODY.PEEK[])");
    }
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
    row("whole bodies, more than memory keeps", "MB/s", Higher, &mut |t| {
        let mut c = t.selected(tls, "Many");
        let (took, _, bytes) = ask(&mut c, "FETCH 1:* (BODY.PEEK[])");
        bytes as f64 / 1e6 / took.as_secs_f64()
    });
    row("20 clients reading these at once", "MB/s", Higher, &mut |t| at_once(t, tls));
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
    if !table.wants("processor") {
        return;
    }
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

/// All of the usual mail by each of [`AT_ONCE`] clients at the same time.
fn at_once(target: &Target<'_>, tls: bool) -> f64 {
    let clients: Vec<_> = (0..AT_ONCE).map(|_| target.selected(tls, "Usual")).collect();
    let start = Instant::now();
    let readers = clients.into_iter().map(|mut c| std::thread::spawn(move || ask(&mut c, "FETCH 1:* (BODY.PEEK[])").2));
    let readers: Vec<_> = readers.collect();
    let bytes: u64 = readers.into_iter().map(|reader| reader.join().expect("a client")).sum();
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn searches(table: &Table, both: [&Target<'_>; 2]) {
    let tried =
        [("flags", "Big", "UNSEEN"), ("a header", "Usual", "SUBJECT weir"), ("the text", "Usual", "BODY copper")];
    for (what, mailbox, key) in tried {
        table.row(&format!("SEARCH of {what}"), "ms", Better::Lower, both, |t| {
            let mut c = t.selected(false, mailbox);
            median((0..3).map(|_| ms(ask(&mut c, &format!("SEARCH {key}")).0)).collect())
        });
    }
}

/// The first answers of a daemon just started, from its disk; then without a cache, over Dovecot. Dovecot itself has no such
/// difference: a connection is a process.
fn fresh(table: &Table, native: &Target<'_>, daemon: &mut Daemon, scale: &Scale) {
    const FLAGS: &str = "UID FETCH 1:* (UID FLAGS)";
    const SUMMARIES: &str = "FETCH 1:* (ENVELOPE BODYSTRUCTURE)";
    const BODIES: &str = "FETCH 1:* (BODY.PEEK[])";
    if !table.wants("just started") {
        return;
    }
    let tried =
        [("Big", FLAGS, "SELECT, flags"), ("Usual", SUMMARIES, "ENVELOPE, BODYSTRUCTURE"), ("Usual", BODIES, "bodies")];
    let first = |t: &Target<'_>, mailbox: &str, command: &str| {
        let mut c = t.connect(false);
        time(|| {
            c.cmd_ok(&format!("SELECT {mailbox}"));
            ask(&mut c, command);
        })
    };
    for (title, is_cold) in [("just started, from disk", false), ("just started, nothing cached", true)] {
        table.head(title);
        for (mailbox, command, name) in tried {
            let (mut theirs, mut mine) = (Vec::new(), Vec::new());
            for _ in 0..STARTS.min(scale.rounds) {
                daemon.stop();
                if is_cold {
                    daemon.drop_cache();
                }
                daemon.restart();
                theirs.push(first(native, mailbox, command));
                mine.push(first(&Target::ours(daemon), mailbox, command));
            }
            table.print(name, "ms", Better::Lower, [median(theirs), median(mine)]);
        }
    }
}

/// Large messages that are not here yet, over a link of 50 ms and 50 Mbit/s: directly, and through a daemon that fetches them over such a link.
fn far(table: &Table, dovecot: &Dovecot, scale: &Scale) {
    if !table.wants("far") {
        return;
    }
    let tries = STARTS.min(scale.rounds);
    let mut c = dovecot.client();
    c.cmd_ok("CREATE Far");
    for seed in 0..=tries as u64 {
        c.append("Far", "", &mail::big(900 + seed, scale.body));
    }
    let relay = Relay::to(dovecot.imap, Link::wan());
    let daemon = Daemon::start(Setup::new(Account::at(relay.addr)));
    let direct = Client::connect(relay.addr).login(harness::UPSTREAM_USER, harness::UPSTREAM_PASSWORD);
    let mut sides = [direct, Target::ours(&daemon).connect(false)];
    let (mut first, mut whole) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for c in &mut sides {
        c.cmd_ok("SELECT Far");
        // The first one is waited for by all that a daemon does at its start.
        ask(c, "FETCH 1 (BODY.PEEK[])");
    }
    for n in 2..=tries + 1 {
        for (side, c) in sides.iter_mut().enumerate() {
            let (all, begun, _) = ask(c, &format!("FETCH {n} (BODY.PEEK[])"));
            first[side].push(ms(begun));
            whole[side].push(ms(all));
        }
    }
    table.head("a far provider, nothing cached");
    table.print("one big body, first byte", "ms", Better::Lower, first.map(median));
    table.print("one big body, all of it", "ms", Better::Lower, whole.map(median));
}

/// Proportional memory a client in IDLE adds, and what it takes to get them all there.
fn idle_memory(table: &Table, dovecot: &Dovecot, native: &Target<'_>, clients: usize, tls: bool) {
    if !table.wants("idle") {
        return;
    }
    let leg = if tls { "TLS" } else { "plain" };
    let daemon = Daemon::start(Setup::new(Account::at(dovecot.imap)));
    let ours = Target::ours(&daemon);
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
    table.head("");
    table.print(&format!("{clients} idle {leg} clients, memory of each"), "KiB", Better::Lower, memory);
    table.print(&format!("{clients} idle {leg} clients, all there"), "s", Better::Lower, setup);
}

/// A flag changed by one session until another in IDLE is told: both at the same server, or the change straight at Dovecot,
/// behind mailweir's back.
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
