//! What the demonstration is played on: the simulated provider, and the real daemon in front of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::config::{
    Account, Cache, Config, Http, Limits, Listen, LocalPassword, Log, PlaintextLogin, Pop3, Prefetch, Server, Tls,
    TlsMode,
};
use crate::daemon::simulated::{Provider, Scenario};
use crate::daemon::{Daemon, DataDirLock, cache_dir};
use crate::provider;
use crate::secret::{Secret, SecretRef};

/// Who logs in, on both sides. Nothing here is worth a secret: the mail is made up, and the ports are on loopback.
pub(super) const USER: &str = "demo@example.org";
/// What a mail program gives.
pub(super) const PASSWORD: &str = "demo";
/// What the daemon gives the provider: the mail programs never know it.
pub(super) const PROVIDER_PASSWORD: &str = "only-the-daemon-knows";
/// Connections the daemon opens at most, as for Gmail.
pub(super) const CONNECTIONS: u32 = 3;

/// Fixed ports; 0 takes a free one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ports {
    pub(super) imap: u16,
    pub(super) imaps: u16,
    pub(super) pop3: u16,
    pub(super) pop3s: u16,
    pub(super) http: u16,
    pub(super) provider: u16,
}

/// Provider and daemon at work.
pub(super) struct Stage {
    pub(super) provider: Provider,
    pub(super) daemon: Daemon,
    pub(super) ca_file: PathBuf,
    dir: Dir,
}

/// The data directory.
struct Dir {
    path: PathBuf,
    /// Ours alone: removed at the end.
    temporary: bool,
}

impl Drop for Dir {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(dir = %self.path.display(), %error, "the temporary directory could not be removed");
        }
    }
}

impl Stage {
    /// Starts the daemon in front of the provider. `keep` is a data directory to use and leave; else a temporary one is made. The
    /// error is for a person to read.
    pub(super) async fn set(
        provider: Provider,
        ports: Ports,
        keep: Option<&Path>,
        prefetch: Prefetch,
    ) -> Result<Self, String> {
        let dir = match keep {
            // Absolute, as in a configuration: what is printed must be usable from anywhere.
            Some(path) => std::path::absolute(path).map(|path| Dir { path, temporary: false }),
            None => temporary(),
        };
        let dir = dir.map_err(|error| format!("no directory for the demonstration: {error}"))?;
        if !dir.temporary {
            forget_mail(&dir.path)?;
        }
        let config = config(&dir.path, ports, &provider, prefetch);
        let ca_file = config.tls.dir.join("ca.pem");
        match Daemon::start(config).await {
            Ok(daemon) => Ok(Self { provider, daemon, ca_file, dir }),
            Err(error) => {
                provider.shutdown().await;
                Err(error.to_string())
            }
        }
    }

    /// Where the daemon serves a protocol, by the configuration's key.
    pub(super) fn listener(&self, key: &str) -> Option<SocketAddr> {
        self.daemon.listeners().iter().find(|(known, _)| *known == key).map(|(_, address)| *address)
    }

    /// Ends both, the daemon first, and clears up.
    pub(super) async fn strike(self) {
        let Self { provider, daemon, dir, .. } = self;
        daemon.shutdown().await;
        provider.shutdown().await;
        // Removing some hundred files blocks, and nothing else runs any more.
        drop(dir);
    }
}

/// The simulated provider alone. The error is for a person to read.
pub(super) fn provider(scenario: Scenario, ports: Ports) -> Result<Provider, String> {
    Provider::start_as(scenario, local(ports.provider), USER, Secret::new(PROVIDER_PASSWORD))
        .map_err(|error| format!("the simulated provider cannot start: {error}"))
}

/// The mail of an earlier demonstration is not that of this one: its cache goes, the certificates stay.
fn forget_mail(dir: &Path) -> Result<(), String> {
    let _lock = DataDirLock::take(dir)?;
    let cache = cache_dir(dir, USER);
    match fs::remove_dir_all(&cache) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("the cache of an earlier demonstration, {}, cannot be removed: {error}", cache.display()))
        }
        _ => Ok(()),
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A directory nobody else can read or has prepared.
fn temporary() -> io::Result<Dir> {
    let path = std::env::temp_dir().join(format!("mailweir-demo-{}-{:08x}", std::process::id(), rand::random::<u32>()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().mode(0o700).create(&path)?;
    }
    #[cfg(not(unix))]
    fs::create_dir(&path)?;
    Ok(Dir { path, temporary: true })
}

/// What a configuration file with `provider = "…"` would give, with the simulated provider in the real one's place.
fn config(dir: &Path, ports: Ports, simulated: &Provider, prefetch: Prefetch) -> Config {
    let upstream = simulated.address();
    let preset = provider::by_name(simulated.scenario().name);
    let account = Account {
        address: USER.into(),
        aliases: Vec::new(),
        password: LocalPassword::Secret(SecretRef::Plain(Secret::new(PASSWORD))),
        provider: preset,
        english_names: false,
        sending: Default::default(),
        imap: Server {
            host: upstream.ip().to_string(),
            port: upstream.port(),
            // It is this very process.
            tls: TlsMode::None,
            ca_file: None,
            verify: true,
            username: USER.into(),
            password: Some(SecretRef::Plain(Secret::new(PROVIDER_PASSWORD))),
        },
        smtp: None,
        limits: Limits {
            connections: preset.map_or(CONNECTIONS, |preset| preset.connections),
            commands_per_second: preset.and_then(|preset| preset.commands_per_second),
            download_per_day: preset.and_then(|preset| preset.download_per_day),
            upload_per_day: preset.and_then(|preset| preset.upload_per_day),
            ..Limits::default()
        },
        pop3: Pop3::default(),
        oauth2: None,
    };
    Config {
        file: dir.join("demo.toml"),
        data_dir: dir.to_owned(),
        token_key: SecretRef::File(dir.join("mailweir.key")),
        listen: Listen {
            imap: vec![local(ports.imap)],
            imaps: vec![local(ports.imaps)],
            pop3: vec![local(ports.pop3)],
            pop3s: vec![local(ports.pop3s)],
            http: vec![local(ports.http)],
            plaintext_login: PlaintextLogin::Loopback,
            ..Listen::default()
        },
        tls: Tls { dir: dir.join("certs"), names: vec!["localhost".into(), "127.0.0.1".into()], own: None },
        cache: Cache { max_size: 1_000_000_000, prefetch },
        http: Http::default(),
        log: Log::default(),
        accounts: vec![account],
        warnings: Vec::new(),
    }
}
