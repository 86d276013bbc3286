//! Sends what is kept: one message at a time, when it is due and nothing holds the account back.

mod doubt;
mod filing;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::entry::{Entry, Send, What, told};
use super::outside::Outside;
use super::passage::LOOK_AFTER;
use super::transaction::{self, Fate, Journal};
use super::{Outbox, backoff, bounce, spool};
use crate::daemon::status::NO_SERVER;
use crate::message::Told;
use crate::metrics::Attempt;
use crate::state::{OutboxItem, OutboxRow};
use crate::upstream::smtp::{SmtpError, advice};

/// What has changed without our being told (`mailweir outbox` where signals do not work) is seen after this.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a fault of our own disk.
const FAULT_PAUSE: Duration = Duration::from_secs(60);
/// The day's budget, and a login its owner has to see to, are asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// A login that was refused.
const LOGIN_HOLD: Duration = Duration::from_secs(3600);
/// Whoever wants to know of delays hears of one after this (RFC 3461 §5.2.7 leaves it to us).
const DELAY_TOLD: Duration = Duration::from_secs(4 * 3600);

/// Looks for a copy before a message is sent, or stored, again; [`LOOK_AFTER`] apart.
const LOOKS: u32 = 3;

/// One account's.
pub(crate) struct Sender<O> {
    outbox: Arc<Outbox>,
    outside: O,
    warned: AtomicBool,
}

/// A row under way.
struct Row {
    id: i64,
    file: String,
    item: OutboxItem,
}

impl<O: Outside> Sender<O> {
    pub(crate) fn new(outbox: Arc<Outbox>, outside: O) -> Self {
        Self { outbox, outside, warned: AtomicBool::new(false) }
    }

    /// Runs until `stop`; a try that is under way then comes to its end first.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.outbox.load().await {
                Ok(rows) => match self.warned(&rows).next(&rows) {
                    Some((row, entry, at)) if at <= self.outbox.now() => match Box::pin(self.take(row, entry)).await {
                        Ok(()) => continue,
                        Err(words) => {
                            error!(account = %self.outbox.address, "the outbox cannot go on: {words}");
                            FAULT_PAUSE
                        }
                    },
                    Some((.., at)) => at.duration_since(self.outbox.now()).unwrap_or_default().min(LOOK_EVERY),
                    None => LOOK_EVERY,
                },
                Err(words) => {
                    error!(account = %self.outbox.address, "the outbox cannot be read: {words}");
                    FAULT_PAUSE
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.outbox.wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Says once that nobody sends what waits.
    fn warned(&self, rows: &[(OutboxRow, Entry)]) -> &Self {
        let waits = rows.iter().filter(|(_, entry)| matches!(entry.what, What::Send(_))).count();
        if waits > 0 && !self.outbox.has_server && !self.warned.swap(true, Ordering::Relaxed) {
            warn!(account = %self.outbox.address, messages = waits, "messages wait to be sent: {NO_SERVER}");
        }
        self
    }

    /// What is to be done next, and when.
    fn next<'a>(&self, rows: &'a [(OutboxRow, Entry)]) -> Option<(&'a OutboxRow, &'a Entry, SystemTime)> {
        let gate = self.gate(self.outbox.now());
        let at = |row: &OutboxRow, entry: &Entry| {
            let send = match &entry.what {
                What::Send(send) => send,
                // Its message is still here.
                What::File(file) if file.after.is_some_and(|id| rows.iter().any(|(other, _)| other.id == id)) => {
                    return row.item.due.max(self.outbox.now() + LOOK_EVERY);
                }
                What::File(_) => return row.item.due,
            };
            if send.is_in_doubt() {
                return row.item.due;
            }
            let tried = gate.map_or(row.item.due, |gate| row.item.due.max(gate));
            let told = self.delay_due(row.item.created, send).map_or(tried, |told| tried.min(told));
            // Its time is over also while nothing can be tried; not before it was due once more.
            told.min(self.expiry(row.item.created).max(row.item.due))
        };
        rows.iter().map(|(row, entry)| (row, entry, at(row, entry))).min_by_key(|(row, _, at)| (*at, row.id))
    }

