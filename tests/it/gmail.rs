//! Labels, as Gmail has them and shows them over IMAP: a message is one thing, a mailbox is a label on it. Two programs on the account; what
//! one does in a mailbox the other sees in all the others. On the simulated provider: no server one can install has labels.

use crate::harness::client::Client;
use crate::harness::daemon::{Daemon, Setup};
use crate::harness::simulated::Simulated;
use crate::harness::{straight_run, wait_for};
use mailweir::daemon::simulated::Scenario;

const ALL_MAIL: &str = "\"[Gmail]/All Mail\"";
const TRASH: &str = "\"[Gmail]/Trash\"";

/// The provider, the daemon, and one message with an own subject in INBOX.
struct Labels {
    daemon: Daemon,
    provider: Simulated,
}

impl Labels {
    fn start() -> Self {
        let provider = Simulated::start(Scenario::gmail());
        let mut straight = provider.straight();
        straight.cmd_ok("CREATE Work");
        straight.append("INBOX", "", b"Subject: the one\r\nMessage-ID: <one@example.org>\r\n\r\nlabels\r\n");
        let daemon = Daemon::start(Setup::new(provider.account(provider.addr)));
        Self { daemon, provider }
    }

    /// Selects a mailbox by either way in and looks for the message; its number there.
    fn find(client: &mut Client, mailbox: &str) -> Option<u32> {
        client.cmd_ok(&format!("SELECT {mailbox}"));
        let found = client.cmd_ok("UID SEARCH HEADER MESSAGE-ID <one@example.org>").lines();
        let told = found.iter().find_map(|line| line.strip_prefix("* SEARCH")).expect("an answer to SEARCH");
        let numbers: Vec<u32> = told.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert!(numbers.len() <= 1, "twice in {mailbox}: {numbers:?}");
        numbers.first().copied()
    }

    /// In these mailboxes, and in no others: at the provider at once, and for a program that comes through the daemon.
    fn is_in(&self, what: &str, mailboxes: &[&str]) {
        let mut straight = self.provider.straight();
        let mut client = self.daemon.client();
        for mailbox in ["INBOX", "Work", ALL_MAIL, TRASH, "\"[Gmail]/Starred\""] {
            let wanted = mailboxes.contains(&mailbox);
            assert_eq!(Self::find(&mut straight, mailbox).is_some(), wanted, "{what}: {mailbox} at the provider");
            wait_for(&format!("{what}: {mailbox} through the daemon"), || {
                Self::find(&mut client, mailbox).is_some() == wanted
            });
        }
    }
}

#[test]
fn a_mailbox_is_a_label() {
    if straight_run() {
        return;
    }
    let labels = Labels::start();
    labels.is_in("at first", &["INBOX", ALL_MAIL]);
    let mut ann = labels.daemon.client();
    let mut bob = labels.daemon.client();

    // COPY adds one; the body is there already and is not fetched again.
    let uid = Labels::find(&mut ann, "INBOX").unwrap();
    ann.cmd_ok(&format!("UID FETCH {uid} BODY.PEEK[]"));
    let filled = labels.daemon.bodies_filled();
    ann.cmd_ok(&format!("UID COPY {uid} Work"));
    labels.is_in("copied", &["INBOX", "Work", ALL_MAIL]);
    let copy = Labels::find(&mut bob, "Work").unwrap();
    let text = bob.cmd_ok(&format!("UID FETCH {copy} BODY.PEEK[TEXT]")).lines().concat();
    assert!(text.contains("labels"), "{text}");
    assert!((labels.daemon.bodies_filled() - filled).abs() < f64::EPSILON, "one message, one body");

    // A flag is the message's, whatever mailbox it is seen in; a star is a label too.
    ann.cmd_ok(&format!("UID STORE {uid} +FLAGS (\\Flagged)"));
    wait_for("the flag in the other mailbox", || {
        bob.cmd_ok("NOOP");
        let flags = bob.cmd_ok(&format!("UID FETCH {copy} (FLAGS)")).lines().concat();
        flags.contains("\\Flagged")
    });
    labels.is_in("starred", &["INBOX", "Work", ALL_MAIL, "\"[Gmail]/Starred\""]);
    bob.cmd_ok(&format!("UID STORE {copy} -FLAGS (\\Flagged)"));
    labels.is_in("its star gone", &["INBOX", "Work", ALL_MAIL]);

    // Deleted and expunged in one mailbox it loses that label, and no other.
    let copy = Labels::find(&mut bob, "Work").unwrap();
    bob.cmd_ok(&format!("UID STORE {copy} +FLAGS (\\Deleted)"));
    bob.cmd_ok(&format!("UID EXPUNGE {copy}"));
    labels.is_in("expunged from Work", &["INBOX", ALL_MAIL]);

    // MOVE to a label, and back.
    let uid = Labels::find(&mut ann, "INBOX").unwrap();
    ann.cmd_ok(&format!("UID MOVE {uid} Work"));
    labels.is_in("moved", &["Work", ALL_MAIL]);
    let copy = Labels::find(&mut ann, "Work").unwrap();
    ann.cmd_ok(&format!("UID COPY {copy} INBOX"));
    labels.is_in("copied back", &["INBOX", "Work", ALL_MAIL]);

    // To the trash it goes from everywhere; only there an expunge destroys it.
    let uid = Labels::find(&mut ann, "INBOX").unwrap();
    ann.cmd_ok(&format!("UID MOVE {uid} {TRASH}"));
    labels.is_in("in the trash", &[TRASH]);
    let last = Labels::find(&mut bob, TRASH).unwrap();
    bob.cmd_ok(&format!("UID STORE {last} +FLAGS.SILENT (\\Deleted)"));
    bob.cmd_ok("CLOSE");
    labels.is_in("destroyed", &[]);
}
