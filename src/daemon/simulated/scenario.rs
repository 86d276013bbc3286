//! Providers as they are met: one named scenario each, shared by the tests and `mailweir demo --provider NAME`.
//!
//! A scenario is data. What it asks for is done in two places: `mod.rs` (connections, the login's words) and `wire.rs`, which stands
//! between the socket and the session and changes what passes. The facts and their sources are those of `config/providers.toml` and
//! [`crate::provider::Quirk`]; the names are the presets'.

use std::time::Duration;

/// One provider's manners. Public fields, so that a test may sharpen one of them.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// As the preset is called.
    pub name: &'static str,
    /// Connections borne at once, and code and text for one more.
    pub connections: usize,
    pub too_many: (&'static str, &'static str),
    /// What follows `NO ` where the password is wrong.
    pub wrong_password: &'static str,
    /// Capabilities before and after login; `None`: Gmail's, which the session tells itself.
    pub capability: Option<(&'static str, &'static str)>,
    /// Octets let out and taken in, in a day. Above either the account is locked.
    pub download_per_day: Option<u64>,
    pub upload_per_day: Option<u64>,
    /// What a locked account hears, after the tag.
    pub locked: &'static str,
    /// Commands borne in a second, and what the next one hears, after the tag.
    pub commands_per_second: Option<(u32, &'static str)>,
    /// Longest command line, octets.
    pub line_limit: Option<usize>,
    /// IDLE hears nothing more after this.
    pub idle_deaf_after: Option<Duration>,
    /// A connection that idles for so long is closed without a word.
    pub idle_dropped_after: Option<Duration>,
    /// ENABLE is answered without an untagged ENABLED.
    pub enable_silent: bool,
    /// FETCH of the old RFC822 items is answered without them.
    pub no_rfc822: bool,
    /// A blank stands between the addresses of an ENVELOPE.
    pub spaced_addresses: bool,
    /// AUTHENTICATE takes no initial response.
    pub no_sasl_ir: bool,
    /// RFC822.SIZE is so many times too large.
    pub size_factor: u64,
    /// Sizes in BODYSTRUCTURE are floats.
    pub wrong_structure: bool,
    /// PERMANENTFLAGS without `\*`.
    pub no_keywords: bool,
    /// Special mailboxes: the session's name, and the one told (modified UTF-7).
    pub names: &'static [(&'static str, &'static str)],
    /// Messages that STATUS counts and SELECT does not show: those beyond the newest part. It stands still here; what happens when it slides
    /// `engine/tests/listing.rs` shows.
    pub beyond_window: u64,
    /// Most numbers in a SEARCH answer.
    pub search_most: Option<usize>,
    /// IDLE tells no expunge.
    pub expunges_late: bool,
}

/// Without any oddity.
const PLAIN: Scenario = Scenario {
    name: "gmail",
    connections: 15,
    too_many: ("ALERT", "Too many simultaneous connections. (Failure)"),
    wrong_password: "[AUTHENTICATIONFAILED] Invalid credentials (Failure)",
    capability: None,
    download_per_day: None,
    upload_per_day: None,
    locked: "NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)",
    commands_per_second: None,
    line_limit: None,
    idle_deaf_after: None,
    idle_dropped_after: None,
    enable_silent: false,
    no_rfc822: false,
    spaced_addresses: false,
    no_sasl_ir: false,
    size_factor: 1,
    wrong_structure: false,
    no_keywords: false,
    names: &[],
    beyond_window: 0,
    search_most: None,
    expunges_late: false,
};

const OUTLOOK: Scenario = Scenario {
    name: "outlook",
    connections: 16,
    too_many: ("UNAVAILABLE", "Maximum number of connections from user exceeded"),
    wrong_password: "AUTHENTICATE failed.",
    capability: Some((
        "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+",
        "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+",
    )),
    // A burst passes, a flood does not.
    commands_per_second: Some((30, "BAD Request is throttled. Suggested Backoff Time: 1000 milliseconds")),
    line_limit: Some(10_240),
    idle_deaf_after: Some(Duration::from_secs(600)),
    size_factor: 3,
    no_keywords: true,
    names: &[
        ("[Gmail]/All Mail", "Archive"),
        ("[Gmail]/Drafts", "Drafts"),
        ("[Gmail]/Important", "Notes"),
        ("[Gmail]/Sent Mail", "Sent"),
        ("[Gmail]/Spam", "Junk"),
        ("[Gmail]/Starred", "Tasks"),
        ("[Gmail]/Trash", "Deleted"),
    ],
    ..PLAIN
};

