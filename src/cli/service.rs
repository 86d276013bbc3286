//! `mailweir service`: a unit of systemd that starts the daemon with the computer, as hardened as it bears.
//!
//! A user's own unit by default: it needs no rights, and reads the configuration `account add` wrote. `--system` makes one of the
//! system's, run as the user given. What the daemon needs is little: sockets, its data directory, and the key of the tokens beside the
//! configuration.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};
use etcetera::BaseStrategy;

use super::{fail, load};
use crate::config::Config;
use crate::net::files::{Access, write_atomic};

/// The unit's name.
const UNIT: &str = "mailweir.service";
/// Ports below this are the privileged ones (Linux: `net.ipv4.ip_unprivileged_port_start`).
const PRIVILEGED: u16 = 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Service {
    /// Print the unit.
    Print(Kind),
    /// Write the unit, have it started now and at every start of the computer.
    Install {
        #[command(flatten)]
        kind: Kind,
        /// Only write it.
        #[arg(long)]
        no_start: bool,
    },
    /// Stop the service and remove its unit; accounts and mail stay.
    Uninstall(Kind),
}

#[derive(Clone, Debug, Args)]
pub(super) struct Kind {
    /// A unit of the system instead of the user's own.
    #[arg(long, requires = "user")]
    system: bool,
    /// The user the system's unit runs as; the configuration and its secrets must be this user's to read.
    #[arg(long = "as", value_name = "USER", requires = "system")]
    user: Option<String>,
}

impl Service {
    pub(super) fn run(self, config: Option<PathBuf>) -> ExitCode {
        let done = match self {
            Self::Uninstall(kind) => uninstall(&kind),
            Self::Print(ref kind) | Self::Install { ref kind, .. } => {
                let config = match load(config) {
                    Ok(config) => config,
                    Err(code) => return code,
                };
                let program =
                    std::env::current_exe().map_err(|error| format!("our own program is not to be found: {error}"));
                let unit = program.and_then(|program| unit(&config, &program, kind.user.as_deref()));
                match &self {
                    Self::Install { kind, no_start } => unit.and_then(|unit| install(&unit, kind, *no_start)),
                    _ => unit,
                }
            }
        };
        match done {
            Ok(words) => {
                print!("{words}");
                ExitCode::SUCCESS
            }
            Err(words) => fail(&words),
        }
    }
}

impl Kind {
    /// Where the unit lies.
    fn path(&self) -> Result<PathBuf, String> {
        if self.system {
            return Ok(Path::new("/etc/systemd/system").join(UNIT));
        }
        let base = etcetera::choose_base_strategy().map_err(|_| "there is no home directory for a unit".to_owned())?;
        Ok(base.config_dir().join("systemd/user").join(UNIT))
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new("systemctl");
        if !self.system {
            command.arg("--user");
        }
        let shown = format!("systemctl {}{}", if self.system { "" } else { "--user " }, arguments.join(" "));
        match command.args(arguments).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("`{shown}` ended with {status}")),
            Err(error) => Err(format!("`{shown}` cannot be run: {error}")),
        }
    }
}

fn install(unit: &str, kind: &Kind, no_start: bool) -> Result<String, String> {
    let path = kind.path()?;
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    write_atomic(&path, unit.as_bytes(), Access::Everybody).map_err(failed)?;
    let written = format!("{} is written.\n", path.display());
    if no_start {
        return Ok(written);
    }
    let started = kind.systemctl(&["daemon-reload"]).and_then(|()| kind.systemctl(&["enable", "--now", UNIT]));
    started.map_err(|words| format!("{written}{words}"))?;
    let lingers = "It runs while you are logged in; `loginctl enable-linger` has it run always.\n";
    Ok(format!("{written}The service runs. {}", if kind.system { "\n" } else { lingers }))
}

fn uninstall(kind: &Kind) -> Result<String, String> {
    let path = kind.path()?;
    if !path.exists() {
        return Err(format!("there is no {}", path.display()));
    }
    // A service that does not run, or a system without systemd: the unit goes all the same, and is told about.
    let stopped = kind.systemctl(&["disable", "--now", UNIT]);
    std::fs::remove_file(&path).map_err(|error| format!("{} cannot be removed: {error}", path.display()))?;
    let told = stopped.and_then(|()| kind.systemctl(&["daemon-reload"])).err();
    Ok(format!("{} is removed.{}\n", path.display(), told.map(|words| format!(" ({words})")).unwrap_or_default()))
}

