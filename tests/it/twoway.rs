//! Synchronisers both ways: a Maildir and a mail server kept equal by mbsync and offlineimap while others change the account.
//!
//! Three hands work on one account: a session straight at the upstream, another mail program through the daemon, and whoever edits the
//! Maildir between two runs of the synchroniser. The first two go on while it runs. A ledger knows what must be there in the end; each
//! message is moved or deleted by one hand only, once, so that its fate does not hang on who was first.

mod ledger;
mod near;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use ledger::Ledger;
use near::{Near, Program};

use crate::harness::answer::Value;
use crate::harness::client::Client;
use crate::harness::world::{Kind, World};
use crate::harness::{scratch, seed, wait_for};
use crate::{everywhere, over_dovecot};

everywhere!(mbsync);
over_dovecot!(offlineimap);

const MAILBOXES: [&str; 2] = ["INBOX", "Archive"];
const AT_FIRST: u64 = 30;
const ROUNDS: u64 = 5;
/// Steps of each hand in a round: at least, so that something happens; at most, so that a slow run ends.
const STEPS: std::ops::Range<u32> = 6..40;
/// Runs of the synchroniser after all is quiet. One carries everything over, the second has nothing to do.
const LAST_RUNS: usize = 2;

fn mbsync(kind: Kind) {
    converges(kind, Program::Mbsync, 61);
}

fn offlineimap(kind: Kind) {
    converges(kind, Program::Offlineimap, 67);
}

fn converges(kind: Kind, program: Program, default_seed: u64) {
    let seed = seed(default_seed);
    let ledger = Ledger::new(seed);
    let world = World::new(kind, |c| {
        c.cmd_ok("CREATE Archive");
        let mut rng = StdRng::seed_from_u64(seed);
        (0..AT_FIRST).for_each(|n| append(c, &ledger, &mut rng, MAILBOXES[usize::from(n % 3 == 0)]));
    });
    let home = scratch("twoway");
    let near = Near { root: home.path().join("mail") };
    let config = program.configure(&world.endpoint(), home.path(), &near.root);
    program.run(&config, home.path()).expect("the first run, with nobody else about");
    assert_eq!(near.read(), far(&mut world.straight()), "after the first run");

    let (mut upstream, mut other) = (world.straight(), world.client());
    let mut rng = StdRng::seed_from_u64(seed ^ 1);
    for round in 0..ROUNDS {
        (0..rng.random_range(STEPS.start..STEPS.start * 2)).for_each(|_| near.step(&ledger, &mut rng));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (n, hand) in [&mut upstream, &mut other].into_iter().enumerate() {
                let (ledger, is_over) = (&ledger, &is_over);
                let mut rng = StdRng::seed_from_u64(seed ^ (round << 8 | (n as u64 + 2)));
                scope.spawn(move || {
                    let mut done = 0;
                    while done < STEPS.start || (done < STEPS.end && !is_over.load(Ordering::Relaxed)) {
                        step(hand, ledger, &mut rng);
                        done += 1;
                    }
                });
            }
            // A message taken away under it may make it say so at its end; what it then left out, the next run must carry over.
            if let Err(said) = program.run(&config, home.path()) {
                println!("round {round}: {said}");
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }

    wait_for("the daemon to see what the upstream has", || far(&mut world.client()) == far(&mut world.straight()));
    for _ in 0..LAST_RUNS {
        program.run(&config, home.path()).expect("a run with nobody else about");
    }
    let upstream = far(&mut world.straight());
    same("the upstream and the Maildir", &upstream, &near.read());
    same("the upstream and the daemon", &upstream, &far(&mut world.client()));
    ledger.check(&upstream);
}

/// Where messages are, with their flags and bytes. More than one of a Message-ID would be a doubled message.
type Account = BTreeMap<&'static str, BTreeMap<u64, Vec<(Flags, Vec<u8>)>>>;

/// The flags as a Maildir names them.
type Flags = BTreeSet<char>;

const FLAGS: [(char, &str); 5] =
    [('F', "\\Flagged"), ('R', "\\Answered"), ('S', "\\Seen"), ('D', "\\Draft"), ('T', "\\Deleted")];

fn same(what: &str, a: &Account, b: &Account) {
    for mailbox in MAILBOXES {
        let ids: BTreeSet<_> = a[mailbox].keys().chain(b[mailbox].keys()).collect();
        for id in ids {
            let (a, b) = (a[mailbox].get(id), b[mailbox].get(id));
            let told = |copies: Option<&Vec<(Flags, Vec<u8>)>>| {
                format!("{:?}", copies.map(|c| c.iter().map(|(f, b)| (f.clone(), b.len())).collect::<Vec<_>>()))
            };
            assert!(a == b, "{what} differ in {mailbox}, message {id}: {} and {}", told(a), told(b));
        }
    }
}

/// The first number in `<seed.number@…>`.
fn number(message_id: &str) -> u64 {
    let inner = message_id.split_once('.').and_then(|(_, rest)| rest.split_once('@'));
    inner.and_then(|(n, _)| n.parse().ok()).unwrap_or_else(|| panic!("not one of ours: {message_id}"))
}

/// What a synchroniser must keep: all but the ends of lines and the mark by which it finds again what it has stored.
fn comparable(message: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|b| *b == b'\n');
    let kept = lines.filter(|l| !l.starts_with(b"X-TUID: ") && !l.starts_with(b"X-OfflineIMAP: "));
    kept.flatten().copied().filter(|b| *b != b'\r').collect()
}

