//! What goes wrong below a session, in the words a client is answered with.

use crate::upstream;

/// An engine's failure. Variants are ordered by whose fault: the client's, the provider's, the budget's, ours.
/// `session/imap/reply.rs` turns every variant into one tagged NO.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such mailbox: `[NONEXISTENT]`, or `[TRYCREATE]` where it is a destination.
    #[error("mailbox does not exist: {0}")]
    NoSuchMailbox(String),
    /// `[ALREADYEXISTS]`
    #[error("mailbox exists already: {0}")]
    Exists(String),
    /// `[CANNOT]`: can never work, whatever the state of the connection.
    #[error("{0}")]
    Cannot(String),
    /// The message is gone, though the client's view may still show it: `[EXPUNGEISSUED]`.
    #[error("the message has been expunged")]
    Expunged,
    /// A message above the limit, in octets: `[TOOBIG]`.
    #[error("the message is larger than {limit} octets")]
    TooBig { limit: u64 },
    /// The mailbox was deleted, renamed or got a new UIDVALIDITY: the session that has it selected must end.
    #[error("the mailbox is no longer what it was")]
    Gone,
    /// The provider is out of reach and the answer is not cached: `[UNAVAILABLE]`.
    #[error("{0}")]
    Unavailable(String),
    /// The provider answered NO or BAD: its response code (without brackets) and text.
    #[error("{text}")]
    Refused { code: Option<String>, text: String },
    /// A budget is spent: `[LIMIT]`.
    #[error("{0}")]
    Limit(String),
    /// Our own fault: `[SERVERBUG]`.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Whether waiting for the connection may mend it.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether the provider, or our budget, refuses only for the moment: what the mirror has is served meanwhile.
    pub(crate) fn is_passing(&self) -> bool {
        const CODES: [&str; 5] = ["UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "CONTACTADMIN"];
        match self {
            Self::Limit(_) => true,
            Self::Refused { code: Some(code), .. } => CODES.iter().any(|known| code.eq_ignore_ascii_case(known)),
            _ => false,
        }
    }
}

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Self {
        match error {
            upstream::Error::No { code, text, .. } => Self::Refused { code, text },
            upstream::Error::Lost { reason, .. } => {
                Self::Unavailable(format!("The connection to the provider was lost: {reason}"))
            }
            upstream::Error::Unavailable { reason, .. } => {
                Self::Unavailable(format!("The provider cannot be reached now: {reason}"))
            }
            upstream::Error::Login(reason) => {
                Self::Unavailable(format!("The provider refuses the login of this account: {reason}"))
            }
            upstream::Error::Budget(reason) => Self::Limit(reason),
            upstream::Error::Replaced => Self::Gone,
            upstream::Error::Protocol(reason) => {
                Self::Unavailable(format!("The provider answered something that cannot be understood: {reason}"))
            }
        }
    }
}
