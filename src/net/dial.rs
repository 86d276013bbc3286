//! Reaching a provider: name to addresses, addresses to a connection, TLS where it is wanted.
//!
//! [`dial()`] does all of it under one time-out and answers faults in plain words, because the text ends before a user: which host,
//! what happened, what to do. With [`TlsMode::StartTls`] it gives a plain connection; the caller speaks its protocol's STARTTLS
//! and then calls [`upgrade`], which never falls back to plain.
//!
//! Addresses are tried in the manner of RFC 8305 ("happy eyeballs"): families alternate, the next attempt starts
//! when the one before failed or has been silent for [`ATTEMPT_DELAY`], and the first to connect wins.
//!
//! Law 6: dialling takes no permit itself; whoever calls it holds one.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, Error as TlsError};

use super::socket::Tap;
use super::stream::Stream;
pub use super::trust::Trust;
use super::trust::{TrustError, client_config};
use crate::config::Server;
pub use crate::config::TlsMode;

/// How long one address may be silent before the next is tried beside it (RFC 8305 §5 recommends 250 ms).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// More addresses of one name than this are not tried: no provider publishes more, and each is a socket.
const MAX_ADDRESSES: usize = 16;

/// Where to connect and whom to believe there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// A host name or an IP address; also the name the certificate is checked against.
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    pub trust: Trust,
}

/// Why a connection did not come about. Each text names the host and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name server does not know the host, or could not be asked.
    #[error(
        "the name {host} could not be found ({reason}). Check the spelling of `host`, and whether this computer is online."
    )]
    Dns { host: String, reason: String },
    /// The host answered: nobody listens there.
    #[error("{host} refuses connections on port {port}. Check `port` and `tls`: 993 is implicit TLS, 143 is STARTTLS.")]
    Refused { host: String, port: u16 },
    /// No way to any of the host's addresses.
    #[error("{host} port {port} cannot be reached: {reason}. Check the network of this computer.")]
    Unreachable { host: String, port: u16, reason: String },
    /// Nothing came within the time allowed.
    #[error("{host} port {port} did not answer within {} s. The network, a firewall or the server is too slow or silent.", after.as_secs_f32())]
    TimedOut { host: String, port: u16, after: Duration },
    /// The certificate is not one we believe. Retrying changes nothing.
    #[error("the certificate of {host} is not trusted: {reason}. {mend}")]
    Certificate { host: String, reason: String, mend: String },
    /// The TLS handshake failed for another reason.
    #[error(
        "no encrypted connection to {host} port {port}: {reason}. If the port expects STARTTLS or plain text, set `tls` accordingly."
    )]
    Tls { host: String, port: u16, reason: String },
    /// `host` cannot be the name of a server.
    #[error("`{0}` is not a valid host name")]
    BadName(String),
    /// The roots to check against could not be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Target {
    /// The target a configured server stands for.
    pub fn of(server: &Server) -> Self {
        let trust = match (&server.ca_file, server.verify) {
            (_, false) => Trust::DangerNoVerify,
            (Some(file), true) => Trust::CaFile(file.clone()),
            (None, true) => Trust::Platform,
        };
        Self { host: server.host.clone(), port: server.port, tls: server.tls, trust }
    }
}

impl DialError {
    /// True when trying again cannot help until somebody changes the configuration or the server's certificate.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Certificate { .. } | Self::BadName(_) | Self::Trust(_))
    }
}

/// Connects to `target`, all within `timeout`: name, connection, and the TLS handshake when it is implicit.
pub async fn dial(target: &Target, timeout: Duration) -> Result<Stream, DialError> {
    dial_tapped(target, timeout, None).await
}

/// The same, with every octet that crosses the socket told to `tap`, the TLS handshake's too.
pub async fn dial_tapped(target: &Target, timeout: Duration, tap: Option<Arc<dyn Tap>>) -> Result<Stream, DialError> {
    // Boxed: the future of a connection attempt with TLS is large, and callers hold it in theirs.
    let attempt = Box::pin(async {
        let stream = connect(target).await?;
        let stream = match tap {
            Some(tap) => {
                // What is not read yet is not counted yet, and yet the other end counts it.
                if let Err(error) = stream.bound_unread() {
                    tracing::debug!(%error, "the system's own size of the receive buffer stays");
                }
                stream.tapped(tap)
            }
            None => stream,
        };
        match target.tls {
            TlsMode::Implicit => upgrade(stream, target).await,
            TlsMode::StartTls | TlsMode::None => Ok(stream),
        }
    });
    tokio::time::timeout(timeout, attempt)
        .await
        .unwrap_or_else(|_| Err(DialError::TimedOut { host: target.host.clone(), port: target.port, after: timeout }))
}

