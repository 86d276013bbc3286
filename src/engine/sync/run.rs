//! Carries out a [`Plan`]: asks upstream, believes only completed answers, commits (Law 1).
//!
//! Everything here runs with the mailbox's turn held, so that what is read is committed in the order it was read. An expunge is
//! believed only if upstream said it outright, or from a set of all UIDs whose count agrees with EXISTS.

use std::sync::{Arc, OnceLock, PoisonError};

use tokio::time::{Duration, Instant};
use tracing::{debug, warn};

use super::facts::{lay_facts, recent_from};
use super::listing::fetch_from;
use super::plan::{FlagsPlan, Known, Ladder, Plan, RECENT, plan};
use super::resume;
use super::window::Shown;
use crate::engine::account::{Inner, LONG_CALL, now_ms};
use crate::engine::error::Error;
use crate::engine::looks::{Look, Outcome};
use crate::engine::mailbox::{Reading, State, Turn};
use crate::engine::mirror::{self, Delta};
use crate::engine::snapshot::Snapshot;
use crate::model::{MessageMeta, ModSeq, Uid, UidSet};
use crate::store::MailboxRecord;
use crate::upstream::{self, Class, FetchMeta, Items, Lease, Selected};

/// How often the flags of the whole of a large mailbox are swept where the server keeps no mod-sequences: 100,000 messages
/// are some 4 MB of answer.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Messages a first reading asks for at once, about: less than a megabyte of answer, which is what a kill in the middle costs.
const READING: u32 = 5000;
/// Messages between two words about how far a first reading is.
const TELL: usize = 250;
/// Octets of answer that are set aside beforehand: for SELECT, for the flags of a message, and for all that is told of it.
const SELECT_OCTETS: u64 = 1500;
const FLAGS_OCTETS: u64 = 64;
const MESSAGE_OCTETS: u64 = 160;

impl Inner {
    /// Brings a mailbox in step, unless somebody has done so since `since`; shared with all who wish the same ([`Looks`]). Runs to its
    /// end even if the caller goes away.
    ///
    /// [`Looks`]: crate::engine::looks::Looks
    pub(crate) async fn freshen(
        self: &Arc<Self>,
        state: &Arc<State>,
        since: Instant,
        class: Class,
    ) -> Result<(), Error> {
        if state.checked().is_some_and(|checked| checked >= since) {
            return Ok(());
        }
        self.wish_look(state, since, class).wait().await
    }

    /// The same without waiting for it.
    pub(crate) fn wish_look(self: &Arc<Self>, state: &Arc<State>, since: Instant, class: Class) -> Outcome<()> {
        let (outcome, look) = state.looks.wish(since, class);
        if let Some(look) = look {
            let (account, state) = (Arc::clone(self), Arc::clone(state));
            self.tasks.spawn(async move {
                let done = match class {
                    Class::Interactive => account.look_at_once(&look, &state).await,
                    class => account.look_behind(&look, &state, class).await,
                };
                look.end(done);
            });
        }
        outcome
    }

    /// A look somebody waits for: turn, then lease, as a write does. Whoever waits for the turn meanwhile is of no higher standing, and
    /// would have waited for a session behind us in any case.
    async fn look_at_once(self: &Arc<Self>, look: &Look<()>, state: &Arc<State>) -> Result<(), Error> {
        let mut turn = state.turn.lock().await;
        if look.is_answered(state.checked()) {
            return Ok(());
        }
        let lease = self.pool.lease(Class::Interactive, Some(&state.name)).await?;
        look.begin();
        self.sync_over(lease, state, &mut turn).await
    }

