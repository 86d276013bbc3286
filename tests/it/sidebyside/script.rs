//! Transcripts: reading them, playing them, and what differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::time::Duration;

use super::plain::Reading;
use crate::harness::client::Client;

/// A server that says nothing for so long waits for more.
const SILENCE: Duration = Duration::from_secs(5);

/// One step of a transcript.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it stands, from 1.
    pub line: usize,
    connection: usize,
    action: Action,
    /// Differences that are meant.
    expected: Difference,
    reason: Option<String>,
    /// The last line that belongs to it.
    last: usize,
}

#[derive(Debug, Clone)]
enum Action {
    /// New connections for all.
    Section,
    Connect,
    Login,
    /// Without a tag; literals follow one by one.
    Command(String, Vec<Vec<u8>>),
    Raw(Vec<u8>),
}

/// What only one of both said, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    pub ours: Vec<String>,
    pub theirs: Vec<String>,
}

impl Difference {
    /// Nothing if both said the same.
    pub fn between(ours: &[String], theirs: &[String]) -> Option<Self> {
        let mut left: Vec<&String> = theirs.iter().collect();
        let mut only = Vec::new();
        for line in ours {
            match left.iter().position(|other| *other == line) {
                Some(at) => {
                    left.remove(at);
                }
                None => only.push(line.clone()),
            }
        }
        (!only.is_empty() || !left.is_empty()).then(|| Self { ours: only, theirs: left.into_iter().cloned().collect() })
    }

    fn show(&self) -> String {
        let mut text = String::new();
        for line in &self.ours {
            let _ = writeln!(text, "> {line}");
        }
        for line in &self.theirs {
            let _ = writeln!(text, "< {line}");
        }
        text
    }
}

/// A transcript.
pub struct Script {
    text: String,
    steps: Vec<Step>,
}

impl Script {
    pub fn parse(text: &str) -> Self {
        let mut steps: Vec<Step> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(rest) =
                line.strip_prefix("~ ").or_else(|| line.strip_prefix("> ")).or_else(|| line.strip_prefix("< "))
            {
                let step = steps.last_mut().unwrap_or_else(|| panic!("line {number} belongs to no command"));
                match line.as_bytes()[0] {
                    b'~' => step.reason = Some(rest.to_owned()),
                    b'>' => step.expected.ours.push(rest.to_owned()),
                    _ => step.expected.theirs.push(rest.to_owned()),
                }
                step.last = number;
                continue;
            }
            if let Some(literal) = line.strip_prefix("+ ") {
                let step = steps.last_mut().unwrap_or_else(|| panic!("line {number} belongs to no command"));
                let Action::Command(_, literals) = &mut step.action else { panic!("line {number}: no command above") };
                literals.push(bytes(literal));
                step.last = number;
                continue;
            }
            let (connection, action) = if line.starts_with("== ") {
                (0, Action::Section)
            } else {
                let (connection, raw, rest) = match line.as_bytes() {
                    [n @ b'1'..=b'9', b':', b' ', ..] => (usize::from(n - b'0'), false, &line[3..]),
                    [n @ b'1'..=b'9', b'!', b' ', ..] => (usize::from(n - b'0'), true, &line[3..]),
                    _ => (1, false, line),
                };
                let action = match rest {
                    "@connect" => Action::Connect,
                    "@login" => Action::Login,
                    rest if raw => Action::Raw(bytes(rest)),
                    rest => Action::Command(rest.to_owned(), Vec::new()),
                };
                (connection, action)
            };
            steps.push(Step {
                line: number,
                connection,
                action,
                expected: Difference::default(),
                reason: None,
                last: number,
            });
        }
        Self { text: text.to_owned(), steps }
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What is not as the transcript says.
    pub fn faults(&self, found: &BTreeMap<usize, Difference>) -> Vec<String> {
        let mut faults = Vec::new();
        for step in &self.steps {
            let nothing = Difference::default();
            let found = found.get(&step.line).unwrap_or(&nothing);
            let text = self.text.lines().nth(step.line - 1).unwrap_or_default();
            if *found != step.expected {
                let expected = step.expected.show();
                let also =
                    if expected.is_empty() { String::new() } else { format!("  the transcript expects\n{expected}") };
                faults.push(format!("{}: {text}\n{}{also}", step.line, found.show()));
            } else if *found != nothing && step.reason.as_deref().is_none_or(|r| r.starts_with("???")) {
                faults.push(format!("{}: {text}\n{}  without a reason", step.line, found.show()));
            }
        }
        faults
    }

