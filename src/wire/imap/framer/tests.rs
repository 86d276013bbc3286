//! Frames of both sides as tables, and any division of the bytes against the whole.

use super::*;

const SMALL: Limits = Limits { line: 200, inline_literal: 10, max_literal: 1000, messages_literals: 4 };

/// What came out, one entry a frame; chunks of one literal joined, so that splits do not show.
fn run(side: Side, input: &[u8], cuts: &[usize]) -> Vec<String> {
    let mut framer = Framer::new(side, SMALL);
    let mut out: Vec<String> = Vec::new();
    let mut literal = Vec::new();
    let mut at = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        framer.buffer().extend_from_slice(&input[at..end.max(at)]);
        at = end.max(at);
        loop {
            match framer.next() {
                Ok(Some(Frame::LiteralChunk(chunk))) => {
                    assert!(!chunk.is_empty());
                    literal.extend_from_slice(&chunk);
                }
                Ok(Some(Frame::LiteralEnd)) => out.push(format!("end {}", std::mem::take(&mut literal).escape_ascii())),
                Ok(Some(Frame::Message(text))) => out.push(format!("message {}", text.escape_ascii())),
                Ok(Some(Frame::NeedContinue { head, len })) => out.push(format!("need {} {len}", head.escape_ascii())),
                Ok(Some(Frame::LiteralStart { head, len, sync, literal8 })) => {
                    out.push(format!("start {} {len} {sync} {literal8}", head.escape_ascii()));
                }
                Ok(None) => break,
                Err(error) => {
                    out.push(format!("{error:?}"));
                    if framer.is_broken() {
                        out.push("broken".into());
                        return out;
                    }
                }
            }
        }
    }
    out
}

fn server(input: &str) -> Vec<String> {
    run(Side::Client, input.as_bytes(), &[])
}

fn client(input: &str) -> Vec<String> {
    run(Side::Server, input.as_bytes(), &[])
}

#[test]
fn words_of_a_server_hold_no_literal() {
    let table = [
        "* OK still here {40}",
        "* no such box: x {99}",
        "* BYE {1}",
        "* PREAUTH {1}",
        "* BAD {1}",
        "a1 NO Mailbox doesn't exist: x {99}",
        "a1 OK {3}",
        "+ go on {5}",
        "+",
        "* 3 EXISTS",
        "",
    ];
    for line in table {
        let want = format!("message {}", line.as_bytes().escape_ascii());
        assert_eq!(server(&format!("{line}\r\n* 1 EXISTS\r\n")), [want.as_str(), "message * 1 EXISTS"], "{line}");
        assert_eq!(server(&format!("{line}\n* 1 EXISTS\n")), [want.as_str(), "message * 1 EXISTS"], "{line}");
    }
}

#[test]
fn literals_of_a_server() {
    assert_eq!(
        server("* 1 FETCH (UID 5 BODY[TEXT] {3}\r\na\r\n X ~{2}\r\n\0\n)\r\n"),
        ["message * 1 FETCH (UID 5 BODY[TEXT] {3}\\r\\na\\r\\n X ~{2}\\r\\n\\x00\\n)"]
    );
    assert_eq!(
        server("* 1 FETCH (BODY[] {12}\r\n{5}\r\n1234567 UID 7)\r\n* OKAY {2}\nab\r\n"),
        [
            "start * 1 FETCH (BODY[]  12 true false",
            "end {5}\\r\\n1234567",
            "message * 1 FETCH (BODY[] {0}\\r\\n UID 7)",
            "message * OKAY {2}\\nab",
        ]
    );
    assert_eq!(
        server("* 1 FETCH (BINARY[1] ~{11}\r\n01234567890)\r\n"),
        ["start * 1 FETCH (BINARY[1]  11 true true", "end 01234567890", "message * 1 FETCH (BINARY[1] ~{0}\\r\\n)"]
    );
    assert_eq!(
        server("* 1 FETCH (X {99999999999999999999999}\r\n"),
        [&format!("LiteralTooLong {{ tag: None, len: {}, sync: true }}", u64::MAX), "broken"]
    );
    assert_eq!(server("* LIST () NIL {}\r\n"), ["message * LIST () NIL {}"]);
}

#[test]
fn inline_literals_beyond_a_message_are_streamed() {
    let mut input = String::from("* 1 FETCH (");
    for _ in 0..2 {
        input.push_str(&"x".repeat(80));
        input.push_str(" {10}\r\n0123456789 ");
    }
    let frames = server(&(input + ")\r\n"));
    assert!(frames[0].starts_with("start * 1 FETCH (x"), "{frames:?}");
    assert_eq!(frames[1], "end 0123456789");
    assert!(frames[2].ends_with(" {0}\\r\\n )"), "{frames:?}");
}

