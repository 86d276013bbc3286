//! Kill -9 of the daemon among a thousand writes of several clients, half of the kills in the middle of one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::answer::{Answer, Status};
use crate::harness::client::Client;
use crate::harness::daemon::Setup;
use crate::harness::fleet::flag_set;
use crate::harness::relay::Link;
use crate::harness::trap::{Act, Place, Point, Trap};
use crate::harness::world::{Kind, World};
use crate::harness::{ADDRESS, LOCAL_PASSWORD, PATIENCE, seed, straight_run};

#[test]
fn kill_nine_among_a_thousand_writes_dovecot() {
    kill_nine_among_a_thousand_writes(Kind::Dovecot);
}

#[test]
fn kill_nine_among_a_thousand_writes_bare() {
    kill_nine_among_a_thousand_writes(Kind::Bare);
}

#[test]
fn kill_nine_among_a_thousand_writes_cyrus() {
    kill_nine_among_a_thousand_writes(Kind::Cyrus);
}

const WRITES: usize = 1000;
const KILLS: usize = 6;
const WRITERS: usize = 5;
const BOXES: &[&str] = &["One", "Two", "Three"];
/// A mailbox for each writer: what is marked there is its own, so it may EXPUNGE and CLOSE.
const OWN: [&str; WRITERS] = ["Own0", "Own1", "Own2", "Own3", "Own4"];
/// Every other kill waits for a write to come to one of these steps, so it does hit one.
const STEPS: &[(Point, Place)] = &[(Point::Command, Place::Before), (Point::Answer, Place::Before)];

/// The daemon is killed at random moments while clients write. What was acknowledged is there once; what was not is there once or not at all.
fn kill_nine_among_a_thousand_writes(kind: Kind) {
    if straight_run() {
        return;
    }
    let seed = seed(61);
    // The relay reads along: Cyrus offers COMPRESS.
    let plain = |mut setup: Setup| {
        setup.accounts[0].limits_more = "compress = false".to_owned();
        setup
    };
    let mut world = World::with(kind, Link::default(), plain, |c| {
        BOXES.iter().chain(&OWN).for_each(|name| drop(c.cmd_ok(&format!("CREATE {name}"))));
    });
    // What an unfinished write is settled with after a restart is nobody's write: there these two are never said.
    let words: &[&str] = match kind {
        Kind::Bare => &["APPEND ", "UID COPY"],
        _ => &["APPEND ", "UID COPY", "UID MOVE", "UID STORE", "UID EXPUNGE"],
    };
    let (done, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut rng = StdRng::seed_from_u64(seed);
    // Late enough for there to be something to copy and expunge, and early enough for one of each to come.
    let mut moments: Vec<usize> = (0..KILLS).map(|_| rng.random_range(50..WRITES - 250)).collect();
    moments.sort_unstable();
    let addr = world.daemon().imap;
    let mut straights: Vec<Client> = (0..WRITERS).map(|_| world.straight()).collect();
    let writers: Vec<Writer> = std::thread::scope(|scope| {
        let (done, over) = (&done, &over);
        let threads: Vec<_> = straights
            .drain(..)
            .enumerate()
            .map(|(n, straight)| {
                scope.spawn(move || {
                    let mut writer = Writer::new(n, seed + n as u64 * 1000, addr, straight);
                    writer.marks_anywhere = kind != Kind::Bare;
                    while done.fetch_add(1, Ordering::SeqCst) < WRITES && !over.load(Ordering::SeqCst) {
                        writer.write();
                    }
                    writer
                })
            })
            .collect();
        for (n, moment) in moments.into_iter().enumerate() {
            let start = Instant::now();
            while done.load(Ordering::SeqCst) < moment && threads.iter().any(|t| !t.is_finished()) {
                assert!(start.elapsed() < PATIENCE * 4, "the writers are stuck");
                std::thread::sleep(Duration::from_millis(1));
            }
            if n % 2 == 0 {
                let ((point, place), word) = (STEPS[n / 2 % STEPS.len()], words[rng.random_range(0..words.len())]);
                world.relay.set_trap(Trap::new(word, point, place, Act::CutAll));
                assert!(world.relay.sprung(PATIENCE), "no {word} came by");
            } else {
                std::thread::sleep(Duration::from_micros(rng.random_range(0..8000)));
            }
            world.daemon_mut().kill();
            world.relay.go_on();
            world.daemon_mut().restart();
        }
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|why| {
                    over.store(true, Ordering::SeqCst);
                    std::panic::resume_unwind(why)
                })
            })
            .collect()
    });
    let cut: usize = writers.iter().map(|w| w.cut.0).sum();
    let happened: usize = writers.iter().map(|w| w.cut.1).sum();
    let kinds = writers.iter().fold(BTreeMap::new(), |mut all: BTreeMap<&str, usize>, writer| {
        writer.done.iter().for_each(|(word, count)| *all.entry(word).or_default() += count);
        all
    });
    println!("{cut} writes were cut off by a kill, {happened} of them had happened; done: {kinds:?}");
    assert!(cut >= KILLS.div_ceil(2), "the kills fell between the writes");
    // One was caught before the provider had it, and one behind.
    assert!(0 < happened && happened < cut);
    for word in ["APPEND", "STORE", "COPY", "MOVE", "EXPUNGE", "CLOSE"] {
        assert!(kinds.contains_key(word), "no {word}");
    }
    let mut expected: Contents = BTreeMap::new();
    writers
        .iter()
        .for_each(|w| expected.extend(w.there.iter().map(|(at, (_, flags))| (at.clone(), vec![flags.clone()]))));
    // Marks that were taken off for a plain EXPUNGE are put back when the daemon is up again.
    let (mut straight, start) = (world.straight(), Instant::now());
    loop {
        let found = contents(&mut straight);
        if found == expected {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "at the upstream: {:?}", differences(&found, &expected));
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut through = world.client();
    let start = Instant::now();
    while contents(&mut through) != expected {
        assert!(
            start.elapsed() < PATIENCE,
            "through the daemon: {:?}",
            differences(&contents(&mut through), &expected)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    for writer in writers {
        writer.uids_still_name_the_same(&mut through);
    }
}

/// A message (its subject) in a mailbox.
type At = (String, &'static str);
/// What is in the mailboxes: the flags of each copy of a message there.
type Contents = BTreeMap<At, Vec<BTreeSet<String>>>;

fn contents(client: &mut Client) -> Contents {
    let mut all = Contents::new();
    for name in BOXES.iter().chain(&OWN) {
        client.cmd_ok(&format!("SELECT {name}"));
        for items in client.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])").by_uid().values() {
            let which = subject(&items["BODY[HEADER.FIELDS (SUBJECT)]"].text());
            all.entry((which, *name)).or_default().push(flag_set(&items["FLAGS"]));
        }
    }
    all
}

