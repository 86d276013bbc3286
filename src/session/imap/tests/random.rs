//! Three clients do random things to one mailbox at once; a checker behind each holds every line against the rules.
//!
//! The checker is a client that believes what it is told: a list of messages, changed by EXISTS, EXPUNGE and VANISHED, flags
//! changed by FETCH. It objects to an EXPUNGE in a FETCH, STORE or SEARCH, to numbers that do not exist, to a UID that moves.
//! In the end everybody is asked everything, and all must agree with the mailbox.

use std::collections::BTreeMap;

use super::*;
use crate::session::backend::Mailbox as _;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What one client believes.
#[derive(Default)]
struct Belief {
    /// UID and flags by number, unknown until told.
    messages: Vec<(Option<u32>, Option<String>)>,
    by_uid: BTreeMap<u32, String>,
}

impl Belief {
    fn hear(&mut self, line: &str, command: &str) {
        let Some(rest) = line.strip_prefix("* ") else { return };
        let numbered = ["FETCH ", "STORE ", "SEARCH "].iter().any(|word| command.starts_with(word))
            || (command.starts_with("UID SEARCH") && command.contains("1:"));
        if let Some(set) = rest.strip_prefix("VANISHED ") {
            assert!(!numbered, "{line} during {command}");
            for uid in crate::model::UidSet::parse(set).unwrap().iter() {
                let known = self.messages.iter().position(|(known, _)| *known == Some(uid));
                // One that it was told of by EXISTS alone stands behind every lower UID; of several such any will do.
                let behind = self.messages.iter().rposition(|(known, _)| known.is_some_and(|known| known < uid));
                let from = behind.map_or(0, |at| at + 1);
                let place =
                    known.or_else(|| self.messages[from..].iter().position(|m| m.0.is_none()).map(|at| from + at));
                self.messages.remove(place.unwrap_or_else(|| panic!("{line}: UID {uid} is not known")));
            }
            return;
        }
        let Some((number, rest)) = rest.split_once(' ') else { return };
        let Ok(number) = number.parse::<usize>() else { return };
        match rest {
            "EXISTS" => {
                assert!(number >= self.messages.len(), "{line} where {} were known", self.messages.len());
                self.messages.resize(number, (None, None));
            }
            "EXPUNGE" => {
                assert!(!numbered, "{line} during {command}");
                assert!((1..=self.messages.len()).contains(&number), "{line} of {}", self.messages.len());
                self.messages.remove(number - 1);
            }
            _ if rest.starts_with("FETCH") => {
                assert!((1..=self.messages.len()).contains(&number), "{line} of {}", self.messages.len());
                let entry = &mut self.messages[number - 1];
                if let Some((_, uid)) = rest.split_once("UID ") {
                    let uid: u32 = uid.split([' ', ')']).next().unwrap().parse().unwrap();
                    assert!(entry.0.is_none_or(|known| known == uid), "{line}: was UID {:?}", entry.0);
                    entry.0 = Some(uid);
                }
                if let Some((_, flags)) = rest.split_once("FLAGS (") {
                    entry.1 = Some(flags.split(')').next().unwrap().to_owned());
                }
            }
            _ => {}
        }
        let mut seen: Vec<u32> = self.messages.iter().filter_map(|(uid, _)| *uid).collect();
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(count, seen.len(), "{line}: a UID stands twice");
        self.by_uid.clear();
    }
}

