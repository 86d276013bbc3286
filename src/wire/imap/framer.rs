//! Cuts a byte stream into IMAP messages and streamed literals, for both sides of a connection.
//!
//! Sans-I/O: the owner reads into [`Framer::buffer`] and asks [`Framer::next`] until it says that it needs more.
//! Nothing is scanned twice, a message is handed on without a copy, and a large literal is handed on in the pieces
//! in which it arrives (Law 8: what is held is bounded by [`Limits`]). Rules that the measurements of the codec's
//! own fragmentizer gave us:
//!
//! - What a server says in words never carries a literal: `* OK still here {40}` is a line, and so is every tagged
//!   line and every `+` line. Taking its end for a literal swallows the completion of a command.
//! - A count that overflows is a framing error, never "no literal".
//! - A bare LF ends a line of a server (some write it), and is an error in a client (smuggled commands).
//!
//! Law 7: no input panics; `tests/fuzz` and the split test below hold that any division of the bytes into reads
//! gives the same frames.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

mod frame;
mod marker;

pub use frame::{Frame, FramingError, Limits, Side};
pub use marker::is_append_data;
use marker::{Marker, marker};

/// Room made for one read from a client: commands are short, and thousands of idle sessions each keep this much.
const READ_COMMANDS: usize = 4 * 1024;
/// Room made for one read from a server; sync lines come by the thousand.
const READ_RESPONSES: usize = 16 * 1024;
/// Most room made for one read while a literal is under way.
const READ_LITERAL: usize = 64 * 1024;
/// A refused literal that the client sends all the same (`{n+}`) is read and dropped up to this size, so that the
/// client hears a proper NO; above it the connection is not worth keeping.
const MAX_SWALLOWED: u64 = 128 * 1024 * 1024;
/// Longest tag that is echoed in an error: clients use up to about 20 bytes.
const MAX_TAG: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Framer {
    side: Side,
    limits: Limits,
    streamed: Option<fn(&[u8]) -> bool>,
    /// The message under way from its start, or from the end of its last streamed literal; then what follows it.
    buffer: BytesMut,
    /// The message under way up to the end of its last streamed literal, which stands in it as `{0}` CRLF.
    before: BytesMut,
    /// How much of `before` there was after its first streamed literal; 0 before that.
    opening: usize,
    /// Where the line under way starts in `buffer`: behind the last inline literal.
    line: usize,
    /// `buffer` holds no LF in `line..scanned`.
    scanned: usize,
    state: State,
    literals: usize,
    /// The message under way was refused: it is read to its end and not handed on.
    dropping: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// In the text of a message.
    Line,
    /// An inline literal ends at this offset of `buffer`.
    Inline {
        end: usize,
    },
    /// A streamed literal has so many bytes to come.
    Stream {
        left: u64,
        sync: bool,
    },
    /// The same, of a refused message.
    Swallow {
        left: u64,
    },
    Broken(FramingError),
}

impl Framer {
    pub fn new(side: Side, limits: Limits) -> Self {
        let streamed: Option<fn(&[u8]) -> bool> = (side == Side::Server).then_some(is_append_data);
        Self {
            side,
            limits,
            streamed,
            buffer: BytesMut::new(),
            before: BytesMut::new(),
            opening: 0,
            line: 0,
            scanned: 0,
            state: State::Line,
            literals: 0,
            dropping: false,
        }
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Literals for whose message so far `streamed` says yes are streamed whatever their size. On the server side
    /// [`is_append_data`] is set from the start, on the client side nothing.
    pub fn stream_literals(&mut self, streamed: fn(&[u8]) -> bool) {
        self.streamed = Some(streamed);
    }

    /// Where the I/O loop reads into (at the end), with room for one read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let usual = if self.side == Side::Server { READ_COMMANDS } else { READ_RESPONSES };
        let coming = match self.state {
            State::Inline { end } => end.saturating_sub(self.buffer.len()),
            State::Stream { left, .. } | State::Swallow { left } => usize::try_from(left).unwrap_or(usize::MAX),
            State::Line | State::Broken(_) => 0,
        };
        // Several reads share one block; a new one only when little is left of it.
        if self.buffer.capacity() - self.buffer.len() < usual / 2 {
            self.buffer.reserve(coming.clamp(usual, READ_LITERAL));
        }
        &mut self.buffer
    }

