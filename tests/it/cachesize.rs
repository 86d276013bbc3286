//! `cache.max_size` is held by eviction, and what was evicted is fetched again.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::harness::client::Client;
use crate::harness::daemon::Setup;
use crate::harness::relay::Link;
use crate::harness::world::{Kind, World};
use crate::harness::{mail, wait_for};

/// 20 MB of mail, and a quarter of that to keep it in.
const COUNT: u64 = 80;
const SIZE: usize = 250_000;
const LIMIT: u64 = 5_000_000;
/// Messages read at once.
const STEP: u64 = 8;

#[test]
fn the_cache_stays_near_its_size() {
    let bodies: Vec<Vec<u8>> = (1..=COUNT).map(|n| mail::big(n, SIZE)).collect();
    let fill = |c: &mut Client| {
        for body in &bodies {
            c.append("INBOX", "", body);
        }
    };
    let mut world = World::with(Kind::Dovecot, Link::default(), |setup| Setup { cache_size: "5MB", ..setup }, fill);
    if world.is_straight() {
        return;
    }
    let mut filled = Vec::new();
    for round in 0..2 {
        if round > 0 {
            // Away with what is still in memory.
            world.daemon_mut().stop();
            world.daemon_mut().restart();
        }
        let before = world.daemon().bodies_filled();
        let mut c = world.client();
        c.cmd_ok("EXAMINE INBOX");
        for from in (1..=COUNT).step_by(STEP as usize) {
            let told = c.cmd_ok(&format!("UID FETCH {from}:{} (BODY.PEEK[])", from + STEP - 1)).by_uid();
            for (uid, body) in (from..from + STEP).zip(&bodies[from as usize - 1..]) {
                assert!(told[&uid]["BODY[]"].bytes() == body, "UID {uid}: another body");
            }
        }
        filled.push(world.daemon().bodies_filled() - before);
        let dir = world.daemon().data_dir();
        // What is kept besides the cache is small.
        wait_for("the cache to be brought down", || {
            let told = world.daemon().metric("mailweir_cache_bytes", &[]);
            told <= LIMIT as f64 && taken(&dir) <= LIMIT / 10 * 11
        });
    }
    println!("filled {filled:?}, {} octets", taken(&world.daemon().data_dir()));
    assert!((filled[0] - COUNT as f64).abs() < 0.5, "{filled:?}: each once");
    assert!(filled[1] >= COUNT as f64 / 2.0, "{filled:?}: most were evicted");
}

/// Octets of all files below, as the disk counts them. A file that goes meanwhile is none.
fn taken(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => taken(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
