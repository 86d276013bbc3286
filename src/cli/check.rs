//! `mailweir check`: logs in at each account's provider and says in plain words what is wrong.

mod mend;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use self::mend::trouble_of;
use super::{USAGE, load};
use crate::config;
use crate::daemon::tokens::Vault;
use crate::net::Target;
use crate::upstream::smtp::{Smtp, SmtpConfig};
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
            all_well &= done.iter().all(|tried| tried.done.is_ok());
            println!("{}", account.address);
            done.iter().for_each(|tried| print!("{}", tried.rows(account)));
        }
        if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// One server, and how it went.
struct Tried {
    protocol: &'static str,
    server: String,
    done: Result<String, String>,
}

impl Tried {
    /// What was tried, how it went, and what mends it.
    fn rows(&self, account: &config::Account) -> String {
        let (protocol, server) = (self.protocol, &self.server);
        let mut out = String::new();
        let mut line = |name: &str, words: &str| out.push_str(&format!("  {name:<6} {words}\n"));
        let words = match &self.done {
            Ok(words) => {
                line(protocol, &format!("{server}  ok: {words}"));
                return out;
            }
            Err(words) => words,
        };
        let trouble = trouble_of(words);
        line(protocol, &format!("{server}  FAILED: {}", trouble.map_or("failed", |trouble| trouble.what)));
        line("said", words);
        if let Some(trouble) = trouble {
            line("mend", &trouble.mend.replace("ADDRESS", &account.address));
        }
        if let Some(preset) = account.provider.filter(|_| account.oauth2.is_none()) {
            line("hint", &preset.password_hint);
        }
        out
    }
}

async fn check(config: &config::Config, account: &config::Account) -> Vec<Tried> {
    let way = async { Vault::open(config).await?.way(account).await };
    let credentials = way.await.map(|way| way.credentials());
    let place = |server: &config::Server| format!("{}:{}", server.host, server.port);
    let imap = match &credentials {
        Ok(credentials) => log_in(account, credentials.clone()).await,
        Err(words) => Err(words.clone()),
    };
    let mut tried = vec![Tried { protocol: "IMAP", server: place(&account.imap), done: imap }];
    if let Some(server) = &account.smtp {
        let done = match credentials {
            Ok(credentials) => log_in_to_send(account, server, credentials).await,
            Err(words) => Err(words),
        };
        tried.push(Tried { protocol: "SMTP", server: place(server), done });
    }
    tried
}

/// Logs in at the server for sending; nothing is sent.
async fn log_in_to_send(
    account: &config::Account,
    server: &config::Server,
    credentials: Credentials,
) -> Result<String, String> {
    let credentials = match &server.password {
        Some(password) if account.oauth2.is_none() => {
            let password = password.resolve().await;
            Credentials::Password(password.map_err(|error| format!("the password for sending: {error}"))?)
        }
        _ => credentials,
    };
    let smtp = Smtp::new(SmtpConfig {
        label: account.address.clone(),
        dial: Arc::new(Target::of(server)),
        username: server.username.clone(),
        meter: Arc::new(()),
        postage: Arc::new(()),
    });
    let done = match smtp.lease(&credentials).await {
        Ok(passage) => {
            passage.rest(true).await;
            Ok("it takes the login".to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    smtp.shutdown().await;
    done
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
