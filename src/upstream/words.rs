//! What a provider's words mean for the account: a pure classifier of refusals (providers.md has the sources; the texts are in the
//! table below the code).
//!
//! Response codes are not enough: Gmail says `[ALERT]` for a wrong password, for too many connections and for a web login; Dovecot
//! says `[UNAVAILABLE]` or `[LIMIT]` for too many connections; `[OVERQUOTA]` is bandwidth at login and storage at APPEND. So codes and
//! texts are read together, and where the words were said matters.

use std::time::Duration;

/// Where the words were said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the greeting, at login, or on the way there.
    Login,
    /// As the answer to a later command.
    Command,
    /// In a BYE.
    Bye,
}

/// What they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An answer to this command and nothing more; at login: trouble of the server, worth another try after the usual backoff.
    Ordinary,
    /// More sessions than allowed, ours or somebody else's.
    TooMany,
    /// Slow down; the time if it was told.
    Throttled(Option<Duration>),
    /// The day's bytes or commands are spent; for how long, if it was told.
    Bandwidth(Option<Duration>),
    /// The credentials are not taken. The user is needed.
    Credentials,
    /// There is no OAuth consent, or no longer: our own word, and no provider's. The user is needed.
    Consent,
    /// A password of another kind is needed (app password, OAuth). The user is needed.
    AppPassword,
    /// The user must log in on the web first.
    WebLogin,
    /// The account may not use IMAP (switched off, blocked, expired).
    Forbidden,
    /// Nothing is said, and answers come at less than a kilobyte a second.
    Trickle,
}

/// Times told are obeyed up to this, the day of the longest lock known: Exchange means what it says.
const LONGEST_TOLD: Duration = Duration::from_secs(24 * 3600);

/// Texts that mean too many sessions, in lower case.
const TOO_MANY: [&str; 11] = [
    "too many simultaneous connections",
    "maximum number of connections",
    "too many concurrent connections",
    "too many connections",
    "too many open connections",
    "too many sessions",
    "connection limit",
    "user is authenticated but not connected",
    "account is temporarily unavailable",
    "simultaneous sessions",
    "mail_max_userip_connections",
];

const WEB_LOGIN: [&str; 6] = [
    "web login required",
    "log in via your web browser",
    "login via your web browser",
    "log in with your browser",
    "webalert",
    "verify your account",
];

const APP_PASSWORD: [&str; 6] = [
    "application-specific password",
    "application password is required",
    "parol prilozheniya",
    "app password",
    "basic authentication is disabled",
    "basic authentication is not supported",
];

const FORBIDDEN: [&str; 9] = [
    "imap is disabled",
    "imap access is disabled",
    "not enabled for imap",
    "does not have access rights",
    "account is disabled",
    "account disabled",
    "account has been suspended",
    "account is locked",
    "imap access disabled",
];

const BANDWIDTH: [&str; 4] =
    ["bandwidth limit", "command or bandwidth", "exceeded bandwidth", "download limit exceeded"];

const THROTTLED: [&str; 7] = [
    "request is throttled",
    "rate limit hit",
    "rate limit exceeded",
    "too many requests",
    "too many commands",
    "suggested backoff time",
    "slow down",
];

/// Login failures that are the server's trouble and say nothing of the password.
const SERVER_TROUBLE: [&str; 12] = [
    "server unavailable",
    "temporarily",
    "temporary",
    "try again",
    "backend error",
    "internal error",
    "system error",
    "server error",
    "not available",
    // Not understood, or understood too late (Exchange, Yandex): no word on the password.
    "command syntax error",
    "command error",
    "invalid state",
];

