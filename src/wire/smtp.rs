//! SMTP, both sides: a client's commands in (RFC 5321, 6409), replies in and out, message octets through. Extensions: SIZE (1870), 8BITMIME
//! (6152), SMTPUTF8 (6531), DSN (3461), CHUNKING (3030), AUTH (4954), STARTTLS (3207), ENHANCEDSTATUSCODES (2034).
//!
//! Commands are read as old programs write them: any case, blanks before a path, an address without its angle brackets. What would mean
//! something else to the next server is refused: a control character, a second address, a parameter that was not offered.

mod address;
mod edit;
mod message;
mod reply;

pub use address::{Address, same_address};
pub use edit::Edit;
pub use message::{Filter, Form};
pub use reply::{Extensions, Malformed, Replies, Reply};

use std::borrow::Cow;

use crate::secret::Secret;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Ehlo(String),
    Helo(String),
    Starttls,
    Auth {
        mechanism: String,
        initial: Option<Secret>,
    },
    Mail(Mail),
    Rcpt(Rcpt),
    Data,
    /// A piece of so many octets follows (RFC 3030 §2).
    Bdat {
        octets: u64,
        last: bool,
    },
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
}

/// `MAIL FROM`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// `None` is `<>`: a notification, which nobody is to answer.
    pub from: Option<Address>,
    /// Octets, as the client thinks.
    pub size: Option<u64>,
    pub eight_bit: bool,
    pub utf8: bool,
    /// RET and ENVID (RFC 3461 §4.3, §4.4), as they were written.
    pub ret: Option<String>,
    pub envid: Option<String>,
}

/// `RCPT TO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    pub to: Address,
    /// NOTIFY and ORCPT (RFC 3461 §4.1, §4.2), as they were written.
    pub notify: Option<String>,
    pub orcpt: Option<String>,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500.
    Unknown,
    /// 501: known, and written otherwise than here.
    Arguments(&'static str),
    /// 555: a parameter that was not offered (RFC 5321 §4.1.1.11).
    Parameter,
    /// 501: no address.
    Address,
}

impl Command {
    /// Its name, as metrics tell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ehlo(_) => "ehlo",
            Self::Helo(_) => "helo",
            Self::Starttls => "starttls",
            Self::Auth { .. } => "auth",
            Self::Mail(_) => "mail",
            Self::Rcpt(_) => "rcpt",
            Self::Data => "data",
            Self::Bdat { .. } => "bdat",
            Self::Rset => "rset",
            Self::Noop => "noop",
            Self::Vrfy => "vrfy",
            Self::Expn => "expn",
            Self::Help => "help",
            Self::Quit => "quit",
        }
    }
}

/// Reads a command line, without its line end.
///
/// # Errors
/// [`Fault`], for the answer to it.
pub fn command(line: &[u8]) -> Result<Command, Fault> {
    // Text from here on; what is not UTF-8 is in no command but a greeting, where old programs name a computer in its own code page.
    // A control character could end a line early at the next server.
    let text = String::from_utf8_lossy(line);
    let is_greeting =
        line.get(..5).is_some_and(|word| [b"EHLO ", b"HELO "].iter().any(|known| word.eq_ignore_ascii_case(*known)));
    if matches!(text, Cow::Owned(_)) && !is_greeting {
        return Err(Fault::Unknown);
    }
    let line = text.trim_end_matches([' ', '\t']);
    if line.chars().any(char::is_control) {
        return Err(Fault::Unknown);
    }
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start_matches(' ');
    let alone = |command, usage| if rest.is_empty() { Ok(command) } else { Err(Fault::Arguments(usage)) };
    match word.to_ascii_uppercase().as_str() {
        "EHLO" => greeting(rest).map(Command::Ehlo).ok_or(Fault::Arguments("EHLO name")),
        "HELO" => greeting(rest).map(Command::Helo).ok_or(Fault::Arguments("HELO name")),
        "STARTTLS" => alone(Command::Starttls, "STARTTLS"),
        "AUTH" => auth(rest),
        "MAIL" => mail(after(rest, "FROM:").ok_or(Fault::Arguments("MAIL FROM:<address>"))?),
        "RCPT" => rcpt(after(rest, "TO:").ok_or(Fault::Arguments("RCPT TO:<address>"))?),
        "DATA" => alone(Command::Data, "DATA"),
        "BDAT" => bdat(rest),
        "RSET" => alone(Command::Rset, "RSET"),
        // Whatever follows these is words for people.
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Vrfy),
        "EXPN" => Ok(Command::Expn),
        "HELP" => Ok(Command::Help),
        "QUIT" => alone(Command::Quit, "QUIT"),
        _ => Err(Fault::Unknown),
    }
}

