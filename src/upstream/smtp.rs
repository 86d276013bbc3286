//! The provider's side of sending: SMTP sessions of one account, lent for one message each and used again for the next.
//!
//! [`Smtp::lease`] lends a [`Passage`], on which the caller makes one transaction: MAIL, RCPT, DATA, the message, its end. The replies are
//! the server's own, handed through. A passage that is dropped half way closes its connection without the final dot, so that nothing of
//! a broken message is sent; [`Passage::rest`] gives one back that has come to an end in order.
//!
//! Why this is not one of the SMTP client crates: the message streams through while the client still sends it, each recipient's
//! answer is the server's own, and every octet is counted where it crosses the socket (Law 6). Those take a message whole.

mod postage;
mod session;
#[cfg(test)]
mod tests;
mod trace;
mod words;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::config::{Credentials, Dial, Meter};
use postage::Stamps;
use session::Session;

pub use crate::wire::smtp::{Extensions, Reply};
pub use postage::Postage;
pub use words::{Refusal, advice};

/// Sessions at once: one that sends a large message and one that does not wait for it. Providers allow three (reference: providers, O365).
const SESSIONS: usize = 2;
/// How long a message waits for a session to come free.
const TURN_TIMEOUT: Duration = Duration::from_secs(20);
/// A session is kept so long for the next message; servers hang up after some minutes, and a person writes mail slower than that.
const KEEP: Duration = Duration::from_secs(30);
/// Messages over one session at most; servers count them.
const MOST_MESSAGES: u32 = 50;
/// After a login that was refused, until the next is tried. Failed logins lock accounts.
const REFUSED_FIRST: Duration = Duration::from_secs(60);
/// The same from the third on: nothing but another password will help.
const REFUSED_LONG: Duration = Duration::from_secs(3600);

/// Where, who, and who counts.
#[derive(Clone)]
pub struct SmtpConfig {
    /// The account in logs.
    pub label: String,
    pub dial: Arc<dyn Dial>,
    pub username: String,
    pub meter: Arc<dyn Meter>,
    /// What may be sent in a day.
    pub postage: Arc<dyn Postage>,
}

/// Why nothing can be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SmtpError {
    /// Not reached, lost, or too busy: worth another try. Plain words.
    Unavailable(String),
    /// The login was refused. Plain words, the server's among them.
    Login(String),
    /// The day's messages are spent; the answer for who sends.
    Limit(Reply),
}

impl fmt::Display for SmtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(words) | Self::Login(words) => f.write_str(words),
            Self::Limit(reply) => f.write_str(&reply.text()),
        }
    }
}

/// One account's way out. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Smtp {
    inner: Arc<Inner>,
}

struct Inner {
    config: SmtpConfig,
    turns: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parked: Vec<(Session, Instant)>,
    offers: Option<Extensions>,
    refusals: u32,
    refused: Option<(Instant, String)>,
    closed: bool,
}

