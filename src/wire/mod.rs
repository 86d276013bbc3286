//! wire
pub mod imap;
