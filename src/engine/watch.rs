//! What keeps the mirror in step by itself: a keeper that looks at what no watcher ([`super::watcher`]) watches, prefetch, eviction.
//!
//! All of it runs below interactive work.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Duration, Instant, timeout};
use tracing::{debug, warn};

use super::account::{Inner, LONG_CALL, now_ms};
use super::error::Error;
use super::mailbox::{State, Watched};
use crate::model::{MessageMeta, Uid};
use crate::provider::Quirk;
use crate::store::Store;
use crate::upstream::{Class, StatusLine};

/// A mailbox that no session watches and a client waits for news of (IDLE) is asked for by STATUS this often,
const LOOK_OPEN: Duration = Duration::from_secs(15);
/// and looked at in full this often, as is one that clients only have open: where upstream keeps no mod-sequences, STATUS does not show
/// every changed flag, and a look is up to 100 KB. A client that polls has it looked at by itself.
const LOOK_FULL: Duration = Duration::from_secs(120);
/// Everything else, and the list of mailboxes.
pub(super) const LOOK_ALL: Duration = Duration::from_secs(300);
/// All of these are so many times as long when most of the day's allowance is spent.
const SLOW: u32 = 6;
/// The pause after a failed look; the pool's own back-off decides when a connection is tried.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// How long prefetch rests when its part of the day's allowance is spent: the allowance is counted in steps of ten minutes.
const SPENT: Duration = Duration::from_secs(600);
/// Bodies prefetched in one go.
const PREFETCH_BATCH: usize = 32;
/// How often the size is looked at, which costs next to nothing: on a quick line a program that downloads everything brings a hundred
/// megabytes in this time, and that is by how much the cache may be too large.
const HOLD_EVERY: Duration = Duration::from_secs(5);
/// Body files may take all of their size before eviction, and are then brought down to this share of it.
const LOW_WATER: (u64, u64) = (85, 100);

impl Inner {
    /// Starts everything that runs by itself.
    pub(crate) fn spawn_keepers(self: &Arc<Self>) {
        let watchers = self.options.connections.saturating_sub(1).max(1);
        for slot in 0..watchers {
            self.spawn_keeper(move |account| async move { account.watch_slot(slot).await });
        }
        self.spawn_keeper(|account| async move { account.keep_settled().await });
        self.spawn_keeper(|account| async move { account.look_after_all().await });
        self.spawn_keeper(|account| async move { account.look_after_open().await });
        self.spawn_keeper(|account| async move { account.prefetch().await });
        self.spawn_keeper(|account| async move { account.hold_size().await });
        self.spawn_keeper(|account| async move { account.mend_cache().await });
        self.spawn_keeper(|account| async move { account.watch_disk().await });
    }

