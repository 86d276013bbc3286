//! Composing messages: just enough of RFC 5322, 2045-2047 and 2231 for sample mail, with no input from outside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use encoding_rs::Encoding;

use crate::model::InternalDate;

/// Characters in one encoded word: in every charset used here they stay below RFC 2047's 75 octets.
const WORD_CHARS: usize = 14;
/// Octets of a base64 line (RFC 2045 §6.8 allows 76).
const BASE64_LINE: usize = 76;

/// Header lines and content of a body part.
pub(super) struct Part {
    head: String,
    body: Vec<u8>,
}

/// How a text travels.
#[derive(Clone, Copy)]
pub(super) enum Transfer {
    Plain,
    QuotedPrintable,
    Base64,
}

impl Part {
    /// `subtype` as in `plain`, or `calendar; method=REQUEST`.
    pub(super) fn text(subtype: &str, charset: &'static Encoding, transfer: Transfer, text: &str) -> Self {
        let bytes = encode(charset, &text.replace('\n', "\r\n"));
        let (name, body) = match transfer {
            Transfer::Plain if charset.name() == "ISO-2022-JP" => ("7bit", bytes),
            Transfer::Plain => ("8bit", bytes),
            Transfer::QuotedPrintable => ("quoted-printable", quoted_printable(&bytes)),
            Transfer::Base64 => ("base64", base64_lines(&bytes)),
        };
        let head = format!(
            "Content-Type: text/{subtype}; charset={}\r\nContent-Transfer-Encoding: {name}\r\n",
            charset.name()
        );
        Self { head, body }
    }

    /// A file; `filename` is complete as a parameter, like `filename="a.zip"`.
    pub(super) fn file(kind: &str, filename: &str, content: &[u8]) -> Self {
        let head = format!(
            "Content-Type: {kind}\r\nContent-Disposition: attachment;\r\n {filename}\r\nContent-Transfer-Encoding: base64\r\n"
        );
        Self { head, body: base64_lines(content) }
    }

    /// A whole message as a part.
    pub(super) fn forwarded(message: &[u8]) -> Self {
        let head =
            "Content-Type: message/rfc822\r\nContent-Disposition: attachment; filename=\"forwarded.eml\"\r\n".into();
        Self { head, body: message.to_vec() }
    }

    /// `subtype` with further parameters, if any: `mixed`, `related; type="text/html"`.
    pub(super) fn multipart(subtype: &str, parts: &[Self]) -> Self {
        // Different at every depth: the content goes into it.
        let sum = parts
            .iter()
            .flat_map(|part| &part.body)
            .fold(7u64, |sum, b| sum.wrapping_mul(31).wrapping_add((*b).into()));
        let boundary = format!("=_weir_{sum:016x}");
        let mut body = Vec::new();
        for part in parts {
            body.extend_from_slice(format!("--{boundary}\r\n{}\r\n", part.head).as_bytes());
            body.extend_from_slice(&part.body);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        Self { head: format!("Content-Type: multipart/{subtype};\r\n boundary=\"{boundary}\"\r\n"), body }
    }

    /// The message: these header lines (each complete), then the part's own.
    pub(super) fn message(self, headers: &str) -> Vec<u8> {
        let mut raw = format!("{headers}MIME-Version: 1.0\r\n{}\r\n", self.head).into_bytes();
        raw.extend_from_slice(&self.body);
        raw
    }
}

/// A `Date:` value of the instant.
pub(super) fn date(date: InternalDate) -> String {
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let day = usize::try_from(date.local_day().rem_euclid(7)).unwrap_or(0);
    let text = date.to_string();
    format!("{}, {}", weekday.get(day).unwrap_or(&"Thu"), text.trim_start().replacen('-', " ", 2))
}

/// A header text as encoded words (RFC 2047), folded between them; plain ASCII stays as it is.
pub(super) fn words(charset: &'static Encoding, text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let words = chars.chunks(WORD_CHARS).map(|chunk| {
        let piece: String = chunk.iter().collect();
        format!("=?{}?B?{}?=", charset.name(), STANDARD.encode(encode(charset, &piece)))
    });
    words.collect::<Vec<_>>().join("\r\n ")
}

/// `filename*=UTF-8''…` (RFC 2231 §4), in continuations when it is long (§3).
pub(super) fn filename(name: &str) -> String {
    let encoded: String = name
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b == b'.' || b == b'-' {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    if encoded.len() <= 60 {
        return format!("filename*=UTF-8''{encoded}");
    }
    // Cut at octets, never inside an escape.
    let mut pieces = vec![String::new()];
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let take = if rest.starts_with('%') { 3 } else { 1 };
        let (unit, after) = rest.split_at_checked(take).unwrap_or((rest, ""));
        rest = after;
        if pieces.last().is_some_and(|piece| piece.len() + unit.len() > 50) {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push_str(unit);
        }
    }
    let lines = pieces.iter().enumerate().map(|(index, piece)| match index {
        0 => format!("filename*0*=UTF-8''{piece}"),
        index => format!("filename*{index}*={piece}"),
    });
    lines.collect::<Vec<_>>().join(";\r\n ")
}

