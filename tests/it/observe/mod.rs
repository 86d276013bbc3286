//! What the daemon tells of itself: metrics, health, logs, the audit trail.

mod asked;
mod audit;
mod logs;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod prometheus;
mod ready;
mod watch;

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::Dovecot;
use crate::harness::exim::Exim;
use crate::harness::pop::Pop;
use crate::harness::smtp::Smtp;
use crate::harness::{ADDRESS, LOCAL_PASSWORD, UPSTREAM_PASSWORD, UPSTREAM_USER, free_port};

/// Messages a [`Busy`] begins with.
const MESSAGES: u64 = 12;

/// A daemon that serves all three protocols, in front of Dovecot and Exim.
struct Busy {
    // The daemon is dropped first.
    daemon: Daemon,
    exim: Exim,
    _dovecot: Dovecot,
    submission: SocketAddr,
}

impl Busy {
    fn start(change: impl FnOnce(&mut Setup)) -> Self {
        let (exim, dovecot) = (Exim::start(), Dovecot::start());
        let mut c = dovecot.client();
        for n in 1..=MESSAGES {
            c.append("INBOX", "", format!("Subject: {n}\r\nMessage-ID: <{n}@test>\r\n\r\n{n}\r\n").as_bytes());
        }
        c.cmd_ok("CREATE Old");
        let smtp = format!(
            "host = \"localhost\"\nport = {}\ntls = \"none\"\nusername = \"{UPSTREAM_USER}\"\npassword = {{ plain = \"{UPSTREAM_PASSWORD}\" }}",
            exim.smtp.port(),
        );
        let mut setup = Setup::new(Account { smtp, ..Account::at(dovecot.imap) });
        let submission = SocketAddr::from(([127, 0, 0, 1], free_port()));
        setup.listen_more = format!("submission = [\"{submission}\"]\n");
        change(&mut setup);
        Self { daemon: Daemon::start(setup), exim, _dovecot: dovecot, submission }
    }

    /// Something of everything: reading, writing, what is refused and what is nonsense, over all protocols.
    fn work(&self) {
        let mut c = self.daemon.client();
        c.cmd_ok("ID (\"name\" \"the test\")");
        c.cmd_ok("SELECT INBOX");
        c.cmd_ok("FETCH 1:* (FLAGS BODY.PEEK[])");
        c.cmd_ok("FETCH 1 BODY.PEEK[]");
        c.cmd("SELECT nowhere");
        c.cmd("NONSENSE");
        c.cmd_ok("SELECT INBOX");
        c.cmd_ok("STORE 1 +FLAGS (\\Deleted)");
        c.cmd_ok("EXPUNGE");
        c.cmd_ok("MOVE 1 Old");
        let mut pop = Pop::connect(self.daemon.pop3).login(ADDRESS, LOCAL_PASSWORD);
        pop.ok("STAT");
        pop.ok("DELE 1");
        pop.ok("QUIT");
        let mut smtp = Smtp::greeted(TcpStream::connect(self.submission).expect("the submission listener"));
        smtp.ehlo();
        smtp.says("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBsb2NhbC1zZWNyZXQ=", "235");
        smtp.send("ann@example.org", &["bob@example.net"], "Subject: out\r\n\r\nout\r\n");
        smtp.says("QUIT", "221");
        self.exim.wait_sent(1);
    }
}

/// A file of the repository.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}
