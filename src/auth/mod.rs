//! Who may come in, and how we come in elsewhere: the local logins of mail programs, OAuth 2 towards providers.
//!
//! What it owns: checking a user name and password against the configuration's accounts, remembering that a
//! password was right, and slowing those who guess; and ([`oauth`]) consents and access tokens.
//!
//! No connection upstream is needed for a client to log in. Laws: 8 (tables and waits bounded), 12 (no password, and no user name
//! that is not an account's, reaches a log: people type passwords into the wrong field).

mod local;
pub mod oauth;
mod slow;

pub use local::{LocalLogins, Login, LoginError, SetupError};
pub(crate) use slow::Delays;
