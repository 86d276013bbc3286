//! What waits to be sent, and what has become of it.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::account::get;
use super::labels::{ByAccount, ByAccountOutcome};
use super::{Metrics, signed};

/// The metrics of all outboxes.
#[derive(Clone, Default)]
pub(super) struct Families {
    messages: Family<ByAccount, Gauge>,
    attempts: Family<ByAccountOutcome, Counter>,
    failures: Family<ByAccountOutcome, Counter>,
    doubts: Family<ByAccountOutcome, Counter>,
    stranded: Family<ByAccountReason, Gauge>,
    /// The accounts told of as not configured.
    strays: Arc<Mutex<Vec<String>>>,
}

/// `reason` is one of [`NO_SERVER`] and [`NO_ACCOUNT`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAccountReason {
    account: String,
    reason: &'static str,
}

/// The account has no server for sending any more.
const NO_SERVER: &str = "no_server";
/// The account is not configured any more.
const NO_ACCOUNT: &str = "no_account";

const ATTEMPTS: [&str; 4] = ["sent", "later", "refused", "doubt"];
const FAILURES: [&str; 2] = ["told", "untold"];
const DOUBTS: [&str; 2] = ["found", "again"];

impl Families {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("outbox_messages", "Messages that wait to be sent", self.messages.clone());
        to.register("outbox_attempts", "Tries to send a waiting message, by what came of it", self.attempts.clone());
        to.register(
            "outbox_failures",
            "Waiting messages given up for some recipient, by whether the sender is told",
            self.failures.clone(),
        );
        to.register(
            "outbox_doubts",
            "Messages of which it was not known whether they had been sent: found at the provider, or sent again",
            self.doubts.clone(),
        );
        to.register(
            "outbox_stranded",
            "Messages that wait and that nobody sends until the configuration is mended, by what it lacks",
            self.stranded.clone(),
        );
    }

    pub(super) fn remove(&self, account: &str) {
        self.messages.remove(&ByAccount { account: account.into() });
        for reason in [NO_SERVER, NO_ACCOUNT] {
            self.stranded.remove(&ByAccountReason { account: account.into(), reason });
        }
        let families = [(&self.attempts, &ATTEMPTS[..]), (&self.failures, &FAILURES), (&self.doubts, &DOUBTS)];
        for (family, outcomes) in families {
            for outcome in outcomes {
                family.remove(&ByAccountOutcome { account: account.into(), outcome });
            }
        }
    }
}

/// How a try to send a waiting message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    Sent,
    Later,
    Refused,
    /// The provider was lost before it answered.
    Doubt,
}

/// One account's, looked up once. Cheap to clone.
#[derive(Clone)]
pub struct OutboxMetrics {
    messages: Gauge,
    stranded: Gauge,
    attempts: [Counter; 4],
    failures: [Counter; 2],
    doubts: [Counter; 2],
}

impl Metrics {
    /// The handles of an account's outbox.
    pub fn outbox(&self, account: &str) -> OutboxMetrics {
        let (families, account) = (&self.all.outbox, self.all.names.of(account));
        let by = |outcome| ByAccountOutcome { account: account.clone(), outcome };
        OutboxMetrics {
            messages: get(&families.messages, ByAccount { account: account.clone() }),
            stranded: get(&families.stranded, ByAccountReason { account: account.clone(), reason: NO_SERVER }),
            attempts: ATTEMPTS.map(|outcome| get(&families.attempts, by(outcome))),
            failures: FAILURES.map(|outcome| get(&families.failures, by(outcome))),
            doubts: DOUBTS.map(|outcome| get(&families.doubts, by(outcome))),
        }
    }
}

impl Metrics {
    /// `mailweir_outbox_stranded{account,reason="no_account"}`: what waits for accounts that are not configured, all of them.
    pub fn set_strays(&self, strays: &[(&str, u64)]) {
        let (families, names) = (&self.all.outbox, &self.all.names);
        let mut told = families.strays.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in told.drain(..) {
            families.stranded.remove(&ByAccountReason { account: gone, reason: NO_ACCOUNT });
        }
        for (account, messages) in strays {
            let account = names.of(account);
            get(&families.stranded, ByAccountReason { account: account.clone(), reason: NO_ACCOUNT })
                .set(signed(*messages));
            told.push(account);
        }
    }
}

impl OutboxMetrics {
    /// `mailweir_outbox_messages{account}`; and `mailweir_outbox_stranded{account,reason="no_server"}` where nobody sends them.
    pub fn set_messages(&self, messages: u64, are_sent: bool) {
        self.messages.set(signed(messages));
        self.stranded.set(if are_sent { 0 } else { signed(messages) });
    }

    /// `mailweir_outbox_attempts_total{account,outcome="sent|later|refused|doubt"}`
    pub fn attempt(&self, attempt: Attempt) {
        let [sent, later, refused, doubt] = &self.attempts;
        match attempt {
            Attempt::Sent => sent.inc(),
            Attempt::Later => later.inc(),
            Attempt::Refused => refused.inc(),
            Attempt::Doubt => doubt.inc(),
        };
    }

    /// `mailweir_outbox_failures_total{account,outcome="told|untold"}`: whether a notification is made.
    pub fn failed(&self, is_told: bool) {
        let [told, untold] = &self.failures;
        if is_told {
            told.inc()
        } else {
            untold.inc()
        };
    }

    /// `mailweir_outbox_doubts_total{account,outcome="found|again"}`
    pub fn doubt(&self, is_found: bool) {
        let [found, again] = &self.doubts;
        if is_found {
            found.inc()
        } else {
            again.inc()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_leaving() {
        let metrics = Metrics::new(super::super::AccountLabels::Address);
        let outbox = metrics.outbox("ann");
        outbox.set_messages(3, false);
        metrics.set_strays(&[("bob", 2)]);
        outbox.attempt(Attempt::Doubt);
        outbox.failed(true);
        outbox.doubt(false);
        let text = metrics.encode();
        for line in [
            "mailweir_outbox_messages{account=\"ann\"} 3",
            "mailweir_outbox_stranded{account=\"ann\",reason=\"no_server\"} 3",
            "mailweir_outbox_stranded{account=\"bob\",reason=\"no_account\"} 2",
            "mailweir_outbox_attempts_total{account=\"ann\",outcome=\"doubt\"} 1",
            "mailweir_outbox_failures_total{account=\"ann\",outcome=\"told\"} 1",
            "mailweir_outbox_doubts_total{account=\"ann\",outcome=\"again\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
        }
        outbox.set_messages(3, true);
        assert!(metrics.encode().contains("{account=\"ann\",reason=\"no_server\"} 0"));
        metrics.set_strays(&[]);
        assert!(!metrics.encode().contains("account=\"bob\""));
        metrics.remove_account("ann");
        assert!(!metrics.encode().contains("account=\"ann\""));
    }
}