/// A name is whatever a program thinks it is; it is shown to nobody who would believe it.
fn greeting(rest: &str) -> Option<String> {
    (!rest.is_empty() && rest.len() <= 255).then(|| rest.to_owned())
}

fn after<'a>(rest: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, tail) = rest.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| tail.trim_start_matches(' '))
}

fn auth(rest: &str) -> Result<Command, Fault> {
    // Windows Mail puts two blanks between the two.
    match rest.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().as_slice() {
        [mechanism] => Ok(Command::Auth { mechanism: (*mechanism).to_owned(), initial: None }),
        [mechanism, initial] => {
            Ok(Command::Auth { mechanism: (*mechanism).to_owned(), initial: Some(Secret::new(initial.as_bytes())) })
        }
        _ => Err(Fault::Arguments("AUTH mechanism [response]")),
    }
}

fn bdat(rest: &str) -> Result<Command, Fault> {
    let usage = Fault::Arguments("BDAT octets [LAST]");
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let octets = words.next().filter(|word| word.bytes().all(|b| b.is_ascii_digit())).ok_or(usage)?;
    // What overflows is as much as any limit refuses.
    let octets = octets.parse().unwrap_or(u64::MAX);
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(usage),
    };
    if words.next().is_some() { Err(usage) } else { Ok(Command::Bdat { octets, last }) }
}

fn mail(rest: &str) -> Result<Command, Fault> {
    let (path, parameters) = address::path(rest).ok_or(Fault::Address)?;
    let from = if path.is_empty() { None } else { Some(Address::parse(path).ok_or(Fault::Address)?) };
    let mut mail = Mail { from, ..Mail::default() };
    for (keyword, value) in words(parameters) {
        match (keyword.to_ascii_uppercase().as_str(), value) {
            ("SIZE", Some(size)) if mail.size.is_none() && size.bytes().all(|b| b.is_ascii_digit()) => {
                mail.size = Some(size.parse().unwrap_or(u64::MAX));
            }
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("7BIT") => {}
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("8BITMIME") => mail.eight_bit = true,
            ("SMTPUTF8", None) => mail.utf8 = true,
            ("RET", Some(ret)) if ["FULL", "HDRS"].iter().any(|known| ret.eq_ignore_ascii_case(known)) => {
                mail.ret = Some(ret.to_ascii_uppercase());
            }
            ("ENVID", Some(id)) if is_xtext(id) && id.len() <= 100 => mail.envid = Some(id.to_owned()),
            // Who the client says it is; only our own word counts upstream (RFC 4954 §5).
            ("AUTH", Some(_)) => {}
            _ => return Err(Fault::Parameter),
        }
    }
    Ok(Command::Mail(mail))
}

fn rcpt(rest: &str) -> Result<Command, Fault> {
    let (path, parameters) = address::path(rest).ok_or(Fault::Address)?;
    let mut rcpt = Rcpt { to: Address::parse(path).ok_or(Fault::Address)?, notify: None, orcpt: None };
    for (keyword, value) in words(parameters) {
        match (keyword.to_ascii_uppercase().as_str(), value) {
            ("NOTIFY", Some(when)) if is_notify(when) => rcpt.notify = Some(when.to_ascii_uppercase()),
            ("ORCPT", Some(original)) if original.len() <= 500 && is_original(original) => {
                rcpt.orcpt = Some(original.to_owned());
            }
            _ => return Err(Fault::Parameter),
        }
    }
    Ok(Command::Rcpt(rcpt))
}

/// `KEYWORD` and `KEYWORD=value`, blanks between.
fn words(parameters: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    parameters.split(' ').filter(|word| !word.is_empty()).map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    })
}

fn is_notify(when: &str) -> bool {
    let known = |word: &str| ["SUCCESS", "FAILURE", "DELAY"].iter().any(|known| word.eq_ignore_ascii_case(known));
    when.eq_ignore_ascii_case("NEVER") || when.split(',').all(known)
}

fn is_original(original: &str) -> bool {
    original.split_once(';').is_some_and(|(kind, address)| {
        !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && is_xtext(address)
    })
}

