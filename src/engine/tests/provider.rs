//! A provider of bare IMAP4rev1 in memory: INBOX and what else is named, commands logged, and answers held back at will.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;

use crate::net::dial::{DialError, TlsMode};
use crate::net::{Stream, Tap};
use crate::upstream::Dial;

/// The provider; each connection is a session with the same mail.
#[derive(Default)]
pub(super) struct Provider {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    mail: Mutex<BTreeMap<String, Box>>,
    /// Every command line, without its tag.
    log: watch::Sender<Vec<String>>,
    /// Commands that begin so are not answered until this is empty again.
    held: watch::Sender<&'static str>,
    tells_uid_next: bool,
    /// With X-GM-EXT-1 or OBJECTID: a message's id is made of its UID and this.
    ids_from: AtomicU64,
    /// Each SELECT tells another UIDVALIDITY.
    restless: AtomicBool,
    selects: AtomicU64,
    /// The connection is cut at the so-many-th command that begins so.
    dies: Mutex<Option<(&'static str, usize)>>,
    /// Told whenever mail changes.
    changed: watch::Sender<()>,
    /// Connections opened before the last of these are dead: nothing is answered or told on them.
    died: AtomicU64,
    caps: &'static str,
    /// A FETCH is answered for so many messages, the highest, and a SEARCH for the lowest of so many; 0: for all.
    most: usize,
    /// SELECT shows so many messages, the newest; 0: all.
    window: usize,
}

impl Shared {
    /// A mailbox as SELECT shows it.
    fn shown(&self, mut mailbox: Box) -> Box {
        if self.window > 0 {
            drop(mailbox.messages.drain(..mailbox.messages.len().saturating_sub(self.window)));
        }
        mailbox
    }
}

impl Default for Shared {
    fn default() -> Self {
        let inbox = Box { messages: Vec::new(), uid_next: 1 };
        Self {
            mail: Mutex::new([("INBOX".to_owned(), inbox)].into()),
            log: watch::Sender::default(),
            held: watch::Sender::default(),
            tells_uid_next: true,
            ids_from: AtomicU64::new(1000),
            restless: AtomicBool::default(),
            selects: AtomicU64::new(7),
            dies: Mutex::default(),
            changed: watch::Sender::default(),
            died: AtomicU64::default(),
            caps: "",
            most: 0,
            window: 0,
        }
    }
}

#[derive(Clone, Debug)]
struct Box {
    /// UID and flags.
    messages: Vec<(u32, String)>,
    uid_next: u32,
}

impl Provider {
    /// With these capabilities besides IMAP4rev1; with or without UIDNEXT in its answers.
    pub(super) fn offering(caps: &'static str, tells_uid_next: bool) -> Self {
        Self { shared: Arc::new(Shared { caps, tells_uid_next, ..Shared::default() }) }
    }

    /// Answers for so many messages at once, and says so (RFC 9738).
    pub(super) fn answering_for(most: usize, caps: &'static str) -> Self {
        Self { shared: Arc::new(Shared { caps, most, ..Shared::default() }) }
    }

    /// SELECT shows the newest of so many messages only.
    pub(super) fn showing(window: usize) -> Self {
        Self { shared: Arc::new(Shared { window, ..Shared::default() }) }
    }

    /// Another program expunges a message.
    pub(super) fn remove(&self, mailbox: &str, uid: u32) {
        let mut mail = self.shared.mail();
        mail.get_mut(mailbox).unwrap().messages.retain(|(known, _)| *known != uid);
        drop(mail);
        self.shared.changed.send_replace(());
    }

    /// Puts in a message without flags.
    pub(super) fn deliver(&self, mailbox: &str) {
        let mut mail = self.shared.mail();
        let target = mail.entry(mailbox.to_owned()).or_insert(Box { messages: Vec::new(), uid_next: 1 });
        target.messages.push((target.uid_next, String::new()));
        target.uid_next += 1;
        drop(mail);
        self.shared.changed.send_replace(());
    }

    /// Takes out the oldest message. A session that idles is told nothing of it, not even later.
    pub(super) fn expunge(&self, mailbox: &str) {
        self.shared.mail().get_mut(mailbox).unwrap().messages.remove(0);
        self.shared.changed.send_replace(());
    }

