//! One account: the mirror's mailboxes and the API sessions use.
//!
//! Departure from the design's single actor: every mailbox has a turn of its own (`State::turn`) instead of one queue per account, so
//! that a slow exchange on one mailbox holds up no other. The law it serves stands: only the holder of the turn commits.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, error, warn};

use super::allowance::Allowance;
use super::appetite::Appetite;
use super::audit::{self, Audit, Client, on_behalf};
use super::bodies::Bodies;
use super::cache::Cache;
use super::disk::Ills;
use super::error::Error;
use super::folders::FolderList;
use super::mailbox::State;
use super::names::shown_quota_root;
use super::progress::{ReadCounts, Readings};
use super::selected::Mailbox;
use super::snapshot::StatusData;
use super::writes::{Append, Appended, Filed, Filer, Unfinished};
use crate::metrics::{AccountMetrics, Metrics};
use crate::model::{Folders, Role};
use crate::provider::Quirk;
use crate::state;
use crate::store::{Store, StorePool};
use crate::upstream::{self, Class, Pool};

/// How long SELECT and STATUS wait for upstream before they serve what the mirror has.
const LOOK_WAIT: Duration = Duration::from_secs(4);
/// The same where the mirror is from disk and not yet held against upstream: after a crash it may lack what clients have been told. Not
/// where upstream is known to be out of reach.
const FIRST_LOOK_WAIT: Duration = Duration::from_secs(10);

/// NOOPs of all clients of a mailbox that upstream does not push cost at most one look in this time, and wait so long for it.
const POLL_SPACING: Duration = Duration::from_secs(3);
const POLL_WAIT: Duration = Duration::from_millis(1500);

/// Deadline of a store call about a whole mailbox of a million (Law 4).
pub(crate) const LONG_CALL: Duration = Duration::from_secs(120);

/// A mailbox seen to agree with upstream this recently is not asked for again: a burst of STATUS and SELECT from many clients is one
/// look.
const RECENTLY: Duration = Duration::from_millis(1000);

/// How one account is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The user name mail programs give.
    pub address: String,
    /// Bodies of messages younger than this are fetched before anyone asks; `None`: of no message.
    pub prefetch: Option<Duration>,
    /// Octets the body files of this account may take.
    pub cache_size: u64,
    /// Largest message APPEND takes, octets.
    pub append_limit: u64,
    /// Upstream sessions the pool may hold; all but one may watch.
    pub connections: usize,
    /// Whether upstream's BODYSTRUCTURE and `BODY[section]` are to be believed: sections of large messages are then asked for alone.
    pub parts: bool,
    /// What may be fetched and sent.
    pub allowance: Arc<dyn Allowance>,
    /// User and server, as one word: what was kept of another means nothing here.
    pub upstream: String,
    /// The provider's oddities that concern what is done here.
    pub quirks: Vec<Quirk>,
    /// Messages of a mailbox that upstream shows at most, where [`Quirk::SelectShowsNewestOnly`] says that it does not show all.
    pub window: u32,
    /// Special mailboxes are shown by English names.
    pub english_names: bool,
    /// Upstream is to have answered within this time, always: IDLE is renewed in time, and the disk looked at as often.
    pub refresh: Duration,
    /// Messages accepted to be sent that are not sent yet.
    pub unsent: Option<Arc<dyn super::Unsent>>,
    /// Hears of every write that can make mail disappear from somewhere.
    pub audit: Option<Arc<dyn Audit>>,
}

impl Options {
    pub(crate) fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }
}

/// Where an account is kept, and the threads that may wait for it.
#[derive(Clone)]
pub struct Disk {
    /// The cache, this account's own.
    pub cache: Cache,
    /// What cannot be fetched again, of all accounts.
    pub state: state::State,
    pub threads: StorePool,
}

