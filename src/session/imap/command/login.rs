//! Before and at login: what is offered, TLS, who it is. RFC 3501 §6.2, RFC 4616 (PLAIN), RFC 4959 (SASL-IR), RFC 5161 (ENABLE).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;
use crate::session::backend::Account as _;
use crate::session::imap::io::{ReadError, Stop};
use crate::session::imap::reply::Reply;
use crate::session::imap::state::{Failure, Session};
use crate::session::imap::{Login, LoginError, render};
use crate::wire::imap::framer::Frame;

/// What is served in every state; only what is served whole. IMAP4rev2 stays out (a widespread client shows an empty inbox
/// where it is offered), and so does UIDONLY (another one then goes on with sequence numbers).
const ALWAYS: &str = "IMAP4rev1 LITERAL+ SASL-IR ENABLE ID IDLE NAMESPACE CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE \
                      CREATE-SPECIAL-USE UIDPLUS MOVE UNSELECT CONDSTORE QRESYNC ESEARCH SEARCHRES WITHIN MULTIAPPEND \
                      STATUS=SIZE SORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES XLIST";

/// What Gmail offers of it, and its own ids (the simulated provider's list).
const GMAIL: &str = "IMAP4rev1 UNSELECT IDLE NAMESPACE ID XLIST CHILDREN X-GM-EXT-1 SASL-IR UIDPLUS ENABLE MOVE CONDSTORE \
                     ESEARCH LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE";

/// Characters of a program's name and version that are kept.
const PROGRAM_MOST: usize = 200;

impl<L: Login> Session<L> {
    /// The capabilities of this moment, separated by blanks.
    pub(crate) fn capabilities(&self) -> String {
        let profile = self.server.profile;
        let mut list = if profile.gmail { GMAIL } else { ALWAYS }.to_owned();
        if !profile.qresync {
            list = list.replace(" QRESYNC", "");
        }
        match &self.account {
            Some(account) => {
                list.push_str(&format!(" APPENDLIMIT={}", account.append_limit()));
                if account.offers_quota() {
                    list.push_str(" QUOTA");
                }
            }
            None => {
                if self.server.tls.is_some() && !self.io.is_tls() {
                    list.push_str(" STARTTLS");
                }
                list.push_str(if self.may_login() { " AUTH=PLAIN AUTH=LOGIN" } else { " LOGINDISABLED" });
            }
        }
        list
    }

    fn may_login(&self) -> bool {
        self.io.is_tls() || self.plaintext_login
    }

    /// RFC 2971. What the client says of itself is shown to the account's owner and goes to the audit trail: nothing is decided by it.
    pub(crate) fn id(&mut self, fields: Option<&[(String, Option<String>)]>) -> Reply {
        let field = |name: &str| {
            let found = fields.unwrap_or_default().iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.and_then(|(_, value)| value.as_deref())
        };
        if fields.is_some() {
            let said = [field("name"), field("version")].map(Option::unwrap_or_default);
            self.server.observer.program(said[0], said[1]);
        }
        if let Some(name) = field("name") {
            let words = [Some(name), field("version")].into_iter().flatten().flat_map(|word| [" ", word]);
            let program: String = words.skip(1).flat_map(str::chars).take(PROGRAM_MOST).collect();
            match &self.account {
                Some(account) => account.name_program(&program),
                None => self.program = Some(program.into()),
            }
        }
        let out = &mut self.io.out;
        render::text(out, "* ID (\"name\" ");
        render::string(out, self.server.name.as_bytes());
        render::text(out, " \"version\" ");
        render::string(out, env!("CARGO_PKG_VERSION").as_bytes());
        render::text(out, ")\r\n");
        Reply::ok("ID completed")
    }

    pub(crate) fn starttls(&mut self) -> Result<Reply, Failure> {
        if self.io.is_tls() {
            return Ok(Reply::bad("TLS is active already"));
        }
        if self.account.is_some() {
            return Ok(Reply::bad("Already logged in"));
        }
        if self.server.tls.is_none() {
            return Ok(Reply::bad("TLS is not offered here"));
        }
        Ok(Reply::ok("Begin TLS negotiation now"))
    }

    pub(crate) async fn login(&mut self, user: &[u8], password: &Secret) -> Result<Reply, Failure> {
        if self.account.is_some() {
            return Ok(Reply::bad("Already logged in"));
        }
        if !self.may_login() {
            return Ok(needs_tls());
        }
        self.verify(user, password).await
    }

