//! Messages sent and their recipients in the last 24 hours: what providers count beside bytes, and block an account for.
//!
//! A refused send must not be tried: at some providers every attempt above the limit begins the block anew. So both counts are asked
//! before anything is handed over, and a send counts when it is begun, whatever becomes of it.

use std::time::{Duration, SystemTime};

use super::ledger::Ledger;
use super::{Direction, Entry};

/// What the provider lets out in 24 hours; `None`: not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendLimits {
    pub messages_per_day: Option<u64>,
    pub recipients_per_day: Option<u64>,
}

/// What is counted of an account and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Bytes(Direction),
    /// Sent, and their recipients.
    Messages,
    Recipients,
}

impl Counted {
    /// The word used in the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes(direction) => direction.as_str(),
            Self::Messages => "messages",
            Self::Recipients => "recipients",
        }
    }
}

/// The two counts of an account.
#[derive(Default)]
pub struct Sends {
    messages: Ledger,
    recipients: Ledger,
}

impl Sends {
    /// Whether one message to so many recipients may be sent; if not, for how long to wait.
    pub fn room(&mut self, recipients: u64, limits: SendLimits, now: SystemTime) -> Result<(), Duration> {
        let wait =
            |ledger: &mut Ledger, count, limit: Option<u64>| limit.and_then(|limit| ledger.wait(count, limit, now));
        let waits = [
            wait(&mut self.messages, 1, limits.messages_per_day),
            wait(&mut self.recipients, recipients, limits.recipients_per_day),
        ];
        if let Some(longest) = waits.into_iter().flatten().max() {
            return Err(longest);
        }
        Ok(())
    }

    /// Counts it; if it is one too many, for how long to wait, and nothing is counted.
    pub fn take(&mut self, recipients: u64, limits: SendLimits, now: SystemTime) -> Result<(), Duration> {
        self.room(recipients, limits, now)?;
        self.messages.add(1, now);
        self.recipients.add(recipients, now);
        Ok(())
    }

    /// One that was counted was not sent after all.
    pub fn give_back(&mut self, recipients: u64, now: SystemTime) {
        self.messages.take_back(1, now);
        self.recipients.take_back(recipients, now);
    }

    /// Messages and recipients of the last 24 hours.
    pub fn used(&mut self, now: SystemTime) -> (u64, u64) {
        (self.messages.used(now), self.recipients.used(now))
    }

    /// Both counts for the durable state.
    pub fn export(&mut self, now: SystemTime) -> (Vec<Entry>, Vec<Entry>) {
        (self.messages.export(now), self.recipients.export(now))
    }

    /// Adds what an earlier run has counted.
    pub fn import(&mut self, messages: &[Entry], recipients: &[Entry], now: SystemTime) {
        self.messages.import(messages, now);
        self.recipients.import(recipients, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_200 + seconds)
    }

    #[test]
    fn messages_and_recipients_each_have_their_end() {
        let limits = SendLimits { messages_per_day: Some(3), recipients_per_day: Some(10) };
        let mut sends = Sends::default();
        assert_eq!(sends.take(9, limits, at(0)), Ok(()));
        assert_eq!(sends.take(2, limits, at(1)), Err(Duration::from_secs(86_400 + 599)), "eleven recipients");
        assert_eq!(sends.used(at(1)), (1, 9), "a refused one is not counted");
        assert_eq!(sends.take(1, limits, at(700)), Ok(()));
        assert!(sends.take(1, limits, at(800)).is_err());
        assert_eq!(sends.take(0, limits, at(900)), Ok(()));
        assert!(sends.take(0, limits, at(900)).is_err(), "a fourth message");
        let (messages, recipients) = sends.export(at(900));
        let mut again = Sends::default();
        again.import(&messages, &recipients, at(1000));
        assert_eq!(again.used(at(1000)), (3, 10), "a restart forgets nothing");
        assert_eq!(again.used(at(86_400 + 600)), (2, 1), "the first has left the window");
        assert_eq!(again.take(9, limits, at(86_400 + 600)), Ok(()));
        again.give_back(10, at(86_400 + 600));
        assert_eq!(again.used(at(86_400 + 600)), (2, 0), "over the end of a bucket, and never below nothing");
        assert_eq!(again.take(1000, SendLimits::default(), at(86_400 + 600)), Ok(()), "not limited");
    }
}
