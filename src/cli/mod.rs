//! The commands of the program, one file each. Layer 6: may use everything below.
//!
//! Exit status: 0 done, 1 failed, 2 wrong usage or configuration.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::net::Inherited;
use crate::secret::keep_private;

mod account;
mod cache;
mod certs;
mod check;
mod demo;
mod log;
mod login;
mod outbox;
mod progress;
mod run;
mod service;
mod status;

/// Wrong usage or a faulty configuration.
const USAGE: u8 = 2;
/// Threads beside the two that serve: cores beyond four bring nothing to a daemon that mostly waits.
const WORKERS_MOST: usize = 4;
/// Blocking tasks at most (argon2, parsing of large messages, secrets' files); the store has a pool of its own.
const BLOCKING_MOST: usize = 8;

/// Many mail programs, one strict provider: a local IMAP and POP3 daemon that serves them all from a mirror of the account.
#[derive(Debug, Parser)]
#[command(name = "mailweir", version, long_version = VERSION, about, long_about = LONG, disable_help_subcommand = true)]
struct Arguments {
    /// The configuration; else $MAILWEIR_CONFIG, else mailweir/mailweir.toml in the platform's configuration directory.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// What `--version` prints: what it was built with, besides.
const VERSION: &str = if cfg!(feature = "otel") {
    concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: otel")
} else {
    concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: none (otel: spans for an OpenTelemetry collector)")
};

const LONG: &str = "\
mailweir stands between mail programs and a mail provider. Any number of programs connect to it on this machine (or in the \
home or office); it talks to the provider over two or three connections, fetches each message once, keeps within the \
provider's limits, and goes on serving what it has when the network is away.

Start with `mailweir demo`: it needs no account. Then `mailweir account add ADDRESS` and `mailweir run`.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, in the foreground, until told to stop (SIGTERM, Ctrl-C). SIGHUP reloads accounts, limits and certificates.
    Run(log::LogArguments),
    /// Show what it does, without an account: a simulated provider with Gmail's limits, and the daemon in front of it.
    Demo(demo::Demo),
    /// Log in to every account's provider and say in plain words what is wrong, if anything is.
    Check(check::Check),
    /// What the running daemon does: accounts, sessions, connections, bytes, cache.
    Status(status::Status),
    /// The local certificate authority and the certificate clients see.
    Certs {
        #[command(subcommand)]
        action: certs::CertsCommand,
    },
    /// Add, list and remove accounts, consent at a provider, and see what POP3 programs have deleted.
    Account {
        #[command(subcommand)]
        action: account::AccountCommand,
    },
    /// Messages that wait to be sent: see them, have them tried now, or drop them.
    Outbox {
        #[command(subcommand)]
        action: outbox::Outbox,
    },
    /// Start with the computer: a unit of systemd.
    Service {
        #[command(subcommand)]
        action: service::Service,
    },
    /// The cache on disk: verify it, or drop it (it is fetched again).
    Cache {
        #[command(subcommand)]
        action: cache::Cache,
    },
}

/// What still runs on a blocking thread at the end (a flush, a password's hash) has this long.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        // Its log is as the configuration says, which is read first.
        Command::Run(_) => {}
        // What it changes is told as the daemon tells it.
        Command::Account { .. } | Command::Outbox { .. } => log::begin_command("warn,mailweir::audit=info"),
        _ => log::begin_command("warn"),
    }
    // What is protected besides goes on being protected; a sandbox may forbid the call.
    let unprotected = keep_private().err();
    // Before there are threads: it takes what is its own out of the environment.
    let mut inherited = matches!(arguments.command, Command::Run(_)).then(Inherited::from_environment);
    match (&mut inherited, unprotected) {
        // Its log begins later.
        (Some((_, told)), Some(words)) => told.push(words),
        (None, Some(words)) => tracing::warn!("{words}"),
        (_, None) => {}
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, WORKERS_MOST))
        .max_blocking_threads(BLOCKING_MOST)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let config = arguments.config;
    let code = runtime.block_on(async move {
        match arguments.command {
            Command::Run(log) => run::run(config, &log, inherited.unwrap_or_default()).await,
            Command::Demo(demo) => demo.run().await,
            Command::Check(check) => check.run(config).await,
            Command::Status(status) => status.run(config).await,
            Command::Certs { action } => match certs::run(action, config, &mut std::io::stdout()).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("mailweir: {error}");
                    ExitCode::from(error.exit_status())
                }
            },
            Command::Account { action } => account::run(action, config).await,
            Command::Outbox { action } => action.run(config).await,
            Command::Service { action } => action.run(config),
            Command::Cache { action } => cache::run(action, config).await,
        }
    });
    // A disk that hangs holds a thread; it does not hold the exit.
    runtime.shutdown_timeout(LAST_WAIT);
    code
}

/// Reads the configuration and tells its warnings, or tells every fault of it at once; the exit status is then [`USAGE`].
fn load(named: Option<PathBuf>) -> Result<Config, ExitCode> {
    let config = read(named)?;
    for warning in &config.warnings {
        eprintln!("mailweir: {warning}");
    }
    Ok(config)
}

/// The same without the warnings.
fn read(named: Option<PathBuf>) -> Result<Config, ExitCode> {
    let path = Config::locate(named).map_err(|error| {
        eprintln!("mailweir: {error}");
        ExitCode::from(USAGE)
    })?;
    Config::load(&path).map_err(|faults| {
        for fault in &faults {
            eprintln!("{fault}");
        }
        let many = if faults.len() == 1 { "fault" } else { "faults" };
        eprintln!("mailweir: {} {many} in {}; nothing was started", faults.len(), path.display());
        ExitCode::from(USAGE)
    })
}

fn fail(words: &str) -> ExitCode {
    eprintln!("mailweir: {words}");
    ExitCode::FAILURE
}
