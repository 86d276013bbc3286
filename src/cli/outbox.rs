//! `mailweir outbox …`: messages that wait to be sent.
//!
//! Works on the durable state itself, which several processes may have open, and wakes the daemon by SIGHUP. So it needs the rights of the
//! daemon's own user and nothing that listens: no page on the web can drop or send anything. The daemon asks the state right before a
//! message's last octets; what was dropped until then is not sent.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::account::tell;
use super::{fail, load};
use crate::config::Config;
use crate::daemon::STATE_FILE;
use crate::daemon::outbox::{Entry, What, dir, hold_key};
use crate::daemon::status::{NO_ACCOUNT, NO_SERVER, octets};
use crate::state::{self, OutboxRow, State};

#[derive(Debug, Subcommand)]
pub(super) enum Outbox {
    /// What waits, why, and when it is tried next.
    List {
        #[command(flatten)]
        which: Which,
        /// As JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Have messages tried now, also those of an account the provider blocks: at some providers a try begins the block anew.
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Forget a message: it is not sent, and nobody is told.
    Drop {
        /// Its number, as `list` shows it.
        id: i64,
        /// Only if it is of this account.
        #[arg(long, value_name = "ADDRESS")]
        account: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// Its number, as `list` shows it. Default: all.
    id: Option<i64>,
    /// Those of this account. Default: of all.
    #[arg(long, value_name = "ADDRESS")]
    account: Option<String>,
}

/// One message, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Shown {
    id: i64,
    account: String,
    /// "send", "notification" (to be put into INBOX) or "copy" (to be put into the sent folder).
    kind: &'static str,
    from: Option<String>,
    recipients: Vec<String>,
    message_id: Option<String>,
    octets: u64,
    age_seconds: u64,
    next_seconds: u64,
    tries: u32,
    /// The last octet was sent, and no answer came.
    in_doubt: bool,
    last: Option<String>,
    /// Why nobody sends it, because of what the configuration says.
    stranded: Option<&'static str>,
}

impl Outbox {
    pub(super) async fn run(self, config: Option<PathBuf>) -> ExitCode {
        let config = match load(config) {
            Ok(config) => config,
            Err(code) => return code,
        };
        let work = tokio::task::spawn_blocking(move || self.work(&config)).await;
        match work.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(words) => {
                print!("{words}");
                ExitCode::SUCCESS
            }
            Err(words) => fail(&words),
        }
    }

    fn work(&self, config: &Config) -> Result<String, String> {
        let path = config.data_dir.join(STATE_FILE);
        let state = match path.exists() {
            true => Some(State::open(&path).map_err(|error| format!("{}: {error}", path.display()))?),
            false => None,
        };
        match self {
            Self::List { which, json } => list(config, &which.rows(state.as_ref())?, *json),
            Self::Retry { which } => {
                let rows = which.rows(state.as_ref())?;
                let Some(state) = state.filter(|_| !rows.is_empty()) else { return Err("nothing waits".into()) };
                for row in &rows {
                    state.outbox_retry(Some(row.id), None, SystemTime::now()).map_err(failed)?;
                    state.set_value(&hold_key(&row.account), None).map_err(failed)?;
                }
                let mut words = format!("{} to be tried now. {}\n", count(rows.len()), tell::reload(config));
                for row in &rows {
                    if let Some(why) = stranded(config, row) {
                        words += &format!("Message {} is not tried: {why}\n", row.id);
                    }
                }
                Ok(words)
            }
            Self::Drop { id, account } => {
                let which = Which { id: Some(*id), account: account.clone() };
                let rows = which.rows(state.as_ref())?;
                let (Some(state), [row]) = (state, rows.as_slice()) else {
                    return Err(format!("there is no message {id}"));
                };
                let in_doubt =
                    matches!(Entry::read(row).map(|entry| entry.what), Some(What::Send(send)) if send.is_in_doubt());
                if !state.outbox_go_on(row.id, None, &[]).map_err(failed)? {
                    return Err(format!("message {id} is gone already"));
                }
                tracing::info!(target: "audit", account = row.account, id, "dropped from the outbox");
                // The daemon removes the file of a message it is at work on; whatever else is left goes at its next start.
                if let Some(entry) = Entry::read(row) {
                    let _ = std::fs::remove_file(dir(&config.data_dir, &row.account).join(entry.file));
                }
                let doubt = if in_doubt {
                    " It may have been sent already: the provider was lost before it answered."
                } else {
                    ""
                };
                Ok(format!("Message {id} is dropped.{doubt} {}\n", tell::reload(config)))
            }
        }
    }
}

