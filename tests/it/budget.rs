//! What an account may fetch in a day: reads up to it, plain words above it, cached mail all the same, and a count that no end of the
//! daemon forgets.

use std::path::Path;
use std::time::Duration;

use crate::harness::answer::{Answer, Status};
use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::relay::Link;
use crate::harness::search::Searched as _;
use crate::harness::world::{Kind, World};
use crate::harness::{ADDRESS, straight_run, wait_for};

/// Octets of one test message: fifteen of them and some talk are below 300 kB, and forty are not.
const SIZE: usize = 15_000;
const MESSAGES: u64 = 40;

fn body(n: u64) -> String {
    let line = format!("{n:04} {}\r\n", "x".repeat(70));
    format!("Subject: {n}\r\nMessage-ID: <{n}@test>\r\n\r\n{}", line.repeat(SIZE / line.len()))
}

fn limited(limits: &str) -> World {
    limited_with(limits, |setup| setup)
}

fn limited_with(limits: &str, change: impl FnOnce(Setup) -> Setup) -> World {
    let limits = limits.to_owned();
    let change = move |mut setup: Setup| {
        for account in &mut setup.accounts {
            account.limits_more.clone_from(&limits);
        }
        change(setup)
    };
    World::with(Kind::Dovecot, Link::default(), change, |c| {
        for n in 1..=MESSAGES {
            c.append("INBOX", "", body(n).as_bytes());
        }
    })
}

/// Reads message after message until one is refused; how many were read, and the refusal.
fn read_on(c: &mut Client) -> (u64, Answer) {
    for n in 1..=MESSAGES {
        let answer = c.cmd(&format!("UID FETCH {n} BODY.PEEK[]"));
        if answer.status == Status::No {
            return (n - 1, answer);
        }
        assert_eq!(answer.by_uid()[&n]["BODY[]"].text(), body(n));
    }
    panic!("nothing was refused");
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, Status::No, "{answer:?}");
    let text = &answer.text;
    assert!(text.starts_with("[LIMIT] ") && text.contains("300.0 kB") && text.contains("opens again in"), "{text}");
}

fn used(daemon: &Daemon, direction: &str) -> f64 {
    daemon.metric("mailweir_budget_used_bytes", &[&format!("direction=\"{direction}\"")])
}

/// What stands in the durable state.
pub(crate) fn saved(data_dir: &Path, direction: &str) -> i64 {
    let db = rusqlite::Connection::open(data_dir.join("state.sqlite")).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    let sum = "SELECT coalesce(sum(bytes), 0) FROM ledger WHERE account = ? AND direction = ?";
    db.query_row(sum, [ADDRESS, direction], |row| row.get(0)).unwrap()
}

#[test]
fn reads_end_at_the_limit_and_the_count_survives_every_end() {
    if straight_run() {
        return;
    }
    let mut world = limited("download_per_day = \"300KB\"");
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    let (read, refusal) = read_on(&mut c);
    assert_refused(&refusal);
    assert!((15..=20).contains(&read), "{read} messages of {SIZE} octets");
    let spent = used(world.daemon(), "download");
    assert!(spent > (read * SIZE as u64) as f64 && spent < 300_000.0, "{spent}");
    assert_eq!(world.daemon().metric("mailweir_budget_limit_bytes", &["download"]), 300_000.0);

    // What is here is served: bodies, headers of them, flags; and a refused message spoils no other.
    let all = c.cmd(&format!("UID FETCH 1:{MESSAGES} BODY.PEEK[]"));
    assert_refused(&all);
    assert!(all.by_uid().len() as u64 >= read, "{} of {read}", all.by_uid().len());
    assert_eq!(c.cmd_ok("UID FETCH 1:3 (ENVELOPE BODYSTRUCTURE)").by_uid().len(), 3);
    assert_eq!(c.cmd_ok("UID FETCH 1:* FLAGS").by_uid().len() as u64, MESSAGES);
    // Upload has no limit here.
    c.append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n");

    // The end in order, and the end without one once the count was saved.
    let before = used(world.daemon(), "download");
    assert_eq!(world.daemon_mut().stop(), 0);
    world.daemon_mut().restart();
    assert!(used(world.daemon(), "download") >= before);
    let counted = saved(&world.daemon().data_dir(), "download");
    assert!(counted >= before as i64, "{counted} of {before}");
    world.daemon_mut().kill();
    world.daemon_mut().restart();
    assert!(used(world.daemon(), "download") >= before);
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    let (again, refusal) = read_on(&mut c);
    assert_refused(&refusal);
    assert_eq!(again, read, "the same are here, and no more are fetched");

    // A higher limit opens at once.
    world.daemon_mut().change(|setup| setup.accounts[0].limits_more = "download_per_day = \"3MB\"".into());
    world.daemon().reload("the configuration was read again");
    let next = read + 1;
    assert_eq!(c.cmd_ok(&format!("UID FETCH {next} BODY.PEEK[]")).by_uid()[&next]["BODY[]"].text(), body(next));
}

