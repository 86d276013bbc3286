//! From a name and a password to the account they open.

use std::net::IpAddr;

use super::StartError;
use super::accounts::Running;
use crate::auth::{self, LocalLogins};
use crate::config::Config;
use crate::engine::Account;
use crate::secret::Secret;
use crate::session::imap::{Login, LoginError};

/// The local logins, with the accounts behind them.
pub(super) struct Logins {
    local: LocalLogins,
    accounts: Vec<(String, Account)>,
}

impl Logins {
    pub(super) async fn new(config: &Config, running: &[Running]) -> Result<Self, StartError> {
        let local = LocalLogins::new(&config.accounts)
            .await
            .map_err(|errors| StartError(errors.iter().map(ToString::to_string).collect()))?;
        let accounts = running.iter().map(|running| (running.address.clone(), running.account.clone())).collect();
        Ok(Self { local, accounts })
    }
}

impl Login for Logins {
    type Account = Account;

    async fn verify(&self, peer: IpAddr, user: &str, password: &Secret) -> Result<Account, LoginError> {
        let login = self.local.verify(peer, user.as_bytes(), password).await.map_err(|error| match error {
            auth::LoginError::Wrong => LoginError::Wrong,
            auth::LoginError::Slowed => LoginError::Slowed,
        })?;
        let found = self.accounts.iter().find(|(address, _)| *address == login.address);
        found.map(|(_, account)| account.clone()).ok_or(LoginError::Unavailable)
    }
}
