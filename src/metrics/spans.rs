//! What became of the spans for an OpenTelemetry collector (`[log.otel]`).
//!
//! Where spans go is settled before there is a daemon, and once for the whole process, as the log is; so these counters are the process's,
//! too, and every registry shows the same ones. Without the feature `otel`, or without a collector, they stay at 0.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::ByOutcome;

static SPANS: LazyLock<SpanMetrics> = LazyLock::new(SpanMetrics::default);

/// The process's own.
pub fn spans() -> &'static SpanMetrics {
    &SPANS
}

/// `mailweir_spans_total{outcome}`
#[derive(Debug)]
pub struct SpanMetrics {
    all: Family<ByOutcome, Counter>,
    sent: Counter,
    failed: Counter,
    dropped: Counter,
}

impl Default for SpanMetrics {
    fn default() -> Self {
        let all = Family::<ByOutcome, Counter>::default();
        let of = |outcome| all.get_or_create(&ByOutcome { outcome }).clone();
        let (sent, failed, dropped) = (of("sent"), of("failed"), of("dropped"));
        Self { all, sent, failed, dropped }
    }
}

impl SpanMetrics {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Spans for the OpenTelemetry collector, by what became of them";
        to.register("spans", help, self.all.clone());
    }

    /// The collector has taken so many.
    pub fn sent(&self, count: u64) {
        self.sent.inc_by(count);
    }

    /// The collector has not taken them, and they are lost.
    pub fn failed(&self, count: u64) {
        self.failed.inc_by(count);
    }

    /// One was not kept: too many wait already.
    pub fn dropped(&self) {
        self.dropped.inc();
    }

    /// How many were not kept so far.
    pub fn dropped_so_far(&self) -> u64 {
        self.dropped.get()
    }
}
