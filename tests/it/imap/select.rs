//! SELECT, EXAMINE, UNSELECT, CLOSE, STATUS: numbers and words are the upstream's own (RFC 3501 §6.3).

use crate::everywhere;
use crate::harness::answer::{Answer, Status};
use crate::harness::client::Client;
use crate::harness::mail::{self, Sizes};
use crate::harness::world::{Kind, World};

everywhere!(
    select_tells_what_upstream_has,
    examine_changes_nothing,
    status_agrees_with_upstream,
    a_mailbox_that_is_not_there,
    close_and_unselect,
    new_mail_is_told_and_numbers_hold
);

fn fill(c: &mut Client) {
    mail::load(c, "INBOX", 7, 30, Sizes::Usual);
    c.cmd_ok("CREATE Empty");
    c.cmd_ok("CREATE \"R&AOk-sum&AOk-s\"");
    c.append("\"R&AOk-sum&AOk-s\"".trim_matches('"'), "\\Seen", b"Subject: r\r\n\r\nbody\r\n");
}

fn select_tells_what_upstream_has(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    for name in ["INBOX", "inbox", "Empty", "\"R&AOk-sum&AOk-s\"", "Drafts"] {
        let ours = c.cmd_ok(&format!("SELECT {name}"));
        let theirs = up.cmd_ok(&format!("EXAMINE {name}"));
        for code in ["UIDVALIDITY", "UIDNEXT"] {
            assert_eq!(ours.code(code), theirs.code(code), "{code} of {name}");
            assert!(ours.code(code).is_some());
        }
        assert_eq!(ours.count("EXISTS"), theirs.count("EXISTS"), "EXISTS of {name}");
        assert!(ours.count("RECENT").is_some(), "rev1 requires RECENT: {:?}", ours.lines());
        assert!(ours.lines().iter().any(|l| l.starts_with("* FLAGS (")), "{:?}", ours.lines());
        let permanent = ours.code("PERMANENTFLAGS").expect("PERMANENTFLAGS");
        assert!(["\\Seen", "\\Deleted", "\\Flagged", "\\Answered", "\\Draft"].iter().all(|f| permanent.contains(f)));
        assert!(ours.text.starts_with("[READ-WRITE]"), "{}", ours.text);
    }
    let unseen = c.cmd_ok("SELECT INBOX").code("UNSEEN").map(|n| n.parse::<u32>().unwrap());
    let first_unseen = c.cmd_ok("SEARCH UNSEEN").search().first().copied();
    assert!(unseen.is_none() || unseen == first_unseen, "{unseen:?} {first_unseen:?}");
}

fn examine_changes_nothing(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    let answer = c.cmd_ok("EXAMINE INBOX");
    assert!(answer.text.starts_with("[READ-ONLY]"), "{}", answer.text);
    let unseen = c.cmd_ok("SEARCH UNSEEN").search();
    c.cmd_ok(&format!("FETCH {} BODY[]", unseen[0]));
    assert_eq!(c.cmd_ok("SEARCH UNSEEN").search(), unseen);
    if !world.is_straight() {
        // Dovecot says OK and stores nothing.
        assert_ne!(c.cmd("STORE 1 +FLAGS (\\Flagged)").status, Status::Ok);
    }
    let mut up = world.straight();
    up.cmd_ok("EXAMINE INBOX");
    assert_eq!(up.cmd_ok("SEARCH UNSEEN").search(), unseen);
}

fn status_agrees_with_upstream(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    for name in ["INBOX", "Empty", "\"R&AOk-sum&AOk-s\"", "Sent"] {
        let command = format!("STATUS {name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)");
        let told = |answer: Answer| {
            let line = answer.lines().into_iter().find(|l| l.starts_with("* STATUS")).expect("STATUS");
            let (_, items) = line.rsplit_once('(').unwrap();
            let words: Vec<_> = items.trim_end_matches(')').split(' ').collect();
            let mut pairs: Vec<_> = words.chunks(2).map(|p| p.join(" ")).collect();
            pairs.sort();
            pairs
        };
        assert_eq!(told(c.cmd_ok(&command)), told(up.cmd_ok(&command)), "{name}");
    }
    assert_eq!(c.cmd("STATUS INBOX ()").status, Status::Bad);
    assert_eq!(c.cmd("STATUS INBOX (NONSENSE)").status, Status::Bad);
    assert_eq!(c.cmd("STATUS Nowhere (MESSAGES)").status, Status::No);
}

fn a_mailbox_that_is_not_there(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    let answer = c.cmd("SELECT Nowhere");
    assert_eq!(answer.status, Status::No);
    if !world.is_straight() {
        assert!(answer.text.starts_with("[NONEXISTENT]"), "{}", answer.text);
    }
    // A SELECT that fails leaves no mailbox selected (RFC 3501 §6.3.1).
    assert_eq!(c.cmd("FETCH 1 FLAGS").status, Status::Bad);
    c.cmd_ok("SELECT INBOX");
}

fn close_and_unselect(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    for command in ["UNSELECT", "CLOSE"] {
        // EXAMINE, so that CLOSE expunges nothing.
        c.cmd_ok("EXAMINE INBOX");
        assert!(!c.cmd_ok(command).lines().iter().any(|l| l.contains("EXPUNGE")));
        assert_eq!(c.cmd("FETCH 1 FLAGS").status, Status::Bad);
    }
    assert_eq!(c.cmd_ok("SELECT INBOX").count("EXISTS"), Some(30));
}

fn new_mail_is_told_and_numbers_hold(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("SELECT INBOX");
    up.append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n");
    world.poll(&mut c, |l| l == "* 31 EXISTS");
    assert_eq!(c.cmd_ok("FETCH 31 (BODY.PEEK[TEXT])").fetches()[0].1["BODY[TEXT]"].text(), "new\r\n");
    up.cmd_ok("SELECT INBOX");
    up.cmd_ok("UID STORE 2,30 +FLAGS.SILENT (\\Deleted)");
    // Whatever was marked by the generator goes as well.
    let gone = up.cmd_ok("SEARCH DELETED").search().len() as u32;
    up.cmd_ok("EXPUNGE");
    let mut told = 0;
    world.poll(&mut c, |l| {
        told += u32::from(l.ends_with(" EXPUNGE"));
        told == gone
    });
    let (ours, theirs) = (c.cmd_ok("UID SEARCH ALL").search(), up.cmd_ok("UID SEARCH ALL").search());
    assert_eq!(ours, theirs);
}
