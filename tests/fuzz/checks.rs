//! What must hold for any bytes from a network. Each function is a fuzz target, and is run in every test run by `run.rs`.
//! A panic, in the code or in an assertion here, is a finding.

use bytes::BytesMut;

use mailweir::model::InternalDate;
use mailweir::secret::Secret;
use mailweir::wire::imap::framer::{Frame, Framer, Limits, Side};
use mailweir::wire::imap::response::{self, Code, Response, fetch_head, nstring};
use mailweir::wire::imap::{mutf7, parse, write};
use mailweir::wire::lines::Lines;
use mailweir::wire::{pop3, sasl};

/// Small, so that inputs of a few hundred bytes meet every limit.
const LIMITS: Limits = Limits { line: 120, inline_literal: 12, max_literal: 400, messages_literals: 4 };

/// Any division into reads gives the same frames, on both sides, and refusing literals loses no message bounds. The first
/// bytes choose the cuts and what is refused.
pub(crate) fn framer(data: &[u8]) {
    let (plan, input) = data.split_at(data.len().min(4));
    let mut cuts: Vec<usize> = plan.iter().map(|b| usize::from(*b) % (input.len() + 1)).collect();
    cuts.sort_unstable();
    let refuse = plan.first().copied().unwrap_or(0);
    for side in [Side::Client, Side::Server] {
        let whole = frames(side, input, &[], refuse);
        assert_eq!(frames(side, input, &cuts, refuse), whole, "cut at {cuts:?}");
        let each: Vec<usize> = (0..input.len()).collect();
        assert_eq!(frames(side, input, &each, refuse), whole, "byte by byte");
    }
}

/// What came out, chunks joined; every literal whose number has a bit in `refuse` is refused.
fn frames(side: Side, input: &[u8], cuts: &[usize], refuse: u8) -> Vec<String> {
    let mut framer = Framer::new(side, LIMITS);
    let (mut out, mut chunk, mut at, mut literals) = (Vec::new(), Vec::new(), 0, 0u32);
    for end in cuts.iter().copied().chain([input.len()]) {
        framer.buffer().extend_from_slice(&input[at..end]);
        at = end;
        loop {
            match framer.next() {
                Ok(None) => break,
                Ok(Some(Frame::LiteralChunk(bytes))) => chunk.extend_from_slice(&bytes),
                Ok(Some(frame)) => {
                    let literal = matches!(frame, Frame::NeedContinue { .. } | Frame::LiteralStart { .. });
                    out.push(format!("{} {frame:?}", std::mem::take(&mut chunk).escape_ascii()));
                    if literal && side == Side::Server {
                        literals += 1;
                        if refuse >> (literals % 8) & 1 == 1 {
                            framer.refuse_literal();
                            out.push("refused".into());
                        }
                    }
                }
                Err(error) => {
                    out.push(format!("{error:?}"));
                    if framer.is_broken() {
                        return out;
                    }
                }
            }
        }
    }
    out
}

/// Nothing a server writes is fatal, and the items of a FETCH are what it wrote: in order, with only spaces between.
pub(crate) fn response(data: &[u8]) {
    match response::response(data) {
        Response::Fetch { items, .. } => {
            let mut rest = items.rest();
            let mut left = items;
            for (name, value) in left.by_ref() {
                rest = skip_spaces(rest);
                rest = rest.strip_prefix(name).expect("the name is what came next");
                rest = skip_spaces(rest);
                rest = rest.strip_prefix(value).expect("the value is what came next");
                assert!(!name.is_empty());
                let _ = nstring(value);
            }
            assert_eq!(skip_spaces(left.rest()), skip_spaces(rest));
            let _ = items.data();
        }
        Response::Tagged { code: Some(code), .. } | Response::Status { code: Some(code), .. } => {
            let _ = Code::read(code);
        }
        _ => {}
    }
    let _ = fetch_head(data);
    let _ = Code::read(data);
}

fn skip_spaces(bytes: &[u8]) -> &[u8] {
    let spaces = bytes.iter().take_while(|b| **b == b' ').count();
    &bytes[spaces..]
}

/// A command is read or refused; a refusal is fit to be sent, and spaces at the end mean nothing.
pub(crate) fn command(data: &[u8]) {
    match parse::command(data) {
        Ok(tagged) => {
            let spaced = [data, b" "].concat();
            let again = parse::command(&spaced).expect("a space at the end");
            assert_eq!(format!("{:?}", again.command), format!("{:?}", tagged.command));
        }
        Err(error) => assert!(error.text.bytes().all(|b| matches!(b, b' '..=b'~'))),
    }
    for first in [true, false] {
        if let Ok((destination, _)) = parse::append_head(data, first) {
            assert_eq!(destination.is_some(), first);
            assert!(destination.is_none_or(|(_, mailbox)| !mailbox.contains(char::is_control)));
        }
    }
    let _ = parse::append_tail(data);
}

