//! SEARCH, ESEARCH and VANISHED.

use std::borrow::Cow;

use super::Response;
use super::scan::{Scan, nstring, number32, number64, text};
use crate::model::UidSet;

/// RFC 4731. `all` is `None` when nothing was found, or when it was not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Esearch<'a> {
    /// The tag of the SEARCH this answers.
    pub tag: Option<Cow<'a, str>>,
    pub uid: bool,
    pub min: Option<u32>,
    pub max: Option<u32>,
    pub count: Option<u32>,
    pub all: Option<UidSet>,
    pub modseq: Option<u64>,
}

/// Numbers and, in parentheses behind them, the mod-sequence. What is neither is left out.
pub(super) fn search(rest: &[u8]) -> Response<'_> {
    // Seven digits and a space is the usual width.
    let mut numbers = Vec::with_capacity(rest.len() / 8);
    let mut modseq = None;
    let (list, tail) = match rest.iter().position(|b| *b == b'(') {
        Some(at) => rest.split_at_checked(at).unwrap_or((rest, &[])),
        None => (rest, &[][..]),
    };
    numbers.extend(list.split(|b| *b == b' ').filter_map(number32).filter(|number| *number != 0));
    let mut scan = Scan::new(tail);
    scan.eat(b'(');
    if let Some((name, value)) = scan.pair()
        && name.eq_ignore_ascii_case(b"MODSEQ")
    {
        modseq = number64(value);
    }
    Response::Search { numbers, modseq }
}

pub(super) fn esearch(rest: &[u8]) -> Esearch<'_> {
    let mut esearch = Esearch::default();
    let mut scan = Scan::new(rest);
    if rest.starts_with(b"(") {
        let mut correlator = Scan::new(scan.value().unwrap_or_default());
        correlator.eat(b'(');
        if let Some((name, value)) = correlator.pair()
            && name.eq_ignore_ascii_case(b"TAG")
        {
            esearch.tag = nstring(value).map(text);
        }
    }
    while let Some(name) = scan.value() {
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        if is(b"UID") {
            esearch.uid = true;
            continue;
        }
        let value = scan.value().unwrap_or_default();
        if is(b"MIN") {
            esearch.min = number32(value);
        } else if is(b"MAX") {
            esearch.max = number32(value);
        } else if is(b"COUNT") {
            esearch.count = number32(value);
        } else if is(b"MODSEQ") {
            esearch.modseq = number64(value);
        } else if is(b"ALL") {
            esearch.all = set(value);
        }
    }
    esearch
}

pub(super) fn vanished(rest: &[u8]) -> Option<Response<'_>> {
    let mut scan = Scan::new(rest);
    let mut word = scan.word();
    let earlier = word.eq_ignore_ascii_case(b"(EARLIER)");
    if earlier {
        word = scan.word();
    }
    Some(Response::Vanished { earlier, uids: set(word)? })
}

fn set(bytes: &[u8]) -> Option<UidSet> {
    UidSet::parse(std::str::from_utf8(bytes).ok()?)
}
