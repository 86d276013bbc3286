//! What is counted of each account. Its handles are looked up once and kept by whoever counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{
    ByAccount, ByAccountClass, ByAccountCounted, ByAccountDirection, ByAccountKind, ByAccountMeaning, ByAccountOutcome,
    ByAccountPolicy, ByAccountShare, ByAccountState,
};
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

/// The families with the label `account`.
#[derive(Default)]
pub(super) struct Families {
    connections: Family<ByAccount, Gauge>,
    connections_limit: Family<ByAccount, Gauge>,
    waiting: Family<ByAccountClass, Gauge>,
    logins: Family<ByAccountOutcome, Counter>,
    refusals: Family<ByAccountMeaning, Counter>,
    received: Family<ByAccount, Counter>,
    sent: Family<ByAccount, Counter>,
    reachable: Family<ByAccount, Gauge>,
    used: Family<ByAccountDirection, Gauge>,
    limit: Family<ByAccountDirection, Gauge>,
    share: Family<ByAccountShare, Gauge>,
    sends_used: Family<ByAccountCounted, Gauge>,
    sends_limit: Family<ByAccountCounted, Gauge>,
    lag: Family<ByAccount, Seconds>,
    state: Family<ByAccountState, Gauge>,
    needs_login: Family<ByAccount, Gauge>,
    first_read: Family<ByAccount, Gauge>,
    first_read_of: Family<ByAccount, Gauge>,
    fetched: Family<ByAccountClass, Counter>,
    cache_errors: Family<ByAccountKind, Counter>,
    state_errors: Family<ByAccount, Counter>,
    pop3_deletions: Family<ByAccountPolicy, Counter>,
    messages: Family<ByAccountOutcome, Counter>,
}