/// Makes a plain connection to `target` a TLS one, after the server has said yes to STARTTLS. The caller first makes sure by
/// [`Stream::ensure_nothing_buffered`] that no byte came after that yes, and sets a time-out.
pub async fn upgrade(stream: Stream, target: &Target) -> Result<Stream, DialError> {
    let name = ServerName::try_from(target.host.clone()).map_err(|_| DialError::BadName(target.host.clone()))?;
    let config = client_config(&target.trust).await?;
    stream.start_tls_client(config, name).await.map_err(|e| tls_error(&e, target))
}

async fn connect(target: &Target) -> Result<Stream, DialError> {
    // Parsed here so that a name no certificate can carry fails before a connection is spent on it.
    if ServerName::try_from(target.host.as_str()).is_err() {
        return Err(DialError::BadName(target.host.clone()));
    }
    let dns = |reason: String| DialError::Dns { host: target.host.clone(), reason };
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await.map_err(|e| dns(e.to_string()))?;
    let addresses = interleave(found);
    if addresses.is_empty() {
        return Err(dns("it has no address".into()));
    }
    let tcp = first_to_connect(addresses).await.map_err(|e| connect_error(&e, target))?;
    Stream::from_tcp(tcp).map_err(|e| connect_error(&e, target))
}

/// Alternates the families, the resolver's own first choice first (RFC 8305 §4).
fn interleave(found: impl IntoIterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut all: VecDeque<SocketAddr> = VecDeque::new();
    for address in found {
        if !all.contains(&address) {
            all.push_back(address);
        }
    }
    let Some(first_is_v6) = all.front().map(SocketAddr::is_ipv6) else { return all };
    let (mut a, mut b): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(|x| x.is_ipv6() == first_is_v6);
    let mut mixed = VecDeque::new();
    while !(a.is_empty() && b.is_empty()) {
        mixed.extend(a.pop_front());
        mixed.extend(b.pop_front());
    }
    mixed.truncate(MAX_ADDRESSES);
    mixed
}

async fn first_to_connect(mut addresses: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let mut running = FuturesUnordered::new();
    let mut last_error = None;
    loop {
        if let Some(next) = addresses.pop_front() {
            running.push(TcpStream::connect(next));
        }
        let silent = tokio::time::sleep(ATTEMPT_DELAY);
        tokio::select! {
            outcome = running.next() => match outcome {
                Some(Ok(tcp)) => return Ok(tcp),
                Some(Err(e)) => last_error = Some(e),
                None => {
                    // Nothing runs and (as one is started above if there is any) nothing is left to try.
                    return Err(last_error.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable)));
                }
            },
            () = silent, if !addresses.is_empty() => {}
        }
    }
}

fn connect_error(e: &io::Error, target: &Target) -> DialError {
    let (host, port) = (target.host.clone(), target.port);
    match e.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused { host, port },
        _ => DialError::Unreachable { host, port, reason: e.to_string() },
    }
}

fn tls_error(e: &io::Error, target: &Target) -> DialError {
    let (host, port) = (target.host.clone(), target.port);
    let Some(tls) = e.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        let reason = match e.kind() {
            io::ErrorKind::UnexpectedEof => "the server closed the connection during the TLS handshake".into(),
            _ => e.to_string(),
        };
        return DialError::Tls { host, port, reason };
    };
    match tls {
        TlsError::InvalidCertificate(fault) => {
            let (reason, mend) = certificate_words(fault);
            DialError::Certificate { host, reason, mend: mend.into() }
        }
        TlsError::InvalidMessage(_) => DialError::Tls { host, port, reason: "what the server sent is not TLS".into() },
        other => DialError::Tls { host, port, reason: other.to_string() },
    }
}

