//! The simulated account against a naive one, its manners on the wire, and the sample mail.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::account::{ALL_MAIL, INBOX, SENT, SPAM, STARRED, TRASH};
use super::*;
use crate::engine::{Append, CopyMode, Error, Snapshot};
use crate::message;
use crate::model::{FlagOp, Flags, InternalDate, ModSeq, Uid, UidSet};
use crate::session::backend::{Account as _, Mailbox as _};

/// 22 November 2026.
const NOW: i64 = 1_795_312_000;

fn empty() -> Account {
    Account::new("demo@example.org", Tally::new(), NOW)
}

async fn snapshot(account: &Account, name: &str) -> Arc<Snapshot> {
    account.open(name).await.unwrap().snapshot()
}

/// A message of the naive account: labels and flags, nothing else.
#[derive(Clone, Debug, Default)]
struct Plain {
    labels: BTreeSet<&'static str>,
    deleted_in: BTreeSet<&'static str>,
    seen: bool,
    starred: bool,
}

impl Plain {
    fn is_away(&self) -> bool {
        self.labels.contains(TRASH) || self.labels.contains(SPAM)
    }

    fn label(&mut self, to: &'static str) {
        if to == TRASH || to == SPAM {
            self.labels = BTreeSet::from([to]);
        } else {
            self.labels.remove(TRASH);
            self.labels.remove(SPAM);
            self.labels.extend([ALL_MAIL, to]);
            self.starred |= to == STARRED;
        }
        self.settle();
    }

    fn unlabel(&mut self, from: &'static str) {
        self.labels.remove(from);
        self.starred &= from != STARRED;
        self.settle();
    }

