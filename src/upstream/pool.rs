//! At most `connections` sessions of one account, lent out by class and kept (Law 6: only here are connections opened).
//!
//! [`super::queue`] decides who gets what and [`super::gate`] when; this module does it: opens sessions in tasks of their own (a
//! caller who gives up does not waste a login), hands them over, keeps parked ones alive, and closes what broke. The one lock is held
//! for moments and never across an await (Law 4).
//!
//! `lease` never hangs: it fails at once while nothing can come, and its wait is bounded by class (Law 8).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::caps::Caps;
use super::config::Config;
use super::error::Error;
use super::gate::{Gate, jitter};
use super::lease::Lease;
use super::queue::{Holdings, Party, plan};
use super::session::{CHECK_TIMEOUT, Session};
use super::types::Class;
use super::words::Meaning;

mod leave;
mod standing;
mod told;
mod woke;

pub use standing::{Blocked, Standing, Waits};

/// Somebody looks at a screen: longer than this they have given up.
const INTERACTIVE_WAIT: Duration = Duration::from_secs(30);
/// Sync and prefetch wait for a batch of others to end; then the engine plans anew.
const BACKGROUND_WAIT: Duration = Duration::from_secs(120);
/// A watcher may wait for long; mailboxes it does not watch are polled meanwhile.
const WATCH_WAIT: Duration = Duration::from_secs(600);
/// More waiters than this mean that somebody does not listen to our answers; each is small, but the queue is bounded (Law 8).
const MAX_WAITERS: usize = 4096;
/// A parked session says something at least this often: routers forget connections after 5 minutes, and servers end a session
/// that is silent for 30 (RFC 9051 §5.4).
const KEEP_ALIVE: Duration = Duration::from_secs(4 * 60);
/// How often parked sessions are looked at (a BYE is answered by closing) and waiters reconsidered.
const TICK: Duration = Duration::from_secs(15);
/// How long LOGOUT may take.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(3);

/// The sessions of one account. Clone freely; the last clone and lease end it.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    config: Arc<Config>,
    /// Sessions at most: the configuration's, until it is changed.
    connections: AtomicUsize,
    gate: Arc<Gate>,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parked: Vec<Session>,
    leased: Vec<Leased>,
    waiting: Vec<Waiter>,
    /// Connections being opened or checked.
    coming: usize,
    /// Ids of leases and waiters, ascending.
    last_id: u64,
    caps: Option<Arc<Caps>>,
    /// What was told last of the lowered maximum.
    lowered: Option<usize>,
    closed: bool,
}

struct Leased {
    party: Party,
    wanted: watch::Sender<bool>,
    /// The mailbox to be left when it comes back ([`Pool::leave`]).
    leave: Option<String>,
}

struct Waiter {
    party: Party,
    mailbox: Option<String>,
    answer: oneshot::Sender<Result<Lease, Error>>,
}

impl Pool {
    /// A pool without any session yet; the first lease opens one. Must be called within a tokio runtime, on which sessions
    /// are opened and kept alive.
    pub fn new(config: Config) -> Self {
        let gate = Arc::<Gate>::default();
        if let Some(maximum) = config.lowered {
            gate.lock().lower(maximum, Instant::now());
        }
        let shared = Arc::new(Shared {
            connections: AtomicUsize::new(config.connections),
            config: Arc::new(config),
            gate,
            runtime: Handle::current(),
            state: Mutex::default(),
        });
        shared.runtime.spawn(keep(Arc::downgrade(&shared), shared.gate.woken()));
        Self { shared }
    }

    /// A session, preferably with `mailbox` selected already (then no SELECT is needed). Waits its turn by class. Fails at once
    /// with [`Error::Unavailable`] or [`Error::Login`] while nothing can come, with `Unavailable` when its turn
    /// does not come in time.
    pub async fn lease(&self, class: Class, mailbox: Option<&str>) -> Result<Lease, Error> {
        self.timed(class, mailbox, self.lease_checked(class, mailbox)).await
    }

    /// The same for [`Session::fetch_bodies_in`] and [`Session::fetch_bodies`], which find out by themselves whether a session that
    /// rested for long still lives: asking before would cost a round trip. Such an exchange that is lost before anything came is
    /// to be tried again.
    pub async fn lease_to_read(&self, class: Class, mailbox: Option<&str>) -> Result<Lease, Error> {
        self.timed(class, mailbox, self.wait_for(class, mailbox)).await
    }

