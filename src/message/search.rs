//! SEARCH in texts: decoded headers and text parts, without regard to case (RFC 9051 §6.4.4).

use super::decode;
use super::header::{fields, one_line, unfold};
use super::params;
use super::structure::{Kind, Part, Structure, parse};

/// The folding both sides of a comparison go through: Unicode lower case.
pub fn fold(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.to_lowercase() }
}

/// Whether the needle, already folded, stands in the message: in a text part after its encodings are taken away, or,
/// unless `body_only`, in any header of the message and its parts (SEARCH BODY and TEXT).
pub fn text_contains(raw: &[u8], needle: &str, body_only: bool) -> bool {
    let structure = parse(raw);
    let mut search = Search { structure: &structure, raw, needle, body_only };
    search.any()
}

/// Whether the needle, already folded, stands in a field of the header (name, colon and decoded value) or a junk line.
pub fn header_contains(header: &[u8], needle: &str) -> bool {
    needle.is_empty()
        || fields(header).any(|field| {
            let text = decode::header_text(&one_line(if field.junk { field.lines } else { field.value }));
            let name = String::from_utf8_lossy(field.name);
            let line = if field.junk { text } else { format!("{name}: {text}") };
            fold(&line).contains(needle)
        })
}

struct Search<'a> {
    structure: &'a Structure,
    raw: &'a [u8],
    needle: &'a str,
    body_only: bool,
}

impl Search<'_> {
    fn any(&mut self) -> bool {
        self.needle.is_empty() || self.structure.parts.iter().any(|part| self.part(part))
    }

    fn part(&self, part: &Part) -> bool {
        let header = self.raw.get(part.header.clone()).unwrap_or(b"");
        (!self.body_only && header_contains(header, self.needle)) || self.body(part, header)
    }

    fn body(&self, part: &Part, header: &[u8]) -> bool {
        let content_type = part.content_type(self.raw);
        let is_text = content_type.is_main("text") || content_type.is_main("message");
        if part.kind != Kind::Leaf || !is_text {
            return false;
        }
        let encoding = fields(header).find(|field| field.is("Content-Transfer-Encoding"));
        let encoding = encoding.and_then(|field| params::encoding(&unfold(field.value)));
        let body = self.raw.get(part.body.clone()).unwrap_or(b"");
        let Some(octets) = decode::transfer(body, encoding.as_deref()) else { return false };
        let text = decode::charset(&octets, content_type.param("charset"));
        fold(&text).contains(self.needle)
    }
}
