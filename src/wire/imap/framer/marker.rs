//! The announcement of a literal at the end of a line.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// Bytes of the marker at the end of the line: `~{12+}` is 6.
    pub(super) width: usize,
    /// Saturates at `u64::MAX`.
    pub(super) len: u64,
    pub(super) sync: bool,
    pub(super) literal8: bool,
}

/// Whether the literal that follows `head` is a message of APPEND: a tag, the word, and a mailbox already there (which
/// may itself be a literal). Such a literal is never collected here, however small.
pub fn is_append_data(head: &[u8]) -> bool {
    let mut words = head.splitn(3, |b| *b == b' ');
    let (tag, word, rest) = (words.next(), words.next(), words.next());
    tag.is_some_and(|tag| !tag.is_empty())
        && word.is_some_and(|word| word.eq_ignore_ascii_case(b"APPEND"))
        && rest.is_some_and(|rest| !rest.trim_ascii().is_empty())
}

/// The literal announced at the end of a line without its line end: `{n}`, `{n+}` (RFC 7888) or `~{n}` (RFC 3516).
pub(super) fn marker(line: &[u8]) -> Option<Marker> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, sync) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    let digits = inner.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let (before, count) = inner.split_at_checked(inner.len() - digits)?;
    let before = before.strip_suffix(b"{")?;
    if count.is_empty() {
        return None;
    }
    let len = count.iter().fold(0u64, |n, digit| n.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    let literal8 = before.ends_with(b"~");
    let width = line.len() - before.len() + usize::from(literal8);
    Some(Marker { width, len, sync, literal8 })
}
