//! Debian's Prometheus, as it comes, scrapes a daemon that many clients use.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use super::{Busy, file};
use crate::harness::process::Server;
use crate::harness::{PATIENCE, accepts, free_port, server_scratch, wait_for};

struct Prometheus {
    _server: Server,
    addr: SocketAddr,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let home = server_scratch("prometheus");
        let config = home.path().join("prometheus.yml");
        let rules = file("config/prometheus/alerts.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  - job_name: mailweir\n    \
             static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        std::fs::write(&config, text).unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", home.path().join("data").display()),
            format!("--web.listen-address={addr}"),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let server = Server::start(Path::new("prometheus"), &args, &[], home.path(), &[home.path()]);
        wait_for("Prometheus", || accepts(addr) && get(addr, "/-/ready").0 == 200);
        Self { _server: server, addr }
    }

    /// The values of an instant query, each with its labels.
    fn query(&self, expression: &str) -> Vec<(serde_json::Value, f64)> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (status, body) = get(self.addr, &format!("/api/v1/query?query={escaped}"));
        let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, answer["status"].as_str()), (200, Some("success")), "{body}");
        let results = answer["data"]["result"].as_array().expect("results").iter();
        let number = |value: &serde_json::Value| value["value"][1].as_str().and_then(|text| text.parse().ok());
        results.map(|result| (result["metric"].clone(), number(result).expect("a number"))).collect()
    }

    /// The sum of them, once there are any.
    fn sum(&self, expression: &str) -> Option<f64> {
        let found = self.query(expression);
        (!found.is_empty()).then(|| found.iter().map(|(_, value)| value).sum())
    }
}

fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut tcp = TcpStream::connect(addr).expect("a connection");
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(tcp, "GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n").unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[test]
fn prometheus_of_debian_scrapes_a_busy_daemon() {
    let busy = Busy::start(|_| {});
    let prometheus = Prometheus::start(busy.daemon.http);
    // Many clients at once, some of which stay.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut c = busy.daemon.client();
                c.cmd_ok("SELECT INBOX");
                c.cmd_ok("FETCH 1:* (FLAGS BODY.PEEK[])");
                c.cmd_ok("NOOP");
            });
        }
    });
    busy.work();
    let resting: Vec<_> = (0..5).map(|_| busy.daemon.client()).collect();
    wait_for("a scrape of five sessions", || {
        prometheus.sum("mailweir_client_sessions{protocol=\"imap\"}") == Some(resting.len() as f64)
    });
    assert_eq!(prometheus.sum("up{job=\"mailweir\"}"), Some(1.0));
    // What it has is what we expose; it asks for OpenMetrics, promtool was shown the other text.
    let fetched = prometheus.sum("mailweir_commands_total{protocol=\"imap\", command=\"FETCH\", outcome=\"ok\"}");
    assert_eq!(fetched, Some(8.0 + 2.0));
    assert_eq!(prometheus.sum("mailweir_messages_sent_total{outcome=\"ok\"}"), Some(1.0));
    assert_eq!(prometheus.sum("mailweir_bodies_fetched_total"), Some(super::MESSAGES as f64));
    assert_eq!(prometheus.sum("count(mailweir_build_info)"), Some(1.0));
    assert!(prometheus.sum("mailweir_command_seconds_count").is_some_and(|count| count > 20.0));
    let state = prometheus.query("mailweir_account_state == 1");
    assert_eq!(state.len(), 1);
    assert_eq!(state[0].0["state"], "ready");
    let types = get(prometheus.addr, "/api/v1/targets/metadata?metric=mailweir_commands_total").1
        + &get(prometheus.addr, "/api/v1/targets/metadata?metric=mailweir_commands").1;
    assert!(types.contains("\"counter\""), "{types}");
    assert!(prometheus.query("ALERTS").is_empty(), "nothing is wrong: {:?}", prometheus.query("ALERTS"));
}
