//! The configured accounts, each with its cache, its upstream pool and what it spends.

mod keeper;
mod report;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::keeper::{keep, mark, save_end};
use super::audit::Trail;
use super::marker::{self, Found};
use super::outbox::{self, Outbox};
use super::pop3::Hidden;
use super::smtp::Outgoing;
use super::spending::{self, Spending};
use super::tokens::{self, Vault, Way};
use super::{GRACE, StartError, cache_dir};
use crate::config::{self, Prefetch};
use crate::engine::{self, Account, Cache};
use crate::metrics::Metrics;
use crate::net::Target;
use crate::provider::Quirk;
use crate::secret::SecretRef;
use crate::state::State;
use crate::store::{self, Store, StorePool};
use crate::upstream::{self, Pool};

mod told;

/// Largest message a client may APPEND: above what any preset's provider takes (Mail.ru 70 MB, Gmail 35 MB).
const APPEND_LIMIT: u64 = 73_400_320;
/// A sweep reads the whole database, a second for 100,000 messages; a comparison after a loss writes it.
const SWEEP_DEADLINE: Duration = Duration::from_secs(300);

/// What all accounts share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) data_dir: PathBuf,
    pub(super) cache: config::Cache,
    pub(super) http: config::Http,
    /// Accounts at start: each has its share of the cache.
    pub(super) shares: u64,
    pub(super) state: State,
    pub(super) threads: StorePool,
    pub(super) metrics: Metrics,
    pub(super) audit: Arc<Trail>,
    /// Some listener takes mail to be sent.
    pub(super) sends: bool,
    pub(super) token_key: SecretRef,
}

impl Context {
    /// How the account logs in at its provider.
    pub(super) async fn way(&self, account: &config::Account) -> Result<Way, String> {
        let vault = Vault {
            data_dir: self.data_dir.clone(),
            token_key: self.token_key.clone(),
            state: self.state.clone(),
            threads: self.threads.clone(),
        };
        vault.way(account).await
    }
}

/// The accounts at work, in the configuration's order.
#[derive(Default)]
pub(super) struct Accounts {
    running: RwLock<Arc<[Arc<Running>]>>,
}

impl Accounts {
    pub(super) fn all(&self) -> Arc<[Arc<Running>]> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn find(&self, address: &str) -> Option<Arc<Running>> {
        self.all().iter().find(|running| running.is(address)).cloned()
    }

    /// The addresses mail programs log in by.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.all().iter().map(|running| running.account.address().to_owned()).collect()
    }

    pub(super) fn replace(&self, running: Vec<Arc<Running>>) {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = running.into();
    }
}

/// One account at work.
pub(super) struct Running {
    pub(super) account: Account,
    /// `None`: no server for sending is known.
    pub(super) outgoing: Option<Outgoing>,
    /// Cancelled when the account is retired: sessions logged in to it end.
    pub(super) closing: CancellationToken,
    settings: Mutex<config::Account>,
    way: Way,
    pool: Pool,
    spending: Arc<Spending>,
    disk: Disk,
    ready_within: Duration,
    began: Instant,
    outbox: Arc<Outbox>,
    /// What sends from it; told to stop by the token.
    sender: (CancellationToken, Mutex<Option<JoinHandle<()>>>),
}

/// Where an account's durable part is kept, and the threads that may wait for it.
#[derive(Clone)]
struct Disk {
    state: State,
    threads: StorePool,
}

/// All that can fail of an account's start, done.
pub(super) struct Prepared {
    settings: config::Account,
    way: Way,
    cache: Cache,
    spending: Arc<Spending>,
}

/// Opens every account; all that is wrong is told at once.
pub(super) async fn start_all(
    context: &Context,
    accounts: &[config::Account],
) -> Result<Vec<Arc<Running>>, StartError> {
    let mut prepared = Vec::new();
    let mut faults = Vec::new();
    for account in accounts {
        match prepare(context, account, true).await {
            Ok(account) => prepared.push(account),
            Err(words) => faults.push(format!("{}: {words}", account.address)),
        }
    }
    if !faults.is_empty() {
        return Err(StartError(faults));
    }
    Ok(prepared.into_iter().map(|account| Arc::new(Running::begin(context, account))).collect())
}