/// Reads a refusal. `code` is the response code without brackets (its arguments may follow the name).
pub fn meaning(place: Place, code: Option<&str>, text: &str) -> Meaning {
    let code = code.unwrap_or_default();
    let name = code.split_ascii_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    let text = text.to_ascii_lowercase();
    let says = |list: &[&str]| list.iter().any(|words| text.contains(words));

    if says(&THROTTLED) || name == "THROTTLED" {
        return Meaning::Throttled(told_wait(&text));
    }
    if says(&BANDWIDTH) || (name == "OVERQUOTA" && place != Place::Command) {
        return Meaning::Bandwidth(told_wait(&text));
    }
    // Before the password texts: some servers say both that the login failed and that there are too many.
    if says(&TOO_MANY) || (place != Place::Command && matches!(name.as_str(), "LIMIT" | "INUSE")) {
        return Meaning::TooMany;
    }
    if name == "WEBALERT" || says(&WEB_LOGIN) {
        return Meaning::WebLogin;
    }
    if place != Place::Login {
        return Meaning::Ordinary;
    }
    if says(&APP_PASSWORD) {
        return Meaning::AppPassword;
    }
    match name.as_str() {
        "UNAVAILABLE" | "SERVERBUG" => return Meaning::Ordinary,
        "AUTHENTICATIONFAILED" | "AUTHORIZATIONFAILED" => return Meaning::Credentials,
        "EXPIRED" | "CONTACTADMIN" | "PRIVACYREQUIRED" => return Meaning::Forbidden,
        _ => {}
    }
    if says(&FORBIDDEN) {
        return Meaning::Forbidden;
    }
    if says(&SERVER_TROUBLE) {
        return Meaning::Ordinary;
    }
    // Whatever else refuses a login is taken for the password: asking again and again with a wrong one locks accounts.
    Meaning::Credentials
}

/// Words after which a time is told, in lower case: Exchange's, and what others write.
const TELLS_WAIT: [&str; 5] = ["suggested backoff time:", "try again in", "retry in", "retry after", "wait for"];

/// `Suggested Backoff Time: 299961 milliseconds` and the like; the text is in lower case.
fn told_wait(text: &str) -> Option<Duration> {
    let rest = TELLS_WAIT.iter().find_map(|words| Some(text.split_once(words)?.1))?.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, unit) = rest.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim_start();
    let units = [("sec", 1), ("min", 60), ("hour", 3600)];
    let seconds = units.iter().find(|(name, _)| unit.starts_with(name)).map(|(_, seconds)| *seconds);
    let told = match seconds {
        Some(seconds) => Duration::from_secs(number.saturating_mul(seconds)),
        None => Duration::from_millis(number),
    };
    Some(told.min(LONGEST_TOLD))
}