#[test]
fn what_kill_nine_cannot_take_back_is_saved_within_moments() {
    if straight_run() {
        return;
    }
    let mut world = limited("download_per_day = \"300KB\"");
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    for n in 1..=10 {
        c.cmd_ok(&format!("UID FETCH {n} BODY.PEEK[]"));
    }
    let read = 10 * SIZE as i64 * 9 / 10;
    let data = world.daemon().data_dir();
    wait_for("the count to be saved", || saved(&data, "download") > read);
    world.daemon_mut().kill();
    world.daemon_mut().restart();
    assert!(used(world.daemon(), "download") > read as f64);
}

#[test]
fn prefetch_leaves_half_to_those_who_wait() {
    if straight_run() {
        return;
    }
    let world = limited_with("download_per_day = \"300KB\"", |setup| Setup { prefetch: "all", ..setup });
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    wait_for("prefetch to stop", || {
        let refused = world.daemon().metric("mailweir_body_reads_total", &["outcome=\"refused\""]);
        refused > 0.0 && used(world.daemon(), "download") > 110_000.0
    });
    // What was granted arrives; then nothing more.
    wait_for("what was granted", || world.daemon().bodies_filled() >= 8.0);
    let spent = used(world.daemon(), "download");
    assert!(spent < 155_000.0, "{spent}: the other half is touched");
    // Newest first, so the oldest is not here.
    assert_eq!(c.cmd_ok("UID FETCH 1 BODY.PEEK[]").by_uid()[&1]["BODY[]"].text(), body(1));
}

/// A mail program that downloads everything stops before the last part; a person opens a message all the same. Each session is told once.
#[test]
fn the_last_part_is_for_what_a_person_opens() {
    if straight_run() {
        return;
    }
    let world = limited("download_per_day = \"500KB\"");
    let mut bulk = world.client();
    bulk.cmd_ok("EXAMINE INBOX");
    let mut alerts = 0;
    for round in 0..3 {
        let answer = bulk.cmd(&format!("UID FETCH 1:{MESSAGES} BODY.PEEK[]"));
        assert_eq!(answer.status, Status::No, "{answer:?}");
        assert!(answer.text.starts_with("[LIMIT] ") && answer.text.contains("opens again in"), "{}", answer.text);
        let told = answer.lines().into_iter().filter(|line| line.starts_with("* OK [ALERT] ")).collect::<Vec<_>>();
        alerts += told.len();
        assert_eq!(alerts, 1, "round {round}: {told:?}");
        assert!(told.iter().all(|line| line.contains("500.0 kB") && line.contains("UTC")), "{told:?}");
    }
    let spent = used(world.daemon(), "download");
    assert!((400_000.0..450_000.0).contains(&spent), "{spent}: nine tenths for who downloads everything");
    // Somebody else opens one that is not here, and hears that the day is nearly over.
    let mut person = world.client();
    person.cmd_ok("EXAMINE INBOX");
    assert_eq!(
        person.transcript().matches("* OK [ALERT] The download allowance").count(),
        1,
        "{}",
        person.transcript()
    );
    let missing =
        (1..=MESSAGES).rev().find(|uid| bulk.cmd(&format!("UID FETCH {uid} BODY.PEEK[]")).status == Status::No);
    let missing = missing.expect("some are not here");
    assert_eq!(
        person.cmd_ok(&format!("UID FETCH {missing} BODY.PEEK[]")).by_uid()[&missing]["BODY[]"].text(),
        body(missing)
    );
    let spent = used(world.daemon(), "download");
    assert!((400_000.0..500_000.0).contains(&spent), "{spent}");
    let (_, status) = world.daemon().http_get("/status.json");
    assert!(status.contains("\"notice\": \"The download allowance"), "{status}");
}