/// Resolves the password, opens the cache and reads the count. `at_start`: nothing is at work in this process yet, not even the end of what
/// the account was before it was taken out of the configuration and put back.
pub(super) async fn prepare(context: &Context, account: &config::Account, at_start: bool) -> Result<Prepared, String> {
    let way = context.way(account).await?;
    let dir = cache_dir(&context.data_dir, &account.address);
    let store = open_store(&dir).await?;
    let (state, settings, metrics) =
        (context.state.clone(), account.clone(), context.metrics.account(&account.address));
    let cache = Cache::new(store, context.threads.clone());
    let shown = dir.display().to_string();
    let data_dir = context.data_dir.clone();
    let read = move |store: &Store| {
        if at_start {
            outbox::sweep(&data_dir, &settings.address, &state).map_err(|error| format!("the outbox: {error}"))?;
        }
        if marker::is_elsewhere(store, &state, &spending::key(&settings.address), &place(&settings))
            .map_err(|error| format!("the cache in {shown} cannot be cleared for another provider: {error}"))?
        {
            warn!(cache = %shown, "the account is at another provider now: its cache is made anew, and nothing is hidden from POP3");
        }
        let found = marker::settle(store, &state, &spending::key(&settings.address))
            .map_err(|error| format!("the cache in {shown} cannot be compared with what is known of it: {error}"))?;
        match found {
            Found::InStep => {}
            Found::Gone => info!(cache = %shown, "there is no cache any more: everything is read anew"),
            Found::Older => warn!(cache = %shown, "the cache is older than it should be: every mailbox is read anew"),
        }
        Spending::load(&settings.address, &settings.limits, metrics, &state).map_err(|error| error.to_string())
    };
    let read = cache.run(SWEEP_DEADLINE, read).await;
    let spending = Arc::new(read.map_err(|error| error.to_string())??);
    Ok(Prepared { settings: account.clone(), way, cache, spending })
}

