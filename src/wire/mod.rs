//! Bytes to types and back, both directions, without I/O and without a clock.

pub mod imap;
