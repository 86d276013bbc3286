//! EXPUNGE and UID EXPUNGE (RFC 9051 §6.4.3, §6.4.9), on upstreams with and without UIDPLUS.
//!
//! Without UIDPLUS there is only the plain EXPUNGE, which takes everything that is `\Deleted`, whoever marked it. So upstream is asked what is
//! marked, others' messages are unmarked, it is asked again, and only when nothing but ours is marked comes the EXPUNGE; then the others get
//! their mark back (Law 10). What was unmarked stands in the journal before it is, so that no crash costs anybody a mark.
//!
//! One gap is the protocol's own and cannot be closed: what another client marks after upstream has said what is marked and before our
//! EXPUNGE arrives there, one round trip, goes with ours. It was marked to go, and its owner's own EXPUNGE would have taken ours just so.

use std::sync::Arc;

use tracing::warn;

use super::identity;
use super::settle::Fault;
use super::unfinished::{Entry, Messages, Write};
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::{State, Turn};
use crate::engine::snapshot::Snapshot;
use crate::engine::sync::window;
use crate::model::{FlagOp, Flags, SystemFlags, UidSet};
use crate::provider::Quirk;
use crate::upstream::{Class, Lease};

/// How often others may mark more while we unmark, before we give way.
const SPARE_ROUNDS: usize = 5;

impl Inner {
    pub(crate) async fn expunge(self: &Arc<Self>, state: &Arc<State>, only: Option<&UidSet>) -> Result<(), Error> {
        let (account, state, only) = (Arc::clone(self), Arc::clone(state), only.cloned());
        self.run_to_end(async move {
            account.settle_left(&[&state.name]).await?;
            let mut turn = state.turn.lock().await;
            let mut lease = account.ready(&state, Class::Interactive).await?;
            account.sync_on(&mut lease, &state, &mut turn).await?;
            let all = deleted(&state.snapshot(), only.as_ref());
            let hidden = state.hidden(&all);
            let target = all.minus(&hidden);
            if target.is_empty() {
                return if hidden.is_empty() { Ok(()) } else { Err(window::hidden()) };
            }
            account.check_identity(&mut lease, &state, &target).await?;
            let record = account.begin_audit("expunge", &state, &target).await;
            let done = account.expunge_these(lease, &state, &mut turn, &target).await;
            account.end_audit(record, &done, UidSet::new());
            lease = done?;
            if !account.show_gone(&mut lease, &state, &mut turn, &target).await {
                account.look_again(lease, &state, &mut turn).await;
            }
            account.seen_upstream();
            if hidden.is_empty() { Ok(()) } else { Err(window::hidden()) }
        })
        .await
    }

    /// Expunges just these, which are marked `\Deleted`. A connection lost on the way is settled: the lease given back is another then.
    pub(super) async fn expunge_these(
        self: &Arc<Self>,
        mut lease: Lease,
        state: &Arc<State>,
        turn: &mut Turn,
        target: &UidSet,
    ) -> Result<Lease, Error> {
        let mut spared = Spared::default();
        let mut left = target.clone();
        let mut lost_before = false;
        loop {
            let fault = match self.try_expunge(&mut lease, state, &left, &mut spared).await {
                Ok(()) => break,
                Err(Fault::Lost(reason)) if !lost_before => reason,
                Err(fault) => {
                    self.mark_again(&mut lease, spared).await;
                    return Err(fault.into());
                }
            };
            warn!(account = %self.label(), mailbox = %state.name, reason = fault, "connection lost during EXPUNGE: looking");
            lost_before = true;
            drop(lease);
            lease = self.ready(state, Class::Interactive).await?;
            self.sync_on(&mut lease, state, turn).await?;
            // Still there, still \Deleted, and still what the client asked to be rid of. The spared ones get their mark back only when
            // these are gone: until then the EXPUNGE that was lost may still be carried out.
            left = deleted(&state.snapshot(), Some(target));
            if left.is_empty() {
                break;
            }
            // If they are others now, so may be the spared ones: those stay in the journal, with their ids.
            self.check_identity(&mut lease, state, &left).await?;
        }
        self.mark_again(&mut lease, spared).await;
        Ok(lease)
    }

    async fn try_expunge(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        target: &UidSet,
        spared: &mut Spared,
    ) -> Result<(), Fault> {
        if lease.caps().has("UIDPLUS") || lease.caps().has("IMAP4REV2") {
            return Ok(lease.uid_expunge(target).await?);
        }
        if self.options.has(Quirk::SearchUnreliable) || lease.message_limit().is_some() {
            // Others' messages that are not found would go with ours.
            let text =
                "The provider can neither expunge single messages nor be asked which are marked as deleted".into();
            return Err(Fault::Refused(Error::Cannot(text)));
        }
        for _ in 0..SPARE_ROUNDS {
            // Upstream itself is asked: our last look does not cover what was marked since.
            let others = lease.search(b"DELETED").await?.minus(target);
            if others.is_empty() {
                return Ok(lease.expunge().await?);
            }
            spared.add(self, state, &others).await?;
            lease.store(&others, FlagOp::Remove, &Flags::new(SystemFlags::DELETED, []), None).await?;
        }
        let text = "Other programs keep marking messages of this mailbox as deleted; try again".into();
        Err(Fault::Refused(Error::Refused { code: Some("INUSE".into()), text }))
    }

    /// Gives the spared messages their mark back. What cannot be done now is left to be done later.
    async fn mark_again(self: &Arc<Self>, lease: &mut Lease, spared: Spared) {
        let Some(entry) = spared.entry else { return };
        match lease.store(&spared.uids, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await {
            Ok(_) => {
                entry.done().await;
            }
            Err(error) => {
                warn!(account = %self.label(), %error, "messages others had marked as deleted get their mark back later");
            }
        }
    }
}

/// What others have marked and a plain EXPUNGE is not to take.
#[derive(Default)]
struct Spared {
    uids: UidSet,
    entry: Option<Entry>,
}

impl Spared {
    /// Writes it down, before anything is unmarked.
    async fn add(&mut self, account: &Arc<Inner>, state: &State, others: &UidSet) -> Result<(), Error> {
        self.uids = self.uids.union(others);
        let snapshot = state.snapshot();
        let ids = identity::ids(&snapshot, &self.uids);
        let write = Write::Spare(Messages::new(&state.name, snapshot.uid_validity, self.uids.clone()).with_ids(ids));
        match &mut self.entry {
            Some(entry) => entry.change(write).await,
            None => {
                self.entry = Some(account.write_down(write).await?);
                Ok(())
            }
        }
    }
}

/// UIDs marked `\Deleted`, of all or of some.
pub(super) fn deleted(snapshot: &Snapshot, only: Option<&UidSet>) -> UidSet {
    let marked = snapshot.messages.iter().filter(|message| message.flags.has(SystemFlags::DELETED));
    marked.map(|message| message.uid.0).filter(|uid| only.is_none_or(|only| only.contains(*uid))).collect()
}
