//! What another process of ours sends (`mailweir check --send-test`): it counts toward the account's day as all else does.
//!
//! The daemon keeps its count in memory and writes it over what the disk has. So the other process leaves notes in the durable state, and is
//! held to count and notes together. The daemon takes notes over when it starts and before it counts a message, and whoever writes the count
//! down forgets the notes in it in the same commit: each is counted once, whichever process ends when.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::warn;

use super::saving::COVER_WAIT;
use super::sending::{RESTARTS, Sending, rest};
use super::{Spending, key, send_limits_of};
use crate::config;
use crate::state::{self, State};
use crate::upstream::smtp::{Postage, Reply};

/// Notes older than this count for nothing any more.
const DAY: Duration = Duration::from_secs(25 * 3600);
/// Notes of an account at most: nobody tries it out so often in a day, and the oldest have left the day first.
const NOTES_MOST: usize = 10_000;

/// One thing the other process has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Never twice.
    pub(super) id: u64,
    /// Seconds since the epoch.
    pub(super) at: u64,
    /// It has handed a message to so many over.
    #[serde(default)]
    pub(super) recipients: Option<u64>,
    /// The provider has said that the day is spent: nothing is sent until then, in seconds since the epoch.
    #[serde(default)]
    pub(super) stopped: Option<u64>,
}

/// How the state names them.
pub(super) fn beside_key(address: &str) -> String {
    format!("{}{}", state::BESIDE, key(address))
}

/// What cannot be read is no note: the count itself is elsewhere.
pub(super) fn read(value: Option<&[u8]>) -> Vec<Note> {
    value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default()
}

fn written(notes: &[Note]) -> Option<Vec<u8>> {
    if notes.is_empty() { None } else { serde_json::to_vec(notes).ok() }
}

/// The notes that are left when these are forgotten.
pub(super) fn without(value: Option<&[u8]>, gone: &HashSet<u64>) -> Option<Vec<u8>> {
    let mut notes = read(value);
    notes.retain(|note| !gone.contains(&note.id));
    written(&notes)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Spending {
    /// Takes over what another process has noted. A disk that hangs is no reason not to send.
    pub(super) async fn look_beside(&self) {
        let (state, key) = (self.state.clone(), beside_key(&self.address));
        let looked = timeout(COVER_WAIT, tokio::task::spawn_blocking(move || state.value(&key))).await;
        match looked {
            Ok(Ok(Ok(value))) => self.sending().take_over(&read(value.as_deref()), SystemTime::now()),
            _ => warn!(account = %self.address, "what another process of ours has sent cannot be read now"),
        }
    }
}

/// The count of an account, for a process that is not the daemon.
pub(crate) struct Elsewhere {
    address: String,
    state: State,
    limits: crate::budget::SendLimits,
    restarts: bool,
    /// The note of the message under way.
    last: Mutex<Option<u64>>,
}

impl Elsewhere {
    /// Postage for an account whose count is in this state. Its calls block, for some milliseconds.
    pub(crate) fn new(account: &config::Account, state: State) -> Arc<Self> {
        Arc::new(Self {
            address: account.address.clone(),
            state,
            limits: send_limits_of(&account.limits),
            restarts: account.provider.is_some_and(|preset| preset.has(RESTARTS)),
            last: Mutex::default(),
        })
    }

    fn failed(error: &state::Error) -> Reply {
        Reply::new(451, "4.3.0", format!("What is sent cannot be counted: {error}"))
    }

    fn note(&self, recipients: Option<u64>, stopped: Option<u64>) -> Result<u64, Reply> {
        let now = seconds(SystemTime::now());
        let note = Note { id: rand::random(), at: now, recipients, stopped };
        let id = note.id;
        let add = move |value: Option<Vec<u8>>| {
            let mut notes = read(value.as_deref());
            notes.retain(|note| note.at + DAY.as_secs() > now || note.stopped.is_some_and(|until| until > now));
            notes.push(note);
            let many = notes.len().saturating_sub(NOTES_MOST);
            notes.drain(..many);
            written(&notes)
        };
        self.state.change_value(&beside_key(&self.address), add).map_err(|error| Self::failed(&error))?;
        Ok(id)
    }
}

impl Postage for Elsewhere {
    fn room(&self, recipients: u64) -> Result<(), Reply> {
        let now = SystemTime::now();
        let sending = Sending::load(&self.address, &self.state, now);
        let mut sending = sending.map_err(|error| Self::failed(&error))?;
        sending.limits = self.limits;
        sending.may_send(recipients, now)
    }

    fn take(&self, recipients: u64) -> BoxFuture<'_, Result<(), Reply>> {
        async move {
            self.room(recipients)?;
            let id = self.note(Some(recipients), None)?;
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
            Ok(())
        }
        .boxed()
    }

    fn give_back(&self, _recipients: u64) {
        let Some(id) = self.last.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // Where the daemon has taken it over already it counts all the same: too many, never too few.
        let forget = |value: Option<Vec<u8>>| without(value.as_deref(), &HashSet::from([id]));
        if let Err(error) = self.state.change_value(&beside_key(&self.address), forget) {
            warn!(account = %self.address, %error, "a message that was not sent stays counted");
        }
    }

    fn spent(&self, reply: &Reply) {
        let until = seconds(SystemTime::now() + rest(self.restarts));
        if self.note(None, Some(until)).is_err() {
            warn!(account = %self.address, "that nothing more is to be sent today cannot be written down");
        }
        warn!(account = %self.address, code = reply.code, "the provider lets nothing more be sent today: {}", reply.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn what_another_process_sends_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let limits =
            config::Limits { messages_per_day: Some(3), recipients_per_day: Some(100), ..config::Limits::default() };
        let daemon =
            || Arc::new(Spending::load("Ann@example.org", &limits, Metrics::default().account("ann"), &state).unwrap());
        let elsewhere = || Elsewhere {
            address: "ann@example.org".into(),
            state: State::open(&dir.path().join("state.sqlite")).unwrap(),
            limits: send_limits_of(&limits),
            restarts: false,
            last: Mutex::default(),
        };
        let first = daemon();
        let other = elsewhere();
        other.take(2).await.unwrap();
        other.give_back(2);
        other.take(2).await.unwrap();
        // The daemon learns of it at its next message, and the other of that one.
        let saving = async {
            loop {
                first.save_wanted().await;
                first.save(&state).unwrap();
            }
        };
        tokio::select! {
            taken = first.take(5) => taken.unwrap(),
            () = saving => unreachable!("it saves for ever"),
        }
        assert_eq!(first.sent_today().0, (2, 7));
        assert_eq!(
            state.value(&beside_key("ann@example.org")).unwrap(),
            None,
            "forgotten with the commit of the count"
        );
        elsewhere().take(1).await.unwrap();
        assert_eq!((other.room(1).unwrap_err().code, elsewhere().take(1).await.unwrap_err().code), (452, 452));
        // Killed before and after it took the note over: once.
        for _ in 0..2 {
            let again = daemon();
            assert_eq!(again.sent_today().0, (3, 8));
            assert_eq!(again.take(1).await.unwrap_err().code, 452);
        }
        // The provider's word is the daemon's too.
        other.spent(&Reply::new(550, "5.4.5", "Daily user sending limit exceeded."));
        assert_eq!(first.take(1).await.unwrap_err().code, 451);
        assert_eq!(other.room(1).unwrap_err().code, 451);
        assert_eq!(daemon().room(1).unwrap_err().code, 451);
    }
}
