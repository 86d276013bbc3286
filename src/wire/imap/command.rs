//! What a client may ask, as types. The parser is [`super::parse`]; the codec's types end there.
//!
//! Mailbox names are as on the wire (modified UTF-7), `INBOX` in capitals; text arguments are raw bytes.

use crate::model::{FlagOp, Flags, InternalDate, ModSeq, Role, Section, SequenceSet, UidSet, UidValidity};
use crate::secret::Secret;

/// A command with the tag its answer carries.
#[derive(Debug)]
pub struct Tagged {
    pub tag: String,
    pub command: Command,
}

/// A client command (RFC 9051 §6 and the extensions named at the variants).
#[derive(Debug)]
pub enum Command {
    Capability,
    Noop,
    Logout,
    /// RFC 2971; `None` for `NIL`.
    Id(Option<Vec<(String, Option<String>)>>),
    Starttls,
    Authenticate {
        mechanism: String,
        /// SASL-IR (RFC 4959), already base64-decoded; `=` is the empty response.
        initial: Option<Secret>,
    },
    Login {
        user: Vec<u8>,
        password: Secret,
    },
    /// RFC 5161, the names in capitals.
    Enable(Vec<String>),
    Namespace,
    Select(Select),
    Create {
        mailbox: String,
        /// CREATE-SPECIAL-USE (RFC 6154 §3).
        role: Option<Role>,
    },
    Delete(String),
    Rename {
        from: String,
        to: String,
    },
    Subscribe(String),
    Unsubscribe(String),
    List(List),
    Status {
        mailbox: String,
        items: Vec<StatusItem>,
    },
    Idle,
    Check,
    Close,
    Unselect,
    Expunge,
    /// RFC 4315.
    UidExpunge(SequenceSet),
    Fetch(Fetch),
    Store(Store),
    Copy {
        numbers: Numbers,
        mailbox: String,
    },
    /// RFC 6851.
    Move {
        numbers: Numbers,
        mailbox: String,
    },
    Search(Search),
    /// RFC 5256.
    Sort(Sort),
    /// RFC 5256.
    Thread(Thread),
    /// RFC 9208.
    GetQuota(String),
    GetQuotaRoot(String),
}

impl Command {
    /// The command's name as metrics and logs tell it (`UID FETCH` is `FETCH`).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Capability => "CAPABILITY",
            Self::Noop => "NOOP",
            Self::Logout => "LOGOUT",
            Self::Id(_) => "ID",
            Self::Starttls => "STARTTLS",
            Self::Authenticate { .. } => "AUTHENTICATE",
            Self::Login { .. } => "LOGIN",
            Self::Enable(_) => "ENABLE",
            Self::Namespace => "NAMESPACE",
            Self::Select(select) if select.read_only => "EXAMINE",
            Self::Select(_) => "SELECT",
            Self::Create { .. } => "CREATE",
            Self::Delete(_) => "DELETE",
            Self::Rename { .. } => "RENAME",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::List(list) => match list.kind {
                ListKind::List => "LIST",
                ListKind::Lsub => "LSUB",
                ListKind::Xlist => "XLIST",
            },
            Self::Status { .. } => "STATUS",
            Self::Idle => "IDLE",
            Self::Check => "CHECK",
            Self::Close => "CLOSE",
            Self::Unselect => "UNSELECT",
            Self::Expunge | Self::UidExpunge(_) => "EXPUNGE",
            Self::Fetch(_) => "FETCH",
            Self::Store(_) => "STORE",
            Self::Copy { .. } => "COPY",
            Self::Move { .. } => "MOVE",
            Self::Search(_) => "SEARCH",
            Self::Sort(_) => "SORT",
            Self::Thread(_) => "THREAD",
            Self::GetQuota(_) => "GETQUOTA",
            Self::GetQuotaRoot(_) => "GETQUOTAROOT",
        }
    }
}

/// A set of sequence numbers, or of UIDs in the `UID` form of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub set: SequenceSet,
    pub uid: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    pub mailbox: String,
    /// EXAMINE.
    pub read_only: bool,
    /// `(CONDSTORE)` (RFC 7162 §3.1.8).
    pub condstore: bool,
    pub qresync: Option<Qresync>,
}

/// The QRESYNC parameter of SELECT (RFC 7162 §3.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qresync {
    pub uid_validity: UidValidity,
    pub modseq: ModSeq,
    /// The UIDs the client knows; all below UIDNEXT when it does not say.
    pub known: Option<UidSet>,
    /// Sequence numbers and the UIDs the client believes they have, of equal length, in order.
    pub matches: Option<(UidSet, UidSet)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    List,
    Lsub,
    /// The forerunner of SPECIAL-USE that old Gmail-aware clients send.
    Xlist,
}