    /// The star and the mailbox Starred are one; a mark of deletion ends with its place.
    fn settle(&mut self) {
        if self.starred && !self.is_away() {
            self.labels.insert(STARRED);
        } else {
            self.labels.remove(STARRED);
        }
        self.deleted_in.retain(|name| self.labels.contains(name));
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

const BOXES: [&str; 7] = [INBOX, ALL_MAIL, SENT, SPAM, STARRED, TRASH, "Work"];

/// What the account holds, by X-GM-MSGID's order of arrival, as the naive one would have it.
async fn told(account: &Account, ids: &[u64]) -> Vec<Option<Plain>> {
    let mut found: Vec<Option<Plain>> = vec![None; ids.len()];
    for name in BOXES {
        for meta in snapshot(account, name).await.messages.iter() {
            let index = ids.iter().position(|id| *id == meta.gm_msgid).expect("a message that was delivered");
            let plain = found[index].get_or_insert_with(Plain::default);
            let flags = meta.flags.to_string();
            if !plain.labels.is_empty() {
                assert_eq!((plain.seen, plain.starred), (flags.contains("Seen"), flags.contains("Flagged")), "{name}");
            }
            (plain.seen, plain.starred) = (flags.contains("Seen"), flags.contains("Flagged"));
            assert!(plain.labels.insert(name), "twice in {name}");
            if flags.contains("Deleted") {
                plain.deleted_in.insert(name);
            }
        }
    }
    found
}

#[tokio::test]
async fn labels_agree_with_a_naive_account() {
    for seed in 1..=30 {
        let mut random = Random(seed);
        let account = empty();
        account.create("Work", None).await.unwrap();
        let (mut ids, mut model): (Vec<u64>, Vec<Option<Plain>>) = (Vec::new(), Vec::new());
        let mut highest = ModSeq(0);
        for step in 0..120 {
            let name = BOXES[random.below(BOXES.len())];
            let mailbox = account.open(name).await.unwrap();
            let here = mailbox.snapshot();
            let chosen: UidSet = here.messages.iter().filter(|_| random.below(3) == 0).map(|meta| meta.uid.0).collect();
            let chosen_ids: Vec<usize> = here
                .messages
                .select(&chosen)
                .map(|(_, meta)| ids.iter().position(|id| *id == meta.gm_msgid).unwrap())
                .collect();
            let touched = |model: &mut Vec<Option<Plain>>, act: &dyn Fn(&mut Plain)| {
                for index in &chosen_ids {
                    act(model[*index].as_mut().expect("it is there"));
                }
            };
            match random.below(7) {
                0 | 1 => {
                    let raw = format!("Message-ID: <{seed}-{step}@x>\r\nSubject: {step}\r\n\r\ntext {step}\r\n");
                    account.deliver(raw.into(), InternalDate { seconds: NOW, zone: 0 });
                    ids.push(snapshot(&account, INBOX).await.messages.last().unwrap().gm_msgid);
                    let mut plain = Plain::default();
                    plain.label(INBOX);
                    model.push(Some(plain));
                }
                2 => {
                    let (flag, on) = (["\\Seen", "\\Flagged", "\\Deleted"][random.below(3)], random.below(2) == 0);
                    let op = if on { FlagOp::Add } else { FlagOp::Remove };
                    let failed = mailbox.store(&chosen, op, &Flags::parse([flag]), None).await.unwrap();
                    assert!(failed.is_empty());
                    touched(&mut model, &|plain| {
                        match flag {
                            "\\Seen" => plain.seen = on,
                            "\\Flagged" => plain.starred = on,
                            _ if on => drop(plain.deleted_in.insert(name)),
                            _ => drop(plain.deleted_in.remove(name)),
                        }
                        plain.settle();
                    });
                }
                3 | 4 => {
                    let to = BOXES[random.below(BOXES.len())];
                    let copied = mailbox.copy(&chosen, to, CopyMode::Copy).await.unwrap().unwrap();
                    assert_eq!(copied.pairs.len() as u64, chosen.len(), "seed {seed}");
                    touched(&mut model, &|plain| plain.label(to));
                }
                5 => {
                    let to = BOXES[random.below(BOXES.len())];
                    mailbox.copy(&chosen, to, CopyMode::Move).await.unwrap();
                    touched(&mut model, &|plain| {
                        plain.label(to);
                        if to != name && name != ALL_MAIL && plain.labels.contains(name) {
                            plain.unlabel(name);
                        }
                    });
                }
                _ => {
                    mailbox.expunge(Some(&chosen)).await.unwrap();
                    for index in &chosen_ids {
                        let entry = &mut model[*index];
                        let plain = entry.as_mut().unwrap();
                        if !plain.deleted_in.contains(name) {
                            continue;
                        }
                        match name {
                            ALL_MAIL => plain.label(TRASH),
                            TRASH | SPAM => *entry = None,
                            _ => plain.unlabel(name),
                        }
                    }
                }
            }
            let found = told(&account, &ids).await;
            assert_eq!(format!("{found:?}"), format!("{model:?}"), "seed {seed}, step {step}, mailbox {name}");
            let now = snapshot(&account, name).await.highest_modseq;
            assert!(now >= mailbox.snapshot().highest_modseq && now >= here.highest_modseq, "seed {seed}");
            highest = highest.max(now);
        }
        assert!(highest > ModSeq(NOW as u64 + 20), "seed {seed}: the mod-sequence moves");
    }
}

#[tokio::test]
async fn unchanged_since_holds_back_what_changed() {
    let account = empty();
    for number in 0..3 {
        account.deliver(format!("Subject: {number}\r\n\r\n").into(), InternalDate::default());
    }
    let mailbox = account.open("inbox").await.unwrap();
    let seen = Flags::parse(["\\Seen"]);
    let before = mailbox.snapshot().highest_modseq;
    mailbox.store(&UidSet::parse("2").unwrap(), FlagOp::Add, &seen, None).await.unwrap();
    let failed = mailbox.store(&UidSet::parse("1:3").unwrap(), FlagOp::Add, &Flags::parse(["x"]), Some(before)).await;
    assert_eq!(failed.unwrap().to_string(), "2");
    let flags: Vec<String> = mailbox.snapshot().messages.iter().map(|meta| meta.flags.to_string()).collect();
    assert_eq!(flags, ["x", "\\Seen", "x"]);
    assert_eq!(mailbox.snapshot().keywords.len(), 1);
}

#[tokio::test]
async fn mailboxes_come_and_go() {
    let account = empty();
    account.create("Work/2026", None).await.unwrap();
    assert_eq!(account.create("Work/2026", None).await, Err(Error::Exists("Work/2026".into())));
    assert!(matches!(account.create("[Gmail]/Mine", None).await, Err(Error::Cannot(_))));
    assert!(matches!(account.delete(TRASH).await, Err(Error::Cannot(_))));
    let raw = Bytes::from_static(b"Message-ID: <a@x>\r\n\r\nhello\r\n");
    let append = || vec![Append { flags: Flags::parse(["\\Flagged"]), date: None, body: raw.clone(), memory: None }];
    let first = account.append("Work/2026", append()).await.unwrap().unwrap();
    // The same again is no second message.
    assert_eq!(account.append("Work/2026", append()).await.unwrap().unwrap(), first);
    assert_eq!(snapshot(&account, ALL_MAIL).await.messages.len(), 1);
    assert_eq!(snapshot(&account, STARRED).await.messages.len(), 1);
    let open = account.open("Work/2026").await.unwrap();
    account.rename("Work/2026", "Past").await.unwrap();
    assert!(open.snapshot().dead);
    assert_eq!(open.expunge(None).await, Err(Error::Gone));
    let past = snapshot(&account, "Past").await;
    assert_eq!((past.uid_validity, past.messages.len()), (first.uid_validity, 1));
    let gmail = account.open(ALL_MAIL).await.unwrap().gmail(Uid(1));
    assert_eq!(gmail.labels, ["Past", "\\Starred"]);
    let mut watch = account.open("Past").await.unwrap().watch();
    watch.mark_unchanged();
    account.delete("Past").await.unwrap();
    watch.changed().await.unwrap();
    assert!(watch.borrow().dead);
    assert_eq!(snapshot(&account, ALL_MAIL).await.messages.len(), 1, "the message stays");
    assert!(matches!(account.append("Past", append()).await, Err(Error::NoSuchMailbox(_))));
}

/// Reads up to the tagged line.
async fn until(stream: &mut TcpStream, tag: &str) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..count]);
        let shown = String::from_utf8_lossy(&text);
        if shown.ends_with("\r\n") && shown.lines().any(|line| line.starts_with(tag)) {
            return shown.into_owned();
        }
    }
}

