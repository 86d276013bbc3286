//! The wire layer's hot paths: sync lines read and written, a large literal through the framer, commands parsed.
//!
//! Each input is one whole pass (100,000 lines, or 25 MiB), so that the printed time is the cost of a sync.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use mailweir::model::{Flags, InternalDate, ModSeq, Uid};
use mailweir::wire::imap::framer::{Frame, Framer, Limits, Side};
use mailweir::wire::imap::parse;
use mailweir::wire::imap::response::{Response, response};
use mailweir::wire::imap::write::Fetch;

const LINES: u32 = 100_000;
const LITERAL: usize = 25 * 1024 * 1024;
/// What one read of a TLS stream gives at most.
const READ: usize = 16 * 1024;

fn write_lines(out: &mut BytesMut, flags: &Flags, date: &InternalDate) {
    for seq in 1..=LINES {
        let mut fetch = Fetch::begin(out, seq);
        fetch.uid(out, Uid(seq + 1000));
        fetch.flags(out, flags);
        fetch.internal_date(out, date);
        fetch.size(out, seq * 3);
        fetch.end(out);
    }
}

fn sync_lines(c: &mut Criterion) {
    let flags = Flags::parse(["\\Seen", "$Forwarded"]);
    let date = InternalDate { seconds: 837_596_665, zone: -420 };
    let mut lines = BytesMut::new();
    write_lines(&mut lines, &flags, &date);
    let lines = lines.freeze();

    let mut group = c.benchmark_group("sync lines, 100k");
    group.sample_size(20).throughput(Throughput::Bytes(lines.len() as u64));
    group.bench_function("frame", |b| {
        b.iter(|| frames(&lines, |message| drop(black_box(message))));
    });
    group.bench_function("frame and read", |b| {
        b.iter(|| {
            frames(&lines, |message| {
                if let Response::Fetch { items, .. } = response(&message) {
                    black_box(items.data());
                }
            });
        });
    });
    group.bench_function("write", |b| {
        b.iter_batched_ref(
            || BytesMut::with_capacity(lines.len() + 1024),
            |out| write_lines(out, &flags, &date),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("write uid and flags", |b| {
        b.iter_batched_ref(
            || BytesMut::with_capacity(lines.len() + 1024),
            |out| {
                for seq in 1..=LINES {
                    let mut fetch = Fetch::begin(out, seq);
                    fetch.uid(out, Uid(seq + 1000));
                    fetch.flags(out, &flags);
                    fetch.modseq(out, ModSeq(u64::from(seq)));
                    fetch.end(out);
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn frames(input: &[u8], mut take: impl FnMut(bytes::Bytes)) {
    let mut framer = Framer::new(Side::Client, Limits::RESPONSES);
    for read in input.chunks(READ) {
        framer.buffer().extend_from_slice(read);
        while let Ok(Some(frame)) = framer.next() {
            if let Frame::Message(message) = frame {
                take(message);
            }
        }
    }
}

fn literal(c: &mut Criterion) {
    let mut input = format!("* 1 FETCH (UID 5 BODY[] {{{LITERAL}}}\r\n").into_bytes();
    input.resize(input.len() + LITERAL, b'x');
    input.extend_from_slice(b")\r\n");
    let mut group = c.benchmark_group("literal, 25 MiB");
    group.sample_size(20).throughput(Throughput::Bytes(LITERAL as u64));
    group.bench_function("stream", |b| {
        b.iter(|| {
            let mut framer = Framer::new(Side::Client, Limits::RESPONSES);
            let mut seen = 0;
            for read in input.chunks(READ) {
                framer.buffer().extend_from_slice(read);
                while let Ok(Some(frame)) = framer.next() {
                    if let Frame::LiteralChunk(chunk) = frame {
                        seen += black_box(chunk).len();
                    }
                }
            }
            assert_eq!(seen, LITERAL);
        });
    });
    // What the copy into the framer's buffer costs alone, as a read from a socket would make it.
    group.bench_function("copy alone", |b| {
        let mut buffer = vec![0; READ];
        b.iter(|| {
            for read in input.chunks(READ) {
                buffer[..read.len()].copy_from_slice(read);
                black_box(&buffer);
            }
        });
    });
    group.finish();
}

fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("command");
    let table: [(&str, &[u8]); 4] = [
        ("NOOP", b"a1 NOOP"),
        ("UID FETCH", b"a1 UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Subject Date)])"),
        ("SEARCH", b"a1 UID SEARCH OR FROM \"ann\" SUBJECT \"report\" SINCE 1-Feb-1994 UNDELETED"),
        ("LOGIN", b"a1 LOGIN ann@example.org \"secret\""),
    ];
    for (name, message) in table {
        group.bench_function(name, |b| b.iter(|| parse::command(black_box(message))));
    }
    group.finish();
}

criterion_group!(benches, sync_lines, literal, commands);
criterion_main!(benches);
