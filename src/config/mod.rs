//! The configuration: found, read, checked as a whole, and handed on as typed values.
//!
//! What it owns: the schema of `config/mailweir.toml`, its defaults and their reasons, and the words for everything that can be
//! wrong with it. [`Config::load`] gives either a configuration in which nothing needs to be checked again, or all faults at
//! once, each with file, line, key and mend ([`Fault`]). What is allowed but unwise comes as [`Config::warnings`].
//!
//! Paths in the file are relative to the file's own directory and absolute here. Secrets stay references
//! ([`crate::secret::SecretRef`]) until somebody needs one. A provider's preset fills what an account leaves out.
//!
//! Laws: 8 (limits on what may be configured), 12 (no fault or debug print shows a secret).

mod account;
mod fault;
mod load;
mod oauth2;
mod observe;
mod otel;
mod reader;
#[cfg(test)]
mod sample;
mod schema;
mod sending;
mod values;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::budget::Shares;
use crate::provider::Preset;
use crate::secret::{Secret, SecretRef};

pub use fault::Fault;
pub use load::{LocateError, default_path};
pub use observe::{Http, Log, LogFormat};
pub use otel::Otel;
pub use sending::{Sending, SentCopy};
pub use values::Network;

/// Everything the file says, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from, absolute.
    pub file: PathBuf,
    /// The store. Default: the platform's data directory.
    pub data_dir: PathBuf,
    /// What the OAuth tokens in the store are sealed with. Default: a file of random octets beside the configuration, made when
    /// first needed.
    pub token_key: SecretRef,
    pub listen: Listen,
    pub tls: Tls,
    pub cache: Cache,
    pub http: Http,
    pub log: Log,
    /// In the file's order; addresses differ.
    pub accounts: Vec<Account>,
    /// What is allowed but should be said at every start: verification switched off, a plain connection to a far server, …
    pub warnings: Vec<Fault>,
}

/// Where clients are served; an empty list is a protocol not served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    pub imap: Vec<SocketAddr>,
    pub imaps: Vec<SocketAddr>,
    pub pop3: Vec<SocketAddr>,
    pub pop3s: Vec<SocketAddr>,
    pub submission: Vec<SocketAddr>,
    pub submissions: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    /// The local network is served, too, and nobody beyond it: the loopback addresses above have become all of this computer.
    pub lan: bool,
    pub plaintext_login: PlaintextLogin,
}

/// Which clients may log in without TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PlaintextLogin {
    Never,
    /// Only from this computer, where nobody can listen in who could not read the password anyway.
    #[default]
    Loopback,
    /// From these networks (this computer only if listed).
    Networks(Vec<Network>),
}

/// Certificates for the listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where the local CA and leaf live. Default: `certs` in the data directory.
    pub dir: PathBuf,
    /// Names and addresses the leaf is made for, besides those found.
    pub names: Vec<String>,
    /// The user's own certificate chain and key, in PEM: both or neither.
    pub own: Option<OwnCertificate>,
}

/// `tls.cert_file` and `tls.key_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCertificate {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// The disposable class of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of bodies kept. Default 20 GB.
    pub max_size: u64,
    pub prefetch: Prefetch,
}

/// Which bodies are fetched before anyone asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    None,
    /// Those that arrived within so many days. Default 30.
    Days(u32),
    All,
}

/// One upstream identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user name a mail program gives; as written, compared without case.
    pub address: String,
    /// Other addresses that may stand as a sender.
    pub aliases: Vec<String>,
    /// The password a mail program gives.
    pub password: LocalPassword,
    /// Named in the file, or found by the address's domain when the upstream's host is the preset's.
    pub provider: Option<&'static Preset>,
    /// Special mailboxes have English names, whatever the provider calls them.
    pub english_names: bool,
    pub imap: Server,
    /// `None`: the account cannot send.
    pub smtp: Option<Server>,
    pub sending: Sending,
    pub limits: Limits,
    pub pop3: Pop3,
    pub oauth2: Option<OAuth2>,
}

/// The local password of an account.
#[derive(Clone, PartialEq, Eq)]
pub enum LocalPassword {
    /// Kept somewhere in the clear.
    Secret(SecretRef),
    /// An argon2id hash in the PHC text form, already checked to be one.
    Argon2id(String),
}

/// A hash can be attacked offline, so it is not printed either.
impl fmt::Debug for LocalPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(reference) => f.debug_tuple("Secret").field(reference).finish(),
            Self::Argon2id(_) => f.write_str("Argon2id([hash])"),
        }
    }
}

/// An upstream server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A host name or an IP address, without brackets.
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    /// Instead of the platform's roots.
    pub ca_file: Option<PathBuf>,
    /// False: any certificate is taken (a warning says so).
    pub verify: bool,
    /// Default: the account's address (for SMTP: what IMAP uses).
    pub username: String,
    /// `None` only when the account has [`OAuth2`]. For SMTP the default is what IMAP uses.
    pub password: Option<SecretRef>,
}

/// How the connection to a server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// Plain at first, TLS by the protocol's own command; without it the connection is given up.
    StartTls,
    /// No encryption.
    None,
}

