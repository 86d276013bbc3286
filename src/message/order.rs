//! What SORT and THREAD look at in a header: base subject, time of sending, first mailbox of an address field, Message-IDs
//! (RFC 5256 §2).

use super::address::{self, Address};
use super::date;
use super::decode;
use super::header::{Field, fields, one_line, unfold};

/// Message-IDs read from one References field: the newest of a thread that nobody reads to its root.
const MOST_REFERENCES: usize = 1000;

/// What of a header decides a message's place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Seconds since the epoch; nothing where there is no date that can be read, and the internal date takes its place (RFC 5256 §2.2).
    pub sent: Option<i64>,
    /// Without Re:, Fwd: and the like (RFC 5256 §2.1), in capitals, for comparing.
    pub subject: String,
    /// Something was taken off the subject that says so.
    pub is_reply: bool,
    /// The mailbox (what stands before the @) of the first address, in capitals.
    pub from: String,
    pub to: String,
    pub cc: String,
    pub message_id: Option<String>,
    /// Oldest first, of References or else of In-Reply-To.
    pub references: Vec<String>,
}

/// Reads a header block.
pub fn order_of_header(header: &[u8]) -> Order {
    let last = |name: &str| -> Option<Field<'_>> { fields(header).filter(|field| field.is(name)).last() };
    let subject = last("Subject").map(|field| decode::header_text(&one_line(field.value))).unwrap_or_default();
    let (subject, is_reply) = base_subject(&subject);
    let ids = |name: &str, most: usize| -> Vec<String> {
        last(name).map(|field| message_ids(&unfold(field.value), most)).unwrap_or_default()
    };
    let mut references = ids("References", MOST_REFERENCES);
    if references.is_empty() {
        references = ids("In-Reply-To", 1);
    }
    Order {
        sent: date::sent_seconds(header),
        subject: subject.to_uppercase(),
        is_reply,
        from: first_mailbox(header, "From"),
        to: first_mailbox(header, "To"),
        cc: first_mailbox(header, "Cc"),
        message_id: ids("Message-ID", 1).pop(),
        references,
    }
}

fn first_mailbox(header: &[u8], name: &str) -> String {
    let mut list = Vec::new();
    for field in fields(header).filter(|field| field.is(name)) {
        address::parse(&unfold(field.value), &mut list);
    }
    // A group counts by its name: RFC 5256 looks at the first address of the ENVELOPE.
    let first = list.into_iter().find_map(|address| match address {
        Address::Mailbox { mailbox, .. } => Some(mailbox),
        Address::GroupStart(name) => Some(name),
        Address::GroupEnd => None,
    });
    String::from_utf8_lossy(&first.unwrap_or_default()).to_uppercase()
}

/// `<left@right>`, without blanks, in the order they stand.
fn message_ids(value: &[u8], most: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(value);
    let mut found = Vec::new();
    for piece in text.split('<').skip(1) {
        let Some((id, _)) = piece.split_once('>') else { continue };
        let id: String = id.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
        if id.split_once('@').is_some_and(|(left, right)| !left.is_empty() && !right.is_empty()) {
            found.push(id);
        }
    }
    if most == 1 {
        found.truncate(1);
    }
    // Where there are too many, the nearest relatives count.
    found.drain(..found.len().saturating_sub(most));
    found
}

/// Characters of a subject that count for its place; a header line has 998 (RFC 5322 §2.1.1).
const SUBJECT_MOST: usize = 1000;

/// RFC 5256 §2.1: what is left of a decoded subject, and whether a reply or forward was taken off.
fn base_subject(subject: &str) -> (String, bool) {
    // Step 1: white space is one space.
    let words: Vec<&str> = subject.split_ascii_whitespace().collect();
    // A subject longer than this is made to hurt: what follows looks at each `[…]` at its begin again and again.
    let joined: String = words.join(" ").chars().take(SUBJECT_MOST).collect();
    let mut text = joined.as_str();
    let mut is_reply = false;
    loop {
        // Step 2.
        loop {
            text = text.trim_end();
            match ends_with_word(text, "(fwd)") {
                Some(rest) => (text, is_reply) = (rest, true),
                None => break,
            }
        }
        // Steps 3 to 5.
        loop {
            text = text.trim_start();
            if let Some(rest) = without_leader(text) {
                (text, is_reply) = (rest, true);
            } else if let Some(rest) = without_blob(text).filter(|rest| !rest.is_empty()) {
                text = rest;
            } else {
                break;
            }
        }
        // Step 6.
        match starts_with_word(text, "[fwd:").and_then(|rest| rest.strip_suffix(']')) {
            Some(rest) => (text, is_reply) = (rest, true),
            None => return (text.to_owned(), is_reply),
        }
    }
}

fn starts_with_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then_some(rest)
}

fn ends_with_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (rest, tail) = text.split_at_checked(text.len().checked_sub(word.len())?)?;
    tail.eq_ignore_ascii_case(word).then_some(rest)
}

/// `subj-blob`: `[…]` and the blanks behind it.
fn without_blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    inner.get(end..)?.strip_prefix(']').map(str::trim_start)
}

/// `*subj-blob subj-refwd`.
fn without_leader(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(after) = without_blob(rest) {
        rest = after;
    }
    let rest = ["re", "fwd", "fw"].into_iter().find_map(|word| starts_with_word(rest, word))?.trim_start();
    let rest = without_blob(rest).unwrap_or(rest);
    rest.strip_prefix(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_subjects() {
        for (subject, base, reply) in [
            ("plain", "plain", false),
            ("Re: plain", "plain", true),
            ("re:plain", "plain", true),
            ("RE:  Fwd: \t plain (fwd) (FWD) ", "plain", true),
            ("[list] plain", "plain", false),
            ("[list] Re: [list] plain", "plain", true),
            ("Re[2]: plain", "plain", true),
            ("Re [2] : plain", "plain", true),
            ("[fwd: Re: plain]", "plain", true),
            ("[only]", "[only]", false),
            ("[a][b]", "[b]", false),
            ("Re: ", "", true),
            ("", "", false),
            ("Reply", "Reply", false),
            ("[open Re: x", "[open Re: x", false),
            ("fw: x", "x", true),
            ("a  b\tc", "a b c", false),
            ("\u{e9}\u{e9}\u{e9}\u{e9}", "\u{e9}\u{e9}\u{e9}\u{e9}", false),
        ] {
            assert_eq!(base_subject(subject), (base.to_owned(), reply), "{subject:?}");
        }
    }

    #[test]
    fn what_a_header_says() {
        let header =
            b"From: =?utf-8?Q?x?= <Ann@x.example>, b@x\r\nTo: team: a@b, c@d;\r\nSubject: Re: =?utf-8?Q?=C3=BC?=\r\n\
            Date: Tue, 4 Mar 2025 10:00:00 +0100\r\nMessage-ID: <1@x>\r\nReferences: <a@x> junk <b> <\"c\"@x>\r\n\r\n";
        let order = order_of_header(header);
        assert_eq!((order.from.as_str(), order.to.as_str(), order.cc.as_str()), ("ANN", "TEAM", ""));
        assert_eq!((order.subject.as_str(), order.is_reply), ("\u{dc}", true));
        assert_eq!(order.sent, Some(1_741_078_800));
        assert_eq!(order.message_id.as_deref(), Some("1@x"));
        assert_eq!(order.references, ["a@x", "c@x"]);
        assert_eq!(order_of_header(b"In-Reply-To: <a@x> <b@x>\r\n\r\n").references, ["a@x"]);
        assert_eq!(order_of_header(b""), Order::default());
    }
}
