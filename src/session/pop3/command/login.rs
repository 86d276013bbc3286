//! Before and at login: TLS, who it is, and the maildrop it opens. RFC 1939 §7 (USER, PASS), RFC 5034 (AUTH), RFC 2595 (STLS).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;

use crate::engine::Error;
use crate::secret::Secret;
use crate::session::backend::{Account as _, Mailbox as _};
use crate::session::front::LoginError;
use crate::session::pop3::maildrop::{Choice, Maildrop};
use crate::session::pop3::reply::{AUTH, Reply, TEMP, messages};
use crate::session::pop3::state::{Failure, MailboxOf, Open, Session, Walk};
use crate::session::pop3::{Admitted, HideSet as _, Login};
use crate::wire::imap::mutf7;
use crate::wire::{pop3, sasl};

/// `recent:` shows what has arrived since so long ago: Gmail's own mode of that name has 30 days.
const RECENT: Duration = Duration::from_secs(30 * 86_400);
/// A mailbox that was never read is read first, and nothing can be said to the client meanwhile. Outlook gives up after a minute
/// (reference: clients, 2.4); the reading goes on, and the next login finds it done.
const FIRST_READING: Duration = Duration::from_secs(45);

impl<L: Login> Session<L> {
    pub(crate) fn may_login(&self) -> bool {
        self.io.is_tls() || self.plaintext_login
    }

    pub(crate) fn stls(&mut self) -> Result<Reply, Failure> {
        let refused = match (self.open.is_some(), self.io.is_tls(), self.server.tls.is_some()) {
            (true, ..) => "STLS belongs before the login",
            (_, true, _) => "TLS is active already",
            (.., false) => "TLS is not offered here",
            _ => {
                // Said in the clear, so not to be built on.
                self.user = None;
                return Ok(Reply::ok("Begin TLS negotiation"));
            }
        };
        Err(Reply::err(refused).into())
    }

    pub(crate) fn user(&mut self, user: Vec<u8>) -> Result<Reply, Failure> {
        self.before_login()?;
        self.user = Some(user);
        Ok(Reply::ok("Send the password"))
    }

    pub(crate) async fn pass(&mut self, password: &Secret) -> Result<Reply, Failure> {
        self.before_login()?;
        let user = self.user.take().ok_or_else(|| Reply::err("USER comes first"))?;
        self.log_in(&user, password).await
    }

    /// `None`: the list of mechanisms was asked for.
    pub(crate) async fn auth(
        &mut self,
        mechanism: Option<String>,
        initial: Option<Secret>,
    ) -> Result<Option<Reply>, Failure> {
        self.before_login()?;
        let Some(mechanism) = mechanism else {
            let out = &mut self.io.out;
            pop3::ok(out, "Mechanisms follow");
            pop3::line(out, "PLAIN");
            pop3::line(out, "LOGIN");
            pop3::end(out);
            return Ok(None);
        };
        let initial = initial.map(|initial| decoded(initial.expose())).transpose()?;
        if mechanism.eq_ignore_ascii_case("PLAIN") {
            let message = match initial {
                Some(message) => message,
                None => self.challenge(b"").await?,
            };
            let credentials = sasl::read_plain(&message).ok_or_else(|| Reply::err("Not a PLAIN response"))?;
            if !credentials.authorize.is_empty() && credentials.authorize != credentials.user {
                // RFC 4616: acting for another user; there is no such right here.
                return Err(Reply::err("Not allowed to act for another user").with(AUTH).into());
            }
            return self.log_in(credentials.user.as_bytes(), &credentials.secret).await.map(Some);
        }
        if mechanism.eq_ignore_ascii_case("LOGIN") {
            let [ask_user, ask_password] = sasl::LOGIN_CHALLENGES;
            let user = match initial {
                Some(user) => user,
                None => self.challenge(ask_user.as_bytes()).await?,
            };
            let user = sasl::read_login_user(&user).ok_or_else(|| Reply::err("Not a user name"))?;
            let password = self.challenge(ask_password.as_bytes()).await?;
            return self.log_in(user.as_bytes(), &password).await.map(Some);
        }
        Err(Reply::err("No such mechanism; there are PLAIN and LOGIN").into())
    }

