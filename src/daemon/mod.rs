//! The assembled daemon: accounts, listeners, status, and their end.
//!
//! [`Daemon::start`] either has everything listening or says every reason why not. Sessions run as tasks under one token; on
//! [`Daemon::shutdown`] they say BYE, accounts end their writes and flush, and what does not end within the grace is left behind.

mod accounts;
mod http;
mod listen;
mod lock;
mod logins;
pub mod simulated;
pub mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::net::tls::TlsIdentity;

use accounts::Running;
pub(crate) use lock::DataDirLock;
use status::Status;

/// How long sessions and accounts may take to end.
const GRACE: Duration = Duration::from_secs(8);
/// Threads for store calls of all accounts (Law 4): reads are short, and two keep a slow write from holding them up.
const STORE_THREADS: usize = 4;

/// The running daemon.
pub struct Daemon {
    shared: Arc<Shared>,
    tls: Arc<TlsIdentity>,
    tls_settings: crate::config::Tls,
    listeners: Vec<(&'static str, SocketAddr)>,
    tasks: TaskTracker,
    stop: CancellationToken,
    stop_watch: watch::Sender<bool>,
    _lock: DataDirLock,
}

/// What the status server sees too.
struct Shared {
    accounts: Vec<Running>,
    metrics: Metrics,
    /// Client connections open now.
    sessions: Arc<AtomicU64>,
    started: Instant,
}

/// Why the daemon did not start: every reason, in plain words.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct StartError(pub Vec<String>);

impl Daemon {
    /// Opens the data directory, the certificates, the accounts and the listeners.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let lock = DataDirLock::take(&config.data_dir).map_err(|words| StartError(vec![words]))?;
        let tls = Arc::new(TlsIdentity::open(&config.tls).map_err(|error| StartError(vec![error.to_string()]))?);
        let metrics = Metrics::default();
        let accounts = accounts::start_all(&config, &metrics).await?;
        let shared = Arc::new(Shared { accounts, metrics, sessions: Arc::default(), started: Instant::now() });
        let mut daemon = Self {
            shared: Arc::clone(&shared),
            tls: Arc::clone(&tls),
            tls_settings: config.tls.clone(),
            listeners: Vec::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            stop_watch: watch::Sender::new(false),
            _lock: lock,
        };
        let served = daemon.listen(&config).await;
        if let Err(error) = served {
            daemon.shutdown().await;
            return Err(error);
        }
        daemon.tasks.spawn(tls.keep_fresh(daemon.stop_watch.subscribe()));
        Ok(daemon)
    }

    async fn listen(&mut self, config: &Config) -> Result<(), StartError> {
        for (key, _) in config.listen.all().into_iter().filter(|(_, addresses)| !addresses.is_empty()) {
            if !matches!(key, "imap" | "imaps" | "http") {
                warn!("listen.{key} is set, but this version does not serve that protocol yet; nothing listens there");
            }
        }
        let logins = logins::Logins::new(config, &self.shared.accounts).await?;
        let started = listen::imap(self, config, logins)?;
        self.listeners.extend(started);
        for address in &config.listen.http {
            let source: Arc<dyn http::Source> = Arc::clone(&self.shared) as Arc<dyn http::Source>;
            let (bound, serving) = http::serve(*address, source, self.stop.clone()).await.map_err(|error| {
                StartError(vec![format!("listen.http: cannot listen on {address}: {error}. Choose another port.")])
            })?;
            self.tasks.spawn(serving);
            self.listeners.push(("http", bound));
        }
        Ok(())
    }

    /// What listens, by the configuration's keys.
    pub fn listeners(&self) -> &[(&'static str, SocketAddr)] {
        &self.listeners
    }

    pub fn tls(&self) -> &TlsIdentity {
        &self.tls
    }

    pub fn status(&self) -> Status {
        http::Source::status(&*self.shared)
    }

    /// SIGHUP: takes certificates and accounts' back-offs anew; sessions stay.
    pub fn reload(&self) {
        match self.tls.reload(&self.tls_settings) {
            Ok(()) => info!("certificates were read again"),
            Err(error) => warn!(%error, "certificates were not taken; the old ones stay"),
        }
        self.shared.accounts.iter().for_each(Running::kick);
    }

    /// Ends everything, within some seconds.
    pub async fn shutdown(self) {
        self.stop_watch.send_replace(true);
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            warn!("some sessions did not end in time");
        }
        futures_util::future::join_all(self.shared.accounts.iter().map(|account| account.shutdown(GRACE))).await;
    }
}

impl http::Source for Shared {
    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.started.elapsed().as_secs(),
            sessions: self.sessions.load(Ordering::Relaxed),
            cache_bytes: self.accounts.iter().map(Running::cache_bytes).sum(),
            accounts: self.accounts.iter().map(Running::status).collect(),
        }
    }

    fn metrics(&self) -> String {
        self.accounts.iter().for_each(Running::refresh_metrics);
        self.metrics.set_cache_bytes(self.accounts.iter().map(Running::cache_bytes).sum());
        self.metrics.encode()
    }
}

/// Where an account's cache lives: a directory of its own, named after the address with anything unusual escaped.
pub(crate) fn cache_dir(data_dir: &std::path::Path, address: &str) -> PathBuf {
    let mut name = String::new();
    for byte in address.to_ascii_lowercase().bytes() {
        if byte.is_ascii_alphanumeric() || b"@.-_+".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    data_dir.join("cache").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_a_directory_inside_the_data_directory() {
        let dir = |address: &str| cache_dir("/d".as_ref(), address).display().to_string();
        assert_eq!(dir("Ann@Example.org"), "/d/cache/ann@example.org");
        assert_eq!(dir("../../x"), "/d/cache/..%2f..%2fx");
    }
}
