//! A BODYSTRUCTURE that another server wrote, read with tolerance: is it usable, BODY from it, and where a part stands.
//!
//! Used until the message itself is here. The reader wants balance and the few fields that a client acts on (types,
//! encoding, sizes); NIL or odd values elsewhere pass through. What it cannot read is not passed on to clients.

use super::quote;

/// Lists nest no deeper; a part takes one level, a message in it two. Keeps the recursion small.
const DEPTH_MAX: usize = 220;

/// Nodes of all kinds. A structure within the line limits of a session has fewer.
const NODES_MAX: usize = 400_000;

/// What another server says about a message's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStructure {
    root: Body,
}

/// What is said about one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamPart<'a> {
    /// Main type as spelled; `multipart` for a multipart.
    pub main: &'a [u8],
    /// Subtype as spelled.
    pub sub: &'a [u8],
    /// Content-Transfer-Encoding as spelled; empty for a multipart.
    pub encoding: &'a [u8],
    /// Octets of the part as transferred; nothing for a multipart.
    pub size: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Nil,
    Text(Vec<u8>),
    /// Kept apart, so that a client is told a text in the same form twice.
    Literal(Vec<u8>),
    List(Vec<Self>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    Multipart {
        parts: Vec<Self>,
        sub: Node,
    },
    Single {
        /// Type, subtype, parameters, id, description, encoding, size: the seven of `body-fields`.
        fields: Vec<Node>,
        size: u64,
        message: Option<Box<(Node, Self)>>,
        lines: Option<u64>,
    },
}

/// Reads a BODYSTRUCTURE or BODY answer (with its parentheses); nothing if it is not usable.
pub fn upstream_structure(raw: &[u8]) -> Option<UpstreamStructure> {
    let mut reader = Reader { rest: raw, nodes: 0 };
    let node = reader.node(0)?;
    reader.spaces();
    let root = if reader.rest.is_empty() { body(&node)? } else { return None };
    Some(UpstreamStructure { root })
}

impl UpstreamStructure {
    /// BODY without a section: the structure without extension data, in our own writing.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.root.render(&mut out);
        out
    }

    /// The part that section numbers name, by the rules of `Structure::section`.
    pub fn part(&self, path: &[u32]) -> Option<UpstreamPart<'_>> {
        let mut body = &self.root;
        let mut fresh = true;
        let mut numbers = path.iter().peekable();
        while let Some(number) = numbers.next() {
            if let (false, Body::Single { message: Some(message), .. }) = (fresh, body) {
                body = &message.1;
            }
            let index = usize::try_from(number.checked_sub(1)?).ok()?;
            match body {
                Body::Multipart { parts, .. } => {
                    body = parts.get(index)?;
                }
                Body::Single { message, .. } => {
                    if index != 0 || (message.is_none() && numbers.peek().is_some()) {
                        return None;
                    }
                }
            }
            fresh = false;
        }
        Some(body.about())
    }
}

impl Body {
    fn about(&self) -> UpstreamPart<'_> {
        match self {
            Self::Multipart { sub, .. } => {
                UpstreamPart { main: b"multipart", sub: sub.text(), encoding: b"", size: None }
            }
            Self::Single { fields, size, .. } => {
                let text = |index: usize| fields.get(index).map(Node::text).unwrap_or(b"");
                UpstreamPart { main: text(0), sub: text(1), encoding: text(5), size: Some(*size) }
            }
        }
    }

    // Recursive, as deep as the reader let it be.
    fn render(&self, out: &mut Vec<u8>) {
        out.push(b'(');
        match self {
            Self::Multipart { parts, sub } => {
                for part in parts {
                    part.render(out);
                }
                out.push(b' ');
                sub.render(out);
            }
            Self::Single { fields, size, message, lines } => {
                for (index, field) in fields.iter().enumerate() {
                    match (index, field) {
                        // Types and encoding are strings in the grammar, never NIL.
                        (0 | 1 | 5, Node::Nil) => quote::string(out, if index == 5 { b"7bit" } else { b"" }),
                        _ => field.render(out),
                    }
                    out.push(b' ');
                }
                out.extend_from_slice(itoa::Buffer::new().format(*size).as_bytes());
                if let Some(message) = message {
                    out.push(b' ');
                    message.0.render(out);
                    out.push(b' ');
                    message.1.render(out);
                }
                if let Some(lines) = lines {
                    out.push(b' ');
                    out.extend_from_slice(itoa::Buffer::new().format(*lines).as_bytes());
                }
            }
        }
        out.push(b')');
    }
}

