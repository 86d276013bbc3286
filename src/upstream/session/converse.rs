//! Commands and their answers: tags, pipelining, synchronising literals, and what each tagged answer means.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::{Done, Drip, Fault, READ_TIMEOUT, Session, Take, shorten};
use crate::upstream::answer::{Answer, Code, Data, Kind, Status};
use crate::upstream::error::Error;
use crate::upstream::gate::jitter;
use crate::upstream::line::{Line, Part};
use crate::upstream::words::{Meaning, Place, meaning};
use crate::wire::imap::response as wire;

/// Commands under way at once. More gain nothing on any round trip, and servers limit what they queue.
const PIPELINE: usize = 8;

impl Session {
    /// One command and its answers: untagged data goes to `take`, what it does not want becomes events.
    pub(in crate::upstream) async fn run(&mut self, line: Line, take: Take<'_>) -> Result<Done, Error> {
        let mut results = self.run_all(vec![line], take).await?;
        results.pop().unwrap_or_else(|| Err(Error::Protocol("no command".into())))
    }

    /// Several commands, pipelined, and the outcome of each. Fails as a whole only when the session is lost.
    pub(in crate::upstream) async fn run_all(
        &mut self,
        lines: Vec<Line>,
        take: Take<'_>,
    ) -> Result<Vec<Result<Done, Error>>, Error> {
        let mut results = Vec::new();
        self.run_each(lines, &mut results, take).await?;
        Ok(results.into_iter().flatten().collect())
    }

    /// The same; when the session is lost in the middle, `results` holds what had been answered until then, in the order of `lines`.
    pub(in crate::upstream) async fn run_each(
        &mut self,
        lines: Vec<Line>,
        results: &mut Vec<Option<Result<Done, Error>>>,
        take: Take<'_>,
    ) -> Result<(), Error> {
        results.clear();
        results.resize_with(lines.len(), || None);
        // The first is asked for below.
        self.permitted(lines.len().saturating_sub(1)).await?;
        let mark = self.begin().await?;
        self.reads = lines.iter().all(Line::only_reads);
        match self.converse(lines, results, take).await {
            Ok(()) => {
                self.finish();
                Ok(())
            }
            Err(fault) => Err(self.broke(&fault, mark)),
        }
    }

    /// Makes sure that a command can be begun, ends an IDLE left over, and marks the session busy. Gives the octets handed to the socket
    /// so far, for [`Self::broke`].
    pub(in crate::upstream) async fn begin(&mut self) -> Result<u64, Error> {
        self.may_begin()?;
        self.permitted(1).await?;
        // DONE is no part of the command: if it cannot be said, nothing of the command was.
        if let Err(fault) = self.end_idle().await {
            let handed = self.handed;
            return Err(self.broke(&fault, handed));
        }
        (self.busy, self.reads) = (true, false);
        self.drip = Drip::begin(Instant::now());
        Ok(self.handed)
    }

    /// The same for a command that changes nothing: the DONE of an IDLE left over goes out with the command, and its answer is met
    /// on the way. RFC 2177 forbids commands before DONE, not behind it.
    pub(in crate::upstream) async fn begin_reading(&mut self) -> Result<u64, Error> {
        self.may_begin()?;
        self.permitted(1).await?;
        match &mut self.idling {
            Some(idling) if idling.confirmed && idling.done => {}
            Some(idling) if idling.confirmed => {
                idling.done = true;
                self.queue(b"DONE\r\n");
            }
            // Before its `+` IDLE cannot be ended.
            Some(_) => {
                let mark = self.begin().await?;
                self.reads = true;
                return Ok(mark);
            }
            None => {}
        }
        (self.busy, self.reads) = (true, true);
        self.drip = Drip::begin(Instant::now());
        Ok(self.handed + self.out.len() as u64)
    }

    /// Waits until so many commands may be begun (Law 6).
    async fn permitted(&mut self, commands: usize) -> Result<(), Error> {
        for _ in 0..commands {
            while let Some(wait) = self.permits.command()? {
                sleep(wait).await;
            }
        }
        Ok(())
    }

    fn may_begin(&mut self) -> Result<(), Error> {
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
        self.gate.lock().may_speak(Instant::now())
    }

    /// The command's tagged answer was seen.
    pub(in crate::upstream) fn finish(&mut self) {
        self.busy = false;
        self.used = Instant::now();
    }

