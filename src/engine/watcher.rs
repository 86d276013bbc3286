//! Watchers: sessions that IDLE on what clients have open, INBOX first.
//!
//! A watcher gives its session back the moment somebody waits for one. What it hears is a hint: the mailbox is then brought in step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Duration, Instant, sleep, sleep_until};
use tracing::debug;

use super::account::Inner;
use super::error::Error;
use super::mailbox::{State, Watched};
use super::watch::{LOOK_ALL, RETRY};
use crate::provider::Quirk;
use crate::upstream::{Class, Lease};

/// IDLE is renewed this often: well below the 29 minutes of RFC 2177, and below what NAT boxes and providers forget (Outlook
/// stops pushing after some ten minutes).
const IDLE_RENEW: Duration = Duration::from_secs(9 * 60);
/// A watcher follows what clients open only after this long, so that a client that walks through its folders does not drag it along.
const SETTLE: Duration = Duration::from_millis(300);
/// After notices that keep coming while we look, the watcher goes on after this many rounds.
const ROUNDS: usize = 3;
/// Octets set aside for a count by SELECT.
const COUNT_OCTETS: u64 = 1500;

impl Inner {
    /// One watcher: keeps a session on the mailbox of its slot.
    pub(super) async fn watch_slot(self: Arc<Self>, slot: usize) {
        self.restore_folders().await;
        let mut interest = self.interest.subscribe();
        let mut woken = self.pool.woken();
        let mut pause = RETRY;
        let mut replaced = false;
        loop {
            interest.mark_unchanged();
            let Some(name) = self.watch_target(slot) else {
                // Nothing of its own to watch: until a client opens something.
                if interest.changed().await.is_err() {
                    return;
                }
                sleep(SETTLE).await;
                continue;
            };
            match self.watch_one(slot, &name).await {
                Ok(()) => (pause, replaced) = (RETRY, false),
                // Once is a mailbox made anew. Again and again is a server that contradicts itself: it is not asked without a pause.
                Err(Error::Gone) if !replaced => {
                    debug!(account = %self.label(), mailbox = %name, "watched mailbox was replaced");
                    replaced = true;
                }
                Err(error) => {
                    self.missed_upstream(&error);
                    debug!(account = %self.label(), mailbox = %name, %error, "watching failed");
                    if error.is_outage() {
                        // The pool has its own back-off; when it lets us through we want to be there.
                        pause = RETRY;
                    }
                    Self::rest(&mut woken, pause).await;
                    if !error.is_outage() {
                        // A mailbox that is refused today is refused in two seconds too.
                        pause = (pause * 2).min(LOOK_ALL);
                    }
                }
            }
        }
    }

    /// What the watcher of a slot should watch: INBOX first where there is more than one, then what clients opened last.
    fn watch_target(&self, slot: usize) -> Option<Arc<str>> {
        let mut open: Vec<Arc<State>> =
            self.states().into_iter().filter(|state| state.interest.load(Ordering::Relaxed) > 0).collect();
        open.sort_by_key(|state| std::cmp::Reverse(state.opened.load(Ordering::Relaxed)));
        let mut names: Vec<Arc<str>> = open.iter().map(|state| Arc::clone(&state.name)).collect();
        let inbox: Arc<str> = "INBOX".into();
        names.retain(|name| *name != inbox);
        if self.options.connections > 2 || names.is_empty() || open.first().is_some_and(|state| state.name == inbox) {
            names.insert(0, inbox);
        } else {
            names.push(inbox);
        }
        names.get(slot).cloned()
    }

    /// Watches until the session is wanted elsewhere, the slot's target changes, or something fails.
    async fn watch_one(self: &Arc<Self>, slot: usize, name: &Arc<str>) -> Result<(), Error> {
        let state = self.state(name).await?;
        let mut interest = self.interest.subscribe();
        let mut lease = self.pool.lease(Class::Watch, Some(name)).await?;
        let live = Live(Arc::clone(&state));
        let (mut is_counted, mut looked) = (false, Instant::now());
        loop {
            if !std::mem::take(&mut is_counted) {
                looked = Instant::now();
                for _ in 0..ROUNDS {
                    {
                        let mut turn = tokio::select! {
                            turn = state.turn.lock() => turn,
                            // Whoever holds the turn may be waiting for this very session.
                            () = lease.wanted() => return Ok(()),
                        };
                        self.sync_on(&mut lease, &state, &mut turn).await?;
                    }
                    if !lease.has_events() {
                        break;
                    }
                }
            }
            // Where IDLE is only our own polling, or does not tell all, whoever opens or polls the mailbox has it looked at.
            let tells_all = lease.caps().has("IDLE") && !self.options.has(Quirk::ExpungeNotPushed);
            live.0.set_watched(if tells_all { Watched::Live } else { Watched::Polled });
            let moved = async {
                loop {
                    if interest.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    sleep(SETTLE).await;
                    if self.watch_target(slot).as_ref() != Some(name) {
                        return;
                    }
                }
            };
            let mut is_due = false;
            let end = async {
                tokio::select! {
                    () = moved => {}
                    () = self.count_due(&state) => is_due = true,
                }
            };
            let heard = lease.idle(self.renewal(), state.pace.subscribe(), end).await?;
            self.seen_upstream();
            if heard.is_empty() {
                if self.watch_target(slot).as_ref() != Some(name) {
                    return Ok(());
                }
                if is_due && !lease.is_wanted() && looked.elapsed() < self.renewal() {
                    is_counted = self.counts_agree(&mut lease, &state).await?;
                    continue;
                }
                // Wanted by somebody, or time to renew: giving the session back does for both, and we are next in line again.
                live.0.set_watched(Watched::No);
                drop(lease);
                lease = self.pool.lease(Class::Watch, Some(name)).await?;
            }
        }
    }

    /// Resolves when an IDLE that tells of no expunge is to be left for a count; never where it tells all.
    async fn count_due(&self, state: &State) {
        if !self.options.has(Quirk::ExpungeNotPushed) {
            return std::future::pending().await;
        }
        let (begun, slow, mut pace) = (Instant::now(), self.slowness(), state.pace.subscribe());
        loop {
            let due = begun + *pace.borrow_and_update() * slow;
            tokio::select! {
                changed = pace.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = sleep_until(due) => return,
            }
        }
    }

    /// Whether upstream has the messages the mirror has, by their number: some hundred octets where a look may be a hundred thousand.
    /// Everything else IDLE tells; what it told at its end makes a look, too.
    async fn counts_agree(&self, lease: &mut Lease, state: &State) -> Result<bool, Error> {
        drop(self.options.allowance.download(COUNT_OCTETS, lease.class())?);
        lease.noop().await?;
        if lease.has_events() {
            return Ok(false);
        }
        // Such a server may keep expunges to itself as long as the mailbox stays selected.
        let asked = Instant::now();
        let selected = lease.reselect(&state.name, None).await?;
        let known = state.snapshot();
        let agree = selected.exists == known.messages.len()
            && selected.uid_validity == known.uid_validity
            && selected.uid_next <= known.uid_next;
        if agree {
            lease.has_seen(known.uid_next);
            state.set_counted(asked);
        }
        Ok(agree)
    }

    /// How long an IDLE may last: it is the round trip that proves a quiet account to be reached.
    fn renewal(&self) -> Duration {
        IDLE_RENEW.min(self.options.refresh * 4 / 5)
    }
}

/// While this lives upstream may be telling us of changes; its end says that nobody listens any more.
struct Live(Arc<State>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.set_watched(Watched::No);
    }
}
