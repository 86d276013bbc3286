//! Writes: upstream first, answered from upstream's own outcome (Law 11).
//!
//! Every write runs in a task of its own, so that a client that goes away does not cut it in half. A connection lost in the middle is
//! settled by looking: what upstream then holds decides, and only what is seen not to have happened is asked for again.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{info, warn};

use super::account::Inner;
use super::error::Error;
use super::mailbox::{State, Turn};
use super::mirror::Delta;
use super::snapshot::Snapshot;
use super::sync::plan::Ladder;
use crate::message;
use crate::model::{FlagOp, Flags, InternalDate, MessageMeta, ModSeq, SystemFlags, Uid, UidSet, UidValidity};
use crate::store::BodyKey;
use crate::upstream::{self, Class, CopyUid, FetchMeta, Lease};

/// One message of an APPEND.
#[derive(Clone, Debug)]
pub struct Append {
    pub flags: Flags,
    pub date: Option<InternalDate>,
    pub body: Bytes,
}

/// Where appended messages are (APPENDUID, RFC 4315 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub uid_validity: UidValidity,
    /// In the order of the messages.
    pub uids: Vec<Uid>,
}

/// What copied messages became (COPYUID, RFC 4315 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub uid_validity: UidValidity,
    /// (source, destination), ascending by source.
    pub pairs: Vec<(Uid, Uid)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    Copy,
    Move,
}

impl Inner {
    /// A session that has the mailbox selected, and it is the mailbox we mean (identity check before anything destructive).
    pub(crate) async fn ready(self: &Arc<Self>, state: &Arc<State>, class: Class) -> Result<Lease, Error> {
        let snapshot = state.snapshot();
        if snapshot.dead {
            return Err(Error::Gone);
        }
        let mut lease = self.pool.lease(class, Some(&state.name)).await?;
        let (validity, next) = (snapshot.uid_validity, snapshot.uid_next);
        let mut selected = lease.select_seeing(&state.name, validity, next).await;
        if matches!(selected, Err(upstream::Error::Lost { .. })) {
            // A session that died in the pool: nothing was asked of it yet, so another one is as good.
            drop(lease);
            lease = self.pool.lease(class, Some(&state.name)).await?;
            selected = lease.select_seeing(&state.name, validity, next).await;
        }
        let selected = selected?;
        if selected.uid_validity != snapshot.uid_validity {
            drop(lease);
            self.suspect(state);
            return Err(Error::Gone);
        }
        Ok(lease)
    }

    /// A mailbox was seen to have another UIDVALIDITY: a look finds the same and ends the sessions that have the old one selected.
    pub(crate) fn suspect(self: &Arc<Self>, state: &Arc<State>) {
        state.set_stale();
        let (account, state) = (Arc::clone(self), Arc::clone(state));
        self.tasks.spawn(async move { account.freshen(&state, Instant::now(), Class::Sync).await });
    }

    pub(crate) async fn store_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<UidSet, Error> {
        let (account, state, uids, flags) = (Arc::clone(self), Arc::clone(state), uids.clone(), flags.clone());
        self.run_to_end(async move {
            let mut turn = state.turn.lock().await;
            let mut lease = account.ready(&state, Class::Interactive).await?;
            let mut failed = UidSet::new();
            let mut since = None;
            if let Some(unchanged_since) = unchanged_since {
                // The test is against what is true upstream now, not against what we heard last.
                account.sync_on(&mut lease, &state, &mut turn).await?;
                let snapshot = state.snapshot();
                let newer = snapshot.messages.select(&uids).filter(|(_, message)| message.modseq > unchanged_since);
                failed = newer.map(|(_, message)| message.uid.0).collect();
                let keeps = Ladder::of(lease.caps()) != Ladder::Bare && turn.upstream_modseq > 0;
                since = keeps.then_some(turn.upstream_modseq);
            }
            let snapshot = state.snapshot();
            let there: UidSet = snapshot.messages.select(&uids).map(|(_, message)| message.uid.0).collect();
            let todo = there.minus(&failed);
            if todo.is_empty() {
                return Ok(failed);
            }
            let modified = match lease.store(&todo, op, &flags, since).await {
                Ok((told, modified)) => {
                    account.commit_flags(&state, &mut turn, &todo.minus(&modified), op, &flags, told).await;
                    modified
                }
                Err(upstream::Error::Lost { reason, .. }) => {
                    warn!(account = %account.label(), mailbox = %state.name, %reason, "connection lost during STORE: looking");
                    drop(lease);
                    account.settle_flags(&state, &mut turn, &todo, op, &flags).await?;
                    UidSet::new()
                }
                Err(error) => return Err(error.into()),
            };
            account.seen_upstream();
            Ok(failed.union(&modified))
        })
        .await
    }

