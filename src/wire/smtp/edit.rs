//! A change to a message's header while it streams through: Reply-To replaced (RFC 5322 §3.6.2).
//!
//! Works on dotted lines in whatever pieces they come, holds back no more than the beginning of a line, and changes nothing behind the
//! header's end. The new field stands first, so that nobody has to know where the header ends.

use bytes::BytesMut;

const NAME: &[u8] = b"reply-to";
/// Blanks between a field's name and its colon that are still taken for such (RFC 5322 §4.5 allows them).
const MOST_HELD: usize = 64;

/// Leaves out every Reply-To of a header.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    at: At,
    /// The beginning of a line that may become `Reply-To:`.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Of a line, the field before it kept.
    #[default]
    Begin,
    /// Of a line, the field before it left out.
    BeginDropped,
    /// In a line that stays.
    Keep,
    /// In a line that goes.
    Drop,
    /// Behind the header.
    Body,
}

impl Edit {
    /// The field to stand before the message.
    pub fn field(address: &str) -> String {
        format!("Reply-To: <{address}>\r\n")
    }

    /// What stays of a piece of dotted lines.
    pub fn take(&mut self, dotted: &[u8]) -> BytesMut {
        let mut out = BytesMut::with_capacity(dotted.len() + self.held.len());
        for (number, byte) in dotted.iter().enumerate() {
            if self.at == At::Body {
                out.extend_from_slice(dotted.get(number..).unwrap_or_default());
                break;
            }
            self.step(*byte, &mut out);
        }
        out
    }

    fn step(&mut self, byte: u8, out: &mut BytesMut) {
        match self.at {
            At::Keep => {
                out.extend_from_slice(&[byte]);
                self.line_ends(byte, At::Begin);
            }
            At::Drop => self.line_ends(byte, At::BeginDropped),
            At::BeginDropped if self.held.is_empty() && matches!(byte, b' ' | b'\t') => self.at = At::Drop,
            At::Begin | At::BeginDropped => {
                self.held.push(byte);
                self.decide(out);
            }
            At::Body => {}
        }
    }

    fn line_ends(&mut self, byte: u8, next: At) {
        if byte == b'\n' {
            self.at = next;
        }
    }

    /// What the line is, as soon as its beginning says so.
    fn decide(&mut self, out: &mut BytesMut) {
        let held = self.held.as_slice();
        let name = held.get(..NAME.len().min(held.len())).unwrap_or_default();
        let is_ours = NAME.get(..name.len()).is_some_and(|ours| ours.eq_ignore_ascii_case(name));
        let behind = held.get(NAME.len()..).unwrap_or_default();
        let at = match (is_ours, behind.split_last()) {
            (true, Some((b':', before))) if before.iter().all(|b| matches!(b, b' ' | b'\t')) => {
                self.held.clear();
                self.at = At::Drop;
                return;
            }
            (true, None) => return,
            (true, Some((b' ' | b'\t', _))) if held.len() < MOST_HELD => return,
            _ if held == b"\r" => return,
            _ if held == b"\r\n" => At::Body,
            _ if held.ends_with(b"\n") => At::Begin,
            // The message is over before its header is.
            _ => At::Keep,
        };
        out.extend_from_slice(held);
        self.held.clear();
        self.at = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_to_goes_and_all_else_stays() {
        let table = [
            (
                "Subject: x\r\nReply-To: a@b\r\nTo: c\r\n\r\nReply-To: body\r\n.\r\n",
                "Subject: x\r\nTo: c\r\n\r\nReply-To: body\r\n.\r\n",
            ),
            ("reply-TO :\r\n a@b,\r\n\tc@d\r\nTo: c\r\n\r\n.\r\n", "To: c\r\n\r\n.\r\n"),
            ("Reply-To: a\r\nReply-To: b\r\n\r\n.\r\n", "\r\n.\r\n"),
            ("Reply-To-X: a\r\nReply: b\r\n r\r\n\r\n.\r\n", "Reply-To-X: a\r\nReply: b\r\n r\r\n\r\n.\r\n"),
            ("Subject: x\r\n Reply-To: folded\r\n\r\n.\r\n", "Subject: x\r\n Reply-To: folded\r\n\r\n.\r\n"),
            ("\r\nReply-To: body\r\n.\r\n", "\r\nReply-To: body\r\n.\r\n"),
            ("Reply-To: a\r\n.\r\n", ".\r\n"),
            (".\r\n", ".\r\n"),
            ("..dot: x\r\nre\r\nr\r\n\r\n.\r\n", "..dot: x\r\nre\r\nr\r\n\r\n.\r\n"),
        ];
        for (input, want) in table {
            for step in 1..=input.len() {
                let mut edit = Edit::default();
                let out: Vec<u8> = input.as_bytes().chunks(step).flat_map(|piece| edit.take(piece).to_vec()).collect();
                assert_eq!(String::from_utf8(out).unwrap(), want, "{input:?} by {step}");
            }
        }
    }
}
