//! Replies (RFC 5321 §4.2) with enhanced status codes (RFC 2034, 3463), written to clients and read from servers; and what a server
//! says it can in its reply to EHLO.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::BytesMut;

use crate::wire::lines::{Lines, TooLong};

/// Lines a server may take for one reply: EHLO's has some twenty.
const MOST_LINES: usize = 100;
/// Octets a line may have. RFC 5321 §4.5.3.1.5 says 512; servers with much to say take more.
const LONGEST_LINE: usize = 4096;
/// Octets of text a client is given on a line, so that the line stays below RFC 5321's 512.
const LONGEST_TEXT: usize = 480;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// `class.subject.detail`; of what a server said, only where it said one.
    pub enhanced: Option<Cow<'static, str>>,
    /// At least one, without codes.
    pub lines: Vec<String>,
}

impl Reply {
    /// Of our own. `enhanced` may be empty, where a reply has none.
    pub fn new(code: u16, enhanced: &'static str, text: impl Into<String>) -> Self {
        let enhanced = (!enhanced.is_empty()).then_some(Cow::Borrowed(enhanced));
        Self { code, enhanced, lines: vec![text.into()] }
    }

    /// 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4xx: worth another try.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// All of its text.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// Writes it for a client. Where a code of ours needs an enhanced one (RFC 2034 §4) and the server gave none, the general one stands.
    pub fn render(&self, out: &mut BytesMut) {
        let class = self.code / 100;
        let enhanced = match &self.enhanced {
            Some(code) => Some(code.clone()),
            None if matches!(class, 4 | 5) => Some(Cow::Owned(format!("{class}.0.0"))),
            None => None,
        };
        let last = self.lines.len().saturating_sub(1);
        for (number, line) in self.lines.iter().enumerate() {
            let mut text = String::with_capacity(line.len() + 16);
            let joint = if number == last { ' ' } else { '-' };
            // Writing to a string does not fail.
            let _ = write!(text, "{:03}{joint}", self.code);
            if let Some(enhanced) = &enhanced {
                let _ = write!(text, "{enhanced} ");
            }
            let safe = line.chars().take(LONGEST_TEXT).map(|c| if (' '..='~').contains(&c) { c } else { '?' });
            text.extend(safe);
            out.extend_from_slice(text.trim_end().as_bytes());
            if text.trim_end().len() == 3 {
                out.extend_from_slice(b" ");
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// What a server sends is no reply; the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server does not answer as SMTP does")]
pub struct Malformed;

impl From<TooLong> for Malformed {
    fn from(_: TooLong) -> Self {
        Self
    }
}

/// Puts replies together out of what is read.
#[derive(Debug)]
pub struct Replies {
    lines: Lines,
    sofar: Option<Reply>,
}

impl Default for Replies {
    fn default() -> Self {
        Self { lines: Lines::new(LONGEST_LINE), sofar: None }
    }
}

impl Replies {
    /// Where what was read is to be put.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.lines.buffer()
    }

    /// Nothing was read that no command asked for.
    pub fn is_empty(&self) -> bool {
        self.sofar.is_none() && !self.lines.has_buffered()
    }

    /// The next reply, `None` if it is not whole yet.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn next_reply(&mut self) -> Result<Option<Reply>, Malformed> {
        while let Some(line) = self.lines.next_line()? {
            let (code, more, text) = split(&line).ok_or(Malformed)?;
            let (enhanced, text) = enhanced(code, &text);
            let reply = self.sofar.get_or_insert_with(|| Reply { code, enhanced, lines: Vec::new() });
            if reply.code != code || reply.lines.len() >= MOST_LINES {
                return Err(Malformed);
            }
            reply.lines.push(text);
            if !more {
                return Ok(self.sofar.take());
            }
        }
        Ok(None)
    }
}

/// `250-text`, `250 text`, `250`.
fn split(line: &[u8]) -> Option<(u16, bool, String)> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !matches!(digits.first(), Some(b'2'..=b'5')) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (more, text) = match rest.split_first() {
        None => (false, &[][..]),
        Some((b' ', text)) => (false, text),
        Some((b'-', text)) => (true, text),
        Some(_) => return None,
    };
    Some((code, more, String::from_utf8_lossy(text).into_owned()))
}

/// Takes an enhanced code off the front of a text, if it is one and fits the code.
fn enhanced(code: u16, text: &str) -> (Option<Cow<'static, str>>, String) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let numbers: Vec<&str> = word.split('.').collect();
    let digits = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let fits = numbers.first().is_some_and(|class| *class == (code / 100).to_string()) && code / 100 != 3;
    if numbers.len() == 3 && fits && numbers.iter().all(digits) {
        return (Some(Cow::Owned(word.to_owned())), rest.to_owned());
    }
    (None, text.to_owned())
}

/// What a server says it can (RFC 5321 §4.1.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    pub starttls: bool,
    pub pipelining: bool,
    pub eight_bit: bool,
    pub utf8: bool,
    pub dsn: bool,
    /// Octets of the largest message, where it says so.
    pub size: Option<u64>,
    /// SIZE is there: MAIL may tell the message's.
    pub sizes: bool,
    /// Mechanisms, in capitals.
    pub auth: Vec<String>,
}

