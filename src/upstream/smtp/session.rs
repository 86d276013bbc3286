//! One SMTP connection to the provider: greeting, TLS, login, commands and replies.
//!
//! Credentials are never sent before TLS where TLS is wanted, and what was received before the handshake is forgotten (RFC 3207 §4.2).

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::trace;
use super::words::advice;
use super::{Extensions, Lost, Reply, SmtpConfig, SmtpError};
use crate::net::Stream;
use crate::net::dial::TlsMode;
use crate::secret::Secret;
use crate::upstream::config::{CONNECT_TIMEOUT, Counting, Credentials, Outcome, TokenFault, Tokens};
use crate::wire::sasl;
use crate::wire::smtp::Replies;

/// RFC 5321 §4.5.3.2 gives a command five minutes; the mail program waiting behind us does not.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// RFC 5321 §4.5.3.2.6: the end of the message is where servers think; giving up earlier makes doubles.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(600);
/// How long the greeting may take: a server that waits for TLS says nothing; others look up our name first, or are slow on purpose.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);
/// From dialing to the end of the login: mail programs give MAIL about a minute.
const OPEN_TIMEOUT: Duration = Duration::from_secs(45);
/// A command with a response in it may have 512 octets (RFC 4954 §4, RFC 5321 §4.5.3.1.4); longer responses follow it.
const LONGEST_INITIAL: usize = 500;
/// The socket takes nothing for so long (RFC 5321 §4.5.3.2.5).
const WRITE_TIMEOUT: Duration = Duration::from_secs(180);
/// After a failed write: how long the reason may take to be read.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);
/// QUIT is manners.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long getting a token may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);
/// The name in EHLO. Not this computer's: it tells who is at home, and servers that check it check a client's that has none.
const OUR_NAME: &str = "[127.0.0.1]";

pub(super) struct Session {
    link: Stream,
    replies: Replies,
    offers: Extensions,
    messages: u32,
    /// The account's name in the log.
    label: Arc<str>,
}

impl Session {
    /// Connected to see what the server can.
    pub(super) async fn look(config: &SmtpConfig) -> Result<Self, SmtpError> {
        timeout(OPEN_TIMEOUT, Self::connect(config)).await.unwrap_or_else(|_| Err(too_slow()))
    }

    /// Connected, TLS made, greeted; not logged in.
    async fn connect(config: &SmtpConfig) -> Result<Self, SmtpError> {
        let down = |words: String| SmtpError::Unavailable(words);
        let tap = Arc::new(Counting(Arc::clone(&config.meter)));
        let link = config.dial.dial(tap).await.map_err(|error| down(error.to_string()))?;
        let (replies, offers, label) = (Replies::default(), Extensions::default(), config.label.as_str().into());
        let mut session = Self { link, replies, offers, messages: 0, label };
        let greeting = timeout(GREETING_TIMEOUT, session.reply(COMMAND_TIMEOUT)).await;
        let greeting = greeting.map_err(|_| {
            down(
                "the server for sending does not greet. Check `port` and `tls` (465 is implicit TLS, 587 is STARTTLS)"
                    .into(),
            )
        })?;
        let greeting = greeting.map_err(lost)?;
        if greeting.code != 220 {
            return Err(down(said("the server for sending turns us away", &greeting)));
        }
        session.ehlo().await?;
        if config.dial.tls() == TlsMode::StartTls {
            session = session.start_tls(config).await?;
            session.ehlo().await?;
        }
        Ok(session)
    }

