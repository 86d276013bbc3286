//! APPEND: one message or several (RFC 3501 §6.3.11, RFC 3502 MULTIAPPEND, RFC 4315 APPENDUID, RFC 7889 APPENDLIMIT).
//!
//! Everything that can be refused is refused before a waiting client sends its message: a mailbox that does not exist, a
//! message too large. A client that does not wait (LITERAL+) has its message read and dropped, so that it hears the same words.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::copy::runs;
use crate::engine::{Append, Appended};
use crate::session::backend::Account as _;
use crate::session::imap::io::{ReadError, Stop};
use crate::session::imap::reply::{Names, Reply, no};
use crate::session::imap::state::{Failure, Session, Telling};
use crate::session::imap::{APPEND_MEMORY, APPEND_UNIT, Login};
use crate::wire::imap::framer::{Frame, FramingError};
use crate::wire::imap::is_tag;
use crate::wire::imap::parse::{append_head, append_tail};

/// Messages in one MULTIAPPEND; mass importers send a few dozen.
const MAX_MESSAGES: usize = 1000;

/// A streamed literal as the framer announced it.
pub(crate) struct Literal {
    pub(crate) head: Bytes,
    pub(crate) len: u64,
    pub(crate) sync: bool,
}

/// How reading the messages ended.
enum Received {
    /// Put these there.
    Messages { mailbox: String, messages: Vec<Append> },
    /// Refused; everything of the command has been read.
    Refused(Reply),
    /// The framer has dropped the command, and this is why.
    Framing(FramingError),
}

impl<L: Login> Session<L> {
    /// A streamed literal began: APPEND, or a command that has no business with so long a string.
    pub(crate) async fn append_command(&mut self, literal: Literal) -> Result<(), Stop> {
        let started = Instant::now();
        let tag = literal.head.split(|b| *b == b' ').next().unwrap_or_default();
        let tag = if is_tag(tag) { String::from_utf8_lossy(tag).into_owned() } else { "*".to_owned() };
        let received = match self.receive(literal).await {
            Ok(received) => received,
            Err(Failure::Stop(stop)) => return Err(stop),
            Err(Failure::Reply(reply)) => Received::Refused(reply),
            Err(Failure::Below(error, names)) => Received::Refused(no(&error, names)),
        };
        let done = match received {
            Received::Messages { mailbox, messages } => self.append(&mailbox, messages).await,
            Received::Refused(reply) => Ok(reply),
            Received::Framing(error) => return self.framing_error(&error),
        };
        let telling = Telling { expunge: true, uid: false };
        self.conclude(&tag, "APPEND", started, telling, done).await.map(|_| ())
    }

    /// Reads all messages of the command.
    async fn receive(&mut self, first: Literal) -> Result<Received, Failure> {
        let mailbox = match self.destination(&first).await {
            Ok(mailbox) => mailbox,
            Err(failure) => {
                self.io.refuse_literal();
                return Err(failure);
            }
        };
        let mut literal = Some(first);
        let mut messages = Vec::new();
        loop {
            if let Some(next) = literal.take() {
                let head = match self.accept(&next, messages.len()) {
                    Ok(head) => head,
                    Err(reply) => {
                        self.io.refuse_literal();
                        return Ok(Received::Refused(reply));
                    }
                };
                let memory = match self.room_for(next.len, messages.is_empty()).await {
                    // It goes with the message: an upload goes on when its client has gone.
                    Ok(permit) => Some(Arc::new(permit)),
                    Err(failure) => {
                        self.io.refuse_literal();
                        return Err(failure);
                    }
                };
                if next.sync {
                    self.io.out.extend_from_slice(b"+ OK\r\n");
                }
                match self.read_literal(next.len).await {
                    Ok(body) => messages.push(Append { flags: head.flags, date: head.date, body, memory }),
                    Err(ReadError::Stop(stop)) => return Err(stop.into()),
                    Err(ReadError::Framing(error)) => return Ok(Received::Framing(error)),
                }
            }
            match self.io.frame().await {
                Ok(Frame::LiteralStart { head, len, sync, .. }) => literal = Some(Literal { head, len, sync }),
                Ok(Frame::Message(line)) => {
                    return Ok(match append_tail(&line) {
                        Err(error) => Received::Refused(Reply::bad(error.text)),
                        // RFC 3502 §3: a message of no octets cancels the command.
                        Ok(()) if messages.iter().any(|message| message.body.is_empty()) => {
                            Received::Refused(Reply::no("An empty message is not taken").with("CANNOT"))
                        }
                        Ok(()) => Received::Messages { mailbox, messages },
                    });
                }
                Ok(_) => {}
                Err(ReadError::Stop(stop)) => return Err(stop.into()),
                Err(ReadError::Framing(error)) => return Ok(Received::Framing(error)),
            }
        }
    }

