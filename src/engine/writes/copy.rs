//! COPY (RFC 9051 §6.4.7), and what it has in common with MOVE.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::sleep;
use tracing::warn;

use super::copies::copies_of;
use super::identity;
use super::moves::{there, told_in_part};
use super::settle::{Fault, LOOK_PAUSE, LOOKS, Window, matched};
use super::unfinished::{Messages, Move};
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::engine::snapshot::Snapshot;
use crate::engine::sync::window;
use crate::model::{Flags, Folders, Role, Uid, UidSet, UidValidity};
use crate::provider::Quirk;
use crate::store::BodyKey;
use crate::upstream::{Class, CopyUid};

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
            account.settle_left(&[&state.name, &to]).await?;
            let snapshot = state.snapshot();
            let there = there(&snapshot, &uids);
            if there.is_empty() {
                return Ok(None);
            }
            if !state.hidden(&there).is_empty() {
                return Err(window::hidden());
            }
            let target = account.state(&to).await?;
            let window = Window::before(&target);
            let carry = account.begin_carry(&state, &target, &there).await?;
            let action = match mode {
                CopyMode::Move => Some("move"),
                // Every other label goes.
                CopyMode::Copy if account.options.has(Quirk::Labels) && account.holds_the_only_copy(&to) => {
                    Some("copy")
                }
                CopyMode::Copy => None,
            };
            let mut record = match action {
                Some(action) => account.begin_audit(action, &state, &there).await,
                None => None,
            };
            if let Some(record) = &mut record {
                record.to = Some(to.to_string());
            }
            let copied = match mode {
                CopyMode::Copy => account.copy_only(&state, &there, &target).await,
                CopyMode::Move => Box::pin(account.move_only(&state, &there, &target, &window)).await,
            };
            // Of a MOVE that failed half way, what has gone has gone.
            let left = if copied.is_err() { super::moves::there(&state.snapshot(), &there) } else { UidSet::new() };
            account.end_audit(record, &copied, left);
            let mut keywords = account.end_carry(&state, carry).await;
            let copied = match copied {
                Ok(copied) => copied.map(sorted),
                Err(error) => {
                    // What a MOVE moved before it failed has its keywords all the same.
                    let left = state.snapshot();
                    keywords.retain(|uid, _| mode == CopyMode::Move && left.messages.get(*uid).is_none());
                    if !keywords.is_empty() {
                        account.show_copies(&snapshot, &target, None, &window, &keywords).await;
                    }
                    return Err(error);
                }
            };
            account.seen_upstream();
            account.show_copies(&snapshot, &target, copied.as_ref(), &window, &keywords).await;
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
    ) -> Result<Option<CopyUid>, Error> {
        let mut lease = self.ready(state, Class::Interactive).await?;
        let window = match Window::fresh(target) {
            Some(window) if !lease.copies_in_pieces(uids, &target.name) => window,
            _ => Window::ask(&mut lease, target).await?,
        };
        let before = state.snapshot();
        if self.holds_the_only_copy(&target.name) {
            self.check_identity(&mut lease, state, uids).await?;
        }
        let copied = lease.copy(uids, &target.name).await;
        match copied.failed.map(Fault::from) {
            None => Ok(copied.told),
            Some(Fault::Lost(reason)) => {
                warn!(account = %self.label(), mailbox = %state.name, reason, "connection lost during COPY: looking");
                drop(lease);
                self.settle_copy(state, uids, target, &window).await
            }
            Some(Fault::Refused(error)) if copied.done.is_empty() => Err(error),
            Some(Fault::Refused(error)) => {
                // All or nothing (RFC 9051 §6.4.7): what other commands of the same COPY have made is taken back.
                let told = copied.told.unwrap_or_default();
                let is_ours = |(_, to): &&(Uid, Uid)| window.is_new(told.uid_validity, *to);
                let pairs: Vec<(Uid, Uid)> = told.pairs.iter().filter(is_ours).copied().collect();
                let ours = copies_of(&pairs, &identity::ids(&before, uids), &target.name, told.uid_validity);
                let mut stay = copied.done.len();
                if !pairs.is_empty() && stay == ours.uids.len() && !self.holds_the_only_copy(&target.name) {
                    match self.expunge_copies(&mut lease, &ours).await.map_err(Error::from) {
                        Ok(()) => stay = 0,
                        Err(failure) => {
                            warn!(account = %self.label(), mailbox = %target.name, %failure, "copies of a COPY that failed stay");
                        }
                    }
                }
                Err(told_in_part(error, stay, uids.len(), "copied"))
            }
        }
    }

    /// Where folders are labels (Gmail), COPY to the trash or to spam takes a message out of every other folder: what is expunged there is
    /// gone for good, so nothing is taken back from there, nor where the list was never read.
    pub(super) fn holds_the_only_copy(&self, mailbox: &str) -> bool {
        let destroys = |folders: Arc<Folders>| {
            folders.find(mailbox).is_none_or(|folder| matches!(folder.role, Some(Role::Trash | Role::Junk)))
        };
        self.options.has(Quirk::Labels) && self.folders.newest().is_none_or(destroys)
    }

    /// After a connection was lost in a COPY: whether the copies are there, among what is new, equal in size and header. Looks alone are
    /// not enough: to say OK of a copy that is not there is how mail is lost.
    async fn settle_copy(
        self: &Arc<Self>,
        state: &Arc<State>,
        uids: &UidSet,
        target: &Arc<State>,
        window: &Window,
    ) -> Result<Option<CopyUid>, Error> {
        let lost = "The connection to the provider was lost while copying";
        if !window.is_known() {
            return Err(Error::Unavailable(format!("{lost}; whether the messages were copied cannot be seen")));
        }
        let (to_validity, to_next) = window.begin();
        let snapshot = state.snapshot();
        let ids = identity::ids(&snapshot, uids);
        let source = Messages::new(&state.name, snapshot.uid_validity, uids.clone()).with_ids(ids);
        let sought = Move::new(source, UidSet::new(), &target.name, Some(to_validity), to_next);
        let mut looks = LOOKS;
        loop {
            let mut lease = self.ready(state, Class::Interactive).await?;
            let found = self.find_copies(&mut lease, state, uids, &sought).await.map_err(Error::from)?;
            drop(lease);
            if found.len() as u64 == uids.len() {
                let pairs = found.into_iter().map(|(from, to)| (Uid(from), Uid(to))).collect();
                return Ok(Some(CopyUid { uid_validity: to_validity, pairs }));
            }
            if looks == 0 {
                return Err(Error::Unavailable(match found.len() {
                    0 => format!("{lost}: nothing was copied"),
                    some => format!("{lost}: {some} of {} messages were copied", uids.len()),
                }));
            }
            looks -= 1;
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Shows the copies, with the keywords they had where they come from and upstream does not keep. Those go to their place before the
    /// copies are shown, unless the place is yet to be found.
    async fn show_copies(
        self: &Arc<Self>,
        before: &Snapshot,
        target: &Arc<State>,
        copied: Option<&Copied>,
        window: &Window,
        keywords: &BTreeMap<Uid, Flags>,
    ) {
        match copied {
            Some(_) if keywords.is_empty() => self.show_if_open(target).await,
            Some(copied) => {
                let kept = self.keep_copies(target, copied, keywords).await;
                self.show_arrivals(target).await;
                self.show_kept(target, &kept).await;
            }
            None => {
                self.show_arrivals(target).await;
                if keywords.is_empty() {
                    return;
                }
                let (arrived, wanted) = (target.snapshot(), keywords.keys().map(|uid| uid.0).collect());
                let sources = before.messages.select(&wanted).map(|(_, message)| message);
                let (_, pairs) = matched(sources, &window.arrivals(&arrived));
                let Some(pairs) = pairs else {
                    warn!(account = %self.label(), mailbox = %target.name, "which copy is which is not told: their keywords are lost");
                    return;
                };
                let copied = Copied { uid_validity: arrived.uid_validity, pairs };
                let kept = self.keep_copies(target, &copied, keywords).await;
                self.show_kept(target, &kept).await;
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
        if target.snapshot().uid_validity != copied.uid_validity {
            return;
        }
        let (mailbox, uid_validity) = (target.id(), copied.uid_validity);
        // Named outright: after a MOVE the source's snapshot does not hold them any more, and the target's need not hold them yet.
        let keys = copied.pairs.iter().filter_map(|(from, to)| match source.body_key(before, *from) {
            // One body, whichever mailbox shows it.
            BodyKey::Provider(_) => None,
            key => Some((key, BodyKey::Message { mailbox, uid_validity, uid: *to })),
        });
        let keys: Vec<(BodyKey, BodyKey)> = keys.collect();
        // What cannot be carried is fetched when asked for.
        let _ = self.disk(move |store| store.alias(&keys)).await;
    }
}

fn sorted(copied: CopyUid) -> Copied {
    let mut pairs = copied.pairs;
    pairs.sort_unstable();
    Copied { uid_validity: copied.uid_validity, pairs }
}
