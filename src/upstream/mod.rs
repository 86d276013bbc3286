//! The provider's side: a pool of IMAP sessions of one account, and the exchanges they make.
//!
//! The way of a command: [`Pool::lease`] lends a [`Session`] when its [`Class`] has its turn; a method of it (`exchange/<command>.rs`)
//! builds a `Line`, `Session::run` frames, sends and reads it; the values of [`types`](self::FetchMeta) come back. What upstream says
//! unasked is kept as bounded [`Event`]s. What the provider's words mean for the account is decided in one place (`words`), and
//! when it may be bothered again in another (`gate`).
//!
//! Layer 2. Uses wire, net, model and secret below it; budget and metrics are met through [`Permits`] and [`Meter`]. Laws:
//! 6 (only this layer dials a mail server), 7 (bytes from the network never panic), 8 (every wait has a limit), 11 ([`Error::Lost`] tells
//! whether the command may have reached upstream), 12 (credentials are never shown).

mod answer;
mod caps;
mod config;
mod error;
mod events;
mod exchange;
mod gate;
mod lease;
mod line;
mod login;
mod pool;
mod queue;
mod session;
pub mod smtp;
mod types;
mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use caps::Caps;
pub use config::{
    CONNECT_TIMEOUT, Config, Credentials, DEFAULT_LINE_LIMIT, Dial, Meter, Outcome, Pacing, Permit, Permits, Quirks,
    TokenFault, Tokens,
};
pub use error::{Error, Retry};
pub use exchange::{Items, POLL_INTERVAL};
pub use gate::backoff;
pub use lease::Lease;
pub use pool::{Blocked, Pool, Standing, Waits};
pub use session::{READ_TIMEOUT, Session};
pub use types::{BodyEvent, BodyPart, Class, CopyUid, Event, FetchMeta, ListLine, Selected, StatusLine, Transfer};
pub use words::{Meaning, Place, meaning};
