//! What the framer says, and what bounds it.

use bytes::Bytes;

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We read what a server sends.
    Client,
    /// We read what a client sends.
    Server,
}

/// What a peer may make us hold. Everything in bytes but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One message, its line ends and inline literals included, streamed literals not.
    pub line: usize,
    /// The largest literal that stays inside its message; larger ones are streamed.
    pub inline_literal: u64,
    /// The largest literal at all.
    pub max_literal: u64,
    /// Literals in one message; messages of APPEND are not counted: each is shown to the owner, who may refuse it.
    pub messages_literals: usize,
}

impl Limits {
    /// A client before login: 8 KiB and 4 KiB hold any LOGIN, ID or AUTHENTICATE (Law 8; issue 2 names the figures).
    pub const BEFORE_LOGIN: Self =
        Self { line: 8 * 1024, inline_literal: 4 * 1024, max_literal: 4 * 1024, messages_literals: 8 };
    /// A client after login: 64 KiB is about 9,000 scattered UIDs in one command; literals other than those of APPEND
    /// are search strings and mailbox names; 64 MiB is above every provider's message limit.
    pub const COMMANDS: Self =
        Self { line: 64 * 1024, inline_literal: 16 * 1024, max_literal: 64 * 1024 * 1024, messages_literals: 256 };
    /// A server: an untagged SEARCH of a million UIDs is 8 MB, and messages may be larger than what we upload.
    pub const RESPONSES: Self = Self {
        line: 16 * 1024 * 1024,
        inline_literal: 64 * 1024,
        max_literal: 256 * 1024 * 1024,
        messages_literals: 10_000,
    };
}

/// What the framer found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message without its final line end. Inline literals stand in it as `{n}` CRLF bytes (LF alone if the
    /// server wrote it so), a streamed literal as `{0}` CRLF (`~{0}` for a literal8). It shares the block it was read
    /// into, so what is kept for long is better copied.
    Message(Bytes),
    /// Server side: a client announced an inline literal and waits. Send `+` and go on, or [`super::Framer::refuse_literal`].
    NeedContinue { head: Bytes, len: u64 },
    /// A streamed literal begins. A client waits for `+` when it is `sync` (see [`super::Framer::refuse_literal`]).
    /// `head` is the message so far as [`Frame::Message`] will have it, up to the literal's opening brace. Of a client's message with
    /// several (MULTIAPPEND) what stood between the first and the latest one is left out of both: a thousand of them are no longer to
    /// hold than two.
    LiteralStart { head: Bytes, len: u64, sync: bool, literal8: bool },
    /// The next bytes of a streamed literal, never empty.
    LiteralChunk(Bytes),
    /// The streamed literal is complete; its message goes on.
    LiteralEnd,
}

/// What breaks framing. Whether the connection can go on is told by [`super::Framer::is_broken`]: where it can, the command
/// is dropped and the next message follows; where it cannot, every further call gives the same error.
/// `tag` is the command's, for the BAD; none where the line has no well-formed one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Breaks: what the rest of the line would have announced is not known.
    #[error("line too long")]
    LineTooLong { tag: Option<String> },
    /// Above the limit, or a count that fits no number (then `len` is `u64::MAX`). From a client this breaks
    /// only when the bytes come unasked and there are very many of them.
    #[error("literal of {len} bytes is too long")]
    LiteralTooLong { tag: Option<String>, len: u64, sync: bool },
    #[error("too many literals in one command")]
    TooManyLiterals { tag: Option<String> },
    /// Breaks: a line that ends in LF alone, from a client.
    #[error("line ends in a bare LF")]
    BareLf { tag: Option<String> },
    /// A NUL outside a literal, from a client.
    #[error("NUL byte in command")]
    Nul { tag: Option<String> },
}

impl FramingError {
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::LineTooLong { tag }
            | Self::LiteralTooLong { tag, .. }
            | Self::TooManyLiterals { tag }
            | Self::BareLf { tag }
            | Self::Nul { tag } => tag.as_deref(),
        }
    }
}
