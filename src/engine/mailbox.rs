//! One mailbox of the mirror.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::keywords::Local;
use super::looks::Looks;
use super::snapshot::Snapshot;
use super::sync::window::Total;
use super::vanished::VanishedLog;
use crate::model::{Arrivals, Uid, UidSet, UidValidity};
use crate::store::{BodyKey, MailboxId};
use crate::upstream::{FetchMeta, POLL_INTERVAL, StatusLine};

/// How often upstream is asked for news that nobody waits for, where it does not tell by itself. A client that polls or selects has the
/// mailbox looked at in any case.
const PACE_ALONE: Duration = Duration::from_secs(300);

/// Notes on messages that are gone are put up with until there are so many of them.
const OUTLIVED: usize = 1000;

/// One mailbox of the mirror: its newest snapshot and the right to change it.
#[derive(Debug)]
pub(crate) struct State {
    id: AtomicU32,
    /// The store does not have what was committed: the next commit writes everything. Not in [`Turn`], as who finds it out holds none.
    store_lost: AtomicBool,
    pub(crate) name: Arc<str>,
    pub(crate) newest: watch::Sender<Arc<Snapshot>>,
    /// Whoever holds the turn is the one who talks to upstream about this mailbox's state and commits what it said (Law 1).
    /// Body fetches need no turn.
    pub(crate) turn: tokio::sync::Mutex<Turn>,
    /// Held by whoever writes the index of this mailbox: one at a time, in the order of the commits.
    pub(crate) storing: Arc<tokio::sync::Mutex<()>>,
    pub(crate) looks: Arc<Looks<()>>,
    pub(crate) log: Mutex<VanishedLog>,
    /// Sessions that have it selected.
    pub(crate) interest: AtomicUsize,
    /// What no session has been told of. What was in the store already is old; a mailbox read for the first time is all new.
    pub(crate) arrivals: Arrivals,
    /// How often upstream is to be asked by who watches this where upstream does not tell by itself: it follows use.
    pub(crate) pace: watch::Sender<Duration>,
    /// Clients that wait for news.
    attending: AtomicUsize,
    /// Order of the last open among all mailboxes, for the choice of what to watch.
    pub(crate) opened: AtomicU64,
    freshness: Mutex<Freshness>,
    /// Keywords that upstream does not keep. A leaf among locks; may be taken with or without the turn.
    pub(crate) local: tokio::sync::Mutex<Local>,
    /// Octets POP3 sends, of messages of which RFC822.SIZE tells another number.
    octets: Mutex<Arc<HashMap<Uid, u32>>>,
    /// Messages below this UID are not shown by upstream any more; 0: it shows all we hold.
    shown_from: AtomicU32,
    /// The STATUS line that was told last where its counts are not those of the mirror, and when it was asked for.
    told: Mutex<Option<(StatusLine, Instant)>>,
    /// Taken by whoever fetches headers, so that ten clients asking at once cost one download.
    pub(crate) summaries: tokio::sync::Mutex<()>,
}

/// What belongs to the holder of the turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The upstream's HIGHESTMODSEQ the mirror corresponds to, 0 for none.
    pub(crate) upstream_modseq: u64,
    /// Read whole at least once under this UIDVALIDITY.
    pub(crate) complete: bool,
    /// When the flags of the whole of a bare mailbox were last swept.
    pub(crate) swept: Option<Instant>,
    /// A first reading that was interrupted.
    pub(crate) reading: Option<Reading>,
    /// When upstream was last asked for a list of all messages and gave one that cannot be believed.
    pub(crate) unlisted: Option<Unlisted>,
    /// What STATUS counted before the SELECT under way, where that may show fewer.
    pub(crate) total: Option<Total>,
}

/// What upstream counted when its list of all messages did not agree with that.
#[derive(Debug)]
pub(crate) struct Unlisted {
    pub(crate) exists: u32,
    pub(crate) uid_next: Uid,
    pub(crate) at: Instant,
}

impl Unlisted {
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.exists, self.uid_next) == (other.exists, other.uid_next)
    }
}

