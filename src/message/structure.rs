//! The tree of a message's parts, as ranges of its octets.
//!
//! One pass over the lines. A stack holds the parts that are open; a line that starts with `--` is held against the
//! boundaries of all of them, the longest that fits wins, and whatever is open inside is closed there. The line end
//! before a boundary line belongs to the boundary (RFC 2046 §5.1.1). Where no text stands before the boundary but a header
//! or another boundary line, an empty part gives up the line end of its header, and the parts around keep theirs: so
//! Dovecot reads it.

use std::ops::Range;

use memchr::memchr;

use super::header::{fields, unfold};
use super::params::ContentType;

/// Parts inside parts deeper than this are leaves. Real mail stays below 20; every line is held against all open
/// boundaries, and answers nest as deep as parts do, so clients' own recursion is spared as well.
const DEPTH_MAX: usize = 100;

/// Further parts are text of the part they stand in. Keeps a BODYSTRUCTURE below a few MB; Dovecot's number.
const PARTS_MAX: usize = 10_000;

/// A boundary is told by this many octets: RFC 2046 §5.1.1 allows 70, and Dovecot compares 80.
const BOUNDARY_MAX: usize = 80;

/// The parts of one message. Ranges are octets of the raw message that was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) header: Range<usize>,
    pub(super) body: Range<usize>,
    /// Line feeds in the body.
    pub(super) lines: usize,
    pub(super) kind: Kind,
    /// Indices of the parts inside, which all come later in the list; of a message exactly one.
    pub(super) children: Vec<usize>,
    /// Stands in a multipart/digest, where message/rfc822 is the default (RFC 2046 §5.1.5).
    pub(super) in_digest: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf,
    Multipart,
    /// message/rfc822.
    Message,
}

impl Structure {
    /// The header block of the message, with its empty line.
    pub fn header(&self) -> Range<usize> {
        self.root().map(|part| part.header.clone()).unwrap_or_default()
    }

    /// How many parts there are, the message itself among them.
    pub fn part_count(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn root(&self) -> Option<&Part> {
        self.parts.first()
    }

    pub(super) fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }
}

impl Part {
    /// The media type of the part, with the defaults of RFC 2045 §5.2 and RFC 2046 §5.1.5.
    pub(super) fn content_type(&self, raw: &[u8]) -> ContentType {
        content_type(raw.get(self.header.clone()).unwrap_or(b""), self.in_digest)
    }
}

/// Parses a message. Never fails; takes time linear in its length.
pub fn parse(raw: &[u8]) -> Structure {
    let mut parser =
        Parser { raw, structure: Structure { parts: Vec::new() }, open: Vec::new(), closed: 0, newlines: 0 };
    parser.open_part(None, 0);
    parser.run();
    parser.structure
}

struct Parser<'a> {
    raw: &'a [u8],
    structure: Structure,
    open: Vec<Open>,
    /// The part that was closed last.
    closed: usize,
    /// Line feeds before the line being read.
    newlines: usize,
}

struct Open {
    part: usize,
    /// What separates the parts inside; nothing for a leaf, a message, and a multipart after its last boundary.
    boundary: Option<Vec<u8>>,
    digest: bool,
    in_header: bool,
    /// Line feeds before the body.
    newlines: usize,
    /// Where the text after the header or after the last boundary inside begins.
    text: usize,
}

