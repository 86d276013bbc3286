//! `mailweir account …`: what concerns one account.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::{USAGE, fail, load, login};

mod add;
mod discover;
mod edit;
mod show;
pub(super) mod tell;

use self::add::Add;
use crate::auth::oauth::Keep;
use crate::config::{Account, Config};
use crate::daemon::STATE_FILE;
use crate::daemon::tokens::Vault;
use crate::secret::SecretRef;
use crate::state::State;

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Find the servers of an address, log in there, write the account into the configuration, and print the settings for mail programs.
    Add(Box<Add>),
    /// The accounts of the configuration.
    List,
    /// Take an account out of the configuration, and forget its tokens. Mail at the provider is not touched.
    Remove {
        /// The account's address.
        address: String,
        /// Even though messages wait in its outbox, which nobody sends then.
        #[arg(long)]
        force: bool,
    },
    /// Consent at the provider (OAuth): for a new account, and when a consent has ended. The daemon may run; nothing is restarted.
    Login {
        /// The account's address.
        address: String,
        #[command(flatten)]
        flow: login::Flow,
    },
    /// What POP3 programs have deleted, which the account keeps: how much of it is hidden from whom, or show it again. The daemon may run.
    Pop3 {
        /// The account's address.
        address: String,
        /// Show everything again that was deleted over POP3: at the next login programs find it as new mail.
        #[arg(long)]
        unhide: bool,
        /// Of this device only (`laptop` of ann@example.org+laptop; empty for logins without one). Default: of all.
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
    },
}