/// A mailbox being read for the first time, the newest part first: a line that breaks costs the part under way, and not the whole.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) uid_validity: UidValidity,
    /// The upstream's mod-sequence before the first part: what changed since is asked for at the end.
    pub(crate) upstream_modseq: u64,
    pub(crate) seen: Vec<FetchMeta>,
    /// UIDs from here on are read; `None`: nothing yet.
    pub(crate) from: Option<u32>,
    /// All of it stands in the store, and how far it was; nothing else of the mailbox does.
    pub(crate) is_kept: bool,
}

impl Reading {
    /// Messages that are told of. What was heard unasked of one does not count.
    pub(crate) fn messages(&self) -> u64 {
        self.seen.iter().filter(|meta| meta.size.is_some()).count() as u64
    }
}

/// Whether a session of its own watches a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Watched {
    #[default]
    No,
    /// It asks now and then, see [`State::pace`]: upstream does not tell by itself, or not of everything.
    Polled,
    /// Upstream tells us of changes by itself.
    Live,
}

#[derive(Debug, Default)]
struct Freshness {
    /// When the mirror was last seen to agree with upstream.
    checked: Option<Instant>,
    /// When it was last seen to hold every message there was; what became of older ones may not be known.
    counted: Option<Instant>,
    watched: Watched,
}

impl State {
    pub(crate) fn new(id: MailboxId, snapshot: Snapshot, turn: Turn, log: VanishedLog) -> Self {
        Self {
            id: AtomicU32::new(id.0),
            store_lost: AtomicBool::new(false),
            name: Arc::clone(&snapshot.name),
            arrivals: Arrivals::new(snapshot.uid_validity, snapshot.uid_next),
            newest: watch::Sender::new(Arc::new(snapshot)),
            turn: tokio::sync::Mutex::new(turn),
            storing: Arc::default(),
            looks: Arc::default(),
            log: Mutex::new(log),
            interest: AtomicUsize::new(0),
            pace: watch::Sender::new(PACE_ALONE),
            attending: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            freshness: Mutex::default(),
            local: tokio::sync::Mutex::default(),
            octets: Mutex::default(),
            shown_from: AtomicU32::new(0),
            told: Mutex::default(),
            summaries: tokio::sync::Mutex::default(),
        }
    }

    /// The same with keywords that are kept here.
    pub(crate) fn with_local(self, local: Local) -> Self {
        Self { local: tokio::sync::Mutex::new(local), ..self }
    }

    /// A client begins to wait for news.
    pub(super) fn begin_attending(&self) {
        self.attending.fetch_add(1, Ordering::Relaxed);
        self.set_pace();
    }

    /// It does so no more.
    pub(super) fn end_attending(&self) {
        self.attending.fetch_sub(1, Ordering::Relaxed);
        self.set_pace();
    }

    fn set_pace(&self) {
        // Read under the channel's lock, so that the last to come or go is the one who is right.
        self.pace.send_if_modified(|pace| {
            let now = if self.is_attended() { POLL_INTERVAL } else { PACE_ALONE };
            std::mem::replace(pace, now) != now
        });
    }

    /// Whether a client waits for news of this mailbox.
    pub(crate) fn is_attended(&self) -> bool {
        self.attending.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn id(&self) -> MailboxId {
        MailboxId(self.id.load(Ordering::Relaxed))
    }

    /// Gives an id of the store to a mailbox that was opened without one. What was begun under the old one is dropped by the store.
    pub(crate) fn set_id(&self, id: MailboxId) {
        self.id.store(id.0, Ordering::Relaxed);
    }

    pub(crate) fn set_store_lost(&self) {
        self.store_lost.store(true, Ordering::Relaxed);
    }

    /// For who commits: whether everything has to be written. Asked once.
    pub(crate) fn take_store_lost(&self) -> bool {
        self.store_lost.swap(false, Ordering::Relaxed)
    }

    /// Waits until the store has, or has failed to take, what was committed so far.
    pub(crate) async fn stored(&self) {
        drop(self.storing.lock().await);
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.newest.borrow())
    }

    /// Whether there is anything to serve: it was read whole once.
    pub(crate) fn is_known(&self) -> bool {
        self.newest.borrow().uid_validity.0 != 0
    }

    pub(crate) fn is_live(&self) -> bool {
        self.watched() == Watched::Live
    }

    pub(crate) fn watched(&self) -> Watched {
        self.freshness().watched
    }

    pub(crate) fn set_watched(&self, watched: Watched) {
        self.freshness().watched = watched;
    }

