//! Bytes to types and back, both directions, without I/O and without a clock.
//!
//! imap-codec and imap-types are alphas that break each other, so `Cargo.toml` pins both exactly. Their types stay in
//! here. `quirk_always_normalize_sequence_sets` must never be switched on: it takes quadratic time and turns a UID
//! into `*`.

pub mod imap;
pub mod lines;
pub mod pop3;
pub mod sasl;
pub mod smtp;
pub mod trace;
