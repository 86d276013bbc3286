//! A provider of a named scenario inside the test's process: what `mailweir demo --provider NAME` shows.

use std::net::SocketAddr;

use mailweir::daemon::simulated::{Counts, Provider, Scenario};
use mailweir::secret::Secret;

use super::client::Client;
use super::daemon::Account;
use super::{UPSTREAM_PASSWORD, UPSTREAM_USER};

/// The provider, on threads of its own.
pub struct Simulated {
    pub provider: Provider,
    pub addr: SocketAddr,
    name: &'static str,
    // Dropped last: the provider's tasks run on it.
    _runtime: tokio::runtime::Runtime,
}

impl Simulated {
    pub fn start(scenario: Scenario) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let name = scenario.name;
        let provider = runtime.block_on(async {
            Provider::start_as(scenario, ([127, 0, 0, 1], 0).into(), UPSTREAM_USER, Secret::new(UPSTREAM_PASSWORD))
        });
        let provider = provider.expect("the simulated provider");
        Self { addr: provider.address(), provider, name, _runtime: runtime }
    }

    /// An account there, reached at `addr` (its own, or a relay's).
    pub fn account(&self, addr: SocketAddr) -> Account {
        Account { more: format!("provider = \"{}\"", self.name), ..Account::at(addr) }
    }

    pub fn counts(&self) -> Counts {
        self.provider.counts()
    }

    /// A session at the provider itself.
    pub fn straight(&self) -> Client {
        Client::connect(self.addr).login(UPSTREAM_USER, UPSTREAM_PASSWORD)
    }
}