impl Smtp {
    pub fn new(config: SmtpConfig) -> Self {
        let inner = Inner { config, turns: Arc::new(Semaphore::new(SESSIONS)), state: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// What the server said it can at the last connection; `None` before the first.
    pub fn offers(&self) -> Option<Extensions> {
        self.inner.lock().offers.clone()
    }

    /// Asks the server what it can, without a login. Failing changes nothing: the next message asks again.
    pub async fn probe(&self) {
        match Session::look(&self.inner.config).await {
            Ok(session) => {
                self.inner.lock().offers = Some(session.offers().clone());
                session.quit().await;
            }
            Err(error) => debug!(account = %self.inner.config.label, %error, "the server for sending was not reached"),
        }
    }

    /// A session for one message, logged in and at rest. The credentials are used where a new one has to be opened.
    ///
    /// # Errors
    /// [`SmtpError`], in words for the sender.
    pub async fn lease(&self, credentials: &Credentials) -> Result<Passage, SmtpError> {
        let inner = &self.inner;
        inner.config.postage.room(1).map_err(SmtpError::Limit)?;
        let busy = || SmtpError::Unavailable("other messages are being sent; try again in a minute".into());
        let turn = timeout(TURN_TIMEOUT, Arc::clone(&inner.turns).acquire_owned()).await.map_err(|_| busy())?;
        let turn = turn.map_err(|_| SmtpError::Unavailable("the account is being closed".into()))?;
        while let Some(mut session) = inner.parked() {
            // The server may have hung up meanwhile; RSET shows it before anything depends on it.
            if session.reset().await {
                return Ok(Passage::new(session, inner, turn));
            }
        }
        inner.may_try()?;
        let opened = Box::pin(Session::open(&inner.config, credentials)).await;
        inner.opened(&opened);
        Ok(Passage::new(opened?, inner, turn))
    }

    /// Forgets a refused login: the password has changed, or the user says try again.
    pub fn kick(&self) {
        let mut state = self.inner.lock();
        (state.refusals, state.refused) = (0, None);
    }

    /// Ends what is at rest, in order; what is in use ends with its message.
    pub async fn shutdown(&self) {
        let parked = {
            let mut state = self.inner.lock();
            state.closed = true;
            std::mem::take(&mut state.parked)
        };
        self.inner.turns.close();
        futures_util::future::join_all(parked.into_iter().map(|(session, _)| session.quit())).await;
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The freshest session at rest.
    fn parked(&self) -> Option<Session> {
        self.lock().parked.pop().map(|(session, _)| session)
    }

    fn may_try(&self) -> Result<(), SmtpError> {
        match &self.lock().refused {
            Some((until, words)) if *until > Instant::now() => Err(SmtpError::Login(words.clone())),
            _ => Ok(()),
        }
    }

    fn opened(&self, opened: &Result<Session, SmtpError>) {
        let mut state = self.lock();
        match opened {
            Ok(session) => {
                state.offers = Some(session.offers().clone());
                (state.refusals, state.refused) = (0, None);
            }
            Err(SmtpError::Login(words)) => {
                state.refusals += 1;
                let pause = if state.refusals < 3 { REFUSED_FIRST } else { REFUSED_LONG };
                state.refused = Some((Instant::now() + pause, words.clone()));
                info!(account = %self.config.label, words, "the provider refuses the login for sending");
            }
            Err(SmtpError::Unavailable(_) | SmtpError::Limit(_)) => {}
        }
    }

    fn park(self: &Arc<Self>, session: Session) {
        if !session.is_in_step() {
            // A reply too many would be taken for the next message's.
            return;
        }
        {
            let mut state = self.lock();
            if state.closed || session.messages() >= MOST_MESSAGES {
                drop(state);
                tokio::spawn(session.quit());
                return;
            }
            state.parked.push((session, Instant::now()));
        }
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(KEEP).await;
            let Some(inner) = inner.upgrade() else { return };
            let old: Vec<_> = {
                let mut state = inner.lock();
                let parked = std::mem::take(&mut state.parked);
                let (old, fresh) = parked.into_iter().partition(|(_, since)| since.elapsed() >= KEEP);
                state.parked = fresh;
                old
            };
            for (session, _) in old {
                session.quit().await;
            }
        });
    }
}

/// One message's way. Dropped before its end, it closes the connection, and the server drops what it was given.
pub struct Passage {
    session: Option<Session>,
    inner: Arc<Inner>,
    stamps: Stamps,
    /// The last write has written nothing.
    unsent: bool,
    _turn: OwnedSemaphorePermit,
}

/// The connection was lost, or what came was no SMTP; with the words for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);

impl Passage {
    fn new(session: Session, inner: &Arc<Inner>, turn: OwnedSemaphorePermit) -> Self {
        let stamps = Stamps::new(&inner.config.postage);
        Self { session: Some(session), inner: Arc::clone(inner), stamps, unsent: false, _turn: turn }
    }

    fn session(&mut self) -> Result<&mut Session, Lost> {
        self.session.as_mut().ok_or_else(|| Lost("the connection is closed".into()))
    }

    pub fn offers(&self) -> Option<&Extensions> {
        self.session.as_ref().map(Session::offers)
    }

    /// Sends a command without waiting for its reply; replies come in the order of commands (RFC 2920).
    pub async fn send(&mut self, line: &str) -> Result<(), Lost> {
        if self.stamps.passes(line).await {
            self.session()?.send(line.as_bytes()).await?;
        }
        Ok(())
    }

    /// The next reply to a command.
    pub async fn reply(&mut self) -> Result<Reply, Lost> {
        if let Some(reply) = self.stamps.ours() {
            return Ok(reply);
        }
        let reply = self.session()?.reply(session::COMMAND_TIMEOUT).await?;
        self.stamps.heard(&reply);
        Ok(reply)
    }

    /// A piece of the message, in dotted lines. A server that has already said no is heard: its reply is the error.
    pub async fn write(&mut self, dotted: &[u8]) -> Result<(), Lost> {
        self.unsent = self.session()?.has_spoken();
        if self.unsent {
            // Before the dot nothing was asked: it refuses, or hangs up. What it said is there for [`Self::last_words`].
            return Err(Lost("the server has answered before the message's end".into()));
        }
        self.stamps.writes(dotted);
        self.session()?.write(dotted).await
    }

    /// The last [`Self::write`] has failed before it wrote an octet: what it was given is not there, and no positive reply is an answer to it.
    pub fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// After the last piece, the lone dot in it: the server's word on the message.
    pub async fn verdict(&mut self) -> Result<Reply, Lost> {
        let session = self.session()?;
        let reply = session.verdict().await?;
        session.count_message();
        self.stamps.heard(&reply);
        Ok(reply)
    }

    /// A reply that has come early, where writing has failed: servers say why before they hang up.
    pub async fn last_words(&mut self) -> Option<Reply> {
        let reply = self.session.as_mut()?.reply(session::LAST_WORDS).await.ok()?;
        self.stamps.heard(&reply);
        Some(reply)
    }

    /// Gives the session back. `clean`: no transaction is open.
    pub async fn rest(mut self, clean: bool) {
        let Some(mut session) = self.session.take() else { return };
        if clean || session.reset().await {
            self.inner.park(session);
        }
    }
}
