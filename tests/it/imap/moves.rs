//! MOVE and UID EXPUNGE (RFC 6851, RFC 4315), and what they must not touch.

use crate::everywhere;
use crate::harness::client::Client;
use crate::harness::world::{Kind, World};

everywhere!(a_move_takes_only_what_it_names);
everywhere!(a_mailbox_made_elsewhere_takes_messages_at_once);

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

/// The list of mailboxes is asked for anew before a destination is said not to exist: another program may have made it this moment.
fn a_mailbox_made_elsewhere_takes_messages_at_once(kind: Kind) {
    let world = World::new(kind, |c| {
        c.append("INBOX", "", b"Subject: 1\r\n\r\none\r\n");
    });
    let (mut c, mut up) = (world.client(), world.straight());
    // Dovecot, listing the mailboxes for another session at that moment, says that it exists already.
    let make = |up: &mut Client, name: &str| {
        let made = up.cmd(&format!("CREATE {name}"));
        assert!(made.is_ok() || made.code("ALREADYEXISTS").is_some(), "{}", made.text);
    };
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("LIST \"\" *");
    make(&mut up, "First");
    c.append("First", "", b"Subject: 2\r\n\r\ntwo\r\n");
    make(&mut up, "Second");
    c.cmd_ok("COPY 1 Second");
    make(&mut up, "Third");
    c.cmd_ok("MOVE 1 Third");
    for name in ["First", "Second", "Third"] {
        assert!(c.cmd_ok(&format!("STATUS {name} (MESSAGES)")).lines().concat().contains("MESSAGES 1"), "{name}");
    }
    c.append("INBOX", "", b"Subject: 3\r\n\r\nthree\r\n");
    assert_eq!(c.cmd("UID COPY 1:* Nowhere").code("TRYCREATE").as_deref(), Some(""));
}
