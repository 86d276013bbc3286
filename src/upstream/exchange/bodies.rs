//! UID FETCH of messages and parts, streamed (RFC 9051 §6.4.5).
//!
//! A large literal is handed on in the pieces in which it arrives; nothing is collected, and the receiver's bounded channel pushes
//! back to the provider. [`Assembler`] turns frames into events without any I/O.
//!
//! Reading costs one round trip, whatever the session did before: DONE, SELECT and the first UID FETCH go out together. That is safe
//! because nothing of it changes anything upstream, and because what the FETCH gives is believed only when the SELECT before it has
//! shown the mailbox to be the one meant. Writes are never sent so: they wait for the answer to SELECT (Law 10).
//!
//! UID is asked for first, and servers answer in the order asked. One that writes UID behind the body is met in this way: up to [`HOLD`] octets
//! are held back until the UID is known; a larger body is dropped and fetched once more alone, when its UID is the one asked for;
//! and from then on this session fetches one message at a time.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::select::note;
use crate::model::{Uid, UidSet, UidValidity};
use crate::upstream::answer::{Answer, Data, Fetch, fetch_head};
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::{CHECK_TIMEOUT, Fault, READ_TIMEOUT, Session, nothing};
use crate::upstream::types::{BodyEvent, BodyPart, Selected};
use crate::wire::imap::framer::Frame;
use crate::wire::imap::response::Code;

/// Octets held back while the UID of a body is not known.
const HOLD: u64 = 1024 * 1024;
/// When nobody listens any more, so many octets are read and dropped to keep the session; with more to come it is closed.
const DRAIN: u64 = 512 * 1024;
/// Commands under way at once: the next answer is on its way while this one arrives.
const AHEAD: usize = 4;

/// A SELECT that goes out with the first UID FETCH.
struct Opening {
    mailbox: String,
    validity: UidValidity,
    line: Line,
}

impl Session {
    /// [`Self::fetch_bodies`] in a mailbox that need not be selected: where it is not, SELECT and the first UID FETCH go out together.
    /// Fails with [`Error::Replaced`] if its UIDVALIDITY is not `validity`; nothing has been given to `out` then.
    pub async fn fetch_bodies_in(
        &mut self,
        mailbox: &str,
        validity: UidValidity,
        uids: &UidSet,
        part: BodyPart,
        structure: bool,
        out: &mpsc::Sender<BodyEvent>,
    ) -> Result<(), Error> {
        // A server may not show messages to a session that has not looked since they came (Dovecot, Courier): UID FETCH of them says OK
        // and nothing else. Selecting anew is the look.
        let seen = |next: Uid| uids.max().is_none_or(|last| last < next.0);
        let is_open = self.selected().is_some_and(|(name, selected)| {
            name == mailbox && selected.uid_validity == validity && seen(selected.uid_next)
        });
        if is_open {
            return self.fetch_bodies(uids, part, structure, out).await;
        }
        let line = self.select_line(mailbox, None);
        if line.waits(self.caps()) {
            // A name that has to wait for `+` cannot share its flight with a second command.
            let selected = self.reselect(mailbox, None).await?;
            if selected.uid_validity != validity {
                return Err(Error::Replaced);
            }
            return self.fetch_bodies(uids, part, structure, out).await;
        }
        let opening = Opening { mailbox: mailbox.into(), validity, line };
        self.fetch_parts(Some(opening), uids, part, structure, out).await
    }

    /// UID FETCH of `part` of messages (with BODYSTRUCTURE if asked), streamed to `out`. Gone messages have no `Done`. A refusal may come
    /// after some messages were given; these are whole. If nobody receives any more, the rest is dropped, or the session
    /// closed when the rest is large.
    pub async fn fetch_bodies(
        &mut self,
        uids: &UidSet,
        part: BodyPart,
        structure: bool,
        out: &mpsc::Sender<BodyEvent>,
    ) -> Result<(), Error> {
        self.fetch_parts(None, uids, part, structure, out).await
    }

