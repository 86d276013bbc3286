//! What goes on as long as an account does: its count is saved, its cache marked and swept.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::{Disk, SWEEP_DEADLINE};
use crate::daemon::spending::{self, Spending};
use crate::daemon::{marker, problems};
use crate::engine::Account;
use crate::state::{self, State};
use crate::store::Store;

/// How often an account's keeper looks whether something is to be saved.
const TICK: Duration = Duration::from_secs(1);
/// How often the cache is marked as being so far, while anything comes in: a flush of the disk.
const MARK_EVERY: Duration = Duration::from_secs(60);
/// How often the cache is swept.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);
/// The first sweep: not while everything is read for the first time.
const SWEEP_FIRST: Duration = Duration::from_secs(3600);
/// A mark is a flush of the disk.
const MARK_DEADLINE: Duration = Duration::from_secs(5);
/// In step: upstream has answered within this time.
const IN_STEP: Duration = Duration::from_secs(660);

/// What goes on as long as the account does. The count waits for nothing else: nobody reads or sends beyond it.
pub(super) async fn keep(account: Account, spending: Arc<Spending>, disk: Disk) {
    tokio::join!(keep_count(&account, &spending, &disk), tend_cache(&account, &spending, &disk));
}

/// Marks the cache as it goes on, and sweeps it now and then.
async fn tend_cache(account: &Account, spending: &Arc<Spending>, disk: &Disk) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut marked = (Instant::now(), spending.recorded());
    let mut sweep_at = Instant::now() + SWEEP_FIRST;
    loop {
        let now = ticks.tick().await;
        let recorded = spending.recorded();
        if recorded != marked.1 && now.saturating_duration_since(marked.0) >= MARK_EVERY {
            mark(account, disk).await;
            marked = (now, recorded);
        }
        if now >= sweep_at && account.upstream_seen().is_some_and(|since| since <= IN_STEP) {
            sweep(account).await;
            sweep_at = now + SWEEP_EVERY;
        }
    }
}

/// Saves the count as it goes on, and looks what is wrong.
async fn keep_count(account: &Account, spending: &Arc<Spending>, disk: &Disk) {
    spending.begin();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = problems::Watch::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = spending.save_wanted() => {
                if !save(spending, disk).await {
                    account.state_failed();
                    // Who waits for the count asks again at once: a disk that fails is not asked without end.
                    tokio::time::sleep(TICK).await;
                }
                continue;
            }
        }
        watch.look(wrong(account), spending.problems());
        if spending.is_save_due() && !save(spending, disk).await {
            account.state_failed();
        }
    }
}

/// What is wrong with an account at this moment, in words.
fn wrong(account: &Account) -> [Option<String>; 3] {
    // What needs the user says what the fault says, and more.
    let stopped = account.alert().map(|words| words.to_string()).or_else(|| account.notice());
    let fault = account.upstream_fault().filter(|_| stopped.is_none());
    let cache = (!account.cache().is_open()).then(|| "The cache on disk fails: going on without it".to_owned());
    [stopped, fault, cache]
}

/// Whether the count is on the disk.
async fn save(spending: &Arc<Spending>, disk: &Disk) -> bool {
    save_by(spending, disk, Spending::save).await
}

/// The same for good: nothing more is spent.
pub(super) async fn save_end(spending: &Arc<Spending>, disk: &Disk) {
    save_by(spending, disk, Spending::save_end).await;
}

async fn save_by(spending: &Arc<Spending>, disk: &Disk, by: fn(&Spending, &State) -> Result<(), state::Error>) -> bool {
    let (counted, state) = (Arc::clone(spending), disk.state.clone());
    // A busy store is no reason to hold up what waits for the count.
    let saved = disk.threads.run_at_once(move || by(&counted, &state)).await;
    match &saved {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(?spending, %error, "the count of bytes cannot be saved"),
        Err(error) => warn!(?spending, %error, "the count of bytes cannot be saved"),
    }
    matches!(saved, Ok(Ok(())))
}

pub(super) async fn mark(account: &Account, disk: &Disk) {
    let (state, key) = (disk.state.clone(), spending::key(account.address()));
    let marked = account.cache().run(MARK_DEADLINE, move |store| marker::advance(store, &state, &key)).await;
    match marked {
        Ok(Ok(())) => {}
        // The older mark stands: what came after it is not guarded, and nothing is told wrong.
        Ok(Err(error)) => warn!(account = account.address(), %error, "the cache cannot be marked"),
        Err(error) => warn!(account = account.address(), %error, "the cache cannot be marked"),
    }
}

async fn sweep(account: &Account) {
    let swept = account.cache().run_apart(SWEEP_DEADLINE, Store::sweep).await;
    match swept.and_then(|done| done) {
        Ok(swept) => info!(account = account.address(), ?swept, "the cache was swept"),
        Err(error) => warn!(account = account.address(), %error, "the cache cannot be swept"),
    }
}
