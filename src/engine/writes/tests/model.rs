//! A provider in memory: as much IMAP as the engine's writes use, and a fault at any one command.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::model::{InternalDate, UidSet};
use crate::net::dial::{DialError, TlsMode};
use crate::net::{Stream, Tap};
use crate::upstream::Dial;

/// What goes wrong at a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection ends before the command is carried out.
    CutBefore,
    /// It is carried out, and the connection ends before the answer.
    CutAfter,
    /// It is refused with this code and words.
    Refused(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) uid: u32,
    pub(super) flags: BTreeSet<String>,
    pub(super) octets: Bytes,
    /// EMAILID, with OBJECTID: the same for the same octets, copies among them.
    pub(super) id: String,
}

impl Message {
    /// Another message now, of this subject, behind the same UID.
    pub(super) fn become_another(&mut self, subject: &str) {
        let octets = mail(subject);
        self.flags.clear();
        self.id = id_of(octets.as_bytes());
        self.octets = Bytes::from(octets);
    }
}

fn id_of(octets: &[u8]) -> String {
    format!("M{}", &blake3::hash(octets).to_hex()[..16])
}

#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    pub(super) validity: u32,
    pub(super) next: u32,
    pub(super) messages: Vec<Message>,
}

/// What another client does, and the command it comes before.
pub(super) type Hand = (&'static str, fn(&mut Account));

#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) folders: BTreeMap<String, Folder>,
    /// The commands since the last [`Provider::arm`], names only.
    pub(super) said: Vec<String>,
    fault: Option<(usize, Fault)>,
    /// The command of this name is refused with these words, after so many of the same name.
    refuses: Option<(&'static str, usize, &'static str)>,
    /// Every command of this name is refused with these words.
    pub(super) always_refuses: Option<(&'static str, &'static str)>,
    /// From the fault on nobody can connect.
    pub(super) goes_down: bool,
    pub(super) is_down: bool,
    /// Flags APPEND does not keep.
    pub(super) loses: Option<&'static str>,
    /// INTERNALDATE of everything.
    date: String,
    /// PERMANENTFLAGS, if not everything.
    pub(super) permanent: Option<&'static str>,
    /// Octets of a command line; none are beyond it.
    pub(super) line_limit: Option<usize>,
    /// RENAME of INBOX gives its messages other UIDs, and leaves INBOX its UIDVALIDITY.
    pub(super) renames_anew: bool,
    /// The mailbox selected last is.
    read_only: bool,
    /// Done once before the command with this name is carried out: another client's hand.
    pub(super) meanwhile: Option<Hand>,
}

pub(super) struct Provider {
    caps: &'static str,
    account: Arc<Mutex<Account>>,
}

impl Folder {
    pub(super) fn put(&mut self, flags: &[&str], octets: &str) -> u32 {
        let flags = flags.iter().map(ToString::to_string).collect();
        self.next = self.next.max(1);
        let (id, octets) = (id_of(octets.as_bytes()), Bytes::copy_from_slice(octets.as_bytes()));
        self.messages.push(Message { uid: self.next, flags, octets, id });
        self.next += 1;
        self.next - 1
    }
}

impl Provider {
    /// A provider of these capabilities with these mailboxes.
    pub(super) fn new(caps: &'static str, folders: &[&str]) -> Arc<Self> {
        let seconds = i64::try_from(crate::engine::account::now_ms() / 1000).unwrap();
        let date = InternalDate { seconds, ..InternalDate::default() }.to_string();
        let mut account = Account { date, ..Account::default() };
        for (n, name) in folders.iter().enumerate() {
            let folder = Folder { validity: 100 + n as u32, next: 1, messages: Vec::new() };
            account.folders.insert((*name).to_owned(), folder);
        }
        Arc::new(Self { caps, account: Arc::new(Mutex::new(account)) })
    }

    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap()
    }

    /// From now on the commands are counted, and the one with this number fails.
    pub(super) fn arm(&self, fault: Option<(usize, Fault)>) {
        let mut account = self.account();
        account.said.clear();
        account.fault = fault;
    }

    /// The next command of this name is refused.
    pub(super) fn refuse(&self, command: &'static str, words: &'static str) {
        self.refuse_nth(command, 1, words);
    }

    pub(super) fn refuse_nth(&self, command: &'static str, n: usize, words: &'static str) {
        self.account().refuses = Some((command, n, words));
    }

    /// Subject and flags of every message, sorted.
    pub(super) fn shown(&self, folder: &str) -> Vec<String> {
        let account = self.account();
        let show = |message: &Message| {
            let text = String::from_utf8_lossy(&message.octets);
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("?").to_owned();
            let flags: Vec<&str> = message.flags.iter().map(String::as_str).collect();
            format!("{subject} {}", flags.join(" ")).trim_end().to_owned()
        };
        let mut shown: Vec<String> = account.folders[folder].messages.iter().map(show).collect();
        shown.sort();
        shown
    }
}