#[test]
fn an_upload_above_the_limit_is_refused_and_a_smaller_one_is_not() {
    if straight_run() {
        return;
    }
    let world = limited("upload_per_day = \"300KB\"");
    let mut c = world.client();
    let large = format!("Subject: large\r\n\r\n{}", "0123456789\r\n".repeat(30_000));
    c.raw(format!("U1 APPEND INBOX {{{}+}}\r\n{large}\r\n", large.len()).as_bytes());
    let answer = c.until("U1 <*>");
    let last = answer.last().unwrap();
    assert!(last.starts_with("U1 NO [LIMIT] The upload allowance"), "{last}");
    c.append("INBOX", "", b"Subject: small\r\n\r\nsmall\r\n");
    c.cmd_ok("EXAMINE INBOX");
    assert!(used(world.daemon(), "upload") < 10_000.0);
}

#[test]
fn a_damaged_state_is_refused_and_left_alone() {
    if straight_run() {
        return;
    }
    let mut world = World::new(Kind::Dovecot, |c| {
        c.append("INBOX", "", b"Subject: a\r\n\r\na\r\n");
    });
    world.daemon_mut().stop();
    let file = world.daemon().data_dir().join("state.sqlite");
    for more in ["-wal", "-shm"] {
        let path = world.daemon().data_dir().join(format!("state.sqlite{more}"));
        assert!(!path.exists(), "a clean end leaves one file");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let garbage = vec![0x55; 8192];
    std::fs::write(&file, &garbage).unwrap();
    let out = std::process::Command::new(crate::harness::daemon::PROGRAM)
        .args(["run", "--config"])
        .arg(world.daemon().config_file())
        .output_searched()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(words.contains("state.sqlite") && words.contains("backup"), "{words}");
    assert_eq!(std::fs::read(&file).unwrap(), garbage);
}

/// A cache put back from an older copy agrees with itself and with nobody else.
#[test]
fn an_older_cache_is_read_anew() {
    if straight_run() {
        return;
    }
    let mut world = World::new(Kind::Dovecot, |c| {
        for n in 1..=5 {
            c.append("INBOX", "", body(n).as_bytes());
        }
    });
    let read = |world: &World| {
        let mut c = world.client();
        c.cmd_ok("EXAMINE INBOX");
        c.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[])").by_uid()
    };
    assert_eq!(read(&world).len(), 5);
    world.daemon_mut().stop();
    let (cache, copy) = (world.daemon().data_dir().join("cache"), world.daemon().data_dir().join("copy"));
    let copied = std::process::Command::new("cp").arg("-a").args([&cache, &copy]).status().unwrap();
    assert!(copied.success());
    world.daemon_mut().restart();
    world.straight().append("INBOX", "", body(6).as_bytes());
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    wait_for("the sixth", || c.cmd_ok("EXAMINE INBOX").count("EXISTS") == Some(6));
    drop(c);
    world.daemon_mut().stop();
    std::fs::remove_dir_all(&cache).unwrap();
    std::fs::rename(&copy, &cache).unwrap();
    world.daemon_mut().restart();
    assert!(world.daemon().server().errors().contains("the cache is older than it should be"));
    assert_eq!(read(&world).len(), 6);
}

/// Two accounts of one daemon: what one has spent is not the other's.
#[test]
fn each_account_has_its_own() {
    if straight_run() {
        return;
    }
    let world = limited_with("download_per_day = \"300KB\"", |mut setup| {
        let other = Account { address: "bob@example.org".into(), ..setup.accounts[0].clone() };
        setup.accounts.push(other);
        setup
    });
    let mut ann = world.client();
    ann.cmd_ok("EXAMINE INBOX");
    assert_refused(&read_on(&mut ann).1);
    let mut bob = Client::connect(world.daemon().imap).login("bob@example.org", crate::harness::LOCAL_PASSWORD);
    bob.cmd_ok("EXAMINE INBOX");
    bob.cmd_ok("UID FETCH 40 BODY.PEEK[]");
}
