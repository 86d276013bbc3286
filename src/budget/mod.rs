//! What an account may use of its provider: connections, logins, bytes per rolling day (Law 6).
//!
//! A provider that is asked for too much locks the account, for everybody, for hours. So nothing is spent without
//! having asked here first: a connection holds a permit and gives it back on drop; a login and a command wait for their turn; bytes
//! are counted in a window of 24 hours that survives a restart (`state/` keeps it). What a person asks for may go to the
//! limit; everything else stops earlier ([`Class`], [`Shares`]), so that a message is not refused because of a prefetch.
//!
//! # The count on disk
//!
//! Let C be what has crossed the sockets, as the provider counts it, and D what stands on the disk. At every moment
//!
//! > C <= D <= C + one flush interval
//!
//! so a crash forgets nothing and counts one interval too much at most; after an end in order it is 4 KiB of download too much, for what a
//! session that was cut in the middle of an answer may have left unread. An *interval* is
//!
//! - the *lead*: octets that may cross until D is written again (`daemon/spending` chooses it by the pace of the moment), and
//! - what was asked for and may have left the provider without our having read it: what is promised, up to what the system holds
//!   unread for the sessions there are ([`Limits::unread_most`] each).
//!
//! It is kept by three rules. Nothing is read from or written to a socket that was not let through ([`Budget::hold`]), and no more is let
//! through than D covers. Nothing is sent, a command least of all, while D does not cover the answers asked for already. And a D about to be
//! written with a shorter lead binds from before it is written ([`Budget::export_ahead`]).
//!
//! Everything that depends on time takes `now` (Law 9). Wall time, because the window goes on while we do not run.

mod connections;
mod cover;
mod ledger;
mod limits;
mod marks;
mod pace;
mod sends;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

pub use connections::ConnectionPermit;
use connections::Connections;
use cover::Cover;
pub use ledger::Entry;
use ledger::Ledger;
use limits::floor;
pub use limits::{Class, Limits, Refused, Shares};
use pace::Pace;
pub use sends::{Counted, SendLimits, Sends};

/// When to come back if only running transfers are in the way.
const PROMISED_WAIT: Duration = Duration::from_secs(60);

/// Which way the bytes go, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Download,
    Upload,
}

impl Direction {
    pub const ALL: [Self; 2] = [Self::Download, Self::Upload];

    /// The word used in metrics, in the state and towards people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

/// One account's budget. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

struct Inner {
    connections: Connections,
    spending: Mutex<Spending>,
}

struct Spending {
    limits: Limits,
    download: Ledger,
    upload: Ledger,
    /// Download, upload.
    cover: [Cover; 2],
    logins: Pace,
    commands: Option<Pace>,
}

impl Spending {
    fn ledger(&mut self, direction: Direction) -> &mut Ledger {
        match direction {
            Direction::Download => &mut self.download,
            Direction::Upload => &mut self.upload,
        }
    }

    fn cover(&mut self, direction: Direction) -> &mut Cover {
        let [download, upload] = &mut self.cover;
        match direction {
            Direction::Download => download,
            Direction::Upload => upload,
        }
    }

    fn count(&mut self, direction: Direction, bytes: u64, now: SystemTime) {
        let cover = self.cover(direction);
        cover.total = cover.total.saturating_add(bytes);
        self.ledger(direction).add(bytes, now);
    }

    /// What may have left the provider and is not read. What we send is counted when the system takes it, before anybody else can.
    fn unread_most(&self, direction: Direction, sessions: u32) -> u64 {
        match direction {
            Direction::Download => self.limits.unread_most.saturating_mul(u64::from(sessions.max(1))),
            Direction::Upload => 0,
        }
    }
}

/// Bytes set aside until they have gone over the wire, and are counted there.
#[must_use = "set aside only while it is held"]
pub struct Reservation {
    budget: Budget,
    direction: Direction,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut spending = self.budget.spending();
        let cover = spending.cover(self.direction);
        cover.promised = cover.promised.saturating_sub(self.bytes);
    }
}

