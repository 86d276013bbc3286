//! Messages and recipients a day: what may still be sent, and for how long nothing may.
//!
//! The counts are kept as the bytes are, and a message is handed over only when it stands on the disk that it was counted. When the
//! provider itself says that the day is spent nothing is sent for a while, a restart or not: at some providers ([`RESTARTS`]) every attempt
//! begins the block anew, so there it is a whole day.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tracing::warn;

use super::beside::{self, Note, beside_key};
use super::saving::COVER_WAIT;
use super::{Spending, clock, key};
use crate::budget::{Counted, Entry, SendLimits, Sends};
use crate::provider::Quirk;
use crate::state::{self, State};
use crate::upstream::smtp::{Postage, Reply};

/// How long nothing is sent after the provider's word.
const REST: Duration = Duration::from_secs(3600);
/// The same where another attempt would begin the block anew: the block, and a little.
const REST_WHERE_IT_RESTARTS: Duration = Duration::from_secs(24 * 3600 + 600);
/// The provider's oddity that asks for it.
pub(super) const RESTARTS: Quirk = Quirk::SendBlockRestarts;

/// What is written down.
pub(super) struct Export {
    pub(super) counts: [(Counted, Vec<Entry>); 2],
    /// Until when nothing is sent, in seconds since the epoch.
    pub(super) stopped: Option<u64>,
    /// For [`Sending::set_saved`].
    pub(super) mark: u64,
}

#[derive(Default)]
pub(super) struct Sending {
    sends: Sends,
    pub(super) limits: SendLimits,
    pub(super) restarts: bool,
    /// Nothing is sent until then.
    stopped: Option<SystemTime>,
    /// Counts every change, and the last that stands on the disk.
    changed: u64,
    saved: u64,
    /// Notes of another process that are counted here, and stand on the disk beside the count still.
    pub(super) beside: HashSet<u64>,
}

impl Sending {
    /// What was counted before. Blocks.
    pub(super) fn load(address: &str, state: &State, now: SystemTime) -> Result<Self, state::Error> {
        let [messages, recipients] =
            [Counted::Messages, Counted::Recipients].map(|what| state.load_ledger(&key(address), what));
        let mut sending = Self::default();
        sending.sends.import(&messages?, &recipients?, now);
        let stopped = state.value(&stopped_key(address))?.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        sending.stopped = stopped.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        sending.take_over(&beside::read(state.value(&beside_key(address))?.as_deref()), now);
        Ok(sending)
    }

    /// Counts what another process has noted, once each.
    pub(super) fn take_over(&mut self, notes: &[Note], now: SystemTime) {
        for note in notes {
            if !self.beside.insert(note.id) {
                continue;
            }
            self.changed += 1;
            if let Some(recipients) = note.recipients {
                let entry = |count| [Entry { begin: note.at, bytes: count }];
                self.sends.import(&entry(1), &entry(recipients), now);
            }
            let stopped = note.stopped.map(|until| SystemTime::UNIX_EPOCH + Duration::from_secs(until));
            self.stopped = self.stopped.max(stopped);
        }
    }

    /// Whether one more message to so many may be sent.
    pub(super) fn may_send(&mut self, recipients: u64, now: SystemTime) -> Result<(), Reply> {
        self.is_stopped(now)?;
        let limits = self.limits;
        self.sends.room(recipients, limits, now).map_err(|wait| self.refusal(wait, now))
    }

    pub(super) fn is_saved(&self) -> bool {
        self.saved == self.changed
    }

    /// For the disk.
    pub(super) fn export(&mut self, now: SystemTime) -> Export {
        let (messages, recipients) = self.sends.export(now);
        let stopped = self.stopped.filter(|until| *until > now);
        let stopped = stopped.and_then(|until| until.duration_since(SystemTime::UNIX_EPOCH).ok());
        let counts = [(Counted::Messages, messages), (Counted::Recipients, recipients)];
        Export { counts, stopped: stopped.map(|since| since.as_secs()), mark: self.changed }
    }

    pub(super) fn set_saved(&mut self, mark: u64) {
        self.saved = self.saved.max(mark);
    }

