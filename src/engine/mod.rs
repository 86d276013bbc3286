//! An account: its mirror, its bodies, its writes.
//!
//! Layer 3. Uses upstream (to ask), store and state (to keep), message (to cut), and nothing above. Sessions see [`Account`] and
//! [`Mailbox`]; they get snapshots, never locks.
//!
//! - `account`: assembly, opening of mailboxes · `mailbox`: one mailbox's state and the handle on it
//! - `snapshot`, `mirror`: versions of a mailbox, and how one comes from another (pure)
//! - `sync/plan` (pure) and `sync/run`: bringing a mailbox in step · `watch`: what does so by itself
//! - `folders`: the list of mailboxes · `manage`: changes to it
//! - `bodies`, `recent`, `summaries`, `search`: reading · `writes`: writing
//!
//! Order of locks: a mailbox's turn, then an upstream session; never the other way round except by a watcher, which gives its session
//! back as soon as somebody waits for one. Std mutexes are held for plain assignments, never across an await (Law 4).

mod account;
mod bodies;
mod error;
mod folders;
mod mailbox;
mod manage;
mod mirror;
mod recent;
mod search;
mod snapshot;
mod summaries;
mod sync;
mod watch;
mod writes;

pub use account::{Account, Options};
pub use bodies::{Body, BodyReads};
pub use error::Error;
pub use mailbox::Mailbox;
pub use snapshot::{Snapshot, StatusData};
pub use summaries::{Summary, Want};
pub use writes::{Append, Appended, Copied, CopyMode};
