//! BODYSTRUCTURE and BODY (RFC 9051 §7.5.2), written from the tree and the headers of its parts.
//!
//! MIME fields count only in a message that says it is MIME, by Mime-Version or Content-Type, and in the parts of a
//! multipart.

use super::envelope::envelope_of_header;
use super::header::{Field, fields, unfold};
use super::params::{self, ContentType, Params};
use super::quote;
use super::structure::{Kind, Part, Structure};

/// What an empty multipart is said to hold: the grammar wants at least one part.
const EMPTY_TEXT: &[u8] = b"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Basic,
    Extended,
}

/// What a part stands in; the outermost is a message by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Message,
    Multipart,
}

impl Structure {
    /// ENVELOPE, with its parentheses. `raw` is what was parsed.
    pub fn envelope(&self, raw: &[u8]) -> Vec<u8> {
        envelope_of_header(raw.get(self.header()).unwrap_or(b""))
    }

    /// BODYSTRUCTURE, with extension data. `raw` is what was parsed.
    pub fn body_structure(&self, raw: &[u8]) -> Vec<u8> {
        self.rendered(raw, Form::Extended)
    }

    /// BODY without a section: the structure without extension data. `raw` is what was parsed.
    pub fn body(&self, raw: &[u8]) -> Vec<u8> {
        self.rendered(raw, Form::Basic)
    }

    fn rendered(&self, raw: &[u8], form: Form) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 * self.parts.len());
        self.render_part(&mut out, raw, (0, Inside::Message), form);
        out
    }

    // Recursive: no deeper than DEPTH_MAX of the parser.
    fn render_part(&self, out: &mut Vec<u8>, raw: &[u8], at: (usize, Inside), form: Form) {
        let Some(part) = self.part(at.0) else { return };
        let about = About::read(part, raw, at.1);
        out.push(b'(');
        match part.kind {
            Kind::Multipart => {
                for &child in &part.children {
                    self.render_part(out, raw, (child, Inside::Multipart), form);
                }
                if part.children.is_empty() {
                    out.extend_from_slice(EMPTY_TEXT);
                    out.extend_from_slice(if form == Form::Extended { b" NIL NIL NIL NIL)" } else { b")" });
                }
                out.push(b' ');
                quote::string(out, &about.content_type.sub);
                if form == Form::Extended {
                    out.push(b' ');
                    render_params(out, &about.content_type.params);
                }
            }
            Kind::Message => {
                about.fields(out, "message", "rfc822", part);
                out.push(b' ');
                let child = part.children.first().copied();
                let header = child.and_then(|child| self.part(child)).and_then(|child| raw.get(child.header.clone()));
                out.extend_from_slice(&envelope_of_header(header.unwrap_or(b"")));
                out.push(b' ');
                if let Some(child) = child {
                    self.render_part(out, raw, (child, Inside::Message), form);
                }
                out.push(b' ');
                number(out, part.lines);
            }
            Kind::Leaf => about.leaf(out, part),
        }
        if form == Form::Extended {
            about.extension(out, part.kind);
        }
        out.push(b')');
    }
}

/// What a part's header says about it.
struct About<'a> {
    content_type: ContentType,
    encoding: Option<Vec<u8>>,
    id: Option<&'a [u8]>,
    description: Option<&'a [u8]>,
    md5: Option<&'a [u8]>,
    disposition: Option<&'a [u8]>,
    language: Option<&'a [u8]>,
    location: Option<&'a [u8]>,
}

