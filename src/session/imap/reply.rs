//! What a command ends with, and the one map from what goes wrong below to what the client reads.
//!
//! [`Reply`] is the tagged line without its tag. [`no`] is the only place where an engine error becomes a response code and
//! words; a table test holds every variant. Text from elsewhere (an upstream's words, mailbox names in errors) is made safe
//! here: no line end, no control and no 8-bit octet ever leaves in a status line.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::BytesMut;

use crate::engine::Error;

/// Longest text of a status line: upstreams put whole URLs into theirs, clients show it in one dialogue.
const MAX_TEXT: usize = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    No,
    Bad,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::No => "NO",
            Self::Bad => "BAD",
        }
    }
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: Status,
    /// A response code without its brackets.
    pub(crate) code: Option<Cow<'static, str>>,
    pub(crate) text: Cow<'static, str>,
}

impl Reply {
    pub(crate) fn ok(text: &'static str) -> Self {
        Self { status: Status::Ok, code: None, text: Cow::Borrowed(text) }
    }

    pub(crate) fn no(text: &'static str) -> Self {
        Self { status: Status::No, code: None, text: Cow::Borrowed(text) }
    }

    pub(crate) fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::Bad, code: None, text: text.into() }
    }

    pub(crate) fn with(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// `tag OK [code] text`.
    pub(crate) fn render(&self, tag: &str, out: &mut BytesMut) {
        status_line(out, tag, self.status.word(), self.code.as_deref(), &self.text);
    }

    /// The outcome as metrics tell it.
    pub(crate) fn outcome(&self) -> &'static str {
        match self.status {
            Status::Ok => "ok",
            Status::No => "no",
            Status::Bad => "bad",
        }
    }
}

/// `* OK [code] text`, `* BYE text` and the like.
pub(crate) fn untagged(out: &mut BytesMut, word: &str, code: Option<&str>, text: &str) {
    status_line(out, "*", word, code, text);
}

fn status_line(out: &mut BytesMut, tag: &str, word: &str, code: Option<&str>, text: &str) {
    out.extend_from_slice(tag.as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(word.as_bytes());
    if let Some(code) = code {
        out.extend_from_slice(b" [");
        out.extend_from_slice(code.as_bytes());
        out.extend_from_slice(b"]");
    }
    out.extend_from_slice(b" ");
    let before = out.len();
    for byte in text.bytes().take(MAX_TEXT) {
        out.extend_from_slice(&[if (0x20..0x7f).contains(&byte) { byte } else { b'?' }]);
    }
    if out.len() == before {
        // `text` is 1*TEXT-CHAR: an empty one breaks strict clients.
        out.extend_from_slice(b"-");
    }
    out.extend_from_slice(b"\r\n");
}

/// Where a mailbox name in an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// The mailbox a command is about.
    Mailbox,
    /// The destination of APPEND, COPY or MOVE: a client may offer to create it (RFC 9051 §6.3.12).
    Destination,
}

/// The answer to a command that failed below.
pub(crate) fn no(error: &Error, names: Names) -> Reply {
    let (code, text): (Option<Cow<'static, str>>, Cow<'static, str>) = match error {
        Error::NoSuchMailbox(_) if names == Names::Destination => {
            (Some("TRYCREATE".into()), "Mailbox does not exist".into())
        }
        Error::NoSuchMailbox(_) => (Some("NONEXISTENT".into()), "Mailbox does not exist".into()),
        Error::Exists(_) => (Some("ALREADYEXISTS".into()), "Mailbox exists already".into()),
        Error::Cannot(text) => (Some("CANNOT".into()), text.clone().into()),
        Error::Expunged => (Some("EXPUNGEISSUED".into()), "Some of the messages no longer exist".into()),
        Error::Unavailable(text) => (Some("UNAVAILABLE".into()), text.clone().into()),
        Error::Limit(text) => (Some("LIMIT".into()), text.clone().into()),
        Error::Refused { code, text } => {
            (code.as_deref().and_then(safe_code), if text.is_empty() { "Refused".into() } else { text.clone().into() })
        }
        Error::TooBig { limit } => {
            let mut text = String::from("Message is larger than ");
            let _ = write!(text, "{limit} octets");
            (Some("TOOBIG".into()), text.into())
        }
        Error::Gone => (Some("UNAVAILABLE".into()), "Mailbox changed, select it again".into()),
        Error::Internal(text) => (Some("SERVERBUG".into()), text.clone().into()),
    };
    Reply { status: Status::No, code, text }
}

/// An upstream's response code, if it can stand in brackets of ours.
fn safe_code(code: &str) -> Option<Cow<'static, str>> {
    let fits = code.len() <= 100 && code.bytes().all(|b| (0x20..0x7f).contains(&b) && !b"[]".contains(&b));
    (fits && code.starts_with(|c: char| c.is_ascii_alphabetic())).then(|| code.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_words() {
        let name = || "Wörk\r\n* BYE".to_owned();
        let table = [
            (Error::NoSuchMailbox(name()), Names::Mailbox, "a NO [NONEXISTENT] Mailbox does not exist"),
            (Error::NoSuchMailbox(name()), Names::Destination, "a NO [TRYCREATE] Mailbox does not exist"),
            (Error::Exists(name()), Names::Mailbox, "a NO [ALREADYEXISTS] Mailbox exists already"),
            (Error::Cannot("no".into()), Names::Mailbox, "a NO [CANNOT] no"),
            (Error::Expunged, Names::Mailbox, "a NO [EXPUNGEISSUED] Some of the messages no longer exist"),
            (Error::Unavailable("off\r\nline".into()), Names::Mailbox, "a NO [UNAVAILABLE] off??line"),
            (Error::Limit("much".into()), Names::Mailbox, "a NO [LIMIT] much"),
            (
                Error::Refused { code: Some("OVERQUOTA".into()), text: "full".into() },
                Names::Mailbox,
                "a NO [OVERQUOTA] full",
            ),
            (Error::Refused { code: Some("A]\r\n".into()), text: String::new() }, Names::Mailbox, "a NO Refused"),
            (Error::Refused { code: None, text: "é".into() }, Names::Mailbox, "a NO ??"),
            (Error::TooBig { limit: 9 }, Names::Destination, "a NO [TOOBIG] Message is larger than 9 octets"),
            (Error::Gone, Names::Mailbox, "a NO [UNAVAILABLE] Mailbox changed, select it again"),
            (Error::Internal("oops".into()), Names::Mailbox, "a NO [SERVERBUG] oops"),
        ];
        for (error, names, want) in table {
            let mut out = BytesMut::new();
            no(&error, names).render("a", &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("{want}\r\n"), "{error:?}");
        }
    }

    #[test]
    fn text_is_never_empty() {
        let mut out = BytesMut::new();
        untagged(&mut out, "OK", None, "");
        assert_eq!(&out[..], b"* OK -\r\n");
    }
}
