//! Sending with a token: Dovecot's submission service with its own oauth2 passdb as the provider, an Exim behind it that shows what went out.

use std::net::{SocketAddr, TcpStream};

use super::LONG;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::exim::Exim;
use crate::harness::oauth::{AuthServer, Browser, Login};
use crate::harness::relay::{Fault, Link, Relay};
use crate::harness::smtp::Smtp;
use crate::harness::{ADDRESS, UPSTREAM_USER, free_port, straight_run, wait_for};

struct Post {
    // The daemon is dropped first, then what it talks to.
    daemon: Daemon,
    submission: SocketAddr,
    way_out: Relay,
    tokens: Relay,
    dovecot: Dovecot,
    exim: Exim,
    auth: AuthServer,
}

impl Post {
    /// `user`: whom the server for sending is told.
    fn new(seconds: u32, bearer_only: bool, user: &str) -> Option<Self> {
        if straight_run() {
            return None;
        }
        let (auth, exim) = (AuthServer::start(seconds), Exim::start());
        let (introspection, relay) = (Some(auth.introspection_url()), Some(exim.inside));
        let dovecot = Dovecot::with(Options { introspection, relay, bearer_only, ..Options::default() });
        let (way_out, tokens) = (Relay::to(dovecot.submission, Link::default()), Relay::to(auth.addr, Link::default()));
        let port = way_out.addr.port();
        let smtp = format!("host = \"localhost\"\nport = {port}\ntls = \"none\"\nusername = \"{user}\"");
        let account = Account { pop3: auth.settings(tokens.addr), smtp, ..Account::at(dovecot.imap) };
        let submission = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut setup = Setup::new(account);
        setup.listen_more = format!("submission = [\"{submission}\"]\n");
        let daemon = Daemon::start(setup);
        Some(Self { daemon, submission, way_out, tokens, dovecot, exim, auth })
    }

    /// The consent; what the program said of it.
    fn log_in(&self) -> String {
        let browser = Browser::new();
        let mut login = Login::start(&self.daemon.config_file(), ADDRESS, &["--no-browser"]);
        let page = browser.open(&login.line("http://"), &[]);
        browser.consent(page, UPSTREAM_USER);
        let (done, said) = login.end();
        assert!(done, "{said}");
        wait_for("the daemon to take the consent over", || !self.needs_login());
        said
    }

    fn needs_login(&self) -> bool {
        self.daemon.metric("mailweir_needs_login", &[]) == 1.0
    }

    fn login(&self) -> Smtp {
        let mut client = Smtp::greeted(TcpStream::connect(self.submission).expect("the submission listener"));
        client.ehlo();
        client.says("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBsb2NhbC1zZWNyZXQ=", "235");
        client
    }

    /// Sends a message that must be taken, and waits until it is there.
    fn send(&self, subject: &str) {
        let before = self.exim.sent().len();
        let message = format!("Subject: {subject}\r\n\r\n{subject}\r\n");
        self.login().send(ADDRESS, &["bob@example.net"], &message);
        assert_eq!(self.exim.wait_sent(before + 1).len(), before + 1);
        let sent = self.exim.sent();
        assert!(sent.iter().any(|sent| sent == message.as_bytes()), "{subject}");
    }

    /// How often Dovecot has let somebody in for sending by this mechanism.
    fn logins(&self, mechanism: &str) -> usize {
        let log = self.dovecot.log();
        let is_one = |line: &&str| {
            line.contains("submission-login: Info: Login:") && line.contains(&format!("method={mechanism}"))
        };
        log.lines().filter(is_one).count()
    }
}

