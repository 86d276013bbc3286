//! A command to an upstream server, in the pieces between which its consent to a literal is awaited.

use bytes::{BufMut, Bytes, BytesMut};

use super::{is_plain_atom, is_quotable, number, quoted};

/// Largest literal that RFC 7888 §5 lets a client send unasked under LITERAL-.
const LITERAL_MINUS: u64 = 4096;

/// What the upstream offers for literals (RFC 7888).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Literals {
    /// Every literal waits for `+`.
    #[default]
    Sync,
    /// LITERAL-: those of up to 4096 bytes do not.
    Minus,
    /// LITERAL+: none does.
    Plus,
}

/// Builds a command. No `Debug`: it may hold a password (Law 12).
pub struct Request {
    literals: Literals,
    pieces: Vec<Bytes>,
    piece: BytesMut,
}

impl Request {
    /// Starts with the tag; every argument brings its own space.
    pub fn new(tag: &str, literals: Literals) -> Self {
        let mut piece = BytesMut::with_capacity(128);
        piece.put_slice(tag.as_bytes());
        Self { literals, pieces: Vec::new(), piece }
    }

    /// A space and words of our own: names, numbers, parentheses. Control characters are left out, so that no text
    /// that found its way here can end the line.
    pub fn words(mut self, words: &str) -> Self {
        self.piece.put_u8(b' ');
        self.piece.extend(words.bytes().filter(|b| !b.is_ascii_control()));
        self
    }

    /// A space and an astring: a mailbox name, user or password.
    pub fn astring(mut self, bytes: &[u8]) -> Self {
        self.piece.put_u8(b' ');
        if is_plain_atom(bytes) {
            self.piece.put_slice(bytes);
            return self;
        }
        self.string(bytes);
        self
    }

    /// A space and arguments written with this module's parent ([`super::string`] and the like), in which literals stand
    /// as `{n}` CRLF bytes. Nothing where a line end stands outside a literal.
    pub fn arguments(mut self, arguments: &[u8]) -> Option<Self> {
        self.piece.put_u8(b' ');
        let mut rest = arguments;
        while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
            let (line, tail) = rest.split_at_checked(at)?;
            let tail = tail.strip_prefix(b"\r\n")?;
            let brace = line.iter().rposition(|b| *b == b'{')?;
            let (before, marker) = line.split_at_checked(brace)?;
            let count = marker.strip_prefix(b"{")?.strip_suffix(b"}")?;
            let count = count.strip_suffix(b"+").unwrap_or(count);
            let count: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
            let (literal, tail) = tail.split_at_checked(count)?;
            self.piece.put_slice(before);
            self.announce(count as u64);
            self.piece.put_slice(literal);
            rest = tail;
        }
        self.piece.put_slice(rest);
        Some(self)
    }

    /// A space and the announcement of a literal that the caller sends itself: a message to APPEND. Ends the command's
    /// text: the pieces are what goes before it, and whether the upstream must consent first.
    pub fn literal(mut self, len: u64) -> (Vec<Bytes>, bool) {
        self.piece.put_u8(b' ');
        let pieces = self.pieces.len();
        self.announce(len);
        let sync = self.pieces.len() > pieces;
        if !sync {
            self.pieces.push(self.piece.freeze());
        }
        (self.pieces, sync)
    }

    /// The pieces, the line end in the last. Behind each but the last the upstream's `+` is awaited.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.piece.put_slice(b"\r\n");
        self.pieces.push(self.piece.freeze());
        self.pieces
    }

    fn string(&mut self, bytes: &[u8]) {
        if is_quotable(bytes) {
            quoted(&mut self.piece, bytes);
        } else {
            self.announce(bytes.len() as u64);
            self.piece.put_slice(bytes);
        }
    }

    fn announce(&mut self, len: u64) {
        let unasked = match self.literals {
            Literals::Sync => false,
            Literals::Minus => len <= LITERAL_MINUS,
            Literals::Plus => true,
        };
        self.piece.put_u8(b'{');
        number(&mut self.piece, len);
        self.piece.put_slice(if unasked { b"+}\r\n" } else { b"}\r\n" });
        if !unasked {
            self.pieces.push(self.piece.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[Bytes]) -> Vec<String> {
        pieces.iter().map(|piece| piece.escape_ascii().to_string()).collect()
    }

    #[test]
    fn literals_are_the_points_of_waiting() {
        let login = |literals| Request::new("a", literals).words("LOGIN").astring(b"ann").astring(b"p\xe4").finish();
        assert_eq!(shown(&login(Literals::Sync)), ["a LOGIN ann {2}\\r\\n", "p\\xe4\\r\\n"]);
        assert_eq!(shown(&login(Literals::Plus)), ["a LOGIN ann {2+}\\r\\np\\xe4\\r\\n"]);
        let long = vec![b'x'; 4097];
        let minus = |len| Request::new("a", Literals::Minus).words("X").astring(&long[..len]).finish().len();
        assert_eq!((minus(4096), minus(4097)), (1, 2));
    }

    #[test]
    fn no_argument_ends_the_line() {
        let pieces = Request::new("a", Literals::Sync).words("SELECT\r\nx").astring(b"a\r\nb LOGOUT").finish();
        assert_eq!(shown(&pieces), ["a SELECTx {11}\\r\\n", "a\\r\\nb LOGOUT\\r\\n"]);
        for arguments in [&b"x\r\ny"[..], b"x\ny", b"{5}\r\nabc", b"{x}\r\nabc", b"{1}\ra"] {
            assert!(Request::new("a", Literals::Sync).words("SEARCH").arguments(arguments).is_none());
        }
    }

    #[test]
    fn arguments_keep_their_literals() {
        let build = |literals| {
            let request = Request::new("a", literals).words("UID SEARCH");
            request.arguments(b"SUBJECT {3}\r\n\r\n\xe4 TO \"x\" BODY {0}\r\n").unwrap().finish()
        };
        assert_eq!(
            shown(&build(Literals::Sync)),
            ["a UID SEARCH SUBJECT {3}\\r\\n", "\\r\\n\\xe4 TO \\\"x\\\" BODY {0}\\r\\n", "\\r\\n"]
        );
        assert_eq!(build(Literals::Plus).len(), 1);
    }

    #[test]
    fn append_announces_its_message() {
        let build =
            |literals| Request::new("a", literals).words("APPEND").astring(b"a b").words("(\\Seen)").literal(5000);
        let (pieces, sync) = build(Literals::Minus);
        assert_eq!((shown(&pieces), sync), (vec!["a APPEND \\\"a b\\\" (\\\\Seen) {5000}\\r\\n".to_owned()], true));
        let (pieces, sync) = build(Literals::Plus);
        assert_eq!((shown(&pieces), sync), (vec!["a APPEND \\\"a b\\\" (\\\\Seen) {5000+}\\r\\n".to_owned()], false));
    }
}
