//! The protocol trace towards the provider: target `mailweir::protocol`, level trace, without secrets and literals.

use tracing::trace;

use super::Session;
use crate::upstream::line::{Line, Part};
use crate::wire::trace::redacted;

macro_rules! is_on {
    () => {
        tracing::enabled!(target: "mailweir::protocol", tracing::Level::TRACE)
    };
}

impl Session {
    pub(super) fn trace_sent(&self, tag: &str, line: &Line) {
        if !is_on!() {
            return;
        }
        let name = line.name();
        if name.eq_ignore_ascii_case("LOGIN") || name.eq_ignore_ascii_case("AUTHENTICATE") {
            trace!(target: "mailweir::protocol", parent: &self.span, account = %self.label, "upstream C: {tag} {name} (not shown)");
            return;
        }
        let parts = line.parts().iter().map(|part| match part {
            Part::Text(text) => redacted(text),
            Part::Literal(literal) => format!("{{{}}}", literal.len()),
        });
        let shown: String = parts.collect();
        trace!(target: "mailweir::protocol", parent: &self.span, account = %self.label, "upstream C: {tag} {shown}");
    }

    /// A challenge may say what was sent.
    pub(super) fn trace_received(&self, message: &[u8]) {
        if is_on!() {
            let shown = if message.starts_with(b"+") { "+".to_owned() } else { redacted(message) };
            trace!(target: "mailweir::protocol", parent: &self.span, account = %self.label, "upstream S: {shown}");
        }
    }
}
