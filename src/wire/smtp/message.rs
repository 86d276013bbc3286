//! The octets of a message on their way from a client to a server: out of DATA's dotted lines or BDAT's pieces (RFC 3030), into DATA's
//! dotted lines.
//!
//! A line end is CRLF and nothing else (RFC 5321 §2.3.8). What old programs send for one, a bare LF or a bare CR, becomes CRLF, so
//! that every server on the way sees the same lines. The end of DATA is a dot alone between two true line ends; a lone dot
//! beside a bare CR or LF is what mail smuggling is made of, nothing honest sends it, and the message is refused.

use bytes::{Buf, BytesMut};

/// How the message comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// DATA: dots doubled, a lone dot at the end.
    Dotted,
    /// BDAT: as it is; where it ends is known from outside.
    Plain,
}

/// Where we are in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Begin,
    /// Behind a dot at its beginning, held back.
    Dot,
    /// Behind that and a CR.
    DotReturn,
    Text,
    /// Behind a CR, held back.
    Return,
    /// The message is over.
    End,
}

/// Turns one message into dotted lines, in whatever pieces it comes.
#[derive(Clone, Debug)]
pub struct Filter {
    form: Form,
    at: At,
    /// The line before this one ended with CRLF, or there is none.
    regular: bool,
    suspect: bool,
    octets: u64,
}

impl Filter {
    pub fn new(form: Form) -> Self {
        Self { form, at: At::Begin, regular: true, suspect: false, octets: 0 }
    }

