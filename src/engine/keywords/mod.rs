//! Keywords that the provider does not keep (PERMANENTFLAGS without `\*`, RFC 9051 §7.1), kept here as durable state.
//!
//! A STORE, APPEND or COPY is shared out: what upstream keeps goes there first, the rest is committed to SQLite before the answer. What is
//! kept here is laid over everything upstream says of a message ([`Overlay`]), so that snapshots, mod-sequences and searches know one
//! set of flags. A keyword that is kept here stays here even if upstream comes to permit it; taking it away takes it from both.
//!
//! [`State::local`] is a leaf: while it is held nothing is waited for but the durable state.

mod overlay;

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;

use super::account::{Inner, LONG_CALL, now_ms};
use super::error::Error;
use super::mailbox::State;
use super::mirror::Delta;
use super::snapshot::Snapshot;
use super::writes::{Append, Copied};
use crate::model::{FlagOp, Flags, Keyword, ModSeq, SystemFlags, Uid, UidSet, UidValidity};
use crate::state;
use crate::upstream::{self, Class, FetchMeta};
pub(crate) use overlay::{Changes, Overlay};

/// What is kept here of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Local {
    pub(crate) overlay: Overlay,
    /// PERMANENTFLAGS of a mailbox that has not been read, once they were asked for: `None` inside is everything.
    permits: Option<Option<Flags>>,
    /// A commit failed, or was given up and perhaps came through: what is on disk decides.
    doubtful: bool,
}

impl Local {
    pub(crate) fn new(overlay: Overlay) -> Self {
        Self { overlay, ..Self::default() }
    }
}

/// How the flags of a STORE are shared out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) upstream: Flags,
    /// Keywords only.
    pub(crate) here: Flags,
    /// Upstream has a part in it.
    pub(crate) goes_up: bool,
}

/// What COPY or MOVE takes along besides what upstream does.
pub(crate) struct Carry {
    uid_validity: UidValidity,
    uids: UidSet,
    /// Keywords upstream has at the source and does not keep at the destination.
    dropped: BTreeMap<Uid, Flags>,
}

/// Shares out a STORE. `permanent` is what upstream keeps (`None`: everything); `held` says whether it has a keyword on one of the
/// messages all the same, so that it is asked to take it away.
fn share(op: FlagOp, flags: &Flags, permanent: Option<&Flags>, held: impl Fn(&Keyword) -> bool) -> Share {
    let permits = |keyword: &Keyword| permanent.is_none_or(|permanent| permanent.has_keyword(keyword));
    let goes_up = |keyword: &&Keyword| permits(keyword) || (op != FlagOp::Add && held(keyword));
    let upstream = Flags::new(flags.system, flags.keywords().iter().filter(goes_up).cloned());
    let stays = |keyword: &&Keyword| op == FlagOp::Remove || !permits(keyword);
    let here = keywords(flags.keywords().iter().filter(stays).cloned());
    let goes_up = op == FlagOp::Replace || here.keywords().is_empty() || upstream != Flags::default();
    Share { upstream, here, goes_up }
}

fn keywords(of: impl IntoIterator<Item = Keyword>) -> Flags {
    Flags::new(SystemFlags::default(), of)
}

/// The keywords among `flags` that are not permanent.
fn unkept(flags: &Flags, permanent: &Flags) -> Flags {
    keywords(flags.keywords().iter().filter(|keyword| !permanent.has_keyword(keyword)).cloned())
}

/// PERMANENTFLAGS as told: `None` if new keywords can be made.
pub(crate) fn permanent(told: &[String]) -> Option<Flags> {
    let everything = told.iter().any(|flag| flag == "\\*");
    (!everything).then(|| Flags::parse(told.iter().map(String::as_str)))
}

impl Inner {
    /// Shares out a STORE on messages of this snapshot, and refuses what there is no room for. `permanent` is what upstream said last.
    pub(crate) async fn share(
        &self,
        state: &State,
        todo: &UidSet,
        op: FlagOp,
        flags: &Flags,
        permanent: Option<&Flags>,
    ) -> Result<Share, Error> {
        let snapshot = state.snapshot();
        let mut local = state.local.lock().await;
        self.make_sure(state, &mut local).await?;
        let overlay = &mut local.overlay;
        overlay.enter(snapshot.uid_validity);
        let held = |keyword: &Keyword| {
            snapshot.messages.select(todo).any(|(_, message)| overlay.bare(message).has_keyword(keyword))
        };
        let share = share(op, flags, permanent, held);
        overlay.check(&overlay.changes(&snapshot, todo, op, &share.here))?;
        Ok(share)
    }

