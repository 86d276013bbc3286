//! What takes mail away from somewhere, told to whoever keeps the trail: EXPUNGE, MOVE, DELETE and RENAME of mailboxes, and what is taken
//! back of a write that failed. (Where folders are labels, an expunge takes a label off.)
//!
//! A record is made where upstream has answered, so that it tells what became of the write, also when the client has gone meanwhile. On whose
//! behalf it is done travels with the task ([`on_behalf`]); what is settled after a crash is done on nobody's.
//! Nothing here waits for the trail: [`Audit::record`] takes a record and returns.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::account::Inner;
use super::error::Error;
use super::mailbox::State;
use super::summaries::Want;
use crate::message;
use crate::model::{Uid, UidSet, UidValidity};

/// Message-IDs told of one write at most: the UIDs are all told, and a mailbox of a million is emptied too.
const NAMED_MOST: usize = 200;
/// Characters of a Message-ID, of what a client says it is, and of the words of an outcome.
const WORDS_MOST: usize = 300;

tokio::task_local! {
    /// For whom the work of this task is done.
    static CLIENT: Option<Arc<Client>>;
}

/// Keeps the trail. Must not block.
pub trait Audit: Send + Sync + std::fmt::Debug {
    fn record(&self, record: Record);
}

/// A mail program's session, as far as it is known.
#[derive(Debug)]
pub struct Client {
    /// `imap`, `pop3`.
    pub protocol: &'static str,
    pub peer: IpAddr,
    /// What it logged in as, device included.
    pub login: String,
    /// What it says it is (ID, RFC 2971).
    program: Mutex<Option<String>>,
}

impl Client {
    pub fn new(protocol: &'static str, peer: IpAddr, login: &str) -> Self {
        Self { protocol, peer, login: login.to_owned(), program: Mutex::default() }
    }

    pub fn program(&self) -> Option<String> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_program(&self, program: &str) {
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut(program));
    }
}

/// One write.
#[derive(Clone, Debug)]
pub struct Record {
    pub at: SystemTime,
    /// `expunge`, `move`, `delete`, `rename`, `take_back`, `copy` (to where a label takes all others off), `pop3_delete`.
    pub action: &'static str,
    pub account: String,
    /// `None`: what was left unfinished, settled by the program itself.
    pub client: Option<Arc<Client>>,
    pub mailbox: String,
    /// Where to.
    pub to: Option<String>,
    pub uid_validity: Option<UidValidity>,
    /// What it was about; empty where it was a whole mailbox.
    pub uids: UidSet,
    /// Those of them that were seen to be still there afterwards.
    pub left: UidSet,
    /// Message-IDs of some, as far as they were known here.
    pub messages: Vec<(Uid, String)>,
    /// What was done by POP3's `on_dele`.
    pub policy: Option<&'static str>,
    pub outcome: Outcome,
    /// Why not.
    pub reason: Option<String>,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Upstream has done it.
    Ok,
    /// It was refused; [`Record::left`] tells what was not done of it.
    No,
    /// The connection was lost, and what was done of it is not known.
    Unknown,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::Unavailable(_) | Error::Internal(_) | Error::Gone => Self::Unknown,
            _ => Self::No,
        }
    }
}

/// Runs what a client has asked for, so that its records name the client.
pub(super) async fn on_behalf<T>(client: Option<Arc<Client>>, work: impl Future<Output = T>) -> T {
    CLIENT.scope(client, work).await
}

/// Whom this task works for.
pub(super) fn client() -> Option<Arc<Client>> {
    CLIENT.try_with(Clone::clone).unwrap_or_default()
}

impl Inner {
    /// A record about to be made: what has to be asked before the write, is. `None` where nobody keeps a trail.
    pub(super) async fn begin_audit(&self, action: &'static str, state: &Arc<State>, uids: &UidSet) -> Option<Record> {
        self.options.audit.as_ref()?;
        let snapshot = state.snapshot();
        let mut record = self.bare_record(action, &snapshot.name);
        record.uid_validity = Some(snapshot.uid_validity);
        record.uids = uids.clone();
        let named: Vec<Uid> = uids.iter().take(NAMED_MOST).map(Uid).collect();
        let keys: Vec<_> = named.iter().map(|uid| state.body_key(&snapshot, *uid)).collect();
        let want = Want { header: true, ..Want::default() };
        // From the cache alone: nothing is asked of the provider for the sake of a record.
        let known = self.known_summaries(&keys, want).await;
        let ids = named.iter().zip(known).filter_map(|(uid, known)| {
            let id = message::message_id(&known.header)?;
            Some((*uid, cut(&id)))
        });
        record.messages = ids.collect();
        Some(record)
    }

    pub(super) fn bare_record(&self, action: &'static str, mailbox: &str) -> Record {
        Record {
            at: SystemTime::now(),
            action,
            account: self.label().to_owned(),
            client: client(),
            mailbox: mailbox.to_owned(),
            to: None,
            uid_validity: None,
            uids: UidSet::new(),
            left: UidSet::new(),
            messages: Vec::new(),
            policy: None,
            outcome: Outcome::Ok,
            reason: None,
        }
    }

    /// The write has ended: `left` is what of its messages is still there, as far as was seen.
    pub(super) fn end_audit<T>(&self, record: Option<Record>, done: &Result<T, Error>, left: UidSet) {
        let (Some(audit), Some(mut record)) = (&self.options.audit, record) else { return };
        record.at = SystemTime::now();
        record.left = left;
        if let Err(error) = done {
            record.outcome = Outcome::of(error);
            record.reason = Some(cut(&error.to_string()));
        }
        audit.record(record);
    }

    /// The same for a whole mailbox, which needs nothing beforehand.
    pub(super) fn audit_mailbox<T>(
        &self,
        action: &'static str,
        mailbox: &str,
        to: Option<&str>,
        done: &Result<T, Error>,
    ) {
        if self.options.audit.is_some() {
            let record = Record { to: to.map(str::to_owned), ..self.bare_record(action, mailbox) };
            self.end_audit(Some(record), done, UidSet::new());
        }
    }
}

/// So that one record stays a line a person can read.
fn cut(text: &str) -> String {
    text.chars().take(WORDS_MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_no_refusal() {
        let refused = Error::Refused { code: None, text: "no".into() };
        for (error, want) in [
            (refused, Outcome::No),
            (Error::Limit("spent".into()), Outcome::No),
            (Error::NoSuchMailbox("x".into()), Outcome::No),
            (Error::Unavailable("lost".into()), Outcome::Unknown),
            (Error::Gone, Outcome::Unknown),
            (Error::Internal("panic".into()), Outcome::Unknown),
        ] {
            assert_eq!(Outcome::of(&error), want, "{error}");
        }
    }

    #[tokio::test]
    async fn work_is_done_on_behalf_of_whom_it_was_asked_by() {
        let ann = Arc::new(Client::new("imap", IpAddr::from([127, 0, 0, 1]), "ann"));
        assert!(client().is_none());
        on_behalf(Some(ann), async {
            assert_eq!(client().map(|client| client.login.clone()).as_deref(), Some("ann"));
            // What others have left is not his.
            on_behalf(None, async { assert!(client().is_none()) }).await;
        })
        .await;
    }
}
