//! What an account logs in with: the newest access token, had in time.
//!
//! - Refreshed ahead of its end ([`Grant::keep_fresh`]), and when a login finds it refused.
//! - One refresh at a time: whoever asks meanwhile waits for its end. It runs in a task of its own, because a login that is
//!   given up must not throw away the answer: a refresh token that rotates is dead once used. Other processes (`mailweir check`) are
//!   kept out by a lock, and what they have stored is taken over.
//! - A rotated refresh token is on the disk before the access token that came with it is handed out. If it cannot be written it is
//!   kept, and tried again first.
//! - A server that is away costs nothing but time: the token at hand is used to its end, and the server asked again, at growing
//!   distances. Only its own word (`invalid_grant` and its kin) ends a consent, and even that word is put to the test again after an hour.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Fault, Keep, Seal, Server, Tokens};
use crate::secret::Secret;

/// How long before its end a token is replaced, at most; of a shorter-lived one a quarter of its life.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// A login with a token that ends sooner may come too late.
const TOO_SHORT: Duration = Duration::from_secs(5);
/// Waits between attempts at a server that is away: doubling from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(5 * 60);
/// How often it is looked whether a token is due; by the wall clock, as a sleeping computer's other clocks stand still.
const TICK: Duration = Duration::from_secs(15);
/// How often it is looked whether somebody has logged in, while that is what is wanted.
const LOOK: Duration = Duration::from_secs(2);
/// A consent said to be gone is put to the test again after this: a provider's outage may have said it.
const DEAD_AGAIN: Duration = Duration::from_secs(3600);

/// How an account stands with its authorization server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Tokens are had, or none was asked for yet.
    #[default]
    Good,
    /// The server is away, in these words.
    Away(String),
    /// The user must do something, in these words.
    NeedsLogin(String),
}

/// An account's way to access tokens. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Grant {
    inner: Arc<Inner>,
}

struct Inner {
    account: String,
    server: Server,
    keep: Arc<dyn Keep>,
    seal: Seal,
    held: Mutex<Held>,
    standing: watch::Sender<Standing>,
}

/// What there is to log in with.
enum Newest {
    Fresh(Secret),
    /// It holds a while yet, and this kept it from being renewed.
    Stale(Secret, Fault),
    None(Fault),
}

#[derive(Default)]
struct Held {
    tokens: Option<Tokens>,
    /// What `tokens` hold has not reached the disk.
    unsaved: bool,
    /// The last fault, and when the server may be asked again.
    away: Option<(Instant, Fault)>,
    failures: u32,
    /// A refresh token that was refused, with the words and the time.
    dead: Option<(Secret, Fault, SystemTime)>,
}

impl Grant {
    /// `account` is the address, in logs and in what is sealed.
    pub fn new(account: &str, server: Server, keep: Arc<dyn Keep>, seal: Seal) -> Self {
        let inner = Inner {
            account: account.to_ascii_lowercase(),
            server,
            keep,
            seal,
            held: Mutex::default(),
            standing: watch::Sender::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// An access token to log in with. `refused`: the one given before, which the mail server did not take.
    pub async fn token(&self, refused: Option<Secret>) -> Result<Secret, Fault> {
        let inner = Arc::clone(&self.inner);
        let work = tokio::spawn(async move { inner.token(refused.as_ref()).await });
        work.await.unwrap_or_else(|error| Err(Fault::Away(format!("the token's task ended: {error}"))))
    }

    /// How it stands now, and from now on.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.inner.standing.subscribe()
    }

    /// Keeps the token fresh, until dropped.
    pub async fn keep_fresh(&self) {
        loop {
            // The fault is in the standing, and whoever logs in hears it.
            let _ = self.token(None).await;
            let needs_login = matches!(*self.inner.standing.borrow(), Standing::NeedsLogin(_));
            tokio::time::sleep(if needs_login { LOOK } else { self.inner.next_look() }).await;
        }
    }

    /// Waits until no refresh is under way.
    pub async fn at_rest(&self) {
        drop(self.inner.held.lock().await);
    }
}

impl Inner {
    fn next_look(&self) -> Duration {
        let ahead = |held: &Held| {
            held.tokens.as_ref().map(|tokens| tokens.left(SystemTime::now()).saturating_sub(ahead(tokens)))
        };
        let due = self.held.try_lock().ok().and_then(|held| ahead(&held));
        due.unwrap_or(TICK).clamp(Duration::from_millis(500), TICK)
    }

    async fn token(&self, refused: Option<&Secret>) -> Result<Secret, Fault> {
        let mut held = self.held.lock().await;
        let (outcome, fault) = match self.newest(&mut held, refused).await {
            Newest::Fresh(access) => (Ok(access), None),
            Newest::Stale(access, fault) => (Ok(access), Some(fault)),
            Newest::None(fault) => (Err(fault.clone()), Some(fault)),
        };
        let standing = match fault {
            None => Standing::Good,
            Some(Fault::Away(words)) => Standing::Away(words),
            Some(Fault::Consent(words) | Fault::Client(words)) => Standing::NeedsLogin(words),
        };
        self.standing.send_if_modified(|before| {
            let changed = *before != standing;
            if changed {
                self.tell(&standing);
            }
            *before = standing;
            changed
        });
        outcome
    }

