//! From an address to a session that is logged in: greeting, STARTTLS, login, capabilities, ID, ENABLE.
//!
//! Credentials are never sent before TLS where TLS is wanted: with STARTTLS configured, a server that does not offer it, refuses it
//! or greets with PREAUTH is given up. Whatever was received before the handshake is forgotten (RFC 9051 §6.2.1).
//!
//! The ladder of logins: a token by XOAUTH2 or OAUTHBEARER; a password by AUTHENTICATE PLAIN, else LOGIN unless LOGINDISABLED.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::answer::{Answer, Code, Data, Kind, Status};
use super::caps::Caps;
use super::config::{CONNECT_TIMEOUT, Config, Counting, Credentials, Outcome, TokenFault, Tokens};
use super::error::Error;
use super::gate::Gate;
use super::line::Line;
use super::session::{Done, Fault, READ_TIMEOUT, Session, nothing, shorten};
use super::words::{Meaning, Place, meaning};
use crate::net::dial::TlsMode;
use crate::secret::Secret;
use crate::wire::imap::response as wire;
use crate::wire::sasl;

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
        let text = shorten(text.trim_end_matches('.'));
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
        let tap = Arc::new(Counting(Arc::clone(&config.meter)));
        let link = config.dial.dial(tap).await.map_err(|error| OpenFault::ordinary(error.to_string()));
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
            self.log_in(config).await?;
        }
        self.need_caps(config).await?;
        self.introduce().await?;
        self.compress().await
    }

    /// COMPRESS (RFC 4978), after the login, so that no secret is compressed together with anything. Sent alone: what the server says after
    /// its OK is compressed. A refusal costs nothing but the wish.
    async fn compress(&mut self) -> Result<(), OpenFault> {
        if !self.caps().has("COMPRESS=DEFLATE") {
            return Ok(());
        }
        if self.plain_run(Line::new("COMPRESS DEFLATE")).await?.is_ok() {
            self.begin_compression();
        }
        Ok(())
    }

    /// The greeting; true for PREAUTH.
    async fn greet(&mut self, config: &Config) -> Result<bool, OpenFault> {
        let greeting = timeout(GREETING_TIMEOUT, self.next_answer(Some(READ_TIMEOUT))).await;
        let answer = greeting.map_err(|_| OpenFault::ordinary("the server does not greet"))?;
        let (status, preauth) = match answer.map_err(|fault| self.given_up(&fault))? {
            Answer::Data(Data::Told(status)) if status.kind == Kind::Ok => (status, false),
            Answer::Data(Data::Preauth(status)) => (status, true),
            Answer::Data(Data::Told(status)) => {
                return Err(OpenFault::said(Place::Bye, status.code.as_ref().map(Code::whole), &status.text));
            }
            // Something that is no IMAP server; its words may help (a proxy's, or SSH's).
            _ => return Err(OpenFault::ordinary("what answers there does not speak IMAP")),
        };
        self.believe(config, &status.code);
        Ok(preauth)
    }

    async fn start_tls(&mut self, config: &Config) -> Result<(), OpenFault> {
        self.need_caps(config).await?;
        if !self.caps().has("STARTTLS") {
            let reason = "the server does not offer STARTTLS, and a password is not sent without encryption. \
                          Check `port` and `tls` (993 is implicit TLS)";
            return Err(OpenFault::ordinary(reason));
        }
        self.plain_run(Line::new("STARTTLS")).await?.map_err(|_| {
            OpenFault::ordinary("the server refuses STARTTLS, and a password is not sent without encryption")
        })?;
        let Some(link) = self.take_link() else {
            return Err(OpenFault::ordinary("the connection was lost at STARTTLS"));
        };
        let upgraded = timeout(CONNECT_TIMEOUT, config.dial.upgrade(link)).await;
        let link = upgraded.map_err(|_| OpenFault::ordinary("the TLS handshake takes too long"))?;
        self.set_link(link.map_err(|error| OpenFault::ordinary(error.to_string()))?);
        // What was said in the clear is not believed (RFC 9051 §6.2.1).
        self.set_caps(Caps::default());
        Ok(())
    }

    async fn log_in(&mut self, config: &Config) -> Result<(), OpenFault> {
        match &config.credentials {
            Credentials::Password(password) => self.log_in_by_password(config, password).await,
            Credentials::OAuth(tokens) => self.log_in_by_token(config, tokens.as_ref()).await,
        }
    }

    async fn log_in_by_password(&mut self, config: &Config, password: &Secret) -> Result<(), OpenFault> {
        let may_login = !self.caps().has("LOGINDISABLED");
        if self.caps().auth("PLAIN") {
            let response = sasl::plain(&config.username, password);
            match self.authenticate(config, "PLAIN", &response, b"").await? {
                Ok(()) => return Ok(()),
                // BAD is no word on the password: some servers offer what they cannot read.
                Err((true, _)) if may_login => {}
                Err((_, fault)) => return Err(fault),
            }
        }
        if !may_login {
            let reason = "the server takes no passwords here";
            return Err(OpenFault {
                meaning: Meaning::AppPassword,
                reason: format!("{reason}. {}", Meaning::AppPassword.advice()),
            });
        }
        let line = Line::new("LOGIN ").string(config.username.as_bytes()).text(" ").string(password.expose());
        self.log_in_run(config, line).await?.map_err(|(_, fault)| fault)
    }

    async fn log_in_by_token(&mut self, config: &Config, tokens: &dyn Tokens) -> Result<(), OpenFault> {
        let bearer = match (self.caps().auth("XOAUTH2"), self.caps().auth("OAUTHBEARER")) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => {
                let reason = "the server does not offer OAuth (neither XOAUTH2 nor OAUTHBEARER)";
                return Err(OpenFault { meaning: Meaning::Forbidden, reason: reason.into() });
            }
        };
        let mut refused: Option<(Secret, String)> = None;
        loop {
            let (old, said) = refused.clone().unzip();
            // What the server said of the token before stays in the words.
            let after = |reason: &str| match &said {
                Some(said) => format!("{reason} ({})", said.trim_end_matches('.')),
                None => reason.to_owned(),
            };
            let token = timeout(TOKEN_TIMEOUT, tokens.token(old)).await;
            let token = token.map_err(|_| OpenFault::ordinary("getting an access token takes too long"))?;
            let token = token.map_err(|fault| match fault {
                TokenFault::Away(reason) => OpenFault::ordinary(reason),
                TokenFault::Login(reason) => {
                    let reason = after(reason.trim_end_matches('.'));
                    let reason = format!("{reason}. Run `mailweir account login {}`", config.label);
                    OpenFault { meaning: Meaning::Consent, reason }
                }
                TokenFault::Setup(reason) => OpenFault { meaning: Meaning::Consent, reason },
            })?;
            let (mechanism, response) = if bearer {
                let (host, port) = config.dial.host();
                ("OAUTHBEARER", sasl::oauthbearer(&config.username, host, port, &token))
            } else {
                ("XOAUTH2", sasl::xoauth2(&config.username, &token))
            };
            // To the error in the challenge the answer is nothing by XOAUTH2, and ^A by OAUTHBEARER (RFC 7628 §3.2.3).
            match self
                .authenticate(config, mechanism, &response, if bearer { sasl::OAUTHBEARER_ABORT } else { b"" })
                .await?
            {
                Ok(()) => return Ok(()),
                // A token may have been withdrawn before its time; a fresh one is worth one try.
                Err((_, fault)) if fault.meaning == Meaning::Credentials && refused.is_none() => {
                    refused = Some((token, fault.reason));
                }
                Err((_, fault)) => return Err(fault),
            }
        }
    }

    /// AUTHENTICATE with `response` at once (SASL-IR) or when asked; `last` answers a second challenge. The inner error holds whether it
    /// was BAD.
    async fn authenticate(
        &mut self,
        config: &Config,
        mechanism: &str,
        response: &Secret,
        last: &[u8],
    ) -> Result<Result<(), (bool, OpenFault)>, OpenFault> {
        let encoded = sasl::encode(response.expose());
        let at_once = self.caps().has("SASL-IR");
        let tag = self.next_tag();
        self.queue(format!("{tag} AUTHENTICATE {mechanism}").as_bytes());
        if at_once {
            self.queue(b" ");
            self.queue(encoded.expose());
        }
        self.queue(b"\r\n");
        let mut given = at_once;
        let mut heard = Heard::default();
        loop {
            self.flush().await.map_err(|fault| self.given_up(&fault))?;
            let answer = self.next_answer(Some(READ_TIMEOUT)).await.map_err(|fault| self.given_up(&fault))?;
            match answer {
                Answer::Continue(_) if !given => {
                    given = true;
                    self.queue(encoded.expose());
                    self.queue(b"\r\n");
                }
                Answer::Continue(challenge) => {
                    heard.challenge = sasl::read_error(challenge.as_bytes(), response);
                    self.queue(sasl::encode(last).expose());
                    self.queue(b"\r\n");
                }
                Answer::Tagged(answered, status) if answered == tag => return Ok(self.logged_in(config, status, heard)),
                Answer::Data(data) => heard.take(data),
                Answer::Tagged(..) | Answer::Bye(_) => {}
            }
        }
    }

    async fn log_in_run(&mut self, config: &Config, line: Line) -> Result<Result<(), (bool, OpenFault)>, OpenFault> {
        let tag = self.next_tag();
        let mut heard = Heard::default();
        let mut take = |data: Data| {
            heard.take(data);
            None
        };
        let status = async {
            if let Some(early) = self.send_for_status(&tag, line, &mut take).await? {
                return Ok(early);
            }
            self.flush().await?;
            loop {
                match self.next_answer(Some(READ_TIMEOUT)).await? {
                    Answer::Tagged(answered, status) if answered == tag => return Ok(status),
                    other => self.untagged(other, &mut take)?,
                }
            }
        };
        let status: Result<Status, Fault> = status.await;
        let status = status.map_err(|fault| self.given_up(&fault))?;
        Ok(self.logged_in(config, status, heard))
    }

    fn logged_in(&mut self, config: &Config, status: Status, heard: Heard) -> Result<(), (bool, OpenFault)> {
        if status.kind != Kind::Ok {
            let code = status.code.as_ref().map(Code::whole);
            let mut fault = OpenFault::said(Place::Login, code, &status.text);
            if let Some(challenge) = heard.challenge {
                fault.reason = format!("{} ({challenge})", fault.reason);
            }
            // Gmail says where to log in by an untagged line before (providers' words: WEBALERT).
            if let Some(alert) = heard.alert {
                let said = OpenFault::said(Place::Login, alert.code.as_ref().map(Code::whole), &alert.text);
                if said.meaning == Meaning::WebLogin {
                    fault = OpenFault { meaning: said.meaning, reason: format!("{} ({})", fault.reason, said.reason) };
                }
            }
            return Err((status.kind == Kind::Bad, fault));
        }
        // What was offered before login need not hold after it: only what was told with or after the login counts.
        self.set_caps(Caps::default());
        if let Some(words) = heard.caps {
            self.set_caps(Caps::new(words.iter().map(String::as_str), &config.quirks.hidden_capabilities));
        }
        self.believe(config, &status.code);
        Ok(())
    }

    /// Capabilities told in a response code.
    fn believe(&mut self, config: &Config, code: &Option<Code>) {
        if let Some(code) = code
            && let wire::Code::Capability(words) = code.read()
        {
            self.set_caps(Caps::new(words, &config.quirks.hidden_capabilities));
        }
    }

    /// Asks for the capabilities unless they are known.
    async fn need_caps(&mut self, config: &Config) -> Result<(), OpenFault> {
        if !self.caps().names.is_empty() {
            return Ok(());
        }
        let mut told = Vec::new();
        let outcome = self
            .run(Line::new("CAPABILITY"), &mut |data| match data {
                Data::Capability(words) => {
                    told = words;
                    None
                }
                other => Some(other),
            })
            .await;
        outcome.map_err(|error| OpenFault::ordinary(error.to_string()))?;
        self.set_caps(Caps::new(told.iter().map(String::as_str), &config.quirks.hidden_capabilities));
        Ok(())
    }

    /// ID and ENABLE, pipelined; whether they succeed is not essential.
    async fn introduce(&mut self) -> Result<(), OpenFault> {
        let mut lines = Vec::new();
        if self.caps().has("ID") {
            // Never empty, which Exchange refuses; some (163.com) let nobody in who does not say who they are.
            lines.push(Line::new(concat!(
                "ID (\"name\" \"mailweir\" \"version\" \"",
                env!("CARGO_PKG_VERSION"),
                "\")"
            )));
        }
        // Never IMAP4rev2 (broken where offered) and never UTF8=ACCEPT (names stay modified UTF-7).
        if self.caps().has("ENABLE") {
            if self.caps().has("QRESYNC") {
                lines.push(Line::new("ENABLE QRESYNC"));
            } else if self.caps().has("CONDSTORE") {
                lines.push(Line::new("ENABLE CONDSTORE"));
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let mut enabled = false;
        let outcome = self
            .run_all(lines, &mut |data| match data {
                Data::Enabled(words) => {
                    enabled |= words.iter().any(|word| word.eq_ignore_ascii_case("QRESYNC"));
                    None
                }
                other => Some(other),
            })
            .await;
        let results = outcome.map_err(|error| OpenFault::ordinary(error.to_string()))?;
        for refused in results.into_iter().filter_map(Result::err) {
            if !matches!(refused, Error::No { .. }) {
                return Err(OpenFault::ordinary(refused.to_string()));
            }
        }
        self.qresync = enabled;
        Ok(())
    }

    async fn plain_run(&mut self, line: Line) -> Result<Result<Done, Error>, OpenFault> {
        match self.run(line, &mut nothing).await {
            Err(error) if !error.connection_usable() => Err(OpenFault::ordinary(error.to_string())),
            outcome => Ok(outcome),
        }
    }

    /// A connection lost on the way: what the provider's farewell meant is kept.
    fn given_up(&mut self, fault: &Fault) -> OpenFault {
        let error = self.broke(fault, 0);
        let meaning = self.loss().map_or(Meaning::Ordinary, |(_, meaning)| meaning);
        let advice = meaning.advice();
        OpenFault { meaning, reason: format!("{error}. {advice}").trim_end_matches([' ', '.']).into() }
    }
}

/// What is told while a login is under way.
#[derive(Default)]
struct Heard {
    caps: Option<Vec<String>>,
    alert: Option<Status>,
    /// The error in the challenge to a token, in words.
    challenge: Option<String>,
}

impl Heard {
    fn take(&mut self, data: Data) {
        match data {
            Data::Capability(words) => self.caps = Some(words),
            Data::Told(status) if status.kind != Kind::Ok => self.alert = Some(status),
            _ => {}
        }
    }
}