    /// A look in the background: lease, then turn, because a lease of its class may take minutes, and a client's STORE must not wait
    /// so long for the turn.
    ///
    /// No deadlock, though the order is the other way round: we wait for the turn only as long as nobody wants our session. Whoever
    /// holds the turn and waits for a session is Interactive, and the pool serves such a one or asks a lower lease to give way (`queue`),
    /// which we do at once. No starvation beyond what the classes mean: each round lost has served a person, and the wait for a lease is
    /// bounded.
    async fn look_behind(self: &Arc<Self>, look: &Look<()>, state: &Arc<State>, class: Class) -> Result<(), Error> {
        let mut was_dead = false;
        loop {
            let mut lease = tokio::select! {
                lease = self.pool.lease(class, Some(&state.name)) => lease?,
                () = self.stop.cancelled() => return Err(Error::Unavailable("The account is being closed".into())),
            };
            let mut turn = tokio::select! {
                turn = state.turn.lock() => turn,
                () = lease.wanted() => continue,
            };
            if look.is_answered(state.checked()) {
                return Ok(());
            }
            look.begin();
            match self.sync_on(&mut lease, state, &mut turn).await {
                // The session was dead before we used it: a new one may do. It is waited for without the turn.
                Err(Error::Unavailable(_)) if !lease.is_usable() && !was_dead => was_dead = true,
                done => return done,
            }
        }
    }

    /// Brings a mailbox in step over a session of its own. The holder of a turn waits for a session as Interactive only, see
    /// [`Self::look_behind`].
    pub(crate) async fn sync(self: &Arc<Self>, state: &Arc<State>, turn: &mut Turn) -> Result<(), Error> {
        let lease = self.pool.lease(Class::Interactive, Some(&state.name)).await?;
        self.sync_over(lease, state, turn).await
    }

    async fn sync_over(self: &Arc<Self>, mut lease: Lease, state: &Arc<State>, turn: &mut Turn) -> Result<(), Error> {
        let done = self.sync_on(&mut lease, state, turn).await;
        match done {
            // The session was dead before we used it: a new one may do.
            Err(Error::Unavailable(_)) if !lease.is_usable() => {
                drop(lease);
                let mut lease = self.pool.lease(Class::Interactive, Some(&state.name)).await?;
                self.sync_on(&mut lease, state, turn).await
            }
            done => done,
        }
    }

