//! DEFLATE both ways over a connection (RFC 4978, RFC 1951), between TLS and whoever reads and writes.
//!
//! Memory is bounded whatever the peer sends: what is inflated goes straight into the reader's own buffer, as much as it has room for
//! and not an octet ahead, so a bomb is met by the reader's limits on lines and literals; deflated octets wait in one small buffer,
//! and writing waits for it. The format itself makes at most 1032 octets of one.
//!
//! Sans-I/O but for the stream below, which every call is given.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Compressed octets read from the socket at once.
const COMING: usize = 16 * 1024;
/// Octets taken from a writer at once.
const PIECE: usize = 16 * 1024;
/// Compressed octets that may wait for the socket before a writer has to.
const GOING: usize = 64 * 1024;
/// Room made for the compressor's output at a time.
const ROOM: usize = 4096;
/// The last octets of a flush.
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];

/// The two halves of a compressed connection.
pub(super) struct Deflate {
    inflate: Decompress,
    deflate: Compress,
    /// Read from the socket; not inflated yet from `at` on.
    coming: Vec<u8>,
    at: usize,
    space: Box<[u8]>,
    /// Deflated, and not at the socket yet from `gone` on.
    going: Vec<u8>,
    gone: usize,
    /// The compressor holds octets that no flush has driven out.
    is_unflushed: bool,
    /// The peer has ended its stream.
    is_over: bool,
}

impl std::fmt::Debug for Deflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflate")
            .field("received", &self.inflate.total_in())
            .field("inflated", &self.inflate.total_out())
            .finish_non_exhaustive()
    }
}

impl Deflate {
    /// `ahead`: compressed octets that were read already.
    pub(super) fn new(ahead: &[u8]) -> Self {
        Self {
            // Without zlib's header (RFC 4978 §4).
            inflate: Decompress::new(false),
            deflate: Compress::new(Compression::default(), false),
            coming: ahead.to_vec(),
            at: 0,
            space: vec![0; COMING].into_boxed_slice(),
            going: Vec::new(),
            gone: 0,
            is_unflushed: false,
            is_over: false,
        }
    }