    async fn lease_checked(&self, class: Class, mailbox: Option<&str>) -> Result<Lease, Error> {
        // Each turn of the loop uses up one dead session, so there are at most as many as sessions, and one fresh one.
        loop {
            let mut lease = self.wait_for(class, mailbox).await?;
            if !lease.session.is_stale() {
                return Ok(lease);
            }
            match timeout(CHECK_TIMEOUT, lease.session.prove()).await {
                Ok(Ok(())) => return Ok(lease),
                // A refused NOOP is an answer all the same; a throttled one is for the caller to hear.
                Ok(Err(Error::No { .. })) => return Ok(lease),
                Ok(Err(error)) if error.connection_usable() => return Err(error),
                Ok(Err(error)) => debug!(account = %self.shared.config.label, %error, "a parked session was dead"),
                Err(_) => {
                    debug!(account = %self.shared.config.label, "a parked session does not answer");
                    lease.session.close("it did not answer after a pause");
                }
            }
        }
    }

    async fn wait_for(&self, class: Class, mailbox: Option<&str>) -> Result<Lease, Error> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut state = self.shared.lock();
            if state.waiting.len() >= MAX_WAITERS {
                return Err(Error::Budget("too many requests wait for this account".into()));
            }
            let id = state.next_id();
            state.waiting.push(Waiter { party: Party { id, class }, mailbox: mailbox.map(Into::into), answer });
            self.shared.pump(&mut state);
            id
        };
        let place = Place { shared: &self.shared, id };
        let answer = answered.await;
        drop(place);
        answer.unwrap_or_else(|_| Err(shut_down()))
    }

    /// Capabilities seen at the last login.
    pub fn caps(&self) -> Option<Arc<Caps>> {
        self.shared.lock().caps.clone()
    }

    /// What of this account needs the user before anything is tried again, in plain words.
    pub fn stopped(&self) -> Option<String> {
        self.shared.gate.lock().stopped().map(str::to_owned)
    }

    /// Closes everything: who waits is told so, parked sessions are logged out (a few seconds at most), leased ones when they
    /// come back.
    pub async fn shutdown(&self) {
        let parked = {
            let mut state = self.shared.lock();
            state.closed = true;
            self.shared.pump(&mut state);
            std::mem::take(&mut state.parked)
        };
        futures_util::future::join_all(parked.into_iter().map(log_out)).await;
        self.shared.count(&self.shared.lock());
    }

    /// Another maximum of sessions, at least 1. Sessions above it are logged out as they come to rest.
    pub fn set_connections(&self, connections: usize) {
        self.shared.connections.store(connections.max(1), Ordering::Relaxed);
        let mut state = self.shared.lock();
        while state.open() > connections.max(1)
            && let Some(session) = state.parked.pop()
        {
            self.shared.runtime.spawn(log_out(session));
        }
        self.shared.pump(&mut state);
    }

    /// Ends the wait of a backoff now: the network came back, or the user asks. A wait that the provider asked for, or after a
    /// refused login, is ended at most once a minute.
    pub fn kick(&self) {
        self.shared.gate.lock().kick(Instant::now());
        let mut state = self.shared.lock();
        self.shared.pump(&mut state);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does whatever can be done for those who wait. Called after every change, with the lock held.
    fn pump(self: &Arc<Self>, state: &mut State) {
        let now = Instant::now();
        state.waiting.retain(|waiter| !waiter.answer.is_closed());
        if state.closed {
            return state.refuse_all(&shut_down());
        }
        let (maximum, lowered, speak, connect, behind) = {
            let mut gate = self.gate.lock();
            let maximum = gate.maximum(self.connections.load(Ordering::Relaxed), now);
            (maximum, gate.lowered(), gate.may_speak(now), gate.may_connect(now), gate.may_work_behind(now))
        };
        if state.lowered != lowered {
            state.lowered = lowered;
            self.config.permits.lowered(lowered);
        }
        if let Err(error) = speak {
            return state.refuse_all(&error);
        }
        if let Err(error) = behind {
            state.refuse(&error, |class| matches!(class, Class::Bulk | Class::Prefetch));
        }
        // A waiter may be gone by the time it is served; then the session is free again, and the plan is made anew.
        while self.step(state, maximum, connect.is_ok()) {}
        if let Err(error) = connect
            && state.open() == 0
        {
            state.refuse_all(&error);
        }
        self.count(state);
    }

    /// One round of the plan; true when it has to be made anew.
    fn step(self: &Arc<Self>, state: &mut State, maximum: usize, may_connect: bool) -> bool {
        let leased: Vec<Party> = state.leased.iter().map(|lease| lease.party).collect();
        let waiting: Vec<Party> = state.waiting.iter().map(|waiter| waiter.party).collect();
        let holdings = Holdings {
            parked: state.parked.len(),
            coming: state.coming,
            leased: &leased,
            waiting: &waiting,
            maximum: if may_connect { maximum } else { state.open().min(maximum) },
        };
        let plan = plan(holdings);
        for id in plan.grant {
            if !self.grant(state, id) {
                return true;
            }
        }
        // The first connection goes ahead alone: with a wrong password or no network, one attempt is enough to know.
        let alone = state.parked.is_empty() && state.leased.is_empty();
        let count = if alone { plan.open.min(1usize.saturating_sub(state.coming)) } else { plan.open };
        for _ in 0..count {
            state.coming += 1;
            self.runtime.spawn(open(Coming { shared: Arc::clone(self) }));
        }
        for lease in &state.leased {
            let wanted = lease.leave.is_some() || plan.wanted.contains(&lease.party.id);
            lease.wanted.send_if_modified(|told| std::mem::replace(told, wanted) != wanted);
        }
        false
    }

    /// Gives a parked session to the waiter; false if there was none to give or nobody to take it.
    fn grant(self: &Arc<Self>, state: &mut State, id: u64) -> bool {
        let Some(at) = state.waiting.iter().position(|waiter| waiter.party.id == id) else { return false };
        if state.parked.is_empty() {
            return false;
        }
        let waiter = state.waiting.remove(at);
        let Some(mut session) = state.take_parked(waiter.mailbox.as_deref()) else { return false };
        session.class = Some(waiter.party.class);
        let (wanted, hears) = watch::channel(false);
        let lease = Lease { session, id, class: waiter.party.class, wanted: hears, shared: Arc::clone(self) };
        state.leased.push(Leased { party: waiter.party, wanted, leave: None });
        if let Err(Ok(mut lease)) = waiter.answer.send(Ok(lease)) {
            // Taken out before it is dropped: dropping a full lease would lock what is locked here.
            let session = std::mem::replace(&mut lease.session, Session::hollow());
            state.leased.retain(|leased| leased.party.id != id);
            state.parked.push(session);
            return false;
        }
        true
    }

    /// A lease was dropped.
    pub(super) fn returned(self: &Arc<Self>, id: u64, session: Session) {
        let mut state = self.lock();
        let leave = state.leased.extract_if(.., |lease| lease.party.id == id).find_map(|lease| lease.leave);
        let in_it = leave.is_some_and(|leave| session.selected().is_some_and(|(name, _)| name == leave));
        if session.is_usable() && state.open() >= self.connections.load(Ordering::Relaxed) {
            // The maximum was lowered while it was out.
            drop(self.runtime.spawn(log_out(session)));
        } else if in_it && session.is_usable() && !state.closed {
            self.go_out(&mut state, session);
        } else {
            self.give_back(&mut state, session);
        }
        self.pump(&mut state);
    }

    /// Takes a session back from a lease or a check.
    fn give_back(self: &Arc<Self>, state: &mut State, session: Session) {
        if session.is_usable() {
            self.gate.lock().settled(session.age());
            if state.closed {
                drop(self.runtime.spawn(log_out(session)));
            } else {
                state.parked.push(session);
            }
        } else if let Some((reason, meaning)) = session.loss() {
            if meaning != Meaning::Ordinary {
                self.config.meter.refused(meaning);
            }
            let (now, mut gate) = (Instant::now(), self.gate.lock());
            if meaning == Meaning::Ordinary {
                gate.lost(session.age(), reason, now, jitter());
            } else {
                gate.connect_failed(meaning, reason, state.open().saturating_sub(state.coming), now, jitter());
            }
        }
    }

    fn count(&self, state: &State) {
        self.config.meter.connections(state.open().saturating_sub(state.coming));
        self.config.meter.waiting(state.waiting());
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn open(&self) -> usize {
        self.parked.len() + self.leased.len() + self.coming
    }

    fn refuse_all(&mut self, error: &Error) {
        self.refuse(error, |_| true);
    }

    fn refuse(&mut self, error: &Error, whom: impl Fn(Class) -> bool) {
        for waiter in self.waiting.extract_if(.., |waiter| whom(waiter.party.class)) {
            // Nobody there: nothing to tell.
            let _ = waiter.answer.send(Err(error.clone()));
        }
    }

    /// The best parked session: with the mailbox selected, else with none, else the one that rested longest.
    fn take_parked(&mut self, mailbox: Option<&str>) -> Option<Session> {
        let rank = |session: &Session| match session.selected().map(|(name, _)| name) {
            name if name == mailbox => 0,
            None => 1,
            Some(_) => 2,
        };
        let best = self.parked.iter().enumerate().min_by_key(|(at, session)| (rank(session), *at))?.0;
        Some(self.parked.remove(best))
    }
}

/// How long a lease of this class is waited for.
fn patience(class: Class) -> Duration {
    match class {
        Class::Interactive => INTERACTIVE_WAIT,
        Class::Bulk | Class::Sync | Class::Prefetch => BACKGROUND_WAIT,
        Class::Watch => WATCH_WAIT,
    }
}

fn all_in_use() -> Error {
    Error::Unavailable {
        reason: "all connections to the provider are in use".into(),
        retry_after: Duration::from_secs(1),
    }
}

fn shut_down() -> Error {
    Error::Unavailable { reason: "the account is being closed".into(), retry_after: Duration::from_secs(60) }
}

/// A waiter's place in the queue; given up when the waiter stops waiting.
struct Place<'a> {
    shared: &'a Arc<Shared>,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let before = state.waiting.len();
        state.waiting.retain(|waiter| waiter.party.id != self.id);
        if state.waiting.len() != before {
            self.shared.pump(&mut state);
        }
    }
}

