//! How a person consents, once: with a browser on this computer or another, or with a code on another device.
//!
//! With a browser (RFC 6749 §4.1 with PKCE, RFC 7636): [`begin`] makes the address to visit; the browser comes back to
//! [`Loopback`] (RFC 8252 §7.3), or its owner pastes where it ended; [`Pending::finish`] trades that for tokens. With a device
//! (RFC 8628): [`device`] gives the code to type elsewhere, [`Device::wait`] asks until it was.
//!
//! `state` is compared in every case but a bare pasted code: a page on the web must not slip us a consent to its own account.

use std::net::Ipv4Addr;
use std::time::Duration;

use oauth2::{
    AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, StandardDeviceAuthorizationResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use url::Url;

use super::server::received;
use super::{Fault, Server, Tokens};

/// The longest head of a request to the loopback listener: a code is some hundred octets, a browser's cookies for localhost some KiB.
const MAX_HEAD: usize = 64 * 1024;
/// How long a browser may take for its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A consent that has been asked for.
#[derive(Debug)]
pub struct Pending {
    /// What to visit.
    pub url: Url,
    redirect: RedirectUrl,
    verifier: PkceCodeVerifier,
    state: CsrfToken,
}

/// Begins a consent whose browser shall end at `redirect`. `address` is offered as the name to log in with.
///
/// # Errors
/// [`Fault::Client`] for a configuration that has no such flow.
pub async fn begin(server: &Server, redirect: &str, address: &str) -> Result<Pending, Fault> {
    let client = server.client().await?;
    let redirect =
        RedirectUrl::new(redirect.to_owned()).map_err(|error| Fault::Client(format!("`redirect_url`: {error}")))?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let client = client.set_redirect_uri(redirect.clone());
    let asked = client.authorize_url(CsrfToken::new_random);
    let asked = asked.map_err(|_| Fault::Client("the provider has no consent by browser (`authorize_url`)".into()))?;
    let asked = asked.add_scopes(server.scopes()).set_pkce_challenge(challenge).add_extra_param("login_hint", address);
    let more = server.settings.parameters.iter();
    let asked = more.fold(asked, |asked, (name, value)| asked.add_extra_param(name, value));
    let (url, state) = asked.url();
    Ok(Pending { url, redirect, verifier, state })
}

/// What a browser came back with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Returned {
    Code(String),
    Refused(String),
    /// Not the answer to what was asked.
    Foreign,
}

impl Pending {
    /// Whether this address, or bare code, answers what was asked.
    pub fn is_answer(&self, pasted: &str) -> bool {
        self.read(pasted) != Returned::Foreign
    }

    /// Trades what the browser ended with, an address or the bare code of it, for tokens.
    pub async fn finish(self, server: &Server, returned: &str) -> Result<Tokens, Fault> {
        let code = match self.read(returned) {
            Returned::Code(code) => code,
            Returned::Refused(words) => return Err(Fault::Consent(format!("the consent was not given: {words}"))),
            Returned::Foreign => return Err(Fault::Consent("that is not the answer to what was asked".into())),
        };
        let client = server.client().await?.set_redirect_uri(self.redirect);
        let http = server.http();
        let verifier = self.verifier.secret().clone();
        let exchange = client.exchange_code(AuthorizationCode::new(code.clone())).set_pkce_verifier(self.verifier);
        let answer = exchange.request_async(&http).await;
        Ok(received(&answer.map_err(|fault| server.fault(&fault, &[&code, &verifier]))?))
    }

    fn read(&self, returned: &str) -> Returned {
        let returned = returned.trim();
        let bare = !returned.is_empty() && !returned.contains(['?', '&', ':', ' ']);
        let Ok(url) = Url::parse(returned) else {
            return if bare { Returned::Code(returned.to_owned()) } else { Returned::Foreign };
        };
        let value = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        if value("state").as_deref() != Some(self.state.secret()) {
            return Returned::Foreign;
        }
        match (value("code"), value("error")) {
            (Some(code), _) => Returned::Code(code),
            (None, Some(error)) => {
                let words =
                    value("error_description").map_or_else(|| error.clone(), |words| format!("{error}: {words}"));
                Returned::Refused(words.chars().filter(|c| !c.is_control()).take(300).collect())
            }
            (None, None) => Returned::Foreign,
        }
    }
}

