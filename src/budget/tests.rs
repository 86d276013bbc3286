use std::num::NonZeroU32;

use super::*;

/// Sets bytes aside, and they go over the wire.
fn spend(budget: &Budget, direction: Direction, class: Class, bytes: u64, now: SystemTime) -> Result<(), Refused> {
    let reservation = budget.reserve(direction, class, bytes, now)?;
    budget.record(direction, bytes, now);
    drop(reservation);
    Ok(())
}

fn limits() -> Limits {
    Limits {
        connections: 2,
        download_per_day: Some(1000),
        upload_per_day: None,
        shares: Shares::default(),
        commands_per_second: None,
        logins_per_minute: NonZeroU32::new(6).unwrap(),
        login_burst: NonZeroU32::new(3).unwrap(),
        unread_most: 200,
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_200 + seconds)
}

#[test]
fn each_class_stops_where_its_share_ends() {
    use Class::{Bulk, Interactive, Prefetch, Sync};
    let budget = Budget::new(limits(), at(0));
    let spend_at = |class, bytes, when| spend(&budget, Direction::Download, class, bytes, at(when));
    let steps = [
        (Prefetch, 501, 0, false),
        (Prefetch, 500, 0, true),
        (Prefetch, 1, 1, false),
        (Sync, 400, 1, true),
        (Sync, 1, 1, false),
        (Bulk, 1, 1, false),
        (Interactive, 89, 2, true),
        (Interactive, 2, 3, false),
        (Interactive, 1, 4, true),
        (Interactive, 1, 5, false),
        (Interactive, 0, 6, true),
        (Prefetch, 1, 86_400, false),
        (Prefetch, 500, 86_400 + 600, true),
        (Bulk, 300, 86_400 + 600, true),
    ];
    for (class, bytes, when, granted) in steps {
        assert_eq!(spend_at(class, bytes, when).is_ok(), granted, "{class:?} {bytes} at {when}");
    }
    let refused = spend_at(Interactive, 500, 86_400 + 600).unwrap_err();
    assert_eq!(refused.to_string(), "today's download limit of 1000 bytes is used up; try again in 1450 minutes");
    assert_eq!(refused.retry_after, Duration::from_secs(86_400 + 600));
    assert_eq!(budget.used(Direction::Download, at(86_400 + 601)), 800);
    assert!(spend_at(Interactive, 190, 86_400 + 601).is_ok());
    assert!(spend(&budget, Direction::Upload, Prefetch, u64::MAX / 2, at(0)).is_ok(), "not limited");
}

#[test]
fn what_is_promised_is_promised_once_and_not_counted() {
    let budget = Budget::new(limits(), at(0));
    let reserve = |class, bytes| budget.reserve(Direction::Download, class, bytes, at(1));
    let first = reserve(Class::Sync, 500).unwrap();
    assert_eq!(budget.used(Direction::Download, at(1)), 0);
    assert_eq!(reserve(Class::Bulk, 401).err().unwrap().retry_after, PROMISED_WAIT);
    let second = reserve(Class::Interactive, 490).unwrap();
    assert!(reserve(Class::Interactive, 1).is_err());
    budget.record(Direction::Download, 500, at(1));
    drop((first, second));
    assert!(reserve(Class::Interactive, 491).is_err_and(|refused| refused.retry_after > PROMISED_WAIT));
    assert!(reserve(Class::Interactive, 490).is_ok());
    assert!(budget.reserve(Direction::Upload, Class::Prefetch, u64::MAX, at(1)).is_ok(), "not limited");
}

#[test]
fn shares_are_percents_of_any_limit() {
    let table = [(0, 0, 0), (1, 0, 1), (99, 49, 90), (100, 50, 90), (2_500_000_000, 1_250_000_000, 2_250_000_000)];
    for (limit, prefetch, sync) in table {
        for (class, most) in [(Class::Prefetch, prefetch), (Class::Sync, sync), (Class::Bulk, sync)] {
            let budget = Budget::new(Limits { download_per_day: Some(limit), ..limits() }, at(0));
            let spend_all = |bytes| spend(&budget, Direction::Download, class, bytes, at(0));
            assert_eq!(spend_all(most + 1).unwrap_err().limit, limit, "{limit} {class:?}");
            assert!(spend_all(most).is_ok(), "{limit} {class:?}");
        }
    }
    let own = Shares { prefetch: 10, sync: 20, reserve: 70 };
    let budget = Budget::new(Limits { shares: own, ..limits() }, at(0));
    assert!(spend(&budget, Direction::Download, Class::Prefetch, 101, at(0)).is_err());
    assert!(spend(&budget, Direction::Download, Class::Bulk, 301, at(0)).is_err());
    assert!(!budget.is_slow(at(0)));
    budget.record(Direction::Download, 200, at(0));
    assert!(budget.is_slow(at(0)) && !budget.is_slow(at(90_000)));
    let budget = Budget::new(Limits { download_per_day: Some(u64::MAX), ..limits() }, at(0));
    assert!(spend(&budget, Direction::Download, Class::Prefetch, 1 << 62, at(0)).is_ok());
}

