//! A raw message as POP3 sends it: lines that end with CRLF, dots at their beginning doubled, a dot alone at the end
//! (RFC 1939 §3).
//!
//! A message may hold what no POP3 client was written for. Whatever it is, no client may take a part of it for the end or for
//! the next answer, and old ones must not hang:
//!
//! - A bare LF or a bare CR is a line end to some clients and not to others; it is sent as CRLF, so that all agree where lines
//!   begin and which dots are doubled. CRs in front of an LF are one line end with it: CR CR LF is what a second translation of
//!   a text makes of CRLF, and two line ends would end a header in its middle.
//! - NUL hangs old Outlooks; it is sent as 0x80, as Dovecot does (no byte more or less).
//! - A last line without its end gets one. So does a header without the empty line: Outlook Express shows nothing without it.
//!
//! The octets LIST tells are counted here by the same code, without the doubled dots and the last one (RFC 1939 §11).

use bytes::BytesMut;

/// CRs in a row that are held back until what comes behind them tells what they mean: no mail has more for a good reason.
const RETURNS_MOST: usize = 1024;

/// Writes one message, in whatever pieces it comes.
#[derive(Clone, Debug)]
pub struct BodyWriter {
    /// CRs held back until it is known what follows them.
    returns: usize,
    line_begins: bool,
    in_header: bool,
    octets: u64,
    /// Lines of the body still wanted; `None`: all.
    wanted: Option<u32>,
    done: bool,
}

/// Where octets go.
trait Sink {
    fn put(&mut self, octets: &[u8]);
}

impl Sink for BytesMut {
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

/// Counting only.
struct Nowhere;

impl Sink for Nowhere {
    fn put(&mut self, _octets: &[u8]) {}
}

/// How many octets RETR sends of this message.
pub fn octets(raw: &[u8]) -> u64 {
    let mut writer = BodyWriter::whole();
    writer.take(raw, &mut Nowhere);
    writer.close(&mut Nowhere);
    writer.octets
}

impl BodyWriter {
    /// For RETR.
    pub fn whole() -> Self {
        Self { returns: 0, line_begins: true, in_header: true, octets: 0, wanted: None, done: false }
    }

    /// For TOP: the header and so many lines of the body.
    pub fn top(lines: u32) -> Self {
        Self { wanted: Some(lines), ..Self::whole() }
    }

    /// Writes the next piece. False when no more is wanted.
    pub fn push(&mut self, piece: &[u8], out: &mut BytesMut) -> bool {
        // Dots and line ends rarely add more.
        out.reserve(piece.len() + piece.len() / 32);
        self.take(piece, out);
        !self.done
    }

    /// Ends the message; the octets it had, as LIST counts them.
    pub fn finish(mut self, out: &mut BytesMut) -> u64 {
        self.close(out);
        super::end(out);
        self.octets
    }

    fn take(&mut self, piece: &[u8], out: &mut impl Sink) {
        let mut rest = piece;
        while !rest.is_empty() && !self.done {
            if self.returns > 0 {
                rest = self.after_return(rest, out);
                continue;
            }
            let plain = memchr::memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
            let (text, tail) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
            self.text(text, out);
            let Some((odd, after)) = tail.split_first() else { return };
            match (odd, after.split_first()) {
                // By far the commonest: in one step.
                (b'\r', Some((b'\n', next))) => {
                    self.line_end(out);
                    rest = next;
                    continue;
                }
                (b'\r', _) => self.returns = 1,
                (b'\n', _) => self.line_end(out),
                _ => self.text(&[0x80], out),
            }
            rest = after;
        }
    }

