//! What RETR, TOP, LIST and UIDL tell, held against IMAP.

use super::{as_lines, login, world};
use crate::harness::mail::{self, Sizes};
use crate::harness::pop::Pop;
use crate::harness::relay::Fault;
use crate::harness::{ADDRESS, LOCAL_PASSWORD, wait_for};

/// Messages that are not as they should be, as far as an IMAP server can hold them.
const ODD: [&[u8]; 6] = [
    b"Subject: no end\r\n\r\nthe last line has none",
    b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n",
    b"Subject: no body\r\n\r\n",
    b"Subject: header only\r\n",
    b"Subject: bare\r\n\r\na\rb\r\n",
    b"\r\nno header at all\r\n",
];

#[test]
fn retr_is_byte_for_byte_what_imap_gives() {
    let Some(world) = world("", |c| {
        mail::load(c, "INBOX", 71, 200, Sizes::Usual);
        for raw in ODD {
            c.append("INBOX", "", raw);
        }
        c.append("INBOX", "", &mail::big(3, 3_000_000));
    }) else {
        return;
    };
    let mut imap = world.client();
    imap.cmd_ok("EXAMINE INBOX");
    // The first time from upstream, then from the cache, with other commands between and in another order.
    for round in 0..2 {
        let mut pop = login(world.daemon(), "");
        let (count, octets) = pop.stat();
        let sizes = pop.list("LIST");
        assert_eq!(sizes.iter().map(|(_, size)| size.parse::<u64>().unwrap()).sum::<u64>(), octets);
        let mut order: Vec<u32> = (1..=count).collect();
        if round == 1 {
            order.reverse();
        }
        for number in order {
            let answer = pop.ok(&format!("RETR {number}"));
            let got = pop.rest();
            assert_eq!(answer, format!("+OK {} octets", got.len()), "{number}");
            let body = imap.cmd_ok(&format!("FETCH {number} (UID BODY.PEEK[])")).by_uid();
            let raw = body.values().next().unwrap()["BODY[]"].bytes().to_vec();
            let want = match number {
                204 => b"Subject: header only\r\n\r\n".to_vec(),
                205 => b"Subject: bare\r\n\r\na\r\nb\r\n".to_vec(),
                _ => as_lines(&raw),
            };
            assert!(got == want, "{number}: {} octets, and {} by IMAP", got.len(), want.len());
            let listed: u64 = sizes[number as usize - 1].1.parse().unwrap();
            if round == 1 {
                assert_eq!(listed, got.len() as u64, "LIST tells what RETR sends, once it is known: {number}");
            }
            let top = pop.multi(&format!("TOP {number} 2"));
            assert!(got.starts_with(&top), "{number}");
            let head = pop.multi(&format!("TOP {number} 0"));
            assert!(got.starts_with(&head) && (head.ends_with(b"\r\n\r\n") || head == b"\r\n"), "{number}: {head:?}");
        }
        pop.ok("QUIT");
    }
    // 207 bodies once, whoever asked.
    assert!(world.daemon().bodies_filled() < 207.5, "{}", world.daemon().bodies_filled());
}

#[test]
fn ids_outlast_restarts_and_the_cache() {
    let Some(mut world) = world("", |c| mail::load(c, "INBOX", 73, 50, Sizes::Small)) else { return };
    let ids = |pop: &mut Pop| {
        let ids = pop.list("UIDL");
        assert!(ids.iter().all(|(_, id)| id.len() <= 70 && id.bytes().all(|b| b.is_ascii_graphic())), "{ids:?}");
        let one = pop.ok("UIDL 7");
        assert_eq!(one, format!("+OK 7 {}", ids[6].1));
        ids
    };
    let first = ids(&mut login(world.daemon(), ""));
    let mut imap = world.straight();
    let selected = imap.cmd_ok("EXAMINE INBOX").lines().join("\n");
    let validity = selected.split("UIDVALIDITY ").nth(1).and_then(|rest| rest.split(']').next()).unwrap().to_owned();
    assert_eq!(first[0].1, format!("{validity}.1"));
    assert_eq!(first.iter().map(|(_, id)| id).collect::<std::collections::BTreeSet<_>>().len(), 50);
    let daemon = world.daemon_mut();
    assert_eq!(daemon.stop(), 0);
    daemon.restart();
    assert_eq!(ids(&mut login(daemon, "")), first, "after a restart");
    daemon.kill();
    daemon.drop_cache();
    daemon.restart();
    assert_eq!(ids(&mut login(daemon, "+laptop")), first, "after kill -9 and the loss of the cache");
}

