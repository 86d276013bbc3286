//! A client's message on its way: straight to the provider as long as that goes, and into a file.
//!
//! Wherever the provider is lost or says 4xx, the message is kept, and the client answered 250 when it is on the disk; a 5xx is the client's
//! at once. Recipients have each their own fate: those the provider takes go straight, those it puts off are kept. Without `queue` only
//! copies are made of what was sent, and every answer is the provider's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::timeout;
use tracing::{error, info, warn};

use super::copies::message_id;
use super::entry::{Entry, Recipient, Send, What, told};
use super::spool::{self, Spool};
use super::{Outbox, backoff};
use crate::daemon::smtp::Outgoing;
use crate::session::smtp::{Grant, Outgoing as _};
use crate::upstream::smtp::{Passage, Refusal, Reply, SmtpError, advice};

/// How long a program waits for the provider before its message is kept: both together are below what it waits for MAIL.
const OPEN_TIMEOUT: Duration = Duration::from_secs(25);
const MAIL_TIMEOUT: Duration = Duration::from_secs(15);
/// The budget is asked so often while more comes than was said.
const ASK_EVERY: u64 = 1 << 20;
/// A doubt is looked into after this: providers file what they send within seconds, mostly.
pub(super) const LOOK_AFTER: Duration = Duration::from_secs(60);
/// So much of a message is read for its header.
pub(super) const HEADER_MOST: usize = 256 << 10;

/// Who has not got a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    All,
    /// Those the provider has put off; the others have it.
    PutOff,
    /// All, and those the provider took may have it.
    Doubt,
}

/// A message that goes straight while it can, and is kept else.
pub(crate) struct Kept {
    pub(super) outgoing: Outgoing,
    pub(super) outbox: Arc<Outbox>,
    /// As long as it goes straight.
    pub(super) live: Option<Passage>,
    pub(super) grant: Option<Grant>,
    pub(super) granted: u64,
    /// Octets of the message, as its sender says.
    pub(super) said: u64,
    /// What stands in the way of that.
    pub(super) why: Option<Reply>,
    pub(super) mail: String,
    /// What tells a copy of this transaction from others.
    pub(super) trace: String,
    /// Those answered 250; whether the provider did.
    pub(super) recipients: Vec<(Recipient, bool)>,
    /// Commands whose replies were not asked for yet.
    pub(super) asked: VecDeque<String>,
    pub(super) spool: Option<Result<Spool, String>>,
    /// Octets in it that count as being written.
    pub(super) spooled: u64,
    /// What writing came to, for the client.
    pub(super) refusal: Option<Reply>,
    /// The provider's word, where it came before it was asked for.
    pub(super) verdict: Option<Result<Reply, String>>,
    pub(super) is_kept: bool,
    /// Until when the account is held back because of this message.
    pub(super) held: Option<SystemTime>,
}

impl Kept {
    /// The way of a message of about so many octets. The error is the client's answer.
    pub(crate) async fn open(outgoing: &Outgoing, outbox: &Arc<Outbox>, octets: u64) -> Result<Self, Reply> {
        let granted = octets.max(1);
        let opened = match outbox.held(outbox.now()).filter(|_| outbox.keeps()) {
            Some(words) => Err(Reply::new(451, "4.7.1", words)),
            None => Self::lease(outgoing, outbox, granted).await,
        };
        let (live, grant, why) = match opened {
            Ok((live, grant)) => (Some(live), Some(grant), None),
            // Refused credentials need a person, who is there now.
            Err(reply) if outbox.keeps() && reply.code != 454 => (None, None, Some(reply)),
            Err(reply) => return Err(reply),
        };
        if live.is_none() && !outbox.has_room(octets) {
            return Err(Outbox::full());
        }
        Ok(Self {
            outgoing: outgoing.clone(),
            outbox: Arc::clone(outbox),
            live,
            grant,
            granted,
            said: octets,
            why,
            mail: String::new(),
            trace: spool::token(),
            recipients: Vec::new(),
            asked: VecDeque::new(),
            spool: None,
            spooled: 0,
            refusal: None,
            verdict: None,
            is_kept: false,
            held: None,
        })
    }

