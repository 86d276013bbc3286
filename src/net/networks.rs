//! Who may log in without TLS (`listen.plaintext_login`), and who belongs to the local network (`listen.lan`).

use std::net::IpAddr;

use crate::config::PlaintextLogin;

use super::stream::Stream;

/// Whether a password may be taken on this connection: always under TLS, else as the configuration says.
pub fn may_log_in(policy: &PlaintextLogin, stream: &Stream) -> bool {
    stream.is_tls() || may_log_in_plain(policy, stream.peer_ip())
}

/// Whether a password may be taken in the clear from `peer`.
pub fn may_log_in_plain(policy: &PlaintextLogin, peer: IpAddr) -> bool {
    match policy {
        PlaintextLogin::Never => false,
        PlaintextLogin::Loopback => peer.to_canonical().is_loopback(),
        PlaintextLogin::Networks(networks) => networks.iter().any(|network| network.contains(peer)),
    }
}

/// Whether `peer`, who reached us at `ours`, is in a network of ours and not somewhere in the world: this computer, an address of private
/// use, link-local or shared (RFC 6598: carriers and virtual private networks), or in the same IPv6 network. A router that
/// forwards a port by mistake, or a server with a public address, then serves nobody by it.
pub fn is_local(peer: IpAddr, ours: IpAddr) -> bool {
    match (peer.to_canonical(), ours.to_canonical()) {
        (IpAddr::V4(peer), _) => {
            let shared = peer.octets()[0] == 100 && peer.octets()[1] & 0xc0 == 64;
            peer.is_loopback() || peer.is_private() || peer.is_link_local() || shared
        }
        (IpAddr::V6(peer), ours) => {
            let beside = matches!(ours, IpAddr::V6(ours) if ours.segments()[..4] == peer.segments()[..4]);
            peer.is_loopback() || peer.is_unique_local() || peer.is_unicast_link_local() || beside
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_the_local_network() {
        let table = [
            ("127.0.0.1", "127.0.0.1", true),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", true),
            ("192.168.1.9", "192.168.1.5", true),
            ("10.8.0.2", "192.168.1.5", true),
            ("100.64.0.1", "100.64.0.2", true),
            ("100.128.0.1", "100.64.0.2", false),
            ("203.0.113.9", "192.168.1.5", false),
            ("203.0.113.9", "203.0.113.10", false),
            ("::1", "::1", true),
            ("fe80::1", "fe80::2", true),
            ("fd00::1", "fd01::1", true),
            ("2001:db8:0:1::9", "2001:db8:0:1::5", true),
            ("2001:db8:0:2::9", "2001:db8:0:1::5", false),
        ];
        for (peer, ours, want) in table {
            assert_eq!(is_local(peer.parse().unwrap(), ours.parse().unwrap()), want, "{peer} at {ours}");
        }
    }

    #[test]
    fn the_policy_decides_by_the_peers_address() {
        let home = PlaintextLogin::Networks(vec!["192.168.0.0/16".parse().unwrap()]);
        let table = [
            (&PlaintextLogin::Never, "127.0.0.1", false),
            (&PlaintextLogin::Loopback, "127.0.0.1", true),
            (&PlaintextLogin::Loopback, "127.9.9.9", true),
            (&PlaintextLogin::Loopback, "::1", true),
            (&PlaintextLogin::Loopback, "::ffff:127.0.0.1", true),
            (&PlaintextLogin::Loopback, "192.168.1.1", false),
            (&home, "192.168.1.1", true),
            (&home, "127.0.0.1", false),
            (&home, "8.8.8.8", false),
        ];
        for (policy, peer, want) in table {
            assert_eq!(may_log_in_plain(policy, peer.parse().unwrap()), want, "{policy:?} {peer}");
        }
        let (stream, _other) = Stream::pair();
        assert!(may_log_in(&PlaintextLogin::Loopback, &stream) && !may_log_in(&PlaintextLogin::Never, &stream));
    }
}
