//! Response codes: where they stand in a line, and what they say.

use std::borrow::Cow;

use super::scan::{Scan, list_words, number32, number64, text, words};
use crate::model::{Uid, UidSet, UidValidity};

/// Most pairs of a COPYUID that are counted out: more than any mailbox copied at once, and 8 MB.
const MAX_PAIRS: usize = 1 << 20;

/// A response code (RFC 9051 §7.1, RFC 5530, RFC 4315, RFC 7162).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code<'a> {
    Alert,
    AlreadyExists,
    /// RFC 4315; more than one UID for MULTIAPPEND.
    AppendUid {
        uid_validity: UidValidity,
        uids: UidSet,
    },
    AuthenticationFailed,
    AuthorizationFailed,
    BadCharset,
    Cannot,
    Capability(Vec<&'a str>),
    ClientBug,
    Closed,
    ContactAdmin,
    /// RFC 4315: which UID became which.
    CopyUid {
        uid_validity: UidValidity,
        pairs: Vec<(Uid, Uid)>,
    },
    Corruption,
    Expired,
    ExpungeIssued,
    HighestModSeq(u64),
    InUse,
    Limit,
    /// RFC 7162 §3.1.3: the messages a conditional STORE left alone.
    Modified(UidSet),
    NoModSeq,
    NonExistent,
    NoPerm,
    OverQuota,
    Parse,
    /// As sent, `\*` included.
    PermanentFlags(Vec<&'a str>),
    PrivacyRequired,
    ReadOnly,
    ReadWrite,
    ServerBug,
    TooBig,
    TryCreate,
    UidNext(u32),
    UidNotSticky,
    UidValidity(u32),
    Unavailable,
    UnknownCte,
    Unseen(u32),
    /// Another code, or a known one with nonsense in it; the name in the server's spelling.
    Other {
        name: Cow<'a, str>,
        rest: &'a [u8],
    },
}

/// Codes of one word.
const WORDS: [(&str, Code<'static>); 25] = [
    ("ALERT", Code::Alert),
    ("ALREADYEXISTS", Code::AlreadyExists),
    ("AUTHENTICATIONFAILED", Code::AuthenticationFailed),
    ("AUTHORIZATIONFAILED", Code::AuthorizationFailed),
    ("BADCHARSET", Code::BadCharset),
    ("CANNOT", Code::Cannot),
    ("CLIENTBUG", Code::ClientBug),
    ("CLOSED", Code::Closed),
    ("CONTACTADMIN", Code::ContactAdmin),
    ("CORRUPTION", Code::Corruption),
    ("EXPIRED", Code::Expired),
    ("EXPUNGEISSUED", Code::ExpungeIssued),
    ("INUSE", Code::InUse),
    ("LIMIT", Code::Limit),
    ("NOMODSEQ", Code::NoModSeq),
    ("NONEXISTENT", Code::NonExistent),
    ("NOPERM", Code::NoPerm),
    ("OVERQUOTA", Code::OverQuota),
    ("PARSE", Code::Parse),
    ("PRIVACYREQUIRED", Code::PrivacyRequired),
    ("READ-ONLY", Code::ReadOnly),
    ("READ-WRITE", Code::ReadWrite),
    ("SERVERBUG", Code::ServerBug),
    ("TRYCREATE", Code::TryCreate),
    ("UNAVAILABLE", Code::Unavailable),
];

impl<'a> Code<'a> {
    /// Reads what stood between the brackets.
    pub fn read(code: &'a [u8]) -> Self {
        let mut scan = Scan::new(code.trim_ascii());
        let name = scan.word();
        let rest = scan.rest().trim_ascii();
        if let Some((_, code)) = WORDS.iter().find(|(word, _)| name.eq_ignore_ascii_case(word.as_bytes())) {
            return code.clone();
        }
        Self::with_arguments(name, rest).unwrap_or_else(|| Self::Other { name: String::from_utf8_lossy(name), rest })
    }

    fn with_arguments(name: &[u8], rest: &'a [u8]) -> Option<Self> {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        if is("UIDVALIDITY") {
            number32(rest).map(Self::UidValidity)
        } else if is("UIDNEXT") {
            number32(rest).map(Self::UidNext)
        } else if is("UNSEEN") {
            number32(rest).map(Self::Unseen)
        } else if is("HIGHESTMODSEQ") {
            number64(rest).map(Self::HighestModSeq)
        } else if is("PERMANENTFLAGS") {
            Some(Self::PermanentFlags(list_words(rest).collect()))
        } else if is("CAPABILITY") {
            Some(Self::Capability(words(rest).collect()))
        } else if is("MODIFIED") {
            set(rest).map(Self::Modified)
        } else if is("APPENDUID") {
            let mut scan = Scan::new(rest);
            let uid_validity = UidValidity(number32(scan.word())?);
            Some(Self::AppendUid { uid_validity, uids: set(scan.word())? })
        } else if is("COPYUID") {
            let mut scan = Scan::new(rest);
            let uid_validity = UidValidity(number32(scan.word())?);
            Some(Self::CopyUid { uid_validity, pairs: pairs(scan.word(), scan.word())? })
        } else if is("UIDNOTSTICKY") {
            Some(Self::UidNotSticky)
        } else if is("UNKNOWN-CTE") {
            Some(Self::UnknownCte)
        } else if is("TOOBIG") {
            Some(Self::TooBig)
        } else {
            None
        }
    }
}

fn set(bytes: &[u8]) -> Option<UidSet> {
    UidSet::parse(std::str::from_utf8(bytes).ok()?)
}

/// Both sets counted out in the order written, which is what pairs them (RFC 4315 §3). Nothing when they differ in
/// number: then nobody can say which is which.
fn pairs(from: &[u8], to: &[u8]) -> Option<Vec<(Uid, Uid)>> {
    let (from, to) = (in_order(from)?, in_order(to)?);
    (from.len() == to.len()).then(|| from.into_iter().zip(to).collect())
}

fn in_order(bytes: &[u8]) -> Option<Vec<Uid>> {
    let mut uids = Vec::new();
    for range in bytes.split(|b| *b == b',') {
        let range = set(range)?;
        if range.len() + uids.len() as u64 > MAX_PAIRS as u64 {
            return None;
        }
        uids.extend(range.iter().map(Uid));
    }
    Some(uids)
}

/// The code and the words of a status line, either of which may be missing.
///
/// A bracket that is followed by neither a space nor the end is words (`[Gmail]/Trash is gone`), unless it holds a code
/// of RFC 9051 or RFC 5530 (`[ALERT]text`).
pub(super) fn split(rest: &[u8]) -> (Option<&[u8]>, Cow<'_, str>) {
    let rest = rest.trim_ascii();
    if let Some(inner) = rest.strip_prefix(b"[")
        && let Some(end) = end(inner)
        && let (Some(code), Some(words)) = (inner.get(..end), inner.get(end + 1..))
        && (words.is_empty() || words.starts_with(b" ") || !matches!(Code::read(code), Code::Other { .. }))
    {
        return (Some(code), text(Cow::Borrowed(words.trim_ascii())));
    }
    (None, text(Cow::Borrowed(rest)))
}

/// Where the closing bracket stands: not within quotes or parentheses (a flag may hold one), or else the first at all.
fn end(inner: &[u8]) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, byte) in inner.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b']' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    inner.iter().position(|b| *b == b']')
}
