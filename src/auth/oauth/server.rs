//! The authorization server of an account: what is asked of it, and what its refusals mean.
//!
//! The protocol is the `oauth2` crate's; the connection is ours ([`crate::net::http`]), so that roots, `ca_file` and limits are those
//! of everything else here. A refusal is believed only from an OAuth answer (RFC 6749 §5.2): a gateway's error page, a captive
//! portal or a server in trouble is "away".

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType as Refusal, BasicTokenResponse};
use oauth2::{
    AuthType, AuthUrl, ClientId, ClientSecret, DeviceAuthorizationUrl, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    HttpRequest, HttpResponse, RefreshToken, RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use zeroize::Zeroizing;

use super::service::ServiceKey;
use super::{Fault, Tokens};
use crate::config::{OAuth2, OAuthGrant};
use crate::net::http::{HttpError, exchange};
use crate::net::trust::Trust;
use crate::secret::Secret;

/// How long one request may take: the server may have to look far, a login waits for it.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The lifetime of an access token whose server does not tell: RFC 6749 §4.2.2's example is an hour, and half of it is on the safe side.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Longest text of a server that is shown.
const MAX_TEXT: usize = 300;

pub(super) type Client = BasicClient<EndpointMaybeSet, EndpointMaybeSet, EndpointNotSet, EndpointNotSet, EndpointSet>;
pub(super) type RequestFault = RequestTokenError<Failed, BasicErrorResponse>;

/// No OAuth answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("it answers with status {0}")]
    Status(StatusCode),
}

/// An account's authorization server.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) settings: OAuth2,
    trust: Trust,
    /// The application's secret as it was sent last: no answer's words are shown with it.
    secret: Arc<Mutex<Option<Zeroizing<String>>>>,
}

impl Server {
    pub fn of(settings: &OAuth2) -> Self {
        let trust = settings.ca_file.clone().map_or(Trust::Platform, Trust::CaFile);
        Self { settings: settings.clone(), trust, secret: Arc::default() }
    }

    /// Whether nobody's consent is needed.
    pub fn acts_by_itself(&self) -> bool {
        self.settings.grant != OAuthGrant::User
    }

    /// Whether a consent can be given on another device.
    pub fn has_device_flow(&self) -> bool {
        self.settings.device_url.is_some()
    }

    /// Where the browser must end, where that is registered to the letter.
    pub fn fixed_redirect(&self) -> Option<&str> {
        self.settings.redirect_url.as_deref()
    }

    /// Whether a consent can be given with a browser.
    pub fn has_browser_flow(&self) -> bool {
        self.settings.authorize_url.is_some()
    }

    /// A new access token for a refresh token. What comes back has a refresh token in any case: the new one, or this.
    pub(super) async fn refresh(&self, client: &Client, refresh: &Secret) -> Result<Tokens, Fault> {
        let refresh = text(refresh)?;
        let token = RefreshToken::new(refresh.clone());
        let http = self.http();
        let answer = client.exchange_refresh_token(&token).request_async(&http).await;
        let mut tokens = received(&answer.map_err(|fault| self.fault(&fault, &[&refresh]))?);
        tokens.refresh.get_or_insert_with(|| Secret::new(refresh.as_bytes()));
        Ok(tokens)
    }

