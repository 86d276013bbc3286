//! The sender is told: a notification as a row of its own, in the same commit that ends what it tells of.

use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use time::OffsetDateTime;

use super::entry::{Entry, File, Folder, Recipient, Send, What};
use super::passage::HEADER_MOST;
use super::spool;
use super::transaction::Fate;
use crate::message::{self, Report, Told};
use crate::state::OutboxItem;
use crate::upstream::smtp::{Reply, advice};

/// The whole message comes back where the sender asks for it (RET=FULL), up to this: it is uploaded again.
const WHOLE_MOST: u64 = 10 << 20;
/// And up to this where he says nothing.
const WHOLE_UNASKED: u64 = 50_000;

/// What is told of a message.
pub(super) struct Notice<'a> {
    pub(super) send: &'a Send,
    pub(super) created: SystemTime,
    pub(super) now: SystemTime,
    /// `None`: it failed. Else it is tried until then.
    pub(super) tried_until: Option<SystemTime>,
    pub(super) server: &'a str,
    pub(super) told: Vec<Told>,
    /// With no more of the message than its header, and without that if it cannot be read.
    pub(super) bare: bool,
}

impl Notice<'_> {
    /// Writes the notification into a file of `dir`; its row. Blocks.
    pub(super) fn write(&self, dir: &Path, original: &str) -> std::io::Result<OutboxItem> {
        let mail = self.send.envelope();
        let path = dir.join(original);
        let length = std::fs::metadata(&path).map_or(0, |found| found.len());
        let most = match mail.ret.as_deref() {
            Some("FULL") => WHOLE_MOST,
            Some(_) => 0,
            None => WHOLE_UNASKED,
        };
        // Of a delayed message the header is enough (RFC 3461 §4.3).
        let whole = !self.bare && self.tried_until.is_none() && length <= most;
        let mut raw = Vec::new();
        // What cannot be read is told of all the same.
        if let Ok(file) = std::fs::File::open(&path) {
            let read = file.take(if whole { most } else { HEADER_MOST as u64 }).read_to_end(&mut raw);
            if !self.bare {
                read?;
            }
        }
        let mut original = spool::untraced(&spool::undotted(&raw)).to_vec();
        if !whole {
            original.truncate(message::header_end(&original));
        }
        let token = spool::token();
        let report = Report {
            token: &token,
            to: mail.from.as_ref().map_or("", |from| from.as_str()),
            tried_until: self.tried_until.map(OffsetDateTime::from),
            arrived: self.created.into(),
            now: self.now.into(),
            envid: mail.envid.as_deref(),
            remote: self.server,
            recipients: &self.told,
            original: &original,
            whole,
        };
        let file = spool::write(dir, &report.render())?;
        let message_id = Some(Report::message_id(&token));
        let to = Folder::Inbox;
        let what = What::File(File::new(to, message_id, false));
        Ok(Entry::new(file, what).item(self.now, self.now, 0))
    }
}

/// What is told of a recipient who was refused.
pub(super) fn refused(recipient: &Recipient, reply: &Reply) -> Told {
    let class = if reply.is_permanent() { '5' } else { '4' };
    let status = reply.enhanced.as_deref().filter(|code| code.starts_with(class)).map(str::to_owned);
    Told {
        address: recipient.address(),
        orcpt: recipient.parsed().and_then(|rcpt| rcpt.orcpt),
        status: status.unwrap_or_else(|| format!("{class}.0.0")),
        said: Some(super::entry::told(reply)),
        mend: advice(reply).to_owned(),
    }
}

/// Of one that was waited for long enough, or waits still.
pub(super) fn waiting(recipient: &Recipient, last: Option<&str>, is_over: bool) -> Told {
    let mend = match (recipient.doubt, is_over) {
        (true, _) => {
            "The provider was lost before it answered: whether the message was sent is not known. Look into the sent folder before you send it again."
        }
        (false, true) => "It was tried for days and could not be sent; it is not tried any more.",
        (false, false) => "It could not be sent yet; you need not send it again.",
    };
    Told {
        address: recipient.address(),
        orcpt: recipient.parsed().and_then(|rcpt| rcpt.orcpt),
        // RFC 3463 §3.5: delivery time expired.
        status: if is_over { "4.4.7".into() } else { "4.4.1".into() },
        said: recipient.said.clone(),
        mend: match last.filter(|_| recipient.said.is_none()) {
            Some(last) => format!("{mend} What stood in the way last: {last}"),
            None => mend.to_owned(),
        },
    }
}

/// Who is to hear of a failure: nobody hears of a notification's (RFC 5321 §6.1), or of a copy's.
pub(super) fn is_told(send: &Send, recipient: &Recipient, what: &str) -> bool {
    !send.silent && recipient.wants(what) && send.envelope().from.is_some()
}

/// The failed ones, in words.
pub(super) fn failed(send: &Send, fates: &[Fate]) -> Vec<Told> {
    let pairs = send.recipients.iter().zip(fates);
    pairs
        .filter_map(|(recipient, fate)| match fate {
            Fate::Failed(reply) if is_told(send, recipient, "FAILURE") => Some(refused(recipient, reply)),
            _ => None,
        })
        .collect()
}
