//! Mail to test with, made from a seed and a number: the same on every machine, none of it anybody's.
//!
//! Sizes follow what a mailbox looks like (most messages a few KiB, a tail of big ones); there are attachments,
//! non-Latin text in three encodings, HTML alternatives, forwarded messages and threads.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::client::{Client, quoted};

/// A message to put into a mailbox.
pub struct Sample {
    pub flags: &'static str,
    pub date: String,
    pub bytes: Vec<u8>,
}

const WORDS: &[&str] = &[
    "river", "weir", "gate", "invoice", "meeting", "harbour", "letter", "engine", "garden", "window", "report",
    "winter", "market", "signal", "bridge", "copper", "paper", "station", "evening", "ladder",
];
const NAMES: &[(&str, &str)] = &[
    ("Ann Miller", "ann@example.org"),
    ("Bob Stone", "bob@example.net"),
    ("=?utf-8?B?0JjRgNC40L3QsA==?=", "irina@example.ru"),
    ("=?utf-8?Q?J=C3=BCrgen_Gro=C3=9F?=", "juergen@example.de"),
    ("=?iso-2022-jp?B?GyRCOzNFRBsoQg==?=", "yamada@example.jp"),
    ("\"Doe, Jane\"", "jane.doe@example.com"),
];
const FLAGS: &[&str] = &["", "\\Seen", "\\Seen", "\\Seen \\Answered", "\\Flagged", "\\Seen $Forwarded", "\\Deleted"];
const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// How big messages get.
#[derive(Clone, Copy, Debug)]
pub enum Sizes {
    /// About 1 KiB each, for boxes of a hundred thousand.
    Small,
    /// A mailbox as it is: median of some KiB, attachments up to some 200 KiB.
    Usual,
}

/// Message number `n` of the mailbox made from `seed`.
pub fn message(seed: u64, n: u64, sizes: Sizes) -> Sample {
    let mut rng = StdRng::seed_from_u64(seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (day, month, year) = (rng.random_range(1..=28), rng.random_range(0..12), rng.random_range(2015..2026));
    let time = format!("{:02}:{:02}:{:02}", rng.random_range(0..24), rng.random_range(0..60), rng.random_range(0..60));
    let month = MONTHS[month];
    let mut bytes = header(&mut rng, seed, n, &format!("{day} {month} {year} {time} +0100")).into_bytes();
    bytes.extend(match (sizes, rng.random_range(0..20)) {
        (Sizes::Small, _) | (Sizes::Usual, 0..=7) => plain(&mut rng, sizes),
        (Sizes::Usual, 8..=10) => cyrillic(&mut rng),
        (Sizes::Usual, 11..=14) => alternative(&mut rng),
        (Sizes::Usual, 15..=18) => attachment(&mut rng),
        (Sizes::Usual, _) => forwarded(&mut rng, seed, n),
    });
    let flags = FLAGS[rng.random_range(0..FLAGS.len())];
    Sample { flags, date: format!("{day:2}-{month}-{year} {time} +0100"), bytes }
}

/// A message of about `size` bytes: one attachment, as a phone's video would be.
pub fn big(seed: u64, size: usize) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bytes = header(&mut rng, seed, 0, "1 Feb 2025 10:00:00 +0100").into_bytes();
    bytes.extend_from_slice(b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"big\"\r\n\r\n--big\r\n");
    bytes.extend_from_slice(
        b"Content-Type: text/plain\r\n\r\nThe film is attached.\r\n--big\r\nContent-Type: video/mp4; ",
    );
    bytes.extend_from_slice(
        b"name=\"film.mp4\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n",
    );
    base64_lines(&mut bytes, &mut rng, size / 78);
    bytes.extend_from_slice(b"--big--\r\n");
    bytes
}

fn header(rng: &mut StdRng, seed: u64, n: u64, date: &str) -> String {
    let (from, to) = (NAMES[rng.random_range(0..NAMES.len())], NAMES[rng.random_range(0..NAMES.len())]);
    let mut text = String::new();
    // Trace headers make a header block as long as they are in life.
    for hop in 0..rng.random_range(1..4) {
        write!(
            text,
            "Received: from mx{hop}.example.net (mx{hop}.example.net [192.0.2.{hop}])\r\n\tby mail.example.org "
        )
        .unwrap();
        write!(text, "with ESMTPS id {:x};\r\n\t{date}\r\n", rng.random::<u64>()).unwrap();
    }
    let thread = n - n % 4;
    write!(text, "Message-ID: <{seed}.{n}@example.org>\r\nDate: {date}\r\nFrom: {} <{}>\r\n", from.0, from.1).unwrap();
    write!(text, "To: {} <{}>\r\n", to.0, to.1).unwrap();
    if n.is_multiple_of(3) {
        write!(text, "Cc: list@example.org, {} <{}>\r\n", NAMES[0].0, NAMES[0].1).unwrap();
    }
    if n == thread {
        write!(text, "Subject: {} {n}\r\n", phrase(rng, 4)).unwrap();
    } else {
        write!(text, "Subject: Re: thread {thread}\r\nIn-Reply-To: <{seed}.{}@example.org>\r\n", n - 1).unwrap();
        text.push_str("References:");
        for earlier in thread..n {
            write!(text, " <{seed}.{earlier}@example.org>").unwrap();
        }
        text.push_str("\r\n");
    }
    text
}

