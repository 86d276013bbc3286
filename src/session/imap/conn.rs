//! The life of a connection: greeting, commands one after the other, last words.
//!
//! Law 5: a command is read when the one before it has been answered; what a client pipelines waits in the framer's buffer and
//! the kernel's. Law 7: whatever a peer sends ends in an answer or in BYE.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::command::append;
use super::io::{Io, ReadError, Stop};
use super::reply::{Reply, Status, no, untagged};
use super::state::{Failure, Session, Telling};
use super::{Accepted, Login, Server};
use crate::engine::Error;
use crate::session::backend::{Account as _, Mailbox as _};
use crate::session::front::{Open, is_other_protocol};
use crate::session::protocol;
use crate::wire::imap::command::{Command, Tagged};
use crate::wire::imap::framer::{Frame, FramingError};
use crate::wire::imap::parse;

/// Commands in a row that are not understood before a peer that has not logged in is shown out. A person with telnet makes a few.
const MAX_BAD_BEFORE_LOGIN: u32 = 10;
/// The same after login; a client that does this is broken, and its loop costs others.
const MAX_BAD: u32 = 20;
/// Refused logins on one connection; the policy slows them down, this ends the dictionary.
const MAX_FAILED_LOGINS: u32 = 10;

/// Serves one client until it is gone. Ends soon after `shutdown` (with BYE), whatever it was waiting for from the client.
pub async fn serve<L: Login>(server: Arc<Server<L>>, accepted: Accepted, shutdown: CancellationToken) {
    let _open = Open::new(Arc::clone(&server.observer));
    let plaintext_login = accepted.plaintext_login;
    let Some(stream) = accepted.begin(server.tls.as_ref()).await else { return };
    let peer = stream.peer_ip();
    let mut session = Session::new(server, Io::new(stream, shutdown), peer, plaintext_login);
    session.greet();
    loop {
        match session.step().await {
            Ok(Next::Command) => {}
            Ok(Next::StartTls) => {
                let Some(tls) = session.server.tls.clone() else { return };
                match Box::pin(session.io.start_tls(tls)).await {
                    Ok(io) => session.io = io,
                    Err(_) => return,
                }
            }
            Err(stop) => {
                // The interest in the mailbox ends at once, not after the last bytes have been taken.
                session.selected = None;
                session.io.close(&stop).await;
                return;
            }
        }
    }
}

/// What follows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Command,
    StartTls,
}

impl<L: Login> Session<L> {
    fn new(server: Arc<Server<L>>, io: Io, peer: IpAddr, plaintext_login: bool) -> Self {
        Self {
            server,
            io,
            peer,
            plaintext_login,
            account: None,
            selected: None,
            condstore: false,
            qresync: false,
            alerted: None,
            failed_logins: 0,
            bad_commands: 0,
            spoke_imap: false,
            noticed: false,
            program: None,
            heard: 0,
        }
    }

    fn greet(&mut self) {
        let code = format!("CAPABILITY {}", self.capabilities());
        untagged(&mut self.io.out, "OK", Some(&code), self.server.name);
    }

    /// Reads and answers one command.
    async fn step(&mut self) -> Result<Next, Stop> {
        match self.io.frame().await {
            Ok(Frame::Message(line)) => match parse::command(&line) {
                Ok(tagged) => {
                    let secret = matches!(tagged.command, Command::Login { .. } | Command::Authenticate { .. });
                    protocol::heard(tagged.command.name(), &line, secret);
                    self.heard = line.len() as u64;
                    drop(line);
                    self.answer(tagged).await
                }
                Err(error) => {
                    protocol::heard_octets(line.len());
                    if !self.spoke_imap && self.account.is_none() && is_not_imap(&line) {
                        return Err(Stop::Bye { code: None, text: "This is an IMAP server" });
                    }
                    self.misunderstood(error.tag.as_deref(), error.text)?;
                    Ok(Next::Command)
                }
            },
            Ok(Frame::NeedContinue { .. }) => {
                self.io.out.extend_from_slice(b"+ OK\r\n");
                Ok(Next::Command)
            }
            Ok(Frame::LiteralStart { head, len, sync, .. }) => {
                protocol::heard("APPEND", &head, false);
                self.heard = head.len() as u64 + len;
                Box::pin(self.append_command(append::Literal { head, len, sync })).await?;
                Ok(Next::Command)
            }
            // Only inside APPEND, which reads them itself.
            Ok(Frame::LiteralChunk(_) | Frame::LiteralEnd) => Ok(Next::Command),
            Err(ReadError::Stop(stop)) => Err(stop),
            Err(ReadError::Framing(error)) => {
                self.framing_error(&error)?;
                Ok(Next::Command)
            }
        }
    }

    /// Answers bytes that are no command. The connection goes on where the next command can be found.
    pub(crate) fn framing_error(&mut self, error: &FramingError) -> Result<(), Stop> {
        if self.io.is_broken() {
            if let Some(tag) = error.tag() {
                Reply::bad(error.to_string()).render(tag, &mut self.io.out);
            }
            return Err(Stop::Bye { code: None, text: "Cannot make out where the next command begins" });
        }
        match (error, error.tag()) {
            (FramingError::LiteralTooLong { .. }, Some(tag)) if self.account.is_some() => {
                Reply::no("Literal is too long").with("TOOBIG").render(tag, &mut self.io.out);
                Ok(())
            }
            (_, tag) => self.misunderstood(tag, error.to_string()),
        }
    }

