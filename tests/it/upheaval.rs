//! Mailboxes are renamed, deleted and made anew while others have them selected: random runs with the seed printed; and INBOX is renamed,
//! by itself, as Dovecot puts its own INBOX out of order where sessions go on with the one that was renamed.
//!
//! A session may end with BYE there, or go on; it never shows one message for another. Each message has a name in its subject. A session
//! that has read the name at a number marks that number with a keyword of the same name, so a mark on another message is a number that was
//! wrong. What was appended with OK is there once at the end, wherever it was moved or its mailbox was renamed to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::answer::Value;
use crate::harness::client::Client;
use crate::harness::fleet::{Rules, View, flag_set};
use crate::harness::world::{Kind, World};
use crate::harness::{PATIENCE, seed, straight_run};

/// What is renamed to and fro, but for INBOX. Nothing is lost of these.
const KEPT: &[&str] = &["INBOX", "Ann", "Ben", "Cid"];
/// What is deleted and made anew, with whatever it holds: nothing is moved into it or out of it.
const LOST: &[&str] = &["Dust", "Dross"];
const SESSIONS: usize = 8;
const STEPS: usize = 250;

#[test]
fn mailboxes_come_and_go_dovecot() {
    run(Kind::Dovecot, seed(71));
}

#[test]
fn mailboxes_come_and_go_bare() {
    run(Kind::Bare, seed(72));
}

#[test]
fn mailboxes_come_and_go_cyrus() {
    run(Kind::Cyrus, seed(73));
}

#[test]
fn mailboxes_come_and_go_straight() {
    run(Kind::Straight, seed(74));
}

fn run(kind: Kind, seed: u64) {
    let world = World::new(kind, |c| {
        for name in KEPT[1..].iter().chain(LOST) {
            c.cmd_ok(&format!("CREATE {name}"));
        }
    });
    let mut crowd = Crowd {
        rng: StdRng::seed_from_u64(seed),
        seed,
        made: 0,
        sessions: Vec::new(),
        there: BTreeMap::new(),
        renamed: 0,
        cut_short: BTreeMap::new(),
    };
    for n in 0..SESSIONS {
        // The last one is straight at the upstream.
        let straight = n + 1 == SESSIONS;
        crowd.sessions.push(Session::new(connect(&world, straight), straight));
    }
    let mut byes = 0;
    for _ in 0..STEPS {
        byes += crowd.step(&world);
    }
    println!("{byes} sessions ended with BYE; {} renamings", crowd.renamed);
    crowd.settle(&world);
}

#[test]
fn inbox_is_renamed_under_others_dovecot() {
    inbox_is_renamed_under_others(Kind::Dovecot);
}

#[test]
fn inbox_is_renamed_under_others_bare() {
    inbox_is_renamed_under_others(Kind::Bare);
}

/// Not over Cyrus (3.8), which crashes at a RENAME of INBOX.
fn inbox_is_renamed_under_others(kind: Kind) {
    if straight_run() {
        // Dovecot itself answers with internal errors from then on.
        return;
    }
    let message = |which: &str| format!("Subject: {which}\r\n\r\nThis is {which}.\r\n").into_bytes();
    let named = |seen: &BTreeMap<u64, (String, BTreeSet<String>)>| {
        seen.values().map(|(which, _)| which.clone()).collect::<Vec<_>>()
    };
    let world = World::new(kind, |c| {
        for which in ["one", "two", "three"] {
            c.append("INBOX", "", &message(which));
        }
    });
    let mut others = [world.client(), world.client()];
    for other in &mut others {
        assert_eq!(other.cmd_ok("SELECT INBOX").untagged.iter().filter(|line| line.ends_with(b"3 EXISTS")).count(), 1);
        other.cmd_ok("UID STORE 2 +FLAGS (two)");
    }
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    c.cmd_ok("UNSELECT");
    c.cmd_ok("RENAME INBOX Old");
    assert_eq!(named(&contents(&mut c, "Old")), ["one", "two", "three"]);
    c.append("INBOX", "", &message("four"));
    for other in &mut others {
        // It ends, or its messages go and the new one comes: nothing that was is shown under the number of something else.
        let (mut gone, mut exists) = (0, 3);
        let deadline = Instant::now() + PATIENCE;
        while let Ok(answer) = other.try_cmd("NOOP") {
            for line in answer.lines() {
                gone += usize::from(line.ends_with("EXPUNGE"));
                exists = line
                    .strip_prefix("* ")
                    .and_then(|l| l.strip_suffix(" EXISTS"))
                    .map_or(exists, |n| n.parse().unwrap());
            }
            if gone == 3 && exists > 0 {
                let all = other.cmd_ok("FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])").by_uid();
                let names: Vec<String> = all
                    .values()
                    .map(|items| subject(items["BODY[HEADER.FIELDS (SUBJECT)]"].text().as_bytes()))
                    .collect();
                assert_eq!(names, ["four"]);
                break;
            }
            assert!(Instant::now() < deadline, "neither ended nor told: {}", other.transcript());
        }
    }
    let mut late = world.client();
    crate::harness::wait_for("the new message", || named(&contents(&mut late, "INBOX")) == ["four"]);
    assert_eq!(named(&contents(&mut late, "Old")), ["one", "two", "three"]);
    let kept = contents(&mut late, "Old");
    assert!(kept.values().all(|(which, flags)| flags.contains("two") == (which == "two")), "{kept:?}");
}