/// LIST with everything RFC 5258, RFC 5819 and RFC 6154 add, LSUB and XLIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    pub kind: ListKind,
    pub reference: String,
    pub patterns: Vec<String>,
    pub select: ListSelect,
    pub returns: ListReturn,
    /// Whether the extended syntax was used (RFC 5258 answers differ in details).
    pub extended: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSelect {
    pub subscribed: bool,
    pub remote: bool,
    pub recursive_match: bool,
    pub special_use: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListReturn {
    pub subscribed: bool,
    pub children: bool,
    pub special_use: bool,
    /// LIST-STATUS; empty when not asked.
    pub status: Vec<StatusItem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    HighestModSeq,
    /// RFC 8438.
    Size,
    /// RFC 9051 §6.3.11.
    Deleted,
    /// RFC 7889.
    AppendLimit,
}

impl StatusItem {
    /// The item as STATUS asks for it and answers with it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
            Self::HighestModSeq => "HIGHESTMODSEQ",
            Self::Size => "SIZE",
            Self::Deleted => "DELETED",
            Self::AppendLimit => "APPENDLIMIT",
        }
    }
}

/// FETCH or UID FETCH. Macros (ALL, FAST, FULL) are already expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub numbers: Numbers,
    pub items: Vec<FetchItem>,
    /// RFC 7162 §3.1.4.1; 0 is accepted (iOS sends it).
    pub changed_since: Option<ModSeq>,
    /// RFC 7162 §3.2.6, only with UID FETCH and CHANGEDSINCE.
    pub vanished: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    Uid,
    Flags,
    InternalDate,
    Rfc822Size,
    ModSeq,
    Envelope,
    /// BODY without a section: the structure without extension data.
    Body,
    BodyStructure,
    /// RFC822: answered under this name, sets \Seen.
    Rfc822,
    Rfc822Header,
    Rfc822Text,
    /// RFC822.PEEK, which old Outlook sends: like BODY.PEEK[], answered as `RFC822`.
    Rfc822Peek,
    /// `BODY[section]<partial>` or `BODY.PEEK[…]`.
    Section(BodySection),
    /// X-GM-MSGID, X-GM-THRID and X-GM-LABELS: Gmail's X-GM-EXT-1, which a server may refuse.
    GmMsgId,
    GmThrId,
    GmLabels,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodySection {
    pub section: Section,
    /// First octet and at most how many.
    pub partial: Option<(u32, u32)>,
    pub peek: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub numbers: Numbers,
    pub op: FlagOp,
    pub silent: bool,
    pub flags: Flags,
    /// RFC 7162 §3.1.3.
    pub unchanged_since: Option<ModSeq>,
}

/// SEARCH or UID SEARCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    pub uid: bool,
    /// ESEARCH (RFC 4731): `None` for a plain SEARCH; `RETURN ()` is `all` alone.
    pub returns: Option<SearchReturn>,
    /// In capitals.
    pub charset: Option<String>,
    pub key: SearchKey,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchReturn {
    pub min: bool,
    pub max: bool,
    pub all: bool,
    pub count: bool,
    /// RFC 5182.
    pub save: bool,
}

/// SORT or UID SORT (RFC 5256 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    pub uid: bool,
    /// The first decides; true asks for the reverse.
    pub criteria: Vec<(SortKey, bool)>,
    /// In capitals.
    pub charset: String,
    pub key: SearchKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    Arrival,
    Cc,
    Date,
    From,
    Size,
    Subject,
    To,
}

/// THREAD or UID THREAD (RFC 5256 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub uid: bool,
    pub algorithm: ThreadAlgorithm,
    /// In capitals.
    pub charset: String,
    pub key: SearchKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadAlgorithm {
    OrderedSubject,
    References,
}

/// A search key (RFC 9051 §6.4.4, RFC 3501 §6.4.4, RFC 7162, RFC 5032). Strings are in the command's charset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchKey {
    All,
    Sequence(SequenceSet),
    Uid(SequenceSet),
    /// `$`, the saved result.
    Saved,
    /// ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, KEYWORD x: one flag that must be set.
    Flag(Flags),
    Recent,
    /// NEW is RECENT UNSEEN; OLD is NOT RECENT.
    New,
    Old,
    /// BCC, CC, FROM, SUBJECT, TO and HEADER: name and substring; an empty substring asks for presence.
    Header(String, Vec<u8>),
    Body(Vec<u8>),
    Text(Vec<u8>),
    /// Days since 1970-01-01 (see `InternalDate::local_day`).
    Before(i64),
    On(i64),
    Since(i64),
    SentBefore(i64),
    SentOn(i64),
    SentSince(i64),
    Larger(u32),
    Smaller(u32),
    ModSeq(ModSeq),
    /// Seconds.
    Older(u32),
    Younger(u32),
    Not(Box<Self>),
    Or(Box<Self>, Box<Self>),
    And(Vec<Self>),
}

/// The part of APPEND in front of a message literal (RFC 9051 §6.3.12; RFC 3502 repeats flags, date and literal).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendHead {
    pub flags: Flags,
    pub date: Option<InternalDate>,
}
