//! The outbox: messages accepted here that are sent later, and what comes of them.
//!
//! [`passage`] is a client's message on its way: it goes straight to the provider and into a file ([`spool`]) at once; what the provider does not
//! take now is kept, after file and row are on the disk, and only then acknowledged. [`sender`] sends what is kept, one message at a time
//! ([`transaction`]), and has the sender told of what failed for good ([`bounce`]). [`entry`] is what a row says, [`backoff`] when
//! something is tried again, [`outside`] what this all needs of the account.
//!
//! # Exactly once, as far as SMTP allows
//!
//! A row says that the lone dot is about to be sent before it is sent. Where then no answer comes (a lost connection, a crash), the message is
//! in doubt: the provider has it or not. Where the provider files what it sends, its sent folder is looked at; a copy with the trace header
//! of that very transaction settles it. Else, and where nothing is found, the message is sent again: then it may arrive twice. That is the doubt window: from
//! the lone dot to the provider's answer. It is logged and counted (`mailweir_outbox_doubts_total`). Towards the program that sends the
//! same holds between our commit and its reading our 250 (RFC 1047).

mod backoff;
mod bounce;
mod commits;
mod copies;
mod entry;
mod outside;
mod passage;
mod route;
mod sender;
mod spool;
mod strays;
#[cfg(test)]
mod tests;
mod transaction;
mod unsent;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, warn};

use super::status::{NO_SERVER, OutboxStatus};
use crate::config::{self, SentCopy};
use crate::metrics::OutboxMetrics;
use crate::provider::Quirk;
use crate::state::{OutboxRoom, OutboxRow, State};
use crate::store::StorePool;
use crate::wire::smtp::Reply;
pub(crate) use entry::{Entry, What};
pub(super) use outside::AtWork;
pub(super) use passage::Kept;
pub(super) use route::Route;
pub(super) use sender::Sender;
pub(super) use strays::Strays;

/// After a provider was not reached, no program waits for the same so soon: its message is kept at once.
const KNOWN_AWAY: Duration = Duration::from_secs(30);

/// The time of day; another one in tests.
pub(super) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// One account's outbox.
pub(super) struct Outbox {
    address: String,
    key: String,
    dir: PathBuf,
    state: State,
    threads: StorePool,
    settings: config::Sending,
    /// Who puts what was sent into the sent folder.
    sent_copy: SentCopy,
    /// The configuration names a server for sending; without one what waits stays, and is told of at the end of its time.
    has_server: bool,
    metrics: OutboxMetrics,
    clock: Clock,
    /// Held by whoever asks the durable state, until it has answered.
    order: Arc<tokio::sync::Mutex<()>>,
    /// Something is to be looked at anew.
    wake: Notify,
    view: Mutex<View>,
    /// Octets of files being written.
    spooling: AtomicU64,
}

/// What is known of it without asking the disk.
#[derive(Default)]
struct View {
    messages: u64,
    octets: u64,
    oldest: Option<SystemTime>,
    next: Option<SystemTime>,
    last: Option<String>,
    hold: Option<Hold>,
    /// The hold's commit is under way, or has failed: the disk may not know of it.
    unwritten: bool,
    /// Changes of the hold.
    holds: u64,
    away: Option<Away>,
}

/// The provider takes nothing from this account until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    /// Seconds since the epoch.
    until: u64,
    words: String,
}

impl Hold {
    fn until(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.until)
    }

    /// The one that lasts longer; the newer words of two that end together.
    fn later(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        [other, one].into_iter().flatten().reduce(|best, next| if next.until > best.until { next } else { best })
    }
}

/// The provider was not reached.
#[derive(Clone, Debug)]
struct Away {
    since: Instant,
    until: Instant,
    times: u32,
    words: String,
}

/// Where an account's files of the outbox are.
pub(crate) fn dir(data_dir: &Path, address: &str) -> PathBuf {
    data_dir.join("outbox").join(super::escaped(address))
}

/// How the state names what holds an account's messages back.
pub(crate) fn hold_key(address: &str) -> String {
    format!("{}{}", crate::state::HELD, super::spending::key(address))
}