    pub(crate) fn checked(&self) -> Option<Instant> {
        self.freshness().checked
    }

    pub(crate) fn set_checked(&self, at: Instant) {
        self.freshness().checked = Some(at);
        self.set_counted(at);
    }

    pub(crate) fn counted(&self) -> Option<Instant> {
        self.freshness().counted
    }

    pub(crate) fn set_counted(&self, at: Instant) {
        let mut freshness = self.freshness();
        freshness.counted = freshness.counted.max(Some(at));
    }

    /// Forgets that the mirror agreed with upstream: something is known to have changed there.
    pub(crate) fn set_stale(&self) {
        let mut freshness = self.freshness();
        (freshness.checked, freshness.counted) = (None, None);
    }

    /// Ends every session that has this selected: the mailbox is not what it was.
    pub(crate) fn kill(&self) {
        self.newest.send_modify(|snapshot| *snapshot = Arc::new(Snapshot { dead: true, ..(**snapshot).clone() }));
    }

    /// Publishes the next version. A mailbox that died while it was being made stays dead: its sessions have to end.
    pub(crate) fn publish(&self, next: Snapshot) {
        self.newest.send_modify(|newest| {
            let dead = newest.dead || next.dead;
            *newest = Arc::new(Snapshot { dead, ..next });
        });
    }

    pub(crate) fn set_shown_from(&self, lowest: Uid) {
        self.shown_from.store(lowest.0, Ordering::Relaxed);
    }

    /// Whether upstream does not show this message any more.
    pub(crate) fn is_hidden(&self, uid: Uid) -> bool {
        uid.0 < self.shown_from.load(Ordering::Relaxed)
    }

    /// Those of them.
    pub(crate) fn hidden(&self, uids: &UidSet) -> UidSet {
        match self.shown_from.load(Ordering::Relaxed) {
            0 | 1 => UidSet::new(),
            lowest => {
                let mut below = UidSet::new();
                below.insert_range(1..=lowest - 1);
                uids.intersect(&below)
            }
        }
    }

    /// Whether upstream tells the same by STATUS as before the look that came last; notes what it tells.
    pub(crate) fn is_told_again(&self, line: &StatusLine, asked: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = told
            .as_ref()
            .is_some_and(|(before, at)| before == line && self.checked().is_some_and(|checked| checked >= *at));
        if !is_same {
            *told = Some((line.clone(), asked));
        }
        is_same
    }

    /// Octets POP3 sends, where they are known to be others than RFC822.SIZE.
    pub(crate) fn octets(&self) -> Arc<HashMap<Uid, u32>> {
        Arc::clone(&self.octets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_octets(&self, octets: HashMap<Uid, u32>) {
        *self.octets.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(octets);
    }

    /// Takes note of what a message really has; whether that was news.
    pub(crate) fn note_octets(&self, uid: Uid, octets: u64) -> bool {
        let snapshot = self.snapshot();
        let (Some(message), Ok(octets)) = (snapshot.messages.get(uid), u32::try_from(octets)) else { return false };
        let mut known = self.octets.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&uid).copied().unwrap_or(message.size) == octets {
            return false;
        }
        // Copied only while a session holds it.
        let known = Arc::make_mut(&mut known);
        if known.len() > snapshot.messages.len() as usize + OUTLIVED {
            known.retain(|uid, _| snapshot.messages.get(*uid).is_some());
        }
        known.insert(uid, octets);
        true
    }

    pub(crate) fn body_key(&self, snapshot: &Snapshot, uid: Uid) -> BodyKey {
        match snapshot.messages.get(uid) {
            Some(message) if message.gm_msgid != 0 => BodyKey::Provider(message.gm_msgid),
            _ => BodyKey::Message { mailbox: self.id(), uid_validity: snapshot.uid_validity, uid },
        }
    }

    fn freshness(&self) -> std::sync::MutexGuard<'_, Freshness> {
        // Plain values: a panic while they were held left nothing half done.
        self.freshness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DELETE or a new UIDVALIDITY while a commit waits for the disk.
    #[test]
    fn the_dead_stay_dead() {
        let state = State::new(MailboxId(1), Snapshot::empty("a".into()), Turn::default(), VanishedLog::default());
        let next = (*state.snapshot()).clone();
        state.kill();
        state.publish(next);
        assert!(state.snapshot().dead);
    }
}
