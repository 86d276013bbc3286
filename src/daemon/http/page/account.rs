//! An account's parts of the page.

use std::fmt::Write as _;

use super::chart;
use super::html::{count, escape, grouped, number, rich, rough, size};
use crate::daemon::status::{AccountStatus, Client, State, Waiting, duration};

/// Dots for connections; more are only a number.
const DOTS_MOST: u64 = 12;

/// The state as a badge: a sign and words, so that the colour is only for who sees it.
pub(super) fn head(account: &AccountStatus) -> String {
    let (class, path) = match account.state {
        State::InStep => ("good", "M3.5 8.5l3 3 6-7"),
        State::Reading => ("busy", "M8 2.5v9M4 8l4 4 4-4"),
        State::Starting => ("busy", "M3 8h.01M8 8h.01M13 8h.01"),
        State::Waiting => ("wait", "M5.5 3.5v9M10.5 3.5v9"),
        State::NeedsYou => ("bad", "M8 2.5v6.5M8 13h.01"),
    };
    format!(
        "<span class=\"badge {class}\"><svg viewBox=\"0 0 16 16\" aria-hidden=\"true\"><path d=\"{path}\"/></svg>{}</span>",
        account.state.headline()
    )
}

/// What it means, and what is being read.
pub(super) fn state(account: &AccountStatus, id: &str) -> String {
    let mut out = format!("<p class=\"say\">{}</p>", rich(&account.explanation()));
    if let Some(mend) = &account.mend {
        let _ = write!(out, "<p class=\"say mend\"><b>What helps:</b> {}</p>", rich(mend));
    }
    if account.readings.is_empty() {
        return out;
    }
    out.push_str("<ul class=\"readings\">");
    for (at, reading) in account.readings.iter().enumerate() {
        let left = reading.left_seconds.map(|left| format!(", about {} left", duration(left.max(1))));
        let _ = write!(
            out,
            "<li><span class=\"name\" id=\"{id}-r{at}\">{}</span> <span class=\"amount\">{} of {} messages{}</span>\
             <progress aria-labelledby=\"{id}-r{at}\" max=\"{}\" value=\"{}\"></progress></li>",
            escape(&reading.mailbox),
            number(reading.messages),
            number(reading.of),
            left.unwrap_or_default(),
            reading.of.max(1),
            reading.messages,
        );
    }
    out + "</ul>"
}

/// What is used of what is allowed, and what is here.
pub(super) fn figures(account: &AccountStatus) -> String {
    let most = account.connections_lowered.unwrap_or(account.connections_allowed).min(account.connections_allowed);
    let lowered = match account.connections_lowered {
        Some(lowered) => format!("<small>the provider bears {lowered} for now</small>"),
        None => format!("<small>to {}</small>", escape(&account.upstream)),
    };
    let connections = format!(
        "<span class=\"big\">{}</span> of {}{}{lowered}",
        number(account.connections),
        number(account.connections_allowed),
        dots(account.connections, most, account.connections_allowed)
    );
    let hits = match account.reads.hit_percent() {
        Some(percent) => format!("<small>{} % of reads were answered from here</small>", number(percent)),
        None => "<small>no message was read yet</small>".into(),
    };
    let cache = format!("<span class=\"big\">{}</span>{hits}", size(account.cache_bytes));
    let mailboxes = account.mailbox_count;
    let mail = format!(
        "<span class=\"big\">{}</span> {}<small>in {}</small>",
        number(account.messages),
        if account.messages == 1 { "message" } else { "messages" },
        count(mailboxes, "mailbox", "mailboxes")
    );
    let rows = [
        ("mail", "Mail", mail),
        ("cache", "Kept here", cache),
        ("connections", "Connections", connections),
        ("download", "Received in 24 h", allowance(account.downloaded, account.download_allowed, "Received")),
        ("upload", "Sent in 24 h", allowance(account.uploaded, account.upload_allowed, "Sent")),
    ];
    let row = |(class, name, value): &(&str, &str, String)| {
        format!("<div class=\"{class}\"><dt>{name}</dt><dd>{value}</dd></div>")
    };
    format!("<dl class=\"figures\">{}</dl>", rows.iter().map(row).collect::<String>())
}

fn dots(used: u64, most: u64, allowed: u64) -> String {
    if allowed > DOTS_MOST {
        return String::new();
    }
    let dot = |at: u64| {
        let class = if at < used {
            "on"
        } else if at < most {
            "off"
        } else {
            "shut"
        };
        format!("<circle class=\"{class}\" cx=\"{}\" cy=\"7\" r=\"5\"/>", at * 16 + 7)
    };
    let width = allowed * 16;
    let circles: String = (0..allowed).map(dot).collect();
    format!(
        "<svg class=\"dots\" width=\"{width}\" height=\"14\" viewBox=\"0 0 {width} 14\" aria-hidden=\"true\">{circles}</svg>"
    )
}

fn allowance(used: u64, allowed: Option<u64>, what: &str) -> String {
    let Some(allowed) = allowed else {
        return format!("<span class=\"big\">{}</span><small>the provider sets no limit</small>", size(used));
    };
    let percent = used.saturating_mul(100).checked_div(allowed).unwrap_or(100);
    let filled = percent.min(100);
    let class = match percent {
        0..80 => "",
        80..90 => " high",
        _ => " full",
    };
    let percent = if percent == 0 && used > 0 { "under 1".to_owned() } else { percent.to_string() };
    format!(
        "<span class=\"big\">{}</span><div class=\"meter{class}\" role=\"meter\" \
         aria-label=\"{what}, percent of the day&#39;s allowance\" aria-valuemin=\"0\" aria-valuemax=\"100\" aria-valuenow=\"{filled}\">\
         <svg viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"{filled}\" height=\"1\"/></svg></div>\
         <small>{percent} % of {} a day</small>",
        size(used),
        size(allowed)
    )
}

