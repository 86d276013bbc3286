//! The log: its form, and how much of it. To standard error always; systemd's journal takes fields and levels by a socket of its own.
//!
//! Colours only on a terminal: a file or a pipe is for other programs to read. Spans may go to an OpenTelemetry collector besides (`otel`).

#[cfg(feature = "otel")]
mod otel;
#[cfg(not(feature = "otel"))]
#[path = "log/without_otel.rs"]
mod otel;

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use super::progress;
use crate::config::{Config, LogFormat};
use crate::metrics::AccountLabels;
pub(super) use otel::Export;

/// Environment variables that go before the configuration, the first that is set.
const LEVELS: [&str; 2] = ["MAILWEIR_LOG", "RUST_LOG"];

/// What `mailweir run` may be told of it.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct LogArguments {
    /// How log lines look; default: log.format of the configuration.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// How much is logged: error, warn, info, debug, trace, or by part ("info,mailweir::session=debug"); default: $MAILWEIR_LOG, else
    /// $RUST_LOG, else log.level of the configuration.
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Auto,
    Human,
    Json,
    Journald,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Auto => Self::Auto,
            Format::Human => Self::Human,
            Format::Json => Self::Json,
            Format::Journald => Self::Journald,
        }
    }
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Begins to log as the daemon does. Once in a process, and within the runtime. What sends spans, where the configuration wants it.
pub(super) fn begin_daemon(config: &Config, arguments: &LogArguments) -> Option<Export> {
    let settings = &config.log;
    let format = arguments.log_format.map_or(settings.format, LogFormat::from);
    let filter = filter(arguments.log_level.as_deref(), &settings.level);
    let labels = if config.http.label_accounts { AccountLabels::Address } else { AccountLabels::Id };
    match settings.otel.as_ref().map(|settings| otel::begin(settings, labels)) {
        None => begin(format, filter, None),
        Some(Ok((layer, export))) => {
            begin(format, filter, Some(layer));
            return Some(export);
        }
        // Mail is served all the same.
        Some(Err(error)) => {
            begin(format, filter, None);
            tracing::error!("no spans are sent to the collector of [log.otel]: {error}");
        }
    }
    None
}

/// The same for a command that ends soon: for people.
pub(super) fn begin_command(level: &str) {
    begin(LogFormat::Human, filter(None, level), None);
}

fn begin(format: LogFormat, filter: EnvFilter, more: Option<BoxedLayer>) {
    let layer = match format {
        LogFormat::Auto if is_journal() => journal(),
        LogFormat::Auto | LogFormat::Human => human(),
        LogFormat::Json => fmt::layer().json().with_writer(progress::above).boxed(),
        LogFormat::Journald => journal(),
    };
    let layers: Vec<BoxedLayer> = std::iter::once(layer.with_filter(filter).boxed()).chain(more).collect();
    tracing_subscriber::registry().with(layers).init();
}

fn human() -> BoxedLayer {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    fmt::layer().with_ansi(colours).with_writer(progress::above).boxed()
}

#[cfg(target_os = "linux")]
fn journal() -> BoxedLayer {
    match tracing_journald::layer() {
        Ok(layer) => layer.with_syslog_identifier("mailweir".into()).boxed(),
        Err(error) => {
            eprintln!("mailweir: systemd's journal cannot be reached ({error}); the log goes to standard error");
            human()
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn journal() -> BoxedLayer {
    eprintln!("mailweir: there is no systemd's journal on this system; the log goes to standard error");
    human()
}

/// The one asked for, else what the environment says, else the default. A filter that cannot be read is told, and not used.
fn filter(asked: Option<&str>, default: &str) -> EnvFilter {
    let from_env = LEVELS.iter().find_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty())?;
        Some(((*name).to_owned(), value))
    });
    let asked = asked.map(|value| ("--log-level".to_owned(), value.to_owned()));
    if let Some((name, value)) = asked.or(from_env) {
        match EnvFilter::builder().parse(&value) {
            Ok(filter) => return filter,
            Err(error) => eprintln!("mailweir: {name}: {value:?} is no filter ({error}); {default:?} is taken"),
        }
    }
    EnvFilter::new(default)
}

/// Whether standard error is the journal: systemd tells device and inode of the stream it gave us (systemd.exec(5), `$JOURNAL_STREAM`).
#[cfg(target_os = "linux")]
fn is_journal() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(told) = std::env::var("JOURNAL_STREAM") else { return false };
    let stream = std::fs::metadata("/proc/self/fd/2");
    stream.is_ok_and(|stream| told == format!("{}:{}", stream.dev(), stream.ino()))
}

#[cfg(not(target_os = "linux"))]
fn is_journal() -> bool {
    false
}
