//! `mailweir status`: what the running daemon says of itself.

mod text;

use std::io::{IsTerminal as _, Write as _};
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

/// How often `--watch` looks.
const PAUSE: Duration = Duration::from_secs(2);
/// Cursor home; to the end of the line, of the screen (ECMA-48: CUP, EL, ED). Line by line over what stood there, so that nothing flickers.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

#[derive(Debug, Args)]
pub(super) struct Status {
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
    /// Again every two seconds until Ctrl-C: on a terminal in place, else one block (with --json, one line) after the other.
    #[arg(long)]
    watch: bool,
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
        if self.watch {
            return self.watch(address).await;
        }
        match self.look(address).await {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(words) => fail(&words),
        }
    }

    /// Shows it again and again. A daemon that does not answer is shown as such: it may come back.
    async fn watch(&self, address: SocketAddr) -> ExitCode {
        let in_place = std::io::stdout().is_terminal() && !self.json;
        loop {
            let block = match self.look(address).await {
                Ok(text) => text,
                Err(words) if in_place => format!("{words}\n"),
                Err(words) => {
                    eprintln!("mailweir: {words}");
                    String::new()
                }
            };
            let shown = if in_place { redrawn(&block) } else { self.apart(block) };
            let mut out = std::io::stdout().lock();
            if out.write_all(shown.as_bytes()).and_then(|()| out.flush()).is_err() {
                // Who has read has gone.
                return ExitCode::SUCCESS;
            }
            drop(out);
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return ExitCode::SUCCESS,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Blocks are told apart by an empty line, JSON by its line.
    fn apart(&self, block: String) -> String {
        if self.json || block.is_empty() { block } else { block + "\n" }
    }

    /// What there is to show now; else why there is nothing.
    async fn look(&self, address: SocketAddr) -> Result<String, String> {
        let body = match timeout(TIMEOUT, fetch(address)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                return Err(format!("the daemon does not answer at {address}: {error}. Is `mailweir run` running?"));
            }
            Err(_) => return Err(format!("the daemon does not answer at {address} in time")),
        };
        let strange = |error: serde_json::Error| format!("what answers at {address} is not this program: {error}");
        if self.json && self.watch {
            let value: serde_json::Value = serde_json::from_str(&body).map_err(strange)?;
            return Ok(format!("{value}\n"));
        }
        if self.json {
            return Ok(format!("{body}\n"));
        }
        serde_json::from_str::<Report>(&body).map(|report| text::words(&report)).map_err(strange)
    }
}

/// A block over what stood on the screen before.
fn redrawn(block: &str) -> String {
    let lines: String = block.lines().map(|line| format!("{line}{REST_OF_LINE}\n")).collect();
    format!("{HOME}{lines}{REST_OF_SCREEN}")
}

/// One GET; the server closes after it.
async fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /status.json HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MOST).read_to_string(&mut answer).await?;
    if answer.starts_with("HTTP/1.1 401 ") {
        let words = "it shows its state by a loopback address only; put one first under listen.http";
        return Err(std::io::Error::other(words));
    }
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::other("no answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_covers_the_one_before() {
        assert_eq!(redrawn("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
