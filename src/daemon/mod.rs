//! The assembled daemon: accounts, listeners, status, and their end.
//!
//! [`Daemon::start`] either has everything listening or says every reason why not. Sessions run as tasks under one token; on
//! [`Daemon::shutdown`] they say BYE, accounts end their writes and flush, and what does not end within the grace is left behind.

mod accounts;
mod audit;
mod http;
mod listen;
mod lock;
mod logins;
mod marker;
mod markup;
pub(crate) mod mend;
pub(crate) mod outbox;
mod pop3;
mod problems;
mod programs;
mod reload;
pub(crate) mod setup;
pub mod simulated;
mod smtp;
mod spending;
pub mod status;
pub(crate) mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::auth::LocalLogins;
use crate::config::Config;
use crate::metrics::{AccountLabels, Metrics};
use crate::net::Inherited;
use crate::net::tls::TlsIdentity;
use crate::state::State;
use crate::store::StorePool;

use accounts::{Accounts, Context};
pub(crate) use lock::DataDirLock;
use status::Status;

/// How long sessions and accounts may take to end.
const GRACE: Duration = Duration::from_secs(8);
/// Threads for store calls of all accounts (Law 4): reads are short, and two keep a slow write from holding them up.
const STORE_THREADS: usize = 4;
/// The durable state, in the data directory.
pub(crate) const STATE_FILE: &str = "state.sqlite";

/// The running daemon.
pub struct Daemon {
    shared: Arc<Shared>,
    context: Context,
    logins: Arc<LocalLogins>,
    /// As it was at the start: what a reload does not take over is compared with it.
    config: Config,
    reloading: tokio::sync::Mutex<()>,
    tls: Arc<TlsIdentity>,
    /// Sockets opened for us by the service manager.
    inherited: Inherited,
    listeners: Vec<(&'static str, SocketAddr)>,
    tasks: TaskTracker,
    stop: CancellationToken,
    stop_watch: watch::Sender<bool>,
    door: Arc<http::Door>,
    _lock: DataDirLock,
}

/// What the status server sees too.
struct Shared {
    accounts: Accounts,
    metrics: Metrics,
    /// Client connections open now.
    sessions: Arc<AtomicU64>,
    programs: programs::Programs,
    started: Instant,
    tls: Arc<TlsIdentity>,
    /// Octets all caches may take.
    cache_limit: u64,
}

/// Why the daemon did not start: every reason, in plain words.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct StartError(pub Vec<String>);

impl Daemon {
    /// Opens the data directory, the durable state, the certificates, the accounts and the listeners.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_on(config, Inherited::default()).await
    }

    /// The same, and listens on the sockets that are there already.
    pub async fn start_on(config: Config, inherited: Inherited) -> Result<Self, StartError> {
        for warning in &config.warnings {
            warn!("{warning}");
        }
        let one = |words: String| StartError(vec![words]);
        let data_dir = config.data_dir.clone();
        let lock = blocking(move || DataDirLock::take(&data_dir)).await.map_err(one)?;
        let tls_settings = config.tls.clone();
        let tls = Arc::new(blocking(move || TlsIdentity::open(&tls_settings)).await.map_err(one)?);
        let labels = if config.http.label_accounts { AccountLabels::Address } else { AccountLabels::Id };
        let metrics = Metrics::new(labels);
        let context = Context {
            data_dir: config.data_dir.clone(),
            cache: config.cache.clone(),
            http: config.http.clone(),
            shares: config.accounts.len() as u64,
            state: open_state(&config.data_dir).await.map_err(one)?,
            threads: StorePool::new(STORE_THREADS),
            audit: Arc::new(audit::Trail::open(&config.log, &config.data_dir, &metrics)),
            metrics: metrics.clone(),
            sends: !config.listen.submission.is_empty() || !config.listen.submissions.is_empty(),
            token_key: config.token_key.clone(),
        };
        let logins = LocalLogins::new(&config.accounts).await;
        let logins = logins.map_err(|errors| StartError(errors.iter().map(ToString::to_string).collect()))?;
        let accounts = Accounts::default();
        accounts.replace(accounts::start_all(&context, &config.accounts).await?);
        let shared = Arc::new(Shared {
            accounts,
            metrics,
            sessions: Arc::default(),
            programs: programs::Programs::default(),
            started: Instant::now(),
            tls: Arc::clone(&tls),
            cache_limit: config.cache.max_size,
        });
        let door = Arc::<http::Door>::default();
        match http::Door::token(&config.http).await {
            Ok(token) => door.set(token.as_ref()),
            // A page is no reason to leave mail unread.
            Err(words) => error!("{words} The pages stay closed to other computers."),
        }
        let mut daemon = Self {
            door,
            shared: Arc::clone(&shared),
            context,
            logins: Arc::new(logins),
            config: config.clone(),
            reloading: tokio::sync::Mutex::default(),
            tls: Arc::clone(&tls),
            inherited,
            listeners: Vec::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            stop_watch: watch::Sender::new(false),
            _lock: lock,
        };
        let served = daemon.listen(&config);
        if let Err(error) = served {
            daemon.shutdown().await;
            return Err(error);
        }
        daemon.tasks.spawn(tls.keep_fresh(daemon.stop_watch.subscribe()));
        Ok(daemon)
    }