fn subject(header: &str) -> String {
    header.trim().strip_prefix("Subject: ").expect("a subject").to_owned()
}

fn differences(found: &Contents, expected: &Contents) -> Vec<String> {
    let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differ = keys.into_iter().filter(|at| found.get(at) != expected.get(at));
    differ.map(|at| format!("{at:?}: {:?}, expected {:?}", found.get(at), expected.get(at))).collect()
}

/// A client that writes, and knows what must be so. Only it touches its messages; the mailboxes are everybody's.
struct Writer {
    name: usize,
    rng: StdRng,
    addr: std::net::SocketAddr,
    client: Option<Client>,
    straight: Client,
    selected: Option<&'static str>,
    /// UIDs where known, and flags.
    there: BTreeMap<At, (Option<u32>, BTreeSet<String>)>,
    validity: BTreeMap<&'static str, String>,
    made: usize,
    /// Marks messages \Deleted in the shared mailboxes too. Over a bare upstream a mark there may be away for a moment, while somebody else's
    /// plain EXPUNGE spares the message.
    marks_anywhere: bool,
    /// How many of each kind were acknowledged.
    done: BTreeMap<&'static str, usize>,
    /// Writes cut off by a kill, and how many of them had happened.
    cut: (usize, usize),
}

/// A write: what must hold before and after it.
struct Write {
    kind: &'static str,
    line: String,
    literal: Option<Vec<u8>>,
    /// What it takes away, and what it brings.
    takes: Vec<At>,
    brings: Vec<(At, BTreeSet<String>)>,
}

impl Writer {
    fn new(name: usize, seed: u64, addr: std::net::SocketAddr, straight: Client) -> Self {
        Self {
            name,
            rng: StdRng::seed_from_u64(seed),
            addr,
            client: None,
            straight,
            selected: None,
            there: BTreeMap::new(),
            validity: BTreeMap::new(),
            made: 0,
            marks_anywhere: true,
            done: BTreeMap::new(),
            cut: (0, 0),
        }
    }

    fn write(&mut self) {
        let Some(write) = self.choose() else { return };
        match self.say(&write) {
            Some(answer) => {
                // A NO is possible while the provider is not reached yet after a start: then nothing has been done.
                let is_done = answer.status == Status::Ok;
                assert!(answer.status != Status::Bad, "{}: {}", write.line, answer.text);
                self.is_so(&write, Some(is_done), &answer.text);
                if is_done {
                    *self.done.entry(write.kind).or_default() += 1;
                    self.take_over(&write, Some(&answer));
                }
                if write.kind == "CLOSE" {
                    self.selected = None;
                }
            }
            None => {
                self.cut.0 += 1;
                if self.is_so(&write, None, "cut off") {
                    self.cut.1 += 1;
                    self.take_over(&write, None);
                }
            }
        }
    }

