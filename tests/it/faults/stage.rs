//! The stage of one row: two mailboxes with look-alikes in them, two mail programs watching, and the truth straight from upstream.
//!
//! Every message has the same size and date; some have each other's Message-ID. Only its `Subject` says which it is, so a message taken for
//! another by its looks shows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::harness::PATIENCE;
use crate::harness::answer::{Answer, Status, Value};
use crate::harness::client::Client;
use crate::harness::fleet::{Rules, View, flag_set, truth};

const DATE: &str = " 3-Feb-2025 10:00:00 +0100";

/// A message named `which`; twins have the Message-ID of another.
pub fn message(which: &str, id: &str) -> Vec<u8> {
    assert!(which.len() <= 8 && id.len() <= 8, "the size is to be the same");
    let line = "All of these messages are of one size and one date, as reports of a machine are.\r\n".repeat(4);
    format!(
        "Message-ID: <{id:.>8}@example.org>\r\nDate: Mon, 3 Feb 2025 10:00:00 +0100\r\nFrom: ann@example.org\r\n\
         Subject: {which:_>8}\r\n\r\n{line}{which:_>8}\r\n"
    )
    .into_bytes()
}

/// What is in the source, UIDs from 1: the command takes [`TAKEN`], the others stand by.
const SOURCE: &[(&str, &str, &str)] = &[
    ("twin-a", "a", ""),
    ("a", "a", "\\Seen"),
    ("other", "o", "\\Flagged"),
    ("b", "b", ""),
    ("twin-b", "b", "\\Answered"),
    ("dead", "d", "\\Deleted"),
];
/// And in the target.
const TARGET: &[(&str, &str, &str)] = &[("old-a", "a", ""), ("old-new", "new", ""), ("old-dead", "x", "\\Deleted")];
/// The UIDs a command takes: `a` and `b`.
pub const TAKEN: &str = "2,4";

/// Which messages a mailbox holds, with their flags; sorted, so that two can be compared.
pub type Contents = Vec<(String, BTreeSet<String>)>;

/// Makes the two mailboxes of a row.
pub fn fill(straight: &mut Client, row: usize) {
    for (name, messages) in [(source(row), SOURCE), (target(row), TARGET)] {
        straight.cmd_ok(&format!("CREATE {name}"));
        for (which, id, flags) in messages {
            append(straight, &name, flags, &message(which, id));
        }
    }
}

pub fn source(row: usize) -> String {
    format!("From{row}")
}

pub fn target(row: usize) -> String {
    format!("To{row}")
}

fn append(client: &mut Client, name: &str, flags: &str, message: &[u8]) {
    let tag = client.start(&format!("APPEND {name} ({flags}) \"{DATE}\" {{{}}}", message.len())).expect("send");
    client.until_continue();
    client.raw(message).raw(b"\r\n");
    assert!(client.finish(&tag).expect("APPEND").is_ok());
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Append,
    /// Three messages, each with a flag of its own.
    MultiAppend,
    Copy,
    Move,
    Flag,
    /// With UNCHANGEDSINCE.
    FlagIf,
    UidExpunge,
    Expunge,
    Close,
}

/// What a MULTIAPPEND brings, in this order.
const NEW: &[(&str, &str)] = &[("new-1", "\\Flagged"), ("new-2", "\\Answered"), ("new-3", "\\Draft")];

/// What another program does at the moment of the fault, straight at the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    Nothing,
    /// Puts two messages into the target that look like `a`, `b` and the new one in size and date.
    LookalikesArrive,
    /// Marks `b` as answered, so that a condition on it fails from then on.
    ChangesB,
}

/// One row at work.
pub struct Stage {
    row: usize,
    op: Op,
    straight: Client,
    actor: Eyes,
    watcher: Eyes,
    before: (Contents, Contents),
    modseq: u64,
}

impl Stage {
    /// The clients are logged in, the first two through the daemon.
    pub fn set(row: usize, op: Op, actor: Client, watcher: Client, straight: Client) -> Self {
        let (actor, watcher) = (Eyes::open(actor, &source(row)), Eyes::open(watcher, &source(row)));
        let mut stage = Self { row, op, straight, actor, watcher, before: (Vec::new(), Vec::new()), modseq: 0 };
        // Reading may be served without the provider; this is not.
        stage.actor.ok("UID STORE 1 +FLAGS (Ready)");
        if matches!(op, Op::UidExpunge | Op::Expunge | Op::Close) {
            stage.actor.ok(&format!("UID STORE {TAKEN} +FLAGS (\\Deleted)"));
        }
        if op == Op::FlagIf {
            let told = stage.actor.ok(&format!("UID FETCH {TAKEN} (MODSEQ)")).by_uid();
            let modseqs = told.values().map(|items| items["MODSEQ"].list()[0].number().expect("a number"));
            stage.modseq = modseqs.max().expect("two messages");
        }
        stage.before = stage.contents();
        stage
    }