/// An account as sessions see it. Cloned freely.
#[derive(Clone)]
pub struct Account {
    pub(super) inner: Arc<Inner>,
    /// What the client it was given to has had fetched.
    appetite: Arc<Appetite>,
    client: Option<Arc<Client>>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) pool: Pool,
    pub(crate) metrics: Metrics,
    pub(super) counts: AccountMetrics,
    pub(crate) bodies: Bodies,
    pub(crate) folders: FolderList,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) disk: Disk,
    pub(super) unfinished: Unfinished,
    /// Held by whoever looks for a message just sent in the sent folder, and uploads it if it is not there.
    pub(super) filing: tokio::sync::Mutex<()>,
    pub(super) mailboxes: Mutex<HashMap<Arc<str>, Arc<State>>>,
    pub(super) loading: tokio::sync::Mutex<()>,
    openings: AtomicU64,
    /// Told when a session selects or leaves a mailbox.
    pub(crate) interest: watch::Sender<u64>,
    /// Told when new messages were committed.
    pub(crate) arrivals: Notify,
    /// When the last round trip to upstream succeeded.
    pub(super) last_seen: Mutex<Option<Instant>>,
    /// What kept us from upstream last, until it answers again.
    fault: Mutex<Option<String>>,
    /// What the account's owner must know and do.
    alert: Mutex<Option<Arc<str>>>,
    /// First readings of mailboxes that are under way.
    pub(super) readings: Readings,
    pub(super) reads: ReadCounts,
    /// What is wrong with the disk.
    pub(super) ills: Ills,
}

impl Account {
    /// Begins to serve an account: from the store at once, from upstream as soon as it answers. Runs until [`Self::shutdown`].
    pub fn start(options: Options, pool: Pool, disk: Disk, metrics: Metrics) -> Self {
        let inner = Inner::new(options, pool, disk, metrics);
        inner.spawn_keepers();
        Self { inner, appetite: Arc::default(), client: None }
    }

    /// The same for one client: what it has fetched is its own ([`Class::Bulk`]).
    pub fn for_client(&self, client: Client) -> Self {
        Self { inner: Arc::clone(&self.inner), appetite: Arc::default(), client: Some(Arc::new(client)) }
    }

    /// The client says which program it is.
    pub fn name_program(&self, program: &str) {
        if let Some(client) = &self.client {
            client.set_program(program);
        }
    }

    /// What keeps this account from its provider until the user acts, or what somebody was refused lately because the day is spent; in
    /// words for a reader.
    pub fn notice(&self) -> Option<String> {
        let stopped = self.inner.pool.stopped().map(|reason| Error::from(upstream::Error::Login(reason)).to_string());
        stopped.or_else(|| self.inner.options.allowance.notice())
    }

    /// What stands in the way at the provider now, and who waits for a session.
    pub fn standing(&self) -> upstream::Standing {
        self.inner.pool.standing()
    }

