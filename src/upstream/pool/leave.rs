//! Sessions leave a mailbox that is no longer what they have selected.
//!
//! After RENAME of INBOX its name means a new mailbox. A session that had it selected goes on with the one that was renamed, and Dovecot
//! answers APPEND and STATUS of the name over such a session with NO "deleted under us", for as long as the session lives.

use std::sync::Arc;

use tokio::time::timeout;

use super::{Coming, Pool, Session, Shared, State};
use crate::upstream::session::CHECK_TIMEOUT;

impl Pool {
    /// Every session that has `mailbox` selected leaves it before it is lent again: what is parked at once, what is lent when it comes
    /// back. Who watches is asked to give way.
    pub fn leave(&self, mailbox: &str) {
        let mut state = self.shared.lock();
        let has_it = |session: &mut Session| session.selected().is_some_and(|(name, _)| name == mailbox);
        let parked: Vec<Session> = state.parked.extract_if(.., has_it).collect();
        for session in parked {
            self.shared.go_out(&mut state, session);
        }
        for lease in &mut state.leased {
            lease.leave = Some(mailbox.to_owned());
        }
        self.shared.pump(&mut state);
    }
}

impl Shared {
    /// Takes a session out of its mailbox, and back when that is done. It counts as coming meanwhile.
    pub(super) fn go_out(self: &Arc<Self>, state: &mut State, mut session: Session) {
        state.coming += 1;
        let coming = Coming { shared: Arc::clone(self) };
        self.runtime.spawn(async move {
            if timeout(CHECK_TIMEOUT, session.close_mailbox()).await.is_err() {
                session.close("it did not leave a mailbox in time");
            }
            let mut state = coming.shared.lock();
            coming.shared.give_back(&mut state, session);
            drop(state);
            drop(coming);
        });
    }
}
