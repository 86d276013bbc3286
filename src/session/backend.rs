//! The seam below the client protocols: what a session asks of an account, as traits.
//!
//! The methods mirror [`crate::engine`]'s one by one; the data they carry are the engine's own types. Three things stand
//! behind this seam: the real engine (`engine_backend.rs`, calls handed on and nothing else), the simulated provider of
//! `mailweir demo`, and the in-memory account of the tests. Sessions are generic over it, so a call costs no box and no
//! virtual dispatch.
//!
//! Every future is `Send`: sessions run as tasks of a multi-threaded runtime. A future that is dropped (the client went
//! away) must leave the account consistent; a write that was handed over may still take place.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::engine::{Append, Appended, Copied, CopyMode, Error, Record, Snapshot, StatusData, Summary, Want};
use crate::model::{Arrivals, FlagOp, Flags, Folders, ModSeq, Role, Section, Uid, UidSet};

/// An account as a session sees it after login. Cheap to clone.
pub trait Account: Clone + Send + Sync + 'static {
    type Mailbox: Mailbox;

    /// The account's address, for logs and the ID of things.
    fn address(&self) -> &str;
    /// What the account's owner must know and do; shown by every mail program once (`[ALERT]`, RFC 9051 §7.1).
    fn alert(&self) -> Option<Arc<str>> {
        None
    }
    /// What a person should be told of the account as a whole now: what waits for him, what is spent; `None` when all is well.
    fn notice(&self) -> Option<String> {
        None
    }
    /// The client has said which program it is (RFC 2971).
    fn name_program(&self, _program: &str) {}
    /// The mailboxes; immediate but for the very first time.
    fn folders(&self) -> impl Future<Output = Result<Arc<Folders>, Error>> + Send;
    /// Whether messages can be put into a mailbox of this name. Before it says no the mailboxes are listed anew: it may have been made
    /// a moment ago, elsewhere.
    fn takes_messages(&self, name: &str) -> impl Future<Output = Result<bool, Error>> + Send {
        async move { Ok(self.folders().await?.find(name).is_some_and(|folder| !folder.noselect)) }
    }
    /// Opens a mailbox for SELECT or EXAMINE.
    fn open(&self, name: &str) -> impl Future<Output = Result<Self::Mailbox, Error>> + Send;
    /// The same without a look at upstream where the mirror has the mailbox already: for POP3, whose clients connect every minute.
    fn open_mirrored(&self, name: &str) -> impl Future<Output = Result<Self::Mailbox, Error>> + Send {
        self.open(name)
    }
    fn status(&self, name: &str) -> impl Future<Output = Result<StatusData, Error>> + Send;
    fn create(&self, name: &str, role: Option<Role>) -> impl Future<Output = Result<(), Error>> + Send;
    fn delete(&self, name: &str) -> impl Future<Output = Result<(), Error>> + Send;
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = Result<(), Error>> + Send;
    fn subscribe(&self, name: &str, on: bool) -> impl Future<Output = Result<(), Error>> + Send;
    /// Uploads messages in order; `[APPENDUID]` data when known.
    fn append(
        &self,
        mailbox: &str,
        messages: Vec<Append>,
    ) -> impl Future<Output = Result<Option<Appended>, Error>> + Send;
    /// Largest message APPEND takes, octets.
    fn append_limit(&self) -> u64;
    /// Untagged QUOTA lines without `* ` and CRLF.
    fn quota(&self, root: &str) -> impl Future<Output = Result<Vec<Bytes>, Error>> + Send;
    /// Untagged QUOTAROOT and QUOTA lines without `* ` and CRLF.
    fn quota_root(&self, mailbox: &str) -> impl Future<Output = Result<Vec<Bytes>, Error>> + Send;
    /// Whether QUOTA is advertised.
    fn offers_quota(&self) -> bool;
    /// Whether a MOVE is one command of the provider's, and not COPY and EXPUNGE.
    fn has_move(&self) -> bool {
        true
    }
}

