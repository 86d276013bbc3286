//! The names and addresses by which mail programs in the local network reach this computer.
//!
//! Only what stays for a while is taken: the computer's name, its `.local` name (multicast DNS), and its address in a private
//! network. A public IPv6 address changes daily by design, and a certificate that changes daily annoys whoever pinned it.
//!
//! Nothing is sent: "connecting" a UDP socket only asks the system which of its addresses it would use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Names and addresses found, without those every computer has (`localhost`, loopback).
pub fn found() -> Vec<String> {
    let mut names = Vec::new();
    if let Some(host) = host_name() {
        names.extend(names_of(&host));
    }
    // Documentation addresses (RFC 5737, RFC 3849): routed like any other, used by nobody.
    let far: [IpAddr; 2] = [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    names.extend(far.into_iter().filter_map(own_address_towards).filter(|ip| is_private(*ip)).map(|ip| ip.to_string()));
    names
}

/// `ann-pc` is also `ann-pc.local`; `pc.home.arpa` is also `pc`.
fn names_of(host: &str) -> Vec<String> {
    let host = host.trim().trim_end_matches('.').to_ascii_lowercase();
    let valid = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if host == "localhost" || host.len() > 253 || !host.split('.').all(valid) {
        return Vec::new();
    }
    let short = host.split('.').next().unwrap_or(&host).to_owned();
    let mut names = vec![host.clone(), short.clone(), format!("{short}.local")];
    names.dedup();
    names
}

fn own_address_towards(far: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = match far {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((far, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(target_os = "linux")]
fn host_name() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname")).ok()
}

#[cfg(windows)]
fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

#[cfg(not(any(target_os = "linux", windows)))]
fn host_name() -> Option<String> {
    let output = std::process::Command::new("hostname").output().ok()?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_give_their_forms() {
        assert_eq!(names_of("Ann-PC\n"), ["ann-pc", "ann-pc.local"]);
        assert_eq!(names_of("pc.home.arpa"), ["pc.home.arpa", "pc", "pc.local"]);
        assert_eq!(names_of("pc.local"), ["pc.local", "pc", "pc.local"]);
        for odd in ["localhost", "", "(none)", "a b", "."] {
            assert!(names_of(odd).is_empty(), "{odd}");
        }
    }

    #[test]
    fn only_lasting_addresses_count() {
        for (ip, want) in [
            ("192.168.1.5", true),
            ("10.0.0.1", true),
            ("8.8.8.8", false),
            ("169.254.1.1", false),
            ("fd00::1", true),
            ("2001:db8::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_private(ip.parse().unwrap()), want, "{ip}");
        }
    }
}