    /// The transcript with these differences in it.
    pub fn with(&self, found: &BTreeMap<usize, Difference>) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut out = String::new();
        let mut at = 0;
        for step in &self.steps {
            while at < step.last {
                let line = lines[at];
                if !line.starts_with("> ") && !line.starts_with("< ") && !line.starts_with("~ ") {
                    let _ = writeln!(out, "{line}");
                }
                at += 1;
            }
            if let Some(difference) = found.get(&step.line) {
                let _ = writeln!(out, "~ {}", step.reason.as_deref().unwrap_or("???"));
                out.push_str(&difference.show());
            }
        }
        for line in lines.get(at..).unwrap_or_default() {
            let _ = writeln!(out, "{line}");
        }
        out
    }
}

/// One server's side of a transcript.
pub struct Player<'a> {
    connect: Box<dyn Fn(bool) -> Client + 'a>,
    connections: BTreeMap<usize, Client>,
    next_tag: u32,
    reading: Reading,
}

impl<'a> Player<'a> {
    pub fn new(connect: Box<dyn Fn(bool) -> Client + 'a>) -> Self {
        Self { connect, connections: BTreeMap::new(), next_tag: 0, reading: Reading::default() }
    }

    /// What the server said, in plain form.
    pub fn play(&mut self, step: &Step) -> Vec<String> {
        match &step.action {
            Action::Section => {
                self.connections.clear();
                Vec::new()
            }
            Action::Connect => {
                self.connections.insert(step.connection, (self.connect)(false));
                Vec::new()
            }
            Action::Login => {
                self.connections.insert(step.connection, (self.connect)(true));
                Vec::new()
            }
            Action::Command(text, literals) => {
                self.next_tag += 1;
                let tag = format!("s{}", self.next_tag);
                let mut pieces = vec![[tag.as_bytes(), b" ", &bytes(text)[..], b"\r\n"].concat()];
                let count = literals.len();
                for (n, literal) in literals.iter().enumerate() {
                    let mut piece = literal.clone();
                    // The last piece ends the command, and so does each that announces another literal.
                    if n + 1 == count || piece.ends_with(b"}") {
                        piece.extend_from_slice(b"\r\n");
                    }
                    pieces.push(piece);
                }
                self.say(step.connection, &tag, pieces)
            }
            Action::Raw(raw) => {
                let tag = raw.split(|b| b" \r".contains(b)).next().unwrap_or_default();
                let tag = String::from_utf8_lossy(tag).into_owned();
                self.say(step.connection, &tag, vec![raw.clone()])
            }
        }
    }

    fn say(&mut self, connection: usize, tag: &str, pieces: Vec<Vec<u8>>) -> Vec<String> {
        let mut said = Vec::new();
        if let Err(end) = self.exchange(connection, tag, pieces, &mut said) {
            // What comes later would be taken for the next answer.
            self.connections.remove(&connection);
            said.push(end);
        }
        self.reading.end(said)
    }

    fn exchange(
        &mut self,
        connection: usize,
        tag: &str,
        pieces: Vec<Vec<u8>>,
        said: &mut Vec<String>,
    ) -> Result<(), String> {
        let connect = &self.connect;
        let client = self.connections.entry(connection).or_insert_with(|| connect(true));
        client.set_timeout(SILENCE);
        let mut pieces = pieces.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            client.try_send(&piece).map_err(|_| "gone".to_owned())?;
            if piece.ends_with(b"+}\r\n") && pieces.peek().is_some() {
                continue;
            }
            loop {
                let line = client.try_line().map_err(|error| match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => "silent".to_owned(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => "closed".to_owned(),
                    _ => error.to_string(),
                })?;
                if line.starts_with(b"+") {
                    if pieces.peek().is_some() {
                        break;
                    }
                    said.push("+".to_owned());
                    return Ok(());
                }
                said.extend(self.reading.line(&line, tag));
                // The command before it ends where it is gone on with: DONE, a response to AUTHENTICATE.
                let before = format!("s{}", self.next_tag);
                let ends = |tag: &str| line.starts_with(format!("{tag} ").as_bytes());
                if tag != "*" && ends(tag) || ends(&before) || line.starts_with(b"* BAD") {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Text with escapes as bytes.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let (byte, tail) = match (first, tail) {
            (b'\\', [b'r', tail @ ..]) => (b'\r', tail),
            (b'\\', [b'n', tail @ ..]) => (b'\n', tail),
            (b'\\', [b't', tail @ ..]) => (b'\t', tail),
            (b'\\', [b'0', tail @ ..]) => (0, tail),
            (b'\\', [b'x', high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let hex = [*high, *low];
                (u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap(), tail)
            }
            _ => (*first, tail),
        };
        out.push(byte);
        rest = tail;
    }
    out
}
