//! What the commands do, one file a family.

pub(crate) mod append;
mod copy;
mod fetch;
mod folders;
mod idle;
mod list;
mod login;
mod search;
mod select;
mod sort;
mod store;
mod thread;

use super::Login;
use super::reply::{Reply, untagged};
use super::state::{Failure, Session, Telling};
use crate::model::SequenceSet;
use crate::session::backend::Mailbox as _;
use crate::wire::imap::command::Command;

impl<L: Login> Session<L> {
    /// Does what a command asks. The tagged line and what happened meanwhile are told by the caller. What takes room is boxed, so
    /// that an IDLE, which may run for hours, holds no more than it needs.
    pub(crate) async fn run(&mut self, tag: &str, command: Command) -> Result<Reply, Failure> {
        match command {
            Command::Capability => {
                let capabilities = self.capabilities();
                let out = &mut self.io.out;
                super::render::text(out, "* CAPABILITY ");
                super::render::text(out, &capabilities);
                super::render::text(out, "\r\n");
                Ok(Reply::ok("Capability completed"))
            }
            Command::Noop => {
                if let Some(mailbox) = self.selected.as_deref().map(|selected| selected.mailbox.clone()) {
                    // Nothing to ask where upstream tells of changes by itself: a poll costs nothing there.
                    if let Err(error) = self.io.wait(mailbox.refresh()).await? {
                        tracing::debug!(%error, "NOOP could not look upstream");
                    }
                }
                Ok(Reply::ok("NOOP completed"))
            }
            Command::Logout => {
                untagged(&mut self.io.out, "BYE", None, "Logging out");
                // Nothing of a mailbox is told after BYE.
                self.selected = None;
                Ok(Reply::ok("Logout completed"))
            }
            Command::Id(fields) => Ok(self.id(fields.as_deref())),
            Command::Starttls => self.starttls(),
            Command::Authenticate { mechanism, initial } => Box::pin(self.authenticate(&mechanism, initial)).await,
            Command::Login { user, password } => Box::pin(self.login(&user, &password)).await,
            Command::Enable(names) => self.enable(&names),
            Command::Namespace => self.namespace().await,
            Command::Select(select) => Box::pin(self.select(select)).await,
            Command::Create { mailbox, role } => Box::pin(self.create(&mailbox, role)).await,
            Command::Delete(mailbox) => self.delete(&mailbox).await,
            Command::Rename { from, to } => Box::pin(self.rename(&from, &to)).await,
            Command::Subscribe(mailbox) => self.subscribe(&mailbox, true).await,
            Command::Unsubscribe(mailbox) => self.subscribe(&mailbox, false).await,
            Command::List(list) => Box::pin(self.list(list)).await,
            Command::Status { mailbox, items } => self.status(&mailbox, &items).await,
            Command::Idle => self.idle().await,
            Command::Check => {
                let (io, selected) = self.selected()?;
                let mailbox = selected.mailbox.clone();
                // A checkpoint of what we have is done with every write; looking upstream is a courtesy that may fail.
                if let Err(error) = io.wait(mailbox.refresh()).await? {
                    tracing::debug!(%error, "CHECK could not look upstream");
                }
                Ok(Reply::ok("Check completed"))
            }
            Command::Close => Box::pin(self.close()).await,
            Command::Unselect => self.unselect(),
            Command::Expunge => Box::pin(self.expunge(None)).await,
            Command::UidExpunge(set) => Box::pin(self.expunge(Some(set))).await,
            Command::Fetch(fetch) => Box::pin(self.fetch(fetch)).await,
            Command::Store(store) => Box::pin(self.store(store)).await,
            Command::Copy { numbers, mailbox } => Box::pin(self.copy(&numbers, &mailbox)).await,
            Command::Move { numbers, mailbox } => Box::pin(self.move_messages(&numbers, &mailbox)).await,
            Command::Search(search) => Box::pin(self.search(tag, search)).await,
            Command::Sort(sort) => Box::pin(self.sort(sort)).await,
            Command::Thread(thread) => Box::pin(self.thread(thread)).await,
            Command::GetQuota(root) => self.quota(&root).await,
            Command::GetQuotaRoot(mailbox) => self.quota_root(&mailbox).await,
        }
    }
}

impl<L: Login> Session<L> {
    /// Before a change is resolved, the UIDs it names (if it names UIDs) are made known: see [`Mailbox::ready_to_change`].
    ///
    /// [`Mailbox::ready_to_change`]: crate::session::backend::Mailbox::ready_to_change
    async fn ready_to_change(&mut self, uids: Option<&SequenceSet>) -> Result<(), Failure> {
        let (io, selected) = self.selected()?;
        let mailbox = selected.mailbox.clone();
        let named = uids.map_or(0, SequenceSet::largest_named);
        io.wait(mailbox.ready_to_change(named)).await??;
        let last = selected.view.messages().last().map_or(0, |last| last.uid.0);
        if named > last && mailbox.snapshot().messages.last().is_some_and(|newest| newest.uid.0 > last) {
            // The client hears of them before it hears what became of them.
            self.catch_up(Telling { expunge: true, uid: true }, None)?;
        }
        Ok(())
    }
}

/// The answer to a sequence number that the client cannot have heard of; Dovecot's words, which clients may know.
fn bad_number(command: &str) -> Reply {
    Reply::bad(format!("Error in IMAP command {command}: Invalid messageset"))
}
