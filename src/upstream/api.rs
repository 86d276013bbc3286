//! CONTRACT STUB: what the engine asks of upstream.
#![allow(unused_variables, clippy::unused_async, missing_docs, dead_code)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::model::*;

/// Ordered by whose fault. `connection_usable()` and `retry()` tell what the pool and engine do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Tagged NO (or BAD): the session stays usable. `code` without brackets.
    #[error("upstream refused: {text}")]
    No { code: Option<String>, text: String, bad: bool },
    /// Connection lost, reset, EOF, BYE, time-out. `sent`: whether the command may have reached upstream (Law 11).
    #[error("upstream connection lost: {reason}")]
    Lost { reason: String, sent: bool },
    /// Upstream out of reach or backing off; `until` says how long at most.
    #[error("upstream unavailable: {reason}")]
    Unavailable { reason: String, retry_after: Duration },
    /// Login refused, web login required, …: does not retry fast; needs the user. Plain words.
    #[error("upstream login failed: {0}")]
    Login(String),
    /// A budget of ours is spent.
    #[error("budget: {0}")]
    Budget(String),
    /// Framing broke or upstream spoke nonsense; session closed.
    #[error("protocol: {0}")]
    Protocol(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Somebody waits.
    Interactive,
    Sync,
    /// IDLE: gives way at once when anybody waits and no connection is free.
    Watch,
    Prefetch,
}

