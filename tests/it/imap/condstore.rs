//! CONDSTORE and QRESYNC (RFC 7162), offered whatever the upstream has.

use crate::everywhere;
use crate::harness::answer::{Answer, Value};
use crate::harness::client::Client;
use crate::harness::mail::{self, Sizes};
use crate::harness::world::{Kind, World};

everywhere!(modseq_in_fetch_and_search, changedsince, qresync_select, vanished_while_selected);

fn fill(c: &mut Client) {
    mail::load(c, "INBOX", 13, 20, Sizes::Small);
}

fn modseq(value: &Value) -> u64 {
    value.list()[0].number().expect("MODSEQ")
}

fn highest(answer: &Answer) -> u64 {
    answer.code("HIGHESTMODSEQ").expect("HIGHESTMODSEQ").parse().expect("a number")
}

/// Bare Dovecot keeps no mod-sequence of messages that were there before it was first asked for one.
fn modseq_in_fetch_and_search(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    let answer = c.cmd_ok("SELECT INBOX (CONDSTORE)");
    let top = highest(&answer);
    let status = c.cmd_ok("STATUS INBOX (HIGHESTMODSEQ)").lines().join("\n");
    assert!(status.contains(&format!("HIGHESTMODSEQ {top}")), "{status} against {top}");
    let fetched = c.cmd_ok("FETCH 1:* (UID MODSEQ)").by_uid();
    assert_eq!(fetched.len(), 20);
    assert!(fetched.values().all(|i| (1..=top).contains(&modseq(&i["MODSEQ"]))), "none above the highest");
    let found = c.cmd_ok(&format!("SEARCH MODSEQ {top}"));
    let line = found.lines().join("\n");
    assert!(found.search().is_empty() || line.contains("(MODSEQ "), "{line}");
    assert_eq!(c.cmd_ok(&format!("SEARCH MODSEQ {}", top + 1)).search(), [] as [u32; 0]);
}

fn changedsince(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    let before = highest(&c.cmd_ok("SELECT INBOX (CONDSTORE)"));
    up.cmd_ok("SELECT INBOX");
    up.cmd_ok("STORE 4,9 +FLAGS (Later)");
    let mut told = std::collections::BTreeSet::new();
    world.poll(&mut c, |l| {
        if l.contains(" FETCH (") && l.contains("Later") {
            assert!(l.contains("MODSEQ ("), "RFC 7162 §3.1: once enabled, every flag notice tells it: {l}");
            told.insert(l.split(' ').nth(1).unwrap().to_owned());
        }
        told.len() == 2
    });
    let changed = c.cmd_ok(&format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {before})")).by_uid();
    assert_eq!(changed.keys().copied().collect::<Vec<_>>(), [4, 9]);
    assert!(changed.values().all(|i| modseq(&i["MODSEQ"]) > before));
    let after = highest(&c.cmd_ok("SELECT INBOX"));
    assert!(after > before);
    assert!(c.cmd_ok(&format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {after})")).fetches().is_empty());
    // Apple Mail asks with a zero, which the RFC's grammar has no room for.
    if !world.is_straight() {
        assert_eq!(c.cmd_ok("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 0)").by_uid().len(), 20);
    }
}

fn qresync_select(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("ENABLE QRESYNC");
    let first = c.cmd_ok("SELECT INBOX");
    let (validity, top) = (first.code("UIDVALIDITY").unwrap(), highest(&first));
    c.cmd_ok("UNSELECT");
    up.cmd_ok("SELECT INBOX");
    up.cmd_ok("UID STORE 5,6 +FLAGS.SILENT (\\Deleted)");
    let gone = up.cmd_ok("UID SEARCH DELETED").search();
    up.cmd_ok("EXPUNGE");
    up.cmd_ok("UID STORE 8 +FLAGS (Later)");
    up.append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n");
    let mut answer = c.cmd_ok(&format!("SELECT INBOX (QRESYNC ({validity} {top}))"));
    // The daemon may hear of it a moment later than the upstream's own client did.
    crate::harness::wait_for("the change", || {
        answer = c.cmd_ok(&format!("SELECT INBOX (QRESYNC ({validity} {top}))"));
        answer.by_uid().contains_key(&21)
    });
    let vanished = answer.lines().into_iter().find(|l| l.starts_with("* VANISHED (EARLIER) ")).expect("VANISHED");
    let told = uids(vanished.trim_start_matches("* VANISHED (EARLIER) "));
    assert!(gone.iter().all(|uid| told.contains(uid)), "{gone:?} in {vanished}");
    assert!([8, 21].iter().all(|uid| !told.contains(uid)), "{vanished}");
    let changed = answer.by_uid();
    assert!(changed.contains_key(&8) && changed.contains_key(&21) && !changed.contains_key(&9), "{:?}", changed.keys());
    // A wrong UIDVALIDITY: nothing is told but the new one.
    let answer = c.cmd_ok(&format!("SELECT INBOX (QRESYNC (1 {top}))"));
    assert!(!answer.lines().iter().any(|l| l.contains("VANISHED") || l.contains("FETCH")), "{:?}", answer.lines());
    assert_eq!(answer.code("UIDVALIDITY"), Some(validity));
}

fn vanished_while_selected(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("ENABLE QRESYNC");
    c.cmd_ok("SELECT INBOX");
    up.cmd_ok("SELECT INBOX");
    let before = up.cmd_ok("UID SEARCH ALL").search();
    up.cmd_ok("UID STORE 5:7 +FLAGS.SILENT (\\Deleted)");
    up.cmd_ok("EXPUNGE");
    let left = up.cmd_ok("UID SEARCH ALL").search();
    let gone: Vec<_> = before.into_iter().filter(|uid| !left.contains(uid)).collect();
    let mut told = Vec::new();
    world.poll(&mut c, |l| {
        assert!(!l.ends_with(" EXPUNGE"), "VANISHED instead of EXPUNGE: {l}");
        if let Some(set) = l.strip_prefix("* VANISHED ") {
            told.extend(uids(set));
        }
        told.len() == gone.len()
    });
    told.sort_unstable();
    assert_eq!(told, gone);
}

fn uids(set: &str) -> Vec<u32> {
    let ranges = set.split(',').map(|r| r.split_once(':').unwrap_or((r, r)));
    ranges.flat_map(|(a, b)| a.parse::<u32>().unwrap()..=b.parse().unwrap()).collect()
}
