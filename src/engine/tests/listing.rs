//! A provider that answers for a limited number of messages at once, and what others expunge there.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::World;
use super::provider::Provider;
use crate::engine::mailbox::State;
use crate::upstream::Class;

const MESSAGES: u32 = 2500;

/// As Yahoo says it, and does: a SEARCH is cut off as well, without a word.
fn limited() -> Provider {
    Provider::answering_for(1000, "MESSAGELIMIT=1000")
}

async fn look(world: &World, state: &Arc<State>) {
    // Another moment than that of the look before.
    tokio::time::advance(Duration::from_millis(1)).await;
    world.account.freshen(state, Instant::now(), Class::Interactive).await.unwrap();
}

async fn inbox(provider: Provider) -> (World, Arc<State>) {
    let world = World::new(provider, 2);
    for _ in 0..MESSAGES {
        world.provider.deliver("INBOX");
    }
    let state = world.account.state(&"INBOX".into()).await.unwrap();
    look(&world, &state).await;
    assert_eq!(state.snapshot().messages.len(), MESSAGES, "everything was read");
    (world, state)
}

#[tokio::test(start_paused = true)]
async fn what_others_expunge_is_seen_where_a_search_is_cut_off() {
    let (world, state) = inbox(limited()).await;
    for uid in [7, 1500, 2500] {
        world.provider.remove("INBOX", uid);
        look(&world, &state).await;
        let snapshot = state.snapshot();
        assert!(snapshot.messages.get(crate::model::Uid(uid)).is_none(), "{uid} is a ghost");
    }
    assert_eq!(state.snapshot().messages.len(), MESSAGES - 3);
    // Much that is new at once, and something gone beside it.
    for _ in 0..1700 {
        world.provider.deliver("INBOX");
    }
    world.provider.remove("INBOX", 8);
    look(&world, &state).await;
    assert_eq!(state.snapshot().messages.len(), MESSAGES - 4 + 1700);
    let searches = world.provider.count("UID SEARCH");
    look(&world, &state).await;
    assert_eq!(world.provider.count("UID SEARCH"), searches, "in step, and nothing is listed");
}

/// Nothing is expunged on the word of a server that contradicts its own count, and it is not asked for its list again and again.
#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_believed_is_not_and_is_not_asked_for_at_every_look() {
    // Cut off, and not a word of it anywhere.
    let (world, state) = inbox(Provider::answering_for(5000, "")).await;
    for _ in 0..3000 {
        world.provider.deliver("INBOX");
    }
    look(&world, &state).await;
    world.provider.remove("INBOX", 7);
    let asked = || world.provider.count("UID SEARCH") + world.provider.count("UID FETCH 1:* (UID)");
    let before = asked();
    for _ in 0..5 {
        look(&world, &state).await;
    }
    assert_eq!(asked() - before, 2);
    assert_eq!(state.snapshot().messages.len(), MESSAGES + 3000, "nobody knows which one is gone");
    tokio::time::advance(Duration::from_secs(601)).await;
    look(&world, &state).await;
    assert_eq!(asked() - before, 4, "asked once more");
    world.provider.deliver("INBOX");
    look(&world, &state).await;
    assert_eq!(asked() - before, 6, "another count is another matter");
}
