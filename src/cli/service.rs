//! `mailweir service`: a unit of systemd that starts the daemon with the computer, as hardened as it bears.
//!
//! A user's own unit by default: it needs no rights, and reads the configuration `account add` wrote. `--system` makes one of the
//! system's, run as the user given. What the daemon needs is little: sockets, its data directory, and the key of the tokens beside the
//! configuration. Ports below 1024 are opened for it by a socket unit of the system's, so it has no capability at all.
//!
//! A dynamic user of systemd's is not offered: `account add` and `account login` write into the data directory, and who runs them must be
//! the one the daemon runs as.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};
use etcetera::BaseStrategy;

use super::{fail, load};
use crate::config::Config;
use crate::net::files::{Access, write_atomic};

/// The units' names.
const UNIT: &str = "mailweir.service";
const SOCKET: &str = "mailweir.socket";
/// How long the daemon may give no sign of life before it is started anew; it gives one three times as often (`run/manager.rs`). A disk
/// that hangs for less is no reason.
const WATCHDOG: &str = "WatchdogSec=90";
/// Ports below this are the privileged ones (Linux: `net.ipv4.ip_unprivileged_port_start`).
const PRIVILEGED: u16 = 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Service {
    /// Print the unit, and the socket unit where it has one.
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
                let units = program.and_then(|program| Units::of(&config, &program, kind.user.as_deref()));
                match &self {
                    Self::Install { kind, no_start } => units.and_then(|units| install(&units, kind, *no_start)),
                    _ => units.map(|units| units.shown()),
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
    /// Where the units lie.
    fn dir(&self) -> Result<PathBuf, String> {
        if self.system {
            return Ok("/etc/systemd/system".into());
        }
        let base = etcetera::choose_base_strategy().map_err(|_| "there is no home directory for a unit".to_owned())?;
        Ok(base.config_dir().join("systemd/user"))
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

fn install(units: &Units, kind: &Kind, no_start: bool) -> Result<String, String> {
    let dir = kind.dir()?;
    let mut written = String::new();
    let mut names = Vec::new();
    for (name, text) in units.files() {
        let path = dir.join(name);
        let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
        std::fs::create_dir_all(&dir).map_err(failed)?;
        write_atomic(&path, text.as_bytes(), Access::Everybody).map_err(failed)?;
        written += &format!("{} is written.\n", path.display());
        names.push(name);
    }
    // Of an earlier installation that listened below 1024.
    let stale = dir.join(SOCKET);
    if units.socket.is_none() && stale.exists() {
        if !no_start {
            kind.systemctl(&["disable", "--now", SOCKET])?;
        }
        std::fs::remove_file(&stale).map_err(|error| format!("{} cannot be removed: {error}", stale.display()))?;
        written += &format!("{} is removed.\n", stale.display());
    }
    if no_start {
        return Ok(written);
    }
    let enable: Vec<&str> = ["enable", "--now"].into_iter().chain(names).collect();
    let started = kind.systemctl(&["daemon-reload"]).and_then(|()| {
        // One that runs holds the ports its socket unit is to open, and has the old unit.
        kind.systemctl(&["stop", UNIT])?;
        kind.systemctl(&enable)
    });
    started.map_err(|words| format!("{written}{words}"))?;
    let lingers = "It runs while you are logged in; `loginctl enable-linger` has it run always.\n";
    Ok(format!("{written}The service runs. {}", if kind.system { "\n" } else { lingers }))
}

fn uninstall(kind: &Kind) -> Result<String, String> {
    let dir = kind.dir()?;
    let here: Vec<&str> = [SOCKET, UNIT].into_iter().filter(|name| dir.join(name).exists()).collect();
    if here.is_empty() {
        return Err(format!("there is no {}", dir.join(UNIT).display()));
    }
    // A service that does not run, or a system without systemd: the units go all the same, and are told about.
    let disable: Vec<&str> = ["disable", "--now"].into_iter().chain(here.iter().copied()).collect();
    let stopped = kind.systemctl(&disable);
    let mut words = String::new();
    for name in here {
        let path = dir.join(name);
        std::fs::remove_file(&path).map_err(|error| format!("{} cannot be removed: {error}", path.display()))?;
        words += &format!("{} is removed.\n", path.display());
    }
    let told = stopped.and_then(|()| kind.systemctl(&["daemon-reload"])).err();
    Ok(words + &told.map(|told| format!("({told})\n")).unwrap_or_default())
}

/// What `service install` writes.
struct Units {
    service: String,
    /// Where the system's service listens below 1024.
    socket: Option<String>,
}

impl Units {
    fn of(config: &Config, program: &Path, user: Option<&str>) -> Result<Self, String> {
        let low: Vec<_> = config.listen.all().iter().flat_map(|(_, list)| list.iter().copied()).collect();
        let low: Vec<_> = low.into_iter().filter(|address| (1..PRIVILEGED).contains(&address.port())).collect();
        let socket = (user.is_some() && !low.is_empty()).then(|| socket(&low));
        Ok(Self { service: service(config, program, user, socket.is_some())?, socket })
    }

    fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let socket = self.socket.as_deref().map(|text| (SOCKET, text));
        socket.into_iter().chain([(UNIT, self.service.as_str())])
    }

    /// As `service print` shows them: one after the other, or the service alone.
    fn shown(&self) -> String {
        match &self.socket {
            None => self.service.clone(),
            Some(socket) => format!("# {UNIT}\n{}\n# {SOCKET}\n{socket}", self.service),
        }
    }
}

/// The ports the daemon may not open itself. It finds them by their addresses (`net/inherited.rs`).
fn socket(addresses: &[SocketAddr]) -> String {
    let mut lines = vec!["[Unit]".to_owned(), "Description=mailweir's ports below 1024".into(), String::new()];
    lines.push("[Socket]".into());
    lines.extend(addresses.iter().map(|address| format!("ListenStream={address}")));
    // An IPv6 address is for IPv6 alone, as the daemon has it.
    lines.push("BindIPv6Only=ipv6-only".into());
    // An address the network gives later.
    lines.extend(["FreeBind=yes".into(), String::new(), "[Install]".into()]);
    lines.extend(["WantedBy=sockets.target".into(), String::new()]);
    lines.join("\n")
}

/// The service's text.
fn service(config: &Config, program: &Path, user: Option<&str>, has_socket: bool) -> Result<String, String> {
    let beside = config.file.parent().unwrap_or(&config.file);
    let mut lines = vec![
        "[Unit]".to_owned(),
        "Description=mailweir: many mail programs, one strict provider".into(),
        "Wants=network-online.target".into(),
        "After=network-online.target".into(),
    ];
    if has_socket {
        lines.extend([format!("Requires={SOCKET}"), format!("After={SOCKET}")]);
    }
    lines.extend([
        String::new(),
        "[Service]".into(),
        "Type=notify".into(),
        WATCHDOG.into(),
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
    ]);
    if let Some(user) = user {
        lines.extend([
            format!("User={user}"),
            "CapabilityBoundingSet=".into(),
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
        let of = |listen, program: &str, user| Units::of(&config(listen), program.as_ref(), user).unwrap();
        let own = of("imap = [\"127.0.0.1:1143\"]", "/usr/bin/mailweir", None).shown();
        assert!(own.contains("ExecStart=/usr/bin/mailweir run --config \"/etc/mail weir/mailweir.toml\"\n"), "{own}");
        assert!(own.contains("WantedBy=default.target") && !own.contains("User="), "{own}");
        let system = of("imap = [\"127.0.0.1:1143\"]", "/opt/100%/m", Some("mail")).shown();
        assert!(
            system.contains("ExecStart=\"/opt/100%%/m\"") && system.contains("CapabilityBoundingSet=\n"),
            "{system}"
        );
        assert!(system.contains("ReadWritePaths=-/srv/certs\n") && !system.contains(SOCKET), "{system}");
        let low = of("imaps = [\"0.0.0.0:993\", \"[::]:993\"]\nimap = [\"127.0.0.1:1143\"]", "/m", Some("mail"));
        let socket = low.socket.unwrap();
        assert!(socket.contains("ListenStream=0.0.0.0:993\nListenStream=[::]:993\nBindIPv6Only"), "{socket}");
        assert!(low.service.contains("Requires=mailweir.socket\n") && !low.service.contains("CAP_"), "{}", low.service);
    }
}
