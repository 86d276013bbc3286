//! Kill -9 in QUIT, at every step of it: all of a session's deletions or none, and all if they were acknowledged.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use super::end::hidden;
use super::{login, upstream, world};
use crate::harness::mail::{self, Sizes};
use crate::harness::pop::Pop;
use crate::harness::trap::{Act, Place, Point, Trap};
use crate::harness::world::World;
use crate::harness::{PATIENCE, wait_for};

/// What the login is shown.
fn shown(pop: &mut Pop) -> Vec<i64> {
    pop.list("UIDL").iter().map(|(_, id)| id.split_once('.').unwrap().1.parse().unwrap()).collect()
}

/// A session that has deleted `count` messages of those it is shown and that are not `known`, and which these are.
fn deleting(world: &World, count: usize, known: &BTreeSet<i64>) -> (Pop, BTreeSet<i64>) {
    let mut pop = login(world.daemon(), "");
    let shown = shown(&mut pop);
    let chosen = shown.iter().enumerate().filter(|(_, uid)| !known.contains(uid)).take(count);
    let chosen: Vec<(usize, i64)> = chosen.map(|(at, uid)| (at + 1, *uid)).collect();
    assert_eq!(chosen.len(), count);
    chosen.iter().for_each(|(number, _)| drop(pop.ok(&format!("DELE {number}"))));
    (pop, chosen.into_iter().map(|(_, uid)| uid).collect())
}

fn is_acknowledged(pop: &mut Pop) -> bool {
    pop.try_line().is_ok_and(|answer| answer.starts_with("+OK"))
}

/// Only the disk is asked here, so the moment is found by trying: between one that came too early and one that came too late.
#[test]
fn kill_nine_in_quit() {
    const ROUNDS: usize = 12;
    let Some(mut world) = world("", |c| mail::load(c, "INBOX", 103, 400, Sizes::Small)) else { return };
    let mut expected = BTreeSet::new();
    let (mut early, mut late) = (Duration::ZERO, Duration::ZERO);
    let (mut unheard, mut undone) = (0, 0);
    for round in 0..ROUNDS {
        let (mut pop, batch) = deleting(&world, 20, &expected);
        assert_eq!(shown(&mut login(world.daemon(), "")).len(), 400 - expected.len(), "round {round}");
        if round == 0 {
            // It never gets to read the QUIT.
            let pid = world.daemon().pid().to_string();
            assert!(Command::new("kill").args(["-STOP", &pid]).status().expect("kill").success());
            // Each thread stops when it next comes to the kernel.
            wait_for("every thread to stand still", || {
                let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
                let stat = |task: std::io::Result<std::fs::DirEntry>| {
                    std::fs::read_to_string(task.unwrap().path().join("stat"))
                };
                tasks.map(stat).all(|stat| stat.is_ok_and(|stat| stat.contains(") T ")))
            });
        }
        let start = Instant::now();
        pop.send(b"QUIT\r\n").unwrap();
        let heard = round == 1 && is_acknowledged(&mut pop);
        if round == 1 {
            late = start.elapsed();
        } else if round > 1 {
            // A real wait: the moment of the blow is what is tried.
            std::thread::sleep((early + late) / 2);
        }
        let took = start.elapsed();
        world.daemon_mut().kill();
        let acknowledged = heard || is_acknowledged(&mut pop);
        if round > 1 {
            *(if acknowledged { &mut late } else { &mut early }) = took.min(Duration::from_secs(1));
            if early >= late {
                // A busy machine: it took longer this time than it did before.
                (early, late) = (Duration::ZERO, early.max(late) + Duration::from_millis(1));
            }
        }
        let now = hidden(world.daemon());
        let with_batch: BTreeSet<i64> = expected.union(&batch).copied().collect();
        assert!(now == expected || now == with_batch, "round {round}: half of a QUIT");
        assert!(!acknowledged || now == with_batch, "round {round}: acknowledged and lost");
        assert!(round != 0 || (now == expected && !acknowledged), "nobody has read the QUIT");
        assert!(round != 1 || acknowledged);
        (unheard, undone) = (unheard + usize::from(!acknowledged), undone + usize::from(now == expected));
        expected = now;
        world.daemon_mut().restart();
    }
    println!("{unheard} of {ROUNDS} were not acknowledged, {undone} not done; {} messages are hidden", expected.len());
    assert!(0 < unheard && unheard < ROUNDS);
    assert_eq!(upstream(&world).0, 400);
}

