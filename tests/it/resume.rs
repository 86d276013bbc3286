//! The first reading of a large mailbox, killed in its middle: it goes on, the newest first, and costs about what one undisturbed reading costs.

use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::Dovecot;
use crate::harness::mail::{self, Sizes};
use crate::harness::relay::{Link, Relay};
use crate::harness::{straight_run, wait_for};

const COUNT: u32 = 20_000;

/// A line on which the reading takes some seconds.
fn line(dovecot: &Dovecot) -> Relay {
    Relay::to(dovecot.imap, Link { rate: 500_000, ..Link::default() })
}

#[test]
fn a_first_reading_survives_kill_nine() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    mail::load(&mut dovecot.client(), "INBOX", 83, u64::from(COUNT), Sizes::Small);
    let start = |relay: &Relay| {
        let account = Account { limits_more: "compress = false".into(), ..Account::at(relay.addr) };
        Daemon::start(Setup { prefetch: "none", ..Setup::new(account) })
    };
    // Undisturbed.
    let relay = line(&dovecot);
    let daemon = start(&relay);
    let mut c = daemon.client();
    wait_for("the mailbox", || c.cmd("SELECT INBOX").count("EXISTS") == Some(COUNT));
    let once = relay.down();
    let all = c.cmd_ok("UID FETCH 1:* (FLAGS RFC822.SIZE)").by_uid();
    drop((c, daemon, relay));

    // Killed twice, each time with another part read.
    let relay = line(&dovecot);
    let mut daemon = start(&relay);
    let reading = |daemon: &Daemon| -> u32 {
        let (_, status) = daemon.http_get("/status.json");
        let value: serde_json::Value = serde_json::from_str(&status).unwrap();
        value["accounts"][0]["readings"][0]["messages"].as_u64().unwrap_or(0) as u32
    };
    let mut done = 0;
    for part in 1..=2 {
        wait_for("a part", || reading(&daemon) >= part * COUNT / 4);
        done = reading(&daemon);
        // The cache flushes twice a second: what is there then is on the disk.
        let from = relay.down();
        wait_for("the next to be under way", || relay.down() - from > 350_000);
        daemon.kill();
        wait_for("the link to be cut", || relay.open() == 0);
        daemon.restart();
    }
    let mut c = daemon.client();
    wait_for("the mailbox", || c.cmd("SELECT INBOX").count("EXISTS") == Some(COUNT));
    let both = relay.down();
    println!("undisturbed {once} octets; killed twice (at {done} messages last) {both}");
    assert!(both < once * 3 / 2, "{both} octets, {once} undisturbed");
    let again = c.cmd_ok("UID FETCH 1:* (FLAGS RFC822.SIZE)").by_uid();
    assert!(again == all, "the same mailbox");
    assert_eq!(daemon.stop(), 0);
}