    /// Brings a mailbox in step over this session, which then has it selected. [`Error::Gone`] when the UIDVALIDITY has changed: the
    /// state is dead then and a new one is to be opened.
    pub(crate) async fn sync_on(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        turn: &mut Turn,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let snapshot = state.snapshot();
        if snapshot.dead {
            return Err(Error::Gone);
        }
        if lease.class() != Class::Interactive {
            drop(self.options.allowance.download(SELECT_OCTETS, lease.class())?);
        }
        // What was heard until now is covered by what we are going to ask.
        lease.take_events();
        let ladder = match Ladder::of(lease.caps()) {
            // Offered and not confirmed: SELECT tells no changes then, and they have to be asked for.
            Ladder::Qresync if !lease.has_qresync() => Ladder::Condstore,
            ladder => ladder,
        };
        let ask_qresync = ladder == Ladder::Qresync && turn.complete && turn.upstream_modseq > 0;
        let qresync = ask_qresync.then_some((snapshot.uid_validity, turn.upstream_modseq));
        self.count_all(lease, state, turn).await?;
        let mut selected = match lease.reselect(&state.name, qresync).await {
            Ok(selected) => selected,
            Err(upstream::Error::No { code, text, .. }) => {
                // Perhaps deleted or renamed by somebody: the list of mailboxes will tell.
                self.folders_suspect();
                return Err(if code.as_deref() == Some("NONEXISTENT") {
                    Error::NoSuchMailbox(state.name.to_string())
                } else {
                    Error::Refused { code, text }
                });
            }
            Err(error) => return Err(error.into()),
        };
        if qresync.is_none() {
            // Nobody asked for changes: what came is some late word, perhaps of the mailbox that was selected before.
            (selected.vanished, selected.changed) = (UidSet::new(), Vec::new());
        }
        let known = Known {
            uid_validity: snapshot.uid_validity,
            uid_next: snapshot.uid_next,
            upstream_modseq: turn.upstream_modseq,
            complete: turn.complete,
            sweep_due: turn.swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY),
            recent_from: recent_from(&snapshot),
        };
        let plan = plan(known, &selected, ladder);
        let _grant = self.options.allowance.download(octets_of(plan, &selected, &snapshot), lease.class())?;
        match plan {
            Plan::Reset => {
                warn!(account = %self.label(), mailbox = %state.name, "UIDVALIDITY changed upstream");
                self.replace(state).await;
                return Err(Error::Gone);
            }
            Plan::Whole => {
                if let Some(modseq) = self.read_whole(lease, state, turn, &selected).await? {
                    // What changed and what went between two parts of the reading.
                    let flags = match ladder {
                        Ladder::Bare => FlagsPlan::From(Uid(1)),
                        _ if modseq == 0 => FlagsPlan::From(Uid(1)),
                        _ => FlagsPlan::Since(modseq),
                    };
                    self.read_changes(lease, state, turn, &selected, flags, None).await?;
                }
            }
            Plan::Changes { flags, new_from } => {
                self.read_changes(lease, state, turn, &selected, flags, new_from).await?;
            }
        }
        lease.has_seen(state.snapshot().uid_next);
        state.set_checked(started);
        self.seen_upstream();
        Ok(())
    }

    /// Reads everything. Gives the mod-sequence of the beginning when that was an earlier attempt, and changes since are to be asked for.
    async fn read_whole(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        selected: &Selected,
    ) -> Result<Option<u64>, Error> {
        let begun = turn.reading.take().filter(|reading| reading.uid_validity == selected.uid_validity);
        let was_begun = begun.as_ref().map(|reading| reading.upstream_modseq);
        let mut reading = begun.unwrap_or_else(|| Reading {
            uid_validity: selected.uid_validity,
            upstream_modseq: selected.highest_modseq,
            seen: Vec::new(),
            from: None,
        });
        let read = self.read_parts(lease, state, selected, &mut reading).await;
        if let Err(error) = read {
            if !reading.seen.is_empty() {
                turn.reading = Some(reading);
            }
            return Err(error);
        }
        let mut seen = reading.seen;
        let old = state.snapshot();
        {
            let mut local = state.local.lock().await;
            local.overlay.enter(selected.uid_validity);
            local.overlay.lay(&mut seen);
        }
        let mut messages: Vec<MessageMeta> = {
            let base = Snapshot { messages: crate::model::Pages::default(), ..(*old).clone() };
            let merged = mirror::merge(&base, Delta { seen, ..Delta::default() }, now_ms());
            if !merged.incomplete.is_empty() {
                warn!(account = %self.label(), mailbox = %state.name, uids = %merged.incomplete, "upstream told too little of these messages");
            }
            merged.upserts
        };
        let highest = messages.iter().map(|message| message.modseq).max().unwrap_or(old.highest_modseq);
        let highest = highest.max(ModSeq(now_ms())).max(ModSeq(old.highest_modseq.0 + 1));
        let last = messages.iter().map(|message| message.uid.0.saturating_add(1)).max().unwrap_or(1);
        let base = Snapshot {
            uid_validity: selected.uid_validity,
            uid_next: Uid(last.max(selected.uid_next.0)),
            highest_modseq: highest,
            counts: OnceLock::new(),
            ..(*old).clone()
        };
        let mut snapshot = mirror::restore(base, messages.clone());
        lay_facts(&mut snapshot, selected);
        // Of a reading that goes on with what an earlier one has kept, the flags are as old as that: until the changes since then are read,
        // the record says so.
        turn.upstream_modseq = was_begun.unwrap_or(selected.highest_modseq);
        turn.complete = true;
        turn.swept = was_begun.is_none().then(Instant::now);
        state.local.lock().await.overlay.strip(&mut messages);
        let record = record(&snapshot, turn);
        let storing = state.storing.lock().await;
        let (id, blob) = (state.id(), resume::blob_name(&state.name));
        let stored = self
            .disk_within(LONG_CALL, move |store| {
                store.clear(id)?;
                store.commit(id, &messages, &UidSet::new(), &record)?;
                // What a part of the reading has left.
                match blob {
                    Some(name) if store.blob(&name)?.is_some_and(|mark| !mark.is_empty()) => store.put_blob(&name, b""),
                    _ => Ok(()),
                }
            })
            .await;
        drop(storing);
        turn.store_behind = stored.is_err();
        *state.log.lock().unwrap_or_else(PoisonError::into_inner) =
            crate::engine::mailbox::VanishedLog::new(Vec::new(), snapshot.highest_modseq);
        debug!(account = %self.label(), mailbox = %state.name, messages = snapshot.messages.len(), "mailbox read");
        self.settle_keywords(state, &snapshot).await;
        state.publish(snapshot);
        self.mail_arrived();
        Ok(was_begun)
    }

    /// Reads part after part, the newest first, until everything is read. What a part has brought stays in `reading`.
    async fn read_parts(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        selected: &Selected,
        reading: &mut Reading,
    ) -> Result<(), Error> {
        let most = lease.message_limit();
        let widest = READING.min(most.unwrap_or(READING));
        let mut width = widest;
        // Of what an earlier reading has brought some may have gone: then the count says nothing.
        let is_fresh = reading.from.is_none();
        let told = reading.seen.iter().filter(|meta| meta.size.is_some()).count() as u64;
        let running = self.readings.begin(&state.name, told, u64::from(selected.exists));
        while reading.from != Some(1) && selected.exists > 0 {
            let (mut from, set) = match reading.from {
                None if selected.uid_next.0 == 0 => (1, "1:*".to_owned()),
                None => {
                    let from = selected.uid_next.0.saturating_sub(width).max(1);
                    (from, format!("{from}:*"))
                }
                Some(below) => {
                    let from = below.saturating_sub(width).max(1);
                    (from, format!("{from}:{}", below - 1))
                }
            };
            let mut part: Vec<FetchMeta> = Vec::new();
            let (have, of) = (reading.seen.len() as u64, u64::from(exists(lease)));
            let hear = &mut |meta| {
                part.push(meta);
                if part.len().is_multiple_of(TELL) {
                    running.step(have + part.len() as u64, of);
                }
            };
            lease.fetch_meta(&set, Items::All, None, hear).await?;
            // `*` is the last message even where it is below the range.
            part.retain(|meta| meta.uid.is_none_or(|uid| uid.0 >= from));
            let got = u32::try_from(part.len()).unwrap_or(u32::MAX);
            // Where UIDs are sparse the next part is wider.
            width = if got < widest / 4 { width.saturating_mul(4) } else { widest };
            // Answered for the highest only, perhaps: the next part begins below the lowest of them.
            if most.is_some_and(|most| got >= most)
                && let Some(lowest) = part.iter().filter_map(uid_of).min()
            {
                from = from.max(lowest);
            }
            let begin = reading.seen.len();
            reading.seen.append(&mut part);
            reading.from = Some(from);
            // What was heard unasked of a message that is read already does not count twice.
            let have = reading.seen.iter().filter(|meta| meta.size.is_some()).count() as u64;
            if is_fresh && have >= u64::from(exists(lease)) {
                return Ok(());
            }
            running.step(have, u64::from(exists(lease)));
            self.keep_reading(state, selected, reading, begin).await;
        }
        Ok(())
    }

    async fn read_changes(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        selected: &Selected,
        flags: FlagsPlan,
        new_from: Option<Uid>,
    ) -> Result<(), Error> {
        let old = state.snapshot();
        let mut delta = Delta {
            seen: selected.changed.clone(),
            vanished: selected.vanished.clone(),
            uid_next: Some(selected.uid_next),
        };
        match flags {
            FlagsPlan::Known => {}
            FlagsPlan::Since(modseq) => {
                let told =
                    fetch_from(lease, Uid(1), Items::Flags, Some(modseq), &mut |meta| delta.seen.push(meta)).await?;
                delta.vanished = delta.vanished.union(&told);
            }
            FlagsPlan::From(uid) => {
                if !old.messages.is_empty() {
                    fetch_from(lease, uid, Items::Flags, None, &mut |meta| delta.seen.push(meta)).await?;
                }
                if uid <= Uid(1) || old.messages.len() <= RECENT {
                    turn.swept = Some(Instant::now());
                }
            }
        }
        if let Some(from) = new_from
            && exists(lease) > 0
        {
            fetch_from(lease, from, Items::All, None, &mut |meta| delta.seen.push(meta)).await?;
        }
        let mut wanting = wanting(&old, &delta.seen);
        let shown = self.shown(lease, state, turn, selected, &old).await?;
        if let Shown::From(lowest) = shown {
            delta.vanished = delta.vanished.intersect(&from(lowest));
        } else {
            delta.vanished = UidSet::new();
        }
        if let Shown::From(lowest) = shown
            && count_after(&old, &delta, lowest) != exists(lease)
            && let Some(all) = self.list_uids(lease, state, turn).await?
        {
            // More may have fallen out of what is shown while it was listed.
            let lowest = if lowest > Uid(1) { Uid(all.min().unwrap_or(u32::MAX)).max(lowest) } else { lowest };
            let have = old.messages.uids().intersect(&from(lowest));
            delta.vanished = delta.vanished.union(&have.minus(&all));
            let full: UidSet = delta.seen.iter().filter(|meta| meta.size.is_some()).filter_map(uid_of).collect();
            wanting = wanting.union(&all.minus(&old.messages.uids()).minus(&full));
        }
        for part in lease.portions(&wanting) {
            lease.fetch_meta(&part.to_string(), Items::All, None, &mut |meta| delta.seen.push(meta)).await?;
        }
        turn.upstream_modseq = selected.highest_modseq;
        self.commit(state, turn, delta, Some(selected)).await;
        Ok(())
    }

    /// The one way a mailbox changes: handed to the store, then mirror, then publish (Law 1). Nobody waits for the store but the next
    /// commit of the mailbox: so the store takes commits in their order and is one behind at most, and a crash costs it no more than
    /// what it had not flushed. A store that fails costs time after the next start, never correctness: the mirror goes on and the
    /// store is written anew at the next commit.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        mut delta: Delta,
        facts: Option<&Selected>,
    ) {
        let storing = Arc::clone(&state.storing).lock_owned().await;
        let old = state.snapshot();
        let mut local = state.local.lock().await;
        local.overlay.enter(old.uid_validity);
        local.overlay.lay(&mut delta.seen);
        let merged = mirror::merge(&old, delta, now_ms());
        let left = old.messages.len() - merged.vanished.len() as u32;
        let arrived = merged.snapshot.as_ref().is_some_and(|next| next.messages.len() > left);
        let changed = merged.snapshot.is_some();
        let mut next = merged.snapshot.unwrap_or_else(|| (*old).clone());
        let facts_changed = facts.is_some_and(|selected| lay_facts(&mut next, selected));
        let record = record(&next, turn);
        let id = state.id();
        let behind = state.take_store_lost() || std::mem::take(&mut turn.store_behind);
        let (mut upserts, vanished) = (merged.upserts, merged.vanished.clone());
        let mut everything: Vec<MessageMeta> =
            if behind { next.messages.iter().cloned().collect() } else { Vec::new() };
        local.overlay.strip(&mut upserts);
        local.overlay.strip(&mut everything);
        drop(local);
        let (account, of) = (Arc::clone(self), Arc::clone(state));
        self.tasks.spawn(async move {
            let stored = account
                .disk_within(LONG_CALL, move |store| {
                    // Bodies of what vanished stay: a MOVE takes them along, and the sweep clears away what nobody has.
                    if behind {
                        store.replace(id, &everything, &record)
                    } else {
                        store.commit(id, &upserts, &vanished, &record)
                    }
                })
                .await;
            if stored.is_err() {
                of.set_store_lost();
            }
            drop(storing);
        });
        self.forget_keywords(state, &merged.vanished).await;
        if !changed && !facts_changed {
            return;
        }
        let mut log = state.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(next.highest_modseq, merged.vanished);
        drop(log);
        state.publish(next);
        if arrived {
            self.mail_arrived();
        }
    }

    /// Ends a mailbox state whose UIDs mean nothing any more; the next open begins a new one.
    pub(crate) async fn replace(self: &Arc<Self>, state: &Arc<State>) {
        // Nobody may read the old rows between the end of the state and theirs.
        let _loading = self.loading.lock().await;
        self.forget(state);
        let _storing = state.storing.lock().await;
        let id = state.id();
        // A failure is told by `disk`; the stale record disagrees with upstream's UIDVALIDITY and is never believed.
        let _ = self.disk_within(LONG_CALL, move |store| store.clear(id)).await;
    }
}

