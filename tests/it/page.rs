//! The status page as a browser shows it: during a first sync, with mail programs connected, while the provider is away; with and without
//! scripts, by keyboard, in both themes, for a reader who does not see it.

use serde_json::{Value, json};

use crate::harness::browser::{Browser, pictures};
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::Dovecot;
use crate::harness::mail::{self, Sizes};
use crate::harness::relay::{Fault, Link, Relay};
use crate::harness::{ADDRESS, LOCAL_PASSWORD, straight_run, wait_for};

const MESSAGES: u64 = 20_000;
/// The first reading of so many is some 4 MB: ten seconds, in which something is to be seen.
const RATE: u64 = 400_000;

fn setup(relay: &Relay) -> Setup {
    let limits_more = "compress = false\ndownload_per_day = \"2500MB\"\nupload_per_day = \"500MB\"".to_owned();
    Setup::new(Account { limits_more, ..Account::at(relay.addr) })
}

fn root(daemon: &Daemon) -> String {
    format!("http://127.0.0.1:{}/", daemon.http.port())
}

/// Nothing an accessibility checker minds, in any theme.
fn accessible(browser: &mut Browser, what: &str) {
    let found = browser.ask(json!({ "do": "axe" }));
    assert_eq!(found, json!([]), "{what}");
}

fn pictured(browser: &mut Browser, name: &str) {
    let wide = browser.ask(json!({ "do": "shots", "path": pictures().join(name) }));
    assert_eq!(wide, json!([]), "{name}: something is wider than the screen");
}

#[test]
fn a_first_sync_is_followed_and_ends_in_the_figures_of_the_metrics() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    mail::load(&mut dovecot.client(), "INBOX", 47, MESSAGES, Sizes::Small);
    let relay = Relay::to(dovecot.imap, Link { rate: RATE, ..Link::default() });
    let mut browser = Browser::start();
    let daemon = Daemon::start(setup(&relay));
    assert_eq!(browser.open(&root(&daemon)), 200);

    // Pictures are taken once, in the middle; what moves is collected on the way.
    let mut seen: Vec<(u64, String)> = Vec::new();
    let mut is_pictured = false;
    wait_for("the end of the first reading", || {
        let now = browser.figures();
        if let Some(reading) = now["readings"].as_array().and_then(|readings| readings.first()) {
            assert_eq!((reading["name"].as_str(), reading["max"].as_u64()), (Some("INBOX"), Some(MESSAGES)), "{now}");
            seen.push((reading["value"].as_u64().unwrap(), reading["words"].as_str().unwrap().to_owned()));
            if seen.len() > 2 && !is_pictured {
                is_pictured = true;
                assert_eq!(now["state"], "Reading for the first time");
                pictured(&mut browser, "first-sync");
            }
        }
        now["state"] == "In step" && now["messages"] == MESSAGES
    });
    let mut values: Vec<u64> = seen.iter().map(|(value, _)| *value).collect();
    assert!(values.is_sorted(), "it goes forward: {values:?}");
    values.dedup();
    assert!(values.len() >= 4, "it is seen to move: {values:?}");
    assert!(seen.iter().any(|(_, words)| words.contains("about ") && words.contains(" left")), "{seen:?}");

    // A mail program, with a name.
    let mut client = daemon.client();
    client.cmd_ok("ID (\"name\" \"Weir <b>Tester</b>\" \"version\" \"7.1\")");
    client.cmd_ok("SELECT INBOX");
    client.cmd_ok("UID FETCH 1:3 (BODY.PEEK[])");
    client.cmd_ok("UID FETCH 1:3 (BODY.PEEK[])");
    wait_for("the program on the page", || {
        let now = browser.figures();
        let programs = now["programs"].as_str().unwrap();
        ["Weir <b>Tester</b> 7.1", "by IMAP", "this computer", "INBOX"].iter().all(|words| programs.contains(words))
    });

    let mut last = Value::Null;
    wait_for("the page's figures to be those of the metrics", || {
        last = browser.figures();
        let metric = |name: &str, label: &str| daemon.metric(name, &[label]);
        let reads = |outcome: &str| metric("mailweir_body_reads_total", outcome);
        let (hit, filled) = (reads("hit") + reads("joined"), reads("filled") + reads("refused"));
        let figures = [
            ("connections", metric("mailweir_upstream_connections", "")),
            ("download", metric("mailweir_budget_used_bytes", "download")),
            ("upload", metric("mailweir_budget_used_bytes", "upload")),
            ("cache", metric("mailweir_cache_bytes", "")),
            ("hits", (100.0 * hit / (hit + filled)).round()),
        ];
        figures.iter().all(|(name, value)| last[*name].as_f64() == Some(*value))
    });
    assert_eq!((&last["allowed"], &last["hits"], &last["overall"]), (&json!(3), &json!(50), &json!("All is well.")));
    let hours: Vec<u64> = last["hours"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert_eq!(hours.len(), 48);
    assert_eq!(Some(hours.iter().step_by(2).sum::<u64>()), last["download"].as_u64());
    assert_eq!(Some(hours.iter().skip(1).step_by(2).sum::<u64>()), last["upload"].as_u64());

    accessible(&mut browser, "in step");
    pictured(&mut browser, "in-step");
    by_keyboard(&mut browser, &mut client);
    no_scripts(&mut browser, &root(&daemon));
    asked_nobody_else(&mut browser, &root(&daemon));
}

