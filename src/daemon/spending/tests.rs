use futures_util::FutureExt;

use super::saving::{COVER_WAIT, HOPELESS_FOR, LEAD_MOST, SAVE_EVERY};
use super::*;
use crate::engine::Allowance;
use crate::metrics::Metrics;
use crate::upstream::{self, Class, Meter, Permits};

fn spending(state: &State, download: Option<u64>) -> Spending {
    let limits = config::Limits { connections: 2, download_per_day: download, ..config::Limits::default() };
    Spending::load("Ann@Example.org", &limits, Metrics::default().account("ann"), state).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_count_on_disk_is_ahead_of_what_was_spent() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    // What a crash now would leave to be counted.
    let kept = |direction| -> u64 {
        let entries = state.load_ledger("ann@example.org", direction).unwrap();
        entries.iter().map(|entry| entry.bytes).sum()
    };
    let first = spending(&state, Some(1_000_000));
    let lead = kept(Direction::Download);
    assert_eq!(lead, 20_000, "a fiftieth of the limit");
    assert!(first.is_covered() && !first.is_save_due(), "nothing was spent");
    first.received(9000);
    assert!(first.is_covered() && first.save_wanted().now_or_never().is_none());
    first.received(2000);
    assert!(first.is_covered() && first.save_wanted().now_or_never().is_some(), "half of the lead is used");
    first.received(9000);
    assert!(!first.is_covered(), "and now nearly all");
    assert!(kept(Direction::Download) >= 20_000);
    let mut waiting = std::pin::pin!(first.covered());
    assert!(waiting.as_mut().now_or_never().is_none());
    first.save(&state).unwrap();
    first.covered().await;
    assert_eq!(kept(Direction::Download), 40_000);
    // A promise is covered before it is used.
    let grant = Allowance::download(&first, 100_000, Class::Interactive).unwrap();
    assert!(!first.is_covered());
    first.save(&state).unwrap();
    assert_eq!(kept(Direction::Download), 140_000);
    drop(grant);
    first.sent(7);
    tokio::time::advance(SAVE_EVERY).await;
    assert!(first.is_save_due(), "time has passed");
    first.save(&state).unwrap();
    assert!(!first.is_save_due());
    // After a crash all of it counts; after an end in order what was spent.
    let again = spending(&state, Some(1_000_000));
    assert_eq!(again.used(Direction::Download), (40_000, Some(1_000_000)));
    first.save_end(&state).unwrap();
    let again = spending(&state, Some(1_000_000));
    assert_eq!(again.used(Direction::Download), (20_000, Some(1_000_000)));
    assert_eq!(again.used(Direction::Upload), (7, None));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_waited_for_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let spending = spending(&state, None);
    spending.received(LEAD_MOST * 2);
    let start = Instant::now();
    spending.covered().await;
    assert_eq!(start.elapsed(), COVER_WAIT);
    assert!(spending.is_covered(), "not again for a while");
    tokio::time::advance(HOPELESS_FOR).await;
    assert!(!spending.is_covered());
    spending.save(&state).unwrap();
    assert!(spending.is_covered());
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
