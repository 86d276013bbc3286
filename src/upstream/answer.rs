//! The provider's messages as exchanges use them: the tolerant reader's borrowed values, made owned where they are kept.
//!
//! Reading itself is [`crate::wire::imap::response`]'s; here is only what depends on being a client: which values are usable (a `MODSEQ
//! (0)` is none), and which bodies a FETCH holds, as slices of the message without a copy.

use std::borrow::Cow;

use bytes::Bytes;

use super::types::{CopyUid, FetchMeta, ListLine, StatusLine};
use crate::model::{Uid, UidSet, UidValidity};
use crate::wire::imap::command::ListKind;
use crate::wire::imap::response::scan::Scan;
use crate::wire::imap::response::{self as wire, FetchData, List, MailboxStatus, Response, nstring};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ok,
    No,
    Bad,
}

/// A status line without its tag.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub kind: Kind,
    pub code: Option<Code>,
    pub text: String,
}

/// A response code, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code(String);

impl Code {
    /// From what stood between the brackets.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As sent, arguments included.
    pub(super) fn whole(&self) -> &str {
        &self.0
    }

    /// What it says.
    pub(super) fn read(&self) -> wire::Code<'_> {
        wire::Code::read(self.0.as_bytes())
    }

    /// COPYUID.
    pub(super) fn copy_uid(&self) -> Option<CopyUid> {
        match self.read() {
            wire::Code::CopyUid { uid_validity, pairs } => Some(CopyUid { uid_validity, pairs }),
            _ => None,
        }
    }

    /// APPENDUID of one message.
    pub(super) fn append_uid(&self) -> Option<(UidValidity, Uid)> {
        match self.read() {
            wire::Code::AppendUid { uid_validity, uids } => Some((uid_validity, Uid(uids.max()?))),
            _ => None,
        }
    }

    /// MODIFIED.
    pub(super) fn modified(&self) -> Option<UidSet> {
        match self.read() {
            wire::Code::Modified(uids) => Some(uids),
            _ => None,
        }
    }
}

/// One message of the provider.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// `+`, and what follows it: only a login's challenges say something to us.
    Continue(String),
    Tagged(String, Status),
    Bye(Status),
    Data(Data),
}

/// Untagged data.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// `* OK`, `* NO` or `* BAD`.
    Told(Status),
    /// `* PREAUTH`, a greeting.
    Preauth(Status),
    Capability(Vec<String>),
    Enabled(Vec<String>),
    Flags(Vec<String>),
    List(ListLine),
    Xlist(ListLine),
    Status(StatusLine),
    Search(Vec<u32>),
    Esearch(UidSet),
    Exists(u32),
    Recent,
    Expunge(u32),
    Vanished {
        earlier: bool,
        uids: UidSet,
    },
    Fetch(Fetch),
    /// Prefix and delimiter of the first personal namespace.
    Namespace(Option<(String, Option<char>)>),
    /// QUOTA or QUOTAROOT, without `* `.
    Quota(Bytes),
    /// Upstream has lost track of what to notify (RFC 5465 §5.8).
    NotificationOverflow,
    Other,
}

/// A FETCH line.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    pub meta: FetchMeta,
    pub body_structure: Option<Bytes>,
    /// `BODY[section]` items: the section, and the octets or NIL. A streamed one is empty here.
    pub bodies: Vec<(String, Option<Bytes>)>,
}

/// Where a streamed literal begins: whose body it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub uid: Option<Uid>,
    pub section: String,
}

/// What is known at a streamed literal; nothing when it is no `BODY[…]`.
pub(super) fn fetch_head(head: &[u8]) -> Option<Head> {
    let head = wire::fetch_head(head)?;
    Some(Head { uid: uid(head.data.uid), section: section(head.item)? })
}

