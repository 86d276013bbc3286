//! Service accounts: an application that proves who it is, and for whom it acts, by a signed assertion (RFC 7523 §2.1), as Google's
//! organisations let one read their mailboxes (domain-wide delegation). Nobody is asked, and there is no refresh token: each access token is
//! asked for with a new assertion.
//!
//! The key is the JSON file the provider gives out. Of it the address and the private key are used; where tokens are had is the
//! configuration's word, so that a file from elsewhere sends nothing elsewhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use http::header::CONTENT_TYPE;
use oauth2::RequestTokenError;
use oauth2::basic::{BasicErrorResponse, BasicTokenResponse};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::json;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::server::{Failed, RequestFault};
use super::{Fault, Server};
use crate::config::OAuthGrant;
use crate::secret::Secret;

/// The grant's name (RFC 7523 §2.1).
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long an assertion holds: it is used at once, and the two clocks may differ by some minutes. Google bears an hour at most.
const HOLDS: Duration = Duration::from_secs(10 * 60);
/// So long before our time it was made: a server whose clock is behind ours refuses what is of the future.
const BEFORE: Duration = Duration::from_secs(30);

/// The provider's key file. What else stands in it is of no use here.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
}

/// Who acts, and what that is proved with.
pub(super) struct ServiceKey {
    name: String,
    id: Option<String>,
    pair: RsaKeyPair,
}

impl ServiceKey {
    /// Reads a key file. The error is plain words, and nothing of the file.
    pub(super) fn read(file: &Secret) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; it is the JSON file the provider gives for a service account");
        let file: KeyFile =
            serde_json::from_slice(file.expose()).map_err(|_| wrong("it is no key of a service account"))?;
        if file.kind.as_deref().is_some_and(|kind| kind != "service_account") {
            return Err(wrong("it is the key of something else than a service account"));
        }
        let pem = Zeroizing::new(file.private_key);
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
        let key = key.map_err(|_| wrong("its private_key is no PKCS #8 key in PEM"))?;
        // ring takes RSA keys of 2048 bits and more; providers give 2048.
        let pair =
            RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| wrong("its private_key is no RSA key"))?;
        Ok(Self { name: file.client_email, id: file.private_key_id, pair })
    }

    /// The assertion: a JWT signed by RS256 (RFC 7519, RFC 7515), for `audience`, which is where it is sent, on behalf of `subject`.
    fn assertion(&self, audience: &str, subject: &str, scopes: &str, now: SystemTime) -> Result<Secret, String> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let made = since.saturating_sub(BEFORE).as_secs();
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let (Some(id), Some(header)) = (&self.id, header.as_object_mut()) {
            header.insert("kid".into(), id.as_str().into());
        }
        let mut id = [0; 16];
        ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut id)
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        let claims = json!({
            "iss": self.name,
            "sub": subject,
            "scope": scopes,
            "aud": audience,
            "iat": made,
            "exp": (since + HOLDS).as_secs(),
            "jti": URL_SAFE_NO_PAD.encode(id),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut text = Zeroizing::new(format!("{}.{}", part(&header), part(&claims)));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| "the key cannot sign".to_owned())?;
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(Secret::new(text.as_bytes()))
    }
}

fn ours(words: String) -> Fault {
    Fault::Client(format!("the service account's key: {words}"))
}

impl Server {
    /// The key of a service account, where this is one. A fault is ours: nothing was asked.
    pub(super) async fn service_key(&self) -> Result<Option<ServiceKey>, Fault> {
        if self.settings.grant != OAuthGrant::ServiceAccount {
            return Ok(None);
        }
        let Some(reference) = &self.settings.key else { return Err(ours("none is set (`key`)".into())) };
        let file = reference.resolve().await.map_err(|error| ours(error.to_string()))?;
        ServiceKey::read(&file).map(Some).map_err(|words| ours(format!("{words} ({reference})")))
    }

    /// An access token for a service account, on behalf of the mailbox.
    pub(super) async fn service_account(&self, key: &ServiceKey) -> Result<BasicTokenResponse, Fault> {
        let settings = &self.settings;
        let scopes = settings.scopes.join(" ");
        let assertion =
            key.assertion(&settings.token_url, &settings.subject, &scopes, SystemTime::now()).map_err(ours)?;
        let assertion = std::str::from_utf8(assertion.expose()).map_err(|error| ours(error.to_string()))?;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT)
            .append_pair("assertion", assertion)
            .finish();
        let request = Request::post(&settings.token_url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into_bytes())
            .map_err(|error| ours(format!("`token_url`: {error}")))?;
        let answer = self.ask(request).await.map_err(|fault| self.fault(&fault, &[assertion]))?;
        Ok(answer)
    }

    /// The answer of the token endpoint, read as the protocol's crate reads those to its own requests.
    async fn ask(&self, request: oauth2::HttpRequest) -> Result<BasicTokenResponse, RequestFault> {
        let answer = self.http()(request).await.map_err(RequestTokenError::Request)?;
        let (status, body) = (answer.status(), answer.body());
        if status.is_success() {
            return serde_json::from_slice(body).map_err(|_| RequestTokenError::Other("no token".into()));
        }
        match serde_json::from_slice::<BasicErrorResponse>(body) {
            Ok(refused) => Err(RequestTokenError::ServerResponse(refused)),
            Err(_) => Err(RequestTokenError::Request(Failed::Status(status))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_told_without_a_word_of_it() {
        let table = [
            ("hunter2", "no key of a service account"),
            ("{\"client_email\":\"a@b\",\"private_key\":\"hunter2\"}", "no PKCS #8 key"),
            ("{\"type\":\"authorized_user\",\"client_email\":\"a@b\",\"private_key\":\"hunter2\"}", "something else"),
            (
                "{\"client_email\":\"a@b\",\"private_key\":\"-----BEGIN PRIVATE KEY-----\\naHVudGVyMg==\\n-----END PRIVATE KEY-----\\n\"}",
                "no RSA key",
            ),
        ];
        for (text, want) in table {
            let words = ServiceKey::read(&Secret::new(text)).map(drop).unwrap_err();
            assert!(
                words.contains(want) && !words.contains("hunter2") && !words.contains("aHVudGVyMg"),
                "{text}: {words}"
            );
        }
    }
}