impl Parser<'_> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(rest) = self.raw.get(at..).filter(|rest| !rest.is_empty()) {
            let end = at + memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
            let line = self.raw.get(at..end).unwrap_or(b"");
            if !self.boundary_line(line, at, end)
                && self.open.last().is_some_and(|open| open.in_header)
                && matches!(line, b"\n" | b"\r\n")
            {
                self.newlines += 1;
                self.begin_body(end);
            } else if line.ends_with(b"\n") {
                self.newlines += 1;
            }
            at = end;
        }
        let end = self.raw.len();
        while !self.open.is_empty() {
            self.close(end, self.newlines);
        }
    }

    /// Handles the line if it is the boundary of an open multipart.
    fn boundary_line(&mut self, line: &[u8], at: usize, end: usize) -> bool {
        let Some(text) = line.strip_prefix(b"--") else { return false };
        let fitting = |(level, open): (usize, &Open)| {
            let boundary = open.boundary.as_deref()?;
            text.starts_with(boundary).then_some((boundary.len(), level))
        };
        let Some((length, level)) = self.open.iter().enumerate().filter_map(fitting).max() else { return false };
        let last = text.get(length..).is_some_and(|rest| rest.starts_with(b"--"));
        if !last && self.structure.parts.len() >= PARTS_MAX {
            return false;
        }
        self.close_inner(level, at);
        let Some(owner) = self.open.last_mut() else { return true };
        if last {
            owner.boundary = None;
            owner.text = end;
        } else {
            let parent = owner.part;
            // A boundary without a line end is the last thing there is, and opens nothing.
            if line.ends_with(b"\n") {
                self.open_part(Some(parent), end);
            }
        }
        true
    }

    /// Closes all parts inside that at `level`, which a boundary line at `at` ends.
    fn close_inner(&mut self, level: usize, at: usize) {
        let line_end = match self.raw.get(..at).unwrap_or(b"") {
            [.., b'\r', b'\n'] => 2,
            [.., b'\n'] => 1,
            _ => 0,
        };
        let cut = at - line_end;
        let innermost_is_empty = self.open.last().is_some_and(|open| open.in_header || open.text == at);
        while self.open.len() > level + 1 {
            let (end, newlines) = match innermost_is_empty {
                true => (at, self.newlines),
                false => (cut, self.newlines - usize::from(line_end > 0)),
            };
            self.close(end, newlines);
            // What is empty gives up the line end of its header.
            if let Some(part) = self.structure.parts.get_mut(self.closed).filter(|part| part.body.start == at) {
                part.header.end = cut.max(part.header.start);
            }
        }
    }

    /// Closes the innermost part, whose body ends at `end`.
    fn close(&mut self, end: usize, newlines: usize) {
        if self.open.last().is_some_and(|open| open.in_header) {
            // All there is is header. A message in a message stays as a shape without octets.
            if self.finish_header(end) == Some(Kind::Message) {
                let parent = self.open.last().map(|open| open.part);
                self.open_part(parent, end);
                self.close(end, newlines);
            }
        }
        let Some(open) = self.open.pop() else { return };
        self.closed = open.part;
        if let Some(part) = self.structure.parts.get_mut(open.part) {
            part.body.end = end.max(part.body.start);
            part.lines = newlines.saturating_sub(open.newlines);
        }
    }

    fn open_part(&mut self, parent: Option<usize>, at: usize) {
        let index = self.structure.parts.len();
        let in_digest = self.open.last().is_some_and(|open| open.digest);
        let (header, body) = (at..at, at..at);
        let part = Part { header, body, lines: 0, kind: Kind::Leaf, children: Vec::new(), in_digest };
        self.structure.parts.push(part);
        if let Some(parent) = parent.and_then(|parent| self.structure.parts.get_mut(parent)) {
            parent.children.push(index);
        }
        let newlines = self.newlines;
        self.open.push(Open { part: index, boundary: None, digest: false, in_header: true, newlines, text: at });
    }

    /// The innermost part's header has ended at `at` and its body begins.
    fn begin_body(&mut self, at: usize) {
        if self.finish_header(at) == Some(Kind::Message) {
            let parent = self.open.last().map(|open| open.part);
            self.open_part(parent, at);
        }
    }

    /// Sets where the innermost part's header ends, and from it what kind of part that is.
    fn finish_header(&mut self, at: usize) -> Option<Kind> {
        let depth = self.open.len();
        let full = self.structure.parts.len() >= PARTS_MAX;
        let open = self.open.last_mut()?;
        let part = self.structure.parts.get_mut(open.part)?;
        part.header.end = at.max(part.header.start);
        part.body = part.header.end..part.header.end;
        open.in_header = false;
        open.newlines = self.newlines;
        open.text = part.header.end;
        if depth >= DEPTH_MAX || full {
            return Some(Kind::Leaf);
        }
        let content_type = part.content_type(self.raw);
        if content_type.is_main("multipart") {
            part.kind = Kind::Multipart;
            open.digest = content_type.is("multipart", "digest");
            let boundary = content_type.param("boundary");
            open.boundary = boundary.map(|boundary| boundary.get(..BOUNDARY_MAX).unwrap_or(boundary).to_vec());
        } else if content_type.is("message", "rfc822") {
            part.kind = Kind::Message;
        }
        Some(part.kind)
    }
}

/// The media type a header block states, or the default.
fn content_type(header: &[u8], in_digest: bool) -> ContentType {
    match fields(header).find(|field| field.is("Content-Type")) {
        Some(field) => ContentType::parse(&unfold(field.value)),
        None if in_digest => ContentType::new("message", "rfc822"),
        None => ContentType::new("text", "plain"),
    }
}
