//! kill -9 at any moment: what was acknowledged after a flush is there, and the rest is right or absent.
//!
//! The test starts its own binary again as the writer, by an environment variable.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

const DIR: &str = "MAILWEIR_TEST_CRASH_DIR";
const BEGIN: &str = "MAILWEIR_TEST_CRASH_BEGIN";

fn body_of(uid: u32) -> Vec<u8> {
    noise((uid / 3).into(), if uid.is_multiple_of(2) { 12_000 } else { 700 })
}

/// The bodies are taken away again this long after.
const KEPT: u32 = 40;

fn write(dir: &Path, begin: u32) {
    let store = open(dir);
    let id = store.mailbox_id("INBOX").unwrap();
    let mut out = std::io::stdout();
    for uid in begin.. {
        store.put_body(key(id, 1, uid), &body_of(uid)).unwrap();
        store.put_summaries(&[(key(id, 1, uid), summary(uid.into(), 200))]).unwrap();
        store
            .commit(id, &[message(uid, uid.into(), "work")], &UidSet::new(), &record("INBOX", 1, uid.into(), uid))
            .unwrap();
        if uid > KEPT {
            store.remove_bodies(&[key(id, 1, uid - KEPT)]).unwrap();
        }
        if uid.is_multiple_of(7) {
            store.flush().unwrap();
            writeln!(out, "acknowledged {uid}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    if let Ok(dir) = std::env::var(DIR) {
        return write(Path::new(&dir), std::env::var(BEGIN).unwrap().parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(3);
    let mut acknowledged = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::crash::nothing_acknowledged_is_lost_to_a_kill", "--nocapture"])
            .env(DIR, dir.path())
            .env(BEGIN, (acknowledged + 1).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 1 + dice.below(12);
        let mut seen = 0;
        while seen < wanted {
            let line = lines.next().expect("the writer works until it is killed").unwrap();
            // The harness writes its own words on the same line as the first of ours.
            if let Some((_, number)) = line.split_once("acknowledged ") {
                acknowledged = number.parse().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some((_, number)) = line.split_once("acknowledged ") {
                acknowledged = number.parse().unwrap();
            }
        }

        let store = open(dir.path());
        assert!(!store.was_reset() && !store.is_new(), "round {round}");
        let id = store.mailbox_id("INBOX").unwrap();
        let loaded = store.load(id).unwrap();
        for uid in 1..=acknowledged + 100 {
            let body = store.body(key(id, 1, uid)).unwrap();
            assert!(body.as_ref().is_none_or(|body| *body == body_of(uid)), "round {round}: wrong body of {uid}");
            let told = store.summaries(&[key(id, 1, uid)], SummaryWant::ALL).unwrap().remove(0);
            assert!(told.as_ref().is_none_or(|told| *told == summary(uid.into(), 200) || uid > acknowledged));
            let listed = loaded.iter().find(|found| found.uid.0 == uid);
            assert!(listed.is_none_or(|found| *found == message(uid, uid.into(), "work")));
            if uid <= acknowledged {
                assert!(told.is_some() && listed.is_some(), "round {round}: {uid} of {acknowledged}");
                // Removed before this was acknowledged, or in what the writer did after it and before the kill.
                let (removed, maybe) = (uid + KEPT <= acknowledged, uid + KEPT <= acknowledged + 7);
                assert!(body.is_none() || !removed, "round {round}: {uid} was removed before {acknowledged}");
                assert!(body.is_some() || maybe, "round {round}: body of {uid} of {acknowledged}");
            }
        }
        let findings = store.check().unwrap();
        assert!(findings.iter().all(|finding| finding.ends_with("messages")), "round {round}: {findings:?}");
    }
}
