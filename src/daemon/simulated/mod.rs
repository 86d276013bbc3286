//! A provider inside the process, for `mailweir demo` and for tests: the manners and limits of one of the large ones over an account
//! in memory.
//!
//! It is not a second IMAP server: the sessions are [`crate::session::imap`]'s own, generic over the account behind them, with a
//! profile that offers what Gmail offers (CONDSTORE, no QRESYNC, X-GM-EXT-1). What is its own: `account` (mailboxes that are labels
//! of messages, writes that really happen), `mailbox` (reading), `sample` and `compose` (a year of mail), and here the port, the
//! login with its limit of simultaneous connections, and the counts that show what the provider had to do.
//!
//! Law 6 does not concern it: this is the other end of the line. Laws kept: 4 (no await under the account's lock), 7, 8.

mod account;
mod compose;
mod mailbox;
mod sample;
mod scenario;
#[cfg(test)]
mod tests;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::Stream;
use crate::net::listener::{self, Gate};
use crate::secret::Secret;
use crate::session::imap::{Accepted, Login, LoginError, Profile, Server, Unobserved, serve};

pub use account::Account;
pub use scenario::Scenario;
use wire::Weather;

/// Gmail's limit of sessions per account, over all its programs (Google's help on IMAP).
pub const MAX_CONNECTIONS: usize = 15;
/// A wrong password is answered after this, as providers do; it also bounds guessing.
const WRONG_AFTER: Duration = Duration::from_millis(500);
/// Happenings kept for a listener that is slow: more than anybody reads.
const EVENTS: usize = 64;
/// Octets asked of the system as the send buffer of a connection.
const UNSENT_ASKED: usize = 64 * 1024;
/// How long sessions may take to say BYE.
const GRACE: Duration = Duration::from_secs(2);

/// Something to tell the person who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new message came in.
    Arrived { from: String, subject: String },
    /// So many connections are logged in now.
    Connections(usize),
    /// One was refused for want of a free place.
    Refused,
}

/// What the provider had to do since the last [`Provider::reset_counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Most connections logged in at once.
    pub connections_most: usize,
    pub logins: u64,
    /// Logins refused because there were too many connections.
    pub refused: u64,
    /// Whole messages sent out.
    pub bodies: u64,
    /// Octets of them.
    pub body_octets: u64,
    /// Octets that crossed the sockets since the start, or since [`Provider::begin_day`]: out and in.
    pub octets_out: u64,
    pub octets_in: u64,
    /// Commands refused since the start: because the day was spent, and because they came too fast.
    pub locked: u64,
    pub throttled: u64,
    /// Commands since the start that would switch QRESYNC on.
    pub qresync: u64,
}

/// What is counted, shared by sessions.
#[derive(Debug)]
struct Tally {
    open: Mutex<Open>,
    refused: AtomicU64,
    bodies: AtomicU64,
    body_octets: AtomicU64,
    events: broadcast::Sender<Event>,
    connections: usize,
}

/// Connections that are logged in.
#[derive(Debug, Default)]
struct Open {
    now: usize,
    most: usize,
    logins: u64,
}

/// A place among the connections there may be, given back on drop.
#[derive(Debug)]
struct Place(Arc<Tally>);

impl Tally {
    fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self {
            connections,
            open: Mutex::default(),
            refused: AtomicU64::new(0),
            bodies: AtomicU64::new(0),
            body_octets: AtomicU64::new(0),
            events: broadcast::Sender::new(EVENTS),
        })
    }

    /// Takes a place if one is free.
    fn enter(self: &Arc<Self>) -> Option<Arc<Place>> {
        let now = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.now >= self.connections {
                None
            } else {
                open.now += 1;
                open.most = open.most.max(open.now);
                open.logins += 1;
                Some(open.now)
            }
        };
        match now {
            Some(now) => {
                self.tell(Event::Connections(now));
                Some(Arc::new(Place(Arc::clone(self))))
            }
            None => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                self.tell(Event::Refused);
                None
            }
        }
    }

    /// A whole message begins to be sent.
    fn body_sent(&self) {
        self.bodies.fetch_add(1, Ordering::Relaxed);
    }

    fn octets_sent(&self, octets: usize) {
        self.body_octets.fetch_add(octets as u64, Ordering::Relaxed);
    }

    fn tell(&self, event: Event) {
        // Nobody listening is no fault: the events are for whoever watches.
        let _ = self.events.send(event);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = {
            let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.now = open.now.saturating_sub(1);
            open.now
        };
        self.0.tell(Event::Connections(now));
    }
}

/// Who may log in: one user.
struct Logins {
    account: Account,
    user: String,
    password: Secret,
    tally: Arc<Tally>,
    scenario: Arc<Scenario>,
}

impl Login for Logins {
    type Account = Account;

    async fn verify(&self, _peer: IpAddr, user: &str, password: &Secret) -> Result<Account, LoginError> {
        if !user.eq_ignore_ascii_case(&self.user) || *password != self.password {
            tokio::time::sleep(WRONG_AFTER).await;
            return Err(LoginError::Wrong);
        }
        match self.tally.enter() {
            Some(place) => Ok(self.account.seated(place)),
            None => {
                let (code, text) = self.scenario.too_many;
                Err(LoginError::Refused { code: Some(code), text })
            }
        }
    }
}

/// The simulated provider at work.
pub struct Provider {
    account: Account,
    address: SocketAddr,
    tally: Arc<Tally>,
    scenario: Arc<Scenario>,
    weather: Arc<Weather>,
    tasks: TaskTracker,
    stop: CancellationToken,
    stop_watch: watch::Sender<bool>,
}

