//! What the daemon counts about itself, in the text formats Prometheus reads.
//!
//! The names are part of the contract (design §3); `config/prometheus/metrics.md` lists all of them with unit and labels, and a test holds
//! it against what a busy daemon exposes. Counters and gauges are atomics behind handles: an account's are looked up once
//! ([`Metrics::account`]) and kept by its engine, and a session's gauge comes back by itself when its guard is dropped. A command's counter
//! is found under a read lock that is only ever held for writing when a combination of labels is seen for the first time.
//!
//! `account`: what is counted of each account · `labels`: their names and values · `process`: what every program tells of itself ·
//! `spans`: those sent to a collector · `text`: the two formats.

mod account;
mod labels;
mod outbox;
mod process;
mod spans;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use account::{AccountMetrics, CLASSES, CacheError, Login, REFUSALS, STATES, Sent};
pub use labels::{AccountLabels, account_id};
pub use outbox::{Attempt, OutboxMetrics};
pub use spans::{SpanMetrics, spans};
pub use text::{OPEN_METRICS, PLAIN, takes_open_metrics};

use labels::{ByAction, ByCertificate, ByClass, ByCommand, ByOutcome, ByProtocol, ByVersion};

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

/// Every metric of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    all: Arc<All>,
}

struct All {
    registry: Registry,
    names: AccountLabels,
    process: process::Process,
    of_accounts: account::Families,
    outbox: outbox::Families,
    accounts: Gauge,
    client_sessions: Family<ByProtocol, Gauge>,
    body_reads: [Counter; 4],
    cache_bytes: Gauge,
    cache_limit_bytes: Gauge,
    commands: Family<ByCommand, Counter>,
    command_seconds: Histogram,
    lease_seconds: [Histogram; 5],
    certificates: Family<ByCertificate, Gauge>,
    reloaded: Gauge,
    audit_records: Family<ByAction, Counter>,
    audit_errors: Counter,
    audit_turn_errors: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(AccountLabels::default())
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(names: AccountLabels) -> Self {
        let mut registry = Registry::default();
        let process = process::Process::registered(&mut registry);
        let ours = registry.sub_registry_with_prefix("mailweir");
        let build = Info::new(ByVersion { version: env!("CARGO_PKG_VERSION") });
        ours.register("build", "The program that runs", build);
        let of_accounts = account::Families::default();
        of_accounts.register(ours);
        let outbox = outbox::Families::default();
        outbox.register(ours);
        let body_reads = Family::<ByOutcome, Counter>::default();
        // 100 µs, a session at rest, to 26 s; nobody waits much longer.
        let waits = || Histogram::new(exponential_buckets(0.000_1, 4.0, 10));
        let lease_seconds = Family::<ByClass, Histogram>::new_with_constructor(waits);
        let mut all = All {
            registry: Registry::default(),
            names,
            process,
            of_accounts,
            outbox,
            accounts: Gauge::default(),
            client_sessions: Family::default(),
            body_reads: BodyRead::ALL
                .map(|read| body_reads.get_or_create(&ByOutcome { outcome: read.as_str() }).clone()),
            cache_bytes: Gauge::default(),
            cache_limit_bytes: Gauge::default(),
            commands: Family::default(),
            // 100 µs, a flag from memory, to 26 s, a large message over a slow line.
            command_seconds: waits(),
            lease_seconds: CLASSES.map(|class| lease_seconds.get_or_create(&ByClass { class }).clone()),
            certificates: Family::default(),
            reloaded: Gauge::default(),
            audit_records: Family::default(),
            audit_errors: Counter::default(),
            audit_turn_errors: Counter::default(),
        };
        for protocol in [Protocol::Imap, Protocol::Pop3, Protocol::Smtp] {
            drop(all.client_sessions.get_or_create(&ByProtocol { protocol: protocol.as_str() }));
        }
        all.reloaded.set(1);
        // `_total` is added to counters when they are written.
        ours.register("accounts", "Accounts that are served", all.accounts.clone());
        ours.register("client_sessions", "Client connections now", all.client_sessions.clone());
        ours.register("body_reads", "Messages read, by where they came from", body_reads);
        ours.register("cache_bytes", "Bytes the cache takes on disk", all.cache_bytes.clone());
        ours.register("cache_limit_bytes", "Bytes the cache may take", all.cache_limit_bytes.clone());
        ours.register("commands", "Commands answered", all.commands.clone());
        ours.register("command_seconds", "Seconds from a command to its answer", all.command_seconds.clone());
        let help = "Seconds that work waited for a connection to the provider";
        ours.register("upstream_wait_seconds", help, lease_seconds);
        let help = "Ends of the certificates that mail programs see, as Unix time";
        ours.register("certificate_expiry_timestamp_seconds", help, all.certificates.clone());
        let help = "1 if the configuration was taken over when it was read last";
        ours.register("config_last_reload_successful", help, all.reloaded.clone());
        let help = "Writes that can make mail disappear, by what they were and how they ended";
        ours.register("audit_records", help, all.audit_records.clone());
        let help = "Records of the audit trail that could not be written";
        ours.register("audit_errors", help, all.audit_errors.clone());
        spans().register(ours);
        let help = "Times that a full file of the audit trail could not be put away";
        ours.register("audit_rotation_errors", help, all.audit_turn_errors.clone());
        all.registry = registry;
        Self { all: Arc::new(all) }
    }

