//! Header blocks: where they end, their fields in order, values unfolded or decoded (RFC 5322 §2.2).
//!
//! A header block is a run of lines up to and with the first empty one. A line that starts with white space goes on
//! with the field before it, even if it holds nothing else; a line without a colon is junk, which stays in the block
//! and belongs to no field. Lines end with LF; a CR before it belongs to the end.

use memchr::{memchr, memchr_iter};

use super::decode;

/// One field of a header block, as it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// The name without white space before the colon; empty for a junk line.
    pub(super) name: &'a [u8],
    /// What follows the colon, folds and all, without leading blanks and the last line end.
    pub(super) value: &'a [u8],
    /// The whole lines, with the last line end where there is one.
    pub(super) lines: &'a [u8],
    /// A line without colon.
    pub(super) junk: bool,
}

impl Field<'_> {
    pub(super) fn is(&self, name: &str) -> bool {
        !self.junk && self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields of a header block, up to its empty line or its end.
pub(super) fn fields(header: &[u8]) -> Fields<'_> {
    Fields { rest: header }
}

pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// What has not been read yet: after the last field, the empty line or nothing.
    fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() || is_empty_line(self.rest) {
            return None;
        }
        let mut end = self.rest.len();
        for newline in memchr_iter(b'\n', self.rest) {
            if !matches!(self.rest.get(newline + 1), Some(b' ' | b'\t')) {
                end = newline + 1;
                break;
            }
        }
        let (lines, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let content = without_line_end(lines);
        let first_line = memchr(b'\n', content).unwrap_or(content.len());
        Some(match content.get(..first_line).and_then(|line| memchr(b':', line)) {
            Some(colon) => {
                let (name, value) = content.split_at_checked(colon).unwrap_or((content, b""));
                let value = value.get(1..).unwrap_or(b"");
                let blanks = value.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                // Of a first line that is only blanks, all but the customary one belong to the value.
                let blanks =
                    if matches!(value.get(blanks), None | Some(b'\r' | b'\n')) { blanks.min(1) } else { blanks };
                let name = name.trim_ascii_end();
                Field { name, value: value.get(blanks..).unwrap_or(b""), lines, junk: false }
            }
            None => Field { name: b"", value: b"", lines, junk: true },
        })
    }
}

fn is_empty_line(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\n") || bytes.starts_with(b"\r\n")
}

fn without_line_end(lines: &[u8]) -> &[u8] {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    lines.strip_suffix(b"\r").unwrap_or(lines)
}

/// Length of the header block with its empty line; the whole length if there is no empty line.
pub fn header_end(raw: &[u8]) -> usize {
    if raw.starts_with(b"\n") {
        return 1;
    }
    if raw.starts_with(b"\r\n") {
        return 2;
    }
    for newline in memchr_iter(b'\n', raw) {
        match raw.get(newline + 1..) {
            Some([b'\n', ..]) => return newline + 2,
            Some([b'\r', b'\n', ..]) => return newline + 3,
            _ => {}
        }
    }
    raw.len()
}

/// The fields with one of `names` (or, with `not`, all others), in message order and as they stand, then the empty
/// line: BODY[HEADER.FIELDS …] (RFC 9051 §6.4.5).
///
/// Where the header block has no empty line, the chosen fields still get one and the others do not, as Dovecot does
/// it. Junk lines count among the others.
pub fn header_fields(header: &[u8], names: &[String], not: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut all = fields(header);
    for field in all.by_ref() {
        if names.iter().any(|name| field.is(name)) != not {
            out.extend_from_slice(field.lines);
            if !not && !field.lines.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    if not {
        let rest = all.rest();
        let empty_line = if rest.starts_with(b"\r\n") { 2 } else { rest.len().min(1) };
        out.extend_from_slice(rest.get(..empty_line).unwrap_or(b""));
    } else {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// All values of a field, unfolded and with RFC 2047 words decoded: what SEARCH HEADER looks at.
pub fn header_values(header: &[u8], name: &str) -> Vec<String> {
    fields(header).filter(|field| field.is(name)).map(|field| decode::header_text(&one_line(field.value))).collect()
}

/// The last Message-ID of a header, without its folds; nothing if it is missing or blank.
pub fn message_id(header: &[u8]) -> Option<String> {
    let field = fields(header).filter(|field| field.is("Message-ID")).last()?;
    let value = unfold(field.value);
    let text = String::from_utf8_lossy(value.trim_ascii()).into_owned();
    (!text.is_empty()).then_some(text)
}

/// A value in one line: line ends before white space are dropped and the white space stays (RFC 5322 §2.2.3), a lone
/// CR becomes a space and a NUL U+FFFD, so that no server text ever carries them.
pub(super) fn unfold(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => {}
            b'\r' if bytes.peek() == Some(&b'\n') => {}
            b'\r' => out.push(b' '),
            0 => out.extend_from_slice("\u{fffd}".as_bytes()),
            _ => out.push(byte),
        }
    }
    out
}

/// The same to look for words in: a tab that a fold was made with is a space, which the author wrote (RFC 5322 §2.2.3 says white space;
/// Dovecot and Cyrus do the same).
pub(super) fn one_line(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    for at in 1..value.len() {
        if let Some([b'\n', tab @ b'\t']) = value.get_mut(at - 1..=at) {
            *tab = b' ';
        }
    }
    unfold(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_line_ends_a_header() {
        for (raw, want) in [
            ("", 0),
            ("\r\nbody", 2),
            ("\nbody", 1),
            ("a: b\r\n\r\nbody", 8),
            ("a: b\n\nbody", 6),
            ("a: b\r\n \r\nc: d\n\r\nx", 16),
            ("a: b", 4),
            ("a: b\r\n", 6),
        ] {
            assert_eq!(header_end(raw.as_bytes()), want, "{raw:?}");
        }
    }

    #[test]
    fn fields_keep_their_folds() {
        let header = b"A : 1\r\n\t2\r\njunk\r\nb:3\n\r\nno: field\r\n";
        let seen: Vec<_> = fields(header).map(|field| (field.name, field.value, field.junk)).collect();
        assert_eq!(seen, [(&b"A"[..], &b"1\r\n\t2"[..], false), (b"", b"", true), (b"b", b"3", false)]);
        assert_eq!(header_fields(header, &["a".into()], false), b"A : 1\r\n\t2\r\n\r\n");
        assert_eq!(header_fields(header, &["a".into()], true), b"junk\r\nb:3\n\r\n");
        assert_eq!(header_values(header, "a"), ["1 2"]);
    }

    #[test]
    fn message_ids() {
        assert_eq!(message_id(b"Message-Id: <a>\r\nMESSAGE-ID:\r\n <b>\r\n\r\n").as_deref(), Some("<b>"));
        assert_eq!(message_id(b"Message-Id:  \r\n\r\n"), None);
        assert_eq!(message_id(b"Subject: x\r\n\r\nMessage-Id: <a>\r\n"), None);
    }
}
