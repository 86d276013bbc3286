//! Spans as a collector gets them: decoded by OpenTelemetry's own code (`tests/clients/collector.mjs`), searched for what must not be in
//! them, and sent to collectors that are away or silent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::{Busy, MESSAGES, file};
use crate::harness::process::Server;
use crate::harness::{
    ADDRESS, LOCAL_PASSWORD, PATIENCE, UPSTREAM_PASSWORD, UPSTREAM_USER, free_port, scratch, servers_dir, wait_for,
};

/// What stands in `headers`, and nowhere else.
const TOKEN: &str = "Collector-Geheim-83bd10";
const MAILBOX: &str = "Geheimfach";

/// SPAN_KIND_SERVER and SPAN_KIND_CLIENT of OTLP.
const SERVER: u32 = 2;
const CLIENT: u32 = 3;

#[derive(Debug, Deserialize)]
struct Span {
    resource: BTreeMap<String, String>,
    name: String,
    kind: u32,
    trace: String,
    id: String,
    parent: String,
    start: f64,
    end: f64,
    fields: BTreeMap<String, String>,
    events: u32,
    links: u32,
    status: u32,
}

impl Span {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn seconds(&self) -> f64 {
        (self.end - self.start) / 1e9
    }
}

/// A running collector; ends with the test.
struct Collector {
    server: Server,
    bodies: PathBuf,
    _home: tempfile::TempDir,
}

impl Collector {
    fn start(addr: SocketAddr, manner: &[&str]) -> Self {
        let home = scratch("collector");
        let bodies = home.path().join("bodies");
        let (script, package) = (file("tests/clients/collector.mjs"), servers_dir().join("otel"));
        let port = addr.port().to_string();
        let args = [script.to_str().unwrap(), package.to_str().unwrap(), &port, bodies.to_str().unwrap()];
        let server = Server::start(Path::new("node"), &[&args, manner].concat(), &[], home.path(), &[]);
        let ready = server.wait_output(PATIENCE, |out| out.iter().any(|line| line == "ready"));
        assert!(ready, "tests/run unpacks its package: {}", server.printed());
        Self { server, bodies, _home: home }
    }

    fn lines<'a>(printed: &'a str, kind: &'static str) -> impl Iterator<Item = &'a str> {
        printed.lines().filter_map(move |line| line.strip_prefix(kind)?.strip_prefix(' '))
    }

    fn spans(&self) -> Vec<Span> {
        let printed = self.server.printed();
        Self::lines(&printed, "span").map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    fn asked(&self) -> Vec<serde_json::Value> {
        let printed = self.server.printed();
        Self::lines(&printed, "asked").map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn nanoseconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as f64
}

#[test]
fn a_collector_gets_sessions_and_leases_and_nothing_more() {
    let addr = free();
    let collector = Collector::start(addr, &[]);
    let began = nanoseconds();
    // The log's level is of no matter.
    let mut busy = Busy::start(|setup| {
        setup.log = ("warn", &[]);
        setup.more = format!(
            "[log.otel]\nendpoint = \"http://{addr}\"\nservice_name = \"weir of the test\"\nheaders = {{ x-api-key = {{ plain = \"{TOKEN}\" }} }}\n"
        );
    });
    let mut c = busy.daemon.client();
    let here = Instant::now();
    c.cmd_ok(&format!("CREATE {MAILBOX}"));
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("FETCH 1:* BODY.PEEK[]");
    c.cmd_ok(&format!("COPY 1 {MAILBOX}"));
    c.cmd_ok(&format!("SELECT {MAILBOX}"));
    c.cmd_ok("FETCH 1 BODY.PEEK[]");
    busy.work();
    let served = here.elapsed().as_secs_f64();
    c.cmd_ok("LOGOUT");
    drop(c);
    let metrics = busy.daemon.http_get("/metrics").1;
    let id = metrics.lines().find_map(|line| line.strip_prefix("mailweir_needs_login{account=\"")?.split('"').next());
    let id = id.expect("an account").to_owned();
    // What closes with the daemon is sent before it ends.
    assert_eq!(busy.daemon.stop(), 0);
    let ended = nanoseconds();

    let spans = collector.spans();
    for span in &spans {
        let resource = |name: &str| span.resource.get(name).map_or("", String::as_str);
        assert_eq!(resource("service.name"), "weir of the test");
        assert_eq!(resource("service.version"), env!("CARGO_PKG_VERSION"));
        assert!(span.start >= began && span.end >= span.start && span.end <= ended, "{span:?}");
        assert_eq!((span.events, span.links, span.status), (0, 0, 0), "{span:?}");
        assert_eq!(span.field("mailweir.account"), id, "{span:?}");
        assert_eq!(span.trace.len(), 32, "{span:?}");
        let want: &[&str] = match span.name.as_str() {
            "session" => &["mailweir.account", "network.protocol.name"],
            _ => &["mailweir.account", "mailweir.class", "mailweir.lease"],
        };
        assert_eq!(span.fields.keys().collect::<Vec<_>>(), want, "{span:?}");
    }
    let (sessions, leases): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.name == "session");
    let mut protocols: Vec<_> = sessions.iter().map(|span| span.field("network.protocol.name")).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["imap", "imap", "pop3", "smtp"]);
    assert!(sessions.iter().all(|span| span.kind == SERVER && span.parent.is_empty()), "{sessions:#?}");
    assert!(leases.iter().all(|span| span.name == "lease" && span.kind == CLIENT), "{leases:#?}");

