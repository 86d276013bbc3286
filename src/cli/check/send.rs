//! `mailweir check --send-test TO`: a message through the account's own server for sending, watched until it arrives.
//!
//! It goes straight to the provider, as the daemon's messages do, and counts toward the account's day as they do. Where TO is an account of this configuration its mailbox is looked into,
//! INBOX and what the provider takes for unwanted mail; elsewhere only the server's word is known. Nothing is deleted: whoever gets it sees
//! what it is.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::{Instant, sleep, timeout};

use super::{sender, sending_credentials};
use crate::config::{self, Account};
use crate::daemon::STATE_FILE;
use crate::daemon::spending::Elsewhere;
use crate::daemon::tokens::Vault;
use crate::net::Target;
use crate::state::State;
use crate::upstream::smtp::{Passage, Postage, Reply, advice};
use crate::upstream::{Class, Config, Credentials, Lease, Pool};
use crate::wire::smtp::same_address;

/// From the connection to the server's word on the message. Servers that look at a message first take half a minute.
const SEND_TIMEOUT: Duration = Duration::from_secs(120);
/// Between two looks into the mailbox: the first soon, as most mail to oneself is there at once.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(5);

/// What is sent: so that it is found again, and so that a person who finds it knows what it is.
struct Letter {
    token: String,
    text: String,
}

impl Letter {
    fn new(from: &str, to: &str) -> Result<Self, String> {
        let token = format!("{:032x}", rand::random::<u128>());
        let date = OffsetDateTime::now_utc().format(&Rfc2822).map_err(|error| error.to_string())?;
        let domain = from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
        let text = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nSubject: mailweir check {token}\r\nDate: {date}\r\nMessage-ID: <{token}@{domain}>\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\nAuto-Submitted: auto-generated\r\n\r\n\
             This message was sent by `mailweir check --send-test`, to see whether sending works. It can be deleted.\r\n"
        );
        Ok(Self { token, text })
    }
}

/// Sends a message from the account to `to` and waits for it; what came of it, in words.
pub(super) async fn try_out(
    config: &config::Config,
    account: &Account,
    to: &str,
    wait: Duration,
) -> Result<String, String> {
    let letter = Letter::new(&account.address, to)?;
    let started = Instant::now();
    let sent = timeout(SEND_TIMEOUT, Box::pin(send(config, account, to, &letter))).await;
    let said = sent.map_err(|_| {
        format!(
            "the server for sending did not come to an end in {} s; whether it took the message is not known",
            SEND_TIMEOUT.as_secs()
        )
    })??;
    let taken = format!("the server took the message after {:.1} s ({said})", started.elapsed().as_secs_f64());
    let Some(receiver) = of_ours(config, to) else {
        return Ok(format!(
            "{taken}; {to} is no account of this configuration, so only its owner sees whether it arrives"
        ));
    };
    let arrived = arrival(config, receiver, &letter.token, wait).await;
    let arrived =
        arrived.map_err(|words| format!("{taken}, but the mailbox of {to} cannot be looked into: {words}"))?;
    match arrived {
        Some((mailbox, after)) => {
            Ok(format!("{taken}, and it was in {mailbox} of {to} {:.1} s later", after.as_secs_f64()))
        }
        None => {
            Err(format!("{taken}, but it did not arrive: it was not in {to}'s mailbox within {} s", wait.as_secs()))
        }
    }
}

/// The account that gets what is sent there.
fn of_ours<'a>(config: &'a config::Config, to: &str) -> Option<&'a Account> {
    let has = |account: &&Account| {
        std::iter::once(&account.address).chain(&account.aliases).any(|address| same_address(address, to))
    };
    config.accounts.iter().find(has)
}

/// One transaction; the server's word on it.
async fn send(config: &config::Config, account: &Account, to: &str, letter: &Letter) -> Result<String, String> {
    let Some(server) = &account.smtp else {
        return Err("the account has no server for sending: set [account.smtp]".into());
    };
    let credentials = Vault::open(config).await?.way(account).await?.credentials();
    let credentials = sending_credentials(account, server, credentials).await?;
    let smtp = sender(account, server, postage(config, account).await?);
    let done = async {
        let mut passage = smtp.lease(&credentials).await.map_err(|error| error.to_string())?;
        let done = transaction(&mut passage, &account.address, to, letter).await;
        passage.rest(done.is_ok()).await;
        done
    };
    let done = done.await;
    smtp.shutdown().await;
    done
}