    fn choose(&mut self) -> Option<Write> {
        let own = OWN[self.name];
        let mut to = BOXES.get(self.rng.random_range(0..=BOXES.len())).copied().unwrap_or(own);
        let kind = self.rng.random_range(0..14);
        let chosen = (!self.there.is_empty()).then(|| self.rng.random_range(0..self.there.len()));
        let (at, flags) = match chosen.and_then(|n| self.there.iter().nth(n)) {
            Some((at, (_, flags))) if kind > 2 => (at.clone(), flags.clone()),
            _ => {
                self.made += 1;
                let which = format!("w{}-{}", self.name, self.made);
                let bytes =
                    format!("Message-ID: <{which}@example.org>\r\nSubject: {which}\r\n\r\nThis is {which}.\r\n");
                let line = format!("APPEND {to} (\\Seen) {{{}+}}", bytes.len());
                let brings = vec![((which, to), BTreeSet::from(["\\seen".to_owned()]))];
                let literal = Some(bytes.into_bytes());
                return Some(Write { kind: "APPEND", line, literal, takes: Vec::new(), brings });
            }
        };
        let uid = self.uid_of(&at)?;
        let is_marked = flags.contains("\\deleted");
        if is_marked && !self.marks_anywhere {
            to = own;
        }
        let target = (at.0.clone(), to);
        let write = |kind, line, takes, brings| Some(Write { kind, line, literal: None, takes, brings });
        if kind >= 10 && is_marked {
            let all_marked =
                |(at, (_, flags)): &(&At, &(Option<u32>, BTreeSet<String>))| at.1 == own && flags.contains("\\deleted");
            return match kind {
                10 | 11 if at.1 == own => {
                    let takes = self.there.iter().filter(all_marked).map(|(at, _)| at.clone()).collect();
                    let kind = if kind == 10 { "EXPUNGE" } else { "CLOSE" };
                    write(kind, kind.to_owned(), takes, Vec::new())
                }
                _ => write("EXPUNGE", format!("UID EXPUNGE {uid}"), vec![at], Vec::new()),
            };
        }
        if kind >= 10 && (at.1 == own || self.marks_anywhere) {
            let mut after = flags;
            after.insert("\\deleted".to_owned());
            return write("STORE", format!("UID STORE {uid} +FLAGS (\\Deleted)"), vec![at.clone()], vec![(at, after)]);
        }
        if kind < 6 || self.there.contains_key(&target) {
            let mut after = flags;
            let sign = if after.remove("\\flagged") { '-' } else { '+' };
            if sign == '+' {
                after.insert("\\flagged".to_owned());
            }
            let line = format!("UID STORE {uid} {sign}FLAGS (\\Flagged)");
            return write("STORE", line, vec![at.clone()], vec![(at, after)]);
        }
        match kind {
            6 | 7 => write("COPY", format!("UID COPY {uid} {to}"), Vec::new(), vec![(target, flags)]),
            _ => write("MOVE", format!("UID MOVE {uid} {to}"), vec![at], vec![(target, flags)]),
        }
    }

    /// The UID of a message, with its mailbox selected. `None` when the daemon was killed meanwhile.
    fn uid_of(&mut self, at: &At) -> Option<u32> {
        if self.selected != Some(at.1) {
            self.selected = None;
            let answer = self.try_say(&format!("SELECT {}", at.1), None)?;
            if answer.status != Status::Ok {
                return None;
            }
            let validity = answer.code("UIDVALIDITY").expect("UIDVALIDITY");
            let known = self.validity.entry(at.1).or_insert_with(|| validity.clone());
            assert_eq!(*known, validity, "UIDVALIDITY of {}", at.1);
            self.selected = Some(at.1);
        }
        if let Some((Some(uid), _)) = self.there.get(at) {
            return Some(*uid);
        }
        let search = format!("UID SEARCH HEADER Message-ID <{}@example.org>", at.0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.try_say(&search, None)?;
            match answer.search().as_slice() {
                [uid] => {
                    self.there.get_mut(at).expect("it is there").0 = Some(*uid);
                    return Some(*uid);
                }
                [] if Instant::now() < deadline => drop(self.try_say("NOOP", None)?),
                found => panic!("{at:?} is found as {found:?}"),
            }
        }
    }

    fn say(&mut self, write: &Write) -> Option<Answer> {
        self.try_say(&write.line, write.literal.as_deref())
    }

