//! `demo --compare`: the same twenty mail programs, once at the provider directly and once through the daemon.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::client::{Answer, Client};
use super::stage::{self, CONNECTIONS, PASSWORD, PROVIDER_PASSWORD, Ports, Stage, USER};
use crate::config::Prefetch;
use crate::daemon::simulated::{Counts, MAX_CONNECTIONS, Provider, Scenario};
use crate::daemon::status::octets;

/// Mail programs: a few people with a few devices each, and more than the provider bears.
pub(super) const CLIENTS: usize = 20;
/// Each reads the newest messages of INBOX, this many.
const MESSAGES: u32 = 40;

/// What one mail program got.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    /// The messages, as (UID, octets).
    Mail(Vec<(u32, Vec<u8>)>),
    /// The server's words.
    Refused(String),
}

/// How it went for all of them, and what the provider had to do.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) served: usize,
    /// The words of each refusal or failure.
    pub(super) refused: Vec<String>,
    /// Octets of mail all of them got together.
    pub(super) received: u64,
    pub(super) provider: Counts,
    took: Duration,
    /// What the served ones read, if they all read the same.
    mail: Option<Vec<(u32, Vec<u8>)>>,
}

/// Both outcomes.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) direct: Outcome,
    pub(super) through: Outcome,
}

impl Comparison {
    /// Plays both. The error is for a person to read.
    pub(super) async fn run(ports: Ports, keep: Option<&Path>) -> Result<Self, String> {
        let provider = stage::provider(Scenario::gmail(), ports)?;
        let direct = everybody(&provider, provider.address(), PROVIDER_PASSWORD).await;
        // The daemon comes to a provider that nobody else uses.
        provider.deserted().await;
        provider.reset_counts();
        // Nothing is fetched ahead: the table shows what the clients cost.
        let stage = Stage::set(provider, ports, keep, Prefetch::None).await?;
        let through = match stage.listener("imap") {
            Some(imap) => Ok(everybody(&stage.provider, imap, PASSWORD).await),
            None => Err("the daemon has no IMAP listener".to_owned()),
        };
        stage.strike().await;
        Ok(Self { direct, through: through? })
    }

    /// Whether the daemon kept its promise: everybody served, the same mail, few connections, every message fetched once.
    pub(super) fn holds(&self) -> bool {
        let Outcome { served, provider, mail, .. } = &self.through;
        let once: Option<u64> = mail.as_ref().map(|mail| mail.iter().map(|(_, raw)| raw.len() as u64).sum());
        *served == CLIENTS
            && mail.is_some()
            && *mail == self.direct.mail
            && provider.connections_most <= CONNECTIONS as usize
            && once.is_some_and(|once| provider.body_octets <= once)
    }
}

/// Lets everybody log in at once, and those who could read while all are connected.
async fn everybody(provider: &Provider, address: SocketAddr, password: &str) -> Outcome {
    let started = Instant::now();
    let logins = join_all((0..CLIENTS).map(|_| log_in(address, password))).await;
    let reads = logins.into_iter().map(|login| async {
        match login {
            Ok(Ok(client)) => read(client).await.unwrap_or_else(|error| Got::Refused(error.to_string())),
            Ok(Err(words)) => Got::Refused(words),
            Err(error) => Got::Refused(error.to_string()),
        }
    });
    let got = join_all(reads).await;
    let mut outcome = Outcome {
        served: 0,
        refused: Vec::new(),
        received: 0,
        provider: provider.counts(),
        took: started.elapsed(),
        mail: None,
    };
    let mut same = true;
    for one in got {
        match one {
            Got::Refused(words) => outcome.refused.push(words),
            Got::Mail(mail) => {
                outcome.served += 1;
                outcome.received += mail.iter().map(|(_, raw)| raw.len() as u64).sum::<u64>();
                match &outcome.mail {
                    Some(first) => same &= *first == mail,
                    None => outcome.mail = Some(mail),
                }
            }
        }
    }
    outcome.mail = outcome.mail.filter(|_| same);
    outcome
}

/// A connection that is logged in, or the words it was refused with.
async fn log_in(address: SocketAddr, password: &str) -> io::Result<Result<Client, String>> {
    let mut client = Client::connect(address).await?;
    let done = client.login(USER, password).await?;
    Ok(if done.ok { Ok(client) } else { Err(done.text) })
}

