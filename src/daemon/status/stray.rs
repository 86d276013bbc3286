//! Messages that wait to be sent and nobody sends, because of what the configuration says now.

use serde::{Deserialize, Serialize};

use super::octets;

/// Why, and what to do, where an account has no server for sending any more.
pub const NO_SERVER: &str =
    "the account has no server for sending any more: put [account.smtp] back, or drop them with `mailweir outbox drop`";
/// The same where there is no such account.
pub const NO_ACCOUNT: &str =
    "the account is not in the configuration any more: put it back, or drop them with `mailweir outbox drop`";

/// What waits for an account that is not configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    pub account: String,
    pub messages: u64,
    pub octets: u64,
    /// Age of the oldest.
    pub oldest_seconds: u64,
}

impl Stray {
    /// For a reader.
    pub fn words(&self) -> String {
        let noun = if self.messages == 1 { "message waits" } else { "messages wait" };
        let size = octets(self.octets);
        format!("{} {noun} in the outbox of {} ({size}), and nobody sends: {NO_ACCOUNT}", self.messages, self.account)
    }
}
