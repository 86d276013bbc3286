//! What keeps a connection from being encrypted, for both protocols: shown by real servers (Dovecot, Exim, and `openssl s_server` with
//! certificates that are made for the purpose).

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use super::check;
use crate::harness::dovecot::Dovecot;
use crate::harness::exim::Exim;
use crate::harness::process::Server;
use crate::harness::{UPSTREAM_PASSWORD, accepts, free_port, scratch, straight_run, wait_for};

/// An account at two servers, both on this computer.
fn account(imap: (u16, &str), smtp: (u16, &str), ca_file: Option<&Path>) -> String {
    let ca = ca_file.map(|file| format!("ca_file = \"{}\"\n", file.display())).unwrap_or_default();
    let server = |(port, tls): (u16, &str)| {
        format!("host = \"localhost\"\nport = {port}\ntls = \"{tls}\"\nusername = \"ann\"\n{ca}")
    };
    let password = format!("password = {{ plain = \"{UPSTREAM_PASSWORD}\" }}\n");
    format!("{}{password}[account.smtp]\n{}", server(imap), server(smtp))
}

/// Both servers fail, and both say `what` and how to mend it.
fn both_told(account: &str, what: &str, mend: &str) {
    let dir = scratch("check");
    let (well, said) = check(dir.path(), account);
    let failed = said.matches(&format!("FAILED: {what}\n")).count();
    let mended = said.lines().filter(|line| line.trim_start().starts_with("mend ") && line.contains(mend)).count();
    assert!(!well && (failed, mended) == (2, 2), "wanted {what}: {mend}\n{said}");
    println!("{said}");
}

#[test]
fn a_certificate_of_an_authority_nobody_knows() {
    if straight_run() {
        return;
    }
    let (dovecot, exim) = (Dovecot::start(), Exim::start());
    let (imap, smtp) = (dovecot.imap.port(), exim.smtp.port());
    both_told(
        &account((dovecot.imaps.port(), "implicit"), (exim.smtps.port(), "implicit"), None),
        "certificate not trusted",
        "`ca_file`",
    );
    both_told(&account((imap, "starttls"), (smtp, "starttls"), None), "certificate not trusted", "`ca_file`");
    both_told(&account((imap, "implicit"), (smtp, "implicit"), None), "wrong port for the TLS mode", "143 and 587");
}

/// Ports where TLS is from the first byte on, told to greet: both servers wait for us to begin.
#[test]
fn ports_that_wait_for_tls_are_told_as_such() {
    if straight_run() {
        return;
    }
    let (dovecot, exim) = (Dovecot::start(), Exim::start());
    let ports = (dovecot.imaps.port(), exim.smtps.port());
    // Half a minute each, side by side.
    std::thread::scope(|scope| {
        for tls in ["starttls", "none"] {
            scope.spawn(move || {
                both_told(&account((ports.0, tls), (ports.1, tls), None), "wrong port for the TLS mode", "993 and 465");
            });
        }
    });
}

/// A server without STARTTLS, told to use it.
#[test]
fn a_server_without_starttls_is_given_no_password() {
    if straight_run() {
        return;
    }
    let imap = super::refusing("OK").port();
    let smtp = super::smtp::refusing(super::smtp::Step::Never, "").port();
    both_told(&account((imap, "starttls"), (smtp, "starttls"), None), "wrong port for the TLS mode", "993 and 465");
}

#[test]
fn certificates_of_other_times_and_names() {
    if straight_run() {
        return;
    }
    let home = scratch("certificates");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.distinguished_name.push(rcgen::DnType::CommonName, "mailweir tests: an authority");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, issuer.pem()).unwrap();
    let serving = |file: &str, name: &str, from: i32, to: i32| {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (leaf.not_before, leaf.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let cert = leaf.signed_by(&key, &issuer).unwrap();
        let (cert_file, key_file) = (home.path().join(format!("{file}.pem")), home.path().join(format!("{file}.key")));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        s_server(home.path(), &cert_file, &key_file)
    };
    for (file, name, from, to, what, mend) in [
        ("future", "localhost", 2090, 2091, "clock wrong", "Set the clock of this computer"),
        ("past", "localhost", 2001, 2002, "certificate expired, or clock wrong", "Look at the clock"),
        ("other", "other.example", 2020, 2090, "certificate of another name", "Write `host`"),
    ] {
        let (_server, port) = serving(file, name, from, to);
        both_told(&account((port, "implicit"), (port, "implicit"), Some(&ca)), what, mend);
    }
}

/// A TLS server with this certificate; what it speaks does not matter here.
fn s_server(home: &Path, cert: &Path, key: &Path) -> (Server, u16) {
    let port = free_port();
    let accept = format!("127.0.0.1:{port}");
    let args =
        ["s_server", "-quiet", "-accept", &accept, "-cert", cert.to_str().unwrap(), "-key", key.to_str().unwrap()];
    let server = Server::start(Path::new("/usr/bin/openssl"), &args, &[], home, &[]);
    wait_for("openssl s_server", || accepts(([127, 0, 0, 1], port).into()));
    (server, port)
}