async fn read(mut client: Client) -> io::Result<Got> {
    let selected = client.command("EXAMINE INBOX").await?;
    if !selected.ok {
        return Ok(Got::Refused(selected.text));
    }
    let exists = selected.untagged.iter().find_map(|answer| number_before(&answer.line, " EXISTS")).unwrap_or(0);
    let first = exists.saturating_sub(MESSAGES) + 1;
    let done = client.command(&format!("FETCH {first}:{exists} (UID BODY.PEEK[])")).await?;
    if !done.ok {
        return Ok(Got::Refused(done.text));
    }
    let mail: Vec<(u32, Vec<u8>)> = done.untagged.into_iter().filter_map(message).collect();
    client.command("LOGOUT").await?;
    Ok(Got::Mail(mail))
}

/// `* 172 EXISTS`.
fn number_before(line: &str, word: &str) -> Option<u32> {
    line.strip_prefix("* ")?.strip_suffix(word)?.parse().ok()
}

/// UID and octets of a FETCH answer.
fn message(answer: Answer) -> Option<(u32, Vec<u8>)> {
    let (_, rest) = answer.line.split_once("UID ")?;
    let uid = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    answer.literals.into_iter().next().map(|raw| (uid, raw))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direct, through } = self;
        writeln!(
            f,
            "\n{CLIENTS} mail programs read the newest {MESSAGES} messages of one account at the same time.\n"
        )?;
        writeln!(f, "  {:<36}{:>14}{:>20}", "", "directly", "through mailweir")?;
        let mut row = |name: &str, value: fn(&Outcome) -> String| {
            writeln!(f, "  {name:<36}{:>14}{:>20}", value(direct), value(through))
        };
        row("served", |outcome| format!("{} of {CLIENTS}", outcome.served))?;
        row("refused", |outcome| outcome.refused.len().to_string())?;
        row("mail they received, together", |outcome| octets(outcome.received))?;
        row("time", |outcome| format!("{:.1} s", outcome.took.as_secs_f64()))?;
        writeln!(f, "  at the provider:")?;
        let mut row = |name: &str, value: fn(&Outcome) -> String| {
            writeln!(f, "    {name:<34}{:>14}{:>20}", value(direct), value(through))
        };
        row("connections at once (15 allowed)", |outcome| outcome.provider.connections_most.to_string())?;
        row("logins", |outcome| outcome.provider.logins.to_string())?;
        row("messages sent out", |outcome| outcome.provider.bodies.to_string())?;
        row("octets of them", |outcome| octets(outcome.provider.body_octets))?;
        for (who, outcome) in [("The provider", direct), ("mailweir", through)] {
            let mut words: Vec<&str> = outcome.refused.iter().map(String::as_str).collect();
            words.dedup();
            for words in words {
                writeln!(f, "\n{who} said: {words}")?;
            }
        }
        let verdict = if self.holds() {
            format!(
                "\nEverybody was served through mailweir, with the same mail octet for octet, and the provider saw {} of the {} \
                 connections it allows.",
                through.provider.connections_most, MAX_CONNECTIONS
            )
        } else {
            "\nmailweir did not keep its promise: see the table.".to_owned()
        };
        writeln!(f, "{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn twenty_clients_are_served_over_three_connections() {
        let comparison = Comparison::run(Ports::default(), None).await.unwrap();
        let Comparison { direct, through } = &comparison;
        let shown = comparison.to_string();
        assert_eq!((direct.served, direct.refused.len()), (MAX_CONNECTIONS, CLIENTS - MAX_CONNECTIONS), "{shown}");
        assert!(direct.refused.iter().all(|words| words == "NO [ALERT] Too many simultaneous connections. (Failure)"));
        assert_eq!(direct.provider.connections_most, MAX_CONNECTIONS, "{shown}");
        assert_eq!((through.served, through.refused.len()), (CLIENTS, 0), "{shown}");
        assert!(through.provider.connections_most <= 3 && through.provider.refused == 0, "{shown}");
        // Nobody got less, and the provider sent every message once.
        let mail = through.mail.as_ref().expect("all read the same");
        assert_eq!(mail.len(), MESSAGES as usize);
        let once: u64 = mail.iter().map(|(_, raw)| raw.len() as u64).sum();
        assert_eq!(through.received, once * CLIENTS as u64);
        assert_eq!(through.provider.body_octets, once, "{shown}");
        assert!(comparison.holds(), "{shown}");
    }
}
