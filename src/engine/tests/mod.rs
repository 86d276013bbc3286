//! The engine over a provider in memory, a real store and a paused clock: what only an exact order of events shows.

mod bodies;
mod cache;
mod identity;
mod listing;
mod looks;
mod parts;
mod provider;
mod reading;
mod watch;

use std::sync::Arc;

use provider::Provider;

use super::account::{Disk, Inner, Options};
use super::allowance::{Allowance, Unlimited};
use super::cache::Cache;
use crate::metrics::Metrics;
use crate::provider::Quirk;
use crate::secret::Secret;
use crate::state::State;
use crate::store::{self, Store, StorePool};
use crate::upstream::{Config, Credentials, Dial, Pacing, Pool, Quirks};

/// An account at rest; nothing runs but what the test asks for.
struct World {
    provider: Arc<Provider>,
    account: Arc<Inner>,
    pool: Pool,
    /// Removed at the end.
    _dir: tempfile::TempDir,
}

impl World {
    fn new(provider: Provider, connections: usize) -> Self {
        Self::with_quirks(provider, connections, &[])
    }

    fn with_quirks(provider: Provider, connections: usize, quirks: &[Quirk]) -> Self {
        let provider = Arc::new(provider);
        let dial = Arc::clone(&provider) as Arc<dyn Dial>;
        let (account, pool, dir) = account_with(dial, connections, true, Arc::new(Unlimited), quirks);
        Self { provider, account, pool, _dir: dir }
    }
}

/// An account with its sessions and its directory.
fn account(
    dial: Arc<dyn Dial>,
    connections: usize,
    parts: bool,
    allowance: Arc<dyn Allowance>,
) -> (Arc<Inner>, Pool, tempfile::TempDir) {
    account_with(dial, connections, parts, allowance, &[])
}

fn account_with(
    dial: Arc<dyn Dial>,
    connections: usize,
    parts: bool,
    allowance: Arc<dyn Allowance>,
    quirks: &[Quirk],
) -> (Arc<Inner>, Pool, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &store::Options { page_cache: 16 << 20, disk_reserve: 0 }).unwrap();
    let pool = Pool::new(Config {
        label: "ann".into(),
        dial,
        username: "ann".into(),
        credentials: Credentials::Password(Secret::new(*b"pw")),
        connections,
        lowered: None,
        quirks: Quirks::default(),
        meter: Arc::new(()),
        permits: Arc::new(Pacing::default()),
    });
    let options = Options {
        address: "ann@example.org".into(),
        prefetch: None,
        cache_size: 1 << 30,
        append_limit: 1 << 20,
        connections,
        parts,
        allowance,
        upstream: "ann@test:143".into(),
        window: 200,
        quirks: quirks.to_vec(),
        english_names: false,
        refresh: std::time::Duration::from_secs(660),
        unsent: None,
        audit: None,
    };
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let threads = StorePool::new(2);
    let disk = Disk { cache: Cache::new(store, threads.clone()), state, threads };
    let account = Inner::new(options, pool.clone(), disk, Metrics::default());
    (account, pool, dir)
}
