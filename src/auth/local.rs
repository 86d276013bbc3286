//! Checking the user name and password a mail program gives.
//!
//! Three things are kept apart:
//!
//! - **Right passwords are cheap.** What was right once is remembered as a keyed BLAKE3 hash under a key of this process, so a
//!   client that logs in every minute costs microseconds. A password the configuration knows in the clear is put into that memory at once: a
//!   slow hash would protect nothing, as the clear text stands in a file beside it. The clear text itself is not kept.
//! - **Wrong ones cost the same, whoever they are for.** An unknown user, a wrong password and an account without a slow hash all take one
//!   argon2id computation, so time tells nobody which addresses exist. It runs on a blocking thread, a few at once.
//! - **Guessing is slow** (see `slow`). A failure counts even when the client hangs up before it is answered.
//!
//! User names are compared without case. `recent:` in front and `+device` behind (the sign is configured) are taken off and handed on
//! (POP3 uses them).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::slow::Delays;
use crate::config::{Account, LocalPassword};
use crate::secret::{Secret, SecretError};

/// Slow hashes computed at once: each takes some 20 MiB and one core for some 20 ms, and mail must go on meanwhile.
const WORKERS: usize = 2;

/// How long an attempt waits for one of them before it is refused: a flood from everywhere must not pile up here.
const LONGEST_QUEUE: Duration = Duration::from_secs(10);

/// Longest user name looked at; addresses have at most 254 bytes (RFC 5321 §4.5.3.1).
const MAX_USER: usize = 512;

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The account's address as the configuration writes it.
    pub address: String,
    /// What followed the address after the separator: `ann@example.org+laptop` is the device `laptop`.
    pub device: Option<String>,
    /// `recent:` stood before the address.
    pub recent: bool,
}

/// Why somebody may not. Neither says whether the user exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("wrong user name or password")]
    Wrong,
    /// Not looked at: too many wrong attempts from the same place are waiting. The client may try again later.
    #[error("too many failed logins from this address; try again in a moment")]
    Slowed,
}

/// The local password of an account cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the local password of {address}: {error}")]
pub struct SetupError {
    pub address: String,
    pub error: SecretError,
}

/// The local logins of all accounts.
pub struct LocalLogins {
    users: RwLock<Arc<Users>>,
    delays: Arc<Mutex<Delays>>,
    workers: Semaphore,
}

impl fmt::Debug for LocalLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLogins").finish_non_exhaustive()
    }
}

impl LocalLogins {
    /// Resolves the accounts' local passwords; all that cannot be are told at once.
    pub async fn new(accounts: &[Account]) -> Result<Self, Vec<SetupError>> {
        let users = Users::read(accounts).await?;
        Ok(Self { users: RwLock::new(Arc::new(users)), delays: Arc::default(), workers: Semaphore::new(WORKERS) })
    }

    /// Takes over changed accounts and passwords and forgets every password remembered. On an error all stays as it was.
    pub async fn reload(&self, accounts: &[Account]) -> Result<(), Vec<SetupError>> {
        let users = Arc::new(Users::read(accounts).await?);
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
        Ok(())
    }

    /// Whether `user` with `password` may come in from `peer`. A wrong answer is held back for a while (`slow`); the right one is not.
    /// May be cancelled at any time.
    pub async fn verify(&self, peer: IpAddr, user: &[u8], password: &Secret) -> Result<Login, LoginError> {
        let now = Instant::now();
        let turn = self.delays().reserve(peer, now).ok_or(LoginError::Slowed)?;
        if turn > now {
            tokio::time::sleep_until(turn).await;
        }
        // From here on a client that hangs up has failed: else it could leave before each failure is counted.
        let mut attempt = Attempt { delays: &self.delays, peer, open: true };
        let users = Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner));
        let name = Name::parse(user);
        let found = name.as_ref().and_then(|name| users.find_with_device(name.rest));
        let known = found.as_ref().map(|(user, _)| *user);
        let tag = users.tag(known.map_or("", |u| u.address.as_str()), password);
        // blake3::Hash compares in constant time.
        let remembered = known.is_some_and(|u| u.right.get().is_some_and(|right| *right == tag));
        let right = remembered || self.verify_slowly(&users, known, password).await?;
        if let (true, Some((known, device)), Some(name)) = (right, found, name) {
            attempt.open = false;
            // Set already when it was remembered, or by another login of the same moment.
            let _ = known.right.set(tag);
            return Ok(Login { address: known.address.clone(), device, recent: name.recent });
        }
        drop(attempt);
        tracing::warn!(%peer, account = known.map(|u| u.address.as_str()), "a mail program gave a wrong user name or password");
        let delay = self.delays().answer_delay(peer, Instant::now());
        tokio::time::sleep(delay).await;
        Err(LoginError::Wrong)
    }

    /// One argon2id computation, whoever is asked for.
    async fn verify_slowly(&self, users: &Users, known: Option<&User>, password: &Secret) -> Result<bool, LoginError> {
        let hash = known.and_then(|u| u.hash.clone());
        let counts = hash.is_some();
        let hash = hash.unwrap_or_else(|| Arc::clone(&users.decoy));
        let password = password.clone();
        let permit = tokio::time::timeout(LONGEST_QUEUE, self.workers.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(LoginError::Slowed) };
        let check = move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.expose(), &hash).is_ok())
        };
        let matches = tokio::task::spawn_blocking(check).await.unwrap_or_else(|e| {
            tracing::error!("checking a password failed: {e}");
            false
        });
        Ok(matches && counts)
    }

    fn delays(&self) -> std::sync::MutexGuard<'_, Delays> {
        self.delays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt being looked at; dropped open, it has failed.
