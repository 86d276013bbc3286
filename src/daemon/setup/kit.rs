//! The offer for one visitor: under which name, with which ports, and for whose addresses.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::{Offer, domain_of};
use crate::config::Config;
use crate::net::TlsIdentity;

/// Who asks, and where he came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Visitor {
    pub(in crate::daemon) peer: IpAddr,
    /// Our address he connected to.
    pub(in crate::daemon) ours: IpAddr,
    /// Whether the connection is encrypted.
    pub(in crate::daemon) tls: bool,
    /// Whether somebody else may stand behind him: a proxy has handed his request on, or it is for a name that may have been led here.
    pub(in crate::daemon) handed_on: bool,
}

impl Visitor {
    /// Somebody on this computer for certain, who may see what its owner sees.
    pub(in crate::daemon) fn is_owner(&self) -> bool {
        self.is_here() && !self.handed_on
    }

    /// Connected from this computer.
    pub(in crate::daemon) fn is_here(&self) -> bool {
        self.peer.to_canonical().is_loopback()
    }

    /// Whether he can reach a listener.
    fn reaches(&self, listener: IpAddr) -> bool {
        listener.is_unspecified() || listener == self.ours || self.is_here() && listener.is_loopback()
    }
}

/// What the pages for mail programs are made of.
pub(in crate::daemon) struct Kit {
    tls: Arc<TlsIdentity>,
    /// `tls.names`.
    names: Vec<String>,
    /// What really listens; empty until everything does.
    listeners: OnceLock<Vec<(&'static str, SocketAddr)>>,
    addresses: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Kit {
    /// `addresses` gives the accounts' as they are now; no aliases, by which nobody logs in.
    pub(in crate::daemon) fn new(
        tls: Arc<TlsIdentity>,
        config: &Config,
        addresses: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self { tls, names: config.tls.names.clone(), listeners: OnceLock::new(), addresses: Box::new(addresses) }
    }

    /// Told once, when all are bound.
    pub(in crate::daemon) fn set_listeners(&self, listeners: &[(&'static str, SocketAddr)]) {
        self.listeners.get_or_init(|| listeners.to_vec());
    }

    fn listeners(&self) -> &[(&'static str, SocketAddr)] {
        self.listeners.get().map_or(&[], Vec::as_slice)
    }

    /// The authority, in PEM and its fingerprint; `None` with a certificate of the user's own.
    pub(in crate::daemon) fn authority(&self) -> Option<(String, String)> {
        self.tls.ca_pem().zip(self.tls.ca_fingerprint_sha256())
    }

    /// The same in DER.
    pub(in crate::daemon) fn authority_der(&self) -> Option<Vec<u8>> {
        let pem = self.tls.ca_pem()?;
        CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| der.to_vec())
    }

    /// The accounts' addresses.
    pub(in crate::daemon) fn addresses(&self) -> Vec<String> {
        (self.addresses)()
    }

    /// Whether an account has an address there. A program that asks for another's has to look elsewhere. That the domain alone is
    /// compared keeps strangers from trying out who has an account here.
    pub(in crate::daemon) fn serves_domain(&self, domain: &str) -> bool {
        let addresses = self.addresses();
        addresses.iter().filter_map(|address| domain_of(address)).any(|known| known.eq_ignore_ascii_case(domain))
    }

    /// What a visitor is told who called us `asked` (the value of Host).
    pub(in crate::daemon) fn offer(&self, asked: &str, visitor: &Visitor) -> Offer {
        let reached: Vec<_> =
            self.listeners().iter().copied().filter(|(_, address)| visitor.reaches(address.ip())).collect();
        Offer::new(self.host(asked, visitor), &reached)
    }

    /// The name mail programs are to use: the one that led here if the certificate has it, else the first of `tls.names`, else the address.
    fn host(&self, asked: &str, visitor: &Visitor) -> String {
        let asked = bare(asked);
        let certified = self.tls.facts().names;
        if certified.iter().any(|name| matches(name, &asked)) {
            return asked;
        }
        let chosen =
            self.names.iter().find(|name| !name.starts_with("*.") && (visitor.is_here() || !is_loopback(name)));
        let fallback =
            || if visitor.is_here() { "localhost".to_owned() } else { visitor.ours.to_canonical().to_string() };
        chosen.cloned().unwrap_or_else(fallback)
    }

    /// Where other devices find the page at `path`, the best first; empty when they cannot. What somebody has
    /// configured goes first, then addresses: not every phone and router knows the names that were found.
    pub(in crate::daemon) fn urls(&self, path: &str) -> Vec<String> {
        let http = self.listeners().iter().find(|(key, at)| *key == "http" && !at.ip().is_loopback());
        let Some((_, at)) = http else { return Vec::new() };
        let mut names = self.tls.facts().names;
        let configured = |name: &String| self.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        // The certificate keeps addresses of other networks a laptop was in; only one that is ours now can be bound to.
        let is_ours = |name: &String| name.parse::<IpAddr>().map_or(true, |ip| UdpSocket::bind((ip, 0)).is_ok());
        names.retain(|name| !name.starts_with("*.") && !is_loopback(name) && (configured(name) || is_ours(name)));
        if !at.ip().is_unspecified() {
            names.retain(|name| name.parse::<IpAddr>().map_or(true, |ip| ip == at.ip()));
        } else if at.is_ipv4() {
            names.retain(|name| name.parse::<IpAddr>().map_or(true, |ip| ip.is_ipv4()));
        }
        names.sort_by_key(|name| {
            let rank = match name.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => 0,
                Err(_) if name.contains('.') => 1,
                Ok(IpAddr::V6(_)) => 2,
                // Only computers that speak Windows' own protocols find it without a domain.
                Err(_) => 3,
            };
            (!configured(name), rank)
        });
        let url = |name: &String| match name.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("http://[{name}]:{}{path}", at.port()),
            _ => format!("http://{name}:{}{path}", at.port()),
        };
        names.iter().map(url).collect()
    }
}

/// The name in a Host: without port, brackets, and the dot at the end; in lower case.
pub(in crate::daemon) fn bare(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.parse::<IpAddr>().map_or(name, |ip| ip.to_string())
}

/// Whether a name of a certificate is this one (RFC 9525 §6.3: a wildcard stands for one label).
pub(in crate::daemon) fn matches(certified: &str, name: &str) -> bool {
    match certified.strip_prefix("*.") {
        Some(domain) => name.split_once('.').is_some_and(|(_, rest)| rest == domain),
        None => certified == name,
    }
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
pub(in crate::daemon) mod tests {
    use super::*;
    use crate::config;

    pub(in crate::daemon) fn here() -> Visitor {
        let local = IpAddr::from([127, 0, 0, 1]);
        Visitor { peer: local, ours: local, tls: false, handed_on: false }
    }

    pub(in crate::daemon) fn phone() -> Visitor {
        Visitor { peer: [192, 168, 1, 9].into(), ours: [192, 168, 1, 5].into(), tls: false, handed_on: false }
    }

    /// A kit with an authority of its own, for these `tls.names` and listeners, and two accounts.
    pub(in crate::daemon) fn kit(dir: &std::path::Path, names: &[&str], listeners: &[(&'static str, &str)]) -> Kit {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let tls = config::Tls { dir: dir.to_owned(), names: names.clone(), own: None };
        let kit = Kit {
            tls: Arc::new(TlsIdentity::open(&tls).unwrap()),
            names,
            listeners: OnceLock::new(),
            addresses: Box::new(|| vec!["ann@example.org".into(), "bob@second.example".into()]),
        };
        kit.set_listeners(&listeners.iter().map(|(key, at)| (*key, at.parse().unwrap())).collect::<Vec<_>>());
        kit
    }

    #[test]
    fn the_name_told_is_one_the_certificate_has() {
        let dir = tempfile::tempdir().unwrap();
        let kit = kit(dir.path(), &["localhost", "mail.lan", "*.home.arpa", "192.168.1.5"], &[]);
        let table = [
            ("mail.lan:1080", phone(), "mail.lan"),
            ("MAIL.lan.", phone(), "mail.lan"),
            ("pc.home.arpa", phone(), "pc.home.arpa"),
            ("192.168.1.5:1080", phone(), "192.168.1.5"),
            ("autoconfig.example.org", phone(), "mail.lan"),
            ("10.9.9.9", phone(), "mail.lan"),
            ("localhost:1080", here(), "localhost"),
            ("[::1]:1080", here(), "::1"),
            ("autoconfig.example.org", here(), "localhost"),
        ];
        for (asked, visitor, want) in table {
            assert_eq!(kit.offer(asked, &visitor).host, want, "{asked}");
        }
        assert!(kit.serves_domain("EXAMPLE.org") && kit.serves_domain("second.example") && !kit.serves_domain("lan"));
        let dir = tempfile::tempdir().unwrap();
        let kit = self::kit(dir.path(), &[], &[]);
        assert_eq!(kit.offer("autoconfig.example.org", &phone()).host, "192.168.1.5");
        assert_eq!(kit.offer("autoconfig.example.org", &here()).host, "localhost");
    }

    #[test]
    fn only_what_the_visitor_reaches_is_offered() {
        let dir = tempfile::tempdir().unwrap();
        let listeners = [
            ("imap", "127.0.0.1:1143"),
            ("imaps", "0.0.0.0:1993"),
            ("pop3s", "192.168.1.5:1995"),
            ("submissions", "192.168.2.5:1465"),
        ];
        let kit = kit(dir.path(), &["mail.lan"], &listeners);
        let ports = |visitor| kit.offer("mail.lan", &visitor).services.iter().map(|s| s.port).collect::<Vec<_>>();
        assert_eq!(ports(here()), [1993, 1143]);
        assert_eq!(ports(phone()), [1993, 1995]);
    }

    #[test]
    fn other_devices_are_told_where_the_page_is() {
        let dir = tempfile::tempdir().unwrap();
        // An address of yesterday's network, which the certificate keeps.
        let yesterday = kit(dir.path(), &["203.0.113.77"], &[("http", "0.0.0.0:1080")]);
        assert!(yesterday.urls("/")[0].contains("203.0.113.77"), "configured then");
        let names = ["localhost", "mail.lan", "*.lan", "192.168.1.5", "fd00::5"];
        let of = |at| kit(dir.path(), &names, &[("http", at)]).urls("/trust");
        assert_eq!(of("127.0.0.1:1080"), [""; 0]);
        let urls = of("0.0.0.0:1080");
        assert!(yesterday.tls.facts().names.contains(&"203.0.113.77".to_owned()));
        assert!(urls.iter().all(|url| !url.contains("203.0.113.77")), "{urls:?}");
        assert_eq!(urls[..2], ["http://192.168.1.5:1080/trust", "http://mail.lan:1080/trust"], "{urls:?}");
        assert!(!urls.last().unwrap().contains(".local") || urls.len() == 2, "{urls:?}");
        assert!(urls.iter().all(|url| !url.contains("127.0.0.1") && !url.contains("localhost") && !url.contains('*')));
        assert!(of("[::]:80").contains(&"http://[fd00::5]:80/trust".to_owned()));
        assert!(!of("192.168.1.5:80").iter().any(|url| url.contains("fd00")));
    }
}
