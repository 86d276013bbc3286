//! What a server says in a form that two servers can agree on.
//!
//! Left out: words for people, RECENT lines (told with each EXISTS here, when it changes there), `\Marked`, capability lists, the order of untagged responses and of flags. Made equal: UIDVALIDITY,
//! mod-sequences and dates of now. Everything else must be the same.

use std::collections::BTreeMap;

use crate::harness::answer::{self, Value};

/// Reads the lines of one server.
#[derive(Default)]
pub struct Reading {
    validities: BTreeMap<String, usize>,
    fetched: BTreeMap<u32, BTreeMap<String, Value>>,
}

/// Texts longer than this are told by their length and ends.
const SHOWN: usize = 160;

impl Reading {
    /// One response line; nothing if it does not count.
    pub fn line(&mut self, line: &[u8], tag: &str) -> Option<String> {
        if let Some((number, mut items)) = answer::fetched(line) {
            for (name, value) in &mut items {
                *value = normal(name, value.clone());
            }
            self.fetched.entry(number).or_default().extend(items);
            return None;
        }
        for word in ["LIST", "LSUB"] {
            if line.starts_with(format!("* {word} ").as_bytes()) {
                return Some(listed(line, word));
            }
        }
        if let Some(rest) = line.strip_prefix(b"* STATUS ") {
            return Some(self.status_items(rest));
        }
        if let Some((number, name)) = answer::numbered(line) {
            return (name != "RECENT").then(|| format!("* {number} {name}"));
        }
        let text = String::from_utf8_lossy(line).into_owned();
        if let Some(rest) = text.strip_prefix("* FLAGS ") {
            return Some(format!("* FLAGS {}", flags(rest)));
        }
        for skipped in ["* CAPABILITY", "* ID"] {
            if text.starts_with(skipped) {
                return Some(skipped.to_owned());
            }
        }
        if let Some(rest) = text.strip_prefix("* ESEARCH ") {
            let rest = rest.replacen(&format!("\"{tag}\""), "TAG", 1);
            return Some(format!("* ESEARCH {}", mod_sequence(&rest)));
        }
        if text.starts_with("* SEARCH") {
            return Some(mod_sequence(text.trim_end()));
        }
        let (who, rest) = text.split_once(' ')?;
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "OK" | "NO" | "BAD" | "BYE" | "PREAUTH" => {
                let who = if who == tag { "tag" } else { who };
                let code = rest.strip_prefix('[').and_then(|r| r.split_once("] ")).map(|(code, _)| code);
                match code {
                    // Words alone count only at the end of a command.
                    None if who == "*" && word == "OK" => None,
                    None => Some(format!("{who} {word}")),
                    // Dovecot tells it only who has asked for it; RFC 7162 §3.1.2.1 has it told to all.
                    Some(code) if who == "*" && code.starts_with("HIGHESTMODSEQ") => None,
                    Some(code) => Some(format!("{who} {word} [{}]", self.code(code))),
                }
            }
            _ => Some(text.trim_end().to_owned()),
        }
    }

    /// The end of an answer: its lines in an order of their own, the last one last. What several FETCH responses told of a message is one
    /// line, and the last word counts: whether flags come with a body or after it is a server's own affair.
    pub fn end(&mut self, mut said: Vec<String>) -> Vec<String> {
        let last = said.pop();
        for (number, items) in std::mem::take(&mut self.fetched) {
            let items: Vec<_> = items.iter().map(|(name, value)| format!("{name} {}", show(value))).collect();
            said.push(format!("* {number} FETCH {}", items.join(" ")));
        }
        said.sort();
        said.extend(last);
        said
    }

    fn code(&mut self, code: &str) -> String {
        let (name, value) = code.split_once(' ').unwrap_or((code, ""));
        match name {
            "CAPABILITY" | "UIDVALIDITY" | "HIGHESTMODSEQ" => name.to_owned(),
            "PERMANENTFLAGS" => format!("{name} {}", flags(value)),
            "COPYUID" | "APPENDUID" => {
                let (validity, rest) = value.split_once(' ').unwrap_or((value, ""));
                format!("{name} {} {rest}", self.validity(validity))
            }
            _ => code.to_owned(),
        }
    }

    /// The same name for the same value on this server, in the order of their coming.
    fn validity(&mut self, value: &str) -> String {
        let next = self.validities.len();
        let number = *self.validities.entry(value.to_owned()).or_insert(next);
        format!("V{number}")
    }

    fn status_items(&mut self, rest: &[u8]) -> String {
        let values = answer::read_all(rest);
        let [name, Value::List(items)] = &values[..] else { return format!("* STATUS {values:?}") };
        let mut told: Vec<_> = items
            .chunks(2)
            .map(|pair| match pair {
                [name, value] => match name.text().as_str() {
                    name @ ("HIGHESTMODSEQ" | "UIDVALIDITY") => name.to_owned(),
                    name => format!("{name} {}", show(value)),
                },
                _ => "half a pair".to_owned(),
            })
            .collect();
        told.sort();
        format!("* STATUS {:?} {}", name.text(), told.join(" "))
    }
}