    /// Why so many recipients more are too many.
    fn refusal(&self, wait: Duration, now: SystemTime) -> Reply {
        let SendLimits { messages_per_day, recipients_per_day } = self.limits;
        let allowance = match (messages_per_day, recipients_per_day) {
            (Some(messages), Some(recipients)) => format!("{messages} messages, {recipients} recipients in 24 hours"),
            (Some(messages), None) => format!("{messages} messages in 24 hours"),
            (None, recipients) => format!("{} recipients in 24 hours", recipients.unwrap_or_default()),
        };
        let words = format!("What this account may send ({allowance}) is used up; it goes on {}", clock(wait, now));
        Reply::new(452, "4.5.3", words)
    }

    fn is_stopped(&mut self, now: SystemTime) -> Result<(), Reply> {
        let Some(until) = self.stopped.filter(|until| *until > now) else {
            self.stopped = None;
            return Ok(());
        };
        let wait = until.duration_since(now).unwrap_or_default();
        let words = format!(
            "The provider has said that the day's messages are spent, and is not asked again before; sending goes on {}",
            clock(wait, now)
        );
        Err(Reply::new(451, "4.7.1", words))
    }
}

/// How long nothing is sent after the provider's word.
pub(super) fn rest(restarts: bool) -> Duration {
    if restarts { REST_WHERE_IT_RESTARTS } else { REST }
}

/// How the state names until when nothing is sent.
pub(super) fn stopped_key(address: &str) -> String {
    format!("{}{}", state::SENDING, key(address))
}

impl Spending {
    pub(super) fn sending(&self) -> std::sync::MutexGuard<'_, Sending> {
        // Every change is a step of arithmetic.
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages and recipients of the last 24 hours, and how many there may be.
    pub(in crate::daemon) fn sent_today(&self) -> ((u64, u64), SendLimits) {
        let mut sending = self.sending();
        (sending.sends.used(SystemTime::now()), sending.limits)
    }

    /// For how long not one message more may be sent; `None`: one may.
    pub(in crate::daemon) fn sending_wait(&self) -> Option<Duration> {
        let (now, mut sending) = (SystemTime::now(), self.sending());
        if let Some(until) = sending.stopped.filter(|until| *until > now) {
            return until.duration_since(now).ok();
        }
        let limits = sending.limits;
        sending.sends.room(1, limits, now).err()
    }

    /// Resolves when what was counted until now stands on the disk, or when there is no hope of it.
    async fn sending_saved(&self, mark: u64) {
        let saved = async {
            loop {
                let mut told = std::pin::pin!(self.covered.notified());
                told.as_mut().enable();
                if self.sending().saved >= mark {
                    return;
                }
                self.save.notify_one();
                told.await;
            }
        };
        if timeout(COVER_WAIT, saved).await.is_err() {
            warn!(account = %self.address, "the count of messages is not saved in time: a crash would forget one");
        }
    }
}

impl Postage for Spending {
    fn room(&self, recipients: u64) -> Result<(), Reply> {
        let (now, mut sending) = (SystemTime::now(), self.sending());
        sending.may_send(recipients, now)
    }