    /// Until when nothing is sent.
    fn gate(&self, now: SystemTime) -> Option<SystemTime> {
        let hold = self.outbox.view().hold.as_ref().map(super::Hold::until).filter(|until| *until > now);
        let away = self.outbox.away_until().map(|until| now + until.saturating_duration_since(Instant::now()));
        let stopped = self.outside.stopped().map(|_| now + ASK_AGAIN);
        let spent = self.outside.spent().map(|wait| now + wait);
        [hold, away, stopped, spent].into_iter().flatten().max()
    }

    fn expiry(&self, created: SystemTime) -> SystemTime {
        created + self.outbox.settings.queue_lifetime
    }

    /// When somebody is to be told that a message waits.
    fn delay_due(&self, created: SystemTime, send: &Send) -> Option<SystemTime> {
        let wanted = || send.recipients.iter().any(|recipient| bounce::is_told(send, recipient, "DELAY"));
        (!send.told_delay && wanted()).then(|| created + DELAY_TOLD)
    }

    async fn take(&self, row: &OutboxRow, entry: &Entry) -> Result<(), String> {
        let mut row = Row { id: row.id, file: entry.file.clone(), item: row.item.clone() };
        match entry.what.clone() {
            What::Send(send) => self.send(&mut row, send).await,
            What::File(file) => self.file(&mut row, file).await,
        }
    }

    /// Goes on with a row, or ends it and its file; and adds what comes of it.
    async fn go_on(&self, row: &Row, next: Option<(What, SystemTime)>, more: Vec<OutboxItem>) -> Result<bool, String> {
        let is_over = next.is_none();
        let item =
            next.map(|(what, due)| Entry::new(row.file.clone(), what).item(due, row.item.created, row.item.octets));
        let id = row.id;
        let done = self.outbox.durable(move |state, _| state.outbox_go_on(id, item.as_ref(), &more)).await?;
        if is_over || !done {
            spool::remove(&self.outbox.dir.join(&row.file));
        }
        Ok(done)
    }

    async fn send(&self, row: &mut Row, mut send: Send) -> Result<(), String> {
        if send.is_in_doubt() && !self.settle(row, &mut send).await? {
            return Ok(());
        }
        let now = self.outbox.now();
        if now >= self.expiry(row.item.created) && (send.tries > 0 || send.doubts > 0) {
            return self.put_off(row, send, row.item.due).await;
        }
        if self.delay_due(row.item.created, &send).is_some_and(|due| due <= now) {
            return self.tell_delay(row, send).await;
        }
        if self.gate(now).is_some() {
            return self.put_off(row, send, row.item.due).await;
        }
        let grant = match self.outside.admit(row.item.octets) {
            Ok(grant) => grant,
            Err(words) => {
                send.last = Some(words);
                return self.put_off(row, send, now + ASK_AGAIN).await;
            }
        };
        let passage = match self.outside.lease().await {
            Ok(passage) => passage,
            // The provider was not asked.
            Err(SmtpError::Limit(reply)) => {
                send.last = Some(told(&reply));
                return self.put_off(row, send, row.item.due).await;
            }
            Err(error) => {
                self.outbox.metrics.attempt(Attempt::Later);
                let words = error.to_string();
                match error {
                    SmtpError::Unavailable(_) => self.outbox.missed(&words),
                    SmtpError::Login(_) => drop(self.outbox.hold(LOGIN_HOLD, words.clone()).await),
                    SmtpError::Limit(_) => {}
                }
                send.last = Some(words);
                return self.put_off(row, send, row.item.due).await;
            }
        };
        self.outbox.reached();
        let path = self.outbox.dir.join(&row.file);
        let token = spool::token();
        let trace = self.outbox.trace(&token);
        send.trace = Some(token);
        let mut journal = Mark { outbox: &self.outbox, row, send: send.clone(), fault: None };
        let fates = transaction::run(passage, &send, (&path, row.item.octets), &trace, &mut journal).await;
        let fault = journal.fault.take();
        drop(grant);
        match (fates, fault) {
            (Some(fates), _) => self.judge(row, send, fates).await,
            (None, Some(words)) => Err(words),
            (None, None) => {
                info!(account = %self.outbox.address, id = row.id, "taken out of the outbox while it was being sent: not sent");
                spool::remove(&path);
                Ok(())
            }
        }
    }