    async fn lease(outgoing: &Outgoing, outbox: &Outbox, octets: u64) -> Result<(Passage, Grant), Reply> {
        let grant = outgoing.upload(octets).map_err(|error| Reply::new(452, "4.5.3", error.to_string()))?;
        if let Some(words) = outbox.known_away().filter(|_| outbox.keeps()) {
            return Err(Reply::new(451, "4.4.1", words));
        }
        let leased =
            if outbox.keeps() { timeout(OPEN_TIMEOUT, outgoing.lease()).await } else { Ok(outgoing.lease().await) };
        let slow = || SmtpError::Unavailable("the provider takes too long to answer".into());
        match leased.unwrap_or_else(|_| Err(slow())) {
            Ok(live) => {
                outbox.reached();
                Ok((live, grant))
            }
            Err(SmtpError::Unavailable(words)) => {
                outbox.missed(&words);
                Err(Reply::new(451, "4.4.1", words))
            }
            Err(SmtpError::Login(words)) => Err(Reply::new(454, "4.7.0", words)),
            // The day's messages are spent; the sender waits that out.
            Err(SmtpError::Limit(reply)) => Err(reply),
        }
    }

    pub(super) fn keeps(&self) -> bool {
        self.outbox.keeps()
    }

    /// Goes on without the provider. `clean`: its session is in order.
    pub(super) async fn away(&mut self, why: Reply, clean: bool) {
        if let Some(live) = self.live.take()
            && clean
        {
            live.rest(false).await;
        }
        self.grant = None;
        self.why.get_or_insert(why);
        for (_, is_live) in &mut self.recipients {
            *is_live = false;
        }
    }

    /// What the provider said, where it says it still; `None`: it is not asked any more.
    async fn hear(&mut self, limit: Option<Duration>) -> Result<Option<Reply>, String> {
        let Some(live) = &mut self.live else { return Ok(None) };
        let heard = match limit {
            Some(limit) => timeout(limit, live.reply()).await.unwrap_or_else(|_| Err(slow())),
            None => live.reply().await,
        };
        let lost = match heard {
            Ok(reply) => return Ok(Some(reply)),
            Err(lost) => lost.to_string(),
        };
        self.live = None;
        if !self.keeps() {
            return Err(lost);
        }
        self.away(Reply::new(451, "4.4.2", format!("the connection was lost: {lost}")), false).await;
        Ok(None)
    }

    /// A block of the account is waited out from now on, also by what is kept already.
    async fn note(&mut self, reply: &Reply) {
        self.block(reply, Refusal::block(reply)).await;
    }

    async fn block(&mut self, reply: &Reply, block: Option<Duration>) {
        if let Some(length) = block.filter(|_| self.keeps()) {
            self.held = Some(self.outbox.hold(length, format!("{} ({})", advice(reply), told(reply))).await);
        }
    }

    pub(super) async fn heard_of_mail(&mut self, line: String) -> Result<Reply, String> {
        self.mail = line;
        let limit = self.keeps().then_some(MAIL_TIMEOUT);
        if let Some(reply) = self.hear(limit).await? {
            self.note(&reply).await;
            if !self.keeps() || !is_for_now(&reply) || !self.outbox.has_room(self.said) {
                return Ok(reply);
            }
            let clean = !hangs_up(&reply);
            self.away(reply, clean).await;
        }
        Ok(Reply::new(250, "2.1.0", "Sender taken; the provider is not, so the message will be kept"))
    }

