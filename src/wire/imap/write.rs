//! The writer of what is sent by the thousand, and of strings, for both sides.
//!
//! Straight into a `BytesMut`: the codec builds and encodes a FETCH line in thirty times the time (measured). Nothing a
//! peer or a mail can put into a string breaks out of it: 8-bit bytes and line ends make it a literal, and texts are
//! cleaned. [`Fetch`] does not borrow the buffer, so that a session can flush while a large literal is under way.
//! Commands to an upstream are built with [`request::Request`].

pub mod request;

use bytes::{BufMut, BytesMut};

use super::command::{ListKind, StatusItem};
use super::response::Status;
use crate::model::{Flags, InternalDate, ModSeq, Uid, UidSet};

/// Longest string that is written between quotes; a longer one is a literal, which peers read without a limit on lines.
const MAX_QUOTED: usize = 1024;

pub fn number(out: &mut BytesMut, number: impl itoa::Integer) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// One FETCH response, item by item: [`Fetch::begin`], the items, [`Fetch::end`].
#[derive(Debug)]
pub struct Fetch {
    first: bool,
}

impl Fetch {
    pub fn begin(out: &mut BytesMut, seq: u32) -> Self {
        out.reserve(128);
        out.put_slice(b"* ");
        number(out, seq);
        out.put_slice(b" FETCH (");
        Self { first: true }
    }

    /// The name of the next item with the space behind it; its value is the caller's to write.
    pub fn name(&mut self, out: &mut BytesMut, name: &str) {
        if !std::mem::take(&mut self.first) {
            out.put_u8(b' ');
        }
        out.put_slice(name.as_bytes());
        out.put_u8(b' ');
    }

    pub fn uid(&mut self, out: &mut BytesMut, uid: Uid) {
        self.name(out, "UID");
        number(out, uid.0);
    }

    pub fn flags(&mut self, out: &mut BytesMut, flags: &Flags) {
        self.name(out, "FLAGS");
        flag_list(out, flags);
    }

    pub fn modseq(&mut self, out: &mut BytesMut, modseq: ModSeq) {
        self.name(out, "MODSEQ");
        out.put_u8(b'(');
        number(out, modseq.0);
        out.put_u8(b')');
    }

    pub fn internal_date(&mut self, out: &mut BytesMut, date: &InternalDate) {
        self.name(out, "INTERNALDATE");
        out.put_u8(b'"');
        out.put_slice(&date.text());
        out.put_u8(b'"');
    }

    pub fn size(&mut self, out: &mut BytesMut, size: u32) {
        self.name(out, "RFC822.SIZE");
        number(out, size);
    }

    /// An item whose value is rendered already: ENVELOPE, BODYSTRUCTURE.
    pub fn raw(&mut self, out: &mut BytesMut, name: &str, value: &[u8]) {
        self.name(out, name);
        out.put_slice(value);
    }

    /// An item whose value is bytes of a message, here and now; always a literal, as clients expect of bodies.
    pub fn bytes(&mut self, out: &mut BytesMut, name: &str, value: &[u8]) {
        self.literal(out, name, value.len() as u64);
        out.put_slice(value);
    }

    /// An item that is a literal of `len` bytes, which the caller sends next.
    pub fn literal(&mut self, out: &mut BytesMut, name: &str, len: u64) {
        self.name(out, name);
        literal_start(out, len);
    }

    pub fn nil(&mut self, out: &mut BytesMut, name: &str) {
        self.raw(out, name, b"NIL");
    }

    pub fn end(self, out: &mut BytesMut) {
        out.put_slice(b")\r\n");
    }
}

/// The flags in parentheses.
pub fn flag_list(out: &mut BytesMut, flags: &Flags) {
    out.put_u8(b'(');
    for (index, name) in flags.names().enumerate() {
        if index > 0 {
            out.put_u8(b' ');
        }
        out.put_slice(name.as_bytes());
    }
    out.put_u8(b')');
}

fn numbered(out: &mut BytesMut, count: u32, word: &[u8]) {
    out.put_slice(b"* ");
    number(out, count);
    out.put_slice(word);
}