/// About how many octets of answer a plan costs.
fn octets_of(plan: Plan, selected: &Selected, snapshot: &Snapshot) -> u64 {
    let exists = u64::from(selected.exists);
    match plan {
        Plan::Reset => 0,
        Plan::Whole => exists * MESSAGE_OCTETS,
        Plan::Changes { flags, new_from } => {
            let swept = match flags {
                FlagsPlan::Known | FlagsPlan::Since(_) => 0,
                FlagsPlan::From(uid) => u64::from(snapshot.messages.len() - snapshot.messages.lower_bound(uid)),
            };
            let new = new_from.map_or(0, |_| exists.saturating_sub(u64::from(snapshot.messages.len())).max(1));
            swept * FLAGS_OCTETS + new * MESSAGE_OCTETS
        }
    }
}

/// EXISTS as it stands now, which may differ from what SELECT said.
pub(super) fn exists(lease: &Lease) -> u32 {
    lease.selected().map_or(0, |(_, selected)| selected.exists)
}

fn uid_of(meta: &FetchMeta) -> Option<u32> {
    meta.uid.map(|uid| uid.0)
}

/// UIDs that are news to us and of which date and size were not told.
fn wanting(old: &Snapshot, seen: &[FetchMeta]) -> UidSet {
    let full: UidSet = seen.iter().filter(|meta| meta.size.is_some()).filter_map(uid_of).collect();
    let partly = seen.iter().filter(|meta| meta.size.is_none()).filter_map(uid_of);
    partly.filter(|uid| old.messages.get(Uid(*uid)).is_none() && !full.contains(*uid)).collect()
}

