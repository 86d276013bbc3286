//! What is not known to be sent is looked for, sent again, or given up.

use tracing::{info, warn};

use super::super::entry::{Folder, Recipient, Send, What};
use super::super::outside::Outside;
use super::super::passage::LOOK_AFTER;
use super::super::{backoff, bounce};
use super::{LOOKS, Row, Sender};
use crate::config::SentCopy;

/// A message that was in doubt so often is not sent any more: each time it may have arrived.
const DOUBTS: u32 = 3;

impl<O: Outside> Sender<O> {
    /// Looks whether a message in doubt was sent. False: there is nothing to be sent now.
    pub(super) async fn settle(&self, row: &mut Row, send: &mut Send) -> Result<bool, String> {
        let id = row.id;
        let looked = match &send.message_id {
            // Nobody but the provider files what was sent with that trace header in it.
            Some(message_id) if self.outbox.sent_copy == SentCopy::Provider => {
                let trace = send.trace.as_deref().unwrap_or("(none)");
                Some(self.outside.is_stored(Folder::Sent, message_id, send.dot(), Some(trace)).await)
            }
            _ => None,
        };
        match looked {
            Some(Ok(true)) => {
                info!(account = %self.outbox.address, id, "a message in doubt is in the sent folder: it was sent");
                self.outbox.metrics.doubt(true);
                send.recipients.retain(|recipient| !recipient.doubt);
                if send.recipients.is_empty() {
                    self.go_on(row, None, Vec::new()).await?;
                    return Ok(false);
                }
            }
            Some(Ok(false)) if send.looks + 1 < LOOKS => {
                send.looks += 1;
                return self.look_later(row, send).await;
            }
            Some(Err(words)) if self.outbox.now() < self.expiry(row.item.created) => {
                info!(account = %self.outbox.address, id, "the sent folder cannot be looked at for a message in doubt: {words}");
                return self.look_later(row, send).await;
            }
            _ => {
                self.outbox.metrics.doubt(false);
                return self.doubt_again(row, send).await.map(|()| false);
            }
        }
        (send.dot, send.looks, send.trace) = (0, 0, None);
        row.item.due = self.outbox.now();
        // On the disk before anything else: what was decided is not decided twice.
        self.go_on(row, Some((What::Send(send.clone()), row.item.due)), Vec::new()).await
    }

    /// Nothing settles a doubt: the message is sent again, though not at once and not for ever.
    async fn doubt_again(&self, row: &Row, send: &mut Send) -> Result<(), String> {
        let (now, id) = (self.outbox.now(), row.id);
        send.doubts = send.doubts.saturating_add(1);
        let mut told_of = Vec::new();
        if send.doubts >= DOUBTS || now >= self.expiry(row.item.created) {
            warn!(account = %self.outbox.address, id, doubts = send.doubts,
                "a message is given up: whether it was sent is not known, and it is not sent again");
            let (doubtful, left) = std::mem::take(&mut send.recipients).into_iter().partition(|one| one.doubt);
            send.recipients = left;
            let doubtful: Vec<Recipient> = doubtful;
            for recipient in doubtful {
                let is_told = bounce::is_told(send, &recipient, "FAILURE");
                self.outbox.metrics.failed(is_told);
                if is_told {
                    told_of.push(bounce::waiting(&recipient, send.last.as_deref(), true));
                }
            }
        } else {
            warn!(account = %self.outbox.address, id,
                "whether a message was sent is not known: it is sent again, and may arrive twice");
            send.recipients.iter_mut().for_each(|recipient| recipient.doubt = false);
        }
        (send.dot, send.looks, send.trace) = (0, 0, None);
        let more = self.notice(row, send, told_of, None).await?;
        let files = more.clone();
        let due = now + backoff::put_off(send.tries);
        let next = (!send.recipients.is_empty()).then(|| (What::Send(send.clone()), due));
        if !self.go_on(row, next, more).await? {
            self.forget(&files);
        }
        Ok(())
    }

    async fn look_later(&self, row: &Row, send: &Send) -> Result<bool, String> {
        self.go_on(row, Some((What::Send(send.clone()), self.outbox.now() + LOOK_AFTER)), Vec::new()).await?;
        Ok(false)
    }
}
