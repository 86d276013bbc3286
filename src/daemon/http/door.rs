//! Who may see the owner's pages.
//!
//! This computer itself may: whoever can connect from here is its user. Everybody else needs the token of `[http] token`, given as
//! `Authorization: Bearer`, or once in the form or as `?token=`, after which a cookie stands for it. Without a token configured nobody
//! else comes in. A request that was handed on by a proxy or a forwarder is not this computer's, though it comes from here.
//!
//! Tokens are compared by their hashes, in constant time. Wrong ones are slowed as wrong passwords are. The cookie is derived from the
//! token, so it ends with it, and nothing is kept of who has one.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use super::page;
use crate::auth::Delays;
use crate::config;
use crate::daemon::setup::kit::Visitor;
use crate::secret::Secret;

/// The shortest token: 16 characters at random cannot be guessed within the answers' delays, nor within a lifetime without.
const SHORTEST: usize = 16;
/// The form has one field.
const FORM_MOST: usize = 8 * 1024;
/// And is sent in one go.
const FORM_WAIT: Duration = Duration::from_secs(10);
const COOKIE: &str = "mailweir";
/// A month: then the token is asked for again.
const COOKIE_AGE: u32 = 30 * 24 * 3600;
/// What a cookie's value is derived by.
const DERIVE: &str = "mailweir 2026-11-22 status page cookie";
/// Headers that say a request was handed on,
const HANDED_ON: [&str; 6] = ["forwarded", "via", "x-real-ip", "x-client-ip", "cf-connecting-ip", "true-client-ip"];
/// and what others begin with.
const FORWARDED: &str = "x-forwarded";

/// The token, and who was wrong lately. Shared by all requests; a reload may change the token.
#[derive(Default)]
pub(in crate::daemon) struct Door {
    key: RwLock<Option<Key>>,
    slow: Mutex<Delays>,
}

#[derive(Clone)]
struct Key {
    token: blake3::Hash,
    /// The cookie's value, and its hash.
    cookie: String,
    cookie_hash: blake3::Hash,
}

impl Key {
    fn of(token: &Secret) -> Self {
        let cookie = blake3::Hash::from_bytes(blake3::derive_key(DERIVE, token.expose())).to_hex().to_string();
        Self { token: blake3::hash(token.expose()), cookie_hash: blake3::hash(cookie.as_bytes()), cookie }
    }
}

/// What became of a request's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Right,
    Wrong,
    /// Too many wrong ones are waiting.
    Slowed,
}

impl Door {
    /// Fetches the token the configuration refers to.
    ///
    /// # Errors
    /// In words, when it cannot be had or is too short.
    pub(in crate::daemon) async fn token(http: &config::Http) -> Result<Option<Secret>, String> {
        let Some(reference) = &http.token else { return Ok(None) };
        let token = reference.resolve().await.map_err(|error| format!("http.token: {error}"))?;
        if token.expose().len() < SHORTEST {
            return Err(format!(
                "http.token: a token shorter than {SHORTEST} characters can be guessed. Make a longer one, for instance by `openssl rand -hex 24`."
            ));
        }
        Ok(Some(token))
    }

    /// Takes a token over; cookies of another end.
    pub(in crate::daemon) fn set(&self, token: Option<&Secret>) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = token.map(Key::of);
    }

    fn key(&self) -> Option<Key> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compares, at the pace of who was wrong lately; a wrong one is answered late.
    async fn compare(&self, peer: IpAddr, given: &[u8], want: blake3::Hash) -> Shown {
        let turn = self.slow.lock().unwrap_or_else(PoisonError::into_inner).reserve(peer, Instant::now());
        let Some(turn) = turn else { return Shown::Slowed };
        sleep_until(turn).await;
        // In constant time.
        if blake3::hash(given) == want {
            return Shown::Right;
        }
        let delay = {
            let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
            slow.failed(peer, Instant::now());
            slow.answer_delay(peer, Instant::now())
        };
        warn!(%peer, "a wrong token for the status pages");
        sleep(delay).await;
        Shown::Wrong
    }
}

