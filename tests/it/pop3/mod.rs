//! POP3 in front of the same mirror: what old programs fetch and "delete", and what the account keeps.

mod bodies;
mod end;
mod estimates;
mod hostile;
mod ids;
mod polls;
mod programs;

use crate::harness::client::Client;
use crate::harness::daemon::{Daemon, PROGRAM};
use crate::harness::pop::Pop;
use crate::harness::relay::Link;
use crate::harness::search::Searched as _;
use crate::harness::world::{Kind, World};
use crate::harness::{ADDRESS, LOCAL_PASSWORD};

/// Dovecot with mail in it and the daemon in front, with these lines of `[account.pop3]`; none in a straight run.
fn world(pop3: &str, fill: impl FnOnce(&mut Client)) -> Option<World> {
    world_of(Kind::Dovecot, Link::default(), pop3, fill)
}

/// The same with another upstream, or over a link of another kind.
fn world_of(kind: Kind, link: Link, pop3: &str, fill: impl FnOnce(&mut Client)) -> Option<World> {
    if crate::harness::straight_run() {
        return None;
    }
    let lines = pop3.to_owned();
    let change = |mut setup: crate::harness::daemon::Setup| {
        setup.accounts[0].pop3 = lines;
        setup
    };
    Some(World::with(kind, link, change, fill))
}

/// A session of the account's, perhaps of a device (`+laptop`).
fn login(daemon: &Daemon, device: &str) -> Pop {
    Pop::connect(daemon.pop3).login(&format!("{ADDRESS}{device}"), LOCAL_PASSWORD)
}

/// `mailweir account pop3 …`; what it prints, and its log.
fn account_pop3(daemon: &Daemon, arguments: &[&str]) -> (String, String) {
    let out = std::process::Command::new(PROGRAM)
        .args(["account", "pop3", ADDRESS])
        .args(arguments)
        .arg("--config")
        .arg(daemon.config_file())
        .output_searched()
        .expect("mailweir account pop3");
    let [printed, log] = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(out.status.success(), "{log}");
    (printed, log)
}

/// How many messages upstream holds in INBOX, and how many of them are unseen.
fn upstream(world: &World) -> (usize, usize) {
    let mut c = world.straight();
    c.cmd_ok("EXAMINE INBOX");
    let flags = c.cmd_ok("FETCH 1:* (UID FLAGS)");
    let all = flags.by_uid();
    let unseen = all.values().filter(|items| !format!("{:?}", items["FLAGS"]).contains("Seen")).count();
    (all.len(), unseen)
}

/// A message as POP3 has it: lines that end with CRLF, the last one too.
fn as_lines(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 2);
    for (at, byte) in raw.iter().enumerate() {
        if *byte == b'\n' && (at == 0 || raw[at - 1] != b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}
