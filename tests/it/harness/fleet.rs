//! Random work by many sessions on one mailbox, each followed by a naive model of what its client must believe.
//!
//! The model knows only what the session was told, and checks every untagged line against the rules of the protocol:
//! no message number beyond the size, EXPUNGE only where the client may renumber (RFC 9051 §7.5.1), EXISTS never
//! shrinking, UIDs ascending and never changing under a number, a UID's bytes the same for everybody. At rest all
//! sessions and the upstream must agree. Which command is sent where follows from the seed; several sessions have a
//! command under way at once, so the server does run them side by side.

mod everything;
mod view;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::answer::Value;
use super::client::Client;
use super::{PATIENCE, mail};
use everything::Condition;
pub use view::{Rules, View, flag_set};

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Reads,
    ReadsAndWrites,
    /// COPY and MOVE to [`ASIDE`], CLOSE, UNCHANGEDSINCE, MULTIAPPEND and commands about mailboxes as well.
    Everything,
}

/// Where messages are copied and moved to; it must be there.
pub const ASIDE: &str = "Aside";

/// A run: sessions, how many steps, and the seed.
pub struct Fleet {
    sessions: Vec<Session>,
    rng: StdRng,
    /// Every UID's bytes as first seen, by whomever.
    bodies: HashMap<u32, Vec<u8>>,
    seed: u64,
    appended: u64,
}

struct Session {
    name: String,
    role: Role,
    client: Client,
    view: View,
    selected: bool,
}

