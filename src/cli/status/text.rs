//! A status as a terminal shows it: the same truths as the status page, in a few lines an account.

use std::fmt::Write as _;

use crate::daemon::status::{AccountStatus, Client, State, Status, duration, octets};

/// Cells of a bar.
const BAR: u64 = 20;
/// Columns of the names on the left.
const NAMES: usize = 12;
/// Problems, and clients of an account, that are shown here; the page has all.
const SHOWN: usize = 5;

/// The whole of it, for a person. Whatever comes from outside cannot steer the terminal.
pub(super) fn words(report: &Status) -> String {
    let mut out = String::new();
    line(
        &mut out,
        &format!(
            "mailweir {}, up for {}. {}, cache {}.",
            report.version,
            duration(report.uptime_seconds),
            count(report.logged_in, "mail program connected", "mail programs connected"),
            octets(report.cache_bytes)
        ),
    );
    if report.accounts.is_empty() {
        line(&mut out, "No account yet: `mailweir account add ADDRESS` adds one.");
    }
    for stray in &report.strays {
        line(&mut out, &format!("! {}", stray.words()));
    }
    for account in &report.accounts {
        out.push('\n');
        let clients: Vec<&Client> = report.clients.iter().filter(|client| client.account == account.address).collect();
        account_words(&mut out, account, &clients);
    }
    out
}

fn account_words(out: &mut String, account: &AccountStatus, clients: &[&Client]) {
    let id = if account.id.is_empty() { String::new() } else { format!(" (id {})", account.id) };
    line(out, &format!("{} {}: {}{id}", sign(account.state), account.address, account.state.headline()));
    line(out, &format!("  {}", account.explanation()));
    if let Some(mend) = &account.mend {
        line(out, &format!("  What helps: {mend}"));
    }
    for reading in &account.readings {
        let percent = (reading.messages * 100).checked_div(reading.of).unwrap_or(100);
        let left = reading.left_seconds.map(|left| format!(", about {} left", duration(left.max(1))));
        let text = format!(
            "{} {percent} %, {} of {}{}",
            bar(reading.messages, reading.of),
            reading.messages,
            reading.of,
            left.unwrap_or_default()
        );
        row(out, &reading.mailbox, &text);
    }
    let lowered = account.connections_lowered.map(|most| format!(" (the provider bears {most} for now)"));
    let connections =
        format!("{} of {}{}", account.connections, account.connections_allowed, lowered.unwrap_or_default());
    row(out, "connections", &format!("{connections}, {}", account.upstream));
    row(out, "received", &allowance(account.downloaded, account.download_allowed));
    row(out, "sent", &allowance(account.uploaded, account.upload_allowed));
    if account.messages_sent > 0 || account.messages_allowed.or(account.recipients_allowed).is_some() {
        let of = |limit: Option<u64>| limit.map_or_else(String::new, |limit| format!(" of {limit}"));
        let (messages, most) = (account.messages_sent, of(account.messages_allowed));
        let recipients = format!("{}{} recipients", account.recipients_sent, of(account.recipients_allowed));
        row(out, "messages", &format!("{messages}{most} sent to {recipients} in 24 hours"));
    }
    let hits = account.reads.hit_percent().map(|percent| format!(", {percent} % of reads answered from here"));
    row(out, "cache", &format!("{}{}", octets(account.cache_bytes), hits.unwrap_or_default()));
    let mailboxes = account.mailbox_count;
    let mail =
        format!("{} in {}", count(account.messages, "message", "messages"), count(mailboxes, "mailbox", "mailboxes"));
    row(out, "mail", &mail);
    for client in clients.iter().take(SHOWN) {
        row(out, "program", &client_words(client));
    }
    if clients.len() > SHOWN {
        row(out, "", &format!("and {} more", clients.len() - SHOWN));
    }
    for waiting in &account.waiting {
        let time = waiting.seconds.map(|seconds| format!(" (at most {})", duration(seconds)));
        row(out, "waiting", &format!("{}{}: {}", waiting.what, time.unwrap_or_default(), waiting.why));
    }
    for problem in account.problems.iter().take(SHOWN) {
        let times = if problem.times > 1 { format!(", {} times", problem.times) } else { String::new() };
        row(out, "problem", &format!("{} ago{times}: {}", duration(problem.ago_seconds), problem.what));
        if let Some(mend) = &problem.mend {
            row(out, "", &format!("mend: {mend}"));
        }
    }
}

