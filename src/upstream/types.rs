//! What exchanges take and give: plain values, none of them the codec's.
//!
//! Everything here is what upstream said, tolerantly read; parts it did not say are `None` or empty. Mailbox names are as
//! on the wire (modified UTF-7).

use bytes::Bytes;

use super::error::Error;
use crate::model::{Flags, InternalDate, Uid, UidSet, UidValidity};

/// Whose work a lease is for. The order is the order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody waits for it.
    Interactive,
    /// A mail program that downloads everything: gives way to those who open a message.
    Bulk,
    /// Keeping the mirror in step.
    Sync,
    /// IDLE: gives way at once when anybody waits and no connection is free.
    Watch,
    /// Bodies nobody has asked for yet.
    Prefetch,
}

impl Class {
    /// Its place in the order of the queue, from 0.
    pub fn index(self) -> usize {
        match self {
            Self::Interactive => 0,
            Self::Bulk => 1,
            Self::Sync => 2,
            Self::Watch => 3,
            Self::Prefetch => 4,
        }
    }
}

/// What SELECT answered (RFC 9051 §6.3.2, RFC 7162 §3.1, §3.2.5).
#[derive(Clone, Debug, Default)]
pub struct Selected {
    /// How many messages; kept in step with what is heard later, so that asking again costs nothing.
    pub exists: u32,
    /// 0 if upstream did not say (RFC 9051: then UIDs are not kept between sessions).
    pub uid_validity: UidValidity,
    /// 0 if upstream did not say.
    pub uid_next: Uid,
    /// 0: none (NOMODSEQ or not offered).
    pub highest_modseq: u64,
    pub read_only: bool,
    pub flags: Vec<String>,
    /// As sent, `\*` included; `None` when the response code was absent (then all flags are permanent).
    pub permanent_flags: Option<Vec<String>>,
    /// QRESYNC: the VANISHED (EARLIER) that came between SELECT and its OK.
    pub vanished: UidSet,
    /// QRESYNC: the FETCH lines that came between SELECT and its OK.
    pub changed: Vec<FetchMeta>,
}

/// What a FETCH line said of one message; parts not said are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchMeta {
    /// The sequence number on the line.
    pub seq: u32,
    pub uid: Option<Uid>,
    pub flags: Option<Flags>,
    /// `None` also for the `MODSEQ (0)` and `MODSEQ (-1)` some servers write.
    pub modseq: Option<u64>,
    pub internal_date: Option<InternalDate>,
    /// Octets as announced; some providers only estimate.
    pub size: Option<u32>,
    /// X-GM-MSGID, or 64 bits of EMAILID (`answer`); never 0 where one was told.
    pub gm_msgid: Option<u64>,
}

/// What a watching or working session heard besides what it asked: hints that something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Exists(u32),
    /// A sequence number as upstream counts.
    Expunge(u32),
    Vanished(UidSet),
    Fetch(FetchMeta),
    /// NOTIFY, or unsolicited STATUS of another mailbox.
    Status(StatusLine),
    /// The list of mailboxes changed (NOTIFY).
    List,
    /// More was heard than is kept: anything may have changed.
    Overflow,
}

/// A STATUS response; items not said are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusLine {
    pub mailbox: String,
    pub messages: Option<u32>,
    pub uid_next: Option<Uid>,
    pub uid_validity: Option<UidValidity>,
    pub unseen: Option<u32>,
    pub highest_modseq: Option<u64>,
}

/// A listed name with its attributes as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListLine {
    pub attributes: Vec<String>,
    pub delimiter: Option<char>,
    pub name: String,
    /// From LSUB (or `\Subscribed`): the name is subscribed to, and tells nothing else.
    pub lsub: bool,
}

/// Pieces of a body fetch. For each message, in order: `Start`, any number of `Chunk`, `End` (once per literal asked for), then
/// `Done`. Messages come in the order upstream chooses, one after the other, never interleaved. A message upstream says
/// nothing of (it is gone, or the provider cannot produce it) has no `Done`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyEvent {
    /// `len` octets follow as chunks.
    Start {
        uid: Uid,
        what: BodyPart,
        len: u64,
    },
    Chunk(Bytes),
    /// All `len` octets are there. When the session is lost in the middle, no `End` comes.
    End,
    /// The FETCH line of this message ended; raw BODYSTRUCTURE if asked. Without `Start` before it, upstream sent NIL or no body.
    Done {
        meta: FetchMeta,
        body_structure: Option<Bytes>,
    },
}

/// What of a message is fetched, always by PEEK.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BodyPart {
    /// `BODY.PEEK[]`
    Whole,
    /// `BODY.PEEK[HEADER]`
    Header,
    /// `BODY.PEEK[…]` with this between the brackets: `1.2`, `1.2.MIME`, `2.HEADER`.
    Section(String),
}

impl BodyPart {
    /// What stands between the brackets.
    pub fn section(&self) -> &str {
        match self {
            Self::Whole => "",
            Self::Header => "HEADER",
            Self::Section(section) => section,
        }
    }
}

/// COPYUID (RFC 4315 §3): which UID became which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyUid {
    pub uid_validity: UidValidity,
    /// (source, destination), in the order upstream wrote them.
    pub pairs: Vec<(Uid, Uid)>,
}

/// What came of a COPY or MOVE, which may have gone in several commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Which UID became which, as far as upstream told.
    pub told: Option<CopyUid>,
    /// The sources of the commands that were answered OK.
    pub done: UidSet,
    /// What went wrong: the connection, else the first refusal. `None`: all was done.
    pub failed: Option<Error>,
}

impl Transfer {
    /// What was told of all of it, or what went wrong.
    pub fn whole(self) -> Result<Option<CopyUid>, Error> {
        self.failed.map_or(Ok(self.told), Err)
    }
}
