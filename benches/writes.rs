//! How fast writes go through mailweir, against straight to Dovecot in the same run: rounds taken in turn, medians.
//!
//! `cargo bench --bench writes`; sizes by `MAILWEIR_BENCH_{ROUNDS,STORE,APPEND}`, a smoke run as in `e2e`. Each side has mailboxes
//! of its own with the same mail: otherwise mailweir would be told of what the other side writes, and work on that too.
//! mailweir acknowledges nothing before Dovecot has (Law 11), so at its best it is as fast as Dovecot, and a ratio of 1 is
//! the aim. Dovecot here does not sync to its disk, which makes every octet of ours count.
#![allow(unreachable_pub, reason = "the harness is a module here and in the integration tests")]
#![allow(dead_code, reason = "each of the two uses its own part of the harness")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(unused_imports, reason = "the harness's own tests are left out of a bench that is not libtest's")]

mod compare;
#[path = "../tests/it/harness/mod.rs"]
mod harness;

use std::collections::HashMap;

use compare::{Better, Table, Target, size, time};
use harness::daemon::{Account, Daemon, Setup};
use harness::dovecot::Dovecot;
use harness::mail::{self, Sizes};

struct Scale {
    rounds: usize,
    /// Messages of one STORE.
    store: u64,
    /// Messages that are appended, moved, copied, or stored one by one.
    each: u64,
}

fn main() {
    if compare::is_listing() {
        return;
    }
    let scale = Scale {
        rounds: size("ROUNDS", 5, 1),
        store: size("STORE", 10_000, 200) as u64,
        each: size("APPEND", 1_000, 20) as u64,
    };
    let dovecot = Dovecot::start();
    let daemon = Daemon::start(Setup::new(Account::at(dovecot.imap)));
    let both = [&Target::native(&dovecot), &Target::ours(&daemon)];
    for target in both {
        fill(&dovecot, target, &scale);
    }
    let table = Table::new(scale.rounds);
    for tls in [false, true] {
        table.head(if tls { "TLS on the client's side" } else { "plain" });
        rows(&table, both, tls, &scale);
    }
}

/// A mailbox of one side.
fn own(target: &Target<'_>, mailbox: &str) -> String {
    format!("{}-{mailbox}", target.name)
}

fn fill(dovecot: &Dovecot, target: &Target<'_>, scale: &Scale) {
    let mut c = dovecot.client();
    for mailbox in ["Store", "Append", "From", "To"] {
        c.cmd_ok(&format!("CREATE {}", own(target, mailbox)));
    }
    mail::load(&mut c, &own(target, "Store"), 1, scale.store, Sizes::Small);
    mail::load(&mut c, &own(target, "From"), 2, scale.each, Sizes::Usual);
    // Whoever writes has usually looked at the mailbox before.
    for mailbox in ["Store", "Append", "From", "To"] {
        target.selected(false, &own(target, mailbox));
    }
}

fn rows(table: &Table, both: [&Target<'_>; 2], tls: bool, scale: &Scale) {
    let row = |name: &str, count: u64, measure: &mut dyn FnMut(&Target<'_>) -> f64| {
        table.row(name, "1/s", Better::Higher, both, |t| count as f64 / measure(t) * 1000.0);
    };
    // What is stored changes with each round of a side: a STORE that changes nothing costs nothing.
    let mut turns: HashMap<&'static str, u64> = HashMap::new();
    let mut signs = |t: &Target<'_>| {
        let turn = turns.entry(t.name).or_default();
        *turn += 1;
        if *turn % 2 == 1 { '+' } else { '-' }
    };
    row(&format!("STORE of {} messages, one command", scale.store), scale.store, &mut |t| {
        let mut c = t.selected(tls, &own(t, "Store"));
        let sign = signs(t);
        time(|| drop(c.cmd_ok(&format!("STORE 1:* {sign}FLAGS (\\Flagged)"))))
    });
    row("STORE.SILENT of the same", scale.store, &mut |t| {
        let mut c = t.selected(tls, &own(t, "Store"));
        let sign = signs(t);
        time(|| drop(c.cmd_ok(&format!("STORE 1:* {sign}FLAGS.SILENT (\\Answered)"))))
    });
    row(&format!("{} STOREs of one message each", scale.each), scale.each, &mut |t| {
        let mut c = t.selected(tls, &own(t, "Store"));
        let sign = signs(t);
        time(|| {
            for n in 1..=scale.each.min(scale.store) {
                c.cmd_ok(&format!("STORE {n} {sign}FLAGS (\\Draft)"));
            }
        })
    });
    let mail: Vec<Vec<u8>> = (0..scale.each).map(|n| mail::message(3, n, Sizes::Usual).bytes).collect();
    row(&format!("APPEND of {} messages, one by one", scale.each), scale.each, &mut |t| {
        let mut c = t.connect(tls);
        time(|| {
            for message in &mail {
                c.append(&own(t, "Append"), "\\Seen", message).expect("APPENDUID");
            }
        })
    });
    row("the same into the selected mailbox", scale.each, &mut |t| {
        let mut c = t.selected(tls, &own(t, "Append"));
        time(|| {
            for message in &mail {
                c.append(&own(t, "Append"), "\\Seen", message).expect("APPENDUID");
            }
        })
    });
    row(&format!("COPY of {} messages", scale.each), scale.each, &mut |t| {
        let mut c = t.selected(tls, &own(t, "From"));
        time(|| drop(c.cmd_ok(&format!("COPY 1:* {}", own(t, "To")))))
    });
    row(&format!("MOVE of {} messages", scale.each), scale.each, &mut |t| {
        let mut c = t.selected(tls, &own(t, "From"));
        let took = time(|| drop(c.cmd_ok(&format!("MOVE 1:* {}", own(t, "To")))));
        restore(t, scale);
        took
    });
    row(&format!("{} MOVEs of one message each", scale.each), scale.each, &mut |t| {
        let mut c = t.selected(tls, &own(t, "From"));
        let took = time(|| {
            for _ in 0..scale.each {
                c.cmd_ok(&format!("MOVE 1 {}", own(t, "To")));
            }
        });
        restore(t, scale);
        took
    });
}

/// Takes back what was moved: the last of the destination.
fn restore(target: &Target<'_>, scale: &Scale) {
    let mut c = target.connect(false);
    let selected = c.cmd_ok(&format!("SELECT {}", own(target, "To")));
    let lines = selected.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned());
    let exists = lines.filter_map(|line| line.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse::<u64>().ok()).next();
    let first = exists.expect("EXISTS") + 1 - scale.each;
    c.cmd_ok(&format!("MOVE {first}:* {}", own(target, "From")));
}
