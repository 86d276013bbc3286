//! A provider whose RFC822.SIZE is an estimate, as Outlook's is: LIST learns the true octets, RETR is right from the first time on,
//! and IMAP programs go on hearing what they were told (RFC 9051 §2.3.4: a message's size does not change).

use std::collections::BTreeMap;

use super::{as_lines, login, world_of};
use crate::harness::client::Client;
use crate::harness::mail::{self, Sizes};
use crate::harness::relay::Link;
use crate::harness::wait_for;
use crate::harness::world::Kind;

fn sizes(imap: &mut Client) -> Vec<u64> {
    let all: BTreeMap<_, _> = imap.cmd_ok("FETCH 1:* (UID RFC822.SIZE)").by_uid();
    all.values().map(|items| items["RFC822.SIZE"].number().unwrap()).collect()
}

fn bodies(imap: &mut Client) -> Vec<Vec<u8>> {
    let all = imap.cmd_ok("FETCH 1:* (UID BODY.PEEK[])").by_uid();
    all.values().map(|items| items["BODY[]"].bytes().to_vec()).collect()
}

#[test]
fn list_learns_what_retr_sends_and_imap_hears_no_other_size() {
    let link = Link { wrong_sizes: true, ..Link::default() };
    let world = world_of(Kind::Dovecot, link, "", |c| {
        mail::load(c, "INBOX", 97, 60, Sizes::Usual);
        // Above what is put together before it is sent, and above what is read from disk at once.
        c.append("INBOX", "", &mail::big(1, 300_000));
        c.append("INBOX", "", &mail::big(2, 3_000_000));
    });
    let Some(mut world) = world else { return };
    let mut straight = world.straight();
    straight.cmd_ok("EXAMINE INBOX");
    let raw = bodies(&mut straight);
    let exact: Vec<u64> = raw.iter().map(|raw| as_lines(raw).len() as u64).collect();
    let mut imap = world.client();
    imap.cmd_ok("EXAMINE INBOX");
    let told = sizes(&mut imap);
    assert!((0..62).all(|n| told[n] != exact[n]), "every size is wrong");
    assert!((0..62).any(|n| told[n] < exact[n]) && (0..62).any(|n| told[n] > exact[n]), "in both directions");

    let listed = |daemon: &crate::harness::daemon::Daemon| -> Vec<u64> {
        let mut pop = login(daemon, "");
        let listed: Vec<u64> = pop.list("LIST").iter().map(|(_, octets)| octets.parse().unwrap()).collect();
        assert_eq!(pop.stat(), (62, listed.iter().sum()), "STAT is LIST's sum");
        assert_eq!(pop.ok("LIST 61"), format!("+OK 61 {}", listed[60]));
        pop.ok("QUIT");
        listed
    };
    assert_eq!(listed(world.daemon()), told, "until it is known: what the provider says");
    // Whoever made it known: here an IMAP program that read some.
    let some = imap.cmd_ok("FETCH 1:10 (UID BODY.PEEK[])").by_uid();
    assert!(some.values().zip(&raw).all(|(items, raw)| items["BODY[]"].bytes() == raw));
    let known: Vec<u64> = exact[..10].iter().chain(&told[10..]).copied().collect();
    wait_for("the ten to be known", || listed(world.daemon()) == known);

    let mut pop = login(world.daemon(), "");
    for number in 1..=62 {
        let answer = pop.ok(&format!("RETR {number}"));
        let got = pop.rest();
        assert!(got == as_lines(&raw[number - 1]), "{number}");
        assert_eq!(answer, format!("+OK {} octets", got.len()), "not the estimate");
    }
    pop.ok("QUIT");
    assert_eq!(listed(world.daemon()), exact);
    // From the cache, in pieces as well.
    let mut pop = login(world.daemon(), "+laptop");
    for number in [62, 61, 60] {
        assert_eq!(pop.ok(&format!("RETR {number}")), format!("+OK {} octets", exact[number - 1]));
        assert!(pop.rest() == as_lines(&raw[number - 1]), "{number}");
    }

    assert_eq!(sizes(&mut imap), told, "as it was told it");
    assert_eq!(world.daemon_mut().stop(), 0);
    world.daemon_mut().restart();
    assert_eq!(listed(world.daemon()), exact, "after a restart");
    let mut imap = world.client();
    imap.cmd_ok("EXAMINE INBOX");
    assert_eq!(sizes(&mut imap), told, "and every other program");
    assert!(bodies(&mut imap) == raw);
    let middle = imap.cmd_ok("FETCH 62 (UID BODY.PEEK[]<2999000.5000>)").by_uid();
    let middle = middle.values().next().unwrap()["BODY[]<2999000>"].bytes();
    assert!(middle == &raw[61][2_999_000..raw[61].len().min(3_004_000)], "{}", middle.len());
}