impl Node {
    fn text(&self) -> &[u8] {
        match self {
            Self::Text(text) | Self::Literal(text) => text,
            Self::Nil | Self::List(_) => b"",
        }
    }

    /// A number; what is no number (NIL, -1) counts as 0.
    fn number(&self) -> u64 {
        std::str::from_utf8(self.text()).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn render(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.extend_from_slice(b"NIL"),
            Self::Text(text) => quote::string(out, text),
            Self::Literal(text) => quote::literal(out, text),
            // `()` is no list in this grammar.
            Self::List(nodes) if nodes.is_empty() => out.extend_from_slice(b"NIL"),
            Self::List(nodes) => {
                out.push(b'(');
                for (index, node) in nodes.iter().enumerate() {
                    // Address and part lists stand without spaces, string lists with them.
                    let list_after_list = matches!(node, Self::List(_))
                        && index.checked_sub(1).is_some_and(|before| matches!(nodes.get(before), Some(Self::List(_))));
                    let envelope_field = nodes.len() == 10;
                    if index > 0 && (envelope_field || !list_after_list) {
                        out.push(b' ');
                    }
                    node.render(out);
                }
                out.push(b')');
            }
        }
    }
}

/// Makes sense of a list as a body.
fn body(node: &Node) -> Option<Body> {
    let Node::List(nodes) = node else { return None };
    match nodes.first()? {
        Node::List(_) => {
            let parts: Option<Vec<_>> =
                nodes.iter().take_while(|node| matches!(node, Node::List(_))).map(body).collect();
            let parts = parts?;
            let sub = nodes.get(parts.len()).filter(|node| matches!(node, Node::Text(_) | Node::Literal(_)))?;
            Some(Body::Multipart { parts, sub: sub.clone() })
        }
        Node::Text(main) | Node::Literal(main) => {
            let (Node::Text(sub) | Node::Literal(sub)) = nodes.get(1)? else { return None };
            let fields: Vec<_> = nodes.get(..6)?.to_vec();
            let shapes_fit = matches!(fields.get(2), Some(Node::Nil | Node::List(_)))
                && fields.iter().skip(3).all(|field| !matches!(field, Node::List(_)));
            let size_node = nodes.get(6)?;
            if !shapes_fit || matches!(size_node, Node::List(_)) {
                return None;
            }
            let is_message = main.eq_ignore_ascii_case(b"message") && sub.eq_ignore_ascii_case(b"rfc822");
            let mut message = None;
            let mut lines = None;
            if is_message {
                // Some servers leave message/rfc822 as a plain part; clients cannot read that.
                let envelope = nodes.get(7).filter(|node| matches!(node, Node::List(fields) if fields.len() == 10))?;
                message = Some(Box::new((envelope.clone(), body(nodes.get(8)?)?)));
                lines = Some(nodes.get(9).map_or(0, Node::number));
            } else if main.eq_ignore_ascii_case(b"text") {
                lines = Some(nodes.get(7).map_or(0, Node::number));
            }
            Some(Body::Single { fields, size: size_node.number(), message, lines })
        }
        Node::Nil => None,
    }
}

/// Lists, strings, literals, NIL and bare words.
struct Reader<'a> {
    rest: &'a [u8],
    nodes: usize,
}