#[test]
fn upstream_away_is_no_wrong_password() {
    let Some(mut world) = world("", |c| mail::load(c, "INBOX", 79, 20, Sizes::Small)) else { return };
    let mut pop = login(world.daemon(), "");
    let known = pop.multi("RETR 3");
    pop.ok("QUIT");
    world.relay.set(Fault::Refuse);
    world.relay.cut();
    let mut pop = login(world.daemon(), "");
    assert_eq!(pop.stat().0, 20, "the maildrop is there");
    assert_eq!(pop.multi("RETR 3"), known, "and what is cached");
    let refusal = pop.err("RETR 4");
    assert!(refusal.starts_with("-ERR [SYS/TEMP] "), "{refusal}");
    assert_eq!(pop.err("RETR 21"), "-ERR No such message, only 20 messages in maildrop");
    pop.ok("DELE 5");
    pop.ok("QUIT");
    assert_eq!(login(world.daemon(), "").stat().0, 19, "deletions are kept while the provider is away");
    // The same after a start without a network: nothing is known but what is on the disk.
    world.daemon_mut().kill();
    world.daemon_mut().restart();
    assert_eq!(login(world.daemon(), "").stat().0, 19);
    let mut wrong = Pop::connect(world.daemon().pop3);
    wrong.ok(&format!("USER {ADDRESS}"));
    assert!(wrong.err("PASS wrong").starts_with("-ERR [AUTH] "));
    wrong.ok(&format!("USER {ADDRESS}"));
    assert!(wrong.ok(&format!("PASS {LOCAL_PASSWORD}")).contains("19 messages"));
    world.relay.set(Fault::None);
    let daemon = world.daemon();
    wait_for("the provider to be back", || {
        let answer = login(daemon, "").ask("RETR 4");
        assert!(answer.starts_with("+OK") || answer.starts_with("-ERR [SYS/TEMP]"), "{answer}");
        answer.starts_with("+OK")
    });
}

#[test]
fn a_spent_budget_is_no_wrong_password() {
    let Some(mut world) = world("", |c| {
        for n in 0..30 {
            c.append("INBOX", "", format!("Subject: {n}\r\n\r\n{}", "0123456789abcdef\r\n".repeat(1000)).as_bytes());
        }
    }) else {
        return;
    };
    world.daemon_mut().change(|setup| setup.accounts[0].limits_more = "download_per_day = \"200KB\"".into());
    world.daemon().reload("the configuration was read again");
    let mut pop = login(world.daemon(), "");
    let mut refusal = (1..=30).map(|number| {
        let answer = pop.ask(&format!("RETR {number}"));
        if answer.starts_with("+OK") {
            pop.rest();
        }
        answer
    });
    let refusal = refusal.find(|answer| answer.starts_with("-ERR")).expect("a refusal");
    assert!(refusal.starts_with("-ERR [SYS/TEMP] ") && refusal.contains("200.0 kB"), "{refusal}");
    pop.ok("RETR 1");
    pop.rest();
    pop.ok("QUIT");
    let mut again = login(world.daemon(), "");
    assert_eq!(again.stat().0, 30, "a login costs nothing of it");
}

/// RETR takes a message from the provider as it is.
#[test]
fn on_retr_leaves_or_marks() {
    for (setting, unseen) in [("", 10), ("on_retr = \"seen\"", 7)] {
        let Some(world) = world(setting, |c| {
            for n in 0..10 {
                c.append("INBOX", "", format!("Subject: {n}\r\n\r\n").as_bytes());
            }
        }) else {
            return;
        };
        let mut pop = login(world.daemon(), "");
        for number in 1..=3 {
            pop.multi(&format!("RETR {number}"));
            pop.multi(&format!("TOP {} 1", number + 3));
        }
        pop.ok("QUIT");
        assert_eq!(super::upstream(&world), (10, unseen), "{setting}");
    }
}

#[test]
fn the_newest_only() {
    let Some(world) = world("max_messages = 10", |c| mail::load(c, "INBOX", 83, 25, Sizes::Small)) else { return };
    let mut pop = login(world.daemon(), "");
    assert_eq!(pop.stat().0, 10);
    let ids: Vec<String> = pop.list("UIDL").into_iter().map(|(_, id)| id).collect();
    assert!(ids[0].ends_with(".16") && ids[9].ends_with(".25"), "{ids:?}");
    assert_eq!(pop.err("LIST 11"), "-ERR No such message, only 10 messages in maildrop");
}
