//! What a provider's refusals of mail mean to a person: the mend beside the server's own words (reference: providers has the texts).

use super::Reply;

/// Texts in lower case, and what to do. The first that fits is taken: the narrow ones stand before the wide ones.
const ADVICE: [(&[&str], &str); 10] = [
    (
        &[
            "basic authentication is disabled",
            "5.7.139",
            "smtpclientauthentication is disabled",
            "basic authentication is not supported",
        ],
        "This provider does not take passwords for sending any more: sign in with OAuth, or let the administrator allow SMTP AUTH.",
    ),
    (
        &["application-specific password", "application password", "parol prilozheniya", "app password", "5.7.9"],
        "This provider wants an app password instead of the account's password.",
    ),
    (
        &["does not have access rights to this service"],
        "Allow mail programs in the provider's settings of this account.",
    ),
    (
        &[
            "message sending for this account is disabled",
            "sending disabled",
            "outbound spam",
            "5.1.8",
            "account has been blocked",
        ],
        "The provider has stopped sending from this account: change its password on the web and follow what it says there.",
    ),
    (
        &[
            "daily user sending",
            "daily sending quota",
            "sending limit",
            "5.4.5",
            "message submission rate",
            "too many messages",
            "recipients per day",
        ],
        "The provider's limit of messages for the day is reached; it ends by itself, mostly after 24 hours.",
    ),
    (
        &[
            "sender address rejected",
            "not owned by user",
            "send as",
            "sendasdenied",
            "5.7.60",
            "must match authenticated",
            "from address",
        ],
        "The provider sends from this address only what belongs to the account: check the sender's address, or add it as an alias there.",
    ),
    (
        &["spam", "unsolicited", "5.7.26", "content rejected", "suspicious"],
        "The provider takes the message for unwanted mail: links, attachments or too many recipients do that.",
    ),
    (
        &["mailbox full", "mailbox is full", "over quota", "quota exceeded", "5.2.2", "4.2.2"],
        "The recipient's mailbox is full.",
    ),
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
        "There is no such recipient: check the address.",
    ),
    (
        &["ptr record", "dynamic", "5.7.25", "reverse dns", "blocklist", "blacklist"],
        "The receiving side does not take mail from this network address: send through the provider's own server ([account.smtp]).",
    ),
];

/// The mend for a refusal; empty where its own words say it all, or where it is none.
pub fn advice(reply: &Reply) -> &'static str {
    if reply.code < 400 {
        return "";
    }
    let text = format!("{} {}", reply.enhanced.as_deref().unwrap_or_default(), reply.text()).to_lowercase();
    let found = ADVICE.iter().find(|(texts, _)| texts.iter().any(|known| text.contains(known)));
    found.map_or("", |(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusals_people_meet() {
        let table = [
            (535, "5.7.139", "Authentication unsuccessful, basic authentication is disabled.", "OAuth"),
            (
                535,
                "5.7.0",
                "NEOBHODIM parol prilozheniya https://help.mail.ru/ / Application password is REQUIRED",
                "app password",
            ),
            (534, "5.7.9", "Application-specific password required.", "app password"),
            (
                535,
                "5.7.8",
                "Error: authentication failed: This user does not have access rights to this service",
                "Allow mail programs",
            ),
            (550, "", "message sending for this account is disabled", "change its password"),
            (550, "5.4.5", "Daily user sending limit exceeded.", "limit of messages"),
            (554, "5.7.1", "[2] Message rejected under suspicion of SPAM; https://ya.cc/x", "unwanted"),
            (553, "5.7.1", "Sender address rejected: not owned by auth user.", "sender's address"),
            (550, "5.1.1", "The email account that you tried to reach does not exist.", "no such recipient"),
            (452, "4.2.2", "The recipient's inbox is over quota", "full"),
            (550, "5.7.25", "The IP address sending this message does not have a PTR record", "network address"),
            (250, "2.0.0", "OK spam", ""),
            (451, "4.3.0", "Try again later", ""),
        ];
        for (code, enhanced, text, want) in table {
            let got = advice(&Reply::new(code, enhanced, text));
            assert!(if want.is_empty() { got.is_empty() } else { got.contains(want) }, "{code} {text}: {got}");
        }
    }
}
