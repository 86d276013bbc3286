//! `mailweir check`: logs in at each account's provider and says in plain words what is wrong.

mod send;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{USAGE, load, progress};
use crate::config;
use crate::daemon::mend::trouble_of;
use crate::daemon::tokens::Vault;
use crate::net::Target;
use crate::upstream::smtp::{Postage, Smtp, SmtpConfig};
use crate::upstream::{Class, Config, Credentials, Pool};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Only this account.
    address: Option<String>,
    /// Send a message there through the account's server for sending, too. If it is an account of this configuration the message is
    /// waited for; else only the server's word is known.
    #[arg(long, value_name = "TO", value_parser = recipient)]
    send_test: Option<String>,
    /// How many seconds the message may take to arrive.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, requires = "send_test")]
    send_wait: u64,
}

/// An address that can stand in a command of SMTP.
fn recipient(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "<>\"\\".contains(c);
    match text.rsplit_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !text.contains(odd) => Ok(text.to_owned()),
        _ => Err("it is not an e-mail address".into()),
    }
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
            let mut done = check(&config, account).await;
            if let Some(to) = &self.send_test {
                let wait = Duration::from_secs(self.send_wait);
                let tried = Box::pin(send::try_out(&config, account, to, wait)).await;
                done.push(Tried { protocol: "SEND", server: format!("to {to}"), done: tried });
            }
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
    // Side by side: a server that says nothing is given half a minute.
    let imap = async {
        match credentials.clone() {
            Ok(credentials) => look(account, credentials).await.and_then(Looked::judged),
            Err(words) => Err(words),
        }
    };
    let smtp = async {
        let server = account.smtp.as_ref()?;
        let done = match credentials.clone() {
            Ok(credentials) => log_in_to_send(account, server, credentials).await,
            Err(words) => Err(words),
        };
        Some(Tried { protocol: "SMTP", server: place(server), done })
    };
    let (imap, smtp) = Box::pin(async { tokio::join!(imap, smtp) }).await;
    let imap = Tried { protocol: "IMAP", server: place(&account.imap), done: imap };
    std::iter::once(imap).chain(smtp).collect()
}

/// Logs in at the server for sending; nothing is sent.
async fn log_in_to_send(
    account: &config::Account,
    server: &config::Server,
    credentials: Credentials,
) -> Result<String, String> {
    let credentials = sending_credentials(account, server, credentials).await?;
    try_to_send(account, server, credentials).await
}

/// What the server for sending is given, where reading has these.
async fn sending_credentials(
    account: &config::Account,
    server: &config::Server,
    credentials: Credentials,
) -> Result<Credentials, String> {
    match &server.password {
        Some(password) if account.oauth2.is_none() => {
            let password = password.resolve().await;
            password.map(Credentials::Password).map_err(|error| format!("the password for sending: {error}"))
        }
        _ => Ok(credentials),
    }
}

fn sender(account: &config::Account, server: &config::Server, postage: Arc<dyn Postage>) -> Smtp {
    Smtp::new(SmtpConfig {
        label: account.address.clone(),
        dial: Arc::new(Target::of(server)),
        username: server.username.clone(),
        meter: Arc::new(()),
        postage,
    })
}