    pub(super) fn poll_read<S: AsyncRead>(
        &mut self,
        mut below: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while !self.is_over {
            // First what is held already: the decoder may have more to give than there was room for.
            if self.inflate_into(buf)? > 0 {
                return Poll::Ready(Ok(()));
            }
            if self.is_over || self.at < self.coming.len() {
                continue;
            }
            let mut space = ReadBuf::new(&mut self.space);
            ready!(below.as_mut().poll_read(cx, &mut space))?;
            if space.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.coming.clear();
            self.coming.extend_from_slice(space.filled());
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Inflates as much as there is room for; how many octets that made.
    fn inflate_into(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
        let input = self.coming.get(self.at..).unwrap_or_default();
        let was_empty = input.is_empty();
        let status = self.inflate.decompress(input, buf.initialize_unfilled(), FlushDecompress::Sync);
        let status = status.map_err(|_| wrong("the compressed stream is damaged"))?;
        let taken = usize::try_from(self.inflate.total_in() - taken).unwrap_or(usize::MAX);
        let made = usize::try_from(self.inflate.total_out() - made).unwrap_or(usize::MAX);
        self.at = self.at.saturating_add(taken).min(self.coming.len());
        buf.advance(made.min(buf.remaining()));
        self.is_over = status == Status::StreamEnd;
        if !was_empty && taken == 0 && made == 0 && !self.is_over {
            // Given octets and room, it took nothing and gave nothing: it never will.
            return Err(wrong("the compressed stream makes no sense"));
        }
        Ok(made)
    }

    pub(super) fn poll_write<S: AsyncWrite>(
        &mut self,
        below: Pin<&mut S>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.going.len() - self.gone >= GOING {
            ready!(self.poll_drain(below, cx))?;
        }
        let mut rest = data.get(..data.len().min(PIECE)).unwrap_or(data);
        let taken = rest.len();
        while !rest.is_empty() {
            self.going.reserve(ROOM);
            let before = self.deflate.total_in();
            let done = self.deflate.compress_vec(rest, &mut self.going, FlushCompress::None);
            done.map_err(|_| wrong("compressing failed"))?;
            let step = usize::try_from(self.deflate.total_in() - before).unwrap_or(rest.len());
            rest = rest.get(step..).unwrap_or_default();
        }
        self.is_unflushed |= taken > 0;
        Poll::Ready(Ok(taken))
    }

    /// Brings everything written so far to the stream below; that is not flushed here.
    pub(super) fn poll_flush<S: AsyncWrite>(
        &mut self,
        below: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.is_unflushed {
            self.going.reserve(ROOM);
            let done = self.deflate.compress_vec(&[], &mut self.going, FlushCompress::Sync);
            done.map_err(|_| wrong("compressing failed"))?;
            // That it left room does not mean that all is out: the compressor may have ended a block that was full, and no more. What a flush
            // ends with does (RFC 1951 §3.2.4: an empty stored block).
            let is_full = self.going.len() == self.going.capacity();
            self.is_unflushed = is_full || !self.going.ends_with(&FLUSHED);
        }
        self.poll_drain(below, cx)
    }

    fn poll_drain<S: AsyncWrite>(&mut self, mut below: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.going.get(self.gone..).filter(|rest| !rest.is_empty()) {
            let Poll::Ready(written) = below.as_mut().poll_write(cx, rest)? else {
                // On a slow line it is never empty: what is gone must not stay.
                if self.gone >= GOING {
                    self.going.drain(..self.gone);
                    self.gone = 0;
                }
                return Poll::Pending;
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gone += written;
        }
        self.going.clear();
        self.going.shrink_to(PIECE);
        self.gone = 0;
        Poll::Ready(Ok(()))
    }
}

fn wrong(words: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::net::{Stream, Tap};

    #[derive(Default)]
    struct Counted {
        received: AtomicU64,
        sent: AtomicU64,
    }

    impl Tap for Counted {
        fn received(&self, octets: u64) {
            self.received.fetch_add(octets, Ordering::Relaxed);
        }

        fn sent(&self, octets: u64) {
            self.sent.fetch_add(octets, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_counted_as_it_travels() {
        let mut rng = StdRng::seed_from_u64(1);
        for size in [0, 1, 100, PIECE, PIECE + 1, 700_000] {
            let (a, b) = Stream::pair();
            let tap = Arc::new(Counted::default());
            let counted: Arc<dyn Tap> = Arc::<Counted>::clone(&tap);
            let (mut a, mut b) = (a.deflated(b""), b.tapped(counted).deflated(b""));
            let noise: Vec<u8> = (0..size / 2).map(|_| rng.random()).collect();
            let mut sent = vec![b'x'; size - size / 2];
            sent.extend(noise);
            let copy = sent.clone();
            let writing = tokio::spawn(async move {
                a.write_all(&copy).await.unwrap();
                a.flush().await.unwrap();
                a.write_all(b"\r\n").await.unwrap();
                a.flush().await.unwrap();
                a
            });
            let mut got = vec![0; size + 2];
            b.read_exact(&mut got).await.unwrap();
            assert!(got.starts_with(&sent) && got.ends_with(b"\r\n"), "{size}");
            drop(writing.await.unwrap());
            assert_eq!(b.read(&mut [0; 10]).await.unwrap(), 0, "the end is an end");
            let travelled = tap.received.load(Ordering::Relaxed);
            assert!(travelled > 0 && travelled < (size * 3 / 5 + 100) as u64, "{travelled} octets for {size}");
            assert_eq!(tap.sent.load(Ordering::Relaxed), 0);
        }
    }

    /// Whatever has been written, a flush brings all of it to the other end.
    #[tokio::test]
    async fn a_flush_leaves_nothing_behind() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for round in 0..150 {
            // Anew: how much room the compressor finds depends on what went before.
            let (mut deflate, mut inflate) = (Deflate::new(b""), Decompress::new(false));
            // As mail is: noise in base64, with lines.
            let size = rng.random_range(1..90_000);
            let text: Vec<u8> =
                (0..size).map(|n| if n % 77 == 76 { b'\n' } else { rng.random_range(b'A'..=b'z') }).collect();
            let mut wire = Vec::new();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let Poll::Ready(Ok(taken)) = deflate.poll_write(Pin::new(&mut wire), &mut cx, rest) else {
                    panic!("{round}")
                };
                rest = &rest[taken..];
            }
            assert!(deflate.poll_flush(Pin::new(&mut wire), &mut cx).is_ready());
            let mut got = Vec::with_capacity(text.len() + 100);
            inflate.decompress_vec(&wire, &mut got, FlushDecompress::Sync).unwrap();
            assert!(got == text, "round {round}: {} of {size} octets have come", got.len());
        }
    }

    #[tokio::test]
    async fn a_slow_line_does_not_make_the_buffer_grow() {
        let mut rng = StdRng::seed_from_u64(3);
        let noise: Vec<u8> = (0..1 << 20).map(|_| rng.random()).collect();
        // It takes no more than a kilobyte until that is read.
        let (mut below, mut far) = tokio::io::duplex(1024);
        let reading = tokio::spawn(async move {
            let mut raw = Vec::new();
            far.read_to_end(&mut raw).await.unwrap();
            raw
        });
        let mut deflate = Deflate::new(b"");
        let (mut rest, mut most) = (&noise[..], 0);
        while !rest.is_empty() {
            let written = poll_fn(|cx| deflate.poll_write(Pin::new(&mut below), cx, rest)).await.unwrap();
            rest = &rest[written..];
            most = most.max(deflate.going.capacity());
        }
        assert!((GOING..=4 * GOING).contains(&most), "{most}");
        poll_fn(|cx| deflate.poll_flush(Pin::new(&mut below), cx)).await.unwrap();
        assert!(deflate.going.capacity() <= PIECE, "{}", deflate.going.capacity());
        drop(below);
        let raw = reading.await.unwrap();
        let mut got = Vec::with_capacity(noise.len() + 1);
        Decompress::new(false).decompress_vec(&raw, &mut got, FlushDecompress::Sync).unwrap();
        assert!(got == noise, "{} octets came, damaged", got.len());
    }

    #[tokio::test]
    async fn octets_read_ahead_are_the_beginning() {
        let mut raw = Vec::with_capacity(1000);
        let mut compress = Compress::new(Compression::default(), false);
        compress.compress_vec(b"* OK compressed\r\n", &mut raw, FlushCompress::Sync).unwrap();
        let (a, mut b) = Stream::pair();
        let (ahead, rest) = raw.split_at(7);
        let mut a = a.deflated(ahead);
        b.write_all(rest).await.unwrap();
        let mut got = [0; 17];
        a.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"* OK compressed\r\n");
    }

    #[tokio::test]
    async fn a_bomb_gives_no_more_than_is_asked_for() {
        // 8 MiB of one octet: some 8 kB compressed.
        let mut bomb = Vec::with_capacity(1 << 20);
        let mut compress = Compress::new(Compression::best(), false);
        let part = vec![b'A'; 1 << 20];
        for _ in 0..8 {
            compress.compress_vec(&part, &mut bomb, FlushCompress::Sync).unwrap();
        }
        assert!(bomb.len() < 12_000, "{}", bomb.len());
        let (a, mut b) = Stream::pair();
        let mut a = a.deflated(b"");
        // It fits into the connection's buffer as a whole.
        b.write_all(&bomb).await.unwrap();
        let mut small = [0; 1000];
        for _ in 0..100 {
            let octets = a.read(&mut small).await.unwrap();
            assert!(octets > 0 && small[..octets].iter().all(|octet| *octet == b'A'));
        }
        assert!(format!("{a:?}").contains("Deflate"));
    }

    #[tokio::test]
    async fn nonsense_is_an_error_and_no_loop() {
        let mut rng = StdRng::seed_from_u64(2);
        for _ in 0..500 {
            let noise: Vec<u8> = (0..rng.random_range(1..200)).map(|_| rng.random()).collect();
            let (a, mut b) = Stream::pair();
            let mut a = a.deflated(b"");
            b.write_all(&noise).await.unwrap();
            drop(b);
            let mut out = Vec::new();
            // An error or an early end; what matters is that there is one.
            let _ = a.read_to_end(&mut out).await;
            assert!(out.len() < 300_000);
        }
    }
}
