//! The status page: whole for who asks once, and in regions for who goes on watching.
//!
//! Everything a reader can move to or open (links, disclosures, tables that scroll) stands in the frame, which stays; what changes
//! stands in regions, which hold only text and pictures. So a region can be replaced under somebody's eyes without taking away where
//! he is. No mail is shown: no subject, no sender; names of mailboxes are, to the account's owner.

mod account;
mod chart;
mod html;

use std::fmt::Write as _;

use self::html::{count, escape, rough, size};
use crate::daemon::status::{State, Status};

/// Our own, and nobody else's: no request leaves for anywhere.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                                 form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
pub(super) const STYLE: &str = include_str!("assets/status.css");
pub(super) const SCRIPT: &str = include_str!("assets/status.js");
pub(super) const ICON: &str = include_str!("assets/icon.svg");

/// The moment's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) title: String,
    /// The frame this is for: another one needs the page anew.
    pub(super) shape: String,
    /// Contents by the id of their place.
    pub(super) regions: Vec<(String, String)>,
    addresses: Vec<String>,
}

impl View {
    pub(super) fn of(status: &Status) -> Self {
        let (title, words) = overall(status);
        let mut regions = vec![("overall".to_owned(), words), ("about".to_owned(), about(status))];
        let told = status.clients.len() as u64;
        for (at, account) in status.accounts.iter().enumerate() {
            let id = format!("a{at}");
            let mut put = |part: &str, html: String| regions.push((format!("{id}-{part}"), html));
            put("head", account::head(account));
            put("state", account::state(account, &id));
            put("figures", account::figures(account));
            put("chart", account::chart(account));
            put("hours", account::hours(account));
            put("clients", account::clients(account, &status.clients, status.logged_in.saturating_sub(told)));
            put("events", account::events(account));
            put("mailboxes", account::mailboxes(account));
        }
        let addresses: Vec<String> = status.accounts.iter().map(|account| account.address.clone()).collect();
        let shape = blake3::hash(format!("{}\n{}", status.version, addresses.join("\n")).as_bytes());
        let shape = shape.to_hex().as_str().chars().take(16).collect();
        Self { title, shape, regions, addresses }
    }

    fn region(&self, id: &str) -> &str {
        self.regions.iter().find(|(known, _)| known == id).map_or("", |(_, html)| html)
    }

    /// The whole page; `refresh`: it is asked for again after so many seconds.
    pub(super) fn page(&self, refresh: Option<u32>) -> String {
        let mut body = format!(
            "<header><div class=\"brand\">{LOGO}<h1>mailweir</h1></div>\
             <div class=\"overall\"><p id=\"overall\" aria-live=\"polite\">{}</p></div>\
             <p id=\"live\" class=\"live\" data-state=\"still\" aria-live=\"polite\">{}</p></header><main id=\"main\">",
            self.region("overall"),
            match refresh {
                Some(seconds) => format!("Looked up again every {seconds} s. <a href=\"/\">Stop</a>"),
                None => "<noscript><a href=\"/?refresh=15\">Look again every 15 s</a></noscript>".into(),
            }
        );
        if self.addresses.is_empty() {
            body.push_str(NO_ACCOUNT);
        }
        for (at, address) in self.addresses.iter().enumerate() {
            self.account(&mut body, &format!("a{at}"), address);
        }
        let _ = write!(body, "</main><footer><p id=\"about\">{}</p>{LINKS}</footer>", self.region("about"));
        let head = refresh.map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"));
        document(&self.title, &head.unwrap_or_default(), &format!("data-shape=\"{}\"", self.shape), &body)
    }

    fn account(&self, out: &mut String, id: &str, address: &str) {
        let region = |part: &str| self.region(&format!("{id}-{part}"));
        let address = escape(address);
        // Writing to a String does not fail.
        let _ = write!(
            out,
            "<section class=\"card\" aria-labelledby=\"{id}-name\">\
             <div class=\"top\"><h2 id=\"{id}-name\">{address}</h2><div id=\"{id}-head\" aria-live=\"polite\">{}</div></div>\
             <div id=\"{id}-state\">{}</div>\
             <div id=\"{id}-figures\">{}</div>\
             <div class=\"traffic\"><h3>The last 24 hours</h3><div id=\"{id}-chart\">{}</div>\
             <details><summary>The same as a table</summary>\
             <div class=\"scroll short\" role=\"region\" tabindex=\"0\" aria-label=\"Traffic of {address} by hour\" id=\"{id}-hours\">{}</div></details></div>\
             <div class=\"programs\"><h3>Mail programs</h3>\
             <div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Mail programs of {address}\" id=\"{id}-clients\">{}</div></div>\
             <div class=\"events\" id=\"{id}-events\">{}</div>\
             <details class=\"boxes\"><summary>Mailboxes</summary>\
             <div class=\"scroll short\" role=\"region\" tabindex=\"0\" aria-label=\"Mailboxes of {address}\" id=\"{id}-mailboxes\">{}</div></details>\
             </section>",
            region("head"),
            region("state"),
            region("figures"),
            region("chart"),
            region("hours"),
            region("clients"),
            region("events"),
            region("mailboxes"),
        );
    }
}

/// Everything a page has around its body.
pub(super) fn document(title: &str, head: &str, attributes: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title>{head}<link rel=\"stylesheet\" href=\"/status.css\">\
         <link rel=\"icon\" href=\"/icon.svg\" type=\"image/svg+xml\"><script src=\"/status.js\" defer></script></head>\
         <body {attributes}><a class=\"skip\" href=\"#main\">To the accounts</a>{body}</body></html>",
        escape(title)
    )
}

