//! How responses are written: strings, flags, FETCH items, the lines of a catch-up.
//!
//! Everything appends to the connection's buffer; nothing is built aside. Strings from elsewhere (mailbox names, keywords,
//! headers) are written as quoted strings only when every octet may stand in one, else as literals, so no name can end a line.

use std::fmt::Write as _;

use bytes::BytesMut;

use super::view::{News, View};
use crate::engine::Snapshot;
use crate::model::{Flags, Keyword, MessageMeta, SystemFlags, UidSet};

/// Longest string written quoted: beyond it a literal is easier on every parser.
const MAX_QUOTED: usize = 1000;

pub(crate) fn text(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn number(out: &mut BytesMut, number: impl Into<u64>) {
    text(out, itoa::Buffer::new().format(number.into()));
}

/// `string`: quoted where that is possible, else a literal.
pub(crate) fn string(out: &mut BytesMut, bytes: &[u8]) {
    if bytes.len() > MAX_QUOTED || !bytes.iter().all(|b| (0x20..0x7f).contains(b)) {
        return literal(out, bytes);
    }
    text(out, "\"");
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            text(out, "\\");
        }
        out.extend_from_slice(&[*byte]);
    }
    text(out, "\"");
}

/// A mailbox name: an atom where it can be one, as Dovecot and most others write it.
pub(crate) fn mailbox(out: &mut BytesMut, name: &str) {
    let atom = name.bytes().all(|b| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b));
    if atom && !name.is_empty() && !name.eq_ignore_ascii_case("NIL") {
        text(out, name);
    } else {
        string(out, name.as_bytes());
    }
}

