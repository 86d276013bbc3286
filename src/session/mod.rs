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
//! POP3 (`pop3/`) is the same with a maildrop in the place of the view: a snapshot taken at login, which nothing changes. Submission
//! (`smtp/`) needs no mirror: what a client sends streams to the provider, whose answers are the client's.
//!
//! `front` is what a listener hands to any of them, `line` the bytes of those whose commands are lines, `socket`
//! what these and `imap/io` are made of, `protocol` the trace of what is said.
//!
//! Layer 4: uses `engine`, `wire`, `message`, `net`, `model`; never `store` or `upstream`. `imap/`, `pop3/` and `smtp/` never use
//! each other. Laws kept here: 2 (`imap/view`, `pop3/maildrop`), 5 and 7 (`imap/conn`, `pop3/conn`), 8 (`imap/io`, `line`), 10 and 11 (nothing is expunged but by
//! EXPUNGE, CLOSE and MOVE, and never by POP3; an OK follows the engine's answer), 12.

pub mod backend;
mod engine_backend;
pub mod front;
pub mod imap;
mod line;
pub mod pop3;
mod protocol;
pub mod smtp;
mod socket;
#[cfg(test)]
pub(crate) mod testing;