fn connect(world: &World, straight: bool) -> Client {
    if straight { world.straight() } else { world.client() }
}

struct Crowd {
    rng: StdRng,
    seed: u64,
    made: usize,
    sessions: Vec<Session>,
    /// Messages that nothing may lose, and whether their APPEND was answered OK.
    there: BTreeMap<String, bool>,
    renamed: usize,
    /// MOVEs that ended otherwise than with OK, by message.
    cut_short: BTreeMap<String, Vec<End>>,
}

struct Session {
    client: Client,
    straight: bool,
    selected: Option<String>,
    view: View,
    /// Names of messages by UID, as read.
    names: HashMap<u32, String>,
}

/// A command under way.
struct Sent {
    tag: String,
    line: String,
    literal: Option<Vec<u8>>,
    /// The message an APPEND brings, if nothing may lose it.
    brings: Option<String>,
    /// The message a MOVE takes, if it was read.
    takes: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Ok,
    No(String),
    Bye,
}

impl Session {
    fn new(client: Client, straight: bool) -> Self {
        Self { client, straight, selected: None, view: View::default(), names: HashMap::new() }
    }

    fn leave(&mut self) {
        (self.selected, self.view, self.names) = (None, View::default(), HashMap::new());
    }

    /// Reads up to the tagged answer or the end of the connection; an error is a broken rule.
    fn follow(&mut self, sent: &mut Sent, kind: Kind) -> Result<End, String> {
        let rules = Rules::of(&sent.line);
        let mut bye = false;
        // Bytes of a UID are held against names here, which outlive nothing but the selection.
        let mut bodies = HashMap::new();
        loop {
            let line = match self.client.try_line() {
                Ok(line) => line,
                // Cyrus (3.8) is seen to crash where a mailbox goes that it has selected.
                Err(_) if bye || (self.straight && kind == Kind::Cyrus) => return Ok(End::Bye),
                Err(error) => return Err(format!("ended without BYE: {error}")),
            };
            let text = String::from_utf8_lossy(&line).into_owned();
            if line.starts_with(b"+") {
                let literal = sent.literal.take().ok_or("a continuation nobody asked for")?;
                self.client.try_send(&literal).map_err(|error| error.to_string())?;
            } else if text.starts_with("* BYE") {
                bye = true;
            } else if line.starts_with(b"* ") {
                let Some((n, items)) = self.view.hear(&line, rules, &mut bodies)? else { continue };
                let Some(Value::Text(header)) = items.get("BODY[HEADER.FIELDS (SUBJECT)]") else { continue };
                let name = subject(header);
                let Some(uid) = self.view.uid(n) else { return Err(format!("no UID at {n}")) };
                let known = self.names.entry(uid).or_insert_with(|| name.clone());
                if *known != name {
                    return Err(format!("UID {uid} was {known} and is {name}"));
                }
            } else if let Some(rest) = text.strip_prefix(&format!("{} ", sent.tag)) {
                return match rest.split(' ').next() {
                    Some("OK") => Ok(End::Ok),
                    Some("NO") => Ok(End::No(rest.to_owned())),
                    _ => Err(text),
                };
            } else {
                return Err(format!("neither untagged nor ours: {text}"));
            }
        }
    }
}

