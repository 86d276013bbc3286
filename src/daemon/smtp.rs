//! Sending: from a submission session to the account's server for it, and what is told of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::outbox::{Kept, Outbox, Route};
use super::spending::Spending;
use crate::config;
use crate::engine::{Allowance, Error, Grant};
use crate::metrics::{AccountMetrics, Sent};
use crate::net::Target;
use crate::secret::SecretRef;
use crate::session::smtp;
use crate::upstream::Credentials;
use crate::upstream::smtp::{Extensions, Passage, Reply, Smtp, SmtpConfig, SmtpError, advice};
use crate::wire::smtp::same_address;

/// A server that was away is asked again by a client's greeting, so often at most.
const PROBE_EVERY: Duration = Duration::from_secs(60);

/// One account's way out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outgoing {
    inner: Arc<Inner>,
}

struct Inner {
    address: String,
    server: String,
    outbox: Arc<Outbox>,
    /// The addresses mail may be sent from.
    own: Vec<String>,
    smtp: Smtp,
    credentials: Credentials,
    /// A password of its own, where sending has another than reading; read when it is needed.
    password: Option<SecretRef>,
    spending: Arc<Spending>,
    probed: Mutex<Option<Instant>>,
}

impl Outgoing {
    /// `None`: the account has no server for sending. `credentials` are those of IMAP.
    pub(super) fn new(
        settings: &config::Account,
        credentials: Credentials,
        spending: Arc<Spending>,
        outbox: Arc<Outbox>,
    ) -> Option<Self> {
        let server = settings.smtp.as_ref()?;
        if !server.verify {
            warn!(account = %settings.address, host = %server.host,
                "THE CERTIFICATE OF THE SERVER FOR SENDING IS NOT VERIFIED (verify = false): anybody on the way can read the password and the mail");
        }
        let smtp = Smtp::new(SmtpConfig {
            label: settings.address.clone(),
            dial: Arc::new(Target::of(server)),
            username: server.username.clone(),
            meter: Arc::<Spending>::clone(&spending),
            postage: Arc::<Spending>::clone(&spending),
        });
        let password = server.password.clone().filter(|own| settings.imap.password.as_ref() != Some(own));
        let own = std::iter::once(&settings.address).chain(&settings.aliases).cloned().collect();
        let inner = Inner {
            address: settings.address.clone(),
            server: server.host.clone(),
            outbox,
            own,
            smtp,
            credentials,
            password,
            spending,
            probed: Mutex::default(),
        };
        Some(Self { inner: Arc::new(inner) })
    }

    /// Learns in the background what the provider can, so that clients hear of it; not more often than now and then.
    pub(super) fn probe(&self) {
        {
            let mut probed = self.inner.probed.lock().unwrap_or_else(PoisonError::into_inner);
            if probed.is_some_and(|at| at.elapsed() < PROBE_EVERY) {
                return;
            }
            *probed = Some(Instant::now());
        }
        let own = self.clone();
        tokio::spawn(async move { own.inner.smtp.probe().await });
    }

    pub(super) fn kick(&self) {
        self.inner.smtp.kick();
    }

    pub(super) async fn shutdown(&self) {
        self.inner.smtp.shutdown().await;
    }

    async fn credentials(&self) -> Result<Credentials, String> {
        let Some(password) = &self.inner.password else { return Ok(self.inner.credentials.clone()) };
        let password = password.resolve().await.map_err(|error| format!("the password for sending: {error}"))?;
        Ok(Credentials::Password(password))
    }

    /// A session at the provider, for one message.
    pub(super) async fn lease(&self) -> Result<Passage, SmtpError> {
        let credentials = self.credentials().await.map_err(SmtpError::Login)?;
        self.inner.smtp.lease(&credentials).await
    }

    /// Sets octets aside, where they may be sent now.
    pub(super) fn upload(&self, octets: u64) -> Result<Grant, Error> {
        self.inner.spending.upload(octets)
    }

    /// For how long the day's messages are spent; `None`: one more may be sent.
    pub(super) fn spent(&self) -> Option<Duration> {
        self.inner.spending.sending_wait()
    }

    /// The name of the server.
    pub(super) fn server(&self) -> &str {
        &self.inner.server
    }

    fn metrics(&self) -> &AccountMetrics {
        self.inner.spending.metrics()
    }
}

impl smtp::Outgoing for Outgoing {
    type Passage = Route;

    fn address(&self) -> &str {
        &self.inner.address
    }

