//! Memory stays bounded whatever a client does not do.

use std::time::Duration;

use crate::harness::mail::{self, Sizes};
use crate::harness::wait_for;
use crate::harness::world::{Kind, World};

/// What one greedy client may make the daemon hold: its buffers, not its wishes.
const ALLOWED_KIB: u64 = 64 * 1024;

#[test]
fn a_client_that_never_reads() {
    let world = World::new(Kind::Dovecot, |c| {
        mail::load(c, "INBOX", 59, 100, Sizes::Small);
        let big = mail::big(1, 5_000_000);
        for _ in 0..10 {
            c.append("INBOX", "", &big);
        }
    });
    if world.is_straight() {
        return;
    }
    let mut other = world.client();
    other.cmd_ok("SELECT INBOX");
    // Warm, so that what follows is the session's memory and not the cache's.
    other.cmd_ok("FETCH 101:110 (BODY.PEEK[])");
    let before = world.daemon().resources().rss_kib;
    let mut deaf = world.client();
    deaf.cmd_ok("SELECT INBOX");
    deaf.tcp().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // Two gigabytes are asked for and none taken; at some point the daemon takes no more commands either.
    let mut asked = 0;
    while asked < 40 && deaf.start("FETCH 1:* (BODY.PEEK[])").is_ok() {
        asked += 1;
    }
    let mut answered = 0;
    wait_for("the other client's answers", || {
        answered += 1;
        other.cmd_ok("UID FETCH 1:100 (FLAGS BODY.PEEK[])");
        answered == 20
    });
    let grown = world.daemon().resources().rss_kib.saturating_sub(before);
    assert!(grown < ALLOWED_KIB, "{grown} KiB more for a client that never reads");
    // When it goes, what it held goes.
    drop(deaf);
    other.cmd_ok("NOOP");
}

/// Commands without end in one write: taken one after the other, not all at once.
#[test]
fn a_flood_of_commands() {
    let world = World::new(Kind::Dovecot, |c| mail::load(c, "INBOX", 61, 50, Sizes::Small));
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    let before = if world.is_straight() { 0 } else { world.daemon().resources().rss_kib };
    let commands: String = (0..20_000).map(|n| format!("f{n} NOOP\r\n")).collect();
    let reader = std::thread::scope(|scope| {
        let tcp = c.tcp().try_clone().unwrap();
        scope.spawn(move || {
            use std::io::Write;
            (&tcp).write_all(commands.as_bytes()).unwrap();
        });
        for n in 0..20_000 {
            c.until(&format!("f{n} OK<*>"));
        }
        c
    });
    drop(reader);
    if !world.is_straight() {
        let grown = world.daemon().resources().rss_kib.saturating_sub(before);
        assert!(grown < ALLOWED_KIB, "{grown} KiB more");
    }
}