async fn ask(stream: &mut TcpStream, command: &str) -> String {
    stream.write_all(format!("a {command}\r\n").as_bytes()).await.unwrap();
    until(stream, "a ").await
}

async fn connect(provider: &Provider) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(provider.address()).await.unwrap();
    let greeting = until(&mut stream, "* OK").await;
    (stream, greeting)
}

#[tokio::test]
async fn the_sixteenth_connection_is_refused_in_gmails_words() {
    let provider = Provider::start(([127, 0, 0, 1], 0).into(), "demo@example.org", Secret::new("pw")).unwrap();
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let (mut stream, _) = connect(&provider).await;
        assert!(ask(&mut stream, "LOGIN demo@example.org pw").await.starts_with("a OK"));
        open.push(stream);
    }
    let (mut late, _) = connect(&provider).await;
    let refused = ask(&mut late, "LOGIN demo@example.org pw").await;
    assert_eq!(refused, "a NO [ALERT] Too many simultaneous connections. (Failure)\r\n");
    let counts = provider.counts();
    assert_eq!((counts.connections_most, counts.logins, counts.refused), (15, 15, 1));
    let mut events = provider.events();
    assert!(ask(&mut open[0], "LOGOUT").await.contains("a OK"));
    assert_eq!(events.recv().await.unwrap(), Event::Connections(14));
    assert!(ask(&mut late, "LOGIN demo@example.org pw").await.starts_with("a OK"));
    drop((open, late));
    provider.deserted().await;
    assert_eq!(provider.connections(), 0);
    provider.shutdown().await;
}

#[tokio::test]
async fn it_looks_like_gmail() {
    let provider = Provider::start(([127, 0, 0, 1], 0).into(), "demo@example.org", Secret::new("pw")).unwrap();
    let (mut stream, greeting) = connect(&provider).await;
    let login = ask(&mut stream, "LOGIN demo@example.org pw").await;
    for text in [&greeting, &login] {
        let has = |word: &str| text.split([' ', '[', ']']).any(|known| known == word);
        assert!(has("CONDSTORE") && has("X-GM-EXT-1") && has("LITERAL-"), "{text}");
        assert!(!has("QRESYNC") && !has("LITERAL+") && !has("STARTTLS"), "{text}");
    }
    assert!(ask(&mut stream, "ENABLE QRESYNC").await.starts_with("* ENABLED\r\na OK"));
    assert!(ask(&mut stream, "SELECT INBOX (QRESYNC (1 1))").await.starts_with("a BAD"));
    let list = ask(&mut stream, "LIST \"\" *").await;
    for line in [
        "(\\Noselect \\HasChildren) \"/\" \"[Gmail]\"",
        "\\All) \"/\" \"[Gmail]/All Mail\"",
        "\\Junk) \"/\" \"[Gmail]/Spam\"",
        "\\Flagged) \"/\" \"[Gmail]/Starred\"",
        "\\Important) \"/\" \"[Gmail]/Important\"",
    ] {
        assert!(list.contains(line), "{line} in {list}");
    }
    ask(&mut stream, "SELECT INBOX").await;
    let conversation = ask(&mut stream, "UID SEARCH RETURN (MAX) SUBJECT \"The fence, again\"").await;
    let uid: u32 = conversation.lines().next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    let inbox = ask(&mut stream, &format!("UID FETCH {uid} (X-GM-MSGID X-GM-THRID)")).await;
    let labels = ask(&mut stream, &format!("UID FETCH {uid} (X-GM-LABELS)")).await;
    assert!(labels.contains("X-GM-LABELS ())"), "the mailbox's own label is not told: {labels}");
    let number = |text: &str, name: &str| -> u64 {
        let rest = text.split_once(name).unwrap().1.trim_start();
        rest.split([' ', ')']).next().unwrap().parse().unwrap()
    };
    let (msgid, thread) = (number(&inbox, "X-GM-MSGID"), number(&inbox, "X-GM-THRID"));
    assert!(msgid > thread, "the thread is named by its first message");
    // The same message in All Mail, and the whole conversation under one thread.
    ask(&mut stream, "EXAMINE \"[Gmail]/All Mail\"").await;
    let all = ask(&mut stream, "FETCH 1:* (X-GM-MSGID X-GM-THRID X-GM-LABELS)").await;
    let same = all.lines().find(|line| line.contains(&format!("X-GM-MSGID {msgid} "))).unwrap();
    assert!(same.contains("X-GM-LABELS (\"\\\\Inbox\"))"), "{same}");
    assert_eq!(all.lines().filter(|line| line.contains(&format!("X-GM-THRID {thread} "))).count(), 6);
    drop(stream);
    provider.shutdown().await;
}

