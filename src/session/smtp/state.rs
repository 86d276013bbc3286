//! What a session knows between commands.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Grant, Login, Outgoing, Server};
use crate::session::line::{LineIo, Stop};
use crate::wire::smtp::{Edit, Extensions, Filter, Reply};

/// Above it a message is refused whatever the provider says: nobody takes more (reference: providers; Mail.ru 70 MB).
pub(crate) const LARGEST: u64 = 150 * 1024 * 1024;

/// The way to the provider of a login's accounts.
pub(crate) type PassageOf<L> = <<L as Login>::Outgoing as Outgoing>::Passage;

/// One client connection.
pub(crate) struct Session<L: Login> {
    pub(crate) server: Arc<Server<L>>,
    pub(crate) io: LineIo,
    pub(crate) peer: IpAddr,
    /// The policy lets this peer log in without TLS.
    pub(crate) plaintext_login: bool,
    /// EHLO or HELO was said; true for EHLO.
    pub(crate) greeted: Option<bool>,
    /// Logged in.
    pub(crate) outgoing: Option<L::Outgoing>,
    /// The open transaction.
    pub(crate) mail: Option<Box<Transaction<PassageOf<L>>>>,
    /// Logins refused so far.
    pub(crate) failed_logins: u32,
    /// Lines not understood since the last one that was.
    pub(crate) bad_commands: u32,
    /// Some command was understood: this is a mail program.
    pub(crate) spoke_smtp: bool,
}

/// From MAIL to the message's end.
pub(crate) struct Transaction<P> {
    pub(crate) way: Way<P>,
    /// Recipients the provider has taken.
    pub(crate) recipients: usize,
    /// Recipients sent on and not answered yet.
    pub(crate) pending: usize,
    /// When it last came on: a recipient was named, or answered.
    pub(crate) moved: Instant,
    /// What the budget has set aside for it.
    pub(crate) grant: Grant,
    /// So many octets.
    pub(crate) granted: u64,
}

/// How far a transaction has come.
pub(crate) enum Way<P> {
    /// Recipients are being named.
    Envelope(P),
    /// The message has begun and comes in pieces.
    Message(Relay<P>),
    /// The provider was lost, or is not waited with any more: everything until the end of the transaction gets these words.
    Lost(Reply),
}

/// A message under way.
pub(crate) struct Relay<P> {
    /// Dropped (and its connection with it) once the message is not to be sent.
    pub(crate) passage: Option<P>,
    pub(crate) filter: Filter,
    /// What changes in its header.
    pub(crate) edit: Option<Edit>,
    /// What the client will be answered when its octets are all here.
    pub(crate) refusal: Option<Reply>,
    /// Octets at most.
    pub(crate) limit: u64,
}

/// Why a command has no ordinary answer.
#[derive(Debug)]
pub(crate) enum Failure {
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

/// Octets of the largest message that goes through to who offers this.
pub(crate) fn largest(offers: &Extensions) -> u64 {
    offers.size.unwrap_or(LARGEST).min(LARGEST)
}

/// What is answered to a message above that.
pub(crate) fn too_large(limit: u64) -> Reply {
    Reply::new(552, "5.3.4", format!("The message is larger than {limit} octets"))
}

/// What the provider's reply to MAIL, RCPT or the message is to the client. The error is an answer too, after which the passage is of
/// no more use: the reply is about the provider's session, which is not the client's, or it is none to that command.
pub(crate) fn heard(reply: Reply) -> Result<Reply, Reply> {
    match reply.code {
        // It hangs up (RFC 5321 §3.8); the client's connection stays.
        421 => Err(Reply { code: 451, enhanced: Some("4.4.2".into()), ..reply }),
        // It wants a login (RFC 4954 §6), and a program that hears so asks for the password it gave us.
        530 | 534 | 535 | 538 => Err(Reply { code: 454, enhanced: Some("4.7.0".into()), ..reply }),
        200..=299 | 400..=599 => Ok(reply),
        code => Err(lost(&format!("it answers out of turn ({code})"))),
    }
}

/// The provider was lost: the client may try again, and is told what is known.
pub(crate) fn lost(words: &str) -> Reply {
    Reply::new(451, "4.4.2", format!("The connection to the provider was lost: {words}"))
}
