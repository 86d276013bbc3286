//! What an account logs in with: the newest access token, had in time.
//!
//! - Refreshed ahead of its end ([`Grant::keep_fresh`]), and when a login finds it refused.
//! - One refresh at a time: whoever asks meanwhile waits for its end. It runs in a task of its own, because a login that is
//!   given up must not throw away the answer: a refresh token that rotates is dead once used. Other processes (`mailweir check`) are
//!   kept out by a lock, and what they have stored is taken over.
//! - A rotated refresh token is on the disk before the access token that came with it is handed out. If it cannot be written it is
//!   kept, and tried again first. The old one is written ahead of each renewal, marked as about to be used: a disk that is full or read-only
//!   is found out while the old token still counts. One window stays open: from the server's replacing the token to our commit of the answer
//!   (the way back, and one flush of the disk). Who is killed in it comes back with the old token; servers that bear one used twice
//!   (Google and Microsoft do not replace it at all) take that, with the others a new login is needed, and the mark says why.
//! - A server that is away costs nothing but time: the token at hand is used to its end, and the server asked again, at growing
//!   distances. Only its own word (`invalid_grant` and its kin) ends a consent, and even that word is put to the test again after an hour.
//! - Nor is a server that answers asked more than it can bear: half a minute lies between refreshes that no refused login asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::server::Client;
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
/// Between two refreshes that nobody who was refused asked for; and between two looks for a secret of ours that was not to be had.
const SPACING: Duration = Duration::from_secs(30);
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
    /// The user must consent anew, in these words.
    NeedsLogin(String),
    /// The configuration must be mended, in these words.
    NeedsSetup(String),
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
    /// The user asks for the next attempt to be made at once.
    kicked: AtomicBool,
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
    /// When the server last gave `tokens`.
    renewed: Option<SystemTime>,
    /// An access token that the mail server refused, and that could not be replaced.
    refused: Option<Secret>,
    /// The last fault, and when the server may be asked again.
    away: Option<(Instant, Fault)>,
    failures: u32,
    /// A refresh token that the server refused, or the application itself, with the words and the time.
    dead: Option<(Option<Secret>, Fault, SystemTime)>,
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
            kicked: AtomicBool::default(),
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

    /// The next who asks is not answered with an earlier refusal, or with a rest: the user has mended something.
    pub fn kick(&self) {
        self.inner.kicked.store(true, Ordering::Relaxed);
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
            Some(Fault::Consent(words)) => Standing::NeedsLogin(words),
            Some(Fault::Client(words)) => Standing::NeedsSetup(words),
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
            Standing::NeedsSetup(words) => warn!(%account, words, "the account's [account.oauth2] needs mending"),
        }
    }

    async fn newest(&self, held: &mut Held, refused: Option<&Secret>) -> Newest {
        if self.kicked.swap(false, Ordering::Relaxed) {
            (held.dead, held.away) = (None, None);
        }
        if held.unsaved
            && let Err(fault) = self.save(held).await
        {
            return Newest::None(fault);
        }
        let left = |tokens: &Tokens| tokens.left(SystemTime::now());
        if let Some(tokens) = held.unrefused(refused)
            && (left(tokens) > ahead(tokens).max(TOO_SHORT) || held.is_just_renewed())
        {
            return Newest::Fresh(tokens.access.clone());
        }
        match self.renew(held, refused).await {
            Ok(access) => {
                (held.failures, held.away, held.refused) = (0, None, None);
                Newest::Fresh(access)
            }
            // Not renewed in time is not over yet; what is not on the disk is not handed out.
            Err(fault) => {
                let usable = |tokens: &&Tokens| left(tokens) > TOO_SHORT && !held.unsaved;
                if let Some(tokens) = held.unrefused(refused).filter(usable) {
                    return Newest::Stale(tokens.access.clone(), fault);
                }
                // While the user is needed, it must not look as if all were well again.
                if !matches!(fault, Fault::Away(_))
                    && let Some(refused) = refused
                {
                    held.refused = Some(refused.clone());
                }
                Newest::None(fault)
            }
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
            held.is_dead(None)?;
            let client = self.client(held).await?;
            let key = self.server.service_key().await;
            let key = key.inspect_err(|fault| held.away = Some((Instant::now() + SPACING, fault.clone())))?;
            let answer = self.server.for_itself(&client, key.as_ref()).await;
            let tokens = held.heard(None, answer)?;
            let access = tokens.access.clone();
            held.tokens = Some(tokens);
            return Ok(access);
        }
        let _lock = self.keep.lock().await.map_err(Fault::Away)?;
        let (stored, broken_off) = self.stored().await?;
        // Not by its end, which is stored in whole seconds.
        let is_new =
            held.tokens.as_ref().is_none_or(|own| (&own.access, &own.refresh) != (&stored.access, &stored.refresh));
        // Also what is due already: it holds a while should the server be away.
        held.tokens = Some(stored.clone());
        if is_new {
            held.renewed = None;
        }
        if is_new && stored.left(SystemTime::now()) > ahead(&stored).max(TOO_SHORT) && refused != Some(&stored.access) {
            held.dead = None;
            return Ok(stored.access);
        }
        let Some(refresh) = &stored.refresh else {
            let words = "the authorization server gave no refresh token: the consent ended with the access token";
            return Err(Fault::Consent(words.into()));
        };
        held.is_dead(Some(refresh))?;
        let client = self.client(held).await?;
        self.write(&stored, true).await?;
        let mut answer = self.server.refresh(&client, refresh).await;
        if broken_off && let Err(Fault::Consent(words)) = &mut answer {
            words
                .push_str("; a renewal before was broken off while its answer was on the way, which can end a consent");
        }
        let tokens = held.heard(Some(refresh), answer)?;
        let access = tokens.access.clone();
        (held.tokens, held.unsaved) = (Some(tokens), true);
        self.save(held).await?;
        Ok(access)
    }

    /// What the server is asked with. A secret that is not to be had (its keyring is locked) is the server's word on nothing.
    async fn client(&self, held: &mut Held) -> Result<Client, Fault> {
        let client = self.server.client().await;
        client.inspect_err(|fault| held.away = Some((Instant::now() + SPACING, fault.clone())))
    }

    /// What is stored, and whether a renewal of it was begun whose answer was not.
    async fn stored(&self) -> Result<(Tokens, bool), Fault> {
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
        self.write(tokens, false).await?;
        held.unsaved = false;
        Ok(())
    }

    /// On the disk when it returns.
    async fn write(&self, tokens: &Tokens, renewing: bool) -> Result<(), Fault> {
        let bytes = tokens.to_bytes(renewing);
        let sealed = bytes.and_then(|bytes| self.seal.seal(&self.account, &bytes)).map_err(Fault::Client)?;
        let written = self.keep.write(sealed).await;
        written.map_err(|words| Fault::Away(format!("new tokens cannot be stored: {words}")))
    }
}

