//! `\Recent` (RFC 3501 §2.3.2): the first session that is told of a message and may change its mailbox has it recent, and no other.

use std::collections::BTreeMap;

use crate::everywhere;
use crate::harness::answer::Status;
use crate::harness::client::Client;
use crate::harness::world::{Kind, World};
use crate::over_dovecot;

everywhere!(the_first_to_hear_is_the_only_one);
over_dovecot!(what_came_while_nobody_was_there);

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";

fn two_in_new(c: &mut Client) {
    c.cmd_ok("CREATE New");
    c.append("New", "", MESSAGE);
    c.append("New", "", MESSAGE);
}

fn status(c: &mut Client) -> String {
    let lines = c.cmd_ok("STATUS New (MESSAGES RECENT)").lines();
    lines.into_iter().find(|line| line.starts_with("* STATUS")).expect("STATUS")
}

/// Which messages carry the flag.
fn flagged(c: &mut Client) -> Vec<u32> {
    let fetched: BTreeMap<u32, _> = c.cmd_ok("FETCH 1:* FLAGS").fetches().into_iter().collect();
    let has = |flags: &crate::harness::answer::Value| flags.list().iter().any(|flag| flag.text() == "\\Recent");
    fetched.into_iter().filter(|(_, items)| has(&items["FLAGS"])).map(|(number, _)| number).collect()
}

fn the_first_to_hear_is_the_only_one(kind: Kind) {
    let world = World::new(kind, two_in_new);
    let [mut a, mut b, mut other] = [(); 3].map(|()| world.client());
    // Asking takes nothing away, nor does EXAMINE.
    for _ in 0..2 {
        assert_eq!(status(&mut other), "* STATUS New (MESSAGES 2 RECENT 2)");
        assert_eq!(b.cmd_ok("EXAMINE New").count("RECENT"), Some(2));
        assert_eq!((flagged(&mut b), b.cmd_ok("SEARCH RECENT").search()), (vec![1, 2], vec![1, 2]));
        b.cmd_ok("UNSELECT");
    }
    assert_eq!(a.cmd_ok("SELECT New").count("RECENT"), Some(2));
    assert_eq!(flagged(&mut a), [1, 2]);
    assert_eq!(status(&mut other), "* STATUS New (MESSAGES 2 RECENT 0)");
    assert_eq!(b.cmd_ok("SELECT New").count("RECENT"), Some(0));
    assert!(flagged(&mut b).is_empty());
    a.cmd_ok("STORE 1 +FLAGS (\\Seen)");
    let search = |c: &mut Client, key: &str| c.cmd_ok(&format!("SEARCH {key}")).search();
    assert_eq!((search(&mut a, "NEW"), search(&mut a, "RECENT"), search(&mut a, "OLD")), (vec![2], vec![1, 2], vec![]));
    assert_eq!((search(&mut b, "NEW"), search(&mut b, "RECENT"), search(&mut b, "OLD")), (vec![], vec![], vec![1, 2]));
    // The next one is for whoever hears of it first.
    other.append("New", "", MESSAGE);
    assert_eq!(status(&mut other), "* STATUS New (MESSAGES 3 RECENT 1)");
    let told = b.cmd_ok("NOOP");
    assert_eq!((told.count("EXISTS"), told.count("RECENT")), (Some(3), Some(1)));
    assert_eq!(a.cmd_ok("NOOP").count("EXISTS"), Some(3));
    assert_eq!((search(&mut a, "RECENT"), search(&mut b, "RECENT")), (vec![1, 2], vec![3]));
    assert_eq!((flagged(&mut a), flagged(&mut b)), (vec![1, 2], vec![3]));
    // The count falls with what is expunged.
    a.cmd_ok("STORE 1 +FLAGS (\\Deleted)");
    assert_eq!(a.cmd_ok("EXPUNGE").count("RECENT"), Some(1));
    assert_eq!(flagged(&mut a), [1]);
    // It is nobody's to change; left out, `FLAGS (\Recent)` would take every flag away.
    assert_eq!(a.cmd("STORE 1 FLAGS (\\Recent)").status, Status::Bad);
    assert_eq!(a.cmd_ok("SELECT New").count("RECENT"), Some(0));
}

/// A mailbox that was seen in an earlier run: what came since is recent, what was there is not.
fn what_came_while_nobody_was_there(kind: Kind) {
    let mut world = World::new(kind, two_in_new);
    let mut c = world.client();
    assert_eq!(c.cmd_ok("SELECT New").count("RECENT"), Some(2));
    drop(c);
    if !world.is_straight() {
        world.daemon_mut().stop();
    }
    world.straight().append("New", "", MESSAGE);
    if !world.is_straight() {
        world.daemon_mut().restart();
    }
    let mut c = world.client();
    let mut exists = c.cmd_ok("SELECT New").count("EXISTS");
    crate::harness::wait_for("the third message", || {
        exists = c.cmd_ok("NOOP").count("EXISTS").or(exists);
        exists == Some(3)
    });
    assert_eq!(c.cmd_ok("SEARCH RECENT").search(), [3]);
}
