//! What `[account.smtp]` says beside the server: what is kept and sent later, what is copied, what is changed on the way.

use std::time::Duration;

use super::account::mail_address;
use super::load::{one_of, read_size};
use super::reader::Table;
use super::values;

/// How messages of an account are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Messages that cannot be sent now are accepted and sent later.
    pub queue: bool,
    /// So many may wait, at least 1.
    pub queue_max_messages: u32,
    /// Octets they may have together.
    pub queue_max_size: u64,
    /// After this the sender is told that a message could not be sent.
    pub queue_lifetime: Duration,
    /// Gets a copy of everything sent.
    pub archive: Option<String>,
    /// Stands as Reply-To in everything sent.
    pub reply_to: Option<String>,
    pub sent_copy: Option<SentCopy>,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            queue: false,
            queue_max_messages: 1000,
            queue_max_size: 1_000_000_000,
            // RFC 5321 §4.5.4.1: four to five days.
            queue_lifetime: Duration::from_secs(5 * 86_400),
            archive: None,
            reply_to: None,
            sent_copy: None,
        }
    }
}

/// Who puts a sent message into the sent folder. Not said: the provider where it is known to, else the mail program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentCopy {
    Provider,
    Client,
    Mailweir,
}

/// Reads what `[account.smtp]` says of it.
pub(super) fn read(smtp: &Table<'_>) -> Sending {
    let usual = Sending::default();
    let most = smtp.number("queue_max_messages").and_then(|at| {
        at.parse(|n| {
            u32::try_from(*n).ok().filter(|n| (1..=100_000).contains(n)).ok_or_else(|| {
                (format!("{n} messages cannot wait"), "Give a number from 1 to 100000; 1000 is the default.".to_owned())
            })
        })
    });
    let lifetime = smtp.text("queue_lifetime").and_then(|at| {
        at.parse(|text| {
            values::days(text).filter(|days| (1..=30).contains(days)).ok_or_else(|| {
                (format!("`{text}` is no time a message waits"), "Write days from \"1d\" to \"30d\".".to_owned())
            })
        })
    });
    let address = |key| smtp.text(key).and_then(|at| at.parse(|text| one_line(text)));
    let copies = [("provider", SentCopy::Provider), ("client", SentCopy::Client), ("mailweir", SentCopy::Mailweir)];
    Sending {
        queue: smtp.boolean("queue").is_some_and(|at| at.value),
        queue_max_messages: most.unwrap_or(usual.queue_max_messages),
        queue_max_size: read_size(smtp, "queue_max_size").unwrap_or(usual.queue_max_size),
        queue_lifetime: lifetime.map_or(usual.queue_lifetime, |days| Duration::from_secs(u64::from(days) * 86_400)),
        archive: address("archive"),
        reply_to: address("reply_to"),
        sent_copy: smtp.text("sent_copy").and_then(|at| at.parse(|text| one_of(text, &copies, ""))),
    }
}

/// An address that can stand in an envelope and in a header as it is.
fn one_line(text: &str) -> Result<String, values::Wrong> {
    let address = mail_address(text)?;
    let odd = |c: char| !c.is_ascii_graphic() || "<>()[]\\,;:\"".contains(c);
    if address.chars().any(odd) {
        let what = format!("`{}` cannot stand in a header as it is", text.escape_debug());
        return Err((what, "Write a plain address like \"ann@example.org\".".into()));
    }
    Ok(address)
}
