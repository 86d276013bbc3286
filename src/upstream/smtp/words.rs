//! What a provider's refusals of mail mean to a person: the mend beside the server's own words (reference: providers has the texts).

use std::time::Duration;

use super::Reply;

/// A refusal people meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Basic authentication is gone.
    PasswordsGone,
    AppPassword,
    ProgramsNotAllowed,
    SendingDisabled,
    RecipientDisabled,
    AccountDisabled,
    /// Of messages in minutes.
    Rate,
    DailyLimit,
    SenderNotOwned,
    DynamicAddress,
    Spam,
    RecipientFull,
    NoRecipient,
}

/// Texts in lower case and enhanced codes, and what they mean. The first that fits is taken: the narrow ones stand before the wide ones.
const TEXTS: [(&[&str], Refusal); 14] = [
    (
        &[
            "basic authentication is disabled",
            "5.7.139",
            "smtpclientauthentication is disabled",
            "basic authentication is not supported",
        ],
        Refusal::PasswordsGone,
    ),
    (
        &["application-specific password", "application password", "parol prilozheniya", "app password", "5.7.9"],
        Refusal::AppPassword,
    ),
    (&["does not have access rights to this service"], Refusal::ProgramsNotAllowed),
    (
        &[
            "message sending for this account is disabled",
            "sending disabled",
            "outbound spam",
            "5.1.8",
            "account has been blocked",
        ],
        Refusal::SendingDisabled,
    ),
    (&["tried to reach is disabled", "5.2.1", "recipient disabled"], Refusal::RecipientDisabled),
    (
        &[
            "account is disabled",
            "account has been disabled",
            "account disabled",
            "account is suspended",
            "account suspended",
            "user is suspended",
        ],
        Refusal::AccountDisabled,
    ),
    (&["messages today", "recipients today", "daily message limit"], Refusal::DailyLimit),
    (&["message submission rate", "rate limit", "ratelimit", "sending rate", "too many messages"], Refusal::Rate),
    (
        &[
            "daily user sending",
            "daily sending quota",
            "daily limit",
            "submissionquotaexceeded",
            "reached a limit for sending",
            "sending limit",
            "5.4.5",
            "recipients per day",
            "messages per day",
        ],
        Refusal::DailyLimit,
    ),
    (
        &[
            "sender address rejected",
            "not owned by user",
            "not owned by auth user",
            "send as",
            "sendasdenied",
            "5.7.60",
            "must match authenticated",
            "from address",
        ],
        Refusal::SenderNotOwned,
    ),
    (&["ptr record", "dynamic", "5.7.25", "reverse dns", "blocklist", "blacklist"], Refusal::DynamicAddress),
    (&["spam", "unsolicited", "5.7.26", "content rejected", "suspicious"], Refusal::Spam),
    (&["mailbox full", "mailbox is full", "over quota", "quota exceeded", "5.2.2", "4.2.2"], Refusal::RecipientFull),
    (
        &[
            "user unknown",
            "no such user",
            "does not exist",
            "unknown recipient",
            "invalid recipient",
            "5.1.1",
            "user not found",
        ],
        Refusal::NoRecipient,
    ),
];

impl Refusal {
    /// What a server's reply means; nothing where it is no refusal, or its own words say it all.
    pub fn of(reply: &Reply) -> Option<Self> {
        if reply.code < 400 {
            return None;
        }
        let (text, code) = (reply.text().to_lowercase(), reply.enhanced.as_deref());
        // Codes are compared as codes: in the text the same digits may be an address's.
        let is_known = |known: &&str| match known.starts_with(|first: char| first.is_ascii_digit()) {
            true => code == Some(*known),
            false => text.contains(known),
        };
        TEXTS.iter().find(|(texts, _)| texts.iter().any(is_known)).map(|(_, refusal)| *refusal)
    }

    /// For how long nothing more may be tried after this answer to a login, MAIL, DATA or a message.
    pub fn block(reply: &Reply) -> Option<Duration> {
        Self::of(reply).and_then(Self::holds)
    }

    /// The same after an answer to RCPT: whose account is disabled or suspended there is the recipient, so only limits count.
    pub fn block_at_recipient(reply: &Reply) -> Option<Duration> {
        Self::of(reply).filter(|refusal| matches!(refusal, Self::Rate | Self::DailyLimit)).and_then(Self::holds)
    }

