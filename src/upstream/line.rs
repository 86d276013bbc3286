//! A command on its way upstream: text and literals, cut so that nothing of it can be taken for something else.
//!
//! Strings are quoted, or literals where quoting cannot hold them; never written raw (a mailbox name with CRLF in it would be a
//! command of its own).

use bytes::Bytes;

use super::caps::Caps;

/// The longest quoted string: above it a literal, which every server takes.
const MAX_QUOTED: usize = 1024;

/// A part of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(Vec<u8>),
    Literal(Bytes),
}

/// A command without tag and final CRLF. `Debug` shows no contents: a LOGIN is a command too (Law 12).
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    parts: Vec<Part>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({})", self.name())
    }
}

impl Line {
    /// Begins with `text`, which is ours and not checked.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self::default().text(text)
    }

    /// Adds text of ours: words, numbers, sets, flags.
    pub(super) fn text(mut self, text: impl AsRef<str>) -> Self {
        self.push(text.as_ref().as_bytes());
        self
    }

    /// Adds a string: quoted if it can be, else a literal.
    pub(super) fn string(mut self, string: &[u8]) -> Self {
        let quotable = string.len() <= MAX_QUOTED && string.iter().all(|b| (b' '..=b'~').contains(b));
        if !quotable {
            return self.literal(Bytes::copy_from_slice(string));
        }
        let mut quoted = Vec::with_capacity(string.len() + 2);
        quoted.push(b'"');
        for byte in string {
            if matches!(byte, b'"' | b'\\') {
                quoted.push(b'\\');
            }
            quoted.push(*byte);
        }
        quoted.push(b'"');
        self.push(&quoted);
        self
    }

    /// Adds a literal.
    pub(super) fn literal(mut self, bytes: Bytes) -> Self {
        self.parts.push(Part::Literal(bytes));
        self
    }

    /// A program that may hold literals in the form `{n}` CRLF bytes, as a client's SEARCH does; nothing when it is malformed.
    pub(super) fn program(mut self, program: &[u8]) -> Option<Self> {
        let mut rest = program;
        loop {
            let Some(end) = memchr::memmem::find(rest, b"\r\n") else {
                if rest.contains(&b'\n') || rest.contains(&b'\r') || rest.contains(&0) {
                    return None;
                }
                self.push(rest);
                return Some(self);
            };
            let (line, after) = (rest.get(..end)?, rest.get(end + 2..)?);
            let open = line.iter().rposition(|b| *b == b'{')?;
            let (text, count) = line.split_at_checked(open)?;
            let count = count.strip_prefix(b"{")?.strip_suffix(b"}")?;
            let count = count.strip_suffix(b"+").unwrap_or(count);
            let len: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
            let (literal, after) = after.split_at_checked(len)?;
            if text.contains(&b'\n') || text.contains(&b'\r') || text.contains(&0) {
                return None;
            }
            self.push(text);
            self.parts.push(Part::Literal(Bytes::copy_from_slice(literal)));
            rest = after;
        }
    }

    /// The command's first two words at most, for logs.
    pub(super) fn name(&self) -> String {
        let Some(Part::Text(text)) = self.parts.first() else { return String::new() };
        let mut words = text.split(|b| *b == b' ');
        let first = words.next().unwrap_or_default();
        let second = if first == b"UID" { words.next() } else { None };
        [Some(first), second].into_iter().flatten().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
    }

    /// Whether it changes nothing, and can be asked again elsewhere. FETCH: ours is always a peek.
    pub(super) fn only_reads(&self) -> bool {
        matches!(&*self.name(), "UID FETCH" | "UID SEARCH" | "FETCH" | "SEARCH")
    }

    /// How long it is, literals included.
    pub(super) fn octets(&self) -> usize {
        let len = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Literal(bytes) => bytes.len(),
        };
        self.parts.iter().map(len).sum()
    }

    /// The parts in order.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether sending has to stop for a `+` from upstream.
    pub(super) fn waits(&self, caps: &Caps) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Literal(bytes) if !caps.may_send_without_asking(bytes.len())))
    }

    fn push(&mut self, bytes: &[u8]) {
        match self.parts.last_mut() {
            Some(Part::Text(text)) => text.extend_from_slice(bytes),
            _ => self.parts.push(Part::Text(bytes.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &Line) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Part::Literal(bytes) => format!("<{}>", String::from_utf8_lossy(bytes)),
        };
        line.parts().iter().map(part).collect()
    }

    #[test]
    fn strings_are_quoted_or_literals() {
        let long = "x".repeat(MAX_QUOTED + 1);
        let table = [
            ("INBOX", r#"X "INBOX""#),
            ("", r#"X """#),
            (r#"a "b\c"#, r#"X "a \"b\\c""#),
            ("a\r\nB LOGOUT", "X <a\r\nB LOGOUT>"),
            ("é", "X <é>"),
            (&long, &format!("X <{long}>")),
        ];
        for (string, want) in table {
            assert_eq!(shown(&Line::new("X ").string(string.as_bytes())), want);
        }
    }

    #[test]
    fn programs_keep_their_literals() {
        let got = Line::new("UID SEARCH ").program(b"TEXT {3}\r\na\r\n NOT BODY {1+}\r\nx SEEN").unwrap();
        assert_eq!(shown(&got), "UID SEARCH TEXT <a\r\n> NOT BODY <x> SEEN");
        assert_eq!(got.name(), "UID SEARCH");
        for bad in ["A\r\nB", "TEXT {9}\r\nabc", "TEXT {x}\r\nabc", "a\nb", "a\0b", "TEXT {1}\r\nab\r\nx"] {
            assert_eq!(Line::new("").program(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn waiting_depends_on_the_literals() {
        let plus = Caps::new(["LITERAL+"], &[]);
        let none = Caps::default();
        let line = Line::new("X ").literal(Bytes::from_static(b"abc"));
        assert!(line.waits(&none) && !line.waits(&plus) && !Line::new("NOOP").waits(&none));
        assert_eq!(format!("{:?}", Line::new("LOGIN ").string(b"secret")), "Line(LOGIN)");
    }
}
