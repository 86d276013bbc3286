//! What an account is doing, as its metrics.

use super::Running;
use crate::daemon::status::Reading;

impl Running {
    /// Brings up to date what is only counted when somebody asks.
    pub(in crate::daemon) fn refresh_metrics(&self) {
        self.spending.refresh_metrics();
        let (metrics, status) = (self.spending.metrics(), self.status());
        metrics.set_sync_lag(self.account.upstream_seen().unwrap_or_else(|| self.began.elapsed()));
        metrics.set_connections_limit(status.connections_allowed);
        metrics.set_reachable(status.is_reached());
        metrics.set_needs_login(status.needs_login.is_some() || self.account.refused().is_some());
        metrics.set_state(status.state(self.account.refused().is_some()));
        let sum = |count: fn(&Reading) -> u64| status.readings.iter().map(count).sum::<u64>();
        let reading = (sum(|reading| reading.messages), sum(|reading| reading.of));
        metrics.set_first_sync(reading.0, reading.1);
    }
}
