//! Values with a notation of their own: sizes, time spans, listen addresses, networks.
//!
//! Each parser answers what is wrong as the middle of a sentence and what to write instead; the caller knows the key and the line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// What is wrong with a value, and the mend.
pub(super) type Wrong = (String, String);

const SIZES: &str = "Write a number and a unit, like \"20GB\" or \"512MiB\".";

/// A size in bytes: `KB MB GB TB` are powers of 1000, `KiB MiB GiB TiB` of 1024, `B` or nothing is bytes. Fractions are taken
/// (`1.5GB`).
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    let text = text.trim();
    let wrong = |what: &str| (format!("`{text}` {what}"), SIZES.to_owned());
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.' || *b == b'_').count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KB" | "kB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong("is not a size")),
    };
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    // 12 digits keep the products below within 128 bits, and say more than any disk needs.
    if whole.is_empty() || fraction.len() > 12 || number.ends_with('.') || fraction.contains('.') {
        return Err(wrong("is not a size"));
    }
    let too_large = || wrong("is too large");
    let mut bytes = u128::from(whole.parse::<u64>().map_err(|_| too_large())?) * u128::from(factor);
    if !fraction.is_empty() {
        let part: u128 = fraction.parse().map_err(|_| wrong("is not a size"))?;
        bytes += part * u128::from(factor) / 10_u128.pow(fraction.len() as u32);
    }
    u64::try_from(bytes).map_err(|_| too_large())
}

/// A number of days, `30d`; weeks `w` and years `y` (365 days) are taken as well.
pub(super) fn days(text: &str) -> Option<u32> {
    let text = text.trim();
    let (number, factor) = match text.chars().next_back()? {
        'd' => (text.strip_suffix('d')?, 1),
        'w' => (text.strip_suffix('w')?, 7),
        'y' => (text.strip_suffix('y')?, 365),
        _ => return None,
    };
    number.trim().parse::<u32>().ok()?.checked_mul(factor)
}

/// A time span in seconds, minutes or hours: `30s`, `11m`, `1h`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, factor) = match text.chars().next_back()? {
        's' => (text.strip_suffix('s')?, 1),
        'm' => (text.strip_suffix('m')?, 60),
        'h' => (text.strip_suffix('h')?, 3600),
        _ => return None,
    };
    number.trim().parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_secs)
}

/// `IP:port`, `[IPv6]:port` or `localhost:port`. Other names are refused: what a name means may change under a running
/// daemon, and a listener that moved is worse than one that says no.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mend = "Write an IP address and a port, like \"127.0.0.1:1143\", \"[::1]:1143\" or \"localhost:1143\"; \"0.0.0.0\" stands for every address.";
    let Some((host, port)) = text.rsplit_once(':') else {
        let what = if text.parse::<IpAddr>().is_ok() { "has no port" } else { "is not an address with a port" };
        return Err((format!("`{text}` {what}"), mend.into()));
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err((format!("`{port}` is not a port (0 to 65535)"), mend.into()));
    };
    match host {
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        "" | "*" => Err((format!("`{text}` names no address"), mend.into())),
        _ => Err((format!("`{host}` is a host name, and only `localhost` is taken as one here"), mend.into())),
    }
}

/// An IP network, `192.168.0.0/16`; an address alone is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `ip` belongs to it. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                same_prefix(net.to_bits().into(), ip.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => same_prefix(net.to_bits(), ip.to_bits(), 128, self.prefix),
            _ => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, width: u8, prefix: u8) -> bool {
    // A shift by the whole width would overflow; a prefix of 0 takes everything.
    let host_bits = u32::from(width.saturating_sub(prefix));
    (a ^ b).checked_shr(host_bits).unwrap_or(0) == 0
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| format!("`{text}` is not a network"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(p) => p
                .parse()
                .ok()
                .filter(|p| *p <= width)
                .ok_or_else(|| format!("`/{p}` is not a prefix length from 0 to {width}"))?,
        };
        Ok(Self { address, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            ("20GB", Some(20_000_000_000)),
            ("512MiB", Some(512 << 20)),
            ("1 KiB", Some(1024)),
            ("1.5GB", Some(1_500_000_000)),
            ("2_500MB", Some(2_500_000_000)),
            ("17", Some(17)),
            ("0", Some(0)),
            ("16777216TiB", None),
            ("99999999999999999999", None),
            ("GB", None),
            ("1.GB", None),
            ("1.2.3GB", None),
            ("-1GB", None),
            ("20gb", None),
            ("20 bananas", None),
            ("", None),
        ];
        for (text, want) in table {
            assert_eq!(size(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn day_spans() {
        for (text, want) in
            [("30d", Some(30)), ("2w", Some(14)), ("1y", Some(365)), ("d", None), ("30", None), ("", None)]
        {
            assert_eq!(days(text), want, "{text:?}");
        }
        assert_eq!(days("4294967295y"), None);
        assert_eq!(days("3é"), None);
    }

    #[test]
    fn listen_addresses() {
        for (text, want) in [
            ("127.0.0.1:1143", Some("127.0.0.1:1143")),
            ("[::1]:993", Some("[::1]:993")),
            ("localhost:25", Some("127.0.0.1:25")),
            ("0.0.0.0:0", Some("0.0.0.0:0")),
            ("example.org:143", None),
            ("127.0.0.1", None),
            ("127.0.0.1:99999", None),
            (":143", None),
            ("::1:143:x", None),
        ] {
            assert_eq!(listen_address(text).ok().map(|a| a.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn networks() {
        let table = [
            ("192.168.0.0/16", "192.168.7.1", true),
            ("192.168.0.0/16", "192.169.0.1", false),
            ("192.168.0.0/16", "::ffff:192.168.7.1", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("2001:db8::1", "2001:db8::1", true),
        ];
        for (network, ip, want) in table {
            assert_eq!(network.parse::<Network>().unwrap().contains(ip.parse().unwrap()), want, "{network} {ip}");
        }
        for bad in ["192.168.0.0/33", "::/129", "home", "", "1.2.3.4/", "1.2.3.4/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
