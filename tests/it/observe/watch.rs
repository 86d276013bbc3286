//! `mailweir status --watch`.

use std::path::Path;

use crate::harness::daemon::{Account, Daemon, PROGRAM, Setup};
use crate::harness::dovecot::Dovecot;
use crate::harness::process::Server;
use crate::harness::{ADDRESS, PATIENCE};

/// Starts `mailweir status --watch` into a pipe.
fn watch(daemon: &Daemon, more: &[&str]) -> Server {
    let config = daemon.config_file();
    let args = [&["status", "--watch", "--config", config.to_str().unwrap()], more].concat();
    Server::start(Path::new(PROGRAM), &args, &[], config.parent().unwrap(), &[])
}

#[test]
fn a_pipe_gets_block_after_block() {
    let dovecot = Dovecot::start();
    let mut daemon = Daemon::start(Setup::new(Account::at(dovecot.imap)));
    let (words, json) = (watch(&daemon, &[]), watch(&daemon, &["--json"]));
    let blocks = |out: &[String]| out.iter().filter(|line| line.contains(&format!("{ADDRESS}:"))).count();
    assert!(words.wait_output(PATIENCE, |out| blocks(out) >= 2), "{}", words.printed());
    assert!(json.wait_output(PATIENCE, |out| out.len() >= 2), "{}", json.printed());
    for line in json.printed().lines().filter(|line| line.starts_with('{')) {
        let report: serde_json::Value = serde_json::from_str(line).expect("a line is a report");
        assert_eq!(report["accounts"][0]["address"], ADDRESS);
    }
    assert!(!words.printed().contains('\u{1b}'), "no cursor is moved in a pipe");
    // It outlives the daemon, and goes on when that is back.
    daemon.stop();
    crate::harness::wait_for("the word that nobody answers", || words.errors().contains("does not answer"));
    let before = words.printed().lines().filter(|line| line.contains(&format!("{ADDRESS}:"))).count();
    daemon.restart();
    assert!(words.wait_output(PATIENCE, |out| blocks(out) > before), "{}", words.printed());
    for mut watching in [words, json] {
        watching.signal("INT");
        assert_eq!(watching.wait_end(PATIENCE), Some(0), "Ctrl-C is its ordinary end");
    }
}
