//! What we know of mail providers: hosts, limits, oddities, and what to tell somebody whose password is refused.
//!
//! The data is `config/providers.toml`, built into the program; this module gives it types and finds an entry by name or by
//! an address's domain. It decides nothing: the configuration takes a preset as defaults, the upstream layer asks for
//! [`Quirk`]s by name. An oddity without a name here does not exist in the code.
//!
//! Layer 1, no I/O beyond the embedded text, which a test reads in full, so [`presets`] cannot fail in a released program.

mod quirk;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;

pub use quirk::Quirk;

const EMBEDDED: &str = include_str!("../../config/providers.toml");

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    toml::from_str::<File>(EMBEDDED).map(|file| file.provider).expect("config/providers.toml is held valid by a test")
});

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What `provider = "…"` says.
    pub name: String,
    /// What a person calls it.
    pub title: String,
    domains: Vec<String>,
    #[serde(default)]
    not: Vec<String>,
    #[serde(default)]
    exchangers: Vec<String>,
    pub imap: Endpoint,
    pub smtp: Endpoint,
    /// What the provider accepts at login.
    pub auth: Vec<Auth>,
    /// Where it hands out tokens, if it does.
    #[serde(default)]
    pub oauth2: Option<OAuthPreset>,
    /// IMAP sessions to keep at most, if the configuration does not say.
    pub connections: u32,
    /// What the provider is known to bear over all programs of the account; `None`: not known.
    #[serde(default)]
    pub connections_max: Option<u32>,
    /// Bytes per rolling day the provider lets out; `None`: no limit known.
    #[serde(default)]
    pub download_per_day: Option<u64>,
    /// Bytes per rolling day the provider takes in; `None`: no limit known.
    #[serde(default)]
    pub upload_per_day: Option<u64>,
    /// Messages per rolling day the provider lets out over SMTP; `None`: no limit known.
    #[serde(default)]
    pub messages_per_day: Option<u64>,
    /// The same for recipients.
    #[serde(default)]
    pub recipients_per_day: Option<u64>,
    /// Commands a second over all sessions, where the provider throttles by commands; `None`: not known to.
    #[serde(default)]
    pub commands_per_second: Option<NonZeroU32>,
    quirks: Vec<Quirk>,
    /// Longest command line, in bytes, without its CRLF.
    #[serde(default)]
    pub command_line_max: Option<u32>,
    /// Seconds; see [`Preset::idle_renew`].
    #[serde(default, rename = "idle_renew")]
    idle_renew_seconds: Option<u64>,
    /// Plain words for somebody whose password is refused: what kind of password, and where to get it.
    pub password_hint: String,
}

/// Where a protocol is served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub tls: EndpointTls,
}

/// A provider's authorization server. `{tenant}` in a URL stands for Microsoft's organisation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthPreset {
    /// Where the mailbox's owner consents, with a browser.
    pub authorize: String,
    pub token: String,
    /// The device flow's endpoint (RFC 8628), where mail may be had by it.
    #[serde(default)]
    pub device: Option<String>,
    pub scopes: Vec<String>,
    /// What an application asks for that acts by itself.
    #[serde(default)]
    pub client_scopes: Vec<String>,
    /// More parameters of the authorization request.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// How the redirect to this computer names it; 127.0.0.1 (RFC 8252 §8.3) if not said.
    #[serde(default)]
    pub redirect_host: Option<String>,
    /// Plain words for somebody who has no `client_id` yet.
    pub client_help: String,
}

/// How an [`Endpoint`] is encrypted. A provider's endpoint always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointTls {
    Implicit,
    StartTls,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// A password; with most providers one made for this program alone.
    Password,
    OAuth2,
}

impl Preset {
    /// Whether the provider has this oddity.
    pub fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// All oddities, as listed.
    pub fn quirks(&self) -> &[Quirk] {
        &self.quirks
    }

    /// When to end IDLE and begin it again, if the provider wants it sooner than RFC 2177's 29 minutes.
    pub fn idle_renew(&self) -> Option<Duration> {
        self.idle_renew_seconds.map(Duration::from_secs)
    }

    /// Whether a password can log in at all.
    pub fn takes_password(&self) -> bool {
        self.auth.contains(&Auth::Password)
    }

    fn owns(&self, domain: &str) -> bool {
        !self.not.iter().any(|d| d == domain) && self.domains.iter().any(|pattern| matches(pattern, domain))
    }
}

/// All providers, in the file's order.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

/// The provider called `name`, whatever its case.
pub fn by_name(name: &str) -> Option<&'static Preset> {
    presets().iter().find(|p| p.name.eq_ignore_ascii_case(name))
}

/// The provider an address belongs to by its domain; `None` for one we do not know.
pub fn by_address(address: &str) -> Option<&'static Preset> {
    let (_, domain) = address.rsplit_once('@')?;
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    presets().iter().find(|p| p.owns(&domain))
}

/// The provider whose mail exchanger this host is: it serves other people's domains, too.
pub fn by_exchanger(host: &str) -> Option<&'static Preset> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let of = |name: &String| host == *name || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
    presets().iter().find(|preset| preset.exchangers.iter().any(of))
}