const YAHOO: Scenario = Scenario {
    name: "yahoo",
    connections: 5,
    too_many: ("LIMIT", "LOGIN Too many concurrent connections"),
    wrong_password: "[AUTHENTICATIONFAILED] (#AUTH901) Invalid credentials",
    capability: Some((
        "IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER ID MOVE NAMESPACE XYMHIGHESTMODSEQ UIDPLUS LITERAL+ CHILDREN UNSELECT IDLE LIST-EXTENDED LIST-STATUS SPECIAL-USE APPENDLIMIT=41697280",
        "IMAP4rev1 ID MOVE NAMESPACE XYMHIGHESTMODSEQ UIDPLUS LITERAL+ CHILDREN UNSELECT IDLE LIST-EXTENDED LIST-STATUS SPECIAL-USE APPENDLIMIT=41697280 MESSAGELIMIT=1000",
    )),
    locked: "NO [LIMIT] UID FETCH Rate limit hit.",
    commands_per_second: Some((30, "NO [LIMIT] UID FETCH Rate limit hit.")),
    line_limit: Some(1000),
    names: &[
        ("[Gmail]/All Mail", "Archive"),
        ("[Gmail]/Drafts", "Draft"),
        ("[Gmail]/Important", "Important"),
        ("[Gmail]/Sent Mail", "Sent"),
        ("[Gmail]/Spam", "Bulk"),
        ("[Gmail]/Starred", "Starred"),
        ("[Gmail]/Trash", "Trash"),
    ],
    // As if 5000 older ones lay beyond the newest 10,000.
    beyond_window: 5000,
    search_most: Some(1000),
    expunges_late: true,
    ..PLAIN
};

const YANDEX: Scenario = Scenario {
    name: "yandex",
    connections: 10,
    too_many: ("UNAVAILABLE", "Maximum number of connections exceeded"),
    wrong_password: "[AUTHENTICATIONFAILED] LOGIN invalid credentials or IMAP is disabled sc=abc",
    capability: Some((
        "IMAP4rev1 CHILDREN UNSELECT LITERAL+ NAMESPACE XLIST UIDPLUS ENABLE ID AUTH=PLAIN AUTH=XOAUTH2 IDLE MOVE",
        "IMAP4rev1 CHILDREN UNSELECT LITERAL+ NAMESPACE XLIST UIDPLUS ENABLE ID IDLE MOVE",
    )),
    commands_per_second: Some((30, "NO [UNAVAILABLE] Rate limit exceeded sc=abc")),
    no_sasl_ir: true,
    names: RUSSIAN,
    ..PLAIN
};

const MAIL_RU: Scenario = Scenario {
    name: "mailru",
    connections: 5,
    too_many: ("UNAVAILABLE", "Too many connections"),
    wrong_password: "[AUTHENTICATIONFAILED] NEOBHODIM parol prilozheniya https://help.mail.ru/mail/security/protection/external / Application password is REQUIRED",
    capability: Some((
        "IMAP4rev1 ID XLIST UIDPLUS UNSELECT MOVE LIST-STATUS SASL-IR AUTH=PLAIN AUTH=XOAUTH2",
        "IMAP4rev1 ID XLIST UIDPLUS UNSELECT MOVE LIST-STATUS",
    )),
    wrong_structure: true,
    no_keywords: true,
    names: RUSSIAN,
    ..PLAIN
};

/// What is known of it are its answers; the figures and texts are ours (unverified).
const ICLOUD: Scenario = Scenario {
    name: "icloud",
    connections: 10,
    too_many: ("LIMIT", "Too many connections"),
    wrong_password: "[AUTHENTICATIONFAILED] Authentication Failed",
    capability: Some((
        "IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2",
        "IMAP4rev1 CHILDREN CONDSTORE ENABLE ESEARCH ID IDLE LIST-EXTENDED LIST-STATUS MOVE NAMESPACE QRESYNC SPECIAL-USE UIDPLUS UNSELECT",
    )),
    enable_silent: true,
    no_rfc822: true,
    spaced_addresses: true,
    names: &[
        ("[Gmail]/All Mail", "Archive"),
        ("[Gmail]/Drafts", "Drafts"),
        ("[Gmail]/Important", "Important"),
        ("[Gmail]/Sent Mail", "Sent Messages"),
        ("[Gmail]/Spam", "Junk"),
        ("[Gmail]/Starred", "Starred"),
        ("[Gmail]/Trash", "Deleted Messages"),
    ],
    ..PLAIN
};

/// A Cyrus without oddities; its QRESYNC is not simulated, the tests have a Cyrus of their own. The cap is ours (unverified).
const FASTMAIL: Scenario = Scenario {
    name: "fastmail",
    connections: 20,
    too_many: ("LIMIT", "Too many open connections"),
    wrong_password: "[AUTHENTICATIONFAILED] Incorrect username, password or access token",
    capability: Some((
        "IMAP4rev1 ID ENABLE LITERAL+ SASL-IR AUTH=PLAIN AUTH=OAUTHBEARER",
        "IMAP4rev1 CHILDREN CONDSTORE ENABLE ESEARCH ID IDLE LIST-EXTENDED LIST-STATUS LITERAL+ MOVE NAMESPACE SPECIAL-USE UIDPLUS UNSELECT",
    )),
    names: &[
        ("[Gmail]/All Mail", "Archive"),
        ("[Gmail]/Drafts", "Drafts"),
        ("[Gmail]/Important", "Important"),
        ("[Gmail]/Sent Mail", "Sent"),
        ("[Gmail]/Spam", "Spam"),
        ("[Gmail]/Starred", "Starred"),
        ("[Gmail]/Trash", "Trash"),
    ],
    ..PLAIN
};