    pub(super) async fn heard_of_recipient(&mut self, line: String) -> Result<Reply, String> {
        let reply = self.hear(None).await?;
        let mut said = None;
        if let Some(reply) = reply {
            self.block(&reply, Refusal::block_at_recipient(&reply)).await;
            let is_taken = reply.is_positive();
            if is_taken {
                self.recipients.push((Recipient::new(line.clone(), false, None), true));
            }
            if is_taken || !self.keeps() || !is_for_now(&reply) || !self.outbox.has_room(self.said) {
                return Ok(reply);
            }
            said = Some(told(&reply));
            if hangs_up(&reply) {
                self.away(reply, false).await;
            } else {
                self.why.get_or_insert(reply);
            }
        }
        self.recipients.push((Recipient { rcpt: line, doubt: false, said }, false));
        Ok(Reply::new(250, "2.1.5", "Recipient taken, to be sent to later"))
    }

    pub(super) async fn heard_of_data(&mut self) -> Result<Reply, String> {
        let heard = self.hear(None).await?;
        if let Some(reply) = &heard {
            self.note(reply).await;
            if reply.code != 354 && (!self.keeps() || !is_for_now(reply)) {
                return Ok(reply.clone());
            }
        }
        self.spool = Some(Spool::create(&self.outbox.dir).await.map_err(|error| error.to_string()));
        match heard {
            Some(reply) if reply.code == 354 => {
                // Not into the file: it is of this transaction alone.
                let trace = if self.keeps() { self.outbox.trace(&self.trace) } else { String::new() };
                if let Some(live) = &mut self.live
                    && let Err(lost) = live.write(trace.as_bytes()).await
                {
                    let why = Reply::new(451, "4.4.2", format!("the connection was lost: {lost}"));
                    self.away(why, false).await;
                } else {
                    return Ok(reply);
                }
            }
            Some(reply) => {
                let clean = !hangs_up(&reply);
                self.away(reply, clean).await;
            }
            None => {}
        }
        if let Some(Err(words)) = &self.spool {
            error!(account = %self.outbox.address, "a message cannot be kept: {words}");
            return Ok(Outbox::full());
        }
        Ok(Reply::new(354, "", "Send the message; it will be kept"))
    }

    /// Into the file. A disk that fails costs the message only where the provider fails too.
    async fn spool(&mut self, dotted: &[u8]) {
        let Some(Ok(file)) = &mut self.spool else { return };
        let octets = dotted.len() as u64;
        let failed = if self.outbox.has_room(octets) {
            file.write(dotted).await.err().map(|error| error.to_string())
        } else {
            Some("the outbox is full".to_owned())
        };
        match failed {
            None => {
                self.spooled += octets;
                self.outbox.spooling.fetch_add(octets, Ordering::Relaxed);
            }
            Some(words) => {
                warn!(account = %self.outbox.address, "a message cannot be kept: {words}");
                self.spool = Some(Err(words));
            }
        }
    }

    /// More comes than the budget was asked for.
    async fn ask_for_more(&mut self, octets: u64) -> Result<(), Reply> {
        if self.live.is_none() {
            return Ok(());
        }
        if octets <= self.granted {
            self.granted -= octets;
            return Ok(());
        }
        // What was asked for before has crossed the socket, and is counted.
        self.grant = None;
        match self.outgoing.upload(ASK_EVERY.max(octets)) {
            Ok(grant) => {
                self.grant = Some(grant);
                self.granted = ASK_EVERY.max(octets) - octets;
                Ok(())
            }
            Err(error) => Err(Reply::new(452, "4.5.3", error.to_string())),
        }
    }

    /// What follows from a message that does not go straight any more; the error when nothing does.
    async fn lost_in_message(&mut self, reply: Reply) -> Result<(), String> {
        self.note(&reply).await;
        if !self.keeps() || reply.is_permanent() && !is_for_now(&reply) {
            self.live = None;
            let words = told(&reply);
            self.refusal = Some(reply);
            return Err(words);
        }
        self.away(reply, false).await;
        Ok(())
    }

