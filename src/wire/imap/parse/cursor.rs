//! Reads tokens from a command, left to right.

use std::borrow::Cow;

use super::{Fault, fault};
use crate::model::SequenceSet;
use crate::wire::imap::mutf7;

/// What is left of a message.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes the next `count` bytes, or nothing if there are not so many.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let count = self.rest.iter().position(|b| !accept(*b)).unwrap_or(self.rest.len());
        self.take(count).unwrap_or_default()
    }

    /// Takes one byte if it is this one.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let Some(rest) = self.rest.strip_prefix(&[byte]) else { return false };
        self.rest = rest;
        true
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.eat(byte) { Ok(()) } else { fault(format!("expected \"{}\"", char::from(byte))) }
    }

    pub(super) fn skip_spaces(&mut self) {
        self.take_while(|b| b == b' ');
    }

    /// At least one space; several are read as one, since clients write them.
    pub(super) fn space(&mut self) -> Result<(), Fault> {
        if self.take_while(|b| b == b' ').is_empty() { fault("argument missing") } else { Ok(()) }
    }

    /// Whether nothing but spaces is left.
    pub(super) fn at_end(&self) -> bool {
        self.rest.iter().all(|b| *b == b' ')
    }

    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.at_end() { Ok(()) } else { fault("unexpected text at the end") }
    }

    /// An atom of ASCII (RFC 9051 `atom`), as names of commands, items and options are.
    pub(super) fn word(&mut self) -> Result<&'a str, Fault> {
        let word = self.take_while(|b| b.is_ascii_graphic() && !b"(){%*\"\\[]<>".contains(&b));
        match std::str::from_utf8(word) {
            Ok(word) if !word.is_empty() => Ok(word),
            _ => fault("expected a word"),
        }
    }

    /// Takes the word if it is this one, in any case, and stands alone.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let mut ahead = self.clone();
        let found = ahead.word().is_ok_and(|found| found.eq_ignore_ascii_case(word));
        if found {
            self.rest = ahead.rest;
        }
        found
    }

    pub(super) fn number64(&mut self) -> Result<u64, Fault> {
        let digits = self.take_while(|b| b.is_ascii_digit());
        match std::str::from_utf8(digits).map(str::parse) {
            Ok(Ok(number)) => Ok(number),
            _ => fault("expected a number"),
        }
    }

    /// A number of octets or seconds: what is beyond 32 bits is as good as the largest.
    pub(super) fn number_saturating(&mut self) -> Result<u32, Fault> {
        Ok(u32::try_from(self.number64()?).unwrap_or(u32::MAX))
    }

    pub(super) fn number(&mut self) -> Result<u32, Fault> {
        u32::try_from(self.number64()?).or_else(|_| fault("number too large"))
    }

    /// The text of a set of numbers, unread.
    pub(super) fn set_text(&mut self) -> &'a str {
        let text = self.take_while(|b| b.is_ascii_digit() || b",:*".contains(&b));
        std::str::from_utf8(text).unwrap_or_default()
    }

    pub(super) fn sequence(&mut self) -> Result<SequenceSet, Fault> {
        if self.eat(b'$') {
            return Ok(SequenceSet::saved());
        }
        let text = self.set_text();
        SequenceSet::parse(text).map_or_else(|| fault("malformed or too long set of numbers"), Ok)
    }

    /// RFC 9051 `astring`; an atom may hold 8-bit bytes, which old clients write.
    pub(super) fn astring(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.text(b"(){%*\"\\")
    }

    /// RFC 9051 `list-mailbox`: an astring with wildcards.
    pub(super) fn pattern(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.text(b"(){\"\\")
    }

    fn text(&mut self, specials: &[u8]) -> Result<Cow<'a, [u8]>, Fault> {
        if let Some(string) = self.string()? {
            return Ok(string);
        }
        let atom = self.take_while(|b| b > b' ' && b != 0x7f && !specials.contains(&b));
        if atom.is_empty() { fault("expected a string") } else { Ok(Cow::Borrowed(atom)) }
    }

    /// A quoted string or literal; nothing if something else stands here.
    pub(super) fn string(&mut self) -> Result<Option<Cow<'a, [u8]>>, Fault> {
        match self.peek() {
            Some(b'"') => self.quoted().map(Some),
            Some(b'{' | b'~') if self.rest.starts_with(b"{") || self.rest.starts_with(b"~{") => {
                self.literal().map(Some)
            }
            _ => Ok(None),
        }
    }

    fn quoted(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.expect(b'"')?;
        let plain = self.take_while(|b| !b"\"\\\r\n".contains(&b));
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_vec();
        loop {
            match self.take(1) {
                Some(b"\"") => return Ok(Cow::Owned(text)),
                Some(b"\\") => match self.take(1) {
                    Some(escaped @ (b"\"" | b"\\")) => text.extend_from_slice(escaped),
                    _ => return fault("bad escape in a quoted string"),
                },
                Some([byte]) if !b"\r\n".contains(byte) => text.push(*byte),
                _ => return fault("quoted string without an end"),
            }
        }
    }

    fn literal(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.eat(b'~');
        self.expect(b'{')?;
        let length = self.number64()?;
        self.eat(b'+');
        if !(self.eat(b'}') && self.eat(b'\r') && self.eat(b'\n')) {
            return fault("malformed literal");
        }
        let taken = usize::try_from(length).ok().and_then(|length| self.take(length));
        taken.map_or_else(|| fault("literal cut short"), |bytes| Ok(Cow::Borrowed(bytes)))
    }

    pub(super) fn spaced_astring(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.space()?;
        self.astring()
    }

    pub(super) fn spaced_mailbox(&mut self) -> Result<String, Fault> {
        self.space()?;
        mailbox(&self.astring()?)
    }

    /// What stands between parentheses, spaces between: `read` is called once for each. Counts at most `limit`.
    pub(super) fn list(
        &mut self,
        limit: usize,
        mut read: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.expect(b'(')?;
        self.skip_spaces();
        let mut count = 0;
        while !self.eat(b')') {
            count += 1;
            if count > limit {
                return fault("list too long");
            }
            read(self)?;
            if self.peek() != Some(b')') {
                self.space()?;
            }
        }
        Ok(())
    }
}

/// A mailbox name as the mirror keys it: modified UTF-7, INBOX in capitals. Clients that write raw UTF-8 where modified
/// UTF-7 is due are understood; a line end or other control character in a name is refused, since no upstream
/// could be told of it safely.
pub(super) fn mailbox(bytes: &[u8]) -> Result<String, Fault> {
    let Ok(name) = std::str::from_utf8(bytes) else { return fault("mailbox name is not UTF-7 or UTF-8") };
    if name.bytes().any(|b| b.is_ascii_control()) {
        return fault("control character in mailbox name");
    }
    if name.eq_ignore_ascii_case("INBOX") {
        return Ok("INBOX".to_owned());
    }
    Ok(if name.is_ascii() { name.to_owned() } else { mutf7::encode_keeping_ampersands(name) })
}
