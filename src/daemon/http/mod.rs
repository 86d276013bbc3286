//! What the daemon shows: `/metrics`, `/healthz`, `/readyz`, `/status.json` and a status page at `/`; and for setting up mail programs
//! `/trust` (`trust`) and the answers of `autoconfig`.
//!
//! Nothing here changes anything, and nothing names a secret. The pages are for the machine's owner: the default address is loopback, and
//! beyond it they want a token ([`Door`]). What everybody may see stands in [`public`], what only the owner may in [`owner`].
//! A page on the web must not read them through its owner's browser by giving its own name our address (DNS rebinding): a
//! request that calls us by a name that is not ours is refused.

mod autoconfig;
mod door;
mod events;
mod page;
mod trust;
mod trust_page;
pub(super) mod visitor;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(super) use self::door::Door;
use self::events::Feed;
use super::setup::kit::{Kit, Visitor, matches};
use super::status::Status;
use crate::metrics::{self, Metrics};
use crate::net::listener::Gate;
use crate::net::stream::Stream;

/// How long a request's head may take to come, also the first one of a connection and the next on one that is kept: longer than
/// Prometheus' usual minute between two scrapes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// The longest head of a request: a browser's cookies for this computer take some KiB.
const HEAD_MOST: usize = 64 * 1024;

/// The longest one connection lives; who still wants something comes again. It frees the place of a peer that never reads its answer.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Connections at once, and of one address of the network: a browser or two and a scraper need some ten; each may take
/// [`HEAD_MOST`]. And those of this computer besides, so that strangers do not keep `mailweir status` or a scraper from their answer.
const CONNECTIONS: (usize, usize, usize) = (64, 16, 32);

/// What the pages are made of.
pub(super) trait Source: Send + Sync + 'static {
    fn status(&self) -> Status;
    /// Everything counted, up to date.
    fn metrics(&self) -> Metrics;
}

/// The places for connections to these pages: apart from the mail programs', so that neither can lock the other out.
pub(super) fn gate() -> Arc<Gate> {
    Arc::new(Gate::new(CONNECTIONS.0, CONNECTIONS.1, CONNECTIONS.2))
}

/// The pages. `names` are this computer's, besides `localhost` and addresses; `stop` ends what goes on by itself.
pub(super) fn routes(
    names: Arc<[String]>,
    source: Arc<dyn Source>,
    door: Arc<Door>,
    kit: &Arc<Kit>,
    stop: CancellationToken,
) -> Router {
    // These have names of their own to answer to.
    let setup = trust::routes(&names, kit).merge(autoconfig::routes(&names, kit));
    let owner = owner(source, stop).layer(middleware::from_fn_with_state(Arc::clone(&door), door::owner_only));
    let form = Router::new().route("/login", post(door::login)).with_state(door);
    public()
        .merge(form)
        .merge(owner)
        .layer(middleware::from_fn_with_state(names, ours_only))
        .merge(setup)
        .layer(middleware::from_fn(guarded))
        .layer(middleware::from_fn(door::handed_on))
}

/// What everybody may see who can connect.
fn public() -> Router {
    let asset = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text) })
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/status.css", asset("text/css; charset=utf-8", page::STYLE))
        .route("/status.js", asset("text/javascript; charset=utf-8", page::SCRIPT))
        .route("/icon.svg", asset("image/svg+xml", page::ICON))
}

/// What only the owner may see.
fn owner(source: Arc<dyn Source>, stop: CancellationToken) -> Router {
    let live = Router::new().route("/", get(root)).route("/events", get(events::events));
    let live = live.with_state(Arc::new(Feed::new(Arc::clone(&source), stop)));
    Router::new()
        .route("/status.json", get(status))
        .route("/metrics", get(exposition))
        .route("/readyz", get(ready))
        .with_state(source)
        .merge(live)
}

