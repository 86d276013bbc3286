//! Opening and leaving a mailbox. RFC 3501 §6.3.1, §6.4.2; RFC 3691 (UNSELECT); RFC 7162 §3.1.8, §3.2.5 (CONDSTORE, QRESYNC).

use std::sync::Arc;

use crate::engine::Snapshot;
use crate::model::{Pages, SystemFlags, Uid, UidSet};
use crate::session::backend::{Account as _, Mailbox};
use crate::session::imap::io::Io;
use crate::session::imap::reply::{Reply, untagged};
use crate::session::imap::state::{Failure, MailboxOf, Selected, Session, Telling, highest_modseq};
use crate::session::imap::{Login, render};
use crate::wire::imap::command::{Qresync, Select};

impl<L: Login> Session<L> {
    pub(crate) async fn select(&mut self, select: Select) -> Result<Reply, Failure> {
        let account = self.account()?;
        if select.qresync.is_some() && !self.qresync {
            // RFC 7162 §3.2.5: without ENABLE QRESYNC the parameter is an error.
            return Ok(Reply::bad("QRESYNC is not enabled"));
        }
        // Whatever comes of it, the mailbox selected so far is left (RFC 3501 §6.3.1), without an EXPUNGE.
        if self.selected.take().is_some() {
            untagged(&mut self.io.out, "OK", Some("CLOSED"), "Previous mailbox is now closed");
        }
        if select.condstore || select.qresync.is_some() {
            self.condstore = true;
        }
        let mailbox = self.io.wait(account.open(&select.mailbox)).await??;
        let (selected, snapshot) = Selected::new(mailbox, select.read_only);
        self.introduce(&snapshot, &selected);
        if let Some(known) = &select.qresync
            && known.uid_validity == snapshot.uid_validity
        {
            resynchronise(&mut self.io, known, &snapshot, &selected).await?;
        }
        let read_only = selected.read_only;
        self.selected = Some(Box::new(selected));
        let words = if select.read_only { "Examine completed" } else { "Select completed" };
        Ok(Reply::ok(words).with(if read_only { "READ-ONLY" } else { "READ-WRITE" }))
    }

    fn introduce(&mut self, snapshot: &Snapshot, selected: &Selected<MailboxOf<L>>) {
        let out = &mut self.io.out;
        render::mailbox_flags(out, snapshot, selected.read_only);
        render::text(out, "* ");
        render::number(out, snapshot.messages.len());
        render::text(out, " EXISTS\r\n* ");
        render::number(out, selected.view.recent().1);
        render::text(out, " RECENT\r\n");
        if let Some(first) = first_unseen(&snapshot.messages) {
            untagged(out, "OK", Some(&format!("UNSEEN {first}")), "First unseen");
        }
        untagged(out, "OK", Some(&format!("UIDVALIDITY {}", snapshot.uid_validity)), "UIDs valid");
        untagged(out, "OK", Some(&format!("UIDNEXT {}", snapshot.uid_next)), "Predicted next UID");
        untagged(out, "OK", Some(&format!("HIGHESTMODSEQ {}", snapshot.highest_modseq)), "Highest");
    }

    /// CLOSE expunges without a word, unless the mailbox is open read-only (RFC 3501 §6.4.2).
    pub(crate) async fn close(&mut self) -> Result<Reply, Failure> {
        let (qresync, reply) = (self.qresync, Reply::ok("Close completed"));
        if !self.selected()?.1.read_only {
            self.ready_to_change(None).await?;
        }
        let (io, selected) = self.selected()?;
        let has_deleted = |pages: &Pages| pages.iter().any(|message| message.flags.has(SystemFlags::DELETED));
        if selected.read_only || !has_deleted(&selected.mailbox.snapshot().messages) {
            self.selected = None;
            return Ok(reply);
        }
        let mailbox = selected.mailbox.clone();
        io.wait(mailbox.expunge(None)).await??;
        let highest = selected.view.highest_at_close(&mailbox.snapshot());
        self.selected = None;
        // RFC 7162 §3.2.8: what a QRESYNC client needs to resynchronise past its own expunge.
        Ok(if qresync { reply.with(format!("HIGHESTMODSEQ {highest}")) } else { reply })
    }

    pub(crate) fn unselect(&mut self) -> Result<Reply, Failure> {
        self.selected()?;
        self.selected = None;
        Ok(Reply::ok("Unselect completed"))
    }