    /// OpenMetrics 1.0 ([`OPEN_METRICS`]).
    pub fn encode(&self) -> String {
        self.all.process.refresh();
        let mut text = String::new();
        // Writing to a string fails for nobody but a faulty formatter; then what is there is still right.
        if let Err(error) = encode(&mut text, &self.all.registry) {
            tracing::error!(%error, "cannot write the metrics");
        }
        text
    }

    /// Prometheus' own text ([`PLAIN`]), for who does not ask for the other.
    pub fn encode_plain(&self) -> String {
        text::plain(&self.encode())
    }

    /// `mailweir_accounts`
    pub fn set_accounts(&self, count: usize) {
        self.all.accounts.set(signed(count as u64));
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

    /// `mailweir_cache_bytes`: what all accounts' caches take on disk; `mailweir_cache_limit_bytes`: what they may.
    pub fn set_cache_bytes(&self, bytes: u64, limit: u64) {
        self.all.cache_bytes.set(signed(bytes));
        self.all.cache_limit_bytes.set(signed(limit));
    }

    /// `mailweir_pop3_deletions_total{account,policy}`: messages deleted over POP3; the policy is one of `pop3.on_dele`.
    pub fn pop3_deleted(&self, account: &str, policy: &'static str, messages: u64) {
        self.all.of_accounts.pop3_deleted(self.all.names.of(account), policy, messages);
    }

    /// `mailweir_commands_total{protocol,command,outcome}` and `mailweir_command_seconds`. The command is a name of
    /// ours ("fetch", "unknown"), the outcome the kind of answer ("ok", "no", "bad").
    pub fn command(&self, protocol: Protocol, command: &'static str, outcome: &'static str, took: Duration) {
        let labels = ByCommand { protocol: protocol.as_str(), command, outcome };
        self.all.commands.get_or_create(&labels).inc();
        self.all.command_seconds.observe(took.as_secs_f64());
    }

    /// `mailweir_certificate_expiry_timestamp_seconds{certificate}`: `server` and `authority`.
    pub fn set_certificate(&self, certificate: &'static str, ends: i64) {
        self.all.certificates.get_or_create(&ByCertificate { certificate }).set(ends);
    }

    /// `mailweir_config_last_reload_successful`
    pub fn set_reloaded(&self, done: bool) {
        self.all.reloaded.set(done.into());
    }

    /// `mailweir_audit_records_total{action,outcome}`
    pub fn audited(&self, action: &'static str, outcome: &'static str) {
        self.all.audit_records.get_or_create(&ByAction { action, outcome }).inc();
    }

    /// `mailweir_audit_errors_total`
    pub fn audit_failed(&self) {
        self.all.audit_errors.inc();
    }

    /// `mailweir_audit_rotation_errors_total`
    pub fn audit_not_turned(&self) {
        self.all.audit_turn_errors.inc();
    }

    /// The handles of an account, by the name it has in the configuration.
    pub fn account(&self, account: &str) -> AccountMetrics {
        self.all.of_accounts.handles(&self.all.names.of(account), self.all.lease_seconds.clone())
    }

    /// Forgets an account that has left the configuration.
    pub fn remove_account(&self, account: &str) {
        let account = self.all.names.of(account);
        self.all.of_accounts.remove(&account);
        self.all.outbox.remove(&account);
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

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
