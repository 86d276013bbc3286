//! Cuts tokens out of a server's message: words, and values as raw bytes.

use std::borrow::Cow;

use memchr::memchr2;

/// What is left of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn skip_spaces(&mut self) {
        let spaces = self.rest.iter().take_while(|b| **b == b' ').count();
        self.rest = self.rest.get(spaces..).unwrap_or_default();
    }

    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let Some(rest) = self.rest.strip_prefix(&[byte]) else { return false };
        self.rest = rest;
        true
    }

    /// What stands up to the next space, after leading ones. Empty at the end.
    pub(crate) fn word(&mut self) -> &'a [u8] {
        self.skip_spaces();
        let end = self.rest.iter().position(|b| *b == b' ').unwrap_or(self.rest.len());
        self.take(end)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// One value, raw: a string, literal, list or atom. Nothing where none stands, or where it has no end.
    pub(crate) fn value(&mut self) -> Option<&'a [u8]> {
        self.skip_spaces();
        let end = value_end(self.rest)?;
        (end > 0).then(|| self.take(end))
    }

    /// The next `name value` of a FETCH or STATUS list. The value is empty where the message ends behind the name.
    /// Nothing at the closing parenthesis, at the end, or where what follows has no shape; [`Self::rest`] tells.
    pub(crate) fn pair(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let mut ahead = *self;
        ahead.skip_spaces();
        let end = name_end(ahead.rest).filter(|end| *end > 0)?;
        let name = ahead.take(end);
        ahead.skip_spaces();
        let value = if ahead.rest.is_empty() || ahead.rest.starts_with(b")") { &[][..] } else { ahead.value()? };
        *self = ahead;
        Some((name, value))
    }
}

/// The end of an item's name: at a space or the start of a value, brackets counted as one with what they hold.
fn name_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'(' | b')' | b'"' | b'{' | b'~' => break,
            b'[' => at += bracket_end(bytes.get(at..)?)?,
            _ => at += 1,
        }
    }
    Some(at)
}

/// The length of `[…]`. A `]` inside parentheses or quotes (a header name) does not close it.
fn bracket_end(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b']' if depth == 0 => return Some(at + 1),
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'"' => {
                at += quoted_end(bytes.get(at..)?)?;
                continue;
            }
            b'{' => {
                if let Some(end) = literal_end(bytes.get(at..)?) {
                    at += end;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// The length of the value that starts here; 0 where none does.
fn value_end(bytes: &[u8]) -> Option<usize> {
    match bytes.first() {
        Some(b'(') => list_end(bytes),
        Some(b'"') => quoted_end(bytes),
        Some(b'{' | b'~') => Some(literal_end(bytes).unwrap_or_else(|| atom_end(bytes))),
        _ => Some(atom_end(bytes)),
    }
}

fn list_end(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'(' => {
                depth += 1;
                at += 1;
            }
            b')' => {
                depth -= 1;
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            b' ' => at += 1,
            _ => at += value_end(bytes.get(at..)?)?.max(1),
        }
    }
}

fn quoted_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn atom_end(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| matches!(b, b' ' | b'(' | b')')).unwrap_or(bytes.len())
}

/// The length of a literal with its marker; nothing if there is none, or less of it than it says.
fn literal_end(bytes: &[u8]) -> Option<usize> {
    let (start, length) = literal(bytes)?;
    start.checked_add(length).filter(|end| *end <= bytes.len())
}

/// Where a literal's bytes start, and how many there are said to be.
fn literal(bytes: &[u8]) -> Option<(usize, usize)> {
    let inner = bytes.strip_prefix(b"~").unwrap_or(bytes).strip_prefix(b"{")?;
    let digits = inner.iter().take_while(|b| b.is_ascii_digit()).count();
    let (count, rest) = inner.split_at_checked(digits)?;
    let rest = rest.strip_prefix(b"+").unwrap_or(rest).strip_prefix(b"}")?;
    let rest = rest.strip_prefix(b"\r").unwrap_or(rest).strip_prefix(b"\n")?;
    Some((bytes.len() - rest.len(), usize::try_from(number64(count)?).ok()?))
}

/// The bytes a raw value stands for: a quoted string without its quotes and escapes, a literal's content, an atom as
/// it is; nothing for `NIL`.
pub fn nstring(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if value.eq_ignore_ascii_case(b"NIL") {
        return None;
    }
    if let Some((start, length)) = literal(value) {
        return value.get(start..start.checked_add(length)?).map(Cow::Borrowed);
    }
    let quoted = value.strip_prefix(b"\"").map(|inner| inner.strip_suffix(b"\"").unwrap_or(inner));
    let Some(inner) = quoted else { return Some(Cow::Borrowed(value)) };
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
    }
    Some(Cow::Owned(out))
}

/// Text for people or names: bytes that are not UTF-8 are shown as replacement characters.
pub(crate) fn text(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// The words of a line; one that is not UTF-8 is left out.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|b| *b == b' ').filter(|word| !word.is_empty()).filter_map(|word| std::str::from_utf8(word).ok())
}

/// The words between the first pair of parentheses, as in FLAGS and LIST attributes.
pub(crate) fn list_words(bytes: &[u8]) -> impl Iterator<Item = &str> {
    let inner = bytes.trim_ascii();
    let inner = inner.strip_prefix(b"(").unwrap_or(inner);
    words(inner.strip_suffix(b")").unwrap_or(inner))
}

/// A number of nothing but digits; saturates.
pub(crate) fn number64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |n, digit| n.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// The same for a number that must fit 32 bits.
pub(crate) fn number32(digits: &[u8]) -> Option<u32> {
    number64(digits).and_then(|number| u32::try_from(number).ok())
}
