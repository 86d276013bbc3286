//! `mailweir run`: the daemon in the foreground.

mod manager;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tracing::{info, warn};

use super::log::{Export, LogArguments, begin_daemon};
use super::{progress, read};
use crate::daemon::Daemon;
use crate::net::Inherited;

/// Starts, prints the listeners, serves until told to stop.
pub(super) async fn run(
    config: Option<PathBuf>,
    log: &LogArguments,
    (inherited, unused): (Inherited, Vec<String>),
) -> ExitCode {
    // Its warnings are the daemon's to log.
    let config = match read(config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let spans = begin_daemon(&config, log);
    unused.iter().for_each(|words| warn!("{words}"));
    let mut signals = match signals::Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return super::fail(&format!("cannot listen for signals: {error}")),
    };
    let daemon = match Daemon::start_on(config, inherited).await {
        Ok(daemon) => daemon,
        Err(error) => {
            for reason in error.0 {
                eprintln!("mailweir: {reason}");
            }
            return ExitCode::FAILURE;
        }
    };
    announce(&daemon);
    tokio::select! {
        () = serve(&daemon, &mut signals) => {}
        never = manager::keep_watch(&daemon) => match never {},
        never = progress::follow(|| daemon.status()) => match never {},
    }
    manager::stopping();
    stop(daemon, spans, signals).await
}

/// Until told to stop; reloads meanwhile.
async fn serve(daemon: &Daemon, signals: &mut signals::Signals) {
    let mut told = signals.next().await;
    while matches!(told, signals::Told::Reload) {
        manager::reloading();
        told = match reload(daemon, signals).await {
            Some(told) => told,
            None => {
                manager::ready();
                signals.next().await
            }
        };
    }
}

/// Reloads; what was told meanwhile. A stop ends it half way, another reload waits for its end.
async fn reload(daemon: &Daemon, signals: &mut signals::Signals) -> Option<signals::Told> {
    let mut next = None;
    let reload = daemon.reload();
    tokio::pin!(reload);
    loop {
        tokio::select! {
            () = &mut reload => return next,
            told = signals.next() => match told {
                signals::Told::Stop => return Some(told),
                signals::Told::Reload => next = Some(told),
            },
        }
    }
}

/// Ends in order; a second signal to stop ends it at once.
async fn stop(daemon: Daemon, spans: Option<Export>, mut signals: signals::Signals) -> ExitCode {
    info!("stopping");
    let again = async { while matches!(signals.next().await, signals::Told::Reload) {} };
    let end = async {
        daemon.shutdown().await;
        // Those of the sessions that have just ended are among the last.
        if let Some(spans) = spans {
            spans.flush().await;
        }
    };
    tokio::select! {
        () = end => ExitCode::SUCCESS,
        () = again => {
            warn!("told to stop once more: ending at once");
            ExitCode::FAILURE
        }
    }
}

/// One line a listener, `KEY ADDRESS:PORT`; then `ready`. Scripts and the service manager wait for this.
fn announce(daemon: &Daemon) {
    let mut out = std::io::stdout().lock();
    let lines = daemon.listeners().iter().map(|(key, address)| format!("{key} {address}\n")).collect::<String>();
    // A closed standard output does not keep a daemon from serving.
    if let Err(error) =
        out.write_all(lines.as_bytes()).and_then(|()| out.write_all(b"ready\n")).and_then(|()| out.flush())
    {
        warn!(%error, "the listeners could not be printed");
    }
    manager::ready();
}

mod signals {
    //! What tells a daemon to stop or reload, on each system.

    pub(super) enum Told {
        Stop,
        /// SIGHUP; other systems have nothing like it yet.
        #[cfg_attr(not(unix), expect(dead_code))]
        Reload,
    }

    #[cfg(unix)]
    pub(super) struct Signals {
        term: tokio::signal::unix::Signal,
        int: tokio::signal::unix::Signal,
        hup: tokio::signal::unix::Signal,
    }

    #[cfg(unix)]
    impl Signals {
        pub(super) fn listen() -> std::io::Result<Self> {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                term: signal(SignalKind::terminate())?,
                int: signal(SignalKind::interrupt())?,
                hup: signal(SignalKind::hangup())?,
            })
        }

        pub(super) async fn next(&mut self) -> Told {
            tokio::select! {
                _ = self.term.recv() => Told::Stop,
                _ = self.int.recv() => Told::Stop,
                _ = self.hup.recv() => Told::Reload,
            }
        }
    }

    #[cfg(not(unix))]
    pub(super) struct Signals;

    #[cfg(not(unix))]
    impl Signals {
        pub(super) fn listen() -> std::io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn next(&mut self) -> Told {
            // Without a console to hear Ctrl-C from, only the end of the process stops it.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Told::Stop
        }
    }
}
