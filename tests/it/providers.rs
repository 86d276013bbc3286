//! The large providers, simulated: each by the scenario that `mailweir demo --provider` shows.

use std::time::{Duration, Instant};

use mailweir::daemon::simulated::Scenario;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::answer::{Answer, Status};
use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::relay::{Link, Relay};
use crate::harness::simulated::Simulated;
use crate::harness::{mail, seed, straight_run, wait_for};

/// Whatever a provider's oddities are, mail programs see a whole mail server, and the provider a polite client.
#[test]
fn every_provider_is_served() {
    if straight_run() {
        return;
    }
    for scenario in Scenario::all() {
        let (name, cap, offers_idle) = (scenario.name, scenario.connections, scenario.name != "mailru");
        let simulated = Simulated::start(scenario);
        let daemon = Daemon::start(Setup::new(simulated.account(simulated.addr)));
        let mut c = daemon.client();
        let count = u64::from(c.cmd_ok("SELECT INBOX").count("EXISTS").unwrap());
        assert!(count > 3, "{name}");
        let status = c.cmd_ok("STATUS INBOX (MESSAGES)").lines().join(" ");
        assert!(status.contains(&format!("MESSAGES {count}")), "{name}: {status}");
        let all = c.cmd_ok("UID FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[])").by_uid();
        assert_eq!(all.len() as u64, count, "{name}");
        assert!(all.values().all(|items| !items["BODY[]"].bytes().is_empty()), "{name}");
        let lists = c.cmd_ok("LIST \"\" *").lines().join("\n");
        for role in ["\\Sent", "\\Trash", "\\Drafts", "\\Junk"] {
            assert!(lists.contains(role), "{name}: no {role} in\n{lists}");
        }
        let uid = *all.keys().next().unwrap();
        c.cmd_ok(&format!("UID STORE {uid} +FLAGS (\\Flagged $Forwarded)"));
        let flags = format!("{:?}", c.cmd_ok(&format!("UID FETCH {uid} FLAGS")).by_uid()[&uid]["FLAGS"]);
        assert!(flags.contains("Flagged") && flags.contains("$Forwarded"), "{name}: {flags}");
        c.cmd_ok(&format!("UID MOVE {uid} \"{}\"", trash(&lists)));
        assert!(!c.cmd_ok("UID SEARCH ALL").search().contains(&(uid as u32)), "{name}");
        simulated.provider.deliver(1);
        wait_for("new mail", || {
            let more = c.cmd_ok("NOOP").count("EXISTS").is_some_and(|now| u64::from(now) >= count);
            more || c.cmd_ok("UID SEARCH ALL").search().len() as u64 >= count
        });
        let counts = simulated.counts();
        assert!(counts.connections_most * 2 <= cap, "{name}: {} of {cap} connections", counts.connections_most);
        assert_eq!((counts.refused, counts.locked, counts.throttled), (0, 0, 0), "{name}");
        assert!(name != "icloud" || counts.qresync == 0, "its VANISHED is malformed");
        let refusals = daemon.metrics().into_iter();
        let refusals = refusals.filter(|(key, count)| key.contains("upstream_refusals_total{") && *count > 0.0);
        assert_eq!(refusals.count(), 0, "{name}");
        println!("{name}: {counts:?}, IDLE {offers_idle}");
    }
}

/// The name of the trash in a LIST.
fn trash(lists: &str) -> String {
    let line = lists.lines().find(|line| line.contains("\\Trash")).expect("a trash");
    let (_, name) = line.trim_end().split_once("\"/\" ").expect("a name");
    name.trim_matches('"').to_owned()
}

/// What Gmail grants in a day, a fiftieth of it: less, and what a kill counts too much would be the reserve. The whole of it would be gigabytes of
/// mail to make and to carry at every run; that the preset has Gmail's own figures the scenarios' test holds.
const DAY: (u64, u64) = (50_000_000, 10_000_000);
/// Messages and their sizes: more than the day grants.
const MANY: (u64, usize) = (120, 500_000);

/// One of forty programs: what it did, and how often it was refused and told why.
fn one_of_forty(mut c: Client, n: u64, seed: u64, end: Instant) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut refused, mut alerts) = (0, 0);
    c.cmd_ok("SELECT INBOX");
    while Instant::now() < end {
        let answer = match rng.random_range(0..5) {
            0 => c.cmd_ok("NOOP"),
            1 => c.cmd_ok("UID FETCH 1:* (FLAGS)"),
            2 => c.cmd_ok("STATUS INBOX (MESSAGES UNSEEN)"),
            3 => c.cmd_ok("UID SEARCH UNSEEN"),
            // Ten read nothing, and thirty want everything, piece after piece.
            _ if n < 10 => c.cmd_ok("NOOP"),
            _ => {
                let from = rng.random_range(1..=MANY.0);
                c.cmd(&format!("UID FETCH {from}:{} (BODY.PEEK[])", from + 4))
            }
        };
        assert!(answer.status != Status::Bad, "{}", answer.text);
        assert!(answer.is_ok() || answer.text.contains("[LIMIT]"), "{}", answer.text);
        refused += usize::from(!answer.is_ok());
        alerts += answer.lines().iter().filter(|line| line.starts_with("* OK [ALERT] ")).count();
    }
    // A refusal because of what is promised to others ends within moments, and is no news for a person.
    assert!(alerts <= 1, "{alerts} alerts, {refused} refusals");
}

