//! MOVE (RFC 9051 §6.4.8, RFC 6851), on upstreams with and without it.
//!
//! Without it a move is COPY, STORE `\Deleted` and EXPUNGE of the source, in this order (RFC 6851 §3.3), and ends in one of two ways: the
//! messages are in the target, or they are where they were. After a connection lost on the way upstream is looked at: when every message
//! has its copy the move is gone on with, else the sources lose our mark and the copies that are surely ours are taken back. A source is
//! expunged only when its copy has been seen or told, and a copy is taken back only when its source has been seen without the mark.
//! The journal (`unfinished`) brings the same about after a crash.
//!
//! What can remain is said to the client: where upstream has no UIDPLUS either, copies cannot be taken back safely, so what was copied is
//! moved and the rest is not; and copies that a server still makes after the connection to it was lost, and after our last look, stay.

use std::sync::Arc;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::copies::{copies_of, select_for_write};
use super::identity;
use super::settle::{Fault, LOOK_PAUSE, LOOKS, Window, matched};
use super::unfinished::{Entry, Messages, Move, Write};
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::{State, Turn};
use crate::engine::snapshot::Snapshot;
use crate::model::{FlagOp, Flags, SystemFlags, Uid, UidSet, UidValidity};
use crate::upstream::{Class, CopyUid, Lease};

/// How a move ended that was settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Messages that are still in the source.
    left: u64,
    /// Of these, messages that have a copy in the target as well.
    doubled: u64,
    /// The sources vanished by somebody else's hand before they were copied.
    vanished: bool,
}