    /// The session is over; `mark` is what had been handed to the socket before the command.
    pub(in crate::upstream) fn broke(&mut self, fault: &Fault, mark: u64) -> Error {
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

    pub(super) async fn converse(
        &mut self,
        lines: Vec<Line>,
        results: &mut [Option<Result<Done, Error>>],
        take: Take<'_>,
    ) -> Result<(), Fault> {
        let mut under_way: VecDeque<(String, usize)> = VecDeque::new();
        for (index, line) in lines.into_iter().enumerate() {
            // With a literal that waits for `+`, nothing else may be under way: its answers could not be told apart.
            let room = if line.waits(&self.caps) { 1 } else { PIPELINE };
            while under_way.len() >= room {
                self.answer(&mut under_way, results, take).await?;
            }
            let tag = self.next_tag();
            match self.send(&tag, line, take).await? {
                None => under_way.push_back((tag, index)),
                Some(refused) => set(results, index, refused),
            }
        }
        while !under_way.is_empty() {
            self.answer(&mut under_way, results, take).await?;
        }
        Ok(())
    }

    pub(in crate::upstream) fn next_tag(&mut self) -> String {
        self.tags = self.tags.wrapping_add(1);
        format!("w{}", self.tags)
    }

    /// Sends a command (literal-free ones are only queued). Gives its outcome if upstream answered a literal's announcement by it.
    pub(in crate::upstream) async fn send(
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
    pub(in crate::upstream) async fn send_for_status(
        &mut self,
        tag: &str,
        line: Line,
        take: Take<'_>,
    ) -> Result<Option<Status>, Fault> {
        debug!(parent: &self.span, account = %self.label, tag, command = %line.name(), octets = line.octets(), "send");
        self.trace_sent(tag, &line);
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
    pub(in crate::upstream) fn queue(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Waits for `+`; or gives the command's tagged answer, whatever it is, and then no literal may be sent.
    pub(super) async fn wait_to_go_on(&mut self, tag: &str, take: Take<'_>) -> Result<Option<Status>, Fault> {
        loop {
            match self.next_answer(Some(READ_TIMEOUT)).await? {
                Answer::Continue(_) => return Ok(None),
                Answer::Tagged(answered, status) if answered == tag => return Ok(Some(status)),
                other => self.untagged(other, take)?,
            }
        }
    }

    pub(super) async fn answer(
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
    pub(in crate::upstream) async fn next_answer(&mut self, limit: Option<Duration>) -> Result<Answer, Fault> {
        let message = self.message(limit).await?;
        self.understood(message)
    }

    /// A whole message, read; a BYE is the end.
    pub(in crate::upstream) fn understood(&mut self, message: Bytes) -> Result<Answer, Fault> {
        match Answer::read(message) {
            Answer::Bye(status) => Err(Fault::Lost(self.farewell(&status))),
            answer => Ok(answer),
        }
    }

    /// BYE: what it means for the account is kept, and the connection closed at once (some servers repeat it for ever).
    pub(super) fn farewell(&mut self, status: &Status) -> String {
        let reason = format!("the provider ended the session: {}", shorten(&status.text));
        let meaning = meaning(Place::Bye, status.code.as_ref().map(Code::whole), &status.text);
        self.end(&reason, meaning, false);
        reason
    }

    /// Whatever is not the answer to the command under way.
    pub(in crate::upstream) fn untagged(&mut self, answer: Answer, take: Take<'_>) -> Result<(), Fault> {
        match answer {
            Answer::Data(data) => {
                if let Data::Told(status) = &data
                    && status.code.as_ref().is_some_and(|code| code.read() == wire::Code::Alert)
                {
                    // RFC 9051 §7.1: to be brought to the user's attention.
                    warn!(account = %self.label, alert = %shorten(&status.text), "the provider warns");
                }
                let Some(data) = self.keep_count(data, take) else { return Ok(()) };
                self.events.hear(data);
            }
            Answer::Bye(status) => return Err(Fault::Lost(self.farewell(&status))),
            // The IDLE that a reading command ended.
            Answer::Tagged(tag, _) if self.idling.as_ref().is_some_and(|idling| idling.tag == tag) => {
                self.idling = None;
            }
            // A `+` nobody asked for and answers to nothing: harmless, and servers do send them.
            Answer::Continue(_) | Answer::Tagged(..) => {
                debug!(account = %self.label, "an answer to nothing");
            }
        }
        Ok(())
    }

    /// Keeps the selected mailbox's count in step, whoever the data is for.
    pub(super) fn keep_count(&mut self, data: Data, take: Take<'_>) -> Option<Data> {
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
    pub(in crate::upstream) fn outcome(&mut self, status: Status) -> Result<Result<Done, Error>, Fault> {
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
            slow @ (Meaning::Throttled(_) | Meaning::Bandwidth(_)) => {
                let now = Instant::now();
                self.meter.refused(slow);
                let mut gate = self.gate.lock();
                gate.slow_down(slow, &text, now, jitter());
                Ok(Err(gate.may_speak(now).err().unwrap_or(Error::No { code, text, bad })))
            }
            _ => Ok(Err(Error::No { code, text, bad })),
        }
    }
}

fn set(results: &mut [Option<Result<Done, Error>>], index: usize, outcome: Result<Done, Error>) {
    if let Some(slot) = results.get_mut(index) {
        *slot = Some(outcome);
    }
}