impl Families {
    /// Names them. `_total` is added to counters when they are written.
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("upstream_connections", "Connections to the provider now", self.connections.clone());
        let help = "Connections to the provider that the configuration allows";
        to.register("upstream_connections_limit", help, self.connections_limit.clone());
        let help = "Requests that wait for a connection to the provider, by whose work it is";
        to.register("upstream_waiting", help, self.waiting.clone());
        to.register("upstream_logins", "Logins at the provider", self.logins.clone());
        let help = "What the provider has said against the account, by what it means";
        to.register("upstream_refusals", help, self.refusals.clone());
        to.register("upstream_received_bytes", "Bytes received from the provider", self.received.clone());
        to.register("upstream_sent_bytes", "Bytes sent to the provider", self.sent.clone());
        let help = "1 while the last authenticated round trip is not older than http.ready_within";
        to.register("upstream_reachable", help, self.reachable.clone());
        to.register("budget_used_bytes", "Bytes counted in the last 24 hours", self.used.clone());
        to.register("budget_limit_bytes", "Bytes allowed in 24 hours; 0 for no limit", self.limit.clone());
        let help = "Bytes in 24 hours at which work of a kind stops (sync: slows down); 0 for no limit";
        to.register("budget_share_bytes", help, self.share.clone());
        let help = "Messages sent in the last 24 hours, and their recipients";
        to.register("sends_used", help, self.sends_used.clone());
        to.register("sends_limit", "The same allowed in 24 hours; 0 for no limit", self.sends_limit.clone());
        let help = "Seconds since the last authenticated round trip; before the first, since the start";
        to.register("sync_lag_seconds", help, self.lag.clone());
        to.register("account_state", "1 for the state the account is in", self.state.clone());
        to.register("needs_login", "1 while the account needs a login at its provider", self.needs_login.clone());
        let help = "Messages read so far of a mailbox that is read for the first time; 0 when none is";
        to.register("first_sync_messages", help, self.first_read.clone());
        let help = "Messages in the mailbox that is read for the first time";
        to.register("first_sync_expected_messages", help, self.first_read_of.clone());
        let help = "Whole messages fetched from the provider, by whose work it was";
        to.register("bodies_fetched", help, self.fetched.clone());
        to.register("cache_errors", "Failures of the account's cache", self.cache_errors.clone());
        let help = "Failures to keep what cannot be fetched again";
        to.register("state_errors", help, self.state_errors.clone());
        to.register("pop3_deletions", "Messages deleted over POP3, by what was done", self.pop3_deletions.clone());
        to.register("messages_sent", "Messages handed to the provider for sending", self.messages.clone());
    }

    /// The handles of the account with this label.
    pub(super) fn handles(&self, account: &str, waits: [Histogram; 5]) -> AccountMetrics {
        let account = account.to_owned();
        let by = || ByAccount { account: account.clone() };
        let outcomes = |family: &Family<ByAccountOutcome, Counter>| {
            OUTCOMES.map(|outcome| get(family, ByAccountOutcome { account: account.clone(), outcome }))
        };
        let directions = |family: &Family<ByAccountDirection, Gauge>| {
            DIRECTIONS.map(|direction| get(family, ByAccountDirection { account: account.clone(), direction }))
        };
        // At 0 from the start, so that the first one is seen as an increase.
        for meaning in REFUSALS {
            drop(get(&self.refusals, ByAccountMeaning { account: account.clone(), meaning }));
        }
        AccountMetrics {
            connections: get(&self.connections, by()),
            connections_limit: get(&self.connections_limit, by()),
            waits,
            waiting: CLASSES.map(|class| get(&self.waiting, ByAccountClass { account: account.clone(), class })),
            logins: outcomes(&self.logins),
            refusals: (self.refusals.clone(), account.clone()),
            received: get(&self.received, by()),
            sent: get(&self.sent, by()),
            reachable: get(&self.reachable, by()),
            used: directions(&self.used),
            limit: directions(&self.limit),
            share: SHARES.map(|share| get(&self.share, ByAccountShare { account: account.clone(), share })),
            sends: [&self.sends_used, &self.sends_limit].map(|family| {
                COUNTED.map(|counted| get(family, ByAccountCounted { account: account.clone(), counted }))
            }),
            lag: get(&self.lag, by()),
            state: STATES.map(|state| get(&self.state, ByAccountState { account: account.clone(), state })),
            needs_login: get(&self.needs_login, by()),
            first_read: [get(&self.first_read, by()), get(&self.first_read_of, by())],
            fetched: CLASSES.map(|class| get(&self.fetched, ByAccountClass { account: account.clone(), class })),
            cache_errors: CACHE_ERRORS
                .map(|kind| get(&self.cache_errors, ByAccountKind { account: account.clone(), kind })),
            state_errors: get(&self.state_errors, by()),
            messages: outcomes(&self.messages),
        }
    }

    pub(super) fn pop3_deleted(&self, account: String, policy: &'static str, messages: u64) {
        get(&self.pop3_deletions, ByAccountPolicy { account, policy }).inc_by(messages);
    }

    /// Forgets an account. Handles that are still held count into nothing.
    pub(super) fn remove(&self, account: &str) {
        let account = account.to_owned();
        let by = ByAccount { account: account.clone() };
        for gauges in [
            &self.connections,
            &self.connections_limit,
            &self.reachable,
            &self.needs_login,
            &self.first_read,
            &self.first_read_of,
        ] {
            gauges.remove(&by);
        }
        for counters in [&self.received, &self.sent, &self.state_errors] {
            counters.remove(&by);
        }
        self.lag.remove(&by);
        for class in CLASSES {
            let by = ByAccountClass { account: account.clone(), class };
            self.waiting.remove(&by);
            self.fetched.remove(&by);
        }
        for outcome in OUTCOMES {
            let by = ByAccountOutcome { account: account.clone(), outcome };
            self.logins.remove(&by);
            self.messages.remove(&by);
        }
        for meaning in REFUSALS {
            self.refusals.remove(&ByAccountMeaning { account: account.clone(), meaning });
        }
        for direction in DIRECTIONS {
            let by = ByAccountDirection { account: account.clone(), direction };
            self.used.remove(&by);
            self.limit.remove(&by);
        }
        for share in SHARES {
            self.share.remove(&ByAccountShare { account: account.clone(), share });
        }
        for counted in COUNTED {
            let by = ByAccountCounted { account: account.clone(), counted };
            self.sends_used.remove(&by);
            self.sends_limit.remove(&by);
        }
        for state in STATES {
            self.state.remove(&ByAccountState { account: account.clone(), state });
        }
        for kind in CACHE_ERRORS {
            self.cache_errors.remove(&ByAccountKind { account: account.clone(), kind });
        }
        for policy in POLICIES {
            self.pop3_deletions.remove(&ByAccountPolicy { account: account.clone(), policy });
        }
    }
}

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

pub(super) fn get<L: Clone + std::hash::Hash + Eq, M: Default + Clone>(family: &Family<L, M>, labels: L) -> M {
    family.get_or_create(&labels).clone()
}
