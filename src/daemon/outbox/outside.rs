//! What the outbox needs of its account: a way to the provider's server for sending, and the mailboxes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::entry::Folder;
use crate::daemon::smtp::Outgoing;
use crate::daemon::status::NO_SERVER;
use crate::engine::{self, Account, Append, Filed};
use crate::model::{Flags, Role, SystemFlags};
use crate::session::smtp::Grant;
use crate::upstream::Pool;
use crate::upstream::smtp::{Passage, Reply, SmtpError};

/// Looks for what was filed go back so far before the moment it may have been: clocks differ by minutes.
const CLOCKS_DIFFER: Duration = Duration::from_secs(15 * 60);

/// Why a message is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotFiled {
    /// Worth another try.
    Later(String),
    /// Never.
    Refused(String),
}

/// An account as its outbox sees it.
pub(crate) trait Outside: Send + Sync + 'static {
    /// A session at the provider, for one message.
    fn lease(&self) -> impl Future<Output = Result<Passage, SmtpError>> + Send;
    /// Octets set aside, or why not now.
    fn admit(&self, octets: u64) -> Result<Grant, String>;
    /// What the account's owner has to do before anything is tried.
    fn stopped(&self) -> Option<String>;
    /// For how long the day's messages are spent; `None`: one more may be sent.
    fn spent(&self) -> Option<Duration>;
    /// The name of the provider's server; empty where none is configured any more.
    fn server(&self) -> &str;
    /// A message was sent.
    fn sent(&self, recipients: usize, octets: u64);
    /// Octets of the largest message that is stored.
    fn most_stored(&self) -> u64;
    fn store(&self, to: Folder, message: Bytes) -> impl Future<Output = Result<(), NotFiled>> + Send;
    /// Whether a message is there, with this in a trace header if it is wanted; an error where that cannot be told now.
    fn is_stored(
        &self,
        to: Folder,
        message_id: &str,
        since: SystemTime,
        trace: Option<&str>,
    ) -> impl Future<Output = Result<bool, String>> + Send;
}

/// The account at work.
#[derive(Clone)]
pub(crate) struct AtWork {
    /// `None`: no server for sending is configured (any more).
    pub(crate) outgoing: Option<Outgoing>,
    pub(crate) account: Account,
    pub(crate) pool: Pool,
}

impl AtWork {
    async fn name_of(&self, folder: Folder) -> Result<String, engine::Error> {
        if folder == Folder::Inbox {
            return Ok("INBOX".into());
        }
        let folders = self.account.folders().await?;
        let sent = folders.by_role(Role::Sent).filter(|folder| !folder.noselect);
        let none = || engine::Error::Cannot("the account has no folder for sent messages".into());
        sent.map(|folder| folder.name.to_string()).ok_or_else(none)
    }
}

impl Outside for AtWork {
    async fn lease(&self) -> Result<Passage, SmtpError> {
        match &self.outgoing {
            Some(outgoing) => outgoing.lease().await,
            None => Err(SmtpError::Unavailable(NO_SERVER.into())),
        }
    }

    fn admit(&self, octets: u64) -> Result<Grant, String> {
        let outgoing = self.outgoing.as_ref().ok_or_else(|| NO_SERVER.to_owned())?;
        outgoing.upload(octets).map_err(|error| error.to_string())
    }

    fn stopped(&self) -> Option<String> {
        if self.outgoing.is_none() { Some(NO_SERVER.into()) } else { self.pool.stopped() }
    }

    fn spent(&self) -> Option<Duration> {
        self.outgoing.as_ref().and_then(Outgoing::spent)
    }

    fn server(&self) -> &str {
        self.outgoing.as_ref().map_or("", Outgoing::server)
    }

    fn sent(&self, recipients: usize, octets: u64) {
        use crate::session::smtp::Outgoing as _;
        let Some(outgoing) = &self.outgoing else { return };
        outgoing.sent(&Reply::new(250, "2.0.0", "from the outbox"), recipients, octets);
    }

    fn most_stored(&self) -> u64 {
        self.account.append_limit()
    }

    async fn store(&self, to: Folder, message: Bytes) -> Result<(), NotFiled> {
        let flags = match to {
            Folder::Inbox => Flags::default(),
            Folder::Sent => Flags::new(SystemFlags::SEEN, []),
        };
        let append = Append { flags, date: None, body: message, memory: None };
        let stored = async {
            let name = self.name_of(to).await?;
            match to {
                Folder::Inbox => self.account.append(&name, vec![append]).await,
                Folder::Sent => self.account.file_sent(&name, append).await,
            }
        };
        stored.await.map(drop).map_err(|error| match error {
            engine::Error::TooBig { .. } | engine::Error::Cannot(_) | engine::Error::Refused { .. } => {
                NotFiled::Refused(error.to_string())
            }
            _ => NotFiled::Later(error.to_string()),
        })
    }

    async fn is_stored(&self, to: Folder, id: &str, since: SystemTime, trace: Option<&str>) -> Result<bool, String> {
        let since = since.checked_sub(CLOCKS_DIFFER).and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let since = since.map_or(0, |at| i64::try_from(at.as_secs()).unwrap_or(0));
        let look = async {
            let wanted = Filed { message_id: id, since, trace };
            self.account.is_filed(&self.name_of(to).await?, wanted).await
        };
        look.await.map_err(|error| error.to_string())
    }
}
