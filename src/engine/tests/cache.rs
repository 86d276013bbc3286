//! A store that fails while the account serves.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep};

use super::World;
use super::provider::Provider;
use crate::engine::mailbox::State;
use crate::model::{FlagOp, Flags, SystemFlags, UidSet};
use crate::upstream::Class;

/// The mailbox, in step.
async fn open(world: &World, name: &str) -> Arc<State> {
    let state = world.account.state(&name.into()).await.unwrap();
    world.account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
    state
}

/// What the store has of a mailbox: its record's count, its messages' flags, and whether all of it is there.
async fn stored(world: &World, state: &Arc<State>) -> Option<Vec<String>> {
    let (id, name) = (state.id(), state.name.to_string());
    let found = world.account.disk(move |store| {
        let record = store.mailboxes()?.into_iter().find(|(known, _)| *known == id).map(|(_, record)| record);
        Ok((record, store.load(id)?))
    });
    let (record, messages) = found.await.ok()?;
    let whole = record.is_some_and(|record| {
        record.name == name && record.uid_validity.0 == 7 && record.exists as usize == messages.len()
    });
    whole.then(|| messages.iter().map(|message| message.flags.to_string()).collect())
}

async fn it_fails_and_is_mended(corrupt: bool) {
    let world = World::new(Provider::default(), 2);
    for mailbox in ["INBOX", "Work", "Work", "New"] {
        world.provider.deliver(mailbox);
    }
    let (inbox, work) = (open(&world, "INBOX").await, open(&world, "Work").await);
    let ids = (inbox.id(), work.id());
    let key = inbox.body_key(&inbox.snapshot(), crate::model::Uid(1));
    world.account.disk(move |store| store.put_body(key, b"Subject: a\r\n\r\nb\r\n")).await.unwrap();
    world.account.spawn_keeper(|account| async move { account.mend_cache().await });

    // A slow reader keeps the old database open, so that a while passes without one.
    let reader = world.account.disk(|store| Ok(store.clone())).await.unwrap();
    assert!(world.account.disk(move |store| Err::<(), _>(store.break_down(corrupt))).await.is_err());
    while world.account.disk.cache.is_open() {
        sleep(Duration::from_millis(1)).await;
    }
    let seen = Flags::new(SystemFlags::SEEN, []);
    world.account.store_flags(&inbox, &UidSet::parse("1").unwrap(), FlagOp::Add, &seen, None).await.unwrap();
    let new = open(&world, "New").await;
    assert_eq!((inbox.snapshot().messages.len(), new.snapshot().messages.len()), (1, 1), "served meanwhile");
    assert!(new.id().is_transient() && !world.account.disk.cache.is_open());
    drop(reader);

    let deadline = Instant::now() + Duration::from_secs(3600);
    let mut have = (None, None, None);
    while have != (Some(vec!["\\Seen".into()]), Some(vec![String::new(); 2]), Some(vec![String::new()])) {
        assert!(Instant::now() < deadline, "{have:?}");
        sleep(Duration::from_secs(1)).await;
        have = (stored(&world, &inbox).await, stored(&world, &work).await, stored(&world, &new).await);
    }
    // Under the ids they have in use, and the new one under none that was ever given out.
    assert_eq!((inbox.id(), work.id()), ids);
    assert_eq!(BTreeSet::from([ids.0, ids.1, new.id()]).len(), 3);
    assert!(!new.id().is_transient() && new.id() > ids.0.max(ids.1));
    let (body, findings) = world.account.disk(move |store| Ok((store.body(key)?, store.check()?))).await.unwrap();
    // A new database knows no bodies; one that was not to blame still has this.
    assert_eq!(body.as_deref(), (!corrupt).then_some(&b"Subject: a\r\n\r\nb\r\n"[..]));
    assert_eq!(findings, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_store_found_corrupt_is_set_aside_and_made_anew() {
    it_fails_and_is_mended(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panicked_is_opened_again() {
    it_fails_and_is_mended(false).await;
}
