//! LIST, LSUB, XLIST and STATUS.

use std::borrow::Cow;

use super::mailbox;
use super::scan::{Scan, list_words, nstring, number32, number64};
use crate::wire::imap::command::ListKind;

/// One listed name (RFC 9051 §7.3.1). Extended items (CHILDINFO, OLDNAME) are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<'a> {
    pub kind: ListKind,
    /// As sent, with their backslashes (which one server leaves out).
    pub attributes: Vec<&'a str>,
    pub delimiter: Option<char>,
    /// As on the wire, INBOX in capitals.
    pub name: Cow<'a, str>,
}

/// STATUS (RFC 9051 §7.3.4); items not told, malformed or unknown are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxStatus<'a> {
    pub mailbox: Cow<'a, str>,
    pub messages: Option<u32>,
    pub recent: Option<u32>,
    pub uid_next: Option<u32>,
    pub uid_validity: Option<u32>,
    pub unseen: Option<u32>,
    pub deleted: Option<u32>,
    pub highest_modseq: Option<u64>,
    pub size: Option<u64>,
    pub append_limit: Option<u64>,
}

pub(super) fn list(rest: &[u8], kind: ListKind) -> Option<List<'_>> {
    let mut scan = Scan::new(rest);
    let attributes = list_words(scan.value().filter(|value| value.starts_with(b"("))?).collect();
    let delimiter = nstring(scan.value()?).and_then(|text| std::str::from_utf8(&text).ok()?.chars().next());
    scan.skip_spaces();
    let name = match scan.rest().first()? {
        b'"' | b'{' | b'~' => nstring(scan.value()?).unwrap_or_default(),
        // `NIL` is a name here, and a name that should have been quoted runs to the end.
        _ => Cow::Borrowed(unquoted(scan.rest())),
    };
    Some(List { kind, attributes, delimiter, name: mailbox(name) })
}

/// A name that may hold spaces, without the extended items of RFC 5258 that may follow it.
fn unquoted(rest: &[u8]) -> &[u8] {
    let extended = [&b" (\"CHILDINFO\""[..], b" (CHILDINFO", b" (\"OLDNAME\"", b" (OLDNAME"];
    let cut = extended.iter().filter_map(|item| memchr::memmem::find(rest, item)).min();
    rest.get(..cut.unwrap_or(rest.len())).unwrap_or(rest).trim_ascii()
}

pub(super) fn status(rest: &[u8]) -> Option<MailboxStatus<'_>> {
    let mut scan = Scan::new(rest);
    let name = match rest.first()? {
        b'"' | b'{' | b'~' => nstring(scan.value()?).unwrap_or_default(),
        _ => {
            let items = memchr::memmem::rfind(rest, b" (")?;
            scan = Scan::new(rest.get(items..)?);
            Cow::Borrowed(rest.get(..items)?.trim_ascii())
        }
    };
    scan.skip_spaces();
    scan.eat(b'(');
    let mut status = MailboxStatus { mailbox: mailbox(name), ..MailboxStatus::default() };
    while let Some((name, value)) = scan.pair() {
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        if is(b"MESSAGES") {
            status.messages = number32(value);
        } else if is(b"RECENT") {
            status.recent = number32(value);
        } else if is(b"UIDNEXT") {
            status.uid_next = number32(value);
        } else if is(b"UIDVALIDITY") {
            status.uid_validity = number32(value);
        } else if is(b"UNSEEN") {
            status.unseen = number32(value);
        } else if is(b"DELETED") {
            status.deleted = number32(value);
        } else if is(b"HIGHESTMODSEQ") {
            status.highest_modseq = number64(value);
        } else if is(b"SIZE") {
            status.size = number64(value);
        } else if is(b"APPENDLIMIT") {
            status.append_limit = number64(value);
        }
    }
    Some(status)
}
