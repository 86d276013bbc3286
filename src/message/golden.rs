//! Every sample of `tests/data/mime` against what Dovecot answers about it (`regenerate.py` there asks it).
//!
//! Known from random comparison and left so: text in an unknown charset is searched all the same; an inner header that a
//! boundary cuts still gets the empty line after chosen fields; lone dots inside a name stand as in the message;
//! message/global is a plain part for both, as RFC 3501 clients know no other.
//!
//! Dovecot turns bare LF into CRLF in all it hands out, so such a message is compared as it hands it out.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::model::{InternalDate, Section, SectionText};

const EMPTY_HEADER: &str = "an inner header without octets at the end of the message is answered as anywhere else";

/// Where we answer otherwise on purpose: sample, start of the item's name, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "004",
        "FETCH BODY[HEADER.FIELDS (SUBJECT)",
        "a field cut by the end of the message gets its line end and the empty line",
    ),
    ("041", "SEARCH SENT", "17-Jul-96 is a date people can read; Dovecot takes it for none"),
    ("044", "SEARCH SENT", "a time with one digit spoils no day; Dovecot takes the whole for none"),
    ("053", "FETCH BODY[2.HEADER.FIELDS", "Dovecot reads on past the end of a header into the next part"),
    ("061", "SEARCH SUBJECT", "raw 8-bit that is no UTF-8 is read as Windows-1252; Dovecot finds nothing in it"),
    ("082", "FETCH BODY[2.HEADER.FIELDS", EMPTY_HEADER),
    ("083", "FETCH BODY[2.HEADER.FIELDS", EMPTY_HEADER),
    ("085", "FETCH BODY[1.HEADER.FIELDS", EMPTY_HEADER),
    ("086", "FETCH BODY[1.HEADER.FIELDS", EMPTY_HEADER),
];

#[test]
fn answers_are_those_of_dovecot() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mime");
    let mut samples: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    samples.retain(|path| path.extension().is_some_and(|extension| extension == "expect"));
    samples.sort();
    assert!(samples.len() >= 40, "samples are missing");
    let mut faults = Vec::new();
    let mut compared = 0;
    let mut excused: Vec<bool> = vec![false; DIFFERENCES.len()];
    for sample in &samples {
        let name = sample.file_stem().unwrap().to_str().unwrap();
        let items = read_items(&std::fs::read(sample).unwrap());
        let served = items.get("FETCH BODY[]").cloned().unwrap_or_default();
        let file = std::fs::read(sample.with_extension("eml")).unwrap();
        let raw = if file.len() == served.len() { file } else { served };
        for (item, want) in &items {
            let got = answer(&raw, item);
            compared += 1;
            if &got == want {
                continue;
            }
            let known = DIFFERENCES.iter().position(|(who, what, _)| *who == name && item.starts_with(what));
            match known {
                Some(index) => excused[index] = true,
                None => {
                    faults.push(format!("{name} {item}\n  want {}\n  got  {}", want.escape_ascii(), got.escape_ascii()))
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} of {compared} differ:\n{}", faults.len(), faults.join("\n"));
    for (index, (name, item, _)) in DIFFERENCES.iter().enumerate() {
        assert!(excused[index], "no difference any more: {name} {item}");
    }
}

fn answer(raw: &[u8], item: &str) -> Vec<u8> {
    let structure = parse(raw);
    let (kind, what) = item.split_once(' ').unwrap();
    match (kind, what) {
        ("FETCH", "ENVELOPE") => structure.envelope(raw),
        ("FETCH", "BODYSTRUCTURE") => {
            let ours = structure.body_structure(raw);
            // What we write, we can read, and BODY follows from it.
            assert_eq!(upstream_structure(&ours).expect(item).body(), structure.body(raw));
            ours
        }
        ("FETCH", "BODY") => structure.body(raw),
        ("FETCH", _) => {
            let section = section(what.strip_prefix("BODY[").unwrap().strip_suffix("]").unwrap());
            let answer = structure.section(raw, &section);
            if let Some(range) = structure.section_range(&section) {
                assert_eq!(answer.as_deref(), Some(&raw[range]), "{item}");
            }
            without_nul(answer.unwrap_or_default()).into_owned()
        }
        _ => {
            if search(raw, what) {
                b"1".to_vec()
            } else {
                Vec::new()
            }
        }
    }
}

fn section(spelled: &str) -> Section {
    let digits = spelled.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(spelled.len());
    let (path, text) = spelled.split_at(digits);
    let path = path.split('.').filter(|number| !number.is_empty()).map(|number| number.parse().unwrap()).collect();
    let names = || text[text.find('(').unwrap() + 1..text.len() - 1].split(' ').map(str::to_owned).collect();
    let text = match text.split(' ').next().unwrap() {
        "" => SectionText::Whole,
        "HEADER" => SectionText::Header,
        "TEXT" => SectionText::Text,
        "MIME" => SectionText::Mime,
        "HEADER.FIELDS" => SectionText::HeaderFields(names()),
        "HEADER.FIELDS.NOT" => SectionText::HeaderFieldsNot(names()),
        other => panic!("{other}"),
    };
    Section { path, text, spelled: spelled.to_owned() }
}

fn search(raw: &[u8], key: &str) -> bool {
    let header = &raw[parse(raw).header()];
    let (key, rest) = key.split_once(' ').unwrap();
    let text = |text: &str| fold(text.trim_matches('"'));
    let field =
        |name: &str, needle: &str| header_values(header, name).iter().any(|value| fold(value).contains(&text(needle)));
    let day = || InternalDate::parse(&format!("{rest} 00:00:00 +0000")).unwrap().local_day();
    // A message without a date counts as sent on the first day there is.
    let sent = || sent_day(header).unwrap_or(0);
    match key {
        "SUBJECT" | "FROM" | "TO" => field(key, rest),
        "HEADER" => rest.split_once(' ').map(|(name, needle)| field(name, needle)).unwrap(),
        "BODY" => text_contains(raw, &text(rest), true),
        "TEXT" => text_contains(raw, &text(rest), false),
        "SENTON" => sent() == day(),
        "SENTBEFORE" => sent() < day(),
        "SENTSINCE" => sent() >= day(),
        _ => panic!("{key}"),
    }
}

/// `ITEM name\nlength\noctets\n…`, and the names of all empty answers at the end.
fn read_items(mut rest: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut items = BTreeMap::new();
    while !rest.is_empty() {
        let name = line(&mut rest);
        let length = line(&mut rest).parse::<usize>().unwrap();
        let octets = rest[..length].to_vec();
        rest = &rest[length + 1..];
        match name.strip_prefix("ITEM ") {
            Some(name) => {
                items.insert(name.to_owned(), octets);
            }
            None => {
                let names = String::from_utf8(octets).unwrap();
                items.extend(names.lines().map(|name| (name.to_owned(), Vec::new())));
            }
        }
    }
    items
}

fn line(rest: &mut &[u8]) -> String {
    let end = memchr::memchr(b'\n', rest).unwrap();
    let text = String::from_utf8(rest[..end].to_vec()).unwrap();
    *rest = &rest[end + 1..];
    text
}
