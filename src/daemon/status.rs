//! What the daemon says of itself: the one value behind the status page, `mailweir status` and `/readyz`.

use serde::{Deserialize, Serialize};

/// An account whose last round trip to its provider is older than this is not ready: IDLE is renewed every nine minutes.
const FRESH_SECONDS: u64 = 660;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub uptime_seconds: u64,
    /// Client connections open now.
    pub sessions: u64,
    pub cache_bytes: u64,
    pub accounts: Vec<AccountStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStatus {
    pub address: String,
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
    /// The account's owner has to log in at the provider: why, and how.
    #[serde(default)]
    pub needs_login: Option<String>,
    /// What keeps the account from its provider now, in plain words.
    pub fault: Option<String>,
    /// What the user should know of it: what waits for him, or what is spent.
    #[serde(default)]
    pub notice: Option<String>,
    /// The first reading of a mailbox that is under way.
    #[serde(default)]
    pub reading: Option<Reading>,
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
    /// For a reader.
    pub fn words(&self) -> String {
        let minutes = |seconds: u64| format!("{} min", seconds.div_ceil(60));
        let mut words = format!("{} messages wait to be sent ({})", self.messages, octets(self.octets));
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
}

impl Reading {
    /// For a reader.
    pub fn words(&self) -> String {
        format!("reading {}: {} of {} messages", self.mailbox, self.messages, self.of)
    }
}

impl AccountStatus {
    /// Why the account is not in step with its provider; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        if let Some(words) = &self.needs_login {
            return Some(words.clone());
        }
        match (&self.fault, self.seen_seconds) {
            (_, Some(seconds)) if seconds <= FRESH_SECONDS => None,
            (Some(fault), _) => Some(fault.clone()),
            (None, None) => Some("the provider has not answered yet".into()),
            (None, Some(seconds)) => Some(format!("the provider has not answered for {} minutes", seconds / 60)),
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
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!([octets(999), octets(1500), octets(2_500_000_000)], ["999 bytes", "1.5 kB", "2.5 GB"]);
    }
}
