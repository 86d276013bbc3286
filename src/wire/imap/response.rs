//! What an upstream server sends, read so that nothing it writes is ever fatal.
//!
//! [`response`] never fails: what it does not understand is [`Response::Other`], and of a FETCH or STATUS with one odd
//! item the rest is still read. imap-codec is not asked here, because it fails a whole message for one unknown item or
//! one 8-bit character of text, and a tagged line that is lost hangs its command for ever. Structures that only clients
//! look into (ENVELOPE, BODYSTRUCTURE, quota) stay raw bytes.
//!
//! A message is what the framer gave: inline literals as `{n}` CRLF bytes (or LF alone), a streamed one as `{0}`.
//! Law 7: no slice or index is taken unchecked, and nothing recurses.

mod code;
mod fetch;
mod list;
pub(crate) mod scan;
mod search;

use std::borrow::Cow;

pub use code::Code;
pub use fetch::{FetchData, FetchHead, FetchItems, fetch_head};
pub use list::{List, MailboxStatus};
pub use scan::nstring;
pub use search::Esearch;

use super::command::ListKind;
use crate::model::UidSet;
use scan::{Scan, text, words};

/// How a command ended, or what a server says of itself (RFC 9051 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    No,
    Bad,
    Bye,
    Preauth,
}

/// One message of a server.
#[derive(Clone, Debug, PartialEq)]
pub enum Response<'a> {
    /// The end of a command; `status` is `Ok`, `No` or `Bad`. `code` is what stood between the brackets.
    Tagged {
        tag: &'a str,
        status: Status,
        code: Option<&'a [u8]>,
        text: Cow<'a, str>,
    },
    Status {
        status: Status,
        code: Option<&'a [u8]>,
        text: Cow<'a, str>,
    },
    /// `+` and what follows it: words, or base64 during AUTHENTICATE.
    Continue(&'a [u8]),
    /// As sent; capabilities are compared without regard to case.
    Capability(Vec<&'a str>),
    Enabled(Vec<&'a str>),
    Flags(Vec<&'a str>),
    List(List<'a>),
    MailboxStatus(MailboxStatus<'a>),
    /// `* SEARCH`, with the mod-sequence of RFC 7162 §3.1.5.
    Search {
        numbers: Vec<u32>,
        modseq: Option<u64>,
    },
    Esearch(Esearch<'a>),
    Exists(u32),
    Recent(u32),
    Expunge(u32),
    /// RFC 7162 §3.2.10.
    Vanished {
        earlier: bool,
        uids: UidSet,
    },
    Fetch {
        seq: u32,
        items: FetchItems<'a>,
    },
    /// What follows the word, as the next four.
    Namespace(&'a [u8]),
    Id(&'a [u8]),
    Quota(&'a [u8]),
    QuotaRoot(&'a [u8]),
    /// The whole message: nothing known, or a known word with nonsense behind it.
    Other(&'a [u8]),
}

/// Reads one message of a server.
pub fn response(message: &[u8]) -> Response<'_> {
    let read = match message.first() {
        Some(b'+') => Some(Response::Continue(message.get(1..).unwrap_or_default().trim_ascii())),
        Some(b'*') => untagged(message.get(1..).unwrap_or_default()),
        _ => tagged(message),
    };
    read.unwrap_or(Response::Other(message))
}

fn tagged(message: &[u8]) -> Option<Response<'_>> {
    let mut scan = Scan::new(message);
    let tag = scan.word();
    let status = status(scan.word()).filter(|status| matches!(status, Status::Ok | Status::No | Status::Bad))?;
    let (code, text) = code::split(scan.rest());
    Some(Response::Tagged { tag: std::str::from_utf8(tag).ok().filter(|_| super::is_tag(tag))?, status, code, text })
}

fn status(word: &[u8]) -> Option<Status> {
    let words = [
        (&b"OK"[..], Status::Ok),
        (b"NO", Status::No),
        (b"BAD", Status::Bad),
        (b"BYE", Status::Bye),
        (b"PREAUTH", Status::Preauth),
    ];
    words.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, status)| status)
}

fn untagged(message: &[u8]) -> Option<Response<'_>> {
    let mut scan = Scan::new(message);
    let word = scan.word();
    if word.first().is_some_and(u8::is_ascii_digit) {
        return numbered(scan::number32(word)?, scan);
    }
    if let Some(status) = status(word) {
        let (code, text) = code::split(scan.rest());
        return Some(Response::Status { status, code, text });
    }
    let rest = scan.rest().trim_ascii();
    // The longest of these has ten letters.
    let mut upper = [0; 12];
    let upper = upper.get_mut(..word.len())?;
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    Some(match &*upper {
        b"CAPABILITY" => Response::Capability(words(rest).collect()),
        b"ENABLED" => Response::Enabled(words(rest).collect()),
        b"FLAGS" => Response::Flags(scan::list_words(rest).collect()),
        b"LIST" => Response::List(list::list(rest, ListKind::List)?),
        b"LSUB" => Response::List(list::list(rest, ListKind::Lsub)?),
        b"XLIST" => Response::List(list::list(rest, ListKind::Xlist)?),
        b"STATUS" => Response::MailboxStatus(list::status(rest)?),
        b"SEARCH" => search::search(rest),
        b"ESEARCH" => Response::Esearch(search::esearch(rest)),
        b"VANISHED" => search::vanished(rest)?,
        b"NAMESPACE" => Response::Namespace(rest),
        b"ID" => Response::Id(rest),
        b"QUOTA" => Response::Quota(rest),
        b"QUOTAROOT" => Response::QuotaRoot(rest),
        _ => return None,
    })
}

fn numbered(number: u32, mut scan: Scan<'_>) -> Option<Response<'_>> {
    let word = scan.word();
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    if is(b"FETCH") {
        Some(Response::Fetch { seq: number, items: FetchItems::new(scan.rest()) })
    } else if is(b"EXISTS") {
        Some(Response::Exists(number))
    } else if is(b"EXPUNGE") {
        Some(Response::Expunge(number))
    } else if is(b"RECENT") {
        Some(Response::Recent(number))
    } else {
        None
    }
}

/// A mailbox name: INBOX in capitals, anything else as sent.
fn mailbox(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    if bytes.eq_ignore_ascii_case(b"INBOX") { Cow::Borrowed("INBOX") } else { text(bytes) }
}

#[cfg(test)]
mod tests;
