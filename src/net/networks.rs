//! Who may log in without TLS (`listen.plaintext_login`).

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

#[cfg(test)]
mod tests {
    use super::*;

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