    /// The same, logged in.
    pub(super) async fn open(config: &SmtpConfig, credentials: &Credentials) -> Result<Self, SmtpError> {
        let opening = async {
            let mut session = Self::connect(config).await?;
            session.log_in(config, credentials).await.map(|()| session)
        };
        let opened = timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| Err(too_slow()));
        config.meter.login(match &opened {
            Ok(_) => Outcome::Ok,
            Err(SmtpError::Login(_)) => Outcome::Refused,
            Err(SmtpError::Unavailable(_) | SmtpError::Limit(_)) => Outcome::Failed,
        });
        opened
    }

    pub(super) fn offers(&self) -> &Extensions {
        &self.offers
    }

    pub(super) fn messages(&self) -> u32 {
        self.messages
    }

    pub(super) fn count_message(&mut self) {
        self.messages += 1;
    }

    async fn ehlo(&mut self) -> Result<(), SmtpError> {
        let reply = self.command(&format!("EHLO {OUR_NAME}")).await.map_err(lost)?;
        if !reply.is_positive() {
            return Err(SmtpError::Unavailable(said("the server for sending does not take EHLO", &reply)));
        }
        self.offers = Extensions::read(&reply);
        Ok(())
    }

    async fn start_tls(mut self, config: &SmtpConfig) -> Result<Self, SmtpError> {
        let unsafe_now = "and a password is not sent without encryption. Check `port` and `tls` of [account.smtp] (465 is implicit TLS)";
        if !self.offers.starttls {
            return Err(SmtpError::Unavailable(format!(
                "the server for sending does not offer STARTTLS, {unsafe_now}"
            )));
        }
        let reply = self.command("STARTTLS").await.map_err(lost)?;
        if reply.code != 220 {
            return Err(SmtpError::Unavailable(said("the server for sending refuses STARTTLS", &reply)));
        }
        let upgraded = timeout(CONNECT_TIMEOUT, config.dial.upgrade(self.link)).await;
        let link = upgraded.map_err(|_| SmtpError::Unavailable("the TLS handshake takes too long".into()))?;
        let link = link.map_err(|error| SmtpError::Unavailable(error.to_string()))?;
        Ok(Self { link, replies: Replies::default(), offers: Extensions::default(), ..self })
    }

    async fn log_in(&mut self, config: &SmtpConfig, credentials: &Credentials) -> Result<(), SmtpError> {
        // A server of one's own on this computer may ask for nothing.
        if self.offers.auth.is_empty() {
            return Ok(());
        }
        match credentials {
            Credentials::Password(password) => self.log_in_by_password(config, password).await,
            Credentials::OAuth(tokens) => self.log_in_by_token(config, tokens.as_ref()).await,
        }
    }

    async fn log_in_by_password(&mut self, config: &SmtpConfig, password: &Secret) -> Result<(), SmtpError> {
        let user = &config.username;
        let reply = if self.has_auth("PLAIN") {
            self.authenticate("PLAIN", &[sasl::plain(user, password)], true).await?
        } else if self.has_auth("LOGIN") {
            self.authenticate("LOGIN", &[Secret::new(user.as_bytes()), password.clone()], false).await?
        } else {
            let words = "the server for sending takes no passwords; this provider wants OAuth";
            return Err(SmtpError::Login(words.into()));
        };
        if reply.is_positive() { Ok(()) } else { Err(refused(&reply)) }
    }

    async fn log_in_by_token(&mut self, config: &SmtpConfig, tokens: &dyn Tokens) -> Result<(), SmtpError> {
        let (host, port) = config.dial.host();
        let bearer = match (self.has_auth("XOAUTH2"), self.has_auth("OAUTHBEARER")) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => {
                return Err(SmtpError::Login("the server for sending does not offer OAuth".into()));
            }
        };
        let mut withdrawn: Option<(Secret, String)> = None;
        loop {
            let (old, refusal) = withdrawn.clone().unzip();
            let token = timeout(TOKEN_TIMEOUT, tokens.token(old)).await;
            let token = token.map_err(|_| SmtpError::Unavailable("getting an access token takes too long".into()))?;
            let token = token.map_err(|fault| match fault {
                TokenFault::Away(words) => SmtpError::Unavailable(words),
                TokenFault::Login(words) => {
                    let words = words.trim_end_matches('.');
                    // What the server said of the token before stays in the words.
                    let words = refusal.map_or_else(|| words.to_owned(), |refusal| format!("{words} ({refusal})"));
                    // With a new consent the next message goes: nothing keeps it waiting.
                    SmtpError::Unavailable(format!("{words}. Run `mailweir account login {}`", config.label))
                }
                TokenFault::Setup(words) => SmtpError::Unavailable(words),
            })?;
            let (mechanism, response, last) = if bearer {
                let response = sasl::oauthbearer(&config.username, host, port, &token);
                ("OAUTHBEARER", response, Secret::new(sasl::OAUTHBEARER_ABORT))
            } else {
                ("XOAUTH2", sasl::xoauth2(&config.username, &token), Secret::new(Vec::new()))
            };
            let (reply, challenge) = self.exchange(mechanism, &[response, last], true).await?;
            match reply {
                reply if reply.is_positive() => return Ok(()),
                // A token may have been withdrawn before its time; a fresh one is worth one try.
                reply => {
                    let said = said("the provider refuses the login for sending", &reply);
                    let said = challenge.map_or_else(|| said.clone(), |challenge| format!("{said} ({challenge})"));
                    if withdrawn.is_some() || !reply.is_permanent() {
                        return Err(token_refused(&reply, said, config));
                    }
                    withdrawn = Some((token, said));
                }
            }
        }
    }

    fn has_auth(&self, mechanism: &str) -> bool {
        self.offers.auth.iter().any(|offered| offered == mechanism)
    }

    /// AUTH; `responses` answer the challenges one after the other, the first at once where `initial` says so (RFC 4954 §4).
    async fn authenticate(&mut self, mechanism: &str, responses: &[Secret], initial: bool) -> Result<Reply, SmtpError> {
        self.exchange(mechanism, responses, initial).await.map(|(reply, _)| reply)
    }

    /// The same, with the error the last challenge told of, in words.
    async fn exchange(
        &mut self,
        mechanism: &str,
        responses: &[Secret],
        initial: bool,
    ) -> Result<(Reply, Option<String>), SmtpError> {
        let mut told = None;
        let mut left = responses.iter();
        let mut line = format!("AUTH {mechanism}").into_bytes();
        let first = responses.first().filter(|_| initial).map(|first| sasl::encode(first.expose()));
        if let Some(encoded) = first.filter(|encoded| encoded.expose().len() <= LONGEST_INITIAL) {
            left.next();
            line.push(b' ');
            line.extend_from_slice(if encoded.expose().is_empty() { b"=" } else { encoded.expose() });
        }
        let mut line = Secret::new(line);
        let mut cancelled = false;
        loop {
            trace::hidden(&self.label, "AUTH");
            self.send_secret(line.expose()).await.map_err(lost)?;
            let reply = self.reply(COMMAND_TIMEOUT).await.map_err(lost)?;
            if reply.code != 334 {
                return Ok((reply, told));
            }
            told = responses.first().and_then(|response| sasl::read_error(reply.text().as_bytes(), response));
            if cancelled {
                return Err(lost(Lost("it does not end the login".into())));
            }
            line = match left.next() {
                Some(response) => sasl::encode(response.expose()),
                // It asks for more than the mechanism has: cancelled (RFC 4954 §4).
                None => {
                    cancelled = true;
                    Secret::new(*b"*")
                }
            };
        }
    }

    /// No reply has been read that nobody waits for: the next to be read is the next command's.
    pub(super) fn is_in_step(&self) -> bool {
        self.replies.is_empty()
    }

    /// The server has said something that was not waited for, or has closed.
    pub(super) fn has_spoken(&mut self) -> bool {
        let read = self.link.read_buf(self.replies.buffer()).now_or_never();
        matches!(read, Some(Ok(0) | Err(_))) || !self.is_in_step()
    }

    /// Brings an open transaction to its end without a message; whether the session can be used on.
    pub(super) async fn reset(&mut self) -> bool {
        if !self.is_in_step() {
            return false;
        }
        let reply = timeout(LAST_WORDS * 5, self.command("RSET")).await;
        matches!(reply, Ok(Ok(reply)) if reply.is_positive()) && self.is_in_step()
    }

    pub(super) async fn quit(mut self) {
        // Bounded: the server may be gone, and the connection is closed in any case.
        let _ = timeout(QUIT_TIMEOUT, self.command("QUIT")).await;
    }

    async fn command(&mut self, line: &str) -> Result<Reply, Lost> {
        self.send(line.as_bytes()).await?;
        self.reply(COMMAND_TIMEOUT).await
    }

    /// Sends a command line.
    pub(super) async fn send(&mut self, line: &[u8]) -> Result<(), Lost> {
        trace::sent(&self.label, line);
        self.send_secret(line).await
    }

    /// The same of a line that nobody may see.
    async fn send_secret(&mut self, line: &[u8]) -> Result<(), Lost> {
        let whole = Secret::new([line, b"\r\n"].concat());
        self.write(whole.expose()).await
    }

    /// Sends octets as they are.
    pub(super) async fn write(&mut self, mut octets: &[u8]) -> Result<(), Lost> {
        while !octets.is_empty() {
            match timeout(WRITE_TIMEOUT, self.link.write(octets)).await {
                Ok(Ok(count)) if count > 0 => {
                    octets = octets.get(count..).unwrap_or_default();
                }
                Ok(Ok(_)) => return Err(Lost("the connection takes nothing more".into())),
                Ok(Err(error)) => return Err(Lost(error.to_string())),
                Err(_) => return Err(Lost(format!("the server took nothing for {} s", WRITE_TIMEOUT.as_secs()))),
            }
        }
        match timeout(WRITE_TIMEOUT, self.link.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Lost(error.to_string())),
            Err(_) => Err(Lost("the connection takes nothing more".into())),
        }
    }

    /// The next reply, all of it within the limit.
    pub(super) async fn reply(&mut self, limit: Duration) -> Result<Reply, Lost> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(reply) = self.read_until(deadline, limit).await? {
                return Ok(reply);
            }
        }
    }

    /// The word on the message, its time begun anew by every read: who speaks is not gone, and giving up makes doubles.
    pub(super) async fn verdict(&mut self) -> Result<Reply, Lost> {
        loop {
            if let Some(reply) = self.read_until(Instant::now() + VERDICT_TIMEOUT, VERDICT_TIMEOUT).await? {
                return Ok(reply);
            }
        }
    }

    /// A reply that is here, or `None` after one read.
    async fn read_until(&mut self, deadline: Instant, limit: Duration) -> Result<Option<Reply>, Lost> {
        if let Some(reply) = self.replies.next_reply().map_err(|error| Lost(error.to_string()))? {
            trace::received(&self.label, &reply);
            return Ok(Some(reply));
        }
        match timeout_at(deadline, self.link.read_buf(self.replies.buffer())).await {
            Ok(Ok(0)) => Err(Lost("the server closed the connection".into())),
            Ok(Ok(_)) => Ok(None),
            Ok(Err(error)) => Err(Lost(error.to_string())),
            Err(_) => Err(Lost(format!("the server did not answer in {} s", limit.as_secs()))),
        }
    }
}

