//! Random work by many sessions on one mailbox, each followed by a naive model of what its client must believe.
//!
//! The model knows only what the session was told, and checks every untagged line against the rules of the protocol:
//! no message number beyond the size, EXPUNGE only where the client may renumber (RFC 9051 §7.5.1), EXISTS never
//! shrinking, UIDs ascending and never changing under a number, a UID's bytes the same for everybody. At rest all
//! sessions and the upstream must agree. Which command is sent where follows from the seed; several sessions have a
//! command under way at once, so the server does run them side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::answer::{self, Value};
use super::client::Client;
use super::{PATIENCE, mail};

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Reads,
    ReadsAndWrites,
}

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

/// What one client believes of its mailbox.
#[derive(Clone, Debug, Default)]
pub struct View {
    messages: Vec<Believed>,
}

#[derive(Clone, Debug, Default)]
struct Believed {
    uid: Option<u32>,
    /// `None` where the client has changed them silently and cannot know the outcome.
    flags: Option<BTreeSet<String>>,
    /// An answer that was OK and did not tell of it.
    left_out: Option<String>,
}

/// The rules that a command sets for what may be said while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub may_expunge: bool,
    /// Every FETCH it causes tells its UID.
    pub tells_uid: bool,
    /// SEARCH speaks of UIDs.
    pub search_uids: bool,
}

impl Rules {
    pub fn of(command: &str) -> Self {
        let upper = command.to_ascii_uppercase();
        let first = upper.split(' ').next().unwrap_or("");
        let is_uid = first == "UID";
        let second = upper.split(' ').nth(1).unwrap_or("");
        Self {
            may_expunge: !matches!(first, "FETCH" | "STORE" | "SEARCH"),
            tells_uid: is_uid && matches!(second, "FETCH" | "STORE"),
            search_uids: is_uid,
        }
    }
}

impl View {
    pub fn size(&self) -> u32 {
        self.messages.len() as u32
    }

    /// The UID at a number, if it was told.
    pub fn uid(&self, n: u32) -> Option<u32> {
        self.messages.get(n.checked_sub(1)? as usize)?.uid
    }

    /// Takes in one untagged line. An error is a broken rule.
    pub fn hear(
        &mut self,
        line: &[u8],
        rules: Rules,
        bodies: &mut HashMap<u32, Vec<u8>>,
    ) -> Result<Option<answer::Fetched>, String> {
        let text = String::from_utf8_lossy(&line[..line.len().min(300)]).into_owned();
        if text.starts_with("* BYE") {
            return Err(format!("closed: {text}"));
        }
        if let Some(numbers) = text.strip_prefix("* SEARCH") {
            for n in numbers.split_whitespace().take_while(|w| !w.starts_with('(')) {
                let Ok(n) = n.parse::<u32>() else { return Ok(None) }; // cut off above
                if !rules.search_uids && !(1..=self.size()).contains(&n) {
                    return Err(format!("SEARCH tells {n} of {}", self.size()));
                }
            }
            return Ok(None);
        }
        let Some((n, word)) = answer::numbered(line) else { return Ok(None) };
        match word.as_str() {
            "EXISTS" if n < self.size() => return Err(format!("EXISTS falls from {} to {n}", self.size())),
            "EXISTS" => self.messages.resize(n as usize, Believed::default()),
            "EXPUNGE" => {
                if !rules.may_expunge {
                    return Err(format!("EXPUNGE {n} where numbers must stand"));
                }
                if !(1..=self.size()).contains(&n) {
                    return Err(format!("EXPUNGE {n} of {}", self.size()));
                }
                self.messages.remove(n as usize - 1);
            }
            "FETCH" => {
                let (n, items) = answer::fetched(line).ok_or("not a FETCH")?;
                if !(1..=self.size()).contains(&n) {
                    return Err(format!("FETCH {n} of {}", self.size()));
                }
                self.fetched(n, &items, rules, bodies)?;
                return Ok(Some((n, items)));
            }
            _ => {}
        }
        Ok(None)
    }

