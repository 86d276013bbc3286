//! IDLE (RFC 2177): what changes is told while it lasts, and it ends by DONE alone.

use std::time::Duration;

use crate::everywhere;
use crate::harness::world::{Kind, World};

everywhere!(idle_tells_new_mail_flags_and_expunges, idle_before_a_mailbox, idle_ends_only_by_done);

fn fill(c: &mut crate::harness::client::Client) {
    for n in 1..=3 {
        c.append("INBOX", "\\Seen", format!("Subject: {n}\r\n\r\nbody\r\n").as_bytes());
    }
}

fn idle_tells_new_mail_flags_and_expunges(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("SELECT INBOX");
    up.cmd_ok("SELECT INBOX");
    let tag = c.idle();
    up.append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n");
    c.until("* 4 EXISTS");
    up.cmd_ok("STORE 2 +FLAGS (\\Flagged)");
    c.until("* 2 FETCH (<*>\\Flagged<*>)");
    up.cmd_ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    up.cmd_ok("EXPUNGE");
    c.until("* 1 EXPUNGE");
    c.done(&tag);
    assert_eq!(c.cmd_ok("UID SEARCH ALL").search(), [2, 3, 4]);
}

/// Outlook does so.
fn idle_before_a_mailbox(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    let tag = c.idle();
    assert!(c.done(&tag).is_ok());
    c.cmd_ok("NOOP");
}

fn idle_ends_only_by_done(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    let tag = c.idle();
    // DONE in any letters, and in two pieces.
    c.raw(b"do");
    assert_eq!(c.line_within(Duration::from_millis(50)), None);
    c.raw(b"ne\r\n").until(&format!("{tag} OK<*>"));
    c.c("a IDLE");
    c.until("+<*>");
    c.c("a2 NOOP");
    let lines = c.until("a<*>");
    assert!(lines.last().unwrap().contains(" BAD"), "anything else than DONE: {lines:?}");
}
