//! `[http]` and `[log]`: what is shown to whom, and what is written down.

use std::path::Path;
use std::time::Duration;

use super::account;
use super::load::{one_of, read_size};
use super::otel::{self, Otel};
use super::reader::Table;
use super::schema;
use super::values::span;
use crate::secret::SecretRef;

/// Default of `http.ready_within`: IDLE is renewed every nine minutes, and that is a quiet account's only round trip.
const READY_WITHIN: Duration = Duration::from_secs(660);
/// Below this a slow line would not be ready ever.
const READY_LEAST: Duration = Duration::from_secs(5);
const READY_MOST: Duration = Duration::from_secs(24 * 3600);
/// Defaults of `log.audit_size` and `log.audit_files`: some 200,000 writes.
const AUDIT_SIZE: u64 = 10_000_000;
const AUDIT_FILES: u32 = 8;
/// A record of a write that names many messages takes some kilobytes.
const AUDIT_SIZE_LEAST: u64 = 64 << 10;
const AUDIT_FILES_MOST: u64 = 1000;

/// What `listen.http` shows, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// What other computers have to show to see the owner's pages; `None`: they do not see them.
    pub token: Option<SecretRef>,
    /// Metrics name accounts by their address, and not by a short id.
    pub label_accounts: bool,
    /// An account is ready while its last authenticated round trip is not older than this.
    pub ready_within: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self { token: None, label_accounts: false, ready_within: READY_WITHIN }
    }
}

/// What the daemon writes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// What is logged, as `RUST_LOG` of other programs: `info`, or `warn,mailweir::session=debug`. Default `info`.
    pub level: String,
    /// Writes that can make mail disappear are written to `audit/` in the data directory.
    pub audit: bool,
    /// Octets of one file of the trail.
    pub audit_size: u64,
    /// How many files are kept, the one in use among them.
    pub audit_files: u32,
    /// Where spans are sent to; `None`: nowhere.
    pub otel: Option<Otel>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: "info".into(),
            audit: true,
            audit_size: AUDIT_SIZE,
            audit_files: AUDIT_FILES,
            otel: None,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Journald where systemd has started us with its journal as standard error, human otherwise.
    #[default]
    Auto,
    Human,
    Json,
    Journald,
}

impl LogFormat {
    /// Every word for one.
    pub const WORDS: [(&str, Self); 4] =
        [("auto", Self::Auto), ("human", Self::Human), ("json", Self::Json), ("journald", Self::Journald)];
}

pub(super) fn read_http(table: &Table<'_>, dir: &Path) -> Http {
    table.allow(&schema::HTTP);
    let within = table.text("ready_within").and_then(|at| {
        at.parse(|text| {
            let span = span(text).ok_or_else(|| (format!("`{text}` is not a span"), SPANS.to_owned()))?;
            if (READY_LEAST..=READY_MOST).contains(&span) {
                Ok(span)
            } else {
                Err((format!("`{text}` is out of range"), "Write something from \"5s\" to \"24h\".".to_owned()))
            }
        })
    });
    Http {
        token: account::read_secret(table, "token", dir),
        label_accounts: table.boolean("label_accounts").is_some_and(|at| at.value),
        ready_within: within.unwrap_or(READY_WITHIN),
    }
}

const SPANS: &str = "Write a number and a unit, like \"30s\", \"11m\" or \"1h\".";

pub(super) fn read_log(table: &Table<'_>, dir: &Path) -> Log {
    table.allow(&schema::LOG);
    let default = Log::default();
    let format = table.text("format").and_then(|at| at.parse(|text| one_of(text, &LogFormat::WORDS, "")));
    let level = table.text("level").and_then(|at| at.parse(|text| level(text)));
    let size = read_size(table, "audit_size").filter(|size| {
        let is_fit = *size >= AUDIT_SIZE_LEAST;
        if !is_fit {
            table.fault("audit_size", "is too small", "Write at least \"64KiB\".");
        }
        is_fit
    });
    let files = table.number("audit_files").and_then(|at| {
        at.parse(|files| match u32::try_from(*files) {
            Ok(count) if (2..=AUDIT_FILES_MOST).contains(files) => Ok(count),
            _ => Err((format!("{files} is out of range"), format!("Write a number from 2 to {AUDIT_FILES_MOST}."))),
        })
    });
    Log {
        format: format.unwrap_or_default(),
        level: level.unwrap_or(default.level),
        audit: table.boolean("audit").is_none_or(|at| at.value),
        audit_size: size.unwrap_or(default.audit_size),
        audit_files: files.unwrap_or(default.audit_files),
        otel: otel::read(&table.table("otel"), dir),
    }
}

/// Whether it is what the log takes, told with the other faults.
fn level(text: &str) -> Result<String, super::values::Wrong> {
    let mend =
        "Write a level (error, warn, info, debug, trace), or targets and levels like \"warn,mailweir::session=debug\".";
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) => Err(("is empty".into(), mend.into())),
        Err(error) => Err((format!("`{text}` is no filter: {error}"), mend.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(more: &str) -> Result<Config, String> {
        let text = format!("[listen]\nimap = [\"127.0.0.1:0\"]\n{more}");
        Config::parse(Path::new("/etc/mailweir.toml"), &text)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = parse("").unwrap();
        assert_eq!((config.http, config.log), (Http::default(), Log::default()));
    }

    #[test]
    fn what_is_said_is_taken() {
        let config = parse(
            "[http]\nlabel_accounts = true\nready_within = \"30s\"\n[log]\nformat = \"json\"\nlevel = \"warn,mailweir::session=debug\"\n\
             audit = false\naudit_size = \"1MB\"\naudit_files = 3",
        )
        .unwrap();
        assert_eq!(config.http, Http { token: None, label_accounts: true, ready_within: Duration::from_secs(30) });
        let level = "warn,mailweir::session=debug".to_owned();
        let want =
            Log { format: LogFormat::Json, level, audit: false, audit_size: 1_000_000, audit_files: 3, otel: None };
        assert_eq!(config.log, want);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let table = [
            ("[http]\nready_within = \"1s\"", "out of range"),
            ("[http]\nready_within = \"soon\"", "not a span"),
            ("[http]\nlabel_acounts = true", "label_accounts"),
            ("[log]\nformat = \"xml\"", "\"journald\""),
            ("[log]\nlevel = \"mailweir=loud\"", "no filter"),
            ("[log]\nlevel = \"\"", "is empty"),
            ("[log]\naudit_size = \"1KB\"", "too small"),
            ("[log]\naudit_files = 1", "from 2 to 1000"),
        ];
        for (more, want) in table {
            let told = parse(more).unwrap_err();
            assert!(told.contains(want), "{more}: {told}");
        }
    }
}
