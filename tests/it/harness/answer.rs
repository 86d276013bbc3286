//! Reading what an IMAP server says: a small S-expression reader over one whole response line (literals included).
//!
//! Written for the tests alone and strict: what is not a response ends the test. It knows the shapes, not the
//! vocabulary, so that a wrong item shows as a difference and not as a refusal to read.

use std::collections::BTreeMap;
use std::fmt;

/// One piece of a response.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Nil,
    /// Anything bare: atoms, numbers, flags, `BODY[HEADER.FIELDS (DATE)]<0>`.
    Atom(String),
    /// A quoted string or a literal: the same to a client.
    Text(Vec<u8>),
    List(Vec<Self>),
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Ok,
    No,
    Bad,
}

/// Everything a server said to one command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Untagged responses in order, without the CRLF at the end.
    pub untagged: Vec<Vec<u8>>,
    pub status: Status,
    /// After the status: response code and words.
    pub text: String,
}

/// One FETCH response: its number, and each item's value by upper-case name.
pub type Fetched = (u32, BTreeMap<String, Value>);

impl Value {
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Atom(a) => a.parse().ok(),
            _ => None,
        }
    }

    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            other => panic!("a list was expected, not {other:?}"),
        }
    }

    /// The bytes of a string or an atom; nothing for NIL.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(t) => t,
            Self::Atom(a) => a.as_bytes(),
            Self::Nil => b"",
            Self::List(_) => panic!("a string was expected, not {self:?}"),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => write!(f, "NIL"),
            Self::Atom(a) => write!(f, "{a}"),
            Self::Text(t) if t.len() > 200 => {
                write!(f, "{:?}…({} bytes)", String::from_utf8_lossy(&t[..120]), t.len())
            }
            Self::Text(t) => write!(f, "{:?}", String::from_utf8_lossy(t)),
            Self::List(items) => f.debug_list().entries(items).finish(),
        }
    }
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }

    /// The untagged responses as text.
    pub fn lines(&self) -> Vec<String> {
        self.untagged.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect()
    }

    /// All FETCH responses.
    pub fn fetches(&self) -> Vec<Fetched> {
        self.untagged.iter().filter_map(|l| fetched(l)).collect()
    }

    /// Items by UID, of responses that tell one; several responses of one UID are put together.
    pub fn by_uid(&self) -> BTreeMap<u64, BTreeMap<String, Value>> {
        let mut all: BTreeMap<u64, BTreeMap<String, Value>> = BTreeMap::new();
        for (_, items) in self.fetches() {
            if let Some(uid) = items.get("UID").and_then(Value::number) {
                all.entry(uid).or_default().extend(items);
            }
        }
        all
    }

    /// `n` of the last `* n NAME`.
    pub fn count(&self, name: &str) -> Option<u32> {
        self.untagged.iter().filter_map(|l| numbered(l)).filter(|(_, n)| n == name).map(|(n, _)| n).next_back()
    }

    /// The value of a response code of the untagged OKs or of the closing line: `code("UIDVALIDITY")`.
    pub fn code(&self, name: &str) -> Option<String> {
        let said = self.lines().into_iter().chain([format!("* OK {}", self.text)]);
        for line in said {
            let Some((_, rest)) = line.split_once(" [") else { continue };
            let Some((code, _)) = rest.split_once(']') else { continue };
            let (key, value) = code.split_once(' ').unwrap_or((code, ""));
            if key.eq_ignore_ascii_case(name) {
                return Some(value.to_owned());
            }
        }
        None
    }

    /// The numbers of all SEARCH responses, in the order given.
    pub fn search(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for line in self.lines() {
            if let Some(rest) = line.strip_prefix("* SEARCH") {
                let numbers = rest.split('(').next().unwrap_or("");
                found.extend(numbers.split_whitespace().map(|n| n.parse::<u32>().expect("a number in SEARCH")));
            }
        }
        found
    }

    /// The mailbox names of `* LIST` (or another word), sorted.
    pub fn names(&self, word: &str) -> Vec<String> {
        let mut names: Vec<_> = self.untagged.iter().filter_map(|l| listed(l, word)).map(|l| l.2).collect();
        names.sort();
        names
    }
}

/// `* n NAME …`.
pub fn numbered(line: &[u8]) -> Option<(u32, String)> {
    let head = String::from_utf8_lossy(&line[..line.len().min(64)]).into_owned();
    let mut words = head.strip_prefix("* ")?.split_whitespace();
    let number = words.next()?.parse().ok()?;
    Some((number, words.next()?.to_ascii_uppercase()))
}

/// One FETCH response, if the line is one.
pub fn fetched(line: &[u8]) -> Option<Fetched> {
    let (seq, word) = numbered(line)?;
    if word != "FETCH" {
        return None;
    }
    let open = line.iter().position(|b| *b == b'(').expect("a list in FETCH");
    let (value, rest) = read(&line[open..]);
    assert!(rest.is_empty(), "bytes after FETCH: {:?}", String::from_utf8_lossy(rest));
    let items = value.list();
    assert!(items.len() % 2 == 0, "FETCH items in pairs: {items:?}");
    let mut map = BTreeMap::new();
    for pair in items.chunks(2) {
        let Value::Atom(name) = &pair[0] else { panic!("an item name, not {:?}", pair[0]) };
        let before = map.insert(name.to_ascii_uppercase(), pair[1].clone());
        assert!(before.is_none(), "{name} twice in one FETCH");
    }
    Some((seq, map))
}

