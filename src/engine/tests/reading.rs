//! The first reading of a large mailbox: part after part, the newest first, gone on with where it was cut, and with its progress told.

use std::sync::Arc;

use tokio::time::Instant;

use super::World;
use super::provider::Provider;
use crate::upstream::Class;

const MESSAGES: u32 = 12_500;

#[tokio::test(start_paused = true)]
async fn a_line_that_breaks_costs_a_part_and_not_the_whole() {
    let world = World::new(Provider::default(), 2);
    for _ in 0..MESSAGES {
        world.provider.deliver("INBOX");
    }
    let name = world.account.resolve("INBOX").await.unwrap();
    let state = world.account.state(&name).await.unwrap();
    world.provider.hold("UID FETCH 2501:7500");
    world.provider.die_at("UID FETCH", 3);
    let (account, looked) = (Arc::clone(&world.account), Arc::clone(&state));
    let looking = tokio::spawn(async move { account.freshen(&looked, Instant::now(), Class::Interactive).await });
    world.provider.told("UID FETCH 2501:7500", 1).await;
    let told = world.account.readings.all();
    assert_eq!(told.len(), 1);
    assert_eq!((&*told[0].mailbox, told[0].messages, told[0].of), (&*name, 5000, u64::from(MESSAGES)));
    assert!(!state.is_known(), "a part is no mailbox: numbers would shift when the rest comes");
    world.provider.hold("");
    looking.await.unwrap().unwrap();
    assert_eq!(state.snapshot().messages.len(), MESSAGES);
    assert_eq!(state.snapshot().messages.uids().len(), u64::from(MESSAGES));
    let asked = |set: &str| world.provider.count(&format!("UID FETCH {set} "));
    assert_eq!([asked("7501:*"), asked("2501:7500"), asked("1:2500")], [1, 1, 2], "what was read is not read again");
    // What changed between the two attempts was asked for, and is.
    assert_eq!(asked("1:*"), 1);
    assert_eq!(world.account.readings.all(), []);
}
