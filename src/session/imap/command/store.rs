//! STORE and UID STORE. RFC 3501 §6.4.6, RFC 7162 §3.1.3 (UNCHANGEDSINCE).

use super::select::present;
use crate::model::UidSet;
use crate::session::backend::Mailbox as _;
use crate::session::imap::Login;
use crate::session::imap::reply::Reply;
use crate::session::imap::state::{Failure, Session, Telling};
use crate::session::imap::view::Stored;
use crate::wire::imap::command::Store;

impl<L: Login> Session<L> {
    pub(crate) async fn store(&mut self, store: Store) -> Result<Reply, Failure> {
        let Store { numbers, op, silent, flags, unchanged_since } = store;
        self.selected_for_change()?;
        self.ready_to_change(numbers.uid.then_some(&numbers.set)).await?;
        let (_, selected) = self.selected_for_change()?;
        let Ok(asked) = selected.view.resolve(&numbers, &selected.saved) else { return Ok(super::bad_number("STORE")) };
        if unchanged_since.is_some() {
            self.enable_condstore();
        }
        let (io, selected) = self.selected_for_change()?;
        let mailbox = selected.mailbox.clone();
        let asked = present(selected.view.messages(), &asked);
        // Those that are gone already and not told yet take no part; what is left is stored all the same (RFC 2180 §4.2).
        let there = present(&mailbox.snapshot().messages, &asked);
        let some_gone = there != asked;
        let failed = if there.is_empty() {
            UidSet::new()
        } else {
            io.wait(mailbox.store(&there, op, &flags, unchanged_since)).await??
        };
        let failed = failed.intersect(&there);
        let stored = Stored { uids: &there, op, flags: &flags, silent, failed: &failed };
        let modified = if numbers.uid { failed.clone() } else { selected.view.uids_to_numbers(&failed) };
        self.catch_up(Telling { expunge: numbers.uid, uid: numbers.uid }, Some(&stored))?;
        if some_gone && !numbers.uid && !silent {
            return Ok(Reply::no("Some of the messages no longer exist").with("EXPUNGEISSUED"));
        }
        if !modified.is_empty() {
            return Ok(Reply::ok("Conditional store failed for some").with(format!("MODIFIED {modified}")));
        }
        Ok(Reply::ok("Store completed"))
    }
}
