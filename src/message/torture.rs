//! Hostile input: nothing panics, ranges nest, and time stays linear.

use std::fmt::Write as _;
use std::ops::Range;

use super::structure::Kind;
use super::*;
use crate::model::{Section, SectionText};

/// A small generator, so that a seed tells the whole run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

const SCRAPS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b"--a",
    b"--ab",
    b"--a--",
    b"--ab--\r\n",
    b"--\r\n",
    b"--a\r\n",
    b"--ab\n",
    b"Content-Type: multipart/mixed; boundary=a\r\n",
    b"Content-Type: multipart/digest; boundary=ab\r\n\r\n",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"content-type: text/plain; charset=\"x",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Type: multipart/x; boundary=\"\"\r\n\r\n",
    b"Subject: =?utf-8?Q?a=3D?= =?x",
    b"From: \"a\" <b@c>, (x) d:e@f;\r\n",
    b"To: <@a,@b:c@d>",
    b"\"",
    b"\\",
    b"(",
    b")",
    b"<",
    b">",
    b"@",
    b",",
    b";",
    b":",
    b"=",
    b"*0*=",
    b"name*1=x; name*0*=y",
    b"=?utf-8?B?YQ==?=",
    b"[",
    b"]",
    b"Date: 1 Jan 99999\r\n",
    b"Content-Disposition: a;b=c\r\n",
    b"Content-Language: a,b\r\n",
    b"x",
    b"MIME-Version: 1.0\r\n",
    b"=\r\n",
    b"=4",
];

#[test]
fn any_octets_are_a_message() {
    for seed in 1..=4000u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut raw = Vec::new();
        for _ in 0..dice.roll(60) {
            raw.extend_from_slice(SCRAPS[dice.roll(SCRAPS.len())]);
        }
        check(&raw, &format!("seed {seed}"));
    }
}

/// Asks everything there is to ask and holds the answers against each other.
fn check(raw: &[u8], what: &str) {
    let structure = parse(raw);
    let whole = 0..raw.len();
    for (index, part) in structure.parts.iter().enumerate() {
        assert!(inside(&part.header, &whole) && inside(&part.body, &whole), "{what}: {part:?}");
        assert!(part.header.end <= part.body.start, "{what}: {part:?}");
        let newlines = memchr::memchr_iter(b'\n', &raw[part.body.clone()]).count();
        assert_eq!(part.lines, newlines, "{what}: {part:?}");
        assert!(part.kind != Kind::Message || part.children.len() == 1, "{what}");
        assert!(part.kind != Kind::Leaf || part.children.is_empty(), "{what}");
        let mut from = part.body.start;
        for &child in &part.children {
            assert!(child > index, "{what}");
            let child = &structure.parts[child];
            assert!(from <= child.header.start && child.body.end <= part.body.end, "{what}: {part:?} {child:?}");
            from = child.body.end;
        }
    }
    for path in [&[][..], &[1], &[2], &[1, 1], &[1, 2], &[2, 1], &[1, 1, 1], &[0], &[u32::MAX], &[1; 300]] {
        for text in [
            SectionText::Whole,
            SectionText::Header,
            SectionText::Text,
            SectionText::Mime,
            SectionText::HeaderFields(vec!["from".into(), "Subject".into()]),
            SectionText::HeaderFieldsNot(vec!["from".into()]),
        ] {
            let section = Section { path: path.to_vec(), text, spelled: String::new() };
            let answer = structure.section(raw, &section);
            if let Some(range) = structure.section_range(&section) {
                assert_eq!(answer.as_deref(), Some(&raw[range]), "{what}: {section:?}");
            }
        }
    }
    let ours = structure.body_structure(raw);
    let read = upstream_structure(&ours).unwrap_or_else(|| panic!("{what}: {}", ours.escape_ascii()));
    assert_eq!(read.body(), structure.body(raw), "{what}");
    for response in [ours, structure.envelope(raw)] {
        assert!(!response.contains(&0), "{what}");
    }
    let header = &raw[..header_end(raw)];
    sent_day(header);
    message_id(header);
    header_values(header, "Subject");
    text_contains(raw, "needle", false);
    upstream_structure(raw);
}

