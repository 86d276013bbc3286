//! `BODY[section]`: the octets of a part, a header or a choice of fields (RFC 9051 §6.4.5.1).

use std::borrow::Cow;
use std::ops::Range;

use super::header::header_fields;
use super::structure::{Kind, Part, Structure};
use crate::model::{Section, SectionText};

/// Part numbers beyond this depth name nothing: parts do not nest deeper (two numbers for a message in a message).
const PATH_MAX: usize = 201;

impl Structure {
    /// The octets of `BODY[section]`. `raw` is what was parsed.
    ///
    /// Nothing where there is no such part, or the part has no such text (HEADER and TEXT are of messages only); FETCH
    /// then answers the empty string, as Dovecot does (`BODY[9] ""`), never NIL.
    pub fn section<'a>(&self, raw: &'a [u8], section: &Section) -> Option<Cow<'a, [u8]>> {
        if section.path.is_empty() {
            return match &section.text {
                SectionText::Whole => Some(Cow::Borrowed(raw)),
                // MIME needs a part number.
                SectionText::Mime => None,
                text => of_message(self.root()?, raw, text),
            };
        }
        let part = self.at_path(&section.path)?;
        match &section.text {
            SectionText::Whole => cut(raw, &part.body),
            SectionText::Mime => cut(raw, &part.header),
            text if part.kind == Kind::Message => of_message(self.part(*part.children.first()?)?, raw, text),
            _ => None,
        }
    }

    /// The range of `BODY[section]` where it is one slice of the message: nothing for chosen header fields, and where
    /// there is no such part.
    pub fn section_range(&self, section: &Section) -> Option<Range<usize>> {
        let message = match section.path.as_slice() {
            [] => self.root()?,
            path => {
                let part = self.at_path(path)?;
                match section.text {
                    SectionText::Whole => return Some(part.body.clone()),
                    SectionText::Mime => return Some(part.header.clone()),
                    _ if part.kind == Kind::Message => self.part(*part.children.first()?)?,
                    _ => return None,
                }
            }
        };
        match section.text {
            SectionText::Whole => Some(message.header.start..message.body.end),
            SectionText::Header => Some(message.header.clone()),
            SectionText::Text => Some(message.body.clone()),
            _ => None,
        }
    }

    /// Follows part numbers. In a multipart they count its parts; a message that is no multipart has itself as its
    /// only part; and any other part answers to a last `.1` as well.
    fn at_path(&self, path: &[u32]) -> Option<&Part> {
        if path.len() > PATH_MAX {
            return None;
        }
        let mut part = self.root()?;
        // The first number chooses inside the message; later ones enter a message/rfc822 first.
        let mut fresh = true;
        let mut numbers = path.iter().copied().peekable();
        while let Some(number) = numbers.next() {
            if !fresh && part.kind == Kind::Message {
                part = self.part(*part.children.first()?)?;
            }
            let index = usize::try_from(number.checked_sub(1)?).ok()?;
            if part.kind == Kind::Multipart {
                part = self.part(*part.children.get(index)?)?;
            } else if index != 0 || (part.kind == Kind::Leaf && numbers.peek().is_some()) {
                return None;
            }
            fresh = false;
        }
        Some(part)
    }
}

fn of_message<'a>(message: &Part, raw: &'a [u8], text: &SectionText) -> Option<Cow<'a, [u8]>> {
    let header = || raw.get(message.header.clone());
    match text {
        SectionText::Header => cut(raw, &message.header),
        SectionText::HeaderFields(names) => Some(Cow::Owned(header_fields(header()?, names, false))),
        SectionText::HeaderFieldsNot(names) => Some(Cow::Owned(header_fields(header()?, names, true))),
        SectionText::Text => cut(raw, &message.body),
        SectionText::Whole | SectionText::Mime => None,
    }
}

fn cut<'a>(raw: &'a [u8], range: &Range<usize>) -> Option<Cow<'a, [u8]>> {
    raw.get(range.clone()).map(Cow::Borrowed)
}

/// The octets as a literal may carry them: each NUL as 0x80, so that lengths and offsets stay (RFC 9051 §4.3.1 forbids
/// NUL; the replacement is Dovecot's).
pub fn without_nul(octets: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match memchr::memchr(0, &octets) {
        None => octets,
        Some(_) => Cow::Owned(octets.iter().map(|&b| if b == 0 { 0x80 } else { b }).collect()),
    }
}