/// `* LIST (attributes) delimiter name`, attributes sorted and in lower case.
pub fn listed(line: &[u8], word: &str) -> Option<(Vec<String>, Option<String>, String)> {
    let rest = line.strip_prefix(format!("* {word} ").as_bytes())?;
    let (attributes, rest) = read(rest);
    let (delimiter, rest) = read(rest.strip_prefix(b" ").expect("a blank"));
    let (name, _) = read(rest.strip_prefix(b" ").expect("a blank"));
    let mut attributes: Vec<_> = attributes.list().iter().map(|a| a.text().to_ascii_lowercase()).collect();
    attributes.sort();
    let delimiter = (delimiter != Value::Nil).then(|| delimiter.text());
    Some((attributes, delimiter, name.text()))
}

/// Reads values until the end of the line.
pub fn read_all(mut bytes: &[u8]) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        while let Some(rest) = bytes.strip_prefix(b" ") {
            bytes = rest;
        }
        if bytes.is_empty() {
            return all;
        }
        let (value, rest) = read(bytes);
        all.push(value);
        bytes = rest;
    }
}

/// Reads one value from the front.
pub fn read(bytes: &[u8]) -> (Value, &[u8]) {
    match bytes.first() {
        Some(b'(') => {
            let mut rest = &bytes[1..];
            let mut items = Vec::new();
            loop {
                // Adjacent lists need no blank between them (ENVELOPE addresses, BODYSTRUCTURE parts).
                while let Some(r) = rest.strip_prefix(b" ") {
                    rest = r;
                }
                if let Some(r) = rest.strip_prefix(b")") {
                    return (Value::List(items), r);
                }
                let (item, r) = read(rest);
                items.push(item);
                rest = r;
            }
        }
        Some(b'"') => {
            let mut text = Vec::new();
            let mut at = 1;
            loop {
                match bytes.get(at).expect("the end of a quoted string") {
                    b'"' => return (Value::Text(text), &bytes[at + 1..]),
                    b'\\' => {
                        text.push(*bytes.get(at + 1).expect("a quoted byte"));
                        at += 2;
                    }
                    b => {
                        assert!(!matches!(b, b'\r' | b'\n' | 0), "CR, LF or NUL in a quoted string");
                        text.push(*b);
                        at += 1;
                    }
                }
            }
        }
        Some(b'{') => literal(bytes),
        Some(b'~') if bytes.get(1) == Some(&b'{') => literal(&bytes[1..]),
        Some(_) => atom(bytes),
        None => panic!("the line ends where a value should be"),
    }
}

fn literal(bytes: &[u8]) -> (Value, &[u8]) {
    let close = bytes.iter().position(|b| *b == b'}').expect("the end of a literal's head");
    let size: usize = std::str::from_utf8(&bytes[1..close]).unwrap().parse().expect("a literal's size");
    assert_eq!(&bytes[close + 1..close + 3], b"\r\n", "CRLF after a literal's head");
    let body = &bytes[close + 3..];
    (Value::Text(body[..size].to_vec()), &body[size..])
}

fn atom(bytes: &[u8]) -> (Value, &[u8]) {
    let mut at = 0;
    let mut depth = 0;
    while let Some(b) = bytes.get(at) {
        match b {
            b'[' => depth += 1,
            b']' => depth -= 1,
            b' ' | b'(' | b')' if depth <= 0 => break,
            b'"' if depth <= 0 => break,
            _ => {}
        }
        at += 1;
    }
    assert!(at > 0, "an atom, not {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
    let text = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let value = if text.eq_ignore_ascii_case("NIL") { Value::Nil } else { Value::Atom(text) };
    (value, &bytes[at..])
}

#[test]
fn reads_values() {
    let table: &[(&str, &str)] = &[
        ("(UID 7 FLAGS (\\Seen $A))", "[UID, 7, FLAGS, [\\Seen, $A]]"),
        ("((\"a\" NIL \"b\" \"c\")(NIL NIL \"x\" \"y\"))", "[[\"a\", NIL, \"b\", \"c\"], [NIL, NIL, \"x\", \"y\"]]"),
        ("(BODY[HEADER.FIELDS (DATE \"X\")]<0> {3}\r\na)b)", "[BODY[HEADER.FIELDS (DATE \"X\")]<0>, \"a)b\"]"),
        ("\"a\\\"b\\\\\"", "\"a\\\"b\\\\\""),
        ("{0}\r\n", "\"\""),
    ];
    for (line, shown) in table {
        let (value, rest) = read(line.as_bytes());
        assert_eq!(format!("{value:?}"), *shown, "{line}");
        assert!(rest.is_empty());
    }
    let (seq, items) = fetched(b"* 3 FETCH (FLAGS () UID 12)").unwrap();
    assert_eq!((seq, items["UID"].number()), (3, Some(12)));
    assert!(fetched(b"* 3 EXISTS").is_none());
}
