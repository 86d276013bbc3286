//! The count of what crossed the sockets, against the other end's own: after a crash never less, and at most one flush interval more; after an
//! end in order the same, but for last words nobody has read.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mailweir::daemon::simulated::Scenario;

use crate::budget::saved;
use crate::harness::daemon::{Daemon, Setup};
use crate::harness::mail::{self, Sizes};
use crate::harness::relay::Link;
use crate::harness::simulated::Simulated;
use crate::harness::world::{Kind, World};
use crate::harness::{straight_run, wait_for};

/// `daemon/spending/saving.rs`: the longest lead.
const LEAD: u64 = 1 << 20;

/// Of the three sessions two fetch for clients, and the third may look. What is held unread for each is the system's to say.
fn interval() -> u64 {
    LEAD + 3 * mailweir::net::unread_most()
}

/// One direction's count on the disk against the other end's, from crash to crash.
struct Books {
    data: PathBuf,
    direction: &'static str,
    /// What earlier crashes have left too much.
    before: u64,
    most: u64,
}

impl Books {
    fn new(data: PathBuf, direction: &'static str) -> Self {
        Self { data, direction, before: 0, most: 0 }
    }

    /// What is counted beyond what crossed.
    fn beyond(&self, crossed: u64) -> u64 {
        let counted = saved(&self.data, self.direction) as u64;
        assert!(counted >= crossed, "{}: {counted} counted, {crossed} crossed", self.direction);
        counted - crossed
    }

    fn after_crash(&mut self, crossed: u64) {
        let beyond = self.beyond(crossed);
        let more = beyond.saturating_sub(self.before);
        assert!(more <= interval(), "{}: {more} too many", self.direction);
        (self.before, self.most) = (beyond, self.most.max(more));
    }

    fn after_end(&self, crossed: u64) {
        let beyond = self.beyond(crossed);
        // A session cut in the middle of an answer leaves a few octets unread, for which a little is counted.
        let few = self.before..=self.before + 4096;
        assert!(few.contains(&beyond), "{}: {beyond} after an end in order, {} before", self.direction, self.before);
    }
}

#[test]
fn the_count_after_kill_nine_is_what_crossed_the_socket() {
    const ROUNDS: u64 = 8;
    if straight_run() {
        return;
    }
    let mut world = World::with(
        Kind::Dovecot,
        Link::default(),
        |setup| setup,
        |c| {
            mail::load(c, "INBOX", 23, 400, Sizes::Usual);
            for n in 0..6 {
                c.append("INBOX", "", &mail::big(n, 3_000_000));
            }
        },
    );
    let data = world.daemon().data_dir();
    let mut books = [Books::new(data.clone(), "download"), Books::new(data, "upload")];
    for round in 1..=ROUNDS {
        let from = world.relay.down();
        let mut c = world.client();
        c.cmd_ok("EXAMINE INBOX");
        c.start("UID FETCH 1:* (BODY.PEEK[])").unwrap();
        c.start("UID FETCH 400:406 (BODY.PEEK[])").unwrap();
        // In the middle of a download, somewhere else each time.
        let far = 20_000 * round * round * round;
        let started = Instant::now();
        while world.relay.down() - from < far && started.elapsed() < Duration::from_secs(3) {
            let _ = c.try_line();
        }
        world.daemon_mut().kill();
        wait_for("the link to be cut", || world.relay.open() == 0);
        books[0].after_crash(world.relay.down());
        books[1].after_crash(world.relay.up());
        world.daemon_mut().restart();
    }
    println!("after {ROUNDS} crashes at most {} and {} octets too many", books[0].most, books[1].most);

    // An end in order, with work done since.
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    c.append("INBOX", "", &mail::big(9, 200_000));
    c.cmd_ok("UID FETCH 1:20 (BODY.PEEK[])");
    drop(c);
    assert_eq!(world.daemon_mut().stop(), 0);
    wait_for("the link to be cut", || world.relay.open() == 0);
    books[0].after_end(world.relay.down());
    books[1].after_end(world.relay.up());
}

/// The same by the provider's own count, with all that is asked for in large pieces.
#[test]
fn the_count_after_kill_nine_is_the_providers() {
    const ROUNDS: u64 = 6;
    if straight_run() {
        return;
    }
    let simulated = Simulated::start(Scenario { upload_per_day: None, download_per_day: None, ..Scenario::gmail() });
    let mut straight = simulated.straight();
    straight.cmd_ok("SELECT INBOX");
    for n in 0..ROUNDS * 2 {
        straight.append("INBOX", "", &mail::big(n, 5_000_000));
    }
    straight.cmd_ok("LOGOUT");
    wait_for("nobody to be logged in", || simulated.provider.connections() == 0);
    let ours = simulated.counts();
    let crossed = || {
        let counts = simulated.counts();
        (counts.octets_out - ours.octets_out, counts.octets_in - ours.octets_in)
    };
    let mut daemon = Daemon::start(Setup { prefetch: "all", ..Setup::new(simulated.account(simulated.addr)) });
    let mut books = [Books::new(daemon.data_dir(), "download"), Books::new(daemon.data_dir(), "upload")];
    for round in 1..=ROUNDS {
        let (from, _) = crossed();
        wait_for("a download under way", || crossed().0 - from > 700_000 * round);
        daemon.kill();
        wait_for("nobody to be logged in", || simulated.provider.connections() == 0);
        let (out, into) = crossed();
        books[0].after_crash(out);
        books[1].after_crash(into);
        daemon.restart();
    }
    println!("after {ROUNDS} crashes at most {} and {} octets too many", books[0].most, books[1].most);
    let mut c = daemon.client();
    c.cmd_ok("SELECT INBOX");
    drop(c);
    wait_for("every body", || daemon.metric("mailweir_body_reads_total", &["outcome=\"filled\""]) > 0.5);
    assert_eq!(daemon.stop(), 0);
    wait_for("nobody to be logged in", || simulated.provider.connections() == 0);
    let (out, into) = crossed();
    books[0].after_end(out);
    books[1].after_end(into);
}
