//! What a provider's refusal means, and what mends it: a table over the words providers are known to say.
//!
//! Read from the words of the fault alone, as they reach a person, so that the same table serves whatever failed. The first
//! that fits counts: the special before the general.

/// One trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// In a few words.
    pub(crate) what: &'static str,
    /// What to do, a sentence.
    pub(crate) mend: &'static str,
}

/// Words, in lower case, of which any shows the trouble.
type Row = (&'static [&'static str], Trouble);

const fn trouble(what: &'static str, mend: &'static str) -> Trouble {
    Trouble { what, mend }
}

const OAUTH_APPLICATION: Trouble = trouble(
    "OAuth application refused",
    "Check `client_id`, `client_secret`, `tenant` and `scopes` under [account.oauth2]; a service account's `key`, and what it was allowed to.",
);

const TABLE: [Row; 24] = [
    (
        &["not valid yet", "notvalidyet", "certificate of the future"],
        trouble("clock wrong", "Set the clock of this computer: by it the server's certificate is not valid yet."),
    ),
    (
        &["has expired", "certificate expired", "certificate has run out"],
        trouble(
            "certificate expired, or clock wrong",
            "Look at the clock of this computer; if it is right, the server's operator must renew the certificate.",
        ),
    ),
    (&["it is made for"], trouble("certificate of another name", "Write `host` as the certificate names it.")),
    (
        &["certificate of"],
        trouble(
            "certificate not trusted",
            "For a server of your own give its authority as `ca_file`; else somebody may be in between: do not switch verification off.",
        ),
    ),
    (
        &[
            "not tls",
            "does not offer starttls",
            "does not greet",
            "does not speak imap",
            "refuses starttls",
            "does not answer as smtp does",
        ],
        trouble(
            "wrong port for the TLS mode",
            "Ports 993 and 465 go with tls = \"implicit\", 143 and 587 with \"starttls\".",
        ),
    ),
    (
        // Google's word on a service account's assertion.
        &["check your iat and exp"],
        trouble(
            "clock wrong",
            "Set the clock of this computer: the provider takes its assertion for one of another time.",
        ),
    ),
    (
        // Whose refusal is nobody's consent, whatever its word.
        &["the application itself is refused"],
        OAUTH_APPLICATION,
    ),
    (
        &["it did not arrive:"],
        trouble(
            "sent, and not arrived",
            "Look for it in the provider's web mail: it may be filtered into another folder, held back, or only late (--send-wait gives it longer).",
        ),
    ),
    (
        &["the recipient's mailbox is full"],
        trouble("mailbox of the recipient full", "Nothing is wrong on this side: its owner must make room."),
    ),
    (
        &["run `mailweir account login", "nobody has logged in yet", "invalid_grant"],
        trouble("consent needed", "Run `mailweir account login ADDRESS`; the daemon may go on running."),
    ),
    (&["invalid_client", "unauthorized_client", "invalid_scope"], OAUTH_APPLICATION),
    (
        &["smtpclientauthentication is disabled", "smtp_auth_disabled"],
        trouble(
            "sending switched off",
            "Have the administrator switch on authenticated SMTP for this mailbox; mail programs cannot send before.",
        ),
    ),
    (
        &["basic authentication", "basicauthblocked", "5.7.139", "takes no passwords"],
        trouble(
            "passwords are not taken any more",
            "Log in by OAuth: set [account.oauth2], then `mailweir account login ADDRESS`.",
        ),
    ),
    (
        &["application-specific password", "parol prilozheniya", "app password", "application password"],
        trouble(
            "application password needed",
            "Make an application password in the account's security settings, and give that instead of your own.",
        ),
    ),
    (
        &["web login required", "via your web browser", "webalert", "verify your account"],
        trouble(
            "login by browser wanted",
            "Log in at the provider's web mail once, answer what it asks, and try again.",
        ),
    ),
    (
        &["invalid credentials or imap is disabled"],
        trouble(
            "password refused, or IMAP switched off",
            "Switch IMAP on in the provider's web settings, and use an application password.",
        ),
    ),
    (
        &["imap is disabled", "imap access is disabled", "not enabled for imap", "imap access disabled"],
        trouble(
            "IMAP switched off",
            "Switch IMAP on in the provider's web settings (or have the administrator do it).",
        ),
    ),
    (
        &["does not have access rights to this service"],
        trouble(
            "access by mail programs switched off",
            "Allow mail programs in the provider's web settings, and use an application password.",
        ),
    ),
    (
        &["account is disabled", "account disabled", "suspended", "account is locked"],
        trouble("account disabled", "Ask the provider: the account itself is blocked, no setting here changes that."),
    ),
    (
        &[
            "too many simultaneous",
            "too many concurrent",
            "too many connections",
            "too many sessions",
            "maximum number of connections",
            "user is authenticated but not connected",
        ],
        trouble("too many connections", "End other mail programs of this account, or lower `limits.connections`."),
    ),
    (
        &["bandwidth", "request is throttled"],
        trouble("limit of the day reached", "Wait: it ends by itself, at most after 24 hours."),
    ),
    (
        &["mailbox is full", "quota exceeded", "over quota", "5.2.2"],
        trouble("mailbox full", "Delete or move mail at the provider, or buy room."),
    ),
    (
        &["could not be found", "cannot be reached", "did not answer within", "refuses connections"],
        trouble("server not reached", "Check the network, and `host` and `port`."),
    ),
    (
        &[
            "login failed",
            "invalid credentials",
            "authenticationfailed",
            "authentication failed",
            "check the user name",
            "check user name",
            "password not accepted",
        ],
        trouble(
            "user name or password refused",
            "Check both; many providers want an application password, and the whole address as user name.",
        ),
    ),
];

