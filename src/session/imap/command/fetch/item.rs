//! What FETCH answers of one message: items the mirror knows, and what is cut from the message itself.

use std::borrow::Cow;

use bytes::Bytes;

use crate::engine::Summary;
use crate::message;
use crate::model::{MessageMeta, SectionText};
use crate::session::backend::{Body, Gmail};
use crate::session::imap::io::{Io, Stop};
use crate::session::imap::render;
use crate::wire::imap::command::{BodySection, FetchItem};

/// What of a large body is handed on at once: four TLS records, as much as TLS takes in one go.
const SLICE: usize = 64 * 1024;

pub(super) fn is_gmail(item: &FetchItem) -> bool {
    matches!(item, FetchItem::GmMsgId | FetchItem::GmThrId | FetchItem::GmLabels)
}

/// X-GM-MSGID, X-GM-THRID or X-GM-LABELS.
pub(super) fn gmail_item(io: &mut Io, item: &FetchItem, meta: &MessageMeta, gmail: &Gmail) {
    let out = &mut io.out;
    match item {
        FetchItem::GmMsgId => {
            render::text(out, "X-GM-MSGID ");
            render::number(out, meta.gm_msgid);
        }
        FetchItem::GmThrId => {
            render::text(out, "X-GM-THRID ");
            render::number(out, gmail.thread);
        }
        _ => {
            render::text(out, "X-GM-LABELS (");
            for (place, label) in gmail.labels.iter().enumerate() {
                render::text(out, if place > 0 { " " } else { "" });
                render::string(out, label.as_bytes());
            }
            render::text(out, ")");
        }
    }
}

/// What the mirror itself answers.
pub(super) fn meta_item(io: &mut Io, item: &FetchItem, meta: &MessageMeta, recent: bool) {
    let out = &mut io.out;
    match item {
        FetchItem::Uid => {
            render::text(out, "UID ");
            render::number(out, meta.uid.0);
        }
        FetchItem::InternalDate => render::internal_date(out, meta),
        FetchItem::Rfc822Size => {
            render::text(out, "RFC822.SIZE ");
            render::number(out, meta.size);
        }
        FetchItem::ModSeq => render::mod_sequence(out, meta),
        // The others have been answered by the caller.
        _ => render::flags(out, &meta.flags, recent),
    }
}

/// What is cut from a message.
#[derive(Clone, Copy)]
pub(super) enum Cut<'a> {
    Whole,
    Header,
    Text,
    Section(&'a BodySection),
}

impl Cut<'_> {
    pub(super) fn is_whole(self) -> bool {
        match self {
            Self::Whole => true,
            Self::Section(section) => section.section.path.is_empty() && section.section.text == SectionText::Whole,
            Self::Header | Self::Text => false,
        }
    }

    /// The octets; nothing if the message has no such part.
    pub(super) fn bytes<'a>(
        self,
        summary: Option<&'a Summary>,
        raw: Option<(&'a [u8], Option<&'a message::Structure>)>,
    ) -> Option<Cow<'a, [u8]>> {
        // A header told once stays so: the summary is what was told, the body comes second.
        let header = match (summary, raw) {
            (Some(summary), _) if !summary.header.is_empty() => &summary.header[..],
            (_, Some((raw, _))) => raw.get(..message::header_end(raw)).unwrap_or_default(),
            (_, None) => &[],
        };
        let text = |raw: &'a [u8]| Cow::Borrowed(raw.get(message::header_end(raw)..).unwrap_or_default());
        match self {
            Self::Header => Some(Cow::Borrowed(header)),
            Self::Whole => raw.map(|(raw, _)| Cow::Borrowed(raw)),
            Self::Text => raw.map(|(raw, _)| text(raw)),
            Self::Section(BodySection { section, .. }) if section.path.is_empty() => match &section.text {
                SectionText::Header => Some(Cow::Borrowed(header)),
                SectionText::HeaderFields(names) => Some(Cow::Owned(message::header_fields(header, names, false))),
                SectionText::HeaderFieldsNot(names) => Some(Cow::Owned(message::header_fields(header, names, true))),
                SectionText::Whole => raw.map(|(raw, _)| Cow::Borrowed(raw)),
                SectionText::Text => raw.map(|(raw, _)| text(raw)),
                SectionText::Mime => None,
            },
            Self::Section(BodySection { section, .. }) => {
                let (raw, structure) = raw?;
                structure?.section(raw, section)
            }
        }
    }
}

/// `<origin.count>` of a section (RFC 3501 §6.4.5: what lies beyond the end is left out).
pub(super) fn part_of(bytes: &[u8], partial: Option<(u32, u32)>) -> &[u8] {
    let Some((origin, count)) = partial else { return bytes };
    let bytes = bytes.get(origin as usize..).unwrap_or_default();
    bytes.get(..count as usize).unwrap_or(bytes)
}

/// Writes a message, or a stretch of it, as it arrives. What lies behind the stretch is not waited for.
pub(super) async fn pass_on<B: Body>(
    io: &mut Io,
    body: &mut B,
    first: Option<Bytes>,
    partial: Option<(u32, u32)>,
) -> Result<(), Stop> {
    let len = body.len();
    let (origin, count) = partial.map_or((0, len), |(origin, count)| (u64::from(origin), u64::from(count)));
    let (mut skip, mut left) = (origin.min(len), count.min(len.saturating_sub(origin)));
    render::literal_head(&mut io.out, left);
    let mut next = first;
    while left > 0 {
        let chunk = match next.take() {
            Some(chunk) => chunk,
            None => match io.wait_in_literal(body.chunk()).await? {
                Some(Ok(chunk)) => chunk,
                // The literal was announced and cannot be completed: only the end of the connection says so.
                Some(Err(_)) | None => return Err(Stop::Close),
            },
        };
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
        skip -= skipped as u64;
        let piece = chunk.get(skipped..).unwrap_or_default();
        let piece = piece.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(piece);
        left -= piece.len() as u64;
        // In slices: the first leaves before the last has been looked at, and each is looked at and sent while it is in the
        // processor's cache.
        for slice in piece.chunks(SLICE) {
            io.body(&message::without_nul(Cow::Borrowed(slice))).await?;
        }
    }
    Ok(())
}