    pub(super) async fn pass_on(&mut self, dotted: &[u8]) -> Result<(), String> {
        self.spool(dotted).await;
        if let Err(reply) = self.ask_for_more(dotted.len() as u64).await {
            self.lost_in_message(reply).await?;
        }
        if let Some(live) = &mut self.live
            && let Err(lost) = live.write(dotted).await
        {
            // Servers that have enough say why, and hang up.
            let said = live.last_words().await.filter(|reply| reply.code >= 400);
            let lost = || Reply::new(451, "4.4.2", format!("The connection to the provider was lost: {lost}"));
            let reply = said.unwrap_or_else(lost);
            self.lost_in_message(reply).await?;
        }
        if self.live.is_none() && matches!(self.spool, Some(Err(_))) {
            self.refusal = Some(Outbox::full());
            return Err("the message cannot be kept".into());
        }
        Ok(())
    }

    pub(super) async fn pass_last(&mut self, dotted: &[u8]) -> Result<(), String> {
        self.spool(dotted).await;
        if self.live.is_some() && self.keeps() && self.recipients.iter().any(|(_, is_live)| !is_live) {
            self.may_be_parted().await?;
        }
        let Some(live) = &mut self.live else { return Ok(()) };
        let Err(lost) = live.write(dotted).await else { return Ok(()) };
        let said = live.last_words().await;
        if live.is_unsent() && said.as_ref().is_none_or(|reply| reply.code < 400) {
            // It had spoken, or hung up, before the dot, which was not sent.
            let why = format!("The connection to the provider was lost: {lost}");
            return self.lost_in_message(Reply::new(451, "4.4.2", why)).await;
        }
        // The dot may be there all the same.
        self.verdict = Some(said.ok_or_else(|| lost.to_string()));
        Ok(())
    }

    /// Some recipients are to be sent to later. What cannot be kept for them is not sent to the others either: the client is to send it again,
    /// and nobody gets it twice.
    async fn may_be_parted(&mut self) -> Result<(), String> {
        let fault = match &mut self.spool {
            Some(Ok(spool)) => spool.sync().await.err().map(|error| error.to_string()),
            Some(Err(words)) => Some(words.clone()),
            None => Some("it was not written to the disk".into()),
        };
        let Some(words) = fault else { return Ok(()) };
        warn!(account = %self.outbox.address, "a message is not sent, because it cannot be kept for all its recipients: {words}");
        self.live = None;
        self.refusal = Some(Outbox::full());
        Err("the message cannot be kept".into())
    }

    pub(super) async fn outcome(&mut self) -> Result<Reply, String> {
        let verdict = match (self.verdict.take(), &mut self.live) {
            (Some(verdict), _) => Some(verdict),
            (None, Some(live)) => Some(live.verdict().await.map_err(|lost| lost.to_string())),
            (None, None) => None,
        };
        self.grant = None;
        if let Some(Ok(reply)) = &verdict {
            self.note(reply).await;
        }
        match verdict {
            Some(Ok(reply)) if reply.is_positive() => self.sent(reply).await,
            Some(Ok(reply)) if !self.keeps() || !is_for_now(&reply) => Ok(reply),
            Some(Err(lost)) if !self.keeps() => Err(lost),
            Some(Ok(reply)) => {
                if hangs_up(&reply) {
                    self.live = None;
                }
                self.why.get_or_insert(reply);
                self.keep(Left::All).await
            }
            Some(Err(lost)) => {
                self.live = None;
                let words = format!("the provider was lost before it answered: {lost}");
                self.why = Some(Reply::new(451, "4.4.2", words));
                self.keep(Left::Doubt).await
            }
            None => self.keep(Left::All).await,
        }
    }

