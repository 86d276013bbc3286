use std::sync::Arc;

use futures_util::FutureExt;

use super::saving::{COVER_WAIT, END_LEAD, HOPELESS_FOR, LEAD_LEAST, LEAD_MOST, SAVE_EVERY};
use super::*;
use crate::engine::Allowance;
use crate::metrics::Metrics;
use crate::net::Way;
use crate::upstream::{self, Class, Meter, Permits};

fn spending(state: &State, download: Option<u64>) -> Spending {
    let limits = config::Limits { connections: 2, download_per_day: download, ..config::Limits::default() };
    Spending::load("Ann@Example.org", &limits, Metrics::default().account("ann"), state).unwrap()
}

/// How much may cross now.
fn room(spending: &Spending, way: Way) -> u64 {
    let held = spending.hold(way, u64::MAX);
    spending.release(way, held);
    held
}

#[tokio::test(start_paused = true)]
async fn the_count_on_disk_is_ahead_of_what_was_spent() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    // What a crash now would leave to be counted.
    let kept = |direction| -> u64 {
        let entries = state.load_ledger("ann@example.org", Counted::Bytes(direction)).unwrap();
        entries.iter().map(|entry| entry.bytes).sum()
    };
    let first = Arc::new(spending(&state, Some(1_000_000)));
    assert_eq!(kept(Direction::Download), LEAD_LEAST);
    assert!(room(&first, Way::In) == LEAD_LEAST && !first.is_save_due(), "nothing was spent");
    first.received(8000);
    assert!(first.save_wanted().now_or_never().is_none());
    first.received(1000);
    assert!(first.save_wanted().now_or_never().is_some(), "half of the lead is used");
    assert_eq!(room(&first, Way::In), LEAD_LEAST - 9000);
    first.received(LEAD_LEAST - 9000);
    assert_eq!(
        (first.hold(Way::In, 10), kept(Direction::Download)),
        (0, LEAD_LEAST),
        "nothing crosses that is not covered"
    );
    let mut waiting = Arc::clone(&first).room(Way::In);
    assert!(waiting.as_mut().now_or_never().is_none());
    first.save(&state).unwrap();
    waiting.await;
    assert_eq!(kept(Direction::Download), LEAD_LEAST + 20_000, "a fast line, and a fiftieth of a small limit");
    // A promise is covered before it is asked for.
    let grant = Allowance::download(&*first, 100_000, Class::Interactive).unwrap();
    assert_eq!((first.hold(Way::In, 1), first.hold(Way::Out, 1)), (0, 0));
    first.save(&state).unwrap();
    assert_eq!(kept(Direction::Download), LEAD_LEAST + 100_000 + LEAD_LEAST);
    assert!(room(&first, Way::Out) > 0);
    drop(grant);
    first.sent(7);
    tokio::time::advance(SAVE_EVERY).await;
    assert!(first.is_save_due(), "time has passed");
    first.save(&state).unwrap();
    assert!(!first.is_save_due());
    // After a crash all of it counts; after an end in order what was spent, and a little.
    let again = spending(&state, Some(1_000_000));
    assert_eq!(again.used(Direction::Download), (2 * LEAD_LEAST, Some(1_000_000)));
    first.save_end(&state).unwrap();
    assert_eq!(room(&first, Way::In), END_LEAD, "no more crosses after the end than is counted");
    first.save(&state).unwrap();
    let again = spending(&state, Some(1_000_000));
    assert_eq!(again.used(Direction::Download), (LEAD_LEAST + END_LEAD, Some(1_000_000)));
    assert_eq!(again.used(Direction::Upload), (7, None));
    first.begin();
    assert!(first.save_wanted().now_or_never().is_some());
    first.save(&state).unwrap();
    assert!(room(&first, Way::In) > 0);
}

