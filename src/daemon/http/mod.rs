//! What the daemon shows: `/metrics`, `/healthz`, `/readyz`, `/status.json` and a status page at `/`.
//!
//! Nothing here changes anything, and nothing names a secret. The pages are for the machine's owner: the default address is loopback.
//! A page on the web must not read them through its owner's browser by giving its own name our address (DNS rebinding): a
//! request that calls us by a name that is not ours is refused.

mod page;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
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

/// Serves until `stop`. `names` are this computer's, besides `localhost` and addresses. The address is the one really bound (port 0 is resolved).
pub(super) async fn serve(
    address: SocketAddr,
    names: Arc<[String]>,
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
        .layer(middleware::from_fn_with_state(names, ours_only))
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

/// Answers only to our own names. A program that gives no name is no browser.
async fn ours_only(State(names): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if host.is_none_or(|host| is_ours(host, &names)) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "This computer is not known by that name; add it to tls.names.\n").into_response()
}

/// Whether the value of Host (RFC 9110 §7.2) is an address, which no web page can take over, or a name of ours.
fn is_ours(host: &str, names: &[String]) -> bool {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<IpAddr>().is_ok();
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_answered_to() {
        let names = ["mail.lan".to_owned()];
        let table = [
            ("127.0.0.1:1080", true),
            ("[::1]:1080", true),
            ("192.168.1.5", true),
            ("localhost:1080", true),
            ("Mail.LAN.:1080", true),
            ("evil.example:1080", false),
            ("127.0.0.1.evil.example", false),
            ("[evil.example]", false),
            ("", false),
        ];
        for (host, want) in table {
            assert_eq!(is_ours(host, &names), want, "{host}");
        }
    }
}