pub(super) const LOGO: &str = "<svg class=\"logo\" viewBox=\"0 0 32 32\" aria-hidden=\"true\">\
    <path d=\"M3 9c4-3 7 3 11 0s7 3 11 0 4-1 4-1M3 23c4-3 7 3 11 0s7 3 11 0 4-1 4-1\"/><path class=\"wall\" d=\"M3 16h8M14 16h4M21 16h8\"/></svg>";

const NO_ACCOUNT: &str = "<section class=\"card none\"><h2>No account yet</h2><p>Add your mailbox with \
    <code>mailweir account add ADDRESS</code>. It finds the servers, tries the login and tells what to type into your mail program.</p></section>";

const LINKS: &str = "<nav aria-label=\"For programs\"><a href=\"/status.json\">The same as JSON</a> <a href=\"/metrics\">Metrics</a> \
    <a href=\"/readyz\">Readiness</a> <a href=\"/trust\">Set up a device</a></nav>";

/// The title, and a sentence for all accounts.
fn overall(status: &Status) -> (String, String) {
    let of = |state: State| status.accounts.iter().filter(|account| account.state == state).collect::<Vec<_>>();
    let words = match (of(State::NeedsYou).as_slice(), of(State::Waiting).as_slice()) {
        _ if status.accounts.is_empty() => "There is no account yet.".to_owned(),
        ([one], _) => format!("{} needs you.", one.address),
        ([_, _, ..], _) => "Some accounts need you.".to_owned(),
        ([], [one]) => format!("{} waits for its provider.", one.address),
        ([], [_, _, ..]) => "Some accounts wait for their providers.".to_owned(),
        ([], []) if of(State::Starting).len() == status.accounts.len() => "Connecting.".to_owned(),
        ([], []) if !of(State::Reading).is_empty() => "Mail is read for the first time.".to_owned(),
        ([], []) => "All is well.".to_owned(),
    };
    (format!("{} · mailweir", words.trim_end_matches('.')), escape(&words).into_owned())
}

fn about(status: &Status) -> String {
    format!(
        "mailweir {}, up for {}. {} kept on disk, {} connected. No mail is shown here: no subjects, no senders.",
        escape(&status.version),
        rough(status.uptime_seconds),
        size(status.cache_bytes),
        count(status.sessions, "client", "clients"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::{AccountStatus, Client, MailboxStatus, Problem, Reading, Waiting};

    /// Whatever others may have a say in.
    fn hostile() -> Status {
        let evil = || "<script>alert('1')</script>\"".to_owned();
        let account = AccountStatus {
            address: evil(),
            upstream: evil(),
            fault: Some(evil()),
            notice: Some(evil()),
            state: State::Waiting,
            readings: vec![Reading { mailbox: evil(), messages: 1, of: 2, left_seconds: None }],
            mailboxes: vec![MailboxStatus { name: evil(), ..MailboxStatus::default() }],
            waiting: vec![Waiting { what: evil(), why: evil(), seconds: None }],
            problems: vec![Problem { what: evil(), mend: Some(evil()), ..Problem::default() }],
            ..AccountStatus::default()
        };
        let client = Client {
            account: evil(),
            peer: evil(),
            program: Some(evil()),
            device: Some(evil()),
            mailbox: Some(evil()),
            ..Client::default()
        };
        Status { version: evil(), accounts: vec![account], clients: vec![client], ..Status::default() }
    }

    #[test]
    fn text_from_outside_stays_text() {
        let page = View::of(&hostile()).page(None);
        assert_eq!(page.matches("<script").count(), 1, "our own: {page}");
        assert!(!page.contains("alert('") && !page.contains("</script>\""), "{page}");
        assert!(page.matches("&lt;script&gt;").count() >= 12, "{page}");
    }

    #[test]
    fn every_region_has_its_place_and_every_place_its_region() {
        let mut status = hostile();
        status.accounts.push(AccountStatus { address: "bob@example.org".into(), ..AccountStatus::default() });
        let view = View::of(&status);
        let page = view.page(None);
        for (id, html) in &view.regions {
            assert!(page.contains(&format!(" id=\"{id}\"")), "{id}");
            assert!(page.contains(html.as_str()), "{id}");
            for focusable in ["<a ", "<button", "<details", "tabindex", "<input"] {
                assert!(!html.contains(focusable), "{id} would take the focus away: {html}");
            }
        }
        assert_eq!(view.regions.len(), 2 + 2 * 8);
        let again = View::of(&status);
        assert_eq!(view, again, "nothing but the status is told");
        status.accounts.pop();
        assert_ne!(View::of(&status).shape, view.shape);
    }

    #[test]
    fn the_whole_is_told_in_a_sentence() {
        let account = |state| AccountStatus { address: "ann@x".into(), state, ..AccountStatus::default() };
        let said = |states: &[State]| {
            overall(&Status { accounts: states.iter().map(|state| account(*state)).collect(), ..Status::default() }).1
        };
        use State::{InStep, NeedsYou, Reading, Starting, Waiting};
        assert_eq!(said(&[]), "There is no account yet.");
        assert_eq!(said(&[InStep, InStep]), "All is well.");
        assert_eq!(said(&[InStep, Starting]), "All is well.");
        assert_eq!(said(&[Starting]), "Connecting.");
        assert_eq!(said(&[InStep, Reading]), "Mail is read for the first time.");
        assert_eq!(said(&[Reading, Waiting]), "ann@x waits for its provider.");
        assert_eq!(said(&[NeedsYou, Waiting]), "ann@x needs you.");
        assert_eq!(said(&[NeedsYou, NeedsYou]), "Some accounts need you.");
    }
}