    /// Nothing was tried, or nothing came of it. Ends what has waited too long.
    async fn put_off(&self, row: &Row, send: Send, due: SystemTime) -> Result<(), String> {
        if self.outbox.now() >= self.expiry(row.item.created) {
            let fates = send.recipients.iter().map(|_| Fate::Lost(send.last.clone().unwrap_or_default())).collect();
            return self.judge(row, send, fates).await;
        }
        self.go_on(row, Some((What::Send(send), due)), Vec::new()).await.map(drop)
    }

    /// What follows from a try: who has it is done with, who is refused is told of, the others wait.
    async fn judge(&self, row: &Row, mut send: Send, fates: Vec<Fate>) -> Result<(), String> {
        let (now, is_over) = (self.outbox.now(), self.outbox.now() >= self.expiry(row.item.created));
        self.count(row, &send, &fates);
        let mut told_of = bounce::failed(&send, &fates);
        let mut hold: Option<(Duration, String)> = None;
        // Done with as soon as their sender is told.
        let mut untold = Vec::new();
        let (mut left, mut doubt, mut lost) = (Vec::new(), false, false);
        let last = send.last.take();
        for (mut recipient, fate) in send.recipients.drain(..).zip(fates) {
            recipient.doubt = false;
            match fate {
                Fate::Sent(_) => continue,
                Fate::Failed(_) => {
                    untold.push(recipient);
                    continue;
                }
                Fate::Later(reply) => {
                    recipient.said = Some(told(&reply));
                    send.last = Some(told(&reply));
                }
                Fate::Blocked(reply, length) => {
                    if hold.as_ref().is_none_or(|(longest, _)| *longest < length) {
                        hold = Some((length, format!("{} ({})", advice(&reply), told(&reply))));
                    }
                    recipient.said = Some(told(&reply));
                    send.last = Some(told(&reply));
                }
                Fate::Lost(words) => {
                    lost = true;
                    send.last = Some(words).filter(|words| !words.is_empty()).or_else(|| last.clone());
                }
                Fate::Doubt(words) => {
                    (doubt, recipient.doubt) = (true, true);
                    send.dot = seconds(now);
                    send.last = Some(format!("the provider was lost before it answered: {words}"));
                }
            }
            left.push(recipient);
        }
        send.recipients = left;
        send.tries = send.tries.saturating_add(1);
        let held = match hold {
            Some((length, words)) => Some(self.outbox.hold(length, words).await),
            None => None,
        };
        if is_over && !doubt {
            for recipient in std::mem::take(&mut send.recipients) {
                warn!(account = %self.outbox.address, id = row.id, "a message is given up: it could not be sent in time");
                let is_told = bounce::is_told(&send, &recipient, "FAILURE");
                self.outbox.metrics.failed(is_told);
                if is_told {
                    told_of.push(bounce::waiting(&recipient, send.last.as_deref(), true));
                }
                untold.push(recipient);
            }
        }
        let due = match (doubt, held, lost) {
            (true, ..) => now + LOOK_AFTER,
            // What brought the block about goes last when it is over.
            (false, Some(until), _) => until + backoff::put_off(send.tries),
            (false, None, true) => now + backoff::away(send.tries),
            (false, None, false) => now + backoff::put_off(send.tries),
        };
        let more = match self.notice(row, &send, told_of, None).await {
            Ok(more) => more,
            // Who has it must not get it again, so the row goes on without them; the others are asked once more, and told of then.
            Err(words) => {
                error!(account = %self.outbox.address, id = row.id, "a notification cannot be written, and is tried later: {words}");
                send.recipients.append(&mut untold);
                Vec::new()
            }
        };
        let next = (!send.recipients.is_empty()).then_some((What::Send(send), due));
        let files = more.clone();
        if !self.go_on(row, next, more).await? {
            self.forget(&files);
        }
        Ok(())
    }