fn inside(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.start <= inner.end && inner.end <= outer.end
}

/// Each of these takes minutes where something is quadratic, and a moment where nothing is.
#[test]
fn large_hostile_messages_finish() {
    const MANY: usize = 10_000;
    let mut nested = String::new();
    for level in 0..MANY {
        write!(nested, "Content-Type: multipart/mixed; boundary=b{level}x\r\n\r\n--b{level}x\r\n").unwrap();
    }
    let mut messages = String::new();
    for _ in 0..MANY {
        messages += "Content-Type: message/rfc822\r\n\r\n";
    }
    let flat = |count: usize| {
        format!(
            "Content-Type: multipart/digest; boundary=x\r\n\r\n{}",
            "--x\r\n\r\nSubject: y\r\n\r\nz\r\n".repeat(count)
        )
    };
    let mut wide_header = flat(2 * MANY);
    wide_header.insert_str(0, &format!("Subject: {}\r\n", "x".repeat(1 << 20)));
    // Large enough for a square to be felt, small enough for an unoptimised build.
    let much = |scrap: &str| scrap.repeat((1 << 18) / scrap.len());
    for (what, raw) in [
        ("nested boundaries", nested),
        ("nested messages", messages),
        ("many parts and a long header", wide_header),
        ("one long line", format!("Subject: {}", "x".repeat(1 << 20))),
        ("folds", format!("Subject: a\r\n{}", much(" x\r\n"))),
        ("addresses", format!("To: {}\r\n\r\n", much("a@b,"))),
        ("open comments", format!("To: {}\r\n\r\n", much("("))),
        ("comments", format!("To: {}\r\n\r\n", much("a(b)"))),
        ("open angles", format!("To: {}\r\n\r\n", much("<a,"))),
        ("domain literals", format!("To: {}\r\n\r\n", much("a@[,"))),
        ("quotes", format!("To: {}\r\n\r\n", much("\"a\" "))),
        ("routes", format!("To: <{}\r\n\r\n", much("@a,"))),
        ("parameters", format!("Content-Type: text/plain{}\r\n\r\n", much("; a*1=b"))),
        ("semicolons", format!("Content-Type: text/plain{}\r\n\r\n", much(";"))),
        ("open words", format!("Subject: {}\r\n\r\n", much("=?"))),
        ("half words", format!("Subject: {}\r\n\r\n", much("=?u?q?"))),
        ("dashes", format!("Content-Type: multipart/mixed; boundary=x\r\n\r\n{}", much("--\n"))),
        ("empty lines", much("\n")),
        ("carriage returns", much("\r")),
        (
            "soft line ends",
            format!("Content-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\n{}", much("=\n")),
        ),
    ] {
        check(raw.as_bytes(), what);
    }
}

#[test]
fn limits_hold() {
    let flat =
        format!("Content-Type: multipart/mixed; boundary=x\r\n\r\n{}--x--\r\n", "--x\r\n\r\nz\r\n".repeat(20_000));
    let structure = parse(flat.as_bytes());
    assert_eq!(structure.part_count(), 10_000);
    let mut nested = String::new();
    for level in 0..150 {
        write!(nested, "Content-Type: multipart/mixed; boundary=b{level}x\r\n\r\n--b{level}x\r\n").unwrap();
    }
    assert_eq!(parse(nested.as_bytes()).part_count(), 100);
    assert!(upstream_structure(&parse(nested.as_bytes()).body_structure(nested.as_bytes())).is_some());
}

/// A structure asked about other octets than those it was made from: wrong answers, but answers.
#[test]
fn a_shorter_message_is_no_fault() {
    let raw = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nsome text\r\n--x--\r\n";
    let structure = parse(raw);
    structure.body_structure(&raw[..20]);
    let section = Section { path: vec![1], ..Section::default() };
    assert_eq!(structure.section(&raw[..20], &section), None);
}
