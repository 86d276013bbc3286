//! The commands of [`Role::Everything`], and what holds of a conditional STORE.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;

use super::{ASIDE, Command, Fleet, Role, View, change, truth};
use crate::harness::PATIENCE;
use crate::harness::answer::Value;
use crate::harness::client::Client;

/// A STORE with UNCHANGEDSINCE (RFC 7162 §3.1.3) of one message.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    n: u32,
    uid: u32,
    by_uid: bool,
    since: u64,
    /// Its MODSEQ as last told: above `since` the STORE must fail.
    known: u64,
    change: String,
    /// Its MODSEQ was told.
    told: bool,
}

impl Condition {
    pub(super) fn line(&self) -> String {
        let Self { n, uid, since, change, .. } = self;
        let (command, number) = if self.by_uid { ("UID STORE", uid) } else { ("STORE", n) };
        format!("{command} {number} (UNCHANGEDSINCE {since}) {change}")
    }

    pub(super) fn hear(&mut self, n: u32, items: &BTreeMap<String, Value>) {
        let is_it = match items.get("UID").and_then(Value::number) {
            Some(uid) => uid == u64::from(self.uid),
            None => n == self.n,
        };
        self.told |= is_it && items.contains_key("MODSEQ");
    }

    /// The tagged answer. What only an expunge excuses is noted: if the message is there at the end, it is a fault.
    pub(super) fn end(&self, answer: &str, view: &mut View) -> Result<(), String> {
        let modified = answer.split_once("[MODIFIED ").and_then(|(_, rest)| rest.split_once(']')).map(|(set, _)| set);
        let number = if self.by_uid { self.uid } else { self.n };
        if let Some(set) = modified {
            return if set == number.to_string() { Ok(()) } else { Err(format!("MODIFIED {set}, of {number}")) };
        }
        if answer.split(' ').nth(1) != Some("OK") || view.loose {
            return Ok(());
        }
        let fault = match () {
            () if self.known > self.since => format!("stored, though it was at {} already", self.known),
            () if !self.told => "stored, and no MODSEQ was told".to_owned(),
            () => return Ok(()),
        };
        if let Some(message) = view.messages.iter_mut().find(|message| message.uid == Some(self.uid)) {
            message.left_out = Some(format!("{}: {answer}: {fault}", self.line()));
        }
        Ok(())
    }
}

impl Fleet {
    pub(super) fn one_of_everything(&mut self, at: usize) -> Command {
        let Self { sessions, rng, .. } = self;
        let session = &sessions[at];
        let size = session.view.size();
        let (n, m) = (rng.random_range(1..=size), rng.random_range(1..=size));
        let range = format!("{}:{}", n.min(m), n.max(m));
        let message = &session.view.messages[n as usize - 1];
        let (uid, modseq) = (message.uid, message.modseq);
        let spare = format!("Spare{}", rng.random_range(0..3));
        let is_many = size > 10;
        let line = match rng.random_range(0..20) {
            // Cyrus (3.6, 3.8) ends a session that copies what another expunges: "assertion failed: imap/msgrecord.c: record->recno".
            0..=4 if session.name.contains("cyrus") => "NOOP".to_owned(),
            0 => format!("COPY {n} {ASIDE}"),
            1 => format!("COPY {range} {ASIDE}"),
            2 => format!("UID COPY {} INBOX", uid.unwrap_or(n)),
            3 if is_many => format!("MOVE {n} {ASIDE}"),
            4 if is_many => format!("UID MOVE {} {ASIDE}", uid.unwrap_or(n)),
            5 if is_many => {
                sessions[at].selected = false;
                "CLOSE".to_owned()
            }
            6..=10 => match (uid, modseq) {
                (Some(uid), Some(known)) => {
                    // Half of them speak of a state that is over.
                    let since = if rng.random_bool(0.5) { known } else { known.saturating_sub(1).max(1) };
                    let (by_uid, change, told) = (rng.random_bool(0.5), change(rng), false);
                    return Command::If(Condition { n, uid, by_uid, since, known, change, told });
                }
                _ => format!("FETCH {range} (UID FLAGS MODSEQ)"),
            },
            11 => format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {})", modseq.unwrap_or(1)),
            12 | 13 => {
                let (Command::Append(mut messages), Command::Append(second)) = (self.append(), self.append()) else {
                    unreachable!("APPEND is one")
                };
                messages.extend(second);
                return Command::Append(messages);
            }
            14 => format!("STATUS {ASIDE} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"),
            15 => format!("CREATE {spare}"),
            16 => format!("DELETE {spare}"),
            17 => format!("SUBSCRIBE {ASIDE}"),
            18 => format!("UNSUBSCRIBE {ASIDE}"),
            // Dovecot 2.3 can end a session in LIST while a mailbox is being made: who is straight there leaves it.
            19 if !session.name.contains("straight") => "LIST \"\" *".to_owned(),
            _ => "NOOP".to_owned(),
        };
        Command::Line(line)
    }

    /// What was copied and moved, as the first session sees it and as it is.
    pub(super) fn aside_agrees(&mut self, upstream: &mut Client) {
        upstream.cmd_ok(&format!("EXAMINE {ASIDE}"));
        let there = truth(upstream);
        let deadline = Instant::now() + PATIENCE;
        let at = self.sessions.iter().position(|session| session.role == Role::Everything).expect("one of these");
        loop {
            let client = &mut self.sessions[at].client;
            client.cmd_ok(&format!("EXAMINE {ASIDE}"));
            let seen = truth(client);
            if seen == there {
                return;
            }
            if Instant::now() > deadline {
                self.fail(at, ASIDE, &format!("{seen:?}, upstream says {there:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
