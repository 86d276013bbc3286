//! One mailbox of the mirror, and the handle a session holds on it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::account::Inner;
use super::appetite::Appetite;
use super::audit::{Client, Record, on_behalf};
use super::bodies::BodyReads;
use super::error::Error;
use super::keywords::Local;
use super::looks::Looks;
use super::snapshot::Snapshot;
use super::summaries::{Summary, Want};
use super::sync::window::Total;
use super::writes::{Copied, CopyMode};
use crate::model::{Arrivals, FlagOp, Flags, ModSeq, Section, Uid, UidSet, UidValidity};
use crate::store::{BodyKey, MailboxId};
use crate::upstream::Class;
use crate::upstream::{FetchMeta, POLL_INTERVAL, StatusLine};

/// How often upstream is asked for news that nobody waits for, where it does not tell by itself. A client that polls or selects has the
/// mailbox looked at in any case.
const PACE_ALONE: Duration = Duration::from_secs(300);

/// Expunges remembered per mailbox in memory; the store keeps its own bound. 10,000 entries are some hundred KB.
const VANISHED_LOG: usize = 10_000;

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

/// What vanished, with our mod-sequences, ascending (RFC 7162 §3.2.7).
#[derive(Debug, Default)]
pub(crate) struct VanishedLog {
    entries: VecDeque<(ModSeq, UidSet)>,
    /// The log is complete for everything after this.
    floor: ModSeq,
}

impl VanishedLog {
    pub(crate) fn new(entries: Vec<(ModSeq, UidSet)>, floor: ModSeq) -> Self {
        Self { entries: entries.into(), floor }
    }

    pub(crate) fn push(&mut self, modseq: ModSeq, uids: UidSet) {
        if uids.is_empty() {
            return;
        }
        self.entries.push_back((modseq, uids));
        while self.entries.len() > VANISHED_LOG {
            if let Some((dropped, _)) = self.entries.pop_front() {
                self.floor = dropped;
            }
        }
    }

    pub(crate) fn since(&self, since: ModSeq) -> Option<UidSet> {
        if since < self.floor {
            return None;
        }
        let newer = self.entries.iter().filter(|(modseq, _)| *modseq > since);
        Some(newer.fold(UidSet::new(), |all, (_, uids)| all.union(uids)))
    }
}

/// A client waits for news while this lives.
pub struct Attending {
    held: Arc<Held>,
}

impl Attending {
    fn new(held: Arc<Held>) -> Self {
        let state = &held.state;
        state.attending.fetch_add(1, Ordering::Relaxed);
        state.set_pace();
        Self { held }
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        let state = &self.held.state;
        state.attending.fetch_sub(1, Ordering::Relaxed);
        state.set_pace();
    }
}

/// A mailbox a session has selected. Cloned freely; while one is alive the mailbox is kept in step.
#[derive(Clone)]
pub struct Mailbox {
    held: Arc<Held>,
}

struct Held {
    account: Arc<Inner>,
    state: Arc<State>,
    appetite: Arc<Appetite>,
    client: Option<Arc<Client>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state.interest.fetch_sub(1, Ordering::Relaxed);
        self.account.interest_changed();
    }
}

impl Mailbox {
    pub(crate) fn new(
        account: Arc<Inner>,
        state: Arc<State>,
        appetite: Arc<Appetite>,
        client: Option<Arc<Client>>,
    ) -> Self {
        state.interest.fetch_add(1, Ordering::Relaxed);
        state.opened.store(account.next_opening(), Ordering::Relaxed);
        account.interest_changed();
        Self { held: Arc::new(Held { account, state, appetite, client }) }
    }

