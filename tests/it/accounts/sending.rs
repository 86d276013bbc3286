//! `account add` finds the server for sending, too, logs in there, and says how it went; what it prints is what mail programs ask for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use super::{mailweir, name_server, password, private, said};
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::Dovecot;
use crate::harness::exim::Exim;
use crate::harness::oauth::Login;
use crate::harness::smtp::Smtp;
use crate::harness::{UPSTREAM_PASSWORD, UPSTREAM_USER, free_port, scratch, straight_run, wait_for};

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn the_server_for_sending_is_logged_in_to_and_sends() {
    if straight_run() {
        return;
    }
    let (dovecot, exim) = (Dovecot::start(), Exim::start());
    let submission = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut setup = Setup::new(Account::of("bob", dovecot.imap));
    setup.listen_more = format!("submission = [\"{submission}\"]\n");
    let daemon = Daemon::start(setup);
    let (config, home) = (daemon.config_file(), scratch("accounts"));
    let before = std::fs::read_to_string(&config).unwrap();
    let file = home.path().join("password");
    private(&file, UPSTREAM_PASSWORD);
    let (imap, file) = (format!("localhost:{}", dovecot.imap.port()), file.to_str().unwrap());
    let add = |smtp: &str| {
        let who = ["account", "add", "ann@example.org", "--non-interactive", "--username", UPSTREAM_USER];
        let at = ["--imap", &imap, "--imap-tls", "none", "--smtp", smtp, "--smtp-tls", "none"];
        mailweir(&config, &[&who[..], &at, &["--upstream-password-file", file]].concat())
    };
    // What a flag says is wrong is not written.
    let nowhere = format!("localhost:{}", free_port());
    let out = add(&nowhere);
    let words = said(&out);
    assert!(out.status.code() == Some(1) && words.contains("SENDING DOES NOT WORK YET by localhost:"), "{words}");
    assert!(words.contains("server not reached") && words.contains("Nothing was written"), "{words}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);

    let smtp = format!("localhost:{}", exim.smtp.port());
    let out = add(&smtp);
    let words = said(&out);
    assert!(out.status.success() && words.contains(&format!("Sending by {smtp}: it takes the login.")), "{words}");
    println!("{words}");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.starts_with(&before), "{text}");
    // The table, and what each program asks for.
    for row in [
        format!("IMAP                   localhost, port {}, SSL/TLS", daemon.imaps.port()),
        format!("IMAP                   localhost, port {}, STARTTLS", daemon.imap.port()),
        format!("POP3                   localhost, port {}, SSL/TLS", daemon.pop3s.port()),
        format!("POP3                   localhost, port {}, STARTTLS", daemon.pop3.port()),
        format!("sending (SMTP)         localhost, port {}, STARTTLS", submission.port()),
    ] {
        assert!(words.contains(&row), "{row}\n{words}");
    }
    let place = format!(
        "incoming: localhost {} SSL/TLS; outgoing: localhost {} STARTTLS",
        daemon.imaps.port(),
        submission.port()
    );
    for program in ["Thunderbird", "Outlook", "Apple Mail", "iOS", "Android", "The Bat!"] {
        let at = words.find(&format!("\n  {program}")).unwrap_or_else(|| panic!("{program}\n{words}"));
        assert!(words[at..].lines().nth(2).is_some_and(|line| line.trim() == place), "{program}\n{words}");
    }
    // The daemon has been told: the new account sends.
    let login = base64(&format!("\0ann@example.org\0{}", password(&words)));
    let mut client = None;
    wait_for("the daemon to know the account", || {
        let mut smtp = Smtp::greeted(TcpStream::connect(submission).unwrap());
        smtp.ehlo();
        let known = smtp.ask(&format!("AUTH PLAIN {login}")).starts_with("235");
        client = known.then_some(smtp);
        known
    });
    client.unwrap().send("ann@example.org", &["carl@example.net"], "Subject: x\r\n\r\nx\r\n");
    exim.wait_sent(1);
    // Twice is once, and both servers are tried again.
    let again = said(&add(&smtp));
    assert!(again.contains("nothing was changed") && again.contains("Sending by"), "{again}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), text);
}

/// A document by HTTP, as a domain's own server would give it.
fn document_server(document: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mail/config-v1.1.xml", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                if tcp.read(&mut octet).unwrap_or(0) == 0 {
                    break;
                }
                head.push(octet[0]);
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{document}",
                document.len()
            );
            let _ = tcp.write_all(answer.as_bytes());
        }
    });
    url
}

