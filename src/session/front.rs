//! What a listener hands to any client protocol: the connection, whom to ask about logins, whom to tell what happens.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::ServerConfig;

use super::backend;
use crate::net::Stream;
use crate::secret::Secret;

/// A connection as a listener hands it over.
#[derive(Debug)]
pub struct Accepted {
    pub stream: Stream,
    /// The port speaks TLS from the first byte; the handshake is made here.
    pub implicit_tls: bool,
    /// The policy lets this peer log in without TLS.
    pub plaintext_login: bool,
}

impl Accepted {
    /// The connection, after the handshake if its port begins with one; `None` if that fails: there is nobody to talk to.
    pub(crate) async fn begin(self, tls: Option<&Arc<ServerConfig>>) -> Option<Stream> {
        let Self { stream, implicit_tls, .. } = self;
        if !implicit_tls || stream.is_tls() {
            return Some(stream);
        }
        let peer = stream.peer_ip();
        match Box::pin(stream.start_tls_server(Arc::clone(tls?))).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!(%peer, %error, "TLS handshake failed");
                None
            }
        }
    }
}

/// Checks a name and password. Never asks upstream (a client can log in while the provider is away).
pub trait Login: Send + Sync + 'static {
    type Account: backend::Account;

    /// Verifies; takes as long as the policy on failed logins wants it to take.
    fn verify(
        &self,
        peer: IpAddr,
        user: &str,
        password: &Secret,
    ) -> impl Future<Output = Result<Self::Account, LoginError>> + Send;
}

/// Why a login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// No such user or not the password; which of both is not told.
    Wrong,
    /// Too many failures from this address or network.
    Slowed,
    /// The account cannot be served now, whatever the password.
    Unavailable,
    /// Refused for a reason of the server's own, in its own words.
    Refused { code: Option<&'static str>, text: &'static str },
}

/// Hears what sessions do, for metrics and the list of who is connected. Called on the session's task: must be quick.
pub trait Observer: Send + Sync + 'static {
    fn session_opened(&self);
    fn session_closed(&self);
    /// A command was answered; `outcome` is `ok`, `no` or `bad`.
    fn command(&self, name: &'static str, outcome: &'static str, took: Duration);
    /// What the client says it is (RFC 2971): its own words, of any length. Either may be empty.
    fn program(&self, _name: &str, _version: &str) {}
    /// The mailbox it has open now, as it names it.
    fn selected(&self, _mailbox: Option<&str>) {}
}

/// An observer that does not listen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn session_opened(&self) {}
    fn session_closed(&self) {}
    fn command(&self, _name: &'static str, _outcome: &'static str, _took: Duration) {}
}

/// Counts a session as open for as long as it lives.
pub(crate) struct Open(Arc<dyn Observer>);

impl Open {
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        observer.session_opened();
        Self(observer)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.session_closed();
    }
}

/// Whether a first line is a web client's, an SMTP client's or a TLS greeting on a plain port. A web page may make a browser send
/// mail commands to a local port as the body of a request: nothing that follows such a beginning is run.
pub(crate) fn is_other_protocol(line: &[u8]) -> bool {
    let word = line.split(|b| *b == b' ').next().unwrap_or_default();
    let methods: [&[u8]; 11] =
        [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH", b"TRACE", b"EHLO", b"HELO"];
    line.starts_with(b"\x16\x03") || methods.contains(&word) || line.windows(5).any(|part| part == b"HTTP/")
}
