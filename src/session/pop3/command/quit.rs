//! QUIT: the UPDATE state (RFC 1939 §6), and the only place where deleting does anything.
//!
//! What `pop3.on_dele` asks for upstream is done first, and answered by upstream; then what the login has deleted is hidden from it,
//! on the disk; then comes +OK (Law 11). Whatever fails on the way, the answer is an error and nothing has been hidden: the client
//! sees the messages again and none is lost. The work runs to its end even when the client is gone by then: it has said QUIT.
//! Nothing here expunges (Law 10): archive and trash are the provider's MOVE.

use std::sync::Arc;

use crate::config::{OnDele, OnRetr};
use crate::engine::{CopyMode, Error, Outcome, Record};
use crate::model::{FlagOp, Flags, Role, SystemFlags, UidSet, UniqueId};
use crate::session::backend::{Account as _, Mailbox as _};
use crate::session::pop3::maildrop::Maildrop;
use crate::session::pop3::reply::{PERM, Reply, TEMP, messages};
use crate::session::pop3::state::{MailboxOf, Open, Session};
use crate::session::pop3::{Admitted, Deletions, HideSet as _, Login};

impl<L: Login> Session<L> {
    pub(crate) async fn quit(&mut self) -> Reply {
        let Some(open) = self.open.take() else { return Reply::ok("Bye") };
        // What was asked before is answered before: who has not got a message has not deleted it.
        if self.io.flush().await.is_err() {
            open.leave();
            return Reply::err("The connection is gone; nothing is deleted").with(TEMP);
        }
        let parting = Parting::from(*open);
        let deletions = Arc::clone(&self.server.deletions);
        // A task of its own: nothing that happens to this connection cuts it in half.
        let update = tokio::spawn(async move { parting.update(&*deletions).await });
        match self.io.wait(update).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => {
                tracing::error!(%error, "QUIT failed");
                Reply::err("An internal error; see the log").with(TEMP)
            }
            // Nobody reads it, and how it ends is not known yet.
            Err(_) => Reply::err("The deletions are still under way").with(TEMP),
        }
    }
}

impl<L: Login> Open<L> {
    /// The end without QUIT: nothing is deleted, and what was fetched was fetched.
    pub(crate) fn leave(self) {
        let parting = Parting::from(self);
        if parting.marks_fetched() {
            tokio::spawn(async move { parting.mark_fetched().await });
        }
    }
}

/// What is left of a session that reads no more.
struct Parting<L: Login> {
    admitted: Admitted<L::Account, L::Hidden>,
    mailbox: MailboxOf<L>,
    maildrop: Maildrop,
    fetched: UidSet,
}

impl<L: Login> From<Open<L>> for Parting<L> {
    fn from(open: Open<L>) -> Self {
        let Open { admitted, mailbox, maildrop, fetched, walk: _ } = open;
        Self { admitted, mailbox, maildrop, fetched }
    }
}

impl<L: Login> Parting<L> {
    /// The courtesy of `on_retr` comes after what is answered: nobody waits for it.
    async fn update(self, deletions: &dyn Deletions) -> Reply {
        let reply = self.delete(deletions).await;
        if self.marks_fetched() {
            tokio::spawn(async move { self.mark_fetched().await });
        }
        reply
    }

    async fn delete(&self, deletions: &dyn Deletions) -> Reply {
        let deleted: UidSet = self.maildrop.deleted().map(|message| message.uid.0).collect();
        if deleted.is_empty() {
            return Reply::ok("Bye");
        }
        let policy = self.admitted.settings.on_dele;
        let disposed = self.dispose(policy, &deleted).await;
        let tell = |record: &mut Record| {
            record.policy = Some(policy.as_str());
            if let Err(reply) = &disposed {
                record.outcome = Outcome::No;
                record.reason = Some(reply.text().to_owned());
            }
        };
        self.mailbox.audit("pop3_delete", &deleted, tell).await;
        if let Err(reply) = disposed {
            return reply;
        }
        let count = deleted.len();
        deletions.deleted(self.admitted.account.address(), policy, count);
        Reply::ok(format!("Bye, {} deleted", messages(count)))
    }

