//! The protocol trace towards the provider's server for sending: target `mailweir::protocol`, level trace. Commands and replies; no message
//! and no login.

use tracing::trace;

use super::Reply;
use crate::wire::trace::redacted;

/// A challenge (RFC 4954 §4): it may say what was sent.
const CHALLENGE: u16 = 334;

macro_rules! is_on {
    () => {
        tracing::enabled!(target: "mailweir::protocol", tracing::Level::TRACE)
    };
}

/// A command that holds no secret.
pub(super) fn sent(account: &str, line: &[u8]) {
    if is_on!() {
        trace!(target: "mailweir::protocol", account, "upstream C: {}", redacted(line));
    }
}

/// A command of which the name is all that may be seen.
pub(super) fn hidden(account: &str, name: &str) {
    trace!(target: "mailweir::protocol", account, "upstream C: {name} (not shown)");
}

pub(super) fn received(account: &str, reply: &Reply) {
    if is_on!() {
        let text = if reply.code == CHALLENGE { String::new() } else { redacted(reply.text().as_bytes()) };
        trace!(target: "mailweir::protocol", account, "upstream S: {} {text}", reply.code);
    }
}