/// Strings written are read back, names have one spelling, and credentials are read without a guess.
pub(crate) fn text(data: &[u8]) {
    let mut out = BytesMut::new();
    write::string(&mut out, data);
    assert_eq!(nstring(&out).as_deref(), Some(data));
    out.clear();
    write::astring(&mut out, data);
    assert_eq!(nstring(&out).as_deref(), Some(data));
    if let Ok(name) = std::str::from_utf8(data) {
        assert_eq!(mutf7::decode(&mutf7::encode(name)).as_deref(), Some(name));
        if let Some(plain) = mutf7::decode(name) {
            assert_eq!(mutf7::encode(&plain), name);
        }
        out.clear();
        write::status_line(&mut out, None, response::Status::Ok, None, name);
        assert_eq!(out.iter().filter(|b| !matches!(b, b' '..=b'~')).count(), 2);
        if let Some(date) = InternalDate::parse(name) {
            assert_eq!(InternalDate::parse(&date.to_string()), Some(date));
        }
    }
    let message = Secret::new(data);
    if let Some(credentials) = sasl::read_plain(&message)
        && credentials.authorize.is_empty()
    {
        assert_eq!(sasl::plain(&credentials.user, &credentials.secret), message);
    }
    let _ = (sasl::read_xoauth2(&message), sasl::read_oauthbearer(&message), sasl::decode(data));
}

/// Lines are the same however they come and none is above the limit; a command is read or refused in words fit to be sent; and
/// whatever is in a message, a client sees lines, one end, and as many octets as were told. The first bytes choose the cuts.
pub(crate) fn pop3(data: &[u8]) {
    let (plan, input) = data.split_at(data.len().min(4));
    let mut cuts: Vec<usize> = plan.iter().map(|b| usize::from(*b) % (input.len() + 1)).collect();
    cuts.sort_unstable();
    let each: Vec<usize> = (0..input.len()).collect();
    let whole = lines(input, &[]);
    assert_eq!(lines(input, &cuts), whole, "cut at {cuts:?}");
    assert_eq!(lines(input, &each), whole, "byte by byte");
    for line in whole.iter().chain([&input.to_vec()]) {
        if let Err(fault) = pop3::command(line) {
            assert!(fault.to_string().bytes().all(|b| matches!(b, b' '..=b'~')));
        }
    }
    let (sent, octets) = message(input, &[], pop3::BodyWriter::whole());
    assert_eq!(message(input, &cuts, pop3::BodyWriter::whole()), (sent.clone(), octets), "cut at {cuts:?}");
    assert_eq!(message(input, &each, pop3::BodyWriter::whole()), (sent.clone(), octets), "byte by byte");
    assert_eq!(pop3::octets(input), octets);
    let seen = unstuffed(&sent);
    assert_eq!(seen.len() as u64, octets);
    let top = u32::from(plan.first().copied().unwrap_or(0) % 8);
    let (first, _) = message(input, &cuts, pop3::BodyWriter::top(top));
    assert!(seen.starts_with(&unstuffed(&first)), "TOP is the beginning of RETR");
}

fn lines(input: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    const LIMIT: usize = 60;
    let (mut lines, mut out, mut at) = (Lines::new(LIMIT), Vec::new(), 0);
    for end in cuts.iter().copied().chain([input.len()]) {
        lines.buffer().extend_from_slice(&input[at..end]);
        at = end;
        loop {
            match lines.next_line() {
                Ok(Some(line)) => {
                    assert!(line.len() <= LIMIT && !line.contains(&b'\n'));
                    out.push(line.to_vec());
                }
                Ok(None) => break,
                Err(_) => return out,
            }
        }
    }
    out
}

fn message(raw: &[u8], cuts: &[usize], mut writer: pop3::BodyWriter) -> (Vec<u8>, u64) {
    let (mut out, mut at) = (BytesMut::new(), 0);
    for end in cuts.iter().copied().chain([raw.len()]) {
        if !writer.push(&raw[at..end], &mut out) {
            break;
        }
        at = end;
    }
    let octets = writer.finish(&mut out);
    (out.to_vec(), octets)
}

/// What a client makes of it, be it one to which CR, LF or CRLF ends a line: they must all see the same.
fn unstuffed(sent: &[u8]) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut rest = sent;
    loop {
        let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).expect("every line has an end");
        let (line, tail) = rest.split_at(end);
        rest = tail.strip_prefix(b"\r\n").expect("which is CRLF");
        assert!(!line.contains(&0));
        if line == b"." {
            assert!(rest.is_empty(), "nothing behind the end");
            return seen;
        }
        seen.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        seen.extend_from_slice(b"\r\n");
    }
}
