//! What names a message for good: POP3's unique-id (RFC 1939 §7).

use std::fmt;

use super::{Uid, UidValidity};

/// A message of one mailbox, by what outlasts connections, restarts and the loss of every cache. Written as UIDL tells it:
/// `<uidvalidity>.<uid>`, or the provider's message id alone; the two cannot be taken for each other, and neither is longer than 21
/// characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UniqueId {
    /// By number in the mailbox.
    Number(UidValidity, Uid),
    /// By the provider's account-wide id (X-GM-MSGID or EMAILID, never 0), which stays when UIDVALIDITY changes.
    Provider(u64),
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(validity, uid) => write!(f, "{validity}.{uid}"),
            Self::Provider(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_printable() {
        let longest = [UniqueId::Number(UidValidity(u32::MAX), Uid(u32::MAX)), UniqueId::Provider(u64::MAX)];
        for id in longest.map(|id| id.to_string()) {
            assert!(id.len() <= 70 && id.bytes().all(|b| (0x21..=0x7e).contains(&b)), "{id}");
        }
        assert_eq!(UniqueId::Number(UidValidity(7), Uid(12)).to_string(), "7.12");
        assert_eq!(UniqueId::Provider(712).to_string(), "712");
    }
}