    /// Takes what it can of `input` and writes the dotted lines of it; what stands behind the end stays. True at the end (of
    /// [`Form::Dotted`]; the other has none in itself).
    pub fn take(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> bool {
        while self.at != At::End {
            let Some(byte) = input.first().copied() else { return false };
            if self.at == At::Text {
                let run = memchr::memchr2(b'\r', b'\n', input).unwrap_or(input.len());
                out.extend_from_slice(input.get(..run).unwrap_or_default());
                self.octets += run as u64;
                input.advance(run);
                let Some(byte) = input.first().copied() else { return false };
                input.advance(1);
                self.text_ends(byte, out);
                continue;
            }
            if self.step(byte, out) {
                input.advance(1);
            }
        }
        true
    }

    /// One octet outside the run of a line; false when it is to be looked at once more.
    fn step(&mut self, byte: u8, out: &mut BytesMut) -> bool {
        match (self.at, byte) {
            (At::Begin, b'.') if self.form == Form::Dotted => self.at = At::Dot,
            (At::Begin, b'.') => {
                // Doubled; the octet itself goes on as text.
                out.extend_from_slice(b".");
                self.text(b'.', out);
            }
            (At::Begin, b'\r' | b'\n') => self.text_ends(byte, out),
            (At::Begin | At::Text, _) => self.text(byte, out),
            (At::Dot, b'\r') => self.at = At::DotReturn,
            (At::Dot, b'\n') => {
                self.suspect = true;
                self.line(false, out);
            }
            (At::Dot, b'.') => {
                out.extend_from_slice(b".");
                self.text(b'.', out);
            }
            (At::Dot, _) => self.text(byte, out),
            (At::DotReturn, b'\n') if self.regular => self.at = At::End,
            (At::DotReturn, b'\n') => {
                self.suspect = true;
                self.line(true, out);
            }
            (At::DotReturn, _) => {
                self.suspect = true;
                self.line(false, out);
                return false;
            }
            (At::Return, b'\n') => self.line(true, out),
            (At::Return, _) => {
                self.line(false, out);
                return false;
            }
            (At::End, _) => return false,
        }
        true
    }

    fn text(&mut self, byte: u8, out: &mut BytesMut) {
        out.extend_from_slice(&[byte]);
        self.octets += 1;
        self.at = At::Text;
    }

    fn text_ends(&mut self, byte: u8, out: &mut BytesMut) {
        if byte == b'\r' { self.at = At::Return } else { self.line(false, out) }
    }

    fn line(&mut self, regular: bool, out: &mut BytesMut) {
        out.extend_from_slice(b"\r\n");
        self.octets += 2;
        self.regular = regular;
        self.at = At::Begin;
    }

    /// The end of all that comes: the last line is closed, and the lone dot written.
    pub fn close(&mut self, out: &mut BytesMut) {
        if matches!(self.at, At::Text | At::Return) {
            self.line(true, out);
        }
        self.at = At::End;
        out.extend_from_slice(b".\r\n");
    }

    /// A lone dot stood where a careless server sees the end of the message, and a command behind it.
    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Octets of the message so far, without the doubled dots.
    pub fn octets(&self) -> u64 {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dotted lines, what was left behind the end, whether it ended, whether it is suspect.
    fn filter(form: Form, input: &[u8], step: usize) -> (String, String, bool, bool) {
        let (mut filter, mut out, mut rest, mut ended) = (Filter::new(form), BytesMut::new(), BytesMut::new(), false);
        for piece in input.chunks(step) {
            rest.extend_from_slice(piece);
            ended = filter.take(&mut rest, &mut out);
        }
        if ended || form == Form::Plain {
            filter.close(&mut out);
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&out), text(&rest), ended, filter.is_suspect())
    }

    #[test]
    fn data_comes_through_line_by_line() {
        let table: [(&str, &str, &str, bool); 20] = [
            (".\r\n", ".\r\n", "", false),
            ("a\r\n.\r\n", "a\r\n.\r\n", "", false),
            ("a\r\n.\r\nQUIT\r\n", "a\r\n.\r\n", "QUIT\r\n", false),
            ("\r\n\r\n.\r\n", "\r\n\r\n.\r\n", "", false),
            ("..\r\n...x\r\n.\r\n", "..\r\n...x\r\n.\r\n", "", false),
            // A dot that was not doubled is still one too many.
            (".x\r\n.\r\n", "x\r\n.\r\n", "", false),
            ("a\nb\rc\r\n.\r\n", "a\r\nb\r\nc\r\n.\r\n", "", false),
            ("a\n..b\r\n.\r\n", "a\r\n..b\r\n.\r\n", "", false),
            ("a\r\r\n.\r\n", "a\r\n\r\n.\r\n", "", false),
            ("a\r..b\r\n.\r\n", "a\r\n..b\r\n.\r\n", "", false),
            ("a\n.\nMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n.\r\n", "", true),
            ("a\n.\r\nMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n.\r\n", "", true),
            ("a\r\n.\nMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n.\r\n", "", true),
            ("a\r\n.\rMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n.\r\n", "", true),
            ("a\r.\rMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n.\r\n", "", true),
            ("a\r.\r\nMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n.\r\n", "", true),
            ("\n.\r\n.\r\n", "\r\n\r\n.\r\n", "", true),
            ("a\r\n..\n.\r\n.\r\n", "a\r\n..\r\n\r\n.\r\n", "", true),
            ("a\r\n.\r\n.\r\n", "a\r\n.\r\n", ".\r\n", false),
            ("a\r\n..\r\n.\r\n", "a\r\n..\r\n.\r\n", "", false),
        ];
        for (input, want, rest, suspect) in table {
            for step in 1..=input.len() {
                let got = filter(Form::Dotted, input.as_bytes(), step);
                assert_eq!(got, (want.into(), rest.into(), true, suspect), "{input:?} by {step}");
            }
        }
        assert!(!filter(Form::Dotted, b"a\r\n.\r", 1).2);
    }

    #[test]
    fn pieces_come_through_as_they_are() {
        let table = [
            ("", ".\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r.\r", "a\r\n..\r\n.\r\n"),
            ("..", "...\r\n.\r\n"),
        ];
        for (input, want) in table {
            for step in 1..=input.len().max(1) {
                let (got, _, _, suspect) = filter(Form::Plain, input.as_bytes(), step);
                assert_eq!((got.as_str(), suspect), (want, false), "{input:?} by {step}");
            }
        }
    }

    #[test]
    fn octets_are_counted_without_the_doubled_dots() {
        let (mut filter, mut out) = (Filter::new(Form::Dotted), BytesMut::new());
        assert!(filter.take(&mut BytesMut::from(&b"..a\r\nb\r\n.\r\n"[..]), &mut out));
        assert_eq!(filter.octets(), 7);
    }
}
