//! How often a provider without IDLE is asked: it follows use.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep};

use super::World;
use super::provider::Provider;
use crate::engine::selected::Mailbox;
use crate::provider::Quirk;

const HOUR: Duration = Duration::from_secs(3600);

async fn select(world: &World, name: &str) -> Mailbox {
    let name = world.account.resolve(name).await.unwrap();
    let state = world.account.in_step(&name).await.unwrap();
    Mailbox::new(Arc::clone(&world.account), state, Arc::default(), None)
}

/// Waits until the mailbox holds so many messages; how long it took.
async fn wait_for(mailbox: &Mailbox, messages: u32) -> Duration {
    let start = Instant::now();
    let mut newest = mailbox.watch();
    newest.wait_for(|snapshot| snapshot.messages.len() == messages).await.unwrap();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn without_idle_it_is_asked_every_few_seconds_only_while_somebody_waits() {
    let world = World::new(Provider::default(), 3);
    for mailbox in ["INBOX", "Work", "Third"] {
        world.provider.deliver(mailbox);
    }
    world.account.spawn_keepers();
    let mut open = Vec::new();
    // INBOX and what was opened last are watched by a session each; what was opened before is not.
    for name in ["Third", "Work", "INBOX"] {
        open.push(select(&world, name).await);
        sleep(Duration::from_secs(1)).await;
    }
    let (noops, asked) = (world.provider.count("NOOP"), world.provider.count(""));
    sleep(HOUR).await;
    let noops = world.provider.count("NOOP") - noops;
    let asked = world.provider.count("") - asked;
    assert!((20..100).contains(&noops), "{noops} NOOPs in an hour for two mailboxes nobody waits on");
    assert!(asked < 400, "{asked} commands in an hour");

    for (mailbox, most) in open.iter().zip([16, 16, 16]) {
        let attending = mailbox.attend();
        sleep(Duration::from_secs(1)).await;
        for more in 1..=5 {
            world.provider.deliver(&mailbox.snapshot().name);
            let took = wait_for(mailbox, 1 + more).await;
            assert!(took <= Duration::from_secs(most), "{}: {took:?}", mailbox.snapshot().name);
        }
        drop(attending);
    }
    let noops = world.provider.count("NOOP");
    sleep(HOUR).await;
    let noops = world.provider.count("NOOP") - noops;
    assert!(noops < 100, "{noops} NOOPs in an hour when nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_contradicts_itself_is_not_asked_without_end() {
    let world = World::new(Provider::default(), 3);
    world.provider.deliver("INBOX");
    world.account.spawn_keepers();
    drop(select(&world, "INBOX").await);
    world.provider.be_restless();
    let before = world.provider.count("SELECT");
    sleep(HOUR).await;
    let asked = world.provider.count("SELECT") - before;
    assert!(asked < 200, "{asked} times in an hour");
}

#[tokio::test(start_paused = true)]
async fn expunges_that_idle_does_not_tell_are_counted_at_a_pace_that_follows_use() {
    let mut world = World::new(Provider::offering("IDLE", true), 3);
    Arc::get_mut(&mut world.account).unwrap().options.quirks = vec![Quirk::ExpungeNotPushed];
    (0..10).for_each(|_| world.provider.deliver("INBOX"));
    world.account.spawn_keepers();
    let inbox = select(&world, "INBOX").await;
    world.provider.told("IDLE", 1).await;
    world.provider.expunge("INBOX");
    let took = wait_for(&inbox, 9).await;
    assert!(took <= Duration::from_secs(301), "nobody waits for it: {took:?}");

    let attending = inbox.attend();
    for left in (5..9).rev() {
        world.provider.expunge("INBOX");
        let took = wait_for(&inbox, left).await;
        assert!(took <= Duration::from_secs(16), "{took:?}");
    }
    let (asked, fetched) = (world.provider.count(""), world.provider.count("UID FETCH"));
    sleep(HOUR).await;
    let (asked, fetched) = (world.provider.count("") - asked, world.provider.count("UID FETCH") - fetched);
    assert!(asked < 1000 && fetched < 30, "{asked} commands and {fetched} full looks in an hour while somebody waits");

    drop(attending);
    let asked = world.provider.count("");
    sleep(HOUR).await;
    let asked = world.provider.count("") - asked;
    assert!(asked < 150, "{asked} commands in an hour when nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_of_the_machine_everything_is_looked_at_at_once() {
    let world = World::new(Provider::offering("IDLE", true), 3);
    for mailbox in ["INBOX", "Work", "Third"] {
        world.provider.deliver(mailbox);
    }
    world.account.spawn_keepers();
    let mut open = Vec::new();
    for name in ["Third", "Work", "INBOX"] {
        open.push(select(&world, name).await);
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(30)).await;
    // The connections died of it, and nothing says so: by the clock that stood still they were used moments ago.
    world.provider.die_silently();
    for mailbox in &open {
        world.provider.deliver(&mailbox.snapshot().name);
    }
    let slept = Instant::now();
    world.account.woke(HOUR);
    assert!(world.account.last_seen.lock().unwrap().is_none_or(|seen| seen.elapsed() >= HOUR));
    for mailbox in &open {
        wait_for(mailbox, 2).await;
        let name = &mailbox.snapshot().name;
        assert!(slept.elapsed() <= Duration::from_secs(15), "{name}: {:?}", slept.elapsed());
    }
    // And what comes from now on is pushed again.
    world.provider.deliver("INBOX");
    let took = wait_for(&open[2], 3).await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
}