/// Capabilities after login, by name (upper case), plus quirks of the provider preset.
#[derive(Clone, Debug, Default)]
pub struct Caps {
    pub names: std::collections::BTreeSet<String>,
}
impl Caps {
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// At most `limits.connections` sessions of one account; logins paced; sessions kept.
#[derive(Clone)]
pub struct Pool {
    _private: Arc<()>,
}

impl Pool {
    /// A session, preferably with `mailbox` selected already (then no SELECT is needed). Waits its turn by class; fails with
    /// Unavailable while backing off. Interactive waits at most 30 s or so.
    pub async fn lease(&self, class: Class, mailbox: Option<&str>) -> Result<Lease, Error> {
        todo!()
    }
    /// Capabilities seen at the last login.
    pub fn caps(&self) -> Option<Arc<Caps>> {
        todo!()
    }
    /// Close everything (LOGOUT, bounded).
    pub async fn shutdown(&self) {
        todo!()
    }
    /// Wake from backoff now (network came back, user asks).
    pub fn kick(&self) {}
}

/// An upstream session on loan; dropping gives it back (a broken one is closed; a command cut short by a cancelled future also
/// breaks it, unless its tagged answer was seen).
pub struct Lease {
    _private: (),
}

/// What SELECT/EXAMINE answered.
#[derive(Clone, Debug, Default)]
pub struct Selected {
    pub exists: u32,
    pub uid_validity: UidValidity,
    /// 0 if upstream did not say.
    pub uid_next: Uid,
    /// 0: none (NOMODSEQ or not offered).
    pub highest_modseq: u64,
    pub read_only: bool,
    pub flags: Vec<String>,
    /// As sent, `\*` included; empty vec when the response was absent -> None.
    pub permanent_flags: Option<Vec<String>>,
    /// QRESYNC: what came between SELECT and its OK.
    pub vanished: UidSet,
    pub changed: Vec<FetchMeta>,
}

/// What a FETCH line said of one message; parts not said are None.
#[derive(Clone, Debug, Default)]
pub struct FetchMeta {
    /// The sequence number on the line.
    pub seq: u32,
    pub uid: Option<Uid>,
    pub flags: Option<Flags>,
    pub modseq: Option<u64>,
    pub internal_date: Option<InternalDate>,
    pub size: Option<u32>,
    pub gm_msgid: Option<u64>,
}

/// What a watching or working session heard besides what it asked: hints that the mailbox changed.
#[derive(Clone, Debug)]
pub enum Event {
    Exists(u32),
    Expunge(u32),
    Vanished(UidSet),
    Fetch(FetchMeta),
    /// NOTIFY / unsolicited STATUS of another mailbox.
    Status(StatusLine),
    /// Folder list changed (NOTIFY LIST).
    List,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusLine {
    pub mailbox: String,
    pub messages: Option<u32>,
    pub uid_next: Option<Uid>,
    pub uid_validity: Option<UidValidity>,
    pub unseen: Option<u32>,
    pub highest_modseq: Option<u64>,
}

/// A listed name, raw attributes.
#[derive(Clone, Debug)]
pub struct ListLine {
    pub attributes: Vec<String>,
    pub delimiter: Option<char>,
    pub name: String,
    pub lsub: bool,
}

/// Pieces of a body fetch, in order: Meta of the message (uid known), Start{len}, Chunk.., End; or Missing.
pub enum BodyEvent {
    Start {
        uid: Uid,
        what: BodyPart,
        len: u64,
    },
    Chunk(Bytes),
    End,
    /// The FETCH line of this message ended; raw BODYSTRUCTURE if asked.
    Done {
        meta: FetchMeta,
        body_structure: Option<Bytes>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPart {
    Whole,
    Header,
}

#[derive(Clone, Debug, Default)]
pub struct CopyUid {
    pub uid_validity: UidValidity,
    pub pairs: Vec<(Uid, Uid)>,
}

impl Lease {
    pub fn caps(&self) -> &Caps {
        todo!()
    }
    /// The mailbox selected now, with what SELECT said.
    pub fn selected(&self) -> Option<(&str, &Selected)> {
        todo!()
    }
    /// Unsolicited data seen since the last call (bounded; overflow is told as one `Event::Exists(0)`-like `None`: "anything may have changed").
    pub fn take_events(&mut self) -> Vec<Event> {
        todo!()
    }
    /// Resolves when somebody waits and the pool has no free connection (a Watch lease then ends IDLE and gives back).
    pub async fn wanted(&mut self) {
        todo!()
    }
    pub async fn list(&mut self) -> Result<Vec<ListLine>, Error> {
        todo!()
    }
    pub async fn namespace_prefix(&mut self) -> Result<(String, Option<char>), Error> {
        todo!()
    }
    /// STATUS of one mailbox (asks HIGHESTMODSEQ only if CONDSTORE).
    pub async fn status(&mut self, mailbox: &str) -> Result<StatusLine, Error> {
        todo!()
    }
    /// LIST "" "*" RETURN (STATUS (...)) in one go; only with LIST-STATUS.
    pub async fn list_status(&mut self) -> Result<Vec<StatusLine>, Error> {
        todo!()
    }
    /// SELECT, with (CONDSTORE) where offered, or (QRESYNC (validity modseq)) where `qresync` is given and offered.
    /// No-op returning the old answer when the mailbox is selected already and `qresync` is None.
    pub async fn select(&mut self, mailbox: &str, qresync: Option<(UidValidity, u64)>) -> Result<Selected, Error> {
        todo!()
    }
    pub async fn close_mailbox(&mut self) -> Result<(), Error> {
        todo!()
    }
    /// UID FETCH set (UID FLAGS [MODSEQ] [INTERNALDATE RFC822.SIZE] [X-GM-MSGID]) [(CHANGEDSINCE n [VANISHED])]; each line to `sink` as it comes.
    /// Returns what VANISHED (EARLIER) said.
    pub async fn fetch_meta(
        &mut self,
        set: &str,
        full: bool,
        changed_since: Option<u64>,
        sink: &mut (dyn FnMut(FetchMeta) + Send),
    ) -> Result<UidSet, Error> {
        todo!()
    }
    /// All UIDs: ESEARCH RETURN (ALL) where offered, else UID SEARCH ALL.
    pub async fn search_uids(&mut self) -> Result<UidSet, Error> {
        todo!()
    }
    /// UID SEARCH with a ready-made program (bytes after `UID SEARCH `, may hold literals).
    pub async fn search(&mut self, program: &[u8]) -> Result<UidSet, Error> {
        todo!()
    }
    /// UID FETCH of whole messages or headers (with BODYSTRUCTURE if asked), streamed. `sink` is awaited so that it can push back.
    pub async fn fetch_bodies(
        &mut self,
        uids: &UidSet,
        part: BodyPart,
        structure: bool,
        sink: &mut (dyn FnMut(BodyEvent) + Send),
    ) -> Result<(), Error> {
        todo!()
    }
    /// UID STORE; FETCH lines (flags, modseq) to the result; and the [MODIFIED] set.
    pub async fn store(
        &mut self,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<u64>,
    ) -> Result<(Vec<FetchMeta>, UidSet), Error> {
        todo!()
    }
    pub async fn copy(&mut self, uids: &UidSet, to: &str) -> Result<Option<CopyUid>, Error> {
        todo!()
    }
    /// UID MOVE, only with MOVE. Also what was expunged (VANISHED or EXPUNGE are in take_events).
    pub async fn move_to(&mut self, uids: &UidSet, to: &str) -> Result<Option<CopyUid>, Error> {
        todo!()
    }
    /// UID EXPUNGE with UIDPLUS, else EXPUNGE only when `all` says that is meant.
    pub async fn uid_expunge(&mut self, uids: &UidSet) -> Result<(), Error> {
        todo!()
    }
    pub async fn expunge(&mut self) -> Result<(), Error> {
        todo!()
    }
    /// APPEND; (uidvalidity, uid) from APPENDUID.
    pub async fn append(
        &mut self,
        mailbox: &str,
        flags: &Flags,
        date: Option<InternalDate>,
        body: &Bytes,
    ) -> Result<Option<(UidValidity, Uid)>, Error> {
        todo!()
    }
    pub async fn create(&mut self, mailbox: &str, role: Option<Role>) -> Result<(), Error> {
        todo!()
    }
    pub async fn delete(&mut self, mailbox: &str) -> Result<(), Error> {
        todo!()
    }
    pub async fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        todo!()
    }
    pub async fn subscribe(&mut self, mailbox: &str, on: bool) -> Result<(), Error> {
        todo!()
    }
    /// GETQUOTA / GETQUOTAROOT: raw untagged lines.
    pub async fn quota(&mut self, root: &str) -> Result<Vec<Bytes>, Error> {
        todo!()
    }
    pub async fn quota_root(&mut self, mailbox: &str) -> Result<Vec<Bytes>, Error> {
        todo!()
    }
    pub async fn noop(&mut self) -> Result<(), Error> {
        todo!()
    }
    /// NOTIFY SET … for selected and personal mailboxes (only with NOTIFY).
    pub async fn notify(&mut self) -> Result<(), Error> {
        todo!()
    }
    /// IDLE until something is heard (returned), `wanted` resolves, or `renew` is over. Dead peers noticed by a read time-out after DONE.
    pub async fn idle(&mut self, renew: Duration) -> Result<Vec<Event>, Error> {
        todo!()
    }
}
