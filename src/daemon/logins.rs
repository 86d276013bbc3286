//! From a name and a password to the account they open.

use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::accounts::Running;
use super::pop3::Hidden;
use super::programs;
use super::smtp::{Outgoing, common};
use crate::auth::{self, LocalLogins};
use crate::engine::{Account, Client};
use crate::secret::Secret;
use crate::session::front::{Login, LoginError};
use crate::session::{pop3, smtp};
use crate::wire::smtp::Extensions;

tokio::task_local! {
    /// Where a session's login leaves what tells of the end of its account.
    static SEAT: watch::Sender<Option<CancellationToken>>;
}

/// Runs a session, and ends it by `stop` when the account it has logged in to is retired.
pub(super) async fn seated(stop: CancellationToken, session: impl Future<Output = ()>) {
    let (seat, mut taken) = watch::channel(None);
    let retired = async {
        // A login may be taken back (POP3's, where the mailbox cannot be opened) and another account be logged in to: the last counts.
        loop {
            let account: Option<CancellationToken> = taken.borrow_and_update().clone();
            let retired = async {
                match account {
                    Some(account) => account.cancelled_owned().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = taken.changed() => if changed.is_err() {
                    // The session is over, and whoever waits for it sees that.
                    pending::<()>().await;
                },
                () = retired => break,
            }
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
        let (login, running) = self.admit(peer, user, password).await?;
        Ok(running.account.for_client(client("imap", peer, &login)))
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
            account: running.account.for_client(client("pop3", peer, &login)),
            settings: running.pop3(),
            hidden: running.hidden(login.device.as_deref()),
            device: login.device,
            recent: login.recent,
        })
    }
}

impl smtp::Login for Logins {
    type Outgoing = Outgoing;

    async fn verify(&self, peer: IpAddr, user: &str, password: &Secret) -> Result<Outgoing, LoginError> {
        let (_, running) = self.admit(peer, user, password).await?;
        let no_server = "This account has no server for sending: set [account.smtp]";
        running.outgoing.clone().ok_or(LoginError::Refused { code: None, text: no_server })
    }

    fn offers(&self) -> Extensions {
        use smtp::Outgoing as _;
        let accounts = self.shared.accounts.all();
        common(accounts.iter().filter_map(|running| running.outgoing.as_ref()).map(|outgoing| outgoing.offers()))
    }
}

/// Who it is, for the audit trail.
fn client(protocol: &'static str, peer: IpAddr, login: &auth::Login) -> Client {
    match &login.device {
        Some(device) => Client::new(protocol, peer, &format!("{} ({device})", login.address)),
        None => Client::new(protocol, peer, &login.address),
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
        // From here on the session's log lines name the account.
        tracing::Span::current().record("account", login.address.as_str());
        // Outside a seat nobody ends the session but the end of the daemon.
        let _ = SEAT.try_with(|seat| seat.send_replace(Some(running.closing.clone())));
        programs::logged_in(&login.address, login.device.as_deref());
        Ok((login, running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(account: &CancellationToken) {
        SEAT.with(|seat| seat.send_replace(Some(account.clone())));
    }

    /// Ends when it is stopped, as sessions do.
    async fn session(stop: CancellationToken, accounts: Vec<CancellationToken>) {
        for account in &accounts {
            take(account);
            tokio::task::yield_now().await;
        }
        stop.cancelled().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_with_the_account_it_logged_in_to_last() {
        let accounts = [CancellationToken::new(), CancellationToken::new()];
        let stop = CancellationToken::new();
        let seated = tokio::spawn(seated(stop.clone(), session(stop.clone(), accounts.to_vec())));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        accounts[0].cancel();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(!stop.is_cancelled() && !seated.is_finished(), "it has left the first");
        accounts[1].cancel();
        seated.await.unwrap();
        assert!(stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_retired_before_the_session_hears_of_it_ends_it() {
        let gone = CancellationToken::new();
        gone.cancel();
        let stop = CancellationToken::new();
        seated(stop.clone(), session(stop.clone(), vec![CancellationToken::new(), gone])).await;
        assert!(stop.is_cancelled());
    }
}