    /// Upstream's part of the flags of these messages, as far as is known.
    pub(crate) async fn bare_flags(&self, state: &State, snapshot: &Snapshot, uids: &UidSet) -> Vec<(Uid, Flags)> {
        let mut local = state.local.lock().await;
        local.overlay.enter(snapshot.uid_validity);
        let bare = snapshot.messages.select(uids).map(|(_, message)| (message.uid, local.overlay.bare(message)));
        bare.collect()
    }

    /// Commits what a STORE leaves here; the mirror is the caller's to bring after.
    pub(crate) async fn keep_stored(
        &self,
        state: &State,
        uids: &UidSet,
        op: FlagOp,
        here: &Flags,
    ) -> Result<(), Error> {
        let snapshot = state.snapshot();
        let mut local = state.local.lock().await;
        local.overlay.enter(snapshot.uid_validity);
        let changes = local.overlay.changes(&snapshot, uids, op, here);
        self.write(state, &mut local, snapshot.uid_validity, changes).await
    }

    /// Messages have vanished: so do their keywords. A failure leaves rows that belong to nothing and do no harm.
    pub(crate) async fn forget_keywords(&self, state: &State, gone: &UidSet) {
        let uid_validity = state.snapshot().uid_validity;
        let mut local = state.local.lock().await;
        local.overlay.enter(uid_validity);
        let had = local.overlay.forget(gone);
        if !had.is_empty() {
            let name = Arc::clone(&state.name);
            let _ = self
                .durable_within(LONG_CALL, move |db, account| {
                    db.forget_local_messages(account, &name, uid_validity, &had)
                })
                .await;
        }
    }

    /// A mailbox was read whole: what is kept of messages it does not hold, or under another UIDVALIDITY, is of no use any more.
    pub(crate) async fn settle_keywords(&self, state: &State, snapshot: &Snapshot) {
        let uid_validity = snapshot.uid_validity;
        let mut local = state.local.lock().await;
        local.overlay.enter(uid_validity);
        let (name, others) = (Arc::clone(&state.name), local.overlay.forget_others());
        let orphans = match local.overlay.is_empty() {
            true => UidSet::new(),
            false => local.overlay.orphans(&snapshot.messages.uids(), snapshot.uid_next),
        };
        local.overlay.forget(&orphans);
        if others || !orphans.is_empty() {
            // As above: a failure leaves rows that do no harm.
            let forget = move |db: &state::State, account: &str| {
                db.forget_local_keywords(account, &name, Some(uid_validity))?;
                db.forget_local_messages(account, &name, uid_validity, &orphans)
            };
            let _ = self.durable_within(LONG_CALL, forget).await;
        }
    }

    /// Takes from messages to be appended the keywords the mailbox does not keep; those, one for each message, or none at all.
    pub(crate) async fn share_appends(
        self: &Arc<Self>,
        target: &Arc<State>,
        messages: &mut [Append],
    ) -> Result<Vec<Flags>, Error> {
        if messages.iter().all(|message| message.flags.keywords().is_empty()) {
            return Ok(Vec::new());
        }
        let Some(permanent) = self.permits(target).await? else { return Ok(Vec::new()) };
        let here: Vec<Flags> = messages.iter().map(|message| unkept(&message.flags, &permanent)).collect();
        if here.iter().all(|flags| flags.keywords().is_empty()) {
            return Ok(Vec::new());
        }
        self.check_room(target, here.iter().cloned()).await?;
        for (message, here) in messages.iter_mut().zip(&here) {
            message.flags = message.flags.apply(FlagOp::Remove, here);
        }
        Ok(here)
    }

    /// Commits keywords of messages that are new in a mailbox.
    pub(crate) async fn keep_new(
        &self,
        target: &State,
        uid_validity: UidValidity,
        new: impl IntoIterator<Item = (Uid, Flags)>,
    ) -> Result<(), Error> {
        let mut local = target.local.lock().await;
        self.make_sure(target, &mut local).await?;
        local.overlay.enter(uid_validity);
        let overlay = &local.overlay;
        let new = new.into_iter().filter(|(_, flags)| !flags.keywords().is_empty());
        let changes = new.map(|(uid, flags)| (uid, overlay.of(uid).apply(FlagOp::Add, &flags))).collect();
        self.write(target, &mut local, uid_validity, changes).await
    }