fn document(imaps: u16, smtps: u16) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><clientConfig version="1.1"><emailProvider id="example.org"><domain>example.org</domain>
        <incomingServer type="pop3"><hostname>localhost</hostname><port>1</port><socketType>SSL</socketType></incomingServer>
        <incomingServer type="imap"><hostname>localhost</hostname><port>{imaps}</port><socketType>SSL</socketType>
          <authentication>password-cleartext</authentication><username>%EMAILLOCALPART%</username></incomingServer>
        <outgoingServer type="smtp"><hostname>localhost</hostname><port>{smtps}</port><socketType>SSL</socketType>
          <authentication>password-cleartext</authentication><username>%EMAILLOCALPART%</username></outgoingServer></emailProvider></clientConfig>"#
    )
}

/// Both servers' authorities in one file.
fn authorities(dir: &Path, dovecot: &Dovecot, exim: &Exim) -> String {
    let both = [dovecot.ca_file(), &exim.ca_file()].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    let file = dir.join("both.pem");
    std::fs::write(&file, both).unwrap();
    file.display().to_string()
}

#[test]
fn both_servers_are_found_in_a_document() {
    if straight_run() {
        return;
    }
    let (dovecot, exim) = (Dovecot::start(), Exim::start());
    let home = scratch("accounts");
    let ca = authorities(home.path(), &dovecot, &exim);
    let file = home.path().join("password");
    private(&file, UPSTREAM_PASSWORD);
    // The name server knows nothing: it is the document that tells.
    let (_dns, dns) = name_server(home.path(), &["--local=/org/".to_owned()]);
    let dns = dns.to_string();
    let from = [
        "--nameserver",
        &dns,
        "--upstream-password-file",
        file.to_str().unwrap(),
        "--ca-file",
        &ca,
        "--non-interactive",
    ];
    let add = |name: &str, url: &str| {
        let config = home.path().join(name);
        let out = mailweir(&config, &[&["account", "add", "ann@example.org", "--autoconfig", url], &from[..]].concat());
        (out.status.success(), said(&out), std::fs::read_to_string(config).unwrap_or_default())
    };
    let (done, words, text) = add("good.toml", &document_server(document(dovecot.imaps.port(), exim.smtps.port())));
    assert!(done && words.contains("config-v1.1.xml: it takes the login and shows"), "{words}");
    assert!(words.contains(&format!("Sending by localhost:{}: it takes the login.", exim.smtps.port())), "{words}");
    assert!(text.contains("[account.smtp]") && text.contains("username = \"ann\""), "{text}");
    // A first configuration serves sending, too.
    assert!(words.contains("sending (SMTP)         localhost, port 1465, SSL/TLS"), "{words}");

    // A document that is wrong about sending: reading is worth having, and it is said aloud.
    let (done, words, text) = add("half.toml", &document_server(document(dovecot.imaps.port(), exim.smtp.port())));
    assert!(
        done && words.contains("SENDING DOES NOT WORK YET") && words.contains("wrong port for the TLS mode"),
        "{words}"
    );
    assert!(text.contains("ann@example.org"), "{text}");
    let (done, words, _) = add("none.toml", &document_server("<html>Not found</html>".to_owned()));
    assert!(!done && words.contains("nothing tells where the mailbox of ann@example.org is"), "{words}");
}

/// RFC 6186 and 8314: `_imaps` and `_submissions` before their older kin, by priority.
#[test]
fn both_servers_are_found_by_srv_records() {
    if straight_run() {
        return;
    }
    let (dovecot, exim) = (Dovecot::start(), Exim::start());
    let home = scratch("accounts");
    let (imaps, smtps) = (dovecot.imaps.port(), exim.smtps.port());
    let records = [
        format!("--srv-host=_imaps._tcp.example.org,localhost,{imaps},10"),
        format!("--srv-host=_imaps._tcp.example.org,nowhere.example.org,{},20", free_port()),
        format!("--srv-host=_imap._tcp.example.org,localhost,{},0", dovecot.imap.port()),
        format!("--srv-host=_submissions._tcp.example.org,localhost,{smtps},0"),
        format!("--srv-host=_submission._tcp.example.org,localhost,{},0", exim.smtp.port()),
    ];
    let (_dns, addr) = name_server(home.path(), &records);
    let (addr, ca) = (addr.to_string(), authorities(home.path(), &dovecot, &exim));
    let file = home.path().join("password");
    private(&file, UPSTREAM_PASSWORD);
    let config = home.path().join("mailweir.toml");
    let who =
        ["account", "add", "ann@example.org", "--username", UPSTREAM_USER, "--nameserver", &addr, "--ca-file", &ca];
    let from = ["--autoconfig", "http://127.0.0.1:1/", "--upstream-password-file", file.to_str().unwrap()];
    let mut adding = Login::run(&config, &[&who[..], &from].concat());
    adding.line("Looking for the servers");
    adding.paste("y");
    let (done, words) = adding.end();
    assert!(done && words.contains("By SRV records of example.org"), "{words}");
    assert!(words.contains(&format!("Sending by localhost:{smtps}: it takes the login.")), "{words}");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains(&format!("port = {imaps}")) && text.contains(&format!("port = {smtps}")), "{text}");
}