    fn listen(&mut self, config: &Config) -> Result<(), StartError> {
        let logins = logins::Logins { local: Arc::clone(&self.logins), shared: Arc::clone(&self.shared) };
        self.listeners.extend(listen::imap(self, config, logins.clone())?);
        self.listeners.extend(listen::pop3(self, config, logins.clone())?);
        self.listeners.extend(listen::submission(self, config, logins)?);
        let names: Arc<[String]> = config.tls.names.iter().cloned().chain(crate::net::own_names()).collect();
        let shared = Arc::clone(&self.shared);
        let kit = Arc::new(setup::kit::Kit::new(Arc::clone(&self.tls), config, move || shared.accounts.addresses()));
        let source = Arc::clone(&self.shared) as Arc<dyn http::Source>;
        let pages = http::routes(names, source, Arc::clone(&self.door), &kit, self.stop.clone());
        self.listeners.extend(listen::http(self, config, &pages)?);
        kit.set_listeners(&self.listeners);
        for address in self.inherited.close_rest() {
            warn!(%address, "the service manager has opened a socket that stands nowhere under [listen]: nobody serves it");
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

    /// Ends everything, within some seconds.
    pub async fn shutdown(self) {
        self.stop_watch.send_replace(true);
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            warn!("some sessions did not end in time");
        }
        let accounts = self.shared.accounts.all();
        futures_util::future::join_all(accounts.iter().map(|account| account.shutdown(GRACE))).await;
        let audit = Arc::clone(&self.context.audit);
        // What it cannot end it has told.
        let _ = tokio::task::spawn_blocking(move || audit.close()).await;
    }
}

impl http::Source for Shared {
    fn status(&self) -> Status {
        let (clients, logged_in) = self.programs.told();
        Status {
            clients,
            logged_in,
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.started.elapsed().as_secs(),
            sessions: self.sessions.load(Ordering::Relaxed),
            cache_bytes: self.accounts.all().iter().map(|running| running.cache_bytes()).sum(),
            accounts: self.accounts.all().iter().map(|running| running.status()).collect(),
        }
    }

    fn metrics(&self) -> Metrics {
        let accounts = self.accounts.all();
        accounts.iter().for_each(|running| running.refresh_metrics());
        let metrics = &self.metrics;
        metrics.set_accounts(accounts.len());
        metrics.set_cache_bytes(accounts.iter().map(|running| running.cache_bytes()).sum(), self.cache_limit);
        metrics.set_certificate("server", self.tls.facts().not_after.unix_timestamp());
        if let Some(authority) = self.tls.authority() {
            metrics.set_certificate("authority", authority.not_after.unix_timestamp());
        }
        metrics.clone()
    }
}

/// Runs what blocks off the async threads; its error in words.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    E: ToString + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Opens the durable state. A damaged one is a person's to mend: it holds what cannot be fetched again.
async fn open_state(data_dir: &std::path::Path) -> Result<State, String> {
    let path = data_dir.join(STATE_FILE);
    let shown = path.display().to_string();
    blocking(move || State::open(&path)).await.map_err(|error| {
        format!(
            "{shown} cannot be used: {error}. It holds what cannot be fetched again (the count of bytes, local keywords, what POP3 logins have deleted), so it is left as it is: put a backup in its place, or move it away to begin with an empty one"
        )
    })
}

/// Where an account's cache lives: a directory of its own, named after the address with anything unusual escaped.
pub(crate) fn cache_dir(data_dir: &std::path::Path, address: &str) -> PathBuf {
    data_dir.join("cache").join(escaped(address))
}

/// An address as the name of a file.
fn escaped(address: &str) -> String {
    let mut name = String::new();
    for byte in address.to_ascii_lowercase().bytes() {
        if byte.is_ascii_alphanumeric() || b"@.-_+".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_damaged_state_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STATE_FILE);
        std::fs::write(&path, vec![0x55; 8192]).unwrap();
        let words = open_state(dir.path()).await.err().unwrap();
        assert!(words.contains("state.sqlite") && words.contains("backup"), "{words}");
        assert_eq!(std::fs::read(&path).unwrap(), vec![0x55; 8192]);
        std::fs::remove_file(&path).unwrap();
        assert!(open_state(dir.path()).await.is_ok());
    }

    #[test]
    fn every_address_has_a_directory_inside_the_data_directory() {
        let dir = |address: &str| cache_dir("/d".as_ref(), address).display().to_string();
        assert_eq!(dir("Ann@Example.org"), "/d/cache/ann@example.org");
        assert_eq!(dir("../../x"), "/d/cache/..%2f..%2fx");
    }
}