    /// `None` when the connection ended before the answer; the next call makes a new one.
    fn try_say(&mut self, line: &str, literal: Option<&[u8]>) -> Option<Answer> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                self.selected = None;
                self.connect()
            }
        };
        let answer = client.start(line).and_then(|tag| {
            if let Some(literal) = literal {
                client.try_send(&[literal, b"\r\n"].concat())?;
            }
            client.finish(&tag)
        });
        match answer {
            Ok(answer) => {
                self.client = Some(client);
                Some(answer)
            }
            Err(_) => {
                self.selected = None;
                None
            }
        }
    }

    fn connect(&self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let client = Client::try_connect(self.addr).and_then(|mut client| {
                let answer = client.try_cmd(&format!("LOGIN {ADDRESS} {LOCAL_PASSWORD}"));
                let answer = answer.map_err(|e| std::io::Error::other(format!("after the greeting: {e}")))?;
                if answer.is_ok() { Ok(client) } else { Err(std::io::Error::other(answer.text)) }
            });
            match client {
                Ok(client) => return client,
                Err(why) => assert!(Instant::now() < deadline, "no connection after a restart: {why}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Looks at the upstream whether the write happened, once and as a whole; what it is to be, if that is known. What was begun before a kill
    /// is ended after the restart, so a cut off write may take its time.
    fn is_so(&mut self, write: &Write, told: Option<bool>, words: &str) -> bool {
        let ats: BTreeSet<&At> = write.takes.iter().chain(write.brings.iter().map(|(at, _)| at)).collect();
        let known = |at: &&At| self.there.get(*at).map(|(_, flags)| flags.clone());
        let before: Vec<Vec<_>> = ats.iter().map(|at| known(at).into_iter().collect()).collect();
        let after = ats.iter().zip(&before).map(|(at, was)| {
            let brought = write.brings.iter().find(|(to, _)| to == *at);
            let taken = write.takes.iter().any(|from| from == *at);
            match brought {
                Some((_, flags)) => vec![flags.clone()],
                None if taken => Vec::new(),
                None => was.clone(),
            }
        });
        let after: Vec<Vec<_>> = after.collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now: Vec<_> = ats.iter().map(|at| upstream(&mut self.straight, at)).collect();
            let ended = match told {
                Some(true) => now == after,
                Some(false) => now == before,
                None => now == before || now == after,
            };
            if ended {
                return now == after;
            }
            assert!(
                told.is_none() && Instant::now() < deadline,
                "{} ({words}): {ats:?} is {now:?}, was {before:?}, to be {after:?}",
                write.line
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn take_over(&mut self, write: &Write, answer: Option<&Answer>) {
        let uids = |code: &str| answer.and_then(|a| a.code(code)).and_then(|c| c.split(' ').next_back()?.parse().ok());
        let told: Option<u32> = uids("APPENDUID").or_else(|| uids("COPYUID"));
        for at in &write.takes {
            let kept = self.there.remove(at);
            if let Some((brought, flags)) = write.brings.iter().find(|(brought, _)| brought == at) {
                self.there.insert(brought.clone(), (kept.and_then(|k| k.0), flags.clone()));
            }
        }
        for (at, flags) in write.brings.iter().filter(|(at, _)| !write.takes.contains(at)) {
            self.there.insert(at.clone(), (told, flags.clone()));
        }
    }

    /// The UIDs it has been told in all that time.
    fn uids_still_name_the_same(&self, through: &mut Client) {
        for name in BOXES.iter().chain(&OWN) {
            through.cmd_ok(&format!("SELECT {name}"));
            let all = through.cmd_ok("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])").by_uid();
            for ((which, at), (uid, _)) in self.there.iter().filter(|((_, at), _)| at == name) {
                let Some(uid) = uid else { continue };
                let there =
                    all.get(&u64::from(*uid)).map(|items| subject(&items["BODY[HEADER.FIELDS (SUBJECT)]"].text()));
                assert_eq!(there.as_deref(), Some(which.as_str()), "UID {uid} in {at}");
            }
        }
    }
}

/// The flags of each copy of a message in a mailbox.
fn upstream(straight: &mut Client, (which, name): &At) -> Vec<BTreeSet<String>> {
    straight.cmd_ok(&format!("SELECT {name}"));
    let found = straight.cmd_ok(&format!("UID SEARCH HEADER Message-ID <{which}@example.org>")).search();
    let mut copies = Vec::new();
    for uid in found {
        let told = straight.cmd_ok(&format!("UID FETCH {uid} (FLAGS)")).by_uid();
        copies.extend(told.get(&u64::from(uid)).map(|items| flag_set(&items["FLAGS"])));
    }
    copies
}
