//! Thunderbird sets itself up from our autoconfig answer: an address and a password are all it is given.
//!
//! `tests/clients/thunderbird_setup.py` types them into its Account Hub; it asks `http://autoconfig.example.org/…` as for any provider.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::Dovecot;
use crate::harness::{ADDRESS, LOCAL_PASSWORD, free_port, scratch, straight_run};
use crate::setup::pictures;

#[test]
fn thunderbird_needs_only_the_address_and_the_password() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let message = "From: Bob <bob@example.net>\r\nTo: ann@example.org\r\nSubject: read me\r\nMessage-ID: <setup@example.org>\r\n\r\nPlain words to be read\r\n";
    dovecot.client().append("INBOX", "", message.as_bytes());
    let submissions = free_port();
    let listen_more = format!("submissions = [\"127.0.0.1:{submissions}\"]\n");
    let daemon = Daemon::start(Setup { listen_more, ..Setup::new(Account::at(dovecot.imap)) });

    let home = scratch("thunderbird");
    let picture = |name: &str| pictures().join(format!("thunderbird-setup-{name}.png"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/thunderbird_setup.py");
    let out = Command::new("python3")
        .arg("-B")
        .arg(script)
        .arg(home.path())
        .arg(daemon.http.port().to_string())
        .arg(daemon.ca_file())
        .args([ADDRESS, LOCAL_PASSWORD])
        .args([picture("found"), picture("read")])
        .output()
        .expect("python3; tests/run installs it");
    let log = std::fs::read_to_string(home.path().join("thunderbird.log")).unwrap_or_default();
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{}\n{said}\n{errors}\n--- Thunderbird ---\n{log}", out.status);
    print!("{said}");
    let made = said.lines().find_map(|line| line.strip_prefix("account: ")).expect("an account");
    let made: Value = serde_json::from_str(made).expect("JSON");
    // 3: TLS from the first byte. The first of each kind that our answer names.
    let wanted = json!({
        "type": "imap", "hostName": "localhost", "port": daemon.imaps.port(), "socketType": 3, "username": ADDRESS,
        "sending": { "hostName": "localhost", "port": submissions, "socketType": 3, "username": ADDRESS },
    });
    assert_eq!(made, wanted);
    assert!(dovecot.client().cmd_ok("EXAMINE INBOX").count("EXISTS") == Some(1));
}
