//! IMAP
pub mod command;