fn too_slow() -> SmtpError {
    SmtpError::Unavailable(format!(
        "the server for sending did not come to the end of the login in {} s",
        OPEN_TIMEOUT.as_secs()
    ))
}

fn lost(lost: Lost) -> SmtpError {
    SmtpError::Unavailable(format!("the server for sending: {lost}"))
}

fn said(what: &str, reply: &Reply) -> String {
    format!("{what}: {}", super::super::session::shorten(&reply.text()))
}

/// The same of a token: what the challenge told is more than the reply says, and there is no password to check.
fn token_refused(reply: &Reply, words: String, config: &SmtpConfig) -> SmtpError {
    match advice(reply) {
        "" if reply.is_permanent() => {
            let mend = "Check the user name of [account.smtp], and that sending is among the scopes";
            SmtpError::Login(format!("{words}. {mend}; then run `mailweir account login {}`", config.label))
        }
        "" => SmtpError::Unavailable(words),
        advice => SmtpError::Login(format!("{words}. {advice}")),
    }
}

/// A login that was not taken: for now, or until somebody does something about it.
fn refused(reply: &Reply) -> SmtpError {
    let words = said("the provider refuses the login for sending", reply);
    match advice(reply) {
        "" if reply.is_permanent() => {
            SmtpError::Login(format!("{words}. Check user name and password of [account.smtp]"))
        }
        "" => SmtpError::Unavailable(words),
        advice => SmtpError::Login(format!("{words}. {advice}")),
    }
}
