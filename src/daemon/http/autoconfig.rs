//! Answers to mail programs that set themselves up: Thunderbird's autoconfig, Outlook's Autodiscover.
//!
//! A program asks under names made of its address's domain: `autoconfig.DOMAIN` and `DOMAIN` (Thunderbird), `autodiscover.DOMAIN` and
//! `DOMAIN` (Outlook). So these answers, which hold nothing private, are given to those names of the accounts' domains as well as to our own;
//! whoever wants them found lets the local name server point them here.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::time::timeout;

use super::visitor::BODY_TIMEOUT;
use super::{is_ours, not_ours};
use crate::daemon::setup::autodiscover::{self, MAX_REQUEST, Refusal};
use crate::daemon::setup::kit::{Kit, Visitor, bare};
use crate::daemon::setup::{autoconfig, domain_of, is_domain};

/// What comes before the domain in the names programs ask under.
const PREFIXES: [&str; 2] = ["autoconfig.", "autodiscover."];

pub(super) fn routes(names: &Arc<[String]>, kit: &Arc<Kit>) -> Router {
    let guard = Guard { names: Arc::clone(names), kit: Arc::clone(kit) };
    Router::new()
        .route("/.well-known/autoconfig/mail/config-v1.1.xml", get(thunderbird))
        .route("/mail/config-v1.1.xml", get(thunderbird))
        // Programs spell it in more than one case.
        .route("/{directory}/{file}", post(outlook))
        .layer(middleware::from_fn_with_state(guard, ours_or_a_domains))
        .with_state(Arc::clone(kit))
}

#[derive(Clone)]
struct Guard {
    names: Arc<[String]>,
    kit: Arc<Kit>,
}

async fn ours_or_a_domains(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let host = host_of(request.headers());
    if host.is_empty() || is_ours(host, &guard.names) || guard.kit.serves_domain(domain_in(&bare(host))) {
        return next.run(request).await;
    }
    not_ours()
}

/// The domain in a name a program asks under.
fn domain_in(name: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// The value of Host; empty when there is none.
pub(super) fn host_of(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

#[derive(Deserialize)]
struct Asked {
    emailaddress: Option<String>,
}

async fn thunderbird(
    State(kit): State<Arc<Kit>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    let host = host_of(&headers);
    let named = bare(host);
    let domain = match &asked.emailaddress {
        Some(address) => domain_of(address),
        None => Some(domain_in(&named)).filter(|name| is_domain(name)),
    };
    let domain = domain.filter(|domain| kit.serves_domain(domain)).map(str::to_ascii_lowercase);
    let document = domain.and_then(|domain| autoconfig::document(&domain, &kit.offer(host, &visitor)));
    match document {
        Some(document) => ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], document).into_response(),
        None => (StatusCode::NOT_FOUND, "No account of that domain is served here.\n").into_response(),
    }
}

async fn outlook(
    State(kit): State<Arc<Kit>>,
    Extension(visitor): Extension<Visitor>,
    Path((directory, file)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !directory.eq_ignore_ascii_case("autodiscover") || !file.eq_ignore_ascii_case("autodiscover.xml") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, MAX_REQUEST)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return (StatusCode::PAYLOAD_TOO_LARGE, "The request is too long.\n").into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let answer = autodiscover::read(&body).and_then(|address| {
        let offer = kit.offer(host_of(&headers), &visitor);
        let known = domain_of(&address).is_some_and(|domain| kit.serves_domain(domain));
        if known && offer.serves() { Ok(autodiscover::settings(&address, &offer)) } else { Err(Refusal::NoSuchAddress) }
    });
    let answer = answer.unwrap_or_else(|refusal| {
        let time = format_description!("[hour]:[minute]:[second].[subsecond digits:7]");
        // The format has only parts a time has.
        autodiscover::refusal(refusal, &OffsetDateTime::now_utc().format(time).unwrap_or_default())
    });
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], answer).into_response()
}

#[cfg(test)]
mod tests {
    use hyper_util::service::TowerToHyperService;

