//! What a session knows between commands, and the one place where a client is brought up to date.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::io::{Io, Stop};
use super::reply::{Names, Reply, untagged};
use super::view::{Stored, Tell, View};
use super::{Login, Server, render};
use crate::engine::{Error, Snapshot};
use crate::model::UidSet;
use crate::session::backend::{Account, Mailbox};
use crate::wire::imap::command::{Command, SearchKey, Sort, Thread};

/// The mailbox type of a login's accounts.
pub(crate) type MailboxOf<L> = <<L as Login>::Account as Account>::Mailbox;

/// One client connection.
pub(crate) struct Session<L: Login> {
    pub(crate) server: Arc<Server<L>>,
    pub(crate) io: Io,
    pub(crate) peer: IpAddr,
    /// The policy lets this peer log in without TLS.
    pub(crate) plaintext_login: bool,
    /// Logged in.
    pub(crate) account: Option<L::Account>,
    pub(crate) selected: Option<Box<Selected<MailboxOf<L>>>>,
    /// Some command showed that the client knows mod-sequences (RFC 7162 §3.1).
    pub(crate) condstore: bool,
    /// ENABLE QRESYNC.
    pub(crate) qresync: bool,
    /// The alert told last.
    pub(crate) alerted: Option<Arc<str>>,
    /// Logins refused so far.
    pub(crate) failed_logins: u32,
    /// Commands not understood since the last one that was.
    pub(crate) bad_commands: u32,
    /// Some command was understood: this is a mail program.
    pub(crate) spoke_imap: bool,
    /// What the user should know of the account was told.
    pub(crate) noticed: bool,
    /// What the client says it is, until it has logged in.
    pub(crate) program: Option<Box<str>>,
    /// Octets of the last command, for the log.
    pub(crate) heard: u64,
}

/// The selected mailbox.
pub(crate) struct Selected<M> {
    pub(crate) mailbox: M,
    pub(crate) watch: watch::Receiver<Arc<Snapshot>>,
    pub(crate) view: View,
    /// EXAMINE, or the mailbox allows no change.
    pub(crate) read_only: bool,
    /// The saved search result, `$` (RFC 5182).
    pub(crate) saved: UidSet,
}

/// Why a command has no ordinary answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Answered with this.
    Reply(Reply),
    /// Something below failed.
    Below(Error, Names),
    Stop(Stop),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Below(error, Names::Mailbox)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Reply> for Failure {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// What may be told at the end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Telling {
    /// EXPUNGE too.
    pub(crate) expunge: bool,
    /// It was the UID form: FETCH carries UID.
    pub(crate) uid: bool,
}

impl Telling {
    /// RFC 9051 §7.5.1: no EXPUNGE while FETCH, STORE or SEARCH is answered. Their UID forms are other commands, but for a UID
    /// SEARCH whose criteria name sequence numbers (RFC 7162 §3.2.10).
    pub(crate) fn after(command: &Command) -> Self {
        match command {
            Command::Fetch(fetch) => Self { expunge: fetch.numbers.uid, uid: fetch.numbers.uid },
            Command::Store(store) => Self { expunge: store.numbers.uid, uid: store.numbers.uid },
            Command::Search(search) => Self { expunge: search.uid && !names_numbers(&search.key), uid: search.uid },
            // As SEARCH, whose criteria they have.
            Command::Sort(Sort { uid, key, .. }) | Command::Thread(Thread { uid, key, .. }) => {
                Self { expunge: *uid && !names_numbers(key), uid: *uid }
            }
            Command::Copy { numbers, .. } | Command::Move { numbers, .. } => Self { expunge: true, uid: numbers.uid },
            Command::UidExpunge(_) => Self { expunge: true, uid: true },
            _ => Self { expunge: true, uid: false },
        }
    }
}

fn names_numbers(key: &SearchKey) -> bool {
    match key {
        SearchKey::Sequence(_) => true,
        SearchKey::Not(key) => names_numbers(key),
        SearchKey::Or(a, b) => names_numbers(a) || names_numbers(b),
        SearchKey::And(keys) => keys.iter().any(names_numbers),
        _ => false,
    }
}

impl<L: Login> Session<L> {
    /// Tells what the account's owner must know, once.
    pub(crate) fn tell_alert(&mut self) {
        let alert = self.account.as_ref().and_then(Account::alert);
        if let Some(words) = alert.as_deref().filter(|_| alert != self.alerted) {
            untagged(&mut self.io.out, "NO", Some("ALERT"), words);
        }
        self.alerted = alert;
    }

