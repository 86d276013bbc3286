//! SELECT, CLOSE and UNSELECT (RFC 9051 §6.3.2, §6.4.1, §6.4.2; RFC 7162 §3.1.8, §3.2.5).

use crate::model::{Uid, UidSet, UidValidity};
use crate::upstream::answer::Data;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::{Session, nothing};
use crate::upstream::types::Selected;
use crate::wire::imap::response::Code;

/// FETCH lines kept of a QRESYNC answer; a mailbox of a million with every flag changed still fits.
const MAX_CHANGED: usize = 2_000_000;

impl Session {
    /// Makes sure the mailbox is selected. Does nothing, and gives the old answer with its count kept up to date, when it is selected
    /// already.
    pub async fn select(&mut self, mailbox: &str) -> Result<Selected, Error> {
        if let Some((name, selected)) = self.selected()
            && name == mailbox
        {
            return Ok(selected.clone());
        }
        self.reselect(mailbox, None).await
    }

    /// [`Self::select`] before a command on messages below `uid_next`. A server may not show messages to a session that has not looked
    /// since they came (Dovecot, Courier): a command on them does nothing then and says OK. Selecting anew is the look; it is also
    /// made where the mailbox may have been selected before it was deleted and made again.
    pub async fn select_seeing(
        &mut self,
        mailbox: &str,
        validity: UidValidity,
        uid_next: Uid,
    ) -> Result<Selected, Error> {
        if let Some((name, selected)) = self.selected()
            && name == mailbox
            && selected.uid_validity == validity
            && selected.uid_next >= uid_next
        {
            return Ok(selected.clone());
        }
        let answer = self.reselect(mailbox, None).await?;
        self.has_seen(uid_next);
        Ok(answer)
    }

    /// Notes that this session has looked at its mailbox since messages below `uid_next` came. Where upstream tells no UIDNEXT nothing
    /// else shows it, and each command would cost a SELECT.
    pub fn has_seen(&mut self, uid_next: Uid) {
        if let Some((_, selected)) = &mut self.selected {
            selected.uid_next = selected.uid_next.max(uid_next);
        }
    }

    /// SELECT, with (CONDSTORE) where offered, or with (QRESYNC (validity modseq)) where `qresync` is given and upstream has
    /// confirmed it; never both parameters, which some servers refuse. A refused SELECT leaves no mailbox selected.
    pub async fn reselect(&mut self, mailbox: &str, qresync: Option<(UidValidity, u64)>) -> Result<Selected, Error> {
        let line = self.select_line(mailbox, qresync);
        self.begin().await?;
        self.finish();
        // From here on nothing is selected until upstream says so (RFC 9051 §6.3.2).
        self.selected = None;
        self.forget_mailbox_events();
        let mut answer = Selected::default();
        let done = self.run(line, &mut |data| note(&mut answer, data)).await?;
        if answer.changed.len() >= MAX_CHANGED {
            // Told in part it would be believed as a whole.
            self.close("the answer to SELECT was too large");
            return Err(Error::Protocol("the provider sent more changes than a mailbox can have".into()));
        }
        answer.read_only = done.code.as_ref().is_some_and(|code| code.read() == Code::ReadOnly);
        self.selected =
            Some((mailbox.into(), Selected { vanished: UidSet::new(), changed: Vec::new(), ..answer.clone() }));
        Ok(answer)
    }

    /// The command of [`Self::reselect`].
    pub(super) fn select_line(&self, mailbox: &str, qresync: Option<(UidValidity, u64)>) -> Line {
        let parameter = match qresync {
            Some((validity, modseq)) if self.qresync && modseq > 0 => format!(" (QRESYNC ({validity} {modseq}))"),
            _ if self.caps().condstore() => " (CONDSTORE)".into(),
            _ => String::new(),
        };
        Line::new("SELECT ").string(mailbox.as_bytes()).text(parameter)
    }

    /// Leaves the selected mailbox without expunging: UNSELECT, else CLOSE after an EXAMINE of it (Law 10).
    pub async fn close_mailbox(&mut self) -> Result<(), Error> {
        let Some((name, _)) = self.selected.take() else { return Ok(()) };
        self.forget_mailbox_events();
        if self.caps().has("UNSELECT") || self.caps().has("IMAP4REV2") {
            return self.run(Line::new("UNSELECT"), &mut nothing).await.map(|_| ());
        }
        // CLOSE expunges, but not what was opened by EXAMINE (RFC 9051 §6.4.1).
        self.run(Line::new("EXAMINE ").string(name.as_bytes()), &mut |_| None).await?;
        self.run(Line::new("CLOSE"), &mut nothing).await.map(|_| ())
    }
}

/// Takes what belongs to a SELECT.
pub(super) fn note(answer: &mut Selected, data: Data) -> Option<Data> {
    match data {
        Data::Exists(count) => answer.exists = count,
        Data::Recent => {}
        Data::Flags(flags) => answer.flags = flags,
        Data::Vanished { uids, .. } => answer.vanished = answer.vanished.union(&uids),
        Data::Fetch(fetch) if answer.changed.len() < MAX_CHANGED => answer.changed.push(fetch.meta),
        Data::Told(status) => {
            let Some(code) = &status.code else { return None };
            match code.read() {
                // What came before this belonged to the mailbox left (RFC 7162 §3.2.11).
                Code::Closed => *answer = Selected::default(),
                Code::UidValidity(validity) => answer.uid_validity = UidValidity(validity),
                Code::UidNext(uid) => answer.uid_next = Uid(uid),
                Code::HighestModSeq(modseq) => answer.highest_modseq = modseq,
                Code::NoModSeq => answer.highest_modseq = 0,
                Code::PermanentFlags(flags) => {
                    answer.permanent_flags = Some(flags.into_iter().map(str::to_owned).collect());
                }
                _ => return Some(Data::Told(status)),
            }
        }
        other => return Some(other),
    }
    None
}