/// Everything that can be used is reached, is seen to be, and stays where it is while the page changes under it.
fn by_keyboard(browser: &mut Browser, client: &mut crate::harness::client::Client) {
    let stops = browser.ask(json!({ "do": "walk" }));
    let stops = stops.as_array().unwrap();
    let wanted = [
        "To the accounts",
        "The same as a table",
        "Mail programs of ann@example.org",
        "Mailboxes",
        "The same as JSON",
        "Metrics",
        "Readiness",
    ];
    for words in wanted {
        let stop = stops.iter().find(|stop| stop["words"].as_str().unwrap().contains(words));
        let stop = stop.unwrap_or_else(|| panic!("{words} is not reached: {stops:?}"));
        assert!(stop["seen"] == true && stop["marked"] == true, "{stop}");
    }
    let opened = browser.ask(json!({ "do": "disclose", "words": "Mailboxes" }));
    assert_eq!(opened, json!({ "words": "Mailboxes", "open": true }));
    client.cmd_ok("UNSELECT");
    wait_for("a change of the page", || !browser.figures()["programs"].as_str().unwrap().contains("INBOX"));
    assert_eq!(browser.ask(json!({ "do": "focus" })), json!({ "words": "Mailboxes", "open": true }));
    accessible(browser, "with a disclosure open");
    pictured(browser, "mailboxes");
}

/// Whole, true, and able to look again.
fn no_scripts(browser: &mut Browser, url: &str) {
    browser.ask(json!({ "do": "open", "url": url, "scripts": false }));
    let text = browser.ask(json!({ "do": "text" }));
    for words in [
        "ann@example.org",
        "In step",
        "20\u{202f}000 messages",
        "Weir <b>Tester</b> 7.1",
        "received ",
        "No mail is shown here",
    ] {
        assert!(text.as_str().unwrap().contains(words), "{words}: {text}");
    }
    let there = browser.ask(json!({ "do": "click", "selector": "noscript a" }));
    assert_eq!(there, format!("{url}?refresh=15"));
    let page = browser.ask(json!({ "do": "html" }));
    assert!(page.as_str().unwrap().contains("http-equiv=\"refresh\" content=\"15\""), "{page}");
    assert_eq!(browser.ask(json!({ "do": "click", "selector": "#live a" })), url);
}

/// Every request went to the daemon, and the browser minded nothing (its policy least).
fn asked_nobody_else(browser: &mut Browser, url: &str) {
    let heard = browser.ask(json!({ "do": "heard" }));
    let requests = heard["requests"].as_array().unwrap();
    assert!(requests.len() >= 4, "{requests:?}");
    let foreign: Vec<_> = requests.iter().filter(|request| !request.as_str().unwrap().starts_with(url)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert_eq!(heard["complaints"], json!([]));
}

#[test]
fn what_is_wrong_is_told_with_its_mend_and_goes_away() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    mail::load(&mut dovecot.client(), "INBOX", 48, 20, Sizes::Small);
    let relay = Relay::to(dovecot.imap, Link::default());
    relay.set(Fault::Refuse);
    let mut account = setup(&relay).accounts.remove(0);
    account.more = "aliases = [\"a.very.long.alias@example.org\"]".into();
    let mut wrong = Account { password: "wrong".into(), ..Account::of("bob", dovecot.imap) };
    wrong.limits_more = "download_per_day = \"1MB\"".into();
    let daemon = Daemon::start(Setup { accounts: vec![account, wrong], ..Setup::new(Account::at(relay.addr)) });
    let mut browser = Browser::start();
    browser.open(&root(&daemon));
    wait_for("both troubles", || {
        let text = browser.ask(json!({ "do": "text" }));
        let text = text.as_str().unwrap();
        [
            "Waiting",
            "Needs you",
            "What helps:",
            "Everything asked of the provider",
            "The next login",
            "account login bob@example.org",
            "refuses the login",
        ]
        .iter()
        .all(|words| text.contains(words))
    });
    accessible(&mut browser, "in trouble");
    pictured(&mut browser, "in-trouble");
    relay.set(Fault::None);
    // The back-off is some seconds by now; a reload ends it.
    daemon.reload("the configuration was read again");
    wait_for("all to be well with one of them", || browser.figures()["state"] == "In step");
    wait_for("nothing to wait", || browser.figures()["events"].as_str().unwrap().contains("Nothing waits."));
    let now = browser.figures();
    assert!(now["events"].as_str().unwrap().contains(" ago"), "what was is still told: {now}");
    asked_nobody_else(&mut browser, &root(&daemon));
}

/// Beyond this computer: the token, by form; here a proxy's header stands for another computer.
#[test]
fn another_computer_is_asked_for_the_token() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let account = Account::at(dovecot.imap);
    let mut setup = Setup::new(account);
    setup.listen_more = "[http]\ntoken = { plain = \"correct horse battery staple\" }".into();
    let daemon = Daemon::start(setup);
    let mut browser = Browser::start();
    browser.ask(json!({ "do": "afar" }));
    assert_eq!(browser.open(&root(&daemon)), 401);
    accessible(&mut browser, "at the door");
    pictured(&mut browser, "door");
    browser.ask(json!({ "do": "type", "selector": "#token", "text": "something else" }));
    browser.ask(json!({ "do": "click", "selector": "button" }));
    let text = browser.ask(json!({ "do": "text" }));
    assert!(text.as_str().unwrap().contains("not the token") && !text.as_str().unwrap().contains(ADDRESS), "{text}");
    browser.ask(json!({ "do": "type", "selector": "#token", "text": "correct horse battery staple" }));
    assert_eq!(browser.ask(json!({ "do": "click", "selector": "button" })), root(&daemon));
    wait_for("the page, live", || browser.figures()["live"] == "live");
    assert!(browser.ask(json!({ "do": "text" })).as_str().unwrap().contains(ADDRESS));
    assert!(!daemon.server().printed().contains("battery") && !daemon.server().printed().contains(LOCAL_PASSWORD));
}