pub(super) fn chart(account: &AccountStatus) -> String {
    chart::chart(&account.hours)
}

pub(super) fn hours(account: &AccountStatus) -> String {
    chart::table(&account.hours)
}

/// Who is connected. `more`: this many in all accounts are not told by name.
pub(super) fn clients(account: &AccountStatus, clients: &[Client], more: u64) -> String {
    let mut rows = String::new();
    for client in clients.iter().filter(|client| client.account == account.address) {
        let program = match &client.program {
            Some(program) => escape(program),
            None => "<span class=\"quiet\">does not say</span>".into(),
        };
        let device = client.device.as_ref().map(|device| format!(" as {}", escape(device)));
        let open = client.mailbox.as_ref().map_or_else(|| "–".into(), |mailbox| escape(mailbox));
        let _ = write!(
            rows,
            "<tr><th scope=\"row\">{program}<small>by {}{}</small></th><td>{}</td><td>{open}</td><td>{}</td></tr>",
            spoken(&client.protocol),
            device.unwrap_or_default(),
            escape(&client.peer),
            rough(client.since_seconds)
        );
    }
    if rows.is_empty() {
        return "<p class=\"empty\">No mail program is connected now.</p>".into();
    }
    let more = match more {
        0 => String::new(),
        more => format!("<p class=\"empty\">And {} more, of all accounts.</p>", grouped(more)),
    };
    format!(
        "<table><thead><tr><th scope=\"col\">Program</th><th scope=\"col\">From</th>\
         <th scope=\"col\">Open</th><th scope=\"col\">For</th></tr></thead><tbody>{rows}</tbody></table>{more}"
    )
}

fn spoken(protocol: &str) -> &'static str {
    match protocol {
        "imap" => "IMAP",
        "pop3" => "POP3",
        _ => "SMTP",
    }
}

/// What waits, and what went wrong.
pub(super) fn events(account: &AccountStatus) -> String {
    let mut out = String::new();
    out.push_str("<div><h3>Waiting</h3>");
    out.push_str(&waiting(&account.waiting));
    out.push_str("</div><div><h3>Recent problems</h3>");
    if account.problems.is_empty() {
        out.push_str("<p class=\"empty\">None since mailweir was started.</p>");
    } else {
        out.push_str("<ul class=\"list\">");
        for problem in &account.problems {
            let times = if problem.times > 1 { format!(", {} times", grouped(problem.times)) } else { String::new() };
            let _ = write!(
                out,
                "<li><p>{}</p><p class=\"quiet\">{} ago{times}</p>",
                rich(&problem.what),
                rough(problem.ago_seconds)
            );
            if let Some(mend) = &problem.mend {
                let _ = write!(out, "<p class=\"mend\"><b>What helps:</b> {}</p>", rich(mend));
            }
            out.push_str("</li>");
        }
        out.push_str("</ul>");
    }
    out + "</div>"
}

fn waiting(waiting: &[Waiting]) -> String {
    if waiting.is_empty() {
        return "<p class=\"empty\">Nothing waits.</p>".into();
    }
    let mut out = String::from("<ul class=\"list\">");
    for waiting in waiting {
        let time =
            waiting.seconds.map(|seconds| format!(" <span class=\"quiet\">for at most {}</span>", duration(seconds)));
        let _ = write!(
            out,
            "<li><p>{}{}</p><p class=\"quiet\">{}</p></li>",
            escape(&waiting.what),
            time.unwrap_or_default(),
            rich(&waiting.why)
        );
    }
    out + "</ul>"
}

/// Every mailbox and how far it is.
pub(super) fn mailboxes(account: &AccountStatus) -> String {
    if account.mailboxes.is_empty() {
        return "<p class=\"empty\">The list of mailboxes is not known yet.</p>".into();
    }
    let mut rows = String::new();
    for mailbox in &account.mailboxes {
        let state = match (mailbox.known, mailbox.live, mailbox.checked_seconds) {
            (false, ..) => "not read yet".to_owned(),
            (true, true, _) => "in step, changes are told at once".to_owned(),
            (true, false, Some(seconds)) => format!("in step {} ago", rough(seconds)),
            (true, false, None) => "as it was last time".to_owned(),
        };
        let messages = if mailbox.known { number(mailbox.messages) } else { "–".into() };
        let _ = write!(
            rows,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{messages}</td><td>{state}</td></tr>",
            escape(&mailbox.name)
        );
    }
    let all = account.mailbox_count;
    let more = all.saturating_sub(account.mailboxes.len() as u64);
    let more = if more > 0 { format!("<p class=\"empty\">And {} more.</p>", grouped(more)) } else { String::new() };
    format!(
        "<table><thead><tr><th scope=\"col\">Mailbox</th><th scope=\"col\" class=\"n\">Messages</th><th scope=\"col\">State</th></tr></thead>\
         <tbody>{rows}</tbody></table>{more}"
    )
}