    /// The provider has it, for those it has taken; the others are kept.
    async fn sent(&mut self, reply: Reply) -> Result<Reply, String> {
        let all = self.recipients.len();
        let left = self.recipients.iter().filter(|(_, is_live)| !is_live).count();
        if left == 0 {
            self.copy().await;
            return Ok(reply);
        }
        self.outgoing.sent(&reply, all - left, self.spooled);
        let kept = self.keep(Left::PutOff).await?;
        if kept.is_positive() {
            let words = format!("{} (and kept for {left} of {all} recipients, to be sent to later)", reply.text());
            return Ok(Reply { lines: vec![words], ..reply });
        }
        // Kept nowhere is not accepted: the client tries again, and those who have it get it twice.
        Ok(kept)
    }

    /// Writes the message down for those who have not got it.
    async fn keep(&mut self, left: Left) -> Result<Reply, String> {
        let Some(Ok(mut spool)) = self.spool.take() else { return Ok(Outbox::full()) };
        let outbox = Arc::clone(&self.outbox);
        let failed = |words: String| {
            error!(account = %outbox.address, "a message cannot be kept: {words}");
            Reply::new(451, "4.3.0", "The message cannot be kept; see mailweir's log")
        };
        if let Err(error) = spool.sync().await {
            return Ok(failed(error.to_string()));
        }
        let (now, why) = (self.outbox.now(), self.why.as_ref().map(told));
        let mut recipients: Vec<Recipient> = Vec::new();
        for (recipient, is_live) in self.recipients.iter().filter(|(_, is_live)| left != Left::PutOff || !is_live) {
            let doubt = left == Left::Doubt && *is_live;
            recipients.push(Recipient { doubt, said: recipient.said.clone(), rcpt: recipient.rcpt.clone() });
        }
        let said_so = self.why.as_ref().is_some_and(|why| !matches!(why.enhanced.as_deref(), Some("4.4.1" | "4.5.3")));
        let doubt = recipients.iter().any(|recipient| recipient.doubt);
        let due = match (doubt, self.held, said_so) {
            (true, ..) => now + LOOK_AFTER,
            // What brought the block about goes last when it is over.
            (false, Some(until), _) => until + backoff::put_off(1),
            (false, None, true) => now + backoff::put_off(1),
            // Whoever is away, and the budget, are asked before anything is tried.
            (false, None, false) => now,
        };
        let send = Send {
            mail: self.mail.clone(),
            recipients,
            message_id: message_id(&spool).await,
            dot: if doubt { seconds(now) } else { 0 },
            trace: doubt.then(|| self.trace.clone()),
            last: why,
            ..Send::default()
        };
        let count = send.recipients.len();
        // Before the row: once that is there, the file may be sent and gone.
        let copies = self.copies_of(spool.path()).await;
        let octets = spool.octets();
        let item = Entry::new(spool.name(), What::Send(send)).item(due, now, octets);
        let id = match self.outbox.add(item, spool.done()).await {
            Ok(Some(id)) => id,
            Ok(None) => return Ok(Outbox::full()),
            Err(words) => return Ok(failed(words)),
        };
        let why = self.why.as_ref();
        let mend = why.map(advice).unwrap_or_default();
        info!(account = %self.outbox.address, id, recipients = count, octets, doubt, mend,
            "a message is kept in the outbox: {}", why.map(told).unwrap_or_default());
        self.is_kept = true;
        self.add_copies(copies, octets).await;
        Ok(Reply::new(250, "2.0.0", format!("Kept as {id} and sent later: the provider cannot take it now")))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.outbox.spooling.fetch_sub(self.spooled, Ordering::Relaxed);
    }
}

fn slow() -> crate::upstream::smtp::Lost {
    crate::upstream::smtp::Lost("the provider takes too long to answer".into())
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The provider says not now, or what only concerns its session with us (a login it wants again).
pub(super) fn is_for_now(reply: &Reply) -> bool {
    reply.is_transient() || matches!(reply.code, 530 | 534 | 535 | 538) || !(200..600).contains(&reply.code)
}

/// Its session is of no more use.
pub(super) fn hangs_up(reply: &Reply) -> bool {
    reply.code == 421 || !reply.is_transient()
}
