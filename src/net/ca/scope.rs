//! For which names an authority may sign: its name constraints (RFC 5280 §4.2.1.10).
//!
//! Whoever trusts the authority trusts it with these names only. A stolen `ca.key` is then good for servers in somebody's home, not
//! for a bank. What is allowed is fixed when the authority is made: the names of local networks, private addresses, and the names
//! this computer was given then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// Domains nobody can buy: of this computer, of multicast DNS (RFC 6762), of homes (RFC 8375), reserved for private use (ICANN, 2024), and
/// two that routers hand out.
const LOCAL_DOMAINS: [&str; 6] = ["localhost", "local", "home.arpa", "internal", "lan", "home"];

/// Addresses that mean another computer in every network: loopback, private use (RFC 1918), link-local, shared (RFC 6598, which virtual
/// private networks use), and IPv6's own of each.
const LOCAL_NETWORKS: [(IpAddr, u8); 9] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

/// The constraints of an authority made now, for the local names and `names`.
pub(super) fn constraints(names: &[String]) -> NameConstraints {
    let mut domains: Vec<String> = LOCAL_DOMAINS.iter().map(ToString::to_string).collect();
    let mut networks = LOCAL_NETWORKS.to_vec();
    for name in names {
        match name.parse::<IpAddr>() {
            Ok(address) if networks.iter().any(|(network, bits)| within(address, *network, *bits)) => {}
            Ok(address) => networks.push((address, if address.is_ipv4() { 32 } else { 128 })),
            Err(_) => {
                let domain = name.strip_prefix("*.").unwrap_or(name);
                if !domains.iter().any(|known| below(domain, known)) {
                    domains.push(domain.to_owned());
                }
            }
        }
    }
    let networks = networks.into_iter().map(|(network, bits)| match network {
        IpAddr::V4(ip) => GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(ip.octets(), bits)),
        IpAddr::V6(ip) => GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(ip.octets(), bits)),
    });
    let permitted_subtrees = domains.into_iter().map(GeneralSubtree::DnsName).chain(networks).collect();
    NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() }
}

/// What an authority that was made once may sign for.
#[derive(Debug, Default)]
pub(super) struct Scope {
    domains: Vec<String>,
    networks: Vec<(IpAddr, IpAddr)>,
    /// Authorities made before there were constraints may sign for everything.
    limited: bool,
}

impl Scope {
    /// As the certificate says. One that cannot be read is taken as unlimited: whoever verifies the leaf decides.
    pub(super) fn of(ca: &CertificateDer<'_>) -> Self {
        let mut scope = Self::default();
        let Ok((_, cert)) = x509_parser::parse_x509_certificate(ca) else { return scope };
        let Ok(Some(found)) = cert.name_constraints() else { return scope };
        let Some(permitted) = &found.value.permitted_subtrees else { return scope };
        scope.limited = true;
        for subtree in permitted {
            match subtree.base {
                GeneralName::DNSName(domain) => scope.domains.push(domain.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => scope.networks.extend(network_and_mask(bytes)),
                _ => {}
            }
        }
        scope
    }

    /// Whether a leaf with this name would be taken. A name that is not makes the whole leaf worthless.
    pub(super) fn covers(&self, name: &str) -> bool {
        if !self.limited {
            return true;
        }
        match name.parse::<IpAddr>() {
            Ok(address) => self.networks.iter().any(|(network, mask)| masked(address, *mask) == Some(*network)),
            Err(_) => {
                let name = name.strip_prefix("*.").unwrap_or(name);
                self.domains.iter().any(|domain| below(name, domain))
            }
        }
    }
}

/// Whether `name` is `domain` or ends in it, label by label.
fn below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let mask = match network {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0))),
    };
    masked(address, mask) == Some(network)
}

fn masked(address: IpAddr, mask: IpAddr) -> Option<IpAddr> {
    match (address, mask) {
        (IpAddr::V4(a), IpAddr::V4(m)) => Some(Ipv4Addr::from_bits(a.to_bits() & m.to_bits()).into()),
        (IpAddr::V6(a), IpAddr::V6(m)) => Some(Ipv6Addr::from_bits(a.to_bits() & m.to_bits()).into()),
        _ => None,
    }
}

/// An address and a mask of the same length, one behind the other.
fn network_and_mask(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (network, mask) = bytes.split_at_checked(bytes.len() / 2)?;
    super::address(network).zip(super::address(mask))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    #[test]
    fn what_was_allowed_is_what_is_covered() {
        let names = ["mail.example.org", "*.office.example", "203.0.113.7", "2001:db8::7", "ann-pc", "ann-pc.local"];
        let names = names.map(str::to_owned);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.name_constraints = Some(constraints(&names));
        let ca = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let scope = Scope::of(ca.der());
        let table = [
            ("localhost", true),
            ("any.local", true),
            ("deep.home.arpa", true),
            ("mail.example.org", true),
            ("in.mail.example.org", true),
            ("example.org", false),
            ("xmail.example.org", false),
            ("*.office.example", true),
            ("pc.office.example", true),
            ("ann-pc", true),
            ("other-pc", false),
            ("mail.google.com", false),
            ("127.0.0.1", true),
            ("::1", true),
            ("192.168.7.8", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("8.8.8.8", false),
            ("203.0.113.7", true),
            ("203.0.113.8", false),
            ("fd00::2", true),
            ("fe80::1", true),
            ("2001:db8::7", true),
            ("2001:db8::8", false),
        ];
        for (name, want) in table {
            assert_eq!(scope.covers(name), want, "{name}");
        }
        let domains = scope.domains.iter().filter(|d| d.ends_with("local")).count();
        assert_eq!(domains, 1, "a name inside a local domain needs no line of its own");
        // One made before there were constraints goes on as it was.
        params.name_constraints = None;
        let old = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(
            Scope::of(old.der()).covers("mail.google.com") && Scope::of(&CertificateDer::from(vec![1])).covers("x")
        );
    }
}