impl Answer {
    /// Reads a message. Never fails: what is not understood is [`Data::Other`].
    pub(super) fn read(message: Bytes) -> Self {
        let status = |kind, code: Option<&[u8]>, text: Cow<'_, str>| Status {
            kind,
            code: code.map(|code| Code(String::from_utf8_lossy(code).into_owned())),
            text: text.into_owned(),
        };
        let data = match wire::response(&message) {
            Response::Continue(text) => return Self::Continue(String::from_utf8_lossy(text).into_owned()),
            Response::Tagged { tag, status: how, code, text } => {
                return Self::Tagged(tag.to_owned(), status(kind(how), code, text));
            }
            Response::Status { status: wire::Status::Bye, code, text } => {
                return Self::Bye(status(Kind::No, code, text));
            }
            Response::Status { status: wire::Status::Preauth, code, text } => {
                Data::Preauth(status(Kind::Ok, code, text))
            }
            Response::Status { status: how, code, text } => {
                let told = status(kind(how), code, text);
                let overflow =
                    told.code.as_ref().is_some_and(|code| code.whole().eq_ignore_ascii_case("NOTIFICATIONOVERFLOW"));
                if overflow { Data::NotificationOverflow } else { Data::Told(told) }
            }
            Response::Capability(words) => Data::Capability(owned(&words)),
            Response::Enabled(words) => Data::Enabled(owned(&words)),
            Response::Flags(words) => Data::Flags(owned(&words)),
            Response::List(list) if list.kind == ListKind::Xlist => Data::Xlist(list_line(list)),
            Response::List(list) => Data::List(list_line(list)),
            Response::MailboxStatus(status) => Data::Status(status_line(status)),
            Response::Search { numbers, .. } => Data::Search(numbers),
            Response::Esearch(found) => Data::Esearch(found.all.unwrap_or_default()),
            Response::Exists(count) => Data::Exists(count),
            Response::Recent(_) => Data::Recent,
            Response::Expunge(seq) => Data::Expunge(seq),
            Response::Vanished { earlier, uids } => Data::Vanished { earlier, uids },
            Response::Fetch { seq, items } => Data::Fetch(fetch(&message, seq, items.data())),
            Response::Namespace(rest) => Data::Namespace(namespace(rest)),
            Response::Quota(_) | Response::QuotaRoot(_) => Data::Quota(message.slice(message.len().min(2)..)),
            Response::Id(_) | Response::Other(_) => Data::Other,
        };
        Self::Data(data)
    }
}

