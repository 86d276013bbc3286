//! `mailweir status`: what the running daemon says of itself.

mod text;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{fail, load};
use crate::daemon::status::Status as Report;

/// The daemon answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Far above any report.
const MOST: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(super) struct Status {
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self, config: Option<PathBuf>) -> ExitCode {
        let config = match load(config) {
            Ok(config) => config,
            Err(code) => return code,
        };
        let Some(mut address) = config.listen.http.first().copied() else {
            return fail(
                "listen.http is not set in the configuration, so there is nobody to ask; set it and restart the daemon",
            );
        };
        // Every address of this computer is listened on; not every system connects to that.
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        let body = match timeout(TIMEOUT, fetch(address)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                return fail(&format!("the daemon does not answer at {address}: {error}. Is `mailweir run` running?"));
            }
            Err(_) => return fail(&format!("the daemon does not answer at {address} in time")),
        };
        if self.json {
            println!("{body}");
            return ExitCode::SUCCESS;
        }
        match serde_json::from_str::<Report>(&body) {
            Ok(report) => {
                print!("{}", text::words(&report));
                ExitCode::SUCCESS
            }
            Err(error) => fail(&format!("what answers at {address} is not this program: {error}")),
        }
    }
}

/// One GET; the server closes after it.
async fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /status.json HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MOST).read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::other("no answer"))
}
