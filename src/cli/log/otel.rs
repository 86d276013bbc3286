//! Spans to an OpenTelemetry collector: OTLP over HTTP, protobuf. Only with the cargo feature `otel`, and only where `[log.otel]` says.
//!
//! The spans are those the log has: one for each session of a client, one for each lease of a session at the provider, its child where a
//! client waits for it. They come here whatever the log's level is; log lines do not (`Spans`).
//!
//! ```text
//! a span closes -> gate: only what may leave, and only if there is room -> the SDK's queue and thread
//!               -> account: counted -> opentelemetry-otlp: protobuf -> collector: net::http
//! ```
//!
//! Nobody waits for any of it (Law 8): the queue has an end, what is too much is dropped and counted, a collector that is away or silent
//! costs its spans and nothing else, and at the end of the process there are [`LAST_FLUSH`] for the rest. A start never fails over it.
//!
//! Law 12: the gate names what leaves, and everything else stays; secrets are in no span to begin with.

mod account;
mod collector;
mod gate;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, warn};
use tracing_subscriber::layer::{Context, Filter, Layer as _};

use super::BoxedLayer;
use crate::config::Otel;
use crate::metrics::AccountLabels;
use account::Account;
use collector::Collector;
use gate::{Gate, Queue};

/// What a collector is shown us as, unless somebody says otherwise.
const SERVICE: &str = "mailweir";
/// One request to the collector, with its retries (which the crate makes as OTLP wants them), and each of them.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Spans of one request: 512, the SDK's own figure, are some 100 KiB.
const BATCH: usize = 512;
/// For what is left at the end of the process; the service manager gives 90 s for all of it.
const LAST_FLUSH: Duration = Duration::from_secs(3);

/// The sending that was begun.
pub(crate) struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// Sends what is left, as far as [`LAST_FLUSH`] goes. Spans that close later are lost.
    pub(crate) async fn flush(self) {
        let flushed = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(LAST_FLUSH));
        // Another second for a blocking thread to be had.
        match tokio::time::timeout(LAST_FLUSH + Duration::from_secs(1), flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the last spans did not reach the collector"),
            Ok(Err(_)) | Err(_) => warn!("the last spans did not reach the collector in time"),
        }
    }
}

/// The layer that sees the spans, and what ends it in order. Within the runtime, whose tasks do the sending.
pub(super) fn begin(settings: &Otel, labels: AccountLabels) -> Result<(BoxedLayer, Export), String> {
    let queue = Arc::<Queue>::default();
    let (collector, said) = Collector::new(settings, REQUEST_TIMEOUT);
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(collector)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.as_str())
        .with_timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(|error| error.to_string())?;
    let exporter = Account::new(exporter, Arc::clone(&queue), said);
    // How often is OTEL_BSP_SCHEDULE_DELAY's, else every 5 s.
    let batches =
        BatchConfigBuilder::default().with_max_queue_size(gate::QUEUE).with_max_export_batch_size(BATCH).build();
    let sender = BatchSpanProcessor::new(exporter, batches);
    let provider = SdkTracerProvider::builder()
        .with_resource(resource(settings.service_name.as_deref()))
        .with_span_processor(Gate::new(sender, labels, queue))
        .build();
    Ok((layer(&provider), Export { provider }))
}

fn layer(provider: &SdkTracerProvider) -> BoxedLayer {
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE))
        // Each of these would add to every span, or take time at every poll of a session.
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false);
    layer.with_filter(Spans).boxed()
}

/// Who we are: by name and version, and what `$OTEL_RESOURCE_ATTRIBUTES` adds.
fn resource(service_name: Option<&str>) -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    // Takes the name from `$OTEL_SERVICE_NAME`, and makes one up where there is none.
    let found = Resource::builder().build().get(&"service.name".into()).map(|name| name.to_string());
    let name = service_name.map(str::to_owned).or_else(|| found.filter(|name| !name.starts_with("unknown_service")));
    Resource::builder().with_attribute(version).with_service_name(name.unwrap_or_else(|| SERVICE.into())).build()
}

/// Lets through the spans the gate knows, and no log lines: these name mailboxes, and what went wrong in a peer's words.
struct Spans;

impl Spans {
    fn wants(metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("mailweir") && gate::knows(metadata.name())
    }
}

impl<S> Filter<S> for Spans {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        Self::wants(metadata)
    }

    // Settled once for each place in the code, so that a log line at debug costs what it cost without us.
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }
}
