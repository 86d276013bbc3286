//! From a name and a password to the account they open.

use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::accounts::Running;
use super::pop3::Hidden;
use crate::auth::{self, LocalLogins};
use crate::engine::Account;
use crate::secret::Secret;
use crate::session::front::{Login, LoginError};
use crate::session::pop3;

tokio::task_local! {
    /// Where a session's login leaves what tells of the end of its account.
    static SEAT: watch::Sender<Option<CancellationToken>>;
}

/// Runs a session, and ends it by `stop` when the account it has logged in to is retired.
pub(super) async fn seated(stop: CancellationToken, session: impl Future<Output = ()>) {
    let (seat, mut taken) = watch::channel(None);
    let retired = async {
        let account: Option<CancellationToken> =
            taken.wait_for(Option::is_some).await.ok().and_then(|account| account.clone());
        match account {
            Some(account) => account.cancelled_owned().await,
            None => pending().await,
        }
        stop.cancel();
        // The session says BYE and ends by itself.
        pending::<()>().await;
    };
    tokio::select! {
        () = SEAT.scope(seat, session) => {}
        () = retired => {}
    }
}

/// The local logins, with the accounts behind them.
#[derive(Clone)]
pub(super) struct Logins {
    pub(super) local: Arc<LocalLogins>,
    pub(super) shared: Arc<Shared>,
}

impl Login for Logins {
    type Account = Account;

    async fn verify(&self, peer: IpAddr, user: &str, password: &Secret) -> Result<Account, LoginError> {
        self.admit(peer, user, password).await.map(|(_, running)| running.account.for_client())
    }
}

impl pop3::Login for Logins {
    type Account = Account;
    type Hidden = Hidden;

    async fn verify(
        &self,
        peer: IpAddr,
        user: &str,
        password: &Secret,
    ) -> Result<pop3::Admitted<Account, Hidden>, LoginError> {
        let (login, running) = self.admit(peer, user, password).await?;
        Ok(pop3::Admitted {
            account: running.account.for_client(),
            settings: running.pop3(),
            hidden: running.hidden(login.device.as_deref()),
            device: login.device,
            recent: login.recent,
        })
    }
}

impl Logins {
    /// Who it is, and the account at work; from then on the session ends with the account.
    async fn admit(
        &self,
        peer: IpAddr,
        user: &str,
        password: &Secret,
    ) -> Result<(auth::Login, Arc<Running>), LoginError> {
        let login = self.local.verify(peer, user.as_bytes(), password).await.map_err(|error| match error {
            auth::LoginError::Wrong => LoginError::Wrong,
            auth::LoginError::Slowed => LoginError::Slowed,
        })?;
        let running = self.shared.accounts.find(&login.address).ok_or(LoginError::Unavailable)?;
        // Outside a seat nobody ends the session but the end of the daemon.
        let _ = SEAT.try_with(|seat| seat.send_replace(Some(running.closing.clone())));
        Ok((login, running))
    }
}
