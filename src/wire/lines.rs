//! Lines out of bytes, for the protocols whose commands are lines (POP3, SMTP).
//!
//! A line ends with LF; a CR before it is not part of it (people type at servers, and scripts write bare LF). A line longer
//! than the limit is the end: where the next one begins could only be found by taking in what is not wanted, without end.

use bytes::{Bytes, BytesMut};

/// A line is longer than the limit; nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line is too long")]
pub struct TooLong;

/// Cuts what arrives into lines.
#[derive(Debug)]
pub struct Lines {
    buffer: BytesMut,
    /// Octets at the front known to hold no LF, so that a line that comes octet by octet is looked through once.
    scanned: usize,
    limit: usize,
}

impl Lines {
    /// Lines of at most `limit` octets, their end not counted.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, limit }
    }

    /// Where what was read is to be put.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether anything was read that was not handed out.
    pub fn has_buffered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether a whole line waits: what comes next needs no reading.
    pub fn has_line(&self) -> bool {
        memchr::memchr(b'\n', self.buffer.get(self.scanned..).unwrap_or_default()).is_some()
    }

    /// Everything read and not handed out, for what is not lines; what is not used of it goes back by [`Self::put_back`].
    pub fn take_buffered(&mut self) -> BytesMut {
        self.scanned = 0;
        self.buffer.split()
    }

    /// Gives back what was taken and not used, before anything else is read.
    pub fn put_back(&mut self, rest: &[u8]) {
        self.scanned = 0;
        self.buffer.extend_from_slice(rest);
    }

    /// The next line, `None` if it is not whole yet.
    ///
    /// # Errors
    /// [`TooLong`], and again at every further call.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        // Two more: CR and LF.
        let within = self.buffer.len().min(self.limit + 2);
        let unseen = self.buffer.get(self.scanned..within).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', unseen).map(|at| self.scanned + at) else {
            self.scanned = within;
            return if self.buffer.len() > self.limit + 1 { Err(TooLong) } else { Ok(None) };
        };
        let bare = match self.buffer.get(..end) {
            Some([line @ .., b'\r']) => line.len(),
            _ => end,
        };
        if bare > self.limit {
            self.scanned = end;
            return Err(TooLong);
        }
        self.scanned = 0;
        let mut line = self.buffer.split_to(end + 1);
        line.truncate(bare);
        Ok(Some(line.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], step: usize) -> (Vec<String>, bool) {
        let mut lines = Lines::new(5);
        let mut out = Vec::new();
        for piece in input.chunks(step) {
            lines.buffer().extend_from_slice(piece);
            loop {
                match lines.next_line() {
                    Ok(Some(line)) => out.push(String::from_utf8_lossy(&line).into_owned()),
                    Ok(None) => break,
                    Err(TooLong) => return (out, true),
                }
            }
        }
        (out, false)
    }

    #[test]
    fn lines_and_their_limit() {
        let table: [(&[u8], &[&str], bool); 8] = [
            (b"a\r\nb\nc", &["a", "b"], false),
            (b"\r\n\n", &["", ""], false),
            (b"12345\r\n12345\n", &["12345", "12345"], false),
            (b"ok\r\n123456\r\nno\r\n", &["ok"], true),
            (b"ok\n123456\nno\n", &["ok"], true),
            (b"1234567890", &[], true),
            (b"1\r2\r\n", &["1\r2"], false),
            (b"1234\r\r\n", &["1234\r"], false),
        ];
        for (input, want, cut) in table {
            for step in 1..=input.len() {
                assert_eq!(all(input, step), (want.iter().map(ToString::to_string).collect(), cut), "{input:?} {step}");
            }
        }
    }
}
