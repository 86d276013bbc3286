//! Permits for upstream connections, given back on drop.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// How many connections an account may have, and who has one.
pub(super) struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    free: Semaphore,
    used: AtomicU32,
    size: Mutex<Size>,
}

struct Size {
    limit: u32,
    /// Permits out that are to vanish when they come back: the limit was lowered under them.
    surplus: u32,
}

/// A connection upstream may be open as long as this is held.
#[must_use = "a dropped permit is a connection given back"]
pub struct ConnectionPermit {
    shared: Arc<Shared>,
}

impl Connections {
    pub(super) fn new(limit: u32) -> Self {
        let limit = at_least_one(limit);
        let size = Mutex::new(Size { limit, surplus: 0 });
        let shared = Shared { free: Semaphore::new(limit as usize), used: AtomicU32::new(0), size };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn try_take(&self) -> Option<ConnectionPermit> {
        self.shared.free.try_acquire().ok()?.forget();
        Some(self.issue())
    }

    fn issue(&self) -> ConnectionPermit {
        self.shared.used.fetch_add(1, Ordering::Relaxed);
        ConnectionPermit { shared: Arc::clone(&self.shared) }
    }

    pub(super) fn used(&self) -> u32 {
        self.shared.used.load(Ordering::Relaxed)
    }

    pub(super) fn resize(&self, limit: u32) {
        let limit = at_least_one(limit);
        let mut size = self.shared.size.lock().unwrap_or_else(PoisonError::into_inner);
        if limit > size.limit {
            let added = limit - size.limit;
            let kept = added.min(size.surplus);
            size.surplus -= kept;
            self.shared.free.add_permits((added - kept) as usize);
        } else {
            let gone = size.limit - limit;
            let taken = self.shared.free.forget_permits(gone as usize);
            size.surplus += gone - u32::try_from(taken).unwrap_or(gone);
        }
        size.limit = limit;
    }
}

/// With none nothing could ever be fetched; the configuration refuses 0 with a better text than ours. The upper bound
/// is far above any provider's and far below what the semaphore takes.
fn at_least_one(limit: u32) -> u32 {
    limit.clamp(1, 10_000)
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(1, Ordering::Relaxed);
        let mut size = self.shared.size.lock().unwrap_or_else(PoisonError::into_inner);
        if size.surplus > 0 {
            size.surplus -= 1;
        } else {
            self.shared.free.add_permits(1);
        }
    }
}
