//! The copy of a sent message that the provider files by itself (Gmail, Outlook: `Quirk::SavesSentCopy`).
//!
//! Mail programs APPEND what they have sent to the sent folder; with such a provider that makes a second copy, or a third. So an APPEND of
//! one message with a Message-ID to the folder with the role `\Sent` is answered with the UID of the message that is there, if it has
//! the same Message-ID, came within the last hour, and is among the newest: that is the one the provider has filed. Anything older
//! is an import or another's affair, and is uploaded.
//!
//! The provider files its copy some seconds after it has taken the message. A message whose Date is of this moment was just sent, so
//! the folder is looked at for a few seconds before the upload. A copy that comes later still stands beside the uploaded one: what is
//! there is never removed unasked.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::{Duration, sleep};
use tracing::info;

use super::append::Append;
use super::copies::headers;
use super::settle::Fault;
use crate::engine::account::{Inner, now_ms};
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::message;
use crate::model::{Role, SystemFlags, Uid, UidSet, UidValidity};
use crate::provider::Quirk;
use crate::upstream::{Class, FetchMeta, Items, Lease};

/// How long ago the provider's copy may have come, seconds; its clock and ours may differ by as much as minutes.
const RECENT: i64 = 3600;
/// How far the Date of a message that was just sent may be from now, seconds.
const JUST_SENT: i64 = 600;
/// How much larger or smaller what the provider files may be than what it was sent: it adds and rewrites header fields.
const SIZE_DIFFERS: u64 = 8 << 10;
/// The newest UIDs that are looked at, and the newest of the messages among them.
const NEWEST_UIDS: u32 = 200;
const NEWEST: usize = 32;
/// Looks at the folder for a message just sent, and the pause between them: providers have been seen to take some seconds.
const SENT_LOOKS: usize = 5;
const SENT_PAUSE: Duration = Duration::from_secs(1);

/// Who puts a message into the sent folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filer {
    /// A mail program, for whose message the provider's copy, or ours, may be on its way.
    Client,
    Ourselves,
}

/// Messages accepted to be sent that are not sent yet.
pub trait Unsent: std::fmt::Debug + Send + Sync {
    /// Takes over a mail program's own copy of such a message. True: it is on the disk, and it will be in the sent folder, once, when the
    /// message is sent or has failed. False: there is no such message, and the copy is an upload as any other.
    fn take_copy<'a>(&'a self, message_id: &'a str, copy: &'a Append) -> BoxFuture<'a, bool>;
}

impl Inner {
    /// Whether a mail program's message for the mailbox is one that waits to be sent, and waits with it from now on.
    pub(super) async fn waits_to_be_sent(&self, to: &str, message: &Append) -> bool {
        let Some(unsent) = self.options.unsent.as_ref().filter(|_| self.are_filed_for_us(to)) else { return false };
        let header = message.body.get(..message::header_end(&message.body)).unwrap_or_default();
        match message::message_id(header) {
            Some(id) => unsent.take_copy(&id, message).await,
            None => false,
        }
    }

    /// Whether the provider, or we ourselves, file messages sent, and this is one of these minutes in the sent folder.
    pub(super) fn is_just_sent(&self, target: &State, message: &Append) -> bool {
        let header = message.body.get(..message::header_end(&message.body)).unwrap_or_default();
        let now = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
        self.is_filed_for_us(target) && was_just_sent(header, now)
    }

    fn is_filed_for_us(&self, target: &State) -> bool {
        self.are_filed_for_us(&target.name)
    }

    fn are_filed_for_us(&self, mailbox: &str) -> bool {
        let folders = self.folders.newest();
        let is_sent =
            folders.is_some_and(|folders| folders.find(mailbox).is_some_and(|folder| folder.role == Some(Role::Sent)));
        is_sent && self.options.has(Quirk::SavesSentCopy)
    }