/// What of the provider's allowance we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Upstream IMAP sessions at most, at least 1.
    pub connections: u32,
    /// Bytes per rolling day; `None`: unlimited.
    pub download_per_day: Option<u64>,
    pub upload_per_day: Option<u64>,
    /// Messages sent per rolling day, and their recipients; `None`: unlimited.
    pub messages_per_day: Option<u64>,
    pub recipients_per_day: Option<u64>,
    /// How far prefetch, synchronisation and mail programs that download everything may go of that.
    pub shares: Shares,
    /// Commands a second; `None`: as fast as answers come.
    pub commands_per_second: Option<NonZeroU32>,
    /// Whether COMPRESS=DEFLATE is used where the provider offers it.
    pub compress: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: account::DEFAULT_CONNECTIONS,
            download_per_day: None,
            upload_per_day: None,
            messages_per_day: None,
            recipients_per_day: None,
            shares: Shares::default(),
            commands_per_second: None,
            compress: true,
        }
    }
}

/// How the account looks over POP3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pop3 {
    /// Default INBOX.
    pub mailbox: String,
    pub on_retr: OnRetr,
    pub on_dele: OnDele,
    /// Show so many at most, the newest. Default: all.
    pub max_messages: Option<u32>,
    /// What stands between the address and the name of a device in a user name. Default `+`.
    pub device_separator: String,
}

impl Default for Pop3 {
    fn default() -> Self {
        Self {
            mailbox: "INBOX".to_owned(),
            on_retr: OnRetr::default(),
            on_dele: OnDele::default(),
            max_messages: None,
            device_separator: "+".to_owned(),
        }
    }
}

/// What RETR does upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRetr {
    #[default]
    Leave,
    Seen,
}

/// What DELE does at QUIT; never an expunge (Law 10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDele {
    #[default]
    Hide,
    Seen,
    Archive,
    Trash,
}

impl OnDele {
    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hide => "hide",
            Self::Seen => "seen",
            Self::Archive => "archive",
            Self::Trash => "trash",
        }
    }
}

/// OAuth 2 in place of an upstream password: the authorization server, and who we are there. Tokens live in the durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2 {
    /// Of the application registered with the provider.
    pub client_id: String,
    pub client_secret: Option<SecretRef>,
    pub grant: OAuthGrant,
    /// The key file of a service account ([`OAuthGrant::ServiceAccount`]).
    pub key: Option<SecretRef>,
    /// Whose mailbox a service account asks for.
    pub subject: String,
    /// Where a person consents; `None`: only by the device flow, or not at all (the other grants).
    pub authorize_url: Option<String>,
    pub token_url: String,
    /// The device authorization endpoint (RFC 8628).
    pub device_url: Option<String>,
    pub scopes: Vec<String>,
    /// More parameters of the authorization request, as the provider wants them.
    pub parameters: Vec<(String, String)>,
    /// Where the browser ends. Default: a free port of this computer.
    pub redirect_url: Option<String>,
    /// What `redirect_url` names this computer when it is left out: providers compare it with what was registered.
    pub redirect_host: String,
    /// Instead of the platform's roots.
    pub ca_file: Option<PathBuf>,
}

/// Whose consent counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OAuthGrant {
    /// Of the mailbox's owner, given once in a browser.
    #[default]
    User,
    /// Of an organisation's administrator to the application itself (client credentials, RFC 6749 §4.4).
    Client,
    /// The same, by a signed assertion on behalf of the mailbox's owner (RFC 7523): Google's service accounts.
    ServiceAccount,
}

impl Config {
    /// The account a user name names: its address, whatever the case.
    pub fn account(&self, address: &str) -> Option<&Account> {
        self.accounts.iter().find(|a| a.address.eq_ignore_ascii_case(address))
    }
}

impl Listen {
    /// Every list with the key that names it.
    pub fn all(&self) -> [(&'static str, &[SocketAddr]); 7] {
        [
            ("imap", &self.imap),
            ("imaps", &self.imaps),
            ("pop3", &self.pop3),
            ("pop3s", &self.pop3s),
            ("submission", &self.submission),
            ("submissions", &self.submissions),
            ("http", &self.http),
        ]
    }

    /// `lan`: what would listen on this computer's own address listens on every one of its kind.
    fn open_to_the_network(&mut self) {
        let lists = [
            &mut self.imap,
            &mut self.imaps,
            &mut self.pop3,
            &mut self.pop3s,
            &mut self.submission,
            &mut self.submissions,
            &mut self.http,
        ];
        for list in lists {
            for address in list.iter_mut().filter(|address| address.ip().is_loopback()) {
                let all =
                    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
                address.set_ip(all);
            }
            // What stands beside it at the same port is among all of them.
            let before = list.clone();
            let wider = |at: &SocketAddr, other: &SocketAddr| {
                other.ip().is_unspecified() && other.port() == at.port() && other.is_ipv4() == at.is_ipv4()
            };
            let mut place = 0;
            list.retain(|at| {
                let (earlier, later) = before.split_at(place);
                place += 1;
                !earlier.iter().any(|other| wider(at, other))
                    && (at.ip().is_unspecified() || !later.iter().any(|other| wider(at, other)))
            });
        }
    }
}

/// Kept out of the struct so that a secret given in the file is wrapped before anything else sees it.
fn plain_secret(text: &str) -> SecretRef {
    SecretRef::Plain(Secret::new(text))
}