#[test]
fn commands_of_a_client() {
    assert_eq!(
        client("a LOGIN {3}\r\nann {2+}\r\npw\r\nb NOOP\r\n\r\n"),
        ["need a LOGIN  3", "message a LOGIN {3}\\r\\nann {2+}\\r\\npw", "message b NOOP", "message "]
    );
    assert_eq!(
        client("a append in (\\Seen) {3}\r\nx\0y (\\Flagged) {2+}\r\nzz\r\nb NOOP\r\n"),
        [
            "start a append in (\\\\Seen)  3 true false",
            "end x\\x00y",
            "start a append in (\\\\Seen) {0}\\r\\n (\\\\Flagged)  2 false false",
            "end zz",
            "message a append in (\\\\Seen) {0}\\r\\n (\\\\Flagged) {0}\\r\\n",
            "message b NOOP",
        ]
    );
    assert_eq!(
        client("a APPEND {5+}\r\nINBOX ~{0}\r\n\r\n"),
        ["start a APPEND {5+}\\r\\nINBOX  0 true true", "end ", "message a APPEND {5+}\\r\\nINBOX ~{0}\\r\\n"]
    );
}

/// Limits of a line and of the literals in one do not bound how many messages an APPEND has: what it is made of is handed on as it comes.
#[test]
fn an_append_of_many_messages_is_held_in_part() {
    let mut input = "a APPEND {2+}\r\nin (\\Seen) {1}\r\n0".to_owned();
    (1..300).for_each(|n| input.push_str(&format!(" (f{n}) {{1{}}}\r\n{}", if n % 2 == 0 { "" } else { "+" }, n % 10)));
    input.push_str("\r\nb NOOP\r\n");
    let frames = client(&input);
    assert_eq!(frames.len(), 602);
    assert_eq!(frames[0], "start a APPEND {2+}\\r\\nin (\\\\Seen)  1 true false");
    assert_eq!(frames[2], "start a APPEND {2+}\\r\\nin (\\\\Seen) {0}\\r\\n (f1)  1 false false");
    assert_eq!(frames[598], "start a APPEND {2+}\\r\\nin (\\\\Seen) {0}\\r\\n (f299)  1 false false");
    assert_eq!(frames[599], "end 9");
    assert_eq!(frames[600], "message a APPEND {2+}\\r\\nin (\\\\Seen) {0}\\r\\n (f299) {0}\\r\\n");
    assert_eq!(frames[601], "message b NOOP");
}

#[test]
fn errors_of_a_client() {
    assert_eq!(client("a NOOP\nb NOOP\r\n"), ["BareLf { tag: Some(\"a\") }", "broken"]);
    assert_eq!(client("a NO\0OP\r\nb NOOP\r\n"), ["Nul { tag: Some(\"a\") }", "message b NOOP"]);
    assert_eq!(client("a \0 {3+}\r\nx\r\n\r\nb NOOP\r\n"), ["Nul { tag: Some(\"a\") }", "message b NOOP"]);
    assert_eq!(
        client("a APPEND x {1001}\r\nb NOOP\r\n"),
        ["LiteralTooLong { tag: Some(\"a\"), len: 1001, sync: true }", "message b NOOP"]
    );
    let many = format!("a APPEND x {{1001+}}\r\n{}\r\nb NOOP\r\n", "y".repeat(1001));
    assert_eq!(client(&many), ["LiteralTooLong { tag: Some(\"a\"), len: 1001, sync: false }", "message b NOOP"]);
    assert_eq!(
        client("a X {999999999999999999999+}\r\n"),
        [&format!("LiteralTooLong {{ tag: Some(\"a\"), len: {}, sync: false }}", u64::MAX), "broken"]
    );
    assert_eq!(
        client("a X {1+}\r\n1{1+}\r\n2{1+}\r\n3{1+}\r\n4 {1+}\r\n5 {3}\r\nb NOOP\r\n"),
        ["TooManyLiterals { tag: Some(\"a\") }", "message b NOOP"]
    );
    assert_eq!(client(&"a".repeat(201)), ["LineTooLong { tag: None }", "broken"]);
    let line = format!("tag {}\r\n", "a".repeat(200));
    assert_eq!(client(&line), ["LineTooLong { tag: Some(\"tag\") }", "broken"]);
}

