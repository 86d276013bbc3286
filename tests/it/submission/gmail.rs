//! A provider that files what it sends by itself, as Gmail does: a simulated one for IMAP, Exim for sending; the test files the copy, with a
//! trace header before it, as Gmail does.

use std::net::{SocketAddr, TcpStream};

use mailweir::daemon::simulated::Scenario;

use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::exim::Exim;
use crate::harness::relay::{Link, Relay};
use crate::harness::search::Searched as _;
use crate::harness::simulated::Simulated;
use crate::harness::smtp::Smtp;
use crate::harness::trap::{Act, Place, Point, Trap};
use crate::harness::{PATIENCE, UPSTREAM_PASSWORD, UPSTREAM_USER, free_port, straight_run, wait_for};

const SENT: &str = "\"[Gmail]/Sent Mail\"";

struct Gmail {
    daemon: Daemon,
    imap: Relay,
    smtp: Relay,
    exim: Exim,
    provider: Simulated,
    submission: SocketAddr,
}

impl Gmail {
    fn start(more: &str) -> Self {
        let (provider, exim) = (Simulated::start(Scenario::gmail()), Exim::start());
        let (imap, smtp) = (Relay::to(provider.addr, Link::default()), Relay::to(exim.smtp, Link::default()));
        let lines = format!(
            "host = \"localhost\"\nport = {}\ntls = \"none\"\nusername = \"{UPSTREAM_USER}\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}\n{more}",
            smtp.addr.port()
        );
        let mut setup = Setup::new(Account { smtp: lines, ..provider.account(imap.addr) });
        let submission = SocketAddr::from(([127, 0, 0, 1], free_port()));
        setup.listen_more = format!("submission = [\"{submission}\"]\n");
        Self { daemon: Daemon::start(setup), imap, smtp, exim, provider, submission }
    }

    fn send(&self, message: &str) {
        let mut client = Smtp::greeted(TcpStream::connect(self.submission).unwrap());
        client.ehlo();
        client.says("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBsb2NhbC1zZWNyZXQ=", "235");
        client.send("ann@example.org", &["bob@example.net"], message);
    }

    /// What Gmail does with what it has taken.
    fn file(&self, id: &str) {
        let id = format!("<{id}>");
        let find = || self.exim.sent_whole().into_iter().find(|raw| String::from_utf8_lossy(raw).contains(&id));
        wait_for("what Exim has taken", || find().is_some());
        self.provider.straight().append("[Gmail]/Sent Mail", "\\Seen", &find().unwrap());
    }

    fn count(client: &mut Client, id: &str) -> usize {
        client.cmd_ok(&format!("SELECT {SENT}"));
        client.cmd_ok(&format!("UID SEARCH HEADER MESSAGE-ID <{id}>")).search().len()
    }
}

fn message(id: &str) -> String {
    let now = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc2822).unwrap();
    format!(
        "Date: {now}\r\nMessage-ID: <{id}>\r\nFrom: ann@example.org\r\nSubject: x\r\n\r\n{}\r\n",
        "text\r\n".repeat(20_000)
    )
}

/// As Thunderbird does it: sent over SMTP, then appended to the sent folder.
#[test]
fn what_was_sent_is_in_the_sent_folder_once_and_uploaded_once() {
    if straight_run() {
        return;
    }
    let gmail = Gmail::start("");
    let text = message("once@example.org");
    gmail.send(&text);
    gmail.exim.wait_sent(1);
    let before = gmail.imap.up();
    let mut client = gmail.daemon.client();
    client.cmd_ok("NOOP");
    // The copy comes while the program appends already.
    let uid = std::thread::scope(|scope| {
        let appended = scope.spawn(|| gmail.daemon.client().append("[Gmail]/Sent Mail", "\\Seen", text.as_bytes()));
        wait_for("the append to be under way", || gmail.imap.up() > before + 20);
        gmail.file("once@example.org");
        appended.join().unwrap()
    });
    let uploaded = gmail.imap.up() - before;
    assert!(uid.is_some() && uploaded < text.len() as u64 / 2, "{uploaded} octets went up over IMAP");
    assert_eq!(Gmail::count(&mut gmail.provider.straight(), "once@example.org"), 1);
    wait_for("the copy", || Gmail::count(&mut client, "once@example.org") == 1);
    assert_eq!(gmail.exim.taken(), 1);
    let sent = (gmail.smtp.up(), text.len() as u64);
    assert!(sent.0 < sent.1 + 4096, "once over SMTP: {sent:?}");
}

/// The provider is lost before it answers: its sent folder tells whether it has the message. A mail program's own copy tells nothing.
#[test]
fn a_doubt_is_settled_by_the_sent_folder() {
    if straight_run() {
        return;
    }
    let gmail = Gmail::start("queue = true");
    let first = message("first@example.org");
    gmail.send(&first);
    gmail.exim.wait_sent(1);
    for (id, is_filed) in [("there@example.org", true), ("own@example.org", false)] {
        let text = message(id);
        let taken = gmail.exim.taken();
        gmail.smtp.set_trap(Trap::new("MAIL FROM", Point::Reply("250 OK id="), Place::Middle, Act::CutAll));
        std::thread::scope(|scope| {
            scope.spawn(|| gmail.send(&text));
            assert!(gmail.smtp.sprung(PATIENCE), "the provider has not answered");
            gmail.smtp.go_on();
        });
        if is_filed {
            gmail.file(id);
        } else {
            // A program's own copy, and one of another transaction of the same message.
            let other = format!("Received: from localhost by localhost (outbox) with ESMTPSA id 1;\r\n\tnow\r\n{text}");
            for copy in [&text, &other] {
                gmail.provider.straight().append("[Gmail]/Sent Mail", "\\Seen", copy.as_bytes());
            }
        }
        wait_for("the message to be taken", || gmail.exim.taken() > taken);
        let outbox = |arguments: &[&str]| {
            let mut command = std::process::Command::new(crate::harness::daemon::PROGRAM);
            let out = command
                .arg("outbox")
                .args(arguments)
                .arg("--config")
                .arg(gmail.daemon.config_file())
                .output_searched()
                .unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        assert!(outbox(&["list"]).contains("may have been sent"), "{}", outbox(&["list"]));
        wait_for("the doubt to be settled", || {
            outbox(&["retry"]);
            outbox(&["list"]) == "Nothing waits.\n"
        });
        let again = usize::from(!is_filed);
        wait_for("what follows", || gmail.exim.taken() == taken + 1 + again);
        let doubts = |outcome| gmail.daemon.metric("mailweir_outbox_doubts_total", &[outcome]);
        assert_eq!((doubts("found"), doubts("again")), (1.0, again as f64));
    }
}
