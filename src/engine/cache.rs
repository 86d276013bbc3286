//! The account's store as it is used: calls with a deadline, and another store when one has failed.
//!
//! A store whose database failed refuses everything until it is opened anew, which needs that nobody holds it any more. So nobody keeps
//! a [`Store`] but this, each call borrows it for as long as it lasts, and whoever else needs the account's cache asks here. Meanwhile
//! the account serves from the mirror and passes bodies through; afterwards every mailbox is written anew from the mirror.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, sleep, timeout};
use tracing::{error, info, warn};

use super::account::{Inner, LONG_CALL};
use super::mirror::Delta;
use crate::store::{self, Remains, Store, StorePool};

/// Deadline of opening (Law 4): the store's own watchdog ends it after 30 s, and reading a large index comes on top.
const OPEN_WITHIN: Duration = Duration::from_secs(120);
/// Between two attempts to open a store that failed: soon at first, since its last users let go within moments; a disk that stays
/// broken is tried now and then.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MOST: Duration = Duration::from_secs(600);

/// One account's store. Clones are the same store.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    threads: StorePool,
    now: Mutex<Now>,
    /// Told when the store is found to have failed.
    failed: Notify,
}

enum Now {
    Open(Store),
    Lost(Arc<Remains>),
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("open", &self.store().is_some()).finish()
    }
}

impl Cache {
    /// Around a store that nobody else holds.
    pub fn new(store: Store, threads: StorePool) -> Self {
        Self { shared: Arc::new(Shared { threads, now: Mutex::new(Now::Open(store)), failed: Notify::new() }) }
    }

    /// Runs a call on the bounded store pool (Law 4). The call must not keep a clone of what it is given.
    ///
    /// # Errors
    /// [`store::Error::Failed`] if there is no store now, or it does not answer in time.
    pub async fn run<T, F>(&self, deadline: Duration, call: F) -> Result<T, store::Error>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> T + Send + 'static,
    {
        let store = self.borrow()?;
        let done = self.shared.threads.run_within(deadline, move || call(&store)).await;
        self.notice();
        done
    }

    /// The same for work that takes long and that nobody waits for, see [`StorePool::run_apart`].
    pub async fn run_apart<T, F>(&self, deadline: Duration, call: F) -> Result<T, store::Error>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> T + Send + 'static,
    {
        let store = self.borrow()?;
        let done = self.shared.threads.run_apart(deadline, move || call(&store)).await;
        self.notice();
        done
    }

    /// Octets on disk, as far as is known now.
    pub fn disk_bytes(&self) -> u64 {
        self.store().map_or(0, |store| store.disk_bytes())
    }

    /// Whether there is a store at all now.
    pub fn is_open(&self) -> bool {
        matches!(&*self.now(), Now::Open(_))
    }

    fn borrow(&self) -> Result<Store, store::Error> {
        self.store().ok_or_else(|| store::Error::Failed("it is being opened again".into()))
    }

    fn store(&self) -> Option<Store> {
        match &*self.now() {
            Now::Open(store) => Some(store.clone()),
            Now::Lost(_) => None,
        }
    }

    /// Sees whether the store has failed, and has it opened again if so.
    fn notice(&self) {
        if matches!(&*self.now(), Now::Open(store) if store.has_failed()) {
            self.shared.failed.notify_one();
        }
    }

    /// Lets go of a store that has failed; what is needed to open it again.
    fn let_go(&self) -> Option<Arc<Remains>> {
        let mut now = self.now();
        let remains = match &*now {
            Now::Lost(remains) => return Some(Arc::clone(remains)),
            Now::Open(store) => Arc::new(store.remains()?),
        };
        let failed = std::mem::replace(&mut *now, Now::Lost(Arc::clone(&remains)));
        drop(now);
        // Closing a database waits for its disk.
        drop(tokio::task::spawn_blocking(move || drop(failed)));
        Some(remains)
    }

    async fn open_again(&self, remains: &Arc<Remains>) -> Result<Store, store::Error> {
        let remains = Arc::clone(remains);
        self.shared.threads.run_apart(OPEN_WITHIN, move || remains.open()).await.and_then(|opened| opened)
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.shared.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Opens the store again whenever it has failed, for as long as the account runs.
    pub(super) async fn mend_cache(self: Arc<Self>) {
        loop {
            // Asked before it is waited for: it may have failed under an account that was restarted since.
            let Some(remains) = self.disk.cache.let_go() else {
                self.disk.cache.shared.failed.notified().await;
                continue;
            };
            error!(account = %self.label(), "the cache has failed: going on without it until it is opened again");
            let mut pause = AGAIN;
            let store = loop {
                match self.disk.cache.open_again(&remains).await {
                    Ok(store) => break store,
                    Err(failure) => {
                        warn!(account = %self.label(), %failure, again_in = ?pause, "the cache cannot be opened again now")
                    }
                }
                sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MOST);
            };
            let was_reset = store.was_reset() || store.is_new();
            // First the mark, then the store: a commit that finds the store writes all of the mailbox into it.
            self.states().iter().for_each(|state| state.set_store_lost());
            *self.disk.cache.now() = Now::Open(store);
            info!(account = %self.label(), was_reset, "the cache is open again");
            self.write_anew().await;
        }
    }

    /// Writes the list and all mailboxes to a store that lacks them.
    async fn write_anew(self: &Arc<Self>) {
        self.keep_folders().await;
        for state in self.states() {
            if state.id().is_transient() {
                // Opened while there was no store. A failure is told by `disk`: it stays without one.
                let name = state.name.to_string();
                if let Ok(id) = self.disk(move |store| store.mailbox_id(&name)).await {
                    state.set_id(id);
                    // What was committed without one is nowhere.
                    state.set_store_lost();
                }
            }
            // Who holds it for so long commits in the end, and writes everything then.
            if let Ok(mut turn) = timeout(LONG_CALL, state.turn.lock()).await {
                self.commit(&state, &mut turn, Delta::default(), None).await;
            }
        }
    }
}