/// All UIDs from this one on.
fn from(lowest: Uid) -> UidSet {
    let mut all = UidSet::new();
    all.insert_range(lowest.0.max(1)..=u32::MAX);
    all
}

/// How many messages there are from `lowest` on after the delta, counting those still wanting.
fn count_after(old: &Snapshot, delta: &Delta, lowest: Uid) -> u32 {
    let below = old.messages.lower_bound(lowest);
    let gone = old.messages.select(&delta.vanished).filter(|(_, message)| message.uid >= lowest).count() as u32;
    let new: UidSet = delta
        .seen
        .iter()
        .filter_map(uid_of)
        .filter(|uid| *uid >= lowest.0 && old.messages.get(Uid(*uid)).is_none() && !delta.vanished.contains(*uid))
        .collect();
    old.messages.len() - below - gone + new.len() as u32
}

pub(crate) fn record(snapshot: &Snapshot, turn: &Turn) -> MailboxRecord {
    MailboxRecord {
        name: snapshot.name.to_string(),
        uid_validity: snapshot.uid_validity,
        uid_next: snapshot.uid_next,
        highest_modseq: snapshot.highest_modseq,
        upstream_modseq: turn.upstream_modseq,
        exists: snapshot.messages.len(),
        read_only: snapshot.read_only,
        permanent: snapshot.permanent.as_ref().map(ToString::to_string),
    }
}