    /// Does with the deleted messages what the configuration says.
    async fn dispose(&self, policy: OnDele, uids: &UidSet) -> Result<(), Reply> {
        match policy {
            OnDele::Hide => {}
            OnDele::Seen => self.mark_seen(uids).await.map_err(|error| self.undone(&error))?,
            // Moved where it already is it would only get another number: it is hidden instead.
            OnDele::Archive | OnDele::Trash if !self.admitted.account.has_move() => {
                // Made of COPY and EXPUNGE a move could take what others mark meanwhile (Law 10).
                tracing::warn!(
                    account = self.admitted.account.address(),
                    policy = policy.as_str(),
                    "the provider has no MOVE: what is deleted over POP3 is hidden instead"
                );
            }
            OnDele::Archive | OnDele::Trash => {
                if let Some(to) = self.destination(policy).await? {
                    let moved = self.mailbox.copy(uids, &to, CopyMode::Move).await;
                    return match moved {
                        Err(error) if !self.are_gone(uids) => Err(self.undone(&error)),
                        _ => Ok(()),
                    };
                }
            }
        }
        let ids: Vec<UniqueId> = self.maildrop.deleted().map(|message| self.maildrop.id(message)).collect();
        self.admitted.hidden.hide(&self.maildrop.snapshot().name, ids).await.map_err(|error| {
            tracing::error!(
                account = self.admitted.account.address(),
                error,
                "what a POP3 login deletes cannot be kept"
            );
            Reply::err("The deletions could not be kept; nothing is deleted").with(TEMP)
        })
    }

    /// None of these is in the mailbox any more, whoever took them away: another session of the same login, perhaps at the same moment,
    /// and then upstream finds fault with ours.
    fn are_gone(&self, uids: &UidSet) -> bool {
        let snapshot = self.mailbox.snapshot();
        !snapshot.dead && snapshot.messages.select(uids).next().is_none()
    }

    /// Where deleted messages go; `None` if that is the maildrop's own mailbox.
    async fn destination(&self, policy: OnDele) -> Result<Option<Arc<str>>, Reply> {
        let folders = self.admitted.account.folders().await.map_err(|error| self.undone(&error))?;
        // Gmail's archive is All Mail: what is moved there loses its other labels and stays.
        let roles: &[Role] = if policy == OnDele::Trash { &[Role::Trash] } else { &[Role::Archive, Role::All] };
        let found = roles.iter().find_map(|role| folders.by_role(*role)).filter(|folder| !folder.noselect);
        match found {
            Some(folder) => Ok(Some(Arc::clone(&folder.name)).filter(|name| *name != self.maildrop.snapshot().name)),
            None => {
                let role = policy.as_str();
                let words = format!("The provider names no mailbox for {role}: nothing is deleted");
                tracing::warn!(account = self.admitted.account.address(), role, "pop3.on_dele cannot be done: {words}");
                Err(Reply::err(words).with(PERM))
            }
        }
    }

    fn undone(&self, error: &Error) -> Reply {
        tracing::warn!(account = self.admitted.account.address(), %error, "messages deleted over POP3 stay");
        Reply::err(format!("Some deleted messages stay: {error}")).with(TEMP)
    }

    fn marks_fetched(&self) -> bool {
        self.admitted.settings.on_retr == OnRetr::Seen && !self.fetched.is_empty()
    }

    /// A courtesy to the other clients: a failure is told in the log alone.
    async fn mark_fetched(&self) {
        if let Err(error) = self.mark_seen(&self.fetched).await {
            tracing::warn!(account = self.admitted.account.address(), %error, "messages fetched over POP3 are not marked seen");
        }
    }

    async fn mark_seen(&self, uids: &UidSet) -> Result<(), Error> {
        // Only what is not: a client that leaves its mail on the server costs no write.
        let snapshot = self.mailbox.snapshot();
        let unseen = snapshot.messages.select(uids).filter(|(_, message)| !message.flags.has(SystemFlags::SEEN));
        let unseen: UidSet = unseen.map(|(_, message)| message.uid.0).collect();
        if unseen.is_empty() && !snapshot.dead {
            return Ok(());
        }
        let seen = Flags::new(SystemFlags::SEEN, []);
        self.mailbox.store(&unseen, FlagOp::Add, &seen, None).await.map(|_| ())
    }
}