struct Attempt<'a> {
    delays: &'a Mutex<Delays>,
    peer: IpAddr,
    open: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.open {
            self.delays.lock().unwrap_or_else(PoisonError::into_inner).failed(self.peer, Instant::now());
        }
    }
}

/// A user name taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Name<'a> {
    /// The address, perhaps with a device behind it.
    rest: &'a str,
    recent: bool,
}

impl<'a> Name<'a> {
    fn parse(user: &'a [u8]) -> Option<Self> {
        let user = std::str::from_utf8(user).ok().filter(|u| u.len() <= MAX_USER)?;
        let bare = user.get(..7).filter(|p| p.eq_ignore_ascii_case("recent:")).and_then(|_| user.get(7..));
        Some(Self { rest: bare.unwrap_or(user), recent: bare.is_some() })
    }
}

/// The users of one reading of the configuration.
struct Users {
    /// By address in lower case.
    by_address: HashMap<String, User>,
    /// Of this reading alone: what was remembered before is worth nothing after a reload, and nothing outside the process.
    key: [u8; 32],
    /// The hash of a password nobody knows, as costly as the costliest of the users'.
    decoy: Arc<str>,
}

struct User {
    address: String,
    /// Between the address and a device.
    separator: String,
    /// The slow hash, where the configuration gives one.
    hash: Option<Arc<str>>,
    /// The tag of the right password, once known.
    right: OnceLock<blake3::Hash>,
}

impl Users {
    async fn read(accounts: &[Account]) -> Result<Self, Vec<SetupError>> {
        let mut users = Self { by_address: HashMap::new(), key: rand::random(), decoy: Arc::from("") };
        let mut errors = Vec::new();
        let mut params = Params::default();
        for account in accounts {
            let (address, separator) = (account.address.clone(), account.pop3.device_separator.clone());
            let mut user = User { address, separator, hash: None, right: OnceLock::new() };
            match &account.password {
                LocalPassword::Argon2id(hash) => {
                    let own = PasswordHash::new(hash).ok().and_then(|h| Params::try_from(&h).ok());
                    params = own.filter(|own| cost(own) > cost(&params)).unwrap_or(params);
                    user.hash = Some(hash.as_str().into());
                }
                LocalPassword::Secret(reference) => match reference.resolve().await {
                    Ok(secret) => user.right = OnceLock::from(users.tag(&user.address, &secret)),
                    Err(error) => errors.push(SetupError { address: account.address.clone(), error }),
                },
            }
            users.by_address.insert(account.address.to_ascii_lowercase(), user);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        users.decoy = tokio::task::spawn_blocking(move || decoy(params)).await.unwrap_or_else(|_| Arc::from(""));
        Ok(users)
    }

    fn find(&self, address: &str) -> Option<&User> {
        self.by_address.get(&address.to_ascii_lowercase())
    }

    /// The user, and the device behind the address. The separator cannot be part of a domain, so at most one address fits.
    fn find_with_device(&self, name: &str) -> Option<(&User, Option<String>)> {
        if let Some(user) = self.find(name) {
            return Some((user, None));
        }
        let end = name.find('@')?;
        let signs = name.char_indices().filter(|(at, sign)| *at > end && sign.is_ascii_punctuation());
        signs.into_iter().find_map(|(at, _)| {
            let user = self.find(name.get(..at)?)?;
            let device = name.get(at..)?.strip_prefix(user.separator.as_str())?;
            Some((user, Some(device.to_lowercase()).filter(|device| !device.is_empty())))
        })
    }

    fn tag(&self, address: &str, password: &Secret) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // No address holds a NUL, so no two pairs give the same bytes.
        hasher.update(address.as_bytes()).update(&[0]).update(password.expose());
        hasher.finalize()
    }
}

fn cost(params: &Params) -> u64 {
    u64::from(params.m_cost()) * u64::from(params.t_cost())
}

/// A hash no password matches: of random bytes nobody keeps. Its salt and password need no secrecy beyond that.
fn decoy(params: Params) -> Arc<str> {
    let (password, salt): ([u8; 32], [u8; 16]) = (rand::random(), rand::random());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash =
        SaltString::encode_b64(&salt).and_then(|salt| argon2.hash_password(&password, &salt).map(|h| h.to_string()));
    match hash {
        Ok(hash) => hash.into(),
        Err(e) => {
            // Logins still work; only the time of a wrong one would tell more than it should.
            tracing::error!("the decoy for unknown users cannot be made: {e}");
            Arc::from("")
        }
    }
}

#[cfg(test)]
mod tests;
