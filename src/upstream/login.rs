//! From an address to a session that is logged in: greeting, STARTTLS, login, capabilities, ID, ENABLE.
//!
//! Credentials are never sent before TLS where TLS is wanted: with STARTTLS configured, a server that does not offer it, refuses it
//! or greets with PREAUTH is given up. Whatever was received before the handshake is forgotten (RFC 9051 §6.2.1).
//!
//! The ladder of logins: a token by XOAUTH2 or OAUTHBEARER; a password by AUTHENTICATE PLAIN, else LOGIN unless LOGINDISABLED.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::answer::{Answer, Data, Kind, Status};
use super::caps::Caps;
use super::config::{CONNECT_TIMEOUT, Config, Credentials, Outcome, Tokens};
use super::error::Error;
use super::gate::Gate;
use super::line::Line;
use super::session::{Done, Fault, READ_TIMEOUT, Session, nothing, shorten};
use super::words::{Meaning, Place, meaning};
use crate::net::dial::TlsMode;
use crate::secret::Secret;

/// How long the greeting may take: some servers look up our name first.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);
/// How long getting a token may take: a round trip to another server, or two.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Why no session came about, and what that means for the account. `reason` is plain words.
#[derive(Clone, Debug)]
pub(super) struct OpenFault {
    pub meaning: Meaning,
    pub reason: String,
}

impl OpenFault {
    fn ordinary(reason: impl Into<String>) -> Self {
        Self { meaning: Meaning::Ordinary, reason: reason.into() }
    }

    /// A refusal in the provider's words, with our advice.
    fn said(place: Place, code: Option<&str>, text: &str) -> Self {
        let meaning = meaning(place, code, text);
        let text = shorten(text);
        let reason = match (text.is_empty(), meaning.advice()) {
            (true, advice) => format!("the provider refused without a reason. {advice}"),
            (false, "") => format!("the provider says: {text}"),
            (false, advice) => format!("the provider says: {text}. {advice}"),
        };
        Self { meaning, reason: reason.trim_end().into() }
    }
}

impl Session {
    /// Opens a session and logs in.
    pub(super) async fn open(config: &Config, gate: &Arc<Gate>) -> Result<Self, OpenFault> {
        let permit = config.permits.connection().map_err(|error| OpenFault::ordinary(error.to_string()))?;
        config.permits.login().await;
        let link = config.dial.dial().await.map_err(|error| OpenFault::ordinary(error.to_string()));
        let opened = match link {
            Ok(link) => {
                let mut session = Self::new(config, gate, link, permit);
                session.set_up(config).await.map(|()| session)
            }
            Err(fault) => Err(fault),
        };
        config.meter.login(match &opened {
            Ok(_) => Outcome::Ok,
            Err(fault) if fault.meaning.is_hard() => Outcome::Refused,
            Err(fault) if fault.meaning == Meaning::Ordinary => Outcome::Failed,
            Err(_) => Outcome::Limited,
        });
        opened
    }

    async fn set_up(&mut self, config: &Config) -> Result<(), OpenFault> {
        let preauth = self.greet(config).await?;
        if config.dial.tls() == TlsMode::StartTls {
            if preauth {
                return Err(OpenFault::ordinary("the server greets as logged in, so that STARTTLS is not possible"));
            }
            self.start_tls(config).await?;
        }
        if !preauth {
            self.need_caps(config).await?;
            self.set_caps(Caps::default_after(self.caps()));
            let told = self.log_in(config).await?;
            self.learn(config, told);
        }
        self.need_caps(config).await?;
        self.introduce().await
    }
}
