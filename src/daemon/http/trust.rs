//! `/trust`: what a device needs to trust our certificate, and the settings, for a person with a phone in his hand.
//!
//! Served in the clear as well: whoever does not trust the certificate yet cannot come by TLS. That is no loss of safety where the
//! fingerprint is compared with the one shown on this computer, and the page says so. There is nothing secret here, and nothing changes
//! anything; the only thing taken in is a mail address, and it goes nowhere but into the profile that is sent back.

use std::sync::{Arc, LazyLock};

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::autoconfig::host_of;
use super::trust_page::{self, STYLE};
use super::{is_ours, not_ours};
use crate::daemon::setup::apple::{self, Mailbox};
use crate::daemon::setup::kit::{Kit, Visitor};
use crate::daemon::setup::{Protocol, domain_of};

/// The only style allowed is the one written here, by its hash (CSP 3 §2.3.1); no script, no picture, nothing from elsewhere.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

pub(super) fn routes(names: &Arc<[String]>, kit: &Arc<Kit>) -> Router {
    Router::new()
        .route("/trust", get(page))
        .route("/trust/ca.pem", get(pem))
        .route("/trust/ca.crt", get(der))
        .route("/trust/mailweir.mobileconfig", get(profile))
        .layer(middleware::from_fn_with_state(Arc::clone(names), guarded))
        .with_state(Arc::clone(kit))
}

async fn guarded(State(names): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let host = host_of(request.headers());
    if !host.is_empty() && !is_ours(host, &names) {
        return not_ours();
    }
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

async fn page(State(kit): State<Arc<Kit>>, Extension(visitor): Extension<Visitor>, headers: HeaderMap) -> Html<String> {
    Html(trust_page::render(&kit, &visitor, host_of(&headers)))
}

async fn pem(State(kit): State<Arc<Kit>>) -> Response {
    let file = kit.authority().map(|(pem, _)| pem.into_bytes());
    download(file, "application/x-pem-file", "mailweir-ca.pem")
}

async fn der(State(kit): State<Arc<Kit>>) -> Response {
    download(kit.authority_der(), "application/x-x509-ca-cert", "mailweir-ca.crt")
}

fn download(file: Option<Vec<u8>>, kind: &'static str, name: &str) -> Response {
    let Some(file) = file else {
        let words = "The certificate in use is one of the owner's own; there is no authority to trust.\n";
        return (StatusCode::NOT_FOUND, words).into_response();
    };
    let disposition = format!("attachment; filename=\"{name}\"");
    ([(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)], file).into_response()
}

#[derive(Deserialize)]
struct Wanted {
    emailaddress: Option<String>,
}

/// The authority, and the account of the address if one is given. Any address of a domain served here gets its profile: who
/// has an account and who has not cannot be told from the answer.
async fn profile(
    State(kit): State<Arc<Kit>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response {
    let authority = kit.authority_der();
    let address = wanted.emailaddress.as_deref().map(str::trim).filter(|address| !address.is_empty());
    if let Some(address) = address
        && !domain_of(address).is_some_and(|domain| kit.serves_domain(domain))
    {
        return (StatusCode::NOT_FOUND, "No account of that domain is served here.\n").into_response();
    }
    if address.is_none() && authority.is_none() {
        return download(None, apple::CONTENT_TYPE, "");
    }
    let mailboxes = address.map(|address| Mailbox { address: address.to_owned(), password: None });
    let offer = kit.offer(host_of(&headers), &visitor);
    // Read by POP3 only where nothing else is served.
    let incoming = if apple::can_serve(&offer, Protocol::Imap) { Protocol::Imap } else { Protocol::Pop3 };
    match apple::profile(authority.as_deref(), &offer, incoming, mailboxes.as_slice()) {
        // Not as an attachment: Safari installs what it shows.
        Ok(profile) => ([(header::CONTENT_TYPE, apple::CONTENT_TYPE)], profile).into_response(),
        Err(error) => (StatusCode::NOT_FOUND, format!("There is no profile: {error}.\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use hyper_util::service::TowerToHyperService;

    use super::*;
    use crate::daemon::setup::kit::tests::{here, kit, phone};

    const LISTENERS: [(&str, &str); 4] = [
        ("imaps", "0.0.0.0:1993"),
        ("submissions", "0.0.0.0:1465"),
        ("pop3", "127.0.0.1:1110"),
        ("http", "0.0.0.0:1080"),
    ];

    async fn get(visitor: Visitor, host: &str, path: &str) -> (u16, HeaderMap, String) {
        let dir = tempfile::tempdir().unwrap();
        let kit = Arc::new(kit(dir.path(), &["mail.lan"], &LISTENERS));
        let names: Arc<[String]> = Arc::new(["mail.lan".to_owned()]);
        let service = TowerToHyperService::new(routes(&names, &kit).layer(Extension(visitor)));
        let request = Request::get(path).header(header::HOST, host).body(Body::empty()).unwrap();
        let answer = hyper::service::Service::call(&service, request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        (head.status.as_u16(), head.headers, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn strangers_see_no_address_and_no_port_they_cannot_reach() {
        let (status, headers, page) = get(phone(), "mail.lan:1080", "/trust").await;
        assert_eq!(status, 200);
        assert!(!page.contains("ann@") && !page.contains("example.org") && !page.contains("1110"), "{page}");
        assert!(page.contains("1993") && page.contains("mail.lan"));
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        let (_, _, page) = get(here(), "localhost:1080", "/trust").await;
        assert!(page.contains("ann@example.org"), "{page}");
    }

    #[tokio::test]
    async fn downloads() {
        let (status, headers, body) = get(phone(), "mail.lan", "/trust/ca.pem").await;
        assert!(status == 200 && body.starts_with("-----BEGIN CERTIFICATE-----") && !body.contains("PRIVATE"));
        assert_eq!(headers[header::CONTENT_DISPOSITION], "attachment; filename=\"mailweir-ca.pem\"");
        let (status, headers, _) = get(phone(), "192.168.1.5", "/trust/ca.crt").await;
        assert_eq!((status, headers[header::CONTENT_TYPE].to_str().unwrap()), (200, "application/x-x509-ca-cert"));
        let path = "/trust/mailweir.mobileconfig";
        let (status, headers, body) = get(phone(), "mail.lan", path).await;
        assert_eq!((status, headers[header::CONTENT_TYPE].to_str().unwrap()), (200, apple::CONTENT_TYPE));
        assert!(body.contains("com.apple.security.root") && !body.contains("com.apple.mail.managed"));
        for (address, want) in
            [("ann@example.org", 200), ("nobody@example.org", 200), ("ann@other.example", 404), ("ann", 404)]
        {
            let (status, _, body) = get(phone(), "mail.lan", &format!("{path}?emailaddress={address}")).await;
            assert_eq!(status, want, "{address}");
            assert_eq!(body.contains("<string>mail.lan</string>"), want == 200, "{body}");
            assert!(!body.contains("Password</key>\n\t\t\t<string>"), "{body}");
        }
        assert_eq!(get(phone(), "evil.example", "/trust").await.0, 421);
        assert_eq!(get(phone(), "evil.example", "/trust/ca.pem").await.0, 421);
    }
}
