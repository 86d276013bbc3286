//! One connection to the provider: framing, tags, literals, what is heard unasked, and when it is over.
//!
//! Exchanges (`exchange/*`) are methods of [`Session`] built on [`Session::run`]. What keeps a session honest:
//!
//! - one exchange at a time, each future cancellable: a command cut short leaves `busy` set, and the session is closed instead
//!   of used again out of step; IDLE alone can be resumed and ended later;
//! - a message that cannot be understood is dropped, never the session; broken framing ends it;
//! - every wait has a limit, begun anew by every byte (Law 8); BYE ends it at once;
//! - a synchronising literal answered by anything tagged aborts its command;
//! - [`Error::Lost`] says exactly whether a byte of the command was handed to the socket (Law 11).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tracing::{debug, trace};

use super::answer::{Answer, Code, Data, Kind, Status};
use super::caps::Caps;
use super::config::{Config, Meter, Permit, Quirks};
use super::error::Error;
use super::events::Events;
use super::gate::{Gate, jitter};
use super::line::{Line, Part};
use super::types::{Event, Selected};
use super::words::{Meaning, Place, meaning};
use crate::net::Stream;
use crate::wire::imap::framer::{Frame, Framer, Limits, Side};

/// A command that produces nothing for so long is given up; every byte begins the wait anew. A search of a large mailbox may be
/// silent for many seconds, a dead connection for ever.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The socket takes nothing for so long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// After a failed write: how long the reason (a BYE) may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Commands under way at once. More gain nothing on any round trip, and servers limit what they queue.
const PIPELINE: usize = 8;
/// Octets of a literal written at once, so that a time-out speaks of progress.
const WRITE_PIECE: usize = 64 * 1024;
/// Longest text of a provider that is kept in an error.
const MAX_TEXT: usize = 500;

/// How a connection ended.
#[derive(Clone, Debug)]
struct Loss {
    reason: String,
    meaning: Meaning,
    /// We closed it on purpose.
    ours: bool,
}

/// What ended a session in the middle of something; becomes an [`Error`] where it is known what was under way.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Lost(String),
    Protocol(String),
}

/// An IDLE under way; it survives the future that began it.
#[derive(Clone, Debug)]
pub(super) struct Idling {
    pub tag: String,
    /// `+` was seen, so DONE may be sent.
    pub confirmed: bool,
    pub done: bool,
}

/// The OK of a command.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    pub code: Option<Code>,
}

/// What comes back from the taker of untagged data: what it did not want.
pub(super) type Take<'a> = &'a mut (dyn FnMut(Data) -> Option<Data> + Send);

/// Takes nothing: for commands whose only answer is the tagged one.
pub(super) fn nothing(data: Data) -> Option<Data> {
    Some(data)
}

/// A session with the provider, logged in. Reached through a [`super::Lease`].
pub struct Session {
    link: Option<Stream>,
    framer: Framer,
    /// Written to the socket by the next flush.
    out: BytesMut,
    /// Octets handed to the socket so far.
    handed: u64,
    tags: u32,
    caps: Arc<Caps>,
    pub(super) quirks: Arc<Quirks>,
    meter: Arc<dyn Meter>,
    pub(super) gate: Arc<Gate>,
    label: Arc<str>,
    pub(super) selected: Option<(String, Selected)>,
    events: Events,
    /// A command is under way whose tagged answer was not seen.
    busy: bool,
    idling: Option<Idling>,
    loss: Option<Loss>,
    opened: Instant,
    used: Instant,
    /// Whether `ENABLE QRESYNC` was confirmed.
    pub(super) qresync: bool,
    /// This upstream writes the UID behind the body; see `exchange/bodies.rs`.
    pub(super) late_uids: bool,
    hollow: bool,
    permit: Option<Permit>,
}