fn phrase(rng: &mut StdRng, words: usize) -> String {
    (0..words).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect::<Vec<_>>().join(" ")
}

fn lines(rng: &mut StdRng, count: usize) -> String {
    (0..count).map(|_| phrase(rng, 9) + "\r\n").collect()
}

fn plain(rng: &mut StdRng, sizes: Sizes) -> Vec<u8> {
    let count = if matches!(sizes, Sizes::Small) { 8 } else { rng.random_range(5..120) };
    format!("Content-Type: text/plain; charset=us-ascii\r\n\r\n{}", lines(rng, count)).into_bytes()
}

fn cyrillic(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes =
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            .to_vec();
    for _ in 0..rng.random_range(4..60) {
        bytes.extend_from_slice("Плотина держит реку и отпускает её ровно.\r\n".as_bytes());
    }
    bytes
}

fn alternative(rng: &mut StdRng) -> Vec<u8> {
    let count = rng.random_range(10..100);
    format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"=_alt\"\r\n\r\nThis is MIME.\r\n--=_alt\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n{}\
         \r\n--=_alt\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>{}</p></body></html>\r\n--=_alt--\r\n",
        lines(rng, count),
        lines(rng, count)
    )
    .into_bytes()
}

fn attachment(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=mix\r\n\r\n--mix\r\nContent-Type: text/plain\r\n\r\n".to_vec();
    bytes.extend_from_slice(lines(rng, 6).as_bytes());
    bytes.extend_from_slice(
        b"--mix\r\nContent-Type: application/pdf;\r\n name*=utf-8''%D1%81%D1%87%D1%91%D1%82.pdf\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"a.pdf\"\r\n\r\n",
    );
    let count = if rng.random_range(0..10) == 0 { rng.random_range(200..2500) } else { rng.random_range(10..200) };
    base64_lines(&mut bytes, rng, count);
    bytes.extend_from_slice(b"--mix--\r\n");
    bytes
}

fn forwarded(rng: &mut StdRng, seed: u64, n: u64) -> Vec<u8> {
    let inner = header(rng, seed, n + 1_000_000, "1 Jan 2020 00:00:00 +0000");
    format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=fwd\r\n\r\n--fwd\r\nContent-Type: text/plain\r\n\r\n{}\
         --fwd\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n{}\r\n--fwd--\r\n",
        lines(rng, 3),
        lines(rng, 20)
    )
    .into_bytes()
}

fn base64_lines(out: &mut Vec<u8>, rng: &mut StdRng, count: usize) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for _ in 0..count {
        let mut bits = [0u8; 76];
        rng.fill(&mut bits[..]);
        out.extend(bits.iter().map(|b| ALPHABET[usize::from(b & 63)]));
        out.extend_from_slice(b"\r\n");
    }
}

/// Puts `count` messages into a mailbox that exists: MULTIAPPEND with non-synchronising literals, so a round trip for
/// many. For servers that offer both.
pub fn load(client: &mut Client, mailbox: &str, seed: u64, count: u64, sizes: Sizes) {
    let mut n = 0;
    while n < count {
        let tag = client.tag();
        let mut bytes = format!("{tag} APPEND {}", quoted(mailbox)).into_bytes();
        let mut batch = 0;
        // A server holds a whole MULTIAPPEND until its end.
        while n < count && batch < 1000 && bytes.len() < 4 << 20 {
            let sample = message(seed, n, sizes);
            let head = format!(" ({}) \"{}\" {{{}+}}\r\n", sample.flags, sample.date, sample.bytes.len());
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(&sample.bytes);
            n += 1;
            batch += 1;
        }
        bytes.extend_from_slice(b"\r\n");
        client.try_send(&bytes).expect("sending mail");
        let answer = client.finish(&tag).expect("MULTIAPPEND");
        assert!(answer.is_ok(), "MULTIAPPEND: {}", answer.text);
    }
}

#[test]
fn messages_are_whole() {
    for n in 0..300 {
        let sample = message(1, n, Sizes::Usual);
        assert_eq!(sample.bytes, message(1, n, Sizes::Usual).bytes, "the same again");
        let lone =
            sample.bytes.windows(2).any(|w| (w[0] != b'\r') == (w[1] == b'\n') && (w[0] == b'\r' || w[1] == b'\n'));
        assert!(!lone, "message {n} has a lone CR or LF");
    }
    let big = big(1, 1_000_000);
    assert!((900_000..1_100_000).contains(&big.len()));
}