impl Budget {
    pub fn new(limits: Limits, now: SystemTime) -> Self {
        let connections = Connections::new(limits.connections);
        let spending = Spending {
            logins: Pace::of_logins(&limits, now),
            commands: Pace::of_commands(&limits, now),
            limits,
            download: Ledger::default(),
            upload: Ledger::default(),
            cover: Default::default(),
        };
        Self { inner: Arc::new(Inner { connections, spending: Mutex::new(spending) }) }
    }

    fn spending(&self) -> MutexGuard<'_, Spending> {
        // Every change is a single step of arithmetic, so a panic elsewhere leaves nothing half done.
        self.inner.spending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New limits after a reload. Connections above the new limit stay until they end; what was spent stays spent.
    pub fn set_limits(&self, limits: Limits, now: SystemTime) {
        self.inner.connections.resize(limits.connections);
        let mut spending = self.spending();
        let logins = |limits: &Limits| (limits.logins_per_minute, limits.login_burst);
        if logins(&limits) != logins(&spending.limits) {
            spending.logins = Pace::of_logins(&limits, now);
        }
        if limits.commands_per_second != spending.limits.commands_per_second {
            spending.commands = Pace::of_commands(&limits, now);
        }
        spending.limits = limits;
    }

    /// A connection if one is free and nobody waits for it.
    pub fn try_connection(&self) -> Option<ConnectionPermit> {
        self.inner.connections.try_take()
    }

    /// Connections in use.
    pub fn connections_used(&self) -> u32 {
        self.inner.connections.used()
    }

    /// Asks for a login; if refused, for how long to wait before asking again.
    pub fn login(&self, now: SystemTime) -> Result<(), Duration> {
        self.spending().logins.take(now)
    }

    /// The same for a command, where the provider counts them.
    pub fn command(&self, now: SystemTime) -> Result<(), Duration> {
        self.spending().commands.as_mut().map_or(Ok(()), |pace| pace.take(now))
    }

    /// Whether there is anything left to say a word with: neither direction is spent.
    ///
    /// # Errors
    /// [`Refused`] by the direction that is; then nothing at all is to be sent, and no connection opened.
    pub fn may_talk(&self, now: SystemTime) -> Result<(), Refused> {
        let mut spending = self.spending();
        for direction in Direction::ALL {
            let Some(limit) = spending.limits.of(direction) else { continue };
            let promised = spending.cover(direction).promised;
            let ledger = spending.ledger(direction);
            if ledger.wait(promised.saturating_add(1), limit - floor(limit) / 2, now).is_some() {
                let retry_after = ledger.wait(1, limit - floor(limit) / 2, now).unwrap_or(PROMISED_WAIT);
                return Err(Refused { direction, limit, retry_after });
            }
        }
        Ok(())
    }

    /// Whether so much of the day is spent that synchronisation goes slowly.
    pub fn is_slow(&self, now: SystemTime) -> bool {
        let mut spending = self.spending();
        Direction::ALL.into_iter().any(|direction| {
            let slow = spending.limits.slow_from(direction);
            slow.is_some_and(|slow| spending.ledger(direction).used(now) >= slow)
        })
    }

    /// Bytes counted in the last 24 hours (to ten minutes).
    pub fn used(&self, direction: Direction, now: SystemTime) -> u64 {
        self.spending().ledger(direction).used(now)
    }

    /// Bytes allowed in 24 hours.
    pub fn limit(&self, direction: Direction) -> Option<u64> {
        self.spending().limits.of(direction)
    }

    /// Bytes of the last 24 hours, hour by hour, the oldest first; together they are what [`Budget::used`] counts. Counted in steps
    /// of ten minutes, so an hour is that to ten minutes.
    pub fn hours(&self, direction: Direction, now: SystemTime) -> [u64; 24] {
        self.spending().ledger(direction).hours(now)
    }

