//! The audit trail: everything that vanished upstream stands in it, with who did it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::harness::client::Client;
use crate::harness::pop::Pop;
use crate::harness::world::{Kind, World};
use crate::harness::{ADDRESS, LOCAL_PASSWORD, straight_run};

const MESSAGES: u32 = 60;

fn message(n: u32) -> String {
    format!("Subject: {n}\r\nMessage-ID: <m{n}@test>\r\n\r\nbody {n}\r\n")
}

fn world(kind: Kind, more: &str) -> Option<World> {
    let change = |mut setup: crate::harness::daemon::Setup| {
        setup.accounts[0].pop3 = more.to_owned();
        setup
    };
    if straight_run() {
        return None;
    }
    Some(World::with(kind, crate::harness::relay::Link::default(), change, |c| {
        for n in 1..=MESSAGES {
            c.append("INBOX", "", message(n).as_bytes());
        }
        for name in ["Kept", "Doomed", "Old"] {
            c.cmd_ok(&format!("CREATE {name}"));
        }
        c.append("Doomed", "", message(1000).as_bytes());
        c.cmd("CREATE Trash");
    }))
}

fn uids(client: &mut Client, mailbox: &str) -> BTreeSet<u32> {
    client.cmd_ok(&format!("SELECT {mailbox}"));
    let lines = client.cmd_ok("UID SEARCH ALL").lines();
    lines
        .iter()
        .filter_map(|line| line.strip_prefix("* SEARCH"))
        .flat_map(str::split_whitespace)
        .map(|n| n.parse().unwrap())
        .collect()
}