/// Removes files that nobody was told of. Only at the start of the process: afterwards messages on their way have files without rows.
pub(super) fn sweep(data_dir: &Path, address: &str, state: &State) -> Result<(), String> {
    let rows = state.outbox(Some(&super::spending::key(address))).map_err(|error| error.to_string())?;
    let mut named = HashSet::new();
    for row in &rows {
        match Entry::read(row) {
            Some(entry) => drop(named.insert(entry.file)),
            // What it names is not known.
            None => return Ok(()),
        }
    }
    let dir = dir(data_dir, address);
    spool::sweep(&dir, &named).map_err(|error| format!("{}: {error}", dir.display()))
}

/// Who files what was sent, as configured or as the provider is known for.
pub(super) fn sent_copy(account: &config::Account) -> SentCopy {
    let by_preset = account.provider.is_some_and(|preset| preset.has(Quirk::SavesSentCopy));
    account.sending.sent_copy.unwrap_or(if by_preset { SentCopy::Provider } else { SentCopy::Client })
}

impl Outbox {
    pub(super) fn new(
        account: &config::Account,
        data_dir: &Path,
        (state, threads): (State, StorePool),
        metrics: OutboxMetrics,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            address: account.address.clone(),
            key: super::spending::key(&account.address),
            dir: dir(data_dir, &account.address),
            state,
            threads,
            settings: account.sending.clone(),
            sent_copy: sent_copy(account),
            has_server: account.smtp.is_some(),
            metrics,
            clock,
            order: Arc::default(),
            wake: Notify::new(),
            view: Mutex::default(),
            spooling: AtomicU64::new(0),
        })
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// What the provider does not take now is accepted.
    pub(super) fn keeps(&self) -> bool {
        self.settings.queue
    }

    /// Something is made of every message that is sent.
    pub(super) fn copies(&self) -> bool {
        self.settings.archive.is_some() || self.sent_copy == SentCopy::Mailweir
    }

    /// What stands before a message in one transaction, so that a copy of it can be told from others; nothing where nobody files copies.
    fn trace(&self, token: &str) -> String {
        if self.sent_copy == SentCopy::Provider { spool::trace(token, self.now()) } else { String::new() }
    }

    pub(super) fn reply_to(&self) -> Option<&str> {
        self.settings.reply_to.as_deref()
    }

    fn full() -> Reply {
        Reply::new(
            452,
            "4.3.1",
            "The provider cannot take the message now, and there is no room to keep it: try again later",
        )
    }

    fn limits(&self) -> OutboxRoom {
        OutboxRoom { messages: self.settings.queue_max_messages.into(), octets: self.settings.queue_max_size }
    }

    /// Whether there is room for one more of so many octets.
    fn has_room(&self, octets: u64) -> bool {
        let (limits, view) = (self.limits(), self.view());
        let used = view.octets.saturating_add(self.spooling.load(Ordering::Relaxed));
        view.messages < limits.messages && used.saturating_add(octets) <= limits.octets
    }

    /// Why nothing may be tried now: the provider blocks the account.
    fn held(&self, now: SystemTime) -> Option<String> {
        let view = self.view();
        view.hold.as_ref().filter(|hold| hold.until() > now).map(|hold| hold.words.clone())
    }

    /// The provider was not reached a moment ago.
    fn known_away(&self) -> Option<String> {
        let view = self.view();
        view.away.as_ref().filter(|away| away.since.elapsed() < KNOWN_AWAY).map(|away| away.words.clone())
    }

    /// Until when the provider is left alone because it was not reached.
    fn away_until(&self) -> Option<Instant> {
        self.view().away.as_ref().map(|away| away.until).filter(|until| *until > Instant::now())
    }

    fn missed(&self, words: &str) {
        let mut view = self.view();
        let times = view.away.as_ref().map_or(0, |away| away.times).saturating_add(1);
        let now = Instant::now();
        view.away = Some(Away { since: now, until: now + backoff::away(times), times, words: words.to_owned() });
    }

    fn reached(&self) {
        if self.view().away.take().is_some() {
            self.wake.notify_one();
        }
    }

    /// The provider said that it takes nothing from this account: nothing is tried until that is over, a restart between or not. Until
    /// when: a longer hold that is there stays.
    async fn hold(&self, length: Duration, words: String) -> SystemTime {
        let until = (self.now() + length).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        warn!(account = %self.address, minutes = length.as_secs() / 60, "nothing more is sent for now: {words}");
        let hold = Hold { until, words };
        let hold = {
            let mut view = self.view();
            let longest = Hold::later(view.hold.take(), Some(hold));
            (view.hold, view.unwritten) = (longest.clone(), true);
            view.holds += 1;
            longest
        };
        let (key, wanted) = (hold_key(&self.address), hold.clone());
        let written = self.durable(move |state, _| {
            // One from before the start may not have been read yet.
            let there = state.value(&key)?.and_then(|there| serde_json::from_slice::<Hold>(&there).ok());
            let longest = Hold::later(there, wanted);
            let value = longest.as_ref().and_then(|longest| serde_json::to_vec(longest).ok());
            state.set_value(&key, value.as_deref())?;
            Ok(longest)
        });
        let written = written.await;
        let mut view = self.view();
        match written {
            Ok(longest) => {
                view.unwritten &= view.hold != hold;
                view.hold = Hold::later(view.hold.take(), longest);
            }
            Err(words) => error!(account = %self.address, "the provider's block cannot be written down: {words}"),
        }
        view.holds += 1;
        view.hold.as_ref().map_or(SystemTime::UNIX_EPOCH, Hold::until)
    }

    /// Somebody wants it tried now: not what the provider has forbidden.
    pub(super) fn kick(&self) {
        self.view().away = None;
        self.wake.notify_one();
    }

    /// Reads all there is, and what it is from now on.
    async fn load(&self) -> Result<Vec<(OutboxRow, Entry)>, String> {
        let hold_key = hold_key(&self.address);
        let holds = self.view().holds;
        let (rows, hold) =
            self.durable(move |state, key| Ok((state.outbox(Some(key))?, state.value(&hold_key)?))).await?;
        let hold = hold.and_then(|hold| serde_json::from_slice::<Hold>(&hold).ok());
        let counted = rows.iter().filter(|row| row.item.octets > 0);
        let (messages, octets) = counted.fold((0, 0), |(n, octets), row| (n + 1, octets + row.item.octets));
        let entries: Vec<_> = rows.into_iter().filter_map(|row| Entry::read(&row).map(|entry| (row, entry))).collect();
        let mut view = self.view();
        (view.messages, view.octets) = (messages, octets);
        // What the disk says stands, unless it was asked before it could know of a new one.
        let is_newer = view.unwritten || view.holds != holds;
        view.hold = if is_newer { Hold::later(hold, view.hold.take()) } else { hold };
        view.oldest = entries.iter().map(|(row, _)| row.item.created).min();
        view.next = entries.iter().map(|(row, _)| row.item.due).min();
        view.last = entries.iter().find_map(|(_, entry)| entry.last()).map(str::to_owned);
        drop(view);
        self.metrics.set_messages(messages, self.has_server);
        Ok(entries)
    }

    /// `None`: nothing waits, and nothing is held back.
    pub(super) fn status(&self) -> Option<OutboxStatus> {
        let (now, view) = (self.now(), self.view());
        let hold = view.hold.as_ref().filter(|hold| hold.until() > now);
        if view.messages == 0 && hold.is_none() && view.oldest.is_none() {
            return None;
        }
        let age = |at: SystemTime| now.duration_since(at).unwrap_or_default().as_secs();
        let away = view.away.as_ref().filter(|away| away.until > Instant::now());
        let ahead = |at: SystemTime| at.duration_since(now).unwrap_or_default().as_secs();
        let next = match (hold, away) {
            _ if !self.has_server => None,
            (Some(hold), _) => Some(ahead(hold.until())),
            (None, Some(away)) => Some(away.until.saturating_duration_since(Instant::now()).as_secs()),
            (None, None) => view.next.map(ahead),
        };
        let words = (!self.has_server).then(|| NO_SERVER.to_owned());
        let words =
            words.or_else(|| hold.map(|hold| hold.words.clone())).or_else(|| away.map(|away| away.words.clone()));
        Some(OutboxStatus {
            messages: view.messages,
            octets: view.octets,
            oldest_seconds: view.oldest.map(age),
            next_seconds: next,
            words: words.or_else(|| view.last.clone()),
        })
    }
}