    /// Begins the command; [`Self::answer`] ends it.
    pub fn start(&mut self) -> Sent {
        let to = target(self.row);
        let new = message("new", "new");
        let (line, literal) = match self.op {
            Op::Append => (format!("APPEND {to} (\\Flagged) \"{DATE}\" {{{}+}}", new.len()), Some(new)),
            Op::MultiAppend => {
                let mut line = format!("APPEND {to}");
                let mut literals = Vec::new();
                for (n, (which, flag)) in NEW.iter().enumerate() {
                    let message = message(which, which);
                    let head = format!(" ({flag}) \"{DATE}\" {{{}+}}", message.len());
                    match n {
                        0 => line.push_str(&head),
                        _ => literals.extend(format!("{head}\r\n").into_bytes()),
                    }
                    literals.extend(message);
                }
                (line, Some(literals))
            }
            Op::Copy => (format!("UID COPY {TAKEN} {to}"), None),
            Op::Move => (format!("UID MOVE {TAKEN} {to}"), None),
            Op::Flag => (format!("UID STORE {TAKEN} +FLAGS (\\Flagged)"), None),
            Op::FlagIf => (format!("UID STORE {TAKEN} (UNCHANGEDSINCE {}) +FLAGS (\\Flagged)", self.modseq), None),
            Op::UidExpunge => (format!("UID EXPUNGE {TAKEN}"), None),
            Op::Expunge => ("EXPUNGE".to_owned(), None),
            Op::Close => ("CLOSE".to_owned(), None),
        };
        self.actor.start(line, literal)
    }

    pub fn answer(&mut self, sent: Sent) -> Answer {
        self.actor.finish(sent)
    }

    /// Both programs connect anew: the daemon has been started again.
    pub fn reopen(&mut self, actor: Client, watcher: Client) {
        let from = source(self.row);
        (self.actor, self.watcher) = (Eyes::open(actor, &from), Eyes::open(watcher, &from));
    }

    /// How many of a MULTIAPPEND's messages are there, each once, if all else is as it was.
    pub fn stored_in_part(&mut self) -> Option<usize> {
        let (from, to) = self.contents();
        let new: Contents = NEW.iter().map(new).collect();
        let (stored, to): (Contents, Contents) = to.into_iter().partition(|message| new.contains(message));
        let distinct: BTreeSet<_> = stored.iter().collect();
        ((from, to) == self.before && distinct.len() == stored.len()).then_some(stored.len())
    }

    /// Gives the command once more, until it is done.
    pub fn again(&mut self) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sent = self.start();
            let answer = self.answer(sent);
            if answer.is_ok() {
                return answer;
            }
            assert!(Instant::now() < deadline, "never done: {}", answer.text);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Does what another program does meanwhile; the truth that is expected changes with it.
    pub fn meanwhile(&mut self, what: Meanwhile) {
        match what {
            Meanwhile::Nothing => {}
            Meanwhile::LookalikesArrive => {
                for which in ["alike-1", "alike-2"] {
                    append(&mut self.straight, &target(self.row), "", &message(which, which));
                    self.before.1.push((which.to_owned(), BTreeSet::new()));
                }
                self.before.1.sort();
            }
            Meanwhile::ChangesB => {
                self.straight.cmd_ok(&format!("SELECT {}", source(self.row)));
                self.straight.cmd_ok("UID STORE 4 +FLAGS.SILENT (\\Answered)");
                let b = self.before.0.iter_mut().find(|(which, _)| which == "b").expect("b");
                b.1.insert("\\answered".to_owned());
            }
        }
    }

    /// Whether the command has been done, by the truth. Half a deed or another's is a fault.
    pub fn is_done(&mut self, meanwhile: Meanwhile) -> Result<bool, String> {
        let now = self.contents();
        let done = self.after(meanwhile);
        if now == done {
            Ok(true)
        } else if now == self.before {
            Ok(false)
        } else {
            let (from, to) = &now;
            let (before_from, before_to) = &self.before;
            Err(format!(
                "neither done nor undone\n from {from:?}\n  was {before_from:?}\n   to {to:?}\n  was {before_to:?}"
            ))
        }
    }

