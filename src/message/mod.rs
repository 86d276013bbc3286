//! Everything that is cut or computed from a raw message: parts, sections, ENVELOPE, BODYSTRUCTURE, SEARCH texts.
//!
//! Pure and synchronous: bytes in, bytes out, no clock. A message comes from strangers, so nothing here fails or
//! panics (Law 7): whatever is odd is read as plain text or as an octet leaf, in time linear in its length, within the
//! limits of `structure`. RFC 9051 §6.4.5 and §7.5.2 say what is answered, RFC 5322, 2045-2047 and 2231 what a
//! message is; where they leave room, or a message breaks them, the answers are those of Dovecot, octet for octet.
//! `tests/data/mime` holds its answers about a set of hard cases; `golden.rs` compares, and lists where we differ.
//!
//! Layers inside: `header` (lines and fields) < `token` < `address`, `params`, `decode`, `date` < `structure` (the tree)
//! < `envelope`, `render`, `section`, `search`, `order`. `upstream` stands apart: it reads a structure another server wrote.

mod address;
mod date;
mod decode;
mod envelope;
mod header;
mod order;
mod params;
mod quote;
mod render;
mod report;
mod search;
mod section;
mod structure;
mod token;
mod upstream;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod torture;

pub use date::sent_day;
pub use envelope::envelope_of_header;
pub use header::{header_end, header_fields, header_values, message_id};
pub use order::{Order, order_of_header};
pub use report::{Report, Told};
pub use search::{fold, header_contains, text_contains};
pub use section::without_nul;
pub use structure::{Structure, parse};
pub use upstream::{UpstreamPart, UpstreamStructure, upstream_structure};
