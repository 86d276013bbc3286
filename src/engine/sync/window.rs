//! A provider that shows the newest part of a mailbox only (Yahoo: 10,000 messages), while STATUS counts all.
//!
//! When new mail comes the oldest falls out, and its session is told so by EXPUNGE: nothing tells it from a message that was really expunged.
//! Told to mail programs, a two-way mbsync would delete its copy. So what lies below the lowest UID shown stays in the mirror, and is served
//! as far as it is cached, unless it is certain that upstream shows all there is: STATUS before the SELECT counted just as many, and no
//! mail came in between, or fewer than half of what it would show are there. The price: a message deleted elsewhere after it fell out stays in the mirror. Upstream cannot be asked for
//! such messages, nor to change them.

use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::{State, Turn};
use crate::engine::snapshot::Snapshot;
use crate::model::Uid;
use crate::provider::Quirk;
use crate::upstream::{self, Lease, Selected};

/// Messages that Yahoo shows of a mailbox.
pub const YAHOO: u32 = 10_000;

/// What STATUS counted just before a SELECT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Total {
    messages: u32,
    uid_next: Uid,
}

/// Of which UIDs upstream's count speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Of all from this one on; those below are none of its business.
    From(Uid),
    /// Not known: nothing is to be concluded from the count.
    Unknown,
}

impl Inner {
    /// Asks how many messages there are in all, where SELECT may show fewer.
    pub(super) async fn count_all(
        &self,
        lease: &mut Lease,
        state: &State,
        turn: &mut Turn,
    ) -> Result<(), upstream::Error> {
        turn.total = None;
        if !self.options.has(Quirk::SelectShowsNewestOnly) || !turn.complete {
            return Ok(());
        }
        turn.total = match lease.status(&state.name).await {
            Ok(line) => line.messages.zip(line.uid_next).map(|(messages, uid_next)| Total { messages, uid_next }),
            // The SELECT will say what is wrong.
            Err(upstream::Error::No { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// From which UID on upstream shows this mailbox, and notes what it hides.
    pub(super) async fn shown(
        &self,
        lease: &mut Lease,
        state: &State,
        turn: &Turn,
        selected: &Selected,
        old: &Snapshot,
    ) -> Result<Shown, upstream::Error> {
        if !self.options.has(Quirk::SelectShowsNewestOnly) {
            return Ok(Shown::From(Uid(1)));
        }
        // At the window's size there may always be more, whatever STATUS says; nobody deletes half a window between two looks.
        let is_counted = turn.total.is_some_and(|total| {
            total.messages == selected.exists && total.uid_next == selected.uid_next && selected.uid_next != Uid(0)
        });
        let window = self.options.window;
        if selected.exists < window / 2 || (selected.exists < window && is_counted) {
            state.set_shown_from(Uid(0));
            return Ok(Shown::From(Uid(1)));
        }
        let Some(lowest) = lease.lowest_uid().await? else { return Ok(Shown::Unknown) };
        let hides = old.messages.lower_bound(lowest) > 0;
        state.set_shown_from(if hides { lowest } else { Uid(0) });
        Ok(Shown::From(lowest))
    }
}

/// What whoever asks for a message is told that upstream does not show any more.
pub(crate) fn hidden() -> Error {
    Error::Cannot(
        "The provider shows only the newest messages of this mailbox to mail programs, and this one is too old; it is there on its website"
            .into(),
    )
}