    fn is_own(&self, address: &str) -> bool {
        self.inner.own.iter().any(|own| same_address(own, address))
    }

    fn offers(&self) -> Extensions {
        self.inner.smtp.offers().unwrap_or_else(|| {
            // It was away when it was asked; the next client hears of it.
            self.probe();
            // What is kept goes to a provider of this decade.
            let keeps = self.inner.outbox.keeps();
            Extensions { eight_bit: keeps, utf8: keeps, ..Extensions::default() }
        })
    }

    fn admit(&self, octets: u64) -> Result<smtp::Grant, Reply> {
        let outbox = &self.inner.outbox;
        if outbox.keeps() || outbox.copies() {
            // Asked for by the way itself, which goes on without it.
            return Ok(Box::new(()));
        }
        self.upload(octets).map_err(|error| Reply::new(452, "4.5.3", error.to_string()))
    }

    async fn open(&self, octets: u64) -> Result<Route, Reply> {
        let outbox = &self.inner.outbox;
        if outbox.keeps() || outbox.copies() {
            return Kept::open(self, outbox, octets).await.map(|kept| Route::Kept(Box::new(kept)));
        }
        self.lease().await.map(|way| Route::Straight(Box::new(way))).map_err(|error| match error {
            SmtpError::Unavailable(words) => {
                warn!(account = %self.inner.address, "nothing can be sent now: {words}");
                Reply::new(451, "4.4.1", words)
            }
            // 4xx: a mail program keeps the message and does not ask for the password it gave us.
            SmtpError::Login(words) => {
                warn!(account = %self.inner.address, "the login for sending fails: {words}");
                Reply::new(454, "4.7.0", words)
            }
            SmtpError::Limit(reply) => reply,
        })
    }

    fn reply_to(&self) -> Option<&str> {
        self.inner.outbox.reply_to()
    }

    fn sent(&self, outcome: &Reply, recipients: usize, octets: u64) {
        let (account, code) = (&self.inner.address, outcome.code);
        if outcome.is_positive() {
            self.metrics().message_sent(Sent::Taken);
            info!(%account, recipients, octets, "a message was sent");
            return;
        }
        self.metrics().message_sent(if outcome.is_permanent() { Sent::Refused } else { Sent::Later });
        let (words, mend) = (outcome.text(), advice(outcome));
        warn!(%account, recipients, octets, code, mend, "a message was not sent: {words}");
    }
}

impl smtp::Passage for Passage {
    fn pipelines(&self) -> bool {
        self.offers().is_some_and(|offers| offers.pipelining)
    }

    async fn send(&mut self, line: String) -> Result<(), String> {
        Self::send(self, &line).await.map_err(|lost| lost.to_string())
    }

    async fn reply(&mut self) -> Result<Reply, String> {
        Self::reply(self).await.map_err(|lost| lost.to_string())
    }

    async fn write(&mut self, dotted: &[u8]) -> Result<(), String> {
        Self::write(self, dotted).await.map_err(|lost| lost.to_string())
    }

    fn is_unsent(&self) -> bool {
        Self::is_unsent(self)
    }

    async fn verdict(&mut self) -> Result<Reply, String> {
        Self::verdict(self).await.map_err(|lost| lost.to_string())
    }

    async fn last_words(&mut self) -> Option<Reply> {
        Self::last_words(self).await
    }

    async fn rest(self, clean: bool) {
        Self::rest(self, clean).await;
    }
}

/// What all of several providers can.
pub(super) fn common(offers: impl Iterator<Item = Extensions>) -> Extensions {
    let all = offers.reduce(|a, b| Extensions {
        eight_bit: a.eight_bit && b.eight_bit,
        utf8: a.utf8 && b.utf8,
        dsn: a.dsn && b.dsn,
        // The largest any of them takes, where all have said: who is above its own is told after the login.
        size: a.size.zip(b.size).map(|(a, b)| a.max(b)),
        ..Extensions::default()
    });
    all.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_where_all_have_one() {
        let table: [(&[Option<u64>], Option<u64>); 4] = [
            (&[], None),
            (&[Some(10)], Some(10)),
            (&[Some(10), Some(30), Some(20)], Some(30)),
            (&[Some(10), None, Some(20)], None),
        ];
        for (sizes, want) in table {
            let all = sizes.iter().map(|size| Extensions { size: *size, ..Extensions::default() });
            assert_eq!(common(all).size, want, "{sizes:?}");
        }
    }
}