impl Held {
    /// What there is, unless a login with it was refused.
    fn unrefused(&self, refused: Option<&Secret>) -> Option<&Tokens> {
        let is_refused = |access| refused == Some(access) || self.refused.as_ref() == Some(access);
        self.tokens.as_ref().filter(|tokens| !is_refused(&tokens.access))
    }

    /// Whether it is too early to ask again. What the server says of a token's life may be wrong; a login shows it.
    fn is_just_renewed(&self) -> bool {
        // A clock that was set back tells nothing.
        let since = self.renewed.map(|at| at.elapsed().unwrap_or(Duration::MAX));
        self.tokens.as_ref().zip(since).is_some_and(|(tokens, since)| since < spacing(tokens))
    }

    /// Gives the server's earlier refusal of this refresh token, or of the application itself.
    fn is_dead(&self, asked: Option<&Secret>) -> Result<(), Fault> {
        match &self.dead {
            Some((dead, fault, since))
                if dead.as_ref() == asked && since.elapsed().unwrap_or_default() < DEAD_AGAIN =>
            {
                Err(fault.clone())
            }
            _ => Ok(()),
        }
    }

    /// Remembers what the server answered to this refresh token, or to the application itself.
    fn heard(&mut self, asked: Option<&Secret>, answer: Result<Tokens, Fault>) -> Result<Tokens, Fault> {
        match &answer {
            Ok(_) => (self.dead, self.renewed) = (None, Some(SystemTime::now())),
            Err(fault @ Fault::Away(_)) => self.note(fault),
            Err(fault) => self.dead = Some((asked.cloned(), fault.clone(), SystemTime::now())),
        }
        answer
    }

    /// The server is given a rest.
    fn note(&mut self, fault: &Fault) {
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

/// How long it is not replaced unless a login with it was refused. One that lives for seconds is still renewed in time; what is told to
/// live for less than a login takes is not believed.
fn spacing(tokens: &Tokens) -> Duration {
    if tokens.lifetime > TOO_SHORT { (tokens.lifetime / 2).clamp(TOO_SHORT, SPACING) } else { SPACING }
}

#[cfg(test)]
mod tests;