fn client_words(client: &Client) -> String {
    let program = client.program.as_deref().unwrap_or("a program that does not say its name");
    let mut words = format!("{program}, {} from {}", client.protocol.to_uppercase(), client.peer);
    // Writing to a String does not fail.
    let _ = client.device.as_ref().map(|device| write!(words, " as {device}"));
    let _ = client.mailbox.as_ref().map(|mailbox| write!(words, ", in {mailbox}"));
    let _ = write!(words, ", for {}", duration(client.since_seconds));
    words
}

/// Told apart without colour, in a typeface of any age.
fn sign(state: State) -> char {
    match state {
        State::InStep => '+',
        State::Reading | State::Starting => '.',
        State::Waiting => '~',
        State::NeedsYou => '!',
    }
}

fn allowance(used: u64, allowed: Option<u64>) -> String {
    match allowed {
        None => format!("{} in 24 hours, no limit", octets(used)),
        Some(allowed) => {
            let percent = (used.saturating_mul(100)).checked_div(allowed).unwrap_or(100);
            format!("{} {percent} %, {} of {} in 24 hours", bar(used, allowed), octets(used), octets(allowed))
        }
    }
}

fn bar(part: u64, whole: u64) -> String {
    let filled = (part.saturating_mul(BAR)).checked_div(whole).unwrap_or(BAR).min(BAR);
    (0..BAR).map(|cell| if cell < filled { '#' } else { '-' }).collect()
}

fn count(number: u64, one: &str, more: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {more}") }
}

fn row(out: &mut String, name: &str, text: &str) {
    line(out, &format!("  {name:<NAMES$} {text}"));
}

fn line(out: &mut String, text: &str) {
    // What a provider or a client says may hold anything; a terminal is not to obey it.
    out.extend(text.chars().map(|c| if c.is_control() { '?' } else { c }));
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::{Problem, Reading, Reads, Waiting};

    #[test]
    fn everything_is_told_and_nothing_steers_the_terminal() {
        let account = AccountStatus {
            address: "ann@example.org".into(),
            upstream: "imap.example.org:993".into(),
            state: State::Waiting,
            fault: Some("no\x1b[2J\r\nmore".into()),
            connections: 2,
            connections_allowed: 3,
            downloaded: 500,
            download_allowed: Some(1000),
            messages: 1,
            mailbox_count: 2,
            mailboxes_read: 1,
            reads: Reads { hit: 3, filled: 1, ..Reads::default() },
            readings: vec![Reading { mailbox: "INBOX".into(), messages: 5, of: 20, left_seconds: Some(61) }],
            waiting: vec![Waiting { what: "All".into(), why: "throttled".into(), seconds: Some(90) }],
            problems: vec![Problem { ago_seconds: 3, times: 2, what: "p".into(), mend: Some("m".into()) }],
            ..AccountStatus::default()
        };
        let client = |program: Option<&str>| Client {
            account: "ann@example.org".into(),
            protocol: "imap".into(),
            peer: "192.168.1.5".into(),
            program: program.map(str::to_owned),
            mailbox: Some("INBOX".into()),
            since_seconds: 5,
            ..Client::default()
        };
        let clients = vec![client(Some("Thunderbird 128")), client(None)];
        let text =
            words(&Status { version: "1".into(), accounts: vec![account], clients, logged_in: 2, ..Status::default() });
        let want = "\
mailweir 1, up for 0 s. 2 mail programs connected, cache 0 bytes.

~ ann@example.org: Waiting
  no?[2J??more
  INBOX        #####--------------- 25 %, 5 of 20, about 1 min 1 s left
  connections  2 of 3, imap.example.org:993
  received     ##########---------- 50 %, 500 bytes of 1.0 kB in 24 hours
  sent         0 bytes in 24 hours, no limit
  cache        0 bytes, 75 % of reads answered from here
  mail         1 message in 2 mailboxes
  program      Thunderbird 128, IMAP from 192.168.1.5, in INBOX, for 5 s
  program      a program that does not say its name, IMAP from 192.168.1.5, in INBOX, for 5 s
  waiting      All (at most 1 min 30 s): throttled
  problem      3 s ago, 2 times: p
               mend: m
";
        assert_eq!(text, want);
        let none = words(&Status::default());
        assert!(none.contains("mailweir account add"), "{none}");
    }
}
