//! IMAP on the wire, both sides: framing, client commands, upstream responses, and the writer of hot responses.
//!
//! [`framer`] cuts bytes into messages; [`parse`] turns a client's message into a [`command::Command`],
//! [`response`] reads what a server sends; [`mod@write`] writes what is sent by the thousand.
//! Nothing here waits, reads a clock or knows a session.

pub mod command;
pub mod framer;
pub mod mutf7;
pub mod parse;
pub mod response;
pub mod write;

/// Whether these bytes are a tag a client may use (RFC 9051 `tag`: ASTRING-CHAR without `+`).
pub(crate) fn is_tag(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_graphic() && !b"(){%*\"\\+".contains(b))
}
