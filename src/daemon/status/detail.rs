//! The parts of a status: plain data, and its words.

use serde::{Deserialize, Serialize};

use super::AccountStatus;

/// How an account is, all in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The provider has not answered yet, and nothing is wrong.
    #[default]
    Starting,
    /// The mirror agrees with the provider.
    InStep,
    /// Mailboxes are read for the first time.
    Reading,
    /// Something is in the way, and goes away by itself.
    Waiting,
    /// The account's owner has to do something.
    NeedsYou,
}

/// A client that is logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub account: String,
    /// `imap`, `pop3` or `smtp`.
    pub protocol: String,
    /// Its address.
    pub peer: String,
    /// What it says it is (RFC 2971).
    pub program: Option<String>,
    /// What followed the address in its login.
    pub device: Option<String>,
    /// The mailbox it has open.
    pub mailbox: Option<String>,
    pub since_seconds: u64,
}

/// Octets of an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    pub downloaded: u64,
    pub uploaded: u64,
}

/// One mailbox of the mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxStatus {
    pub name: String,
    pub messages: u64,
    /// It was read whole once.
    pub known: bool,
    /// The provider tells of changes as they happen.
    pub live: bool,
    /// Since it was last seen to agree with the provider.
    pub checked_seconds: Option<u64>,
}

/// Messages read since the start, by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    pub hit: u64,
    pub filled: u64,
    pub joined: u64,
    pub refused: u64,
}

/// Something that does not go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub what: String,
    pub why: String,
    /// How long, at most; unknown where it depends on others.
    pub seconds: Option<u64>,
}

/// Something that went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub ago_seconds: u64,
    /// In a row.
    pub times: u64,
    pub what: String,
    pub mend: Option<String>,
}

impl State {
    /// In two or three words.
    pub fn headline(self) -> &'static str {
        match self {
            Self::Starting => "Connecting",
            Self::InStep => "In step",
            Self::Reading => "Reading for the first time",
            Self::Waiting => "Waiting",
            Self::NeedsYou => "Needs you",
        }
    }
}

impl Reads {
    /// Of a hundred messages read, how many the provider was not asked for; `None` before the first.
    pub fn hit_percent(&self) -> Option<u64> {
        let here = self.hit + self.joined;
        let all = here + self.filled + self.refused;
        (here * 100 + all / 2).checked_div(all)
    }
}

impl AccountStatus {
    /// All in all; `stopped`: nothing is tried again before its owner acts.
    pub(in crate::daemon) fn judge(&self, stopped: bool) -> State {
        let (mailboxes, known) = (self.mailbox_count, self.mailboxes_read);
        if self.needs_login.is_some() || stopped {
            State::NeedsYou
        } else if self.not_ready().is_some() && (self.fault.is_some() || self.seen_seconds.is_some()) {
            State::Waiting
        } else if !self.readings.is_empty() || known < mailboxes {
            State::Reading
        } else if self.seen_seconds.is_none() || mailboxes == 0 {
            State::Starting
        } else {
            State::InStep
        }
    }

    /// What the state means here and now, in a sentence.
    pub fn explanation(&self) -> String {
        let (mailboxes, known) = (self.mailbox_count, self.mailboxes_read);
        match self.state {
            State::Starting => "The provider has not answered yet.".into(),
            State::InStep => match self.seen_seconds {
                Some(seconds) if seconds < 90 => "The provider answered a moment ago.".into(),
                seconds => {
                    format!("The provider last answered {} ago.", duration(seconds.unwrap_or_default() / 60 * 60))
                }
            },
            State::Reading if mailboxes == 0 => "The list of mailboxes is being read.".into(),
            State::Reading if known == 0 => format!("None of {mailboxes} mailboxes is read whole yet."),
            State::Reading => format!("{known} of {mailboxes} mailboxes are read. What is read can be used already."),
            State::Waiting => self.not_ready().unwrap_or_default(),
            State::NeedsYou => {
                let words = self.needs_login.clone().or_else(|| self.notice.clone());
                words.or_else(|| self.fault.clone()).unwrap_or_default()
            }
        }
    }
}

/// A span for a reader, in its two largest units.
pub fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, _) if minutes >= 10 => format!("{minutes} min"),
        (0, 0, minutes, 0) => format!("{minutes} min"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, 0, _) => format!("{hours} h"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (1, 0, ..) => "1 day".into(),
        (days, 0, ..) => format!("{days} days"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_judged_by_what_matters_most() {
        let well = AccountStatus {
            seen_seconds: Some(3),
            ready_within_seconds: 660,
            mailbox_count: 2,
            mailboxes_read: 2,
            ..AccountStatus::default()
        };
        let reading = crate::daemon::status::Reading::default();
        let table = [
            (well.clone(), false, State::InStep),
            (AccountStatus { seen_seconds: None, ..well.clone() }, false, State::Starting),
            (AccountStatus { mailbox_count: 0, mailboxes_read: 0, ..well.clone() }, false, State::Starting),
            (AccountStatus { mailbox_count: 2, mailboxes_read: 1, ..well.clone() }, false, State::Reading),
            (AccountStatus { readings: vec![reading], ..well.clone() }, false, State::Reading),
            (AccountStatus { seen_seconds: None, fault: Some("away".into()), ..well.clone() }, false, State::Waiting),
            (AccountStatus { seen_seconds: Some(10_000), ..well.clone() }, false, State::Waiting),
            (well.clone(), true, State::NeedsYou),
            (AccountStatus { needs_login: Some("log in".into()), ..well }, false, State::NeedsYou),
        ];
        for (row, (status, stopped, want)) in table.into_iter().enumerate() {
            assert_eq!(status.judge(stopped), want, "row {row}");
        }
    }

    #[test]
    fn spans_and_rates_are_readable() {
        let spans = [0, 59, 60, 61, 600, 3600, 3660, 86_400, 90_000, 172_800].map(duration);
        let want = ["0 s", "59 s", "1 min", "1 min 1 s", "10 min", "1 h", "1 h 1 min", "1 day", "1 d 1 h", "2 days"];
        assert_eq!(spans, want);
        assert_eq!(Reads::default().hit_percent(), None);
        assert_eq!(Reads { hit: 1, filled: 2, ..Reads::default() }.hit_percent(), Some(33));
        assert_eq!(Reads { hit: 1, joined: 1, ..Reads::default() }.hit_percent(), Some(100));
    }
}
