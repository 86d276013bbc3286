//! What a sender is told of a message that could not be sent: a delivery status notification (RFC 3464 in RFC 6522's frame).
//!
//! Written by hand: its parts are protocol text and the original as it was, which builders of mail encode (RFC 2046 §5.2.1 forbids that
//! for a message). Everything from outside goes into a header field by [`plain`], which leaves no line end in it.

use std::fmt::Write as _;

use base64::Engine as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::header::{header_end, header_values, message_id};

/// Octets of a field taken over from outside: more fits on no line (RFC 5322 §2.1.1).
const LONGEST_FIELD: usize = 900;

/// A notification.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// Random: makes the Message-ID and the boundary.
    pub token: &'a str,
    /// The message's sender, a plain address.
    pub to: &'a str,
    /// `None`: it failed. Else it is still tried, until then.
    pub tried_until: Option<OffsetDateTime>,
    pub arrived: OffsetDateTime,
    pub now: OffsetDateTime,
    /// As MAIL gave it (xtext).
    pub envid: Option<&'a str>,
    /// The server that spoke.
    pub remote: &'a str,
    pub recipients: &'a [Told],
    /// The original: its header, or all of it.
    pub original: &'a [u8],
    pub whole: bool,
}

/// What is told of one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub address: String,
    /// As RCPT gave it: type and xtext.
    pub orcpt: Option<String>,
    /// `class.subject.detail`.
    pub status: String,
    /// The server's reply, where it gave one.
    pub said: Option<String>,
    /// What it means and what to do, in plain words.
    pub mend: String,
}

impl Report<'_> {
    /// The Message-ID of what [`Self::render`] gives.
    pub fn message_id(token: &str) -> String {
        format!("<{token}@mailweir.invalid>")
    }

    /// The notification as a message.
    pub fn render(&self) -> Vec<u8> {
        let boundary = format!("=_{}", self.token);
        let failed = self.tried_until.is_none();
        let subject = if failed { "Your message was not sent" } else { "Your message is waiting to be sent" };
        let header = self.original.get(..header_end(self.original)).unwrap_or_default();
        let is_8bit = !self.original.is_ascii();
        let mut out = format!(
            "From: Mail Delivery System <mailer-daemon@mailweir.invalid>\r\nTo: <{}>\r\nSubject: {subject}\r\nDate: {}\r\nMessage-ID: {}\r\n",
            plain(self.to),
            date(self.now),
            Self::message_id(self.token),
        );
        if let Some(id) = message_id(header).filter(|id| is_id(id)) {
            put(&mut out, "In-Reply-To", &id);
            put(&mut out, "References", &id);
        }
        // RFC 3834 §5: nobody is to answer it.
        put(&mut out, "Auto-Submitted", "auto-replied");
        put(&mut out, "MIME-Version", "1.0");
        let kind = format!("multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"");
        out += &format!("Content-Type: {kind}\r\n");
        if is_8bit {
            put(&mut out, "Content-Transfer-Encoding", "8bit");
        }
        out += &format!("\r\n--{boundary}\r\n");
        out += &text_part(&self.words(header));
        out += &format!("\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n");
        out += &self.status();
        let kind = if self.whole { "message/rfc822" } else { "text/rfc822-headers" };
        out += &format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n");
        if is_8bit {
            put(&mut out, "Content-Transfer-Encoding", "8bit");
        }
        out += "\r\n";
        let mut out = out.into_bytes();
        out.extend_from_slice(self.original);
        if !self.original.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        out
    }

    /// For the reader: what happened, what to do, what the provider said.
    fn words(&self, header: &[u8]) -> String {
        let subject = header_values(header, "Subject").into_iter().next().unwrap_or_default();
        let subject: String = subject.chars().filter(|c| !c.is_control()).take(200).collect();
        let what = match self.tried_until {
            None => "Your message was not sent to:".to_owned(),
            Some(until) => {
                format!("Your message could not be sent yet; it is tried until {}. It waits for:", date(until))
            }
        };
        let mut words = format!("{what}\r\n");
        for told in self.recipients {
            let address: String = told.address.chars().filter(|c| !c.is_control()).collect();
            // Writing to a string does not fail.
            let _ = write!(words, "\r\n  {address}\r\n");
            if !told.mend.is_empty() {
                let _ = write!(words, "    {}\r\n", told.mend.replace(['\r', '\n'], " "));
            }
            if let Some(said) = &told.said {
                let who = if self.remote.is_empty() { "The provider" } else { self.remote };
                let _ = write!(words, "    {} said: {}\r\n", plain(who), plain(said));
            }
        }
        let _ = write!(
            words,
            "\r\nSubject of the message: {subject}\r\nSent by your mail program: {}\r\n",
            date(self.arrived)
        );
        let below = if self.whole { "The message" } else { "Its header" };
        let _ = write!(words, "{below} is attached.\r\n");
        words
    }

    /// RFC 3464 §2: fields of the message, and of each recipient.
    fn status(&self) -> String {
        let mut out = String::new();
        if let Some(envid) = self.envid {
            put(&mut out, "Original-Envelope-Id", &plain(&xtext(envid)));
        }
        put(&mut out, "Reporting-MTA", "dns; mailweir.invalid");
        put(&mut out, "Arrival-Date", &date(self.arrived));
        for told in self.recipients {
            out += "\r\n";
            if let Some((kind, address)) = told.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';')) {
                put(&mut out, "Original-Recipient", &format!("{};{}", plain(kind), plain(&xtext(address))));
            }
            put(&mut out, "Final-Recipient", &address_field(&told.address));
            put(&mut out, "Action", if self.tried_until.is_none() { "failed" } else { "delayed" });
            put(&mut out, "Status", &told.status);
            if let Some(said) = &told.said {
                if !self.remote.is_empty() {
                    put(&mut out, "Remote-MTA", &format!("dns; {}", plain(self.remote)));
                }
                put(&mut out, "Diagnostic-Code", &format!("smtp; {}", plain(said)));
            }
            put(&mut out, "Last-Attempt-Date", &date(self.now));
            if let Some(until) = self.tried_until {
                put(&mut out, "Will-Retry-Until", &date(until));
            }
        }
        out
    }
}

