//! What the pool is told: where, who, how many, and the hooks through which it spends and counts.
//!
//! The hooks are small traits so that this layer knows neither the metrics nor the budget's books: [`Meter`] hears what was spent,
//! [`Permits`] says whether and when more may be (Law 6). [`Dial`] is the only door to the network; tests put a scripted peer behind it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::Error;
use super::types::Class;
use super::words::Meaning;
use crate::net::dial::{DialError, TlsMode};
use crate::net::{self, Stream, Tap, Target, Way};
use crate::secret::Secret;

/// How long name, connection and implicit TLS may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Command line limit where the preset says nothing: RFC 7162 §4 asks servers to take 8192 octets.
pub const DEFAULT_LINE_LIMIT: usize = 8192;

/// Two logins of one account start at least this far apart: providers count logins a minute, and three connections are still up
/// within a second.
const LOGIN_SPACING: Duration = Duration::from_millis(500);

/// One account's upstream.
#[derive(Clone)]
pub struct Config {
    /// The account in logs.
    pub label: String,
    pub dial: Arc<dyn Dial>,
    pub username: String,
    pub credentials: Credentials,
    /// Sessions at most, at least 1.
    pub connections: usize,
    /// The maximum that the provider's words had brought that down to before; it grows again slowly.
    pub lowered: Option<usize>,
    pub quirks: Quirks,
    pub meter: Arc<dyn Meter>,
    pub permits: Arc<dyn Permits>,
}

impl Config {
    /// With no quirks, no meter and the default permits; set the fields to change that.
    pub fn new(label: &str, target: Target, username: &str, credentials: Credentials, connections: usize) -> Self {
        Self {
            label: label.into(),
            dial: Arc::new(target),
            username: username.into(),
            credentials,
            connections,
            lowered: None,
            quirks: Quirks::default(),
            meter: Arc::new(()),
            permits: Arc::new(Pacing::default()),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("label", &self.label)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// What we log in with.
#[derive(Clone)]
pub enum Credentials {
    Password(Secret),
    /// XOAUTH2 or OAUTHBEARER with a token asked for at each login.
    OAuth(Arc<dyn Tokens>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::OAuth(_) => "OAuth",
        })
    }
}

/// Where access tokens come from.
pub trait Tokens: Send + Sync {
    /// The current token. `refused`: the one given before, which upstream did not take.
    fn token(&self, refused: Option<Secret>) -> BoxFuture<'_, Result<Secret, TokenFault>>;
}

/// Why there is no token, in plain words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// The authorization server cannot be reached now.
    Away(String),
    /// The user must consent anew.
    Login(String),
    /// The application is refused, or something of ours is wrong: the configuration must be mended.
    Setup(String),
}

impl<F, Fut> Tokens for F
where
    F: Fn(Option<Secret>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Secret, TokenFault>> + Send + 'static,
{
    fn token(&self, refused: Option<Secret>) -> BoxFuture<'_, Result<Secret, TokenFault>> {
        self(refused).boxed()
    }
}

/// The named oddities of a provider that change what we send. All absent by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Octets a command line may have; `None` for [`DEFAULT_LINE_LIMIT`]. Yahoo: about 1000.
    pub line_limit: Option<usize>,
    /// Capabilities offered but broken, in any case: iCloud's `QRESYNC`, Exchange's `IMAP4REV2`.
    pub hidden_capabilities: Vec<String>,
    /// MOVE and COPY one UID at a time: Yahoo's COPYUID pairs are wrong otherwise.
    pub single_moves: bool,
    /// IDLE pushes that stop silently: renew at least this often (Exchange: 10 minutes).
    pub idle_renew: Option<Duration>,
}

impl Quirks {
    /// Octets a command line may have.
    pub fn line_limit(&self) -> usize {
        self.line_limit.unwrap_or(DEFAULT_LINE_LIMIT)
    }
}

/// The only door to the network.
pub trait Dial: Send + Sync {
    /// A connection, TLS already where it is implicit; what crosses its socket is told to `tap` from the first octet on.
    fn dial(&self, tap: Arc<dyn Tap>) -> BoxFuture<'_, Result<Stream, DialError>>;

    /// The TLS handshake after STARTTLS.
    fn upgrade(&self, stream: Stream) -> BoxFuture<'_, Result<Stream, DialError>>;

    /// What stands between connection and login.
    fn tls(&self) -> TlsMode;

    /// Host and port, for OAUTHBEARER (RFC 7628 §3.1) and for words to the user.
    fn host(&self) -> (&str, u16);
}