impl Extensions {
    /// Reads the reply to EHLO.
    pub fn read(reply: &Reply) -> Self {
        let mut found = Self::default();
        // The first line is the server's name.
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            match words.next() {
                Some("STARTTLS") => found.starttls = true,
                Some("PIPELINING") => found.pipelining = true,
                Some("8BITMIME") => found.eight_bit = true,
                Some("SMTPUTF8") => found.utf8 = true,
                Some("DSN") => found.dsn = true,
                Some("SIZE") => {
                    found.sizes = true;
                    // 0: no limit (RFC 1870 §4).
                    found.size = words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0);
                }
                // Also `AUTH=LOGIN`, as old servers had it.
                Some("AUTH") => found.auth.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], step: usize) -> Result<Vec<Reply>, Malformed> {
        let mut replies = Replies::default();
        let mut all = Vec::new();
        for piece in input.chunks(step) {
            replies.buffer().extend_from_slice(piece);
            while let Some(reply) = replies.next_reply()? {
                all.push(reply);
            }
        }
        Ok(all)
    }

    fn written(reply: &Reply) -> String {
        let mut out = BytesMut::new();
        reply.render(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn replies_survive_the_way_through() {
        let table = [
            ("250 2.1.0 OK\r\n", "250 2.1.0 OK\r\n"),
            ("250\r\n", "250 \r\n"),
            ("354 End data with <CR><LF>.<CR><LF>\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n"),
            (
                "550-5.7.26 This mail\r\n550 5.7.26 is not wanted\r\n",
                "550-5.7.26 This mail\r\n550 5.7.26 is not wanted\r\n",
            ),
            ("550 no\r\n", "550 5.0.0 no\r\n"),
            ("452 5.7.1 odd class\r\n", "452 4.0.0 5.7.1 odd class\r\n"),
            ("550 5.7.1\tx\u{7f}\u{e4}\n", "550 5.0.0 5.7.1?x??\r\n"),
        ];
        for (said, want) in table {
            for step in 1..=said.len() {
                let all = read(said.as_bytes(), step).unwrap();
                assert_eq!(all.iter().map(written).collect::<Vec<_>>(), [want], "{said:?}");
            }
        }
    }

    #[test]
    fn what_is_no_reply() {
        let endless = "250-x\r\n".repeat(101);
        for said in
            ["hello\r\n", "25\r\n", "250x\r\n", "999 x\r\n", "150 x\r\n", "250-a\r\n251 b\r\n", endless.as_str()]
        {
            assert_eq!(read(said.as_bytes(), 1000), Err(Malformed), "{said:?}");
        }
        assert_eq!(read(&[b'2'; 5000], 5000), Err(Malformed));
    }

    #[test]
    fn a_long_text_is_cut_and_stays_a_line() {
        let line = written(&Reply::new(550, "5.7.1", "x".repeat(2000) + "\r\n250 OK"));
        assert!(line.len() < 512 && line.matches("\r\n").count() == 1, "{line}");
    }

    #[test]
    fn what_providers_offer() {
        let said = b"250-smtp.gmail.com at your service\r\n250-SIZE 35882577\r\n250-8BITMIME\r\n250-AUTH LOGIN PLAIN XOAUTH2\r\n\
                     250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 SMTPUTF8\r\n";
        let gmail = Extensions::read(&read(said, 7).unwrap()[0]);
        let auth = ["LOGIN", "PLAIN", "XOAUTH2"].map(str::to_owned).to_vec();
        let want = Extensions {
            pipelining: true,
            eight_bit: true,
            utf8: true,
            size: Some(35_882_577),
            sizes: true,
            auth,
            ..Extensions::default()
        };
        assert_eq!(gmail, want);
        let old = Extensions::read(&read(b"250-x\r\n250-size 0\r\n250-auth=login\r\n250 STARTTLS\r\n", 7).unwrap()[0]);
        assert_eq!((old.sizes, old.size, old.auth, old.starttls), (true, None, vec!["LOGIN".to_owned()], true));
    }
}
