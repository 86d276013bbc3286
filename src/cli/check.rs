//! `mailweir check`: logs in at each account's provider and says in plain words what is wrong.

mod mend;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::mend::trouble_of;
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
            let done = check(&config, account).await;
            all_well &= done.is_ok();
            print!("{}", row(account, &done));
        }
        if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// What was tried, how it went, and what mends it.
fn row(account: &config::Account, done: &Result<String, String>) -> String {
    let server = format!("{}:{}", account.imap.host, account.imap.port);
    let mut out = format!("{}\n", account.address);
    let mut line = |name: &str, words: &str| out.push_str(&format!("  {name:<6} {words}\n"));
    match done {
        Ok(words) => line("IMAP", &format!("{server}  ok: {words}")),
        Err(words) => {
            let trouble = trouble_of(words);
            let what = trouble.map_or("failed", |trouble| trouble.what);
            line("IMAP", &format!("{server}  FAILED: {what}"));
            line("said", words);
            if let Some(trouble) = trouble {
                line("mend", &trouble.mend.replace("ADDRESS", &account.address));
            }
            if let Some(preset) = account.provider.filter(|_| account.oauth2.is_none()) {
                line("hint", &preset.password_hint);
            }
        }
    }
    if let Some(smtp) = &account.smtp {
        line("SMTP", &format!("{}:{}  not tried: this version does not send yet", smtp.host, smtp.port));
    }
    out
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
        Ok(mailboxes) => Ok(format!("it takes the login and shows {mailboxes} mailboxes")),
        Err(error) => Err(error.to_string()),
    }
}