pub fn exists(out: &mut BytesMut, count: u32) {
    numbered(out, count, b" EXISTS\r\n");
}

pub fn recent(out: &mut BytesMut, count: u32) {
    numbered(out, count, b" RECENT\r\n");
}

pub fn expunge(out: &mut BytesMut, seq: u32) {
    numbered(out, seq, b" EXPUNGE\r\n");
}

/// RFC 7162 §3.2.10; nothing for an empty set, which has no spelling.
pub fn vanished(out: &mut BytesMut, earlier: bool, uids: &UidSet) {
    if uids.is_empty() {
        return;
    }
    out.put_slice(if earlier { b"* VANISHED (EARLIER) " } else { b"* VANISHED " });
    uid_set(out, uids);
    out.put_slice(b"\r\n");
}

/// `1,3:7`; nothing for an empty set.
pub fn uid_set(out: &mut BytesMut, uids: &UidSet) {
    for (index, range) in uids.ranges().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        number(out, *range.start());
        if range.start() != range.end() {
            out.put_u8(b':');
            number(out, *range.end());
        }
    }
}

/// SEARCH, with the mod-sequence of RFC 7162 §3.1.5 where one is due (never with an empty result).
pub fn search(out: &mut BytesMut, numbers: impl IntoIterator<Item = u32>, modseq: Option<ModSeq>) {
    out.put_slice(b"* SEARCH");
    let before = out.len();
    for found in numbers {
        out.put_u8(b' ');
        number(out, found);
    }
    if let Some(modseq) = modseq.filter(|_| out.len() > before) {
        out.put_slice(b" (MODSEQ ");
        number(out, modseq.0);
        out.put_u8(b')');
    }
    out.put_slice(b"\r\n");
}

/// ESEARCH (RFC 4731); what is `None` was not asked or has no value (MIN, MAX and ALL of nothing).
#[derive(Clone, Copy, Debug, Default)]
pub struct Esearch<'a> {
    pub tag: &'a str,
    pub uid: bool,
    pub min: Option<u32>,
    pub max: Option<u32>,
    pub count: Option<u32>,
    pub all: Option<&'a UidSet>,
    pub modseq: Option<ModSeq>,
}

pub fn esearch(out: &mut BytesMut, esearch: &Esearch<'_>) {
    out.put_slice(b"* ESEARCH (TAG ");
    string(out, esearch.tag.as_bytes());
    out.put_u8(b')');
    if esearch.uid {
        out.put_slice(b" UID");
    }
    for (name, value) in [(b" MIN ", esearch.min), (b" MAX ", esearch.max)] {
        if let Some(value) = value {
            out.put_slice(name);
            number(out, value);
        }
    }
    if let Some(all) = esearch.all.filter(|all| !all.is_empty()) {
        out.put_slice(b" ALL ");
        uid_set(out, all);
    }
    if let Some(count) = esearch.count {
        out.put_slice(b" COUNT ");
        number(out, count);
    }
    if let Some(modseq) = esearch.modseq {
        out.put_slice(b" MODSEQ ");
        number(out, modseq.0);
    }
    out.put_slice(b"\r\n");
}

/// One LIST, LSUB or XLIST line.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    pub kind: ListKind,
    pub attributes: &'a [&'a str],
    pub delimiter: Option<char>,
    pub name: &'a str,
    /// `("CHILDINFO" ("SUBSCRIBED"))` of RFC 5258 §3.5.
    pub subscribed_children: bool,
}

