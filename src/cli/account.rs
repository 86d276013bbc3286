//! `mailweir account …`: what concerns one account.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::{USAGE, fail, load, login};
use crate::config::Config;
use crate::daemon::STATE_FILE;
use crate::state::State;

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
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
    let config = match load(config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (AccountCommand::Login { address, .. } | AccountCommand::Pop3 { address, .. }) = &action;
    let Some(account) = config.account(address) else {
        eprintln!("mailweir: {} has no account {address}", config.file.display());
        return ExitCode::from(USAGE);
    };
    let address = account.address.clone();
    let (unhide, device) = match action {
        AccountCommand::Login { flow, .. } => {
            return match login::run(&config, account, &flow).await {
                Ok(words) => {
                    println!("{address}: {words}");
                    ExitCode::SUCCESS
                }
                Err(words) => fail(&format!("{address}: {words}")),
            };
        }
        AccountCommand::Pop3 { unhide, device, .. } => (unhide, device),
    };
    // Devices are kept in lower case, as logins are.
    let device = device.map(|device| device.to_lowercase());
    let work = tokio::task::spawn_blocking(move || pop3(&config, &address, unhide, device.as_deref()));
    match work.await {
        Ok(Ok(words)) => {
            print!("{words}");
            ExitCode::SUCCESS
        }
        Ok(Err(words)) => fail(&words),
        Err(error) => fail(&error.to_string()),
    }
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
        tracing::info!(target: "audit", account = key, device = of, count = shown, "shown again over POP3");
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