/// The embedded file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: Vec<Preset>,
}

/// `name.*` is any country's ending, `*.name` any domain below, else the domain itself.
fn matches(pattern: &str, domain: &str) -> bool {
    if let Some(name) = pattern.strip_suffix(".*") {
        return domain.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).is_some_and(is_country_ending);
    }
    if let Some(parent) = pattern.strip_prefix("*.") {
        return domain
            .strip_suffix(parent)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|rest| !rest.is_empty());
    }
    pattern == domain
}

/// `fr`, or `co.uk`, `com.br`: not `example.com`, which would be somebody's own domain.
fn is_country_ending(ending: &str) -> bool {
    let country = match ending.split_once('.') {
        Some(("co" | "com" | "ne", country)) => country,
        Some(_) => return false,
        None => ending,
    };
    (2..=3).contains(&country.len()) && country.bytes().all(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_is_valid_and_complete() {
        let file: File = toml::from_str(EMBEDDED).unwrap_or_else(|e| panic!("config/providers.toml: {e}"));
        let names: Vec<_> = file.provider.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["gmail", "outlook", "office365", "yahoo", "aol", "yandex", "mailru", "icloud", "fastmail"]);
        for p in &file.provider {
            assert!(p.connections >= 1, "{}", p.name);
            if let Some(max) = p.connections_max {
                assert!(p.connections * 2 <= max, "{}: the default takes more than half of what is borne", p.name);
            }
            assert!(p.password_hint.ends_with('.') && !p.auth.is_empty(), "{}", p.name);
            assert_eq!(p.oauth2.is_some(), p.auth.contains(&Auth::OAuth2), "{}: servers for tokens", p.name);
            if let Some(oauth2) = &p.oauth2 {
                let urls = [Some(&oauth2.authorize), Some(&oauth2.token), oauth2.device.as_ref()];
                assert!(urls.into_iter().flatten().all(|url| url.starts_with("https://")), "{}", p.name);
                assert!(oauth2.client_help.ends_with('.') && !oauth2.scopes.is_empty(), "{}", p.name);
            }
            let mut quirks = p.quirks.clone();
            quirks.sort();
            quirks.dedup();
            assert_eq!(quirks.len(), p.quirks.len(), "{}: a quirk is listed twice", p.name);
        }
    }

    #[test]
    fn addresses_find_their_provider() {
        let table = [
            ("ann@gmail.com", Some("gmail")),
            ("Ann@GoogleMail.com", Some("gmail")),
            ("ann@hotmail.co.uk", Some("outlook")),
            ("ann@outlook.de", Some("outlook")),
            ("ann@msn.com", Some("outlook")),
            ("ann@firm.onmicrosoft.com", Some("office365")),
            ("ann@onmicrosoft.com", None),
            ("ann@yahoo.com.br", Some("yahoo")),
            ("ann@yahoo.co.jp", None),
            ("ann@aol.com", Some("aol")),
            ("ann@yandex.ru", Some("yandex")),
            ("ann@yandex.com.tr", Some("yandex")),
            ("ann@ya.ru", Some("yandex")),
            ("ann@yandex.example.com", None),
            ("ann@notyandex.ru", None),
            ("ann@mail.ru", Some("mailru")),
            ("ann@internet.ru", Some("mailru")),
            ("ann@me.com", Some("icloud")),
            ("ann@fastmail.fm", Some("fastmail")),
            ("ann@example.org", None),
            ("\"a@gmail.com\"@example.org", None),
            ("ann", None),
        ];
        for (address, name) in table {
            assert_eq!(by_address(address).map(|p| p.name.as_str()), name, "{address}");
        }
    }

    #[test]
    fn exchangers_tell_the_provider() {
        let table = [
            ("aspmx.l.google.com.", Some("gmail")),
            ("smtp.google.com", Some("gmail")),
            ("firm-org.mail.protection.outlook.com", Some("office365")),
            ("mx.yandex.net", Some("yandex")),
            ("emx.mail.ru", Some("mailru")),
            ("in1-smtp.messagingengine.com", Some("fastmail")),
            ("mx01.mail.icloud.com", Some("icloud")),
            ("notgoogle.com", None),
            ("mail.example.org", None),
        ];
        for (host, name) in table {
            assert_eq!(by_exchanger(host).map(|preset| preset.name.as_str()), name, "{host}");
        }
    }

    #[test]
    fn limits_and_quirks_are_typed() {
        let gmail = by_name("Gmail").unwrap();
        assert_eq!((gmail.download_per_day, gmail.upload_per_day), (Some(2_500_000_000), Some(500_000_000)));
        assert!(gmail.has(Quirk::Labels) && !gmail.has(Quirk::NoIdle));
        assert!(by_name("mailru").unwrap().has(Quirk::NoIdle));
        assert_eq!(by_name("yahoo").unwrap().command_line_max, Some(1000));
        assert_eq!(gmail.idle_renew(), Some(Duration::from_secs(540)));
        assert!(!by_name("outlook").unwrap().takes_password());
        assert!(by_name("nobody").is_none());
    }
}
