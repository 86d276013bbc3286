//! Everything that touches a socket: listening, dialling, TLS, and the one stream type both sides use.
//!
//! What it owns: [`Stream`] (plain TCP or TLS, either side), [`dial()`] and [`upgrade`] towards a provider,
//! the local certificate authority and its leaf, listeners with their connection limits, and the small list of networks that
//! may log in without TLS. It knows no mail protocol: bytes in, bytes out.
//!
//! Laws: 6 (only `upstream` and the account checks of the CLI call [`dial()`], and [`http`], which no mail goes through), 7 (nothing a peer sends panics
//! here), 8 (every wait and every number of connections has a named limit), 12 (private keys are never readable by others).

mod ca;
mod deflate;
pub mod dial;
pub(crate) mod files;
pub mod http;
mod inherited;
pub mod listener;
mod names;
pub mod networks;
mod socket;
pub mod stream;
pub mod tls;
pub mod trust;
mod unread;

pub use dial::{DialError, Target, Trust, dial, dial_tapped, upgrade};
pub use inherited::Inherited;
pub use listener::{Gate, Ticket};
pub use names::found as own_names;
pub use socket::{Tap, Way};
pub use stream::Stream;
pub use tls::TlsIdentity;
pub use unread::unread_most;
