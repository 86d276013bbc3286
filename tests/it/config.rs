//! The command line and the configuration from outside: faults all at once, with file, key and mend; exit status 2.

use std::process::{Command, Output};

use crate::harness::daemon::PROGRAM;
use crate::harness::search::Searched as _;
use crate::harness::{scratch, straight_run};

fn mailweir(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output_searched().expect("mailweir")
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout)
}

#[test]
fn every_fault_is_told_at_once() {
    if straight_run() {
        return;
    }
    let dir = scratch("config");
    let file = dir.path().join("broken.toml");
    let text = r#"
[listen]
imap = ["not an address"]
imapz = ["127.0.0.1:1143"]
[cache]
max_size = "twenty"
[[account]]
address = "ann@example.org"
password = { plain = "very-secret-value" }
[account.imap]
host = "imap.example.org"
tls = "sometimes"
password = { file = "there-is-no-such-file" }
[account.limits]
connections = 0
"#;
    std::fs::write(&file, text).unwrap();
    let out = mailweir(&["run", "--config", file.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    let said = said(&out);
    assert!(said.contains("broken.toml"), "the file: {said}");
    for key in ["imap", "imapz", "max_size", "tls", "connections"] {
        assert!(said.contains(key), "{key} in {said}");
    }
    assert!(!said.contains("very-secret-value"), "a secret in the message: {said}");
}

#[test]
fn wrong_usage_is_two_and_help_is_nought() {
    if straight_run() {
        return;
    }
    for args in [&["frobnicate"][..], &["run", "--nonsense"], &["run", "--config", "/nowhere/at/all.toml"]] {
        let out = mailweir(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", said(&out));
        assert!(!said(&out).is_empty());
    }
    for args in [&["--help"][..], &["run", "--help"], &["--version"]] {
        assert_eq!(mailweir(args).status.code(), Some(0), "{args:?}");
    }
}