fn subject(header: &[u8]) -> String {
    String::from_utf8_lossy(header).trim().strip_prefix("Subject: ").expect("a subject").to_owned()
}

impl Crowd {
    /// One to three sessions have a command under way; how many connections ended.
    fn step(&mut self, world: &World) -> usize {
        let mut chosen = BTreeSet::new();
        for _ in 0..self.rng.random_range(1..=3) {
            chosen.insert(self.rng.random_range(0..self.sessions.len()));
        }
        let mut under_way = Vec::new();
        for at in chosen {
            let mut sent = self.choose(at);
            let is_upheaval = ["RENAME", "DELETE", "CREATE"].iter().any(|word| sent.line.starts_with(word));
            if is_upheaval && !under_way.is_empty() {
                // Alone: Dovecot and Cyrus themselves lose and double mail where a mailbox is renamed in the middle of a command.
                continue;
            }
            sent.tag = match self.sessions[at].client.start(&sent.line) {
                Ok(tag) => tag,
                Err(_) => continue,
            };
            under_way.push((at, sent));
            if is_upheaval {
                break;
            }
        }
        let mut byes = 0;
        for (at, mut sent) in under_way {
            let session = &mut self.sessions[at];
            if sent.line.starts_with("SELECT") {
                session.leave();
            }
            let end = match session.follow(&mut sent, world.kind) {
                Ok(end) => end,
                Err(broken) => self.fail(at, &sent.line, &broken),
            };
            if let Some(name) = &sent.takes
                && end != End::Ok
            {
                self.cut_short.entry(name.clone()).or_default().push(end.clone());
            }
            let session = &mut self.sessions[at];
            if end == End::Bye {
                byes += 1;
                let straight = session.straight;
                *session = Session::new(connect(world, straight), straight);
            } else if let Some(name) = sent.line.strip_prefix("SELECT ") {
                session.selected = (end == End::Ok).then(|| name.to_owned());
            } else if sent.line == "UNSELECT" || (sent.line.starts_with("DELETE") && end == End::Ok) {
                // Who deletes what it has selected goes on without it.
                let own = sent.line.strip_prefix("DELETE ");
                if own.is_none() || own == session.selected.as_deref() {
                    session.leave();
                }
            }
            self.renamed += usize::from(sent.line.starts_with("RENAME") && end == End::Ok);
            if let Some(name) = sent.brings {
                *self.there.entry(name).or_default() |= end == End::Ok;
            }
        }
        byes
    }

    fn choose(&mut self, at: usize) -> Sent {
        let all: Vec<&str> = KEPT.iter().chain(LOST).copied().collect();
        let rng = &mut self.rng;
        let mut any = |of: &[&str]| of[rng.random_range(0..of.len())].to_owned();
        let (box_, kept, lost, other) = (any(&all), any(KEPT), any(LOST), any(&KEPT[1..]));
        let kind = rng.random_range(0..100);
        let session = &self.sessions[at];
        let size = session.view.size();
        let n = rng.random_range(1..=size.max(1));
        let line = match kind {
            // Upheaval.
            0..=2 => format!("RENAME {other} {}", KEPT[rng.random_range(1..KEPT.len())]),
            3 => format!("RENAME {other} Away{}", rng.random_range(0..2)),
            4 | 5 => format!("RENAME Away{} {other}", rng.random_range(0..2)),
            6..=9 => format!("DELETE {lost}"),
            10..=13 => format!("CREATE {lost}"),
            14..=17 => format!("SELECT {box_}"),
            // Mail.
            18..=34 => {
                self.made += 1;
                let is_kept = rng.random_bool(0.7);
                let name = format!("{}{}", if is_kept { "m" } else { "x" }, self.made);
                let to = if is_kept { kept } else { lost };
                let bytes = format!("Subject: {name}\r\n\r\nThis is {name}.\r\n").into_bytes();
                let line = format!("APPEND {to} {{{}}}", bytes.len());
                let literal = Some([&bytes[..], b"\r\n"].concat());
                return Sent { tag: String::new(), line, literal, brings: is_kept.then_some(name), takes: None };
            }
            _ if session.selected.is_none() => format!("SELECT {box_}"),
            35 => "UNSELECT".to_owned(),
            36..=55 => "NOOP".to_owned(),
            56..=75 if size > 0 => "FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])".to_owned(),
            76..=92 if size > 0 => match session.view.uid(n).and_then(|uid| session.names.get(&uid)) {
                Some(name) => format!("STORE {n} +FLAGS.SILENT (is-{name})"),
                None => format!("FETCH {n} (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])"),
            },
            93..=96 if size > 0 && session.selected.as_deref().is_some_and(|at| !LOST.contains(&at)) => {
                format!("MOVE {n} {kept}")
            }
            _ => "NOOP".to_owned(),
        };
        let takes = session.view.uid(n).and_then(|uid| session.names.get(&uid)).filter(|_| line.starts_with("MOVE"));
        Sent { tag: String::new(), line, literal: None, brings: None, takes: takes.cloned() }
    }

