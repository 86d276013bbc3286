//! A word to the daemon that runs: it reads its configuration again.

use crate::config::Config;
use crate::daemon::DataDirLock;

/// Has the running daemon read its configuration again; what to tell of it.
pub(crate) fn reload(config: &Config) -> String {
    match DataDirLock::holder(&config.data_dir) {
        None => "Start it with `mailweir run`.".to_owned(),
        Some(pid) if hang_up(pid) => "The running daemon takes it over.".to_owned(),
        Some(_) => "Have the running daemon take it over: send it SIGHUP, or restart it.".to_owned(),
    }
}

/// SIGHUP, by the shell: a library call would be the only one of its kind here.
#[cfg(unix)]
fn hang_up(pid: u32) -> bool {
    let quiet = std::process::Stdio::null;
    let mut kill = std::process::Command::new("/bin/sh");
    kill.args(["-c", "kill -HUP \"$1\"", "sh", &pid.to_string()]).stdout(quiet()).stderr(quiet());
    kill.status().is_ok_and(|status| status.success())
}

#[cfg(not(unix))]
fn hang_up(_: u32) -> bool {
    false
}
