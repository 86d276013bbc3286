//! What the connections of all client protocols have in common below their framing: time-outs, reading and writing. `imap/io` and
//! `line` are made of it.

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};

use crate::net::Stream;

/// A wait below that takes longer lets the answers so far go out.
pub(crate) const FEED_AFTER: Duration = Duration::from_millis(20);
/// Answers leave at this size at the latest: four TLS records.
pub(crate) const OUT_FULL: usize = 64 * 1024;
/// A client that takes no byte for so long is gone or stuck; shorter than any provider's own patience with us.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// Silence before login: enough for a person to answer a certificate warning, too short to collect idle strangers.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// All the time there is to log in, however busy a stranger keeps us.
const LOGIN_TOTAL: Duration = Duration::from_secs(180);
/// What one read takes while commands come. It lies on the stack, so an idle session has none.
const READ: usize = 4 * 1024;

/// The client closed, broke the connection or read nothing for too long: nobody to talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// How long a client that has not logged in may be silent now; `None` if its time is over. (A time-out of nothing would still read what
/// has come: who never stops talking would never be late.)
pub(crate) fn login_patience(opened: Instant) -> Option<Duration> {
    let left = LOGIN_TOTAL.saturating_sub(opened.elapsed());
    (!left.is_zero()).then(|| LOGIN_TIMEOUT.min(left))
}

/// Reads what has come. Cancelling it loses nothing.
pub(crate) async fn read_some(stream: &mut Stream, into: &mut BytesMut) -> Result<(), Gone> {
    let count = poll_fn(|cx| {
        let mut space = [0; READ];
        let mut space = ReadBuf::new(&mut space);
        match Pin::new(&mut *stream).poll_read(cx, &mut space) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                into.extend_from_slice(space.filled());
                Poll::Ready(Ok(space.filled().len()))
            }
        }
    })
    .await;
    match count {
        Ok(0) | Err(_) => Err(Gone),
        Ok(_) => Ok(()),
    }
}

/// Writes both, in as few writes as the system takes.
pub(crate) async fn write_all(stream: &mut Stream, head: &[u8], body: &[u8]) -> Result<(), Gone> {
    let mut sent = 0;
    while sent < head.len() + body.len() {
        let first = head.get(sent..).unwrap_or_default();
        let second = body.get(sent.saturating_sub(head.len())..).unwrap_or_default();
        let both = [IoSlice::new(first), IoSlice::new(second)];
        let slices = if first.is_empty() { both.get(1..) } else { both.get(..) }.unwrap_or_default();
        match timeout(WRITE_TIMEOUT, stream.write_vectored(slices)).await {
            Ok(Ok(count)) if count > 0 => sent += count,
            _ => return Err(Gone),
        }
    }
    match timeout(WRITE_TIMEOUT, stream.flush()).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Gone),
    }
}

/// Ends our side in order.
pub(crate) async fn shut(mut stream: Stream) {
    // A failure here changes nothing: the connection is over.
    let _ = timeout(WRITE_TIMEOUT, stream.shutdown()).await;
}
