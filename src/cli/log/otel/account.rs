//! Counts what became of each batch, and tells the log of failures: the first at once, then once in a while, and their end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::time::Instant;
use tracing::{info, warn};

use super::collector::Said;
use super::gate::Queue;
use crate::metrics::{SpanMetrics, spans};

/// How often a failure that goes on is told anew.
const TELL_EVERY: Duration = Duration::from_secs(15 * 60);

/// Stands around the exporter of `opentelemetry-otlp`.
#[derive(Debug)]
pub(super) struct Account<E> {
    exporter: E,
    queue: Arc<Queue>,
    said: Said,
    counted: &'static SpanMetrics,
    lost: Mutex<Lost>,
}

/// What was lost since the collector has taken something.
#[derive(Debug, Default)]
struct Lost {
    spans: u64,
    /// Dropped in all when it was looked at last.
    dropped: u64,
    told: Option<Instant>,
}

/// What the log is to hear.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Nothing,
    Failing { lost: u64 },
    Over { lost: u64 },
}

impl Lost {
    /// After a batch of which `failed` were lost; `dropped` is the count of all that were dropped so far.
    fn after(&mut self, failed: u64, dropped: u64, now: Instant) -> News {
        self.spans += failed + dropped.saturating_sub(self.dropped);
        self.dropped = dropped;
        let lost = self.spans;
        if failed == 0 && lost > 0 {
            *self = Self { dropped, ..Self::default() };
            return News::Over { lost };
        }
        let is_due = self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
        if failed == 0 || !is_due {
            return News::Nothing;
        }
        self.told = Some(now);
        News::Failing { lost }
    }
}

impl<E> Account<E> {
    pub(super) fn new(exporter: E, queue: Arc<Queue>, said: Said) -> Self {
        Self { exporter, queue, said, counted: spans(), lost: Mutex::default() }
    }

    fn settle(&self, count: u64, done: &OTelSdkResult) {
        let failed = if done.is_ok() { 0 } else { count };
        if failed == 0 {
            self.counted.sent(count);
        } else {
            self.counted.failed(failed);
        }
        let dropped = self.counted.dropped_so_far();
        let news = self.lost.lock().unwrap_or_else(PoisonError::into_inner).after(failed, dropped, Instant::now());
        match (news, done) {
            (News::Failing { lost }, Err(error)) => {
                let reason = self.said.take().unwrap_or_else(|| error.to_string());
                warn!(lost, reason, "the collector does not take spans; they are lost meanwhile, mail is served");
            }
            (News::Over { lost }, _) => info!(lost, "the collector takes spans again"),
            (News::Failing { .. } | News::Nothing, _) => {}
        }
    }
}

impl<E: SpanExporter> SpanExporter for Account<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.queue.leave(count);
        let done = self.exporter.export(batch).await;
        self.settle(count as u64, &done);
        done
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_in_a_while_and_its_end() {
        let (mut lost, began) = (Lost::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let table = [
            (0, 0, 0, News::Nothing),
            (5, 3, 0, News::Failing { lost: 3 }),
            (10, 4, 10, News::Nothing),
            (904, 1, 10, News::Nothing),
            (905, 1, 12, News::Failing { lost: 21 }),
            (910, 0, 12, News::Over { lost: 21 }),
            (915, 0, 12, News::Nothing),
            (920, 1, 12, News::Failing { lost: 1 }),
            (925, 0, 12, News::Over { lost: 1 }),
            (930, 0, 14, News::Over { lost: 2 }),
        ];
        for (second, failed, dropped, want) in table {
            assert_eq!(lost.after(failed, dropped, at(second)), want, "at {second} s");
        }
    }
}
