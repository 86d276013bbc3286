//! mailweir: any number of mail programs, one strict provider.
//!
//! A local daemon that terminates IMAP, POP3 and SMTP submission for every mail program of a home or office, serves them from a mirror of the account,
//! and keeps that mirror in step over two or three upstream sessions. This page is the architecture; the module pages say
//! the rest.
//!
//! # Life of a command
//!
//! ```text
//! READ    bytes -> wire -> session/imap/conn -> command: view turns numbers into UIDs
//!           -> snapshot (no await)        or   body, summary .await   (store; on a miss: lease -> exchange)
//!           -> render -> out -> view.catch_up -> tagged OK
//! WRITE   command -> mailbox.store(..).await -> the mailbox's turn -> lease -> exchange
//!           -> delta -> commit: handed to the store, mirror, publish -> reply -> view.catch_up -> tagged OK
//! CHANGE  upstream IDLE or a look -> turn -> sync plan -> sync run -> delta -> the same commit
//!           -> watch channel -> view.catch_up -> untagged
//! SEND    session/smtp -> upstream/smtp, command by command and piece by piece: the provider answers
//!           -> what it cannot take now, if wanted: file, row, 250 -> daemon/outbox sends it later, or tells INBOX
//! ```
//!
//! # Layers
//!
//! A layer uses only layers below it; `tests/it/layering.rs` reads the imports and fails on any other edge.
//!
//! | layer | modules |
//! |---|---|
//! | 0 | [`model`] |
//! | 1 | [`wire`], [`net`], [`message`], [`budget`], [`provider`], [`config`], [`metrics`], [`secret`] |
//! | 2 | [`upstream`] (never store), [`store`] and [`state`] (never upstream), [`auth`] |
//! | 3 | [`engine`] |
//! | 4 | [`session`] |
//! | 5 | [`daemon`] |
//! | 6 | [`cli`] |
//!
//! # Laws
//!
//! 1. Only the engine changes the mirror and the index: one commit at a time, which the store is handed before it is published. The store takes
//!    commits in that order and is at most one behind; it is a cache that flushes twice a second, so nobody waits for it.
//! 2. Sequence numbers exist only in `session/imap/view.rs`, `session/pop3/maildrop.rs` and in upstream's lines. One place decides
//!    when EXPUNGE may be told.
//! 3. Only `store/` names sled, only `state/` names SQLite; imap-codec's types appear only in `wire/`.
//! 4. No await, no write to a client, no upstream call while a lock or a store transaction is held. Store calls run on a small
//!    bounded pool and have a deadline.
//! 5. Commands of one connection run in order; what a client pipelines waits in a bounded buffer.
//! 6. Every upstream connection and byte holds a permit; only `upstream/` dials a mail server.
//! 7. Bytes from a network never panic us: no `unwrap`, `expect` or bare index on such a path.
//! 8. Every queue, line, literal, cache and wait has a named limit with its reason.
//! 9. Pure code (`wire`, `view`, `mirror`, `plan`, `budget`) takes `now` as an argument.
//! 10. Nothing upstream is expunged but by a client's own explicit IMAP EXPUNGE, CLOSE or MOVE. POP3 never.
//! 11. A write is acknowledged only when upstream has acknowledged it. An ambiguous end is settled by looking, never by blind
//!     retry. What takes several steps stands in a journal first (`engine/writes/unfinished.rs`).
//! 12. A secret is never logged, shown in an error or in a debug print, or written readable by others.
//!
//! # Where this departs from the first design
//!
//! - There is no actor per account. Each mailbox has a *turn* (`engine::mailbox::State::turn`); whoever holds it is the only one
//!   who asks upstream about that mailbox's state and commits the answer. Law 1 stands, and a slow mailbox holds up no other.
//! - A watching session does not translate upstream's EXPUNGE and FETCH numbers. What it hears is a hint; the mailbox is then
//!   brought in step by the ladder over the same session (one or two round trips). So there is no `upstream/seqmap.rs`, and no way
//!   to act on a number that has shifted.
//! - NOTIFY (RFC 5465) is not used, IDLE and polls are: it was built and tried against Dovecot 2.3, which tells well, but opens INBOX by itself
//!   in such a session. After RENAME of INBOX it then has two of them under two UIDVALIDITYs, and every look finds the other one.
//! - What is about to be fetched or sent is *reserved* and not spent ([`budget::Budget::reserve`]): the sessions count what really
//!   goes over the wire, so that an octet is counted once.
//! - Snapshots and their pages are plain data of the model ([`model::Pages`]), so that views and the mirror share one
//!   difference.
//! - A person and a program that downloads everything are two classes of the queue and of the budget ([`upstream::Class`]); which one a
//!   client is, its appetite tells (`engine/appetite.rs`).
//! - Octets are counted at the socket ([`net::Tap`]), below TLS and compression, and the count on disk runs ahead of them
//!   ([`budget::Budget::export_ahead`]).
//! - Authorization servers are asked over [`net::http`], one exchange a connection; Law 6 speaks of mail servers. [`auth`] knows no store
//!   and no upstream: `daemon/tokens.rs` joins the three.
//! - `\Recent` is told as RFC 3501 has it ([`model::Arrivals`]), in memory and with UIDs alone: what was in the store when a mailbox was opened
//!   is old, what came since (or a mailbox that was never here) is recent to the first session told of it. A restart forgets what nobody had
//!   been told of yet.
//! - A mail program's own copy for the sent folder, of a message that still waits in the outbox, is acknowledged when it is on our disk (as the
//!   message was), and filed with it: uploaded at once it would stand there twice (`daemon/outbox/unsent.rs`).
//! - Sessions see the engine through the traits of `session::backend`, so that the simulated provider of `mailweir demo` is our own
//!   server over another account, and not a second IMAP server.

pub mod auth;
pub mod budget;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod message;
pub mod metrics;
pub mod model;
pub mod net;
pub mod provider;
pub mod secret;
pub mod session;
pub mod state;
pub mod store;
pub mod upstream;
pub mod wire;
