//! Clients that are none: cut off, with bounded memory, and nobody else notices.

use std::io::Write;
use std::time::Duration;

use super::{login, world};
use crate::harness::mail::{self, Sizes};
use crate::harness::pop::Pop;
use crate::harness::{ADDRESS, LOCAL_PASSWORD};

/// What they all together may make the daemon hold.
const ALLOWED_KIB: u64 = 64 * 1024;

#[test]
fn hostile_clients_are_bounded() {
    let Some(world) = world("", |c| {
        mail::load(c, "INBOX", 127, 500, Sizes::Small);
        c.append("INBOX", "", &mail::big(5, 20_000_000));
    }) else {
        return;
    };
    let daemon = world.daemon();
    let mut other = login(daemon, "+other");
    // Warm, so that what follows is the sessions' memory and not the cache's.
    other.multi("RETR 501");
    for number in 1..=500 {
        other.multi(&format!("RETR {number}"));
    }
    let before = daemon.resources().rss_kib;

    // A line without an end, before and after login; lines of a megabyte.
    for logged_in in [false, true] {
        for ended in [false, true] {
            let mut pop = Pop::connect(daemon.pop3);
            if logged_in {
                pop = pop.login(ADDRESS, LOCAL_PASSWORD);
            }
            let mut line = vec![b'A'; 1 << 20];
            if ended {
                line.extend_from_slice(b"\r\nNOOP\r\n");
            }
            // It may end while we write.
            let _ = pop.send(&line);
            assert!(pop.is_closed(), "cut off: {logged_in} {ended}");
        }
    }
    // Thousands of DELEs in one write, answered one by one.
    let mut pop = login(daemon, "+greedy");
    let commands: String = (0..20_000).map(|n| format!("DELE {}\r\n", n % 600)).collect();
    let writer = pop.tcp().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || (&writer).write_all(commands.as_bytes()).unwrap());
        for _ in 0..20_000 {
            pop.try_line().unwrap();
        }
    });
    assert_eq!(pop.stat().0, 0);
    drop(pop);
    assert_eq!(login(daemon, "+greedy").stat().0, 501);
    // A crowd that asks for everything and reads nothing.
    let deaf: Vec<Pop> = (0..20)
        .map(|n| {
            let mut pop = login(daemon, &format!("+deaf{n}"));
            pop.tcp().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            for _ in 0..50 {
                if pop.send("RETR 501\r\n".repeat(200).as_bytes()).is_err() {
                    break;
                }
            }
            pop
        })
        .collect();
    for number in 1..=500 {
        other.multi(&format!("RETR {number}"));
    }
    let grown = daemon.resources().rss_kib.saturating_sub(before);
    assert!(grown < ALLOWED_KIB, "{grown} KiB more");
    drop(deaf);
    other.ok("QUIT");
}

#[test]
fn what_is_sent_behind_stls_is_forgotten() {
    let Some(world) = world("", |c| mail::load(c, "INBOX", 131, 3, Sizes::Small)) else { return };
    let mut pop = Pop::connect(world.daemon().pop3);
    assert!(String::from_utf8(pop.multi("CAPA")).unwrap().contains("STLS\r\n"));
    pop.send(format!("STLS\r\nUSER {ADDRESS}\r\nPASS {LOCAL_PASSWORD}\r\nDELE 1\r\nQUIT\r\n").as_bytes()).unwrap();
    assert_eq!(pop.try_line().unwrap(), "+OK Begin TLS negotiation");
    // No handshake comes; nothing of what was sent is run.
    pop.tcp().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(pop.is_closed());
    assert_eq!(login(world.daemon(), "").stat().0, 3);
}