    /// What both mailboxes are to hold after the command.
    fn after(&self, meanwhile: Meanwhile) -> (Contents, Contents) {
        let (mut from, mut to) = self.before.clone();
        let is_taken = |which: &str| matches!(which, "a" | "b");
        let is_deleted = |flags: &BTreeSet<String>| flags.contains("\\deleted");
        match self.op {
            Op::Append => to.push(("new".to_owned(), BTreeSet::from(["\\flagged".to_owned()]))),
            Op::MultiAppend => to.extend(NEW.iter().map(new)),
            Op::Copy | Op::Move => {
                to.extend(from.iter().filter(|(which, _)| is_taken(which)).cloned());
                from.retain(|(which, _)| self.op == Op::Copy || !is_taken(which));
            }
            Op::Flag | Op::FlagIf => {
                let spared = self.op == Op::FlagIf && meanwhile == Meanwhile::ChangesB;
                for (_, flags) in from.iter_mut().filter(|(which, _)| is_taken(which) && !(spared && which == "b")) {
                    flags.insert("\\flagged".to_owned());
                }
            }
            Op::UidExpunge => from.retain(|(which, _)| !is_taken(which)),
            Op::Expunge | Op::Close => from.retain(|(_, flags)| !is_deleted(flags)),
        }
        from.sort();
        to.sort();
        (from, to)
    }

    /// What was told of UIDs must be so: the message there is the one that was appended or copied.
    pub fn check_told(&mut self, answer: &Answer) {
        let (code, pairs) = match self.op {
            Op::Append => ("APPENDUID", vec![(None, "new")]),
            Op::MultiAppend => ("APPENDUID", NEW.iter().map(|(which, _)| (None, *which)).collect()),
            Op::Copy | Op::Move => ("COPYUID", vec![(Some(2), "a"), (Some(4), "b")]),
            _ => return,
        };
        let Some(told) = answer.code(code) else { return };
        let words: Vec<_> = told.split(' ').collect();
        let validity = self.straight.cmd_ok(&format!("EXAMINE {}", target(self.row))).code("UIDVALIDITY");
        assert_eq!(Some(words[0]), validity.as_deref(), "UIDVALIDITY of {told}");
        let uids = numbers(words[words.len() - 1]);
        if code == "COPYUID" {
            assert_eq!(numbers(words[1]), pairs.iter().filter_map(|(uid, _)| *uid).collect::<Vec<_>>(), "{told}");
        }
        assert_eq!(uids.len(), pairs.len(), "{told}");
        for (uid, (_, which)) in uids.iter().zip(pairs) {
            let there = self.straight.cmd_ok(&format!("UID FETCH {uid} (BODY.PEEK[])")).by_uid();
            assert_eq!(there.get(uid).map(name_of), Some(which.to_owned()), "told {told}");
        }
    }

    /// At rest both programs see what is true, bodies included; and the next commands work.
    pub fn settle(&mut self) {
        let from = source(self.row);
        if self.op == Op::Close {
            self.actor.select(&from);
        }
        self.straight.cmd_ok(&format!("EXAMINE {from}"));
        let bodies = self.straight.cmd_ok("UID FETCH 1:* (BODY.PEEK[])").by_uid();
        let now = truth(&mut self.straight);
        self.watcher.agree(&now);
        self.actor.agree(&now);
        for eyes in [&mut self.actor, &mut self.watcher] {
            let told = eyes.ok("UID FETCH 1:* (BODY.PEEK[])").by_uid();
            assert_eq!(names(&told), names(&bodies), "bodies in the source");
        }
        // The target as a program sees it that opens it now, then the command that follows.
        let to = target(self.row);
        self.straight.cmd_ok(&format!("EXAMINE {to}"));
        let (bodies, now) = (self.straight.cmd_ok("UID FETCH 1:* (BODY.PEEK[])").by_uid(), truth(&mut self.straight));
        self.watcher.select(&to);
        self.watcher.agree(&now);
        let told = self.watcher.ok("UID FETCH 1:* (BODY.PEEK[])").by_uid();
        assert_eq!(names(&told), names(&bodies), "bodies in the target");
        self.actor.ok("UID STORE 3 +FLAGS (Next)");
        self.straight.cmd_ok(&format!("EXAMINE {from}"));
        assert_eq!(self.straight.cmd_ok("UID SEARCH KEYWORD Next").search(), [3], "the next command");
    }

