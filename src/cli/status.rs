//! `mailweir status`: what the running daemon says of itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{fail, load};
use crate::daemon::status::{Status as Report, octets};

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
        let Some(address) = config.listen.http.first().copied() else {
            return fail(
                "listen.http is not set in the configuration, so there is nobody to ask; set it and restart the daemon",
            );
        };
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
                print(&report);
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

fn print(report: &Report) {
    println!("mailweir {}, {} client sessions, cache {}", report.version, report.sessions, octets(report.cache_bytes));
    for account in &report.accounts {
        let state = account.not_ready().unwrap_or_else(|| "in step".into());
        println!("{}: {state}", account.address);
        if let Some(notice) = &account.notice {
            println!("  {notice}");
        }
        if let Some(reading) = &account.reading {
            println!("  {}", reading.words());
        }
        if let Some(outbox) = &account.outbox {
            println!("  {}", outbox.words());
        }
        println!("  {}: {} of {} connections", account.upstream, account.connections, account.connections_allowed);
        let allowed = |limit: Option<u64>| limit.map_or_else(String::new, |limit| format!(" of {}", octets(limit)));
        println!(
            "  in 24 hours: {}{} down, {}{} up",
            octets(account.downloaded),
            allowed(account.download_allowed),
            octets(account.uploaded),
            allowed(account.upload_allowed)
        );
        if account.messages_sent > 0 || account.messages_allowed.or(account.recipients_allowed).is_some() {
            let of = |limit: Option<u64>| limit.map_or_else(String::new, |limit| format!(" of {limit}"));
            println!(
                "  sent in 24 hours: {}{} messages to {}{} recipients",
                account.messages_sent,
                of(account.messages_allowed),
                account.recipients_sent,
                of(account.recipients_allowed)
            );
        }
    }
}
