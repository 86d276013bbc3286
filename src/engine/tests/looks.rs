//! Looks and writes on one mailbox: who waits for whom.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, timeout};

use super::World;
use super::provider::Provider;
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::model::{FlagOp, Flags, SystemFlags, UidSet};
use crate::upstream::Class;

const SECOND: Duration = Duration::from_secs(1);

/// INBOX with a message, in step.
async fn inbox(world: &World) -> Arc<State> {
    world.provider.deliver("INBOX");
    let state = world.account.state(&"INBOX".into()).await.unwrap();
    world.account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
    assert_eq!(state.snapshot().messages.len(), 1);
    settle().await;
    state
}

/// A look in a task of its own.
fn look(account: &Arc<Inner>, state: &Arc<State>, class: Class) -> tokio::task::JoinHandle<Result<(), Error>> {
    let (account, state) = (Arc::clone(account), Arc::clone(state));
    tokio::spawn(async move { account.freshen(&state, Instant::now(), class).await })
}

/// Lets every task run until it waits, and a little time pass.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_does_not_wait_for_a_look_in_the_background_that_waits() {
    let world = World::new(Provider::default(), 2);
    let state = inbox(&world).await;
    // The share of the background is taken, and the other session too.
    let batch = world.pool.lease(Class::Sync, None).await.unwrap();
    let person = world.pool.lease(Class::Interactive, None).await.unwrap();
    let looking = look(&world.account, &state, Class::Sync);
    settle().await;
    drop(person);
    let (uids, seen) = (UidSet::parse("1").unwrap(), Flags::new(SystemFlags::SEEN, []));
    let asked = Instant::now();
    world.account.store_flags(&state, &uids, FlagOp::Add, &seen, None).await.unwrap();
    assert!(asked.elapsed() < SECOND, "{:?}", asked.elapsed());
    assert!(!looking.is_finished(), "the look has its session still to come");
    drop(batch);
    assert_eq!(looking.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_has_the_only_session_gives_it_to_the_holder_of_the_turn() {
    let world = World::new(Provider::default(), 1);
    let state = inbox(&world).await;
    let selects = world.provider.count("SELECT");
    let turn = state.turn.lock().await;
    let looking = look(&world.account, &state, Class::Sync);
    settle().await;
    for _ in 0..3 {
        let asked = Instant::now();
        let lease = world.pool.lease(Class::Interactive, None).await.unwrap();
        assert!(asked.elapsed() < SECOND, "{:?}", asked.elapsed());
        drop(lease);
        settle().await;
    }
    assert_eq!(world.provider.count("SELECT"), selects, "nothing is asked without the turn");
    drop(turn);
    assert_eq!(looking.await.unwrap(), Ok(()));
    assert_eq!(world.provider.count("SELECT"), selects + 1);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_polls_of_a_provider_that_hangs_are_two_looks() {
    let world = World::new(Provider::default(), 2);
    let state = inbox(&world).await;
    let selects = world.provider.count("SELECT");
    world.provider.hold("SELECT");
    let first = look(&world.account, &state, Class::Interactive);
    world.provider.told("SELECT", selects + 1).await;
    let before = world.account.tasks.len();
    let polls = (0..100).map(|_| async {
        // As NOOP does: gives up soon, while the look goes on.
        timeout(SECOND, world.account.freshen(&state, Instant::now(), Class::Interactive)).await
    });
    assert!(join_all(polls).await.iter().all(Result::is_err));
    assert!(world.account.tasks.len() <= before + 1, "{} tasks", world.account.tasks.len());
    // Those who wait to the end are told so together: not one time-out after the other.
    let (asked, waiting) = (Instant::now(), (0..20).map(|_| look(&world.account, &state, Class::Interactive)));
    for outcome in join_all(waiting.collect::<Vec<_>>()).await {
        assert!(matches!(outcome.unwrap(), Err(Error::Unavailable(_))));
    }
    assert!(asked.elapsed() < Duration::from_secs(300), "{:?}", asked.elapsed());
    assert!(first.await.unwrap().is_err());
    assert!(world.provider.count("SELECT") <= selects + 4, "{} times", world.provider.count("SELECT") - selects);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_had_begun_does_not_do() {
    let world = World::new(Provider::default(), 2);
    let state = inbox(&world).await;
    let selects = world.provider.count("SELECT");
    world.provider.hold("SELECT");
    let first = look(&world.account, &state, Class::Interactive);
    world.provider.told("SELECT", selects + 1).await;
    settle().await;
    let later: Vec<_> = (0..5).map(|_| look(&world.account, &state, Class::Interactive)).collect();
    settle().await;
    world.provider.hold("");
    first.await.unwrap().unwrap();
    for look in later {
        look.await.unwrap().unwrap();
    }
    assert_eq!(world.provider.count("SELECT"), selects + 2, "one for the first, one for all others");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_lists_of_a_provider_that_hangs_are_two() {
    let world = World::new(Provider::default(), 2);
    world.account.refresh_folders(Instant::now()).await.unwrap();
    settle().await;
    let lists = world.provider.count("LIST");
    world.provider.hold("LIST");
    let polls = (0..100).map(|_| timeout(SECOND, world.account.refresh_folders(Instant::now())));
    assert!(join_all(polls).await.iter().all(Result::is_err));
    let polls = (0..100).map(|_| timeout(SECOND, world.account.refresh_folders(Instant::now())));
    assert!(join_all(polls).await.iter().all(Result::is_err));
    assert!(world.account.tasks.len() <= 2, "{} tasks", world.account.tasks.len());
    assert!(world.provider.count("LIST") <= lists + 2);
    world.provider.hold("");
    assert!(world.account.refresh_folders(Instant::now()).await.is_ok());
}

/// A server that tells no UIDNEXT (RFC 3501 lets it) is not selected anew for each command, but for what it has not shown yet.
#[tokio::test(start_paused = true)]
async fn without_uidnext_a_session_is_selected_once() {
    let world = World::new(Provider::offering("", false), 2);
    let state = inbox(&world).await;
    let (uids, seen) = (UidSet::parse("1").unwrap(), Flags::new(SystemFlags::SEEN, []));
    let flagged = Flags::new(SystemFlags::FLAGGED, []);
    let selects = world.provider.count("SELECT");
    for flags in [&seen, &flagged, &seen] {
        world.account.store_flags(&state, &uids, FlagOp::Replace, flags, None).await.unwrap();
    }
    assert_eq!(world.provider.count("SELECT"), selects, "the look before has shown all");

    // Another session sees a new message first.
    let parked = world.pool.lease(Class::Interactive, Some("INBOX")).await.unwrap();
    world.provider.deliver("INBOX");
    world.account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
    assert_eq!(state.snapshot().messages.len(), 2);
    let other = world.pool.lease(Class::Interactive, None).await.unwrap();
    drop(parked);
    let selects = world.provider.count("SELECT");
    for flags in [&flagged, &seen] {
        world.account.store_flags(&state, &UidSet::parse("2").unwrap(), FlagOp::Replace, flags, None).await.unwrap();
    }
    assert_eq!(world.provider.count("SELECT"), selects + 1, "it has to look, once");
    drop(other);
}