/// A mailbox a session has selected. Cheap to clone; the last drop ends the interest.
pub trait Mailbox: Clone + Send + Sync + 'static {
    type Reads: BodyReads;

    fn snapshot(&self) -> Arc<Snapshot>;
    /// What clients call it now.
    fn name(&self) -> String {
        self.snapshot().name.to_string()
    }
    /// Wakes when a newer snapshot is there.
    fn watch(&self) -> watch::Receiver<Arc<Snapshot>>;
    /// Which messages no session has been told of; `None` where nobody keeps account of it, and nothing is `\Recent`.
    fn arrivals(&self) -> Option<&Arrivals> {
        None
    }
    /// Held while a client waits for news of this mailbox (IDLE): where upstream does not tell by itself, it is asked more often.
    fn attend(&self) -> Box<dyn Send + Sync> {
        Box::new(())
    }
    /// What vanished after `since`; `None` if the log does not reach back so far.
    fn vanished_since(&self, since: ModSeq) -> Option<UidSet>;
    /// Envelope, structure and header of at most [`SUMMARY_BATCH`] messages, in the order asked.
    fn summaries(&self, uids: &[Uid], want: Want) -> impl Future<Output = Vec<Result<Arc<Summary>, Error>>> + Send;
    /// Whole messages in the order given.
    fn read(&self, uids: Vec<Uid>) -> Self::Reads;
    /// Sections of one large message without the whole of it, in the order asked; `None` where they are to be cut from the whole
    /// ([`Self::read`]).
    fn parts(
        &self,
        _uid: Uid,
        _sections: &[Section],
    ) -> impl Future<Output = Result<Option<Vec<Bytes>>, Error>> + Send {
        std::future::ready(Ok(None))
    }
    /// STORE; gives the UIDs that failed UNCHANGEDSINCE. When it returns, the newest snapshot holds the new flags.
    fn store(
        &self,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> impl Future<Output = Result<UidSet, Error>> + Send;
    /// EXPUNGE of everything `\Deleted` (`None`) or of those of a set. When it returns, the newest snapshot lacks them.
    fn expunge(&self, uids: Option<&UidSet>) -> impl Future<Output = Result<(), Error>> + Send;
    /// COPY or MOVE; `None` when upstream gave no COPYUID.
    fn copy(
        &self,
        uids: &UidSet,
        to: &str,
        mode: CopyMode,
    ) -> impl Future<Output = Result<Option<Copied>, Error>> + Send;
    /// Which of `within` have `needle` (UTF-8, without regard to case) in header and body, or in the body only.
    fn search_text(
        &self,
        within: &UidSet,
        needle: &[u8],
        body_only: bool,
    ) -> impl Future<Output = Result<UidSet, Error>> + Send;
    /// Tells the audit trail of what the session has done with messages by itself (POP3's hiding).
    fn audit(
        &self,
        _action: &'static str,
        _uids: &UidSet,
        _tell: impl FnOnce(&mut Record) + Send,
    ) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
    /// Looks upstream if nobody watches it and nobody has looked lately.
    fn refresh(&self) -> impl Future<Output = Result<(), Error>> + Send;
    /// Makes sure that a change is resolved against messages as they are: what the mirror had kept on disk has been held against upstream,
    /// and UIDs up to `named` are known if they exist. Without it a change to a message the mirror has not seen yet, or not again after a
    /// crash, would be answered OK and not be made.
    fn ready_to_change(&self, _named: u32) -> impl Future<Output = Result<(), Error>> + Send {
        std::future::ready(Ok(()))
    }
    /// Octets that RETR sends of messages of which RFC822.SIZE tells another number, as far as they are known.
    fn octets(&self) -> Arc<HashMap<Uid, u32>> {
        Arc::default()
    }
    /// What RETR has just sent of a message, for [`Self::octets`].
    fn note_octets(&self, _uid: Uid, _octets: u64) {}
    /// What Gmail's extension tells of a message; asked only where the server's profile offers it.
    fn gmail(&self, _uid: Uid) -> Gmail {
        Gmail::default()
    }
}

/// X-GM-THRID and X-GM-LABELS of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gmail {
    pub thread: u64,
    /// Without the label of the mailbox it was asked in; system labels begin with a backslash.
    pub labels: Vec<String>,
}

/// Most messages one [`Mailbox::summaries`] call names: the store's batch, and few enough that the first answer of a long
/// FETCH leaves at once.
pub const SUMMARY_BATCH: usize = 64;

/// A message up to this many octets has no [`Mailbox::parts`].
pub const PARTS_ABOVE: u32 = crate::engine::WHOLE_UP_TO;

/// Reads of whole messages, in order.
pub trait BodyReads: Send {
    type Body: Body;

    /// The next message, `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<(Uid, Result<Self::Body, Error>)>> + Send;
}

/// A raw message, whole or still arriving.
#[expect(clippy::len_without_is_empty, reason = "mirrors the engine; nothing here asks whether a message is empty")]
pub trait Body: Send + Sync {
    /// Octets, known before the last one is here.
    fn len(&self) -> u64;
    /// All of it; waits until it has arrived.
    fn whole(&self) -> impl Future<Output = Result<Bytes, Error>> + Send;
    /// `count` octets from `start` on, as soon as these are here; shorter at the end. Instead of `chunk`, not after it.
    fn range(&mut self, start: u64, count: u64) -> impl Future<Output = Result<Bytes, Error>> + Send {
        async move {
            let whole = self.whole().await?;
            let within = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(whole.len());
            Ok(whole.slice(within(start)..within(start.saturating_add(count))))
        }
    }
    /// The next piece as it arrives, `None` after `len()` octets.
    fn chunk(&mut self) -> impl Future<Output = Option<Result<Bytes, Error>>> + Send;
}
