//! OAuth 2 towards providers: consent had once, access tokens had from then on (RFC 6749, 7636, 8252, 8628).
//!
//! - [`Server`] speaks with the authorization server: the first exchange of a consent, and every refresh;
//! - [`consent`] is how a person consents: a browser that comes back to this computer, an address that is pasted, a code typed
//!   on another device;
//! - [`Grant`] is what an account logs in with from then on: it refreshes ahead of time, one refresh at a time, and keeps a rotated
//!   refresh token before anybody uses what came with it;
//! - `service` is how an organisation's service account proves itself, where nobody is to consent;
//! - [`Seal`] is what tokens are stored under: the key lies outside the store.
//!
//! Where tokens are stored is behind [`Keep`]: this layer knows no store. Faults are told apart by what mends them ([`Fault`]):
//! an authorization server that is away, however long, never costs a consent.
//!
//! Law 12: tokens and codes are [`Secret`]s or wiped; a server's words are shown without what was sent to it.

pub mod consent;
mod grant;
mod seal;
mod server;
mod service;
#[cfg(test)]
mod testing;

use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use grant::{Grant, Standing};
pub use seal::Seal;
pub use server::Server;

use crate::secret::Secret;

/// Why there is no token. The texts are plain words for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The authorization server is out of reach, or has trouble of its own: it is asked again, and nothing is lost.
    #[error("{0}")]
    Away(String),
    /// There is no consent, or no longer: the user must log in (`mailweir account login`).
    #[error("{0}")]
    Consent(String),
    /// The application itself is refused, or something of ours is wrong: the configuration must be mended.
    #[error("{0}")]
    Client(String),
}

/// What an authorization server gave.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    pub access: Secret,
    /// When the access token ends.
    pub expires: SystemTime,
    /// How long it was given for.
    pub lifetime: Duration,
    pub refresh: Option<Secret>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Where one account's tokens are kept: sealed octets, read and replaced whole. The errors are plain words.
pub trait Keep: Send + Sync {
    fn read(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, String>>;
    /// On the disk when it returns.
    fn write(&self, sealed: Vec<u8>) -> BoxFuture<'_, Result<(), String>>;
    /// Held while tokens are replaced, against other processes: a refresh token that rotates may be used once.
    fn lock(&self) -> BoxFuture<'_, Result<File, String>>;
}

/// As tokens are written down, before they are sealed.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    access: &'a str,
    /// Seconds since the epoch.
    expires: u64,
    lifetime: u64,
    refresh: Option<&'a str>,
    /// Written ahead of a renewal, whose answer will replace it.
    #[serde(default)]
    renewing: bool,
}

impl Tokens {
    /// `renewing`: their refresh token is about to be used.
    fn to_bytes(&self, renewing: bool) -> Result<Zeroizing<Vec<u8>>, String> {
        let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).map(Zeroizing::new);
        let not_text = |_| "a token is no text".to_owned();
        let access = text(&self.access).map_err(not_text)?;
        let refresh = self.refresh.as_ref().map(text).transpose().map_err(not_text)?;
        let written = Written {
            access: &access,
            expires: self.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            lifetime: self.lifetime.as_secs(),
            refresh: refresh.as_deref().map(String::as_str),
            renewing,
        };
        serde_json::to_vec(&written).map(Zeroizing::new).map_err(|error| error.to_string())
    }

    /// And whether a renewal of them was begun whose answer was not kept. `None` for what we have not written.
    fn from_bytes(bytes: &[u8]) -> Option<(Self, bool)> {
        // Tokens are of visible ASCII (RFC 6749 appendix A), so no escape stands in the way of borrowing them.
        let written: Written<'_> = serde_json::from_slice(bytes).ok()?;
        let tokens = Self {
            access: Secret::new(written.access),
            expires: UNIX_EPOCH.checked_add(Duration::from_secs(written.expires))?,
            lifetime: Duration::from_secs(written.lifetime),
            refresh: written.refresh.map(Secret::new),
        };
        Some((tokens, written.renewing))
    }

    /// How long the access token still holds.
    fn left(&self, now: SystemTime) -> Duration {
        self.expires.duration_since(now).unwrap_or_default()
    }
}

/// Stores the tokens of a consent just given, for whoever uses them from now on, in this process or another.
///
/// # Errors
/// In plain words: the store cannot be locked or written.
pub async fn store(keep: &dyn Keep, seal: &Seal, account: &str, tokens: &Tokens) -> Result<(), String> {
    let _lock = keep.lock().await?;
    keep.write(seal.seal(account, &tokens.to_bytes(false)?)?).await
}