    /// Whether nothing of a message has come yet that is not handed on, nor is anything to come of one that was refused.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Line) && self.buffer.is_empty() && self.before.is_empty() && !self.dropping
    }

    /// Forgets everything that has come and not been handed on: what a peer sent in plain text ahead of a TLS
    /// handshake must not be taken for a part of the protected stream.
    pub fn clear_buffered(&mut self) {
        self.buffer.clear();
        if !self.is_broken() {
            self.state = State::Line;
        }
        self.start_message();
    }

    /// Whether an error left the stream without known message bounds, so that nothing further can be read.
    pub fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken(_))
    }

    /// Server side, after [`Frame::NeedContinue`] or [`Frame::LiteralStart`]: the command is dropped. A waiting client
    /// will not send the literal once it has its tagged NO, so the next line is the next command; a literal that comes
    /// unasked (`{n+}`) is read and dropped with the rest of its command.
    pub fn refuse_literal(&mut self) {
        match self.state {
            State::Inline { end } => {
                self.buffer.advance(self.line.min(self.buffer.len()));
                // NeedContinue is told of waiting clients only, and before any of the literal was looked at.
                debug_assert!(end >= self.line);
                self.state = State::Line;
                self.start_message();
            }
            State::Stream { sync: true, .. } => {
                self.state = State::Line;
                self.start_message();
            }
            State::Stream { left, sync: false } => {
                self.state = State::Swallow { left };
                self.before.clear();
                self.dropping = true;
            }
            State::Line | State::Swallow { .. } | State::Broken(_) => {}
        }
    }

    /// The next frame; nothing when more bytes are needed.
    #[expect(clippy::should_implement_trait, reason = "None is not the end, and it may fail")]
    pub fn next(&mut self) -> Result<Option<Frame>, FramingError> {
        loop {
            match self.state {
                State::Line => match self.line()? {
                    Step::Frame(frame) => return Ok(Some(frame)),
                    Step::Again => {}
                    Step::More => return Ok(None),
                },
                State::Inline { end } => {
                    if self.buffer.len() < end {
                        return Ok(None);
                    }
                    self.line = end;
                    self.scanned = end;
                    self.state = State::Line;
                }
                State::Stream { left: 0, .. } => {
                    self.state = State::Line;
                    return Ok(Some(Frame::LiteralEnd));
                }
                State::Stream { left, sync } => {
                    let take = self.available(left);
                    if take == 0 {
                        return Ok(None);
                    }
                    self.state = State::Stream { left: left - take as u64, sync };
                    return Ok(Some(Frame::LiteralChunk(self.buffer.split_to(take).freeze())));
                }
                State::Swallow { left: 0 } => self.state = State::Line,
                State::Swallow { left } => {
                    let take = self.available(left);
                    if take == 0 {
                        return Ok(None);
                    }
                    self.buffer.advance(take);
                    self.state = State::Swallow { left: left - take as u64 };
                }
                State::Broken(ref error) => return Err(error.clone()),
            }
        }
    }

    fn available(&self, left: u64) -> usize {
        usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len())
    }

    /// Looks for the end of the line under way.
    fn line(&mut self) -> Result<Step, FramingError> {
        let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(found) = memchr(b'\n', fresh) else {
            self.scanned = self.buffer.len();
            if self.before.len() + self.buffer.len() > self.limits.line {
                return Err(self.broken(FramingError::LineTooLong { tag: self.tag() }));
            }
            return Ok(Step::More);
        };
        let lf = self.scanned + found;
        if self.before.len() + lf + 1 > self.limits.line {
            return Err(self.broken(FramingError::LineTooLong { tag: self.tag() }));
        }
        let line = self.buffer.get(self.line..lf).unwrap_or_default();
        let text = line.strip_suffix(b"\r");
        if text.is_none() && self.side == Side::Server {
            return Err(self.broken(FramingError::BareLf { tag: self.tag() }));
        }
        let text = text.unwrap_or(line);
        let end = self.line + text.len();
        let marker = marker(text).filter(|_| !self.is_words());
        if self.side == Side::Server && memchr(0, text).is_some() {
            let error = FramingError::Nul { tag: self.tag() };
            return Err(self.drop_line(lf, marker, error));
        }
        match marker {
            None => Ok(self.message(end, lf)),
            Some(marker) => self.literal(end, lf, marker),
        }
    }

    /// A message ends at `end`, its line at `lf`.
    fn message(&mut self, end: usize, lf: usize) -> Step {
        let mut message = self.buffer.split_to((lf + 1).min(self.buffer.len()));
        message.truncate(end);
        if !self.before.is_empty() {
            let mut whole = std::mem::take(&mut self.before);
            whole.extend_from_slice(&message);
            message = whole;
        }
        let dropped = self.dropping;
        self.start_message();
        if dropped { Step::Again } else { Step::Frame(Frame::Message(message.freeze())) }
    }

    /// A line that ends at `lf` announces a literal.
    fn literal(&mut self, end: usize, lf: usize, marker: Marker) -> Result<Step, FramingError> {
        let head = end - marker.width;
        if self.dropping {
            // A client that waits for `+` has had its NO and goes on with another command.
            self.skip_line(lf, Some(marker));
            return Ok(Step::Again);
        }
        let asked = self.streamed.is_some_and(|streamed| streamed(&self.head(head)));
        self.literals += usize::from(!(asked && self.side == Side::Server));
        if self.literals > self.limits.messages_literals {
            let error = FramingError::TooManyLiterals { tag: self.tag() };
            return Err(self.drop_line(lf, Some(marker), error));
        }
        let fits = u64::try_from(self.limits.line - (self.before.len() + lf + 1).min(self.limits.line))
            .is_ok_and(|room| marker.len <= room);
        // A message of a server with many literals stays within its limit by streaming those that no longer fit.
        let stream = asked || marker.len > self.limits.inline_literal || (!fits && self.side == Side::Client);
        if marker.len > self.limits.max_literal || (!stream && !fits) {
            let error = FramingError::LiteralTooLong { tag: self.tag(), len: marker.len, sync: marker.sync };
            return Err(self.drop_line(lf, Some(marker), error));
        }
        if stream {
            if self.side == Side::Server && self.opening > 0 {
                self.before.truncate(self.opening);
            }
            self.before.extend_from_slice(self.buffer.get(..head).unwrap_or_default());
            let head = Bytes::copy_from_slice(&self.before);
            self.before.extend_from_slice(if marker.literal8 { b"~{0}\r\n" } else { b"{0}\r\n" });
            if self.opening == 0 {
                self.opening = self.before.len();
            }
            self.buffer.advance((lf + 1).min(self.buffer.len()));
            (self.line, self.scanned) = (0, 0);
            self.state = State::Stream { left: marker.len, sync: marker.sync };
            let Marker { len, sync, literal8, .. } = marker;
            return Ok(Step::Frame(Frame::LiteralStart { head, len, sync, literal8 }));
        }
        // `fits` above: the length is below the limit of a line, a usize.
        let len = usize::try_from(marker.len).unwrap_or(usize::MAX);
        (self.line, self.scanned) = (lf + 1, lf + 1);
        self.state = State::Inline { end: (lf + 1).saturating_add(len) };
        if self.side == Side::Server && marker.sync {
            return Ok(Step::Frame(Frame::NeedContinue { head: self.head(head).into_owned().into(), len: marker.len }));
        }
        Ok(Step::Again)
    }

    /// The message so far, up to `end` of the buffer. Copied only where a streamed literal cut it in two.
    fn head(&self, end: usize) -> Cow<'_, [u8]> {
        let text = self.buffer.get(..end).unwrap_or_default();
        if self.before.is_empty() { Cow::Borrowed(text) } else { Cow::Owned([&self.before, text].concat()) }
    }

    /// Whether the message under way is words of a server, which never hold a literal.
    fn is_words(&self) -> bool {
        if self.side == Side::Server || !self.before.is_empty() || self.line != 0 {
            return false;
        }
        let Some(untagged) = self.buffer.strip_prefix(b"* ") else { return true };
        let word = untagged.get(..untagged.len().min(8)).unwrap_or_default();
        let word = word.split(|b| b" \r\n".contains(b)).next().unwrap_or_default();
        [&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"].iter().any(|status| word.eq_ignore_ascii_case(status))
    }

    fn tag(&self) -> Option<String> {
        if self.side == Side::Client {
            return None;
        }
        let text = if self.before.is_empty() { &self.buffer } else { &self.before };
        let text = text.get(..text.len().min(MAX_TAG + 1)).unwrap_or_default();
        let tag = text.get(..memchr2(b' ', b'\r', text)?)?;
        super::is_tag(tag).then(|| String::from_utf8_lossy(tag).into_owned())
    }

    /// Gives up the command under way, keeping the stream where that can be done.
    fn drop_line(&mut self, lf: usize, marker: Option<Marker>, error: FramingError) -> FramingError {
        let lost = marker.is_some_and(|marker| !marker.sync && marker.len > MAX_SWALLOWED);
        if self.side == Side::Client || lost {
            return self.broken(error);
        }
        self.skip_line(lf, marker);
        error
    }

    fn skip_line(&mut self, lf: usize, marker: Option<Marker>) {
        self.buffer.advance((lf + 1).min(self.buffer.len()));
        self.start_message();
        if let Some(Marker { len, sync: false, .. }) = marker {
            self.dropping = true;
            self.state = State::Swallow { left: len };
        }
    }

    fn broken(&mut self, error: FramingError) -> FramingError {
        self.buffer.clear();
        self.start_message();
        self.state = State::Broken(error.clone());
        error
    }

    fn start_message(&mut self) {
        self.before.clear();
        self.opening = 0;
        (self.line, self.scanned) = (0, 0);
        self.literals = 0;
        self.dropping = false;
    }
}

enum Step {
    Frame(Frame),
    Again,
    More,
}

#[cfg(test)]
mod tests;
