//! What the daemon counts about itself, in the text format Prometheus reads.
//!
//! The names are part of the contract (design §3); whoever adds one documents unit and labels here. Counters and
//! gauges are atomics behind handles: an account's are looked up once ([`Metrics::account`]) and kept by its engine,
//! and a session's gauge comes back by itself when its guard is dropped. A command's counter is found under a read
//! lock that is only ever held for writing when a combination of labels is seen for the first time.
//!
//! Labels are bounded: protocols, command names and outcomes are our own words, never a client's; accounts are those
//! of the configuration and are dropped with it.

mod outbox;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use outbox::{Attempt, OutboxMetrics};

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A protocol served to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Imap,
    Pop3,
    Smtp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Smtp => "smtp",
        }
    }
}

/// How the body of a message was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyRead {
    /// From the cache.
    Hit,
    /// Fetched from upstream.
    Filled,
    /// From a download that was already running.
    Joined,
    /// Not to be had: budget, upstream out of reach.
    Refused,
}

impl BodyRead {
    const ALL: [Self; 4] = [Self::Hit, Self::Filled, Self::Joined, Self::Refused];

    fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Filled => "filled",
            Self::Joined => "joined",
            Self::Refused => "refused",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProtocol {
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCommand {
    protocol: &'static str,
    command: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAccount {
    account: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPolicy {
    account: String,
    policy: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLogin {
    account: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMeaning {
    account: String,
    meaning: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDirection {
    account: String,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCounted {
    account: String,
    counted: &'static str,
}

/// What is counted of sending.
const COUNTED: [&str; 2] = ["messages", "recipients"];

/// Outcomes of an upstream login that are counted.
const LOGINS: [&str; 3] = ["ok", "refused", "failed"];

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

type Seconds = Gauge<f64, AtomicU64>;

/// Every metric of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    all: Arc<All>,
}

struct All {
    registry: Registry,
    client_sessions: Family<ByProtocol, Gauge>,
    upstream_connections: Family<ByAccount, Gauge>,
    upstream_logins: Family<ByLogin, Counter>,
    upstream_refusals: Family<ByMeaning, Counter>,
    upstream_received_bytes: Family<ByAccount, Counter>,
    upstream_sent_bytes: Family<ByAccount, Counter>,
    budget_used_bytes: Family<ByDirection, Gauge>,
    budget_limit_bytes: Family<ByDirection, Gauge>,
    sends_used: Family<ByCounted, Gauge>,
    sends_limit: Family<ByCounted, Gauge>,
    sync_lag_seconds: Family<ByAccount, Seconds>,
    needs_login: Family<ByAccount, Gauge>,
    body_reads: [Counter; 4],
    cache_bytes: Gauge,
    commands: Family<ByCommand, Counter>,
    command_seconds: Histogram,
    pop3_deletions: Family<ByPolicy, Counter>,
    messages_sent: Family<ByLogin, Counter>,
    outbox: outbox::Families,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let body_reads = Family::<ByOutcome, Counter>::default();
        let all = All {
            registry: Registry::with_prefix("mailweir"),
            client_sessions: Family::default(),
            upstream_connections: Family::default(),
            upstream_logins: Family::default(),
            upstream_refusals: Family::default(),
            upstream_received_bytes: Family::default(),
            upstream_sent_bytes: Family::default(),
            budget_used_bytes: Family::default(),
            budget_limit_bytes: Family::default(),
            sends_used: Family::default(),
            sends_limit: Family::default(),
            sync_lag_seconds: Family::default(),
            needs_login: Family::default(),
            body_reads: BodyRead::ALL.map(|read| counter(&body_reads, ByOutcome { outcome: read.as_str() })),
            cache_bytes: Gauge::default(),
            commands: Family::default(),
            // 100 µs, a flag from memory, to 26 s, a large message over a slow line.
            command_seconds: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
            pop3_deletions: Family::default(),
            messages_sent: Family::default(),
            outbox: outbox::Families::default(),
        };
        for protocol in [Protocol::Imap, Protocol::Pop3, Protocol::Smtp] {
            drop(all.client_sessions.get_or_create(&ByProtocol { protocol: protocol.as_str() }));
        }
        Self { all: Arc::new(all.registered(body_reads)) }
    }

    /// The text for `/metrics`, of type [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails for nobody but a faulty formatter; then what is there is still right.
        if let Err(error) = encode(&mut text, &self.all.registry) {
            tracing::error!(%error, "cannot write the metrics");
        }
        text
    }

    /// `mailweir_client_sessions{protocol}`: counted while the guard is held.
    pub fn session(&self, protocol: Protocol) -> Held {
        let labels = ByProtocol { protocol: protocol.as_str() };
        Held::new(self.all.client_sessions.get_or_create(&labels).clone())
    }

    /// `mailweir_body_reads_total{outcome}`
    pub fn body_read(&self, read: BodyRead) {
        let [hit, filled, joined, refused] = &self.all.body_reads;
        match read {
            BodyRead::Hit => hit.inc(),
            BodyRead::Filled => filled.inc(),
            BodyRead::Joined => joined.inc(),
            BodyRead::Refused => refused.inc(),
        };
    }

    /// `mailweir_cache_bytes`: what all accounts' caches take on disk.
    pub fn set_cache_bytes(&self, bytes: u64) {
        self.all.cache_bytes.set(signed(bytes));
    }

    /// `mailweir_pop3_deletions_total{account,policy}`: messages deleted over POP3; the policy is one of `pop3.on_dele`.
    pub fn pop3_deleted(&self, account: &str, policy: &'static str, messages: u64) {
        counter(&self.all.pop3_deletions, ByPolicy { account: escaped(account), policy }).inc_by(messages);
    }

    /// `mailweir_commands_total{protocol,command,outcome}` and `mailweir_command_seconds`. The command is a name of
    /// ours ("fetch", "unknown"), the outcome the kind of answer ("ok", "no", "bad").
    pub fn command(&self, protocol: Protocol, command: &'static str, outcome: &'static str, took: Duration) {
        let labels = ByCommand { protocol: protocol.as_str(), command, outcome };
        self.all.commands.get_or_create(&labels).inc();
        self.all.command_seconds.observe(took.as_secs_f64());
    }

    /// The handles of an account, by the name it has in the configuration.
    pub fn account(&self, account: &str) -> AccountMetrics {
        let account = escaped(account);
        let all = &self.all;
        let by = || ByAccount { account: account.clone() };
        let budget = |family: &Family<ByDirection, Gauge>| {
            DIRECTIONS.map(|direction| gauge(family, ByDirection { account: account.clone(), direction }))
        };
        AccountMetrics {
            connections: gauge(&all.upstream_connections, by()),
            logins: LOGINS.map(|outcome| counter(&all.upstream_logins, ByLogin { account: account.clone(), outcome })),
            refusals: (all.upstream_refusals.clone(), account.clone()),
            received: counter(&all.upstream_received_bytes, by()),
            sent: counter(&all.upstream_sent_bytes, by()),
            used: budget(&all.budget_used_bytes),
            limit: budget(&all.budget_limit_bytes),
            sends: [&all.sends_used, &all.sends_limit]
                .map(|family| COUNTED.map(|counted| gauge(family, ByCounted { account: account.clone(), counted }))),
            lag: all.sync_lag_seconds.get_or_create(&by()).clone(),
            messages: LOGINS.map(|outcome| counter(&all.messages_sent, ByLogin { account: account.clone(), outcome })),
            needs_login: gauge(&all.needs_login, by()),
        }
    }

    /// Forgets an account that has left the configuration.
    pub fn remove_account(&self, account: &str) {
        let account = escaped(account);
        let by = ByAccount { account: account.clone() };
        self.all.upstream_connections.remove(&by);
        self.all.upstream_received_bytes.remove(&by);
        self.all.upstream_sent_bytes.remove(&by);
        self.all.sync_lag_seconds.remove(&by);
        self.all.needs_login.remove(&by);
        self.all.outbox.remove(&account);
        for policy in POLICIES {
            self.all.pop3_deletions.remove(&ByPolicy { account: account.clone(), policy });
        }
        for meaning in REFUSALS {
            self.all.upstream_refusals.remove(&ByMeaning { account: account.clone(), meaning });
        }
        for outcome in LOGINS {
            self.all.messages_sent.remove(&ByLogin { account: account.clone(), outcome });
            self.all.upstream_logins.remove(&ByLogin { account: account.clone(), outcome });
        }
        for counted in COUNTED {
            let by = ByCounted { account: account.clone(), counted };
            self.all.sends_used.remove(&by);
            self.all.sends_limit.remove(&by);
        }
        for direction in DIRECTIONS {
            let by = ByDirection { account: account.clone(), direction };
            self.all.budget_used_bytes.remove(&by);
            self.all.budget_limit_bytes.remove(&by);
        }
    }
}

impl All {
    /// Names everything. `_total` is added to counters when they are written.
    fn registered(mut self, body_reads: Family<ByOutcome, Counter>) -> Self {
        let to = &mut self.registry;
        to.register("client_sessions", "Client connections now", self.client_sessions.clone());
        to.register("upstream_connections", "Connections to the provider now", self.upstream_connections.clone());
        to.register("upstream_logins", "Logins at the provider", self.upstream_logins.clone());
        to.register(
            "upstream_refusals",
            "What the provider has said against the account, by what it means",
            self.upstream_refusals.clone(),
        );
        to.register(
            "upstream_received_bytes",
            "Bytes received from the provider",
            self.upstream_received_bytes.clone(),
        );
        to.register("upstream_sent_bytes", "Bytes sent to the provider", self.upstream_sent_bytes.clone());
        to.register("budget_used_bytes", "Bytes counted in the last 24 hours", self.budget_used_bytes.clone());
        to.register("budget_limit_bytes", "Bytes allowed in 24 hours", self.budget_limit_bytes.clone());
        to.register("sends_used", "Messages sent in the last 24 hours, and recipients", self.sends_used.clone());
        to.register("sends_limit", "The same, allowed", self.sends_limit.clone());
        to.register("body_reads", "Messages read, by where they came from", body_reads);
        to.register("cache_bytes", "Bytes the cache takes on disk", self.cache_bytes.clone());
        to.register("sync_lag_seconds", "Seconds since the mirror was last in step", self.sync_lag_seconds.clone());
        to.register("needs_login", "1 while the account needs a login at its provider", self.needs_login.clone());
        to.register("commands", "Commands answered", self.commands.clone());
        to.register("command_seconds", "Seconds from a command to its answer", self.command_seconds.clone());
        to.register("pop3_deletions", "Messages deleted over POP3, by what was done", self.pop3_deletions.clone());
        to.register("messages_sent", "Messages handed to the provider for sending", self.messages_sent.clone());
        self.outbox.register(to);
        self
    }
}

/// One account's metrics, looked up once. Cheap to clone.
#[derive(Clone)]
pub struct AccountMetrics {
    connections: Gauge,
    logins: [Counter; 3],
    refusals: (Family<ByMeaning, Counter>, String),
    received: Counter,
    sent: Counter,
    used: [Gauge; 2],
    limit: [Gauge; 2],
    /// Used and limit, of what [`COUNTED`] says.
    sends: [[Gauge; 2]; 2],
    lag: Seconds,
    messages: [Counter; 3],
    needs_login: Gauge,
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

impl AccountMetrics {
    /// `mailweir_upstream_connections{account}`: counted while the guard is held.
    pub fn connection(&self) -> Held {
        Held::new(self.connections.clone())
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
        refusals.get_or_create(&ByMeaning { account: account.clone(), meaning }).inc();
    }

    /// `mailweir_upstream_received_bytes_total{account}`
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// `mailweir_upstream_sent_bytes_total{account}`
    pub fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
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

    /// `mailweir_sends_{used,limit}{account,counted}`: messages and recipients of 24 hours; no limit is written as 0.
    pub fn set_sends(&self, used: (u64, u64), limit: (Option<u64>, Option<u64>)) {
        let [[messages, recipients], [most_messages, most_recipients]] = &self.sends;
        messages.set(signed(used.0));
        recipients.set(signed(used.1));
        most_messages.set(signed(limit.0.unwrap_or(0)));
        most_recipients.set(signed(limit.1.unwrap_or(0)));
    }

    /// `mailweir_needs_login{account}`: 1 while nothing can be had of the provider until its owner has consented anew.
    pub fn set_needs_login(&self, needed: bool) {
        self.needs_login.set(needed.into());
    }

    /// `mailweir_sync_lag_seconds{account}`
    pub fn set_sync_lag(&self, lag: Duration) {
        self.lag.set(lag.as_secs_f64());
    }
}

/// One more on a gauge, as long as it is held.
#[must_use = "counted only while it is held"]
pub struct Held {
    gauge: Gauge,
}

impl Held {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self { gauge }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

fn gauge<L: Clone + std::hash::Hash + Eq>(family: &Family<L, Gauge>, labels: L) -> Gauge {
    family.get_or_create(&labels).clone()
}

fn counter<L: Clone + std::hash::Hash + Eq>(family: &Family<L, Counter>, labels: L) -> Counter {
    family.get_or_create(&labels).clone()
}

/// A label's value as the text format wants it; the library writes it as it is.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_contract() {
        let metrics = Metrics::new();
        let account = metrics.account("ann@example.org");
        let (_session, _connection) = (metrics.session(Protocol::Imap), account.connection());
        account.login(Login::Ok);
        account.refused("web_login");
        account.received(7);
        account.sent(8);
        account.set_download(1, Some(2));
        account.set_upload(3, None);
        account.set_sends((4, 5), (Some(6), None));
        account.set_sync_lag(Duration::from_millis(1500));
        account.set_needs_login(true);
        metrics.body_read(BodyRead::Joined);
        metrics.set_cache_bytes(99);
        metrics.command(Protocol::Imap, "fetch", "ok", Duration::from_millis(3));
        metrics.command(Protocol::Imap, "fetch", "ok", Duration::from_millis(300));
        metrics.pop3_deleted("ann@example.org", "hide", 12);
        let text = metrics.encode();
        let lines = [
            "mailweir_sends_used{account=\"ann@example.org\",counted=\"messages\"} 4",
            "mailweir_sends_used{account=\"ann@example.org\",counted=\"recipients\"} 5",
            "mailweir_sends_limit{account=\"ann@example.org\",counted=\"messages\"} 6",
            "mailweir_sends_limit{account=\"ann@example.org\",counted=\"recipients\"} 0",
            "mailweir_client_sessions{protocol=\"imap\"} 1",
            "mailweir_client_sessions{protocol=\"pop3\"} 0",
            "mailweir_upstream_connections{account=\"ann@example.org\"} 1",
            "mailweir_upstream_logins_total{account=\"ann@example.org\",outcome=\"ok\"} 1",
            "mailweir_upstream_logins_total{account=\"ann@example.org\",outcome=\"refused\"} 0",
            "mailweir_upstream_refusals_total{account=\"ann@example.org\",meaning=\"web_login\"} 1",
            "mailweir_upstream_received_bytes_total{account=\"ann@example.org\"} 7",
            "mailweir_upstream_sent_bytes_total{account=\"ann@example.org\"} 8",
            "mailweir_budget_used_bytes{account=\"ann@example.org\",direction=\"download\"} 1",
            "mailweir_budget_limit_bytes{account=\"ann@example.org\",direction=\"download\"} 2",
            "mailweir_budget_used_bytes{account=\"ann@example.org\",direction=\"upload\"} 3",
            "mailweir_budget_limit_bytes{account=\"ann@example.org\",direction=\"upload\"} 0",
            "mailweir_body_reads_total{outcome=\"hit\"} 0",
            "mailweir_body_reads_total{outcome=\"filled\"} 0",
            "mailweir_body_reads_total{outcome=\"joined\"} 1",
            "mailweir_body_reads_total{outcome=\"refused\"} 0",
            "mailweir_cache_bytes 99",
            "mailweir_sync_lag_seconds{account=\"ann@example.org\"} 1.5",
            "mailweir_needs_login{account=\"ann@example.org\"} 1",
            "mailweir_commands_total{protocol=\"imap\",command=\"fetch\",outcome=\"ok\"} 2",
            "mailweir_command_seconds_count 2",
            "mailweir_pop3_deletions_total{account=\"ann@example.org\",policy=\"hide\"} 12",
            "mailweir_command_seconds_bucket{le=\"+Inf\"} 2",
        ];
        for line in lines {
            assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn guards_give_back_and_accounts_leave() {
        let metrics = Metrics::new();
        drop(metrics.session(Protocol::Smtp));
        assert!(metrics.encode().contains("mailweir_client_sessions{protocol=\"smtp\"} 0\n"));
        let account = metrics.account("bob");
        account.login(Login::Failed);
        assert!(metrics.encode().contains("account=\"bob\""));
        metrics.remove_account("bob");
        assert!(!metrics.encode().contains("bob"));
        account.sent(1);
    }

    #[test]
    fn a_label_cannot_break_out() {
        let metrics = Metrics::new();
        let _account = metrics.account("a\"}\n");
        let text = metrics.encode();
        assert!(text.contains("account=\"a\\\"}\\n\""), "{text}");
    }
}
