//! POP3 end to end against Dovecot's native pop3, in the same run: the same mail, the same client, rounds taken in turn, medians.
//!
//! `cargo bench --bench pop3` measures and prints the ratios. Without `--bench` (as in `cargo test --benches`) it runs every row
//! once on little mail, which shows that the rows still work and measures nothing. `MAILWEIR_BENCH_{ROUNDS,BIG,USUAL}` set the sizes.
//!
//! The client has NODELAY and quick acknowledgements, looks at little of what it reads and is the same for both, so what it costs
//! lowers both and makes a ratio look smaller than it is.
#![allow(unreachable_pub, reason = "the harness is a module here and in the integration tests")]
#![allow(dead_code, reason = "each of them uses its own part of the harness")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(unused_imports, reason = "the harness's own tests are left out of a bench that is not libtest's")]

#[path = "../tests/it/harness/mod.rs"]
mod harness;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::daemon::{Account, Daemon, Setup};
use harness::dovecot::Dovecot;
use harness::mail::{self, Sizes};
use harness::pop::Pop;

/// The mailbox as it is, and the user with the big one.
const USUAL: &str = "ann";
const BIG: &str = "bob";

/// One of the two servers.
struct Target {
    pop3: SocketAddr,
    pop3s: SocketAddr,
    ca_file: PathBuf,
    domain: &'static str,
    password: &'static str,
}

impl Target {
    fn connect(&self, user: &str) -> Pop {
        self.logged_in(Pop::connect(self.pop3), user)
    }

    fn connect_tls(&self, user: &str) -> Pop {
        self.logged_in(Pop::connect_tls(self.pop3s, &self.ca_file), user)
    }

    fn logged_in(&self, pop: Pop, user: &str) -> Pop {
        let mut pop = pop.quick_ack();
        pop.set_timeout(Duration::from_secs(300));
        pop.login(&format!("{user}{}", self.domain), self.password)
    }
}

fn main() {
    let args: Vec<_> = std::env::args().collect();
    if args.iter().any(|a| a == "--list") {
        return;
    }
    let is_bench = args.iter().any(|a| a == "--bench");
    let number = |name: &str, full: u64, smoke: u64| {
        let set = std::env::var(format!("MAILWEIR_BENCH_{name}")).ok().and_then(|v| v.parse().ok());
        set.unwrap_or(if is_bench { full } else { smoke })
    };
    let (rounds, big, usual) = (number("ROUNDS", 7, 1), number("BIG", 100_000, 300), number("USUAL", 1_000, 30));

    let dovecot = Dovecot::start();
    mail::load(&mut dovecot.client(), "INBOX", 2, usual, Sizes::Usual);
    mail::load(&mut dovecot.client_as(BIG), "INBOX", 1, big, Sizes::Small);
    let mut setup = Setup::new(Account::at(dovecot.imap));
    setup.accounts.push(Account {
        address: format!("{BIG}@example.org"),
        username: BIG.to_owned(),
        ..Account::at(dovecot.imap)
    });
    let daemon = Daemon::start(setup);
    let native = Target {
        pop3: dovecot.pop3,
        pop3s: dovecot.pop3s,
        ca_file: dovecot.ca_file().to_owned(),
        domain: "",
        password: harness::UPSTREAM_PASSWORD,
    };
    let ours = Target {
        pop3: daemon.pop3,
        pop3s: daemon.pop3s,
        ca_file: daemon.ca_file(),
        domain: "@example.org",
        password: harness::LOCAL_PASSWORD,
    };
    let both = [&native, &ours];
    for target in both {
        warm(target, big, usual);
    }
    println!("{:<52} {:>12} {:>12} {:>9}", "", "Dovecot", "mailweir", "ratio");
    let row = |name: String, unit: &str, higher: bool, measure: &dyn Fn(&Target) -> f64| {
        let mut values = [Vec::new(), Vec::new()];
        for round in 0..rounds as usize {
            // Who goes first changes, so that neither always finds the other's caches.
            for side in [round % 2, 1 - round % 2] {
                values[side].push(measure(both[side]));
            }
        }
        let [native, ours] = values.map(median);
        let ratio = if higher { ours / native } else { native / ours };
        println!("{:<52} {native:>12.3} {ours:>12.3} {ratio:>8.2}x", format!("{name}, {unit}"));
    };
    let ms = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1000.0
    };
    row(format!("connect until +OK to PASS, {usual} messages"), "ms", false, &|t| ms(&mut || drop(t.connect(USUAL))));
    row(format!("connect until +OK to PASS, {big} messages"), "ms", false, &|t| ms(&mut || drop(t.connect(BIG))));
    row(format!("the same over TLS, {usual} messages"), "ms", false, &|t| ms(&mut || drop(t.connect_tls(USUAL))));
    for command in ["STAT", "LIST", "UIDL"] {
        row(format!("{command}, {big} messages"), "ms", false, &|t| {
            let mut pop = t.connect(BIG);
            ms(&mut || {
                pop.ok(command);
                if command != "STAT" {
                    pop.drain();
                }
            })
        });
    }
    let one_by_one = |mut pop: Pop| {
        let took = ms(&mut || {
            for n in 1..=usual {
                pop.ok(&format!("RETR {n}"));
                pop.drain();
            }
        });
        usual as f64 / took * 1000.0
    };
    row(format!("RETR of {usual} warm messages, one by one"), "1/s", true, &|t| one_by_one(t.connect(USUAL)));
    row(format!("the same over TLS, {usual} messages"), "1/s", true, &|t| one_by_one(t.connect_tls(USUAL)));
    // Ten thousand octets of commands fit into any socket's buffers: written first, and then all is read.
    let pipelined = |mut pop: Pop| {
        let commands: String = (1..=usual).map(|n| format!("RETR {n}\r\n")).collect();
        let took = ms(&mut || {
            pop.send(commands.as_bytes()).unwrap();
            for _ in 1..=usual {
                assert!(pop.try_line().unwrap().starts_with("+OK"));
                pop.drain();
            }
        });
        usual as f64 / took * 1000.0
    };
    row(format!("RETR of {usual} warm messages, pipelined"), "1/s", true, &|t| pipelined(t.connect(USUAL)));
    row(format!("the same over TLS, {usual} messages"), "1/s", true, &|t| pipelined(t.connect_tls(USUAL)));
}

/// Everything the rows ask for, once: what follows is warm on both sides. A first reading takes its time.
fn warm(target: &Target, big: u64, usual: u64) {
    let deadline = Instant::now() + Duration::from_secs(300);
    for (user, count) in [(BIG, big), (USUAL, usual)] {
        loop {
            let mut pop = Pop::connect(target.pop3);
            pop.set_timeout(Duration::from_secs(300));
            pop.ok(&format!("USER {user}{}", target.domain));
            if pop.ask(&format!("PASS {}", target.password)).starts_with("+OK") {
                assert_eq!(u64::from(pop.stat().0), count);
                break;
            }
            assert!(Instant::now() < deadline, "the mailbox is never read");
        }
    }
    let mut pop = target.connect(BIG);
    for command in ["LIST", "UIDL"] {
        pop.ok(command);
        pop.drain();
    }
    let mut pop = target.connect(USUAL);
    for n in 1..=usual {
        pop.ok(&format!("RETR {n}"));
        pop.drain();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