    fn take(&self, recipients: u64) -> BoxFuture<'_, Result<(), Reply>> {
        async move {
            // Who is refused here needs nobody asked.
            self.room(recipients)?;
            self.look_beside().await;
            let mark = {
                let (now, mut sending) = (SystemTime::now(), self.sending());
                sending.is_stopped(now)?;
                let limits = sending.limits;
                sending.sends.take(recipients, limits, now).map_err(|wait| sending.refusal(wait, now))?;
                sending.changed += 1;
                sending.changed
            };
            self.sending_saved(mark).await;
            Ok(())
        }
        .boxed()
    }

    fn give_back(&self, recipients: u64) {
        let (now, mut sending) = (SystemTime::now(), self.sending());
        sending.sends.give_back(recipients, now);
        // Saved with what is counted next: until then the disk knows of too many, never of too few.
        sending.changed += 1;
    }

    fn spent(&self, reply: &Reply) {
        {
            let mut sending = self.sending();
            sending.stopped = Some(SystemTime::now() + rest(sending.restarts));
            sending.changed += 1;
        }
        self.save.notify_one();
        warn!(account = %self.address, code = reply.code, "the provider lets nothing more be sent today: {}", reply.text());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::upstream::smtp::Refusal;

    fn spending(state: &State, limits: SendLimits, restarts: bool) -> Arc<Spending> {
        let SendLimits { messages_per_day, recipients_per_day } = limits;
        let limits = config::Limits { messages_per_day, recipients_per_day, ..config::Limits::default() };
        let spending = Spending::load("Ann@Example.org", &limits, Metrics::default().account("ann"), state).unwrap();
        spending.sending().restarts = restarts;
        Arc::new(spending)
    }

    /// Takes one while somebody saves.
    async fn take(spending: &Arc<Spending>, state: &State, recipients: u64) -> Result<(), Reply> {
        let taking = spending.take(recipients);
        let saving = async {
            loop {
                spending.save_wanted().await;
                spending.save(state).unwrap();
            }
        };
        tokio::select! {
            taken = taking => taken,
            () = saving => unreachable!("it saves for ever"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_counted_on_the_disk_before_it_is_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let limits = SendLimits { messages_per_day: Some(3), recipients_per_day: Some(10) };
        let first = spending(&state, limits, false);
        assert_eq!(take(&first, &state, 4).await, Ok(()));
        // A crash here: the count is known.
        let again = spending(&state, limits, false);
        assert_eq!(again.sent_today().0, (1, 4));
        assert_eq!((again.room(6), again.room(7).unwrap_err().code), (Ok(()), 452));
        assert_eq!(take(&again, &state, 6).await, Ok(()));
        let refused = again.room(1).unwrap_err();
        assert_eq!((refused.code, refused.enhanced.as_deref()), (452, Some("4.5.3")));
        assert_eq!(Refusal::of(&refused), None, "our own words are not taken for the provider's");
        let words = refused.text();
        assert!(
            words.contains("3 messages, 10 recipients") && words.contains("in 24 h") && words.contains("UTC"),
            "{words}"
        );
        assert!(take(&again, &state, 1).await.is_err());
        assert_eq!(spending(&state, limits, false).sent_today().0, (2, 10), "what was refused is not counted");
        // What the provider did not take is free again; the wait is told where nothing is.
        assert_eq!(again.sending_wait().map(|wait| wait.as_secs() / 3600), Some(24));
        again.give_back(6);
        assert_eq!((again.sent_today().0, again.sending_wait()), ((1, 4), None));
        assert_eq!(take(&again, &state, 6).await, Ok(()));
        assert_eq!(again.room(1000).is_ok(), limits.recipients_per_day.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_providers_word_stops_all_and_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        for (restarts, least, most) in [(false, 0, 1), (true, 23, 24)] {
            let first = spending(&state, SendLimits::default(), restarts);
            first.spent(&Reply::new(550, "5.4.5", "Daily user sending limit exceeded."));
            assert!(first.save_wanted().now_or_never().is_some());
            first.save(&state).unwrap();
            let again = spending(&state, SendLimits::default(), restarts);
            let refused = again.room(1).unwrap_err();
            assert_eq!((refused.code, refused.enhanced.as_deref()), (451, Some("4.7.1")));
            assert_eq!(Refusal::of(&refused), None, "our own words are not taken for the provider's");
            assert!(again.sending_wait().is_some_and(|wait| (least..=most).contains(&(wait.as_secs() / 3600))));
            assert_eq!(again.take(1).now_or_never().unwrap().unwrap_err().code, 451);
            let until = again.sending().stopped.unwrap();
            let hours = until.duration_since(SystemTime::now()).unwrap().as_secs() / 3600;
            assert!((least..=most).contains(&hours), "{hours} hours");
            // And it ends.
            again.sending().stopped = Some(SystemTime::now() - Duration::from_secs(1));
            assert_eq!(again.room(1), Ok(()));
        }
    }
}
