//! What the gate lets out, and that nobody waits for a collector. Against a real one's decoder: `tests/it/observe/otel.rs`.

use std::sync::Mutex;
use std::time::Instant;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as Exporter};
use tokio::net::TcpListener;
use tracing::{debug_span, error, info_span};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::metrics::account_id;

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl Exporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// What leaves of the spans that `work` opens and closes.
fn leaving(labels: AccountLabels, work: impl FnOnce()) -> Vec<SpanData> {
    let kept = Kept::default();
    let queue = Arc::<Queue>::default();
    let exporter = Account::new(kept.clone(), Arc::clone(&queue), collector::Said::default());
    let sender = BatchSpanProcessor::builder(exporter).build();
    let provider = SdkTracerProvider::builder().with_span_processor(Gate::new(sender, labels, queue)).build();
    let layers: Vec<BoxedLayer> = vec![layer(&provider)];
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layers), work);
    provider.shutdown_with_timeout(Duration::from_secs(60)).unwrap();
    let kept = kept.0.lock().unwrap();
    kept.clone()
}

/// As the daemon opens them, with what must not leave.
fn a_session_and_its_lease() {
    let session = info_span!("session", protocol = "imap", peer = "192.0.2.7", account = tracing::field::Empty);
    session.record("account", "ann@example.org");
    session.in_scope(|| {
        error!(mailbox = "Geheim", "a log line that names bob@example.net");
        let lease = debug_span!("lease", id = 7_u64, account = %"ann@example.org", class = ?crate::upstream::Class::Bulk, mailbox = "Geheim");
        drop(lease);
        drop(info_span!("another", password = "hunter2"));
    });
}

#[test]
fn what_is_not_listed_stays() {
    let spans = leaving(AccountLabels::Id, a_session_and_its_lease);
    let [lease, session] = spans.as_slice() else { panic!("{spans:#?}") };
    let all = format!("{spans:?}");
    for kept in ["192.0.2.7", "Geheim", "ann@", "bob@", "hunter2", "otel/tests.rs"] {
        assert!(!all.contains(kept), "{kept} leaves: {all}");
    }
    let fields = |span: &SpanData| {
        let fields = span.attributes.iter().map(|field| format!("{}={}", field.key, field.value.as_str()));
        fields.collect::<Vec<_>>()
    };
    let id = account_id("ann@example.org");
    assert_eq!(fields(session), ["network.protocol.name=imap".to_owned(), format!("mailweir.account={id}")]);
    let want = ["mailweir.lease=7".to_owned(), format!("mailweir.account={id}"), "mailweir.class=bulk".to_owned()];
    assert_eq!(fields(lease), want);
    assert_eq!(lease.parent_span_id, session.span_context.span_id());
    assert_eq!(lease.span_context.trace_id(), session.span_context.trace_id());
}

#[test]
fn an_address_leaves_where_metrics_have_it() {
    let spans = leaving(AccountLabels::Address, a_session_and_its_lease);
    assert!(spans.len() == 2 && spans.iter().all(|span| format!("{span:?}").contains("ann@example.org")), "{spans:#?}");
}

/// A span that closes is at once in the queue or dropped, with a collector that takes connections and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_collector_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", silent.local_addr().unwrap()).parse().unwrap();
    let settings = Otel { endpoint, headers: Vec::new(), service_name: None, ca_file: None };
    let (layer, export) = begin(&settings, AccountLabels::Id).unwrap();
    let layers: Vec<BoxedLayer> = vec![layer];
    let subscriber = tracing_subscriber::registry().with(layers);
    let dropped = crate::metrics::spans().dropped_so_far();
    let many = 3 * gate::QUEUE as u64;
    tracing::subscriber::with_default(subscriber, || (0..many).for_each(|_| drop(info_span!("session"))));
    let dropped = crate::metrics::spans().dropped_so_far() - dropped;
    // What the sender had taken out by then is at most a few batches, as each takes ten seconds.
    let most = many - gate::QUEUE as u64;
    assert!((most - 4 * BATCH as u64..=most).contains(&dropped), "{dropped} of {many}");
    let began = Instant::now();
    export.flush().await;
    assert!(began.elapsed() < LAST_FLUSH + Duration::from_secs(30), "{:?}", began.elapsed());
}