    fn fetched(
        &mut self,
        n: u32,
        items: &BTreeMap<String, Value>,
        rules: Rules,
        bodies: &mut HashMap<u32, Vec<u8>>,
    ) -> Result<(), String> {
        let at = n as usize - 1;
        if let Some(uid) = items.get("UID") {
            let uid = uid.number().ok_or("UID is a number")? as u32;
            match self.messages[at].uid {
                Some(known) if known != uid => return Err(format!("number {n} was UID {known} and is {uid}")),
                _ => self.messages[at].uid = Some(uid),
            }
            let before = self.messages[..at].iter().rev().find_map(|m| m.uid);
            let after = self.messages[at + 1..].iter().find_map(|m| m.uid);
            if before.is_some_and(|b| b >= uid) || after.is_some_and(|a| a <= uid) {
                return Err(format!("UID {uid} at {n} stands between {before:?} and {after:?}"));
            }
        } else if rules.tells_uid && items.keys().any(|k| k != "FLAGS") {
            // Flags alone may be another session's change, told on the way: those need no UID (Dovecot gives none).
            return Err(format!("no UID in {items:?}"));
        }
        if let Some(flags) = items.get("FLAGS") {
            self.messages[at].flags = Some(flag_set(flags));
        }
        if let (Some(uid), Some(Value::Text(body))) = (self.messages[at].uid, items.get("BODY[]")) {
            let known = bodies.entry(uid).or_insert_with(|| body.clone());
            if known != body {
                let begin = String::from_utf8_lossy(&body[..body.len().min(300)]);
                return Err(format!("UID {uid} has another message's bytes: {begin}"));
            }
        }
        Ok(())
    }
}

/// Flags without `\Recent`, which differs from session to session, in lower case.
pub fn flag_set(list: &Value) -> BTreeSet<String> {
    list.list().iter().map(|f| f.text().to_ascii_lowercase()).filter(|f| f != "\\recent").collect()
}