    /// BAD, and the end for who says nothing else.
    pub(crate) fn misunderstood(&mut self, tag: Option<&str>, text: String) -> Result<(), Stop> {
        Reply::bad(text).render(tag.unwrap_or("*"), &mut self.io.out);
        self.bad_commands += 1;
        let limit = if self.account.is_some() { MAX_BAD } else { MAX_BAD_BEFORE_LOGIN };
        if self.bad_commands < limit {
            return Ok(());
        }
        Err(Stop::Bye { code: None, text: "Too many commands that make no sense" })
    }

    /// Runs a command, tells what has happened meanwhile, and ends with the tagged line.
    async fn answer(&mut self, tagged: Tagged) -> Result<Next, Stop> {
        let Tagged { tag, command } = tagged;
        let (name, telling, started) = (command.name(), Telling::after(&command), Instant::now());
        let starttls = matches!(command, Command::Starttls);
        let logout = matches!(command, Command::Logout);
        let done = Box::pin(self.run(&tag, command)).await;
        let status = self.conclude(&tag, name, started, telling, done).await?;
        if logout {
            return Err(Stop::Close);
        }
        if starttls && status == Status::Ok {
            self.io.flush().await?;
            return Ok(Next::StartTls);
        }
        Ok(Next::Command)
    }

    /// The end every command has.
    pub(crate) async fn conclude(
        &mut self,
        tag: &str,
        name: &'static str,
        started: Instant,
        telling: Telling,
        done: Result<Reply, Failure>,
    ) -> Result<Status, Stop> {
        let reply = match done {
            Ok(reply) | Err(Failure::Reply(reply)) => reply,
            Err(Failure::Below(Error::Gone, _)) => {
                return Err(Stop::Bye { code: Some("UNAVAILABLE"), text: "Mailbox changed; connect again" });
            }
            Err(Failure::Below(error, names)) => no(&error, names),
            Err(Failure::Stop(stop)) => return Err(stop),
        };
        self.notice(name, &reply);
        // Where the view cannot go on, the client still learns what became of its command.
        let ended = if reply.status == Status::Bad { None } else { self.catch_up(telling, None).err() };
        if reply.status == Status::Ok && name != "LOGOUT" {
            self.tell_alert();
        }
        reply.render(tag, &mut self.io.out);
        self.server.observer.command(name, reply.outcome(), started.elapsed());
        if matches!(name, "SELECT" | "EXAMINE" | "CLOSE" | "UNSELECT" | "DELETE" | "RENAME") {
            let open = self.selected.as_deref().map(|selected| selected.mailbox.name());
            self.server.observer.selected(open.as_deref());
        }
        debug!(
            command = name,
            outcome = reply.outcome(),
            octets = self.heard,
            ms = started.elapsed().as_millis() as u64
        );
        // BAD or not, it was a command: only what is none at all counts as nonsense.
        self.bad_commands = 0;
        self.spoke_imap = true;
        if let Some(stop) = ended {
            return Err(stop);
        }
        if self.failed_logins >= MAX_FAILED_LOGINS && self.account.is_none() {
            return Err(Stop::Bye { code: None, text: "Too many failed logins" });
        }
        self.io.flush_if_full().await?;
        Ok(reply.status)
    }
}

impl<L: Login> Session<L> {
    /// Tells once a session what the user should know of the account as a whole (RFC 9051 §7.1, ALERT): when he begins to look, or
    /// when something is refused.
    fn notice(&mut self, name: &str, reply: &Reply) {
        let looks = matches!(name, "LOGIN" | "AUTHENTICATE" | "SELECT" | "EXAMINE");
        // That a login is needed is told by itself, and says it all.
        if self.noticed || self.alerted.is_some() || !(looks || reply.status == Status::No) {
            return;
        }
        if let Some(words) = self.account.as_ref().and_then(|account| account.notice()) {
            untagged(&mut self.io.out, "OK", Some("ALERT"), &words);
            self.noticed = true;
        }
    }
}

/// Whether a first line is no IMAP: a POP3 client's, or see [`is_other_protocol`].
fn is_not_imap(line: &[u8]) -> bool {
    line.starts_with(b"USER ") || is_other_protocol(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Account;
    use crate::secret::Secret;
    use crate::session::imap::{LoginError, Unobserved};

    struct Nobody;

    impl Login for Nobody {
        type Account = Account;

        async fn verify(&self, _: IpAddr, _: &str, _: &Secret) -> Result<Account, LoginError> {
            Err(LoginError::Wrong)
        }
    }

    /// Two thousand clients idle on an office's machine: what each holds is the state of this task, that of the command it is in, and
    /// little else. One great future awaited in place anywhere below makes both ten times as large.
    #[tokio::test]
    async fn the_state_of_an_idle_session_is_small() {
        let (stream, _client) = crate::net::Stream::pair();
        let server = Arc::new(Server::new(Nobody, None, Arc::new(Unobserved), "mailweir"));
        let mut session = Session::new(
            Arc::clone(&server),
            Io::new(stream, CancellationToken::new()),
            IpAddr::from([127, 0, 0, 1]),
            true,
        );
        let command = size_of_val(&session.run("a", Command::Idle));
        assert!(command <= 2 * 1024, "a command's state takes {command} octets");
        let (stream, _client) = crate::net::Stream::pair();
        let accepted = Accepted { stream, implicit_tls: false, plaintext_login: true };
        let task = size_of_val(&serve(server, accepted, CancellationToken::new()));
        assert!(task <= 3 * 1024, "a session's task takes {task} octets");
    }
}
