//! Messages that wait for an account the configuration does not know any more: nobody sends them, and nobody loses them either. They are told
//! of in the log, in the status and by a metric, until the account is back or somebody drops them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::daemon::accounts::Context;
use crate::daemon::status::Stray;
use crate::state::OutboxSum;

/// What `mailweir outbox` has dropped is seen after this; the configuration's changes at once.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What was found last.
#[derive(Default)]
pub(in crate::daemon) struct Strays {
    found: Mutex<Vec<OutboxSum>>,
}

impl Strays {
    /// Looks now and then until `stop`, at first at once.
    pub(in crate::daemon) async fn watch(
        self: Arc<Self>,
        context: Context,
        configured: impl Fn() -> Vec<String> + Send,
        stop: CancellationToken,
    ) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.look(&context, &configured()).await;
        }
    }

    /// Looks, and warns of what is new.
    pub(in crate::daemon) async fn look(&self, context: &Context, configured: &[String]) {
        let state = context.state.clone();
        let sums = match context.threads.run(move || state.outbox_sums()).await {
            Ok(Ok(sums)) => sums,
            Ok(Err(error)) => return error!(%error, "the outbox cannot be read"),
            Err(error) => return error!(%error, "the outbox cannot be read"),
        };
        let known: Vec<String> = configured.iter().map(|address| crate::daemon::spending::key(address)).collect();
        let strays: Vec<OutboxSum> = sums.into_iter().filter(|sum| !known.contains(&sum.account)).collect();
        context.metrics.set_strays(&strays.iter().map(|sum| (sum.account.as_str(), sum.rows)).collect::<Vec<_>>());
        let before = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *found, strays.clone())
        };
        for stray in strays.iter().filter(|stray| !before.contains(stray)) {
            warn!(account = stray.account, "{}", told(stray, SystemTime::now()).words());
        }
    }

    pub(in crate::daemon) fn status(&self) -> Vec<Stray> {
        let now = SystemTime::now();
        self.found.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|sum| told(sum, now)).collect()
    }
}

fn told(sum: &OutboxSum, now: SystemTime) -> Stray {
    Stray {
        account: sum.account.clone(),
        messages: sum.rows,
        octets: sum.octets,
        oldest_seconds: now.duration_since(sum.oldest).unwrap_or_default().as_secs(),
    }
}
