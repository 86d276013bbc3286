//! Which messages of a mailbox no session has been told of: `\Recent` (RFC 3501 §2.3.2).
//!
//! UIDs ascend, so one number says it all: what is below it some session that may change the mailbox has been told of. A session that is
//! told of more takes the rest for its own, and they are recent to it alone; an EXAMINE looks and takes nothing. In memory only.

use std::sync::{Mutex, PoisonError};

use super::ids::{Uid, UidValidity};

/// The first UID that nobody has been told of, under a UIDVALIDITY.
#[derive(Debug, Default)]
pub struct Arrivals(Mutex<(UidValidity, Uid)>);

impl Arrivals {
    /// Messages below `next` are old.
    pub fn new(validity: UidValidity, next: Uid) -> Self {
        Self(Mutex::new((validity, next)))
    }

    /// The first UID that nobody has been told of. Under another UIDVALIDITY that is every one: "if it is not possible to determine
    /// whether or not this session is the first session to be notified about a message, then that message SHOULD be considered recent".
    pub fn first(&self, validity: UidValidity) -> Uid {
        let (known, next) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known == validity { next } else { Uid(1) }
    }

    /// A session has been told of everything up to `last`. What it is the first to hear of begins at the UID returned; nothing if that
    /// is beyond `last`.
    pub fn claim(&self, validity: UidValidity, last: Uid) -> Uid {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = if told.0 == validity { told.1 } else { Uid(1) };
        *told = (validity, first.max(Uid(last.0.saturating_add(1))));
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_hear_of_a_message_is_the_only_one() {
        let arrivals = Arrivals::new(UidValidity(7), Uid(4));
        let (mine, other) = (UidValidity(7), UidValidity(8));
        assert_eq!(arrivals.first(mine), Uid(4));
        assert_eq!(arrivals.claim(mine, Uid(3)), Uid(4));
        assert_eq!(arrivals.claim(mine, Uid(6)), Uid(4));
        assert_eq!(arrivals.claim(mine, Uid(6)), Uid(7));
        // One who lags behind takes nothing back.
        assert_eq!(arrivals.claim(mine, Uid(2)), Uid(7));
        assert_eq!(arrivals.first(mine), Uid(7));
        // Another UIDVALIDITY: everything is new, once.
        assert_eq!(arrivals.first(other), Uid(1));
        assert_eq!(arrivals.claim(other, Uid(2)), Uid(1));
        assert_eq!(arrivals.claim(other, Uid(u32::MAX)), Uid(3));
        assert_eq!(arrivals.first(other), Uid(u32::MAX));
    }
}