    /// An access token for the application itself, or the service account.
    pub(super) async fn for_itself(&self, client: &Client, key: Option<&ServiceKey>) -> Result<Tokens, Fault> {
        let answer = if let Some(key) = key {
            self.service_account(key).await
        } else {
            let http = self.http();
            let asked = client.exchange_client_credentials().add_scopes(self.scopes());
            asked.request_async(&http).await.map_err(|fault| self.fault(&fault, &[]))
        };
        Ok(received(&answer.map_err(nobodys_consent)?))
    }

    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.settings.scopes.iter().cloned().map(Scope::new)
    }

    /// What is asked with. A fault is ours: nothing was sent.
    pub(super) async fn client(&self) -> Result<Client, Fault> {
        let settings = &self.settings;
        let wrong = |error: url::ParseError| Fault::Client(format!("an address under `oauth2` is wrong: {error}"));
        let authorize = settings.authorize_url.clone().map(AuthUrl::new).transpose().map_err(wrong)?;
        let device = settings.device_url.clone().map(DeviceAuthorizationUrl::new).transpose().map_err(wrong)?;
        let client = BasicClient::new(ClientId::new(settings.client_id.clone()))
            // In the body: every provider takes it there, not every one in the header.
            .set_auth_type(AuthType::RequestBody)
            .set_auth_uri_option(authorize)
            .set_device_authorization_url_option(device)
            .set_token_uri(TokenUrl::new(settings.token_url.clone()).map_err(wrong)?);
        let Some(reference) = &settings.client_secret else { return Ok(client) };
        let secret = reference.resolve().await;
        let secret = secret.map_err(|error| Fault::Client(format!("the application's secret: {error}")))?;
        let secret = Zeroizing::new(text(&secret)?);
        let client = client.set_client_secret(ClientSecret::new(secret.to_string()));
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret);
        Ok(client)
    }

    /// How the protocol's crate reaches the server.
    pub(super) fn http(
        &self,
    ) -> impl Fn(HttpRequest) -> BoxFuture<'static, Result<HttpResponse, Failed>> + Send + Sync {
        let trust = self.trust.clone();
        move |request| {
            let trust = trust.clone();
            async move { send(request, &trust).await }.boxed()
        }
    }

    /// What a failed request means; `sent` are the secrets of it, which the answer's words may repeat.
    pub(super) fn fault(&self, fault: &RequestFault, sent: &[&str]) -> Fault {
        let host = url::Url::parse(&self.settings.token_url).ok();
        let host = host.as_ref().and_then(url::Url::host_str).unwrap_or("the authorization server").to_owned();
        let refused = match fault {
            RequestTokenError::ServerResponse(refused) => refused,
            RequestTokenError::Request(Failed::Http(error)) => return Fault::Away(error.to_string()),
            RequestTokenError::Request(failed) => return Fault::Away(format!("{host}: {failed}")),
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                return Fault::Away(format!(
                    "{host} does not answer as an authorization server (is there a portal in between?)"
                ));
            }
        };
        let mut words = format!("{host} says {}", refused.error().as_ref());
        if let Some(description) = refused.error_description() {
            words.push_str(&format!(": {description}"));
        }
        let known = self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = sent.iter().copied().chain(known.as_ref().map(|secret| secret.as_str()));
        for secret in sent.filter(|secret| !secret.is_empty()) {
            let in_form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            words = words.replace(secret, "…").replace(&in_form, "…");
        }
        let words: String = words.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
        match refused.error() {
            Refusal::InvalidGrant => Fault::Consent(words),
            Refusal::InvalidClient
            | Refusal::UnauthorizedClient
            | Refusal::UnsupportedGrantType
            | Refusal::InvalidScope
            | Refusal::InvalidRequest => Fault::Client(words),
            // OpenID Connect's and Microsoft's words for "ask the user again" (OpenID Connect Core §3.1.2.6), and the user's own no.
            Refusal::Extension(word) => match word.as_str() {
                "interaction_required" | "login_required" | "consent_required" | "access_denied" | "expired_token" => {
                    Fault::Consent(words)
                }
                _ => Fault::Away(words),
            },
        }
    }
}

/// What is refused to an application that acts by itself is mended in the configuration or with the provider: nobody has consented.
fn nobodys_consent(fault: Fault) -> Fault {
    match fault {
        Fault::Consent(words) => Fault::Client(format!("the application itself is refused: {words}")),
        other => other,
    }
}

/// One request; a server that says it is in trouble, or has too much to do, has not answered it.
async fn send(request: HttpRequest, trust: &Trust) -> Result<HttpResponse, Failed> {
    let answer = exchange(request, trust, TIMEOUT).await?;
    let status = answer.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status.is_redirection() {
        return Err(Failed::Status(status));
    }
    Ok(answer)
}

/// The tokens of an answer.
pub(super) fn received(answer: &BasicTokenResponse) -> Tokens {
    // No lifetime at all says no more than none told.
    let lifetime = answer.expires_in().filter(|told| !told.is_zero()).unwrap_or(LIFETIME);
    Tokens {
        access: Secret::new(answer.access_token().secret().as_bytes()),
        expires: SystemTime::now() + lifetime.min(Duration::from_secs(366 * 86_400)),
        lifetime,
        refresh: answer.refresh_token().map(|token| Secret::new(token.secret().as_bytes())),
    }
}

/// Secrets go into forms, which are text.
fn text(secret: &Secret) -> Result<String, Fault> {
    let text = std::str::from_utf8(secret.expose());
    text.map(str::to_owned).map_err(|_| Fault::Client("a secret of this account's OAuth is not text".into()))
}