impl Reader<'_> {
    fn spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn node(&mut self, depth: usize) -> Option<Node> {
        self.spaces();
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return None;
        }
        match self.rest.first()? {
            b'(' => {
                self.skip(1);
                let mut nodes = Vec::new();
                loop {
                    self.spaces();
                    if self.rest.first()? == &b')' {
                        self.skip(1);
                        return Some(Node::List(nodes));
                    }
                    nodes.push(self.node(depth + 1)?);
                }
            }
            b'"' => self.quoted().map(Node::Text),
            b'{' | b'~' => self.literal().map(Node::Literal),
            _ => {
                let length = self.rest.iter().take_while(|b| !b.is_ascii_whitespace() && !b"()\"{".contains(b)).count();
                let word = self.rest.get(..length).filter(|word| !word.is_empty())?;
                let node = match word.eq_ignore_ascii_case(b"NIL") {
                    true => Node::Nil,
                    false => Node::Text(word.to_vec()),
                };
                self.skip(length);
                Some(node)
            }
        }
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        self.skip(1);
        let mut text = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(text),
                b'\\' => {
                    let (&escaped, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    text.push(escaped);
                }
                _ => text.push(byte),
            }
        }
    }

    fn literal(&mut self) -> Option<Vec<u8>> {
        let end = memchr::memmem::find(self.rest, b"}\r\n")?;
        let head = self.rest.get(..end)?;
        let head = head.strip_prefix(b"~").unwrap_or(head).strip_prefix(b"{")?;
        let length: usize = std::str::from_utf8(head.strip_suffix(b"+").unwrap_or(head)).ok()?.parse().ok()?;
        self.skip(end + 3);
        let text = self.rest.get(..length)?.to_vec();
        self.skip(length);
        Some(text)
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or(b"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_from_bodystructure() {
        for (raw, want) in [
            (
                r#"("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 5 1 NIL ("inline" NIL) NIL NIL)"#,
                r#"("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 5 1)"#,
            ),
            (
                "((\"text\" \"html\" () {1}\r\nx \"a\\\"b\" NIL 5 -1) (\"a\" \"b\" NIL NIL NIL \"base64\" NIL) \"MIXED\" (\"b\" \"c\"))",
                "((\"text\" \"html\" NIL {1}\r\nx \"a\\\"b\" \"7bit\" 5 0)(\"a\" \"b\" NIL NIL NIL \"base64\" 0) \"MIXED\")",
            ),
            (
                r#"("message" "rfc822" NIL NIL NIL "7bit" 9 (NIL "s" ((NIL NIL "a" "b")(NIL NIL "c" "d")) NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" NIL NIL NIL "7bit" 1 0) 2 NIL)"#,
                r#"("message" "rfc822" NIL NIL NIL "7bit" 9 (NIL "s" ((NIL NIL "a" "b")(NIL NIL "c" "d")) NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" NIL NIL NIL "7bit" 1 0) 2)"#,
            ),
        ] {
            let read = upstream_structure(raw.as_bytes()).expect(raw);
            assert_eq!(String::from_utf8(read.body()).unwrap(), want);
            // Our own writing is stable.
            assert_eq!(upstream_structure(&read.body()).unwrap().body(), read.body());
        }
    }

    #[test]
    fn what_is_not_usable() {
        let deep = "(".repeat(100_000);
        let nested = format!("{}{}", "(".repeat(300), ")".repeat(300));
        for raw in [
            "",
            "NIL",
            "()",
            "(NIL \"MIXED\")",
            "(\"text\" \"plain\")",
            "(\"attachment\")",
            "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 5 1",
            "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 5 1) x",
            "(\"text\" \"plain\" NIL NIL NIL {99}\r\n7bit)",
            "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 5 NIL)",
            &deep,
            &nested,
        ] {
            assert!(upstream_structure(raw.as_bytes()).is_none(), "{}", raw.get(..60).unwrap_or(raw));
        }
    }

    #[test]
    fn paths() {
        let raw = br#"(("text" "plain" NIL NIL NIL "7bit" 1 0)("message" "rfc822" NIL NIL NIL "8bit" 2 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) (("a" "b" NIL NIL NIL "base64" 3)("c" "d" NIL NIL NIL "binary" 4) "alternative") 1) "mixed")"#;
        let read = upstream_structure(raw).unwrap();
        for (path, want) in [
            (&[][..], Some(None)),
            (&[1], Some(Some(1))),
            (&[1, 1], Some(Some(1))),
            (&[1, 1, 1], None),
            (&[2], Some(Some(2))),
            (&[2, 1], Some(Some(3))),
            (&[2, 2], Some(Some(4))),
            (&[2, 3], None),
            (&[0], None),
            (&[3], None),
        ] {
            assert_eq!(read.part(path).map(|part| part.size), want, "{path:?}");
        }
        assert_eq!(read.part(&[2, 2]).unwrap().encoding, b"binary");
    }
}