/// Forty programs, most of which download everything, while the daemon is killed, stopped and started, and eight more connections are somebody
/// else's: never a sixteenth, never an octet over the limits, and at the end a person still opens a message that a greedy program is refused.
#[test]
fn forty_clients_stay_within_gmails_limits() {
    if straight_run() {
        return;
    }
    let ((download, upload), (messages, size)) = (DAY, MANY);
    let simulated = Simulated::start(Scenario {
        download_per_day: Some(download),
        upload_per_day: Some(upload),
        ..Scenario::gmail()
    });
    let mut straight = simulated.straight();
    let first = u64::from(straight.cmd_ok("SELECT INBOX").count("EXISTS").unwrap());
    for n in 0..messages {
        simulated.provider.begin_day();
        straight.append("INBOX", "", &mail::big(n, size));
    }
    drop(straight);
    let others: Vec<Client> = (0..8).map(|_| simulated.straight()).collect();
    simulated.provider.begin_day();
    let limits = format!("download_per_day = {download}\nupload_per_day = {upload}");
    let account = Account { connections: 7, limits_more: limits, ..simulated.account(simulated.addr) };
    let mut daemon = Daemon::start(Setup { prefetch: "30d", ..Setup::new(account) });
    let seed = seed(61);
    for round in 0..4 {
        let end = Instant::now() + Duration::from_secs(2);
        std::thread::scope(|scope| {
            for n in 0..40 {
                let c = daemon.client();
                scope.spawn(move || one_of_forty(c, n, seed + 100 * round + n, end));
            }
        });
        match round {
            0 | 2 => daemon.kill(),
            _ => drop(daemon.stop()),
        }
        daemon.restart();
    }
    // A program that wants everything is refused in the end,
    let mut bulk = daemon.client();
    bulk.cmd_ok("EXAMINE INBOX");
    let refused = bulk.cmd("UID FETCH 1:* (BODY.PEEK[])");
    assert!(refused.text.contains("[LIMIT]"), "{}", refused.text);
    // What is promised to others is refused without an alert; that it is spent indeed is told, once a session,
    let told = |answer: &Answer| answer.lines().iter().filter(|line| line.starts_with("* OK [ALERT] ")).count();
    let mut alerts = told(&refused);
    wait_for("the day to be spent", || {
        if alerts == 0 {
            let answer = bulk.cmd("UID FETCH 1:* (BODY.PEEK[])");
            assert!(answer.text.contains("[LIMIT]"), "{}", answer.text);
            alerts += told(&answer);
        }
        alerts > 0
    });
    for _ in 0..3 {
        let answer = bulk.cmd("UID FETCH 1:* (BODY.PEEK[])");
        assert!(answer.text.contains("[LIMIT]"), "{}", answer.text);
        alerts += told(&answer);
    }
    assert_eq!(alerts, 1, "told once a session");
    // and a person opens one of those it was refused.
    let mut person = daemon.client();
    person.cmd_ok("EXAMINE INBOX");
    let have = refused.by_uid();
    let missing: Vec<u64> =
        (1..=first + messages).filter(|uid| !have.get(uid).is_some_and(|items| items.contains_key("BODY[]"))).collect();
    let opened = missing.iter().filter(|uid| person.cmd(&format!("UID FETCH {uid} BODY.PEEK[]")).is_ok()).count();
    assert!(opened >= 1, "none of {missing:?}");
    let counts = simulated.counts();
    println!("{counts:?}; {opened} of {} opened by a person", missing.len());
    assert!(
        counts.connections_most <= 15 && counts.connections_most > 8 + 1,
        "{} connections",
        counts.connections_most
    );
    assert_eq!((counts.refused, counts.locked), (0, 0));
    assert!(counts.octets_out <= download && counts.octets_in <= upload, "{counts:?}");
    assert!(counts.octets_out > download / 2, "{} octets: the day was used", counts.octets_out);
    let counted = daemon.metric("mailweir_budget_used_bytes", &["download"]) as u64;
    assert!(counted >= counts.octets_out, "{counted} counted, {} let out", counts.octets_out);
    drop(others);
}