    async fn fetch_parts(
        &mut self,
        opening: Option<Opening>,
        uids: &UidSet,
        part: BodyPart,
        structure: bool,
        out: &mpsc::Sender<BodyEvent>,
    ) -> Result<(), Error> {
        let section = part.section();
        if !section.bytes().all(|b| b.is_ascii_graphic() && b != b']' || b == b' ') {
            return Err(Error::No { code: None, text: "not a section".into(), bad: true });
        }
        let items = format!("(UID{} BODY.PEEK[{section}])", if structure { " BODYSTRUCTURE" } else { "" });
        let single = |uids: &UidSet| uids.iter().map(|uid| UidSet::from_iter([uid])).collect::<Vec<_>>();
        let mut assembler = Assembler::new(part, uids.clone());
        let sets = if self.late_uids { single(uids) } else { self.pieces(uids, items.len()) };
        let outcome = self.stream(opening, sets, &items, &mut assembler, out).await;
        let again = std::mem::take(&mut assembler.again);
        self.late_uids |= assembler.late;
        outcome?;
        if again.is_empty() { Ok(()) } else { self.stream(None, single(&again), &items, &mut assembler, out).await }
    }

    async fn stream(
        &mut self,
        opening: Option<Opening>,
        sets: Vec<UidSet>,
        items: &str,
        assembler: &mut Assembler,
        out: &mpsc::Sender<BodyEvent>,
    ) -> Result<(), Error> {
        // A connection that was silent for long may be dead: it is given less time to show that it lives.
        let patience = if self.is_stale() { CHECK_TIMEOUT } else { READ_TIMEOUT };
        let mark = self.begin_reading().await?;
        match self.stream_sets(opening, patience, sets, items, assembler, out).await {
            Ok(refused) => {
                self.finish();
                refused.map_or(Ok(()), Err)
            }
            Err(fault) => Err(self.broke(&fault, mark)),
        }
    }

    async fn stream_sets(
        &mut self,
        opening: Option<Opening>,
        mut patience: Duration,
        sets: Vec<UidSet>,
        items: &str,
        assembler: &mut Assembler,
        out: &mpsc::Sender<BodyEvent>,
    ) -> Result<Option<Error>, Fault> {
        let mut sets: VecDeque<UidSet> = sets.into();
        let mut under_way: VecDeque<(String, Option<Uid>)> = VecDeque::new();
        let mut refused = None;
        if patience < READ_TIMEOUT && self.idling().is_none() {
            // Answered at once, however long SELECT takes; its answer is told by nobody's tag and dropped.
            let tag = self.next_tag();
            self.send(&tag, Line::new("NOOP"), &mut nothing).await?;
        }
        if let Some(opening) = opening {
            let select = self.next_tag();
            // From here on nothing is selected until upstream says so (RFC 9051 §6.3.2).
            self.selected = None;
            self.send(&select, opening.line.clone(), &mut nothing).await?;
            if let Some(set) = sets.pop_front() {
                under_way.push_back(self.ask(&set, items).await?);
            }
            self.flush().await?;
            refused = self.opened(&select, opening, patience).await?.err();
            patience = READ_TIMEOUT;
            if refused.is_some() {
                // The FETCH is under way all the same; whatever it gives is of another mailbox.
                sets.clear();
                assembler.nobody_listens();
            }
        }
        loop {
            // One message alone is its own command: whatever body comes is its body. Two such would be told apart by order only.
            while let Some(set) = sets.front() {
                let only = only(set);
                let room = if only.is_some() { 1 } else { AHEAD };
                if under_way.len() >= room || under_way.iter().any(|(_, only)| only.is_some()) || out.is_closed() {
                    break;
                }
                let Some(set) = sets.pop_front() else { break };
                under_way.push_back(self.ask(&set, items).await?);
            }
            let Some((_, only)) = under_way.front() else { return Ok(refused) };
            assembler.only = *only;
            self.flush().await?;
            let frame = self.frame(Some(std::mem::replace(&mut patience, READ_TIMEOUT))).await?;
            let (events, message) = assembler.frame(frame)?;
            for event in events {
                if out.send(event).await.is_err() {
                    assembler.nobody_listens();
                }
            }
            if assembler.for_nobody > DRAIN {
                let reason = "nobody wanted the rest of a large message";
                self.close(reason);
                if refused.is_some() {
                    return Ok(refused);
                }
                return Err(Fault::Lost(reason.into()));
            }
            let Some(message) = message else { continue };
            match self.understood(message)? {
                Answer::Tagged(tag, status) => match under_way.iter().position(|(waiting, _)| *waiting == tag) {
                    Some(at) => {
                        under_way.remove(at);
                        refused = refused.or(self.outcome(status)?.err());
                    }
                    None => self.untagged(Answer::Tagged(tag, status), &mut nothing)?,
                },
                other => self.untagged(other, &mut nothing)?,
            }
        }
    }

