//! Calls on the disk an account is kept on, bounded (Law 4); and what is wrong with it: found by whoever meets it, and looked at again until
//! it is mended.
//!
//! Mail is served all the same, from the mirror and what was cached; but nothing more is kept, and whoever runs this must know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Duration, sleep};
use tracing::{error, info, warn};

use super::account::Inner;
use super::error::Error;
use crate::metrics::CacheError;
use crate::state;
use crate::store::{self, Store};

/// Deadline of a call about a message or a batch (Law 4).
const QUICK_CALL: Duration = Duration::from_secs(5);
/// Free space is asked for this often at least: one call of the system.
const LOOK: Duration = Duration::from_secs(15);
/// What is written to the durable state to see whether it takes anything again.
const PROBE: &str = "probe";

/// Two ills, each until it is seen to be mended.
#[derive(Default)]
pub(super) struct Ills {
    /// No room for the cache above its reserve.
    full: AtomicBool,
    /// The durable state did not take or give something.
    unkept: AtomicBool,
}

impl Ills {
    /// Whether it was otherwise before.
    pub(super) fn set_full(&self, full: bool) -> bool {
        self.full.swap(full, Ordering::Relaxed) != full
    }

    pub(super) fn set_unkept(&self, unkept: bool) {
        self.unkept.store(unkept, Ordering::Relaxed);
    }

    /// For a reader; nothing when all is well.
    pub(super) fn words(&self, cache_is_open: bool) -> Option<String> {
        let words = if self.unkept.load(Ordering::Relaxed) {
            "the disk does not take what cannot be fetched again (data_dir); see the log"
        } else if self.full.load(Ordering::Relaxed) {
            "the disk is nearly full: nothing more is cached; make room on the disk of data_dir"
        } else if !cache_is_open {
            "the cache has failed and is being opened again; see the log"
        } else {
            return None;
        };
        Some(words.into())
    }
}

impl Inner {
    /// Runs a call on the bounded store pool (Law 4). What fails is logged here, once.
    pub(crate) async fn disk<T, F>(&self, call: F) -> Result<T, store::Error>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, store::Error> + Send + 'static,
    {
        self.disk_within(QUICK_CALL, call).await
    }

    /// The same for what may take longer than somebody waits for a message: writing or forgetting a whole mailbox, eviction.
    pub(crate) async fn disk_within<T, F>(&self, deadline: Duration, call: F) -> Result<T, store::Error>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, store::Error> + Send + 'static,
    {
        let was_open = self.disk.cache.is_open();
        let done = self.disk.cache.run(deadline, call).await.and_then(|done| done);
        match &done {
            // Told when it failed.
            Err(_) if !was_open => {}
            Err(store::Error::Full) => {
                self.counts.cache_error(CacheError::Full);
                self.ills.set_full(true);
                warn!(account = %self.label(), "the disk is nearly full: nothing more is cached");
            }
            Err(failure) => {
                self.counts.cache_error(CacheError::Failed);
                error!(account = %self.label(), %failure, "the cache failed: going on without it");
            }
            Ok(_) => {}
        }
        done
    }

    /// Runs a call on the durable state, given the account's name there (Law 4). What it changed is on the disk when this returns; what fails
    /// is logged here, once.
    pub(crate) async fn durable<T, F>(&self, call: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&state::State, &str) -> Result<T, state::Error> + Send + 'static,
    {
        self.durable_within(QUICK_CALL, call).await
    }

    /// The same for what concerns a whole mailbox.
    pub(crate) async fn durable_within<T, F>(&self, deadline: Duration, call: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&state::State, &str) -> Result<T, state::Error> + Send + 'static,
    {
        let (state, account) = (self.disk.state.clone(), self.options.address.to_ascii_lowercase());
        let failure = match self.disk.threads.run_within(deadline, move || call(&state, &account)).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(failure)) => failure.to_string(),
            Err(failure) => failure.to_string(),
        };
        self.counts.state_error();
        self.ills.set_unkept(true);
        error!(account = %self.label(), %failure, "the durable state failed");
        Err(Error::Internal("What is to be kept cannot be kept; see the log".into()))
    }

    /// Looks whether there is room on the disk, for as long as the account runs.
    pub(super) async fn watch_disk(self: Arc<Self>) {
        let pause = LOOK.min(self.options.refresh / 3);
        loop {
            match self.disk.cache.run(QUICK_CALL, Store::room).await.and_then(|room| room) {
                Ok(()) => {
                    if self.ills.set_full(false) {
                        info!(account = %self.label(), "there is room on the disk again");
                    }
                }
                Err(store::Error::Full) => {
                    if self.ills.set_full(true) {
                        self.counts.cache_error(CacheError::Full);
                        warn!(account = %self.label(), "the disk is nearly full: nothing more is cached");
                    }
                }
                // Told by who opens it again.
                Err(_) => {}
            }
            // A disk without trouble is not written to for the sake of a look.
            if self.ills.unkept.load(Ordering::Relaxed) {
                let probe = |state: &state::State, account: &str| state.set_value(PROBE, Some(account.as_bytes()));
                if self.durable(probe).await.is_ok() {
                    self.ills.set_unkept(false);
                    info!(account = %self.label(), "the durable state takes what it is given again");
                }
            }
            sleep(pause).await;
        }
    }
}