impl Session {
    /// Around a fresh connection, before the greeting.
    pub(super) fn new(config: &Config, gate: &Arc<Gate>, link: Stream, permit: Permit) -> Self {
        let now = Instant::now();
        Self {
            link: Some(link),
            framer: Framer::new(Side::Client, Limits::RESPONSES),
            out: BytesMut::new(),
            handed: 0,
            tags: 0,
            caps: Arc::default(),
            quirks: Arc::new(config.quirks.clone()),
            meter: Arc::clone(&config.meter),
            gate: Arc::clone(gate),
            label: config.label.as_str().into(),
            selected: None,
            events: Events::default(),
            busy: false,
            idling: None,
            loss: None,
            opened: now,
            used: now,
            qresync: false,
            late_uids: false,
            hollow: false,
            permit: Some(permit),
        }
    }

    /// What a lease holds after its session was taken back.
    pub(super) fn hollow() -> Self {
        let now = Instant::now();
        Self {
            link: None,
            framer: Framer::new(Side::Client, Limits::RESPONSES),
            out: BytesMut::new(),
            handed: 0,
            tags: 0,
            caps: Arc::default(),
            quirks: Arc::default(),
            meter: Arc::new(()),
            gate: Arc::default(),
            label: "".into(),
            selected: None,
            events: Events::default(),
            busy: false,
            idling: None,
            loss: None,
            opened: now,
            used: now,
            qresync: false,
            late_uids: false,
            hollow: true,
            permit: None,
        }
    }

    pub(super) fn is_hollow(&self) -> bool {
        self.hollow
    }