    /// Queues one UID FETCH; its tag, and the one message it asks for if it is one.
    async fn ask(&mut self, set: &UidSet, items: &str) -> Result<(String, Option<Uid>), Fault> {
        let tag = self.next_tag();
        self.send(&tag, Line::new(format!("UID FETCH {set} {items}")), &mut nothing).await?;
        Ok((tag, only(set)))
    }

    /// Reads the answer to a SELECT under way, and whether the mailbox is the one meant.
    async fn opened(
        &mut self,
        tag: &str,
        opening: Opening,
        mut patience: Duration,
    ) -> Result<Result<(), Error>, Fault> {
        let mut answer = Selected::default();
        self.forget_mailbox_events();
        let status = loop {
            let was_idling = self.idling().is_some();
            match self.next_answer(Some(std::mem::replace(&mut patience, READ_TIMEOUT))).await? {
                Answer::Tagged(answered, status) if answered == tag => break status,
                other => self.untagged(other, &mut |data| note(&mut answer, data))?,
            }
            if was_idling && self.idling().is_none() {
                // What was heard until now was of the mailbox that is left.
                answer = Selected::default();
                self.forget_mailbox_events();
            }
        };
        let done = match self.outcome(status)? {
            Ok(done) => done,
            Err(error) => return Ok(Err(error)),
        };
        answer.read_only = done.code.as_ref().is_some_and(|code| code.read() == Code::ReadOnly);
        let same = answer.uid_validity == opening.validity;
        self.selected = Some((opening.mailbox, Selected { vanished: UidSet::new(), changed: Vec::new(), ..answer }));
        Ok(if same { Ok(()) } else { Err(Error::Replaced) })
    }
}

/// The UID, if it is only one.
fn only(set: &UidSet) -> Option<Uid> {
    (set.len() == 1).then(|| set.min().map(Uid)).flatten()
}

/// What becomes of the literal under way.
#[derive(Debug)]
enum Literal {
    /// Not the body asked for, or nobody's.
    Drop,
    Send,
    /// Until the UID is known.
    Hold(Vec<Bytes>),
}

/// Frames to events.
#[derive(Debug)]
struct Assembler {
    part: BodyPart,
    uids: UidSet,
    /// The one UID of the command under way, if it asks for one.
    only: Option<Uid>,
    literal: Option<(Literal, u64)>,
    /// The body of the line under way has been streamed, for this UID if it is known.
    streamed: Option<Option<Uid>>,
    held: Option<Vec<Bytes>>,
    /// Bodies dropped for want of a UID.
    again: UidSet,
    /// UIDs came late.
    late: bool,
    /// The receiver is gone: nothing more is handed on.
    nobody: bool,
    /// Octets read, or about to be read, for nobody.
    for_nobody: u64,
}

impl Assembler {
    fn new(part: BodyPart, uids: UidSet) -> Self {
        Self {
            part,
            uids,
            only: None,
            literal: None,
            streamed: None,
            held: None,
            again: UidSet::new(),
            late: false,
            nobody: false,
            for_nobody: 0,
        }
    }

    /// The receiver is gone: what still comes is dropped, and counted from its announcement on.
    fn nobody_listens(&mut self) {
        if self.nobody {
            return;
        }
        self.nobody = true;
        if let Some((literal, rest)) = &mut self.literal {
            *literal = Literal::Drop;
            self.for_nobody = self.for_nobody.saturating_add(*rest);
        }
    }

    /// The events of a frame, and the message if it was not one of the lines asked for.
    fn frame(&mut self, frame: Frame) -> Result<(Vec<BodyEvent>, Option<Bytes>), Fault> {
        let mut events = Vec::new();
        match frame {
            Frame::LiteralStart { head, len, .. } => self.start(&head, len, &mut events),
            Frame::LiteralChunk(chunk) => self.chunk(chunk, &mut events),
            Frame::LiteralEnd => self.end(&mut events),
            Frame::Message(message) => return self.message(message),
            // Told to servers only.
            Frame::NeedContinue { .. } => {}
        }
        Ok((events, None))
    }

