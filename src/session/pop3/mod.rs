//! The POP3 server side: RFC 1939 with CAPA, STLS, SASL, response codes, UTF8 and LANG, in front of the same mirror as IMAP.
//!
//! [`serve`] takes one accepted connection to its end, one task, one stream. `conn` is the life of a connection, `state` what a
//! session knows, `command/` what commands do, `maildrop` the client's numbering, `reply` what is answered.
//!
//! Old programs fetch and "delete", and the account keeps everything: DELE counts at QUIT only, and then hides the message from this
//! login, or marks or moves it, as `pop3.on_dele` says. Nothing here expunges (Law 10). What a login has hidden is kept behind
//! [`HideSet`], on the disk before QUIT is answered (Law 11). There is no lock on a maildrop, so `[IN-USE]` is never said.

mod command;
mod conn;
mod maildrop;
mod reply;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;

pub use conn::serve;

use super::backend;
use super::front::{LoginError, Observer};
use crate::config::{OnDele, Pop3};
use crate::model::UniqueId;
use crate::secret::Secret;

/// Checks a name and password. Never asks upstream (a client can log in while the provider is away).
pub trait Login: Send + Sync + 'static {
    type Account: backend::Account;
    type Hidden: HideSet;

    /// Verifies; takes as long as the policy on failed logins wants it to take.
    fn verify(
        &self,
        peer: IpAddr,
        user: &str,
        password: &Secret,
    ) -> impl Future<Output = Result<Admitted<Self::Account, Self::Hidden>, LoginError>> + Send;
}

/// Somebody who has come in.
#[derive(Clone, Debug)]
pub struct Admitted<A, H> {
    pub account: A,
    /// As configured at this moment.
    pub settings: Pop3,
    /// What followed the address: `laptop` of `ann@example.org+laptop`.
    pub device: Option<String>,
    /// `recent:` stood before the address.
    pub recent: bool,
    /// What this login (account and device) has hidden.
    pub hidden: H,
}

/// The messages one login has deleted for itself.
pub trait HideSet: Clone + Send + Sync + 'static {
    /// What is hidden of a mailbox. The error is for the log.
    fn load(&self, mailbox: &str) -> impl Future<Output = Result<HashSet<UniqueId>, String>> + Send;
    /// Hides more: all of it, and on the disk when this returns; or none of it.
    fn hide(&self, mailbox: &str, ids: Vec<UniqueId>) -> impl Future<Output = Result<(), String>> + Send;
}

/// Hears what QUIT has done to messages, for metrics.
pub trait Deletions: Send + Sync + 'static {
    fn deleted(&self, account: &str, policy: OnDele, messages: u64);
}

/// What all POP3 sessions of a process share.
pub struct Server<L: Login> {
    login: L,
    /// For STLS and implicit TLS; without it STLS is not offered.
    tls: Option<Arc<ServerConfig>>,
    observer: Arc<dyn Observer>,
    deletions: Arc<dyn Deletions>,
    /// The product's name in the greeting and in IMPLEMENTATION.
    name: &'static str,
}

impl<L: Login> Server<L> {
    pub fn new(
        login: L,
        tls: Option<Arc<ServerConfig>>,
        observer: Arc<dyn Observer>,
        deletions: Arc<dyn Deletions>,
        name: &'static str,
    ) -> Self {
        Self { login, tls, observer, deletions, name }
    }
}