/// Serves one connection of a visitor until it ends, its time is up, or `stop`; a request that is being answered then is answered to its end.
pub(super) async fn serve(stream: Stream, visitor: Visitor, routes: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MOST);
    let routes = routes.layer(Extension(visitor));
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    let served = async {
        tokio::select! {
            done = connection.as_mut() => return done,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    // Whoever broke off or said nothing we understand is no fault of ours.
    match timeout(LIFETIME, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the status pages ended"),
        Err(_) => debug!("a connection to the status pages had its time"),
    }
}

/// Answers only to our own names. A program that gives no name is no browser.
async fn ours_only(State(names): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if host.is_none_or(|host| is_ours(host, &names)) {
        return next.run(request).await;
    }
    not_ours()
}

fn not_ours() -> Response {
    (StatusCode::MISDIRECTED_REQUEST, "This computer is not known by that name; add it to tls.names.\n").into_response()
}

/// Whether the value of Host (RFC 9110 §7.2) is an address, which no web page can take over, or a name of ours.
fn is_ours(host: &str, names: &[String]) -> bool {
    let name = name_in(host);
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|ours| matches(&ours.to_ascii_lowercase(), &name.to_ascii_lowercase()))
}

/// The name or address in a value of Host; empty for what stands in brackets and is none.
fn name_in(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return if address.parse::<IpAddr>().is_ok() { address } else { "" };
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether a page of another site has its visitor's browser ask (Fetch Metadata). Programs and old browsers do not say.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
}

/// What no answer goes without: nothing is guessed, framed, remembered by a proxy, or told to other sites.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, page::POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        // Who has said otherwise of his own answer has a reason.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// `/?refresh=15`: the page asks for itself again, for who has no script.
#[derive(serde::Deserialize)]
struct Asked {
    refresh: Option<u32>,
}

async fn root(State(feed): State<Arc<Feed>>, Query(asked): Query<Asked>) -> Html<String> {
    Html(feed.view().page(asked.refresh.map(|seconds| seconds.clamp(5, 3600))))
}

async fn status(State(source): State<Arc<dyn Source>>) -> impl IntoResponse {
    // Numbers and strings only: this serialises always.
    let body = serde_json::to_string_pretty(&source.status()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body)
}

async fn exposition(State(source): State<Arc<dyn Source>>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if metrics::takes_open_metrics(accept) {
        ([(header::CONTENT_TYPE, metrics::OPEN_METRICS)], source.metrics().encode())
    } else {
        ([(header::CONTENT_TYPE, metrics::PLAIN)], source.metrics().encode_plain())
    }
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
mod pages;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;
    use crate::daemon::setup::kit::tests::{here, kit};

    struct Fixed;

    impl Source for Fixed {
        fn status(&self) -> Status {
            Status { version: "1".into(), ..Status::default() }
        }

        fn metrics(&self) -> Metrics {
            // Many, so that the answer is larger than what a peer that does not read is sent.
            let metrics = Metrics::default();
            for account in 0..400 {
                metrics.account(&format!("a{account}@example.org")).sent(1);
            }
            metrics
        }
    }

    /// A connection to the pages, and what serves it.
    fn connect(stop: &CancellationToken) -> (Stream, JoinHandle<()>) {
        let (ours, theirs) = Stream::pair();
        let dir = tempfile::tempdir().unwrap();
        let kit = Arc::new(kit(dir.path(), &[], &[]));
        let routes = routes(Arc::default(), Arc::new(Fixed), Arc::default(), &kit, stop.clone());
        (theirs, tokio::spawn(serve(ours, here(), routes, stop.clone())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_too_little_is_closed() {
        for said in ["", "GET / HT", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
            let (mut peer, serving) = connect(&CancellationToken::new());
            peer.write_all(said.as_bytes()).await.unwrap();
            let began = Instant::now();
            let mut answer = String::new();
            peer.read_to_string(&mut answer).await.unwrap();
            serving.await.unwrap();
            assert_eq!(began.elapsed().as_secs(), HEAD_TIMEOUT.as_secs(), "{said}");
            assert_eq!(answer.contains("200 OK"), said.ends_with("\r\n\r\n"), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_reads_gives_its_place_back() {
        let (mut peer, serving) = connect(&CancellationToken::new());
        let began = Instant::now();
        peer.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        serving.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), LIFETIME.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_daemon_ends_what_rests() {
        let stop = CancellationToken::new();
        let (mut peer, serving) = connect(&stop);
        peer.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let began = Instant::now();
        stop.cancel();
        serving.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 0);
    }

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