/// Lets the owner in, and shows everybody else the door.
pub(super) async fn owner_only(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let Some(visitor) = request.extensions().get::<Visitor>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if visitor.is_owner() {
        return next.run(request).await;
    }
    let peer = visitor.peer;
    let wants_html = wants_html(request.headers());
    let Some(key) = door.key() else { return closed(wants_html) };
    if let Some(token) = asked_with(request.uri()) {
        let there = request.uri().path().to_owned();
        return match door.compare(peer, token.as_bytes(), key.token).await {
            Shown::Right => welcome(&key, &there, visitor.tls),
            other => refuse(other, wants_html),
        };
    }
    if let Some(token) = bearer(request.headers()) {
        return match door.compare(peer, token.as_bytes(), key.token).await {
            Shown::Right => next.run(request).await,
            other => refuse(other, wants_html),
        };
    }
    // An old cookie is no attempt at guessing: 256 bits of it.
    let cookies = cookies(request.headers());
    if cookies.iter().any(|cookie| blake3::hash(cookie.as_bytes()) == key.cookie_hash) {
        return next.run(request).await;
    }
    ask(StatusCode::UNAUTHORIZED, None, wants_html)
}

/// `POST /login`: the form.
pub(super) async fn login(State(door): State<Arc<Door>>, request: Request) -> Response {
    // Another site's page could have a visitor's browser show wrong tokens, until the right one is slowed too.
    if super::is_foreign(request.headers()) {
        return (StatusCode::FORBIDDEN, "For the status page only.\n").into_response();
    }
    let Some(Visitor { peer, tls, .. }) = request.extensions().get::<Visitor>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let Some(key) = door.key() else { return closed(true) };
    let Ok(Ok(body)) = timeout(FORM_WAIT, to_bytes(request.into_body(), FORM_MOST)).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let token = url::form_urlencoded::parse(&body).find(|(name, _)| name == "token");
    let token = token.map(|(_, token)| token.trim().to_owned()).unwrap_or_default();
    match door.compare(peer, token.as_bytes(), key.token).await {
        Shown::Right => welcome(&key, "/", tls),
        other => refuse(other, true),
    }
}

/// A request that was handed on is nobody's we know, and neither is one for a name that somebody in the network may have led here (DNS
/// rebinding): whatever comes after this shows it no more than a stranger. Proxies that say nothing of themselves mostly speak HTTP/1.0, and
/// forwarders of whole connections leave the address that was asked for, which is not loopback's.
pub(super) async fn handed_on(mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let is_led = host.is_some_and(|host| !is_this_computers(host));
    let is_told = |name: &str| HANDED_ON.contains(&name) || name.starts_with(FORWARDED);
    let is_proxied = request.version() < Version::HTTP_11 || headers.keys().any(|name| is_told(name.as_str()));
    if (is_led || is_proxied)
        && let Some(visitor) = request.extensions_mut().get_mut::<Visitor>()
    {
        visitor.handed_on = true;
    }
    next.run(request).await
}

/// Whether the value of Host is what somebody on this computer calls it: `localhost` or an address of loopback.
fn is_this_computers(host: &str) -> bool {
    let name = super::name_in(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn asked_with(uri: &Uri) -> Option<String> {
    let query = uri.query()?;
    url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token").map(|(_, token)| token.into_owned())
}

/// RFC 6750 §2.1.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value).collect()
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// On to the page, without the token in its address.
fn welcome(key: &Key, there: &str, tls: bool) -> Response {
    // What was given over TLS is not sent without.
    let secure = if tls { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={}; Path=/; Max-Age={COOKIE_AGE}; HttpOnly; SameSite=Strict{secure}", key.cookie);
    // A path that begins with two slashes would be another host's.
    let there = format!("/{}", there.trim_start_matches('/'));
    ([(header::SET_COOKIE, cookie)], Redirect::to(&there)).into_response()
}

fn refuse(shown: Shown, html: bool) -> Response {
    match shown {
        Shown::Slowed => ask(
            StatusCode::TOO_MANY_REQUESTS,
            Some("Too many wrong tokens came from your network. Wait a minute."),
            html,
        ),
        Shown::Wrong | Shown::Right => ask(StatusCode::UNAUTHORIZED, Some("That is not the token."), html),
    }
}

fn ask(status: StatusCode, wrong: Option<&str>, html: bool) -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"mailweir\"")];
    if !html {
        let words =
            wrong.unwrap_or("From another computer this needs the token of [http] token, as Authorization: Bearer.");
        return (status, challenge, format!("{words}\n")).into_response();
    }
    let wrong = wrong.map(|words| format!("<p class=\"wrong\" role=\"alert\">{words}</p>")).unwrap_or_default();
    let form = format!(
        "<p>From another computer this page needs the token that <code>[http] token</code> of the configuration refers to.</p>{wrong}\
         <form method=\"post\" action=\"/login\"><label for=\"token\">Token</label>\
         <input id=\"token\" name=\"token\" type=\"password\" required autocomplete=\"current-password\"><button>Show the page</button></form>"
    );
    (status, challenge, Html(outside(&form))).into_response()
}

