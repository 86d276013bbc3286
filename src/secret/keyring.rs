//! The desktop's keyring, by the program each system has for it: `secret-tool` (the Secret Service of GNOME, KDE and others) or macOS's
//! `security`.
//!
//! Not by a library: the one that speaks all of them brings some eighty crates for D-Bus, or needs C headers where it is built, and on
//! the servers this runs on there is no keyring at all. A keyring that is missing or locked is a fault with words, in bounded time.

use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{COMMAND_TIMEOUT, SecretError, read_bounded};

/// What our entries are under.
const SERVICE: &str = "mailweir";
/// Longest words of a program that are shown.
const MAX_WORDS: u64 = 300;

/// The secret of that name.
pub(super) async fn lookup(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let fault = |reason: String| SecretError::Keyring { name: name.to_owned(), reason };
    let (program, arguments, mend) =
        ask(name).ok_or_else(|| fault("this system's keyring is not supported yet".into()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|error| fault(format!("`{program}` cannot be started ({error}); {mend}")))?;
    let (output, words) =
        child.stdout.take().zip(child.stderr.take()).ok_or_else(|| fault("it cannot be read".into()))?;
    let run = async {
        let mut told = String::new();
        // Words that are no text are no words.
        let mut words = words.take(MAX_WORDS);
        let (read, _) = tokio::join!(read_bounded(output), words.read_to_string(&mut told));
        let read = read.map_err(|error| fault(error.to_string()))?;
        let bytes = read.ok_or_else(|| SecretError::TooLong(format!("the keyring's {name}")))?;
        let status = child.wait().await.map_err(|error| fault(error.to_string()))?;
        if status.success() {
            return Ok(bytes);
        }
        let told = told.lines().next().unwrap_or_default().trim();
        Err(fault(if told.is_empty() { "there is no such entry".to_owned() } else { format!("it says: {told}") }))
    };
    tokio::time::timeout(COMMAND_TIMEOUT, run)
        .await
        .unwrap_or_else(|_| Err(fault(format!("no answer within {} s; is it locked?", COMMAND_TIMEOUT.as_secs()))))
}

/// Program and arguments that print the secret, and what to do where the program is missing.
fn ask(name: &str) -> Option<(&'static str, Vec<&str>, &'static str)> {
    if cfg!(target_os = "macos") {
        let arguments = vec!["find-generic-password", "-s", SERVICE, "-a", name, "-w"];
        return Some(("security", arguments, "it is part of macOS"));
    }
    if cfg!(unix) {
        let arguments = vec!["lookup", "service", SERVICE, "account", name];
        return Some(("secret-tool", arguments, "install it (on Debian: `apt install libsecret-tools`)"));
    }
    None
}