    /// Shows what is kept of new messages, if they came into the mirror before it was.
    pub(crate) async fn show_kept(self: &Arc<Self>, target: &Arc<State>, uids: &UidSet) {
        if !target.is_known() {
            return;
        }
        let mut turn = target.turn.lock().await;
        let snapshot = target.snapshot();
        let seen: Vec<FetchMeta> = {
            let mut local = target.local.lock().await;
            local.overlay.enter(snapshot.uid_validity);
            let overlay = &local.overlay;
            let lacks = snapshot.messages.select(uids).filter_map(|(_, message)| {
                let bare = overlay.bare(message);
                let differs = bare.apply(FlagOp::Add, &overlay.of(message.uid)) != message.flags;
                differs.then(|| FetchMeta { uid: Some(message.uid), flags: Some(bare), ..FetchMeta::default() })
            });
            lacks.collect()
        };
        if !seen.is_empty() {
            self.commit(target, &mut turn, Delta { seen, ..Delta::default() }, None).await;
        }
    }

    /// Before COPY and MOVE: what they are to take along, and whether there is room for it. Ended by [`Self::end_carry`] in any case.
    pub(crate) async fn begin_carry(
        self: &Arc<Self>,
        state: &Arc<State>,
        target: &Arc<State>,
        uids: &UidSet,
    ) -> Result<Carry, Error> {
        let snapshot = state.snapshot();
        let uid_validity = snapshot.uid_validity;
        let mut dropped: BTreeMap<Uid, Flags> = BTreeMap::new();
        for (uid, flags) in self.bare_flags(state, &snapshot, uids).await {
            if !flags.keywords().is_empty() {
                dropped.insert(uid, flags);
            }
        }
        if !dropped.is_empty() {
            match self.permits(target).await? {
                None => dropped.clear(),
                Some(permanent) => dropped.values_mut().for_each(|flags| *flags = unkept(flags, &permanent)),
            }
        }
        dropped.retain(|_, flags| !flags.keywords().is_empty());
        let mut coming = dropped.clone();
        {
            let mut local = state.local.lock().await;
            self.make_sure(state, &mut local).await?;
            local.overlay.enter(uid_validity);
            if !local.overlay.is_empty() {
                add_all(&mut coming, uids.iter().map(|uid| (Uid(uid), local.overlay.of(Uid(uid)))));
            }
        }
        self.check_room(target, coming.into_values()).await?;
        Ok(Carry { dropped, ..self.take_along(state, uid_validity, uids).await })
    }

    /// The same for a move that was begun before: what is kept here is taken along.
    pub(crate) async fn take_along(&self, state: &State, uid_validity: UidValidity, uids: &UidSet) -> Carry {
        let mut local = state.local.lock().await;
        local.overlay.enter(uid_validity);
        local.overlay.set_leaving(uids);
        Carry { uid_validity, uids: uids.clone(), dropped: BTreeMap::new() }
    }

    /// COPY or MOVE has ended: the keywords of its messages, as they were when these left.
    pub(crate) async fn end_carry(&self, state: &State, carry: Carry) -> BTreeMap<Uid, Flags> {
        let mut local = state.local.lock().await;
        local.overlay.enter(carry.uid_validity);
        let mut all = carry.dropped;
        add_all(&mut all, local.overlay.settle_leaving(&carry.uids));
        all
    }

    /// Gives copies the keywords of what they were copied from; which of them have some. The messages are where they were to go whatever
    /// becomes of the keywords, and a NO would have the client do it again: a failure is for the log.
    pub(crate) async fn keep_copies(&self, target: &State, copied: &Copied, had: &BTreeMap<Uid, Flags>) -> UidSet {
        let new: Vec<(Uid, Flags)> =
            copied.pairs.iter().filter_map(|(from, to)| had.get(from).map(|flags| (*to, flags.clone()))).collect();
        let uids = new.iter().map(|(uid, _)| uid.0).collect();
        if let Err(error) = self.keep_new(target, copied.uid_validity, new).await {
            warn!(account = %self.label(), mailbox = %target.name, %uids, %error, "keywords of copied messages are lost");
        }
        uids
    }

    /// All keywords that are kept of a mailbox, as it is now.
    pub(crate) async fn kept(&self, state: &State) -> Result<BTreeMap<Uid, Flags>, Error> {
        let uid_validity = state.snapshot().uid_validity;
        let mut local = state.local.lock().await;
        self.make_sure(state, &mut local).await?;
        local.overlay.enter(uid_validity);
        Ok(local.overlay.all().clone())
    }

