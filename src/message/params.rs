//! Content-Type, Content-Disposition and their parameters; Content-Language and Content-Transfer-Encoding.
//!
//! RFC 2045 §5.1 and RFC 2183 §2. Continuations of RFC 2231 §3 are put together where they are complete, which is what
//! servers show and clients expect in BODYSTRUCTURE; the charset and percent form of a value stays as it stands.

use super::token::Cursor;

/// A media type as its message spells it; both empty for a field that makes no sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentType {
    pub(super) main: Vec<u8>,
    pub(super) sub: Vec<u8>,
    pub(super) params: Params,
}

pub(super) type Params = Vec<(Vec<u8>, Vec<u8>)>;

impl ContentType {
    pub(super) fn new(main: &str, sub: &str) -> Self {
        Self { main: main.into(), sub: sub.into(), params: Vec::new() }
    }

    /// Reads an unfolded value.
    pub(super) fn parse(value: &[u8]) -> Self {
        let mut cursor = Cursor::new(value);
        cursor.blanks();
        let main = cursor.mime_token();
        cursor.blanks();
        let mut sub: &[u8] = b"";
        if cursor.eat(b'/') {
            cursor.blanks();
            sub = cursor.mime_token();
            cursor.blanks();
            if sub.is_empty() {
                return Self::default();
            }
        } else if cursor.peek() == Some(b';') {
            // `text; charset=x`: what has parameters has a subtype.
            return Self::default();
        } else if main.eq_ignore_ascii_case(b"multipart") {
            return Self::new("application", "octet-stream");
        }
        if main.is_empty() || !matches!(cursor.peek(), Some(b';') | None) {
            return Self::default();
        }
        Self { main: main.to_vec(), sub: sub.to_vec(), params: params(cursor) }
    }

    pub(super) fn is(&self, main: &str, sub: &str) -> bool {
        self.main.eq_ignore_ascii_case(main.as_bytes()) && self.sub.eq_ignore_ascii_case(sub.as_bytes())
    }

    pub(super) fn is_main(&self, main: &str) -> bool {
        self.main.eq_ignore_ascii_case(main.as_bytes())
    }

    pub(super) fn param(&self, name: &str) -> Option<&[u8]> {
        let found = self.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.as_slice())
    }
}

/// An unfolded Content-Disposition: its type (empty if that makes no sense) and parameters.
pub(super) fn disposition(value: &[u8]) -> (Vec<u8>, Params) {
    let mut cursor = Cursor::new(value);
    cursor.blanks();
    let kind = cursor.mime_token().to_vec();
    (kind, params(cursor))
}

/// The tags of an unfolded Content-Language, up to the first that makes no sense.
pub(super) fn languages(value: &[u8]) -> Vec<Vec<u8>> {
    let mut cursor = Cursor::new(value);
    let mut tags = Vec::new();
    loop {
        cursor.blanks();
        let tag = cursor.atom();
        if tag.is_empty() {
            return tags;
        }
        tags.push(tag.to_vec());
        cursor.blanks();
        if !cursor.eat(b',') {
            return tags;
        }
    }
}

/// The one word of an unfolded Content-Transfer-Encoding; nothing if there is no word or more than one.
pub(super) fn encoding(value: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(value);
    cursor.blanks();
    let word = cursor.mime_token();
    cursor.blanks();
    (!word.is_empty() && cursor.at_end()).then(|| word.to_vec())
}

/// `;name=value` until the end. Text that is no parameter is passed over up to the next semicolon.
fn params(mut cursor: Cursor<'_>) -> Params {
    let mut plain = Params::new();
    let mut pieces = Vec::new();
    while !cursor.at_end() {
        if !cursor.eat(b';') {
            cursor.skip();
            continue;
        }
        cursor.blanks();
        let name = cursor.mime_token();
        cursor.blanks();
        if !cursor.eat(b'=') {
            cursor.skip();
            continue;
        }
        cursor.blanks();
        let value = match cursor.peek() {
            Some(b'"') => match cursor.quoted() {
                Some(value) => value,
                None => continue,
            },
            _ => cursor.param_value().to_vec(),
        };
        cursor.blanks();
        match Piece::parse(name) {
            Some(piece) => pieces.push((piece, value)),
            None => plain.push((name.to_vec(), value)),
        }
    }
    join(pieces, &mut plain);
    plain
}

/// `name*`, `name*0` or `name*0*` (RFC 2231 §3-4).
struct Piece {
    name: Vec<u8>,
    number: u32,
    extended: bool,
}

impl Piece {
    fn parse(word: &[u8]) -> Option<Self> {
        let star = memchr::memchr(b'*', word)?;
        let (name, rest) = word.split_at_checked(star)?;
        let rest = rest.get(1..)?;
        let (digits, extended) = match rest.strip_suffix(b"*") {
            Some(digits) => (digits, true),
            None => (rest, rest.is_empty()),
        };
        let number = match digits {
            b"" if rest.is_empty() => 0,
            _ if digits.iter().all(u8::is_ascii_digit) => std::str::from_utf8(digits).ok()?.parse().ok()?,
            _ => return None,
        };
        Some(Self { name: name.to_vec(), number, extended })
    }

