//! A provider that answers for a limited number of messages at once, and what others expunge there.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::World;
use super::provider::Provider;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::model::{FlagOp, Flags, SystemFlags, Uid, UidSet};
use crate::provider::Quirk;
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
        assert!(snapshot.messages.get(Uid(uid)).is_none(), "{uid} is a ghost");
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

/// Everybody's message has the text, and each answer is cut off at 1000.
#[tokio::test(start_paused = true)]
async fn a_search_for_text_is_whole_where_an_answer_is_cut_off() {
    let world = World::with_quirks(limited(), 2, &[Quirk::SearchUnreliable]);
    for _ in 0..MESSAGES {
        world.provider.deliver("INBOX");
    }
    let state = world.account.state(&"INBOX".into()).await.unwrap();
    look(&world, &state).await;
    let within = UidSet::parse("3:2400").unwrap();
    let found = world.account.search_text(&state, &within, b"text", false).await.unwrap();
    assert_eq!(found.to_string(), "3:2400");
    assert_eq!(world.provider.count("UID SEARCH"), 5);
}

const WINDOW: u32 = 200;

/// As at Yahoo: SELECT shows the newest messages, STATUS counts all.
async fn windowed(messages: u32) -> (World, Arc<State>) {
    let provider = Provider::showing(WINDOW as usize);
    let world = World::with_quirks(provider, 2, &[Quirk::SelectShowsNewestOnly, Quirk::SearchUnreliable]);
    assert_eq!(world.account.options.window, WINDOW);
    for _ in 0..messages {
        world.provider.deliver("INBOX");
    }
    let state = world.account.state(&"INBOX".into()).await.unwrap();
    look(&world, &state).await;
    (world, state)
}

fn uids(state: &State) -> String {
    state.snapshot().messages.uids().to_string()
}

#[tokio::test(start_paused = true)]
async fn what_falls_out_of_the_window_is_not_expunged() {
    let (world, state) = windowed(250).await;
    assert_eq!(uids(&state), "51:250");
    for _ in 0..30 {
        world.provider.deliver("INBOX");
    }
    look(&world, &state).await;
    assert_eq!(uids(&state), "51:280", "the oldest thirty fell out, and are kept");
    assert_eq!(state.hidden(&UidSet::parse("1:100").unwrap()).to_string(), "1:80");
    // Deleted elsewhere, and seen: what is shown then reaches further back, and the count is the same.
    world.provider.remove("INBOX", 200);
    look(&world, &state).await;
    assert_eq!(uids(&state), "51:199,201:280");
    assert!(state.is_hidden(Uid(79)) && !state.is_hidden(Uid(80)));
    // In step: nothing is listed again, new mail or not.
    let listed = world.provider.count("UID FETCH 1:* (UID)");
    world.provider.deliver("INBOX");
    look(&world, &state).await;
    look(&world, &state).await;
    assert_eq!(world.provider.count("UID FETCH 1:* (UID)"), listed);
    assert_eq!(uids(&state), "51:199,201:281");
}

#[tokio::test(start_paused = true)]
async fn what_is_hidden_is_neither_asked_for_nor_changed() {
    let (world, state) = windowed(WINDOW).await;
    world.provider.deliver("INBOX");
    look(&world, &state).await;
    assert_eq!(uids(&state), "1:201");
    let seen = Flags::new(SystemFlags::SEEN, []);
    let all = UidSet::parse("1:201").unwrap();
    let refused = world.account.store_flags(&state, &all, FlagOp::Add, &seen, None).await.unwrap_err();
    assert!(matches!(refused, Error::Cannot(_)), "{refused}");
    let has = |uid| state.snapshot().messages.get(Uid(uid)).unwrap().flags.has(SystemFlags::SEEN);
    assert!(!has(1) && has(2) && has(201), "the others are");
    let one = UidSet::parse("1").unwrap();
    let mode = crate::engine::CopyMode::Copy;
    assert!(matches!(world.account.copy(&state, &one, "INBOX", mode).await, Err(Error::Cannot(_))));
    let fetches = world.provider.count("UID FETCH 1 ");
    for (_, flight) in world.account.fly(&state, &[Uid(1)], Class::Interactive) {
        assert!(matches!(flight.ended().await, Err(Error::Cannot(_))));
    }
    assert_eq!(world.provider.count("UID FETCH 1 "), fetches);
    assert!(matches!(world.account.search_text(&state, &all, b"x", false).await, Err(Error::Cannot(_))));
}

#[tokio::test(start_paused = true)]
async fn where_all_is_shown_the_oldest_may_be_expunged() {
    let (world, state) = windowed(WINDOW - 50).await;
    for gone in 1..=3 {
        world.provider.remove("INBOX", gone);
        look(&world, &state).await;
        assert_eq!(uids(&state), format!("{}:150", gone + 1));
    }
    // Emptied elsewhere.
    for uid in 4..=150 {
        world.provider.remove("INBOX", uid);
    }
    look(&world, &state).await;
    assert_eq!(uids(&state), "");
}
