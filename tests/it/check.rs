//! `mailweir check`: what keeps an account from its provider, told with what mends it. Dovecot where it can show the fault, a scripted
//! refusal in the provider's own words where only the provider can.

mod send;
mod smtp;
mod tls;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::harness::daemon::PROGRAM;
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::search::Searched as _;
use crate::harness::{UPSTREAM_PASSWORD, free_port, scratch, straight_run};

/// What `mailweir check` says of an account with these lines under `[account.imap]`, and whether all was well.
fn check(dir: &Path, imap: &str) -> (bool, String) {
    let config = dir.join("mailweir.toml");
    let text = format!(
        "data_dir = \"data\"\n[listen]\nimap = [\"127.0.0.1:0\"]\n[[account]]\naddress = \"ann@example.org\"\npassword = {{ plain = \"x\" }}\n\
         [account.imap]\n{imap}\n"
    );
    std::fs::write(&config, text).unwrap();
    let out = Command::new(PROGRAM).args(["check", "--config"]).arg(&config).output_searched().expect("mailweir");
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(!said.contains(UPSTREAM_PASSWORD), "{said}");
    (out.status.success(), said)
}

fn told(dir: &Path, imap: &str, what: &str, mend: &str) {
    let (well, said) = check(dir, imap);
    assert!(!well && said.contains(&format!("FAILED: {what}")), "wanted {what}\n{said}");
    let line = said.lines().find(|line| line.trim_start().starts_with("mend ")).unwrap_or_default();
    assert!(line.contains(mend), "wanted {mend}\n{said}");
}

#[test]
fn faults_dovecot_can_show_are_told_with_their_mend() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let dir = scratch("check");
    let (imap, imaps) = (dovecot.imap.port(), dovecot.imaps.port());
    let user = format!("username = \"ann\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}");
    let at = |port: u16, tls: &str| format!("host = \"localhost\"\nport = {port}\ntls = \"{tls}\"\n{user}");
    let ca = format!("ca_file = \"{}\"", dovecot.ca_file().display());
    let (well, said) = check(dir.path(), &format!("{}\n{ca}", at(imaps, "implicit")));
    assert!(well && said.contains("ok: it takes the login"), "{said}");
    told(dir.path(), &at(imaps, "implicit"), "certificate not trusted", "ca_file");
    told(dir.path(), &at(imap, "implicit"), "wrong port for the TLS mode", "starttls");
    told(dir.path(), &at(free_port(), "none"), "server not reached", "`port`");
    let wrong = at(imap, "none").replace(UPSTREAM_PASSWORD, "wrong");
    told(dir.path(), &wrong, "user name or password refused", "application password");
}

/// Room for one message, and one is there.
#[test]
fn a_full_mailbox_is_told_before_mail_is_turned_away() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::with(Options { one_message: true, ..Options::default() });
    let dir = scratch("check");
    let lines = format!(
        "host = \"localhost\"\nport = {}\ntls = \"none\"\nusername = \"ann\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}",
        dovecot.imap.port()
    );
    let (well, said) = check(dir.path(), &lines);
    assert!(well, "{said}");
    dovecot.client().append("INBOX", "", b"Subject: the last\r\n\r\nthe last\r\n");
    told(dir.path(), &lines, "mailbox full", "Delete or move mail");
}

#[test]
fn refusals_in_providers_own_words_are_told_with_their_mend() {
    if straight_run() {
        return;
    }
    let table = [
        (
            "NO [ALERT] Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)",
            "application password needed",
            "security settings",
        ),
        (
            "NO [AUTHENTICATIONFAILED] NEOBHODIM parol prilozheniya https://help.mail.ru/x / Application password is REQUIRED",
            "application password needed",
            "security settings",
        ),
        ("NO IMAP access is disabled for your account", "IMAP switched off", "web settings"),
        ("NO Basic authentication is disabled.", "passwords are not taken any more", "account login ann@example.org"),
        (
            "NO [ALERT] Please log in via your web browser: https://support.google.com/mail/accounts/answer/78754 (Failure)",
            "login by browser wanted",
            "web mail",
        ),
        ("NO Account is disabled", "account disabled", "Ask the provider"),
        ("NO [ALERT] Too many simultaneous connections. (Failure)", "too many connections", "limits.connections"),
        (
            "NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)",
            "limit of the day reached",
            "24 hours",
        ),
        ("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)", "user name or password refused", "Check both"),
        (
            "NO [AUTHENTICATIONFAILED] LOGIN invalid credentials or IMAP is disabled sc=1",
            "password refused, or IMAP switched off",
            "Switch IMAP on",
        ),
    ];
    let dir = scratch("check");
    for (words, what, mend) in table {
        let port = refusing(words).port();
        let imap = format!(
            "host = \"localhost\"\nport = {port}\ntls = \"none\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}"
        );
        told(dir.path(), &imap, what, mend);
    }
}

/// A server that greets, and refuses every login in these words.
fn refusing(words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut tcp, _)) = listener.accept() {
            let mut lines = BufReader::new(tcp.try_clone().unwrap()).lines();
            let mut say = |text: String| tcp.write_all(text.as_bytes()).is_ok();
            let mut goes_on = say("* OK [CAPABILITY IMAP4rev1] hi\r\n".into());
            while goes_on && let Some(Ok(line)) = lines.next() {
                let tag = line.split(' ').next().unwrap_or_default().to_owned();
                goes_on = say(format!("{tag} {words}\r\n"));
            }
        }
    });
    addr
}