/// What is sent here counts toward the account's day. Where no daemon has begun to count there is nothing to count with.
async fn postage(config: &config::Config, account: &Account) -> Result<Arc<dyn Postage>, String> {
    let path = config.data_dir.join(STATE_FILE);
    let opened = tokio::task::spawn_blocking(move || match path.exists() {
        true => State::open(&path).map(Some).map_err(|error| format!("what is sent cannot be counted: {error}")),
        false => Ok(None),
    });
    Ok(match opened.await.map_err(|error| error.to_string())?? {
        Some(state) => Elsewhere::new(account, state),
        None => Arc::new(()),
    })
}

async fn transaction(passage: &mut Passage, from: &str, to: &str, letter: &Letter) -> Result<String, String> {
    let wide = !(from.is_ascii() && to.is_ascii());
    if wide && !passage.offers().is_some_and(|offers| offers.utf8) {
        return Err("the server for sending takes no addresses beyond ASCII (SMTPUTF8)".into());
    }
    let more = if wide { " SMTPUTF8" } else { "" };
    for line in [format!("MAIL FROM:<{from}>{more}"), format!("RCPT TO:<{to}>"), "DATA".to_owned()] {
        passage.send(&line).await.map_err(|lost| lost.to_string())?;
        let reply = passage.reply().await.map_err(|lost| lost.to_string())?;
        if !(reply.is_positive() || reply.code == 354) {
            return Err(refusal(&reply));
        }
    }
    // No line of ours begins with a dot.
    let octets = format!("{}.\r\n", letter.text);
    let reply = match passage.write(octets.as_bytes()).await {
        Ok(()) => {
            passage.verdict().await.map_err(|lost| format!("{lost}; whether it took the message is not known"))?
        }
        Err(lost) => passage.last_words().await.ok_or_else(|| lost.to_string())?,
    };
    if reply.is_positive() { Ok(shown(&reply)) } else { Err(refusal(&reply)) }
}

fn refusal(reply: &Reply) -> String {
    let words = format!("the server for sending refuses the message: {}", shown(reply));
    match advice(reply) {
        "" => words,
        advice => format!("{words}. {advice}"),
    }
}

fn shown(reply: &Reply) -> String {
    let enhanced = reply.enhanced.as_deref().unwrap_or_default();
    let text = format!("{} {enhanced} {}", reply.code, reply.text()).split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Where the message is, and how long that took; `None` at the end of the time.
async fn arrival(
    config: &config::Config,
    account: &Account,
    token: &str,
    wait: Duration,
) -> Result<Option<(String, Duration)>, String> {
    let credentials: Credentials = Vault::open(config).await?.way(account).await?.credentials();
    let server = &account.imap;
    let pool = Pool::new(Config::new(&account.address, Target::of(server), &server.username, credentials, 1));
    let looked = async {
        let mut lease = pool.lease(Class::Bulk, None).await?;
        let junk = lease
            .list()
            .await?
            .into_iter()
            .find(|line| line.attributes.iter().any(|attribute| attribute.eq_ignore_ascii_case("\\Junk")));
        let mailboxes: Vec<String> = std::iter::once("INBOX".to_owned()).chain(junk.map(|line| line.name)).collect();
        watch(&mut lease, &mailboxes, token, wait).await
    };
    let found = looked.await.map_err(|error: crate::upstream::Error| error.to_string());
    pool.shutdown().await;
    found
}

async fn watch(
    lease: &mut Lease,
    mailboxes: &[String],
    token: &str,
    wait: Duration,
) -> Result<Option<(String, Duration)>, crate::upstream::Error> {
    let (started, mut pause) = (Instant::now(), FIRST_LOOK);
    let program = format!("SUBJECT {token}");
    loop {
        for mailbox in mailboxes {
            // Anew each time: a session is told of new mail only when it looks.
            lease.reselect(mailbox, None).await?;
            if !lease.search(program.as_bytes()).await?.is_empty() {
                return Ok(Some((mailbox.clone(), started.elapsed())));
            }
        }
        let left = wait.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letter_needs_no_dots_and_no_long_lines() {
        let (one, other) =
            (Letter::new("ann@example.org", "bob@example.net").unwrap(), Letter::new("a@b", "c@d").unwrap());
        assert_ne!(one.token, other.token);
        assert!(one.text.contains(&format!("Message-ID: <{}@example.org>\r\n", one.token)), "{}", one.text);
        for line in one.text.split_inclusive("\r\n") {
            assert!(
                line.ends_with("\r\n") && !line.starts_with('.') && line.len() < 200 && line.is_ascii(),
                "{line:?}"
            );
        }
    }
}