#[test]
fn when_all_is_spent_not_a_word_is_said() {
    let budget = Budget::new(Limits { download_per_day: Some(100_000), ..limits() }, at(0));
    budget.record(Direction::Download, 99_000, at(0));
    assert_eq!(budget.may_talk(at(0)), Ok(()), "what cannot be promised lives off the floor");
    budget.record(Direction::Download, 500, at(0));
    let refused = budget.may_talk(at(0)).unwrap_err();
    assert_eq!((refused.direction, refused.limit), (Direction::Download, 100_000));
    assert_eq!(budget.may_talk(at(0) + refused.retry_after), Ok(()));
    let upload = Budget::new(Limits { upload_per_day: Some(100), ..limits() }, at(0));
    upload.record(Direction::Upload, 100, at(0));
    assert_eq!(upload.may_talk(at(0)).unwrap_err().direction, Direction::Upload);
}

#[test]
fn the_count_on_disk_runs_ahead() {
    let (budget, down) = (Budget::new(limits(), at(0)), Direction::Download);
    let sum = |entries: &[Entry]| entries.iter().map(|entry| entry.bytes).sum::<u64>();
    assert_eq!((budget.headroom(down), budget.hold(down, 10)), (0, 0), "nothing is covered before it was written once");
    budget.record(down, 100, at(0));
    let (entries, mark) = budget.export_ahead(down, 50, at(0), at(20));
    assert_eq!(sum(&entries), 150);
    assert_eq!(budget.headroom(down), 0, "not yet written");
    budget.set_covered(down, mark);
    assert_eq!(budget.headroom(down), 50);
    let promise = budget.reserve(down, Class::Interactive, 40, at(0)).unwrap();
    assert_eq!(budget.headroom(down), 10, "the provider may have sent it");
    budget.record(down, 10, at(0));
    drop(promise);
    assert_eq!(budget.headroom(down), 40);
    // Of a promise as much as can be on its way is written down with the count, and the lead stands in the bucket it may be spent in.
    let _promise = budget.reserve(down, Class::Interactive, 300, at(590)).unwrap();
    let (entries, mark) = budget.export_ahead(down, 50, at(590), at(610));
    let first = at(0).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 600 * 600;
    assert_eq!(entries, [Entry { begin: first, bytes: 110 }, Entry { begin: first + 600, bytes: 250 }]);
    budget.set_covered(down, mark);
    assert_eq!(budget.headroom(down), 50);
    let sessions = (budget.try_connection(), budget.try_connection());
    assert_eq!(
        sum(&budget.export_ahead(down, 0, at(590), at(610)).0),
        110 + 300,
        "two sessions, and all of the promise"
    );
    drop(sessions);
    // After a crash it all counts.
    let again = Budget::new(limits(), at(595));
    again.import(down, &entries, at(595));
    assert_eq!(again.used(down, at(595)), 360);
}

#[test]
fn nothing_crosses_that_is_not_covered() {
    let (down, up) = (Direction::Download, Direction::Upload);
    let budget = Budget::new(limits(), at(0));
    let write = |direction, lead| {
        let (_, mark) = budget.export_ahead(direction, lead, at(0), at(0));
        budget.set_covered(direction, mark);
    };
    write(down, 50);
    write(up, 30);
    assert_eq!((budget.hold(down, 40), budget.hold(down, 40)), (40, 10), "what one may read no other may");
    budget.record(down, 25, at(0));
    budget.release(down, 40);
    assert_eq!(budget.headroom(down), 15);
    budget.release(down, 10);
    assert_eq!(budget.headroom(down), 25);
    assert_eq!(budget.hold(up, 40), 30);
    budget.release(up, 30);
    // A command is not sent while the answers asked for before are not covered.
    let promise = budget.reserve(down, Class::Interactive, 30, at(0)).unwrap();
    assert_eq!((budget.hold(up, 5), budget.hold(down, 5)), (0, 0));
    write(down, 0);
    assert_eq!((budget.hold(up, 5), budget.hold(down, 5)), (5, 0));
    budget.release(up, 5);
    drop(promise);
    // A shorter lead binds before it is written: what stands there then would not cover the longer one.
    write(down, 100);
    let (_, mark) = budget.export_ahead(down, 10, at(0), at(0));
    assert_eq!(budget.headroom(down), 10);
    budget.record(down, 10, at(0));
    budget.set_covered(down, mark);
    assert_eq!(budget.headroom(down), 0);
}

