//! `english_names`: special mailboxes of a localised account by the names programs look for, over a Dovecot that calls them otherwise.

use std::collections::BTreeMap;

use crate::harness::answer::Status;
use crate::harness::client::{Client, quoted};
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::{straight_run, wait_for};

/// The upstream's own names of its special mailboxes, by attribute.
fn special(up: &mut Client) -> BTreeMap<String, String> {
    let lines = up.cmd_ok("LIST \"\" * RETURN (SPECIAL-USE)");
    let listed = lines.untagged.iter().filter_map(|line| crate::harness::answer::listed(line, "LIST"));
    let known = ["\\sent", "\\trash", "\\drafts"];
    let named = listed.filter_map(|(attributes, _, name)| {
        attributes.into_iter().find(|a| known.contains(&a.as_str())).map(|attribute| (attribute, name))
    });
    named.collect()
}

fn messages(up: &mut Client, name: &str) -> Option<u32> {
    let lines = up.cmd_ok(&format!("STATUS {} (MESSAGES)", quoted(name))).lines().concat();
    lines.rsplit_once("(MESSAGES ")?.1.trim_end_matches(')').parse().ok()
}

#[test]
fn special_mailboxes_have_english_names() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::with(Options { localised: true, ..Options::default() });
    let mut up = dovecot.client();
    let theirs = special(&mut up);
    let (sent, trash, drafts) = (&theirs["\\sent"], &theirs["\\trash"], &theirs["\\drafts"]);
    assert!(!sent.is_ascii() || sent.starts_with('&'), "{theirs:?}");
    up.append(sent, "", b"Subject: one\r\n\r\nsent\r\n");
    up.append("INBOX", "", b"Subject: two\r\n\r\nin\r\n");
    up.append("INBOX", "", b"Subject: three\r\n\r\nin\r\n");
    let account = Account { more: "english_names = true".into(), ..Account::at(dovecot.imap) };
    let daemon = Daemon::start(Setup::new(account));
    let (mut c, mut other) = (daemon.client(), daemon.client());

    // What there is, and what it is for.
    assert_eq!(c.cmd_ok("LIST \"\" *").names("LIST"), ["Drafts", "INBOX", "Sent", "Trash"]);
    let roles = c.cmd_ok("LIST (SPECIAL-USE) \"\" * RETURN (SPECIAL-USE STATUS (MESSAGES))").lines();
    assert!(roles.iter().any(|l| l.contains("\\Sent") && l.ends_with(" Sent")), "{roles:?}");
    assert!(roles.contains(&"* STATUS Sent (MESSAGES 1)".to_owned()), "{roles:?}");
    c.cmd_ok("SUBSCRIBE Trash");
    assert_eq!(c.cmd_ok("LSUB \"\" *").names("LSUB"), ["Trash"]);
    assert_eq!(up.cmd_ok("LSUB \"\" *").names("LSUB"), [trash.as_str()]);

    // Reading and writing, by every command that names a mailbox.
    c.cmd_ok("SELECT Sent");
    assert!(c.cmd_ok("FETCH 1 BODY.PEEK[]").lines().concat().contains("sent"));
    assert_eq!(c.append("Sent", "\\Seen", b"Subject: four\r\n\r\nmine\r\n"), Some(2));
    assert_eq!(messages(&mut up, sent), Some(2));
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("COPY 1 Trash");
    c.cmd_ok("MOVE 1 Trash");
    c.cmd_ok("COPY 1 Drafts");
    assert_eq!((messages(&mut up, trash), messages(&mut up, drafts)), (Some(2), Some(1)));
    assert_eq!(messages(&mut c, "Trash"), Some(2));

    let quota = c.cmd_ok("GETQUOTAROOT Sent").lines();
    assert_eq!(quota[0], "* QUOTAROOT \"Sent\" All");
    assert!(quota[1].starts_with("* QUOTA All (STORAGE "), "{quota:?}");
    assert!(
        up.cmd_ok(&format!("GETQUOTAROOT {}", quoted(sent))).lines()[0].contains(sent),
        "upstream says it its own way"
    );

    // Below them.
    c.cmd_ok("CREATE Sent/2024");
    assert!(up.cmd_ok("LIST \"\" *").names("LIST").contains(&format!("{sent}/2024")));
    c.cmd_ok("SELECT Sent/2024");
    c.cmd_ok("RENAME Sent/2024 Sent/2025");
    c.cmd_ok("NOOP");
    assert!(c.cmd_ok("LIST \"\" Sent/%").names("LIST").contains(&"Sent/2025".to_owned()));
    c.cmd_ok("DELETE Sent/2025");
    // The session that deleted what it had selected goes on.
    c.cmd_ok("NOOP");
    assert!(!up.cmd_ok("LIST \"\" *").names("LIST").contains(&format!("{sent}/2025")));

    // The provider's own name is taken, and leads nowhere.
    let answer = c.cmd(&format!("CREATE {}", quoted(trash)));
    assert_eq!((answer.status, answer.code("ALREADYEXISTS")), (Status::No, Some(String::new())), "{}", answer.text);
    assert_eq!(c.cmd(&format!("RENAME INBOX {}", quoted(drafts))).status, Status::No);
    assert_eq!(c.cmd(&format!("SELECT {}", quoted(trash))).status, Status::No);

    // Somebody makes a mailbox of that name: it is that one then.
    up.cmd_ok("CREATE Drafts");
    up.append("Drafts", "", b"Subject: other\r\n\r\nother\r\n");
    up.append("Drafts", "", b"Subject: other\r\n\r\nother\r\n");
    wait_for("the new mailbox", || other.cmd_ok("LIST \"\" *").names("LIST").contains(drafts));
    assert_eq!((messages(&mut other, "Drafts"), messages(&mut other, drafts)), (Some(2), Some(1)));
    assert_eq!(messages(&mut other, "Sent"), Some(2), "the others are as they were");
}
