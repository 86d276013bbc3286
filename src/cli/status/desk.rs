//! Asking the running daemon for its status, over `listen.http`.
//!
//! By loopback it answers everybody. Where it listens by an address in the network alone, it wants the token of `[http] token`, which
//! the configuration leads to. That goes only over a connection both of whose ends are this computer: the address of last week may be
//! somebody else's today.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::config::Config;
use crate::secret::{Secret, SecretRef};

/// The daemon answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Far above any report.
const MOST: u64 = 16 << 20;
/// How long a token that was refused is not shown again: the daemon may learn of it meanwhile.
const PAUSE: Duration = Duration::from_secs(60);

/// Where the daemon is asked, and with what.
pub(super) struct Desk {
    address: SocketAddr,
    token: Option<SecretRef>,
    /// The token, once it was wanted.
    known: Option<Secret>,
    /// One the daemon did not take, and when: guesses are slowed, so it is not shown again for a while.
    refused: Option<(Secret, Instant)>,
}

impl Desk {
    /// `None` where nobody is to be asked: there is no `listen.http`.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let address = nearest(&config.listen.http)?;
        Some(Self { address, token: config.http.token.clone(), known: None, refused: None })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The daemon's report, as JSON.
    ///
    /// # Errors
    /// In words, with the mend.
    pub(super) async fn ask(&mut self) -> Result<String, String> {
        let (mut status, mut body) = self.exchange().await?;
        if status == 401 {
            self.forget();
            self.known = Some(self.wanted_token().await?);
            (status, body) = self.exchange().await?;
        }
        match status {
            200 => Ok(body),
            401 => {
                self.forget();
                Err(self.not_taken())
            }
            429 => Err(format!("too many wrong tokens were shown at {}; it is open again in a minute", self.address)),
            _ => Err(format!("what answers at {} is not this program: status {status}", self.address)),
        }
    }

    async fn wanted_token(&self) -> Result<Secret, String> {
        let Some(reference) = &self.token else {
            let words = "by this address the daemon shows its state with a token only; set [http] token, or put a loopback address under listen.http too, and restart it";
            return Err(words.into());
        };
        let token = reference.resolve().await.map_err(|error| format!("http.token: {error}"))?;
        match &self.refused {
            Some((wrong, at)) if *wrong == token && at.elapsed() < PAUSE => Err(self.not_taken()),
            _ => Ok(token),
        }
    }

    /// The token in hand, if there is one, was not taken.
    fn forget(&mut self) {
        self.refused = self.known.take().map(|token| (token, Instant::now())).or_else(|| self.refused.take());
    }

    fn not_taken(&self) -> String {
        format!(
            "the daemon at {} does not take the token of [http] token; if it was changed, reload the daemon",
            self.address
        )
    }

    async fn exchange(&self) -> Result<(u16, String), String> {
        let address = self.address;
        match timeout(TIMEOUT, exchange(address, self.known.as_ref())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                Err(format!("the daemon does not answer at {address}: {error}. Is `mailweir run` running?"))
            }
            Err(_) => Err(format!("the daemon does not answer at {address} in time")),
        }
    }
}

/// The best of these to ask: by loopback the daemon is open.
fn nearest(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    // Every address of this computer is listened on; not every system connects to that.
    let reached = |mut address: SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        address
    };
    addresses.iter().map(|address| reached(*address)).min_by_key(|address| !address.ip().is_loopback())
}

/// Whether a connection has this computer on both its ends.
fn is_own(ours: IpAddr, theirs: IpAddr) -> bool {
    theirs.is_loopback() || ours == theirs
}

/// One GET; the server closes after it. The status and the body.
async fn exchange(address: SocketAddr, token: Option<&Secret>) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let mut request = format!("GET /status.json HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n").into_bytes();
    if let Some(token) = token {
        if !is_own(stream.local_addr()?.ip(), stream.peer_addr()?.ip()) {
            return Err(std::io::Error::other("that address is another computer's now, which is not shown the token"));
        }
        if token.expose().iter().any(u8::is_ascii_control) {
            return Err(std::io::Error::other("http.token has control characters, so it cannot be sent"));
        }
        request.extend_from_slice(b"Authorization: Bearer ");
        request.extend_from_slice(token.expose());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut answer = String::new();
    stream.take(MOST).read_to_string(&mut answer).await?;
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| std::io::Error::other("no answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_address_is_asked() {
        let table = [
            (&["192.168.1.5:1", "127.0.0.1:2"][..], "127.0.0.1:2"),
            (&["192.168.1.5:1", "0.0.0.0:2", "127.0.0.1:3"], "127.0.0.1:2"),
            (&["[::]:1"], "[::1]:1"),
            (&["192.168.1.5:1", "192.168.2.5:1"], "192.168.1.5:1"),
        ];
        for (addresses, want) in table {
            let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(nearest(&addresses), Some(want.parse().unwrap()), "{addresses:?}");
        }
        assert_eq!(nearest(&[]), None);
    }

    #[test]
    fn the_token_stays_on_this_computer() {
        let table = [
            ("192.168.1.5", "192.168.1.5", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("192.168.1.9", "192.168.1.5", false),
            ("fd00::9", "fd00::5", false),
        ];
        for (ours, theirs, want) in table {
            assert_eq!(is_own(ours.parse().unwrap(), theirs.parse().unwrap()), want, "{ours} {theirs}");
        }
    }
}