    /// Ends watching and fetching, lets running writes end (bounded), flushes the store, logs out upstream.
    pub async fn shutdown(&self, grace: Duration) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        if timeout(grace, self.inner.tasks.wait()).await.is_err() {
            warn!(account = %self.inner.label(), "some work did not end in time");
        }
        self.inner.pool.shutdown().await;
        // A failure is told by `disk`, and costs only a resynchronisation.
        let _ = self.inner.disk(Store::flush).await;
    }

    /// What it is cached in; another account may go on with it after [`Self::shutdown`].
    pub fn cache(&self) -> &Cache {
        &self.inner.disk.cache
    }

    pub fn address(&self) -> &str {
        &self.inner.options.address
    }

    /// Time since upstream last answered; `None` before the first time.
    pub fn upstream_seen(&self) -> Option<Duration> {
        self.inner.last_seen().map(|at| at.elapsed())
    }

    /// What keeps us from upstream now, in plain words.
    pub fn upstream_fault(&self) -> Option<String> {
        self.inner.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong with the disk this account is kept on, in plain words.
    pub fn disk_fault(&self) -> Option<String> {
        self.inner.ills.words(self.inner.disk.cache.is_open())
    }

    /// The provider's words, while a refused login keeps us from it.
    pub fn refused(&self) -> Option<String> {
        self.inner.pool.refused()
    }

    /// What is kept of this account beside the engine's own could not be kept either.
    pub fn state_failed(&self) {
        self.inner.counts.state_error();
        self.inner.ills.set_unkept(true);
    }

    /// What the account's owner must know and do, for every client to show.
    pub fn alert(&self) -> Option<Arc<str>> {
        self.inner.alert.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets what [`Self::alert`] gives; `None` when it is mended.
    pub fn set_alert(&self, words: Option<&str>) {
        *self.inner.alert.lock().unwrap_or_else(PoisonError::into_inner) = words.map(Arc::from);
    }

    /// The mailboxes; waits for the first LIST after a first start, later only for a moment.
    pub async fn folders(&self) -> Result<Arc<Folders>, Error> {
        Ok(self.inner.shown_folders(self.inner.current_folders().await?))
    }

    /// Whether messages can be put into a mailbox of this name. A list that does not have it is asked for anew, once; one that has it is
    /// believed, and if it is wrong upstream says so itself.
    pub async fn takes_messages(&self, name: &str) -> Result<bool, Error> {
        match self.inner.resolve(&self.inner.upstream_name(name).await?).await {
            Ok(_) => Ok(true),
            Err(Error::NoSuchMailbox(_) | Error::Cannot(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens a mailbox for SELECT or EXAMINE: in step with upstream if that can be had quickly, else as the mirror has it.
    pub async fn open(&self, name: &str) -> Result<Mailbox, Error> {
        let name = self.inner.resolve(&self.inner.upstream_name(name).await?).await?;
        let state = self.inner.in_step(&name).await?;
        Ok(self.mailbox(state))
    }

    /// The same without a look at upstream where the mirror has the mailbox already ([`Mailbox::refresh`] is for that).
    pub async fn open_mirrored(&self, name: &str) -> Result<Mailbox, Error> {
        let name = self.inner.resolve(&self.inner.upstream_name(name).await?).await?;
        let state = self.inner.state(&name).await?;
        let state = if state.is_known() && !state.snapshot().dead { state } else { self.inner.in_step(&name).await? };
        Ok(self.mailbox(state))
    }

    fn mailbox(&self, state: Arc<State>) -> Mailbox {
        Mailbox::new(Arc::clone(&self.inner), state, Arc::clone(&self.appetite), self.client.clone())
    }

    /// STATUS, from the mirror.
    pub async fn status(&self, name: &str) -> Result<StatusData, Error> {
        let name = self.inner.resolve(&self.inner.upstream_name(name).await?).await?;
        let state = self.inner.in_step(&name).await?;
        let snapshot = state.snapshot();
        let old = snapshot.messages.lower_bound(state.arrivals.first(snapshot.uid_validity));
        Ok(StatusData { recent: snapshot.messages.len() - old, ..snapshot.status() })
    }

    pub async fn create(&self, name: &str, role: Option<Role>) -> Result<(), Error> {
        self.inner.create(&self.inner.new_upstream_name(name).await?, role).await
    }

    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let name = self.inner.upstream_name(name).await?;
        on_behalf(self.client.clone(), self.inner.delete(&name)).await
    }

    pub async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let (from, to) = (self.inner.upstream_name(from).await?, self.inner.new_upstream_name(to).await?);
        on_behalf(self.client.clone(), self.inner.rename(&from, &to)).await
    }

    pub async fn subscribe(&self, name: &str, on: bool) -> Result<(), Error> {
        self.inner.subscribe(&self.inner.upstream_name(name).await?, on).await
    }

    /// Puts a message that was sent into the sent folder, if it is not there yet.
    pub async fn file_sent(&self, mailbox: &str, message: Append) -> Result<Option<Appended>, Error> {
        self.inner.append_as(&self.inner.upstream_name(mailbox).await?, vec![message], Filer::Ourselves).await
    }

    /// Uploads messages in order (several: MULTIAPPEND, RFC 3502); where they are, if upstream told.
    pub async fn append(&self, mailbox: &str, messages: Vec<Append>) -> Result<Option<Appended>, Error> {
        let mailbox = self.inner.upstream_name(mailbox).await?;
        on_behalf(self.client.clone(), self.inner.append(&mailbox, messages)).await
    }

    /// Whether a message is in a mailbox, by a look at upstream; an error where that cannot be told now.
    pub async fn is_filed(&self, mailbox: &str, wanted: Filed<'_>) -> Result<bool, Error> {
        self.inner.is_filed(&self.inner.upstream_name(mailbox).await?, wanted).await
    }

    /// Largest message APPEND takes (RFC 7889), octets.
    pub fn append_limit(&self) -> u64 {
        self.inner.options.append_limit
    }

    /// The untagged lines upstream answers GETQUOTA with (RFC 9208), without `* ` and CRLF.
    pub async fn quota(&self, root: &str) -> Result<Vec<Bytes>, Error> {
        let mut lease = self.inner.pool.lease(Class::Interactive, None).await?;
        Ok(lease.quota(root).await?)
    }

    /// The same for GETQUOTAROOT.
    pub async fn quota_root(&self, mailbox: &str) -> Result<Vec<Bytes>, Error> {
        let name = self.inner.resolve(&self.inner.upstream_name(mailbox).await?).await?;
        let mut lease = self.inner.pool.lease(Class::Interactive, None).await?;
        let lines = lease.quota_root(&name).await?;
        Ok(lines.into_iter().map(|line| shown_quota_root(line, mailbox, &name)).collect())
    }

    /// Whether upstream has QUOTA, as far as is known.
    pub fn offers_quota(&self) -> bool {
        self.inner.pool.caps().is_some_and(|caps| caps.has("QUOTA"))
    }

    /// Whether upstream moves messages by one command (RFC 6851), as far as is known.
    pub fn has_move(&self) -> bool {
        self.inner.pool.caps().is_some_and(|caps| caps.has("MOVE") || caps.has("IMAP4REV2"))
    }
}

impl Inner {
    /// An account at rest: nothing runs by itself yet.
    pub(crate) fn new(options: Options, pool: Pool, disk: Disk, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            counts: metrics.account(&options.address),
            options,
            pool,
            metrics,
            bodies: Bodies::default(),
            folders: FolderList::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            disk,
            unfinished: Unfinished::default(),
            filing: tokio::sync::Mutex::default(),
            mailboxes: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            openings: AtomicU64::new(1),
            interest: watch::Sender::new(0),
            arrivals: Notify::new(),
            last_seen: Mutex::default(),
            fault: Mutex::default(),
            alert: Mutex::default(),
            readings: Readings::default(),
            reads: ReadCounts::default(),
            ills: Ills::default(),
        })
    }

    pub(crate) fn label(&self) -> &str {
        &self.options.address
    }

    /// The state of a mailbox, in step if upstream answers in time, else as it was (if it ever was).
    pub(crate) async fn in_step(self: &Arc<Self>, name: &Arc<str>) -> Result<Arc<State>, Error> {
        // A second round only after a new UIDVALIDITY; a third says the provider makes a new one each time.
        for _ in 0..3 {
            let state = self.state(name).await?;
            match self.look(&state).await {
                Ok(()) => return Ok(state),
                Err(Error::Gone) => {}
                Err(error) if (error.is_outage() || error.is_passing()) && state.is_known() => return Ok(state),
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unavailable("The provider gives this mailbox a new UIDVALIDITY each time".into()))
    }

    /// Makes sure the mirror agrees with upstream, as far as that can be had quickly.
    pub(crate) async fn look(self: &Arc<Self>, state: &Arc<State>) -> Result<(), Error> {
        if state.snapshot().dead {
            return Err(Error::Gone);
        }
        let now = Instant::now();
        if state.is_known() && (state.is_live() || state.checked().is_some_and(|at| at + RECENTLY > now)) {
            return Ok(());
        }
        let looking = self.freshen(state, now, Class::Interactive);
        if !state.is_known() {
            return looking.await;
        }
        // Served as it was when upstream is slow; the look goes on and is told when it is done.
        let is_away = self.fault.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let patience = if state.checked().is_some() || is_away { LOOK_WAIT } else { FIRST_LOOK_WAIT };
        timeout(patience, looking).await.unwrap_or(Ok(()))
    }

    /// For CHECK and NOOP: a look, if upstream does not tell of changes by itself and nobody has looked lately.
    pub(crate) async fn refresh(self: &Arc<Self>, state: &Arc<State>) -> Result<(), Error> {
        let now = Instant::now();
        if state.is_live() || state.checked().is_some_and(|at| at + POLL_SPACING > now) {
            return Ok(());
        }
        match timeout(POLL_WAIT, self.freshen(state, now, Class::Interactive)).await {
            Ok(Err(error)) if !error.is_outage() => Err(error),
            // Slow or out of reach: the client hears of what changed at its next command.
            _ => Ok(()),
        }
    }

    /// Runs work that must not stop half way when its client goes away (Law 11).
    pub(crate) fn run_to_end<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        // Here and not in the block below, which would keep a place for the work beside the task's own.
        let task = self.tasks.spawn(on_behalf(audit::client(), work).in_current_span());
        async move {
            task.await.unwrap_or_else(|failure| {
                error!(account = %self.label(), %failure, "a task of the engine panicked");
                Err(Error::Internal("An internal error; see the log".into()))
            })
        }
    }

    pub(crate) fn interest_changed(&self) {
        self.interest.send_modify(|count| *count += 1);
    }

    pub(crate) fn mail_arrived(&self) {
        self.arrivals.notify_one();
    }

    pub(crate) fn next_opening(&self) -> u64 {
        self.openings.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn seen_upstream(&self) {
        *self.last_seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Remembers what keeps us from upstream, for whoever asks.
    pub(crate) fn missed_upstream(&self, error: &Error) {
        if error.is_outage() {
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
    }

    fn last_seen(&self) -> Option<Instant> {
        *self.last_seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since the Unix epoch: the seed of mod-sequences.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
