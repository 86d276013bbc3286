//! The small tokens of structured fields (RFC 5322 §3.2, RFC 2045 §5.1): blanks and comments, atoms, quoted strings.

/// A reading position in the unfolded value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or(b"");
    }

    /// Takes `byte` if it is next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.skip();
        }
        found
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, b""));
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let count = self.rest.iter().take_while(|&&b| wanted(b)).count();
        self.take(count)
    }

    /// Skips blanks and comments; the text of the last comment, if there was one. A comment that is never closed
    /// takes the rest with it.
    pub(super) fn blanks(&mut self) -> Blanks {
        let mut seen = Blanks { comment: None, unclosed: false };
        loop {
            self.take_while(is_blank);
            if self.peek() != Some(b'(') {
                return seen;
            }
            match self.comment() {
                Some(text) => seen.comment = Some(text),
                None => {
                    seen.unclosed = true;
                    return seen;
                }
            }
        }
    }

    fn comment(&mut self) -> Option<Vec<u8>> {
        self.skip();
        let mut depth = 1usize;
        let mut text = Vec::new();
        while let Some(byte) = self.peek() {
            self.skip();
            match byte {
                b'(' => depth += 1,
                b')' if depth == 1 => return Some(text),
                b')' => depth -= 1,
                b'\\' => {
                    text.extend(self.take(1));
                    continue;
                }
                _ => {}
            }
            text.push(byte);
        }
        None
    }

    /// A quoted string whose opening quote is next, without quotes and escapes; nothing, and the rest taken, if it
    /// is never closed.
    pub(super) fn quoted(&mut self) -> Option<Vec<u8>> {
        self.skip();
        let mut text = Vec::new();
        while let Some(byte) = self.peek() {
            self.skip();
            match byte {
                b'"' => return Some(text),
                b'\\' => text.extend(self.take(1)),
                _ => text.push(byte),
            }
        }
        None
    }

    /// RFC 2045 `token`, 8-bit allowed; may be empty.
    pub(super) fn mime_token(&mut self) -> &'a [u8] {
        self.take_while(|b| !is_blank(b) && !b"()<>@,;:\\\"/[]?=".contains(&b))
    }

    /// An unquoted parameter value: a token. What begins with `=` goes on to the next blank or semicolon, whatever is in it: `boundary==_x`
    /// and `name==?utf-8?q?a?=` are often seen.
    pub(super) fn param_value(&mut self) -> &'a [u8] {
        match self.peek() {
            Some(b'=') => self.take_while(|b| !is_blank(b) && b != b';'),
            _ => self.mime_token(),
        }
    }

    /// RFC 5322 `atom`, 8-bit allowed; may be empty.
    pub(super) fn atom(&mut self) -> &'a [u8] {
        self.take_while(is_atom)
    }

    /// Atoms and dots in any order.
    pub(super) fn dotted(&mut self) -> &'a [u8] {
        self.take_while(|b| b == b'.' || is_atom(b))
    }

    /// Letters and digits.
    pub(super) fn alphanumeric(&mut self) -> &'a [u8] {
        self.take_while(|b| b.is_ascii_alphanumeric())
    }

    /// A domain literal whose bracket is next, with its brackets; nothing, and the rest taken, if it is never closed.
    pub(super) fn domain_literal(&mut self) -> Option<&'a [u8]> {
        let start = self.rest;
        match memchr::memchr(b']', start) {
            Some(end) => Some(self.take(end + 1)),
            None => {
                self.rest = b"";
                None
            }
        }
    }
}

/// What [`Cursor::blanks`] passed.
pub(super) struct Blanks {
    pub(super) comment: Option<Vec<u8>>,
    pub(super) unclosed: bool,
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_atom(byte: u8) -> bool {
    !is_blank(byte) && !b"()<>@,;:\\\".[]".contains(&byte)
}