    /// The mailbox named in front of the first literal, if the command may go on.
    async fn destination(&mut self, literal: &Literal) -> Result<String, Failure> {
        let account = self.account()?;
        let mailbox = match append_head(&literal.head, true) {
            Ok((Some((_, mailbox)), _)) => mailbox,
            Ok((None, _)) => return Err(Reply::bad("APPEND: no mailbox").into()),
            Err(error) => return Err(Reply::bad(error.text).into()),
        };
        if !self.io.wait(account.takes_messages(&mailbox)).await?? {
            return Err(Reply::no("Mailbox does not exist").with("TRYCREATE").into());
        }
        Ok(mailbox)
    }

    fn accept(&self, literal: &Literal, so_far: usize) -> Result<crate::wire::imap::command::AppendHead, Reply> {
        let limit = self.account.as_ref().map_or(0, |account| account.append_limit()).min(APPEND_MEMORY);
        let (_, head) = append_head(&literal.head, so_far == 0).map_err(|error| Reply::bad(error.text))?;
        if literal.len > limit {
            return Err(no(&crate::engine::Error::TooBig { limit }, Names::Destination));
        }
        if so_far >= MAX_MESSAGES {
            return Err(Reply::no("Too many messages in one command").with("LIMIT"));
        }
        Ok(head)
    }

    /// Takes memory to hold a message. Only the first message of a command waits for it: commands that wait while they hold
    /// some could wait for each other for ever.
    async fn room_for(&mut self, len: u64, first: bool) -> Result<OwnedSemaphorePermit, Failure> {
        let units = u32::try_from(len.div_ceil(APPEND_UNIT)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.server.append_memory);
        let permit = if first {
            self.io.wait_in_literal(memory.acquire_many_owned(units)).await?.ok()
        } else {
            memory.try_acquire_many_owned(units).ok()
        };
        permit.ok_or_else(|| Reply::no("Too many messages are being stored; send fewer at once").with("LIMIT").into())
    }

    async fn read_literal(&mut self, len: u64) -> Result<Bytes, ReadError> {
        // The length has been checked against the account's limit, far below what a usize holds.
        let mut body = BytesMut::with_capacity(usize::try_from(len).unwrap_or(0));
        loop {
            match self.io.frame().await? {
                Frame::LiteralChunk(chunk) => body.extend_from_slice(&chunk),
                Frame::LiteralEnd => return Ok(body.freeze()),
                Frame::Message(_) | Frame::NeedContinue { .. } | Frame::LiteralStart { .. } => {}
            }
        }
    }

    async fn append(&mut self, mailbox: &str, messages: Vec<Append>) -> Result<Reply, Failure> {
        let account = self.account()?;
        let appended = self.io.wait(account.append(mailbox, messages)).await?;
        let appended = appended.map_err(|error| Failure::Below(error, Names::Destination))?;
        let reply = Reply::ok("Append completed");
        Ok(match appended.as_ref().and_then(appenduid) {
            Some(code) => reply.with(code),
            None => reply,
        })
    }
}

/// `APPENDUID validity uids`.
fn appenduid(appended: &Appended) -> Option<String> {
    let mut code = format!("APPENDUID {} ", appended.uid_validity);
    runs(&mut code, appended.uids.iter().map(|uid| uid.0));
    (!appended.uids.is_empty()).then_some(code)
}
