//! Client sessions: what a mail program talks to. One task a connection, no state outside it.
//!
//! The life of a command (IMAP): the framer cuts bytes into a message, `wire::imap::parse` makes a typed command of it,
//! `imap/conn` hands it to its family in `imap/command/`. There the view turns the client's numbers into UIDs, and the answer
//! comes from the snapshot (no waiting), or from the account behind the seam in [`backend`] (waiting, kept alive by `imap/io`).
//! It is rendered into the connection's buffer. Then the view catches up with the newest snapshot and the client is told the
//! difference, as far as it may be told now; then comes the tagged line. The buffer leaves when no further command is at hand.
//!
//! A change that comes from elsewhere (another client, upstream) wakes an IDLE through the mailbox's watch channel and is told by
//! the same catch-up; any other session learns of it with its next command.
//!
//! Layer 4: uses `engine`, `wire`, `message`, `net`, `model`; never `store` or `upstream`. `imap/`, `pop3/` and `smtp/` never use
//! each other. Laws kept here: 2 (`imap/view`), 5 and 7 (`imap/conn`), 8 (`imap/io`), 10 and 11 (nothing is expunged but by
//! EXPUNGE, CLOSE and MOVE; a tagged OK follows the engine's answer), 12.

pub mod backend;
mod engine_backend;
pub mod imap;
#[cfg(test)]
pub(crate) mod testing;
