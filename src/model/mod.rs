//! The vocabulary every layer shares: identifiers, flags, sets of UIDs, messages and mailboxes.
//!
//! Layer 0: std only, no I/O, no clock. Values are what the RFCs define; nothing here knows how they are
//! written on a wire or kept in a store.

mod arrivals;
mod date;
mod flags;
mod folder;
mod ids;
mod message;
mod pages;
mod section;
mod uidset;
mod unique;

pub use arrivals::Arrivals;
pub use date::InternalDate;
pub use flags::{FlagOp, Flags, Keyword, SystemFlags};
pub use folder::{Folder, Folders, Role};
pub use ids::{ModSeq, Seq, Uid, UidValidity};
pub use message::MessageMeta;
pub use pages::{Change, Page, Pages, PagesDelta};
pub use section::{Section, SectionText};
pub use uidset::{SequenceSet, UidSet};
pub use unique::UniqueId;