    /// What it means and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::PasswordsGone => {
                "This provider does not take passwords for sending any more: sign in with OAuth, or let the administrator allow SMTP AUTH."
            }
            Self::AppPassword => "This provider wants an app password instead of the account's password.",
            Self::ProgramsNotAllowed => "Allow mail programs in the provider's settings of this account.",
            Self::SendingDisabled => {
                "The provider has stopped sending from this account: change its password on the web and follow what it says there."
            }
            Self::RecipientDisabled => "The recipient's account is switched off at its provider.",
            Self::AccountDisabled => {
                "The provider has disabled the account: log in on the web and follow what it says there."
            }
            Self::Rate => "The provider takes messages more slowly than they are sent.",
            Self::DailyLimit => {
                "The provider's limit of messages for the day is reached; it ends by itself, mostly after 24 hours."
            }
            Self::SenderNotOwned => {
                "The provider sends from this address only what belongs to the account: check the sender's address, or add it as an alias there."
            }
            Self::DynamicAddress => {
                "The receiving side does not take mail from this network address: send through the provider's own server ([account.smtp])."
            }
            Self::Spam => {
                "The provider takes the message for unwanted mail: links, attachments or too many recipients do that."
            }
            Self::RecipientFull => "The recipient's mailbox is full.",
            Self::NoRecipient => "There is no such recipient: check the address.",
        }
    }

    /// For how long nothing more may be tried, where it is said of the account and not of a message. At some providers every attempt begins
    /// the block anew (Yandex), so it is waited out with something to spare.
    pub fn holds(self) -> Option<Duration> {
        const HOUR: u64 = 3600;
        match self {
            Self::DailyLimit => Some(Duration::from_secs(24 * HOUR + 600)),
            // Until somebody does something about it; a try now and then finds out that he has.
            Self::SendingDisabled | Self::AccountDisabled => Some(Duration::from_secs(12 * HOUR)),
            Self::PasswordsGone | Self::AppPassword | Self::ProgramsNotAllowed => Some(Duration::from_secs(HOUR)),
            Self::Rate => Some(Duration::from_secs(300)),
            _ => None,
        }
    }
}

/// The mend for a refusal; empty where its own words say it all, or where it is none.
pub fn advice(reply: &Reply) -> &'static str {
    Refusal::of(reply).map_or("", Refusal::advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusals_people_meet() {
        use Refusal::*;
        let table = [
            (535, "5.7.139", "Authentication unsuccessful, basic authentication is disabled.", PasswordsGone, "OAuth"),
            (550, "5.7.30", "Basic authentication is not supported for Client Submission.", PasswordsGone, "OAuth"),
            (
                535,
                "5.7.0",
                "NEOBHODIM parol prilozheniya https://help.mail.ru/ / Application password is REQUIRED",
                AppPassword,
                "app password",
            ),
            (534, "5.7.9", "Application-specific password required.", AppPassword, "app password"),
            (
                535,
                "5.7.8",
                "Error: authentication failed: This user does not have access rights to this service",
                ProgramsNotAllowed,
                "Allow mail programs",
            ),
            (550, "", "message sending for this account is disabled", SendingDisabled, "change its password"),
            (550, "5.1.8", "Access denied, bad outbound sender", SendingDisabled, "change its password"),
            (550, "5.2.1", "The email account that you tried to reach is disabled.", RecipientDisabled, "recipient's"),
            (535, "5.7.8", "Your account has been disabled", AccountDisabled, "has disabled the account"),
            (550, "5.4.5", "Daily user sending limit exceeded.", DailyLimit, "limit of messages"),
            (554, "5.2.0", "SubmissionQuotaExceededException", DailyLimit, "limit of messages"),
            (432, "4.3.2", "Message submission rate for this client has exceeded the configured limit", Rate, "slowly"),
            (554, "5.7.1", "[2] Message rejected under suspicion of SPAM; https://ya.cc/x", Spam, "unwanted"),
            (550, "", "spam message rejected", Spam, "unwanted"),
            (553, "5.7.1", "Sender address rejected: not owned by auth user.", SenderNotOwned, "sender's address"),
            (
                550,
                "5.1.1",
                "The email account that you tried to reach does not exist.",
                NoRecipient,
                "no such recipient",
            ),
            (550, "", "user not found", NoRecipient, "no such recipient"),
            (452, "4.2.2", "The recipient's inbox is over quota", RecipientFull, "full"),
            (
                550,
                "5.7.25",
                "The IP address sending this message does not have a PTR record",
                DynamicAddress,
                "network address",
            ),
            (550, "", "spam from dynamic address is not accepted", DynamicAddress, "network address"),
        ];
        for (code, enhanced, text, refusal, words) in table {
            let reply = Reply::new(code, enhanced, text);
            assert_eq!(Refusal::of(&reply), Some(refusal), "{code} {text}");
            assert!(advice(&reply).contains(words), "{code} {text}: {}", advice(&reply));
        }
        let none = [
            (250, "2.0.0", "OK spam"),
            (451, "4.3.0", "Try again later"),
            (450, "4.7.1", "Client host [185.4.5.47] is greylisted"),
            (550, "5.7.1", "No mail from 15.1.8.9"),
        ];
        for (code, enhanced, text) in none {
            assert_eq!(Refusal::of(&Reply::new(code, enhanced, text)), None, "{text}");
        }
    }

    #[test]
    fn a_block_of_the_account_is_waited_out() {
        let day = Duration::from_secs(86_400);
        assert!(Refusal::DailyLimit.holds().is_some_and(|hold| hold > day));
        assert!(Refusal::SendingDisabled.holds().is_some());
        let blocks = |text: &str| {
            let reply = Reply::new(550, "", text);
            [Refusal::block(&reply), Refusal::block_at_recipient(&reply)].map(|block| block.is_some())
        };
        assert_eq!(blocks("account is disabled"), [true, false], "the recipient's");
        assert_eq!(blocks("user is suspended"), [true, false], "the recipient's");
        assert_eq!(blocks("Daily user sending limit exceeded"), [true, true]);
        assert_eq!(blocks("rate limit"), [true, true]);
        for of_the_message in [Refusal::Spam, Refusal::NoRecipient, Refusal::RecipientFull, Refusal::SenderNotOwned] {
            assert_eq!(of_the_message.holds(), None);
        }
    }
}