/// Waits on this computer for the browser to come back.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    redirect: Url,
}

impl Loopback {
    /// Listens where the browser will be sent: `redirect_url` of the configuration if that is this computer, else a free port.
    ///
    /// # Errors
    /// In plain words: the port is taken, or `redirect_url` is elsewhere (then the address has to be pasted).
    pub async fn listen(server: &Server) -> Result<Self, String> {
        let fixed = server.settings.redirect_url.as_deref();
        let mut redirect = Url::parse(fixed.unwrap_or("http://127.0.0.1/")).map_err(|error| error.to_string())?;
        if !matches!(redirect.host_str(), Some("127.0.0.1" | "localhost")) || redirect.scheme() != "http" {
            return Err(format!("{redirect} is not on this computer"));
        }
        let port = if fixed.is_some() { redirect.port_or_known_default().unwrap_or(0) } else { 0 };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(|error| format!("port {port} of this computer cannot be used: {error}"))?;
        if fixed.is_none() {
            let port = listener.local_addr().map_err(|error| error.to_string())?.port();
            let named = redirect.set_host(Some(&server.settings.redirect_host)).is_ok()
                && redirect.set_port(Some(port)).is_ok();
            if !named {
                return Err("the redirect to this computer cannot be named".into());
            }
        }
        Ok(Self { listener, redirect })
    }

    /// Where the browser is to be sent.
    pub fn redirect(&self) -> &str {
        self.redirect.as_str()
    }

    /// The address a browser came back with; others that look in (for an icon, or from somewhere else) are sent away.
    pub async fn answer(&self, pending: &Pending) -> Result<String, std::io::Error> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            // One at a time is enough; a visitor who says nothing holds the next up for some seconds.
            if let Some(address) = self.visit(stream, pending).await {
                return Ok(address);
            }
        }
    }

    async fn visit(&self, mut stream: TcpStream, pending: &Pending) -> Option<String> {
        let path = timeout(HEAD_TIMEOUT, head(&mut stream)).await.ok().flatten()?;
        let address = self.redirect.join(&path).ok().filter(|url| url.path() == self.redirect.path());
        let address = address.map(String::from).filter(|address| pending.is_answer(address));
        let (status, words) = match &address {
            Some(_) => ("200 OK", "That is all. You can close this window and go back to mailweir."),
            None => ("404 Not Found", "There is nothing here."),
        };
        let page = format!(
            "<!doctype html><meta charset=utf-8><title>mailweir</title><p style='font:1.2em sans-serif'>{words}"
        );
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nReferrer-Policy: no-referrer\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{page}",
            page.len()
        );
        // The code is here whether or not the browser waits for its page.
        let _ = timeout(HEAD_TIMEOUT, async {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        })
        .await;
        address
    }
}

/// The path and query of a GET.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let line = std::str::from_utf8(head.split(|b| *b == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    (words.next() == Some("GET")).then_some(())?;
    words.next().filter(|path| path.starts_with('/')).map(str::to_owned)
}

/// A consent that is given on another device.
#[derive(Debug)]
pub struct Device {
    details: StandardDeviceAuthorizationResponse,
}

/// Begins a consent on another device.
pub async fn device(server: &Server) -> Result<Device, Fault> {
    let client = server.client().await?;
    let asked = client.exchange_device_code();
    let asked = asked.map_err(|_| Fault::Client("the provider has no device flow (`device_url`)".into()))?;
    let http = server.http();
    let details = asked.add_scopes(server.scopes()).request_async(&http).await;
    Ok(Device { details: details.map_err(|fault| server.fault(&fault, &[]))? })
}

impl Device {
    /// Where to go.
    pub fn address(&self) -> &str {
        self.details.verification_uri().as_str()
    }

    /// What to type there.
    pub fn code(&self) -> &str {
        self.details.user_code().secret()
    }

    /// How long the code holds.
    pub fn expires_in(&self) -> Duration {
        self.details.expires_in()
    }

