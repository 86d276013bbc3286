//! The protocol trace: what clients and we say, on a target of its own (`mailweir::protocol`, level trace), without secrets and literals.
//!
//! Of a client only lines that were understood are shown: one that was not may hold a password in any place. Of one that logs in the command's
//! name is all.

use bytes::BytesMut;
use tracing::trace;

use crate::wire::trace::{Redactor, redacted};

macro_rules! is_on {
    () => {
        tracing::enabled!(target: "mailweir::protocol", tracing::Level::TRACE)
    };
}

/// A command: `name` is ours. `secret`: it holds what nobody may see.
pub(crate) fn heard(name: &'static str, line: &[u8], secret: bool) {
    if !is_on!() {
        return;
    }
    if secret {
        trace!(target: "mailweir::protocol", "C: {name} (not shown)");
    } else {
        trace!(target: "mailweir::protocol", "C: {}", redacted(line));
    }
}

/// Something that was not understood, or a response to a challenge.
pub(crate) fn heard_octets(octets: usize) {
    trace!(target: "mailweir::protocol", "C: ({octets} octets)");
}

/// An answer of one line or some, rendered only if it is to be shown.
pub(crate) fn said(render: impl FnOnce(&mut BytesMut)) {
    if is_on!() {
        let mut out = BytesMut::new();
        render(&mut out);
        trace!(target: "mailweir::protocol", "S: {}", redacted(&out));
    }
}

/// What is sent to a client, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Sent(Option<Box<Redactor>>);

impl Sent {
    /// Begins to follow where a message begins, if the trace is on.
    pub(crate) fn take(&mut self, pieces: [&[u8]; 2]) {
        if !is_on!() {
            // Switched off it forgets where in a message it was; it is never switched on again in the life of a process.
            return;
        }
        let redactor = self.0.get_or_insert_default();
        for piece in pieces {
            redactor.feed(piece, |line| trace!(target: "mailweir::protocol", "S: {line}"));
        }
    }
}
