//! What the daemon says of itself: the one value behind the status page, `mailweir status` and `/readyz`.

mod detail;
mod stray;

use serde::{Deserialize, Serialize};

pub use stray::{NO_ACCOUNT, NO_SERVER, Stray};

pub use detail::{Client, Hour, MailboxStatus, Problem, Reads, State, Waiting, duration};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub uptime_seconds: u64,
    /// Client connections open now.
    pub sessions: u64,
    pub cache_bytes: u64,
    /// Of these, the ones that are logged in.
    #[serde(default)]
    pub logged_in: u64,
    pub accounts: Vec<AccountStatus>,
    /// Who is logged in, the oldest first; not all of very many.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// What waits to be sent for accounts that are not configured.
    #[serde(default)]
    pub strays: Vec<Stray>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStatus {
    pub address: String,
    /// The label of its metrics, unless `http.label_accounts` is on.
    #[serde(default)]
    pub id: String,
    /// Host and port of the provider's IMAP server.
    pub upstream: String,
    pub connections: u64,
    pub connections_allowed: u64,
    /// Octets in the last 24 hours.
    pub downloaded: u64,
    pub download_allowed: Option<u64>,
    pub uploaded: u64,
    pub upload_allowed: Option<u64>,
    /// Messages sent in the last 24 hours, their recipients, and how many there may be.
    #[serde(default)]
    pub messages_sent: u64,
    #[serde(default)]
    pub messages_allowed: Option<u64>,
    #[serde(default)]
    pub recipients_sent: u64,
    #[serde(default)]
    pub recipients_allowed: Option<u64>,
    /// Since the provider last answered; none before its first answer.
    pub seen_seconds: Option<u64>,
    /// The last round trip is to be no older than this (`http.ready_within`).
    #[serde(default)]
    pub ready_within_seconds: u64,
    /// What is wrong with the disk it is kept on.
    #[serde(default)]
    pub disk_fault: Option<String>,
    /// The account's owner has to log in at the provider: why, and how.
    #[serde(default)]
    pub needs_login: Option<String>,
    /// What keeps the account from its provider now, in plain words.
    pub fault: Option<String>,
    /// What the user should know of it: what waits for him, or what is spent.
    #[serde(default)]
    pub notice: Option<String>,
    /// All in all.
    #[serde(default)]
    pub state: State,
    /// What its owner can do about it, where something is wrong.
    #[serde(default)]
    pub mend: Option<String>,
    /// The first readings of mailboxes that are under way.
    #[serde(default)]
    pub readings: Vec<Reading>,
    /// The mailboxes that hold messages; empty until their list is known, and not all of very many.
    #[serde(default)]
    pub mailboxes: Vec<MailboxStatus>,
    /// How many there are,
    #[serde(default)]
    pub mailbox_count: u64,
    /// and how many of them were read whole.
    #[serde(default)]
    pub mailboxes_read: u64,
    #[serde(default)]
    pub messages: u64,
    /// What the cache of this account takes on disk.
    #[serde(default)]
    pub cache_bytes: u64,
    #[serde(default)]
    pub reads: Reads,
    /// The last 24 hours, the oldest first; together they are `downloaded` and `uploaded`.
    #[serde(default)]
    pub hours: Vec<Hour>,
    /// Sessions the provider bears for now, where it has said that there are too many.
    #[serde(default)]
    pub connections_lowered: Option<u64>,
    /// What does not go on, and why.
    #[serde(default)]
    pub waiting: Vec<Waiting>,
    /// What went wrong lately, the newest first.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// Messages that wait to be sent, where there are any.
    #[serde(default)]
    pub outbox: Option<OutboxStatus>,
}

/// What waits to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxStatus {
    pub messages: u64,
    pub octets: u64,
    /// Age of the oldest.
    pub oldest_seconds: Option<u64>,
    /// Until something is tried.
    pub next_seconds: Option<u64>,
    /// What stands in the way.
    pub words: Option<String>,
}

impl OutboxStatus {
    /// How much it is, for a reader.
    pub fn what(&self) -> String {
        let noun = if self.messages == 1 { "message waits" } else { "messages wait" };
        format!("{} {noun} to be sent ({})", self.messages, octets(self.octets))
    }

    /// For a reader.
    pub fn words(&self) -> String {
        let minutes = |seconds: u64| format!("{} min", seconds.div_ceil(60));
        let mut words = self.what();
        if let Some(oldest) = self.oldest_seconds {
            words += &format!(", the oldest for {}", minutes(oldest));
        }
        if let Some(next) = self.next_seconds {
            words += &format!("; tried next in {}", minutes(next));
        }
        if let Some(why) = &self.words {
            words += &format!(": {why}");
        }
        words
    }
}