    /// Sets bytes aside for what is about to be fetched or sent, if they are within what this class may use. They are not
    /// counted: what really goes over the wire is ([`Budget::record`]). Until the reservation is dropped nobody else is
    /// promised them; bytes of it that have arrived by then weigh twice for that while, which errs on the safe side.
    ///
    /// # Errors
    /// [`Refused`], and nothing is set aside.
    pub fn reserve(
        &self,
        direction: Direction,
        class: Class,
        bytes: u64,
        now: SystemTime,
    ) -> Result<Reservation, Refused> {
        let mut spending = self.spending();
        let promised = spending.cover(direction).promised;
        if let Some(limit) = spending.limits.for_class(direction, class) {
            let ledger = spending.ledger(direction);
            if ledger.wait(promised.saturating_add(bytes), limit, now).is_some() {
                // In the way may be no more than what is promised to others: that ends within moments.
                let retry_after = ledger.wait(bytes, limit, now).unwrap_or(PROMISED_WAIT);
                let limit = spending.limits.of(direction).unwrap_or(limit);
                return Err(Refused { direction, limit, retry_after });
            }
        }
        spending.cover(direction).promised = promised.saturating_add(bytes);
        drop(spending);
        Ok(Reservation { budget: self.clone(), direction, bytes })
    }

    /// Counts bytes that have gone over the wire. Gives what [`Budget::headroom`] does then.
    pub fn record(&self, direction: Direction, bytes: u64, now: SystemTime) -> u64 {
        let (mut spending, unread_most) = self.covering(direction);
        spending.count(direction, bytes, now);
        spending.cover(direction).headroom(unread_most)
    }

    /// What is counted, for the durable state. At most 145 entries.
    pub fn export(&self, direction: Direction, now: SystemTime) -> Vec<Entry> {
        self.spending().ledger(direction).export(now)
    }

    /// What is to be written down so that a crash forgets nothing: what is counted, what may be on its way, and `lead` bytes more, in the
    /// bucket that `until` falls into; `until` is when it will have been written again. When it is written, [`Budget::set_covered`] is to be
    /// told the second value.
    pub fn export_ahead(
        &self,
        direction: Direction,
        lead: u64,
        now: SystemTime,
        until: SystemTime,
    ) -> (Vec<Entry>, u64) {
        let (mut spending, unread_most) = self.covering(direction);
        let (ahead, mark) = spending.cover(direction).begin_writing(lead, unread_most);
        let mut entries = spending.ledger(direction).export(now);
        let last = Entry { begin: ledger::bucket(until), bytes: ahead };
        match entries.last_mut() {
            Some(entry) if entry.begin == last.begin => entry.bytes = entry.bytes.saturating_add(ahead),
            _ if ahead > 0 => entries.push(last),
            _ => {}
        }
        (entries, mark)
    }

    /// The count up to `mark` is written down.
    pub fn set_covered(&self, direction: Direction, mark: u64) {
        self.spending().cover(direction).written(mark);
    }

    /// Bytes that may cross before the count has to be written again.
    pub fn headroom(&self, direction: Direction) -> u64 {
        let (mut spending, unread_most) = self.covering(direction);
        spending.cover(direction).headroom(unread_most)
    }

    /// Sets aside bytes that may cross a socket now, `most` at most; 0: the count has to be written first. To be given back by
    /// [`Budget::release`] when what has crossed of them was recorded.
    pub fn hold(&self, direction: Direction, most: u64) -> u64 {
        let (mut spending, unread_most) = self.covering(Direction::Download);
        match direction {
            Direction::Download => spending.cover(direction).hold(most, unread_most),
            // The answer to what is sent must be covered when it is sent.
            Direction::Upload if !spending.cover(Direction::Download).is_whole(unread_most) => 0,
            Direction::Upload => spending.cover(direction).hold(most, 0),
        }
    }

    /// The same where the disk gives no hope that the count will be written.
    pub fn hold_uncovered(&self, direction: Direction, most: u64) {
        self.spending().cover(direction).hold_uncovered(most);
    }

    /// See [`Budget::hold`].
    pub fn release(&self, direction: Direction, held: u64) {
        self.spending().cover(direction).release(held);
    }

    /// Bytes recorded since the start.
    pub fn total(&self, direction: Direction) -> u64 {
        self.spending().cover(direction).total
    }

    fn covering(&self, direction: Direction) -> (MutexGuard<'_, Spending>, u64) {
        let sessions = self.connections_used();
        let spending = self.spending();
        let unread_most = spending.unread_most(direction, sessions);
        (spending, unread_most)
    }

    /// Adds what an earlier run has counted. To be called once, before anything is spent.
    pub fn import(&self, direction: Direction, entries: &[Entry], now: SystemTime) {
        self.spending().ledger(direction).import(entries, now);
    }
}