    pub(crate) async fn authenticate(&mut self, mechanism: &str, initial: Option<Secret>) -> Result<Reply, Failure> {
        if self.account.is_some() {
            return Ok(Reply::bad("Already logged in"));
        }
        if !self.may_login() {
            return Ok(needs_tls());
        }
        if mechanism.eq_ignore_ascii_case("PLAIN") {
            let response = match initial {
                Some(response) => response,
                None => self.challenge("").await?,
            };
            let mut parts = response.expose().splitn(3, |b| *b == 0);
            let (Some(authorize), Some(user), Some(password)) = (parts.next(), parts.next(), parts.next()) else {
                return Ok(Reply::bad("Not a PLAIN response"));
            };
            if !authorize.is_empty() && authorize != user {
                // RFC 4616: acting for another user; there is no such right here.
                return Ok(Reply::no("Not allowed to act for another user").with("AUTHORIZATIONFAILED"));
            }
            let (user, password) = (user.to_vec(), Secret::new(password));
            self.verify(&user, &password).await
        } else if mechanism.eq_ignore_ascii_case("LOGIN") {
            let user = match initial {
                Some(user) => user,
                // "Username:"
                None => self.challenge("VXNlcm5hbWU6").await?,
            };
            // "Password:"
            let password = self.challenge("UGFzc3dvcmQ6").await?;
            self.verify(user.expose(), &password).await
        } else {
            Ok(Reply::no("Mechanism is not offered").with("CANNOT"))
        }
    }

    /// Sends a challenge (base64 already) and reads the response to it.
    async fn challenge(&mut self, text: &str) -> Result<Secret, Failure> {
        render::text(&mut self.io.out, "+ ");
        render::text(&mut self.io.out, text);
        render::text(&mut self.io.out, "\r\n");
        match self.io.frame().await {
            Ok(Frame::Message(line)) if &line[..] == b"*" => Err(Reply::bad("Authentication cancelled").into()),
            Ok(Frame::Message(line)) => match STANDARD.decode(&line[..]) {
                Ok(bytes) => Ok(Secret::new(bytes)),
                Err(_) => Err(Reply::bad("Not base64").into()),
            },
            Ok(_) => {
                self.io.refuse_literal();
                Err(Reply::bad("Not base64").into())
            }
            Err(ReadError::Stop(stop)) => Err(stop.into()),
            Err(ReadError::Framing(_)) if self.io.is_broken() => {
                Err(Stop::Bye { code: None, text: "Response is too long" }.into())
            }
            Err(ReadError::Framing(error)) => Err(Reply::bad(error.to_string()).into()),
        }
    }

    async fn verify(&mut self, user: &[u8], password: &Secret) -> Result<Reply, Failure> {
        let verified = match std::str::from_utf8(user) {
            Ok(user) => {
                let server = std::sync::Arc::clone(&self.server);
                self.io.wait(server.login.verify(self.peer, user, password)).await?
            }
            Err(_) => Err(LoginError::Wrong),
        };
        let refused = match verified {
            Ok(account) => {
                self.io.set_logged_in(account.append_limit());
                if let Some(program) = self.program.take() {
                    account.name_program(&program);
                }
                self.account = Some(account);
                return Ok(Reply::ok("Logged in").with(format!("CAPABILITY {}", self.capabilities())));
            }
            Err(LoginError::Wrong) => Reply::no("Wrong user name or password").with("AUTHENTICATIONFAILED"),
            Err(LoginError::Slowed) => Reply::no("Too many failed logins; wait a little").with("LIMIT"),
            Err(LoginError::Unavailable) => Reply::no("This account cannot be served now").with("UNAVAILABLE"),
            Err(LoginError::Refused { code, text }) => Reply { code: code.map(Into::into), ..Reply::no(text) },
        };
        self.failed_logins += 1;
        Ok(refused)
    }

    /// RFC 5161. Unknown names are passed over.
    pub(crate) fn enable(&mut self, names: &[String]) -> Result<Reply, Failure> {
        self.account()?;
        let mut enabled = String::from("* ENABLED");
        for name in ["CONDSTORE", "QRESYNC"] {
            let offered = name != "QRESYNC" || self.server.profile.qresync;
            if offered && names.iter().any(|asked| asked.eq_ignore_ascii_case(name)) {
                enabled.push(' ');
                enabled.push_str(name);
                self.qresync |= name == "QRESYNC";
            }
        }
        if enabled.len() > "* ENABLED".len() {
            // Before the mod-sequences that may follow it.
            render::text(&mut self.io.out, &enabled);
            render::text(&mut self.io.out, "\r\n");
            // QRESYNC implies CONDSTORE (RFC 7162 §3.2.3).
            self.enable_condstore();
        } else {
            render::text(&mut self.io.out, "* ENABLED\r\n");
        }
        Ok(Reply::ok("Enabled"))
    }

    /// RFC 2342: one personal namespace.
    pub(crate) async fn namespace(&mut self) -> Result<Reply, Failure> {
        let account = self.account()?;
        let folders = self.io.wait(account.folders()).await??;
        let out = &mut self.io.out;
        render::text(out, "* NAMESPACE ((");
        render::string(out, folders.prefix.as_bytes());
        render::text(out, " ");
        render::delimiter(out, folders.delimiter);
        render::text(out, ")) NIL NIL\r\n");
        Ok(Reply::ok("Namespace completed"))
    }
}

fn needs_tls() -> Reply {
    Reply::no("Log in over TLS: use STARTTLS or the TLS port").with("PRIVACYREQUIRED")
}