impl Provider {
    /// Listens at `address` (loopback; port 0 for a free one) and serves one account filled with sample mail of the year before now.
    /// Fails if it cannot listen.
    pub fn start(address: SocketAddr, user: &str, password: Secret) -> std::io::Result<Self> {
        Self::start_as(Scenario::gmail(), address, user, password)
    }

    /// The same with another provider's manners.
    pub fn start_as(scenario: Scenario, address: SocketAddr, user: &str, password: Secret) -> std::io::Result<Self> {
        let (scenario, weather) = (Arc::new(scenario), Arc::<Weather>::default());
        let bound = listener::bind("demo", &[address]);
        let bound = bound.map_err(|errors| {
            std::io::Error::other(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        let listening = bound.into_iter().next().ok_or_else(|| std::io::Error::other("nothing to listen on"))?;
        let address = listening.local_addr()?;
        let tally = Tally::new(scenario.connections);
        let account = Account::new(user, Arc::clone(&tally), now());
        account.fill(now());
        let logins = Logins {
            account: account.clone(),
            user: user.to_owned(),
            password,
            tally: Arc::clone(&tally),
            scenario: Arc::clone(&scenario),
        };
        let server = Server::new(logins, None, Arc::new(Unobserved), "Gimap simulated by mailweir")
            .with_profile(Profile { qresync: false, gmail: scenario.is_gmail() });
        let server = Arc::new(server);
        let (tasks, stop, stop_watch) = (TaskTracker::new(), CancellationToken::new(), watch::Sender::new(false));
        let (spawner, token) = (tasks.clone(), stop.clone());
        let (manners, mood) = (Arc::clone(&scenario), Arc::clone(&weather));
        let gate = Arc::new(Gate::default());
        let serving = listener::serve(listening, gate, stop_watch.subscribe(), move |stream, ticket| {
            let (outer, inner) = Stream::pair();
            let accepted = Accepted { stream: inner, implicit_tls: false, plaintext_login: true };
            let session = serve(Arc::clone(&server), accepted, token.child_token());
            // What it counts as sent is to have been sent, and not to lie in its own system.
            let _ = stream.bound_unsent(UNSENT_ASKED);
            let counted = stream.tapped(Arc::<Weather>::clone(&mood));
            let wire = wire::pass(Arc::clone(&manners), Arc::clone(&mood), counted, outer);
            spawner.spawn(async move {
                tokio::join!(session, wire);
                drop(ticket);
            });
        });
        tasks.spawn(serving);
        Ok(Self { account, address, tally, scenario, weather, tasks, stop, stop_watch })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whose manners it has.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// From now on answers come drop by drop, or as usual again.
    pub fn set_trickling(&self, trickles: bool) {
        self.weather.trickles.store(trickles, Ordering::Relaxed);
    }

    /// A day has passed: what crossed the sockets is counted from nothing again.
    pub fn begin_day(&self) {
        self.weather.sent.store(0, Ordering::Relaxed);
        self.weather.received.store(0, Ordering::Relaxed);
    }

    /// Every mailbox has another UIDVALIDITY from now on, as after a restore.
    pub fn flip_validity(&self) {
        self.weather.validity.fetch_add(1000, Ordering::Relaxed);
    }

    /// The account, to change it as if by another device.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// What happens from now on. A listener that is slow misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.tally.events.subscribe()
    }

    /// Connections logged in now.
    pub fn connections(&self) -> usize {
        self.tally.open.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    /// Connections that idle now.
    pub fn idling(&self) -> usize {
        self.weather.idling.load(Ordering::Relaxed)
    }

    /// Waits until nobody is logged in.
    pub async fn deserted(&self) {
        let mut events = self.events();
        while self.connections() > 0 {
            // A lagging listener has missed something and looks again; closed it cannot be, the sender is ours.
            let _ = events.recv().await;
        }
    }

    pub fn counts(&self) -> Counts {
        let open = self.tally.open.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            connections_most: open.most,
            logins: open.logins,
            refused: self.tally.refused.load(Ordering::Relaxed),
            bodies: self.tally.bodies.load(Ordering::Relaxed),
            body_octets: self.tally.body_octets.load(Ordering::Relaxed),
            octets_out: self.weather.sent.load(Ordering::Relaxed),
            octets_in: self.weather.received.load(Ordering::Relaxed),
            locked: self.weather.locked.load(Ordering::Relaxed),
            throttled: self.weather.throttled.load(Ordering::Relaxed),
            qresync: self.weather.qresync.load(Ordering::Relaxed),
        }
    }

    /// Counts from nothing again; connections that are open stay counted.
    pub fn reset_counts(&self) {
        let mut open = self.tally.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.most = open.now;
        open.logins = 0;
        for count in [&self.tally.refused, &self.tally.bodies, &self.tally.body_octets] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// A new message arrives in INBOX; `number` chooses among the kinds.
    pub fn deliver(&self, number: u64) {
        let (from, subject) = self.account.deliver_new(number, now());
        self.tally.tell(Event::Arrived { from, subject });
    }

    /// So many messages arrive in INBOX at once, without a word to who watches.
    pub fn deliver_many(&self, count: u32) {
        self.account.deliver_many(count, now());
    }

    /// Ends every session, within some seconds.
    pub async fn shutdown(self) {
        self.stop_watch.send_replace(true);
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::debug!("sessions at the simulated provider did not end in time");
        }
    }
}

/// Seconds since 1970. The provider's clock, read at this one place (Law 9).
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
