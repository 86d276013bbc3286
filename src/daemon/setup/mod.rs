//! What mail programs are told of our servers, so that a person types no more than an address and a password.
//!
//! [`Offer`] is the content; each form it is told in has a file: Thunderbird's autoconfig document, Outlook's Autodiscover answer, Apple's
//! configuration profile. None of them holds a password unless a person asks for it on the command line. Which offer a
//! program gets depends on the name by which it came ([`kit`]).

pub(crate) mod apple;
pub(crate) mod autoconfig;
pub(crate) mod autodiscover;
pub(super) mod kit;
pub(crate) mod xml;

use std::net::SocketAddr;

/// Longest address looked at (RFC 5321 §4.5.3.1.3, without the brackets).
const MAX_ADDRESS: usize = 254;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Imap,
    Pop3,
    Smtp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// From the first byte.
    Tls,
    StartTls,
}

/// One way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) protocol: Protocol,
    pub(crate) security: Security,
    pub(crate) port: u16,
}

/// The keys of `[listen]` in the order programs should prefer them, and what they are.
const KEYS: [(&str, Protocol, Security); 6] = [
    ("imaps", Protocol::Imap, Security::Tls),
    ("imap", Protocol::Imap, Security::StartTls),
    ("pop3s", Protocol::Pop3, Security::Tls),
    ("pop3", Protocol::Pop3, Security::StartTls),
    ("submissions", Protocol::Smtp, Security::Tls),
    ("submission", Protocol::Smtp, Security::StartTls),
];

/// Where a mail program finds us: a name that is in our certificate, and the services there, the preferred ones first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) host: String,
    pub(crate) services: Vec<Service>,
}

impl Offer {
    /// Of the listeners, by the configuration's keys; the first of each key.
    pub(crate) fn new(host: String, listeners: &[(&str, SocketAddr)]) -> Self {
        let service = |(key, protocol, security)| {
            let (_, address) = listeners.iter().find(|(listener, _)| *listener == key)?;
            Some(Service { protocol, security, port: address.port() })
        };
        Self { host, services: KEYS.into_iter().filter_map(service).collect() }
    }

    pub(crate) fn of(&self, protocol: Protocol) -> impl Iterator<Item = Service> {
        self.services.iter().copied().filter(move |service| service.protocol == protocol)
    }

    /// The preferred way to read mail, if there is one over TLS from the start.
    pub(crate) fn over_tls(&self, protocol: Protocol) -> Option<Service> {
        self.of(protocol).find(|service| service.security == Security::Tls)
    }

    /// Whether mail can be read here at all.
    pub(crate) fn serves(&self) -> bool {
        self.services.iter().any(|service| service.protocol != Protocol::Smtp)
    }
}

/// The domain of something that can be a mail address. What a stranger sends is not trusted further than this: no blanks, controls, quotes or
/// brackets, and a domain of letters, digits, dots and hyphens.
pub(crate) fn domain_of(address: &str) -> Option<&str> {
    let (local, domain) = address.rsplit_once('@')?;
    let strange = |c: char| c.is_whitespace() || c.is_control() || "<>\"'&@,;:\\()[]".contains(c);
    let valid = address.len() <= MAX_ADDRESS && !local.is_empty() && !local.contains(strange) && is_domain(domain);
    valid.then_some(domain)
}

/// Whether it looks like a domain.
pub(crate) fn is_domain(domain: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(|c| c.is_alphanumeric() || c == '-');
    domain.len() <= MAX_ADDRESS && domain.split('.').all(is_label)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Everything there is, at `mail.lan`.
    pub(crate) fn full() -> Offer {
        let at = |key, port| (key, SocketAddr::from(([0, 0, 0, 0], port)));
        let listeners = [
            at("imap", 1143),
            at("imaps", 1993),
            at("pop3", 1110),
            at("pop3s", 1995),
            at("submission", 1587),
            at("submissions", 1465),
            at("http", 1080),
        ];
        Offer::new("mail.lan".into(), &listeners)
    }

    #[test]
    fn an_offer_names_the_encrypted_ways_first() {
        let offer = full();
        let ports: Vec<u16> = offer.services.iter().map(|service| service.port).collect();
        assert_eq!(ports, [1993, 1143, 1995, 1110, 1465, 1587]);
        assert_eq!(offer.over_tls(Protocol::Pop3).unwrap().port, 1995);
        let sending = Offer::new("x".into(), &[("submission", ([127, 0, 0, 1], 1).into())]);
        assert!(offer.serves() && !sending.serves() && sending.over_tls(Protocol::Smtp).is_none());
    }

    #[test]
    fn addresses_from_outside() {
        let table = [
            ("ann@example.org", Some("example.org")),
            ("Ann.Smith+x@Mail.Example.org", Some("Mail.Example.org")),
            ("jörg@bücher.example", Some("bücher.example")),
            ("ann", None),
            ("@example.org", None),
            ("ann@", None),
            ("a b@example.org", None),
            ("a@b@example.org", None),
            ("<ann@example.org>", None),
            ("ann@example.org\r\nX: y", None),
            ("ann@exa mple.org", None),
            ("ann@example..org", None),
            ("ann&@example.org", None),
        ];
        for (address, want) in table {
            assert_eq!(domain_of(address), want, "{address}");
        }
        assert_eq!(domain_of(&format!("{}@example.org", "a".repeat(300))), None);
    }
}