    pub(crate) fn spawn_keeper<F, W>(self: &Arc<Self>, keeper: F)
    where
        F: FnOnce(Arc<Self>) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let account = Arc::clone(self);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = keeper(account) => {}
            }
        });
    }

    /// Looks at mailboxes clients have open that no session watches.
    async fn look_after_open(self: Arc<Self>) {
        let mut woken = self.pool.woken();
        loop {
            let slow = self.slowness();
            Self::rest(&mut woken, LOOK_OPEN * slow).await;
            for state in self.states() {
                if state.interest.load(Ordering::Relaxed) == 0 || state.watched() != Watched::No {
                    continue;
                }
                let is_due = state.checked().is_none_or(|checked| checked.elapsed() >= LOOK_FULL * slow);
                // An upstream that cannot be asked now cannot be looked at either.
                if is_due || state.is_attended() && !self.told_by_status(&state).await.unwrap_or(true) {
                    self.look_quietly(&state).await;
                }
            }
        }
    }

    /// Reads the list of mailboxes and every mailbox once, then looks at all of them now and then.
    async fn look_after_all(self: Arc<Self>) {
        let mut woken = self.pool.woken();
        loop {
            let started = Instant::now();
            match self.refresh_folders(started).await {
                Ok(list) => {
                    let names: Vec<Arc<str>> = list
                        .list
                        .iter()
                        .filter(|folder| !folder.noselect)
                        .map(|folder| Arc::clone(&folder.name))
                        .collect();
                    let differ = self.told_by_list_status().await;
                    for name in names {
                        let Ok(state) = self.state(&name).await else { continue };
                        let same = state.is_live()
                            || state.is_known()
                                && match &differ {
                                    Some(differ) => !differ.contains(&*name),
                                    None => self.told_by_status(&state).await.unwrap_or(false),
                                };
                        if same {
                            continue;
                        }
                        self.look_quietly(&state).await;
                    }
                    self.mail_arrived();
                    Self::rest(&mut woken, LOOK_ALL * self.slowness()).await;
                }
                Err(error) => {
                    self.missed_upstream(&error);
                    debug!(account = %self.label(), %error, "the list of mailboxes cannot be had now");
                    Self::rest(&mut woken, RETRY * 5).await;
                }
            }
        }
    }

    /// How many times as long looks that nobody asked for are apart: the more of the day is spent, the longer.
    pub(super) fn slowness(&self) -> u32 {
        if self.options.allowance.is_slow() { SLOW } else { 1 }
    }

    async fn look_quietly(self: &Arc<Self>, state: &Arc<State>) {
        match self.freshen(state, Instant::now(), Class::Sync).await {
            Ok(()) | Err(Error::Gone) => {}
            Err(error) => {
                debug!(account = %self.label(), mailbox = %state.name, %error, "cannot look at this mailbox now")
            }
        }
    }

    /// Names of mailboxes that differ from the mirror, by one LIST-STATUS (RFC 5819); `None` where upstream has none.
    async fn told_by_list_status(self: &Arc<Self>) -> Option<HashSet<String>> {
        let mut lease = self.pool.lease(Class::Sync, None).await.ok()?;
        if !lease.caps().has("LIST-STATUS") {
            return None;
        }
        let asked = Instant::now();
        let lines = lease.list_status().await.ok()?;
        drop(lease);
        let shows_all = !self.options.has(Quirk::SelectShowsNewestOnly);
        let differ = lines.into_iter().filter_map(|line| {
            let name = super::folders::canonical(&line.mailbox);
            let same = self.known_state(&name).is_some_and(|state| agrees(&state, &line, asked, shows_all));
            (!same).then_some(name)
        });
        Some(differ.collect())
    }

    /// The same for one mailbox, by STATUS: some hundred octets where a look may be a hundred thousand. Whoever opens the mailbox has
    /// it looked at in full.
    async fn told_by_status(self: &Arc<Self>, state: &Arc<State>) -> Result<bool, Error> {
        let asked = Instant::now();
        let line = self.pool.lease(Class::Sync, None).await?.status(&state.name).await?;
        Ok(agrees(state, &line, asked, !self.options.has(Quirk::SelectShowsNewestOnly)))
    }

    /// Fetches bodies of recent messages before anyone asks, the newest first.
    async fn prefetch(self: Arc<Self>) {
        let Some(age) = self.options.prefetch else { return };
        let mut pause = RETRY * 5;
        let mut woken = self.pool.woken();
        loop {
            self.arrivals.notified().await;
            let horizon = (now_ms() / 1000) as i64 - age.as_secs() as i64;
            let mut failed = false;
            for state in self.states() {
                if let Err(error) = self.prefetch_mailbox(&state, horizon).await {
                    debug!(account = %self.label(), mailbox = %state.name, %error, "prefetch stopped");
                    failed = true;
                    if matches!(error, Error::Limit(_)) {
                        pause = SPENT;
                        break;
                    }
                }
            }
            if failed {
                // A message the provider does not hand out is not there in ten seconds either: each attempt costs a look.
                Self::rest(&mut woken, pause).await;
                pause = (pause * 2).min(SPENT);
                self.mail_arrived();
            } else {
                pause = RETRY * 5;
            }
        }
    }

    async fn prefetch_mailbox(self: &Arc<Self>, state: &Arc<State>, horizon: i64) -> Result<(), Error> {
        let snapshot = state.snapshot();
        let young = |message: &&MessageMeta| message.internal_date.seconds >= horizon;
        let mut uids: Vec<Uid> = snapshot.messages.iter().filter(young).map(|message| message.uid).collect();
        uids.reverse();
        let mut failed = None;
        for batch in uids.chunks(PREFETCH_BATCH) {
            match self.fill(state, batch, Class::Prefetch).await {
                Ok(()) => {}
                // Perhaps one message that cannot be had: it does not keep the others from being fetched.
                Err(error) if failed.is_none() && error.is_outage() => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Keeps the body files below their size.
    async fn hold_size(self: Arc<Self>) {
        loop {
            let (used, files) =
                self.disk(|store| Ok((store.disk_bytes(), store.file_bytes()))).await.unwrap_or_default();
            let limit = self.options.cache_size;
            if used > limit {
                // Only body files are evicted: what the database takes comes off their share.
                let target = (limit / LOW_WATER.1 * LOW_WATER.0).saturating_sub(used.saturating_sub(files));
                let evicted = self.disk.cache.run_apart(LONG_CALL, move |store: &Store| store.evict(target)).await;
                match evicted.and_then(|done| done) {
                    Ok(freed) => debug!(account = %self.label(), freed, "bodies evicted"),
                    Err(error) => warn!(account = %self.label(), %error, "bodies cannot be evicted"),
                }
            }
            let _ = timeout(HOLD_EVERY, self.stop.cancelled()).await;
        }
    }
}

/// Whether the mirror has what a STATUS tells. Without mod-sequences a changed flag shows only if it was `\Seen`.
fn agrees(state: &State, line: &StatusLine, asked: Instant, shows_all: bool) -> bool {
    let anchor = state.turn.try_lock().map_or(0, |turn| turn.upstream_modseq);
    let known = state.snapshot().status();
    if !shows_all {
        // It counts more than can be read (`sync::window`): what it says is held against what it said before.
        return line.uid_next == Some(known.uid_next)
            && line.uid_validity == Some(known.uid_validity)
            && state.is_told_again(line, asked);
    }
    let same = line.messages == Some(known.messages)
        && line.uid_next == Some(known.uid_next)
        && line.uid_validity == Some(known.uid_validity);
    match line.highest_modseq {
        Some(modseq) if modseq > 0 => {
            let same = same && modseq == anchor;
            // As of the question: what happened while it was answered is not covered.
            if same && state.checked().is_none_or(|checked| checked < asked) {
                state.set_checked(asked);
            }
            same
        }
        _ => same && line.unseen == Some(known.unseen),
    }
}
