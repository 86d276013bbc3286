//! POP3, the server's side: commands in, status lines and messages out. RFC 1939, 2449 (CAPA, response codes), 2595 (STLS),
//! 5034 (AUTH), 6856 (UTF8, LANG).
//!
//! Commands are read as people and old programs write them: any case, spaces at the end. What is a password is a [`Secret`]
//! from here on (Law 12). Status lines are made safe in one place: whatever words come from elsewhere, a line stays a line.

mod body;

use std::fmt;

use bytes::{Bytes, BytesMut};

pub use body::{BodyWriter, octets};

use crate::secret::Secret;

/// Longest text of a status line (RFC 2449 §4: 512 octets with everything), so that a provider's URL stays out of the way.
const MAX_TEXT: usize = 400;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Capa,
    Stls,
    User(Vec<u8>),
    Pass(Secret),
    /// Not served: it needs the password in the clear on our side.
    Apop,
    /// Without a mechanism: which are there (an old habit of Outlook's).
    Auth {
        mechanism: Option<String>,
        initial: Option<Secret>,
    },
    Utf8,
    /// Without a tag: which are there.
    Lang(Option<String>),
    Stat,
    List(Option<u32>),
    Uidl(Option<u32>),
    Retr(u32),
    Top {
        number: u32,
        lines: u32,
    },
    Dele(u32),
    Noop,
    Rset,
    Quit,
}

impl Command {
    /// Its name, as metrics tell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Capa => "capa",
            Self::Stls => "stls",
            Self::User(_) => "user",
            Self::Pass(_) => "pass",
            Self::Apop => "apop",
            Self::Auth { .. } => "auth",
            Self::Utf8 => "utf8",
            Self::Lang(_) => "lang",
            Self::Stat => "stat",
            Self::List(_) => "list",
            Self::Uidl(_) => "uidl",
            Self::Retr(_) => "retr",
            Self::Top { .. } => "top",
            Self::Dele(_) => "dele",
            Self::Noop => "noop",
            Self::Rset => "rset",
            Self::Quit => "quit",
        }
    }
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Unknown,
    /// Known, and written otherwise than here.
    Arguments(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("Unknown command"),
            Self::Arguments(usage) => write!(f, "Write {usage}"),
        }
    }
}

