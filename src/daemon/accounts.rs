//! The configured accounts, each with its cache, its upstream pool and its counts.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::status::AccountStatus;
use super::{STORE_THREADS, StartError, cache_dir};
use crate::config::{self, Config, Prefetch};
use crate::engine::{self, Account};
use crate::metrics::{AccountMetrics, Held, Login, Metrics};
use crate::net::Target;
use crate::provider::Quirk;
use crate::store::{self, Store, StorePool};
use crate::upstream::{self, Credentials, Meter, Outcome, Pool};

/// Largest message a client may APPEND: above what any preset's provider takes (Mail.ru 70 MB, Gmail 35 MB).
const APPEND_LIMIT: u64 = 73_400_320;

/// One account at work.
pub(super) struct Running {
    pub(super) address: String,
    pub(super) account: Account,
    upstream: String,
    pool: Pool,
    counts: Arc<Counts>,
    limits: config::Limits,
    store: Store,
}

/// What the account's sessions spent.
struct Counts {
    metrics: AccountMetrics,
    connected: Mutex<Vec<Held>>,
    received: AtomicU64,
    sent: AtomicU64,
    open: AtomicUsize,
}

impl Meter for Counts {
    fn received(&self, octets: u64) {
        self.received.fetch_add(octets, Ordering::Relaxed);
        self.metrics.received(octets);
    }

    fn sent(&self, octets: u64) {
        self.sent.fetch_add(octets, Ordering::Relaxed);
        self.metrics.sent(octets);
    }

    fn login(&self, outcome: Outcome) {
        self.metrics.login(match outcome {
            Outcome::Ok => Login::Ok,
            Outcome::Refused | Outcome::Limited => Login::Refused,
            Outcome::Failed => Login::Failed,
        });
    }

    fn connections(&self, open: usize) {
        self.open.store(open, Ordering::Relaxed);
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.resize_with(open, || self.metrics.connection());
    }
}

/// Opens every account; all that is wrong is told at once.
pub(super) async fn start_all(config: &Config, metrics: &Metrics) -> Result<Vec<Running>, StartError> {
    let threads = StorePool::new(STORE_THREADS);
    let mut running = Vec::new();
    let mut faults = Vec::new();
    for account in &config.accounts {
        match start(config, account, metrics, &threads).await {
            Ok(account) => running.push(account),
            Err(words) => faults.push(format!("{}: {words}", account.address)),
        }
    }
    if faults.is_empty() {
        return Ok(running);
    }
    for account in &running {
        account.shutdown(Duration::from_secs(1)).await;
    }
    Err(StartError(faults))
}

async fn start(
    config: &Config,
    account: &config::Account,
    metrics: &Metrics,
    threads: &StorePool,
) -> Result<Running, String> {
    let server = &account.imap;
    if !server.verify {
        warn!(account = %account.address, host = %server.host,
            "THE CERTIFICATE OF THIS PROVIDER IS NOT VERIFIED (verify = false): anybody on the way can read the password and the mail");
    }
    let Some(password) = &server.password else {
        return Err("it has no way to log in to its provider: set `account.imap.password`".into());
    };
    let password = password.resolve().await.map_err(|error| format!("the provider's password: {error}"))?;
    let store = open_store(&cache_dir(&config.data_dir, &account.address)).await?;
    let counts = Arc::new(Counts {
        metrics: metrics.account(&account.address),
        connected: Mutex::default(),
        received: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        open: AtomicUsize::new(0),
    });
    let connections = account.limits.connections as usize;
    let meter: Arc<dyn Meter> = Arc::clone(&counts) as Arc<dyn Meter>;
    let pool = Pool::new(upstream::Config {
        quirks: quirks(account),
        meter,
        ..upstream::Config::new(
            &account.address,
            Target::of(server),
            &server.username,
            Credentials::Password(password),
            connections,
        )
    });
    let options = engine::Options {
        address: account.address.clone(),
        prefetch: match config.cache.prefetch {
            Prefetch::None => None,
            Prefetch::Days(days) => Some(Duration::from_secs(u64::from(days) * 86_400)),
            // As old as mail can be.
            Prefetch::All => Some(Duration::from_secs(200 * 365 * 86_400)),
        },
        cache_size: config.cache.max_size / config.accounts.len().max(1) as u64,
        append_limit: APPEND_LIMIT,
        connections,
    };
    Ok(Running {
        address: account.address.clone(),
        account: Account::start(options, pool.clone(), store.clone(), threads.clone(), metrics.clone()),
        upstream: format!("{}:{}", server.host, server.port),
        pool,
        counts,
        limits: account.limits.clone(),
        store,
    })
}

/// Opens a cache off the async threads: reading a large index takes a second.
async fn open_store(dir: &Path) -> Result<Store, String> {
    let (dir, shown) = (dir.to_owned(), dir.display().to_string());
    let opened = tokio::task::spawn_blocking(move || Store::open(&dir, &store::Options::for_disk(&dir))).await;
    match opened {
        Ok(Ok(store)) => {
            if store.was_reset() {
                warn!(cache = %shown, "the cache was damaged and is made anew; nothing is lost but time");
            }
            Ok(store)
        }
        Ok(Err(error)) => Err(format!("the cache in {shown} cannot be opened: {error}")),
        Err(error) => Err(format!("the cache in {shown} cannot be opened: {error}")),
    }
}

fn quirks(account: &config::Account) -> upstream::Quirks {
    let Some(preset) = account.provider else { return upstream::Quirks::default() };
    let broken = [(Quirk::QresyncBroken, "QRESYNC"), (Quirk::NoImap4rev2, "IMAP4REV2"), (Quirk::NoSaslIr, "SASL-IR")];
    upstream::Quirks {
        line_limit: preset.command_line_max.map(|limit| limit as usize),
        hidden_capabilities: broken
            .into_iter()
            .filter(|(quirk, _)| preset.has(*quirk))
            .map(|(_, capability)| capability.to_owned())
            .collect(),
        single_moves: preset.has(Quirk::MoveOneAtATime) || preset.has(Quirk::CopyuidUnreliable),
        idle_renew: preset.idle_renew(),
    }
}

impl Running {
    pub(super) fn status(&self) -> AccountStatus {
        AccountStatus {
            address: self.address.clone(),
            upstream: self.upstream.clone(),
            connections: self.counts.open.load(Ordering::Relaxed) as u64,
            connections_allowed: u64::from(self.limits.connections),
            downloaded: self.counts.received.load(Ordering::Relaxed),
            download_allowed: self.limits.download_per_day,
            uploaded: self.counts.sent.load(Ordering::Relaxed),
            upload_allowed: self.limits.upload_per_day,
            seen_seconds: self.account.upstream_seen().map(|since| since.as_secs()),
            fault: self.account.upstream_fault(),
        }
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        self.store.disk_bytes()
    }

    /// Brings up to date what is only counted when somebody asks.
    pub(super) fn refresh_metrics(&self) {
        let metrics = &self.counts.metrics;
        metrics.set_download(self.counts.received.load(Ordering::Relaxed), self.limits.download_per_day);
        metrics.set_upload(self.counts.sent.load(Ordering::Relaxed), self.limits.upload_per_day);
        if let Some(lag) = self.account.upstream_seen() {
            metrics.set_sync_lag(lag);
        }
    }

    pub(super) fn kick(&self) {
        self.pool.kick();
    }

    pub(super) async fn shutdown(&self, grace: Duration) {
        self.account.shutdown(grace).await;
    }
}