/// How far the first reading of a mailbox is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    pub mailbox: String,
    pub messages: u64,
    pub of: u64,
    /// How much longer, at the pace so far.
    #[serde(default)]
    pub left_seconds: Option<u64>,
}

impl Reading {
    /// For a reader.
    pub fn words(&self) -> String {
        let left = self.left_seconds.map(|left| format!(", about {} left", duration(left.max(1))));
        format!("reading {}: {} of {} messages{}", self.mailbox, self.messages, self.of, left.unwrap_or_default())
    }
}

impl AccountStatus {
    /// Why the account is not in step with its provider; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        if let Some(words) = &self.needs_login {
            return Some(words.clone());
        }
        match (&self.fault, self.seen_seconds) {
            _ if self.is_reached() => self.disk_fault.clone(),
            (Some(fault), _) => Some(fault.clone()),
            (None, None) => Some("the provider has not answered yet".into()),
            (None, Some(seconds)) if seconds < 120 => {
                Some(format!("the provider has not answered for {seconds} seconds"))
            }
            (None, Some(seconds)) => Some(format!("the provider has not answered for {} minutes", seconds / 60)),
        }
    }

    /// Whether the last authenticated round trip is young enough. The words that kept us away meanwhile do not count: a connection that
    /// was lost and came back is no news.
    pub fn is_reached(&self) -> bool {
        self.seen_seconds.is_some_and(|seconds| seconds <= self.ready_within_seconds)
    }

    /// One of [`crate::metrics::STATES`]. `refused`: the provider has refused the login.
    pub(super) fn state(&self, refused: bool) -> &'static str {
        if self.needs_login.is_some() || refused {
            "needs_login"
        } else if !self.is_reached() && (self.seen_seconds.is_some() || self.fault.is_some()) {
            "unreachable"
        } else if self.disk_fault.is_some() {
            "disk"
        } else if self.seen_seconds.is_none() {
            "starting"
        } else {
            "ready"
        }
    }
}

/// Octets for a reader.
pub fn octets(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match UNITS.iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness() {
        let account = |seen, fault: Option<&str>| AccountStatus {
            seen_seconds: seen,
            ready_within_seconds: 660,
            fault: fault.map(str::to_owned),
            ..AccountStatus::default()
        };
        assert_eq!(account(Some(5), None).not_ready(), None);
        assert_eq!(account(None, None).not_ready().as_deref(), Some("the provider has not answered yet"));
        assert_eq!(
            account(Some(1200), None).not_ready().as_deref(),
            Some("the provider has not answered for 20 minutes")
        );
        let needs_login = AccountStatus { needs_login: Some("log in".into()), ..account(Some(5), None) };
        assert_eq!(needs_login.not_ready().as_deref(), Some("log in"));
        assert_eq!(account(None, Some("login refused")).not_ready().as_deref(), Some("login refused"));
        let short = AccountStatus { ready_within_seconds: 3, ..account(Some(4), Some("gone")) };
        assert_eq!(short.not_ready().as_deref(), Some("gone"));
        let full = AccountStatus { disk_fault: Some("full".into()), ..account(Some(5), Some("blinked")) };
        assert_eq!(full.not_ready().as_deref(), Some("full"));
    }

    #[test]
    fn states() {
        let within = |seen| AccountStatus { seen_seconds: seen, ready_within_seconds: 10, ..AccountStatus::default() };
        let faulty = |account: AccountStatus| AccountStatus { fault: Some("gone".into()), ..account };
        let full = |account: AccountStatus| AccountStatus { disk_fault: Some("full".into()), ..account };
        let table = [
            (within(None), false, "starting"),
            (within(Some(10)), false, "ready"),
            (faulty(within(Some(10))), false, "ready"),
            (faulty(within(Some(11))), false, "unreachable"),
            (within(Some(11)), false, "unreachable"),
            (faulty(within(None)), false, "unreachable"),
            (full(within(Some(1))), false, "disk"),
            (full(within(None)), false, "disk"),
            (within(Some(11)), true, "needs_login"),
        ];
        for (account, refused, want) in table {
            assert_eq!(account.state(refused), want, "{account:?}");
            assert!(crate::metrics::STATES.contains(&want));
        }
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!([octets(999), octets(1500), octets(2_500_000_000)], ["999 bytes", "1.5 kB", "2.5 GB"]);
    }
}