    /// The newest version.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.held.state.snapshot()
    }

    /// What clients call it now.
    pub fn name(&self) -> String {
        self.held.account.shown_name(&self.held.state.name)
    }

    /// Wakes when a newer snapshot is there.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.held.state.newest.subscribe()
    }

    /// Which messages no session has been told of.
    pub fn arrivals(&self) -> &Arrivals {
        &self.held.state.arrivals
    }

    /// Held while a client waits for news (IDLE): upstream is then asked more often, where it does not tell by itself.
    pub fn attend(&self) -> Attending {
        Attending::new(Arc::clone(&self.held))
    }

    /// What vanished after `since` (RFC 7162 VANISHED (EARLIER)); `None` if the log does not reach back so far: the
    /// caller then names every UID of the asked set, below UIDNEXT, that does not exist.
    pub fn vanished_since(&self, since: ModSeq) -> Option<UidSet> {
        self.held.state.log.lock().unwrap_or_else(PoisonError::into_inner).since(since)
    }

    /// Envelope, structure and header of some messages, in the order asked; each may fail by itself.
    pub async fn summaries(&self, uids: &[Uid], want: Want) -> Vec<Result<Arc<Summary>, Error>> {
        self.held.account.summaries(&self.held.state, uids, want).await
    }

    /// Reads whole messages in the order given, ahead from disk and upstream.
    pub fn read(&self, uids: Vec<Uid>) -> BodyReads {
        let Held { account, state, appetite, .. } = &*self.held;
        BodyReads::new(Arc::clone(account), Arc::clone(state), Arc::clone(appetite), uids)
    }

    /// Sections of one large message, asked of upstream without the whole of it; in the order asked. `None` where they are to be cut
    /// from the whole message: it is small, or here, or on its way, or mostly wanted, or upstream's parts cannot be trusted.
    pub async fn parts(&self, uid: Uid, sections: &[Section]) -> Result<Option<Vec<Bytes>>, Error> {
        self.held.account.parts(&self.held.state, uid, sections).await
    }

    /// Octets POP3's RETR sends, of messages of which RFC822.SIZE is known to tell another number.
    pub fn octets(&self) -> Arc<HashMap<Uid, u32>> {
        self.held.state.octets()
    }

    /// Takes note of how many octets RETR has just sent of a message.
    pub fn note_octets(&self, uid: Uid, octets: u64) {
        self.held.account.note_octets(&self.held.state, uid, octets);
    }

    /// STORE (RFC 9051 §6.4.6). When it returns the newest snapshot holds the new flags. The result names what failed
    /// UNCHANGEDSINCE (RFC 7162 §3.1.3).
    pub async fn store(
        &self,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<UidSet, Error> {
        self.held.account.store_flags(&self.held.state, uids, op, flags, unchanged_since).await
    }

    /// EXPUNGE, or UID EXPUNGE of some (RFC 4315). When it returns the newest snapshot lacks them.
    pub async fn expunge(&self, uids: Option<&UidSet>) -> Result<(), Error> {
        let work = self.held.account.expunge(&self.held.state, uids);
        on_behalf(self.held.client.clone(), work).await
    }

    /// COPY or MOVE; `None` when upstream told no COPYUID.
    pub async fn copy(&self, uids: &UidSet, to: &str, mode: CopyMode) -> Result<Option<Copied>, Error> {
        let to = self.held.account.upstream_name(to).await?;
        let work = self.held.account.copy(&self.held.state, uids, &to, mode);
        on_behalf(self.held.client.clone(), work).await
    }

    /// Tells the trail of what a session has done with messages by itself; of what it asked for here is told already.
    pub async fn audit(&self, action: &'static str, uids: &UidSet, tell: impl FnOnce(&mut Record)) {
        let Held { account, state, client, .. } = &*self.held;
        let Some(mut record) = account.begin_audit(action, state, uids).await else { return };
        record.client.clone_from(client);
        tell(&mut record);
        account.end_audit(Some(record), &Ok(()), UidSet::new());
    }

    /// Which of `within` contain `needle` (UTF-8, without regard to case): in the body, or in header and body.
    pub async fn search_text(&self, within: &UidSet, needle: &[u8], body_only: bool) -> Result<UidSet, Error> {
        self.held.account.search_text(&self.held.state, within, needle, body_only).await
    }

    /// Asks upstream whether anything changed, unless it tells us by itself.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.held.account.refresh(&self.held.state).await
    }

    /// Before a change: what earlier writes have left unfinished here is settled. Then comes a look at upstream, unless there was one since
    /// the mirror was read from disk and no UID is named beyond what it knows. Waits as long as that takes: what cannot be looked at cannot
    /// be changed either.
    pub async fn ready_to_change(&self, named: u32) -> Result<(), Error> {
        let (account, state) = (&self.held.account, &self.held.state);
        // A mark that a plain EXPUNGE has spared and a crash kept away would make the next EXPUNGE of that message an idle one.
        account.settle_left(&[&state.name]).await?;
        if state.checked().is_some() && named < state.snapshot().uid_next.0 {
            return Ok(());
        }
        account.freshen(state, Instant::now(), Class::Interactive).await
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