/// Reads a command line, without its line end.
pub fn command(line: &[u8]) -> Result<Command, Fault> {
    let end = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    let word = word.to_ascii_uppercase();
    // A password may begin and end with blanks; whatever else follows a command may not.
    let raw = rest.strip_prefix(b" ").unwrap_or(rest);
    let words: Vec<&[u8]> = rest.split(|b| *b == b' ').filter(|word| !word.is_empty()).collect();
    let alone = |command, usage| if words.is_empty() { Ok(command) } else { Err(Fault::Arguments(usage)) };
    match word.as_slice() {
        b"CAPA" => alone(Command::Capa, "CAPA"),
        b"STLS" => alone(Command::Stls, "STLS"),
        b"UTF8" => alone(Command::Utf8, "UTF8"),
        b"STAT" => alone(Command::Stat, "STAT"),
        b"NOOP" => alone(Command::Noop, "NOOP"),
        b"RSET" => alone(Command::Rset, "RSET"),
        b"QUIT" => alone(Command::Quit, "QUIT"),
        b"APOP" => Ok(Command::Apop),
        b"USER" => match raw.trim_ascii() {
            b"" => Err(Fault::Arguments("USER name")),
            name => Ok(Command::User(name.to_vec())),
        },
        b"PASS" if rest.is_empty() => Err(Fault::Arguments("PASS password")),
        b"PASS" => Ok(Command::Pass(Secret::new(raw))),
        b"AUTH" => match words.as_slice() {
            [] => Ok(Command::Auth { mechanism: None, initial: None }),
            [mechanism] => Ok(Command::Auth { mechanism: Some(text(mechanism)), initial: None }),
            [mechanism, initial] => {
                Ok(Command::Auth { mechanism: Some(text(mechanism)), initial: Some(Secret::new(*initial)) })
            }
            _ => Err(Fault::Arguments("AUTH mechanism [response]")),
        },
        b"LANG" => match words.as_slice() {
            [] => Ok(Command::Lang(None)),
            [tag] => Ok(Command::Lang(Some(text(tag)))),
            _ => Err(Fault::Arguments("LANG [language]")),
        },
        b"LIST" => one_or_all(&words).map(Command::List).ok_or(Fault::Arguments("LIST [message]")),
        b"UIDL" => one_or_all(&words).map(Command::Uidl).ok_or(Fault::Arguments("UIDL [message]")),
        b"RETR" => one(&words).map(Command::Retr).ok_or(Fault::Arguments("RETR message")),
        b"DELE" => one(&words).map(Command::Dele).ok_or(Fault::Arguments("DELE message")),
        b"TOP" => match words.as_slice() {
            [message, lines] => match (number(message), number(lines)) {
                (Some(number), Some(lines)) => Ok(Command::Top { number, lines }),
                _ => Err(Fault::Arguments("TOP message lines")),
            },
            _ => Err(Fault::Arguments("TOP message lines")),
        },
        _ => Err(Fault::Unknown),
    }
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

fn one(words: &[&[u8]]) -> Option<u32> {
    match words {
        [word] => number(word),
        _ => None,
    }
}

fn one_or_all(words: &[&[u8]]) -> Option<Option<u32>> {
    if words.is_empty() { Some(None) } else { one(words).map(Some) }
}

/// Digits only. A number too large to be one is the largest: no message has it.
fn number(word: &[u8]) -> Option<u32> {
    if !word.iter().all(u8::is_ascii_digit) || word.is_empty() {
        return None;
    }
    let sum = word.iter().fold(0u32, |sum, digit| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
    Some(sum)
}

/// `+OK text`.
pub fn ok(out: &mut BytesMut, text: &str) {
    status(out, b"+OK", None, text);
}

/// `-ERR [code] text`.
pub fn err(out: &mut BytesMut, code: Option<&str>, text: &str) {
    status(out, b"-ERR", code, text);
}

fn status(out: &mut BytesMut, word: &[u8], code: Option<&str>, text: &str) {
    out.extend_from_slice(word);
    if let Some(code) = code {
        out.extend_from_slice(b" [");
        out.extend_from_slice(code.as_bytes());
        out.extend_from_slice(b"]");
    }
    if !text.is_empty() {
        out.extend_from_slice(b" ");
        let safe = text.bytes().take(MAX_TEXT).map(|byte| if (0x20..0x7f).contains(&byte) { byte } else { b'?' });
        out.extend(safe);
    }
    out.extend_from_slice(b"\r\n");
}

/// One line of a list. The caller's own words: nothing in them begins with a dot.
pub fn line(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `number rest`, a line of LIST or UIDL.
pub fn numbered(out: &mut BytesMut, number: u32, rest: &str) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b" ");
    line(out, rest);
}

/// The end of a list.
pub fn end(out: &mut BytesMut) {
    out.extend_from_slice(b".\r\n");
}

/// A server's challenge (RFC 5034), base64 already.
pub fn challenge(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(b"+ ");
    line(out, text);
}

/// A whole message as RETR sends it, for those who have it at once: text, end and all; its octets as LIST counts them.
pub fn message(out: &mut BytesMut, raw: &Bytes) -> u64 {
    let mut writer = BodyWriter::whole();
    writer.push(raw, out);
    writer.finish(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_as_programs_write_them() {
        let table: [(&[u8], Result<Command, Fault>); 29] = [
            (b"STAT", Ok(Command::Stat)),
            (b"stat  ", Ok(Command::Stat)),
            (b"STAT 1", Err(Fault::Arguments("STAT"))),
            (b"LIST", Ok(Command::List(None))),
            (b"List 12 ", Ok(Command::List(Some(12)))),
            (b"LIST 1 2", Err(Fault::Arguments("LIST [message]"))),
            (b"LIST x", Err(Fault::Arguments("LIST [message]"))),
            (b"RETR", Err(Fault::Arguments("RETR message"))),
            (b"RETR -1", Err(Fault::Arguments("RETR message"))),
            (b"RETR 007", Ok(Command::Retr(7))),
            (b"RETR 99999999999999999999", Ok(Command::Retr(u32::MAX))),
            (b"TOP 1 0", Ok(Command::Top { number: 1, lines: 0 })),
            (b"TOP 1", Err(Fault::Arguments("TOP message lines"))),
            (b"TOP 1 -1", Err(Fault::Arguments("TOP message lines"))),
            (b"USER ann@example.org+laptop", Ok(Command::User(b"ann@example.org+laptop".to_vec()))),
            (b"USER ", Err(Fault::Arguments("USER name"))),
            (b"USER", Err(Fault::Arguments("USER name"))),
            (b"PASS", Err(Fault::Arguments("PASS password"))),
            (b"PASS ", Ok(Command::Pass(Secret::new("")))),
            (b"PASS  a b ", Ok(Command::Pass(Secret::new(" a b ")))),
            (b"AUTH", Ok(Command::Auth { mechanism: None, initial: None })),
            (b"AUTH plain", Ok(Command::Auth { mechanism: Some("plain".into()), initial: None })),
            (b"AUTH PLAIN =", Ok(Command::Auth { mechanism: Some("PLAIN".into()), initial: Some(Secret::new("=")) })),
            (b"LANG", Ok(Command::Lang(None))),
            (b"LANG *", Ok(Command::Lang(Some("*".into())))),
            (b"APOP ann c4c9334bac560ecc979e58001b3e22fb", Ok(Command::Apop)),
            (b"", Err(Fault::Unknown)),
            (b"\xff\x00", Err(Fault::Unknown)),
            (b"XTND XMIT", Err(Fault::Unknown)),
        ];
        for (line, want) in table {
            assert_eq!(command(line), want, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_status_line_stays_a_line() {
        let mut out = BytesMut::new();
        ok(&mut out, "");
        err(&mut out, Some("SYS/TEMP"), "a\r\nb\u{e4}");
        ok(&mut out, &"x".repeat(1000));
        let text = String::from_utf8(out.to_vec()).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(&lines[..2], ["+OK", "-ERR [SYS/TEMP] a??b??"]);
        assert!(lines[2].len() < 510 && lines.len() == 4);
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", command(b"PASS hush")).contains("hush"));
        assert!(!format!("{:?}", command(b"AUTH PLAIN aHVzaA==")).contains("aHVzaA"));
    }
}
