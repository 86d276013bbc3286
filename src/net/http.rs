//! One HTTP exchange as a client: for authorization servers, for what tells a provider's settings, and for a collector of spans; never
//! for mail.
//!
//! A connection an exchange, no redirects, no cookies; the whole of it within a time-out, the body within a limit (Law 8). Over TLS,
//! or in the clear to this computer itself; further only for who asks for just that ([`exchange_in_the_open`]).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use url::{Host, Url};

use super::dial::{DialError, Target, TlsMode, Trust, dial};

/// The longest body: tokens and settings are some KiB.
const MAX_BODY: usize = 256 * 1024;

/// Why there is no answer. Plain words, without anything of the request but the host.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("`{0}` is not an address that can be asked")]
    Address(String),
    #[error("{host} broke off: {reason}")]
    Broken { host: String, reason: String },
    #[error("{host} did not answer within {} s", after.as_secs())]
    TimedOut { host: String, after: Duration },
}

/// Sends `request` and reads the answer, whatever its status.
pub async fn exchange(
    request: Request<Vec<u8>>,
    trust: &Trust,
    timeout: Duration,
) -> Result<Response<Vec<u8>>, HttpError> {
    exchange_as_far(request, trust, timeout, Clear::Near).await
}

/// The same for what holds no secret: in the clear to other computers, too, if the address says http.
#[cfg(feature = "otel")]
pub async fn exchange_in_the_open(
    request: Request<Vec<u8>>,
    trust: &Trust,
    timeout: Duration,
) -> Result<Response<Vec<u8>>, HttpError> {
    exchange_as_far(request, trust, timeout, Clear::Anywhere).await
}

/// How far a request may go without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clear {
    /// No further than this computer.
    Near,
    #[cfg(feature = "otel")]
    Anywhere,
}

async fn exchange_as_far(
    request: Request<Vec<u8>>,
    trust: &Trust,
    timeout: Duration,
    clear: Clear,
) -> Result<Response<Vec<u8>>, HttpError> {
    let address = request.uri().to_string();
    let url = Url::parse(&address).map_err(|_| HttpError::Address(without_query(&address)))?;
    let target = target(&url, trust, clear).ok_or_else(|| HttpError::Address(without_query(&address)))?;
    let host = target.host.clone();
    let work = Box::pin(converse(request, &url, &target, timeout));
    tokio::time::timeout(timeout, work).await.unwrap_or(Err(HttpError::TimedOut { host, after: timeout }))
}

async fn converse(
    request: Request<Vec<u8>>,
    url: &Url,
    target: &Target,
    timeout: Duration,
) -> Result<Response<Vec<u8>>, HttpError> {
    let broken = |reason: String| HttpError::Broken { host: target.host.clone(), reason };
    let stream = dial(target, timeout).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.to_string()))?;
    let (mut parts, body) = request.into_parts();
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    parts.uri = path.parse().map_err(|_| HttpError::Address(without_query(url.as_str())))?;
    let authority = url.port().map_or_else(|| target.host.clone(), |port| format!("{}:{port}", bracketed(url)));
    let authority = HeaderValue::from_str(&authority).map_err(|_| HttpError::Address(target.host.clone()))?;
    parts.headers.insert(HOST, authority);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    parts.headers.insert(USER_AGENT, HeaderValue::from_static(concat!("mailweir/", env!("CARGO_PKG_VERSION"))));
    let answered = async {
        let answer = sender.send_request(Request::from_parts(parts, Full::new(Bytes::from(body)))).await;
        let (parts, body) = answer.map_err(|error| broken(error.to_string()))?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| broken(error.to_string()))?;
        Ok(Response::from_parts(parts, body.to_bytes().to_vec()))
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // Closed by the server, perhaps right behind the answer: what is here already decides.
        _ = connection => answered.await,
    }
}

/// Where the URL leads; `None` for what is neither https nor http as far as it may go.
fn target(url: &Url, trust: &Trust, clear: Clear) -> Option<Target> {
    let (host, near) = match url.host()? {
        Host::Domain(name) => (name.to_owned(), name == "localhost"),
        Host::Ipv4(ip) => (ip.to_string(), ip.is_loopback()),
        Host::Ipv6(ip) => (ip.to_string(), ip.is_loopback()),
    };
    let tls = match url.scheme() {
        "https" => TlsMode::Implicit,
        "http" if near || clear != Clear::Near => TlsMode::None,
        _ => return None,
    };
    Some(Target { host, port: url.port_or_known_default()?, tls, trust: trust.clone() })
}

fn bracketed(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// A query may hold what is nobody's business.
fn without_query(address: &str) -> String {
    address.split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    async fn ask(address: &str, timeout: Duration) -> Result<Response<Vec<u8>>, HttpError> {
        let request = Request::post(address).body(b"grant_type=x".to_vec()).unwrap();
        exchange(request, &Trust::Platform, timeout).await
    }

    /// A server that reads one request and answers with these bytes; gives the request.
    async fn answering(bytes: Vec<u8>) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"grant_type=x") {
                assert!(tcp.read_buf(&mut heard).await.unwrap() > 0);
            }
            tcp.write_all(&bytes).await.unwrap();
            String::from_utf8(heard).unwrap()
        });
        (port, served)
    }

    #[tokio::test]
    async fn a_request_is_answered_whatever_the_status() {
        let (port, served) = answering(b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{}".to_vec()).await;
        let answer = ask(&format!("http://127.0.0.1:{port}/token?a=b"), LONG).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_slice()), (400, &b"{}"[..]));
        let heard = served.await.unwrap();
        assert!(
            heard.starts_with("POST /token?a=b HTTP/1.1\r\n") && heard.contains(&format!("host: 127.0.0.1:{port}\r\n")),
            "{heard}"
        );
    }

    #[tokio::test]
    async fn a_body_without_end_is_cut() {
        let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        bytes.resize(MAX_BODY + 1000, b'x');
        let (port, _served) = answering(bytes).await;
        let error = ask(&format!("http://localhost:{port}/"), LONG).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    }

    #[tokio::test]
    async fn nothing_goes_in_the_clear_to_another_computer() {
        for address in ["http://example.org/token?secret", "ftp://localhost/", "http://192.0.2.1/"] {
            let error = ask(address, LONG).await.unwrap_err();
            assert!(matches!(error, HttpError::Address(_)) && !error.to_string().contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = ask(&format!("http://127.0.0.1:{port}/"), Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, HttpError::TimedOut { .. }), "{error}");
    }
}