/// A connection that will be parked soon; counted until it is, or until it is given up.
struct Coming {
    shared: Arc<Shared>,
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.coming = state.coming.saturating_sub(1);
        self.shared.pump(&mut state);
    }
}

/// Opens one session and parks it for whoever is first in the queue.
async fn open(coming: Coming) {
    let shared = Arc::clone(&coming.shared);
    let label = &shared.config.label;
    match Box::pin(Session::open(&shared.config, &shared.gate)).await {
        Ok(session) => {
            info!(account = %label, "upstream session opened");
            shared.gate.lock().connected();
            let mut state = shared.lock();
            state.caps = Some(Arc::clone(session.caps_shared()));
            shared.give_back(&mut state, session);
        }
        Err(fault) => {
            let others = {
                let state = shared.lock();
                state.parked.len() + state.leased.len()
            };
            warn!(account = %label, meaning = ?fault.meaning, reason = %fault.reason, "upstream session not opened");
            shared.config.meter.refused(fault.meaning);
            shared.gate.lock().connect_failed(fault.meaning, &fault.reason, others, Instant::now(), jitter());
        }
    }
}

/// Keeps parked sessions alive and looks after waiters, until the pool is gone.
async fn keep(pool: Weak<Shared>, mut woken: watch::Receiver<Option<Instant>>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            Ok(()) = woken.changed() => {}
        }
        let Some(shared) = pool.upgrade() else { return };
        let due = {
            let mut state = shared.lock();
            if state.closed {
                return;
            }
            let (mut kept, mut due) = (Vec::new(), Vec::new());
            for mut session in std::mem::take(&mut state.parked) {
                session.hear();
                if session.is_usable() && session.needs_proof(KEEP_ALIVE) {
                    due.push(session);
                } else if session.is_usable() {
                    kept.push(session);
                } else {
                    debug!(account = %shared.config.label, reason = ?session.loss(), "a parked session ended");
                    shared.give_back(&mut state, session);
                }
            }
            state.parked = kept;
            state.coming += due.len();
            shared.pump(&mut state);
            due
        };
        for mut session in due {
            let coming = Coming { shared: Arc::clone(&shared) };
            shared.runtime.spawn(async move {
                // Whether it answers OK or NO does not matter; a dead one is unusable after this, and not parked.
                if timeout(CHECK_TIMEOUT, session.noop()).await.is_err() {
                    session.close("it did not answer after a pause");
                }
                let mut state = coming.shared.lock();
                coming.shared.give_back(&mut state, session);
                drop(state);
                drop(coming);
            });
        }
    }
}

async fn log_out(mut session: Session) {
    // Bounded: the server may be gone, and the connection is closed in any case.
    let _ = timeout(LOGOUT_TIMEOUT, session.logout()).await;
}
