//! `mailweir demo`: what it prints is enough to log in, new mail comes, the provider sees few connections, and the
//! comparison comes out for us.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::client::Client;
use crate::harness::daemon::PROGRAM;
use crate::harness::pop::Pop;
use crate::harness::process::Server;
use crate::harness::search::Searched as _;
use crate::harness::{PATIENCE, scratch, straight_run};

/// The value behind the first line that begins with `key`, as a person reads it.
fn told(screen: &str, key: &str) -> String {
    let words = screen.lines().filter_map(|l| l.trim().strip_prefix(key)).find(|l| l.starts_with(' '));
    let value = words.unwrap_or_else(|| panic!("no {key:?} in\n{screen}")).trim().trim_start_matches("port ");
    value.split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn what_is_printed_is_enough() {
    if straight_run() {
        return;
    }
    let home = scratch("demo");
    let demo = Server::start(Path::new(PROGRAM), &["demo", "--every", "1"], &[], home.path(), &[]);
    let ready = demo.wait_output(PATIENCE, |out| out.iter().any(|l| l.contains("Ctrl-C ends it")));
    let screen = demo.printed();
    assert!(ready, "{screen}");
    let port = |key: &str| SocketAddr::from(([127, 0, 0, 1], told(&screen, key).parse::<u16>().expect("a port")));
    let (user, password) = (told(&screen, "user"), told(&screen, "password"));
    let ca_line = screen.lines().map(str::trim).find(|l| l.starts_with('/') && l.ends_with(".pem"));
    let ca_file = PathBuf::from(ca_line.expect("the CA's file"));
    let mut clients = Vec::new();
    for n in 0..20 {
        let c = if n % 2 == 0 {
            Client::connect_tls(port("IMAPS"), &ca_file)
        } else {
            let mut c = Client::connect(port("IMAP"));
            c.starttls(&ca_file);
            c
        };
        let mut c = c.login(&user, &password);
        assert!(c.cmd_ok("SELECT INBOX").count("EXISTS").unwrap() > 3);
        let bodies = c.cmd_ok("UID FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY.PEEK[])").by_uid();
        assert!(bodies.values().all(|items| items.contains_key("BODY[]")));
        clients.push(c);
    }
    // A POP3 program that deletes all it sees takes nothing from the others.
    let mut pop = Pop::connect(port("POP3")).login(&user, &password);
    let count = pop.stat().0;
    assert!(count > 3 && pop.multi("RETR 1").len() > 100);
    (1..=count).for_each(|number| drop(pop.ok(&format!("DELE {number}"))));
    pop.ok("QUIT");
    // Mail keeps arriving: what the POP3 login saw may be news to this one.
    clients[1].cmd_ok("NOOP");
    assert!(clients[1].cmd_ok("FETCH 1:* (UID)").by_uid().len() >= count as usize);
    let url = format!("pop3s://localhost:{}/", port("POP3S").port());
    let listed = |user: &str| {
        let login = format!("{user}:{password}");
        let mut curl = Command::new("curl");
        let out = curl.args(["-sS", "--cacert"]).arg(&ca_file).args(["--user", &login, &url]).output().expect("curl");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).lines().count()
    };
    assert!(listed(&format!("{user}+laptop")) >= count as usize, "another device");
    assert!(listed(&user) < count as usize, "what it has deleted");
    let c = &mut clients[0];
    let tag = c.idle();
    c.until("* <*> EXISTS");
    c.done(&tag);
}

#[test]
fn the_comparison_ends_well() {
    if straight_run() {
        return;
    }
    let out = Command::new(PROGRAM).args(["demo", "--compare"]).output_searched().expect("mailweir demo --compare");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("directly") && said.contains("through mailweir"), "{said}");
}

#[test]
fn every_providers_manners_can_be_seen() {
    if straight_run() {
        return;
    }
    for preset in mailweir::provider::presets() {
        let home = scratch("demo");
        let args = ["demo", "--every", "3600", "--provider", &preset.name];
        let demo = Server::start(Path::new(PROGRAM), &args, &[], home.path(), &[]);
        let ready = demo.wait_output(PATIENCE, |out| out.iter().any(|l| l.contains("Ctrl-C ends it")));
        let screen = demo.printed();
        assert!(ready, "{}: {screen}", preset.name);
        let port = SocketAddr::from(([127, 0, 0, 1], told(&screen, "IMAP").parse::<u16>().expect("a port")));
        let ca_line = screen.lines().map(str::trim).find(|l| l.starts_with('/') && l.ends_with(".pem"));
        let mut c = Client::connect(port);
        c.starttls(&PathBuf::from(ca_line.expect("the CA's file")));
        let mut c = c.login(&told(&screen, "user"), &told(&screen, "password"));
        assert!(c.cmd_ok("SELECT INBOX").count("EXISTS").unwrap() > 3, "{}", preset.name);
    }
}
