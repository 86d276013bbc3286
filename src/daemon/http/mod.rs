//! What the daemon shows: `/metrics`, `/healthz`, `/readyz`, `/status.json` and a status page at `/`.
//!
//! Nothing here changes anything, and nothing names a secret. The pages are for the machine's owner: the default address is loopback.

mod page;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::status::Status;
use crate::metrics;

/// The longest a request may take: everything is in memory.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the pages are made of.
pub(super) trait Source: Send + Sync + 'static {
    fn status(&self) -> Status;
    fn metrics(&self) -> String;
}

/// Serves until `stop`. The address is the one really bound (port 0 is resolved).
pub(super) async fn serve(
    address: SocketAddr,
    source: Arc<dyn Source>,
    stop: CancellationToken,
) -> std::io::Result<(SocketAddr, impl Future<Output = ()> + Send + 'static)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let routes = Router::new()
        .route("/", get(root))
        .route("/status.json", get(status))
        .route("/metrics", get(exposition))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(source);
    let serving = async move {
        let server = axum::serve(listener, routes).with_graceful_shutdown({
            let stop = stop.clone();
            async move { stop.cancelled().await }
        });
        let bounded = async {
            stop.cancelled().await;
            tokio::time::sleep(TIMEOUT).await;
        };
        tokio::select! {
            done = server => if let Err(error) = done { tracing::warn!(%error, "the status server ended") },
            () = bounded => {}
        }
    };
    Ok((bound, serving))
}

async fn root(State(source): State<Arc<dyn Source>>) -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page::render(&source.status())))
}

async fn status(State(source): State<Arc<dyn Source>>) -> impl IntoResponse {
    // Numbers and strings only: this serialises always.
    let body = serde_json::to_string_pretty(&source.status()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body)
}

async fn exposition(State(source): State<Arc<dyn Source>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], source.metrics())
}

/// 200 when every account had an authenticated round trip lately, else 503 and why.
async fn ready(State(source): State<Arc<dyn Source>>) -> (StatusCode, String) {
    let status = source.status();
    let faults: Vec<String> = status
        .accounts
        .iter()
        .filter_map(|account| account.not_ready().map(|why| format!("{}: {why}\n", account.address)))
        .collect();
    if faults.is_empty() {
        (StatusCode::OK, "ready\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, faults.concat())
    }
}
