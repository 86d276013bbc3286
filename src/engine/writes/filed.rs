//! Whether a message is in a mailbox, asked of upstream and not of what the mirror remembers: the evidence by which a message in doubt is
//! not sent, or stored, a second time.

use std::sync::Arc;

use tokio::time::Instant;

use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::summaries::Want;
use crate::message;
use crate::model::Uid;
use crate::upstream::Class;

/// The newest messages that are looked at: what came within minutes is among them.
const NEWEST: usize = 100;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Filed<'a> {
    pub message_id: &'a str,
    /// It came not before this, seconds since the epoch.
    pub since: i64,
    /// Only one with this in a trace header (Received) counts: it has been through that very transaction. What a mail program uploads has
    /// none, and a transaction for other recipients another.
    pub trace: Option<&'a str>,
}

impl Inner {
    /// An error: it cannot be told now.
    pub(crate) async fn is_filed(self: &Arc<Self>, mailbox: &str, wanted: Filed<'_>) -> Result<bool, Error> {
        let name = self.resolve(mailbox).await?;
        let state = self.state(&name).await?;
        self.freshen(&state, Instant::now(), Class::Interactive).await?;
        let snapshot = state.snapshot();
        if snapshot.dead {
            return Err(Error::Gone);
        }
        let mut uids: Vec<Uid> = snapshot
            .messages
            .iter()
            .filter(|message| message.internal_date.seconds >= wanted.since)
            .map(|message| message.uid)
            .collect();
        let older = uids.len().saturating_sub(NEWEST);
        uids.drain(..older);
        let want = Want { header: true, ..Default::default() };
        for summary in self.summaries(&state, &uids, want).await {
            let header = match summary {
                Ok(summary) => summary.header.clone(),
                Err(Error::Expunged) => continue,
                Err(error) => return Err(error),
            };
            let is_same = message::message_id(&header).as_deref() == Some(wanted.message_id);
            let is_traced =
                |trace: &str| message::header_values(&header, "Received").iter().any(|at| at.contains(trace));
            if is_same && wanted.trace.is_none_or(is_traced) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
