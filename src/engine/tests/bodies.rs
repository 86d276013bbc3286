//! Reading when something breaks off.

use std::sync::Arc;

use tokio::time::{Duration, Instant, timeout};

use super::World;
use super::provider::Provider;
use crate::engine::bodies::BodyReads;
use crate::engine::error::Error;
use crate::engine::summaries::Want;
use crate::model::Uid;
use crate::upstream::Class;

/// Left out, they would look expunged to the client.
#[tokio::test(start_paused = true)]
async fn messages_of_a_batch_that_panicked_are_errors() {
    let world = World::new(Provider::default(), 2);
    let state = world.account.state(&"INBOX".into()).await.unwrap();
    let mut reads = BodyReads::new(Arc::clone(&world.account), state, vec![Uid(9)]);
    reads.break_ahead(vec![Uid(1), Uid(2)]);
    let mut told = Vec::new();
    while let Some((uid, body)) = reads.next().await {
        told.push((uid.0, body.err()));
    }
    let broken = || Some(Error::Internal("An internal error; see the log".into()));
    assert_eq!(told, [(1, broken()), (2, broken()), (9, Some(Error::Expunged))]);
}

/// A client that goes away in the middle of a FETCH does not cost a login.
#[tokio::test(start_paused = true)]
async fn a_session_outlives_a_reader_that_went_away() {
    let world = World::new(Provider::default(), 1);
    world.provider.deliver("INBOX");
    let state = world.account.state(&"INBOX".into()).await.unwrap();
    world.account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
    world.provider.hold("UID FETCH 1 (UID BODY.PEEK");
    let want = Want { header: true, ..Want::default() };
    let gone = timeout(Duration::from_secs(1), world.account.summaries(&state, &[Uid(1)], want)).await;
    assert!(gone.is_err());
    assert_eq!(world.provider.count("UID FETCH 1 (UID BODY.PEEK"), 1);
    world.provider.hold("");
    world.account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
    assert_eq!(world.provider.count("AUTHENTICATE"), 1);
    state.stored().await;
    assert_eq!(world.account.tasks.len(), 0, "but for the store's");
}