/// A password of the wrong kind: asked once, told wherever the user looks, and not tried again until he acts.
#[test]
fn a_hard_stop_is_told_everywhere_and_waits_for_the_user() {
    if straight_run() {
        return;
    }
    let simulated = Simulated::start(Scenario::named("mailru").unwrap());
    let relay = Relay::to(simulated.addr, Link::default());
    let account = Account { password: "the-web-password".into(), ..simulated.account(relay.addr) };
    let daemon = Daemon::start(Setup::new(account));
    let told = "wants an app password or OAuth";
    let mut c = daemon.client();
    for _ in 0..20 {
        let answer = c.cmd("SELECT INBOX");
        assert!(answer.status == Status::No && answer.text.contains(told), "{}", answer.text);
    }
    let alerts = c.transcript().lines().filter(|line| line.contains("* OK [ALERT] ")).count();
    assert_eq!(alerts, 1, "{}", c.transcript());
    assert!(c.transcript().contains("NEOBHODIM parol prilozheniya"));
    assert_eq!(relay.accepted(), 1, "one answer is enough");
    let refused = daemon.metric("mailweir_upstream_refusals_total", &["meaning=\"app_password\""]);
    assert!((refused - 1.0).abs() < 0.1, "{refused}");
    let (_, status) = daemon.http_get("/status.json");
    assert!(status.contains(told) && status.contains("SIGHUP"), "{status}");
    let (code, ready) = daemon.http_get("/readyz");
    assert!(code == 503 && ready.contains(told), "{code} {ready}");
    assert!(daemon.server().errors().contains("NEOBHODIM") || daemon.server().printed().contains("NEOBHODIM"));
    daemon.reload("the configuration was read again");
    wait_for("one more try", || {
        c.cmd("SELECT INBOX");
        relay.accepted() == 2
    });
}

/// A restored mailbox: new UIDs for the mail programs, and no body is fetched again.
#[test]
fn a_new_uidvalidity_costs_no_body() {
    if straight_run() {
        return;
    }
    let simulated = Simulated::start(Scenario::gmail());
    let mut daemon = Daemon::start(Setup::new(simulated.account(simulated.addr)));
    let mut c = daemon.client();
    let before = c.cmd_ok("SELECT INBOX").code("UIDVALIDITY").unwrap();
    let all = c.cmd_ok("UID FETCH 1:* (BODY.PEEK[])").by_uid();
    let bodies = simulated.counts().bodies;
    assert_eq!(daemon.stop(), 0);
    simulated.provider.flip_validity();
    daemon.restart();
    let mut c = daemon.client();
    wait_for("the new UIDVALIDITY", || c.cmd("SELECT INBOX").code("UIDVALIDITY").is_some_and(|now| now != before));
    let again = c.cmd_ok("UID FETCH 1:* (BODY.PEEK[])").by_uid();
    assert_eq!(again.len(), all.len());
    assert_eq!(simulated.counts().bodies, bodies, "fetched again");
}

/// Yahoo's IDLE tells no expunge: whoever opens or polls a mailbox that is watched hears of it all the same.
#[test]
fn an_expunge_that_is_not_pushed_is_seen() {
    if straight_run() {
        return;
    }
    let simulated = Simulated::start(Scenario::named("yahoo").unwrap());
    let daemon = Daemon::start(Setup::new(simulated.account(simulated.addr)));
    let mut c = daemon.client();
    let count = c.cmd_ok("SELECT INBOX").count("EXISTS").unwrap();
    let mut up = simulated.straight();
    up.cmd_ok("SELECT INBOX");
    for gone in 1..=2 {
        wait_for("the watcher to idle", || simulated.provider.idling() == 1);
        up.cmd_ok("MOVE 1 \"Trash\"");
        if gone == 1 {
            // What was looked at within the last second is not looked at again.
            let opened = || daemon.client().cmd_ok("SELECT INBOX").count("EXISTS") == Some(count - 1);
            wait_for("whoever opens it", opened);
        }
        wait_for("whoever polls", || c.cmd_ok("NOOP").lines().iter().any(|line| line.ends_with(" EXPUNGE")));
    }
    assert_eq!(c.cmd_ok("UID SEARCH ALL").search().len() as u32, count - 2);
}

/// Yahoo tells no more than 1000 numbers in a SEARCH: what another program deletes in a larger mailbox is seen all the same.
#[test]
fn a_deletion_elsewhere_is_seen_beyond_what_a_search_tells() {
    if straight_run() {
        return;
    }
    let many = 1200;
    let simulated = Simulated::start(Scenario { commands_per_second: None, ..Scenario::named("yahoo").unwrap() });
    simulated.provider.deliver_many(many);
    let mut straight = simulated.straight();
    let count = straight.cmd_ok("SELECT INBOX").count("EXISTS").unwrap();
    assert!(count > 1400, "{count}");
    assert_eq!(straight.cmd_ok("UID SEARCH ALL").search().len(), 1000, "the provider's cap");
    let daemon = Daemon::start(Setup::new(simulated.account(simulated.addr)));
    let mut c = daemon.client();
    assert_eq!(c.cmd_ok("SELECT INBOX").count("EXISTS"), Some(count));
    // An old one, beyond whose flags are swept at each look, and a new one.
    let uids = c.cmd_ok("UID SEARCH ALL").search();
    for (gone, uid) in [uids[3], uids[uids.len() - 3]].into_iter().enumerate() {
        straight.cmd_ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
        straight.cmd_ok(&format!("UID EXPUNGE {uid}"));
        // Its IDLE tells new mail only; with that comes a look.
        simulated.provider.deliver(gone as u64);
        wait_for("the deletion", || {
            c.cmd_ok("NOOP");
            !c.cmd_ok("UID SEARCH ALL").search().contains(&uid)
        });
        assert_eq!(c.cmd_ok("UID SEARCH ALL").search().len(), uids.len(), "one less and one more");
    }
}
