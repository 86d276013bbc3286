//! One version of one mailbox, immutable and shared.

use std::sync::Arc;
use std::sync::OnceLock;

use crate::model::{Flags, Keyword, ModSeq, Pages, SystemFlags, Uid, UidValidity};

/// What a session reads. Cheap to hold and to compare (`messages.same`); a change makes a new one.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub name: Arc<str>,
    pub uid_validity: UidValidity,
    pub uid_next: Uid,
    /// At least the greatest mod-sequence of any message and of any expunge.
    pub highest_modseq: ModSeq,
    pub messages: Pages,
    /// Keywords known in the mailbox, for the FLAGS response.
    pub keywords: Arc<[Keyword]>,
    /// What a client may change for good (PERMANENTFLAGS); `None`: everything, and new keywords.
    pub permanent: Option<Flags>,
    pub read_only: bool,
    /// Deleted, renamed or given a new UIDVALIDITY: sessions that have it selected end with BYE.
    pub dead: bool,
    /// Counted when first asked.
    pub(crate) counts: OnceLock<Counts>,
}

/// What STATUS tells, all from the mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusData {
    pub messages: u32,
    /// Of these no session has been told ([`crate::model::Arrivals`]); 0 where nobody keeps account of it.
    pub recent: u32,
    pub uid_next: Uid,
    pub uid_validity: UidValidity,
    pub unseen: u32,
    pub deleted: u32,
    pub highest_modseq: ModSeq,
    /// Sum of RFC822.SIZE, octets (RFC 8438).
    pub size: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    unseen: u32,
    deleted: u32,
    size: u64,
}

impl Snapshot {
    /// A mailbox with nothing known of it.
    pub fn empty(name: Arc<str>) -> Self {
        Self {
            name,
            uid_validity: UidValidity(0),
            uid_next: Uid(1),
            highest_modseq: ModSeq(1),
            messages: Pages::default(),
            keywords: Arc::new([]),
            permanent: None,
            read_only: false,
            dead: false,
            counts: OnceLock::new(),
        }
    }

    pub fn status(&self) -> StatusData {
        let counts = self.counts.get_or_init(|| {
            let mut counts = Counts::default();
            for message in self.messages.iter() {
                counts.unseen += u32::from(!message.flags.has(SystemFlags::SEEN));
                counts.deleted += u32::from(message.flags.has(SystemFlags::DELETED));
                counts.size += u64::from(message.size);
            }
            counts
        });
        StatusData {
            messages: self.messages.len(),
            recent: 0,
            uid_next: self.uid_next,
            uid_validity: self.uid_validity,
            unseen: counts.unseen,
            deleted: counts.deleted,
            highest_modseq: self.highest_modseq,
            size: counts.size,
        }
    }
}