fn put(out: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = write!(out, "{name}: {value}\r\n");
}

/// One line of printable ASCII.
fn plain(text: &str) -> String {
    text.chars().take(LONGEST_FIELD).map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

fn date(at: OffsetDateTime) -> String {
    at.format(&Rfc2822).unwrap_or_default()
}

/// RFC 3461 §4 back to what it stands for.
fn xtext(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|hex| *byte == b'+' && hex.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(code.unwrap_or(*byte));
        rest = behind.get(if code.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// RFC 3464 §2.3.2, and RFC 6533 §3 for letters outside ASCII.
fn address_field(address: &str) -> String {
    if address.is_ascii() {
        return format!("rfc822; {}", plain(address));
    }
    let mut out = "utf-8; ".to_owned();
    for c in address.chars().take(LONGEST_FIELD / 10) {
        if ('!'..='~').contains(&c) && !"\\+=".contains(c) {
            out.push(c);
        } else {
            let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
        }
    }
    out
}

/// One identifier, as it can stand in a field.
fn is_id(id: &str) -> bool {
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>'));
    inner.is_some_and(|id| {
        !id.is_empty() && id.len() <= 250 && id.bytes().all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>')
    })
}

fn text_part(words: &str) -> String {
    let short = words.lines().all(|line| line.len() <= 990);
    if words.is_ascii() && short {
        return format!("Content-Type: text/plain; charset=us-ascii\r\n\r\n{words}");
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(words);
    let mut out = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n".to_owned();
    for line in encoded.as_bytes().chunks(76) {
        out.push_str(std::str::from_utf8(line).unwrap_or_default());
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_795_000_000 + seconds).unwrap()
    }

    fn report<'a>(recipients: &'a [Told], original: &'a [u8]) -> Report<'a> {
        Report {
            token: "0123abcd",
            to: "ann@example.org",
            tried_until: None,
            arrived: at(0),
            now: at(60),
            envid: Some("QQ+2B314"),
            remote: "smtp.example.net",
            recipients,
            original,
            whole: false,
        }
    }

    #[test]
    fn fields_of_a_failure() {
        let bob = Told {
            address: "bob@example.net".into(),
            orcpt: Some("rfc822;bob+2Bx@example.net".into()),
            status: "5.1.1".into(),
            said: Some("550 5.1.1 no such user".into()),
            mend: "There is no such recipient: check the address.".into(),
        };
        let zoe = Told { address: "zo\u{eb}@\u{fc}.example".into(), status: "5.4.7".into(), ..Told::default() };
        let original = b"Message-ID: <1@example.org>\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\n";
        let text = String::from_utf8(report(&[bob, zoe], original).render()).unwrap();
        for want in [
            "To: <ann@example.org>\r\n",
            "In-Reply-To: <1@example.org>\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "\r\n\r\nOriginal-Envelope-Id: QQ+314\r\nReporting-MTA: dns; mailweir.invalid\r\nArrival-Date: ",
            "\r\n\r\nOriginal-Recipient: rfc822;bob+x@example.net\r\nFinal-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
            "Final-Recipient: utf-8; zo\\x{EB}@\\x{FC}.example\r\n",
            "Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <1@example.org>\r\n",
        ] {
            assert!(text.contains(want), "{want}\nnot in\n{text}");
        }
        assert!(text.ends_with("\r\n--=_0123abcd--\r\n"));
    }

    /// Whatever a server, a client or a message says: no line of the notification begins with it.
    #[test]
    fn nothing_breaks_out_of_its_field() {
        let evil = "x\r\nBcc: eve@example.org\r\n\r\n--=_0123abcd\n\rX-Evil: 1";
        let told = Told {
            address: evil.into(),
            orcpt: Some(format!("rfc822;{evil}+0D+0AX-Evil:+201")),
            status: "5.0.0".into(),
            said: Some(evil.into()),
            mend: evil.into(),
        };
        let recipients = [told];
        let original =
            b"Message-ID: <1@x>\r\n\tBcc: eve@example.org\r\nSubject: a\r\n =?utf-8?q?x=0D=0AX-Evil:_1?=\r\n\r\n";
        let report =
            Report { to: evil, envid: Some("+0D+0AX-Evil:+201"), remote: evil, ..report(&recipients, original) };
        let text = String::from_utf8(report.render()).unwrap();
        let ours = text.split("Content-Type: text/rfc822-headers").next().unwrap();
        for line in ours.split(['\r', '\n']) {
            assert!(!line.trim_start().starts_with("X-Evil") && !line.starts_with("Bcc"), "{line:?} in\n{text}");
        }
        assert_eq!(text.matches("--=_0123abcd\r\n").count(), 3, "{text}");
    }
}