    fn count(&self, row: &Row, send: &Send, fates: &[Fate]) {
        let (metrics, account, id) = (&self.outbox.metrics, &self.outbox.address, row.id);
        let mut sent: HashMap<String, usize> = HashMap::new();
        for (recipient, fate) in send.recipients.iter().zip(fates) {
            match fate {
                Fate::Sent(reply) => *sent.entry(told(reply)).or_default() += 1,
                Fate::Later(reply) | Fate::Blocked(reply, _) => {
                    metrics.attempt(Attempt::Later);
                    info!(%account, id, mend = advice(reply), "a message is put off by the provider: {}", told(reply));
                }
                Fate::Lost(words) => {
                    metrics.attempt(Attempt::Later);
                    info!(%account, id, "a message could not be sent: {words}");
                }
                Fate::Failed(reply) => {
                    metrics.attempt(Attempt::Refused);
                    metrics.failed(bounce::is_told(send, recipient, "FAILURE"));
                    warn!(%account, id, mend = advice(reply), "a message is refused: {}", told(reply));
                }
                Fate::Doubt(words) => {
                    metrics.attempt(Attempt::Doubt);
                    warn!(%account, id, "the provider was lost before it answered; whether the message was sent is not known: {words}");
                }
            }
        }
        for (said, recipients) in sent {
            metrics.attempt(Attempt::Sent);
            self.outside.sent(recipients, row.item.octets);
            info!(%account, id, recipients, "a message of the outbox was sent: {said}");
        }
    }

    /// Who asked for it hears that the message waits.
    async fn tell_delay(&self, row: &Row, mut send: Send) -> Result<(), String> {
        send.told_delay = true;
        let waits = send.recipients.iter().filter(|recipient| bounce::is_told(&send, recipient, "DELAY"));
        let told_of = waits.map(|recipient| bounce::waiting(recipient, send.last.as_deref(), false)).collect();
        let more = self.notice(row, &send, told_of, Some(self.expiry(row.item.created))).await?;
        let files = more.clone();
        if !self.go_on(row, Some((What::Send(send), row.item.due)), more).await? {
            self.forget(&files);
        }
        Ok(())
    }

    /// The row of a notification; none where there is nothing to tell.
    async fn notice(
        &self,
        row: &Row,
        send: &Send,
        told: Vec<Told>,
        tried_until: Option<SystemTime>,
    ) -> Result<Vec<OutboxItem>, String> {
        if told.is_empty() {
            return Ok(Vec::new());
        }
        let mut fault = String::new();
        for bare in [false, true] {
            let (send, created, now) = (send.clone(), row.item.created, self.outbox.now());
            let (dir, file, server) = (self.outbox.dir.clone(), row.file.clone(), self.outside.server().to_owned());
            let told = told.clone();
            let made = tokio::task::spawn_blocking(move || {
                bounce::Notice { send: &send, created, now, tried_until, server: &server, told, bare }
                    .write(&dir, &file)
            });
            match made.await {
                Ok(Ok(item)) => return Ok(vec![item]),
                Ok(Err(error)) => fault = error.to_string(),
                Err(error) => fault = error.to_string(),
            }
        }
        Err(fault)
    }

    /// Notifications of what somebody has taken out of the outbox meanwhile.
    fn forget(&self, items: &[OutboxItem]) {
        for item in items {
            let row = OutboxRow { id: 0, account: String::new(), item: item.clone() };
            if let Some(entry) = Entry::read(&row) {
                spool::remove(&self.outbox.dir.join(entry.file));
            }
        }
    }
}

/// Marks a row before its dot.
struct Mark<'a> {
    outbox: &'a Outbox,
    row: &'a Row,
    send: Send,
    /// The disk failed.
    fault: Option<String>,
}

impl Journal for Mark<'_> {
    async fn about_to_send(&mut self, taken: &[usize]) -> Result<(), String> {
        let now = self.outbox.now();
        for at in taken {
            if let Some(recipient) = self.send.recipients.get_mut(*at) {
                recipient.doubt = true;
            }
        }
        (self.send.dot, self.send.looks) = (seconds(now), 0);
        let Row { id, file, item } = self.row;
        let entry = Entry::new(file.clone(), What::Send(self.send.clone()));
        let (id, item) = (*id, entry.item(now + LOOK_AFTER, item.created, item.octets));
        match self.outbox.durable(move |state, _| state.outbox_go_on(id, Some(&item), &[])).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("it was taken out of the outbox".into()),
            Err(words) => {
                self.fault = Some(words.clone());
                Err(words)
            }
        }
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
