//! Lines of a conversation as a log may show them: without literals, without what stands in quotes, without control characters.
//!
//! What is left is the protocol: tags, commands, numbers, flags, codes. Passwords and mail travel in literals and in quotes; a command that
//! holds a password otherwise (LOGIN, AUTHENTICATE, PASS, AUTH) is for the caller to name and not to show.

/// Characters of one line that are shown.
const SHOWN: usize = 512;
/// Enough of a line's end to hold the announcement of a literal (RFC 9051 §4.3): `{18446744073709551615+}` and CR.
const TAIL: usize = 24;

/// Takes a stream of octets apart into lines. Literals may come in any number of pieces.
#[derive(Debug, Default)]
pub struct Redactor {
    shown: String,
    /// The last octets of the line, for the literal it may announce.
    tail: Vec<u8>,
    /// Octets of a literal still to come.
    literal: u64,
    /// Inside quotes: how many octets so far; and whether the next one is taken as it is.
    quoted: Option<(usize, bool)>,
    left_out: usize,
}

impl Redactor {
    /// Shows the lines that end in `octets`.
    pub fn feed(&mut self, mut octets: &[u8], mut show: impl FnMut(&str)) {
        while let Some((first, rest)) = octets.split_first() {
            if self.literal > 0 {
                let skipped = usize::try_from(self.literal).unwrap_or(usize::MAX).min(octets.len());
                self.literal -= skipped as u64;
                octets = octets.get(skipped..).unwrap_or_default();
                continue;
            }
            octets = rest;
            if *first != b'\n' {
                self.take(*first);
                continue;
            }
            let announced = announced(&self.tail);
            self.tail.clear();
            // A quote that is never closed ends with its line.
            self.close_quote();
            match announced {
                Some(count) => self.literal = count,
                None => self.flush(&mut show),
            }
        }
    }

    /// Shows a line that has no end.
    pub fn finish(mut self, mut show: impl FnMut(&str)) {
        self.close_quote();
        if !self.shown.is_empty() {
            self.flush(&mut show);
        }
    }

    fn take(&mut self, octet: u8) {
        if self.tail.len() == TAIL {
            self.tail.remove(0);
        }
        self.tail.push(octet);
        match &mut self.quoted {
            Some((count, escaped)) => {
                if *escaped || !matches!(octet, b'"' | b'\\') {
                    (*count, *escaped) = (*count + 1, false);
                } else if octet == b'\\' {
                    *escaped = true;
                } else {
                    self.close_quote();
                }
            }
            None if octet == b'"' => self.quoted = Some((0, false)),
            None if octet == b'\r' => {}
            None => self.put(if (0x20..0x7f).contains(&octet) { char::from(octet) } else { '?' }),
        }
    }

    fn close_quote(&mut self) {
        if let Some((count, _)) = self.quoted.take() {
            format!("\"({count})\"").chars().for_each(|c| self.put(c));
        }
    }

    fn put(&mut self, c: char) {
        if self.shown.len() < SHOWN {
            self.shown.push(c);
        } else {
            self.left_out += 1;
        }
    }

    fn flush(&mut self, show: &mut impl FnMut(&str)) {
        if self.left_out > 0 {
            self.shown.push_str(&format!(" ... and {} more", self.left_out));
        }
        show(&self.shown);
        self.shown.clear();
        self.left_out = 0;
    }
}

/// One message with its literals in it, as one line.
pub fn redacted(message: &[u8]) -> String {
    let mut line = String::new();
    let mut add = |part: &str| {
        if !line.is_empty() {
            line.push_str(" / ");
        }
        line.push_str(part);
    };
    let mut redactor = Redactor::default();
    redactor.feed(message, &mut add);
    redactor.finish(&mut add);
    line
}

/// How many octets a line that ends so announces.
fn announced(tail: &[u8]) -> Option<u64> {
    let tail = tail.strip_suffix(b"\r").unwrap_or(tail).strip_suffix(b"}")?;
    let tail = tail.strip_suffix(b"+").unwrap_or(tail);
    let start = tail.iter().rposition(|octet| *octet == b'{')?;
    std::str::from_utf8(tail.get(start + 1..)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_may_show() {
        let table: [(&[u8], &str); 9] = [
            (b"a SELECT INBOX\r\n", "a SELECT INBOX"),
            (b"a SELECT \"my \\\"own\\\" box\"\r\n", "a SELECT \"(12)\""),
            (b"a APPEND x {5}\r\nhello\r\n", "a APPEND x {5}"),
            (b"a APPEND x {5+}\r\nhello (\\Seen)\r\n", "a APPEND x {5+} (\\Seen)"),
            (b"* 1 FETCH (BODY[] {3}\r\na\nb UID 7)\r\n", "* 1 FETCH (BODY[] {3} UID 7)"),
            (b"* 1 FETCH (ENVELOPE (\"d\" \"s\xc3\xa4\" NIL))", "* 1 FETCH (ENVELOPE (\"(1)\" \"(3)\" NIL))"),
            (b"x \x1b[2J\x07\r\ny \"open\r\nz", "x ?[2J? / y \"(5)\" / z"),
            (b"a X {99999999999999999999999999}\r\nb", "a X {99999999999999999999999999} / b"),
            (b"", ""),
        ];
        for (message, want) in table {
            assert_eq!(redacted(message), want);
        }
        let long = redacted(&[b'x'; 2000]);
        assert!(long.ends_with("x ... and 1488 more"), "{long}");
    }

    #[test]
    fn pieces_are_as_the_whole() {
        let stream = b"* OK [ALERT] \"in\" quotes\r\n* 1 FETCH (BODY[] {12}\r\nsecret\r\nmore FLAGS (\\Seen))\r\na OK {0}\r\n done\r\n";
        let mut want = Vec::new();
        Redactor::default().feed(stream, |line| want.push(line.to_owned()));
        assert_eq!(want, ["* OK [ALERT] \"(2)\" quotes", "* 1 FETCH (BODY[] {12} FLAGS (\\Seen))", "a OK {0} done"]);
        for size in 1..stream.len() {
            let mut got = Vec::new();
            let mut redactor = Redactor::default();
            stream.chunks(size).for_each(|piece| redactor.feed(piece, |line| got.push(line.to_owned())));
            assert_eq!(got, want, "pieces of {size}");
        }
    }
}