impl Dial for Target {
    fn dial(&self, tap: Arc<dyn Tap>) -> BoxFuture<'_, Result<Stream, DialError>> {
        net::dial_tapped(self, CONNECT_TIMEOUT, Some(tap)).boxed()
    }

    fn upgrade(&self, stream: Stream) -> BoxFuture<'_, Result<Stream, DialError>> {
        net::upgrade(stream, self).boxed()
    }

    fn tls(&self) -> TlsMode {
        self.tls
    }

    fn host(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    /// Credentials not taken, web login required: the user is needed.
    Refused,
    /// Too many connections, throttled or out of quota.
    Limited,
    /// Not reached, lost or not understood.
    Failed,
}

impl Outcome {
    /// As a metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}

/// Hears what was spent. Called from the sessions' tasks; must not block.
pub trait Meter: Send + Sync {
    /// Octets read from the socket: with TLS's own, and compressed where the session is.
    fn received(&self, octets: u64);
    /// Octets the socket has taken.
    fn sent(&self, octets: u64);
    fn login(&self, outcome: Outcome);
    /// The provider has said something that concerns the account: [`Meaning::as_str`].
    fn refused(&self, meaning: Meaning);
    /// Sessions open now.
    fn connections(&self, open: usize);
    /// Requests that wait for a session now, by [`Class`] in its order.
    fn waiting(&self, _waiting: [usize; 5]) {}
    /// A request has waited so long for its session, or for the word that there is none.
    fn waited(&self, _class: Class, _took: Duration) {}

    /// Sets octets aside for one read or write, `most` at most; 0: none may cross now, see [`Tap::hold`].
    fn hold(&self, _way: Way, most: u64) -> u64 {
        most
    }

    /// Gives back what was held, when what has crossed of it was told.
    fn release(&self, _way: Way, _held: u64) {}

    /// Resolves when it is worth asking again.
    fn room(self: Arc<Self>, _way: Way) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

/// Counts nothing.
impl Meter for () {
    fn received(&self, _: u64) {}
    fn sent(&self, _: u64) {}
    fn login(&self, _: Outcome) {}
    fn refused(&self, _: Meaning) {}
    fn connections(&self, _: usize) {}
}

/// A [`Meter`] where a connection is counted.
pub(super) struct Counting(pub(super) Arc<dyn Meter>);

impl Tap for Counting {
    fn received(&self, octets: u64) {
        self.0.received(octets);
    }

    fn sent(&self, octets: u64) {
        self.0.sent(octets);
    }

    fn hold(&self, way: Way, most: u64) -> u64 {
        self.0.hold(way, most)
    }

    fn release(&self, way: Way, held: u64) {
        self.0.release(way, held);
    }

    fn room(&self, way: Way) -> BoxFuture<'static, ()> {
        Arc::clone(&self.0).room(way)
    }
}

/// Whatever is to be dropped when a connection ends.
pub type Permit = Box<dyn Send + Sync>;

/// Says whether and when a connection may be opened.
pub trait Permits: Send + Sync {
    /// A permit for one connection, held as long as it lives; [`Error::Budget`] or [`Error::Unavailable`] when there is none.
    fn connection(&self) -> Result<Permit, Error>;
    /// Resolves when a login may start.
    fn login(&self) -> BoxFuture<'_, ()>;

    /// Asked before each command: `None` to go on, else how long to wait before asking again; [`Error::Budget`] when the day is spent.
    fn command(&self) -> Result<Option<Duration>, Error> {
        Ok(None)
    }

    /// The maximum of sessions that the provider's words have brought it down to, to be remembered ([`Config::lowered`]).
    fn lowered(&self, _maximum: Option<usize>) {}
}

/// The default [`Permits`]: any number of connections (the pool has its own maximum), logins spaced out.
#[derive(Debug, Default)]
pub struct Pacing {
    next: Mutex<Option<Instant>>,
}

impl Permits for Pacing {
    fn connection(&self) -> Result<Permit, Error> {
        Ok(Box::new(()))
    }

    fn login(&self) -> BoxFuture<'_, ()> {
        async {
            // Held across the wait on purpose: it is the queue. (An async mutex; no lock of Law 4.)
            let mut next = self.next.lock().await;
            if let Some(at) = *next {
                tokio::time::sleep_until(at).await;
            }
            *next = Some(Instant::now() + LOGIN_SPACING);
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn logins_are_spaced() {
        let pacing = Pacing::default();
        let start = Instant::now();
        for _ in 0..3 {
            pacing.login().await;
        }
        assert_eq!(start.elapsed(), LOGIN_SPACING * 2);
    }

    #[tokio::test]
    async fn closures_give_tokens_and_nothing_shows_them() {
        let tokens =
            |refused: Option<Secret>| async move { Ok(Secret::new(if refused.is_some() { *b"new" } else { *b"old" })) };
        let credentials = Credentials::OAuth(Arc::new(tokens));
        assert_eq!(format!("{credentials:?}"), "OAuth");
        let Credentials::OAuth(tokens) = credentials else { panic!("just made") };
        assert_eq!(tokens.token(Some(Secret::new(*b"old"))).await.unwrap().expose(), b"new");
    }
}