impl Inner {
    pub(super) async fn move_only(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let mut turn = state.turn.lock().await;
        let mut lease = self.ready(state, Class::Interactive).await?;
        if !lease.caps().has("MOVE") && !lease.caps().has("IMAP4REV2") {
            return self.move_by_copy(lease, state, &mut turn, uids, target).await;
        }
        self.check_identity(&mut lease, state, uids).await?;
        let before = state.snapshot();
        // Only what is named from here on says anything of this MOVE.
        lease.take_events();
        let moved = lease.move_to(uids, &target.name).await;
        match moved.failed.map(Fault::from) {
            None => {
                if !self.show_gone(&mut lease, state, &mut turn, uids).await {
                    self.look_again(lease, state, &mut turn).await;
                }
                Ok(moved.told)
            }
            Some(Fault::Lost(reason)) => {
                warn!(account = %self.label(), mailbox = %state.name, reason, "connection lost during MOVE: looking");
                drop(lease);
                self.sync(state, &mut turn).await?;
                // A server may go on with a MOVE whose connection is lost: it is given some time to end it.
                let mut looks = LOOKS;
                while looks > 0 && !there(&state.snapshot(), uids).is_empty() {
                    looks -= 1;
                    sleep(LOOK_PAUSE).await;
                    self.sync(state, &mut turn).await?;
                }
                drop(turn);
                self.settle_move(&before, state, uids, target, window, moved.told).await
            }
            Some(Fault::Refused(error)) => {
                // Some may have been moved before it was refused (RFC 6851 §3.3).
                self.look_again(lease, state, &mut turn).await;
                let left = there(&state.snapshot(), uids).len();
                Err(told_in_part(error, uids.len() - left, uids.len(), "moved"))
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
        told: Option<CopyUid>,
    ) -> Result<Option<CopyUid>, Error> {
        let left = there(&state.snapshot(), uids);
        if left.is_empty() {
            if told.as_ref().is_some_and(|told| told.pairs.len() as u64 == uids.len()) {
                return Ok(told);
            }
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

    async fn move_by_copy(
        self: &Arc<Self>,
        mut lease: Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        uids: &UidSet,
        target: &Arc<State>,
    ) -> Result<Option<CopyUid>, Error> {
        self.sync_on(&mut lease, state, turn).await?;
        let snapshot = state.snapshot();
        let uids = there(&snapshot, uids);
        if uids.is_empty() {
            return Ok(None);
        }
        self.check_identity(&mut lease, state, &uids).await?;
        let marked = snapshot.messages.select(&uids).filter(|(_, message)| message.flags.has(SystemFlags::DELETED));
        let marked = marked.map(|(_, message)| message.uid.0).collect();
        // Upstream itself is asked what the next UID is: what is new there afterwards is ours or came in these moments.
        let (validity, next) = match lease.status(&target.name).await.map_err(Fault::from) {
            Ok(status) => (status.uid_validity, status.uid_next),
            // COPY will say why.
            Err(Fault::Refused(_)) => (None, None),
            Err(fault) => return Err(fault.into()),
        };
        let ids = identity::ids(&snapshot, &uids);
        let source = Messages::new(&state.name, snapshot.uid_validity, uids).with_ids(ids);
        let mut moving = Move::new(source, marked, &target.name, validity, next);
        let mut entry = self.write_down(Write::Move(moving.clone())).await?;
        let fault = match self.move_steps(lease, state, turn, &mut moving, &mut entry).await {
            Ok(lease) => {
                entry.done().await;
                self.look_again(lease, state, turn).await;
                return Ok(moving.all_told());
            }
            Err(fault) => fault,
        };
        let refused = match &fault {
            Fault::Lost(reason) => {
                warn!(account = %self.label(), mailbox = %state.name, reason, "connection lost during a MOVE by COPY: looking");
                false
            }
            Fault::Refused(_) => true,
        };
        match self.settle_move_by_copy(state, turn, &moving, refused).await {
            Ok(ended) => {
                entry.done().await;
                ended.answer(fault, &moving)
            }
            // The mailbox, or the messages in it, are others now: there is nothing to be finished or undone.
            Err(Error::Gone) => Err(Error::Gone),
            // The entry stays, and is settled when upstream can be reached.
            Err(error) => {
                warn!(account = %self.label(), mailbox = %state.name, %error, "a MOVE by COPY is settled later");
                Err(Error::Unavailable(
                    "The connection to the provider was lost while moving; the move is finished or undone when it is back".into(),
                ))
            }
        }
    }

    async fn move_steps(
        self: &Arc<Self>,
        mut lease: Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        moving: &mut Move,
        entry: &mut Entry,
    ) -> Result<Lease, Fault> {
        let copied = lease.copy(&moving.source.uids, &moving.to).await;
        if let Some(told) = copied.told {
            moving.tell(told);
        }
        moving.copied = copied.failed.is_none();
        entry.change(Write::Move(moving.clone())).await?;
        if let Some(error) = copied.failed {
            return Err(error.into());
        }
        lease.store(&moving.source.uids, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await?;
        match self.expunge_these(lease, state, turn, &moving.source.uids).await {
            Ok(lease) => Ok(lease),
            Err(Error::Unavailable(reason)) => Err(Fault::Lost(reason)),
            Err(error) => Err(error.into()),
        }
    }

    /// Brings a move made of steps to one of its two ends, by what upstream holds. `refused`: upstream did not want a step, so the move
    /// is not gone on with.
    pub(super) async fn settle_move_by_copy(
        self: &Arc<Self>,
        state: &Arc<State>,
        turn: &mut Turn,
        moving: &Move,
        refused: bool,
    ) -> Result<Ended, Error> {
        let Messages { uids, .. } = &moving.source;
        let validity = moving.source.uid_validity();
        let mut lease = self.pool.lease(Class::Interactive, Some(&state.name)).await?;
        self.sync_on(&mut lease, state, turn).await?;
        if state.snapshot().uid_validity != validity {
            return Err(Error::Gone);
        }
        let mut left = there(&state.snapshot(), uids);
        if left.is_empty() {
            return Ok(Ended { vanished: !moving.copied, ..Ended::default() });
        }
        self.check_written(&mut lease, &moving.source, &left).await?;
        let mut copies = self.find_copies(&mut lease, state, &left, moving).await?;
        // A server may go on with a COPY whose connection is lost: it is given some time to end it.
        let mut looks = if moving.copied || refused { 0 } else { LOOKS };
        while looks > 0 && copies.len() as u64 != left.len() {
            looks -= 1;
            sleep(LOOK_PAUSE).await;
            copies = self.find_copies(&mut lease, state, &left, moving).await?;
        }
        let is_whole = copies.len() as u64 == left.len();
        let uidplus = lease.caps().has("UIDPLUS") || lease.caps().has("IMAP4REV2");
        let copied: UidSet = copies.keys().copied().collect();
        if !is_whole || refused {
            left = self.unmark(&mut lease, state, turn, moving, &left).await?;
        }
        if !refused && (is_whole || !uidplus) {
            self.finish_move(lease, state, turn, moving, &copied.intersect(&left)).await?;
            return Ok(Ended { left: there(&state.snapshot(), uids).len(), ..Ended::default() });
        }
        // Only of those seen in the source a moment ago, without a mark of ours: no EXPUNGE takes them now. And only what COPYUID told:
        // what looks like a copy of ours may be somebody else's, and one that was there before is none (a label a message had already).
        let is_ours = |(from, copy): &(&u32, &u32)| {
            left.contains(**from)
                && moving.told.contains(&(**from, **copy))
                && moving.to_next.is_none_or(|next| **copy >= next)
        };
        let back: Vec<(Uid, Uid)> =
            copies.iter().filter(is_ours).map(|(from, copy)| (Uid(*from), Uid(*copy))).collect();
        let others = copies.keys().filter(|from| left.contains(**from)).count() as u64 - back.len() as u64;
        let mut ended = Ended { left: left.len(), doubled: others, ..Ended::default() };
        if !back.is_empty() && uidplus && !self.holds_the_only_copy(&moving.to) {
            let back = copies_of(&back, &moving.source.ids, &moving.to, moving.to_validity());
            self.expunge_copies(&mut lease, &back).await?;
        } else {
            ended.doubled += back.len() as u64;
        }
        Ok(ended)
    }

    /// Takes our `\Deleted` from the sources, and looks which of them are still there.
    async fn unmark(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        moving: &Move,
        left: &UidSet,
    ) -> Result<UidSet, Error> {
        let ours = left.minus(&moving.marked);
        if moving.copied && !ours.is_empty() {
            if !select_for_write(lease, &state.name, moving.source.uid_validity()).await? {
                return Err(Error::Gone);
            }
            lease.store(&ours, FlagOp::Remove, &Flags::new(SystemFlags::DELETED, []), None).await?;
        }
        self.sync_on(lease, state, turn).await?;
        Ok(there(&state.snapshot(), left))
    }

    /// Marks and expunges sources whose copies are sure.
    async fn finish_move(
        self: &Arc<Self>,
        mut lease: Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        moving: &Move,
        sources: &UidSet,
    ) -> Result<(), Error> {
        if !sources.is_empty() {
            if !select_for_write(&mut lease, &state.name, state.snapshot().uid_validity).await? {
                return Err(Error::Gone);
            }
            self.check_written(&mut lease, &moving.source, sources).await?;
            lease.store(sources, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await?;
            lease = self.expunge_these(lease, state, turn, sources).await?;
        }
        self.look_again(lease, state, turn).await;
        Ok(())
    }
}

impl Ended {
    /// What the client is told, of a move that was interrupted by `fault`.
    fn answer(self, fault: Fault, moving: &Move) -> Result<Option<CopyUid>, Error> {
        let all = moving.source.uids.len();
        if self.vanished {
            return Err(Error::Expunged);
        }
        if self.left == 0 {
            return Ok(moving.all_told());
        }
        let error = match fault {
            Fault::Refused(error) => error,
            Fault::Lost(_) => Error::Unavailable(
                "The connection to the provider was lost while moving; the messages are where they were".into(),
            ),
        };
        let error = told_in_part(error, all - self.left, all, "moved");
        Err(match (self.doubled, error) {
            (0, error) => error,
            (some, Error::Refused { code, text }) => {
                Error::Refused { code, text: format!("{text}; {some} messages are in both mailboxes now") }
            }
            (some, error) => Error::Unavailable(format!("{error}; {some} messages are in both mailboxes now")),
        })
    }
}

/// A refusal of what was done in part: upstream's own code and words, and how much was done.
pub(super) fn told_in_part(error: Error, done: u64, all: u64, verb: &str) -> Error {
    if done == 0 {
        return error;
    }
    let words = format!("{done} of {all} messages were {verb}");
    match error {
        Error::Refused { code, text } => Error::Refused { code, text: format!("{text} ({words})") },
        Error::Limit(text) => Error::Limit(format!("{text} ({words})")),
        Error::Unavailable(_) => Error::Unavailable(format!(
            "The connection to the provider was lost: {words}, the others are where they were"
        )),
        error => error,
    }
}

/// Those of `uids` that exist.
pub(super) fn there(snapshot: &Snapshot, uids: &UidSet) -> UidSet {
    snapshot.messages.select(uids).map(|(_, message)| message.uid.0).collect()
}

impl Move {
    pub(super) fn new(
        source: Messages,
        marked: UidSet,
        to: &str,
        validity: Option<UidValidity>,
        next: Option<Uid>,
    ) -> Self {
        Self {
            source,
            marked,
            to: to.into(),
            to_validity: validity.map_or(0, |validity| validity.0),
            to_next: next.map(|next| next.0),
            told: Vec::new(),
            copied: false,
        }
    }

    fn tell(&mut self, told: CopyUid) {
        if self.to_validity == 0 {
            self.to_validity = told.uid_validity.0;
        }
        if told.uid_validity != self.to_validity() {
            return;
        }
        // What is not new there is no copy of ours (Gmail names a message that had the label already).
        let is_ours =
            |(from, to): &(Uid, Uid)| self.source.uids.contains(from.0) && self.to_next.is_none_or(|next| to.0 >= next);
        self.told = told.pairs.iter().filter(|pair| is_ours(pair)).map(|(from, to)| (from.0, to.0)).collect();
    }

    /// COPYUID, if upstream told it of every message.
    fn all_told(&self) -> Option<CopyUid> {
        let pairs: Vec<(Uid, Uid)> = self.told.iter().map(|(from, to)| (Uid(*from), Uid(*to))).collect();
        (pairs.len() as u64 == self.source.uids.len()).then(|| CopyUid { uid_validity: self.to_validity(), pairs })
    }
}