    /// EXPUNGE, and UID EXPUNGE with a set (RFC 4315 §2.1).
    pub(crate) async fn expunge(&mut self, set: Option<crate::model::SequenceSet>) -> Result<Reply, Failure> {
        let uid = set.is_some();
        let condstore = self.condstore;
        self.selected_for_change()?;
        self.ready_to_change(set.as_ref()).await?;
        let (io, selected) = self.selected_for_change()?;
        let uids = set.map(|set| selected.view.resolve_uids(&set, &selected.saved));
        let mailbox = selected.mailbox.clone();
        let before = mailbox.snapshot();
        let deleted: UidSet = match &uids {
            Some(uids) => {
                before.messages.select(uids).filter(|(_, m)| m.flags.has(SystemFlags::DELETED)).collect_uids()
            }
            None => before.messages.iter().filter(|m| m.flags.has(SystemFlags::DELETED)).map(|m| m.uid.0).collect(),
        };
        let reply = Reply::ok("Expunge completed");
        if deleted.is_empty() {
            return Ok(reply);
        }
        // Of a set, only what can go is named: `1:*` may be all there is.
        io.wait(mailbox.expunge(uids.is_some().then_some(&deleted))).await??;
        self.catch_up(Telling { expunge: true, uid }, None)?;
        let (_, selected) = self.selected()?;
        Ok(if condstore { reply.with(highest_modseq(&selected.view)) } else { reply })
    }
}

trait CollectUids {
    fn collect_uids(self) -> UidSet;
}

impl<'a, I: Iterator<Item = (u32, &'a crate::model::MessageMeta)>> CollectUids for I {
    fn collect_uids(self) -> UidSet {
        self.map(|(_, message)| message.uid.0).collect()
    }
}

fn first_unseen(messages: &Pages) -> Option<u32> {
    (1..).zip(messages.iter()).find(|(_, message)| !message.flags.has(SystemFlags::SEEN)).map(|(seq, _)| seq)
}

/// What happened since the client was here: VANISHED (EARLIER), then FETCH of what changed (RFC 7162 §3.2.5.1).
async fn resynchronise<M: Mailbox>(
    io: &mut Io,
    known: &Qresync,
    snapshot: &Arc<Snapshot>,
    selected: &Selected<M>,
) -> Result<(), Failure> {
    let mut all = UidSet::new();
    all.insert_range(1..=snapshot.uid_next.0.saturating_sub(1));
    let asked = known.known.as_ref().map_or_else(|| all.clone(), |uids| uids.intersect(&all));
    let vanished = match selected.mailbox.vanished_since(known.modseq) {
        Some(vanished) => vanished.intersect(&asked),
        None => above_match(known, &snapshot.messages, &asked),
    };
    // The log may have run ahead of the snapshot, and what is in the snapshot is told as EXPUNGE later.
    let vanished = vanished.minus(&present(&snapshot.messages, &vanished));
    render::vanished(&mut io.out, &vanished, true);
    for (index, message) in snapshot.messages.select(&asked) {
        if message.modseq <= known.modseq {
            continue;
        }
        let out = &mut io.out;
        render::text(out, "* ");
        render::number(out, index + 1);
        render::text(out, " FETCH (UID ");
        render::number(out, message.uid.0);
        render::text(out, " ");
        render::flags(out, &message.flags, selected.view.is_recent(message.uid));
        render::text(out, " ");
        render::mod_sequence(out, message);
        render::text(out, ")\r\n");
        io.flush_if_full().await?;
    }
    Ok(())
}

/// Those of `uids` that are in `messages`.
pub(super) fn present(messages: &Pages, uids: &UidSet) -> UidSet {
    messages.select(uids).collect_uids()
}

/// Without a log of what vanished, every asked UID may have; but below a pair of number and UID that still holds, the
/// client has exactly what we have (RFC 7162 §3.2.5.2).
fn above_match(known: &Qresync, messages: &Pages, asked: &UidSet) -> UidSet {
    let Some((numbers, uids)) = &known.matches else { return asked.clone() };
    let holds = numbers
        .iter()
        .zip(uids.iter())
        .take_while(|(number, _)| *number <= messages.len())
        .filter(|(number, uid)| messages.at(number - 1).is_some_and(|message| message.uid == Uid(*uid)))
        .last();
    let Some((_, uid)) = holds else { return asked.clone() };
    let mut below = UidSet::new();
    below.insert_range(1..=uid);
    asked.minus(&below)
}
