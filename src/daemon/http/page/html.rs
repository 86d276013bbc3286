//! Words and numbers as HTML: everything that comes from outside passes through here or through [`escape`].

pub(super) use crate::daemon::markup::escape;
use crate::daemon::status::{duration, octets};

/// Text that stays text, with what stands between backticks as a command to type.
pub(super) fn rich(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    // A tick without its other half is a tick.
    if parts.len().is_multiple_of(2) {
        return escape(text).into_owned();
    }
    let dress = |(at, part): (usize, &&str)| match at % 2 {
        0 => escape(part).into_owned(),
        _ => format!("<code>{}</code>", escape(part)),
    };
    parts.iter().enumerate().map(dress).collect()
}

/// A number in groups of three, told apart by thin spaces that do not break.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A number for eyes and programs.
pub(super) fn number(value: u64) -> String {
    format!("<data value=\"{value}\">{}</data>", grouped(value))
}

/// The same of octets.
pub(super) fn size(value: u64) -> String {
    format!("<data value=\"{value}\">{}</data>", octets(value).replace(' ', "\u{a0}"))
}

/// A span that does not count seconds: what nobody waits for is not to twitch.
pub(super) fn rough(seconds: u64) -> String {
    if seconds < 60 { "less than a minute".into() } else { duration(seconds / 60 * 60) }
}

/// `1 message`, `2 messages`.
pub(super) fn count(value: u64, one: &str, more: &str) -> String {
    format!("{} {}", number(value), if value == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_dressed_and_text_stays_text() {
        assert_eq!(rich("Run `mailweir <x>`; then"), "Run <code>mailweir &lt;x&gt;</code>; then");
        assert_eq!(rich("a ` b"), "a ` b");
        assert_eq!(rich("`<`</code>`"), "`&lt;`&lt;/code&gt;`");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([59, 61, 3725].map(rough), ["less than a minute", "1 min", "1 h 2 min"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
    }
}