fn kind(status: wire::Status) -> Kind {
    match status {
        wire::Status::Ok | wire::Status::Preauth => Kind::Ok,
        wire::Status::No | wire::Status::Bye => Kind::No,
        wire::Status::Bad => Kind::Bad,
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn uid(number: Option<u32>) -> Option<Uid> {
    number.filter(|number| *number != 0).map(Uid)
}

fn list_line(list: List<'_>) -> ListLine {
    ListLine {
        attributes: owned(&list.attributes),
        delimiter: list.delimiter,
        name: list.name.into_owned(),
        lsub: list.kind == ListKind::Lsub,
    }
}

fn status_line(status: MailboxStatus<'_>) -> StatusLine {
    StatusLine {
        mailbox: status.mailbox.into_owned(),
        messages: status.messages,
        uid_next: uid(status.uid_next),
        uid_validity: status.uid_validity.filter(|number| *number != 0).map(UidValidity),
        unseen: status.unseen,
        highest_modseq: status.highest_modseq.filter(|number| *number != 0),
    }
}

fn fetch(message: &Bytes, seq: u32, data: FetchData<'_>) -> Fetch {
    let kept = |bytes: Cow<'_, [u8]>| match bytes {
        Cow::Borrowed(bytes) => message.slice_ref(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let bodies = data.others.iter().filter_map(|(name, value)| Some((section(name)?, nstring(value).map(kept))));
    Fetch {
        bodies: bodies.collect(),
        body_structure: data.body_structure.map(|raw| message.slice_ref(raw)),
        meta: FetchMeta {
            seq,
            uid: uid(data.uid),
            flags: data.flags,
            modseq: data.modseq.filter(|modseq| *modseq != 0),
            internal_date: data.internal_date,
            size: data.size,
            gm_msgid: data.gm_msgid.or_else(|| data.email_id.map(email_id)),
        },
    }
}

/// EMAILID (RFC 8474 §5.1: up to 255 letters and digits) as the 64 bits that the index keeps, never 0. Of a million messages two share
/// them with a chance of 1 in 30 million; and then POP3 lists the second by its number.
fn email_id(id: &[u8]) -> u64 {
    let mut first = [0; 8];
    blake3::Hasher::new().update(id).finalize_xof().fill(&mut first);
    u64::from_be_bytes(first).max(1)
}

/// What stands between the brackets of `BODY[…]`; nothing for another item, or for a part of a body (`<0>`), which we never ask for.
fn section(item: &[u8]) -> Option<String> {
    let (name, rest) = item.split_at_checked(5)?;
    if !name.eq_ignore_ascii_case(b"BODY[") {
        return None;
    }
    Some(String::from_utf8_lossy(rest.strip_suffix(b"]")?).into_owned())
}

/// The first personal namespace of `(("" "/")) NIL NIL` (RFC 2342 §5).
fn namespace(rest: &[u8]) -> Option<(String, Option<char>)> {
    let personal = Scan::new(rest).value()?;
    let first = Scan::new(personal.strip_prefix(b"(")?.strip_suffix(b")")?).value()?;
    let mut inner = Scan::new(first.strip_prefix(b"(")?);
    let prefix = nstring(inner.value()?)?;
    let delimiter = inner.value().and_then(nstring).and_then(|text| text.first().copied());
    Some((String::from_utf8_lossy(&prefix).into_owned(), delimiter.map(char::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> Answer {
        Answer::read(Bytes::copy_from_slice(message.as_bytes()))
    }

    #[test]
    fn namespaces() {
        let table = [
            ("((\"\" \"/\")) NIL NIL", Some((String::new(), Some('/')))),
            ("((\"INBOX.\" \".\" \"X\" (\"y\"))(\"b\" \"/\")) NIL NIL", Some(("INBOX.".into(), Some('.')))),
            ("((\"\" NIL)) NIL NIL", Some((String::new(), None))),
            ("NIL NIL NIL", None),
            ("(()) NIL NIL", None),
            ("((", None),
            ("", None),
        ];
        for (text, want) in table {
            assert_eq!(namespace(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn a_fetch_is_usable_whatever_is_odd_in_it() {
        let Answer::Data(Data::Fetch(fetch)) = read(
            "* 3 FETCH (X-ODD (a (b)) UID 7 MODSEQ (0) BODY[HEADER] {5}\r\na\r\nbc FLAGS (\\Seen \\Odd x) BODY[2] NIL BODY[1] \"q\\\"\")",
        ) else {
            panic!("not a FETCH")
        };
        assert_eq!((fetch.meta.seq, fetch.meta.uid, fetch.meta.modseq), (3, Some(Uid(7)), None));
        assert_eq!(fetch.meta.flags.unwrap().to_string(), "\\Seen x");
        let bodies: Vec<_> = fetch.bodies.iter().map(|(s, b)| (s.as_str(), b.as_deref())).collect();
        assert_eq!(bodies, [("HEADER", Some(&b"a\r\nbc"[..])), ("2", None), ("1", Some(b"q\""))]);
    }

    #[test]
    fn odd_lines_are_other_and_status_lines_are_read_in_any_shape() {
        for line in ["* 9999999999 EXISTS", "* WHAT (", "Server Unavailable. 15", "* 1 FETCH", "", "*"] {
            let answer = read(line);
            assert!(matches!(&answer, Answer::Data(Data::Other | Data::Fetch(_))), "{line:?}: {answer:?}");
        }
        let Answer::Tagged(tag, status) = read("w1 NO [Gmail]/x does not exist") else { panic!("not tagged") };
        assert_eq!((tag.as_str(), status.kind, status.code), ("w1", Kind::No, None));
        let Answer::Tagged(_, status) = read("w1 OK") else { panic!("not tagged") };
        assert_eq!((status.kind, status.text.as_str()), (Kind::Ok, ""));
    }
}