pub(super) async fn run(action: AccountCommand, config: Option<PathBuf>) -> ExitCode {
    if let AccountCommand::Add(add) = action {
        let path = Config::locate(config).map_err(|error| error.to_string());
        let path = path.and_then(|path| std::path::absolute(path).map_err(|error| error.to_string()));
        return match path {
            Ok(path) => finish(Box::pin(add.run(&path)).await),
            Err(words) => fail(&words),
        };
    }
    let config = match load(config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let of = |address: &str| {
        config.account(address).ok_or_else(|| {
            eprintln!("mailweir: {} has no account {address}", config.file.display());
            ExitCode::from(USAGE)
        })
    };
    let done = match action {
        AccountCommand::Add(_) => return ExitCode::from(USAGE),
        AccountCommand::List => Ok(show::list(&config)),
        AccountCommand::Login { address, flow } => match of(&address) {
            Ok(account) => {
                // A login that was refused for good is tried again only when the daemon is told.
                let done = Box::pin(login::run(&config, account, &flow)).await;
                done.map(|words| format!("{address}: {words} {}\n", tell::reload(&config)))
            }
            Err(code) => return code,
        },
        AccountCommand::Remove { address, force } => match of(&address) {
            Ok(account) => remove(&config, account, force).await,
            Err(code) => return code,
        },
        AccountCommand::Pop3 { address, unhide, device } => {
            let address = match of(&address) {
                Ok(account) => account.address.clone(),
                Err(code) => return code,
            };
            // Devices are kept in lower case, as logins are.
            let device = device.map(|device| device.to_lowercase());
            let work = tokio::task::spawn_blocking(move || pop3(&config, &address, unhide, device.as_deref()));
            work.await.unwrap_or_else(|error| Err(error.to_string()))
        }
    };
    finish(done)
}

fn finish(done: Result<String, String>) -> ExitCode {
    match done {
        Ok(words) => {
            print!("{words}");
            ExitCode::SUCCESS
        }
        Err(words) => fail(&words),
    }
}

/// Takes the account out of the file, tells the daemon, and forgets its tokens and the password that `account add` wrote down. What
/// else is kept of it (the cache, what POP3 has hidden, local keywords) would be wanted again if the account came back; it stays.
async fn remove(config: &Config, account: &Account, force: bool) -> Result<String, String> {
    let address = account.address.as_str();
    if !force {
        match waiting(config, address).await? {
            0 => {}
            1 => return Err(format!("{address}: 1 message waits in the outbox. {STILL_WAITING}")),
            count => return Err(format!("{address}: {count} messages wait in the outbox. {STILL_WAITING}")),
        }
    }
    let less = edit::remove(&edit::read(&config.file)?, address)?;
    let less = less.ok_or_else(|| format!("{address} is not in {}", config.file.display()))?;
    let left = edit::write(&config.file, &less)?;
    let told = match tell::reload(config) {
        words if words.starts_with("Start") => String::new(),
        words => format!(" {words}"),
    };
    let gone = format!("{address} is no longer in {}.{told}", config.file.display());
    // From here on the account is gone, whatever else fails.
    forget_tokens(config, address).await.map_err(|error| format!("{gone} Its tokens are still there: {error}"))?;
    let password = match own_password_of(config, account, &left) {
        Some(file) => match std::fs::remove_file(&file) {
            Ok(()) => format!(" {}, with the provider's password, was removed.", file.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{gone} {} cannot be removed: {error}", file.display())),
        },
        None => String::new(),
    };
    Ok(format!("{gone}{password} Its cache stays in {} until `mailweir cache drop`.\n", config.data_dir.display()))
}

/// What to do where an account is not removed.
const STILL_WAITING: &str =
    "`mailweir outbox list` shows what waits; send or drop it first, or remove the account all the same with --force";

/// Rows of its outbox.
async fn waiting(config: &Config, address: &str) -> Result<usize, String> {
    let (path, key) = (config.data_dir.join(STATE_FILE), address.to_ascii_lowercase());
    let count = move || {
        if !path.exists() {
            return Ok(0);
        }
        let rows = State::open(&path).and_then(|state| state.outbox(Some(&key)));
        rows.map(|rows| rows.len()).map_err(|error| format!("{}: {error}", path.display()))
    };
    tokio::task::spawn_blocking(count).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Under their lock: a daemon that is renewing them writes them first, and one that comes later finds none.
async fn forget_tokens(config: &Config, address: &str) -> Result<(), String> {
    let path = config.data_dir.join(STATE_FILE);
    if !path.exists() {
        return Ok(());
    }
    let vault = Vault::open(config).await?;
    let (state, key) = (vault.state.clone(), address.to_ascii_lowercase());
    let failed = |error: crate::state::Error| format!("{}: {error}", path.display());
    if state.tokens(&key).map_err(failed)?.is_none() {
        return Ok(());
    }
    let _lock = vault.keep(address).lock().await?;
    let work = tokio::task::spawn_blocking(move || state.forget_tokens(&key)).await;
    work.map_err(|error| error.to_string())?.map_err(failed)
}

/// The file that `account add` made for the provider's password, if the account has it there and no other that is left refers to it.
fn own_password_of(config: &Config, account: &Account, left: &Config) -> Option<PathBuf> {
    let file = add::own_password_file(&config.file, &account.address);
    let reference = SecretRef::File(file.clone());
    let is_used = |account: &Account| {
        let smtp = account.smtp.as_ref().and_then(|smtp| smtp.password.as_ref());
        [account.imap.password.as_ref(), smtp].contains(&Some(&reference))
    };
    (is_used(account) && !left.accounts.iter().any(is_used)).then_some(file)
}

/// Looks into the durable state, or changes it; what to print. Another process may have it open: every change is one commit.
fn pop3(config: &Config, address: &str, unhide: bool, device: Option<&str>) -> Result<String, String> {
    let path = config.data_dir.join(STATE_FILE);
    let nothing = || format!("{address}: nothing is hidden\n");
    if !path.exists() {
        return Ok(nothing());
    }
    let failed = |error: crate::state::Error| format!("{}: {error}", path.display());
    let state = State::open(&path).map_err(failed)?;
    let key = address.to_ascii_lowercase();
    if unhide {
        let shown = state.unhide(&key, device).map_err(failed)?;
        // In this process's log, as each QUIT that hid them is in the daemon's: which of the two changed it shows there.
        let of = device.unwrap_or("every device");
        tracing::info!(target: "mailweir::audit", account = key, device = of, count = shown, "shown again over POP3");
        return Ok(format!("{address}: {shown} messages are shown again\n"));
    }
    let counts = state.hidden_counts(&key).map_err(failed)?;
    let of_interest = counts.iter().filter(|count| device.is_none_or(|device| count.device == device));
    let lines: String = of_interest
        .filter(|count| count.messages > 0)
        .map(|count| {
            let who = if count.device.is_empty() { "logins without a device" } else { count.device.as_str() };
            format!("{address}: {} messages of {} are hidden from {who}\n", count.messages, count.mailbox)
        })
        .collect();
    Ok(if lines.is_empty() { nothing() } else { lines })
}
