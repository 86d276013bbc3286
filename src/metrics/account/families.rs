//! The families with the label `account`: their names and help, an account's handles, and their end.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{
    AccountMetrics, CACHE_ERRORS, CLASSES, COUNTED, DIRECTIONS, OUTCOMES, POLICIES, REFUSALS, SHARES, STATES, Seconds,
};
use crate::metrics::labels::{
    ByAccount, ByAccountClass, ByAccountCounted, ByAccountDirection, ByAccountKind, ByAccountMeaning, ByAccountOutcome,
    ByAccountPolicy, ByAccountShare, ByAccountState,
};

/// The families with the label `account`.
#[derive(Default)]
pub(in crate::metrics) struct Families {
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
    pub(in crate::metrics) fn register(&self, to: &mut Registry) {
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
    pub(in crate::metrics) fn handles(&self, account: &str, waits: [Histogram; 5]) -> AccountMetrics {
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

    pub(in crate::metrics) fn pop3_deleted(&self, account: String, policy: &'static str, messages: u64) {
        get(&self.pop3_deletions, ByAccountPolicy { account, policy }).inc_by(messages);
    }

    /// Forgets an account. Handles that are still held count into nothing.
    pub(in crate::metrics) fn remove(&self, account: &str) {
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

pub(in crate::metrics) fn get<L: Clone + std::hash::Hash + Eq, M: Default + Clone>(
    family: &Family<L, M>,
    labels: L,
) -> M {
    family.get_or_create(&labels).clone()
}
