//! Before and at login: what is offered, TLS, and who it is. RFC 5321 §4.1.1.1, RFC 3207, RFC 4954.

use std::sync::Arc;

use crate::secret::Secret;
use crate::session::front::LoginError;
use crate::session::smtp::state::{Failure, Session, largest};
use crate::session::smtp::{Login, Outgoing as _};
use crate::wire::sasl;
use crate::wire::smtp::Reply;

impl<L: Login> Session<L> {
    pub(super) fn may_login(&self) -> bool {
        self.io.is_tls() || self.plaintext_login
    }

    /// The answer to EHLO: what we do ourselves, and what the provider must be able to.
    pub(super) fn capabilities(&self) -> Reply {
        let offers = match &self.outgoing {
            Some(outgoing) => outgoing.offers(),
            None => self.server.login.offers(),
        };
        let mut lines = vec![self.server.name.to_owned(), "PIPELINING".into(), "CHUNKING".into()];
        lines.push(match offers.size {
            Some(_) => format!("SIZE {}", largest(&offers)),
            None => "SIZE".into(),
        });
        for (there, keyword) in [(offers.eight_bit, "8BITMIME"), (offers.utf8, "SMTPUTF8"), (offers.dsn, "DSN")] {
            if there {
                lines.push(keyword.into());
            }
        }
        lines.push("ENHANCEDSTATUSCODES".into());
        if self.server.tls.is_some() && !self.io.is_tls() && self.outgoing.is_none() {
            lines.push("STARTTLS".into());
        }
        if self.may_login() {
            lines.push("AUTH PLAIN LOGIN".into());
        }
        Reply { code: 250, enhanced: None, lines }
    }

    pub(super) fn starttls(&mut self) -> Result<Reply, Failure> {
        let refused = match (self.outgoing.is_some(), self.io.is_tls(), self.server.tls.is_some()) {
            (true, ..) => "STARTTLS belongs before the login",
            (_, true, _) => "TLS is active already",
            (.., false) => "TLS is not offered here",
            _ => {
                // Said in the clear, so not to be built on (RFC 3207 §4.2).
                self.greeted = None;
                return Ok(Reply::new(220, "2.0.0", "Begin TLS negotiation"));
            }
        };
        Err(Reply::new(503, "5.5.1", refused).into())
    }

    pub(super) async fn auth(&mut self, mechanism: &str, initial: Option<Secret>) -> Result<Reply, Failure> {
        if self.outgoing.is_some() {
            return Err(Reply::new(503, "5.5.1", "Already logged in").into());
        }
        if !self.may_login() {
            return Err(Reply::new(538, "5.7.11", "Log in over TLS: use STARTTLS or the TLS port").into());
        }
        if self.greeted != Some(true) {
            return Err(Reply::new(503, "5.5.1", "EHLO comes first").into());
        }
        let initial = initial.map(|initial| decoded(initial.expose())).transpose()?;
        if mechanism.eq_ignore_ascii_case("PLAIN") {
            let message = match initial {
                Some(message) => message,
                None => self.challenge(b"").await?,
            };
            let credentials =
                sasl::read_plain(&message).ok_or_else(|| Reply::new(501, "5.5.2", "Not a PLAIN response"))?;
            if !credentials.authorize.is_empty() && credentials.authorize != credentials.user {
                // RFC 4616: acting for another user; there is no such right here.
                return Err(Reply::new(535, "5.7.8", "Not allowed to act for another user").into());
            }
            return self.log_in(&credentials.user, &credentials.secret).await;
        }
        if mechanism.eq_ignore_ascii_case("LOGIN") {
            let [ask_user, ask_password] = sasl::LOGIN_CHALLENGES;
            let user = match initial {
                Some(user) => user,
                None => self.challenge(ask_user.as_bytes()).await?,
            };
            let user = sasl::read_login_user(&user).ok_or_else(|| Reply::new(501, "5.5.2", "Not a user name"))?;
            let password = self.challenge(ask_password.as_bytes()).await?;
            return self.log_in(&user, &password).await;
        }
        Err(Reply::new(504, "5.5.4", "No such mechanism; there are PLAIN and LOGIN").into())
    }

    /// Sends a challenge and reads the response to it.
    async fn challenge(&mut self, words: &[u8]) -> Result<Secret, Failure> {
        let words = sasl::encode(words);
        self.io.out.extend_from_slice(b"334 ");
        self.io.out.extend_from_slice(words.expose());
        self.io.out.extend_from_slice(b"\r\n");
        let line = self.io.line().await?;
        if &line[..] == b"*" {
            return Err(Reply::new(501, "5.7.0", "Authentication cancelled").into());
        }
        Ok(decoded(&line)?)
    }

    async fn log_in(&mut self, user: &str, password: &Secret) -> Result<Reply, Failure> {
        let server = Arc::clone(&self.server);
        match self.io.wait(server.login.verify(self.peer, user, password)).await? {
            Ok(outgoing) => {
                self.outgoing = Some(outgoing);
                self.io.set_logged_in();
                Ok(Reply::new(235, "2.7.0", "Logged in"))
            }
            Err(error) => {
                self.failed_logins += 1;
                Err(refused(error).into())
            }
        }
    }
}

/// Only a wrong password says so: for anything else the client is not to ask its user.
fn refused(error: LoginError) -> Reply {
    match error {
        LoginError::Wrong => Reply::new(535, "5.7.8", "Wrong user name or password"),
        LoginError::Slowed => Reply::new(454, "4.7.0", "Too many failed logins from your address; wait a little"),
        LoginError::Unavailable => Reply::new(454, "4.7.0", "This account cannot be served now"),
        LoginError::Refused { text, .. } => Reply::new(454, "4.7.0", text),
    }
}

fn decoded(line: &[u8]) -> Result<Secret, Reply> {
    sasl::decode(line).ok_or_else(|| Reply::new(501, "5.5.2", "Not base64"))
}
