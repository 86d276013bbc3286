//! The status page: one table an account, no script, readable without style.

use std::fmt::Write as _;

use crate::daemon::status::{AccountStatus, Status, octets};

pub(super) fn render(status: &Status) -> String {
    let mut out = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=10>\
         <meta name=viewport content='width=device-width'><title>mailweir</title>\
         <style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}\
         table{border-collapse:collapse;width:100%;margin-bottom:2rem}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
         .bad{color:#b00020}.good{color:#156b2f}</style><h1>mailweir</h1>",
    );
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "<p>Version {}, up for {}. Client sessions now: {}. Cache: {}.</p>",
        escape(&status.version),
        duration(status.uptime_seconds),
        status.sessions,
        octets(status.cache_bytes),
    );
    for account in &status.accounts {
        render_account(&mut out, account);
    }
    out
}

fn render_account(out: &mut String, account: &AccountStatus) {
    let state = match account.not_ready() {
        None => "<span class=good>in step with the provider</span>".to_owned(),
        Some(why) => format!("<span class=bad>{}</span>", escape(&why)),
    };
    let mut rows = vec![
        ("State", state),
        ("Provider", escape(&account.upstream)),
        ("Connections", format!("{} of {}", account.connections, account.connections_allowed)),
        ("Downloaded in 24 h", budget(account.downloaded, account.download_allowed)),
        ("Uploaded in 24 h", budget(account.uploaded, account.upload_allowed)),
    ];
    if let Some(notice) = &account.notice {
        rows.push(("Notice", format!("<span class=bad>{}</span>", escape(notice))));
    }
    if let Some(reading) = &account.reading {
        rows.push(("First reading", escape(&reading.words())));
    }
    if let Some(outbox) = &account.outbox {
        rows.push(("Outbox", escape(&outbox.words())));
    }
    let _ = write!(out, "<h2>{}</h2><table>", escape(&account.address));
    for (name, value) in rows {
        let _ = write!(out, "<tr><th>{name}<td>{value}");
    }
    out.push_str("</table>");
}

fn budget(used: u64, allowed: Option<u64>) -> String {
    match allowed {
        Some(allowed) => format!("{} of {}", octets(used), octets(allowed)),
        None => octets(used),
    }
}

fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        let account = AccountStatus { address: "<b>@x".into(), fault: Some("\"&".into()), ..AccountStatus::default() };
        let page = render(&Status { accounts: vec![account], ..Status::default() });
        assert!(page.contains("&lt;b&gt;@x") && page.contains("&quot;&amp;") && !page.contains("<b>"));
    }
}
