//! FETCH and UID FETCH: what RFC 9051 §6.4.5 and RFC 7162 have, and what Outlook and iOS write besides.

use super::{Cursor, Fault, fault, numbers};
use crate::model::{ModSeq, Section, SectionText};
use crate::wire::imap::command::{BodySection, Command, Fetch, FetchItem};

/// Most items in one FETCH: each is an answer per message.
const MAX_ITEMS: usize = 256;
/// Deepest part number, and most header names in one section; real mail has below 10 and 50.
const MAX_PATH: usize = 64;
const MAX_FIELDS: usize = 1024;

pub(super) fn fetch(at: &mut Cursor<'_>, uid: bool) -> Result<Command, Fault> {
    let numbers = numbers(at, uid)?;
    let mut fetch = Fetch { numbers, items: Vec::new(), changed_since: None, vanished: false };
    at.space()?;
    if at.peek() == Some(b'(') {
        at.list(MAX_ITEMS, |at| item(at, &mut fetch.items))?;
    } else {
        item(at, &mut fetch.items)?;
    }
    if fetch.items.is_empty() {
        return fault("nothing asked for");
    }
    at.skip_spaces();
    if at.peek() == Some(b'(') {
        at.list(MAX_ITEMS, |at| {
            match at.word()?.to_ascii_uppercase().as_str() {
                "CHANGEDSINCE" => {
                    at.space()?;
                    fetch.changed_since = Some(ModSeq(at.number64()?));
                }
                "VANISHED" => fetch.vanished = true,
                _ => return fault("unknown modifier"),
            }
            Ok(())
        })?;
    }
    if fetch.vanished && (!uid || fetch.changed_since.is_none()) {
        return fault("VANISHED needs UID FETCH with CHANGEDSINCE");
    }
    Ok(Command::Fetch(fetch))
}

/// Reads one item or macro; a repeated item is answered once.
fn item(at: &mut Cursor<'_>, items: &mut Vec<FetchItem>) -> Result<(), Fault> {
    const FAST: [FetchItem; 3] = [FetchItem::Flags, FetchItem::InternalDate, FetchItem::Rfc822Size];
    let name = at.word()?.to_ascii_uppercase();
    let (plain, more) = match name.as_str() {
        "UID" => (FetchItem::Uid, None),
        "FLAGS" => (FetchItem::Flags, None),
        "INTERNALDATE" => (FetchItem::InternalDate, None),
        "RFC822.SIZE" => (FetchItem::Rfc822Size, None),
        "MODSEQ" => (FetchItem::ModSeq, None),
        "ENVELOPE" => (FetchItem::Envelope, None),
        "BODYSTRUCTURE" => (FetchItem::BodyStructure, None),
        "RFC822" => (FetchItem::Rfc822, None),
        "RFC822.HEADER" => (FetchItem::Rfc822Header, None),
        "RFC822.TEXT" => (FetchItem::Rfc822Text, None),
        "RFC822.PEEK" => (FetchItem::Rfc822Peek, None),
        "X-GM-MSGID" => (FetchItem::GmMsgId, None),
        "X-GM-THRID" => (FetchItem::GmThrId, None),
        "X-GM-LABELS" => (FetchItem::GmLabels, None),
        "BODY" if at.peek() == Some(b'[') => (section(at, false)?, None),
        "BODY.PEEK" if at.peek() == Some(b'[') => (section(at, true)?, None),
        "BODY" => (FetchItem::Body, None),
        "FAST" => (FetchItem::Flags, Some([None, None])),
        "ALL" => (FetchItem::Flags, Some([Some(FetchItem::Envelope), None])),
        "FULL" => (FetchItem::Flags, Some([Some(FetchItem::Envelope), Some(FetchItem::Body)])),
        _ => return fault("unknown item"),
    };
    let expanded: Vec<FetchItem> = match more {
        None => vec![plain],
        Some(more) => FAST.into_iter().chain(more.into_iter().flatten()).collect(),
    };
    for item in expanded {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Ok(())
}

/// `[section]<first.count>`.
fn section(at: &mut Cursor<'_>, peek: bool) -> Result<FetchItem, Fault> {
    at.expect(b'[')?;
    at.skip_spaces();
    let mut section = Section::default();
    let mut dotted = false;
    while at.peek().is_some_and(|b| b.is_ascii_digit()) {
        let part = at.number()?;
        if part == 0 || section.path.len() == MAX_PATH {
            return fault("bad part number");
        }
        section.path.push(part);
        dotted = at.eat(b'.');
        if !dotted {
            break;
        }
    }
    // "1." is no section, and "1TEXT" neither: what follows numbers follows a dot.
    let named = !matches!(at.peek(), Some(b']' | b' '));
    if !section.path.is_empty() && dotted != named {
        return fault("unknown section");
    }
    section.spelled = section.path.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    if at.peek() != Some(b']') && at.peek() != Some(b' ') {
        let name = at.word()?.to_ascii_uppercase();
        if dotted {
            section.spelled.push('.');
        }
        section.spelled.push_str(&name);
        section.text = match name.as_str() {
            "HEADER" => SectionText::Header,
            "TEXT" => SectionText::Text,
            "MIME" if !section.path.is_empty() => SectionText::Mime,
            "HEADER.FIELDS" => SectionText::HeaderFields(fields(at, &mut section.spelled)?),
            "HEADER.FIELDS.NOT" => SectionText::HeaderFieldsNot(fields(at, &mut section.spelled)?),
            _ => return fault("unknown section"),
        };
    }
    at.skip_spaces();
    at.expect(b']')?;
    let mut partial = None;
    if at.eat(b'<') {
        // Told again in the answer, so it is not cut to fit.
        let first = at.number()?;
        at.expect(b'.')?;
        // A count of 0 is outside the grammar, and clients write it all the same: it asks for nothing.
        let count = at.number_saturating()?;
        at.expect(b'>')?;
        partial = Some((first, count));
    }
    Ok(FetchItem::Section(BodySection { section, partial, peek }))
}

/// The header names of a section, also written to `spelled` as the answer repeats them.
fn fields(at: &mut Cursor<'_>, spelled: &mut String) -> Result<Vec<String>, Fault> {
    let mut names: Vec<String> = Vec::new();
    at.skip_spaces();
    at.list(MAX_FIELDS, |at| {
        let name = at.astring()?;
        match std::str::from_utf8(&name) {
            Ok(name) if name.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) => {
                names.push(name.to_owned());
                Ok(())
            }
            _ => fault("malformed header name"),
        }
    })?;
    if names.is_empty() {
        return fault("no header names");
    }
    spelled.push_str(" (");
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            spelled.push(' ');
        }
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b)) {
            spelled.push_str(name);
        } else {
            spelled.push('"');
            spelled.push_str(&name.replace('\\', "\\\\").replace('"', "\\\""));
            spelled.push('"');
        }
    }
    spelled.push(')');
    Ok(names)
}
