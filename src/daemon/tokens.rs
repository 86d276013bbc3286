//! How accounts log in at their providers: a password, or access tokens whose consent is kept in the durable state.
//!
//! Joins what the layers below keep apart: the grant ([`crate::auth::oauth`]) knows no store and no mail server, the upstream knows no
//! authorization server. And tells what becomes of a consent: a metric, the status, an alert for every mail program, and a kick for
//! the pool and for sending once it is mended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fs4::fs_std::FileExt;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::smtp::Outgoing;
use super::{DataDirLock, STATE_FILE, escaped, spending};
use crate::auth::oauth::{Fault, Grant, Keep, Seal, Server, Standing};
use crate::config::{self, Config};
use crate::engine::Account;
use crate::metrics::AccountMetrics;
use crate::secret::{Secret, SecretRef};
use crate::state::{self, State};
use crate::store::StorePool;
use crate::upstream::{Credentials, Pool, TokenFault, Tokens};

/// How long another process may hold an account's tokens: it asks the authorization server meanwhile.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at a lock: the system has no way to wait for one without a thread.
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// How an account logs in at its provider.
#[derive(Clone)]
pub(crate) enum Way {
    Password(Secret),
    Tokens(Grant),
}

impl Way {
    /// What the upstream logs in with.
    pub(crate) fn credentials(&self) -> Credentials {
        match self {
            Self::Password(password) => Credentials::Password(password.clone()),
            Self::Tokens(grant) => Credentials::OAuth(Arc::new(Of(grant.clone()))),
        }
    }

    /// Whether both are the same password, or both are tokens.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password(ours), Self::Password(theirs)) => ours == theirs,
            (Self::Tokens(_), Self::Tokens(_)) => true,
            _ => false,
        }
    }
}

/// Where tokens are kept, and what they are sealed with.
#[derive(Clone)]
pub(crate) struct Vault {
    pub(crate) data_dir: PathBuf,
    pub(crate) token_key: SecretRef,
    pub(crate) state: State,
    pub(crate) threads: StorePool,
}

impl Vault {
    /// The vault of a configuration whose daemon may be running, for the program's other commands.
    pub(crate) async fn open(config: &Config) -> Result<Self, String> {
        let data_dir = config.data_dir.clone();
        let opened = super::blocking(move || {
            DataDirLock::make_dir(&data_dir)?;
            State::open(&data_dir.join(STATE_FILE)).map_err(|error| error.to_string())
        });
        Ok(Self {
            data_dir: config.data_dir.clone(),
            token_key: config.token_key.clone(),
            state: opened.await?,
            threads: StorePool::new(1),
        })
    }

    /// How the account logs in at its provider. A password is fetched, tokens are not.
    ///
    /// # Errors
    /// In plain words, for the account's owner.
    pub(crate) async fn way(&self, account: &config::Account) -> Result<Way, String> {
        if let Some(settings) = &account.oauth2 {
            let seal = Seal::open(&self.token_key).await?;
            let keep = Arc::new(self.keep(&account.address));
            return Ok(Way::Tokens(Grant::new(&account.address, Server::of(settings), keep, seal)));
        }
        let Some(password) = &account.imap.password else {
            return Err("it has no way to log in to its provider: set `account.imap.password`".into());
        };
        let password = password.resolve().await;
        password.map(Way::Password).map_err(|error| format!("the provider's password: {error}"))
    }

    /// Where this account's tokens are.
    pub(crate) fn keep(&self, address: &str) -> Kept {
        let lock = self.data_dir.join("tokens").join(format!("{}.lock", escaped(address)));
        Kept { account: spending::key(address), state: self.state.clone(), threads: self.threads.clone(), lock }
    }
}

/// One account's place in the durable state.
pub(crate) struct Kept {
    account: String,
    state: State,
    threads: StorePool,
    lock: PathBuf,
}

impl Keep for Kept {
    fn read(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, String>> {
        let (state, account) = (self.state.clone(), self.account.clone());
        let read = move || state.tokens(&account);
        async { flat(self.threads.run(read).await) }.boxed()
    }

    fn write(&self, sealed: Vec<u8>) -> BoxFuture<'_, Result<(), String>> {
        let (state, account) = (self.state.clone(), self.account.clone());
        let write = move || state.set_tokens(&account, &sealed);
        async { flat(self.threads.run(write).await) }.boxed()
    }

