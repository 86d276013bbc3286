//! The life of a connection: greeting, commands one after the other, last words.
//!
//! Law 5: a command is read when the one before it has been answered, but for recipients, which a client may name many of at once: they
//! are sent on as they come and answered in their order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::state::{Failure, Session, Way};
use super::{Login, Server};
use crate::session::front::{Accepted, Open, is_other_protocol};
use crate::session::line::{LineIo, Patience, Stop};
use crate::session::protocol;
use crate::wire::smtp::{self, Command, Fault, Reply};

/// Lines in a row that are not understood before a peer that has not logged in is shown out. A person with telnet makes a few.
const MAX_BAD_BEFORE_LOGIN: u32 = 10;
/// The same after login; a client that does this is broken, and its loop costs others.
const MAX_BAD: u32 = 20;
/// Refused logins on one connection; the policy slows them down, this ends the dictionary.
const MAX_FAILED_LOGINS: u32 = 10;

/// Between MAIL, recipients and the message, whatever else is said (NOOP); programs send them in one go.
const MAX_ENVELOPE_SILENCE: Duration = Duration::from_secs(60);

/// What a client may send and how long it may be silent.
const PATIENCE: Patience = Patience {
    // RFC 4954 §4: a response may have 12,288.
    line_before_login: 12_288,
    // RFC 5321 §4.5.3.1.4 says 512, and extensions add to it (RFC 3461: 1,000).
    line: 4096,
    // RFC 5321 §4.5.3.2.7: at least five minutes.
    silence: Duration::from_secs(5 * 60),
};

/// Serves one client until it is gone. Ends soon after `shutdown` (with 421), whatever it was waiting for from the client.
pub async fn serve<L: Login>(server: Arc<Server<L>>, accepted: Accepted, shutdown: CancellationToken) {
    let _open = Open::new(Arc::clone(&server.observer));
    let plaintext_login = accepted.plaintext_login;
    let Some(stream) = accepted.begin(server.tls.as_ref()).await else { return };
    let peer = stream.peer_ip();
    let mut session = Session::new(server, LineIo::new(stream, PATIENCE, shutdown), peer, plaintext_login);
    Reply::new(220, "", format!("{} ESMTP ready", session.server.name)).render(&mut session.io.out);
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
            Err(stop) => return session.end(stop).await,
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
    fn new(server: Arc<Server<L>>, io: LineIo, peer: IpAddr, plaintext_login: bool) -> Self {
        Self {
            server,
            io,
            peer,
            plaintext_login,
            greeted: None,
            outgoing: None,
            mail: None,
            failed_logins: 0,
            bad_commands: 0,
            spoke_smtp: false,
        }
    }

    /// Reads and answers one command.
    async fn step(&mut self) -> Result<Next, Stop> {
        if !self.io.has_line() {
            Box::pin(self.answer_recipients()).await?;
        }
        let line = self.line().await?;
        let command = match smtp::command(&line) {
            Ok(command) => command,
            Err(fault) => {
                protocol::heard_octets(line.len());
                // A web page may make a browser send commands as the body of a request; EHLO is our own.
                if !self.spoke_smtp && is_other_protocol(&line) {
                    Reply::new(421, "4.7.0", "This is an SMTP server").render(&mut self.io.out);
                    return Err(Stop::Close);
                }
                Box::pin(self.answer_recipients()).await?;
                self.misunderstood(fault)?;
                return Ok(Next::Command);
            }
        };
        let octets = line.len();
        protocol::heard(command.name(), &line, matches!(command, Command::Auth { .. }));
        drop(line);
        self.spoke_smtp = true;
        self.bad_commands = 0;
        let (name, started) = (command.name(), Instant::now());
        let (quit, starttls) = (command == Command::Quit, command == Command::Starttls);
        if !matches!(command, Command::Rcpt(_)) {
            Box::pin(self.answer_recipients()).await?;
        }
        let reply = match Box::pin(self.run(command)).await {
            Ok(reply) => reply,
            Err(Failure::Reply(reply)) => Some(reply),
            Err(Failure::Stop(stop)) => {
                self.server.observer.command(name, "no", started.elapsed());
                return Err(stop);
            }
        };
        let outcome = match &reply {
            Some(reply) if reply.code >= 400 => "no",
            _ => "ok",
        };
        if let Some(reply) = &reply {
            reply.render(&mut self.io.out);
            protocol::said(|out| reply.render(out));
        }
        self.server.observer.command(name, outcome, started.elapsed());
        debug!(command = name, outcome, octets, ms = started.elapsed().as_millis() as u64);
        if quit {
            return Err(Stop::Close);
        }
        if starttls && outcome == "ok" {
            self.io.flush().await?;
            return Ok(Next::StartTls);
        }
        if self.failed_logins >= MAX_FAILED_LOGINS && self.outgoing.is_none() {
            Reply::new(421, "4.7.0", "Too many failed logins").render(&mut self.io.out);
            return Err(Stop::Close);
        }
        self.io.flush_if_full().await?;
        Ok(Next::Command)
    }

    /// The next line. A transaction that waits for the client holds one of few sessions at the provider, and not for long.
    async fn line(&mut self) -> Result<Bytes, Stop> {
        let held = self.mail.as_deref().filter(|mail| matches!(mail.way, Way::Envelope(_)) && mail.pending == 0);
        if let Some(mail) = held {
            let left = MAX_ENVELOPE_SILENCE.saturating_sub(mail.moved.elapsed());
            if left.is_zero() {
                Box::pin(self.let_go()).await?;
            } else if !self.io.has_line() {
                self.io.flush().await?;
                match Box::pin(timeout(left, self.io.line())).await {
                    Ok(line) => return line,
                    Err(_) => Box::pin(self.let_go()).await?,
                }
            }
        }
        self.io.line().await
    }

    /// An error, and the end for who says nothing else.
    fn misunderstood(&mut self, fault: Fault) -> Result<(), Stop> {
        let reply = match fault {
            Fault::Unknown => Reply::new(500, "5.5.2", "Command not known"),
            Fault::Arguments(usage) => Reply::new(501, "5.5.4", format!("Write {usage}")),
            Fault::Parameter => Reply::new(555, "5.5.4", "A parameter is not known, or was not offered"),
            Fault::Address => Reply::new(501, "5.1.3", "That is not an address"),
        };
        reply.render(&mut self.io.out);
        self.bad_commands += 1;
        let limit = if self.outgoing.is_some() { MAX_BAD } else { MAX_BAD_BEFORE_LOGIN };
        if self.bad_commands < limit {
            return Ok(());
        }
        Reply::new(421, "4.7.0", "Too many commands that make no sense").render(&mut self.io.out);
        Err(Stop::Close)
    }

    /// The last words. A message that has not come to its end is not sent.
    async fn end(mut self, stop: Stop) {
        self.mail = None;
        let words = match stop {
            Stop::Gone | Stop::Close => None,
            Stop::Shutdown => Some(Reply::new(421, "4.3.2", "Server is shutting down")),
            Stop::Silence => Some(Reply::new(421, "4.4.2", "Idle for too long")),
            Stop::NoLogin => Some(Reply::new(421, "4.7.0", "Login takes too long")),
            Stop::LongLine => Some(Reply::new(421, "4.5.2", "Line is too long")),
        };
        if let Some(words) = words {
            words.render(&mut self.io.out);
        }
        self.io.close(stop).await;
    }
}
