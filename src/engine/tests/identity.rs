//! Nothing goes whose UID has come to mean another message.

use tokio::time::Instant;

use super::World;
use super::provider::Provider;
use crate::engine::error::Error;
use crate::engine::writes::CopyMode;
use crate::model::{FlagOp, Flags, SystemFlags, UidSet};
use crate::upstream::Class;

#[tokio::test(start_paused = true)]
async fn a_message_with_another_id_is_neither_expunged_nor_moved() {
    for (caps, moves) in [
        ("X-GM-EXT-1 UIDPLUS MOVE", "UID MOVE"),
        ("X-GM-EXT-1 UIDPLUS", "UID COPY"),
        ("OBJECTID UIDPLUS MOVE", "UID MOVE"),
        ("OBJECTID UIDPLUS", "UID COPY"),
    ] {
        for is_same in [true, false] {
            let world = World::new(Provider::offering(caps, true), 2);
            world.provider.deliver("INBOX");
            world.provider.deliver("INBOX");
            world.provider.deliver("b");
            let state = world.account.state(&"INBOX".into()).await.unwrap();
            world.account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
            let (one, two) = (UidSet::parse("1").unwrap(), UidSet::parse("2").unwrap());
            let mark = Flags::new(SystemFlags::DELETED, []);
            world.account.store_flags(&state, &one, FlagOp::Add, &mark, None).await.unwrap();
            if !is_same {
                world.provider.change_ids();
            }
            let moved = world.account.copy(&state, &two, "b", CopyMode::Move).await;
            assert_eq!(world.provider.count(moves), usize::from(is_same), "{caps}: {moved:?}");
            if is_same {
                world.account.expunge(&state, Some(&one)).await.unwrap();
                assert!(world.provider.count("UID EXPUNGE 1") > 0, "{caps}");
                continue;
            }
            assert_eq!(moved, Err(Error::Gone));
            assert!(state.snapshot().dead, "its sessions end");
            assert_eq!(world.account.expunge(&state, Some(&one)).await, Err(Error::Gone));
            assert_eq!(world.provider.count("UID EXPUNGE"), 0, "{caps}");
        }
    }
}
