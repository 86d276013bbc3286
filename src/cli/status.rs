//! `mailweir status`: what the running daemon says of itself.

mod desk;
mod text;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use self::desk::Desk;
use super::{fail, load};
use crate::daemon::status::Status as Report;

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
        let Some(mut desk) = Desk::of(&config) else {
            return fail(
                "listen.http is not set in the configuration, so there is nobody to ask; set it and restart the daemon",
            );
        };
        if self.watch {
            return self.watch(desk).await;
        }
        match self.look(&mut desk).await {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(words) => fail(&words),
        }
    }

    /// Shows it again and again until Ctrl-C, which counts whatever goes on at that moment.
    async fn watch(&self, mut desk: Desk) -> ExitCode {
        // Listened for from its first poll on, once for all: what comes between two listeners would be lost.
        let mut ended = std::pin::pin!(async {
            // Where it cannot be listened for it ends the program by itself.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        tokio::select! {
            biased;
            () = &mut ended => return ExitCode::SUCCESS,
            () = std::future::ready(()) => {}
        }
        loop {
            let shown = tokio::select! {
                () = &mut ended => return ExitCode::SUCCESS,
                shown = self.block(&mut desk) => shown,
            };
            let mut out = std::io::stdout().lock();
            if out.write_all(shown.as_bytes()).and_then(|()| out.flush()).is_err() {
                // Who has read has gone.
                return ExitCode::SUCCESS;
            }
            drop(out);
            tokio::select! {
                () = &mut ended => return ExitCode::SUCCESS,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// What is written next. A daemon that does not answer is shown as such: it may come back.
    async fn block(&self, desk: &mut Desk) -> String {
        let in_place = std::io::stdout().is_terminal() && !self.json;
        match self.look(desk).await {
            Ok(text) if in_place => redrawn(&text),
            Ok(text) => self.apart(text),
            Err(words) if in_place => redrawn(&format!("{words}\n")),
            Err(words) => {
                eprintln!("mailweir: {words}");
                String::new()
            }
        }
    }

    /// Blocks are told apart by an empty line, JSON by its line.
    fn apart(&self, block: String) -> String {
        if self.json { block } else { block + "\n" }
    }

    /// What there is to show now; else why there is nothing.
    async fn look(&self, desk: &mut Desk) -> Result<String, String> {
        let body = desk.ask().await?;
        let strange =
            |error: serde_json::Error| format!("what answers at {} is not this program: {error}", desk.address());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_covers_the_one_before() {
        assert_eq!(redrawn("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