    pub(crate) fn account(&self) -> Result<L::Account, Failure> {
        self.account.clone().ok_or_else(|| Reply::bad("Please log in first").into())
    }

    /// The connection and the selected mailbox, at once.
    pub(crate) fn selected(&mut self) -> Result<(&mut Io, &mut Selected<MailboxOf<L>>), Failure> {
        match self.selected.as_deref_mut() {
            Some(selected) => Ok((&mut self.io, selected)),
            None => Err(Reply::bad("No mailbox selected").into()),
        }
    }

    /// The same for a command that changes the mailbox.
    pub(crate) fn selected_for_change(&mut self) -> Result<(&mut Io, &mut Selected<MailboxOf<L>>), Failure> {
        let (io, selected) = self.selected()?;
        if selected.read_only {
            return Err(Reply::no("Mailbox is open read-only").with("READ-ONLY").into());
        }
        Ok((io, selected))
    }

    /// Tells the client what has happened in its mailbox. Not async: what is told is decided and written in one step.
    pub(crate) fn catch_up(&mut self, telling: Telling, stored: Option<&Stored<'_>>) -> Result<(), Stop> {
        let Some(selected) = self.selected.as_deref_mut() else { return Ok(()) };
        let snapshot = Arc::clone(&selected.watch.borrow_and_update());
        if snapshot.dead {
            return Err(Stop::Bye {
                code: Some("UNAVAILABLE"),
                text: "Mailbox was deleted, renamed or rebuilt; connect again",
            });
        }
        let tell = Tell { expunge: telling.expunge, mod_sequences: self.condstore, store: stored };
        let Ok(mut news) = selected.view.catch_up(&snapshot, tell) else {
            return Err(Stop::Bye { code: Some("UNAVAILABLE"), text: "Mailbox was put in order; connect again" });
        };
        if news.is_empty() {
            return Ok(());
        }
        if news.exists.is_some() {
            selected.hear_of_arrivals(&snapshot);
            news.recent = Some(selected.view.recent().1);
        }
        if !selected.saved.is_empty() && !news.expunged.is_empty() {
            // RFC 5182 §2.1: what is expunged leaves the saved result.
            selected.saved = selected.saved.minus(&news.expunged.iter().map(|(_, uid)| uid.0).collect());
        }
        let manner = render::Manner {
            vanished: self.qresync,
            mod_sequences: self.condstore,
            uids: telling.uid || self.condstore || self.qresync,
        };
        render::news(&mut self.io.out, &news, &selected.view, &snapshot, selected.read_only, manner);
        Ok(())
    }

    /// A command shows that the client knows mod-sequences. In a selected mailbox it is told where it stands
    /// (RFC 7162 §3.1.2.1 and §3.1.8: HIGHESTMODSEQ for the mailbox that is open already).
    pub(crate) fn enable_condstore(&mut self) {
        if self.condstore {
            return;
        }
        self.condstore = true;
        if let Some(selected) = self.selected.as_deref() {
            let code = highest_modseq(&selected.view);
            untagged(&mut self.io.out, "OK", Some(&code), "Highest");
        }
    }
}

/// `HIGHESTMODSEQ n`.
pub(crate) fn highest_modseq(view: &View) -> String {
    format!("HIGHESTMODSEQ {}", view.highest_modseq())
}

impl<M: Mailbox> Selected<M> {
    pub(crate) fn new(mailbox: M, read_only: bool) -> (Self, Arc<Snapshot>) {
        let mut watch = mailbox.watch();
        let snapshot = Arc::clone(&watch.borrow_and_update());
        let view = View::new(&snapshot);
        let read_only = read_only || snapshot.read_only;
        let mut selected = Self { mailbox, watch, view, read_only, saved: UidSet::new() };
        selected.hear_of_arrivals(&snapshot);
        (selected, snapshot)
    }

    /// What is shown that no session was told of before is recent to this one, and to no other, unless this one may change nothing
    /// (RFC 3501 §2.3.2).
    fn hear_of_arrivals(&mut self, snapshot: &Snapshot) {
        let Some(arrivals) = self.mailbox.arrivals() else { return };
        let Some(last) = self.view.messages().last().map(|last| last.uid) else { return };
        let first = match self.read_only {
            true => arrivals.first(snapshot.uid_validity),
            false => arrivals.claim(snapshot.uid_validity, last),
        };
        self.view.take_recent(first);
    }
}
