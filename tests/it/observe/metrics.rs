//! The documented list of metrics, what a busy daemon exposes, and what the alerts and the dashboard ask for: all one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{Busy, file};
use crate::harness::ADDRESS;
use crate::harness::daemon::PROGRAM;
use crate::harness::search::Searched as _;

/// The table of `config/prometheus/metrics.md`: name to type and labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = std::fs::read_to_string(file("config/prometheus/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")).map(|row| {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let labels = cells[2].split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty());
        assert!(!cells[3].is_empty(), "{row}");
        (cells[0].to_owned(), (cells[1].to_owned(), labels.collect()))
    });
    let list: BTreeMap<_, _> = rows.collect();
    assert!(list.len() > 30, "the table is not read: {list:?}");
    list
}

/// The same from the text a scraper is given. (A label `le` is the histogram's own.)
fn exposed(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut list: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let kind = if name.ends_with("_info") { "info" } else { kind };
            list.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["", "_bucket", "_sum", "_count"]
                .iter()
                .find_map(|ending| name.strip_suffix(ending).filter(|family| list.contains_key(*family)))
                .unwrap_or_else(|| panic!("{line} belongs to no family"));
            let labels =
                line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
            let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            list.get_mut(family).unwrap().1.extend(labels.filter(|label| label != "le"));
        }
    }
    list
}

#[test]
fn the_list_is_what_is_exposed() {
    let busy = Busy::start(|_| {});
    busy.work();
    let (status, text) = busy.daemon.http_get("/metrics");
    assert_eq!(status, 200);
    assert_eq!(exposed(&text), documented());
    assert!(!text.contains("example"), "no address without being asked for: {text}");

    // The same, as Debian's Prometheus judges it.
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, which tests/run installs");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let judged = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
    assert!(judged.status.success() && said.trim().is_empty(), "{said}");

    // Whose id it is, the program tells.
    let id = text.lines().find_map(|line| line.strip_prefix("mailweir_needs_login{account=\"")?.split('"').next());
    let id = id.expect("an account");
    for arguments in [["status"].as_slice(), &["account", "list"]] {
        let told = Command::new(PROGRAM)
            .args(arguments)
            .arg("--config")
            .arg(busy.daemon.config_file())
            .output_searched()
            .unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.lines().any(|line| line.contains(ADDRESS) && line.contains(id)), "{arguments:?}: {told}");
    }
}

#[test]
fn what_was_done_is_counted() {
    let busy = Busy::start(|setup| setup.more = "[http]\nlabel_accounts = true\n".into());
    busy.work();
    let metric = |name: &str, labels: &[&str]| busy.daemon.metric(name, labels) as u64;
    let ann = "account=\"ann@example.org\"";
    assert_eq!(metric("mailweir_bodies_fetched_total", &[ann]), super::MESSAGES);
    assert_eq!(metric("mailweir_messages_sent_total", &[ann, "outcome=\"ok\""]), 1);
    assert_eq!(metric("mailweir_pop3_deletions_total", &[ann, "policy=\"hide\""]), 1);
    assert_eq!(metric("mailweir_commands_total", &["protocol=\"imap\"", "command=\"EXPUNGE\"", "outcome=\"ok\""]), 1);
    assert_eq!(metric("mailweir_account_state", &[ann]), 1, "one state at a time");
    assert_eq!(metric("mailweir_account_state", &[ann, "state=\"ready\""]), 1);
    assert_eq!(metric("mailweir_upstream_reachable", &[ann]), 1);
    assert_eq!(metric("mailweir_upstream_connections_limit", &[ann]), 3);
    assert!(metric("mailweir_upstream_wait_seconds_count", &["class=\"sync\""]) > 0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now - 600..=now).contains(&metric("process_start_time_seconds", &[])));
    assert!(metric("mailweir_certificate_expiry_timestamp_seconds", &["server"]) > now + 86_400);
    assert!(metric("process_resident_memory_bytes", &[]) > 1 << 20);
}

/// Names of metrics in an expression: what begins as ours do. Functions, labels and values do not.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("mailweir_") || word.starts_with("process_"))
}

fn assert_known(expression: &str, place: &str) {
    let list = documented();
    for name in names(expression) {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
        let of_histogram = family.and_then(|family| list.get(family)).is_some_and(|(kind, _)| kind == "histogram");
        assert!(list.contains_key(name) || of_histogram, "{place} asks for {name}, which is not exposed");
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let text = std::fs::read_to_string(file("config/grafana/mailweir.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut expressions = 0;
    let mut todo = vec![&dashboard];
    while let Some(value) = todo.pop() {
        match value {
            serde_json::Value::Array(list) => todo.extend(list),
            serde_json::Value::Object(fields) => {
                for key in ["expr", "definition"] {
                    if let Some(expression) = fields.get(key).and_then(|expression| expression.as_str()) {
                        assert!(names(expression).next().is_some(), "{expression}");
                        assert_known(expression, "the dashboard");
                        expressions += 1;
                    }
                }
                todo.extend(fields.values());
            }
            _ => {}
        }
    }
    assert!(expressions > 20, "{expressions}");
}

#[test]
fn each_alert_fires_and_fires_only_then() {
    let rules = file("config/prometheus/alerts.yml");
    let text = std::fs::read_to_string(&rules).unwrap();
    let tested = std::fs::read_to_string(file("tests/data/prometheus/alerts_test.yml")).unwrap();
    let mut alerts = 0;
    for line in text.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            let fires = format!("alertname: {name}\n        exp_alerts:\n          - ");
            let rests = format!("alertname: {name}, exp_alerts: []");
            assert!(tested.contains(&fires) && tested.contains(&rests), "{name} is not tested both ways");
            alerts += 1;
        }
        if let Some(expression) = line.trim().strip_prefix("expr: ") {
            assert_known(expression, "an alert");
        }
    }
    assert!(alerts >= 6, "{alerts}");
    for arguments in [["check", "rules"], ["test", "rules"]] {
        let path = if arguments[0] == "check" { rules.clone() } else { file("tests/data/prometheus/alerts_test.yml") };
        let judged = Command::new("promtool").args(arguments).arg(path).output().expect("promtool");
        let said = format!("{}{}", String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
        assert!(judged.status.success(), "{said}");
    }
}
