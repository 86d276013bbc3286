//! COPY and MOVE with their UID forms. RFC 3501 §6.4.7, RFC 4315 §3 (COPYUID), RFC 6851 (MOVE).

use std::fmt::Write as _;

use super::select::present;
use crate::engine::{Copied, CopyMode};
use crate::model::UidSet;
use crate::session::backend::{Account as _, Mailbox as _};
use crate::session::imap::Login;
use crate::session::imap::reply::{Names, Reply, untagged};
use crate::session::imap::state::{Failure, Session, Telling, highest_modseq};
use crate::wire::imap::command::Numbers;

/// What was asked for and what to copy of it.
enum Source {
    Messages(UidSet),
    Answer(Reply),
}

impl<L: Login> Session<L> {
    pub(crate) async fn copy(&mut self, numbers: &Numbers, to: &str) -> Result<Reply, Failure> {
        self.selected()?;
        let uids = match self.source(numbers, to, "COPY").await? {
            Source::Messages(uids) => uids,
            Source::Answer(reply) => return Ok(reply),
        };
        let copied = self.transfer(&uids, to, CopyMode::Copy).await?;
        let reply = Reply::ok("Copy completed");
        Ok(match copied.as_ref().and_then(copyuid) {
            Some(code) => reply.with(code),
            None => reply,
        })
    }

    pub(crate) async fn move_messages(&mut self, numbers: &Numbers, to: &str) -> Result<Reply, Failure> {
        self.selected_for_change()?;
        let uids = match self.source(numbers, to, "MOVE").await? {
            Source::Messages(uids) => uids,
            Source::Answer(reply) => return Ok(reply),
        };
        let copied = self.transfer(&uids, to, CopyMode::Move).await?;
        if let Some(code) = copied.as_ref().and_then(copyuid) {
            // Before the EXPUNGEs, so that a client can match them (RFC 6851 §4.3).
            untagged(&mut self.io.out, "OK", Some(&code), "Moved UIDs");
        }
        self.catch_up(Telling { expunge: true, uid: numbers.uid }, None)?;
        let reply = Reply::ok("Move completed");
        let (qresync, (_, selected)) = (self.qresync, self.selected()?);
        Ok(if qresync { reply.with(highest_modseq(&selected.view)) } else { reply })
    }

    async fn source(&mut self, numbers: &Numbers, to: &str, command: &'static str) -> Result<Source, Failure> {
        let account = self.account()?;
        self.ready_to_change(numbers.uid.then_some(&numbers.set)).await?;
        let (io, selected) = self.selected()?;
        let Ok(asked) = selected.view.resolve(numbers, &selected.saved) else {
            return Ok(Source::Answer(super::bad_number(command)));
        };
        let asked = present(selected.view.messages(), &asked);
        if !io.wait(account.takes_messages(to)).await?? {
            return Ok(Source::Answer(Reply::no("Mailbox does not exist").with("TRYCREATE")));
        }
        if asked.is_empty() {
            // A UID that does not exist is no error (RFC 3501 §6.4.8).
            return Ok(Source::Answer(Reply::ok("No messages found")));
        }
        // All or nothing (RFC 3501 §6.4.7): a message that is gone fails the whole, but for the UID form, where it is as if it
        // had not been named.
        let there = present(&selected.mailbox.snapshot().messages, &asked);
        if there == asked {
            Ok(Source::Messages(there))
        } else if numbers.uid && there.is_empty() {
            Ok(Source::Answer(Reply::ok("No messages found")))
        } else if numbers.uid {
            Ok(Source::Messages(there))
        } else {
            Ok(Source::Answer(Reply::no("Some of the messages no longer exist").with("EXPUNGEISSUED")))
        }
    }

    async fn transfer(&mut self, uids: &UidSet, to: &str, mode: CopyMode) -> Result<Option<Copied>, Failure> {
        let (io, selected) = self.selected()?;
        let mailbox = selected.mailbox.clone();
        let copied = io.wait(mailbox.copy(uids, to, mode)).await?;
        copied.map_err(|error| Failure::Below(error, Names::Destination))
    }
}

/// `COPYUID validity sources destinations`; nothing if nothing was copied. Both sets run in step, so they are written in the
/// order of the sources and never sorted apart.
fn copyuid(copied: &Copied) -> Option<String> {
    if copied.pairs.is_empty() {
        return None;
    }
    let mut code = format!("COPYUID {} ", copied.uid_validity);
    runs(&mut code, copied.pairs.iter().map(|(from, _)| from.0));
    code.push(' ');
    runs(&mut code, copied.pairs.iter().map(|(_, to)| to.0));
    Some(code)
}

/// Writes numbers in their order, ascending neighbours as ranges.
pub(super) fn runs(out: &mut String, numbers: impl Iterator<Item = u32>) {
    let mut run: Option<(u32, u32)> = None;
    let mut first = true;
    let mut write = |(from, to): (u32, u32)| {
        let comma = if std::mem::take(&mut first) { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = if from == to { write!(out, "{comma}{from}") } else { write!(out, "{comma}{from}:{to}") };
    };
    for number in numbers {
        match &mut run {
            Some((_, to)) if to.checked_add(1) == Some(number) => *to = number,
            _ => {
                if let Some(done) = run.replace((number, number)) {
                    write(done);
                }
            }
        }
    }
    if let Some(done) = run {
        write(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_keep_their_order() {
        for (numbers, want) in [
            (vec![], ""),
            (vec![5], "5"),
            (vec![1, 2, 3, 7], "1:3,7"),
            (vec![9, 8, 10, 11], "9,8,10:11"),
            (vec![u32::MAX], "4294967295"),
        ] {
            let mut out = String::new();
            runs(&mut out, numbers.into_iter());
            assert_eq!(out, want);
        }
    }
}