    /// What upstream keeps in a mailbox, asked for if it has never been read; `None`: everything.
    async fn permits(self: &Arc<Self>, state: &Arc<State>) -> Result<Option<Flags>, Error> {
        if state.is_known() {
            return Ok(state.snapshot().permanent.clone());
        }
        if let Some(permits) = &state.local.lock().await.permits {
            return Ok(permits.clone());
        }
        let mut lease = self.pool.lease(Class::Interactive, Some(&state.name)).await?;
        let permits = match lease.select(&state.name).await {
            Ok(selected) => selected.permanent_flags.as_deref().and_then(permanent),
            // Perhaps one that may be written to and not read: what comes next tells.
            Err(upstream::Error::No { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        state.local.lock().await.permits = Some(permits.clone());
        Ok(permits)
    }

    /// Whether new messages with these keywords have room in a mailbox.
    async fn check_room(&self, target: &State, new: impl Iterator<Item = Flags>) -> Result<(), Error> {
        let changes: Changes = new.filter(|flags| !flags.keywords().is_empty()).map(|flags| (Uid(0), flags)).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let mut local = target.local.lock().await;
        local.overlay.enter(target.snapshot().uid_validity);
        local.overlay.check(&changes)
    }

    async fn write(
        &self,
        state: &State,
        local: &mut Local,
        uid_validity: UidValidity,
        changes: Changes,
    ) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let rows: Vec<(Uid, Vec<Keyword>)> =
            changes.iter().map(|(uid, flags)| (*uid, flags.keywords().to_vec())).collect();
        let modseq = ModSeq(now_ms().max(state.snapshot().highest_modseq.0 + 1));
        let name = Arc::clone(&state.name);
        // Until it is known to have gone well; also when whoever waits here is gone first.
        local.doubtful = true;
        self.durable_within(LONG_CALL, move |db, account| {
            db.set_local_keywords(account, &name, uid_validity, &rows, modseq)
        })
        .await?;
        local.doubtful = false;
        local.overlay.take(&changes);
        Ok(())
    }

    /// After a commit that failed: reads again what is on disk.
    async fn make_sure(&self, state: &State, local: &mut Local) -> Result<(), Error> {
        if local.doubtful {
            let name = Arc::clone(&state.name);
            let kept = self.durable_within(LONG_CALL, move |db, account| db.local_keywords(account, &name)).await?;
            local.overlay = Overlay::new(&kept);
            local.doubtful = false;
        }
        Ok(())
    }
}

fn add_all(all: &mut BTreeMap<Uid, Flags>, more: impl IntoIterator<Item = (Uid, Flags)>) {
    for (uid, flags) in more.into_iter().filter(|(_, flags)| !flags.keywords().is_empty()) {
        let old = all.entry(uid).or_default();
        *old = old.apply(FlagOp::Add, &flags);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Flags {
        Flags::parse(text.split(' '))
    }

    #[test]
    fn a_store_is_shared_out() {
        // Upstream keeps \Seen and `work`, and has `old` on one of the messages.
        let all = "\\Seen \\Flagged work $Later old";
        let table = [
            (FlagOp::Add, all, "\\Seen \\Flagged work", "$Later old", true),
            (FlagOp::Add, "$Later", "", "$Later", false),
            (FlagOp::Add, "WORK", "WORK", "", true),
            (FlagOp::Add, "", "", "", true),
            (FlagOp::Remove, all, "\\Seen \\Flagged work old", "work $Later old", true),
            (FlagOp::Remove, "$Later", "", "$Later", false),
            (FlagOp::Replace, all, "\\Seen \\Flagged work old", "$Later old", true),
            (FlagOp::Replace, "$Later", "", "$Later", true),
            (FlagOp::Replace, "", "", "", true),
        ];
        let permanent = flags("\\Seen work");
        for (op, asked, upstream, here, goes_up) in table {
            let want = Share { upstream: flags(upstream), here: flags(here), goes_up };
            let held = |keyword: &Keyword| keyword.as_str() == "old";
            assert_eq!(share(op, &flags(asked), Some(&permanent), held), want, "{op:?} {asked}");
        }
        // Where everything is kept upstream, only what was kept here before is taken away here.
        for (op, here) in [(FlagOp::Add, ""), (FlagOp::Remove, "work"), (FlagOp::Replace, "")] {
            let want = Share { upstream: flags("\\Seen work"), here: flags(here), goes_up: true };
            assert_eq!(share(op, &flags("\\Seen work"), None, |_| true), want, "{op:?}");
        }
    }

    #[test]
    fn permanent_flags_as_told() {
        let told = |text: &str| permanent(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(told("\\Seen work \\*"), None);
        assert_eq!(told("\\Seen work"), Some(flags("\\Seen work")));
        assert_eq!(told(""), Some(Flags::default()));
    }
}
