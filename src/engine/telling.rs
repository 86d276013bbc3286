//! What upstream tells of mailboxes that no session has selected (NOTIFY, RFC 5465).
//!
//! One watcher has it switched on, and hears it while it idles. What it hears is a hint, and no number of it is used: a mailbox named in
//! it is not as the mirror has it any more, and is looked at, at once and over the same session if a client has it open, else when one
//! opens it. A mailbox that was seen to agree with upstream since the watcher began, and was not named since, needs neither look nor poll,
//! so the other watchers rest.
//!
//! What is told while somebody else has the session is not counted on: the mailbox he selects is not told of. So it all begins anew when the
//! watcher has a session again; each open mailbox is then asked for by STATUS once, as it would be every 15 s without NOTIFY.
//!
//! It is believed as long as it proves true. The round of all mailboxes goes on, seldom as it is; where that finds mail in a mailbox of
//! which nothing was told, upstream is deaf (a Dovecot that may watch no more files is), and IDLE and polls take over for a while.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant, sleep};
use tracing::{debug, warn};

use super::account::Inner;
use super::error::Error;
use super::folders::canonical;
use super::mailbox::State;
use crate::upstream::{self, Class, Elsewhere, Lease};

/// An upstream that refuses NOTIFY, or has proved deaf, is not asked again for so long.
const REFUSED: Duration = Duration::from_secs(3600);
/// The same after it has lost track: too much happened at once.
const OVERFLOWED: Duration = Duration::from_secs(300);
/// A word this late is none: Dovecot's come after half a second, and are waited for by a person.
const LATE: Duration = Duration::from_secs(10);

/// Whether upstream tells of every mailbox now.
#[derive(Debug, Default)]
pub(crate) struct Telling(Mutex<Belief>);

#[derive(Debug, Default)]
struct Belief {
    /// Whatever changed since was told, and a watcher hears it.
    since: Option<Instant>,
    /// It is not asked for, and not believed, before this.
    rests: Option<Instant>,
}

impl Telling {
    pub(super) fn since(&self) -> Option<Instant> {
        self.lock().since
    }

    fn may_ask(&self, now: Instant) -> bool {
        self.lock().rests.is_none_or(|until| until <= now)
    }

    fn begin(&self, now: Instant) {
        self.lock().since = Some(now);
    }

    fn end(&self) {
        self.lock().since = None;
    }

    fn rest(&self, until: Instant) {
        *self.lock() = Belief { since: None, rests: Some(until) };
    }

    fn lock(&self) -> MutexGuard<'_, Belief> {
        // Plain values: a panic while they were held left nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watcher hears what is told while this lives.
pub(super) struct Tuned(Arc<Inner>);

impl Drop for Tuned {
    fn drop(&mut self) {
        self.0.telling.end();
        self.0.interest_changed();
    }
}

impl Inner {
    /// Whether a change of this mailbox would have been told, and nothing was since it was seen to agree with upstream.
    pub(crate) fn is_told(&self, state: &State) -> bool {
        state.is_live() || self.telling.since().is_some_and(|since| state.is_unhinted_since(since))
    }

    /// Has upstream tell of every mailbox over this session, where it can.
    pub(super) async fn tune_in(self: &Arc<Self>, lease: &mut Lease) -> Result<Option<Tuned>, Error> {
        let caps = lease.caps();
        let is_offered = caps.has("NOTIFY") && caps.has("IDLE") && caps.condstore();
        if !is_offered || !self.telling.may_ask(Instant::now()) {
            return Ok(None);
        }
        if !lease.is_telling() {
            match lease.notify().await {
                Ok(()) => {}
                // Dovecot without an index of its mailboxes: [NOTIFICATIONOVERFLOW].
                Err(upstream::Error::No { text, .. }) => {
                    debug!(account = %self.label(), %text, "the provider does not tell of every mailbox");
                    self.telling.rest(Instant::now() + REFUSED);
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.telling.begin(Instant::now());
        self.interest_changed();
        Ok(Some(Tuned(Arc::clone(self))))
    }

    /// Goes after what was told of mailboxes other than the one watched, over the session that heard it, as long as nobody waits for that;
    /// whether it went to any.
    pub(super) async fn follow(
        self: &Arc<Self>,
        lease: &mut Lease,
        watched: &Arc<State>,
        told: Elsewhere,
    ) -> Result<bool, Error> {
        let now = Instant::now();
        if told.overflow {
            debug!(account = %self.label(), "the provider has lost track of what to tell");
            self.telling.rest(now + OVERFLOWED);
        }
        if told.list || told.overflow {
            self.folders_suspect();
        }
        let mut named = match told.overflow {
            true => self.states(),
            false => told.mailboxes.iter().filter_map(|name| self.known_state(&canonical(name))).collect(),
        };
        named.retain(|state| !Arc::ptr_eq(state, watched));
        named.iter().for_each(|state| state.set_hinted(now));
        named.retain(|state| state.interest.load(Ordering::Relaxed) > 0);
        let mut went = false;
        for state in named {
            let is_done = if lease.is_usable() && !lease.is_wanted() {
                went = true;
                match self.sync_watched(lease, &state).await {
                    Ok(is_done) => is_done && lease.take_events().is_empty(),
                    Err(error) if lease.is_usable() => {
                        debug!(account = %self.label(), mailbox = %state.name, %error, "cannot look at this mailbox now");
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            } else {
                false
            };
            if !is_done {
                drop(self.wish_look(&state, now, Class::Sync));
            }
        }
        Ok(went)
    }

    /// A look has found mail in a mailbox of which, since `since`, everything should have been told, and before `asked` nothing was. If
    /// nothing is told of it in time either, upstream is deaf.
    pub(super) fn doubt_telling(self: &Arc<Self>, state: &Arc<State>, since: Instant, asked: Instant) {
        let (account, state) = (Arc::clone(self), Arc::clone(state));
        self.spawn_keeper(move |_| async move {
            sleep(LATE).await;
            if account.telling.since() == Some(since) && !state.is_hinted_since(asked) {
                warn!(account = %account.label(), mailbox = %state.name,
                    "the provider said it would tell of every mailbox, and does not: they are asked for again");
                account.telling.rest(Instant::now() + REFUSED);
                account.interest_changed();
            }
        });
    }
}
