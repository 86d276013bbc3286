//! What a session knows between commands.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::maildrop::{Maildrop, NoMessage};
use super::reply::Reply;
use super::{Admitted, Login, Server};
use crate::engine::Error;
use crate::model::{Uid, UidSet};
use crate::session::backend::{Account, Mailbox};
use crate::session::line::{LineIo, Stop};

/// The mailbox type of a login's accounts.
pub(crate) type MailboxOf<L> = <<L as Login>::Account as Account>::Mailbox;

/// One client connection.
pub(crate) struct Session<L: Login> {
    pub(crate) server: Arc<Server<L>>,
    pub(crate) io: LineIo,
    pub(crate) peer: IpAddr,
    /// The policy lets this peer log in without TLS.
    pub(crate) plaintext_login: bool,
    /// What USER said.
    pub(crate) user: Option<Vec<u8>>,
    /// In the TRANSACTION state: logged in, maildrop opened.
    pub(crate) open: Option<Box<Open<L>>>,
    /// Logins refused so far.
    pub(crate) failed_logins: u32,
    /// Lines not understood since the last one that was.
    pub(crate) bad_commands: u32,
    /// Some command was understood: this is a mail program.
    pub(crate) spoke_pop3: bool,
}

/// A maildrop, and whose it is.
pub(crate) struct Open<L: Login> {
    pub(crate) admitted: Admitted<L::Account, L::Hidden>,
    pub(crate) mailbox: MailboxOf<L>,
    pub(crate) maildrop: Maildrop,
    pub(crate) walk: Walk<<MailboxOf<L> as Mailbox>::Reads>,
    /// Fetched whole, for `on_retr`.
    pub(crate) fetched: UidSet,
}

/// A client that fetches one message after the other: what it will ask for next is read ahead.
pub(crate) struct Walk<R> {
    /// The number asked for last, and how many came one after the other until then.
    pub(crate) last: u32,
    pub(crate) run: u32,
    /// A reading in progress, and what it will bring.
    pub(crate) reads: Option<R>,
    pub(crate) coming: VecDeque<Uid>,
}

impl<R> Default for Walk<R> {
    fn default() -> Self {
        Self { last: 0, run: 0, reads: None, coming: VecDeque::new() }
    }
}

/// Why a command has no ordinary answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Answered with this.
    Reply(Reply),
    Stop(Stop),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Reply> for Failure {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<NoMessage> for Failure {
    fn from(no: NoMessage) -> Self {
        Self::Reply(no.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Reply((&error).into())
    }
}

impl<L: Login> Session<L> {
    /// The connection and the maildrop, at once.
    pub(crate) fn opened(&mut self) -> Result<(&mut LineIo, &mut Open<L>), Failure> {
        match self.open.as_deref_mut() {
            Some(open) => Ok((&mut self.io, open)),
            None => Err(Reply::err("Log in first").into()),
        }
    }
}
