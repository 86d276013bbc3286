//! The IMAP server side: RFC 3501 with the extensions its CAPABILITY names, and every one of them whole.
//!
//! [`serve`] takes one accepted connection to its end. One task, one stream: commands run in order (Law 5), nothing is
//! split between tasks, so there are no locks and no queues here. `conn` is the life of a connection, `io` its bytes,
//! `state` what a session knows, `command/<family>` what commands do, `view` the client's numbering, `render` and `reply`
//! what is written.

mod command;
mod conn;
mod io;
mod render;
mod reply;
mod state;
#[cfg(test)]
mod tests;
pub mod view;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_rustls::rustls::ServerConfig;

pub use conn::serve;

pub use super::front::{Accepted, Login, LoginError, Observer, Unobserved};

/// Memory all APPENDs of the process may fill at once: five messages of the largest size providers take (about 50 MB).
/// A client beyond it waits with its literal unsent, and blocks only itself (Law 8).
const APPEND_MEMORY: u64 = 256 * 1024 * 1024;

/// The unit in which [`APPEND_MEMORY`] is handed out.
const APPEND_UNIT: u64 = 4096;

/// Large results of SORT and THREAD put in order at once: a core each, for a second at the most, and some 100 MB.
const ORDERINGS: usize = 2;

/// Which optional capabilities a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// QRESYNC (RFC 7162 §3.2).
    pub qresync: bool,
    /// Gmail's own list of capabilities, with X-GM-EXT-1: FETCH knows X-GM-MSGID, X-GM-THRID and X-GM-LABELS.
    pub gmail: bool,
}

impl Default for Profile {
    /// What the daemon offers its clients.
    fn default() -> Self {
        Self { qresync: true, gmail: false }
    }
}

/// What all IMAP sessions of a process share.
pub struct Server<L: Login> {
    login: L,
    /// For STARTTLS and implicit TLS; without it STARTTLS is not offered.
    tls: Option<Arc<ServerConfig>>,
    observer: Arc<dyn Observer>,
    /// The product's name in the greeting and in ID.
    name: &'static str,
    append_memory: Arc<Semaphore>,
    orderings: Arc<Semaphore>,
    profile: Profile,
}

impl<L: Login> Server<L> {
    pub fn new(login: L, tls: Option<Arc<ServerConfig>>, observer: Arc<dyn Observer>, name: &'static str) -> Self {
        let units = usize::try_from(APPEND_MEMORY / APPEND_UNIT).unwrap_or(Semaphore::MAX_PERMITS);
        let (append_memory, orderings) = (Arc::new(Semaphore::new(units)), Arc::new(Semaphore::new(ORDERINGS)));
        Self { login, tls, observer, name, append_memory, orderings, profile: Profile::default() }
    }

    /// The same server with another choice of capabilities.
    pub fn with_profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }
}