#[test]
fn a_refused_literal_drops_its_command() {
    let mut framer = Framer::new(Side::Server, SMALL);
    framer.buffer().extend_from_slice(b"a LOGIN {3}\r\n");
    assert!(matches!(framer.next(), Ok(Some(Frame::NeedContinue { len: 3, .. }))));
    framer.refuse_literal();
    framer.buffer().extend_from_slice(b"b APPEND x {30}\r\n");
    assert!(matches!(framer.next(), Ok(Some(Frame::LiteralStart { len: 30, sync: true, .. }))));
    framer.refuse_literal();
    assert!(framer.is_between_messages());
    framer.buffer().extend_from_slice(b"c APPEND x {5+}\r\n12345 {3}\r\nd APPEND x {2+}\r\n12 {1+}\r\n1\r\ne NOOP\r\n");
    assert!(matches!(framer.next(), Ok(Some(Frame::LiteralStart { len: 5, sync: false, .. }))));
    framer.refuse_literal();
    assert!(matches!(framer.next(), Ok(Some(Frame::LiteralStart { len: 2, sync: false, .. }))));
    framer.refuse_literal();
    assert_eq!(framer.next(), Ok(Some(Frame::Message(Bytes::from_static(b"e NOOP")))));
    assert_eq!(framer.next(), Ok(None));
    // Nothing is here, and yet there is something to come that is no command.
    for (piece, between) in [("f APPEND x {2+}\r\n", false), ("1", false), ("2", false), ("\r\n", true)] {
        framer.buffer().extend_from_slice(piece.as_bytes());
        let next = framer.next();
        if piece.starts_with('f') {
            assert!(matches!(next, Ok(Some(Frame::LiteralStart { .. }))));
            framer.refuse_literal();
        } else {
            assert_eq!(next, Ok(None));
        }
        assert_eq!(framer.is_between_messages(), between, "{piece:?}");
    }
}

#[test]
fn a_large_literal_is_not_collected() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let mut framer = Framer::new(Side::Client, Limits::RESPONSES);
    let (mut sent, mut seen, mut frames) = (0, 0, Vec::new());
    framer.buffer().extend_from_slice(format!("* 1 FETCH (BODY[] {{{LENGTH}}}\r\n").as_bytes());
    while sent < LENGTH {
        // As a socket would: at most what there is room for.
        let buffer = framer.buffer();
        let room = (buffer.capacity() - buffer.len()).min(LENGTH - sent);
        assert!((1..=2 * READ_LITERAL).contains(&room), "{room}");
        buffer.extend_from_slice(&vec![b'x'; room]);
        sent += room;
        while let Some(frame) = framer.next().unwrap() {
            match frame {
                Frame::LiteralChunk(chunk) => seen += chunk.len(),
                frame => frames.push(frame),
            }
        }
        assert_eq!(seen, sent, "every byte is handed on at once");
    }
    assert!(matches!(frames[..], [Frame::LiteralStart { len: 4_194_304, .. }, Frame::LiteralEnd]), "{frames:?}");
}

#[test]
fn what_came_before_a_handshake_is_forgotten() {
    let mut framer = Framer::new(Side::Server, SMALL);
    framer.buffer().extend_from_slice(b"a STARTTLS\r\nb LOGIN {2+}\r\nx");
    assert_eq!(framer.next(), Ok(Some(Frame::Message(Bytes::from_static(b"a STARTTLS")))));
    assert_eq!(framer.next(), Ok(None));
    assert!(!framer.is_between_messages());
    framer.clear_buffered();
    assert!(framer.is_between_messages());
    framer.buffer().extend_from_slice(b"c NOOP\r\n");
    assert_eq!(framer.next(), Ok(Some(Frame::Message(Bytes::from_static(b"c NOOP")))));
}

#[test]
fn any_split_gives_the_same_frames() {
    let pieces: [&[u8]; 16] = [
        b"a NOOP\r\n",
        b"* OK hi {3}\r\n",
        b"* 1 FETCH (BODY[] {12}\r\n0123456789\r\n UID 3)\r\n",
        b"a APPEND x {3+}\r\nabc\r\n",
        b"a LOGIN {2}\r\nxy {3+}\r\n\r\n\r\r\n",
        b"b \0 {1+}\r\n",
        b"{4}\r\n",
        b"~{20+}\r\n",
        b"\n",
        b"\r",
        b"* 2 FETCH (X {0}\r\n Y \"",
        b"01234567890123456789",
        b"{1002}\r\n",
        b"a FETCH 1 BODY[]\r\n",
        b"+ idling\r\n",
        b"\r\n",
    ];
    for seed in 1..=400u64 {
        let mut state = seed;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let input: Vec<u8> = (0..random(24)).flat_map(|_| pieces[random(pieces.len())].iter().copied()).collect();
        for side in [Side::Client, Side::Server] {
            let whole = run(side, &input, &[]);
            let each: Vec<usize> = (0..input.len()).collect();
            assert_eq!(run(side, &input, &each), whole, "seed {seed} byte by byte: {}", input.escape_ascii());
            let mut cuts: Vec<usize> = (0..random(9)).map(|_| random(input.len() + 1)).collect();
            cuts.sort_unstable();
            assert_eq!(run(side, &input, &cuts), whole, "seed {seed} at {cuts:?}: {}", input.escape_ascii());
        }
    }
}