impl<'a> About<'a> {
    fn read(part: &Part, raw: &'a [u8], inside: Inside) -> Self {
        let header = raw.get(part.header.clone()).unwrap_or(b"");
        let content_type = part.content_type(raw);
        let mut about = Self {
            content_type,
            encoding: None,
            id: None,
            description: None,
            md5: None,
            disposition: None,
            language: None,
            location: None,
        };
        let mut is_mime = inside == Inside::Multipart;
        let mut encoding = None;
        for field in fields(header) {
            is_mime |= field.is("Mime-Version") || field.is("Content-Type");
            // Of a field that stands twice the first counts.
            for (name, slot) in [
                ("Content-Transfer-Encoding", &mut encoding),
                ("Content-ID", &mut about.id),
                ("Content-Description", &mut about.description),
                ("Content-MD5", &mut about.md5),
                ("Content-Disposition", &mut about.disposition),
                ("Content-Language", &mut about.language),
                ("Content-Location", &mut about.location),
            ] {
                take_first(&field, name, slot);
            }
        }
        if !is_mime {
            let content_type = about.content_type;
            return Self {
                content_type,
                encoding: None,
                id: None,
                description: None,
                md5: None,
                disposition: None,
                language: None,
                location: None,
            };
        }
        about.encoding = encoding.and_then(|value| params::encoding(&unfold(value)));
        about
    }

    fn leaf(&self, out: &mut Vec<u8>, part: &Part) {
        let kind = &self.content_type;
        // A part that the parser's limits left closed is not what it says.
        if kind.is_main("multipart") || kind.is("message", "rfc822") {
            self.fields(out, "application", "octet-stream", part);
        } else if kind.is_main("text") {
            self.fields(out, kind.main.clone(), kind.sub.clone(), part);
            out.push(b' ');
            number(out, part.lines);
        } else {
            self.fields(out, kind.main.clone(), kind.sub.clone(), part);
        }
    }

    /// `body-fields` with the type before them.
    fn fields(&self, out: &mut Vec<u8>, main: impl AsRef<[u8]>, sub: impl AsRef<[u8]>, part: &Part) {
        quote::string(out, main.as_ref());
        out.push(b' ');
        quote::string(out, sub.as_ref());
        out.push(b' ');
        // RFC 2045 §5.2: text without a charset is US-ASCII, and clients expect to be told.
        if main.as_ref().eq_ignore_ascii_case(b"text") && self.content_type.param("charset").is_none() {
            let mut params = self.content_type.params.clone();
            params.push((b"charset".to_vec(), b"us-ascii".to_vec()));
            render_params(out, &params);
        } else {
            render_params(out, &self.content_type.params);
        }
        for value in [self.id, self.description] {
            out.push(b' ');
            quote::nstring(out, value.map(unfold).as_deref());
        }
        out.push(b' ');
        quote::string(out, self.encoding.as_deref().unwrap_or(b"7bit"));
        out.push(b' ');
        number(out, part.body.len());
    }

    fn extension(&self, out: &mut Vec<u8>, kind: Kind) {
        if kind != Kind::Multipart {
            out.push(b' ');
            quote::nstring(out, self.md5.map(unfold).as_deref());
        }
        out.push(b' ');
        match self.disposition {
            Some(value) => {
                let (kind, params) = params::disposition(&unfold(value));
                out.push(b'(');
                quote::string(out, &kind);
                out.push(b' ');
                render_params(out, &params);
                out.push(b')');
            }
            None => out.extend_from_slice(b"NIL"),
        }
        out.push(b' ');
        let languages = self.language.map(|value| params::languages(&unfold(value))).unwrap_or_default();
        render_list(out, languages.iter().map(Vec::as_slice));
        out.push(b' ');
        quote::nstring(out, self.location.map(unfold).as_deref());
    }
}

fn take_first<'a>(field: &Field<'a>, name: &str, slot: &mut Option<&'a [u8]>) {
    if slot.is_none() && field.is(name) {
        *slot = Some(field.value);
    }
}

fn render_params(out: &mut Vec<u8>, params: &Params) {
    render_list(out, params.iter().flat_map(|(name, value)| [name.as_slice(), value.as_slice()]));
}

fn render_list<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a [u8]>) {
    let start = out.len();
    for text in texts {
        out.push(if out.len() == start { b'(' } else { b' ' });
        quote::string(out, text);
    }
    out.extend_from_slice(if out.len() == start { b"NIL" } else { b")" });
}

fn number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
