//! `mailweir check --send-test`: Exim takes the message, and the test is the delivery agent between it and Dovecot's mailbox.

use std::process::Command;

use crate::harness::daemon::PROGRAM;
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::exim::Exim;
use crate::harness::{UPSTREAM_PASSWORD, scratch, straight_run};

/// Runs it, delivering what Exim gets into that mailbox meanwhile; whether all was well, and what it said.
fn send_test(dovecot: &Dovecot, exim: &Exim, to: &str, wait: u32, mailbox: Option<&str>) -> (bool, String) {
    let dir = scratch("check");
    let config = dir.path().join("mailweir.toml");
    let account = |user: &str, smtp: &str| {
        format!(
            "[[account]]\naddress = \"{user}@example.org\"\naliases = [\"{user}.smith@example.org\"]\npassword = {{ plain = \"x\" }}\n[account.imap]\nhost = \"localhost\"\n\
             port = {}\ntls = \"none\"\nusername = \"{user}\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}\n{smtp}",
            dovecot.imap.port()
        )
    };
    let smtp = format!("[account.smtp]\nhost = \"localhost\"\nport = {}\ntls = \"none\"\n", exim.smtp.port());
    let text = format!(
        "data_dir = \"data\"\n[listen]\nimap = [\"127.0.0.1:0\"]\n{}{}",
        account("ann", &smtp),
        account("bob", "")
    );
    std::fs::write(&config, text).unwrap();
    let before = exim.sent().len();
    let mut command = Command::new(PROGRAM);
    command
        .args(["check", "ann@example.org", "--send-test", to, "--send-wait", &wait.to_string(), "--config"])
        .arg(&config);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    if let Some(mailbox) = mailbox {
        let message = exim.wait_sent(before + 1).pop().expect("a message");
        assert!(String::from_utf8_lossy(&message).contains("Subject: mailweir check "));
        dovecot.client_as("bob").append(mailbox, "", &message);
    }
    let out = child.wait_with_output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
}

#[test]
fn a_message_is_sent_and_watched_until_it_arrives() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::with(Options { junk: true, ..Options::default() });
    let exim = Exim::start();
    // By its alias, too.
    for to in ["bob@example.org", "Bob.Smith@example.org"] {
        let (well, said) = send_test(&dovecot, &exim, to, 30, Some("INBOX"));
        assert!(well && said.contains(&format!("SEND   to {to}  ok: the server took the message")), "{said}");
        assert!(said.contains("it was in INBOX of"), "{said}");
        println!("{said}");
    }
    // The provider takes it for unwanted mail: that is told, too.
    dovecot.client_as("bob").cmd_ok("CREATE Junk");
    let (well, said) = send_test(&dovecot, &exim, "bob@example.org", 30, Some("Junk"));
    assert!(well && said.contains("it was in Junk of bob@example.org"), "{said}");
    // It never comes.
    let (well, said) = send_test(&dovecot, &exim, "bob@example.org", 2, None);
    assert!(!well && said.contains("FAILED: sent, and not arrived") && said.contains("within 2 s"), "{said}");
    assert!(said.contains("--send-wait gives it longer"), "{said}");
    // Somebody else's mailbox is nobody's to look into.
    let (well, said) = send_test(&dovecot, &exim, "carl@example.net", 30, None);
    assert!(well && said.contains("carl@example.net is no account of this configuration"), "{said}");
    let sent = exim.sent().len();
    let (well, said) = send_test(&dovecot, &exim, "nobody@example.net", 30, None);
    assert!(!well && said.contains("no such user") && said.contains("There is no such recipient"), "{said}");
    assert_eq!(exim.sent().len(), sent);
    let (well, said) = send_test(&dovecot, &exim, "x> SIZE=1", 30, None);
    assert!(!well && said.contains("it is not an e-mail address"), "{said}");
}
