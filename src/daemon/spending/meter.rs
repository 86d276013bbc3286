//! What one account spends, told to its metrics.

use super::Spending;
use crate::budget::{self, Direction};

impl Spending {
    /// Brings the metrics of the budget up to date.
    pub(in crate::daemon) fn refresh_metrics(&self) {
        let (used, limit) = self.used(Direction::Download);
        self.metrics.set_download(used, limit);
        let (used, limit) = self.used(Direction::Upload);
        self.metrics.set_upload(used, limit);
        let (used, limits) = self.sent_today();
        self.metrics.set_sends(used, (limits.messages_per_day, limits.recipients_per_day));
        let [prefetch, bulk] = [budget::Class::Prefetch, budget::Class::Bulk].map(|class| self.budget.stops_at(class));
        self.metrics.set_shares([prefetch, self.budget.slow_from(), bulk].map(Option::unwrap_or_default));
    }
}