fn a_message_goes_and_a_token_that_has_ended_is_replaced(bearer_only: bool, mechanism: &str) {
    let Some(mut post) = Post::new(LONG, bearer_only, UPSTREAM_USER) else { return };
    let said = post.log_in();
    assert!(said.contains("Sending by localhost:") && said.contains("it takes the login"), "{said}");
    post.send("first");
    // One of the command, one of the daemon.
    let logins = post.logins(mechanism);
    assert!(logins >= 2, "{}", post.dovecot.log());
    // The token ends before its time, and the session that is kept goes with it: the next message is refused a login, the error in the
    // challenge read, a fresh token had; the mail program hears of nothing.
    for round in ["second", "third"] {
        let given = post.auth.tokens().len();
        post.auth.expire();
        post.way_out.cut();
        post.send(round);
        assert!(post.auth.tokens().len() > given, "a fresh token");
    }
    assert_eq!(post.logins(mechanism), logins + 2);
    assert!(!post.needs_login());
    assert!(!post.daemon.server().printed().contains("refuses the login"), "{}", post.daemon.server().printed());
}

#[test]
fn by_xoauth2() {
    a_message_goes_and_a_token_that_has_ended_is_replaced(false, "XOAUTH2");
}

#[test]
fn by_oauthbearer() {
    a_message_goes_and_a_token_that_has_ended_is_replaced(true, "OAUTHBEARER");
}

/// Tokens of seconds, refreshed ahead: sending never meets one that has ended.
#[test]
fn by_tokens_of_seconds() {
    let Some(mut post) = Post::new(8, false, UPSTREAM_USER) else { return };
    post.log_in();
    for round in 0..3 {
        let before = post.auth.tokens().len();
        wait_for("a new token", || post.auth.tokens().len() > before);
        post.way_out.cut();
        post.send(&format!("round {round}"));
    }
    assert!(
        !post.dovecot.log().contains("submission-login: Info: Disconnected: Auth failed"),
        "{}",
        post.dovecot.log()
    );
}

/// A token of another user's is refused though it is fresh: what the challenge told is in the words, and the server is not hammered.
#[test]
fn what_the_challenge_tells_is_told() {
    for bearer_only in [false, true] {
        let Some(post) = Post::new(LONG, bearer_only, "bob") else { return };
        let said = post.log_in();
        assert!(said.contains("SENDING DOES NOT WORK YET") && said.contains("status \""), "{said}");
        // One more than the IMAP login that found nobody's consent.
        let refused = || post.daemon.metric("mailweir_upstream_logins_total", &["refused"]);
        let before = refused();
        for _ in 0..2 {
            let answer = post.login().ask("MAIL FROM:<ann@example.org>");
            assert!(answer.starts_with("454 4.7.0") && answer.contains("(status \""), "{answer}");
        }
        assert!((refused() - before - 1.0).abs() < f64::EPSILON, "{} logins", refused());
        assert_eq!(post.exim.taken(), 0);
    }
}

/// A consent that is taken back, and a token endpoint that is away: what the mail program is told, and that it goes on by itself.
#[test]
fn a_lost_consent_and_an_endpoint_away_keep_the_message_with_the_program() {
    let Some(mut post) = Post::new(8, false, UPSTREAM_USER) else { return };
    post.log_in();
    post.send("first");
    post.auth.revoke();
    wait_for("the loss of the consent", || post.needs_login());
    post.way_out.cut();
    let answer = post.login().ask("MAIL FROM:<ann@example.org>");
    assert!(answer.starts_with("451 ") && answer.contains("account login"), "{answer}");
    post.log_in();
    post.send("after the new consent");

    post.tokens.set(Fault::Refuse);
    post.tokens.cut();
    wait_for("the daemon to notice", || post.daemon.server().errors().contains("no access token now"));
    post.auth.expire();
    let mut answer = String::new();
    wait_for("the token's end", || {
        post.way_out.cut();
        answer = post.login().ask("MAIL FROM:<ann@example.org>");
        answer.starts_with("451 ")
    });
    assert!(!answer.contains("account login"), "{answer}");
    post.tokens.set(Fault::None);
    wait_for("the daemon to get a token again", || post.login().ask("MAIL FROM:<ann@example.org>").starts_with("250"));
    post.send("when it is back");
    assert!(!post.needs_login());
}