/// A certificate fault as somebody would tell it, and what to do about it.
fn certificate_words(fault: &CertificateError) -> (String, &'static str) {
    match fault {
        CertificateError::UnknownIssuer => (
            "it was issued by an authority this computer does not know".into(),
            "If the server is your own, give the certificate of its authority as `ca_file`; with a provider's server, something on the way may be intercepting the connection.",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "it has expired".into(),
            "Check the clock of this computer; if it is right, the server's operator must renew the certificate.",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("it is not valid yet".into(), "Check the clock of this computer.")
        }
        CertificateError::NotValidForName => {
            ("it is made for another name".into(), "Write `host` as the certificate names it.")
        }
        CertificateError::NotValidForNameContext { presented, .. } => (
            format!(
                "it is made for {}",
                if presented.is_empty() { "no name at all".into() } else { presented.join(", ") }
            ),
            "Write `host` as the certificate names it.",
        ),
        other => (
            TlsError::InvalidCertificate(other.clone()).to_string(),
            "The server's operator must mend its certificate.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn target(host: &str, port: u16, tls: TlsMode) -> Target {
        Target { host: host.into(), port, tls, trust: Trust::DangerNoVerify }
    }

    /// A port nobody listens on.
    async fn dead_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn families_alternate_from_the_resolvers_first_choice() {
        let parse = |list: &str| {
            list.split(' ').filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect::<Vec<SocketAddr>>()
        };
        let table = [
            ("[::1]:1 [::2]:1 1.1.1.1:1 2.2.2.2:1", "[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1"),
            ("1.1.1.1:1 2.2.2.2:1 [::1]:1", "1.1.1.1:1 [::1]:1 2.2.2.2:1"),
            ("1.1.1.1:1 1.1.1.1:1", "1.1.1.1:1"),
            ("", ""),
        ];
        for (found, want) in table {
            assert_eq!(Vec::from(interleave(parse(found))), parse(want), "{found}");
        }
    }

    #[tokio::test]
    async fn a_dead_address_does_not_stop_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let dead: SocketAddr = ([127, 0, 0, 1], dead_port().await).into();
        let tcp = first_to_connect([dead, live].into()).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), live);
        assert!(first_to_connect([dead].into()).await.is_err());
    }

    #[tokio::test]
    async fn faults_are_told_in_plain_words() {
        let port = dead_port().await;
        let long = Duration::from_secs(30);
        let e = dial(&target("127.0.0.1", port, TlsMode::None), long).await.unwrap_err();
        assert!(
            matches!(e, DialError::Refused { .. }) && e.to_string().contains(&port.to_string()) && !e.is_permanent()
        );
        let e = dial(&target("not a host", 1, TlsMode::None), long).await.unwrap_err();
        assert!(matches!(e, DialError::BadName(_)) && e.is_permanent());
        let missing =
            Target { trust: Trust::CaFile("/nonexistent/ca.pem".into()), ..target("localhost", 1, TlsMode::Implicit) };
        let (end, _other) = Stream::pair();
        let e = upgrade(end, &missing).await.unwrap_err();
        assert!(e.is_permanent() && e.to_string().contains("/nonexistent/ca.pem"), "{e}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_speak_tls_is_told_from_a_bad_certificate() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plain = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let (mut tcp, _) = listener.accept().await.unwrap();
            tcp.write_all(b"* OK IMAP4rev1 ready, longer than a TLS header\r\n").await.unwrap();
            let (tcp, _) = listener.accept().await.unwrap();
            drop(tcp);
        });
        let long = Duration::from_secs(30);
        let e = dial(&target("127.0.0.1", port, TlsMode::Implicit), long).await.unwrap_err();
        assert!(matches!(&e, DialError::Tls { reason, .. } if reason.contains("not TLS")), "{e:?}");
        let e = dial(&target("127.0.0.1", port, TlsMode::Implicit), long).await.unwrap_err();
        assert!(matches!(e, DialError::Tls { .. }) && !e.is_permanent(), "{e:?}");
        plain.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let e = dial(&target("127.0.0.1", port, TlsMode::Implicit), Duration::from_secs(10)).await.unwrap_err();
        assert!(matches!(e, DialError::TimedOut { .. }) && e.to_string().contains("within 10 s"), "{e}");
    }
}
