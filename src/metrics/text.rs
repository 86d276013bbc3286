//! The two text formats of `/metrics`: OpenMetrics 1.0, as the library writes it, and Prometheus' older one (0.0.4), which everything that
//! scrapes can read. They differ in the name a counter's family has, in the families of type info, and in the last line.

/// Content type of the OpenMetrics text.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of Prometheus' own.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a scraper that sends this `Accept` takes OpenMetrics 1.0. Who does not say so gets the older text.
pub fn takes_open_metrics(accept: &str) -> bool {
    accept.split(',').any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let is_type = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
        let is_refused = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        is_type && parts.all(|part| !is_refused(part) && part.strip_prefix("version=").is_none_or(|v| v == "1.0.0"))
    })
}

/// The older text, from what the library has written.
pub(super) fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    // HELP comes before TYPE, and what it is to be called stands in TYPE.
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').or(Some((rest, "")));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (ending, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, words)) = help.take().filter(|(helped, _)| *helped == name) {
                text.push_str(&format!("# HELP {name}{ending} {words}\n"));
            }
            text.push_str(&format!("# TYPE {name}{ending} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_what() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let table = [
            (prometheus, true),
            ("application/openmetrics-text", true),
            ("application/openmetrics-text; version=0.0.1", false),
            ("application/openmetrics-text; version=1.0.0; q=0", false),
            ("text/plain;version=0.0.4", false),
            ("*/*", false),
            ("", false),
        ];
        for (accept, want) in table {
            assert_eq!(takes_open_metrics(accept), want, "{accept}");
        }
    }

    #[test]
    fn families_are_called_as_their_samples() {
        let written = "# HELP a Of a.\n# TYPE a counter\na_total{x=\"# y\"} 1\n# HELP b Of b.\n# TYPE b info\n\
                       b_info{v=\"1\"} 1\n# HELP c_seconds Of c.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\n\
                       c_seconds 2.5\n# EOF\n";
        let want = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n# HELP b_info Of b.\n\
                    # TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c_seconds Of c.\n# TYPE c_seconds gauge\nc_seconds 2.5\n";
        assert_eq!(plain(written), want);
    }
}
