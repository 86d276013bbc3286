//! Newtypes for the numbers IMAP deals in.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A unique identifier of a message in a mailbox (RFC 9051 §2.3.1.1). Always the upstream's own; never 0.
    Uid(u32)
}
number! {
    /// The validity of a mailbox's UIDs (RFC 9051 §2.3.1.1). Always the upstream's own; never 0.
    UidValidity(u32)
}
number! {
    /// A mod-sequence (RFC 7162). Those told to clients are ours, seeded from the wall clock; below 2^63.
    ModSeq(u64)
}
number! {
    /// A message sequence number in one client's view, from 1 (RFC 9051 §2.3.1.2).
    Seq(u32)
}