/// RFC 3461 §4; UTF-8 too (RFC 6533 §3).
fn is_xtext(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (0x21..=0x7e).contains(&b) || b >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        match command(line.as_bytes()) {
            Ok(Command::Mail(mail)) => {
                let from = mail.from.map_or_else(|| "<>".to_owned(), |from| from.as_str().to_owned());
                let more = [
                    mail.size.map(|size| format!(" size {size}")),
                    mail.eight_bit.then(|| " 8bit".into()),
                    mail.utf8.then(|| " utf8".into()),
                    mail.ret.map(|ret| format!(" ret {ret}")),
                    mail.envid.map(|id| format!(" envid {id}")),
                ];
                from + &more.into_iter().flatten().collect::<String>()
            }
            Ok(Command::Rcpt(rcpt)) => {
                let more = [rcpt.notify.map(|n| format!(" notify {n}")), rcpt.orcpt.map(|o| format!(" orcpt {o}"))];
                rcpt.to.as_str().to_owned() + &more.into_iter().flatten().collect::<String>()
            }
            Ok(command) => format!("{command:?}"),
            Err(fault) => format!("{fault:?}"),
        }
    }

    #[test]
    fn commands_as_programs_write_them() {
        let table = [
            ("EHLO pc.local", "Ehlo(\"pc.local\")"),
            ("ehlo [192.168.1.2]  ", "Ehlo(\"[192.168.1.2]\")"),
            ("EHLO", "Arguments(\"EHLO name\")"),
            ("HELO x y", "Helo(\"x y\")"),
            ("MAIL FROM:<ann@example.org>", "ann@example.org"),
            ("mail from: <ann@example.org> size=500 BODY=8bitmime", "ann@example.org size 500 8bit"),
            ("MAIL FROM:ann@example.org SMTPUTF8", "ann@example.org utf8"),
            ("MAIL FROM:<>", "<>"),
            ("MAIL FROM:<> AUTH=<> RET=hdrs ENVID=QQ314159", "<> ret HDRS envid QQ314159"),
            ("MAIL FROM:<@a,@b:ann@example.org>", "ann@example.org"),
            ("MAIL FROM:<\"ann smith\"@example.org>", "\"ann smith\"@example.org"),
            ("MAIL FROM:<\"a>b\"@example.org>", "\"a>b\"@example.org"),
            ("MAIL FROM:<ann@example.org> SIZE=99999999999999999999999", "ann@example.org size 18446744073709551615"),
            ("MAIL FROM:<ann@example.org> SIZE=x", "Parameter"),
            ("MAIL FROM:<ann@example.org> BODY=BINARYMIME", "Parameter"),
            ("MAIL FROM:<ann@example.org> X=1", "Parameter"),
            ("MAIL FROM:<ann@example.org", "Address"),
            ("MAIL FROM:<ann@example.org>x", "Address"),
            ("MAIL FROM:<a b@example.org>", "Address"),
            ("MAIL FROM:<ann@@example.org>", "Address"),
            ("MAIL FROM:<ann>", "Address"),
            ("MAIL FROM:", "Address"),
            ("MAIL ann@example.org", "Arguments(\"MAIL FROM:<address>\")"),
            ("RCPT TO:<bob@example.org>", "bob@example.org"),
            ("RCPT TO:<postmaster>", "postmaster"),
            ("RCPT TO: <bob@[192.0.2.1]> NOTIFY=success,delay", "bob@[192.0.2.1] notify SUCCESS,DELAY"),
            ("RCPT TO:<bob@example.org> ORCPT=rfc822;bob+40x", "bob@example.org orcpt rfc822;bob+40x"),
            ("RCPT TO:<bob@example.org> NOTIFY=NEVER,SUCCESS", "Parameter"),
            ("RCPT TO:<>", "Address"),
            ("RCPT TO:<bob@example.org><eve@example.org>", "Address"),
            ("RCPT TO:<bob@example.org>,<eve@example.org>", "Address"),
            ("DATA", "Data"),
            ("DATA now", "Arguments(\"DATA\")"),
            ("BDAT 86 last", "Bdat { octets: 86, last: true }"),
            ("BDAT 0", "Bdat { octets: 0, last: false }"),
            ("BDAT -1", "Arguments(\"BDAT octets [LAST]\")"),
            ("BDAT 1 2", "Arguments(\"BDAT octets [LAST]\")"),
            ("BDAT", "Arguments(\"BDAT octets [LAST]\")"),
            ("NOOP anything", "Noop"),
            ("QUIT", "Quit"),
            ("GET / HTTP/1.1", "Unknown"),
            ("RSET\u{0}", "Unknown"),
            ("RCPT TO:<a@b>\rRCPT TO:<c@d>", "Unknown"),
            ("", "Unknown"),
        ];
        for (line, want) in table {
            assert_eq!(told(line), want, "{line:?}");
        }
        let (named, unknown) = (Ok(Command::Ehlo("\u{fffd}\u{fffd}".into())), Err(Fault::Unknown));
        assert_eq!(command(b"EHLO \xcf\xca"), named);
        assert_eq!(command(b"EHLO \xcf\x01"), unknown);
        assert_eq!(command(b"NOOP \xff"), unknown);
        let auth = command(b"AUTH PLAIN  AGFubgBodXNo").unwrap();
        assert!(matches!(&auth, Command::Auth { mechanism, initial: Some(_) } if mechanism == "PLAIN"));
        assert!(!format!("{auth:?}").contains("AGFubgBodXNo"), "a password is not shown");
    }
}
