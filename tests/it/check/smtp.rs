//! The server for sending refuses a login or a message: Exim where it can show it, a scripted refusal in the provider's own words else.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use super::told;
use crate::harness::daemon::PROGRAM;
use crate::harness::dovecot::Dovecot;
use crate::harness::exim::Exim;
use crate::harness::search::Searched as _;
use crate::harness::{UPSTREAM_PASSWORD, free_port, scratch, straight_run};

/// Reading goes well; sending is at `port`.
fn account(dovecot: &Dovecot, smtp: &str) -> String {
    format!(
        "host = \"localhost\"\nport = {}\ntls = \"none\"\nusername = \"ann\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}\n[account.smtp]\nhost = \"localhost\"\n{smtp}",
        dovecot.imap.port()
    )
}

#[test]
fn faults_exim_can_show_are_told_with_their_mend() {
    if straight_run() {
        return;
    }
    let (dovecot, exim) = (Dovecot::start(), Exim::start());
    let dir = scratch("check");
    let at = |port: u16, more: &str| account(&dovecot, &format!("port = {port}\ntls = \"none\"\n{more}"));
    let (well, said) = super::check(dir.path(), &at(exim.smtp.port(), ""));
    assert!(well && said.matches("ok: it takes the login").count() == 2, "{said}");
    let wrong = at(exim.smtp.port(), "password = { plain = \"wrong\" }");
    told(dir.path(), &wrong, "user name or password refused", "application password");
    told(dir.path(), &at(free_port(), ""), "server not reached", "`port`");
}

/// Every refusal of a login in the table, as providers word it for sending.
#[test]
fn refused_logins_in_providers_own_words_are_told_with_their_mend() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let table = [
        (
            Step::Auth,
            "534-5.7.9 Application-specific password required. For more information, go to\r\n534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor",
            "application password needed",
            "security settings",
        ),
        (
            Step::Auth,
            "535 5.7.0 NEOBHODIM parol prilozheniya https://help.mail.ru/x / Application password is REQUIRED",
            "application password needed",
            "security settings",
        ),
        (
            Step::Auth,
            "535 5.7.8 Error: authentication failed: This user does not have access rights to this service",
            "access by mail programs switched off",
            "web settings",
        ),
        (
            Step::Auth,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information.",
            "sending switched off",
            "administrator",
        ),
        (
            Step::Auth,
            "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
            "passwords are not taken any more",
            "account login ann@example.org",
        ),
        (
            Step::Auth,
            "534-5.7.14 <https://accounts.google.com/signin/continue?sarp=1> Please log in via your web browser and\r\n534-5.7.14 then try again.\r\n534 5.7.14  https://support.google.com/mail/answer/78754",
            "login by browser wanted",
            "web mail",
        ),
        (Step::Auth, "535 5.7.1 Account disabled", "account disabled", "Ask the provider"),
        (
            Step::Auth,
            "535-5.7.8 Username and Password not accepted.\r\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials",
            "user name or password refused",
            "Check both",
        ),
        (
            Step::Greeting,
            "421 4.7.0 Too many concurrent SMTP connections; please try again later.",
            "too many connections",
            "limits.connections",
        ),
    ];
    let dir = scratch("check");
    for (step, words, what, mend) in table {
        let port = refusing(step, words).port();
        told(dir.path(), &account(&dovecot, &format!("port = {port}\ntls = \"none\"")), what, mend);
    }
}

/// What is refused only when a message is sent.
#[test]
fn refused_messages_are_told_with_their_mend() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let table = [
        (
            Step::Rcpt,
            "452 4.2.2 The recipient's inbox is out of storage space and over quota.",
            "mailbox of the recipient full",
            "make room",
        ),
        (Step::Data, "552 5.2.2 Mailbox full", "mailbox of the recipient full", "make room"),
        (Step::Mail, "550 5.7.1 message sending for this account is disabled", "account disabled", "Ask the provider"),
    ];
    let dir = scratch("check");
    for (step, words, what, mend) in table {
        let port = refusing(step, words).port();
        let lines = account(&dovecot, &format!("port = {port}\ntls = \"none\""));
        let (well, said) = super::check(dir.path(), &lines);
        assert!(well, "{said}");
        let config = dir.path().join("mailweir.toml");
        let out = Command::new(PROGRAM)
            .args(["check", "--send-test", "bob@example.net", "--config"])
            .arg(&config)
            .output_searched()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success() && said.contains(&format!("FAILED: {what}")), "wanted {what}\n{said}");
        let line = said.lines().find(|line| line.trim_start().starts_with("mend ")).unwrap_or_default();
        assert!(line.contains(mend), "wanted {mend}\n{said}");
    }
}

/// Where the server says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Greeting,
    Auth,
    Mail,
    Rcpt,
    Data,
    Never,
}

/// A server that takes everything but one step, which it refuses in these words.
pub(super) fn refusing(step: Step, words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut tcp, _)) = listener.accept() {
            let mut lines = BufReader::new(tcp.try_clone().unwrap()).lines();
            let mut say = |at: Step, text: &str| {
                tcp.write_all(format!("{}\r\n", if at == step { words } else { text }).as_bytes()).is_ok()
            };
            let mut goes_on = say(Step::Greeting, "220 provider.test ESMTP");
            while goes_on && let Some(Ok(line)) = lines.next() {
                goes_on = match line.split(' ').next().unwrap_or_default() {
                    "EHLO" => say(Step::Never, "250-provider.test\r\n250-AUTH PLAIN LOGIN XOAUTH2\r\n250 SIZE 1000000"),
                    "AUTH" => say(Step::Auth, "235 2.7.0 Accepted"),
                    "MAIL" => say(Step::Mail, "250 2.1.0 OK"),
                    "RCPT" => say(Step::Rcpt, "250 2.1.5 OK"),
                    "DATA" => {
                        let asked = say(Step::Never, "354 go on");
                        let ended = lines.by_ref().map_while(Result::ok).any(|line| line == ".");
                        asked && ended && say(Step::Data, "250 2.0.0 OK queued")
                    }
                    "QUIT" => false,
                    _ => say(Step::Never, "250 2.0.0 OK"),
                };
            }
        }
    });
    addr
}