pub fn list(out: &mut BytesMut, list: &List<'_>) {
    out.put_slice(match list.kind {
        ListKind::List => b"* LIST (",
        ListKind::Lsub => b"* LSUB (",
        ListKind::Xlist => b"* XLIST (",
    });
    for (index, attribute) in list.attributes.iter().enumerate() {
        if index > 0 {
            out.put_u8(b' ');
        }
        out.put_slice(attribute.as_bytes());
    }
    out.put_slice(b") ");
    match list.delimiter {
        Some(delimiter) => string(out, delimiter.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.put_slice(b"NIL"),
    }
    out.put_u8(b' ');
    astring(out, list.name.as_bytes());
    if list.subscribed_children {
        out.put_slice(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    }
    out.put_slice(b"\r\n");
}

/// STATUS; a value of `None` is `NIL` (APPENDLIMIT without a limit, RFC 7889 §4).
pub fn status(out: &mut BytesMut, mailbox: &str, items: impl IntoIterator<Item = (StatusItem, Option<u64>)>) {
    out.put_slice(b"* STATUS ");
    astring(out, mailbox.as_bytes());
    out.put_slice(b" (");
    for (index, (item, value)) in items.into_iter().enumerate() {
        if index > 0 {
            out.put_u8(b' ');
        }
        out.put_slice(item.name().as_bytes());
        out.put_u8(b' ');
        match value {
            Some(value) => number(out, value),
            None => out.put_slice(b"NIL"),
        }
    }
    out.put_slice(b")\r\n");
}

/// A status line, tagged or (`None`) untagged. `code` stands between the brackets and is the caller's own or was read
/// from a line; line ends in either and 8-bit characters in `text` are replaced, since `text` is often an upstream's.
pub fn status_line(out: &mut BytesMut, tag: Option<&str>, status: Status, code: Option<&str>, text: &str) {
    out.put_slice(tag.unwrap_or("*").as_bytes());
    out.put_slice(match status {
        Status::Ok => b" OK ",
        Status::No => b" NO ",
        Status::Bad => b" BAD ",
        Status::Bye => b" BYE ",
        Status::Preauth => b" PREAUTH ",
    });
    if let Some(code) = code {
        out.put_u8(b'[');
        clean(out, code);
        out.put_slice(b"] ");
    }
    // Words that begin with a bracket would be read as a code.
    let text = match text.strip_prefix('[').filter(|_| code.is_none()) {
        Some(rest) => {
            out.put_u8(b'(');
            rest
        }
        None => text,
    };
    // RFC 9051 `resp-text`: at least one character, and some clients fail without.
    clean(out, if text.is_empty() { "done" } else { text });
    out.put_slice(b"\r\n");
}

fn clean(out: &mut BytesMut, text: &str) {
    out.extend(text.chars().map(|c| match c {
        ' '..='~' => c as u8,
        c if c.is_ascii_control() => b' ',
        _ => b'?',
    }));
}

/// RFC 9051 `astring`: an atom where it can be one, else a string.
pub fn astring(out: &mut BytesMut, bytes: &[u8]) {
    if is_plain_atom(bytes) { out.put_slice(bytes) } else { string(out, bytes) }
}

/// RFC 9051 `nstring`.
pub fn nstring(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => string(out, bytes),
        None => out.put_slice(b"NIL"),
    }
}

/// Between quotes where that is allowed, else a literal (of the kind that needs no consent: for answers to clients;
/// see [`request::Request`] for the other direction).
pub fn string(out: &mut BytesMut, bytes: &[u8]) {
    if is_quotable(bytes) {
        quoted(out, bytes);
    } else {
        literal_start(out, bytes.len() as u64);
        out.put_slice(bytes);
    }
}

fn literal_start(out: &mut BytesMut, len: u64) {
    out.put_u8(b'{');
    number(out, len);
    out.put_slice(b"}\r\n");
}

fn quoted(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.put_u8(b'"');
    let mut rest = bytes;
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        let (special, tail) = tail.split_at_checked(1).unwrap_or((tail, &[]));
        out.put_slice(plain);
        out.put_u8(b'\\');
        out.put_slice(special);
        rest = tail;
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}

fn is_quotable(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_QUOTED && bytes.iter().all(|b| matches!(b, 1..=0x7f) && !b"\r\n".contains(b))
}

/// Narrower than the grammar: brackets and `NIL` are quoted, because readers differ about them.
fn is_plain_atom(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.len() <= MAX_QUOTED
        && !bytes.eq_ignore_ascii_case(b"NIL")
        && bytes.iter().all(|b| b.is_ascii_graphic() && !b"(){%*\"\\[]".contains(b))
}

#[cfg(test)]
mod tests;
