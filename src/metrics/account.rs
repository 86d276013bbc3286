//! What is counted of each account. Its handles are looked up once and kept by whoever counts; `families` has their names and labels.

mod families;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

pub(super) use self::families::{Families, get};
use super::labels::ByAccountMeaning;
use super::{Held, signed};

/// Outcomes of an upstream login, and of a message that was to be sent.
const OUTCOMES: [&str; 3] = ["ok", "refused", "failed"];

/// What the provider's words may mean, as `upstream/words` names it.
pub const REFUSALS: [&str; 10] = [
    "ordinary",
    "too_many_connections",
    "throttled",
    "bandwidth",
    "credentials",
    "consent",
    "app_password",
    "web_login",
    "forbidden",
    "trickle",
];

/// What POP3's DELE may come to (`pop3.on_dele`).
const POLICIES: [&str; 4] = ["hide", "seen", "archive", "trash"];

/// Directions of the byte budget, as `budget/` names them.
const DIRECTIONS: [&str; 2] = ["download", "upload"];

/// Whose work a session at the provider is lent for, in the order of `upstream::Class`.
pub const CLASSES: [&str; 5] = ["interactive", "bulk", "sync", "watch", "prefetch"];

/// Parts of the day's download at which work of a kind stops.
const SHARES: [&str; 3] = ["prefetch", "sync", "bulk"];

/// What is counted of sending.
const COUNTED: [&str; 2] = ["messages", "recipients"];

/// How the cache can fail.
const CACHE_ERRORS: [&str; 2] = ["full", "failed"];

/// How an account is doing; one of them at a time.
pub const STATES: [&str; 5] = ["ready", "starting", "unreachable", "needs_login", "disk"];

type Seconds = Gauge<f64, AtomicU64>;

/// One account's metrics, looked up once. Cheap to clone.
#[derive(Clone)]
pub struct AccountMetrics {
    connections: Gauge,
    connections_limit: Gauge,
    waits: [Histogram; 5],
    waiting: [Gauge; 5],
    logins: [Counter; 3],
    refusals: (Family<ByAccountMeaning, Counter>, String),
    received: Counter,
    sent: Counter,
    reachable: Gauge,
    used: [Gauge; 2],
    limit: [Gauge; 2],
    share: [Gauge; 3],
    /// Used and limit, of what [`COUNTED`] says.
    sends: [[Gauge; 2]; 2],
    lag: Seconds,
    state: [Gauge; 5],
    needs_login: Gauge,
    first_read: [Gauge; 2],
    fetched: [Counter; 5],
    cache_errors: [Counter; 2],
    state_errors: Counter,
    messages: [Counter; 3],
}

/// What became of a message that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The provider has taken it.
    Taken,
    /// It was refused for good.
    Refused,
    /// Not now (4xx); the client keeps it.
    Later,
}

/// How a login at the provider ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    Ok,
    /// The provider said no.
    Refused,
    /// It never came to an answer.
    Failed,
}

/// How an account's cache has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheError {
    /// The disk is nearly full: nothing more is cached.
    Full,
    Failed,
}

impl AccountMetrics {
    /// `mailweir_upstream_connections{account}`: counted while the guard is held.
    pub fn connection(&self) -> Held {
        Held::new(self.connections.clone())
    }

    /// `mailweir_upstream_connections_limit{account}`
    pub fn set_connections_limit(&self, connections: u64) {
        self.connections_limit.set(signed(connections));
    }

    /// `mailweir_upstream_waiting{account,class}`: how many wait, in the order of [`CLASSES`].
    pub fn set_waiting(&self, waiting: [usize; 5]) {
        for (gauge, count) in self.waiting.iter().zip(waiting) {
            gauge.set(signed(count as u64));
        }
    }