impl Dial for Provider {
    fn dial(&self, _: Arc<dyn Tap>) -> BoxFuture<'_, Result<Stream, DialError>> {
        if self.account().is_down {
            return std::future::ready(Err(DialError::Refused { host: "test".into(), port: 143 })).boxed();
        }
        let (ours, theirs) = Stream::pair();
        tokio::spawn(serve(theirs, self.caps, Arc::clone(&self.account)));
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

async fn serve(stream: Stream, caps: &'static str, account: Arc<Mutex<Account>>) {
    let mut peer = BufReader::new(stream);
    let mut selected = None;
    if peer.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n").await.is_err() {
        return;
    }
    let mut line = String::new();
    loop {
        line.clear();
        if peer.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let mut command = line.trim_end().to_owned();
        if let Some(limit) = account.lock().unwrap().line_limit {
            assert!(line.len() <= limit, "a line of {} octets: {line}", line.len());
        }
        let mut literal = Vec::new();
        if let Some(len) = command.strip_suffix("+}").and_then(|head| head.rsplit_once('{')).map(|(_, len)| len) {
            literal = vec![0; len.parse().unwrap()];
            peer.read_exact(&mut literal).await.unwrap();
            let mut rest = String::new();
            peer.read_line(&mut rest).await.unwrap();
            command.push_str(rest.trim_end());
        }
        let (tag, rest) = command.split_once(' ').unwrap();
        let answer = {
            let mut account = account.lock().unwrap();
            let fault = account.note(rest);
            if fault == Some(Fault::CutBefore) {
                None
            } else if let Some(Fault::Refused(words)) = fault {
                Some(format!("{tag} NO {words}\r\n"))
            } else {
                let (untagged, end) = account.run(rest, literal, caps, &mut selected);
                (fault != Some(Fault::CutAfter)).then(|| format!("{untagged}{tag} {end}\r\n"))
            }
        };
        let Some(answer) = answer else {
            let _ = peer.shutdown().await;
            return;
        };
        if peer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Account {
    /// Counts a command; whether it is to fail.
    fn note(&mut self, command: &str) -> Option<Fault> {
        let words: Vec<&str> = command.split(' ').collect();
        let name = match words[..] {
            ["UID", "STORE", _, how, ..] => format!("STORE {how}"),
            ["UID", name, ..] => format!("UID {name}"),
            [name, ..] => name.to_owned(),
            [] => String::new(),
        };
        self.said.push(name.clone());
        if let Some((_, act)) = self.meanwhile.take_if(|(before, _)| name == *before) {
            act(self);
        }
        if let Some((command, left, words)) = self.refuses
            && command == name
        {
            self.refuses = (left > 1).then_some((command, left - 1, words));
            if left == 1 {
                return Some(Fault::Refused(words));
            }
        }
        if let Some((command, words)) = self.always_refuses
            && command == name
        {
            return Some(Fault::Refused(words));
        }
        let fault = self.fault.take_if(|(at, _)| *at + 1 == self.said.len()).map(|(_, fault)| fault);
        if fault.is_some() && self.goes_down {
            self.is_down = true;
        }
        fault
    }

    fn run(&mut self, command: &str, literal: Vec<u8>, caps: &str, selected: &mut Option<String>) -> (String, String) {
        let words: Vec<&str> = command.split(' ').collect();
        let name = |at: usize| words[at].trim_matches('"').to_owned();
        let mut out = String::new();
        let ok = || "OK done".to_owned();
        let gone = || "NO [NONEXISTENT] no such mailbox".to_owned();
        match words[..] {
            ["AUTHENTICATE", ..] => return (out, format!("OK [CAPABILITY IMAP4rev1 LITERAL+ {caps}] in")),
            ["NOOP" | "LOGOUT", ..] => return (out, ok()),
            ["SELECT" | "EXAMINE", ..] => {
                *selected = None;
                let Some(folder) = self.folders.get(&name(1)) else { return (out, gone()) };
                *selected = Some(name(1));
                self.read_only = words[0] == "EXAMINE";
                let (exists, validity, next) = (folder.messages.len(), folder.validity, folder.next);
                let permanent = self.permanent.unwrap_or("\\Deleted \\Seen \\Flagged \\*");
                let _ = write!(
                    out,
                    "* {exists} EXISTS\r\n* OK [UIDVALIDITY {validity}] .\r\n* OK [UIDNEXT {next}] .\r\n* OK [PERMANENTFLAGS ({permanent})] .\r\n"
                );
                return (out, "OK [READ-WRITE] selected".into());
            }
            ["CLOSE"] => {
                assert!(self.read_only, "CLOSE would expunge what others have marked");
                *selected = None;
                return (out, ok());
            }
            ["STATUS", ..] => {
                let Some(folder) = self.folders.get(&name(1)) else { return (out, gone()) };
                let (exists, validity, next) = (folder.messages.len(), folder.validity, folder.next);
                let _ = write!(
                    out,
                    "* STATUS {} (MESSAGES {exists} UIDNEXT {next} UIDVALIDITY {validity} UNSEEN 0)\r\n",
                    words[1]
                );
                return (out, ok());
            }
            ["LIST", _, "\"\""] => return ("* LIST (\\Noselect) \"/\" \"\"\r\n".into(), ok()),
            [word @ ("LIST" | "LSUB"), ..] => {
                for name in self.folders.keys() {
                    let role = match name.as_str() {
                        "Sent" => "\\Sent",
                        "Trash" => "\\Trash",
                        _ => "",
                    };
                    let _ = write!(out, "* {word} ({role}) \"/\" \"{name}\"\r\n");
                }
                return (out, ok());
            }
            ["RENAME", ..] => {
                let Some(mut moved) = self.folders.remove(&name(1)) else { return (out, gone()) };
                if name(1) == "INBOX" {
                    let (validity, next) = if self.renames_anew { (moved.validity, moved.next) } else { (999, 1) };
                    self.folders.insert("INBOX".into(), Folder { validity, next, messages: Vec::new() });
                }
                if self.renames_anew {
                    let messages = std::mem::take(&mut moved.messages);
                    moved = Folder { validity: 77, next: 41, messages: Vec::new() };
                    for message in messages {
                        moved.messages.push(Message { uid: moved.next, ..message });
                        moved.next += 1;
                    }
                }
                self.folders.insert(name(2), moved);
                return (out, ok());
            }
            ["APPEND", ..] => return (out, self.append(&name(1), command, &literal, caps)),
            _ => {}
        }
        let Some(folder) = selected.as_ref().and_then(|name| self.folders.get_mut(name)) else {
            return (out, "BAD nothing selected".into());
        };
        match words[..] {
            ["UID", "FETCH", set, ..] => {
                let last = folder.messages.last().map_or(0, |message| message.uid);
                let set = match set.strip_suffix(":*") {
                    Some(from) => {
                        let from: u32 = from.parse().unwrap();
                        UidSet::from_iter(from.min(last)..=from.max(last))
                    }
                    None => UidSet::parse(set).unwrap(),
                };
                for (seq, message) in folder.messages.iter().enumerate().filter(|(_, m)| set.contains(m.uid)) {
                    let _ = write!(out, "* {} FETCH (UID {}", seq + 1, message.uid);
                    if command.contains("FLAGS") {
                        let _ = write!(out, " FLAGS ({})", message.flags.iter().cloned().collect::<Vec<_>>().join(" "));
                    }
                    if command.contains("RFC822.SIZE") {
                        let date = &self.date;
                        let _ = write!(out, " INTERNALDATE \"{date}\" RFC822.SIZE {}", message.octets.len());
                    }
                    if command.contains("EMAILID") {
                        let _ = write!(out, " EMAILID ({})", message.id);
                    }
                    let text = String::from_utf8_lossy(&message.octets).into_owned();
                    if command.contains("BODY.PEEK[HEADER]") {
                        let header = &text[..text.find("\r\n\r\n").map_or(text.len(), |at| at + 4)];
                        let _ = write!(out, " BODY[HEADER] {{{}}}\r\n{header}", header.len());
                    } else if command.contains("BODY.PEEK[]") {
                        let _ = write!(out, " BODY[] {{{}}}\r\n{text}", text.len());
                    }
                    out.push_str(")\r\n");
                }
                (out, ok())
            }
            ["UID", "SEARCH", what] => {
                let wanted = |message: &&Message| what == "ALL" || message.flags.contains("\\Deleted");
                out.push_str("* SEARCH");
                for message in folder.messages.iter().filter(wanted) {
                    let _ = write!(out, " {}", message.uid);
                }
                out.push_str("\r\n");
                (out, ok())
            }
            ["UID", "STORE", set, how, ..] => {
                let set = UidSet::parse(set).unwrap();
                let flags = command.rsplit_once('(').unwrap().1.trim_end_matches(')');
                for (seq, message) in folder.messages.iter_mut().enumerate().filter(|(_, m)| set.contains(m.uid)) {
                    if how == "FLAGS" {
                        message.flags.clear();
                    }
                    for flag in flags.split(' ').filter(|flag| !flag.is_empty()) {
                        match how {
                            "+FLAGS" | "FLAGS" => message.flags.insert(flag.into()),
                            "-FLAGS" => message.flags.remove(flag),
                            _ => panic!("{command}"),
                        };
                    }
                    let flags = message.flags.iter().cloned().collect::<Vec<_>>().join(" ");
                    let _ = write!(out, "* {} FETCH (UID {} FLAGS ({flags}))\r\n", seq + 1, message.uid);
                }
                (out, ok())
            }
            ["UID", what @ ("COPY" | "MOVE"), set, _] => {
                let set = UidSet::parse(set).unwrap();
                let taken: Vec<Message> =
                    folder.messages.iter().filter(|message| set.contains(message.uid)).cloned().collect();
                if what == "MOVE" {
                    expunge(folder, &mut out, |message| set.contains(message.uid));
                }
                let Some(to) = self.folders.get_mut(&name(3)) else { return (String::new(), gone()) };
                let mut code = String::new();
                if caps.contains("UIDPLUS") && !taken.is_empty() {
                    let sources: UidSet = taken.iter().map(|message| message.uid).collect();
                    let copies: UidSet = (to.next..to.next + taken.len() as u32).collect();
                    code = format!("[COPYUID {} {sources} {copies}] ", to.validity);
                }
                for message in taken {
                    to.messages.push(Message { uid: to.next, ..message });
                    to.next += 1;
                }
                (out, format!("OK {code}copied"))
            }
            ["UID", "EXPUNGE", set] if caps.contains("UIDPLUS") => {
                let set = UidSet::parse(set).unwrap();
                expunge(folder, &mut out, |m| set.contains(m.uid) && m.flags.contains("\\Deleted"));
                (out, ok())
            }
            ["EXPUNGE"] => {
                expunge(folder, &mut out, |message| message.flags.contains("\\Deleted"));
                (out, ok())
            }
            _ => (out, format!("BAD what is {command}")),
        }
    }

    fn append(&mut self, to: &str, command: &str, literal: &[u8], caps: &str) -> String {
        let Some(folder) = self.folders.get_mut(to) else { return "NO [TRYCREATE] no such mailbox".into() };
        let flags = command.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(flags, _)| flags);
        let kept: Vec<&str> = flags.split(' ').filter(|flag| !flag.is_empty() && self.loses != Some(flag)).collect();
        let uid = folder.put(&kept, std::str::from_utf8(literal).unwrap());
        let code = format!("[APPENDUID {} {uid}] ", folder.validity);
        format!("OK {}stored", if caps.contains("UIDPLUS") { &code } else { "" })
    }
}

fn expunge(folder: &mut Folder, out: &mut String, goes: impl Fn(&Message) -> bool) {
    let mut seq = 1;
    folder.messages.retain(|message| {
        let gone = goes(message);
        if gone {
            let _ = write!(out, "* {seq} EXPUNGE\r\n");
        } else {
            seq += 1;
        }
        !gone
    });
}

/// A message of this subject.
pub(super) fn mail(subject: &str) -> String {
    format!("Message-ID: <{subject}@example.org>\r\nSubject: {subject}\r\n\r\nbody of {subject}\r\n")
}