    /// Behind CRs that were held back.
    fn after_return<'a>(&mut self, rest: &'a [u8], out: &mut impl Sink) -> &'a [u8] {
        match rest.split_first() {
            Some((b'\r', after)) => {
                // A long row of them is let go as it comes, not all at once at its end.
                if self.returns < RETURNS_MOST {
                    self.returns += 1;
                } else if !self.done {
                    self.line_end(out);
                }
                after
            }
            Some((b'\n', after)) => {
                self.returns = 0;
                self.line_end(out);
                after
            }
            _ => {
                self.release(out);
                rest
            }
        }
    }

    /// CRs with nothing but text behind them are line ends of their own.
    fn release(&mut self, out: &mut impl Sink) {
        for _ in 0..std::mem::take(&mut self.returns) {
            if !self.done {
                self.line_end(out);
            }
        }
    }

    fn text(&mut self, text: &[u8], out: &mut impl Sink) {
        if text.is_empty() {
            return;
        }
        if self.line_begins && text.first() == Some(&b'.') {
            out.put(b".");
        }
        self.line_begins = false;
        self.octets += text.len() as u64;
        out.put(text);
    }

    fn line_end(&mut self, out: &mut impl Sink) {
        out.put(b"\r\n");
        self.octets += 2;
        let empty = std::mem::replace(&mut self.line_begins, true);
        if self.in_header {
            self.in_header = !empty;
            self.done = empty && self.wanted == Some(0);
        } else if let Some(wanted) = &mut self.wanted {
            *wanted = wanted.saturating_sub(1);
            self.done = *wanted == 0;
        }
    }

    fn close(&mut self, out: &mut impl Sink) {
        self.release(out);
        if !self.line_begins {
            self.line_end(out);
        }
        if self.in_header && self.octets > 0 {
            self.line_end(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(raw: &[u8], step: usize, writer: &BodyWriter) -> (String, u64) {
        let (mut writer, mut out) = (writer.clone(), BytesMut::new());
        for piece in raw.chunks(step) {
            if !writer.push(piece, &mut out) {
                break;
            }
        }
        let octets = writer.finish(&mut out);
        (out.escape_ascii().to_string(), octets)
    }

    #[test]
    fn whatever_is_in_it_it_is_lines_and_ends_with_a_dot() {
        let table: [(&[u8], &str); 15] = [
            (b"A: b\r\n\r\nc\r\n", "A: b\r\n\r\nc\r\n.\r\n"),
            (b"", ".\r\n"),
            (b"A: b\r\n\r\nno end", "A: b\r\n\r\nno end\r\n.\r\n"),
            (b"A: b\r\n", "A: b\r\n\r\n.\r\n"),
            (b"A: b", "A: b\r\n\r\n.\r\n"),
            (b"\r\n.\r\n..x\r\n.", "\r\n..\r\n...x\r\n..\r\n.\r\n"),
            (b".\n.", "..\r\n..\r\n\r\n.\r\n"),
            (b"A: b\n\nc\n.\n", "A: b\r\n\r\nc\r\n..\r\n.\r\n"),
            (b"A: b\r\r\nB: c\r\r\n\r\r\n", "A: b\r\nB: c\r\n\r\n.\r\n"),
            (b"\r\nx\r.\ry", "\r\nx\r\n..\r\ny\r\n.\r\n"),
            (b"\r\nx\r", "\r\nx\r\n.\r\n"),
            (b"\r\nx\r\ry\r\n", "\r\nx\r\n\r\ny\r\n.\r\n"),
            (b"\r\n\0.\0\r\n", "\r\n\\x80.\\x80\r\n.\r\n"),
            (b"\r", "\r\n.\r\n"),
            (b"\r\n\r\n\r\n", "\r\n\r\n\r\n.\r\n"),
        ];
        for (raw, want) in table {
            let want = want.replace('\r', "\\r").replace('\n', "\\n");
            for step in 1..=raw.len().max(1) {
                let (got, count) = written(raw, step, &BodyWriter::whole());
                assert_eq!(got, want, "{} in steps of {step}", raw.escape_ascii());
                assert_eq!(count, octets(raw));
            }
        }
    }

    #[test]
    fn well_formed_mail_is_as_long_as_it_is() {
        let raw = b"From: a\r\nSubject: b\r\n\r\n.dots\r\n..\r\nend\r\n";
        assert_eq!(octets(raw), raw.len() as u64);
    }

    #[test]
    fn top_ends_where_it_was_asked_to() {
        let raw = b"A: b\r\nB: c\r\n\r\n1\r\n\r\n.3\r\n4\r\n";
        let table = [
            (0, "A: b\r\nB: c\r\n\r\n.\r\n"),
            (1, "A: b\r\nB: c\r\n\r\n1\r\n.\r\n"),
            (2, "A: b\r\nB: c\r\n\r\n1\r\n\r\n.\r\n"),
            (3, "A: b\r\nB: c\r\n\r\n1\r\n\r\n..3\r\n.\r\n"),
            (9, "A: b\r\nB: c\r\n\r\n1\r\n\r\n..3\r\n4\r\n.\r\n"),
        ];
        for (lines, want) in table {
            let want = want.replace('\r', "\\r").replace('\n', "\\n");
            for step in 1..=raw.len() {
                assert_eq!(written(raw, step, &BodyWriter::top(lines)).0, want, "{lines} in steps of {step}");
            }
        }
        assert_eq!(written(b"A: b", 9, &BodyWriter::top(0)).0, "A: b\\r\\n\\r\\n.\\r\\n");
    }
}
