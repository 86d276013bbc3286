//! The SMTP submission server side (RFC 6409): what a mail program sends leaves through the account's own provider.
//!
//! [`serve`] takes one accepted connection to its end, one task, one stream. `conn` is the life of a connection, `state` what a
//! session knows, `command/` what commands do.
//!
//! Nothing is kept here: the message streams through to the provider while the client sends it, and the provider's reply is the
//! client's, for each recipient and for the message (Law 11). Where an account has an outbox, its [`Passage`] accepts what the provider
//! cannot take now. Whoever sends has logged in, and only from the account's own addresses:
//! this is never an open relay. Where the provider is lost before it has answered, the client is told so with a 4xx.

mod command;
mod conn;
mod state;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;

pub use conn::serve;

use super::front::{LoginError, Observer};
use crate::secret::Secret;
use crate::wire::smtp::{Extensions, Reply};

/// Checks a name and password. Never asks upstream.
pub trait Login: Send + Sync + 'static {
    type Outgoing: Outgoing;

    /// Verifies; takes as long as the policy on failed logins wants it to take.
    fn verify(
        &self,
        peer: IpAddr,
        user: &str,
        password: &Secret,
    ) -> impl Future<Output = Result<Self::Outgoing, LoginError>> + Send;

    /// What every account's provider can, for who has not logged in yet.
    fn offers(&self) -> Extensions;
}

/// Octets set aside for a message, until it is dropped.
pub type Grant = Box<dyn Send + Sync>;

/// An account's way out.
pub trait Outgoing: Clone + Send + Sync + 'static {
    type Passage: Passage;

    /// The account's address, for logs.
    fn address(&self) -> &str;
    /// Whether mail may be sent from this address.
    fn is_own(&self, address: &str) -> bool;
    /// What its provider can, as far as is known.
    fn offers(&self) -> Extensions;
    /// Sets so many octets (one at least) aside, where they may be sent now; the error is the client's answer.
    fn admit(&self, octets: u64) -> Result<Grant, Reply>;
    /// A way for one message of about so many octets, as its sender says (0: says nothing); the error is the client's answer.
    fn open(&self, octets: u64) -> impl Future<Output = Result<Self::Passage, Reply>> + Send;
    /// What is to stand as Reply-To in everything sent.
    fn reply_to(&self) -> Option<&str> {
        None
    }
    /// A message came to its end: the provider took it, or did not.
    fn sent(&self, outcome: &Reply, recipients: usize, octets: u64);
}

/// One message's way to the provider. Dropped, nothing of an unfinished message is sent. The errors are words for the client.
pub trait Passage: Send + 'static {
    /// Whether commands may be sent before the replies to those before them have come (RFC 2920).
    fn pipelines(&self) -> bool;
    fn send(&mut self, line: String) -> impl Future<Output = Result<(), String>> + Send;
    fn reply(&mut self) -> impl Future<Output = Result<Reply, String>> + Send;
    /// Dotted lines of the message.
    fn write(&mut self, dotted: &[u8]) -> impl Future<Output = Result<(), String>> + Send;
    /// The last of them, the lone dot at its end: from here on the message may be taken.
    fn write_last(&mut self, dotted: &[u8]) -> impl Future<Output = Result<(), String>> + Send {
        self.write(dotted)
    }
    /// Writing has failed before the first octet: the provider had spoken, and nothing positive it said is about what was to be written.
    fn is_unsent(&self) -> bool {
        false
    }
    /// The message was not sent, but accepted to be.
    fn is_kept(&self) -> bool {
        false
    }
    /// The answer to the message.
    fn verdict(&mut self) -> impl Future<Output = Result<Reply, String>> + Send;
    /// An answer that came early, where writing has failed.
    fn last_words(&mut self) -> impl Future<Output = Option<Reply>> + Send;
    /// The message is over; `clean` says that no transaction is open.
    fn rest(self, clean: bool) -> impl Future<Output = ()> + Send;
}

/// What all submission sessions of a process share.
pub struct Server<L: Login> {
    login: L,
    /// For STARTTLS and implicit TLS; without it STARTTLS is not offered.
    tls: Option<Arc<ServerConfig>>,
    observer: Arc<dyn Observer>,
    /// The product's name in the greeting and in the trace header.
    name: &'static str,
}

impl<L: Login> Server<L> {
    pub fn new(login: L, tls: Option<Arc<ServerConfig>>, observer: Arc<dyn Observer>, name: &'static str) -> Self {
        Self { login, tls, observer, name }
    }
}
