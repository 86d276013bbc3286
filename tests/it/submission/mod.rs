//! Sending through the daemon, with the programs people send with, to an Exim set up as a provider would be, and to Dovecot's submission
//! service before it.

mod access;
mod faults;
mod gmail;
mod limits;
mod outbox;
mod programs;

use std::net::{SocketAddr, TcpStream};

use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::exim::Exim;
use crate::harness::relay::{Link, Relay};
use crate::harness::smtp::Smtp;
use crate::harness::{UPSTREAM_PASSWORD, UPSTREAM_USER, free_port};

/// A provider, a relay before its server for sending, and the daemon.
struct Post {
    // The daemon is dropped first.
    daemon: Daemon,
    relay: Relay,
    exim: Exim,
    _dovecot: Dovecot,
    submission: SocketAddr,
    submissions: SocketAddr,
    /// The daemon talks to Exim itself: it refuses recipients and speaks SMTPUTF8, which Dovecot's service before it does not.
    is_exim: bool,
}

impl Post {
    fn start() -> Self {
        Self::with("none", |_| {})
    }

    /// Dovecot's submission service as the provider, and Exim behind it.
    fn through_dovecot() -> Self {
        let exim = Exim::start();
        let dovecot = Dovecot::with(Options { relay: Some(exim.inside), ..Default::default() });
        let relay = Relay::to(dovecot.submission, Link::default());
        let lines = format!("host = \"localhost\"\nport = {}\ntls = \"none\"", relay.addr.port());
        Self { is_exim: false, ..Self::behind(exim, dovecot, relay, lines, |_| {}) }
    }

    /// With `tls` between daemon and provider, and a changed set-up.
    fn with(tls: &str, change: impl FnOnce(&mut Setup)) -> Self {
        let (exim, dovecot) = (Exim::start(), Dovecot::start());
        let relay = Relay::to(if tls == "implicit" { exim.smtps } else { exim.smtp }, Link::default());
        let lines = format!(
            "host = \"localhost\"\nport = {}\ntls = \"{tls}\"\nca_file = \"{}\"\nusername = \"{UPSTREAM_USER}\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}",
            relay.addr.port(),
            exim.ca_file().display()
        );
        Self::behind(exim, dovecot, relay, lines, change)
    }

    fn behind(exim: Exim, dovecot: Dovecot, relay: Relay, lines: String, change: impl FnOnce(&mut Setup)) -> Self {
        let more = "aliases = [\"ann.smith@example.org\", \"\u{e4}nn@example.org\"]".to_owned();
        let mut setup = Setup::new(Account { smtp: lines, more, ..Account::at(dovecot.imap) });
        let [submission, submissions] = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        setup.listen_more = format!("submission = [\"{submission}\"]\nsubmissions = [\"{submissions}\"]\n");
        change(&mut setup);
        let daemon = Daemon::start(setup);
        Self { daemon, relay, exim, _dovecot: dovecot, submission, submissions, is_exim: true }
    }

    /// A connection, its greeting read.
    fn connect(&self) -> Smtp {
        let tcp = TcpStream::connect(self.submission).expect("the submission listener");
        Smtp::greeted(tcp)
    }

    /// The same, logged in.
    fn login(&self) -> Smtp {
        let mut client = self.connect();
        client.ehlo();
        client.says("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBsb2NhbC1zZWNyZXQ=", "235");
        client
    }
}

/// An account without a server for sending, and one that is not reached.
#[test]
fn what_cannot_be_sent_is_said_plainly() {
    let post = Post::with("none", |setup| setup.accounts[0].smtp = String::new());
    let mut client = post.connect();
    client.ehlo();
    let answer = client.ask("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBsb2NhbC1zZWNyZXQ=");
    assert!(answer.starts_with("454 4.7.0") && answer.contains("[account.smtp]"), "{answer}");

    let port = free_port();
    let post = Post::with("none", |setup| {
        setup.accounts[0].smtp = format!("host = \"localhost\"\nport = {port}\ntls = \"none\"");
    });
    let answer = post.login().ask("MAIL FROM:<ann@example.org>");
    assert!(answer.starts_with("451 4.4.1") && answer.contains(&port.to_string()), "{answer}");
    // Reading goes on.
    post.daemon.client().cmd_ok("SELECT INBOX");
}

/// A password the provider does not take: the client keeps its message and is not asked for its own password, and the provider is
/// not asked again and again.
#[test]
fn a_refused_login_is_explained_and_not_hammered() {
    let post = Post::with("none", |setup| {
        let smtp = &mut setup.accounts[0].smtp;
        *smtp = smtp.replace(UPSTREAM_PASSWORD, "wrong");
    });
    for _ in 0..3 {
        let answer = post.login().ask("MAIL FROM:<ann@example.org>");
        assert!(answer.starts_with("454 4.7.0") && answer.contains("password of [account.smtp]"), "{answer}");
    }
    let refused = post.daemon.metric("mailweir_upstream_logins_total", &["refused"]);
    assert!((refused - 1.0).abs() < f64::EPSILON, "{refused} logins");
    let log = post.daemon.server().errors();
    assert!(!log.contains("wrong\n") && !log.contains("d3Jvbmc"), "no password in the log");
}

/// One session at the provider serves many messages, and what it can is what the client is offered.
#[test]
fn sessions_are_used_again() {
    let post = Post::start();
    for n in 0..5 {
        let mut client = post.login();
        client.send("ann@example.org", &["bob@example.net"], &format!("Subject: {n}\r\n\r\n{n}\r\n"));
        client.says("QUIT", "221");
    }
    post.exim.wait_sent(5);
    // One that asked what it can, one that sent.
    assert_eq!(post.relay.accepted(), 2);
    let offered = post.connect().ehlo();
    for keyword in
        ["SIZE 41943040", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "PIPELINING", "STARTTLS", "AUTH PLAIN LOGIN"]
    {
        assert!(offered.iter().any(|line| line == keyword), "{keyword}: {offered:?}");
    }
    let sent = post.daemon.metric("mailweir_messages_sent_total", &["ok"]);
    assert!((sent - 5.0).abs() < f64::EPSILON, "{sent}");
    let used = post.daemon.metric("mailweir_budget_used_bytes", &["upload"]);
    assert!(used > 0.0, "what is sent is counted");
}

/// The relay counts what the provider heard: a client of [`Client`] is not needed here, but that it reads on is.
#[test]
fn reading_and_sending_share_the_account() {
    let post = Post::start();
    let mut reader: Client = post.daemon.client();
    reader.cmd_ok("SELECT INBOX");
    post.login().send("ann@example.org", &["bob@example.net"], "Subject: x\r\n\r\nx\r\n");
    reader.cmd_ok("NOOP");
    post.exim.wait_sent(1);
}