/// Logs in at the server for sending with just these.
async fn try_to_send(
    account: &config::Account,
    server: &config::Server,
    credentials: Credentials,
) -> Result<String, String> {
    let smtp = sender(account, server, Arc::new(()));
    let _busy = progress::busy(&format!("Logging in at {}", server.host));
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

/// What is told of the server for sending beside an account's first login, and whether it went well. Nothing, where there is none.
pub(super) async fn sending(account: &config::Account, credentials: Credentials) -> Option<Result<String, String>> {
    let server = account.smtp.as_ref()?;
    let place = format!("{}:{}", server.host, server.port);
    Some(match try_to_send(account, server, credentials).await {
        Ok(words) => Ok(format!("Sending by {place}: {words}.")),
        Err(words) => {
            let trouble = trouble_of(&words);
            let mend = trouble.map(|trouble| format!(" {}", trouble.mend.replace("ADDRESS", &account.address)));
            let what = trouble.map_or("failed", |trouble| trouble.what);
            Err(format!(
                "SENDING DOES NOT WORK YET by {place}: {what}: {}.{}",
                words.trim_end_matches('.'),
                mend.unwrap_or_default()
            ))
        }
    })
}

/// Logs in by IMAP and looks around; what to tell. A mailbox that is full can be read.
pub(super) async fn log_in(account: &config::Account, credentials: Credentials) -> Result<String, String> {
    look(account, credentials).await.map(|looked| looked.words())
}

/// What was seen after a login.
struct Looked {
    mailboxes: usize,
    /// What INBOX has no room for, as the provider counts it.
    full: Option<String>,
}

impl Looked {
    fn words(&self) -> String {
        format!("it takes the login and shows {} mailboxes", self.mailboxes)
    }

    fn judged(self) -> Result<String, String> {
        match &self.full {
            None => Ok(self.words()),
            Some(full) => Err(format!("{}, but the mailbox is full: {full}", self.words())),
        }
    }
}

async fn look(account: &config::Account, credentials: Credentials) -> Result<Looked, String> {
    let server = &account.imap;
    let _busy = progress::busy(&format!("Logging in at {}", server.host));
    let pool = Pool::new(Config::new(&account.address, Target::of(server), &server.username, credentials, 1));
    let done = async {
        // Nobody else waits here: the class that waits long enough for the login's own words.
        let mut lease = pool.lease(Class::Bulk, None).await?;
        let mailboxes = lease.list().await?.iter().filter(|line| !line.lsub).count();
        let quota = match lease.caps().has("QUOTA") {
            // That it is not told is no fault of the account's.
            true => lease.quota_root("INBOX").await.unwrap_or_default(),
            false => Vec::new(),
        };
        Ok::<_, crate::upstream::Error>(Looked { mailboxes, full: quota.iter().find_map(|line| full(line)) })
    };
    let done = done.await;
    pool.shutdown().await;
    done.map_err(|error| error.to_string())
}

/// The first resource of a QUOTA line that is used up (RFC 9208 §4.2.1: `QUOTA "" (STORAGE 512 512)`, in units of 1024 octets).
fn full(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let (_, list) = text.rsplit_once('(')?;
    let words: Vec<&str> = list.trim_end_matches(')').split_ascii_whitespace().collect();
    words.chunks_exact(3).find_map(|resource| {
        let [name, used, limit] = resource else { return None };
        let (used, limit) = (used.parse::<u64>().ok()?, limit.parse::<u64>().ok()?);
        let unit = if name.eq_ignore_ascii_case("STORAGE") { " KiB" } else { "" };
        (limit > 0 && used >= limit).then(|| format!("{used}{unit} of {limit}{unit} are used"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_quota_is_seen() {
        let table = [
            ("QUOTA \"\" (STORAGE 10 512)", None),
            ("QUOTA \"\" (STORAGE 512 512)", Some("512 KiB of 512 KiB are used")),
            ("QUOTA \"#user (x)\" (STORAGE 1 2 MESSAGE 21 20)", Some("21 of 20 are used")),
            ("QUOTAROOT INBOX \"\"", None),
            ("QUOTA \"\" ()", None),
            ("QUOTA \"\" (STORAGE 5 0)", None),
            ("QUOTA \"\" (STORAGE x)", None),
        ];
        for (line, want) in table {
            assert_eq!(full(line.as_bytes()).as_deref(), want, "{line}");
        }
    }

    #[test]
    fn recipients_cannot_be_commands() {
        for bad in ["bob", "@example.org", "bob@", "bob@x>\r\nDATA", "a b@c", "\"a\"@b"] {
            assert!(recipient(bad).is_err(), "{bad}");
        }
        assert_eq!(recipient("bob+x@example.org").unwrap(), "bob+x@example.org");
    }
}
