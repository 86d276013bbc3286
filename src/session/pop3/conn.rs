//! The life of a connection: greeting, commands one after the other, last words.
//!
//! Law 5: a command is read when the one before it has been answered; what a client pipelines waits in the line buffer and the
//! kernel's. Law 7: whatever a peer sends ends in an answer or in the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::reply::{Reply, TEMP};
use super::state::{Failure, Session};
use super::{Login, Server};
use crate::session::front::{Accepted, Open, is_other_protocol};
use crate::session::line::{LineIo, Patience, Stop};
use crate::session::protocol;
use crate::wire::pop3::{self, Command};

/// Lines in a row that are not understood before a peer that has not logged in is shown out. A person with telnet makes a few.
const MAX_BAD_BEFORE_LOGIN: u32 = 10;
/// The same after login; a client that does this is broken, and its loop costs others.
const MAX_BAD: u32 = 20;
/// Refused logins on one connection; the policy slows them down, this ends the dictionary.
const MAX_FAILED_LOGINS: u32 = 10;

/// What a client may send and how long it may be silent.
const PATIENCE: Patience = Patience {
    // A SASL response (RFC 4422 sets no limit; RFC 4954 §4 asks servers for 12,288), and passwords that are tokens.
    line_before_login: 12_288,
    // RFC 2449 §4: commands have at most 255 octets. Twice that, for blanks.
    line: 510,
    // RFC 1939 §3: at least ten minutes.
    silence: Duration::from_secs(11 * 60),
};

/// Serves one client until it is gone. Ends soon after `shutdown` (with words), whatever it was waiting for from the client.
pub async fn serve<L: Login>(server: Arc<Server<L>>, accepted: Accepted, shutdown: CancellationToken) {
    let _open = Open::new(Arc::clone(&server.observer));
    let plaintext_login = accepted.plaintext_login;
    let Some(stream) = accepted.begin(server.tls.as_ref()).await else { return };
    let peer = stream.peer_ip();
    let mut session = Session::new(server, LineIo::new(stream, PATIENCE, shutdown), peer, plaintext_login);
    // No timestamp in it: APOP is not served.
    pop3::ok(&mut session.io.out, &format!("{} ready", session.server.name));
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
            user: None,
            open: None,
            failed_logins: 0,
            bad_commands: 0,
            spoke_pop3: false,
        }
    }

    /// Reads and answers one command.
    async fn step(&mut self) -> Result<Next, Stop> {
        let line = self.io.line().await?;
        let command = match pop3::command(&line) {
            Ok(command) => command,
            Err(fault) => {
                protocol::heard_octets(line.len());
                if !self.spoke_pop3 && is_other_protocol(&line) {
                    pop3::err(&mut self.io.out, None, "This is a POP3 server");
                    return Err(Stop::Close);
                }
                self.misunderstood(&fault)?;
                return Ok(Next::Command);
            }
        };
        let octets = line.len();
        protocol::heard(
            command.name(),
            &line,
            matches!(command, Command::Pass(_) | Command::Auth { .. } | Command::Apop),
        );
        drop(line);
        self.spoke_pop3 = true;
        self.bad_commands = 0;
        let (name, started) = (command.name(), Instant::now());
        let (quit, stls) = (command == Command::Quit, command == Command::Stls);
        let reply = match Box::pin(self.run(command)).await {
            Ok(reply) => reply,
            Err(Failure::Reply(reply)) => Some(reply),
            Err(Failure::Stop(stop)) => {
                self.server.observer.command(name, "no", started.elapsed());
                return Err(stop);
            }
        };
        let outcome = reply.as_ref().map_or("ok", Reply::outcome);
        if let Some(reply) = &reply {
            reply.render(&mut self.io.out);
            protocol::said(|out| reply.render(out));
        }
        self.server.observer.command(name, outcome, started.elapsed());
        debug!(command = name, outcome, octets, ms = started.elapsed().as_millis() as u64);
        if quit {
            return Err(Stop::Close);
        }
        if stls && outcome == "ok" {
            self.io.flush().await?;
            return Ok(Next::StartTls);
        }
        if self.failed_logins >= MAX_FAILED_LOGINS && self.open.is_none() {
            return Err(Stop::Close);
        }
        self.io.flush_if_full().await?;
        Ok(Next::Command)
    }

    /// An error, and the end for who says nothing else.
    fn misunderstood(&mut self, fault: &pop3::Fault) -> Result<(), Stop> {
        Reply::err(fault.to_string()).render(&mut self.io.out);
        self.bad_commands += 1;
        let limit = if self.open.is_some() { MAX_BAD } else { MAX_BAD_BEFORE_LOGIN };
        if self.bad_commands < limit { Ok(()) } else { Err(Stop::Close) }
    }

    /// The last words. Without QUIT nothing that was deleted is (RFC 1939 §6).
    async fn end(mut self, stop: Stop) {
        let words = match stop {
            Stop::Gone | Stop::Close => None,
            Stop::Shutdown => Some(Reply::err("Server is shutting down").with(TEMP)),
            Stop::Silence => Some(Reply::err("Autologout, idle for too long")),
            Stop::NoLogin => Some(Reply::err("Login takes too long")),
            Stop::LongLine => Some(Reply::err("Line is too long")),
        };
        if let Some(words) = words {
            words.render(&mut self.io.out);
        }
        // The interest in the mailbox ends at once, not after the last bytes have been taken.
        if let Some(open) = self.open.take() {
            open.leave();
        }
        self.io.close(stop).await;
    }
}
