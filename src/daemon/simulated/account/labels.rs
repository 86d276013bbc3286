//! What a label does: where a message is shown, and what its flags follow from that.

use std::sync::Arc;

use super::{ALL_MAIL, Batch, Inner, SPAM, STARRED, TRASH};
use crate::model::{FlagOp, Flags, MessageMeta, ModSeq, SystemFlags, Uid};

impl Inner {
    /// Puts a label on a message; its UID in that mailbox, also if it was there before.
    pub(super) fn label(&mut self, batch: &mut Batch, msgid: u64, to: &Arc<str>) -> Option<Uid> {
        let message = self.messages.get(&msgid)?;
        let starred = message.flags.has(SystemFlags::FLAGGED);
        let places: Vec<Arc<str>> = message.places.keys().cloned().collect();
        if away(to) {
            // The flag outlasts the label Starred: the message has it again when it comes back.
            for place in places.iter().filter(|place| *place != to) {
                self.unplace(batch, msgid, place);
            }
            return self.place(batch, msgid, to);
        }
        for place in places.iter().filter(|place| away(place)) {
            self.unplace(batch, msgid, place);
        }
        if &**to != ALL_MAIL {
            self.place(batch, msgid, &ALL_MAIL.into());
        }
        let uid = self.place(batch, msgid, to);
        if &**to == STARRED {
            self.set_star(batch, msgid, true);
        } else if starred {
            self.place(batch, msgid, &STARRED.into());
        }
        uid
    }

    /// The bare act: an entry in one mailbox.
    fn place(&mut self, batch: &mut Batch, msgid: u64, to: &Arc<str>) -> Option<Uid> {
        let message = self.messages.get_mut(&msgid)?;
        if let Some(uid) = message.places.get(to) {
            return Some(*uid);
        }
        let there = self.boxes.get_mut(to)?;
        let uid = Uid(there.uid_next);
        there.uid_next = there.uid_next.checked_add(1)?;
        message.places.insert(Arc::clone(to), uid);
        let meta = MessageMeta {
            uid,
            flags: message.flags.clone(),
            modseq: ModSeq(self.modseq + 1),
            internal_date: message.date,
            size: u32::try_from(message.raw.len()).unwrap_or(u32::MAX),
            gm_msgid: msgid,
        };
        batch.at(to).upserts.push(meta);
        Some(uid)
    }

    /// Takes a label away; nothing else follows from it but the star.
    pub(super) fn take_label(&mut self, batch: &mut Batch, msgid: u64, from: &Arc<str>) {
        // A message that Trash or Spam took from Starred keeps its flag.
        if self.unplace(batch, msgid, from) && &**from == STARRED {
            self.set_star(batch, msgid, false);
        }
    }

    /// The bare act: no entry in one mailbox any more. Whether there was one.
    fn unplace(&mut self, batch: &mut Batch, msgid: u64, from: &Arc<str>) -> bool {
        let Some(uid) = self.messages.get_mut(&msgid).and_then(|message| message.places.remove(from)) else {
            return false;
        };
        let delta = batch.at(from);
        delta.upserts.retain(|meta| meta.uid != uid);
        delta.vanished.insert(uid.0);
        true
    }

    /// What an expunge does: takes the label away; in All Mail the message goes to Trash, in Trash and Spam for good.
    pub(super) fn leave(&mut self, batch: &mut Batch, msgid: u64, from: &Arc<str>) {
        match &**from {
            ALL_MAIL => {
                self.label(batch, msgid, &TRASH.into());
            }
            TRASH | SPAM => {
                self.unplace(batch, msgid, from);
                if let Some(gone) = self.messages.remove(&msgid) {
                    self.octets = self.octets.saturating_sub(gone.raw.len() as u64);
                    self.by_id.retain(|_, known| *known != msgid);
                }
            }
            _ => self.take_label(batch, msgid, from),
        }
    }

    /// New flags for a message, as told of it in one mailbox.
    pub(super) fn reflag(&mut self, batch: &mut Batch, mailbox: &Arc<str>, meta: &MessageMeta, new: &Flags) {
        let deleted = Flags::new(SystemFlags::DELETED, []);
        let shared = new.apply(FlagOp::Remove, &deleted);
        let Some(message) = self.messages.get_mut(&meta.gm_msgid) else { return };
        let starred = (message.flags.has(SystemFlags::FLAGGED), shared.has(SystemFlags::FLAGGED));
        let changed = message.flags != shared;
        message.flags = shared.clone();
        let places: Vec<(Arc<str>, Uid)> = message.places.iter().map(|(name, uid)| (Arc::clone(name), *uid)).collect();
        for (name, uid) in places {
            let here = name == *mailbox;
            if !here && !changed {
                continue;
            }
            let Some(old) = self.boxes.get(&name).and_then(|there| there.newest.borrow().messages.get(uid).cloned())
            else {
                continue;
            };
            let keeps = if here { new } else { &old.flags }.has(SystemFlags::DELETED);
            let op = if keeps { FlagOp::Add } else { FlagOp::Remove };
            let flags = shared.apply(op, &deleted);
            batch.at(&name).upserts.push(MessageMeta { flags, modseq: ModSeq(self.modseq + 1), ..old });
        }
        match starred {
            // In Trash and Spam a message has no other label.
            (false, true) if !away(mailbox) => {
                self.place(batch, meta.gm_msgid, &STARRED.into());
            }
            (true, false) => {
                self.unplace(batch, meta.gm_msgid, &STARRED.into());
            }
            _ => {}
        }
    }

    /// The flag follows the label Starred. (The label follows the flag in [`Self::reflag`].)
    fn set_star(&mut self, batch: &mut Batch, msgid: u64, on: bool) {
        let star = Flags::new(SystemFlags::FLAGGED, []);
        let op = if on { FlagOp::Add } else { FlagOp::Remove };
        let Some(message) = self.messages.get_mut(&msgid) else { return };
        if message.flags.has(SystemFlags::FLAGGED) == on {
            return;
        }
        message.flags = message.flags.apply(op, &star);
        let places: Vec<(Arc<str>, Uid)> = message.places.iter().map(|(name, uid)| (Arc::clone(name), *uid)).collect();
        for (name, uid) in places {
            let published = self.boxes.get(&name).and_then(|there| there.newest.borrow().messages.get(uid).cloned());
            let delta = batch.at(&name);
            let pending = delta.upserts.iter().rev().find(|meta| meta.uid == uid).cloned();
            if let Some(old) = pending.or(published) {
                let flags = old.flags.apply(op, &star);
                delta.upserts.push(MessageMeta { flags, modseq: ModSeq(self.modseq + 1), ..old });
            }
        }
    }
}

/// What lies there is in no other mailbox.
fn away(name: &str) -> bool {
    name == TRASH || name == SPAM
}
