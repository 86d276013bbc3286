//! What may leave: the list of spans and of their fields, and how many may wait.
//!
//! A field that is not listed here stays, also one that somebody adds to a span for the log later: a lease's mailbox, a session's peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanEvents, SpanLinks, SpanProcessor};

use crate::metrics::{AccountLabels, SpanMetrics, account_id, spans};

/// Spans that wait for the collector: 2048, the SDK's own figure, are some 2 MiB, and some seconds of a busy office.
pub(super) const QUEUE: usize = 2048;

/// The spans by the names they have in the log, and what each is to a collector.
const KNOWN: [(&str, SpanKind); 2] = [("session", SpanKind::Server), ("lease", SpanKind::Client)];

/// Their fields, and what each is called there.
const FIELDS: [(&str, &str); 4] = [
    ("protocol", "network.protocol.name"),
    ("account", "mailweir.account"),
    ("class", "mailweir.class"),
    ("id", "mailweir.lease"),
];

/// Whether spans of this name are sent at all.
pub(super) fn knows(name: &str) -> bool {
    kind(name).is_some()
}

fn kind(name: &str) -> Option<SpanKind> {
    KNOWN.iter().find(|(known, _)| *known == name).map(|(_, kind)| kind.clone())
}

/// How many spans wait in the SDK's queue. It counts what is too much itself and tells nobody; so nothing that is too much gets there.
#[derive(Debug, Default)]
pub(super) struct Queue(AtomicUsize);

impl Queue {
    fn enter(&self) -> bool {
        let more = |waiting| (waiting < QUEUE).then_some(waiting + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// So many were taken out of it.
    pub(super) fn leave(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::AcqRel);
    }
}

/// Stands before the SDK's sender.
#[derive(Debug)]
pub(super) struct Gate<P> {
    next: P,
    labels: AccountLabels,
    queue: Arc<Queue>,
    counted: &'static SpanMetrics,
}

impl<P> Gate<P> {
    pub(super) fn new(next: P, labels: AccountLabels, queue: Arc<Queue>) -> Self {
        Self { next, labels, queue, counted: spans() }
    }

    fn stripped(&self, kind: SpanKind, span: SpanData) -> SpanData {
        let attributes = span.attributes.into_iter().filter_map(|field| self.field(field)).collect();
        let (events, links, status) = (SpanEvents::default(), SpanLinks::default(), Status::Unset);
        SpanData { span_kind: kind, attributes, events, links, status, ..span }
    }

    fn field(&self, field: KeyValue) -> Option<KeyValue> {
        let (name, shown) = FIELDS.iter().find(|(name, _)| *name == field.key.as_str())?;
        let value = match (*name, self.labels) {
            ("account", AccountLabels::Id) => Value::from(account_id(&field.value.as_str())),
            ("class", _) => Value::from(field.value.as_str().to_ascii_lowercase()),
            _ => field.value,
        };
        Some(KeyValue::new(*shown, value))
    }
}

impl<P: SpanProcessor> SpanProcessor for Gate<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        let Some(kind) = kind(&span.name) else { return };
        if self.queue.enter() {
            self.next.on_end(self.stripped(kind, span));
        } else {
            self.counted.dropped();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}