/// The unit's text.
fn unit(config: &Config, program: &Path, user: Option<&str>) -> Result<String, String> {
    let beside = config.file.parent().unwrap_or(&config.file);
    let mut lines = vec![
        "[Unit]".to_owned(),
        "Description=mailweir: many mail programs, one strict provider".into(),
        "Wants=network-online.target".into(),
        "After=network-online.target".into(),
        String::new(),
        "[Service]".into(),
        "Type=notify".into(),
        format!("ExecStart={} run --config {}", quoted(program)?, quoted(&config.file)?),
        "ExecReload=kill -HUP $MAINPID".into(),
        "Restart=on-failure".into(),
        "RestartSec=5".into(),
        // A wrong configuration is not mended by trying again.
        "RestartPreventExitStatus=2".into(),
        "TimeoutStopSec=30".into(),
        "LimitNOFILE=16384".into(),
        // Passwords and tokens are in its memory.
        "LimitCORE=0".into(),
        "UMask=0077".into(),
        String::new(),
        "NoNewPrivileges=yes".into(),
        "LockPersonality=yes".into(),
        "MemoryDenyWriteExecute=yes".into(),
        "RestrictRealtime=yes".into(),
        "RestrictSUIDSGID=yes".into(),
        "RestrictNamespaces=yes".into(),
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK".into(),
        "SystemCallArchitectures=native".into(),
        "SystemCallFilter=@system-service".into(),
        "SystemCallFilter=~@privileged @resources".into(),
        "SystemCallErrorNumber=EPERM".into(),
    ];
    if let Some(user) = user {
        let low = config.listen.all().iter().any(|(_, list)| list.iter().any(|a| (1..PRIVILEGED).contains(&a.port())));
        let capability = if low { "CAP_NET_BIND_SERVICE" } else { "" };
        lines.extend([
            format!("User={user}"),
            format!("AmbientCapabilities={capability}"),
            format!("CapabilityBoundingSet={capability}"),
            "ProtectSystem=strict".into(),
            "ProtectHome=read-only".into(),
            // The key of the tokens is made beside the configuration.
            format!("ReadWritePaths=-{} -{}", quoted(&config.data_dir)?, quoted(beside)?),
        ]);
        if !config.tls.dir.starts_with(&config.data_dir) && !config.tls.dir.starts_with(beside) {
            lines.push(format!("ReadWritePaths=-{}", quoted(&config.tls.dir)?));
        }
        let closed = [
            "PrivateTmp=yes",
            "PrivateDevices=yes",
            "ProtectClock=yes",
            "ProtectControlGroups=yes",
            "ProtectHostname=yes",
            "ProtectKernelLogs=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelTunables=yes",
            "ProtectProc=invisible",
            "ProcSubset=pid",
            "RemoveIPC=yes",
        ];
        lines.extend(closed.map(str::to_owned));
    }
    let target = if user.is_some() { "multi-user.target" } else { "default.target" };
    lines.extend([String::new(), "[Install]".into(), format!("WantedBy={target}"), String::new()]);
    Ok(lines.join("\n"))
}

/// A path as a unit takes it: in quotes, and nothing in it is a specifier, a variable or an escape.
fn quoted(path: &Path) -> Result<String, String> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| format!("{} cannot stand in a unit", path.display()))?;
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) { text } else { format!("\"{text}\"") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str) -> Config {
        let text = format!("data_dir = \"/srv/mail\"\n[listen]\n{listen}\n[tls]\ndir = \"/srv/certs\"\n");
        Config::parse("/etc/mail weir/mailweir.toml".as_ref(), &text).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    #[test]
    fn a_unit_has_what_it_needs_and_no_more() {
        let own = unit(&config("imap = [\"127.0.0.1:1143\"]"), "/usr/bin/mailweir".as_ref(), None).unwrap();
        assert!(own.contains("ExecStart=/usr/bin/mailweir run --config \"/etc/mail weir/mailweir.toml\"\n"), "{own}");
        assert!(own.contains("WantedBy=default.target") && !own.contains("User="), "{own}");
        let system = unit(&config("imap = [\"127.0.0.1:1143\"]"), "/opt/100%/m".as_ref(), Some("mail")).unwrap();
        assert!(
            system.contains("ExecStart=\"/opt/100%%/m\"") && system.contains("CapabilityBoundingSet=\n"),
            "{system}"
        );
        assert!(system.contains("ReadWritePaths=-/srv/certs\n"), "{system}");
        let low = unit(&config("imaps = [\"0.0.0.0:993\"]"), "/m".as_ref(), Some("mail")).unwrap();
        assert!(low.contains("AmbientCapabilities=CAP_NET_BIND_SERVICE\n"), "{low}");
    }
}