/// Ten thousand reads below the threshold are one wake of the keeper, and none that comes after a save is lost.
#[tokio::test(start_paused = true)]
async fn the_keeper_is_woken_once() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let spending = spending(&state, None);
    let is_woken = || spending.save.notified().now_or_never().is_some();
    spending.received(LEAD_LEAST / 2);
    assert!(!is_woken());
    for n in 0..10_000 {
        spending.received(1);
        assert_eq!(is_woken(), n == 0, "read {n}");
    }
    spending.sent(LEAD_LEAST - 1);
    assert!(!is_woken(), "it is asked for already");
    spending.save(&state).unwrap();
    assert!(!is_woken());
    // Asked for again as soon as that is used, and while nobody has begun to save only once.
    let room = room(&spending, Way::In);
    spending.received(room / 2 + 1);
    assert!(is_woken());
    // A keeper that looks and finds it done asks to be told of the next.
    spending.save.notify_one();
    spending.save(&state).unwrap();
    assert!(spending.save_wanted().now_or_never().is_none());
    spending.received(self::room(&spending, Way::In));
    assert!(spending.save_wanted().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_lead_is_what_crosses_in_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let spending = spending(&state, None);
    // Octets since the last save, milliseconds since it, and the lead that follows.
    let table = [
        (10_000, 1, LEAD_MOST),
        (100_000, 500, 200_000),
        (400_000, 500, 800_000),
        (30_000, 100, 300_000),
        (1000, 1000, LEAD_LEAST),
        (0, 1000, LEAD_LEAST),
    ];
    for (octets, millis, lead) in table {
        spending.received(octets);
        tokio::time::advance(Duration::from_millis(millis)).await;
        spending.save(&state).unwrap();
        assert_eq!(room(&spending, Way::In), lead, "{octets} in {millis} ms");
    }
    // A long one is not left standing when the line is quiet.
    spending.received(200_000);
    spending.save(&state).unwrap();
    assert_eq!(room(&spending, Way::In), LEAD_MOST);
    assert!(!spending.is_save_due());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(spending.is_save_due());
    spending.save(&state).unwrap();
    assert_eq!(room(&spending, Way::In), LEAD_LEAST);
    tokio::time::advance(SAVE_EVERY * 10).await;
    assert!(!spending.is_save_due(), "nothing was spent");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_waited_for_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let spending = Arc::new(spending(&state, None));
    spending.received(LEAD_MOST * 2);
    let start = Instant::now();
    Arc::clone(&spending).room(Way::In).await;
    assert_eq!(start.elapsed(), COVER_WAIT);
    assert!(room(&spending, Way::In) > 0, "not again for a while");
    tokio::time::advance(HOPELESS_FOR).await;
    assert_eq!(room(&spending, Way::In), 0);
    spending.save(&state).unwrap();
    assert!(room(&spending, Way::In) > 0);
}

#[tokio::test]
async fn what_the_provider_bears_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let first = spending(&state, None);
    assert_eq!(first.lowered_before(), None);
    Permits::lowered(&first, Some(1));
    assert!(first.is_save_due());
    first.save(&state).unwrap();
    assert!(!first.is_save_due());
    let again = spending(&state, None);
    assert_eq!(again.lowered_before(), Some(1));
    Permits::lowered(&again, None);
    again.save(&state).unwrap();
    assert_eq!(spending(&state, None).lowered_before(), None);
}

#[tokio::test]
async fn when_all_is_spent_nothing_is_opened_and_nothing_said() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let spending = spending(&state, Some(100_000));
    assert!(spending.connection().is_ok() && spending.command().is_ok() && spending.notice().is_none());
    spending.received(99_900);
    for refused in [spending.connection().err(), spending.command().err()] {
        let Some(upstream::Error::Budget(words)) = refused else { panic!("all is spent") };
        assert!(words.contains("100.0 kB in 24 hours") && words.contains(" UTC"), "{words}");
    }
    assert!(spending.notice().is_some_and(|words| words.contains("opens again in")));
    assert!(spending.is_slow());
}

#[tokio::test]
async fn who_is_refused_is_told_when_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let spending = spending(&state, Some(100_000));
    assert!(spending.download(50_000, Class::Prefetch).is_ok());
    assert!(matches!(spending.download(50_001, Class::Prefetch), Err(Error::Limit(_))));
    assert!(matches!(spending.download(90_001, Class::Bulk), Err(Error::Limit(_))));
    let held = spending.download(99_000, Class::Interactive).unwrap();
    assert!(matches!(spending.download(1, Class::Interactive), Err(Error::Limit(_))));
    drop(held);
    spending.received(60_000);
    let Err(Error::Limit(words)) = spending.download(50_000, Class::Interactive) else { panic!("above the limit") };
    assert!(words.contains("100.0 kB in 24 hours") && words.contains(" h ") && words.contains(" UTC"), "{words}");
    assert!(spending.upload(u64::MAX / 2).is_ok(), "not limited");
    spending.set_limits(&config::Limits { connections: 1, upload_per_day: Some(10), ..config::Limits::default() });
    assert!(spending.download(50_000, Class::Interactive).is_ok());
    assert!(spending.upload(11).is_err());
}

#[tokio::test(start_paused = true)]
async fn three_logins_take_a_second_and_a_storm_is_slowed() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let spending = spending(&state, None);
    let start = Instant::now();
    for _ in 0..3 {
        Permits::login(&spending).await;
    }
    assert!(start.elapsed() <= Duration::from_secs(1));
    let permits = (spending.connection().unwrap(), spending.connection().unwrap());
    assert!(matches!(spending.connection(), Err(upstream::Error::Budget(_))));
    drop(permits);
    assert!(spending.connection().is_ok());
}