/// Archive, drafts, important, sent, spam, starred and trash, in Russian.
const RUSSIAN: &[(&str, &str)] = &[
    ("[Gmail]/All Mail", "&BBAEQARFBDgEMg-"),
    ("[Gmail]/Drafts", "&BCcENQRABD0EPgQyBDgEOgQ4-"),
    ("[Gmail]/Important", "&BBIEMAQ2BD0EPgQ1-"),
    ("[Gmail]/Sent Mail", "&BB4EQgQ,BEAEMAQyBDsENQQ9BD0ESwQ1-"),
    ("[Gmail]/Spam", "&BCEEPwQwBDw-"),
    ("[Gmail]/Starred", "&BBgENwQxBEAEMAQ9BD0EPgQ1-"),
    ("[Gmail]/Trash", "&BBoEPgRABDcEOAQ9BDA-"),
];

impl Scenario {
    /// Gmail's: 15 connections, 2500 MB out and 500 MB in.
    pub fn gmail() -> Self {
        Self { download_per_day: Some(2_500_000_000), upload_per_day: Some(500_000_000), ..PLAIN }
    }

    /// Every scenario, by the presets' names.
    pub fn all() -> [Self; 9] {
        [
            Self::gmail(),
            OUTLOOK,
            Self { name: "office365", ..OUTLOOK },
            YAHOO,
            Self { name: "aol", ..YAHOO },
            YANDEX,
            MAIL_RU,
            ICLOUD,
            FASTMAIL,
        ]
    }

    /// The scenario of a provider.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|scenario| scenario.name.eq_ignore_ascii_case(name))
    }

    /// Whether X-GM-EXT-1 is offered.
    pub fn is_gmail(&self) -> bool {
        self.capability.is_none()
    }

    /// Whether a capability is offered after login.
    pub(super) fn offers(&self, name: &str) -> bool {
        self.capability.is_none_or(|(_, after)| after.split(' ').any(|word| word == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{self, Quirk};

    /// What is simulated is what the preset warns of.
    #[test]
    fn scenarios_agree_with_their_presets() {
        let names = Scenario::all().map(|scenario| scenario.name);
        for preset in provider::presets() {
            assert!(names.contains(&preset.name.as_str()), "no scenario of {}", preset.name);
        }
        for scenario in Scenario::all() {
            let preset = provider::by_name(scenario.name).unwrap_or_else(|| panic!("no preset {}", scenario.name));
            let name = scenario.name;
            assert!(preset.connections as usize * 2 <= scenario.connections, "{name}");
            if let Some(known) = preset.connections_max {
                assert_eq!(known as usize, scenario.connections, "{name}");
            }
            assert_eq!(preset.download_per_day, scenario.download_per_day, "{name}");
            assert_eq!(preset.upload_per_day, scenario.upload_per_day, "{name}");
            assert_eq!(preset.has(Quirk::NoIdle), !scenario.offers("IDLE"), "{name}");
            assert_eq!(preset.has(Quirk::NoSaslIr), scenario.no_sasl_ir, "{name}");
            assert_eq!(preset.has(Quirk::NoCustomKeywords), scenario.no_keywords, "{name}");
            assert_eq!(preset.has(Quirk::SizeEstimated), scenario.size_factor != 1, "{name}");
            assert_eq!(preset.has(Quirk::ExpungeNotPushed), scenario.expunges_late, "{name}");
            assert_eq!(preset.has(Quirk::SelectShowsNewestOnly), scenario.beyond_window > 0, "{name}");
            assert_eq!(preset.has(Quirk::EnableNotConfirmed), scenario.enable_silent, "{name}");
            assert_eq!(preset.has(Quirk::Rfc822ItemsMissing), scenario.no_rfc822, "{name}");
            assert!(!preset.has(Quirk::QresyncBroken) || scenario.offers("QRESYNC"), "{name}: nothing to fall for");
            assert!(!scenario.wrong_structure || preset.has(Quirk::StructureWrong), "{name}");
            if let (Some(ours), Some(theirs)) = (preset.command_line_max, scenario.line_limit) {
                assert!(ours as usize <= theirs, "{name}");
            }
            if let Some((theirs, _)) = scenario.commands_per_second {
                let ours = preset.commands_per_second.map_or(u32::MAX, std::num::NonZeroU32::get);
                assert!(ours < theirs, "{name}");
            }
            if let (Some(deaf), Some(renew)) = (scenario.idle_deaf_after, preset.idle_renew()) {
                assert!(renew < deaf, "{name}");
            }
        }
        assert!(Scenario::named("GMAIL").is_some_and(|gmail| gmail.is_gmail()));
        assert!(Scenario::named("nobody").is_none());
    }
}
