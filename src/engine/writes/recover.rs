//! Settling what earlier writes have left (`unfinished`), by looking at what upstream holds now.

use std::sync::Arc;

use tokio::time::{Duration, sleep};
use tracing::{info, warn};

use super::unfinished::{Left, Messages, Move, Write};
use crate::engine::account::Inner;
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

    /// Before anything is written to these mailboxes: what earlier writes have left there is settled.
    ///
    /// Never called with a mailbox's turn held.
    pub(super) async fn settle_left(self: &Arc<Self>, mailboxes: &[&str]) -> Result<(), Error> {
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
            self.settle_one(left).await?;
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
            Err(error) if error.is_outage() || error.is_passing() || matches!(error, Error::Internal(_)) => {
                return Err(error);
            }
            Err(error) => {
                let gone = matches!(error, Error::Gone | Error::NoSuchMailbox(_));
                if !gone && !self.unfinished.refused(left.id) {
                    return Err(error);
                }
                warn!(account = %self.label(), write = ?left.write, %error, "an unfinished write cannot be settled and is forgotten");
            }
        }
        self.durable(move |state, _| state.journal_done(left.id)).await?;
        self.unfinished.forget(left.id);
        Ok(())
    }

    async fn end_move(self: &Arc<Self>, moving: &Move) -> Result<(), Error> {
        let state = self.state(&moving.source.mailbox.as_str().into()).await?;
        let mut turn = state.turn.lock().await;
        let ended = self.settle_move_by_copy(&state, &mut turn, moving, false).await?;
        drop(turn);
        info!(account = %self.label(), mailbox = %state.name, to = moving.to, ?ended, "an unfinished MOVE is settled");
        if let Some(target) = self.known_state(&moving.to) {
            self.show_arrivals(&target).await;
        }
        Ok(())
    }

    /// Takes back what a MULTIAPPEND had stored when it was cut short.
    async fn take_back_stored(self: &Arc<Self>, stored: &Messages) -> Result<(), Error> {
        let state = self.state(&stored.mailbox.as_str().into()).await?;
        let validity = stored.uid_validity();
        let messages: Vec<_> = stored.uids.iter().map(|uid| (validity, Uid(uid))).collect();
        self.take_back(&state, &messages).await
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
        lease.store(&spared.uids, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await?;
        if state.is_known() {
            self.sync_on(&mut lease, &state, &mut turn).await?;
        }
        Ok(())
    }
}
