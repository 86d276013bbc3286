//! Runs the fuzz targets of `checks.rs` for a bounded time without a fuzzer: seeds, and mutations of them from a plain
//! generator. Deterministic: `MAILWEIR_FUZZ_SEED` (default 1) and `MAILWEIR_FUZZ_ROUNDS` (default 20000 a target) choose
//! the run, and a failure prints both the seed and the input.

mod checks;

use std::fmt::Write as _;

const SEEDS: &[&[u8]] = &[
    b"a NOOP\r\nb IDLE\r\nDONE\r\n",
    b"a LOGIN {3}\r\nann {2+}\r\npw\r\n",
    b"a APPEND x (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3}\r\nabc (\\Flagged) {20+}\r\n01234567890123456789\r\n",
    b"* 1 FETCH (UID 5 BODY[] {13}\r\n0123456789\r\n) FLAGS (\\Seen))\r\n* OK hi {3}\r\n",
    b"a UID FETCH 1:*,5 (UID FLAGS BODY.PEEK[1.2.HEADER.FIELDS (From \"To\")]<0.100>) (CHANGEDSINCE 1 VANISHED)",
    b"a SEARCH RETURN (MIN) CHARSET UTF-8 OR (FROM x NOT SEEN) SINCE 1-Feb-1994 UID 1:5,* KEYWORD k MODSEQ 5 $",
    b"a STORE 1:5 (UNCHANGEDSINCE 5) +FLAGS.SILENT (\\Deleted kw)",
    b"a LIST (SUBSCRIBED SPECIAL-USE) \"\" (\"%\" *) RETURN (CHILDREN STATUS (MESSAGES UIDNEXT))",
    b"a SELECT \"in box\" (CONDSTORE QRESYNC (1 2 1:5 (1,2 3,4)))",
    b"a CREATE x (USE (\\Drafts))",
    b"a STATUS {1}\r\nx (MESSAGES SIZE)",
    b"a AUTHENTICATE PLAIN AGFubgBwdw==",
    b"a ID (\"name\" \"x\" \"v\" NIL)",
    b"a ENABLE QRESYNC",
    b"a GETQUOTAROOT INBOX",
    b"a APPEND {1}\r\nx (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3}",
    b"* 7 FETCH (UID 5 FLAGS (\\Seen a]b) MODSEQ (7) INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" RFC822.SIZE 44)",
    b"* 7 FETCH (ENVELOPE (\"d\" {3}\r\na\"( ((NIL NIL \"a\" \"b\")) NIL) BODY[HEADER.FIELDS (\"a]\" b)]<0> \"x\\\"\")",
    b"* LIST (\\Noselect) \"/\" Foo Bar (\"CHILDINFO\" (\"SUBSCRIBED\"))",
    b"* STATUS \"a b\" (MESSAGES 1 X (a (b)) UNSEEN 2)",
    b"* ESEARCH (TAG \"a\") UID MIN 2 ALL 2,10:11 MODSEQ 5",
    b"* SEARCH 1 2 3 (MODSEQ 5)",
    b"* VANISHED (EARLIER) 1:4,9",
    b"a OK [COPYUID 1 2:3 4:5] done",
    b"* OK [PERMANENTFLAGS (a]b \\*)] x",
    b"* NO [X \"a]b\"] y",
    b"&BBIERQQ+-/R&-D",
    b"Entw\xc3\xbcrfe",
    b"\0ann\0pw",
    b"user=ann\x01auth=Bearer t\x01\x01",
    b"n,a=ann=2C,\x01host=h\x01auth=Bearer t\x01\x01",
    b"abcdUSER ann\r\nPASS p w \r\nLIST 1\r\nTOP 1 0\r\nAUTH PLAIN AGE=\r\nRETR 5\nLANG *\r\nQUIT\r\n",
    b"\x07\x03\x20\x60Subject: a\r\nTo: b\r\n\r\n.\r\n..dots\nbare\rreturn\0nul\r\r\n.\r",
];

const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"(",
    b")",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"{0}\r\n",
    b"{3+}\r\n",
    b"{13}\r\n",
    b"~{2}\r\n",
    b"{99999999999999999999}\r\n",
    b"* ",
    b"+ ",
    b"a ",
    b"NIL",
    b"*",
    b":",
    b",",
    b"4294967295",
    b"0",
    b"<0.5>",
    b"&",
    b"-",
    b"\xff",
    b"\x01",
    b"FETCH ",
    b"OK ",
    b"APPEND x ",
    b"BODY[",
    b"OR ",
    b"NOT ",
];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    fn pick<'a>(&mut self, list: &[&'a [u8]]) -> &'a [u8] {
        list[self.below(list.len())]
    }
}

fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(input.len() + 1);
    let until = (at + random.below(12)).min(input.len());
    match random.below(7) {
        0 if at < input.len() => input[at] = random.below(256) as u8,
        1 if at < input.len() => input[at] ^= 1 << random.below(8),
        2 => drop(input.drain(at..until)),
        3 => {
            let copy = input[at..until].to_vec();
            let to = random.below(input.len() + 1);
            drop(input.splice(to..to, copy));
        }
        4 => {
            let other = random.pick(SEEDS);
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => drop(input.splice(at..at, random.pick(TOKENS).iter().copied())),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Says what was being tried when a check panics.
struct Told<'a> {
    seed: u64,
    input: &'a [u8],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut text = String::new();
            let _ = write!(text, "{}", self.input.escape_ascii());
            eprintln!("MAILWEIR_FUZZ_SEED={} input: {text}", self.seed);
        }
    }
}

fn run(check: fn(&[u8])) {
    let seed = setting("MAILWEIR_FUZZ_SEED", 1);
    let mut random = Random(seed);
    for input in SEEDS {
        let _told = Told { seed, input };
        check(input);
    }
    for _ in 0..setting("MAILWEIR_FUZZ_ROUNDS", 20_000) {
        let mut input = random.pick(SEEDS).to_vec();
        for _ in 0..=random.below(6) {
            mutate(&mut input, &mut random);
        }
        let _told = Told { seed, input: &input };
        check(&input);
    }
}

#[test]
fn framer() {
    run(checks::framer);
}

#[test]
fn response() {
    run(checks::response);
}

#[test]
fn command() {
    run(checks::command);
}

#[test]
fn text() {
    run(checks::text);
}

#[test]
fn pop3() {
    run(checks::pop3);
}