impl Fleet {
    pub fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { sessions: Vec::new(), rng, bodies: HashMap::new(), seed, appended: 0 }
    }

    /// Adds a session that is logged in.
    pub fn join(&mut self, name: &str, role: Role, client: Client) {
        let name = format!("{name}{}", self.sessions.len());
        let view = View { loose: name.contains("straight"), ..View::default() };
        self.sessions.push(Session { name, role, client, view, selected: false });
    }

    /// Adds a session that has said ENABLE QRESYNC.
    pub fn join_with_qresync(&mut self, name: &str, role: Role, mut client: Client) {
        client.cmd_ok("ENABLE QRESYNC");
        self.join(&format!("qresync-{name}"), role, client);
        self.sessions.last_mut().expect("it has just come").view.qresync = true;
    }

    /// Runs `steps` steps. In each, one to three sessions have a command under way at once.
    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let together = self.rng.random_range(1..=3.min(self.sessions.len()));
            let mut chosen = BTreeSet::new();
            while chosen.len() < together {
                chosen.insert(self.rng.random_range(0..self.sessions.len()));
            }
            let mut under_way = Vec::new();
            for at in chosen {
                let command = self.next_command(at);
                under_way.push((at, self.send(at, &command)));
            }
            for (at, sent) in under_way {
                self.follow(at, sent);
            }
        }
    }

    /// What the session does next; SELECT first.
    fn next_command(&mut self, at: usize) -> Command {
        let size = self.sessions[at].view.size();
        let rng = &mut self.rng;
        if !self.sessions[at].selected {
            return Command::Line("SELECT INBOX".to_owned());
        }
        if rng.random_range(0..60) == 0 {
            self.sessions[at].selected = false;
            return Command::Line("UNSELECT".to_owned());
        }
        if self.sessions[at].role == Role::Everything && size > 0 && rng.random_range(0..3) == 0 {
            return self.one_of_everything(at);
        }
        let one = |rng: &mut StdRng| rng.random_range(1..=size.max(1));
        let n = one(rng);
        let m = one(rng);
        let range = format!("{}:{}", n.min(m), n.max(m));
        let uid = self.sessions[at].view.messages.get(n as usize - 1).and_then(|m| m.uid).unwrap_or(n);
        if size == 0 {
            return if self.sessions[at].role == Role::Reads {
                Command::Line("NOOP".to_owned())
            } else {
                self.append()
            };
        }
        let line = match rng.random_range(0..if self.sessions[at].role == Role::Reads { 11 } else { 20 }) {
            0 | 1 => "NOOP".to_owned(),
            2 => format!("FETCH {range} (UID FLAGS)"),
            3 => format!("UID FETCH {uid}:* (FLAGS RFC822.SIZE)"),
            4 => format!("FETCH {n} (UID BODY.PEEK[])"),
            5 => format!("UID FETCH {uid} (BODY[])"),
            6 => format!("FETCH {range} (UID ENVELOPE)"),
            7 => "SEARCH UNSEEN".to_owned(),
            8 => format!("UID SEARCH {range} UNFLAGGED"),
            9 => return Command::Idle,
            10 => "CHECK".to_owned(),
            11 | 12 => format!("STORE {n} {}", change(rng)),
            13 | 14 => format!("UID STORE {uid} {}", change(rng)),
            15 => format!("STORE {range} +FLAGS.SILENT (\\Seen)"),
            16 => format!("STORE {n} +FLAGS (\\Deleted)"),
            17 if size > 10 => "EXPUNGE".to_owned(),
            18 if size > 10 => format!("UID EXPUNGE {uid}"),
            _ => return self.append(),
        };
        Command::Line(line)
    }

    fn append(&mut self) -> Command {
        self.appended += 1;
        Command::Append(vec![mail::message(self.seed ^ 0xa99e, self.appended, mail::Sizes::Small).bytes])
    }

    fn send(&mut self, at: usize, command: &Command) -> Sent {
        let session = &mut self.sessions[at];
        let client = &mut session.client;
        let (tag, line) = match command {
            Command::Line(line) => {
                if line.starts_with("SELECT") {
                    session.view.leave();
                    session.selected = true;
                }
                if let Some(rest) = line.strip_prefix("STORE ").filter(|l| l.contains(".SILENT")) {
                    let (first, last) = rest.split(' ').next().unwrap().split_once(':').expect("a range");
                    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                    for message in &mut session.view.messages[first - 1..last] {
                        message.flags = None;
                    }
                }
                (client.start(line).expect("send"), line.clone())
            }
            Command::Idle => (client.start("IDLE").expect("send"), "IDLE".to_owned()),
            Command::Append(messages) => {
                let tag = client.start(&format!("APPEND INBOX {{{}}}", messages[0].len())).expect("send");
                (tag, "APPEND".to_owned())
            }
            Command::If(condition) => {
                let line = condition.line();
                (client.start(&line).expect("send"), line)
            }
        };
        let then = match command {
            Command::Append(messages) => {
                let ends = messages[1..].iter().map(|next| format!(" {{{}}}\r\n", next.len()));
                let ends = ends.chain(["\r\n".to_owned()]);
                messages.iter().zip(ends).map(|(message, end)| [message, end.as_bytes()].concat()).collect()
            }
            Command::Idle => VecDeque::from([b"DONE\r\n".to_vec()]),
            Command::Line(_) | Command::If(_) => VecDeque::new(),
        };
        let condition = if let Command::If(condition) = command { Some(condition.clone()) } else { None };
        Sent { tag, line, then, condition }
    }

    /// Reads up to the tagged answer, checking every line.
    fn follow(&mut self, at: usize, mut sent: Sent) {
        let rules = Rules::of(&sent.line);
        let mut answered = BTreeSet::new();
        let expected = wanted(&sent.line);
        loop {
            let line = match self.sessions[at].client.try_line() {
                Ok(line) => line,
                Err(e) => self.fail(at, &sent.line, &format!("connection: {e}")),
            };
            if line.starts_with(b"+") {
                let Some(then) = sent.then.pop_front() else {
                    self.fail(at, &sent.line, "a continuation nobody asked for")
                };
                self.sessions[at].client.try_send(&then).expect("send");
                continue;
            }
            if line.starts_with(b"* ") {
                let heard = self.sessions[at].view.hear(&line, rules, &mut self.bodies);
                match heard {
                    Ok(Some((n, items))) => {
                        if let Some(condition) = &mut sent.condition {
                            condition.hear(n, &items);
                        }
                        if expected.as_ref().is_some_and(|(_, _, item)| items.contains_key(*item)) {
                            answered.insert(n);
                        }
                    }
                    Ok(None) => {}
                    Err(broken) => self.fail(at, &sent.line, &broken),
                }
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            if !text.starts_with(&format!("{} ", sent.tag)) {
                self.fail(at, &sent.line, &format!("neither untagged nor ours: {text}"));
            }
            if text.starts_with(&format!("{} BAD", sent.tag)) {
                self.fail(at, &sent.line, &text);
            }
            let is_ok = text.starts_with(&format!("{} OK", sent.tag)) && !text.contains("[EXPUNGEISSUED]");
            if let Some((first, last, item)) = expected.filter(|_| is_ok) {
                for missing in (first..=last).filter(|n| !answered.contains(n)) {
                    // Only another session's expunge excuses that (Cyrus says a plain OK then): if the message is
                    // still believed in at the end, it was left out.
                    if let Some(message) = self.sessions[at].view.messages.get_mut(missing as usize - 1) {
                        message.left_out = Some(format!("{}: {text}, but no {item}", sent.line));
                    }
                }
            }
            if let Some(condition) = &sent.condition
                && let Err(broken) = condition.end(&text, &mut self.sessions[at].view)
            {
                self.fail(at, &sent.line, &broken);
            }
            if matches!(sent.line.as_str(), "UNSELECT" | "CLOSE") {
                self.sessions[at].view.leave();
            }
            return;
        }
    }

    /// Waits until every session has been told everything, then holds them against the upstream and each other.
    pub fn settle(&mut self, mut upstream: Client) {
        for at in 0..self.sessions.len() {
            if !self.sessions[at].selected {
                let sent = self.send(at, &Command::Line("SELECT INBOX".to_owned()));
                self.follow(at, sent);
            }
        }
        upstream.cmd_ok("SELECT INBOX");
        let truth = truth(&mut upstream);
        // A change made straight upstream is on its way for up to half a second (Dovecot's IDLE). The first session asks until the
        // mirror has it; the others are held to what they are told.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sent = self.send(0, &Command::Line("NOOP".to_owned()));
            self.follow(0, sent);
            let sent = self.send(0, &Command::Line("UID FETCH 1:* (UID FLAGS)".to_owned()));
            self.follow(0, sent);
            let Err(differs) = self.sessions[0].view.agrees(&truth) else { break };
            if Instant::now() > deadline {
                self.fail(0, "asking again and again", &differs);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for at in 0..self.sessions.len() {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let sent = self.send(at, &Command::Line("NOOP".to_owned()));
                self.follow(at, sent);
                // What it was told of its own accord must be right already: asking again would hide a lost notice.
                let Err(differs) = self.sessions[at].view.agrees(&truth) else { break };
                if Instant::now() > deadline {
                    self.fail(at, "at rest", &differs);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let all = Command::Line("UID FETCH 1:* (UID FLAGS BODY.PEEK[])".to_owned());
            let sent = self.send(at, &all);
            self.follow(at, sent);
            if let Err(differs) = self.sessions[at].view.agrees(&truth) {
                self.fail(at, "after asking", &differs);
            }
            let known: Vec<_> = self.sessions[at].view.messages.iter().filter_map(|m| m.uid).collect();
            if known.len() != truth.len() {
                self.fail(at, "after asking", &format!("{} UIDs told of {}", known.len(), truth.len()));
            }
        }
        if self.sessions.iter().any(|session| session.role == Role::Everything) {
            self.aside_agrees(&mut upstream);
            upstream.cmd_ok("SELECT INBOX");
        }
        let bodies = upstream.cmd_ok("UID FETCH 1:* (BODY.PEEK[])").by_uid();
        for (uid, items) in bodies {
            let Value::Text(body) = &items["BODY[]"] else { panic!("a body") };
            assert_eq!(self.bodies.get(&(uid as u32)), Some(body), "UID {uid} at the upstream (seed {})", self.seed);
        }
    }

    fn fail(&self, at: usize, command: &str, why: &str) -> ! {
        let session = &self.sessions[at];
        panic!(
            "seed {}, session {}, {command}: {why}\n--- conversation ---\n{}",
            self.seed,
            session.name,
            session.client.transcript()
        )
    }
}

enum Command {
    Line(String),
    Idle,
    /// Messages of one APPEND.
    Append(Vec<Vec<u8>>),
    /// A conditional STORE.
    If(Condition),
}

struct Sent {
    tag: String,
    line: String,
    /// Sent when the continuations come.
    then: VecDeque<Vec<u8>>,
    condition: Option<Condition>,
}

/// For a FETCH by numbers: the range, and an item that every message of it must tell.
fn wanted(line: &str) -> Option<(u32, u32, &'static str)> {
    let rest = line.strip_prefix("FETCH ")?;
    let (set, items) = rest.split_once(' ')?;
    let (first, last) = set.split_once(':').unwrap_or((set, set));
    let item = ["BODY[]", "ENVELOPE", "FLAGS"].into_iter().find(|i| items.replace(".PEEK", "").contains(i))?;
    Some((first.parse().ok()?, last.parse().ok()?, item))
}

fn change(rng: &mut StdRng) -> String {
    let flag = ["\\Seen", "\\Flagged", "\\Answered", "$Work", "Later"][rng.random_range(0..5)];
    let sign = ["+", "-", ""][rng.random_range(0..3)];
    format!("{sign}FLAGS ({flag})")
}

/// UIDs and flags as the upstream has them.
pub fn truth(upstream: &mut Client) -> Vec<(u32, BTreeSet<String>)> {
    let answer = upstream.cmd_ok("UID FETCH 1:* (UID FLAGS)");
    answer.by_uid().into_iter().map(|(uid, items)| (uid as u32, flag_set(&items["FLAGS"]))).collect()
}
