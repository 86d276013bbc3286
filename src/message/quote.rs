//! How a text stands in a response: quoted where it can be, else a literal (RFC 9051 §4.3).

/// More characters to escape than this and a literal is shorter to read and write; Dovecot's number.
const ESCAPES_MAX: usize = 4;

/// `"text"` or `{n}\r\ntext`.
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    let escapes = text.iter().filter(|b| matches!(b, b'"' | b'\\')).count();
    if escapes > ESCAPES_MAX || text.iter().any(|b| matches!(b, 0 | b'\r' | b'\n' | 0x80..)) {
        return literal(out, text);
    }
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

pub(super) fn nstring(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// A text that people read (a subject, a name): runs of white space become one space and those at the ends go.
///
/// A quoted string only if nothing had to be done to it: this odd rule is Dovecot's, and both forms mean the same.
pub(super) fn phrase(out: &mut Vec<u8>, text: &[u8]) {
    let mut clean = Vec::with_capacity(text.len());
    let mut special = false;
    for word in text.split(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).filter(|word| !word.is_empty()) {
        if !clean.is_empty() {
            clean.push(b' ');
        }
        for &byte in word {
            match byte {
                0 => clean.extend_from_slice("\u{fffd}".as_bytes()),
                _ => clean.push(byte),
            }
            special |= matches!(byte, 0 | b'"' | b'\\' | 0x80..);
        }
    }
    if clean.is_empty() || (!special && clean == text) {
        return string(out, &clean);
    }
    literal(out, &clean);
}

/// `{n}\r\ntext`.
pub(super) fn literal(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'{');
    out.extend_from_slice(itoa::Buffer::new().format(text.len()).as_bytes());
    out.extend_from_slice(b"}\r\n");
    // No literal carries a NUL (RFC 9051 §4.3); callers have replaced it already, this is the last gate.
    out.extend(text.iter().map(|&b| if b == 0 { 0x80 } else { b }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: fn(&mut Vec<u8>, &[u8]), text: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, text.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings() {
        for (text, want) in [
            ("", "\"\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("\"\"\"\"\"", "{5}\r\n\"\"\"\"\""),
            ("\u{e9}", "{2}\r\n\u{e9}"),
            ("a\rb", "{3}\r\na\rb"),
            ("a\tb", "\"a\tb\""),
        ] {
            assert_eq!(shown(string, text), want);
        }
    }

    #[test]
    fn phrases() {
        for (text, want) in [
            ("", "\"\""),
            ("  ", "\"\""),
            ("a b", "\"a b\""),
            ("a  b", "{3}\r\na b"),
            ("x ", "{1}\r\nx"),
            ("x\r\n y", "{3}\r\nx y"),
            ("\"", "{1}\r\n\""),
        ] {
            assert_eq!(shown(phrase, text), want, "{text:?}");
        }
    }
}