async fn run(seed: u64) {
    let bench = Bench::new();
    let inbox = bench.account.mailbox("INBOX");
    let mut random = Random(seed);
    for _ in 0..20 {
        inbox.deliver(MESSAGE);
    }
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = bench.selected("").await;
        if number == 2 {
            client.command("q", "ENABLE QRESYNC").await;
        }
        let mut belief = Belief::default();
        for line in client.command("s", "SELECT INBOX").await {
            belief.hear(&line, "SELECT");
        }
        for line in client.command("f", "UID FETCH 1:* (FLAGS)").await {
            belief.hear(&line, "UID FETCH");
        }
        clients.push((client, belief));
    }
    for step in 0..300 {
        // Commands of two clients are under way at once.
        let first = random.below(3) as usize;
        let second = (first + 1 + random.below(2) as usize) % 3;
        let mut sent = Vec::new();
        for which in [first, second] {
            let (client, belief) = &mut clients[which];
            let count = belief.messages.len() as u64;
            let one = 1 + random.below(count.max(1));
            let two = one + random.below((count.max(1) - one) + 1);
            let flag = ["\\Seen", "\\Deleted", "\\Flagged", "$Work"][random.below(4) as usize];
            let sign = ["+", "-", ""][random.below(3) as usize];
            let silent = ["", ".SILENT"][random.below(2) as usize];
            let command = match random.below(16) {
                0 => "NOOP".to_owned(),
                1 | 2 if count > 0 => format!("STORE {one}:{two} {sign}FLAGS{silent} ({flag})"),
                3 => format!("UID STORE {one}:{two} {sign}FLAGS{silent} ({flag})"),
                4 if count > 0 => format!("FETCH {one}:{two} (UID FLAGS)"),
                5 => "UID FETCH 1:* (FLAGS)".to_owned(),
                6 if count > 0 => format!("FETCH {one} (UID BODY[TEXT])"),
                7 => "EXPUNGE".to_owned(),
                8 => format!("SEARCH NOT {flag}").replace("NOT \\", "").replace("NOT $", "KEYWORD $").to_uppercase(),
                9 => "UID SEARCH 1:*".to_owned(),
                10 => "APPEND INBOX {4+}\r\nA: b".to_owned(),
                11 if count > 0 => format!("MOVE {one} Sent"),
                12 if count > 0 => format!("COPY {one} INBOX"),
                13 => "CHECK".to_owned(),
                14 => format!("UID EXPUNGE {one}:{two}"),
                _ => "IDLE\r\nDONE".to_owned(),
            };
            client.send(&format!("t{step} {command}\r\n")).await;
            sent.push((which, command));
        }
        if random.below(4) == 0 {
            let uids = inbox.now().messages.uids();
            if let Some(uid) = uids.iter().nth(random.below(uids.len().max(1)) as usize) {
                inbox.vanish(&uid.to_string());
            }
        }
        if random.below(3) == 0 || inbox.snapshot().messages.len() < 8 {
            inbox.deliver(MESSAGE);
        }
        for (which, command) in sent {
            let (client, belief) = &mut clients[which];
            loop {
                let line = client.line().await;
                belief.hear(&line, &command);
                if let Some(status) = line.strip_prefix(&format!("t{step} ")) {
                    let fine = status.starts_with("OK") || status.starts_with("NO [EXPUNGEISSUED]");
                    assert!(fine, "{command}: {line}");
                    break;
                }
                assert!(!line.starts_with('('), "{command}: {line}");
            }
        }
    }
    for (client, belief) in &mut clients {
        for tag in ["x", "y"] {
            for line in client.command(tag, "NOOP").await {
                belief.hear(&line, "NOOP");
            }
        }
        // What it believes before it asks has to be right already, as far as it was told.
        let now = inbox.now();
        assert_eq!(belief.messages.len(), now.messages.len() as usize);
        for (believed, message) in belief.messages.iter().zip(now.messages.iter()) {
            assert!(believed.0.is_none_or(|uid| uid == message.uid.0));
            // Its own .SILENT changes are what it did not hear of.
        }
        let lines = client.command("z", "UID FETCH 1:* (FLAGS)").await;
        let fetched = lines.iter().filter(|line| line.contains(" FETCH ")).count();
        assert_eq!(fetched, belief.messages.len());
        for line in lines {
            belief.hear(&line, "UID FETCH");
        }
        for (believed, message) in belief.messages.iter().zip(now.messages.iter()) {
            assert_eq!(believed.0, Some(message.uid.0));
            assert_eq!(believed.1.as_deref(), Some(message.flags.to_string().as_str()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn three_clients_agree() {
    for seed in 1..=12 {
        println!("seed {seed}");
        run(seed).await;
    }
}
