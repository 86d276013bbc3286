//! The exchanges: one upstream command and its answers each, a file a family. All are methods of [`super::Session`].
//!
//! Each takes and gives plain values and leaves the session usable unless it was lost. Sets of UIDs are cut so that no command line grows
//! beyond the provider's limit; a set we write never holds `*` unless the caller wrote it.

mod append;
mod bodies;
mod copy;
mod expunge;
mod fetch;
mod idle;
mod list;
mod mailbox;
mod quota;
mod search;
mod select;
mod status;
mod store;

pub use fetch::Items;
pub use idle::POLL_INTERVAL;

use super::error::Error;
use super::session::{Done, Session};
use crate::model::UidSet;

/// Octets of a command line that are not the set: tag, command, items, flags.
const LINE_OVERHEAD: usize = 200;

impl Session {
    /// For how many messages one command is answered (MESSAGELIMIT, RFC 9738 §3); `None` where upstream names no limit.
    pub fn message_limit(&self) -> Option<u32> {
        self.caps().value("MESSAGELIMIT")?.parse().ok().filter(|most| *most > 0)
    }

    /// `uids` in portions of no more than one command is answered for, each of them there.
    pub fn portions(&self, uids: &UidSet) -> Vec<UidSet> {
        let most = self.message_limit().map_or(u64::MAX, u64::from);
        uids.portions(most)
    }

    /// `uids`, all of them there, in pieces that fit on command lines beside `more` octets of other arguments, and that a command is
    /// carried out for.
    fn pieces(&self, uids: &UidSet, more: usize) -> Vec<UidSet> {
        self.portions(uids).iter().flat_map(|portion| self.lines(portion, more)).collect()
    }

    /// The same by their length alone.
    fn lines(&self, uids: &UidSet, more: usize) -> Vec<UidSet> {
        // A range is at most 21 octets long, so a piece always holds one, whatever the limit.
        let room = self.quirks.line_limit().saturating_sub(LINE_OVERHEAD + more).max(32);
        uids.split(room)
    }
}

/// All outcomes, or the first refusal.
fn all(results: Vec<Result<Done, Error>>) -> Result<Vec<Done>, Error> {
    results.into_iter().collect()
}
