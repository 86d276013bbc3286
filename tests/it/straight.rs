//! Tests of the harness itself, against the real servers: what is built on it is worth nothing if it is wrong.

use std::time::Instant;

use crate::harness::answer::Value;
use crate::harness::cyrus::Cyrus;
use crate::harness::dovecot::Dovecot;
use crate::harness::fleet::{ASIDE, Fleet, Role};
use crate::harness::mail::{self, Sizes};
use crate::harness::{UPSTREAM_PASSWORD, UPSTREAM_USER, client::Client, seed, steps, wait_for};

#[test]
fn dovecot_serves() {
    let dovecot = Dovecot::start();
    let mut c = dovecot.client();
    mail::load(&mut c, "INBOX", 1, 50, Sizes::Usual);
    let answer = c.cmd_ok("SELECT INBOX");
    assert_eq!(answer.count("EXISTS"), Some(50));
    let answer = c.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[] ENVELOPE BODYSTRUCTURE)");
    for (uid, items) in answer.by_uid() {
        assert_eq!(items["BODY[]"], Value::Text(mail::message(1, uid - 1, Sizes::Usual).bytes), "UID {uid}");
    }
    let mut tls = Client::connect_tls(dovecot.imaps, dovecot.ca_file()).login(UPSTREAM_USER, UPSTREAM_PASSWORD);
    tls.cmd_ok("NOOP");
    let mut later = Client::connect(dovecot.imap);
    later.starttls(dovecot.ca_file());
    later.login(UPSTREAM_USER, UPSTREAM_PASSWORD).cmd_ok("NOOP");
    assert!(dovecot.sessions() >= 1);
}

#[test]
fn bare_dovecot_says_less_on_the_same_mail() {
    let dovecot = Dovecot::start();
    dovecot.client().append("INBOX", "", b"Subject: one\r\n\r\nbody\r\n");
    let bare = dovecot.bare();
    let mut c = bare.client();
    let said = c.cmd_ok("CAPABILITY").lines().join("\n");
    assert!(said.contains("IMAP4rev1") && !said.contains("CONDSTORE") && !said.contains("IDLE"), "{said}");
    assert_eq!(c.cmd_ok("SELECT INBOX").count("EXISTS"), Some(1));
}

#[test]
fn cyrus_serves() {
    let cyrus = Cyrus::start();
    let mut c = cyrus.client();
    mail::load(&mut c, "INBOX", 1, 20, Sizes::Usual);
    assert_eq!(c.cmd_ok("SELECT INBOX").count("EXISTS"), Some(20));
    let answer = c.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[])");
    for (uid, items) in answer.by_uid() {
        assert_eq!(items["BODY[]"], Value::Text(mail::message(1, uid - 1, Sizes::Usual).bytes), "UID {uid}");
    }
    let mut tls = Client::connect_tls(cyrus.imaps, cyrus.ca_file()).login(UPSTREAM_USER, UPSTREAM_PASSWORD);
    tls.cmd_ok("NOOP");
}

#[test]
fn a_server_ends_with_its_test() {
    let dovecot = Dovecot::start();
    let pids = dovecot.pids();
    assert!(!pids.is_empty());
    drop(dovecot);
    wait_for("all of Dovecot to end", || pids.iter().all(|p| !std::path::Path::new(&format!("/proc/{p}")).exists()));
}

#[test]
fn a_hundred_thousand_messages_load_fast() {
    let dovecot = Dovecot::start();
    let start = Instant::now();
    let mut c = dovecot.client();
    mail::load(&mut c, "INBOX", 1, 100_000, Sizes::Small);
    println!("loaded in {:?}", start.elapsed());
    assert_eq!(c.cmd_ok("SELECT INBOX").count("EXISTS"), Some(100_000));
}

/// The random run against Dovecot alone: a rule that the reference server breaks is not one.
#[test]
fn the_fleet_finds_no_fault_with_dovecot() {
    let dovecot = Dovecot::start();
    mail::load(&mut dovecot.client(), "INBOX", 5, 60, Sizes::Small);
    dovecot.client().cmd_ok(&format!("CREATE {ASIDE}"));
    for seed in [seed(1), 2, 3] {
        let mut fleet = Fleet::new(seed);
        for _ in 0..4 {
            fleet.join("straight", Role::Everything, dovecot.client());
        }
        fleet.join_with_qresync("straight", Role::Everything, dovecot.client());
        fleet.join("reader", Role::Reads, dovecot.client());
        fleet.run(steps(400));
        fleet.settle(dovecot.client());
    }
}

#[test]
fn the_fleet_finds_no_fault_with_cyrus() {
    let cyrus = Cyrus::start();
    mail::load(&mut cyrus.client(), "INBOX", 5, 60, Sizes::Small);
    cyrus.client().cmd_ok(&format!("CREATE {ASIDE}"));
    let mut fleet = Fleet::new(seed(4));
    for _ in 0..3 {
        fleet.join("straight-cyrus", Role::Everything, cyrus.client());
    }
    fleet.join_with_qresync("straight-cyrus", Role::Everything, cyrus.client());
    fleet.run(steps(300));
    fleet.settle(cyrus.client());
}