    /// At rest each session sees each mailbox as the upstream has it, and all the mail is there.
    fn settle(&mut self, world: &World) {
        let mut straight = world.straight();
        let names = straight.cmd_ok("LIST \"\" *").names("LIST");
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        let mut truth = BTreeMap::new();
        for name in &names {
            let contents = contents(&mut straight, name);
            for (which, flags) in contents.values() {
                *found.entry(which.clone()).or_default() += 1;
                for mark in flags.iter().filter(|flag| flag.starts_with("is-")) {
                    assert_eq!(
                        *mark,
                        format!("is-{which}"),
                        "seed {}: {which} in {name} was taken for another",
                        self.seed
                    );
                }
            }
            truth.insert(name.clone(), contents);
        }
        // Eight sessions at Dovecot itself, with the index it rebuilds under them, double mail now and then: no proof of anything of ours.
        let is_rebuilt = world.kind == Kind::Straight && world.upstream.dovecot().log().contains("fscking");
        for (name, appended) in &self.there {
            let count = found.get(name).copied().unwrap_or_default();
            let cut_short = self.cut_short.get(name);
            if is_rebuilt && count != 1 {
                println!("Dovecot, which has rebuilt its index, has {name} {count} times");
                continue;
            }
            assert!(count <= 1, "seed {}: {name} is there {count} times; {cut_short:?}", self.seed);
            assert!(count == 1 || !appended, "seed {}: {name} is lost", self.seed);
        }
        for at in 0..SESSIONS {
            let through = &mut connect(world, at + 1 == SESSIONS);
            let start = Instant::now();
            let agree = |through: &mut Client| -> Result<(), String> {
                let mut listed = through.cmd_ok("LIST \"\" *").names("LIST");
                let mut there = names.clone();
                listed.sort();
                there.sort();
                if listed != there {
                    return Err(format!("LIST: {listed:?}, upstream has {there:?}"));
                }
                for (name, contents) in &truth {
                    let seen = self::contents(through, name);
                    if seen != *contents {
                        return Err(format!("{name}: {seen:?}, upstream has {contents:?}"));
                    }
                }
                Ok(())
            };
            while let Err(differs) = agree(through) {
                assert!(start.elapsed() < PATIENCE, "seed {}: at rest {differs}\n{}", self.seed, through.transcript());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn fail(&self, at: usize, command: &str, why: &str) -> ! {
        let transcript = self.sessions[at].client.transcript();
        panic!("seed {}, session {at}, {command}: {why}\n--- conversation ---\n{transcript}", self.seed)
    }
}

/// Which message is at which UID, with its flags.
fn contents(client: &mut Client, name: &str) -> BTreeMap<u64, (String, BTreeSet<String>)> {
    if !client.cmd(&format!("EXAMINE {name}")).is_ok() {
        return BTreeMap::new();
    }
    let all = client.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])").by_uid();
    let text = |value: &Value| subject(value.text().as_bytes());
    all.iter()
        .map(|(uid, items)| (*uid, (text(&items["BODY[HEADER.FIELDS (SUBJECT)]"]), flag_set(&items["FLAGS"]))))
        .collect()
}