    /// `mailweir_upstream_wait_seconds{class}`, of all accounts: `class` is a place in [`CLASSES`].
    pub fn waited(&self, class: usize, took: Duration) {
        if let Some(histogram) = self.waits.get(class) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// `mailweir_upstream_logins_total{account,outcome}`
    pub fn login(&self, outcome: Login) {
        let [ok, refused, failed] = &self.logins;
        match outcome {
            Login::Ok => ok.inc(),
            Login::Refused => refused.inc(),
            Login::Failed => failed.inc(),
        };
    }

    /// `mailweir_messages_sent_total{account,outcome}`
    pub fn message_sent(&self, sent: Sent) {
        let [ok, refused, failed] = &self.messages;
        match sent {
            Sent::Taken => ok.inc(),
            Sent::Refused => refused.inc(),
            Sent::Later => failed.inc(),
        };
    }

    /// `mailweir_upstream_refusals_total{account,meaning}`: the meaning is one of [`REFUSALS`].
    pub fn refused(&self, meaning: &'static str) {
        let (refusals, account) = &self.refusals;
        refusals.get_or_create(&ByAccountMeaning { account: account.clone(), meaning }).inc();
    }

    /// `mailweir_upstream_received_bytes_total{account}`
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// `mailweir_upstream_sent_bytes_total{account}`
    pub fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }

    /// `mailweir_upstream_reachable{account}`
    pub fn set_reachable(&self, reachable: bool) {
        self.reachable.set(reachable.into());
    }

    /// `mailweir_budget_{used,limit}_bytes{account,direction="download"}`; no limit is written as 0.
    pub fn set_download(&self, used: u64, limit: Option<u64>) {
        self.set_budget(0, used, limit);
    }

    /// The same for `direction="upload"`.
    pub fn set_upload(&self, used: u64, limit: Option<u64>) {
        self.set_budget(1, used, limit);
    }

    fn set_budget(&self, direction: usize, used: u64, limit: Option<u64>) {
        if let (Some(of_used), Some(of_limit)) = (self.used.get(direction), self.limit.get(direction)) {
            of_used.set(signed(used));
            of_limit.set(signed(limit.unwrap_or(0)));
        }
    }

    /// `mailweir_budget_share_bytes{account,share}`: prefetch, sync, bulk.
    pub fn set_shares(&self, bytes: [u64; 3]) {
        for (gauge, bytes) in self.share.iter().zip(bytes) {
            gauge.set(signed(bytes));
        }
    }

    /// `mailweir_sends_{used,limit}{account,counted}`: messages and recipients of 24 hours; no limit is written as 0.
    pub fn set_sends(&self, used: (u64, u64), limit: (Option<u64>, Option<u64>)) {
        let [[messages, recipients], [most_messages, most_recipients]] = &self.sends;
        messages.set(signed(used.0));
        recipients.set(signed(used.1));
        most_messages.set(signed(limit.0.unwrap_or(0)));
        most_recipients.set(signed(limit.1.unwrap_or(0)));
    }

    /// `mailweir_account_state{account,state}`: 1 for this one of [`STATES`], 0 for the others.
    pub fn set_state(&self, state: &str) {
        for (gauge, name) in self.state.iter().zip(STATES) {
            gauge.set((name == state).into());
        }
    }

    /// `mailweir_needs_login{account}`: 1 while nothing can be had of the provider until its owner has consented anew.
    pub fn set_needs_login(&self, needed: bool) {
        self.needs_login.set(needed.into());
    }

    /// `mailweir_sync_lag_seconds{account}`
    pub fn set_sync_lag(&self, lag: Duration) {
        self.lag.set(lag.as_secs_f64());
    }

    /// `mailweir_first_sync_messages{account}` and `mailweir_first_sync_expected_messages{account}`
    pub fn set_first_sync(&self, messages: u64, of: u64) {
        let [done, expected] = &self.first_read;
        done.set(signed(messages));
        expected.set(signed(of));
    }

    /// `mailweir_bodies_fetched_total{account,class}`: a message more; `class` is a place in [`CLASSES`].
    pub fn body_fetched(&self, class: usize) {
        if let Some(counter) = self.fetched.get(class) {
            counter.inc();
        }
    }

    /// `mailweir_cache_errors_total{account,kind}`
    pub fn cache_error(&self, error: CacheError) {
        let [full, failed] = &self.cache_errors;
        match error {
            CacheError::Full => full.inc(),
            CacheError::Failed => failed.inc(),
        };
    }

    /// `mailweir_state_errors_total{account}`
    pub fn state_error(&self) {
        self.state_errors.inc();
    }
}