/// There is no token, so there is no way in.
fn closed(html: bool) -> Response {
    let words = "This page is for the computer mailweir runs on.";
    if !html {
        return (StatusCode::UNAUTHORIZED, format!("{words} To see it from another one, set [http] token.\n"))
            .into_response();
    }
    let body = format!(
        "<p>{words} To see it from another one, its owner sets <code>[http] token</code> in the configuration and reloads mailweir.</p>\
         <p><a href=\"/trust\">Setting up a mail program</a> is for everybody.</p>"
    );
    (StatusCode::UNAUTHORIZED, Html(outside(&body))).into_response()
}

fn outside(body: &str) -> String {
    let body = format!(
        "<header><div class=\"brand\">{}<h1>mailweir</h1></div></header><main id=\"main\"><section class=\"card none\"><h2>The status page</h2>{body}</section></main>",
        page::LOGO
    );
    page::document("Token wanted · mailweir", "", "class=\"door\"", &body)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn credentials_are_found_where_they_stand() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; mailweir=one"));
        headers.append(header::COOKIE, HeaderValue::from_static("mailweir=two;mailweirx=no"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer  abc "));
        assert_eq!((cookies(&headers), bearer(&headers)), (vec!["one", "two"], Some("abc")));
        assert_eq!(asked_with(&"/x?a=b&token=c%2Bd".parse().unwrap()).as_deref(), Some("c+d"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic abc"));
        assert_eq!(bearer(&headers), None);
    }

    #[test]
    fn this_computer_is_called_by_loopback() {
        for host in ["localhost", "LOCALHOST.:1080", "127.0.0.1:1080", "127.0.0.2", "[::1]:1080", "[::ffff:127.0.0.1]"]
        {
            assert!(is_this_computers(host), "{host}");
        }
        for host in
            ["192.168.1.5:1080", "[fd00::5]", "mail.lan", "127.0.0.1.evil.example", "[localhost]", "", "0.0.0.0"]
        {
            assert!(!is_this_computers(host), "{host}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_tokens_are_answered_later_and_later() {
        let (door, peer) = (Door::default(), "192.0.2.7".parse().unwrap());
        door.set(Some(&Secret::new("0123456789abcdef")));
        let want = door.key().unwrap().token;
        let began = Instant::now();
        assert_eq!(door.compare(peer, b"0123456789abcdef", want).await, Shown::Right);
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..6 {
            assert_eq!(door.compare(peer, b"0123456789abcdex", want).await, Shown::Wrong);
        }
        assert!(began.elapsed() > Duration::from_secs(10), "{:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(door.compare(peer, b"0123456789abcdef", want).await, Shown::Right);
        assert!(began.elapsed() < Duration::from_secs(1), "who knows it is not held up");
    }

    #[tokio::test]
    async fn a_short_token_is_refused() {
        let http = |token: &str| config::Http {
            token: Some(crate::secret::SecretRef::Plain(Secret::new(token))),
            ..config::Http::default()
        };
        assert!(Door::token(&http("short")).await.unwrap_err().contains("openssl rand"));
        assert!(Door::token(&http("0123456789abcdef")).await.unwrap().is_some());
        assert_eq!(Door::token(&config::Http::default()).await.unwrap(), None);
    }
}