fn encode(charset: &'static Encoding, text: &str) -> Vec<u8> {
    charset.encode(text).0.into_owned()
}

fn base64_lines(content: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(content);
    let mut lines = Vec::with_capacity(text.len() + text.len() / 38 + 2);
    for (index, line) in text.as_bytes().chunks(BASE64_LINE).enumerate() {
        if index > 0 {
            lines.extend_from_slice(b"\r\n");
        }
        lines.extend_from_slice(line);
    }
    lines.extend_from_slice(b"\r\n");
    lines
}

fn quoted_printable(content: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    for line in content.split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        let mut column = 0;
        for (index, byte) in text.iter().enumerate() {
            let last = index + 1 == text.len();
            let safe = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || (*byte == b' ' && !last);
            let unit = if safe { char::from(*byte).to_string() } else { format!("={byte:02X}") };
            if column + unit.len() > 75 {
                out.push_str("=\r\n");
                column = 0;
            }
            column += unit.len();
            out.push_str(&unit);
        }
        if text.len() < line.len() {
            out.push_str("\r\n");
        }
    }
    out.into_bytes()
}

/// A PNG of one colour (RFC 2083): real, small, and without a compressor (stored deflate blocks).
pub(super) fn png(side: u8, colour: [u8; 3]) -> Vec<u8> {
    let mut pixels = Vec::new();
    for _ in 0..side {
        pixels.push(0);
        pixels.extend(std::iter::repeat_n(colour, side.into()).flatten());
    }
    let len = u16::try_from(pixels.len()).unwrap_or(u16::MAX);
    pixels.truncate(len.into());
    let mut zlib = vec![0x78, 0x01, 0x01];
    zlib.extend_from_slice(&len.to_le_bytes());
    zlib.extend_from_slice(&(!len).to_le_bytes());
    zlib.extend_from_slice(&pixels);
    zlib.extend_from_slice(&adler32(&pixels).to_be_bytes());
    let side = u32::from(side).to_be_bytes();
    let header = [&side[..], &side[..], &[8, 2, 0, 0, 0]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", &header), (b"IDAT", &zlib), (b"IEND", &Vec::new())] {
        let chunk = [&kind[..], &data[..]].concat();
        png.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
        png.extend_from_slice(&chunk);
        png.extend_from_slice(&crc32(&chunk).to_be_bytes());
    }
    png
}

/// A ZIP archive with one stored file.
pub(super) fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).unwrap_or(0).to_le_bytes();
    let name_len = u16::try_from(name.len()).unwrap_or(0).to_le_bytes();
    let crc = crc32(content).to_le_bytes();
    // Version 1.0, no flags, stored, 1 January 2024.
    let common = [&[10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x58][..], &crc, &size, &size, &name_len, &[0, 0]].concat();
    let mut zip = [&b"PK\x03\x04"[..], &common, name.as_bytes(), content].concat();
    let directory = u32::try_from(zip.len()).unwrap_or(0);
    let entry = [&b"PK\x01\x02\x0a\x00"[..], &common, &[0; 14], name.as_bytes()].concat();
    zip.extend_from_slice(&entry);
    zip.extend_from_slice(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
    zip.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(0).to_le_bytes());
    zip.extend_from_slice(&directory.to_le_bytes());
    zip.extend_from_slice(&[0, 0]);
    zip
}

/// A PDF of one page with one line.
pub(super) fn pdf(line: &str) -> Vec<u8> {
    let content = format!("BT /F1 18 Tf 72 720 Td ({line}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut pdf = String::from("%PDF-1.4\n");
    let mut table = String::from("0000000000 65535 f \n");
    for (number, object) in (1..).zip(&objects) {
        table.push_str(&format!("{:010} 00000 n \n", pdf.len()));
        pdf.push_str(&format!("{number} 0 obj\n{object}\nendobj\n"));
    }
    let start = pdf.len();
    pdf.push_str(&format!("xref\n0 6\n{table}trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"));
    pdf.into_bytes()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_known_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn dates_are_written_with_their_weekday() {
        let at = InternalDate::parse("17-Jul-1996 02:44:25 -0700").unwrap();
        assert_eq!(date(at), "Wed, 17 Jul 1996 02:44:25 -0700");
        assert_eq!(date(InternalDate { seconds: 0, zone: 0 }), "Thu, 1 Jan 1970 00:00:00 +0000");
    }

    #[test]
    fn long_names_are_continued_and_lines_stay_short() {
        let long = filename("Ежемесячный отчёт за первый квартал.pdf");
        assert!(long.starts_with("filename*0*=UTF-8''%D0%95") && long.contains(";\r\n filename*1*="), "{long}");
        assert_eq!(filename("ä b.txt"), "filename*=UTF-8''%C3%A4%20b.txt");
        let text = quoted_printable("ÄÖ = x \r\n".repeat(3).as_bytes());
        assert_eq!(String::from_utf8(text).unwrap(), "=C3=84=C3=96 =3D x=20\r\n".repeat(3));
        let wide = quoted_printable(&[b'x'; 200]);
        assert!(wide.split(|b| *b == b'\n').all(|line| line.len() <= 77));
    }
}
