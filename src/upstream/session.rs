//! One connection to the provider: framing, tags, literals, what is heard unasked, and when it is over.
//!
//! Exchanges (`exchange/*`) are methods of [`Session`] built on `Session::run` (`session/converse.rs`), and that on
//! `session/octets.rs`. What keeps a session honest:
//!
//! - one exchange at a time, each future cancellable: a command cut short leaves `busy` set, and the session is closed instead
//!   of used again out of step; IDLE alone can be resumed and ended later;
//! - a message that cannot be understood is dropped, never the session; broken framing ends it;
//! - every wait has a limit, begun anew by every byte (Law 8); BYE ends it at once;
//! - a synchronising literal answered by anything tagged aborts its command;
//! - [`Error::Lost`] says exactly whether a byte of the command was handed to the socket (Law 11).

mod converse;
mod octets;
mod protocol;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::{Span, debug};

use super::answer::{Answer, Code, Data};
use super::caps::Caps;
use super::config::{Config, Counting, Meter, Pacing, Permit, Permits, Quirks};
use super::error::Error;
use super::events::Events;
use super::gate::Gate;
use super::types::{Class, Event, Selected};
use super::words::Meaning;
use crate::net::Stream;
use crate::wire::imap::framer::{Framer, Limits, Side};

/// A command that produces nothing for so long is given up; every byte begins the wait anew. A search of a large mailbox may be
/// silent for many seconds, a dead connection for ever.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection that answered nothing for longer, or since the machine slept, may be dead without our knowing.
const CHECK_AFTER: Duration = Duration::from_secs(60);
/// How long such a one has to show that it lives; an answer is a round trip.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Why a session is given up that lets answers through drop by drop.
const DRIPS: &str = "the provider sends less than a kilobyte a second: another session is tried";
/// Longest text of a provider that is kept in an error.
const MAX_TEXT: usize = 500;

/// How fast the answer to the command under way comes.
#[derive(Clone, Copy, Debug)]
struct Drip {
    since: Instant,
    octets: u64,
    reads: u32,
}

impl Drip {
    fn begin(now: Instant) -> Self {
        Self { since: now, octets: 0, reads: 0 }
    }
}

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
    permits: Arc<dyn Permits>,
    pub(super) gate: Arc<Gate>,
    label: Arc<str>,
    /// Of the lease that has it now.
    pub(super) span: Span,
    pub(super) selected: Option<(String, Selected)>,
    events: Events,
    /// A command is under way whose tagged answer was not seen.
    busy: bool,
    drip: Drip,
    /// What is under way only reads: it can be asked for again over another session.
    reads: bool,
    /// Its answers come drop by drop, and another's may not: it is given up.
    drips: bool,
    /// Whose work it does.
    pub(super) class: Option<Class>,
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
        // Counted from the first octet on where it was dialled by us; a test's connection is counted from here.
        let link = if link.is_tapped() { link } else { link.tapped(Arc::new(Counting(Arc::clone(&config.meter)))) };
        Self {
            link: Some(link),
            framer: Framer::new(Side::Client, Limits::RESPONSES),
            out: BytesMut::new(),
            handed: 0,
            tags: 0,
            caps: Arc::default(),
            quirks: Arc::new(config.quirks.clone()),
            meter: Arc::clone(&config.meter),
            permits: Arc::clone(&config.permits),
            gate: Arc::clone(gate),
            label: config.label.as_str().into(),
            span: Span::none(),
            selected: None,
            events: Events::default(),
            busy: false,
            drip: Drip::begin(now),
            reads: false,
            drips: false,
            class: None,
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
            permits: Arc::new(Pacing::default()),
            gate: Arc::default(),
            label: "".into(),
            span: Span::none(),
            selected: None,
            events: Events::default(),
            busy: false,
            drip: Drip::begin(now),
            reads: false,
            drips: false,
            class: None,
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

    /// Whether upstream has confirmed `ENABLE QRESYNC` on this session.
    pub fn has_qresync(&self) -> bool {
        self.qresync
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

    /// Whether no command was answered for so long, or since the machine slept.
    pub(super) fn needs_proof(&self, silent: Duration) -> bool {
        self.used.elapsed() >= silent || self.gate.slept_since(self.used)
    }

    /// Whether it has been silent for so long that it may be dead.
    pub(super) fn is_stale(&self) -> bool {
        self.needs_proof(CHECK_AFTER)
    }

    /// A round trip that shows whether the connection lives: the end of an IDLE left over, else NOOP.
    pub(super) async fn prove(&mut self) -> Result<(), Error> {
        if self.idling.is_none() {
            return self.noop().await;
        }
        self.begin().await?;
        self.finish();
        Ok(())
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
        if self.drips && self.link.is_some() {
            self.close(DRIPS);
        }
        self.events = Events::default();
        self.span = Span::none();
        self.class = None;
    }

    fn end(&mut self, reason: &str, meaning: Meaning, ours: bool) {
        if self.loss.is_none() {
            debug!(account = %self.label, reason, "upstream session ended");
            self.loss = Some(Loss { reason: reason.into(), meaning, ours });
        }
        if let Some(link) = self.link.take().filter(|_| self.busy) {
            // A command given up must not arrive later, when it has been settled that it was not done: a kernel delivers what is unsent even
            // after the close, when the network is back (Law 11).
            link.abort();
        }
        // Dropping the stream closes the socket; the permit goes with it.
        (self.permit, self.idling, self.selected) = (None, None, None);
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

    /// From here on both directions are compressed (RFC 4978); what was read beyond the line that said so is already.
    pub(super) fn begin_compression(&mut self) {
        let ahead = self.framer.buffer().split();
        self.link = self.link.take().map(|link| link.deflated(&ahead));
    }

    /// Reads what has come, without waiting: what was said unasked becomes events, an end is noticed.
    pub(super) fn hear(&mut self) {
        while self.link.is_some() {
            let heard = self.next_answer(None).now_or_never();
            let outcome = match heard {
                None => return,
                Some(Ok(Answer::Continue(_))) => {
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
            (Answer::Continue(_), Some(idling)) => idling.confirmed = true,
            (Answer::Tagged(tag, _), Some(idling)) if idling.tag == tag => {
                self.idling = None;
                self.used = Instant::now();
            }
            (answer, _) => self.untagged(answer, &mut nothing)?,
        }
        Ok(())
    }

    /// LOGOUT, and all that is said until the other end closes: what it has counted is counted here, too. The connection is over afterwards
    /// whatever was answered. Has no limit of its own.
    pub(super) async fn logout(&mut self) {
        if self.begin().await.is_err() {
            return;
        }
        let tag = self.next_tag();
        self.queue(format!("{tag} LOGOUT\r\n").as_bytes());
        if self.flush().await.is_ok() {
            while self.fill(None).await.is_ok() {
                self.framer.clear_buffered();
            }
        }
        self.finish();
        self.close("logged out");
    }
}

/// A provider's text as it stands in an error.
pub(super) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