pub(crate) fn literal(out: &mut BytesMut, bytes: &[u8]) {
    literal_head(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// `{n}` CRLF; `n` octets have to follow.
pub(crate) fn literal_head(out: &mut BytesMut, len: u64) {
    text(out, "{");
    number(out, len);
    text(out, "}\r\n");
}

/// A hierarchy delimiter: quoted, or NIL.
pub(crate) fn delimiter(out: &mut BytesMut, delimiter: Option<char>) {
    match delimiter {
        Some(c) => string(out, c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => text(out, "NIL"),
    }
}

/// `FLAGS (…)`; `\Recent` between the system flags and the keywords.
pub(crate) fn flags(out: &mut BytesMut, flags: &Flags, recent: bool) {
    text(out, "FLAGS (");
    let (system, keywords) = (flags.system_names(), flags.keywords().iter().map(Keyword::as_str));
    for (index, name) in system.chain(recent.then_some("\\Recent")).chain(keywords).enumerate() {
        if index > 0 {
            text(out, " ");
        }
        text(out, name);
    }
    text(out, ")");
}

/// `INTERNALDATE "…"`. The grammar allows a day of one digit to be padded with a blank or with 0; the 0 is what Dovecot and
/// most others write, and a client that compares texts finds no difference.
pub(crate) fn internal_date(out: &mut BytesMut, meta: &MessageMeta) {
    text(out, "INTERNALDATE \"");
    let at = out.len();
    // Writing to a BytesMut cannot fail.
    let _ = write!(out, "{}\"", meta.internal_date);
    if let Some(first) = out.get_mut(at).filter(|first| **first == b' ') {
        *first = b'0';
    }
}

/// `* FLAGS (…)` and `* OK [PERMANENTFLAGS (…)]` of a mailbox.
pub(crate) fn mailbox_flags(out: &mut BytesMut, snapshot: &Snapshot, read_only: bool) {
    text(out, "* FLAGS (");
    let mut first = true;
    let mut name = |out: &mut BytesMut, flag: &str| {
        text(out, if std::mem::take(&mut first) { "" } else { " " });
        text(out, flag);
    };
    for (_, flag) in SystemFlags::NAMES {
        name(out, flag);
    }
    for keyword in snapshot.keywords.iter() {
        name(out, keyword.as_str());
    }
    text(out, ")\r\n* OK [PERMANENTFLAGS (");
    if read_only {
        return text(out, ")] Read-only mailbox\r\n");
    }
    for (flag, name) in SystemFlags::NAMES {
        if snapshot.permanent.as_ref().is_none_or(|permanent| permanent.has(flag)) {
            text(out, name);
            text(out, " ");
        }
    }
    // A keyword that the provider does not keep is kept here.
    for keyword in snapshot.keywords.iter().map(Keyword::as_str) {
        text(out, keyword);
        text(out, " ");
    }
    text(out, "\\*)] Flags permitted\r\n");
}

/// How untagged updates are told to this client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// QRESYNC is enabled: VANISHED instead of EXPUNGE.
    pub(crate) vanished: bool,
    /// FETCH carries MODSEQ.
    pub(crate) mod_sequences: bool,
    /// FETCH carries UID.
    pub(crate) uids: bool,
}

/// What a catch-up found, in the order in which numbers stay right: EXPUNGE from the last to the first, EXISTS, FETCH.
pub(crate) fn news(out: &mut BytesMut, news: &News, view: &View, snapshot: &Snapshot, read_only: bool, manner: Manner) {
    if news.keywords {
        mailbox_flags(out, snapshot, read_only);
    }
    if manner.vanished && !news.expunged.is_empty() {
        let gone: UidSet = news.expunged.iter().map(|(_, uid)| uid.0).collect();
        vanished(out, &gone, false);
    } else {
        for (seq, _) in news.expunged.iter().rev() {
            text(out, "* ");
            number(out, seq.0);
            text(out, " EXPUNGE\r\n");
        }
    }
    if let Some(exists) = news.exists {
        text(out, "* ");
        number(out, exists);
        text(out, " EXISTS\r\n");
    }
    if let Some(recent) = news.recent {
        text(out, "* ");
        number(out, recent);
        text(out, " RECENT\r\n");
    }
    for changed in &news.changed {
        let Some(meta) = view.messages().at(changed.seq.0 - 1) else { continue };
        text(out, "* ");
        number(out, changed.seq.0);
        text(out, " FETCH (");
        if manner.uids {
            text(out, "UID ");
            number(out, meta.uid.0);
            text(out, " ");
        }
        if changed.mod_sequence_only {
            mod_sequence(out, meta);
        } else {
            flags(out, &meta.flags, view.is_recent(meta.uid));
            if manner.mod_sequences {
                text(out, " ");
                mod_sequence(out, meta);
            }
        }
        text(out, ")\r\n");
    }
}

/// `MODSEQ (n)`.
pub(crate) fn mod_sequence(out: &mut BytesMut, meta: &MessageMeta) {
    text(out, "MODSEQ (");
    number(out, meta.modseq.0);
    text(out, ")");
}

/// `* VANISHED …` (RFC 7162 §3.2.10); nothing for the empty set.
pub(crate) fn vanished(out: &mut BytesMut, uids: &UidSet, earlier: bool) {
    if !uids.is_empty() {
        let _ = write!(out, "* VANISHED {}{uids}\r\n", if earlier { "(EARLIER) " } else { "" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_string_ends_a_line() {
        let long = "x".repeat(1001);
        let table: [(&[u8], String); 6] = [
            (b"INBOX", "\"INBOX\"".into()),
            (b"", "\"\"".into()),
            (b"a\"b\\c", "\"a\\\"b\\\\c\"".into()),
            (b"a\r\n* BYE", "{8}\r\na\r\n* BYE".into()),
            ("ü".as_bytes(), "{2}\r\nü".into()),
            (long.as_bytes(), format!("{{1001}}\r\n{long}")),
        ];
        for (input, want) in table {
            let mut out = BytesMut::new();
            string(&mut out, input);
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
        for (name, want) in
            [("Work/2024", "Work/2024"), ("&AOk-", "&AOk-"), ("nil", "\"nil\""), ("a b", "\"a b\""), ("", "\"\"")]
        {
            let mut out = BytesMut::new();
            mailbox(&mut out, name);
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
        let mut out = BytesMut::new();
        delimiter(&mut out, Some('\\'));
        delimiter(&mut out, None);
        assert_eq!(&out[..], b"\"\\\\\"NIL");
    }
}
