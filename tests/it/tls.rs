//! TLS on both legs: the local CA and leaf, STARTTLS without a gap, and what we ask of the upstream.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;

use crate::harness::answer::Status;
use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::Dovecot;
use crate::harness::exim::Exim;
use crate::harness::smtp::Smtp;
use crate::harness::world::{Kind, World};
use crate::harness::{ADDRESS, LOCAL_PASSWORD, UPSTREAM_PASSWORD, UPSTREAM_USER, ca, free_port, scratch, straight_run};

#[test]
fn the_local_ca_signs_for_the_names_asked() {
    let mut world = World::new(Kind::Dovecot, |_| {});
    if world.is_straight() {
        return;
    }
    let (imaps, ca_file) = (world.daemon().imaps, world.daemon().ca_file());
    for name in ["localhost", "127.0.0.1"] {
        let mut c = Client::try_connect_tls(imaps, ca::trusting(&ca_file), name).expect(name);
        c.cmd_ok("NOOP");
    }
    let wrong = Client::try_connect_tls(imaps, ca::trusting(&ca_file), "mail.example.org");
    assert!(wrong.err().expect("another name").to_string().to_lowercase().contains("certificate"));
    let dir = ca_file.parent().unwrap();
    for (file, mode) in [("ca.key", 0o600), ("server.key", 0o600)] {
        let found = std::fs::metadata(dir.join(file)).expect(file).permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
    assert!(dir.join("server.pem").exists());
    // The CA is made once: a client that trusts it goes on doing so.
    let before = std::fs::read(&ca_file).unwrap();
    world.daemon_mut().stop();
    world.daemon_mut().restart();
    assert_eq!(std::fs::read(&ca_file).unwrap(), before);
    Client::connect_tls(imaps, &ca_file).login(ADDRESS, LOCAL_PASSWORD).cmd_ok("NOOP");
}

/// What is sent in clear behind STARTTLS must not be taken for the client's words inside TLS.
#[test]
fn bytes_before_the_handshake_are_dropped() {
    let world = World::new(Kind::Dovecot, |_| {});
    let endpoint = world.endpoint();
    let mut c = world.connection();
    c.raw(b"a STARTTLS\r\nb LOGIN injected injected\r\nc CAPABILITY\r\n").s("a OK<*>");
    // Either the connection ends, or the server waits for a handshake: nothing of what was injected is answered.
    c.set_timeout(std::time::Duration::from_millis(100));
    if let Ok(line) = c.try_line() {
        panic!("answered in clear: {:?}", String::from_utf8_lossy(&line));
    }
    let mut c = world.connection();
    c.starttls(&endpoint.ca_file);
    assert_eq!(c.cmd("STARTTLS").status, Status::Bad, "a second STARTTLS");
    let said = c.cmd_ok("CAPABILITY").lines().join(" ");
    assert!(!said.contains("STARTTLS") && !said.contains("LOGINDISABLED"), "{said}");
    c.login(endpoint.user, endpoint.password).cmd_ok("SELECT INBOX");
}

#[test]
fn upstream_by_starttls_and_implicit_tls() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    dovecot.client().append("INBOX", "", b"Subject: a\r\n\r\na\r\n");
    for (tls, upstream) in [("starttls", dovecot.imap), ("implicit", dovecot.imaps)] {
        let account = Account { tls, ca_file: Some(dovecot.ca_file().to_owned()), ..Account::at(upstream) };
        let daemon = Daemon::start(Setup::new(account));
        assert_eq!(daemon.client().cmd_ok("SELECT INBOX").count("EXISTS"), Some(1), "{tls}");
        assert_eq!(daemon.http_get("/readyz").0, 200, "{tls}");
    }
    let log = dovecot.log();
    assert!(log.lines().filter(|l| l.contains("Login: user=<ann>") && l.contains("TLS")).count() >= 2, "{log}");
}

/// An upstream whose certificate we do not know: no password is sent, and the client hears why.
#[test]
fn an_unknown_upstream_certificate_is_refused() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let other = scratch("other-ca");
    let stranger = ca::TestCa::make(other.path());
    for (tls, upstream) in [("implicit", dovecot.imaps), ("starttls", dovecot.imap)] {
        let account = Account { tls, ca_file: Some(stranger.ca_file.clone()), ..Account::at(upstream) };
        let daemon = Daemon::start(Setup::new(account));
        let answer = daemon.client().cmd("SELECT INBOX");
        assert_eq!(answer.status, Status::No);
        assert!(answer.text.starts_with("[UNAVAILABLE]"), "{}", answer.text);
        let reason = daemon.http_get("/readyz");
        assert_eq!(reason.0, 503);
        assert!(reason.1.to_lowercase().contains("certificate"), "the reason in plain words: {}", reason.1);
    }
    assert!(!dovecot.log().contains("Login: user=<ann>"), "a login reached the server");
}

/// Only where the account asks for it, and said loudly at every start.
#[test]
fn a_certificate_that_is_not_verified() {
    if straight_run() {
        return;
    }
    let (dovecot, exim) = (Dovecot::start(), Exim::start());
    for (tls, imap, smtp) in [("implicit", dovecot.imaps, exim.smtps), ("starttls", dovecot.imap, exim.smtp)] {
        let lines = |verify: &str| {
            format!(
                "host = \"localhost\"\nport = {}\ntls = \"{tls}\"\nusername = \"{UPSTREAM_USER}\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}\n{verify}",
                smtp.port()
            )
        };
        let submission = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let account = Account { tls, verify: false, smtp: lines("verify = false"), ..Account::at(imap) };
        let mut daemon =
            Daemon::start(Setup { listen_more: format!("submission = [\"{submission}\"]\n"), ..Setup::new(account) });
        for start in 1..=2 {
            daemon.client().cmd_ok("SELECT INBOX");
            let before = exim.taken();
            let mut client = Smtp::greeted(TcpStream::connect(submission).unwrap());
            client.ehlo();
            client.says("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBsb2NhbC1zZWNyZXQ=", "235");
            client.send(ADDRESS, &["bob@example.net"], "Subject: x\r\n\r\nx\r\n");
            assert_eq!(exim.taken(), before + 1);
            for what in ["PROVIDER IS NOT VERIFIED", "SERVER FOR SENDING IS NOT VERIFIED"] {
                assert!(daemon.server().errors().contains(what), "{tls}, start {start}: {what}");
            }
            daemon.stop();
            daemon.restart();
        }
    }
}
