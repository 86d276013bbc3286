//! Modified UTF-7, in which mailbox names are written (RFC 3501 §5.1.3).

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Without padding, and with its left-over bits required to be 0, so that one name has one spelling.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &IMAP_MUTF7,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// A name in plain text to modified UTF-7.
pub fn encode(name: &str) -> String {
    convert(name, true)
}

/// The same for a name that may be half encoded already: `&` stays as it is. For clients that send raw UTF-8 without
/// having been offered it, and `&` as RFC 3501 wants it.
pub fn encode_keeping_ampersands(name: &str) -> String {
    convert(name, false)
}

fn convert(name: &str, ampersands: bool) -> String {
    let mut out = String::with_capacity(name.len());
    let mut shifted: Vec<u8> = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut shifted, &mut out);
            out.push(c);
            if c == '&' && ampersands {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            shifted.extend(c.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    flush(&mut shifted, &mut out);
    out
}

fn flush(shifted: &mut Vec<u8>, out: &mut String) {
    if !shifted.is_empty() {
        out.push('&');
        BASE64.encode_string(&mut *shifted, out);
        out.push('-');
        shifted.clear();
    }
}

/// Modified UTF-7 to plain text; nothing where it is malformed: characters outside printable ASCII, a shift without
/// end, bad base64, half a surrogate pair, printable ASCII in base64, or two shifts side by side (RFC 3501 forbids the
/// last two, so that one name has one spelling).
pub fn decode(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    let mut after_shift = false;
    while let Some(at) = rest.find('&') {
        let (plain, tail) = rest.split_at_checked(at)?;
        let (code, tail) = tail.strip_prefix('&')?.split_once('-')?;
        push_plain(&mut out, plain)?;
        if code.is_empty() {
            out.push('&');
            after_shift = false;
        } else {
            if after_shift && plain.is_empty() {
                return None;
            }
            let bytes = BASE64.decode(code).ok()?;
            let units = bytes.chunks(2).map(|pair| pair.try_into().map(u16::from_be_bytes));
            let units: Vec<u16> = units.collect::<Result<_, _>>().ok()?;
            for c in char::decode_utf16(units) {
                let c = c.ok()?;
                if matches!(c, ' '..='~') {
                    return None;
                }
                out.push(c);
            }
            after_shift = true;
        }
        rest = tail;
    }
    push_plain(&mut out, rest)?;
    Some(out)
}

fn push_plain(out: &mut String, plain: &str) -> Option<()> {
    plain.bytes().all(|b| matches!(b, b' '..=b'~')).then(|| out.push_str(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip() {
        let table = [
            ("INBOX", "INBOX"),
            ("R&D", "R&-D"),
            ("&&", "&-&-"),
            ("", ""),
            ("Входящие", "&BBIERQQ+BDQETwRJBDgENQ-"),
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("😀", "&2D3eAA-"),
            ("a\tb", "a&AAk-b"),
        ];
        for (plain, wire) in table {
            assert_eq!(encode(plain), wire);
            assert_eq!(decode(wire).as_deref(), Some(plain), "{wire}");
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        let table = [
            "R&D",
            "&",
            "&BBI",
            "&AGE-",
            "&2D0-",
            "&3gA-",
            "&BB-",
            "&BBJ-",
            "&U,BTFw-&ZeVnLIqe-",
            "Ü",
            "a\u{7f}",
            "&A A-",
        ];
        for wire in table {
            assert_eq!(decode(wire), None, "{wire}");
        }
    }

    #[test]
    fn random_names_survive() {
        let mut seed = 11u32;
        let mut random = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for _ in 0..2000 {
            let name: String = (0..random(12))
                .filter_map(|_| char::from_u32(if random(2) == 0 { 32 + random(95) } else { random(0x11_0000) }))
                .collect();
            assert_eq!(decode(&encode(&name)).as_deref(), Some(name.as_str()), "{name:?}");
        }
    }
}