/// Every record, oldest first.
fn trail(dir: &Path) -> Vec<serde_json::Value> {
    let mut names: Vec<_> = std::fs::read_dir(dir.join("audit")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let age = |path: &Path| {
        path.file_name().unwrap().to_str().unwrap().split('.').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    names.sort_by_key(|path| std::cmp::Reverse(age(path)));
    let text: String = names.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    // The last line may be being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn numbers(set: &serde_json::Value) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    for part in set.as_str().unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        all.extend(from.parse::<u32>().unwrap()..=to.parse().unwrap());
    }
    all
}

/// What the trail says has gone from a mailbox, by outcome.
fn gone(records: &[serde_json::Value], mailbox: &str, outcome: &str) -> BTreeSet<u32> {
    let takes = |record: &&serde_json::Value| {
        record["mailbox"] == mailbox && record["outcome"] == outcome && record["action"] != "pop3_delete"
    };
    records.iter().filter(takes).flat_map(|record| &numbers(&record["uids"]) - &numbers(&record["left"])).collect()
}

fn everything_that_vanished_stands_in_the_trail(kind: Kind) {
    let Some(mut world) = world(kind, "on_dele = \"hide\"") else { return };
    let before = uids(&mut world.straight(), "INBOX");
    assert_eq!(before.len(), MESSAGES as usize);
    // Three clients at once, each with its own part, and one that is cut off in the middle.
    std::thread::scope(|scope| {
        let (world, each) = (&world, MESSAGES / 6);
        scope.spawn(move || {
            let mut c = world.connection();
            c.cmd_ok("ID (\"name\" \"Expunger\" \"version\" \"1.0\")");
            let mut c = c.login(ADDRESS, LOCAL_PASSWORD);
            c.cmd_ok("SELECT INBOX");
            c.cmd_ok(&format!("UID FETCH 1:{each} ENVELOPE"));
            for uid in 1..=each {
                c.cmd_ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
                c.cmd_ok(&format!("UID EXPUNGE {uid}"));
            }
        });
        scope.spawn(move || {
            let mut c = world.client();
            c.cmd_ok("SELECT INBOX");
            c.cmd_ok(&format!("UID MOVE {}:{} Kept", each + 1, each * 2));
            // To nowhere: refused, and nothing has gone.
            c.cmd(&format!("UID MOVE {} Nowhere", each * 6));
        });
        scope.spawn(move || {
            let mut c = world.client();
            c.cmd_ok("SELECT INBOX");
            c.cmd_ok(&format!("UID STORE {}:{} +FLAGS.SILENT (\\Deleted)", each * 3 + 1, each * 4));
            c.cmd_ok("CLOSE");
            c.cmd_ok("DELETE Doomed");
            c.cmd_ok("RENAME Old New");
            c.cmd("DELETE Nowhere");
        });
        scope.spawn(move || {
            let mut pop = Pop::connect(world.daemon().pop3).login(&format!("{ADDRESS}+laptop"), LOCAL_PASSWORD);
            let last = pop.stat().0;
            pop.ok(&format!("DELE {last}"));
            pop.ok("QUIT");
        });
    });
    // A client that says EXPUNGE and is gone before the answer.
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok(&format!("UID STORE {} +FLAGS.SILENT (\\Deleted)", MESSAGES / 6 * 5));
    c.start("EXPUNGE").unwrap();
    drop(c);
    crate::harness::wait_for("the last expunge", || {
        !uids(&mut world.straight(), "INBOX").contains(&(MESSAGES / 6 * 5))
    });

    // The provider has done it a moment before its answer is here.
    crate::harness::wait_for("its record", || {
        gone(&trail(&world.daemon().data_dir()), "INBOX", "ok").contains(&(MESSAGES / 6 * 5))
    });
    let after = uids(&mut world.straight(), "INBOX");
    let mut counted = 0.0;
    crate::harness::wait_for("the count of records", || {
        counted = world.daemon().metric("mailweir_audit_records_total", &[]);
        counted as usize == trail(&world.daemon().data_dir()).len()
    });
    world.daemon_mut().stop();
    let records = trail(&world.daemon().data_dir());
    assert_eq!(counted as usize, records.len(), "{records:#?}");
    assert_eq!(gone(&records, "INBOX", "ok"), &before - &after, "{records:#?}");
    let find = |action: &str, mailbox: &str| {
        let found: Vec<_> = records.iter().filter(|r| r["action"] == action && r["mailbox"] == mailbox).collect();
        assert!(!found.is_empty(), "{action} of {mailbox} is not in {records:#?}");
        found
    };
    assert_eq!(find("delete", "Doomed")[0]["outcome"], "ok");
    assert_eq!(find("rename", "Old")[0]["to"], "New");
    assert_eq!(find("move", "INBOX")[0]["to"], "Kept");
    let pop = find("pop3_delete", "INBOX")[0];
    assert_eq!((&pop["policy"], &pop["protocol"], &pop["outcome"]), (&"hide".into(), &"pop3".into(), &"ok".into()));
    assert_eq!(pop["login"], "ann@example.org (laptop)");
    // Who it was, and which message. CLOSE takes whatever is \Deleted: the one between the Expunger's STORE and its UID EXPUNGE, if any.
    let (mine, closed): (Vec<_>, Vec<_>) =
        find("expunge", "INBOX").into_iter().partition(|record| record["program"] == "Expunger 1.0");
    let taken = closed.iter().flat_map(|record| numbers(&record["uids"])).filter(|uid| *uid <= MESSAGES / 6).count();
    assert!(taken <= 1 && mine.len() + taken == MESSAGES as usize / 6, "{mine:#?} {closed:#?}");
    let ids: BTreeMap<u32, String> = mine
        .iter()
        .chain(&closed)
        .flat_map(|record| record["message_ids"].as_object().into_iter().flatten())
        .map(|(uid, id)| (uid.parse().unwrap(), id.as_str().unwrap().to_owned()))
        .filter(|(uid, _)| *uid <= MESSAGES / 6)
        .collect();
    assert_eq!(ids, (1..=MESSAGES / 6).map(|n| (n, format!("<m{n}@test>"))).collect());
    for record in &records {
        assert_eq!(record["account"], ADDRESS);
        assert!(record["peer"] == "127.0.0.1" && record["time"].as_str().unwrap().starts_with("20"), "{record}");
    }
}

#[test]
fn everything_that_vanished_stands_in_the_trail_dovecot() {
    everything_that_vanished_stands_in_the_trail(Kind::Dovecot);
}

#[test]
fn everything_that_vanished_stands_in_the_trail_bare() {
    everything_that_vanished_stands_in_the_trail(Kind::Bare);
}

#[test]
fn everything_that_vanished_stands_in_the_trail_cyrus() {
    everything_that_vanished_stands_in_the_trail(Kind::Cyrus);
}

/// A refusal by the provider stands in the trail too, with its words.
#[test]
fn what_was_refused_is_told_as_that() {
    let Some(mut world) = world(Kind::Dovecot, "") else { return };
    let mut c = world.client();
    // A file has no such long name.
    assert!(!c.cmd(&format!("RENAME Doomed {}", "x".repeat(300))).is_ok());
    world.daemon_mut().stop();
    let records = trail(&world.daemon().data_dir());
    let refused = records.iter().find(|record| record["action"] == "rename").expect("the rename");
    assert!(refused["outcome"] == "no" && !refused["reason"].as_str().unwrap().is_empty(), "{refused}");
    assert!(uids(&mut world.straight(), "Doomed").len() == 1);
}

/// The size is kept to, and so is the count.
#[test]
fn its_files_turn() {
    if straight_run() {
        return;
    }
    let mut world = World::with(
        Kind::Dovecot,
        crate::harness::relay::Link::default(),
        |mut setup| {
            setup.more = "[log]\naudit_size = \"64KiB\"\naudit_files = 2\n".into();
            setup
        },
        |_| {},
    );
    let mut c = world.client();
    // Some 500 octets a record: four hundred of them are beyond both files.
    let long = "x".repeat(150);
    for n in 0..200 {
        c.cmd_ok(&format!("CREATE {long}{n}"));
        c.cmd_ok(&format!("RENAME {long}{n} {long}{n}y"));
        c.cmd_ok(&format!("DELETE {long}{n}y"));
    }
    world.daemon_mut().stop();
    let dir = world.daemon().data_dir().join("audit");
    let sizes: Vec<u64> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
    let records = trail(&world.daemon().data_dir());
    assert!(
        (100..400).contains(&records.len()) && records.last().unwrap()["mailbox"] == format!("{long}199y"),
        "{}",
        records.len()
    );
}
