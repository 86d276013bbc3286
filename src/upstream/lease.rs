//! A session on loan.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::error::Error;
use super::pool::Shared;
use super::session::Session;
use super::types::{Class, Event};

/// An upstream session on loan; it does what [`Session`] does. Dropping gives it back; a broken one is closed, and a command cut
/// short by a cancelled future breaks it (unless its tagged answer was seen, or it was IDLE).
pub struct Lease {
    pub(super) session: Session,
    pub(super) id: u64,
    pub(super) class: Class,
    pub(super) wanted: watch::Receiver<bool>,
    pub(super) shared: Arc<Shared>,
}

impl Lease {
    /// Whose work it is for.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Resolves when somebody waits whom only this lease can help: the holder then ends what it does at the next good place and
    /// gives back. A Watch lease is wanted by anybody who works, Prefetch by Sync and Interactive, Sync by Interactive.
    pub async fn wanted(&mut self) {
        heard(&mut self.wanted).await;
    }

    /// The same without waiting: whether somebody waits now.
    pub fn is_wanted(&self) -> bool {
        *self.wanted.borrow()
    }

    /// IDLE until something is heard (returned), `wanted` or `end` resolves, the machine has slept, or `renew` is over; then empty. Where IDLE is not offered,
    /// NOOP in intervals of `pace`, which may change meanwhile. May be cancelled at any time where there is IDLE: it is then ended by the
    /// next command. A dead peer is noticed: DONE is sent after `renew`, and its answer must come within the read time-out.
    pub async fn idle(
        &mut self,
        renew: Duration,
        pace: watch::Receiver<Duration>,
        end: impl Future<Output = ()>,
    ) -> Result<Vec<Event>, Error> {
        let mut woken = self.session.gate.woken();
        let wanted = async {
            tokio::select! {
                () = heard(&mut self.wanted) => {}
                () = end => {}
                Ok(()) = woken.changed() => {}
            }
        };
        self.session.idle(renew, pace, wanted).await
    }
}

async fn heard(wanted: &mut watch::Receiver<bool>) {
    if wanted.wait_for(|wanted| *wanted).await.is_err() {
        // The pool has forgotten this lease, which it does only when the lease is dropped: nobody will want it.
        std::future::pending::<()>().await;
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Already taken back, by one who holds the lock.
        if self.session.is_hollow() {
            return;
        }
        let mut session = std::mem::replace(&mut self.session, Session::hollow());
        session.end_of_loan();
        self.shared.returned(self.id, session);
    }
}
