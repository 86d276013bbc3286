//! Mailboxes as such: CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, quota. RFC 3501 §6.3, RFC 6154 §3, RFC 9208.

use bytes::BytesMut;

use crate::engine::StatusData;
use crate::model::Role;
use crate::session::backend::{Account as _, Mailbox as _};
use crate::session::imap::reply::Reply;
use crate::session::imap::state::{Failure, Session};
use crate::session::imap::{Login, render};
use crate::wire::imap::command::StatusItem;

impl<L: Login> Session<L> {
    pub(crate) async fn create(&mut self, mailbox: &str, role: Option<Role>) -> Result<Reply, Failure> {
        let account = self.account()?;
        let folders = self.io.wait(account.folders()).await??;
        // A delimiter at the end announces children only (RFC 3501 §6.3.3); the name is without it.
        let name = folders.delimiter.and_then(|delimiter| mailbox.strip_suffix(delimiter)).unwrap_or(mailbox);
        if name.is_empty() {
            return Ok(Reply::no("A mailbox needs a name").with("CANNOT"));
        }
        if folders.find(name).is_some_and(|folder| !folder.noselect) {
            return Ok(Reply::no("Mailbox exists already").with("ALREADYEXISTS"));
        }
        self.io.wait(account.create(name, role)).await??;
        Ok(Reply::ok("Create completed"))
    }

    pub(crate) async fn delete(&mut self, mailbox: &str) -> Result<Reply, Failure> {
        let account = self.account()?;
        if mailbox.eq_ignore_ascii_case("INBOX") {
            return Ok(Reply::no("INBOX cannot be deleted").with("CANNOT"));
        }
        let is_selected = self.selected.as_deref().is_some_and(|selected| selected.mailbox.name() == *mailbox);
        self.io.wait(account.delete(mailbox)).await??;
        if is_selected {
            // The client asked for it: the session goes on without a mailbox instead of ending.
            self.selected = None;
        }
        Ok(Reply::ok("Delete completed"))
    }

    pub(crate) async fn rename(&mut self, from: &str, to: &str) -> Result<Reply, Failure> {
        let account = self.account()?;
        let folders = self.io.wait(account.folders()).await??;
        let to = folders.delimiter.and_then(|delimiter| to.strip_suffix(delimiter)).unwrap_or(to);
        if to.is_empty() {
            return Ok(Reply::no("A mailbox needs a name").with("CANNOT"));
        }
        if folders.find(to).is_some() {
            return Ok(Reply::no("Mailbox exists already").with("ALREADYEXISTS"));
        }
        let selected = self.selected.as_deref().filter(|selected| selected.mailbox.name() == *from);
        let selected = selected.map(|selected| selected.mailbox.snapshot());
        self.io.wait(account.rename(from, to)).await??;
        if let Some(before) = selected.filter(|_| from != "INBOX") {
            self.follow(&account, to, &before).await?;
        }
        Ok(Reply::ok("Rename completed"))
    }

    /// The selected mailbox has a new name: go on with it if it is the same mailbox still.
    async fn follow(
        &mut self,
        account: &L::Account,
        to: &str,
        before: &crate::engine::Snapshot,
    ) -> Result<(), Failure> {
        let opened = self.io.wait(account.open(to)).await?;
        match opened {
            Ok(mailbox) if mailbox.snapshot().uid_validity == before.uid_validity => {
                if let Some(selected) = self.selected.as_deref_mut() {
                    selected.watch = mailbox.watch();
                    selected.watch.mark_changed();
                    selected.mailbox = mailbox;
                }
            }
            // The next catch-up finds the old one dead and ends the session, which is all that can be done.
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    pub(crate) async fn subscribe(&mut self, mailbox: &str, on: bool) -> Result<Reply, Failure> {
        let account = self.account()?;
        self.io.wait(account.subscribe(mailbox, on)).await??;
        Ok(Reply::ok(if on { "Subscribe completed" } else { "Unsubscribe completed" }))
    }

    /// How many messages of a mailbox were told to be recent to this session, and so to no other.
    pub(super) fn recent_of_ours(&self, mailbox: &str) -> u32 {
        let selected = self.selected.as_deref().filter(|ours| !ours.read_only && ours.mailbox.name() == mailbox);
        selected.map_or(0, |ours| ours.view.recent().1)
    }

    pub(crate) async fn status(&mut self, mailbox: &str, items: &[StatusItem]) -> Result<Reply, Failure> {
        let account = self.account()?;
        if items.contains(&StatusItem::HighestModSeq) {
            // RFC 7162 §3.1: a CONDSTORE enabling command.
            self.enable_condstore();
        }
        let mut data = self.io.wait(account.status(mailbox)).await??;
        data.recent += self.recent_of_ours(mailbox);
        let limit = account.append_limit();
        status_line(&mut self.io.out, mailbox, items, &data, limit);
        Ok(Reply::ok("Status completed"))
    }

    pub(crate) async fn quota(&mut self, root: &str) -> Result<Reply, Failure> {
        let account = self.account()?;
        let lines = self.io.wait(account.quota(root)).await??;
        self.quota_lines(&lines);
        Ok(Reply::ok("Getquota completed"))
    }

    pub(crate) async fn quota_root(&mut self, mailbox: &str) -> Result<Reply, Failure> {
        let account = self.account()?;
        let lines = self.io.wait(account.quota_root(mailbox)).await??;
        self.quota_lines(&lines);
        Ok(Reply::ok("Getquotaroot completed"))
    }

    fn quota_lines(&mut self, lines: &[bytes::Bytes]) {
        // An upstream's line end inside would be a response of its own making.
        for line in lines.iter().filter(|line| !line.iter().any(|b| matches!(b, b'\r' | b'\n'))) {
            render::text(&mut self.io.out, "* ");
            self.io.out.extend_from_slice(line);
            render::text(&mut self.io.out, "\r\n");
        }
    }
}

/// `* STATUS name (…)`.
pub(super) fn status_line(out: &mut BytesMut, name: &str, items: &[StatusItem], data: &StatusData, append_limit: u64) {
    render::text(out, "* STATUS ");
    render::mailbox(out, name);
    render::text(out, " (");
    for (index, item) in items.iter().enumerate() {
        let (word, value) = match item {
            StatusItem::Messages => ("MESSAGES ", u64::from(data.messages)),
            StatusItem::Recent => ("RECENT ", u64::from(data.recent)),
            StatusItem::UidNext => ("UIDNEXT ", u64::from(data.uid_next.0)),
            StatusItem::UidValidity => ("UIDVALIDITY ", u64::from(data.uid_validity.0)),
            StatusItem::Unseen => ("UNSEEN ", u64::from(data.unseen)),
            StatusItem::HighestModSeq => ("HIGHESTMODSEQ ", data.highest_modseq.0),
            StatusItem::Size => ("SIZE ", data.size),
            StatusItem::Deleted => ("DELETED ", u64::from(data.deleted)),
            StatusItem::AppendLimit => ("APPENDLIMIT ", append_limit),
        };
        render::text(out, if index > 0 { " " } else { "" });
        render::text(out, word);
        render::number(out, value);
    }
    render::text(out, ")\r\n");
}