/// What these words mean; nothing if they are none of those known.
pub(crate) fn trouble_of(words: &str) -> Option<Trouble> {
    let words = words.to_lowercase();
    TABLE.iter().find(|(signs, _)| signs.iter().any(|sign| words.contains(sign))).map(|(_, trouble)| *trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_refusal_has_its_mend() {
        let table = [
            (
                "the provider says: Application-specific password required: https://support.google.com/…",
                "application password needed",
            ),
            ("NEOBHODIM parol prilozheniya / Application password is REQUIRED", "application password needed"),
            ("the provider says: IMAP access is disabled for your account", "IMAP switched off"),
            ("upstream login failed: the server takes no passwords here", "passwords are not taken any more"),
            (
                "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
                "passwords are not taken any more",
            ),
            ("Please log in via your web browser: https://support.google.com/", "login by browser wanted"),
            ("the provider says: Account is disabled", "account disabled"),
            ("NO [OVERQUOTA] Quota exceeded (mailbox for user is full)", "mailbox full"),
            ("NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)", "limit of the day reached"),
            (
                "no encrypted connection to h port 143: the server answers in a way that is not TLS",
                "wrong port for the TLS mode",
            ),
            (
                "the server does not offer STARTTLS, and a password is not sent without encryption",
                "wrong port for the TLS mode",
            ),
            ("the certificate of h is not trusted: UnknownIssuer. Give …", "certificate not trusted"),
            ("the certificate of h is not trusted: it is not valid yet. …", "clock wrong"),
            ("the certificate of h is not trusted: it has expired. …", "certificate expired, or clock wrong"),
            ("LOGIN invalid credentials or IMAP is disabled sc=x", "password refused, or IMAP switched off"),
            ("the certificate of h is not trusted: it is made for another name. …", "certificate of another name"),
            (
                "the provider says: no. Check the user name and password (or sign in again with `mailweir account login`)",
                "user name or password refused",
            ),
            ("the name h could not be found (…)", "server not reached"),
            ("Too many simultaneous connections. (Failure)", "too many connections"),
            (
                "upstream login failed: the provider says: Invalid credentials (Failure)",
                "user name or password refused",
            ),
            ("upstream login failed: nobody has logged in yet. Run `mailweir account login ann`", "consent needed"),
            ("login.example.org says invalid_client", "OAuth application refused"),
        ];
        for (words, what) in table {
            assert_eq!(trouble_of(words).map(|trouble| trouble.what), Some(what), "{words}");
        }
        assert_eq!(trouble_of("the server says something new"), None);
        assert!(TABLE.iter().all(|(signs, trouble)| {
            trouble.mend.ends_with('.') && signs.iter().all(|sign| *sign == sign.to_lowercase())
        }));
    }
}