impl Fleet {
    pub fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { sessions: Vec::new(), rng, bodies: HashMap::new(), seed, appended: 0 }
    }

    /// Adds a session that is logged in.
    pub fn join(&mut self, name: &str, role: Role, client: Client) {
        let name = format!("{name}{}", self.sessions.len());
        self.sessions.push(Session { name, role, client, view: View::default(), selected: false });
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
        Command::Append(mail::message(self.seed ^ 0xa99e, self.appended, mail::Sizes::Small).bytes)
    }

    fn send(&mut self, at: usize, command: &Command) -> Sent {
        let session = &mut self.sessions[at];
        let client = &mut session.client;
        let (tag, line) = match command {
            Command::Line(line) => {
                if line.starts_with("SELECT") {
                    session.view = View::default();
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
            Command::Append(bytes) => {
                let tag = client.start(&format!("APPEND INBOX {{{}}}", bytes.len())).expect("send");
                (tag, "APPEND".to_owned())
            }
        };
        let then = match command {
            Command::Append(bytes) => Some([bytes, b"\r\n".as_slice()].concat()),
            Command::Idle => Some(b"DONE\r\n".to_vec()),
            Command::Line(_) => None,
        };
        Sent { tag, line, then }
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
                let Some(then) = sent.then.take() else { self.fail(at, &sent.line, "a continuation nobody asked for") };
                self.sessions[at].client.try_send(&then).expect("send");
                continue;
            }
            if line.starts_with(b"* ") {
                let heard = self.sessions[at].view.hear(&line, rules, &mut self.bodies);
                match heard {
                    Ok(Some((n, items))) => {
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
            if sent.line == "UNSELECT" {
                self.sessions[at].view = View::default();
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

impl View {
    /// Whether size, UIDs and flags known are the upstream's.
    pub fn agrees(&self, truth: &[(u32, BTreeSet<String>)]) -> Result<(), String> {
        if self.messages.len() != truth.len() {
            return Err(format!("{} messages, upstream has {}", self.messages.len(), truth.len()));
        }
        for (n, (message, (uid, flags))) in self.messages.iter().zip(truth).enumerate() {
            if let Some(how) = &message.left_out {
                return Err(format!("UID {uid} is there and was left out: {how}"));
            }
            if message.uid.is_some_and(|known| known != *uid) {
                return Err(format!("number {} is UID {:?}, upstream says {uid}", n + 1, message.uid));
            }
            if message.flags.as_ref().is_some_and(|known| known != flags) {
                return Err(format!("UID {uid} has {:?}, upstream says {flags:?}", message.flags));
            }
        }
        Ok(())
    }
}

enum Command {
    Line(String),
    Idle,
    Append(Vec<u8>),
}

struct Sent {
    tag: String,
    line: String,
    /// Sent when the continuation comes.
    then: Option<Vec<u8>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that finds no fault proves nothing: here each broken rule is one.
    #[test]
    fn broken_rules_are_found() {
        let table: &[(&str, &[&str], Option<&str>)] = &[
            ("NOOP", &["* 3 EXISTS", "* 3 EXPUNGE", "* 2 EXPUNGE"], None),
            ("NOOP", &["* 3 EXISTS", "* 2 EXISTS"], Some("falls")),
            ("NOOP", &["* 3 EXISTS", "* 4 EXPUNGE"], Some("EXPUNGE 4 of 3")),
            ("NOOP", &["* 3 EXISTS", "* 0 EXPUNGE"], Some("EXPUNGE 0")),
            ("FETCH 1 FLAGS", &["* 3 EXISTS", "* 1 EXPUNGE"], Some("must stand")),
            ("UID FETCH 1 FLAGS", &["* 3 EXISTS", "* 1 EXPUNGE"], None),
            ("SEARCH ALL", &["* 3 EXISTS", "* SEARCH 1 4"], Some("SEARCH tells 4")),
            ("UID SEARCH ALL", &["* 3 EXISTS", "* SEARCH 1 400"], None),
            ("NOOP", &["* 3 EXISTS", "* 4 FETCH (FLAGS ())"], Some("FETCH 4 of 3")),
            ("UID FETCH 1 FLAGS", &["* 3 EXISTS", "* 1 FETCH (RFC822.SIZE 3)"], Some("no UID")),
            ("UID FETCH 1 FLAGS", &["* 3 EXISTS", "* 1 FETCH (FLAGS ())"], None),
            ("NOOP", &["* 3 EXISTS", "* 1 FETCH (UID 5)", "* 2 FETCH (UID 5)"], Some("stands between")),
            ("NOOP", &["* 3 EXISTS", "* 1 FETCH (UID 5)", "* 1 FETCH (UID 6)"], Some("was UID 5")),
            ("NOOP", &["* 2 EXISTS", "* 1 FETCH (UID 5)", "* 1 EXPUNGE", "* 1 FETCH (UID 6)"], None),
            ("NOOP", &["* 2 EXISTS", "* 1 FETCH (UID 5 BODY[] \"a\")", "* 1 FETCH (BODY[] \"b\")"], Some("another")),
            ("NOOP", &["* BYE see you"], Some("closed")),
        ];
        for (command, lines, expected) in table {
            let mut view = View::default();
            let mut bodies = HashMap::new();
            let rules = Rules::of(command);
            let heard = lines.iter().try_for_each(|l| view.hear(l.as_bytes(), rules, &mut bodies).map(drop));
            match (expected, heard) {
                (None, Ok(())) => {}
                (Some(words), Err(e)) if e.contains(words) => {}
                (_, got) => panic!("{command}: {lines:?}: {got:?}, expected {expected:?}"),
            }
        }
    }
}
