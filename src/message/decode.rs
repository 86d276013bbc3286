//! From wire octets to text: transfer encodings, charsets, encoded words (RFC 2045 §6, RFC 2047).
//!
//! For searching only, so every fault is read through: what cannot be decoded stays as it is.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use encoding_rs::{Encoding, WINDOWS_1252};
use memchr::memchr;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The octets of a body after its Content-Transfer-Encoding; nothing for an encoding nobody knows.
pub(super) fn transfer<'a>(body: &'a [u8], encoding: Option<&[u8]>) -> Option<Cow<'a, [u8]>> {
    let Some(encoding) = encoding else { return Some(Cow::Borrowed(body)) };
    match encoding.to_ascii_lowercase().as_slice() {
        b"7bit" | b"8bit" | b"binary" => Some(Cow::Borrowed(body)),
        b"base64" => Some(Cow::Owned(base64(body))),
        b"quoted-printable" => Some(Cow::Owned(quoted_printable(body))),
        _ => None,
    }
}

/// Text of a stated charset as UTF-8. An unknown charset is read as UTF-8 where that is valid, else as Windows-1252.
pub(super) fn charset<'a>(octets: &'a [u8], label: Option<&[u8]>) -> Cow<'a, str> {
    let encoding = label.and_then(Encoding::for_label);
    match (std::str::from_utf8(octets), encoding.unwrap_or(WINDOWS_1252)) {
        // The label us-ascii stands for Windows-1252 in the web's table; undeclared UTF-8 is the likelier truth.
        (Ok(text), encoding) if encoding == WINDOWS_1252 => Cow::Borrowed(text),
        (_, encoding) => encoding.decode_without_bom_handling(octets).0,
    }
}

/// An unfolded header value with its encoded words decoded.
pub(super) fn header_text(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    // Blanks between two encoded words do not count (RFC 2047 §6.2).
    let mut after_word = false;
    while let Some(start) = memchr::memmem::find(rest, b"=?") {
        let (before, from) = rest.split_at_checked(start).unwrap_or((rest, b""));
        match encoded_word(from) {
            Some((text, after)) => {
                if !(after_word && before.iter().all(u8::is_ascii_whitespace)) {
                    out += &charset(before, None);
                }
                out += &text;
                rest = after;
                after_word = true;
            }
            None => {
                let (plain, after) = rest.split_at_checked(start + 2).unwrap_or((rest, b""));
                out += &charset(plain, None);
                rest = after;
                after_word = false;
            }
        }
    }
    out += &charset(rest, None);
    out
}

/// `=?charset*lang?Q|B?text?=` at the front, decoded, and what follows it.
fn encoded_word(from: &[u8]) -> Option<(String, &[u8])> {
    let from = from.strip_prefix(b"=?")?;
    // A charset name or a text is never long; without a limit a row of `=?` would cost a square of its length.
    const WORD_MAX: usize = 4096;
    let near = from.get(..WORD_MAX).unwrap_or(from);
    let label_end = memchr(b'?', near)?;
    let label = near.get(..label_end)?;
    let [kind, b'?', text @ ..] = near.get(label_end + 1..)? else { return None };
    let text_end = memchr::memmem::find(text, b"?=")?;
    let octets = match kind {
        b'q' | b'Q' => encoded_q(text.get(..text_end)?),
        b'b' | b'B' => base64(text.get(..text_end)?),
        _ => return None,
    };
    let label = label.split(|&b| b == b'*').next()?;
    let after = from.get(label_end + 3 + text_end + 2..)?;
    Some((charset(&octets, Some(label)).into_owned(), after))
}

fn encoded_q(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'_', _) => out.push(b' '),
            (b'=', [high, low, after @ ..]) => match hex(*high, *low) {
                Some(octet) => {
                    out.push(octet);
                    rest = after;
                }
                None => out.push(b'='),
            },
            (byte, _) => out.push(*byte),
        }
    }
    out
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|&b| b == b'\n') {
        let (text, line_end) = match line {
            [text @ .., b'\r', b'\n'] => (text, &b"\r\n"[..]),
            [text @ .., b'\n'] => (text, &b"\n"[..]),
            text => (text, &b""[..]),
        };
        // Blanks at the end were added on the way (RFC 2045 §6.7 rule 3).
        let mut rest = text.trim_ascii_end();
        let soft = rest.strip_suffix(b"=");
        rest = soft.unwrap_or(rest);
        while let [byte, after @ ..] = rest {
            rest = after;
            match (byte, after) {
                (b'=', [high, low, after @ ..]) if hex(*high, *low).is_some() => {
                    out.extend(hex(*high, *low));
                    rest = after;
                }
                (byte, _) => out.push(*byte),
            }
        }
        if soft.is_none() {
            out.extend_from_slice(line_end);
        }
    }
    out
}

/// The data up to the first padding or fault; characters outside the alphabet are passed over.
fn base64(text: &[u8]) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::with_capacity(text.len());
    data.extend(text.iter().copied().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')));
    let end = memchr(b'=', &data).unwrap_or(data.len());
    // One character alone carries no octet.
    let end = if end % 4 == 1 { end - 1 } else { end };
    LENIENT.decode(data.get(..end).unwrap_or(b"")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_texts() {
        for (value, want) in [
            ("=?utf-8?Q?n=C3=A9_x?=", "n\u{e9} x"),
            ("a =?utf-8?q?b?=  =?iso-8859-1?B?6Q==?= c", "a b\u{e9} c"),
            ("=?utf-8*en?q?b?= x =?utf-8?q?c?=", "b x c"),
            ("=?utf-8?Q?open", "=?utf-8?Q?open"),
            ("=?x?X?a?= =?", "=?x?X?a?= =?"),
            ("=?utf-8?Q?=zz=4?=", "=zz=4"),
            ("caf\u{e9}", "caf\u{e9}"),
        ] {
            assert_eq!(header_text(value.as_bytes()), want);
        }
        assert_eq!(header_text(b"caf\xe9"), "caf\u{e9}");
    }

    #[test]
    fn transfer_encodings() {
        for (body, encoding, want) in [
            ("a=3D=\r\nb  \r\nc=\n=4", "Quoted-Printable", "a=b\r\nc=4"),
            ("YW\r\nJj", "BASE64", "abc"),
            ("YWI=YWI=", "base64", "ab"),
            ("YWJjZ", "base64", "abc"),
            ("x", "8bit", "x"),
        ] {
            assert_eq!(transfer(body.as_bytes(), Some(encoding.as_bytes())).unwrap(), want.as_bytes(), "{body}");
        }
        assert_eq!(transfer(b"x", Some(b"rot13")), None);
    }
}
