//! What the upstream can do, as far as we use it.

use std::collections::BTreeSet;

/// Capabilities after login, by name in capitals, less those the provider preset says are broken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub names: BTreeSet<String>,
}

/// More names than this are not kept: the longest list known (Dovecot's) has about 50.
const MAX_NAMES: usize = 512;

impl Caps {
    /// From the words of a CAPABILITY response or code; `hidden` are names not to believe.
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>, hidden: &[String]) -> Self {
        let names = words
            .into_iter()
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_uppercase)
            .filter(|name| !hidden.iter().any(|word| word.eq_ignore_ascii_case(name)))
            .take(MAX_NAMES);
        Self { names: names.collect() }
    }

    /// Whether `name` (in capitals) is offered.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The number or word after `NAME=`, as in `APPENDLIMIT=35651584` (RFC 7889).
    pub fn value(&self, name: &str) -> Option<&str> {
        self.names.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// MODSEQ is told: CONDSTORE, or QRESYNC which includes it (RFC 7162 §3.2.3).
    pub fn condstore(&self) -> bool {
        self.has("CONDSTORE") || self.has("QRESYNC")
    }

    /// How a literal of `len` octets may be sent (RFC 7888): LITERAL- allows at most 4096 without asking.
    pub fn may_send_without_asking(&self, len: usize) -> bool {
        self.has("LITERAL+") || (len <= 4096 && (self.has("LITERAL-") || self.has("IMAP4REV2")))
    }

    /// The FETCH item that names a message of the account for good, if one is offered: Gmail's, or EMAILID (RFC 8474 §5.1).
    pub fn message_id_item(&self) -> Option<&'static str> {
        match () {
            () if self.has("X-GM-EXT-1") => Some("X-GM-MSGID"),
            () if self.has("OBJECTID") => Some("EMAILID"),
            () => None,
        }
    }

    /// `AUTH=` mechanism offered.
    pub fn auth(&self, mechanism: &str) -> bool {
        self.names.iter().any(|name| name.strip_prefix("AUTH=") == Some(mechanism))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        let caps =
            Caps::new("IMAP4rev1 auth=plain Literal- APPENDLIMIT=35651584 QRESYNC  ".split(' '), &["Qresync".into()]);
        assert!(caps.has("IMAP4REV1") && caps.auth("PLAIN") && !caps.auth("LOGIN"));
        assert!(!caps.has("QRESYNC") && !caps.condstore());
        assert_eq!(caps.value("APPENDLIMIT"), Some("35651584"));
        assert_eq!(caps.value("APPEND"), None);
        assert!(caps.may_send_without_asking(4096) && !caps.may_send_without_asking(4097));
    }

    #[test]
    fn message_ids() {
        for (words, want) in
            [("IMAP4rev1", None), ("IMAP4rev1 objectid", Some("EMAILID")), ("X-GM-EXT-1 OBJECTID", Some("X-GM-MSGID"))]
        {
            assert_eq!(Caps::new(words.split(' '), &[]).message_id_item(), want, "{words}");
        }
        assert_eq!(Caps::new(["OBJECTID"], &["ObjectId".into()]).message_id_item(), None, "a preset says it is broken");
    }

    #[test]
    fn literal_modes() {
        for (words, len, want) in
            [("", 1, false), ("LITERAL+", 1 << 20, true), ("LITERAL-", 4097, false), ("LITERAL-", 0, true)]
        {
            assert_eq!(Caps::new(words.split(' '), &[]).may_send_without_asking(len), want, "{words} {len}");
        }
    }
}