#[tokio::test]
async fn other_servers_know_nothing_of_gmails_items() {
    let account = empty();
    account.deliver("Subject: x\r\n\r\n".into(), InternalDate::default());
    let logins = Logins { account, user: "demo@example.org".into(), password: Secret::new("pw"), tally: Tally::new() };
    let server = Arc::new(Server::new(logins, None, Arc::new(Unobserved), "test"));
    let (mut client, stream) = crate::net::Stream::pair();
    let accepted = Accepted { stream, implicit_tls: false, plaintext_login: true };
    let session = tokio::spawn(serve(server, accepted, CancellationToken::new()));
    let commands = b"a LOGIN demo@example.org pw\r\nb SELECT INBOX\r\nc FETCH 1 X-GM-MSGID\r\nd LOGOUT\r\n";
    client.write_all(commands).await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(!text.contains("X-GM-EXT-1") && text.contains(" QRESYNC ") && text.contains("\r\nc BAD FETCH"), "{text}");
    session.await.unwrap();
}

#[test]
fn the_sample_mail_is_a_year_of_everything() {
    let samples = sample::year(NOW);
    assert!((295..=310).contains(&samples.len()), "{}", samples.len());
    assert!(samples.windows(2).all(|pair| pair[0].date <= pair[1].date));
    assert!(samples.iter().all(|sample| (NOW - 367 * 86_400..=NOW).contains(&sample.date.seconds)));
    let month = samples.iter().filter(|sample| sample.date.seconds > NOW - 30 * 86_400).count();
    assert!(month > 20, "something to prefetch: {month}");
    let (mut subjects, mut structures, mut texts) = (String::new(), String::new(), String::new());
    for sample in &samples {
        let structure = message::parse(&sample.raw);
        let header = &sample.raw[structure.header()];
        assert!(header.is_ascii() && header.split(|b| *b == b'\n').all(|line| line.len() <= 78 + 24));
        assert!(message::sent_day(header).is_some() && message::message_id(header).is_some());
        subjects.extend(message::header_values(header, "Subject"));
        structures += &String::from_utf8_lossy(&structure.body_structure(&sample.raw));
        for words in ["плотина", "水位は安定", "会议记录见附件", "مستوى", "old mill is for sale"]
        {
            if sample.raw.len() < 100_000 && message::text_contains(&sample.raw, words, true) {
                texts += words;
            }
        }
    }
    for needed in ["Отчёт об уровне воды", "堰の写真をお送りします", "关于水坝的会议记录", "صور من النهر", "Anhänge"]
    {
        assert!(subjects.contains(needed), "{needed}");
    }
    for needed in ["плотина", "水位は安定", "会议记录见附件", "مستوى", "old mill is for sale"] {
        assert!(texts.contains(needed), "{needed}");
    }
    for needed in [
        "\"image\" \"png\"",
        "\"application\" \"zip\"",
        "\"message\" \"rfc822\"",
        "\"text\" \"calendar\"",
        "\"alternative\"",
        "\"application\" \"pdf\"",
    ] {
        assert!(structures.contains(needed), "{needed}");
    }
    let biggest = samples.iter().map(|sample| sample.raw.len()).max().unwrap();
    assert!((4_900_000..5_300_000).contains(&biggest), "{biggest}");
}