/// User and server, as one word.
fn place(settings: &config::Account) -> String {
    format!("{}@{}:{}", settings.imap.username, settings.imap.host, settings.imap.port)
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

/// The provider's oddities that concern the engine. Whoever files what was sent, a program's own upload of it is answered with that copy.
fn engine_quirks(account: &config::Account) -> Vec<Quirk> {
    let mut quirks = account.provider.map(|preset| preset.quirks().to_vec()).unwrap_or_default();
    quirks.retain(|quirk| *quirk != Quirk::SavesSentCopy);
    if outbox::sent_copy(account) != config::SentCopy::Client {
        quirks.push(Quirk::SavesSentCopy);
    }
    quirks
}

fn quirks(account: &config::Account) -> upstream::Quirks {
    let compress = (!account.limits.compress).then(|| "COMPRESS=DEFLATE".to_owned());
    let Some(preset) = account.provider else {
        return upstream::Quirks { hidden_capabilities: compress.into_iter().collect(), ..upstream::Quirks::default() };
    };
    let broken = [(Quirk::QresyncBroken, "QRESYNC"), (Quirk::NoImap4rev2, "IMAP4REV2"), (Quirk::NoSaslIr, "SASL-IR")];
    upstream::Quirks {
        line_limit: preset.command_line_max.map(|limit| limit as usize),
        hidden_capabilities: broken
            .into_iter()
            .filter(|(quirk, _)| preset.has(*quirk))
            .map(|(_, capability)| capability.to_owned())
            .chain(compress)
            .collect(),
        single_moves: preset.has(Quirk::MoveOneAtATime) || preset.has(Quirk::CopyuidUnreliable),
        idle_renew: preset.idle_renew(),
    }
}

/// Whether `BODY[section]` and BODYSTRUCTURE of this provider are known for nothing bad.
fn believes_parts(account: &config::Account) -> bool {
    let wrong = [Quirk::SectionMayBeEmpty, Quirk::StructureWrong];
    account.provider.is_none_or(|preset| !wrong.iter().any(|quirk| preset.has(*quirk)))
}

impl Running {
    /// Sets to work what was prepared.
    pub(super) fn begin(context: &Context, prepared: Prepared) -> Self {
        let Prepared { settings, way, cache, spending } = prepared;
        let server = &settings.imap;
        if !server.verify {
            warn!(account = %settings.address, host = %server.host,
                "THE CERTIFICATE OF THIS PROVIDER IS NOT VERIFIED (verify = false): anybody on the way can read the password and the mail");
        }
        let connections = settings.limits.connections as usize;
        let pool = Pool::new(upstream::Config {
            quirks: quirks(&settings),
            meter: Arc::<Spending>::clone(&spending),
            permits: Arc::<Spending>::clone(&spending),
            lowered: spending.lowered_before(),
            ..upstream::Config::new(
                &settings.address,
                Target::of(server),
                &server.username,
                way.credentials(),
                connections,
            )
        });
        let disk = Disk { state: context.state.clone(), threads: context.threads.clone() };
        let outbox = Outbox::new(
            &settings,
            &context.data_dir,
            (disk.state.clone(), disk.threads.clone()),
            context.metrics.outbox(&settings.address),
            Arc::new(std::time::SystemTime::now),
        );
        let options = engine::Options {
            address: settings.address.clone(),
            prefetch: match context.cache.prefetch {
                Prefetch::None => None,
                Prefetch::Days(days) => Some(Duration::from_secs(u64::from(days) * 86_400)),
                // As old as mail can be.
                Prefetch::All => Some(Duration::from_secs(200 * 365 * 86_400)),
            },
            cache_size: context.cache.max_size / context.shares.max(1),
            append_limit: APPEND_LIMIT,
            connections,
            parts: believes_parts(&settings),
            english_names: settings.english_names,
            refresh: context.http.ready_within,
            audit: Some(Arc::<Trail>::clone(&context.audit)),
            allowance: Arc::<Spending>::clone(&spending),
            upstream: place(&settings),
            window: engine::YAHOO_WINDOW,
            quirks: engine_quirks(&settings),
            unsent: Some(Arc::<Outbox>::clone(&outbox)),
        };
        spending.set_quirks(&options.quirks);
        let outgoing = Outgoing::new(&settings, way.credentials(), Arc::clone(&spending), Arc::clone(&outbox));
        if let Some(outgoing) = outgoing.as_ref().filter(|_| context.sends) {
            outgoing.probe();
        }
        let kept = engine::Disk { cache, state: disk.state.clone(), threads: disk.threads.clone() };
        let account = Account::start(options, pool.clone(), kept, context.metrics.clone());
        let closing = CancellationToken::new();
        let keeper = keep(account.clone(), Arc::clone(&spending), disk.clone());
        let stop = closing.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = keeper => {}
            }
        });
        if let Way::Tokens(grant) = &way {
            let (stop, metrics) = (closing.clone(), spending.metrics().clone());
            let attended = tokens::attend(grant.clone(), account.clone(), pool.clone(), outgoing.clone(), metrics);
            tokio::spawn(async move { stop.run_until_cancelled_owned(attended).await });
        }
        let sender = CancellationToken::new();
        // Without a server for sending too: what was accepted is told of, and what is to be stored over IMAP is.
        let outside = outbox::AtWork { outgoing: outgoing.clone(), account: account.clone(), pool: pool.clone() };
        let sending = tokio::spawn(outbox::Sender::new(Arc::clone(&outbox), outside).run(sender.clone()));
        let sender = (sender, Mutex::new(Some(sending)));
        let settings = Mutex::new(settings);
        let (ready_within, began) = (context.http.ready_within, Instant::now());
        Self { account, outgoing, closing, settings, way, pool, spending, disk, ready_within, began, outbox, sender }
    }

    pub(super) fn is(&self, address: &str) -> bool {
        self.account.address().eq_ignore_ascii_case(address)
    }

    /// Whether these settings reach another provider, log in otherwise, or name mailboxes otherwise.
    pub(super) fn differs(&self, settings: &config::Account, way: &Way) -> bool {
        let own = self.settings();
        let reach = |account: &config::Account| {
            (
                account.imap.clone(),
                (account.smtp.clone(), account.aliases.clone(), account.sending.clone()),
                account.provider,
                account.oauth2.clone(),
                account.english_names,
                account.limits.compress,
            )
        };
        reach(&own) != reach(settings) || !self.way.is_like(way) || own.address != settings.address
    }

    /// Takes over what can be changed while it runs.
    pub(super) fn adjust(&self, settings: &config::Account) {
        let before =
            std::mem::replace(&mut *self.settings.lock().unwrap_or_else(PoisonError::into_inner), settings.clone());
        if before.limits != settings.limits {
            self.spending.set_limits(&settings.limits);
            self.pool.set_connections(settings.limits.connections as usize);
            info!(account = %settings.address, "new limits");
        }
    }

    /// Ends this and begins again with other settings, on the same cache and count.
    pub(super) async fn restart(&self, context: &Context, settings: config::Account, way: Way) -> Self {
        self.retire().await;
        let (state, next) = (context.state.clone(), settings.clone());
        let settle =
            move |store: &Store| marker::is_elsewhere(store, &state, &spending::key(&next.address), &place(&next));
        match self.account.cache().run(SWEEP_DEADLINE, settle).await.map_err(marker::Error::from).and_then(|done| done)
        {
            Ok(false) => {}
            Ok(true) => info!(account = %settings.address, "the account is at another provider now"),
            Err(error) => {
                warn!(account = %settings.address, %error, "the cache cannot be cleared for the new provider");
            }
        }
        self.spending.set_limits(&settings.limits);
        let (cache, spending) = (self.account.cache().clone(), Arc::clone(&self.spending));
        Self::begin(context, Prepared { settings, way, cache, spending })
    }

    /// Ends it, and the sessions logged in to it.
    pub(super) async fn retire(&self) {
        self.closing.cancel();
        self.shutdown(GRACE).await;
    }

    fn settings(&self) -> config::Account {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the account looks over POP3 now.
    pub(super) fn pop3(&self) -> config::Pop3 {
        self.settings().pop3
    }

    /// What a device has deleted over POP3.
    pub(super) fn hidden(&self, device: Option<&str>) -> Hidden {
        Hidden::new(self.disk.state.clone(), self.disk.threads.clone(), self.account.address(), device)
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        self.account.cache().disk_bytes()
    }

    pub(super) fn kick(&self) {
        if let Way::Tokens(grant) = &self.way {
            grant.kick();
        }
        self.pool.kick();
        if let Some(outgoing) = &self.outgoing {
            outgoing.kick();
        }
        self.outbox.kick();
    }

    /// Ends the account's work, then writes down how much was spent and how far the cache is.
    pub(super) async fn shutdown(&self, grace: Duration) {
        self.sender.0.cancel();
        let sending = self.sender.1.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sending) = sending {
            let abort = sending.abort_handle();
            if tokio::time::timeout(grace, sending).await.is_err() {
                // What stands in its row is true wherever it ends.
                warn!(
                    account = self.account.address(),
                    "a message of the outbox was not sent in time: it is settled at the next start"
                );
                abort.abort();
            }
        }
        self.account.shutdown(grace).await;
        if let Some(outgoing) = &self.outgoing {
            outgoing.shutdown().await;
        }
        self.closing.cancel();
        if let Way::Tokens(grant) = &self.way
            && tokio::time::timeout(grace, grant.at_rest()).await.is_err()
        {
            warn!(account = self.account.address(), "a request for an access token did not end in time");
        }
        save_end(&self.spending, &self.disk).await;
        mark(&self.account, &self.disk).await;
    }
}
