//! What can go wrong with upstream, ordered by whose fault it is.
//!
//! [`Error::connection_usable`] tells the lease whether its session may be used again, [`Error::retry`] tells the engine whether the
//! same exchange may simply be tried again. Law 11 stands on [`Error::Lost`]'s `sent`: it is false only if not one byte of the
//! command was handed to the socket.

use std::time::Duration;

/// Why an exchange or a lease did not succeed. Texts are plain words without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Tagged NO (or BAD): the session stays usable. `code` is the response code without brackets.
    #[error("upstream refused: {text}")]
    No { code: Option<String>, text: String, bad: bool },
    /// Connection lost, reset, EOF, BYE, time-out. `sent`: whether the command may have reached upstream (Law 11).
    #[error("upstream connection lost: {reason}")]
    Lost { reason: String, sent: bool },
    /// Upstream out of reach, throttling us, or we are backing off; `retry_after` says how long at most.
    #[error("upstream unavailable: {reason}")]
    Unavailable { reason: String, retry_after: Duration },
    /// Login refused, web login required and the like: does not retry fast; needs the user.
    #[error("upstream login failed: {0}")]
    Login(String),
    /// A budget of ours is spent.
    #[error("budget: {0}")]
    Budget(String),
    /// The mailbox has another UIDVALIDITY than the caller's: its UIDs mean other messages. Nothing was read or changed.
    #[error("the mailbox was replaced upstream")]
    Replaced,
    /// Framing broke or upstream spoke nonsense; the session is closed.
    #[error("protocol: {0}")]
    Protocol(String),
}

/// Whether the same exchange may be tried again without looking first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once, on another session: nothing of it reached upstream.
    Now,
    /// After `retry_after`, or when the user has mended what is wrong.
    Later,
    /// For a reading exchange yes; a writing one is settled by looking first (Law 11).
    LookFirst,
    /// The answer would be the same.
    Never,
}

impl Error {
    /// Whether the session the error came from can go on.
    pub fn connection_usable(&self) -> bool {
        match self {
            Self::No { .. } | Self::Unavailable { .. } | Self::Budget(_) | Self::Replaced => true,
            Self::Lost { .. } | Self::Login(_) | Self::Protocol(_) => false,
        }
    }

    /// What the engine may do next.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Lost { sent: false, .. } => Retry::Now,
            Self::Lost { sent: true, .. } | Self::Protocol(_) => Retry::LookFirst,
            Self::Unavailable { .. } | Self::Login(_) | Self::Budget(_) => Retry::Later,
            Self::No { .. } | Self::Replaced => Retry::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_says_what_may_follow() {
        let lost = |sent| Error::Lost { reason: "EOF".into(), sent };
        let later = Error::Unavailable { reason: "throttled".into(), retry_after: Duration::from_secs(1) };
        let table = [
            (Error::No { code: None, text: "no".into(), bad: false }, true, Retry::Never),
            (lost(false), false, Retry::Now),
            (lost(true), false, Retry::LookFirst),
            (later, true, Retry::Later),
            (Error::Login("wrong password".into()), false, Retry::Later),
            (Error::Budget("spent".into()), true, Retry::Later),
            (Error::Replaced, true, Retry::Never),
            (Error::Protocol("nonsense".into()), false, Retry::LookFirst),
        ];
        for (error, usable, retry) in table {
            assert_eq!((error.connection_usable(), error.retry()), (usable, retry), "{error}");
        }
    }
}
