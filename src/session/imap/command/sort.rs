//! SORT and UID SORT. RFC 5256. What THREAD needs of the headers is fetched here too.
//!
//! Offered over every upstream: found by our own SEARCH, ordered by what the mirror and the headers say. Arrival and size cost
//! nothing; anything else asks for the headers of what was found, which the store keeps.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tracing::error;

use super::fetch::BATCHES_AHEAD;
use super::search::{bad_charset, decode};
use crate::engine::{Error, Want};
use crate::message::{Order, order_of_header};
use crate::model::{MessageMeta, Uid, UidSet};
use crate::session::backend::{Mailbox as _, SUMMARY_BATCH};
use crate::session::imap::reply::Reply;
use crate::session::imap::state::{Failure, Session};
use crate::session::imap::{Login, render};
use crate::wire::imap::command::{SearchKey, Sort, SortKey};

/// Messages ordered by their headers at once: some 60 MB of subjects and ids for the length of the command.
const MOST: u32 = 200_000;

/// Messages put in order while all others of this thread wait: a millisecond or two.
const AT_ONCE: usize = 1000;

/// Message-IDs in their References fields, all together: some 100 octets each, so 100 MB for the length of the command.
const MOST_REFERENCES: usize = 1_000_000;

/// A message found, with what decides its place.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// As the client numbers it.
    pub(super) seq: u32,
    pub(super) meta: MessageMeta,
    pub(super) order: Order,
}

impl Found {
    /// When it was sent, or else when it arrived (RFC 5256 §2.2).
    pub(super) fn sent(&self) -> i64 {
        self.order.sent.unwrap_or(self.meta.internal_date.seconds)
    }

    /// The number the client asked for.
    pub(super) fn number(&self, uid: bool) -> u32 {
        if uid { self.meta.uid.0 } else { self.seq }
    }
}

impl<L: Login> Session<L> {
    pub(crate) async fn sort(&mut self, sort: Sort) -> Result<Reply, Failure> {
        let Sort { uid, criteria, charset, key } = sort;
        let by_header = criteria.iter().any(|(key, _)| !matches!(key, SortKey::Arrival | SortKey::Size));
        let found = self.found(&charset, key, by_header).await?;
        let line = self.put_in_order(found, move |mut found| {
            found.sort_by(|a, b| compare(&criteria, a, b));
            let mut line = String::from("* SORT");
            let mut buffer = itoa::Buffer::new();
            for message in &found {
                line.push(' ');
                line.push_str(buffer.format(message.number(uid)));
            }
            line.push_str("\r\n");
            line
        });
        let line = line.await?;
        render::text(&mut self.io.out, &line);
        Ok(Reply::ok("Sort completed"))
    }

    /// Makes the answer of what was found: at once if that is little, else on a thread that may take its time (Law 4).
    pub(super) async fn put_in_order(
        &mut self,
        found: Vec<Found>,
        order: impl FnOnce(Vec<Found>) -> String + Send + 'static,
    ) -> Result<String, Failure> {
        if found.len() <= AT_ONCE {
            return Ok(order(found));
        }
        let places = Arc::clone(&self.server.orderings);
        let ordered = async move {
            let place = places.acquire_owned().await;
            let work = move || {
                let line = order(found);
                // Kept as long as the thread is, also if the client has gone.
                drop(place);
                line
            };
            tokio::task::spawn_blocking(work).await
        };
        self.io.wait(ordered).await?.map_err(|failure| {
            error!(%failure, "messages could not be put in order");
            Error::Internal("An internal error; see the log".into()).into()
        })
    }

    /// What matches, in the order of the mailbox, with what the headers say if that is wanted.
    pub(super) async fn found(
        &mut self,
        charset: &str,
        mut key: SearchKey,
        by_header: bool,
    ) -> Result<Vec<Found>, Failure> {
        self.selected()?;
        decode(&mut key, Some(charset)).ok_or_else(bad_charset)?;
        let uids = self.find(&mut key).await?;
        if by_header && uids.len() > u64::from(MOST) {
            return Err(Reply::no("Too many messages to be put in order").with("LIMIT").into());
        }
        let mut orders = if by_header { self.orders(&uids).await? } else { HashMap::new() };
        let (_, selected) = self.selected()?;
        let messages = selected.view.messages().select(&uids);
        Ok(messages
            .map(|(index, meta)| Found {
                seq: index + 1,
                meta: meta.clone(),
                order: orders.remove(&meta.uid).unwrap_or_default(),
            })
            .collect())
    }

    async fn orders(&mut self, uids: &UidSet) -> Result<HashMap<Uid, Order>, Failure> {
        let (io, selected) = self.selected()?;
        let mailbox = selected.mailbox.clone();
        let all: Vec<Uid> = selected.view.messages().select(uids).map(|(_, message)| message.uid).collect();
        let want = Want { header: true, ..Want::default() };
        let batches: Vec<Vec<Uid>> = all.chunks(SUMMARY_BATCH).map(<[_]>::to_vec).collect();
        let ask = |batch: Vec<Uid>| {
            let mailbox = mailbox.clone();
            async move {
                let summaries = mailbox.summaries(&batch, want).await;
                (batch, summaries)
            }
        };
        let mut batches = stream::iter(batches).map(ask).buffered(BATCHES_AHEAD);
        let mut orders = HashMap::new();
        let mut references = 0;
        while let Some((batch, summaries)) = io.wait(batches.next()).await? {
            for (uid, summary) in batch.into_iter().zip(summaries) {
                match summary {
                    Ok(summary) => {
                        let order = order_of_header(&summary.header);
                        references += order.references.len();
                        if references > MOST_REFERENCES {
                            return Err(Reply::no("Too many messages to be put in order").with("LIMIT").into());
                        }
                        orders.insert(uid, order)
                    }
                    // Gone meanwhile: the client still numbers it, so it keeps a place.
                    Err(Error::Expunged) => None,
                    Err(error) => return Err(error.into()),
                };
            }
        }
        Ok(orders)
    }
}

/// The first criterion that tells two messages apart, and at last their place in the mailbox, which REVERSE leaves alone (RFC 5256 §3).
fn compare(criteria: &[(SortKey, bool)], a: &Found, b: &Found) -> Ordering {
    for (key, reverse) in criteria {
        let by_key = match key {
            SortKey::Arrival => a.meta.internal_date.seconds.cmp(&b.meta.internal_date.seconds),
            SortKey::Cc => a.order.cc.cmp(&b.order.cc),
            SortKey::Date => a.sent().cmp(&b.sent()),
            SortKey::From => a.order.from.cmp(&b.order.from),
            SortKey::Size => a.meta.size.cmp(&b.meta.size),
            SortKey::Subject => a.order.subject.cmp(&b.order.subject),
            SortKey::To => a.order.to.cmp(&b.order.to),
        };
        let by_key = if *reverse { by_key.reverse() } else { by_key };
        if by_key.is_ne() {
            return by_key;
        }
    }
    a.seq.cmp(&b.seq)
}