    fn before_login(&self) -> Result<(), Failure> {
        if self.open.is_some() {
            return Err(Reply::err("Already logged in").into());
        }
        if !self.may_login() {
            // RFC 3206 §4: an attempt against the policy.
            return Err(Reply::err("Log in over TLS: use STLS or the TLS port").with(AUTH).into());
        }
        Ok(())
    }

    /// Sends a challenge and reads the response to it.
    async fn challenge(&mut self, words: &[u8]) -> Result<Secret, Failure> {
        let words = sasl::encode(words);
        pop3::challenge(&mut self.io.out, &String::from_utf8_lossy(words.expose()));
        let line = self.io.line().await?;
        if &line[..] == b"*" {
            return Err(Reply::err("Authentication cancelled").into());
        }
        Ok(decoded(&line)?)
    }

    async fn log_in(&mut self, user: &[u8], password: &Secret) -> Result<Reply, Failure> {
        let server = std::sync::Arc::clone(&self.server);
        let verified = match std::str::from_utf8(user) {
            Ok(user) => self.io.wait(server.login.verify(self.peer, user, password)).await?,
            Err(_) => Err(LoginError::Wrong),
        };
        let admitted = match verified {
            Ok(admitted) => admitted,
            Err(error) => {
                self.failed_logins += 1;
                return Err(Reply::from(error).into());
            }
        };
        let opening = timeout(FIRST_READING, open::<L>(admitted));
        let Ok(opened) = self.io.wait(opening).await? else {
            let words = "The mailbox is being read for the first time; try again in a minute";
            return Err(Reply::err(words).with(TEMP).into());
        };
        let open = opened?;
        let (count, octets) = open.maildrop.left();
        self.open = Some(Box::new(open));
        self.io.set_logged_in();
        Ok(Reply::ok(format!("Logged in, {} ({octets} octets)", messages(count))))
    }
}

fn decoded(line: &[u8]) -> Result<Secret, Reply> {
    sasl::decode(line).ok_or_else(|| Reply::err("Not base64"))
}

/// Opens the maildrop: from the mirror where it has the mailbox, looking upstream only if nobody watches it and nobody has looked
/// lately. No body is asked for.
async fn open<L: Login>(admitted: Admitted<L::Account, L::Hidden>) -> Result<Open<L>, Reply> {
    let failed = |error: Error| Reply::from(&error);
    let name = &admitted.settings.mailbox;
    let mut mailbox = open_mailbox::<L>(&admitted.account, name).await.map_err(failed)?;
    if let Err(error) = mailbox.refresh().await {
        tracing::debug!(account = admitted.account.address(), %error, "a POP3 login could not look upstream");
    }
    let mut snapshot = mailbox.snapshot();
    if snapshot.dead {
        // Replaced while we looked.
        mailbox = open_mailbox::<L>(&admitted.account, name).await.map_err(failed)?;
        snapshot = mailbox.snapshot();
    }
    let hidden = admitted.hidden.load(&snapshot.name).await.map_err(|error| {
        tracing::error!(account = admitted.account.address(), error, "what a POP3 login has hidden cannot be read");
        Reply::err("What this login has deleted cannot be read now").with(TEMP)
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = i64::try_from(now.saturating_sub(RECENT).as_secs()).unwrap_or(i64::MAX);
    let choice =
        Choice { hidden, recent_since: admitted.recent.then_some(since), newest: admitted.settings.max_messages };
    let maildrop = Maildrop::new(snapshot, mailbox.octets(), &choice);
    Ok(Open { admitted, mailbox, maildrop, walk: Walk::default(), fetched: Default::default() })
}

/// The configuration names a mailbox as people read it; upstream has names in modified UTF-7.
async fn open_mailbox<L: Login>(account: &L::Account, name: &str) -> Result<MailboxOf<L>, Error> {
    if !name.is_ascii() {
        return account.open_mirrored(&mutf7::encode(name)).await;
    }
    match account.open_mirrored(name).await {
        Err(Error::NoSuchMailbox(_)) if name.contains('&') => account.open_mirrored(&mutf7::encode(name)).await,
        opened => opened,
    }
}
