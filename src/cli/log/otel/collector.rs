//! The way to the collector: [`crate::net::http`], on the daemon's runtime, as the SDK's own thread is none of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;
use url::Url;

use crate::config::Otel;
use crate::net::http::{exchange, exchange_in_the_open};
use crate::net::trust::Trust;
use crate::secret::SecretRef;

/// Why the last request was in vain, in words: the crate above keeps a status at most.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(Arc<Mutex<Option<String>>>);

impl Said {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }
}

#[derive(Debug)]
pub(super) struct Collector {
    runtime: Handle,
    way: Arc<Way>,
    said: Said,
}

struct Way {
    headers: Vec<(HeaderName, SecretRef)>,
    /// The headers with their secrets, until the collector refuses them.
    resolved: Mutex<Option<HeaderMap>>,
    trust: Trust,
    timeout: Duration,
}

/// Shows no header.
impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Collector {
    /// Within the runtime that is to carry the requests.
    pub(super) fn new(settings: &Otel, timeout: Duration) -> (Self, Said) {
        let trust = settings.ca_file.clone().map_or(Trust::Platform, Trust::CaFile);
        let way = Way { headers: settings.headers.clone(), resolved: Mutex::default(), trust, timeout };
        let said = Said::default();
        (Self { runtime: Handle::current(), way: Arc::new(way), said: said.clone() }, said)
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let way = Arc::clone(&self.way);
        let sent = self.runtime.spawn(async move { way.send(request).await }).await;
        match sent.unwrap_or_else(|_| Err("mailweir is ending".into())) {
            Ok(answer) => {
                if !answer.status().is_success() {
                    self.said.set(format!("it answers {}", answer.status()));
                }
                Ok(answer)
            }
            Err(words) => {
                self.said.set(words.clone());
                Err(words.into())
            }
        }
    }
}

impl Way {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let (mut parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| error.to_string())?;
        parts.headers.extend(self.resolved().await?);
        // The configuration has no headers there; $OTEL_EXPORTER_OTLP_HEADERS may.
        let is_secret = parts.headers.keys().any(|name| *name != CONTENT_TYPE && *name != USER_AGENT);
        if is_secret && Otel::is_exposed(&url) {
            return Err(
                "OTEL_EXPORTER_OTLP_HEADERS would go there unencrypted; use the collector's https:// address".into()
            );
        }
        let request = Request::from_parts(parts, Vec::from(body));
        let answer = if Otel::is_exposed(&url) {
            exchange_in_the_open(request, &self.trust, self.timeout).await
        } else {
            exchange(request, &self.trust, self.timeout).await
        };
        let answer = answer.map_err(|error| error.to_string())?;
        if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            // Perhaps there is another token by now.
            self.keep(None);
        }
        Ok(answer.map(Bytes::from))
    }

    async fn resolved(&self) -> Result<HeaderMap, String> {
        let kept = self.resolved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(headers) = kept {
            return Ok(headers);
        }
        let headers = resolve(&self.headers).await?;
        self.keep(Some(headers.clone()));
        Ok(headers)
    }

    fn keep(&self, headers: Option<HeaderMap>) {
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = headers;
    }
}

async fn resolve(headers: &[(HeaderName, SecretRef)]) -> Result<HeaderMap, String> {
    let mut resolved = HeaderMap::new();
    for (name, kept) in headers {
        let secret = kept.resolve().await.map_err(|error| error.to_string())?;
        let mut value = HeaderValue::from_bytes(secret.expose())
            .map_err(|_| format!("what {kept} holds for the header {name} cannot stand in a header"))?;
        value.set_sensitive(true);
        resolved.insert(name.clone(), value);
    }
    Ok(resolved)
}