    fn spelled(&self) -> Vec<u8> {
        let mut out = self.name.clone();
        out.push(b'*');
        out.extend_from_slice(itoa::Buffer::new().format(self.number).as_bytes());
        if self.extended {
            out.push(b'*');
        }
        out
    }
}

/// Pieces numbered 0, 1, … without gap or repetition become one parameter, others stay as they are; all in the order
/// of their names.
fn join(mut pieces: Vec<(Piece, Vec<u8>)>, out: &mut Params) {
    pieces.sort_by_cached_key(|(piece, _)| (piece.name.to_ascii_lowercase(), piece.number));
    for run in pieces.chunk_by(|(a, _), (b, _)| a.name.eq_ignore_ascii_case(&b.name)) {
        let whole = run.iter().zip(0..).all(|((piece, _), number)| piece.number == number);
        if !whole {
            out.extend(run.iter().map(|(piece, value)| (piece.spelled(), value.clone())));
            continue;
        }
        let Some((first, _)) = run.first() else { continue };
        let mut name = first.name.clone();
        let mut joined = Vec::new();
        if run.iter().any(|(piece, _)| piece.extended) {
            name.push(b'*');
            if !first.extended {
                // An extended value starts with charset and language; here they are left open.
                joined.extend_from_slice(b"''");
            }
        }
        for (_, value) in run {
            joined.extend_from_slice(value);
        }
        out.push((name, joined));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let parsed = ContentType::parse(value.as_bytes());
        let mut out = format!("{}/{}", parsed.main.escape_ascii(), parsed.sub.escape_ascii());
        for (name, value) in &parsed.params {
            out += &format!(" {}={}", name.escape_ascii(), value.escape_ascii());
        }
        out
    }

    /// Every line is an answer of Dovecot 2.3.19.
    #[test]
    fn content_types() {
        for (value, want) in [
            ("a/b; n=a/b:c=d(e)f; x=1", "a/b n=a x=1"),
            ("a/b; n=\"a\"b; x=1", "a/b n=a x=1"),
            ("a/b; n (c) = (d) \"a\"; x=1", "a/b n=a x=1"),
            ("a/b; n; x=1", "a/b"),
            ("a/b; =v; x=1", "a/b =v x=1"),
            ("a/b; n=\"abc; x=1", "a/b"),
            ("a/b; n=a\"b; x=1", "a/b n=a x=1"),
            ("a/b; N*0=x; n*1=y", "a/b N=xy"),
            ("a/b; n*0=x; m*0=z; n*1=y; m*1=q", "a/b m=zq n=xy"),
            ("a/b; n*0=x; n*2=y", "a/b n*0=x n*2=y"),
            ("a/b; n*=a; n*0=b; n*1=c", "a/b n*0*=a n*0=b n*1=c"),
            ("a/b; n*0*=a; n*1=c", "a/b n*=ac"),
            ("a/b; n*0=a; n*1*=c", "a/b n*=\\'\\'ac"),
            ("a/b; n*01=a; n*1=b", "a/b n*1=a n*1=b"),
            ("a/b; n*x=a", "a/b n*x=a"),
            ("a/b; z*=1; a*=2; b=3", "a/b b=3 a*=2 z*=1"),
            ("a/b; n*0=a; n=b", "a/b n=b n=a"),
            ("a/b; n*10=k; n*0=a; n*1=b; n*2=c", "a/b n*0=a n*1=b n*2=c n*10=k"),
            ("a/b; *=x; *0=y", "a/b *0*=x *0=y"),
            ("a/b; n=@x,y; x=1", "a/b n= x=1"),
            ("a /b", "a/b"),
            ("(c) a/ b", "a/b"),
            ("a/b,c", "/"),
            ("a/", "/"),
            ("/b", "/"),
            ("multipart", "application/octet-stream"),
            ("message", "message/"),
            ("a/b;n=x;;m=y; p=q", "a/b n=x p=q"),
            ("a/b; n@=1; p=q", "a/b p=q"),
            ("a/b; n=; m=", "a/b n= m="),
            ("a/b; n=<x>; m=\"<y>\"", "a/b n= m=<y>"),
        ] {
            assert_eq!(shown(value), want, "{value}");
        }
    }

    #[test]
    fn other_fields() {
        for (value, want) in
            [("en, de", 2), ("en,,de", 1), (", en", 0), ("en;q=1, de", 1), ("(c) en (d), de", 2), ("\"en\"", 0)]
        {
            assert_eq!(languages(value.as_bytes()).len(), want, "{value}");
        }
        for (value, want) in [
            ("base64 ", Some("base64")),
            ("base64(c)", Some("base64")),
            ("base64;", None),
            ("\"base64\"", None),
            ("8bit.", Some("8bit.")),
            ("", None),
        ] {
            assert_eq!(encoding(value.as_bytes()).as_deref(), want.map(str::as_bytes), "{value}");
        }
        assert_eq!(disposition(b"x y; a=b"), (b"x".to_vec(), vec![(b"a".to_vec(), b"b".to_vec())]));
        assert_eq!(disposition(b"\"x\";a=b").0, b"");
    }
}
