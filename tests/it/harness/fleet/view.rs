//! What one client believes of its mailbox: the naive model every untagged line is held against.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::harness::answer::{self, Value};

/// What one client believes of its mailbox.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub(super) messages: Vec<Believed>,
    /// After ENABLE QRESYNC: VANISHED in place of EXPUNGE (RFC 7162 §3.2.10).
    pub qresync: bool,
    /// A session at Dovecot itself, which breaks two rules of RFC 7162 (2.3, seen in these runs): a MODSEQ told with a change may be above the
    /// one told next for the same message (§3.1), and a conditional STORE that changes nothing is not answered with a FETCH (§3.1.3).
    pub loose: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Believed {
    pub(super) uid: Option<u32>,
    /// `None` where the client has changed them silently and cannot know the outcome.
    pub(super) flags: Option<BTreeSet<String>>,
    /// The last MODSEQ told.
    pub(super) modseq: Option<u64>,
    /// An answer that was OK and did not tell of it.
    pub(super) left_out: Option<String>,
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
            // CLOSE says nothing of what it expunges (RFC 9051 §6.4.1).
            may_expunge: !matches!(first, "FETCH" | "STORE" | "SEARCH" | "CLOSE"),
            tells_uid: is_uid && matches!(second, "FETCH" | "STORE"),
            search_uids: is_uid,
        }
    }
}

impl View {
    pub fn size(&self) -> u32 {
        self.messages.len() as u32
    }

    /// Nothing is selected any more, or something else.
    pub fn leave(&mut self) {
        self.messages.clear();
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
        if let Some(uids) = line.strip_prefix(b"* VANISHED ") {
            self.vanished(&String::from_utf8_lossy(uids), rules)?;
            return Ok(None);
        }
        let Some((n, word)) = answer::numbered(line) else { return Ok(None) };
        match word.as_str() {
            "EXISTS" if n < self.size() => return Err(format!("EXISTS falls from {} to {n}", self.size())),
            "EXISTS" => self.messages.resize(n as usize, Believed::default()),
            "EXPUNGE" => {
                if self.qresync {
                    return Err(format!("EXPUNGE {n} where VANISHED is to be said"));
                }
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

    fn vanished(&mut self, uids: &str, rules: Rules) -> Result<(), String> {
        if !self.qresync || uids.starts_with('(') {
            return Err(format!("VANISHED {uids} to who has not asked for it"));
        }
        if !rules.may_expunge {
            return Err(format!("VANISHED {uids} where numbers must stand"));
        }
        for part in uids.split(',') {
            let (first, last) = part.split_once(':').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
                return Err(format!("VANISHED {uids}"));
            };
            (first.min(last)..=last.max(first)).try_for_each(|uid| self.vanish(uid))?;
        }
        Ok(())
    }

    /// Takes out a message by its UID. If that was never told it is one of those that stand where it must stand: which one is not known.
    fn vanish(&mut self, uid: u32) -> Result<(), String> {
        if let Some(at) = self.messages.iter().position(|message| message.uid == Some(uid)) {
            self.messages.remove(at);
            return Ok(());
        }
        let below = self.messages.iter().rposition(|message| message.uid.is_some_and(|known| known < uid));
        let from = below.map_or(0, |at| at + 1);
        let end = self.messages[from..].iter().position(|message| message.uid.is_some());
        let end = end.map_or(self.messages.len(), |at| from + at);
        if from == end {
            return Err(format!("VANISHED {uid}, which nobody has"));
        }
        self.messages[from..end].fill(Believed::default());
        self.messages.remove(from);
        Ok(())
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
        } else if rules.tells_uid && items.keys().any(|k| k != "FLAGS" && k != "MODSEQ") {
            // Flags (and their MODSEQ) alone may be another session's change, told on the way: those need no UID (Dovecot gives none).
            return Err(format!("no UID in {items:?}"));
        }
        if let Some(modseq) = items.get("MODSEQ") {
            let modseq = modseq.list()[0].number().ok_or("MODSEQ is a number")?;
            if let Some(known) = self.messages[at].modseq.filter(|known| *known > modseq && !self.loose) {
                return Err(format!("MODSEQ at {n} falls from {known} to {modseq}"));
            }
            self.messages[at].modseq = Some(modseq);
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

/// Flags without `\Recent`, which differs from session to session, in lower case.
pub fn flag_set(list: &Value) -> BTreeSet<String> {
    list.list().iter().map(|f| f.text().to_ascii_lowercase()).filter(|f| f != "\\recent").collect()
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
            ("CLOSE", &["* 3 EXISTS", "* 1 EXPUNGE"], Some("must stand")),
            ("NOOP", &["* 3 EXISTS", "* VANISHED 1"], Some("not asked")),
            ("NOOP", &["* 1 EXISTS", "* 1 FETCH (MODSEQ (5))", "* 1 FETCH (MODSEQ (5))"], None),
            ("NOOP", &["* 1 EXISTS", "* 1 FETCH (MODSEQ (5))", "* 1 FETCH (MODSEQ (4))"], Some("falls")),
            ("qresync NOOP", &["* 3 EXISTS", "* 1 EXPUNGE"], Some("is to be said")),
            (
                "qresync NOOP",
                &["* 3 EXISTS", "* 2 FETCH (UID 5)", "* VANISHED 3:5,9", "* 1 EXISTS"],
                Some("nobody has"),
            ),
            ("qresync NOOP", &["* 3 EXISTS", "* 2 FETCH (UID 5)", "* VANISHED 4:5", "* 1 FETCH (UID 9)"], None),
            ("qresync NOOP", &["* 2 EXISTS", "* VANISHED 4:5", "* 1 FETCH (UID 9)"], Some("FETCH 1 of 0")),
            ("qresync NOOP", &["* 2 EXISTS", "* VANISHED (EARLIER) 4:5"], Some("not asked")),
            ("FETCH 1 FLAGS", &["* 2 EXISTS", "* VANISHED 4"], Some("not asked")),
        ];
        for (command, lines, expected) in table {
            let mut view = View { qresync: command.starts_with("qresync "), ..View::default() };
            let mut bodies = HashMap::new();
            let rules = Rules::of(command.trim_start_matches("qresync "));
            let heard = lines.iter().try_for_each(|l| view.hear(l.as_bytes(), rules, &mut bodies).map(drop));
            match (expected, heard) {
                (None, Ok(())) => {}
                (Some(words), Err(e)) if e.contains(words) => {}
                (_, got) => panic!("{command}: {lines:?}: {got:?}, expected {expected:?}"),
            }
        }
    }
}