    /// Every connection there is dies without a word.
    pub(super) fn die_silently(&self) {
        self.shared.died.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on the server contradicts itself: each SELECT tells another UIDVALIDITY.
    pub(super) fn be_restless(&self) {
        self.shared.restless.store(true, Ordering::Relaxed);
    }

    /// From now on every message has another X-GM-MSGID and EMAILID.
    pub(super) fn change_ids(&self) {
        self.shared.ids_from.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on commands that begin so are not answered; `""` lets go.
    pub(super) fn hold(&self, begin: &'static str) {
        self.shared.held.send_replace(begin);
    }

    /// Cuts the connection once, at the `nth` command from now on that begins so.
    pub(super) fn die_at(&self, begin: &'static str, nth: usize) {
        *self.shared.dies.lock().unwrap() = Some((begin, nth));
    }

    /// How many commands begin so, by now.
    pub(super) fn count(&self, begin: &str) -> usize {
        self.shared.log.borrow().iter().filter(|line| line.starts_with(begin)).count()
    }

    /// Waits until so many commands have begun so.
    pub(super) async fn told(&self, begin: &str, count: usize) {
        let mut log = self.shared.log.subscribe();
        log.wait_for(|log| log.iter().filter(|line| line.starts_with(begin)).count() >= count).await.unwrap();
    }
}

impl Dial for Provider {
    fn dial(&self, _: Arc<dyn Tap>) -> BoxFuture<'_, Result<Stream, DialError>> {
        let (ours, theirs) = Stream::pair();
        tokio::spawn(serve(Arc::clone(&self.shared), theirs));
        std::future::ready(Ok(ours)).boxed()
    }

    fn upgrade(&self, stream: Stream) -> BoxFuture<'_, Result<Stream, DialError>> {
        std::future::ready(Ok(stream)).boxed()
    }

    fn tls(&self) -> TlsMode {
        TlsMode::Implicit
    }

    fn host(&self) -> (&str, u16) {
        ("imap.example.org", 993)
    }
}

impl Shared {
    fn is_death(&self, command: &str) -> bool {
        let mut dies = self.dies.lock().unwrap();
        let Some((begin, left)) = &mut *dies else { return false };
        if !command.starts_with(*begin) {
            return false;
        }
        *left -= 1;
        let is_now = *left == 0;
        if is_now {
            *dies = None;
        }
        is_now
    }

    fn mail(&self) -> MutexGuard<'_, BTreeMap<String, Box>> {
        self.mail.lock().unwrap()
    }
}

