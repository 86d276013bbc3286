//! `mailweir account login`: the consent of the mailbox's owner, had with a browser here or elsewhere, or on another device.
//!
//! Nothing is stored before the provider's mail server has taken the token: a consent given with another of one's accounts is found
//! out at once. Whoever calls tells a running daemon: it would find the tokens, but not that it may log in again.

use std::io::{BufRead, IsTerminal, Read};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::check::{log_in, sending};
use crate::auth::oauth::consent::{Loopback, Pending, begin, device};
use crate::auth::oauth::{Fault, Seal, Server, Tokens, store};
use crate::config::{Account, Config};
use crate::daemon::tokens::Vault;
use crate::secret::Secret;
use crate::upstream::{Credentials, TokenFault};

/// How long a person may take with the browser.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// The longest line that is pasted: codes are some hundred octets, addresses with one some thousand.
const MAX_PASTE: u64 = 16 * 1024;
/// Where the browser ends when it runs on another computer: nobody answers there, and the address is what is wanted.
const NOWHERE: &str = "http://127.0.0.1/";

#[derive(Debug, Args)]
pub(super) struct Flow {
    /// Type a code on another device instead of using a browser here.
    #[arg(long, conflicts_with = "paste")]
    device: bool,
    /// Use a browser on another computer, and paste the address it ends at.
    #[arg(long)]
    paste: bool,
    /// Do not open a browser; only print the address.
    #[arg(long)]
    no_browser: bool,
}

/// Asks for consent, tries the token, stores it; what to print at the end.
pub(super) async fn run(config: &Config, account: &Account, flow: &Flow) -> Result<String, String> {
    let address = &account.address;
    let Some(settings) = &account.oauth2 else {
        return Err(format!(
            "{address} logs in with a password; there is nothing to consent to ([account.oauth2] is not set)"
        ));
    };
    let server = Server::of(settings);
    if server.acts_by_itself() {
        return Err(format!(
            "{address}: the application acts by itself (`grant = \"client\"`); there is nothing to consent to"
        ));
    }
    // Found out before anybody takes the trouble to consent.
    let vault = Vault::open(config).await?;
    let seal = Seal::open(&config.token_key).await?;
    let tokens = consent(&server, address, flow).await.map_err(|fault| fault.to_string())?;
    if tokens.refresh.is_none() {
        let word = "the provider gave no lasting consent (no refresh token)";
        return Err(format!("{word}; see whether the application may have offline access"));
    }
    let access = tokens.access.clone();
    let once = move |refused: Option<Secret>| {
        let access = access.clone();
        async move {
            if refused.is_none() { Ok(access) } else { Err(TokenFault::Login("it does not take the token".into())) }
        }
    };
    let once = Credentials::OAuth(std::sync::Arc::new(once));
    let words = log_in(account, once.clone()).await;
    let words =
        words.map_err(|error| format!("{error}. Nothing was stored; did you consent as {}?", account.imap.username))?;
    store(&vault.keep(address), &seal, &address.to_ascii_lowercase(), &tokens).await?;
    // Reading is worth having without it.
    let sends = sending(account, once).await.map(|(Ok(words) | Err(words))| format!(" {words}")).unwrap_or_default();
    Ok(format!("{words}. The consent is stored.{sends}"))
}

async fn consent(server: &Server, address: &str, flow: &Flow) -> Result<Tokens, Fault> {
    if flow.device || !server.has_browser_flow() {
        return on_another_device(server).await;
    }
    let fixed = server.fixed_redirect();
    if flow.paste {
        let pending = begin(server, fixed.unwrap_or(NOWHERE), address).await?;
        println!("Visit this address with a browser and consent as {address}:\n\n{}\n", pending.url);
        println!(
            "The browser then ends at an address that begins with {}, and may show an error.",
            fixed.unwrap_or(NOWHERE)
        );
        return pasted(server, pending).await;
    }
    let loopback = Loopback::listen(server).await;
    let loopback = loopback.map_err(|words| Fault::Client(format!("{words}. `--paste` does without")))?;
    let pending = begin(server, loopback.redirect(), address).await?;
    println!("Visit this address with a browser on this computer and consent as {address}:\n\n{}\n", pending.url);
    if !flow.no_browser {
        open_browser(pending.url.as_str());
    }
    println!("Waiting for the browser to come back (with one on another computer, use --paste or --device).");
    let answer = timeout(PATIENCE, loopback.answer(&pending)).await;
    let answer = answer.map_err(|_| Fault::Consent("nobody consented in time".into()))?;
    let answer = answer.map_err(|error| Fault::Client(format!("the browser's answer cannot be taken: {error}")))?;
    pending.finish(server, &answer).await
}

async fn pasted(server: &Server, pending: Pending) -> Result<Tokens, Fault> {
    println!("Paste that whole address here:");
    // A thread, which the end of the program does not wait for: a terminal's line cannot be given up.
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let read = std::io::stdin().lock().take(MAX_PASTE).read_line(&mut line);
        read.map(|_| line)
    });
    let read = timeout(PATIENCE, read).await.map_err(|_| Fault::Consent("nobody consented in time".into()))?;
    let line = read.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string()));
    let line = line.map_err(|error| Fault::Consent(format!("nothing can be read: {error}")))?;
    pending.finish(server, &line).await
}

async fn on_another_device(server: &Server) -> Result<Tokens, Fault> {
    let device = device(server).await?;
    println!("On any device, visit {}\nand type the code {}", device.address(), device.code());
    println!("Waiting; the code holds for {} minutes.", device.expires_in().as_secs().div_ceil(60));
    device.wait(server).await
}

/// Where there is a desktop. That there is none, or that it fails, costs nothing: the address is printed.
fn open_browser(address: &str) {
    let (program, desktop) = if cfg!(target_os = "macos") {
        ("open", true)
    } else if cfg!(windows) {
        ("explorer", true)
    } else {
        ("xdg-open", ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some()))
    };
    if desktop && std::io::stdout().is_terminal() {
        let quiet = std::process::Command::new(program)
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Err(error) = quiet {
            tracing::debug!(%error, "no browser was opened");
        }
    }
}
