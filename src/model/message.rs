//! What the mirror keeps of every message, resident: small and fixed.

use super::{Flags, InternalDate, ModSeq, Uid};

/// One message of a mailbox as the mirror holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageMeta {
    pub uid: Uid,
    pub flags: Flags,
    /// Our own mod-sequence of the last change (RFC 7162), see [`ModSeq`].
    pub modseq: ModSeq,
    pub internal_date: InternalDate,
    /// RFC822.SIZE in octets as clients are told it. Fixed for a UID once told.
    pub size: u32,
    /// The provider's account-wide message id (X-GM-MSGID, or 64 bits made of EMAILID), 0 where there is none. One id is one body.
    pub gm_msgid: u64,
}