    use super::*;
    use crate::daemon::setup::kit::tests::{kit, phone};

    const LISTENERS: [(&str, &str); 3] =
        [("imaps", "0.0.0.0:1993"), ("submissions", "0.0.0.0:1465"), ("http", "0.0.0.0:1080")];

    async fn ask(method: &str, host: &str, path: &str, body: impl Into<Body>) -> (u16, String) {
        let dir = tempfile::tempdir().unwrap();
        let kit = Arc::new(kit(dir.path(), &["mail.lan"], &LISTENERS));
        let names: Arc<[String]> = Arc::new(["mail.lan".to_owned()]);
        let routes = routes(&names, &kit).layer(Extension(phone()));
        let request = Request::builder().method(method).uri(path).header(header::HOST, host);
        let service = TowerToHyperService::new(routes);
        let answer = hyper::service::Service::call(&service, request.body(body.into()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn thunderbird_is_answered_under_its_names_and_ours() {
        let table = [
            ("mail.lan:1080", "/mail/config-v1.1.xml?emailaddress=ann%40example.org", 200),
            ("192.168.1.5", "/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=nobody@EXAMPLE.org", 200),
            ("autoconfig.example.org", "/mail/config-v1.1.xml?emailaddress=ann@example.org", 200),
            ("autoconfig.example.org", "/mail/config-v1.1.xml", 200),
            ("example.org", "/.well-known/autoconfig/mail/config-v1.1.xml", 200),
            ("mail.lan", "/mail/config-v1.1.xml", 404),
            ("mail.lan", "/mail/config-v1.1.xml?emailaddress=bob@other.example", 404),
            ("mail.lan", "/mail/config-v1.1.xml?emailaddress=%3Cb%3E@example.org", 404),
            ("evil.example", "/mail/config-v1.1.xml?emailaddress=ann@example.org", 421),
            ("autoconfig.evil.example", "/mail/config-v1.1.xml?emailaddress=ann@example.org", 421),
            ("mail.lan", "/mail/other.xml", 405),
        ];
        for (host, path, want) in table {
            let (status, body) = ask("GET", host, path, Body::empty()).await;
            assert_eq!(status, want, "{host}{path}: {body}");
            assert_eq!(status == 200, body.contains("<domain>example.org</domain>"), "{body}");
            assert!(!body.contains("ann"), "an address went out: {body}");
        }
    }

    #[tokio::test]
    async fn outlook_is_answered_whatever_the_case() {
        let request = |address: &str| {
            format!("<Autodiscover><Request><EMailAddress>{address}</EMailAddress></Request></Autodiscover>")
        };
        for path in
            ["/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml", "/AutoDiscover/AutoDiscover.XML"]
        {
            let (status, body) = ask("POST", "autodiscover.example.org", path, request("ann@example.org")).await;
            assert!(status == 200 && body.contains("<Server>mail.lan</Server>"), "{path}: {status} {body}");
        }
        let path = "/autodiscover/autodiscover.xml";
        let (status, body) = ask("POST", "mail.lan", path, request("bob@other.example")).await;
        assert!(status == 200 && body.contains("<ErrorCode>500</ErrorCode>"), "{body}");
        let (status, body) = ask("POST", "mail.lan", path, "<!DOCTYPE x [<!ENTITY a 'a'>]><x>&a;</x>").await;
        assert!(status == 200 && body.contains("<ErrorCode>600</ErrorCode>"), "{body}");
        assert_eq!(ask("POST", "mail.lan", path, vec![b'a'; MAX_REQUEST + 1]).await.0, 413);
        assert_eq!(ask("POST", "mail.lan", "/autodiscover/other.xml", "").await.0, 404);
        assert_eq!(ask("GET", "mail.lan", path, "").await.0, 405);
        assert_eq!(ask("POST", "evil.example", path, request("ann@example.org")).await.0, 421);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_not_waited_for() {
        let body = Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
        assert_eq!(ask("POST", "mail.lan", "/autodiscover/autodiscover.xml", body).await.0, 408);
    }
}