    /// Source and target.
    fn contents(&mut self) -> (Contents, Contents) {
        let mut read = |name: &str| {
            self.straight.cmd_ok(&format!("EXAMINE {name}"));
            let all = self.straight.cmd_ok("UID FETCH 1:* (UID FLAGS BODY.PEEK[])").by_uid();
            let mut contents: Contents =
                all.values().map(|items| (name_of(items), flag_set(&items["FLAGS"]))).collect();
            contents.sort();
            contents
        };
        (read(&source(self.row)), read(&target(self.row)))
    }
}

/// A message of a MULTIAPPEND as it is found.
fn new((which, flag): &(&str, &str)) -> (String, BTreeSet<String>) {
    ((*which).to_owned(), BTreeSet::from([flag.to_ascii_lowercase()]))
}

/// Which message these octets are.
fn name_of(items: &BTreeMap<String, Value>) -> String {
    let body = items["BODY[]"].text();
    let subject = body.lines().find_map(|line| line.strip_prefix("Subject: ")).expect("a subject");
    subject.trim_start_matches('_').to_owned()
}

fn names(all: &BTreeMap<u64, BTreeMap<String, Value>>) -> Vec<(u64, String)> {
    all.iter().map(|(uid, items)| (*uid, name_of(items))).collect()
}

/// The numbers of a set as COPYUID tells it.
fn numbers(set: &str) -> Vec<u64> {
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let ranges = set.split(',').map(|part| part.split_once(':').unwrap_or((part, part)));
    ranges.flat_map(|(first, last)| number(first)..=number(last)).collect()
}

/// A command under way.
pub struct Sent {
    tag: String,
    line: String,
}

/// A mail program that believes what it is told, and holds every line against the rules of the protocol.
struct Eyes {
    client: Client,
    view: View,
    bodies: HashMap<u32, Vec<u8>>,
}

impl Eyes {
    fn open(client: Client, name: &str) -> Self {
        let mut eyes = Self { client, view: View::default(), bodies: HashMap::new() };
        eyes.select(name);
        eyes
    }

    fn select(&mut self, name: &str) {
        (self.view, self.bodies) = (View::default(), HashMap::new());
        self.ok(&format!("SELECT {name}"));
        self.ok("UID FETCH 1:* (UID FLAGS)");
    }

    /// A literal is sent unasked (LITERAL+), as nobody listens while the trap is waited for.
    fn start(&mut self, line: String, literal: Option<Vec<u8>>) -> Sent {
        let tag = self.client.start(&line).expect("send");
        if let Some(literal) = literal {
            self.client.raw(&literal).raw(b"\r\n");
        }
        Sent { tag, line }
    }

    fn finish(&mut self, sent: Sent) -> Answer {
        let rules = Rules::of(&sent.line);
        let mut untagged = Vec::new();
        loop {
            let line = self.client.line();
            if line.starts_with(b"* ") {
                if let Err(broken) = self.view.hear(&line, rules, &mut self.bodies) {
                    panic!("{}: {broken}\n{}", sent.line, self.client.transcript());
                }
                untagged.push(line);
            } else {
                let text = String::from_utf8_lossy(&line).into_owned();
                let mut words = text.splitn(3, ' ');
                assert_eq!(words.next(), Some(sent.tag.as_str()), "{text}");
                let status = match words.next() {
                    Some("OK") => Status::Ok,
                    Some("NO") => Status::No,
                    _ => panic!("{}: {text}", sent.line),
                };
                return Answer { untagged, status, text: words.next().unwrap_or_default().to_owned() };
            }
        }
    }

    fn say(&mut self, line: &str) -> Answer {
        let sent = self.start(line.to_owned(), None);
        self.finish(sent)
    }

    /// Says it until the answer is OK: after a fault the daemon may wait before it connects again.
    fn ok(&mut self, line: &str) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.say(line);
            if answer.is_ok() {
                return answer;
            }
            assert!(Instant::now() < deadline, "{line}: never OK, but {}\n{}", answer.text, self.client.transcript());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks what is new until it believes what is so.
    fn agree(&mut self, truth: &[(u32, BTreeSet<String>)]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.ok("NOOP");
            let Err(differs) = self.view.agrees(truth) else { return };
            assert!(Instant::now() < deadline, "at rest: {differs}\n{}", self.client.transcript());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
