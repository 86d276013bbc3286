//! The one place where text becomes part of a page or of an XML document.

use std::borrow::Cow;

/// Text that stays text, in XML and HTML, in a quoted attribute too. Characters XML 1.0 (§2.2) forbids in any form become U+FFFD, and so do other
/// control characters, but for tabs and line ends.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    let special =
        |c: char| "&<>\"'".contains(c) || c.is_control() && !"\t\n".contains(c) || "\u{fffe}\u{ffff}".contains(c);
    if !text.contains(special) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if special(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        assert_eq!(escape("<b a='x' c=\"&\">\r\n"), "&lt;b a=&#39;x&#39; c=&quot;&amp;&quot;&gt;\u{fffd}\n");
        assert_eq!(escape("\0\u{1b}\u{7f}\u{9b}\u{ffff}"), "\u{fffd}".repeat(5));
        let plain = "Grüße 📬\t-- ]]&gt;".replace("&gt;", "");
        assert!(matches!(escape(&plain), Cow::Borrowed(same) if same == plain));
    }
}