impl Which {
    fn rows(&self, state: Option<&State>) -> Result<Vec<OutboxRow>, String> {
        let Some(state) = state else { return Ok(Vec::new()) };
        let account = self.account.as_ref().map(|account| account.to_ascii_lowercase());
        let mut rows = state.outbox(account.as_deref()).map_err(failed)?;
        rows.retain(|row| self.id.is_none_or(|id| row.id == id));
        Ok(rows)
    }
}

/// Why nobody sends a message. What is to be stored over IMAP needs no server for sending.
fn stranded(config: &Config, row: &OutboxRow) -> Option<&'static str> {
    let account = config.accounts.iter().find(|account| account.address.eq_ignore_ascii_case(&row.account));
    let is_sent = || !matches!(Entry::read(row).map(|entry| entry.what), Some(What::File(_)));
    match account {
        None => Some(NO_ACCOUNT),
        Some(account) => (account.smtp.is_none() && is_sent()).then_some(NO_SERVER),
    }
}

fn failed(error: state::Error) -> String {
    error.to_string()
}

fn count(messages: usize) -> String {
    if messages == 1 { "1 message".into() } else { format!("{messages} messages") }
}

fn shown(config: &Config, row: &OutboxRow) -> Shown {
    let now = SystemTime::now();
    let mut shown = Shown {
        id: row.id,
        account: row.account.clone(),
        kind: "unknown",
        from: None,
        recipients: Vec::new(),
        message_id: None,
        octets: row.item.octets,
        age_seconds: now.duration_since(row.item.created).unwrap_or_default().as_secs(),
        next_seconds: row.item.due.duration_since(now).unwrap_or_default().as_secs(),
        tries: 0,
        in_doubt: false,
        last: None,
        stranded: stranded(config, row),
    };
    let Some(entry) = Entry::read(row) else { return shown };
    (shown.tries, shown.last) = (entry.tries(), entry.last().map(str::to_owned));
    match entry.what {
        What::Send(send) => {
            shown.kind = "send";
            shown.from = send.envelope().from.map(|from| from.to_string());
            shown.recipients = send.recipients.iter().map(|recipient| recipient.address()).collect();
            shown.in_doubt = send.is_in_doubt();
            shown.message_id = send.message_id;
        }
        What::File(file) => {
            shown.kind = file.kind();
            shown.message_id = file.message_id;
        }
    }
    shown
}

fn list(config: &Config, rows: &[OutboxRow], json: bool) -> Result<String, String> {
    let all: Vec<Shown> = rows.iter().map(|row| shown(config, row)).collect();
    if json {
        return serde_json::to_string_pretty(&all).map(|text| text + "\n").map_err(|error| error.to_string());
    }
    if all.is_empty() {
        return Ok("Nothing waits.\n".into());
    }
    Ok(all.iter().map(line).collect())
}

/// What came from outside stays on its line.
fn line(shown: &Shown) -> String {
    let what = match shown.kind {
        "send" => format!("to {}", shown.recipients.join(", ")),
        kind => format!("a {kind} to be stored"),
    };
    let minutes = |seconds: u64| seconds.div_ceil(60);
    let mut text = format!(
        "{}  {}  {what}  {}  waits {} min, next in {} min, {} tries",
        shown.id,
        shown.account,
        octets(shown.octets),
        minutes(shown.age_seconds),
        minutes(shown.next_seconds),
        shown.tries
    );
    if shown.in_doubt {
        text += ", may have been sent";
    }
    if let Some(why) = shown.stranded {
        text += &format!(", is not sent: {why}");
    }
    if let Some(last) = &shown.last {
        text += &format!(": {last}");
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).chain(['\n']).collect()
}