    // Ours was the longer of the two of IMAP.
    let imap = sessions.iter().filter(|span| span.field("network.protocol.name") == "imap");
    let ours = imap.max_by(|a, b| a.seconds().total_cmp(&b.seconds())).unwrap();
    assert!(ours.seconds() >= served, "{served} s: {ours:?}");
    let of_ours: Vec<_> = leases.iter().filter(|lease| lease.parent == ours.id).collect();
    assert!(
        of_ours.iter().all(|lease| lease.trace == ours.trace && lease.start >= ours.start && lease.end <= ours.end)
    );
    let class = |class: &str| of_ours.iter().filter(|lease| lease.field("mailweir.class") == class).count();
    // Making the mailbox, looking at both, the copy, and the bodies.
    assert!(class("interactive") >= 4 && class("interactive") + class("bulk") >= 5, "{of_ours:#?}");
    // What the daemon does by itself has no parent; whatever has one has it among the sessions.
    let watches = leases.iter().filter(|lease| lease.field("mailweir.class") == "watch");
    assert!(watches.clone().count() > 0 && watches.clone().all(|lease| lease.parent.is_empty()), "{leases:#?}");
    let has_session =
        |lease: &Span| sessions.iter().any(|span| (&span.id, &span.trace) == (&lease.parent, &lease.trace));
    assert!(leases.iter().all(|lease| lease.parent.is_empty() || has_session(lease)), "{leases:#?}");

    let asked = collector.asked();
    assert!(!asked.is_empty());
    for request in &asked {
        assert_eq!((&request["method"], &request["url"]), (&"POST".into(), &"/v1/traces".into()));
        assert_eq!(request["content-type"], "application/x-protobuf");
        assert_eq!(request["x-api-key"], TOKEN);
    }
    let bodies = std::fs::read(&collector.bodies).unwrap();
    let domain = ADDRESS.split_once('@').unwrap().1;
    let kept =
        [TOKEN, MAILBOX, "INBOX", LOCAL_PASSWORD, UPSTREAM_PASSWORD, UPSTREAM_USER, domain, "127.0.0.1", "localhost"];
    for kept in kept.iter().chain(&["/src/", ".rs"]) {
        let found = bodies.windows(kept.len()).any(|octets| octets.eq_ignore_ascii_case(kept.as_bytes()));
        assert!(!found, "{kept} leaves: {}", String::from_utf8_lossy(&bodies));
    }
}

#[test]
fn a_collector_may_be_away_and_come_later() {
    let addr = free();
    let mut busy = Busy::start(|setup| setup.more = format!("[log.otel]\nendpoint = \"http://{addr}/\"\n"));
    busy.work();
    let said = |words: &str| busy.daemon.server().errors().lines().filter(|line| line.contains(words)).count();
    let count = |outcome: &str| busy.daemon.metric("mailweir_spans_total", &[&format!("outcome=\"{outcome}\"")]);
    wait_for("a failure to be told", || said("the collector does not take spans") == 1);
    wait_for("a failure to be counted", || count("failed") >= 4.0);
    assert_eq!(count("sent"), 0.0);
    // Mail is served as ever.
    let mut c = busy.daemon.client();
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("FETCH 1:* BODY.PEEK[]");
    let collector = Collector::start(addr, &[]);
    c.cmd_ok("SELECT Old");
    c.cmd_ok("LOGOUT");
    wait_for("the collector to be found", || said("the collector takes spans again") == 1);
    wait_for("the session's span", || collector.spans().iter().any(|span| span.name == "session"));
    assert!(count("sent") >= 1.0);
    assert_eq!(said("the collector does not take spans"), 1, "not at every batch");
    assert!(collector.asked().iter().all(|request| request["url"] == "/v1/traces"));
    assert!(collector.spans().iter().all(|span| span.resource["service.name"] == "mailweir"));
    assert_eq!(busy.daemon.stop(), 0);
}

#[test]
fn a_silent_collector_harms_nothing() {
    let addr = free();
    let collector = Collector::start(addr, &["silent"]);
    let mut busy = Busy::start(|setup| setup.more = format!("[log.otel]\nendpoint = \"http://{addr}\"\n"));
    busy.work();
    // A request hangs from here on; mail does not.
    wait_for("a request", || !collector.asked().is_empty());
    let mut c = busy.daemon.client();
    c.cmd_ok("SELECT INBOX");
    for _ in 0..MESSAGES {
        c.cmd_ok("NOOP");
        c.cmd_ok("FETCH 1:* BODY.PEEK[]");
    }
    let began = Instant::now();
    assert_eq!(busy.daemon.stop(), 0, "the end comes, in order");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(collector.asked().len(), 1, "one request at a time");
}