    /// Capabilities after login.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    pub(super) fn caps_shared(&self) -> &Arc<Caps> {
        &self.caps
    }

    pub(super) fn set_caps(&mut self, caps: Caps) {
        self.caps = Arc::new(caps);
    }

    /// The mailbox selected now, with what SELECT said (the number of messages kept up to date).
    pub fn selected(&self) -> Option<(&str, &Selected)> {
        self.selected.as_ref().map(|(name, selected)| (name.as_str(), selected))
    }

    /// Unsolicited data heard since the last call; [`Event::Overflow`] stands for what was too much to keep.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.take()
    }

    /// Whether something was heard that [`Self::take_events`] has not taken yet.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Forgets what was heard of the mailbox that is no longer selected.
    pub(super) fn forget_mailbox_events(&mut self) {
        self.events.forget_mailbox();
    }

    /// Whether the session can be used again.
    pub fn is_usable(&self) -> bool {
        self.link.is_some() && !self.busy
    }

    /// Why the connection ended, unless we ended it, and what it means for the account.
    pub(super) fn loss(&self) -> Option<(&str, Meaning)> {
        self.loss.as_ref().filter(|loss| !loss.ours).map(|loss| (loss.reason.as_str(), loss.meaning))
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// How long no command has been answered.
    pub(super) fn silent_for(&self) -> Duration {
        self.used.elapsed()
    }

    /// Ends the connection from our side, at once.
    pub(super) fn close(&mut self, reason: &str) {
        self.end(reason, Meaning::Ordinary, true);
    }

    /// Called when the loan ends: a command whose future was dropped has left the session out of step.
    pub(super) fn end_of_loan(&mut self) {
        if self.busy && self.link.is_some() {
            self.close("a command was given up before its answer");
        }
        self.events = Events::default();
    }

    fn end(&mut self, reason: &str, meaning: Meaning, ours: bool) {
        if self.loss.is_none() {
            debug!(account = %self.label, reason, "upstream session ended");
            self.loss = Some(Loss { reason: reason.into(), meaning, ours });
        }
        // Dropping the stream closes the socket; the permit goes with it.
        (self.link, self.permit, self.idling, self.selected) = (None, None, None, None);
    }

    /// The network link, for the TLS handshake; whatever came before it is forgotten.
    pub(super) fn take_link(&mut self) -> Option<Stream> {
        self.framer.clear_buffered();
        self.out.clear();
        self.link.take()
    }

    pub(super) fn set_link(&mut self, link: Stream) {
        self.link = Some(link);
    }

    // --- bytes ---

    async fn fill(&mut self, limit: Option<Duration>) -> Result<(), Fault> {
        let Some(link) = &mut self.link else { return Err(self.already_lost()) };
        let read = link.read_buf(self.framer.buffer());
        let read = match limit {
            Some(limit) => timeout(limit, read).await,
            None => Ok(read.await),
        };
        match read {
            Ok(Ok(0)) => Err(Fault::Lost("the provider closed the connection".into())),
            Ok(Ok(octets)) => {
                self.meter.received(octets as u64);
                Ok(())
            }
            Ok(Err(error)) => Err(Fault::Lost(error.to_string())),
            Err(_) => {
                let seconds = limit.unwrap_or_default().as_secs();
                Err(Fault::Lost(format!("the provider said nothing for {seconds} s")))
            }
        }
    }

    fn already_lost(&self) -> Fault {
        let reason = self.loss.as_ref().map_or("the connection is closed", |loss| loss.reason.as_str());
        Fault::Lost(reason.into())
    }

    /// The next frame, waiting as long as `limit` for each read.
    pub(super) async fn frame(&mut self, limit: Option<Duration>) -> Result<Frame, Fault> {
        loop {
            match self.framer.next() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => self.fill(limit).await?,
                Err(error) => return Err(Fault::Protocol(error.to_string())),
            }
        }
    }

    /// The next message; literals too large to stand in it are left out.
    async fn message(&mut self, limit: Option<Duration>) -> Result<Bytes, Fault> {
        loop {
            if let Frame::Message(message) = self.frame(limit).await? {
                trace!(account = %self.label, octets = message.len(), "received");
                return Ok(message);
            }
        }
    }

    /// Hands everything queued to the socket. May be cancelled: what was not handed on stays queued.
    pub(super) async fn flush(&mut self) -> Result<(), Fault> {
        while !self.out.is_empty() {
            let Some(link) = &mut self.link else { return Err(self.already_lost()) };
            let written = timeout(WRITE_TIMEOUT, link.write(&self.out)).await;
            let octets = self.written(written).await?;
            self.out.advance(octets.min(self.out.len()));
        }
        self.flush_link().await
    }

    /// Hands a literal to the socket without copying it.
    async fn write_literal(&mut self, literal: &Bytes) -> Result<(), Fault> {
        self.flush().await?;
        let mut rest = literal.clone();
        while !rest.is_empty() {
            let Some(link) = &mut self.link else { return Err(self.already_lost()) };
            let piece = rest.get(..rest.len().min(WRITE_PIECE)).unwrap_or_default();
            let written = timeout(WRITE_TIMEOUT, link.write(piece)).await;
            let octets = self.written(written).await?;
            rest.advance(octets.min(rest.len()));
        }
        Ok(())
    }

    async fn written(
        &mut self,
        written: Result<std::io::Result<usize>, tokio::time::error::Elapsed>,
    ) -> Result<usize, Fault> {
        let reason = match written {
            Ok(Ok(octets)) if octets > 0 => {
                self.handed += octets as u64;
                self.meter.sent(octets as u64);
                return Ok(octets);
            }
            Ok(Ok(_)) => "the connection takes nothing more".into(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the provider took nothing for {} s", WRITE_TIMEOUT.as_secs()),
        };
        Err(Fault::Lost(self.last_words().await.unwrap_or(reason)))
    }

    async fn flush_link(&mut self) -> Result<(), Fault> {
        let Some(link) = &mut self.link else { return Err(self.already_lost()) };
        match timeout(WRITE_TIMEOUT, link.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::Lost(error.to_string())),
            Err(_) => Err(Fault::Lost("the connection takes nothing more".into())),
        }
    }

    /// A server that hangs up mostly says why; the write fails before that was read.
    async fn last_words(&mut self) -> Option<String> {
        let read = async {
            loop {
                let message = self.message(None).await.ok()?;
                if let Answer::Bye(status) = Answer::read(message) {
                    return Some(self.farewell(&status));
                }
            }
        };
        timeout(LAST_WORDS, read).await.ok().flatten()
    }

    // --- exchanges ---

    /// One command and its answers: untagged data goes to `take`, what it does not want becomes events.
    pub(super) async fn run(&mut self, line: Line, take: Take<'_>) -> Result<Done, Error> {
        let mut results = self.run_all(vec![line], take).await?;
        results.pop().unwrap_or_else(|| Err(Error::Protocol("no command".into())))
    }

    /// Several commands, pipelined, and the outcome of each. Fails as a whole only when the session is lost.
    pub(super) async fn run_all(
        &mut self,
        lines: Vec<Line>,
        take: Take<'_>,
    ) -> Result<Vec<Result<Done, Error>>, Error> {
        let mark = self.begin().await?;
        match self.converse(lines, take).await {
            Ok(results) => {
                self.finish();
                Ok(results)
            }
            Err(fault) => Err(self.broke(&fault, mark)),
        }
    }

    /// Makes sure that a command can be begun, ends an IDLE left over, and marks the session busy. Gives the octets handed to the socket
    /// so far, for [`Self::broke`].
    pub(super) async fn begin(&mut self) -> Result<u64, Error> {
        if self.busy && self.link.is_some() {
            self.close("a command was given up before its answer");
        }
        if self.link.is_some() {
            // A connection that ended meanwhile is noticed before anything is sent on it.
            self.hear();
        }
        if self.link.is_none() {
            let (Fault::Lost(reason) | Fault::Protocol(reason)) = self.already_lost();
            return Err(Error::Lost { reason, sent: false });
        }
        self.gate.lock().may_speak(Instant::now())?;
        // DONE is no part of the command: if it cannot be said, nothing of the command was.
        if let Err(fault) = self.end_idle().await {
            let handed = self.handed;
            return Err(self.broke(&fault, handed));
        }
        self.busy = true;
        Ok(self.handed)
    }

    /// The command's tagged answer was seen.
    pub(super) fn finish(&mut self) {
        self.busy = false;
        self.used = Instant::now();
    }

    /// The session is over; `mark` is what had been handed to the socket before the command.
    pub(super) fn broke(&mut self, fault: &Fault, mark: u64) -> Error {
        let sent = self.handed > mark;
        match fault {
            Fault::Lost(reason) => {
                self.end(reason, Meaning::Ordinary, false);
                Error::Lost { reason: reason.clone(), sent }
            }
            Fault::Protocol(reason) => {
                self.end(reason, Meaning::Ordinary, false);
                Error::Protocol(reason.clone())
            }
        }
    }

    async fn converse(&mut self, lines: Vec<Line>, take: Take<'_>) -> Result<Vec<Result<Done, Error>>, Fault> {
        let mut results: Vec<Option<Result<Done, Error>>> = lines.iter().map(|_| None).collect();
        let mut under_way: VecDeque<(String, usize)> = VecDeque::new();
        for (index, line) in lines.into_iter().enumerate() {
            // With a literal that waits for `+`, nothing else may be under way: its answers could not be told apart.
            let room = if line.waits(&self.caps) { 1 } else { PIPELINE };
            while under_way.len() >= room {
                self.answer(&mut under_way, &mut results, take).await?;
            }
            let tag = self.next_tag();
            match self.send(&tag, line, take).await? {
                None => under_way.push_back((tag, index)),
                Some(refused) => set(&mut results, index, refused),
            }
        }
        while !under_way.is_empty() {
            self.answer(&mut under_way, &mut results, take).await?;
        }
        Ok(results.into_iter().flatten().collect())
    }

    pub(super) fn next_tag(&mut self) -> String {
        self.tags = self.tags.wrapping_add(1);
        format!("w{}", self.tags)
    }

    /// Sends a command (literal-free ones are only queued). Gives its outcome if upstream answered a literal's announcement by it.
    pub(super) async fn send(
        &mut self,
        tag: &str,
        line: Line,
        take: Take<'_>,
    ) -> Result<Option<Result<Done, Error>>, Fault> {
        match self.send_for_status(tag, line, take).await? {
            None => Ok(None),
            Some(status) => self.outcome(status).map(Some),
        }
    }

    /// The same, giving the bare status line.
    pub(super) async fn send_for_status(
        &mut self,
        tag: &str,
        line: Line,
        take: Take<'_>,
    ) -> Result<Option<Status>, Fault> {
        debug!(account = %self.label, tag, command = %line.name(), "send");
        self.queue(tag.as_bytes());
        self.queue(b" ");
        for part in line.parts() {
            let literal = match part {
                Part::Text(text) => {
                    self.queue(text);
                    continue;
                }
                Part::Literal(literal) => literal,
            };
            let unasked = self.caps.may_send_without_asking(literal.len());
            self.queue(format!("{{{}{}}}\r\n", literal.len(), if unasked { "+" } else { "" }).as_bytes());
            if !unasked {
                self.flush().await?;
                if let Some(status) = self.wait_to_go_on(tag, take).await? {
                    return Ok(Some(status));
                }
            }
            self.write_literal(literal).await?;
        }
        self.queue(b"\r\n");
        Ok(None)
    }

    /// Queues bytes for the next flush.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Waits for `+`; or gives the command's tagged answer, whatever it is, and then no literal may be sent.
    async fn wait_to_go_on(&mut self, tag: &str, take: Take<'_>) -> Result<Option<Status>, Fault> {
        loop {
            match self.next_answer(Some(READ_TIMEOUT)).await? {
                Answer::Continue => return Ok(None),
                Answer::Tagged(answered, status) if answered == tag => return Ok(Some(status)),
                other => self.untagged(other, take)?,
            }
        }
    }

    async fn answer(
        &mut self,
        under_way: &mut VecDeque<(String, usize)>,
        results: &mut [Option<Result<Done, Error>>],
        take: Take<'_>,
    ) -> Result<(), Fault> {
        self.flush().await?;
        loop {
            match self.next_answer(Some(READ_TIMEOUT)).await? {
                Answer::Tagged(tag, status) => {
                    let Some(at) = under_way.iter().position(|(waiting, _)| *waiting == tag) else {
                        debug!(account = %self.label, "an answer to no command of ours");
                        continue;
                    };
                    let outcome = self.outcome(status)?;
                    if let Some((_, index)) = under_way.remove(at) {
                        set(results, index, outcome);
                    }
                    return Ok(());
                }
                other => self.untagged(other, take)?,
            }
        }
    }

    /// The next message, read; a BYE is the end.
    pub(super) async fn next_answer(&mut self, limit: Option<Duration>) -> Result<Answer, Fault> {
        let message = self.message(limit).await?;
        self.understood(message)
    }

    /// A whole message, read; a BYE is the end.
    pub(super) fn understood(&mut self, message: Bytes) -> Result<Answer, Fault> {
        match Answer::read(message) {
            Answer::Bye(status) => Err(Fault::Lost(self.farewell(&status))),
            answer => Ok(answer),
        }
    }

    /// BYE: what it means for the account is kept, and the connection closed at once (some servers repeat it for ever).
    fn farewell(&mut self, status: &Status) -> String {
        let reason = format!("the provider ended the session: {}", shorten(&status.text));
        let meaning = meaning(Place::Bye, status.code.as_ref().map(Code::whole), &status.text);
        self.end(&reason, meaning, false);
        reason
    }

    /// Whatever is not the answer to the command under way.
    pub(super) fn untagged(&mut self, answer: Answer, take: Take<'_>) -> Result<(), Fault> {
        match answer {
            Answer::Data(data) => {
                let Some(data) = self.keep_count(data, take) else { return Ok(()) };
                self.events.hear(data);
            }
            Answer::Bye(status) => return Err(Fault::Lost(self.farewell(&status))),
            // A `+` nobody asked for and answers to nothing: harmless, and servers do send them.
            Answer::Continue | Answer::Tagged(..) => {
                debug!(account = %self.label, "an answer to nothing");
            }
        }
        Ok(())
    }

    /// Keeps the selected mailbox's count in step, whoever the data is for.
    fn keep_count(&mut self, data: Data, take: Take<'_>) -> Option<Data> {
        if let Some((_, selected)) = &mut self.selected {
            match &data {
                Data::Exists(count) => selected.exists = *count,
                Data::Expunge(_) => selected.exists = selected.exists.saturating_sub(1),
                Data::Vanished { earlier: false, uids } => {
                    let gone = u32::try_from(uids.len()).unwrap_or(u32::MAX);
                    selected.exists = selected.exists.saturating_sub(gone);
                }
                _ => {}
            }
        }
        take(data)
    }

    /// A tagged answer as an outcome. Words that concern the account are told to the gate.
    pub(super) fn outcome(&mut self, status: Status) -> Result<Result<Done, Error>, Fault> {
        let bad = match status.kind {
            Kind::Ok => return Ok(Ok(Done { code: status.code })),
            Kind::No => false,
            Kind::Bad => true,
        };
        let code = status.code.as_ref().map(|code| code.whole().to_owned());
        let text = shorten(&status.text);
        match meaning(Place::Command, code.as_deref(), &status.text) {
            Meaning::TooMany => {
                // The session is of no use: every command is answered so until the connection is closed.
                self.end(&text, Meaning::TooMany, false);
                Err(Fault::Lost(text))
            }
            slow @ (Meaning::Throttled(_) | Meaning::Bandwidth) => {
                let now = Instant::now();
                let mut gate = self.gate.lock();
                gate.slow_down(slow, &text, now, jitter());
                Ok(Err(gate.may_speak(now).err().unwrap_or(Error::No { code, text, bad })))
            }
            _ => Ok(Err(Error::No { code, text, bad })),
        }
    }

    /// Reads what has come, without waiting: what was said unasked becomes events, an end is noticed.
    pub(super) fn hear(&mut self) {
        while self.link.is_some() {
            let heard = self.next_answer(None).now_or_never();
            let outcome = match heard {
                None => return,
                Some(Ok(Answer::Continue)) => {
                    if let Some(idling) = &mut self.idling {
                        idling.confirmed = true;
                    }
                    Ok(())
                }
                Some(Ok(Answer::Tagged(tag, _))) => {
                    self.idling = self.idling.take().filter(|idling| idling.tag != tag);
                    Ok(())
                }
                Some(Ok(answer)) => self.untagged(answer, &mut nothing),
                Some(Err(fault)) => Err(fault),
            };
            if let Err(fault) = outcome {
                self.broke(&fault, self.handed);
            }
        }
    }

    // --- IDLE (the rest is in exchange/idle.rs) ---

    pub(super) fn idling(&mut self) -> &mut Option<Idling> {
        &mut self.idling
    }

    /// Ends an IDLE if one is under way. May be cancelled and called again.
    pub(super) async fn end_idle(&mut self) -> Result<(), Fault> {
        while let Some(idling) = &mut self.idling {
            if idling.confirmed && !idling.done {
                idling.done = true;
                self.queue(b"DONE\r\n");
            }
            self.flush().await?;
            let answer = self.next_answer(Some(READ_TIMEOUT)).await?;
            self.idle_answer(answer)?;
        }
        Ok(())
    }

    /// An answer while IDLE is under way.
    pub(super) fn idle_answer(&mut self, answer: Answer) -> Result<(), Fault> {
        match (answer, &mut self.idling) {
            (Answer::Continue, Some(idling)) => idling.confirmed = true,
            (Answer::Tagged(tag, _), Some(idling)) if idling.tag == tag => {
                self.idling = None;
                self.used = Instant::now();
            }
            (answer, _) => self.untagged(answer, &mut nothing)?,
        }
        Ok(())
    }

    /// LOGOUT; the connection is over afterwards whatever was answered.
    pub(super) async fn logout(&mut self) -> Result<(), Error> {
        let outcome = self.run(Line::new("LOGOUT"), &mut nothing).await;
        self.close("logged out");
        outcome.map(|_| ())
    }
}

fn set(results: &mut [Option<Result<Done, Error>>], index: usize, outcome: Result<Done, Error>) {
    if let Some(slot) = results.get_mut(index) {
        *slot = Some(outcome);
    }
}

/// A provider's text as it stands in an error.
pub(super) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