/// Random spending, saves and crashes: what would be found on the disk is never less than what crossed, and never more than an interval above it.
#[test]
fn the_rule_holds_at_every_moment() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    const LEAD_MOST: u64 = 60;
    for seed in 1..=16 {
        let mut rng = StdRng::seed_from_u64(seed);
        let unlimited = Limits { download_per_day: None, unread_most: 100, ..limits() };
        let (budget, down) = (Budget::new(unlimited, at(0)), Direction::Download);
        let _session = budget.try_connection().unwrap();
        let (mut disk, mut writing, mut crossed, mut asked) = (0, None, 0, Vec::new());
        for step in 0..3000 {
            match rng.random_range(0..6) {
                0 if asked.len() < 3 => {
                    asked.push(budget.reserve(down, Class::Bulk, rng.random_range(0..80), at(0)).unwrap());
                }
                1 if !asked.is_empty() => drop(asked.swap_remove(rng.random_range(0..asked.len()))),
                2 if writing.is_none() => {
                    let (entries, mark) = budget.export_ahead(down, rng.random_range(0..=LEAD_MOST), at(0), at(0));
                    writing = Some((entries.iter().map(|entry| entry.bytes).sum::<u64>(), mark));
                }
                3 => {
                    if let Some((bytes, mark)) = writing.take() {
                        disk = bytes;
                        budget.set_covered(down, mark);
                    }
                }
                _ => {
                    let held = budget.hold(down, rng.random_range(0..40));
                    let read = rng.random_range(0..=held);
                    crossed += read;
                    budget.record(down, read, at(0));
                    budget.release(down, held);
                }
            }
            assert!(disk >= crossed, "seed {seed} step {step}: {disk} of {crossed}");
            assert!(disk <= crossed + LEAD_MOST + 100, "seed {seed} step {step}: {disk} of {crossed}");
            if let Some((bytes, _)) = writing {
                assert!(bytes >= crossed, "seed {seed} step {step}: about to be written");
            }
        }
    }
}

#[test]
fn commands_are_paced_where_they_are_counted() {
    let budget = Budget::new(Limits { commands_per_second: NonZeroU32::new(2), ..limits() }, at(0));
    assert!(budget.command(at(0)).is_ok() && budget.command(at(0)).is_ok());
    assert_eq!(budget.command(at(0)), Err(Duration::from_millis(500)));
    assert!(budget.command(at(1)).is_ok());
    budget.set_limits(limits(), at(1));
    for _ in 0..100 {
        assert!(budget.command(at(1)).is_ok(), "not counted");
    }
}

#[test]
fn a_restart_forgets_nothing() {
    let budget = Budget::new(limits(), at(0));
    budget.record(Direction::Download, 600, at(0));
    budget.record(Direction::Download, 300, at(40_000));
    let kept = budget.export(Direction::Download, at(50_000));
    let again = Budget::new(limits(), at(60_000));
    again.import(Direction::Download, &kept, at(60_000));
    assert_eq!(again.used(Direction::Download, at(60_000)), 900);
    assert_eq!(again.used(Direction::Download, at(90_000)), 300, "the older part has left the window");
}

#[test]
fn logins_are_paced() {
    let budget = Budget::new(limits(), at(0));
    for _ in 0..3 {
        assert_eq!(budget.login(at(0)), Ok(()), "the burst");
    }
    assert_eq!(budget.login(at(0)), Err(Duration::from_secs(10)));
    assert_eq!(budget.login(at(4)), Err(Duration::from_secs(6)));
    assert_eq!(budget.login(at(10)), Ok(()));
    assert_eq!(budget.login(at(5)), Err(Duration::from_secs(10)), "a clock set back");
    assert_eq!(budget.login(at(1000)), Ok(()));
}

#[test]
fn connections_come_back_and_limits_change() {
    let budget = Budget::new(limits(), at(0));
    let (one, two) = (budget.try_connection().unwrap(), budget.try_connection().unwrap());
    assert!(budget.try_connection().is_none());
    budget.set_limits(Limits { connections: 1, ..limits() }, at(1));
    drop(one);
    assert!(budget.try_connection().is_none(), "one is in use, and one is allowed");
    assert_eq!(budget.connections_used(), 1);
    drop(two);
    let one = budget.try_connection().unwrap();
    assert!(budget.try_connection().is_none());
    budget.set_limits(Limits { connections: 3, ..limits() }, at(2));
    let more = (budget.try_connection().unwrap(), budget.try_connection().unwrap());
    assert!(budget.try_connection().is_none());
    assert_eq!(budget.connections_used(), 3);
    drop((one, more));
    assert_eq!(budget.connections_used(), 0);
}
