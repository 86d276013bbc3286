//! The near side: a Maildir, and the programs that keep it equal to a server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::ledger::Ledger;
use super::{Account, Flags, MAILBOXES, change, comparable, header, number};
use crate::harness::world::Endpoint;

/// A Maildir for each mailbox.
pub struct Near {
    pub root: PathBuf,
}

impl Near {
    fn files(&self, mailbox: &str) -> Vec<PathBuf> {
        let mut files: Vec<_> = ["cur", "new"]
            .iter()
            .flat_map(|sub| fs::read_dir(self.root.join(mailbox).join(sub)).expect("a Maildir"))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    }

    pub fn read(&self) -> Account {
        let mut account = Account::new();
        for mailbox in MAILBOXES {
            let mut messages: BTreeMap<u64, Vec<_>> = BTreeMap::new();
            for file in self.files(mailbox) {
                let body = comparable(&fs::read(&file).unwrap());
                let id = number(&header(&body, "message-id:"));
                messages.entry(id).or_default().push((info(&file), body));
            }
            messages.values_mut().for_each(|copies| copies.sort());
            account.insert(mailbox, messages);
        }
        account
    }

    /// One thing a mail program does that works on the Maildir.
    pub fn step(&self, ledger: &Ledger, rng: &mut StdRng) {
        let here = *MAILBOXES.choose(rng).unwrap();
        if rng.random_bool(0.3) {
            let id = ledger.next();
            let given: Flags = if rng.random_bool(0.3) { Flags::from(['F']) } else { Flags::new() };
            fs::write(self.fresh(here, id, &given), ledger.bytes(id)).unwrap();
            return ledger.added(id, here, given);
        }
        let files = self.files(here);
        let Some(file) = files.choose(rng) else { return };
        let (id, mut now) = (ledger.id(&fs::read(file).unwrap()), info(file));
        match rng.random_range(0..10) {
            0..6 => {
                let (sign, flag, _) = change(rng, &now);
                if sign == '+' {
                    now.insert(flag)
                } else {
                    now.remove(&flag)
                };
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                let base = name.split(":2,").next().unwrap();
                let cur = self.root.join(here).join("cur");
                fs::rename(file, cur.join(format!("{base}:2,{}", now.iter().collect::<String>()))).unwrap();
                if sign == '+' && flag != 'S' {
                    ledger.given(id, flag);
                }
            }
            6..8 if ledger.claim(id) => {
                let to = MAILBOXES[usize::from(here == MAILBOXES[0])];
                fs::rename(file, self.fresh(to, id, &now)).unwrap();
                ledger.moved(id, to);
            }
            _ if ledger.claim(id) => {
                fs::remove_file(file).unwrap();
                ledger.deleted(id);
            }
            _ => {}
        }
    }

    /// A name that carries nothing of a synchroniser's.
    fn fresh(&self, mailbox: &str, id: u64, flags: &Flags) -> PathBuf {
        let (dir, info) = if flags.is_empty() {
            ("new", String::new())
        } else {
            ("cur", format!(":2,{}", flags.iter().collect::<String>()))
        };
        self.root.join(mailbox).join(dir).join(format!("{}.{}.here{info}", 1_700_000_000 + id, id))
    }
}

fn info(file: &Path) -> Flags {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    name.split_once(":2,").map(|(_, flags)| flags.chars().collect()).unwrap_or_default()
}

/// A synchroniser.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    Mbsync,
    Offlineimap,
}

impl Program {
    /// Writes its configuration; the file. TLS from the first octet: after STARTTLS the library below offlineimap now and then never
    /// hears the answer to its next command, whatever the server (its two threads share one TLS session without a lock).
    pub fn configure(self, endpoint: &Endpoint, home: &Path, near: &Path) -> PathBuf {
        let Endpoint { imaps, ca_file, user, password, .. } = endpoint;
        fs::create_dir_all(home.join("state")).unwrap();
        fs::create_dir_all(near).unwrap();
        let file = home.join("rc");
        let (near, home, ca) = (near.display(), home.display(), ca_file.display());
        let text = match self {
            Self::Mbsync => format!(
                "FSync no\n\nIMAPAccount a\nHost localhost\nPort {}\nUser {user}\nPass {password}\nSSLType IMAPS\nAuthMechs LOGIN\n\
                 CertificateFile {ca}\nSystemCertificates no\n\nIMAPStore far\nAccount a\n\n\
                 MaildirStore near\nPath {near}/\nInbox {near}/INBOX\n\n\
                 Channel c\nFar :far:\nNear :near:\nPatterns INBOX Archive\nCreate Near\nExpunge Both\nSync All\nSyncState {home}/state/\n",
                imaps.port()
            ),
            Self::Offlineimap => format!(
                "[general]\naccounts = a\nmetadata = {home}/state\nfsync = False\nsocktimeout = 60\n\n\
                 [Account a]\nlocalrepository = near\nremoterepository = far\n\n\
                 [Repository near]\ntype = Maildir\nlocalfolders = {near}\n\n\
                 [Repository far]\ntype = IMAP\nremotehost = localhost\nremoteport = {}\nremoteuser = {user}\nremotepass = {password}\n\
                 ssl = yes\nstarttls = no\nsslcacertfile = {ca}\nmaxconnections = 1\n\
                 folderfilter = lambda name: name in ['INBOX', 'Archive']\n",
                imaps.port()
            ),
        };
        fs::write(&file, text).unwrap();
        file
    }

    /// One run of it; what it said where it was not content.
    pub fn run(self, config: &Path, home: &Path) -> Result<(), String> {
        let mut command = match self {
            Self::Mbsync => Command::new("mbsync"),
            Self::Offlineimap => Command::new("offlineimap"),
        };
        match self {
            Self::Mbsync => command.arg("-c").arg(config).arg("-a"),
            Self::Offlineimap => command.arg("-c").arg(config).args(["-o", "-u", "basic"]),
        };
        let out = command.env("HOME", home).output().unwrap_or_else(|e| panic!("{self:?}: {e}; tests/run installs it"));
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        // offlineimap ends well whatever happened.
        if out.status.success() && !said.contains("ERROR") { Ok(()) } else { Err(format!("{}: {said}", out.status)) }
    }
}