impl Meaning {
    /// What to tell the user beside the provider's own text; empty where that says it all.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Credentials => "Check the user name and password (or sign in again with `mailweir account login`).",
            Self::AppPassword => "This provider wants an app password or OAuth instead of the account's password.",
            Self::WebLogin => {
                "Log in to the provider's web mail once with a browser, answer what it asks, then try again."
            }
            Self::Forbidden => "Check in the provider's settings that IMAP is allowed for this account.",
            Self::TooMany => {
                "Other mail programs hold connections to this account; fewer of them, or a lower `connections`, helps."
            }
            Self::Bandwidth(_) => {
                "The provider's limit for the day is spent; it ends by itself, at most after 24 hours."
            }
            Self::Throttled(_) => "The provider asks for a pause; mailweir goes on by itself when it is over.",
            Self::Trickle => "The provider sends very slowly; only what somebody waits for is fetched meanwhile.",
            Self::Ordinary | Self::Consent => "",
        }
    }

    /// As a metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::TooMany => "too_many_connections",
            Self::Throttled(_) => "throttled",
            Self::Bandwidth(_) => "bandwidth",
            Self::Credentials => "credentials",
            Self::Consent => "consent",
            Self::AppPassword => "app_password",
            Self::WebLogin => "web_login",
            Self::Forbidden => "forbidden",
            Self::Trickle => "trickle",
        }
    }

    /// Needs the user; not retried by itself (a wrong password: not more than twice).
    pub fn is_hard(self) -> bool {
        matches!(self, Self::Credentials | Self::Consent | Self::AppPassword | Self::WebLogin | Self::Forbidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_text_is_understood() {
        use Meaning::*;
        use Place::*;
        let ms = |n| Throttled(Some(Duration::from_millis(n)));
        let table = [
            (Login, "ALERT", "Too many simultaneous connections. (Failure)", TooMany),
            (
                Login,
                "UNAVAILABLE",
                "Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
                TooMany,
            ),
            (
                Login,
                "LIMIT",
                "Maximum number of connections from user+IP exceeded (mail_max_userip_connections=15)",
                TooMany,
            ),
            (Login, "LIMIT", "", TooMany),
            (Login, "INUSE", "Another session", TooMany),
            (Bye, "LIMIT", "go away", TooMany),
            (Login, "", "Too many concurrent connections", TooMany),
            (Command, "", "User is authenticated but not connected.", TooMany),
            (Login, "", "Account is temporarily unavailable", TooMany),
            (Bye, "", "Too many connections from your IP", TooMany),
            (Login, "OVERQUOTA", "Account exceeded command or bandwidth limits. (Failure)", Bandwidth(None)),
            (Command, "OVERQUOTA", "Account exceeded command or bandwidth limits. (Failure)", Bandwidth(None)),
            (Bye, "OVERQUOTA", "goodbye", Bandwidth(None)),
            (
                Command,
                "OVERQUOTA",
                "Bandwidth limit reached, try again in 3 hours",
                Bandwidth(Some(Duration::from_secs(10_800))),
            ),
            (Login, "", "Too many requests. Retry after 90 seconds", Throttled(Some(Duration::from_secs(90)))),
            (Command, "OVERQUOTA", "Quota exceeded (mailbox for user is full)", Ordinary),
            (Command, "THROTTLED", "", Throttled(None)),
            (Login, "THROTTLED", "later", Throttled(None)),
            (Command, "", "Request is throttled. Suggested Backoff Time: 299961 milliseconds", ms(299_961)),
            (
                Bye,
                "",
                "Request is throttled. Suggested Backoff Time: 100 seconds",
                Throttled(Some(Duration::from_secs(100))),
            ),
            (Command, "", "Suggested Backoff Time: 999999999999 milliseconds", Throttled(Some(LONGEST_TOLD))),
            (Command, "", "Suggested Backoff Time: soon", Throttled(None)),
            (Command, "LIMIT", "UID FETCH Rate limit hit.", Throttled(None)),
            (Command, "LIMIT", "APPEND Command exceeds the maximum allowed size", Ordinary),
            (
                Login,
                "ALERT",
                "Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)",
                AppPassword,
            ),
            (
                Login,
                "AUTHENTICATIONFAILED",
                "NEOBHODIM parol prilozheniya https://help.mail.ru/mail/security/protection/external / Application password is REQUIRED",
                AppPassword,
            ),
            (Login, "WEBALERT https://accounts.google.com/x", "Web login required.", WebLogin),
            (Login, "ALERT", "Please log in via your web browser: https://support.google.com/ (Failure)", WebLogin),
            (Login, "AUTHENTICATIONFAILED", "Invalid credentials (Failure)", Credentials),
            (Login, "ALERT", "Invalid credentials (Failure)", Credentials),
            (Login, "AUTHENTICATIONFAILED", "LOGIN invalid credentials or IMAP is disabled sc=abc", Credentials),
            (Login, "", "LOGIN failed.", Credentials),
            (Login, "", "AUTHENTICATE failed.", Credentials),
            (Login, "AUTHENTICATIONFAILED", "(#AUTH901) Invalid credentials", Credentials),
            (Login, "", "Too many bad auth attempts", Credentials),
            (Login, "CONTACTADMIN", "call us", Forbidden),
            (Login, "", "IMAP access is disabled for your account", Forbidden),
            (Login, "", "Server Unavailable. 15", Ordinary),
            (Login, "UNAVAILABLE", "Temporary authentication failure.", Ordinary),
            (Login, "", "LOGIN Service is temporarily not available", Ordinary),
            (Command, "SERVERBUG", "SELECT Server error - Please try again later", Ordinary),
            (Command, "", "Some messages could not be FETCHed (Failure)", Ordinary),
            (Command, "NONEXISTENT", "Unknown Mailbox: x (Failure)", Ordinary),
            (Command, "UNAVAILABLE", "UID SEARCH Backend error. sc=x", Ordinary),
            (Bye, "", "Autologout; idle for too long", Ordinary),
            (Bye, "", "Session expired, please login again", Ordinary),
        ];
        for (place, code, text, want) in table {
            let code = Some(code).filter(|code| !code.is_empty());
            assert_eq!(meaning(place, code, text), want, "{place:?} {code:?} {text}");
            assert!(crate::metrics::REFUSALS.contains(&want.as_str()), "{want:?}");
        }
    }
}
