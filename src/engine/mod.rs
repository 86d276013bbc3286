//! An account: its mirror, its bodies, its writes.
//!
//! Layer 3. Uses upstream (to ask), store and state (to keep), message (to cut), and nothing above. Sessions see [`Account`] and
//! [`Mailbox`]; they get snapshots, never locks.
//!
//! - `account`: assembly, opening of mailboxes · `mailbox`: one mailbox's state · `selected`: the handle on it · `vanished`:
//!   what went
//! - `snapshot`, `mirror`: versions of a mailbox, and how one comes from another (pure)
//! - `sync/plan` (pure) and `sync/run`: bringing a mailbox in step · `looks`: looks shared by all who want one · `watch`,
//!   `watcher`: what does so by itself · `woke`: after a sleep of the machine
//! - `cache`: the store, and another one when it fails
//! - `folders`: the list of mailboxes · `manage`: changes to it · `names`: English ones, if wanted
//! - `keywords`: those upstream does not keep · `disk`: calls on it, and what is wrong with it · `audit`: what takes
//!   mail away, told
//! - `bodies`, `summaries`, `search`: reading · `recent`: bodies kept in memory · `parts`: sections of large messages · `flight`,
//!   `download`: bodies on their way from upstream · `stored`: large ones on their way from disk · `writes`: writing · `allowance`:
//!   what reading and writing may spend · `progress`: what is told of all this
//!
//! Order of locks: a mailbox's turn, then an upstream session. The other way round only by who gives its session back as soon as somebody
//! waits for one: a watcher, and a look in the background (`Inner::look_behind` says why nobody waits for ever). Std mutexes are held
//! for plain assignments, never across an await (Law 4).

mod account;
mod allowance;
mod appetite;
mod audit;
mod bodies;
mod cache;
mod disk;
mod download;
mod error;
mod flight;
mod folders;
mod held;
mod keywords;
mod looks;
mod mailbox;
mod manage;
mod mirror;
mod names;
mod parts;
mod progress;
mod recent;
mod search;
mod selected;
mod snapshot;
mod stored;
mod summaries;
mod sync;
#[cfg(test)]
mod tests;
mod vanished;
mod watch;
mod watcher;
mod woke;
mod writes;

pub use account::{Account, Disk, Options};
pub use allowance::{Allowance, Grant, Unlimited};
pub use audit::{Audit, Client, Outcome, Record};
pub use bodies::{Body, BodyReads};
pub use cache::Cache;
pub use error::Error;
pub use parts::WHOLE_UP_TO;
pub use progress::{Overview, Progress, Reads};
pub use selected::Mailbox;
pub use snapshot::{Snapshot, StatusData};
pub use summaries::{Summary, Want};
pub use sync::window::YAHOO as YAHOO_WINDOW;
pub use writes::{Append, Appended, Copied, CopyMode, Filed, Unsent};
