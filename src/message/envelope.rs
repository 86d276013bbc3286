//! ENVELOPE (RFC 9051 §7.5.2): ten fields of a header, in one pass.
//!
//! Of a field that stands twice the last counts, but addresses of all of them are shown.

use super::address::{self, Address};
use super::header::{fields, unfold};
use super::quote;

/// The envelope of a header block, with its parentheses.
pub fn envelope_of_header(header: &[u8]) -> Vec<u8> {
    let mut date = None;
    let mut subject = None;
    let mut in_reply_to = None;
    let mut message_id = None;
    // from, sender, reply-to, to, cc, bcc
    let mut lists: [Vec<Address>; 6] = Default::default();
    const NAMES: [&str; 6] = ["From", "Sender", "Reply-To", "To", "Cc", "Bcc"];
    for field in fields(header) {
        let value = field.value;
        if field.is("Date") {
            date = Some(value);
        } else if field.is("Subject") {
            subject = Some(value);
        } else if field.is("In-Reply-To") {
            in_reply_to = Some(value);
        } else if field.is("Message-ID") {
            message_id = Some(value);
        } else if let Some((_, list)) = NAMES.iter().zip(&mut lists).find(|(name, _)| field.is(name)) {
            address::parse(&unfold(value), list);
        }
    }
    let [from, sender, reply_to, to, cc, bcc] = &lists;

    let mut out = Vec::with_capacity(256);
    out.push(b'(');
    quote::nstring(&mut out, date.map(unfold).as_deref());
    out.push(b' ');
    match subject {
        Some(subject) => quote::phrase(&mut out, subject),
        None => out.extend_from_slice(b"NIL"),
    }
    // RFC 9051 §7.5.2: an absent Sender or Reply-To is that of From.
    let or_from = |list: &'_ Vec<Address>| if list.is_empty() { from.clone() } else { list.clone() };
    for list in [from, &or_from(sender), &or_from(reply_to), to, cc, bcc] {
        out.push(b' ');
        address::render(&mut out, list);
    }
    out.push(b' ');
    quote::nstring(&mut out, in_reply_to.map(unfold).as_deref());
    out.push(b' ');
    quote::nstring(&mut out, message_id.map(unfold).as_deref());
    out.push(b')');
    out
}