/// Where the daemon is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// The provider is asked, and the line never arrives there.
    Asked,
    /// It has done it, and the answer never arrives here.
    Done,
    /// The answer has arrived.
    Answered,
    /// So has ours.
    Acknowledged,
}

/// With the policies that ask the provider: a message is in one place, once, and what was acknowledged is done.
#[test]
fn kill_nine_in_a_quit_that_asks_the_provider() {
    const ALL: usize = 40;
    const BATCH: usize = 5;
    for (policy, word, mailbox) in
        [("trash", "UID MOVE", Some("Trash")), ("archive", "UID MOVE", Some("Attic")), ("seen", "UID STORE", None)]
    {
        let Some(mut world) = world(&format!("on_dele = \"{policy}\""), |c| {
            c.cmd_ok("CREATE Attic");
            for n in 0..ALL {
                c.append("INBOX", "", format!("Subject: {n}\r\n\r\n").as_bytes());
            }
        }) else {
            return;
        };
        let mut known = BTreeSet::new();
        let (mut rounds, mut unheard) = (0, 0);
        // What the provider has done, and what the login is shown no more.
        let (mut done, mut gone) = (0, 0);
        for blow in [Blow::Asked, Blow::Done, Blow::Answered, Blow::Acknowledged] {
            let what = format!("{policy}, {blow:?}");
            let (mut pop, batch) = deleting(&world, BATCH, &known);
            known.extend(&batch);
            let step = match blow {
                Blow::Asked => Some((Point::Command, Place::Before)),
                Blow::Done => Some((Point::Answer, Place::Before)),
                Blow::Answered => Some((Point::Answer, Place::After)),
                Blow::Acknowledged => None,
            };
            if let Some((point, place)) = step {
                world.relay.set_trap(Trap::new(word, point, place, Act::CutAll));
            }
            pop.send(b"QUIT\r\n").unwrap();
            match step {
                Some(_) => assert!(world.relay.sprung(PATIENCE), "{what}: the step never came"),
                None => assert!(is_acknowledged(&mut pop), "{what}"),
            }
            world.daemon_mut().kill();
            world.relay.go_on();
            let acknowledged = step.is_none() || is_acknowledged(&mut pop);
            assert!(matches!(blow, Blow::Answered | Blow::Acknowledged) || !acknowledged, "{what}");
            (rounds, unheard) = (rounds + 1, unheard + usize::from(!acknowledged));
            done += if blow == Blow::Asked { 0 } else { BATCH };
            let want = if mailbox.is_some() { (ALL - done, ALL - done, done) } else { (ALL, ALL - done, 0) };
            let at_the_provider = || {
                let (all, unseen) = upstream(&world);
                let moved = mailbox.map_or(0, |mailbox| {
                    let mut straight = world.straight();
                    straight.cmd_ok(&format!("EXAMINE {mailbox}"));
                    straight.cmd_ok("UID SEARCH ALL").search().len()
                });
                (all, unseen, moved)
            };
            wait_for(&format!("{what}: {want:?}"), || at_the_provider() == want);
            world.daemon_mut().restart();
            let shown: BTreeSet<i64> = shown(&mut login(world.daemon(), "")).into_iter().collect();
            let hides = batch.iter().all(|uid| !shown.contains(uid));
            assert!(hides || batch.iter().all(|uid| shown.contains(uid)), "{what}: half of a QUIT");
            // What was moved is gone; what is only marked is hidden when the disk has it.
            let must = acknowledged || (mailbox.is_some() && blow != Blow::Asked);
            assert!(hides || !must, "{what}: not done");
            assert!(!hides || must || blow == Blow::Answered, "{what}: hidden, and nobody was told");
            gone += if hides { BATCH } else { 0 };
            assert_eq!(shown.len(), ALL - gone, "{what}");
        }
        assert!(0 < unheard && unheard < rounds, "{policy}: {unheard} of {rounds}");
    }
}
