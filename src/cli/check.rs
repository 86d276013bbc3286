//! `mailweir check`: logs in at each account's provider and says in plain words what is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{USAGE, load};
use crate::config;
use crate::daemon::tokens::Vault;
use crate::net::Target;
use crate::upstream::{Class, Config, Credentials, Pool};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Only this account.
    address: Option<String>,
}

impl Check {
    pub(super) async fn run(self, config: Option<PathBuf>) -> ExitCode {
        let config = match load(config) {
            Ok(config) => config,
            Err(code) => return code,
        };
        let chosen: Vec<&config::Account> = match &self.address {
            None => config.accounts.iter().collect(),
            Some(address) => config.account(address).into_iter().collect(),
        };
        if chosen.is_empty() {
            eprintln!("mailweir: the configuration has no such account");
            return ExitCode::from(USAGE);
        }
        let mut all_well = true;
        for account in chosen {
            match check(&config, account).await {
                Ok(words) => println!("{}: {words}", account.address),
                Err(words) => {
                    all_well = false;
                    println!("{}: {words}", account.address);
                    if let Some(preset) = account.provider.filter(|_| account.oauth2.is_none()) {
                        println!("  {}", preset.password_hint);
                    }
                }
            }
        }
        if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

async fn check(config: &config::Config, account: &config::Account) -> Result<String, String> {
    let vault = Vault::open(config).await?;
    let way = vault.way(account).await?;
    log_in(account, way.credentials()).await
}

/// Logs in by IMAP and looks around; what to tell.
pub(super) async fn log_in(account: &config::Account, credentials: Credentials) -> Result<String, String> {
    let server = &account.imap;
    let pool = Pool::new(Config::new(&account.address, Target::of(server), &server.username, credentials, 1));
    let done = async {
        let mut lease = pool.lease(Class::Interactive, None).await?;
        let mailboxes = lease.list().await?.iter().filter(|line| !line.lsub).count();
        Ok::<_, crate::upstream::Error>(mailboxes)
    };
    let done = done.await;
    pool.shutdown().await;
    match done {
        Ok(mailboxes) => Ok(format!("{}:{} takes the login and shows {mailboxes} mailboxes", server.host, server.port)),
        Err(error) => Err(error.to_string()),
    }
}