fn listed(line: &[u8], word: &str) -> String {
    let rest = line.strip_prefix(format!("* {word} ").as_bytes()).unwrap_or_default();
    let values = answer::read_all(rest);
    let [Value::List(attributes), delimiter, name, more @ ..] = &values[..] else {
        return format!("* {word} {values:?}");
    };
    let mut attributes: Vec<_> = attributes.iter().map(Value::text).collect();
    attributes.retain(|a| !a.eq_ignore_ascii_case("\\Marked") && !a.eq_ignore_ascii_case("\\UnMarked"));
    attributes.sort();
    // CHILDINFO and its like are strings of any form.
    let more: Vec<_> = more.iter().map(|item| show(item).replace('"', "")).collect();
    format!("* {word} ({}) {} {:?} {}", attributes.join(" "), show(delimiter), name.text(), more.join(" "))
        .trim_end()
        .to_owned()
}

fn flags(list: &str) -> String {
    let inner = list.trim().trim_start_matches('(').trim_end_matches(')');
    let mut flags: Vec<_> = inner.split_whitespace().filter(|flag| *flag != "\\Recent").collect();
    flags.sort_unstable();
    format!("({})", flags.join(" "))
}

fn mod_sequence(text: &str) -> String {
    match text.split_once("MODSEQ ") {
        Some((before, after)) => {
            format!("{before}MODSEQ M{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => text.to_owned(),
    }
}

fn normal(item: &str, value: Value) -> Value {
    match (item, value) {
        ("FLAGS", Value::List(flags)) => {
            let mut flags = flags;
            flags.sort();
            Value::List(flags)
        }
        ("MODSEQ", Value::List(_)) => Value::Atom("M".to_owned()),
        ("INTERNALDATE", Value::Text(date)) if is_this_year(&date) => Value::Atom("now".to_owned()),
        // The grammar has a blank before a day of one digit (RFC 3501, date-day-fixed); Dovecot writes a nought.
        ("INTERNALDATE", Value::Text(date)) if date.first() == Some(&b' ') => {
            Value::Text([b"0", date.get(1..).unwrap_or_default()].concat())
        }
        ("BODYSTRUCTURE" | "BODY", value) => lower(value),
        (_, value) => value,
    }
}

/// The transcripts give no date of these days: it is the moment of an APPEND without one, and two servers are a second apart.
fn is_this_year(date: &[u8]) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let year = (1970 + now / 31_556_952).to_string();
    date.windows(4).any(|digits| digits == year.as_bytes())
}

/// MIME's words are the same in any case.
fn lower(value: Value) -> Value {
    match value {
        Value::List(items) => Value::List(items.into_iter().map(lower).collect()),
        Value::Text(text) => Value::Text(text.to_ascii_lowercase()),
        other => other,
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Nil => "NIL".to_owned(),
        Value::Atom(atom) => atom.clone(),
        Value::Text(text) => {
            let whole = text.escape_ascii().to_string();
            if text.len() <= SHOWN {
                format!("\"{whole}\"")
            } else {
                let sum = text.iter().fold(0u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(*b)));
                format!("\"{}…\"({} octets, {sum:08x})", text[..40].escape_ascii(), text.len())
            }
        }
        Value::List(items) => format!("({})", items.iter().map(show).collect::<Vec<_>>().join(" ")),
    }
}
