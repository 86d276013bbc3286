//! FETCH: the items as they came, and those the mirror keeps, read.

use std::borrow::Cow;

use super::scan::{self, Scan, list_words, number32, number64};
use super::{Response, response};
use crate::model::{Flags, InternalDate};

/// The items of a FETCH as raw names and values. Names are in the server's case; brackets belong to the name
/// (`BODY[HEADER.FIELDS (FROM)]<0>`). An item without shape ends the list ([`FetchItems::rest`] tells).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchItems<'a> {
    scan: Scan<'a>,
}

impl<'a> FetchItems<'a> {
    pub(super) fn new(list: &'a [u8]) -> Self {
        let mut scan = Scan::new(list);
        scan.skip_spaces();
        scan.eat(b'(');
        Self { scan }
    }

    /// What has not been read yet: `)` after the last item.
    pub fn rest(&self) -> &'a [u8] {
        self.scan.rest()
    }

    /// Reads what the mirror keeps, in one pass.
    pub fn data(self) -> FetchData<'a> {
        let mut data = FetchData::default();
        for (name, value) in self {
            data.take(name, value);
        }
        data
    }
}

impl<'a> Iterator for FetchItems<'a> {
    /// Name and raw value.
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.scan.pair()
    }
}

/// What a FETCH said of a message. Missing and malformed are both `None`: an odd value never loses the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchData<'a> {
    pub uid: Option<u32>,
    pub flags: Option<Flags>,
    /// RFC 7162; 0 is told by some for messages without one.
    pub modseq: Option<u64>,
    pub internal_date: Option<InternalDate>,
    /// RFC822.SIZE; what is beyond 32 bits is told as the largest.
    pub size: Option<u32>,
    /// X-GM-MSGID and X-GM-THRID.
    pub gm_msgid: Option<u64>,
    pub gm_thrid: Option<u64>,
    /// X-GM-LABELS, raw.
    pub gm_labels: Option<&'a [u8]>,
    /// RFC 8474, without the parentheses.
    pub email_id: Option<&'a [u8]>,
    /// Raw, `(…)`.
    pub envelope: Option<&'a [u8]>,
    pub body_structure: Option<&'a [u8]>,
    /// BODY without a section.
    pub body: Option<&'a [u8]>,
    /// Everything else, raw: `BODY[…]`, `BINARY[…]`, `RFC822`, `RFC822.HEADER`, what we do not know.
    pub others: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> FetchData<'a> {
    fn take(&mut self, name: &'a [u8], value: &'a [u8]) {
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        // By length first: this runs for every item of every message.
        match name.len() {
            3 if is(b"UID") => self.uid = number32(value).filter(|uid| *uid != 0),
            4 if is(b"BODY") => self.body = Some(value),
            // Flags without parentheses are no flags; better none told than all removed.
            5 if is(b"FLAGS") => self.flags = value.starts_with(b"(").then(|| Flags::parse(list_words(value))),
            6 if is(b"MODSEQ") => self.modseq = inner(value).and_then(number64),
            // NIL is no id that all these messages share.
            7 if is(b"EMAILID") => self.email_id = inner(value).filter(|id| !id.eq_ignore_ascii_case(b"NIL")),
            8 if is(b"ENVELOPE") => self.envelope = Some(value),
            10 if is(b"X-GM-MSGID") => self.gm_msgid = number64(value),
            10 if is(b"X-GM-THRID") => self.gm_thrid = number64(value),
            11 if is(b"RFC822.SIZE") => {
                self.size = number64(value).map(|size| u32::try_from(size).unwrap_or(u32::MAX));
            }
            11 if is(b"X-GM-LABELS") => self.gm_labels = Some(value),
            12 if is(b"INTERNALDATE") => {
                let text = scan::nstring(value);
                self.internal_date = text.and_then(|text| InternalDate::parse(std::str::from_utf8(&text).ok()?));
            }
            13 if is(b"BODYSTRUCTURE") => self.body_structure = Some(value),
            _ => self.others.push((name, value)),
        }
    }

    /// The content of another item by its name, `BODY[]`; nothing for `NIL` or where it was not told.
    pub fn other(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let (_, value) = self.others.iter().find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))?;
        scan::nstring(value)
    }
}

/// What stands in parentheses, or without them, trimmed.
fn inner(value: &[u8]) -> Option<&[u8]> {
    let value = value.strip_prefix(b"(").unwrap_or(value);
    let value = value.strip_suffix(b")").unwrap_or(value).trim_ascii();
    (!value.is_empty()).then_some(value)
}

/// What is known where a streamed literal begins in a FETCH.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchHead<'a> {
    pub seq: u32,
    /// What stood before the item.
    pub data: FetchData<'a>,
    /// The item whose value the literal is.
    pub item: &'a [u8],
}

/// Reads the `head` of a streamed literal; nothing if it is not directly the value of a FETCH item (but, say, a string
/// within an ENVELOPE).
pub fn fetch_head(head: &[u8]) -> Option<FetchHead<'_>> {
    let Response::Fetch { seq, items } = response(head) else { return None };
    let mut data = FetchData::default();
    let mut items = items;
    let mut last = None;
    for (name, value) in items.by_ref() {
        if let Some((name, value)) = last.replace((name, value)) {
            data.take(name, value);
        }
    }
    let (item, value) = last?;
    (value.is_empty() && items.rest().is_empty()).then_some(FetchHead { seq, data, item })
}