    /// Takes over the flags upstream told; for a message it said nothing of but OK, the flags it was told to have.
    async fn commit_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        stored: &UidSet,
        op: FlagOp,
        flags: &Flags,
        told: Vec<FetchMeta>,
    ) {
        let snapshot = state.snapshot();
        let named: UidSet =
            told.iter().filter(|meta| meta.flags.is_some()).filter_map(|meta| meta.uid.map(|uid| uid.0)).collect();
        let silent = stored.minus(&named);
        let computed = snapshot.messages.select(&silent).map(|(_, message)| FetchMeta {
            uid: Some(message.uid),
            flags: Some(message.flags.apply(op, flags)),
            ..FetchMeta::default()
        });
        let mut seen: Vec<FetchMeta> = computed.collect();
        // Only messages we hold: a new one is for the next look, which asks for all of it.
        seen.extend(told.into_iter().filter(|meta| meta.uid.is_some_and(|uid| snapshot.messages.get(uid).is_some())));
        self.commit(state, turn, Delta { seen, ..Delta::default() }, None).await;
    }

    /// After a connection was lost in a STORE: looks, and stores what is seen not to be stored.
    async fn settle_flags(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        todo: &UidSet,
        op: FlagOp,
        flags: &Flags,
    ) -> Result<(), Error> {
        let mut lease = self.ready(state, Class::Interactive).await?;
        self.sync_on(&mut lease, state, turn).await?;
        let snapshot = state.snapshot();
        let undone =
            snapshot.messages.select(todo).filter(|(_, message)| message.flags.apply(op, flags) != message.flags);
        let undone: UidSet = undone.map(|(_, message)| message.uid.0).collect();
        if undone.is_empty() {
            return Ok(());
        }
        let (told, _) = lease.store(&undone, op, flags, None).await?;
        self.commit_flags(state, turn, &undone, op, flags, told).await;
        Ok(())
    }

    pub(crate) async fn expunge(self: &Arc<Self>, state: &Arc<State>, only: Option<&UidSet>) -> Result<(), Error> {
        let (account, state, only) = (Arc::clone(self), Arc::clone(state), only.cloned());
        self.run_to_end(async move {
            let mut turn = state.turn.lock().await;
            let mut lease = account.ready(&state, Class::Interactive).await?;
            account.sync_on(&mut lease, &state, &mut turn).await?;
            let target = deleted(&state.snapshot(), only.as_ref());
            if target.is_empty() {
                return Ok(());
            }
            match expunge_on(&mut lease, &target).await {
                Ok(()) => {}
                Err(upstream::Error::Lost { reason, .. }) => {
                    warn!(account = %account.label(), mailbox = %state.name, %reason, "connection lost during EXPUNGE: looking");
                    drop(lease);
                    lease = account.ready(&state, Class::Interactive).await?;
                    account.sync_on(&mut lease, &state, &mut turn).await?;
                    // Still there, still \Deleted, and still what the client asked to be rid of.
                    let left = deleted(&state.snapshot(), Some(&target));
                    if !left.is_empty() {
                        expunge_on(&mut lease, &left).await?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            account.sync_on(&mut lease, &state, &mut turn).await?;
            account.seen_upstream();
            Ok(())
        })
        .await
    }

    pub(crate) async fn copy(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        to: &str,
        mode: CopyMode,
    ) -> Result<Option<Copied>, Error> {
        let to = self.resolve(to).await?;
        let (account, state, uids) = (Arc::clone(self), Arc::clone(state), uids.clone());
        self.run_to_end(async move {
            let snapshot = state.snapshot();
            let there: UidSet = snapshot.messages.select(&uids).map(|(_, message)| message.uid.0).collect();
            if there.is_empty() {
                return Ok(None);
            }
            let target = account.state(&to).await?;
            let window = Window::before(&target);
            let copied = match mode {
                CopyMode::Copy => account.copy_only(&state, &there, &target, &window).await?,
                CopyMode::Move => account.move_only(&state, &there, &target, &window).await?,
            };
            account.seen_upstream();
            let copied = copied.map(sorted);
            account.show_arrivals(&target).await;
            if let Some(copied) = &copied {
                account.carry_bodies(&state, &snapshot, &target, copied).await;
            }
            Ok(copied)
        })
        .await
    }

    async fn copy_only(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let mut lease = self.ready(state, Class::Interactive).await?;
        match lease.copy(uids, &target.name).await {
            Ok(copied) => Ok(copied),
            Err(upstream::Error::Lost { reason, sent: true }) => {
                warn!(account = %self.label(), mailbox = %state.name, %reason, "connection lost during COPY: looking");
                drop(lease);
                self.settle_copy(state, uids, target, window).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// After a connection was lost in a COPY: whether the copies are there, by size and internal date among what is new.
    async fn settle_copy(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let source = state.snapshot();
        self.freshen(target, Instant::now(), Class::Interactive).await?;
        let arrived = target.snapshot();
        let (found, pairs) =
            matched(source.messages.select(uids).map(|(_, message)| message), &window.arrivals(&arrived));
        if found as u64 == uids.len() {
            return Ok(pairs.map(|pairs| CopyUid { uid_validity: arrived.uid_validity, pairs }));
        }
        let lost = "The connection to the provider was lost while copying";
        Err(Error::Unavailable(match found {
            0 => format!("{lost}: nothing was copied"),
            some => format!("{lost}: {some} of {} messages were copied", uids.len()),
        }))
    }

    async fn move_only(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let mut turn = state.turn.lock().await;
        let mut lease = self.ready(state, Class::Interactive).await?;
        let before = state.snapshot();
        let moved = if lease.caps().has("MOVE") {
            lease.move_to(uids, &target.name).await
        } else {
            move_by_copy(&mut lease, uids, &target.name).await
        };
        match moved {
            Ok(moved) => {
                self.sync_on(&mut lease, state, &mut turn).await?;
                Ok(moved)
            }
            Err(upstream::Error::Lost { reason, .. }) => {
                warn!(account = %self.label(), mailbox = %state.name, %reason, "connection lost during MOVE: looking");
                drop(lease);
                self.sync(state, &mut turn).await?;
                drop(turn);
                self.settle_move(&before, state, uids, target, window).await
            }
            Err(error) => {
                // Some may have been moved before it was refused (RFC 6851 §3.3).
                self.sync_on(&mut lease, state, &mut turn).await?;
                Err(error.into())
            }
        }
    }

    /// After a connection was lost in a MOVE: what left the source has been moved; the rest stays where it is, unharmed.
    async fn settle_move(
        self: &Arc<Self>,
        before: &Snapshot,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let now = state.snapshot();
        let left: UidSet = now.messages.select(uids).map(|(_, message)| message.uid.0).collect();
        if left.is_empty() {
            self.freshen(target, Instant::now(), Class::Interactive).await?;
            let arrived = target.snapshot();
            let sources = before.messages.select(uids).map(|(_, message)| message);
            let (_, pairs) = matched(sources, &window.arrivals(&arrived));
            return Ok(pairs.map(|pairs| CopyUid { uid_validity: arrived.uid_validity, pairs }));
        }
        let moved = uids.len() - left.len();
        Err(Error::Unavailable(format!(
            "The connection to the provider was lost while moving: {moved} of {} messages were moved, the others are where they were",
            uids.len()
        )))
    }

    pub(crate) async fn append(
        self: &Arc<Self>,
        mailbox: &str,
        messages: Vec<Append>,
    ) -> Result<Option<Appended>, Error> {
        let limit = self.options.append_limit;
        if messages.iter().any(|message| message.body.len() as u64 > limit) {
            return Err(Error::TooBig { limit });
        }
        let octets = messages.iter().map(|message| message.body.len() as u64).sum();
        let grant = self.options.allowance.upload(octets)?;
        let to = self.resolve(mailbox).await?;
        let account = Arc::clone(self);
        self.run_to_end(async move {
            let _grant = grant;
            let target = account.state(&to).await?;
            let mut done: Vec<(UidValidity, Uid)> = Vec::new();
            // Those whose UIDs upstream told: what was found by looking could be another's, and is never taken back.
            let mut ours: Vec<(UidValidity, Uid)> = Vec::new();
            let mut unknown = false;
            for message in &messages {
                match account.append_one(&target, message).await {
                    Ok((Some(at), told)) => {
                        done.push(at);
                        ours.extend(told.then_some(at));
                    }
                    Ok((None, _)) => unknown = true,
                    Err(error) => {
                        // All or nothing (RFC 3502 §6.3.11): what is there already is taken back.
                        account.take_back(&target, &ours).await;
                        return Err(error);
                    }
                }
            }
            account.seen_upstream();
            account.show_arrivals(&target).await;
            account.keep_appended(&target, &messages, &done).await;
            let validity = done.first().map(|(validity, _)| *validity);
            Ok(match validity {
                Some(uid_validity) if !unknown => {
                    Some(Appended { uid_validity, uids: done.into_iter().map(|(_, uid)| uid).collect() })
                }
                _ => None,
            })
        })
        .await
    }

    /// Uploads one message; where it is, and whether upstream told so (else it was found by looking).
    async fn append_one(
        self: &Arc<Self>,
        target: &Arc<State>,
        message: &Append,
    ) -> Result<(Option<(UidValidity, Uid)>, bool), Error> {
        let window = Window::before(target);
        for attempt in 0..2 {
            let mut lease = self.pool.lease(Class::Interactive, None).await?;
            match lease.append(&target.name, &message.flags, message.date, &message.body).await {
                Ok(at) => return Ok((at, true)),
                // Not an octet of it left us: another session is as good.
                Err(upstream::Error::Lost { sent: false, .. }) if attempt == 0 => {}
                Err(upstream::Error::Lost { reason, .. }) => {
                    warn!(account = %self.label(), mailbox = %target.name, %reason, "connection lost during APPEND: looking");
                    drop(lease);
                    return self.settle_append(target, message, &window).await.map(|at| (at, false));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("The connection to the provider was lost".into()))
    }

    /// After a connection was lost in an APPEND: whether the message is there, by Message-ID among what is new, or by size.
    async fn settle_append(
        self: &Arc<Self>,
        target: &Arc<State>,
        message: &Append,
        window: &Window,
    ) -> Result<Option<(UidValidity, Uid)>, Error> {
        self.freshen(target, Instant::now(), Class::Interactive).await?;
        let arrived = target.snapshot();
        let candidates = window.arrivals(&arrived);
        let end = message::header_end(&message.body);
        let id = message::message_id(message.body.get(..end).unwrap_or_default());
        let uids: Vec<Uid> = candidates.iter().map(|new| new.uid).collect();
        let want = super::summaries::Want { header: true, ..Default::default() };
        let mut found = None;
        for (new, summary) in candidates.iter().zip(self.summaries(target, &uids, want).await) {
            let same = match (&id, summary) {
                (Some(id), Ok(summary)) => message::message_id(&summary.header).as_ref() == Some(id),
                (None, Ok(summary)) => {
                    let header = message.body.get(..end).unwrap_or_default();
                    u64::from(new.size) == message.body.len() as u64
                        && summary.header.trim_ascii_end() == header.trim_ascii_end()
                }
                (_, Err(Error::Expunged)) => false,
                // Not seen is not known: a message of the same size is not taken for ours.
                (_, Err(error)) => return Err(error),
            };
            if same {
                found = Some((arrived.uid_validity, new.uid));
            }
        }
        match found {
            Some(at) => Ok(Some(at)),
            None if !window.known => Err(Error::Unavailable(
                "The connection to the provider was lost while storing the message; whether it was stored cannot be seen"
                    .into(),
            )),
            None => Err(Error::Unavailable(
                "The connection to the provider was lost while storing the message; it has not been stored".into(),
            )),
        }
    }

    /// Takes back messages of a MULTIAPPEND that failed later on. They are ours: we have just been told their UIDs.
    async fn take_back(self: &Arc<Self>, target: &Arc<State>, done: &[(UidValidity, Uid)]) {
        let uids: UidSet = done.iter().map(|(_, uid)| uid.0).collect();
        if uids.is_empty() {
            return;
        }
        let taken = async {
            self.freshen(target, Instant::now(), Class::Interactive).await?;
            let mut lease = self.ready(target, Class::Interactive).await?;
            if !lease.caps().has("UIDPLUS") || done.iter().any(|(at, _)| *at != target.snapshot().uid_validity) {
                return Err(Error::Cannot("the messages cannot be named".into()));
            }
            lease.store(&uids, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await?;
            lease.uid_expunge(&uids).await?;
            Ok(())
        };
        if let Err(error) = taken.await {
            warn!(account = %self.label(), mailbox = %target.name, %uids, %error, "messages of a failed MULTIAPPEND stay");
        }
        self.show_arrivals(target).await;
    }

    /// Brings a mailbox that has just got messages in step, if anybody looks at it; else marks it as to be looked at.
    async fn show_arrivals(self: &Arc<Self>, target: &Arc<State>) {
        target.set_stale();
        if target.is_known()
            && let Err(error) = self.freshen(target, Instant::now(), Class::Interactive).await
        {
            info!(account = %self.label(), mailbox = %target.name, %error, "new messages are shown later");
        }
    }

    /// The body that was uploaded need not be downloaded, if upstream kept it as it was.
    async fn keep_appended(self: &Arc<Self>, target: &Arc<State>, messages: &[Append], done: &[(UidValidity, Uid)]) {
        if done.len() != messages.len() {
            return;
        }
        let snapshot = target.snapshot();
        for (message, (validity, uid)) in messages.iter().zip(done) {
            let same = snapshot.messages.get(*uid).is_some_and(|new| u64::from(new.size) == message.body.len() as u64);
            if same && *validity == snapshot.uid_validity {
                let (key, body) = (target.body_key(&snapshot, *uid), message.body.clone());
                // What cannot be cached is fetched when asked for.
                let _ = self.disk(move |store| store.put_body(key, &body)).await;
            }
        }
    }

    /// Gives copies the bodies of what they were copied from.
    async fn carry_bodies(
        self: &Arc<Self>,
        source: &Arc<State>,
        before: &Snapshot,
        target: &Arc<State>,
        copied: &Copied,
    ) {
        let after = target.snapshot();
        if after.uid_validity != copied.uid_validity {
            return;
        }
        let keys = copied.pairs.iter().filter(|(_, to)| after.messages.get(*to).is_some());
        let keys: Vec<(BodyKey, BodyKey)> = keys
            .map(|(from, to)| {
                // Named outright: after a MOVE the source's snapshot does not hold them any more.
                (source.body_key(before, *from), target.body_key(&after, *to))
            })
            .filter(|(from, to)| from != to)
            .collect();
        // What cannot be carried is fetched when asked for.
        let _ = self.disk(move |store| store.alias(&keys)).await;
    }
}

/// What was in a mailbox before a write, so that what the write brought can be told.
struct Window {
    known: bool,
    uid_next: Uid,
}

impl Window {
    fn before(target: &State) -> Self {
        Self { known: target.is_known(), uid_next: target.snapshot().uid_next }
    }

    fn arrivals(&self, now: &Snapshot) -> Vec<MessageMeta> {
        if !self.known {
            // Never seen before: nothing can be told to be new.
            return Vec::new();
        }
        let first = now.messages.lower_bound(self.uid_next);
        now.messages.iter_from(first).map(|(_, message)| message.clone()).collect()
    }
}

/// Finds messages among those that arrived by size and date: how many have one of their own there, and which became which, if that is
/// beyond doubt. Two that look alike could be taken for each other, and one would be given the other's body.
fn matched<'a>(
    sources: impl Iterator<Item = &'a MessageMeta>,
    arrived: &[MessageMeta],
) -> (usize, Option<Vec<(Uid, Uid)>>) {
    let look = |message: &MessageMeta| (message.size, message.internal_date.seconds);
    let mut alike: HashMap<_, (Vec<Uid>, Vec<Uid>)> = HashMap::new();
    for message in sources {
        alike.entry(look(message)).or_default().0.push(message.uid);
    }
    for message in arrived {
        if let Some((_, there)) = alike.get_mut(&look(message)) {
            there.push(message.uid);
        }
    }
    let found = alike.values().map(|(here, there)| here.len().min(there.len())).sum();
    let pairs = alike.values().map(|(here, there)| match (here.as_slice(), there.as_slice()) {
        ([here], [there]) => Some((*here, *there)),
        _ => None,
    });
    (found, pairs.collect())
}

/// UIDs marked `\Deleted`, of all or of some.
fn deleted(snapshot: &Snapshot, only: Option<&UidSet>) -> UidSet {
    let marked = snapshot.messages.iter().filter(|message| message.flags.has(SystemFlags::DELETED));
    marked.map(|message| message.uid.0).filter(|uid| only.is_none_or(|only| only.contains(*uid))).collect()
}

/// Expunges just these, on upstreams with and without UIDPLUS.
async fn expunge_on(lease: &mut Lease, target: &UidSet) -> Result<(), upstream::Error> {
    if lease.caps().has("UIDPLUS") {
        return lease.uid_expunge(target).await;
    }
    // Plain EXPUNGE takes everything that is \Deleted, also what others have marked and our last look did not cover: upstream itself is
    // asked, and what is not meant is spared for the moment (Law 10).
    let spared = lease.search(b"DELETED").await?.minus(target);
    let mark = Flags::new(SystemFlags::DELETED, []);
    if !spared.is_empty() {
        lease.store(&spared, FlagOp::Remove, &mark, None).await?;
    }
    let done = lease.expunge().await;
    if !spared.is_empty() {
        lease.store(&spared, FlagOp::Add, &mark, None).await?;
    }
    done
}

/// MOVE where upstream has none: COPY, mark, expunge, in this order (RFC 6851 §3.3).
async fn move_by_copy(lease: &mut Lease, uids: &UidSet, to: &str) -> Result<Option<CopyUid>, upstream::Error> {
    let copied = lease.copy(uids, to).await?;
    lease.store(uids, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await?;
    expunge_on(lease, uids).await?;
    Ok(copied)
}

fn sorted(copied: CopyUid) -> Copied {
    let mut pairs = copied.pairs;
    pairs.sort_unstable();
    Copied { uid_validity: copied.uid_validity, pairs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(uid: u32, size: u32, seconds: i64) -> MessageMeta {
        MessageMeta {
            uid: Uid(uid),
            flags: Flags::default(),
            modseq: ModSeq(1),
            internal_date: InternalDate { seconds, ..InternalDate::default() },
            size,
            gm_msgid: 0,
        }
    }

    /// UID, size and seconds of messages; how many are found, and which became which.
    struct Case {
        sources: &'static [(u32, u32, i64)],
        arrived: &'static [(u32, u32, i64)],
        found: usize,
        pairs: Option<&'static [(u32, u32)]>,
    }

    #[test]
    fn copies_are_told_apart_or_not_told() {
        let case = |sources, arrived, found, pairs| Case { sources, arrived, found, pairs };
        let table = [
            case(&[(1, 10, 5), (2, 11, 5)], &[(71, 11, 5), (72, 10, 5), (73, 9, 9)], 2, Some(&[(1, 72), (2, 71)])),
            case(&[(1, 10, 5)], &[], 0, None),
            case(&[(1, 10, 5), (2, 11, 5)], &[(71, 11, 5)], 1, None),
            // Alike: all are there, and which is which is not known.
            case(&[(1, 10, 5), (2, 10, 5)], &[(71, 10, 5), (72, 10, 5)], 2, None),
            case(&[(1, 10, 5)], &[(71, 10, 5), (72, 10, 5)], 1, None),
        ];
        let make = |list: &[(u32, u32, i64)]| -> Vec<MessageMeta> {
            list.iter().map(|(uid, size, seconds)| message(*uid, *size, *seconds)).collect()
        };
        for Case { sources, arrived, found, pairs } in table {
            let (got, mut told) = matched(make(sources).iter(), &make(arrived));
            if let Some(told) = &mut told {
                told.sort_unstable();
            }
            let pairs: Option<Vec<_>> = pairs.map(|p| p.iter().map(|(a, b)| (Uid(*a), Uid(*b))).collect());
            assert_eq!((got, told), (found, pairs), "{sources:?} {arrived:?}");
        }
    }
}