    fn tell(&self, standing: &Standing) {
        let account = &self.account;
        match standing {
            Standing::Good => info!(%account, "access tokens are to be had"),
            Standing::Away(words) => warn!(%account, words, "no access token now; the server is asked again"),
            Standing::NeedsLogin(words) => {
                warn!(%account, words, "the account needs a login (`mailweir account login`)")
            }
        }
    }

    async fn newest(&self, held: &mut Held, refused: Option<&Secret>) -> Newest {
        if held.unsaved
            && let Err(fault) = self.save(held).await
        {
            return Newest::None(fault);
        }
        let serves = |tokens: &&Tokens| tokens.left(SystemTime::now()) > TOO_SHORT && refused != Some(&tokens.access);
        if let Some(tokens) = held.tokens.as_ref().filter(serves)
            && tokens.left(SystemTime::now()) > ahead(tokens)
        {
            return Newest::Fresh(tokens.access.clone());
        }
        match self.renew(held, refused).await {
            Ok(access) => {
                (held.failures, held.away) = (0, None);
                Newest::Fresh(access)
            }
            // Not renewed in time is not over yet; what is not on the disk is not handed out.
            Err(fault) => match held.tokens.as_ref().filter(serves).filter(|_| !held.unsaved) {
                Some(tokens) => Newest::Stale(tokens.access.clone(), fault),
                None => Newest::None(fault),
            },
        }
    }

    /// Takes over what another process has stored, or asks the server.
    async fn renew(&self, held: &mut Held, refused: Option<&Secret>) -> Result<Secret, Fault> {
        if let Some((until, fault)) = &held.away
            && *until > Instant::now()
        {
            return Err(fault.clone());
        }
        if self.server.acts_by_itself() {
            let tokens = self.server.client_credentials().await;
            let tokens = tokens.inspect_err(|fault| held.note(fault))?;
            let access = tokens.access.clone();
            held.tokens = Some(tokens);
            return Ok(access);
        }
        let _lock = self.keep.lock().await.map_err(Fault::Away)?;
        let stored = self.stored().await?;
        let is_new = held.tokens.as_ref() != Some(&stored);
        // Also what is due already: it holds a while should the server be away.
        held.tokens = Some(stored.clone());
        if is_new && stored.left(SystemTime::now()) > ahead(&stored) && refused != Some(&stored.access) {
            held.dead = None;
            return Ok(stored.access);
        }
        let Some(refresh) = &stored.refresh else {
            let words = "the authorization server gave no refresh token: the consent ended with the access token";
            return Err(Fault::Consent(words.into()));
        };
        if let Some((dead, fault, since)) = &held.dead
            && dead == refresh
            && since.elapsed().unwrap_or_default() < DEAD_AGAIN
        {
            return Err(fault.clone());
        }
        match self.server.refresh(refresh).await {
            Ok(tokens) => {
                let access = tokens.access.clone();
                (held.tokens, held.unsaved, held.dead) = (Some(tokens), true, None);
                self.save(held).await?;
                Ok(access)
            }
            Err(fault) => {
                if !matches!(fault, Fault::Away(_)) {
                    held.dead = Some((refresh.clone(), fault.clone(), SystemTime::now()));
                }
                held.note(&fault);
                Err(fault)
            }
        }
    }

    async fn stored(&self) -> Result<Tokens, Fault> {
        let Some(sealed) = self.keep.read().await.map_err(Fault::Away)? else {
            return Err(Fault::Consent("nobody has logged in yet".into()));
        };
        let opened = self.seal.unseal(&self.account, &sealed);
        let tokens = opened.as_ref().and_then(|opened| Tokens::from_bytes(opened));
        tokens.ok_or_else(|| Fault::Consent("the stored tokens were sealed with another key (`token_key`)".into()))
    }

    /// Writes what is held. Nobody is given its access token before.
    async fn save(&self, held: &mut Held) -> Result<(), Fault> {
        let Some(tokens) = &held.tokens else { return Ok(()) };
        let sealed =
            tokens.to_bytes().and_then(|bytes| self.seal.seal(&self.account, &bytes)).map_err(Fault::Client)?;
        let written = self.keep.write(sealed).await;
        written.map_err(|words| Fault::Away(format!("new tokens cannot be stored: {words}")))?;
        held.unsaved = false;
        Ok(())
    }
}

impl Held {
    /// The server is given a rest.
    fn note(&mut self, fault: &Fault) {
        if !matches!(fault, Fault::Away(_)) {
            return;
        }
        let wait =
            FIRST_WAIT.saturating_mul(1u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX)).min(LAST_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.away = Some((Instant::now() + wait, fault.clone()));
    }
}

/// How long before its end this token is due.
fn ahead(tokens: &Tokens) -> Duration {
    AHEAD.min(tokens.lifetime / 4)
}

#[cfg(test)]
mod tests;
