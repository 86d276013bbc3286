//! Reading bodies when something of ours breaks.

use std::sync::Arc;

use super::World;
use super::provider::Provider;
use crate::engine::bodies::BodyReads;
use crate::engine::error::Error;
use crate::model::Uid;

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
