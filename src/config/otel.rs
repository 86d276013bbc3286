//! `[log.otel]`: the OpenTelemetry collector that spans are sent to.
//!
//! Read by every build, so that a file is right or wrong whatever the program was built with; only one with the feature `otel` sends
//! anything, and the others say so when they start (`cli/log.rs`). Nothing but this table switches the sending on, no environment variable.

use std::path::{Path, PathBuf};

use http::HeaderName;
use url::{Host, Url};

use super::account;
use super::load::existing_file;
use super::reader::Table;
use super::schema;
use super::values::Wrong;
use crate::secret::SecretRef;

/// Where OTLP over HTTP takes traces (OTLP specification, "OTLP/HTTP Request"), below the address of a collector.
const TRACES: &str = "v1/traces";
/// Headers that belong to the request itself.
const OURS: [&str; 7] =
    ["content-type", "content-length", "content-encoding", "transfer-encoding", "host", "connection", "user-agent"];
/// Headers at most: a token, a tenant, and some more.
const HEADERS_MOST: usize = 16;

/// A collector, and how to be let in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otel {
    /// Where spans are posted, path and all.
    pub endpoint: Url,
    /// Sent with each request, a token mostly: name and where the value is kept.
    pub headers: Vec<(HeaderName, SecretRef)>,
    /// What the collector shows the spans under. `None`: `$OTEL_SERVICE_NAME`, else `mailweir`.
    pub service_name: Option<String>,
    /// The authority of a collector of one's own. `None`: what the system trusts.
    pub ca_file: Option<PathBuf>,
}

impl Otel {
    /// Whether what is sent to this address can be read by others on the way.
    pub fn is_exposed(url: &Url) -> bool {
        url.scheme() != "https" && !is_near(url)
    }
}

pub(super) fn read(table: &Table<'_>, dir: &Path) -> Option<Otel> {
    if !table.is_present() {
        return None;
    }
    table.allow(&schema::OTEL);
    if !table.has("endpoint") {
        table.fault("endpoint", "is missing", "Write the collector's address, like \"http://127.0.0.1:4318\".");
    }
    let endpoint = table.word("endpoint").and_then(|at| at.parse(|text| endpoint(text)));
    let headers = read_headers(&table.table("headers"), dir);
    let service_name = table.word("service_name").map(|at| at.value.to_owned());
    let ca_file = table.word("ca_file").and_then(|at| existing_file(at, dir));
    let endpoint = endpoint?;
    if Otel::is_exposed(&endpoint) {
        if headers.is_empty() {
            let what = "is not encrypted: everybody on the way can read when which account is used";
            table.warn("endpoint", what, "Use the collector's https:// address, or a collector on this computer.");
        } else {
            let what = "is not encrypted, and `headers` would go there";
            table.fault("endpoint", what, "Use the collector's https:// address, or leave `headers` out.");
        }
    }
    Some(Otel { endpoint, headers, service_name, ca_file })
}

fn read_headers(table: &Table<'_>, dir: &Path) -> Vec<(HeaderName, SecretRef)> {
    let names = table.keys();
    if names.len() > HEADERS_MOST {
        table.fault("", format!("has more than {HEADERS_MOST} headers"), "Leave out what the collector does not need.");
        return Vec::new();
    }
    let read = names.into_iter().filter_map(|name| match HeaderName::from_bytes(name.as_bytes()) {
        Ok(header) if !OURS.contains(&header.as_str()) => Some((header, account::read_secret(table, name, dir)?)),
        Ok(_) => {
            table.fault(name, "is a header mailweir writes itself", "Take it out.");
            None
        }
        Err(_) => {
            table.fault(name, "is no name of a header", "Write one like `authorization` or `x-api-key`.");
            None
        }
    });
    read.collect()
}

/// The address as people know it, of the collector, and as some services give it, with the path.
fn endpoint(text: &str) -> Result<Url, Wrong> {
    let mend = "Write it whole, like \"http://127.0.0.1:4318\" or \"https://collector.example.org\".".to_owned();
    // What is wrong is not quoted: it may hold a password.
    let mut url = Url::parse(text).map_err(|_| ("is not a web address".to_owned(), mend.clone()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(("is not a web address".into(), mend));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let mend = "Put it into `headers`, as a secret reference: authorization = { file = \"otel.token\" }.";
        return Err(("holds a user name or password".into(), mend.into()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(("ends in a query, which belongs to no collector".into(), mend));
    }
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(&format!("/{TRACES}")) {
        let path = format!("{path}/{TRACES}");
        url.set_path(&path);
    }
    Ok(url)
}

fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(more: &str) -> Result<Config, String> {
        let text = format!("[listen]\nimap = [\"127.0.0.1:0\"]\n[log.otel]\n{more}");
        Config::parse(Path::new("/etc/mailweir.toml"), &text)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn an_address_is_taken_with_and_without_its_path() {
        let table = [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("https://otlp.example.org/otlp", "https://otlp.example.org/otlp/v1/traces"),
            ("https://otlp.example.org/otlp/v1/traces", "https://otlp.example.org/otlp/v1/traces"),
        ];
        for (text, want) in table {
            let config = parse(&format!("endpoint = \"{text}\"")).unwrap();
            assert_eq!(config.log.otel.unwrap().endpoint.as_str(), want);
            assert_eq!(config.warnings, []);
        }
        assert_eq!(
            Config::parse(Path::new("/etc/m.toml"), "[listen]\nimap = [\"127.0.0.1:0\"]").unwrap().log.otel,
            None
        );
    }

    #[test]
    fn what_is_said_is_taken() {
        let more = "endpoint = \"https://c\"\nservice_name = \"mail\"\nheaders = { x-api-key = { env = \"KEY\" } }";
        let otel = parse(more).unwrap().log.otel.unwrap();
        assert_eq!(otel.headers, [(HeaderName::from_static("x-api-key"), SecretRef::Env("KEY".into()))]);
        assert_eq!((otel.service_name.as_deref(), otel.ca_file), (Some("mail"), None));
    }

    #[test]
    fn what_is_wrong_is_told_without_a_secret() {
        let table = [
            ("", "log.otel.endpoint"),
            ("endpoint = \"collector\"", "not a web address"),
            ("endpoint = \"grpc://hunter2@c:4317\"", "not a web address"),
            ("endpoint = \"https://ann:hunter2@c\"", "user name or password"),
            ("endpoint = \"https://c?key=hunter2\"", "a query"),
            ("endpoint = \"https://c\"\nheaders = { host = { env = \"A\" } }", "writes itself"),
            ("endpoint = \"https://c\"\nheaders = { \"a b\" = { env = \"A\" } }", "no name of a header"),
            ("endpoint = \"https://c\"\nheaders = { a = \"hunter2\" }", "log.otel.headers.a"),
            ("endpoint = \"http://c.example.org:4318\"\nheaders = { a = { env = \"A\" } }", "not encrypted"),
            ("endpoint = \"https://c\"\nservice = \"x\"", "service_name"),
        ];
        for (more, want) in table {
            let told = parse(more).unwrap_err();
            assert!(told.contains(want) && !told.contains("hunter2"), "{more}: {told}");
        }
    }

    #[test]
    fn in_the_clear_to_others_is_unwise() {
        let warnings = parse("endpoint = \"http://collector.lan:4318\"").unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].key == "log.otel.endpoint", "{warnings:?}");
    }
}