    /// Asks, at the distances the server wants, until the code was typed or has ended.
    pub async fn wait(self, server: &Server) -> Result<Tokens, Fault> {
        let client = server.client().await?;
        let http = server.http();
        let asked = client.exchange_device_access_token(&self.details);
        let answer = asked.request_async(&http, tokio::time::sleep, None).await;
        answer.map(|answer| received(&answer)).map_err(|fault| device_fault(server, &fault))
    }
}

/// The device flow has errors of its own (RFC 8628 §3.5).
fn device_fault(
    server: &Server,
    fault: &oauth2::RequestTokenError<super::server::Failed, oauth2::DeviceCodeErrorResponse>,
) -> Fault {
    use oauth2::{DeviceCodeErrorResponseType as Refusal, RequestTokenError};
    match fault {
        RequestTokenError::ServerResponse(refused) => match refused.error() {
            Refusal::AccessDenied => Fault::Consent("the consent was not given".into()),
            Refusal::ExpiredToken => Fault::Consent("the code has ended; begin again".into()),
            other => Fault::Client(format!("the authorization server says {}", other.as_ref())),
        },
        RequestTokenError::Request(failed) => Fault::Away(failed.to_string()),
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            Fault::Away(format!("{} does not answer as an authorization server", server.settings.token_url))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::settings;
    use super::*;

    async fn pending() -> (Server, Loopback, Pending) {
        let server = Server::of(&settings("http://127.0.0.1:1/"));
        let loopback = Loopback::listen(&server).await.unwrap();
        let pending = begin(&server, loopback.redirect(), "ann@example.org").await.unwrap();
        (server, loopback, pending)
    }

    #[tokio::test]
    async fn the_request_has_what_it_needs() {
        let (_, loopback, pending) = pending().await;
        let value = |name: &str| pending.url.query_pairs().find(|(key, _)| key == name).map(|(_, v)| v.into_owned());
        assert_eq!(value("code_challenge_method").as_deref(), Some("S256"));
        assert_eq!(value("redirect_uri").as_deref(), Some(loopback.redirect()));
        assert_eq!(value("login_hint").as_deref(), Some("ann@example.org"));
        assert_eq!(value("scope").as_deref(), Some("mail"));
        assert_eq!(value("state").as_deref(), Some(pending.state.secret().as_str()));
        assert!(!pending.url.as_str().contains(pending.verifier.secret()));
    }

    #[tokio::test]
    async fn only_the_answer_to_what_was_asked_is_taken() {
        let (_, _, pending) = pending().await;
        let state = pending.state.secret();
        let table = [
            (format!("http://127.0.0.1/?code=abc&state={state}"), Returned::Code("abc".into())),
            (format!("https://elsewhere.example/x?state={state}&code=a%2Fb "), Returned::Code("a/b".into())),
            ("http://127.0.0.1/?code=abc&state=other".into(), Returned::Foreign),
            ("http://127.0.0.1/?code=abc".into(), Returned::Foreign),
            ("4/0Ab-cd_e".into(), Returned::Code("4/0Ab-cd_e".into())),
            (
                format!("http://127.0.0.1/?error=access_denied&error_description=no%20thanks&state={state}"),
                Returned::Refused("access_denied: no thanks".into()),
            ),
            (String::new(), Returned::Foreign),
            ("what now?".into(), Returned::Foreign),
        ];
        for (text, want) in table {
            assert_eq!(pending.read(&text), want, "{text}");
        }
    }

    #[tokio::test]
    async fn the_browser_is_waited_for_and_others_are_sent_away() {
        let (_, loopback, pending) = pending().await;
        let port = loopback.listener.local_addr().unwrap().port();
        let state = pending.state.secret().clone();
        let visits = tokio::spawn(async move {
            let mut answers = Vec::new();
            for path in
                ["/favicon.ico".to_owned(), "/?code=x&state=forged".into(), format!("/?code=right&state={state}")]
            {
                let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
                let mut answer = String::new();
                tcp.read_to_string(&mut answer).await.unwrap();
                answers.push(answer.split("\r\n").next().unwrap_or_default().to_owned());
            }
            answers
        });
        let address = loopback.answer(&pending).await.unwrap();
        assert!(address.contains("code=right"), "{address}");
        assert_eq!(visits.await.unwrap(), ["HTTP/1.1 404 Not Found", "HTTP/1.1 404 Not Found", "HTTP/1.1 200 OK"]);
    }
}