    fn lock(&self) -> BoxFuture<'_, Result<File, String>> {
        async {
            let path = self.lock.clone();
            let file = super::blocking(move || open_lock(&path)).await?;
            let deadline = Instant::now() + LOCK_TIMEOUT;
            loop {
                match file.try_lock_exclusive() {
                    Ok(true) => return Ok(file),
                    Ok(false) if Instant::now() < deadline => sleep(LOCK_LOOK).await,
                    Ok(false) => return Err("another process does not let go of this account's tokens".into()),
                    Err(error) => return Err(format!("cannot lock {}: {error}", self.lock.display())),
                }
            }
        }
        .boxed()
    }
}

fn flat<T>(done: Result<Result<T, state::Error>, crate::store::Error>) -> Result<T, String> {
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

fn open_lock(path: &Path) -> Result<File, String> {
    let fault = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(fault)?;
    File::options().create(true).truncate(false).write(true).open(path).map_err(fault)
}

/// A grant as the upstream asks for it.
struct Of(Grant);

impl Tokens for Of {
    fn token(&self, refused: Option<Secret>) -> BoxFuture<'_, Result<Secret, TokenFault>> {
        async {
            self.0.token(refused).await.map_err(|fault| match fault {
                Fault::Away(words) => TokenFault::Away(words),
                Fault::Consent(words) => TokenFault::Login(words),
                Fault::Client(words) => TokenFault::Setup(words),
            })
        }
        .boxed()
    }
}

/// Keeps an account's token fresh, and tells what becomes of its consent. Until dropped.
pub(super) async fn attend(
    grant: Grant,
    account: Account,
    pool: Pool,
    outgoing: Option<Outgoing>,
    metrics: AccountMetrics,
) {
    let mut standing = grant.standing();
    let tell = async {
        let mut needed_login = false;
        loop {
            let now = standing.borrow_and_update().clone();
            let needed = match &now {
                Standing::NeedsLogin(words) => Some(needs_login(account.address(), words)),
                Standing::NeedsSetup(words) => Some(needs_setup(account.address(), words)),
                Standing::Good | Standing::Away(_) => None,
            };
            metrics.set_needs_login(needed.is_some());
            account.set_alert(needed.as_deref());
            if is_mended(&mut needed_login, &now) {
                pool.kick();
                if let Some(outgoing) = &outgoing {
                    outgoing.kick();
                }
            }
            if standing.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::join!(tell, grant.keep_fresh());
}

/// Whether the user has done what was needed of him. An authorization server that is back from being away is no act of his, and must
/// not lift what the mail server wants him for.
fn is_mended(needed_login: &mut bool, now: &Standing) -> bool {
    match now {
        Standing::NeedsLogin(_) | Standing::NeedsSetup(_) => *needed_login = true,
        // After his login the server may be away for a while yet.
        Standing::Away(_) => {}
        Standing::Good => return std::mem::take(needed_login),
    }
    false
}

/// What the account's owner is told.
pub(super) fn needs_login(address: &str, words: &str) -> String {
    format!(
        "mailweir needs a login at the provider of {address} ({}). Run `mailweir account login {address}`; mail fetched before stays readable.",
        words.trim_end_matches('.')
    )
}

/// The same where nobody's consent is at fault.
fn needs_setup(address: &str, words: &str) -> String {
    format!(
        "mailweir cannot log in at the provider of {address} ({}). Mend [account.oauth2] in its configuration, then reload it; mail fetched before stays readable.",
        words.trim_end_matches('.')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_users_own_act_lifts_what_waits_for_him() {
        let (good, away) = (Standing::Good, Standing::Away("away".into()));
        let needs_login = Standing::NeedsLogin("gone".into());
        let told = [
            (&good, false),
            (&away, false),
            (&good, false),
            (&needs_login, false),
            (&good, true),
            (&away, false),
            (&good, false),
            (&needs_login, false),
            (&away, false),
            (&good, true),
            (&good, false),
        ];
        let mut needed_login = false;
        for (place, (now, want)) in told.into_iter().enumerate() {
            assert_eq!(is_mended(&mut needed_login, now), want, "{place}: {now:?}");
        }
    }
}
