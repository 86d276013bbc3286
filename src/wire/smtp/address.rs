//! Addresses of the envelope (RFC 5321 §4.1.2, RFC 6531 §3.3).

use std::fmt;

/// RFC 5321 §4.5.3.1 says 256 octets of a path with its brackets.
const LONGEST: usize = 254;

/// A mailbox, checked: it means the same to whoever reads it next, on one line. `postmaster` may stand without a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Reads a mailbox without angle brackets; a source route before it is left out (RFC 5321 §4.1.1.3).
    pub fn parse(text: &str) -> Option<Self> {
        let text = match text.strip_prefix('@') {
            Some(_) => text.split_once(':')?.1,
            None => text,
        };
        if text.len() > LONGEST || text.chars().any(char::is_control) {
            return None;
        }
        if text.eq_ignore_ascii_case("postmaster") {
            return Some(Self(text.to_owned()));
        }
        let (local, domain) = text.rsplit_once('@')?;
        (is_local(local) && is_domain(domain)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it needs SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether two addresses are one, letters outside ASCII as they are written: the domain without regard to case (RFC 5321 §2.4), and the local part too, as every provider has it. A
/// quoted local part is another one than the same without quotes: nobody who owns an address writes it so.
pub fn same_address(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// What stands between `<` and `>`, and what follows; or a bare word without blanks and brackets.
pub(super) fn path(text: &str) -> Option<(&str, &str)> {
    let Some(inner) = text.strip_prefix('<') else {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        return (!word.is_empty() && !word.contains(['<', '>'])).then_some((word, rest));
    };
    let end = closing(inner)?;
    let (path, rest) = (inner.get(..end)?, inner.get(end + 1..)?);
    (rest.is_empty() || rest.starts_with(' ')).then_some((path, rest))
}

/// The `>` outside quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn is_local(local: &str) -> bool {
    let Some(quoted) = local.strip_prefix('"') else {
        // Dot-string, more dots forgiven: some providers gave such addresses away.
        let atom = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
        return !local.is_empty() && local.chars().all(atom);
    };
    let Some(quoted) = quoted.strip_suffix('"') else { return false };
    let mut escaped = false;
    for c in quoted.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return false,
            _ => {}
        }
    }
    !escaped
}

fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[') {
        return literal.strip_suffix(']').is_some_and(|inner| {
            !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-".contains(&b))
        });
    }
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    domain.strip_suffix('.').unwrap_or(domain).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_address() {
        let fine = [
            "ann@example.org",
            "a.b+c@d-e.f",
            "Ann@EXAMPLE.org",
            "a..b.@docomo.example",
            "\u{e4}nn@\u{fc}ber.example",
            "postmaster",
            "\"a b\"@example.org",
            "\"a\\\"b\"@example.org",
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "user%other@example.org",
        ];
        for text in fine {
            assert_eq!(Address::parse(text).map(|address| address.to_string()).as_deref(), Some(text));
        }
        let long = format!("{}@example.org", "a".repeat(250));
        let none = [
            "",
            "@",
            "ann",
            "ann@",
            "@example.org",
            "ann@example..org",
            "ann@exa mple.org",
            "a b@example.org",
            "ann@example.org>",
            "\"ann@example.org",
            "\"a\"b\"@example.org",
            "\"a\\\"@example.org",
            "ann@[",
            "ann@[]",
            "a\r\n@example.org",
            "a\u{0}@b",
            "eve@evil.example@example.org",
            "\"ann@example.org\"eve@evil.example",
            long.as_str(),
        ];
        for text in none {
            assert_eq!(Address::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn whose_an_address_is() {
        assert!(same_address("Ann@Example.ORG", "ann@example.org"));
        // The Kelvin sign is no K.
        assert!(!same_address("\u{212a}ay@example.org", "kay@example.org"));
        for other in
            ["ann@example.org.", "\"ann\"@example.org", "ann%example.org@x", "ann@example.or", "ann+x@example.org"]
        {
            assert!(!same_address(other, "ann@example.org"), "{other}");
        }
    }
}