    /// Where the provider has filed this message itself, if it has.
    pub(super) async fn filed_already(
        self: &Arc<Self>,
        target: &Arc<State>,
        message: &Append,
        filer: Filer,
    ) -> Option<(UidValidity, Uid)> {
        if !self.is_filed_for_us(target) {
            return None;
        }
        let header = message.body.get(..message::header_end(&message.body)).unwrap_or_default();
        let id = message::message_id(header)?;
        let now = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
        let is_waited_for = filer == Filer::Client && was_just_sent(header, now);
        let mut looks = if is_waited_for { SENT_LOOKS } else { 1 };
        loop {
            match self.find_filed(target, message, &id, now).await {
                Ok(Some(found)) => return Some(found),
                Ok(None) => {}
                // The upload itself will say what is wrong.
                Err(error) => {
                    info!(account = %self.label(), mailbox = %target.name, %error, "the sent folder cannot be looked at");
                    return None;
                }
            }
            looks -= 1;
            if looks == 0 {
                return None;
            }
            sleep(SENT_PAUSE).await;
        }
    }

    async fn find_filed(
        &self,
        target: &State,
        message: &Append,
        id: &str,
        now: i64,
    ) -> Result<Option<(UidValidity, Uid)>, Error> {
        let mut lease = self.pool.lease(Class::Interactive, Some(&target.name)).await?;
        let selected = lease.reselect(&target.name, None).await?;
        if selected.exists == 0 {
            return Ok(None);
        }
        let recent = recent(&mut lease, selected.uid_next, message.body.len() as u64, now).await?;
        let mut found = None;
        let mut compare = |uid: u32, header: &[u8]| {
            if message::message_id(header).as_deref() == Some(id) {
                found = found.max(Some(Uid(uid)));
            }
        };
        headers(&mut lease, &recent, &mut compare).await?;
        Ok(found.map(|uid| (selected.uid_validity, uid)))
    }
}

/// The newest messages that came within [`RECENT`] of now and may be ours: not one that is about to go, nor one of another size. A program
/// that takes the attachment off a sent message stores the rest under the same Message-ID and deletes the original.
async fn recent(lease: &mut Lease, next: Uid, octets: u64, now: i64) -> Result<UidSet, Fault> {
    let first = next.0.saturating_sub(NEWEST_UIDS).max(1);
    let mut found: Vec<u32> = Vec::new();
    let mut note = |meta: FetchMeta| {
        if let (Some(Uid(uid)), Some(date)) = (meta.uid, meta.internal_date)
            && date.seconds.abs_diff(now) <= RECENT.unsigned_abs()
            && meta.size.is_some_and(|size| u64::from(size).abs_diff(octets) <= SIZE_DIFFERS)
            && meta.flags.is_some_and(|flags| !flags.has(SystemFlags::DELETED))
        {
            found.push(uid);
        }
    };
    lease.fetch_meta(&format!("{first}:*"), Items::All, None, &mut note).await?;
    found.sort_unstable();
    Ok(found.into_iter().rev().take(NEWEST).collect())
}

/// Whether the Date says that the message was made in these minutes. Without a Date that can be read it is taken for old: nobody waits.
fn was_just_sent(header: &[u8], now: i64) -> bool {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc2822;
    let dates = message::header_values(header, "Date");
    let date = dates.last().and_then(|date| OffsetDateTime::parse(date.trim(), &Rfc2822).ok());
    date.is_some_and(|date| date.unix_timestamp().abs_diff(now) <= JUST_SENT.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_these_minutes_is_just_sent() {
        // 2026-07-17 02:44:25 UTC
        let now = 1_784_256_265;
        for (date, want) in [
            ("Fri, 17 Jul 2026 04:44:20 +0200", true),
            ("17 Jul 2026 02:40:00 GMT", true),
            ("Fri, 17 Jul 2026 02:44:20 +0200", false),
            ("yesterday", false),
        ] {
            assert_eq!(was_just_sent(format!("Date: {date}\r\n\r\n").as_bytes(), now), want, "{date}");
        }
        assert!(!was_just_sent(b"Subject: x\r\n\r\n", now));
    }
}
