//! What waits to be sent, and what has become of it.

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
}

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
    }

    pub(super) fn remove(&self, account: &str) {
        self.messages.remove(&ByAccount { account: account.into() });
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
            attempts: ATTEMPTS.map(|outcome| get(&families.attempts, by(outcome))),
            failures: FAILURES.map(|outcome| get(&families.failures, by(outcome))),
            doubts: DOUBTS.map(|outcome| get(&families.doubts, by(outcome))),
        }
    }
}

impl OutboxMetrics {
    /// `mailweir_outbox_messages{account}`
    pub fn set_messages(&self, messages: u64) {
        self.messages.set(signed(messages));
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
        outbox.set_messages(3);
        outbox.attempt(Attempt::Doubt);
        outbox.failed(true);
        outbox.doubt(false);
        let text = metrics.encode();
        for line in [
            "mailweir_outbox_messages{account=\"ann\"} 3",
            "mailweir_outbox_attempts_total{account=\"ann\",outcome=\"doubt\"} 1",
            "mailweir_outbox_failures_total{account=\"ann\",outcome=\"told\"} 1",
            "mailweir_outbox_doubts_total{account=\"ann\",outcome=\"again\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
        }
        metrics.remove_account("ann");
        assert!(!metrics.encode().contains("account=\"ann\""));
    }
}