// --- the far side: a session at a server ---

fn far(client: &mut Client) -> Account {
    let mut account = Account::new();
    for mailbox in MAILBOXES {
        client.cmd_ok(&format!("EXAMINE {mailbox}"));
        let mut messages: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for items in client.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[])").by_uid().into_values() {
            // A flag alone may be told of a message that came while the answer was on its way.
            let Some(body) = items.get("BODY[]").map(Value::bytes) else { continue };
            let body = comparable(body);
            let id = number(&header(&body, "message-id:"));
            messages.entry(id).or_default().push((flags(&items["FLAGS"]), body));
        }
        messages.values_mut().for_each(|copies| copies.sort());
        account.insert(mailbox, messages);
    }
    account
}

fn header(message: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(message);
    text.lines().find(|l| l.to_ascii_lowercase().starts_with(name)).unwrap_or_default().to_owned()
}

fn flags(told: &Value) -> Flags {
    let told: Vec<_> = told.list().iter().map(Value::text).collect();
    FLAGS.iter().filter(|(_, name)| told.iter().any(|t| t.eq_ignore_ascii_case(name))).map(|(c, _)| *c).collect()
}

fn append(client: &mut Client, ledger: &Ledger, rng: &mut StdRng, mailbox: &'static str) {
    let id = ledger.next();
    let given: Flags = if rng.random_bool(0.3) { Flags::from(['F']) } else { Flags::new() };
    let names = if given.is_empty() { "" } else { "\\Flagged" };
    client.append(mailbox, names, &ledger.bytes(id));
    ledger.added(id, mailbox, given);
}

/// One thing a person does at a mail program.
fn step(client: &mut Client, ledger: &Ledger, rng: &mut StdRng) {
    let here = *MAILBOXES.choose(rng).unwrap();
    if rng.random_bool(0.25) {
        return append(client, ledger, rng, here);
    }
    client.cmd_ok(&format!("SELECT {here}"));
    let seen = client.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])").by_uid();
    let mut known: Vec<(u64, u64, Flags)> = Vec::new();
    for (uid, items) in &seen {
        let Some(head) = items.get("BODY[HEADER.FIELDS (MESSAGE-ID)]") else { continue };
        known.push((*uid, number(&head.text()), flags(&items["FLAGS"])));
    }
    let Some((uid, id, flags)) = known.choose(rng) else { return };
    match rng.random_range(0..10) {
        0..6 => {
            let (sign, flag, name) = change(rng, flags);
            client.cmd_ok(&format!("UID STORE {uid} {sign}FLAGS ({name})"));
            if sign == '+' && flag != 'S' {
                ledger.given(*id, flag);
            }
        }
        6..8 if ledger.claim(*id) => {
            let to = MAILBOXES[usize::from(here == MAILBOXES[0])];
            if !client.cmd(&format!("UID MOVE {uid} {to}")).is_ok() {
                // The bare upstream has no MOVE.
                client.cmd_ok(&format!("UID COPY {uid} {to}"));
                expunge(client, *uid);
            }
            ledger.moved(*id, to);
        }
        _ if ledger.claim(*id) => {
            expunge(client, *uid);
            ledger.deleted(*id);
        }
        _ => {}
    }
}

fn expunge(client: &mut Client, uid: u64) {
    client.cmd_ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
    if !client.cmd(&format!("UID EXPUNGE {uid}")).is_ok() {
        client.cmd_ok("EXPUNGE");
    }
}

/// \Seen comes and goes; \Flagged and \Answered are given for good.
fn change(rng: &mut StdRng, now: &Flags) -> (char, char, &'static str) {
    let (flag, name) = FLAGS[rng.random_range(0..3)];
    (if flag == 'S' && now.contains(&'S') { '-' } else { '+' }, flag, name)
}
