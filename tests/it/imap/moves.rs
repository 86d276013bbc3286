//! MOVE and UID EXPUNGE (RFC 6851, RFC 4315), and what they must not touch.

use crate::everywhere;
use crate::harness::world::{Kind, World};

everywhere!(a_move_takes_only_what_it_names);

/// Another client has marked a message \Deleted that nobody here has heard of yet: it stays, also where upstream has neither MOVE nor
/// UIDPLUS and a plain EXPUNGE is all there is.
fn a_move_takes_only_what_it_names(kind: Kind) {
    let world = World::new(kind, |c| {
        for n in 1..=4 {
            c.append("INBOX", "\\Seen", format!("Subject: {n}\r\n\r\nbody {n}\r\n").as_bytes());
        }
        c.cmd_ok("CREATE Kept");
    });
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("UID FETCH 1 BODY.PEEK[]");
    up.cmd_ok("SELECT INBOX");
    up.cmd_ok("UID STORE 2 +FLAGS.SILENT (\\Deleted)");
    c.cmd_ok("UID MOVE 1 Kept");
    c.cmd_ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)");
    c.cmd_ok("UID EXPUNGE 3");
    up.cmd_ok("NOOP");
    assert_eq!(up.cmd_ok("UID SEARCH ALL").search(), [2, 4]);
    assert_eq!(up.cmd_ok("UID SEARCH DELETED").search(), [2]);
    assert_eq!(c.cmd_ok("UID SEARCH ALL").search(), [2, 4]);
    c.cmd_ok("SELECT Kept");
    assert!(c.cmd_ok("UID FETCH 1:* BODY.PEEK[]").lines().concat().contains("body 1"));
}