    fn start(&mut self, head: &[u8], len: u64, events: &mut Vec<BodyEvent>) {
        if self.nobody {
            self.for_nobody = self.for_nobody.saturating_add(len);
            self.literal = Some((Literal::Drop, len));
            return;
        }
        let mut literal = Literal::Drop;
        if let Some(head) = fetch_head(head)
            && self.is_asked(&head.section)
            && self.streamed.is_none()
        {
            let uid = head.uid.or(self.only);
            self.streamed = Some(uid);
            match uid {
                Some(uid) if self.uids.contains(uid.0) => {
                    events.push(BodyEvent::Start { uid, what: self.part.clone(), len });
                    literal = Literal::Send;
                }
                Some(_) => {}
                None if len <= HOLD => literal = Literal::Hold(Vec::new()),
                None => {}
            }
        }
        self.literal = Some((literal, len));
    }

    fn chunk(&mut self, chunk: Bytes, events: &mut Vec<BodyEvent>) {
        let Some((literal, left)) = &mut self.literal else { return };
        *left = left.saturating_sub(chunk.len() as u64);
        match literal {
            Literal::Send => events.push(BodyEvent::Chunk(chunk)),
            Literal::Hold(held) => held.push(chunk),
            Literal::Drop => {}
        }
    }

    fn end(&mut self, events: &mut Vec<BodyEvent>) {
        match self.literal.take() {
            Some((Literal::Send, _)) => events.push(BodyEvent::End),
            Some((Literal::Hold(held), _)) => self.held = Some(held),
            Some((Literal::Drop, _)) | None => {}
        }
    }

    fn is_asked(&self, section: &str) -> bool {
        section.eq_ignore_ascii_case(self.part.section())
    }

    fn message(&mut self, message: Bytes) -> Result<(Vec<BodyEvent>, Option<Bytes>), Fault> {
        let (streamed, held) = (self.streamed.take(), self.held.take());
        let Answer::Data(Data::Fetch(fetch)) = Answer::read(message.clone()) else {
            return Ok((Vec::new(), Some(message)));
        };
        let Some(body) = fetch.bodies.iter().find(|(section, _)| self.is_asked(section)).map(|(_, body)| body.clone())
        else {
            // Flags another client changed, or an answer without the body: a hint at most.
            return Ok((Vec::new(), Some(message)));
        };
        let mut events = Vec::new();
        if self.nobody {
            self.for_nobody = self.for_nobody.saturating_add(message.len() as u64);
            return Ok((events, None));
        }
        let Some(uid) = self.uid_of(&fetch, streamed)? else { return Ok((events, None)) };
        if !self.uids.contains(uid.0) {
            return Ok((events, None));
        }
        match (streamed, held, body) {
            (Some(Some(_)), _, _) => {}
            (Some(None), Some(held), _) => {
                self.late = true;
                let len = held.iter().map(|chunk| chunk.len() as u64).sum();
                events.push(BodyEvent::Start { uid, what: self.part.clone(), len });
                events.extend(held.into_iter().map(BodyEvent::Chunk));
                events.push(BodyEvent::End);
            }
            (Some(None), None, _) => {
                self.late = true;
                self.again.insert(uid.0);
                return Ok((events, None));
            }
            (None, _, Some(body)) => {
                events.push(BodyEvent::Start { uid, what: self.part.clone(), len: body.len() as u64 });
                if !body.is_empty() {
                    events.push(BodyEvent::Chunk(body));
                }
                events.push(BodyEvent::End);
            }
            // NIL: there is no such part.
            (None, _, None) => {}
        }
        let mut meta = fetch.meta;
        meta.uid = Some(uid);
        events.push(BodyEvent::Done { meta, body_structure: fetch.body_structure });
        Ok((events, None))
    }

    fn uid_of(&self, fetch: &Fetch, streamed: Option<Option<Uid>>) -> Result<Option<Uid>, Fault> {
        let told = fetch.meta.uid;
        match (streamed, told) {
            (Some(Some(assumed)), Some(told)) if assumed != told => {
                // Its octets went out under another name.
                Err(Fault::Protocol(format!("the body of message {told} came for {assumed}")))
            }
            (Some(Some(assumed)), _) => Ok(Some(assumed)),
            (_, Some(told)) => Ok(Some(told)),
            (_, None) => Ok(self.only),
        }
    }
}