/// One session, until the other side closes.
async fn serve(shared: Arc<Shared>, stream: Stream) {
    let mut peer = BufReader::new(stream);
    if peer.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n").await.is_err() {
        return;
    }
    let mut selected: Option<(String, Box)> = None;
    let mut line = String::new();
    let born = shared.died.load(Ordering::Relaxed);
    let is_dead = || shared.died.load(Ordering::Relaxed) > born;
    loop {
        line.clear();
        if !matches!(peer.read_line(&mut line).await, Ok(read) if read > 0) {
            return;
        }
        if is_dead() {
            return std::future::pending().await;
        }
        let (tag, command) = line.trim_end().split_once(' ').unwrap();
        let command = command.to_owned();
        shared.log.send_modify(|log| log.push(command.clone()));
        if shared.is_death(&command) {
            return;
        }
        let mut held = shared.held.subscribe();
        held.wait_for(|held| held.is_empty() || !command.starts_with(held)).await.unwrap();
        if command == "IDLE" {
            let mut changed = shared.changed.subscribe();
            if peer.write_all(b"+ idling\r\n").await.is_err() {
                return;
            }
            let mut end = String::new();
            loop {
                tokio::select! {
                    read = peer.read_line(&mut end) => {
                        if !matches!(read, Ok(read) if read > 0) {
                            return;
                        }
                        if is_dead() {
                            return std::future::pending().await;
                        }
                        break;
                    }
                    _ = changed.changed() => {
                        if is_dead() {
                            return std::future::pending().await;
                        }
                        let news = news(&shared, &mut selected);
                        if peer.write_all(news.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            }
            if peer.write_all(format!("{tag} OK done\r\n").as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let answer = answer(&shared, &mut selected, tag, &command);
        if peer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What a session that has a mailbox selected is told of it.
fn news(shared: &Shared, selected: &mut Option<(String, Box)>) -> String {
    let Some((name, seen)) = selected else { return String::new() };
    let now = shared.shown(shared.mail()[name.as_str()].clone());
    let (now_count, before) = (now.messages.len(), seen.messages.len());
    let grown = if shared.window > 0 { now_count != before } else { now_count > before };
    *seen = now;
    if grown { format!("* {} EXISTS\r\n", seen.messages.len()) } else { String::new() }
}

fn answer(shared: &Shared, selected: &mut Option<(String, Box)>, tag: &str, command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let mut out = String::new();
    let mut code = String::new();
    let named = |word: Option<&&str>| word.map(|word| word.trim_matches('"').to_owned()).unwrap_or_default();
    match words.as_slice() {
        ["AUTHENTICATE", ..] => code = format!("[CAPABILITY IMAP4rev1 {}] ", shared.caps),
        ["SELECT", ..] => {
            let name = named(words.get(1));
            let Some(mailbox) = shared.mail().get(&name).cloned().map(|mailbox| shared.shown(mailbox)) else {
                *selected = None;
                return format!("{tag} NO [NONEXISTENT] no such mailbox\r\n");
            };
            if shared.restless.load(Ordering::Relaxed) {
                shared.selects.fetch_add(1, Ordering::Relaxed);
            }
            let validity = shared.selects.load(Ordering::Relaxed);
            out = format!("* {} EXISTS\r\n* OK [UIDVALIDITY {validity}] as ever\r\n", mailbox.messages.len());
            if shared.tells_uid_next {
                out.push_str(&format!("* OK [UIDNEXT {}] next\r\n", mailbox.uid_next));
            }
            *selected = Some((name, mailbox));
        }
        ["LIST", ..] => {
            for name in shared.mail().keys() {
                out.push_str(&format!("* LIST () \"/\" \"{name}\"\r\n"));
            }
        }
        ["STATUS", ..] => {
            let name = named(words.get(1));
            let mail = shared.mail();
            let Some(mailbox) = mail.get(&name) else { return format!("{tag} NO no such mailbox\r\n") };
            let (messages, next) = (mailbox.messages.len(), mailbox.uid_next);
            let unseen = mailbox.messages.iter().filter(|(_, flags)| !flags.contains("\\Seen")).count();
            out = format!("* STATUS \"{name}\" (MESSAGES {messages} UIDNEXT {next} UIDVALIDITY 7 UNSEEN {unseen})\r\n");
        }
        ["UID", "FETCH", set, ..] => {
            out = news(shared, selected);
            let mut chosen = chosen(selected, set);
            if shared.most > 0 {
                drop(chosen.drain(..chosen.len().saturating_sub(shared.most)));
            }
            if command.ends_with("(UID)") {
                out.extend(chosen.drain(..).map(|(at, (uid, _))| format!("* {at} FETCH (UID {uid})\r\n")));
            }
            for (at, (uid, flags)) in chosen {
                let id = shared.ids_from.load(Ordering::Relaxed) + u64::from(uid);
                // Only where it is asked for, as servers do.
                let id = match () {
                    () if command.contains(" X-GM-MSGID") => format!(" X-GM-MSGID {id}"),
                    () if command.contains(" EMAILID") => format!(" EMAILID (M{id})"),
                    () => String::new(),
                };
                out.push_str(&format!(
                    "* {at} FETCH (UID {uid}{id} FLAGS ({flags}) INTERNALDATE \"01-Jan-2026 00:00:00 +0000\" RFC822.SIZE 30)\r\n"
                ));
            }
        }
        ["FETCH", "1", "(UID)"] => {
            out = news(shared, selected);
            let first = chosen(selected, "1:*").first().map(|(_, (uid, _))| *uid);
            out.extend(first.map(|uid| format!("* 1 FETCH (UID {uid})\r\n")));
        }
        // Whatever is looked for, every message has it.
        ["UID", "SEARCH", keys @ ..] => {
            out = news(shared, selected);
            let most = if shared.most > 0 { shared.most } else { usize::MAX };
            let set = match keys {
                ["UID", set, ..] => set,
                _ => "1:*",
            };
            let found = chosen(selected, set).into_iter().take(most);
            out.push_str(&found.fold("* SEARCH".to_owned(), |line, (_, (uid, _))| format!("{line} {uid}")));
            out.push_str("\r\n");
        }
        ["UID", "STORE", set, _, flags @ ..] => {
            let flags = flags.join(" ").trim_matches(['(', ')']).to_owned();
            let chosen: Vec<u32> = chosen(selected, set).into_iter().map(|(_, (uid, _))| uid).collect();
            if let Some((name, seen)) = selected
                && let Some(mailbox) = shared.mail().get_mut(name.as_str())
            {
                for (uid, old) in &mut mailbox.messages {
                    if chosen.contains(uid) {
                        old.clone_from(&flags);
                    }
                }
                *seen = mailbox.clone();
            }
        }
        _ => out = news(shared, selected),
    }
    format!("{out}{tag} OK {code}done\r\n")
}

/// The messages of a set of numbers, ranges and `*`, with their sequence numbers.
fn chosen(selected: &Option<(String, Box)>, set: &str) -> Vec<(usize, (u32, String))> {
    let Some((_, mailbox)) = selected else { return Vec::new() };
    let last = mailbox.messages.last().map_or(0, |(uid, _)| *uid);
    let number = |text: &str| if text == "*" { last } else { text.parse().unwrap() };
    let within = |uid: u32| {
        set.split(',').any(|range| {
            let (from, to) = range.split_once(':').unwrap_or((range, range));
            let (from, to) = (number(from), number(to));
            (from.min(to)..=from.max(to)).contains(&uid)
        })
    };
    (1..).zip(mailbox.messages.iter().cloned()).filter(|(_, (uid, _))| within(*uid)).collect()
}
