//! What one account spends, told to its metrics.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::Spending;
use crate::budget::{self, Direction};
use crate::metrics::Login;
use crate::upstream::{Class, Meaning, Meter, Outcome};

impl Spending {
    /// Brings the metrics of the budget up to date.
    pub(in crate::daemon) fn refresh_metrics(&self) {
        let (used, limit) = self.used(Direction::Download);
        self.metrics.set_download(used, limit);
        let (used, limit) = self.used(Direction::Upload);
        self.metrics.set_upload(used, limit);
        let [prefetch, bulk] = [budget::Class::Prefetch, budget::Class::Bulk].map(|class| self.budget.stops_at(class));
        self.metrics.set_shares([prefetch, self.budget.slow_from(), bulk].map(Option::unwrap_or_default));
    }
}

impl Meter for Spending {
    fn received(&self, octets: u64) {
        self.record(Direction::Download, octets);
        self.metrics.received(octets);
    }

    fn sent(&self, octets: u64) {
        self.record(Direction::Upload, octets);
        self.metrics.sent(octets);
    }

    fn login(&self, outcome: Outcome) {
        self.metrics.login(match outcome {
            Outcome::Ok => Login::Ok,
            Outcome::Refused | Outcome::Limited => Login::Refused,
            Outcome::Failed => Login::Failed,
        });
    }

    fn refused(&self, meaning: Meaning) {
        self.metrics.refused(meaning.as_str());
        self.problems.meant(meaning, SystemTime::now());
    }

    fn connections(&self, open: usize) {
        self.open.store(open, Ordering::Relaxed);
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.resize_with(open, || self.metrics.connection());
    }

    fn waiting(&self, waiting: [usize; 5]) {
        self.metrics.set_waiting(waiting);
    }

    fn waited(&self, class: Class, took: Duration) {
        self.metrics.waited(class.index(), took);
    }
}
