//! Settling what earlier writes have left (`unfinished`), by looking at what upstream holds now.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::{Duration, sleep};
use tracing::{error, info, warn};

use super::copy::Copied;
use super::unfinished::{Left, Messages, Move, Write};
use crate::engine::account::Inner;
use crate::engine::audit::on_behalf;
use crate::engine::error::Error;
use crate::model::{FlagOp, Flags, SystemFlags, Uid};
use crate::upstream::Class;

/// The pause after an attempt that failed, doubled up to the second; the pool's own back-off decides when a connection is tried.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MOST: Duration = Duration::from_secs(300);

impl Inner {
    /// Settles what is left as soon as upstream can be reached.
    pub(crate) async fn keep_settled(self: Arc<Self>) {
        let mut pause = RETRY;
        loop {
            match self.settle(None).await {
                Ok(()) => {
                    pause = RETRY;
                    self.unfinished.given_up.notified().await;
                }
                Err(error) => {
                    info!(account = %self.label(), %error, "an unfinished write cannot be settled yet");
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MOST);
                }
            }
        }
    }

    /// Before anything is written to these mailboxes, and before their names change: what earlier writes have left there is settled.
    ///
    /// Never called with a mailbox's turn held.
    pub(crate) async fn settle_left(self: &Arc<Self>, mailboxes: &[&str]) -> Result<(), Error> {
        self.settle(Some(mailboxes)).await
    }

    async fn settle(self: &Arc<Self>, mailboxes: Option<&[&str]>) -> Result<(), Error> {
        let next = || match mailboxes {
            Some(mailboxes) => self.unfinished.concerning(mailboxes),
            None => self.unfinished.first(|_| true),
        };
        if self.unfinished.is_read() && next().is_none() {
            return Ok(());
        }
        let _settling = self.unfinished.settling.lock().await;
        if !self.unfinished.is_read() {
            self.read_unfinished().await?;
        }
        while let Some(left) = next() {
            // Whoever is held up by it has not asked for it.
            on_behalf(None, Box::pin(self.settle_one(left))).await?;
        }
        Ok(())
    }

    async fn settle_one(self: &Arc<Self>, left: Left) -> Result<(), Error> {
        let settled = match &left.write {
            Some(Write::Spare(spared)) => self.mark_spared(spared).await,
            Some(Write::Move(moving)) => self.end_move(moving).await,
            Some(Write::Append(stored)) => self.take_back_stored(stored).await,
            None => Ok(()),
        };
        match settled {
            Ok(()) => {}
            // Not tried, as it were: it is tried when the connection, our budget or our disk allows.
            Err(error @ (Error::Unavailable(_) | Error::Limit(_) | Error::Internal(_))) => return Err(error),
            Err(error) => {
                let is_gone = matches!(error, Error::Gone | Error::NoSuchMailbox(_));
                if !is_gone && !self.unfinished.refused(left.id) {
                    return Err(error);
                }
                if !error.is_passing() {
                    warn!(account = %self.label(), write = ?left.write, %error, "an unfinished write cannot be settled and is forgotten");
                } else if left.is_old(SystemTime::now()) {
                    // It would keep everybody from writing to these mailboxes for ever. Nothing is done but to forget it: what it has
                    // left is as upstream shows it.
                    error!(account = %self.label(), write = ?left.write, %error,
                        "the provider has refused for a day to have an unfinished write settled: it is forgotten, and what it left stays as it is");
                } else {
                    return Err(error);
                }
            }
        }
        self.durable(move |state, _| state.journal_done(left.id)).await?;
        self.unfinished.forget(left.id);
        Ok(())
    }

    async fn end_move(self: &Arc<Self>, moving: &Move) -> Result<(), Error> {
        let state = self.state(&moving.source.mailbox.as_str().into()).await?;
        let mut turn = state.turn.lock().await;
        let carry = self.take_along(&state, moving.source.uid_validity(), &moving.source.uids).await;
        let mut record = self.begin_audit("move", &state, &moving.source.uids).await;
        if let Some(record) = &mut record {
            record.to = Some(moving.to.clone());
        }
        let ended = self.settle_move_by_copy(&state, &mut turn, moving, false).await;
        // What is tried again later is told then.
        if !matches!(ended, Err(Error::Unavailable(_) | Error::Limit(_) | Error::Internal(_))) {
            self.end_audit(record, &ended, super::moves::there(&state.snapshot(), &moving.source.uids));
        }
        let mut keywords = self.end_carry(&state, carry).await;
        let ended = ended?;
        drop(turn);
        let left = state.snapshot();
        keywords.retain(|uid, _| left.messages.get(*uid).is_none());
        if !keywords.is_empty() {
            let target = self.state(&moving.to.as_str().into()).await?;
            let pairs = moving.told.iter().map(|(from, to)| (Uid(*from), Uid(*to))).collect();
            self.keep_copies(&target, &Copied { uid_validity: moving.to_validity(), pairs }, &keywords).await;
        }
        info!(account = %self.label(), mailbox = %state.name, to = moving.to, ?ended, "an unfinished MOVE is settled");
        if let Some(target) = self.known_state(&moving.to) {
            self.show_arrivals(&target).await;
        }
        Ok(())
    }

    /// Takes back what a MULTIAPPEND had stored when it was cut short.
    async fn take_back_stored(self: &Arc<Self>, stored: &Messages) -> Result<(), Error> {
        let state = self.state(&stored.mailbox.as_str().into()).await?;
        self.take_back(&state, stored).await
    }

    /// Gives others' messages the `\Deleted` back that was taken from them for a plain EXPUNGE.
    async fn mark_spared(self: &Arc<Self>, spared: &Messages) -> Result<(), Error> {
        let state = self.state(&spared.mailbox.as_str().into()).await?;
        let mut turn = state.turn.lock().await;
        let mut lease = self.pool.lease(Class::Interactive, Some(&state.name)).await?;
        let selected = lease.reselect(&state.name, None).await?;
        if selected.uid_validity != spared.uid_validity() {
            return Err(Error::Gone);
        }
        self.check_written(&mut lease, spared, &spared.uids).await?;
        lease.store(&spared.uids, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await?;
        if state.is_known() {
            self.sync_on(&mut lease, &state, &mut turn).await?;
        }
        Ok(())
    }
}
