//! The simulated account: messages with labels, and mailboxes that show them.
//!
//! As at Gmail a message is one thing with one X-GM-MSGID, and a mailbox is a label on it: a message in INBOX is in All Mail too,
//! under a UID of its own in each. Flags belong to the message, but for `\Deleted`, which belongs to its place in one mailbox;
//! `\Flagged` and the mailbox Starred are one. What gets the label Trash or Spam loses every other; an expunge takes one label away,
//! in Trash and Spam the message. All changes of one command are one [`Batch`], published with one mod-sequence under the
//! account's lock, so that no session sees half of them.

mod labels;
mod service;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::sample;
use super::{Place, Tally};
use crate::engine::{Copied, CopyMode, Error, Snapshot};
use crate::message;
use crate::model::{
    FlagOp, Flags, InternalDate, MessageMeta, ModSeq, PagesDelta, Role, SystemFlags, Uid, UidSet, UidValidity,
};
use crate::session::backend::Gmail;

pub(super) const INBOX: &str = "INBOX";
pub(super) const ALL_MAIL: &str = "[Gmail]/All Mail";
pub(super) const DRAFTS: &str = "[Gmail]/Drafts";
pub(super) const IMPORTANT: &str = "[Gmail]/Important";
pub(super) const SENT: &str = "[Gmail]/Sent Mail";
pub(super) const SPAM: &str = "[Gmail]/Spam";
pub(super) const STARRED: &str = "[Gmail]/Starred";
pub(super) const TRASH: &str = "[Gmail]/Trash";
/// The parent that holds no mail.
const ROOT: &str = "[Gmail]";

/// The mailboxes every account has, their uses, and how X-GM-LABELS names them.
const BUILT_IN: [(&str, Option<Role>, &str); 8] = [
    (INBOX, None, "\\Inbox"),
    (ALL_MAIL, Some(Role::All), ""),
    (DRAFTS, Some(Role::Drafts), "\\Draft"),
    (IMPORTANT, Some(Role::Important), "\\Important"),
    (SENT, Some(Role::Sent), "\\Sent"),
    (SPAM, Some(Role::Junk), "\\Junk"),
    (STARRED, Some(Role::Flagged), "\\Starred"),
    (TRASH, Some(Role::Trash), "\\Trash"),
];

/// Gmail's APPENDLIMIT.
const APPEND_LIMIT: u64 = 35_651_584;
/// Mailboxes at most; Gmail allows 10,000 labels, and this is a demonstration.
const MAX_MAILBOXES: usize = 1000;
/// Octets of mail at most: it is all in memory, and whoever pours in more gets the words of a full account.
const MAX_OCTETS: u64 = 512 << 20;

/// The account as a session holds it. Cheap to clone.
#[derive(Clone)]
pub struct Account {
    shared: Arc<Shared>,
    /// Held by the session that logged in; none for the provider's own hand.
    _place: Option<Arc<Place>>,
}

pub(super) struct Shared {
    address: String,
    pub(super) tally: Arc<Tally>,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    boxes: BTreeMap<Arc<str>, Label>,
    messages: HashMap<u64, Message>,
    /// X-GM-MSGIDs by Message-ID, for threads and for uploads of what is here already.
    by_id: HashMap<String, u64>,
    subscribed: BTreeSet<String>,
    next_msgid: u64,
    next_validity: u32,
    modseq: u64,
    octets: u64,
}

struct Label {
    role: Option<Role>,
    uid_validity: UidValidity,
    uid_next: u32,
    newest: watch::Sender<Arc<Snapshot>>,
}

struct Message {
    raw: Bytes,
    thread: u64,
    date: InternalDate,
    /// Without `\Deleted`.
    flags: Flags,
    places: BTreeMap<Arc<str>, Uid>,
}

/// Changes of one command, by mailbox.
#[derive(Default)]
struct Batch(BTreeMap<Arc<str>, PagesDelta>);

impl Batch {
    fn at(&mut self, mailbox: &Arc<str>) -> &mut PagesDelta {
        self.0.entry(Arc::clone(mailbox)).or_default()
    }
}

impl Account {
    /// An empty account; `now` in seconds since 1970 is where its ids begin, so that they never repeat from one start to the next.
    pub(super) fn new(address: &str, tally: Arc<Tally>, now: i64) -> Self {
        let now = now.unsigned_abs();
        let mut inner = Inner {
            boxes: BTreeMap::new(),
            messages: HashMap::new(),
            by_id: HashMap::new(),
            subscribed: BUILT_IN.iter().map(|(name, ..)| (*name).to_owned()).collect(),
            // Gmail's ids are milliseconds and a counter of 20 bits, too.
            next_msgid: now.wrapping_mul(1000) << 20,
            next_validity: u32::try_from(now & 0x7fff_ffff).unwrap_or(1).max(1),
            modseq: now,
            octets: 0,
        };
        for (name, role, _) in BUILT_IN {
            inner.make(name, role);
        }
        Self { shared: Arc::new(Shared { address: address.to_owned(), tally, inner: Mutex::new(inner) }), _place: None }
    }

    /// The account for a session that has a place.
    pub(super) fn seated(&self, place: Arc<Place>) -> Self {
        Self { _place: Some(place), ..self.clone() }
    }

    /// Fills it with sample mail of the year before `now`.
    pub(super) fn fill(&self, now: i64) {
        let mut inner = self.shared.inner();
        let mut batch = Batch::default();
        for sample in sample::year(now) {
            let labels: Vec<Arc<str>> = sample.labels.iter().map(|label| Arc::from(*label)).collect();
            inner.take_in(&mut batch, sample.raw, sample.flags, sample.date, &labels);
        }
        inner.publish(batch);
    }

    /// A new message in INBOX; its sender and subject as a person reads them.
    pub(super) fn deliver_new(&self, number: u64, now: i64) -> (String, String) {
        let raw = sample::fresh(number, now);
        let end = message::header_end(&raw);
        let header = raw.get(..end).unwrap_or_default();
        let field = |name| message::header_values(header, name).into_iter().next().unwrap_or_default();
        let told = (field("From"), field("Subject"));
        self.deliver(raw, InternalDate { seconds: now, zone: 0 });
        told
    }

    /// Many small ones come in as one change.
    pub(super) fn deliver_many(&self, count: u32, now: i64) {
        let mut inner = self.shared.inner();
        let mut batch = Batch::default();
        for number in 0..count {
            let raw = format!(
                "From: bulk@example.org\r\nSubject: Number {number}\r\nMessage-ID: <bulk-{now}-{number}@example.org>\r\n\r\nText {number}.\r\n"
            );
            let date = InternalDate { seconds: now, zone: 0 };
            inner.take_in(&mut batch, raw.into(), Flags::default(), date, &[INBOX.into()]);
        }
        inner.publish(batch);
    }

    /// A message comes in from outside.
    pub fn deliver(&self, raw: Bytes, date: InternalDate) {
        let mut inner = self.shared.inner();
        let mut batch = Batch::default();
        inner.take_in(&mut batch, raw, Flags::default(), date, &[INBOX.into()]);
        inner.publish(batch);
    }
}

impl Shared {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is made whole before the lock is let go, and nothing in between panics on bytes from a client.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn raw(&self, msgid: u64) -> Option<Bytes> {
        self.inner().messages.get(&msgid).map(|message| message.raw.clone())
    }

    pub(super) fn gmail(&self, mailbox: &str, msgid: u64) -> Gmail {
        let inner = self.inner();
        let Some(message) = inner.messages.get(&msgid) else { return Gmail::default() };
        let label = |name: &Arc<str>| match BUILT_IN.iter().find(|(known, ..)| **known == **name) {
            Some((_, _, "")) => None,
            Some((_, _, label)) => Some((*label).to_owned()),
            None => Some(name.to_string()),
        };
        let others = message.places.keys().filter(|name| ***name != *mailbox);
        Gmail { thread: message.thread, labels: others.filter_map(label).collect() }
    }

    pub(super) fn store(
        &self,
        mailbox: &Arc<str>,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<UidSet, Error> {
        let mut inner = self.inner();
        let (mut batch, mut failed) = (Batch::default(), UidSet::new());
        for meta in inner.metas(mailbox, uids)? {
            if unchanged_since.is_some_and(|limit| meta.modseq > limit) {
                failed.insert(meta.uid.0);
                continue;
            }
            let new = meta.flags.apply(op, flags);
            if new != meta.flags {
                inner.reflag(&mut batch, mailbox, &meta, &new);
            }
        }
        inner.publish(batch);
        Ok(failed)
    }

    pub(super) fn expunge(&self, mailbox: &Arc<str>, uids: Option<&UidSet>) -> Result<(), Error> {
        let mut inner = self.inner();
        let all = inner.metas(mailbox, &everything())?;
        let doomed = all
            .iter()
            .filter(|meta| meta.flags.has(SystemFlags::DELETED) && uids.is_none_or(|uids| uids.contains(meta.uid.0)));
        let mut batch = Batch::default();
        for meta in doomed {
            inner.leave(&mut batch, meta.gm_msgid, mailbox);
        }
        inner.publish(batch);
        Ok(())
    }

    pub(super) fn copy(&self, mailbox: &Arc<str>, uids: &UidSet, to: &str, mode: CopyMode) -> Result<Copied, Error> {
        let mut inner = self.inner();
        let to = inner.name(to)?;
        let mut batch = Batch::default();
        let mut pairs = Vec::new();
        for meta in inner.metas(mailbox, uids)? {
            let Some(uid) = inner.label(&mut batch, meta.gm_msgid, &to) else { continue };
            pairs.push((meta.uid, uid));
            // A message moved within Gmail stays in All Mail, unless the label it got took it from there.
            if mode == CopyMode::Move && to != *mailbox && &**mailbox != ALL_MAIL {
                inner.take_label(&mut batch, meta.gm_msgid, mailbox);
            }
        }
        inner.publish(batch);
        let uid_validity = inner.boxes.get(&to).map(|there| there.uid_validity).unwrap_or_default();
        Ok(Copied { uid_validity, pairs })
    }
}

fn everything() -> UidSet {
    let mut all = UidSet::new();
    all.insert_range(1..=u32::MAX);
    all
}

impl Inner {
    fn make(&mut self, name: &str, role: Option<Role>) {
        self.next_validity = self.next_validity.wrapping_add(1).max(1);
        let uid_validity = UidValidity(self.next_validity);
        let name: Arc<str> = name.into();
        let snapshot =
            Snapshot { uid_validity, highest_modseq: ModSeq(self.modseq), ..Snapshot::empty(Arc::clone(&name)) };
        let newest = watch::Sender::new(Arc::new(snapshot));
        self.boxes.insert(name, Label { role, uid_validity, uid_next: 1, newest });
    }

    /// The name as it is kept; INBOX in any case.
    fn name(&self, name: &str) -> Result<Arc<str>, Error> {
        let name = if name.eq_ignore_ascii_case(INBOX) { INBOX } else { name };
        self.boxes
            .get_key_value(name)
            .map(|(name, _)| Arc::clone(name))
            .ok_or_else(|| Error::NoSuchMailbox(name.into()))
    }

    fn newest(&self, name: &Arc<str>) -> Result<Arc<Snapshot>, Error> {
        self.boxes.get(name).map(|there| Arc::clone(&there.newest.borrow())).ok_or(Error::Gone)
    }

    fn metas(&self, mailbox: &Arc<str>, uids: &UidSet) -> Result<Vec<MessageMeta>, Error> {
        Ok(self.newest(mailbox)?.messages.select(uids).map(|(_, meta)| meta.clone()).collect())
    }

    /// A message from outside gets its id, its thread and its labels. The UID in the first of them.
    fn take_in(
        &mut self,
        batch: &mut Batch,
        raw: Bytes,
        flags: Flags,
        date: InternalDate,
        labels: &[Arc<str>],
    ) -> Option<Uid> {
        let header = raw.get(..message::header_end(&raw)).unwrap_or_default();
        let message_id = message::message_id(header);
        let known = message_id.as_ref().and_then(|id| self.by_id.get(id)).copied();
        // Gmail stores what it has already only once, and labels it.
        let same = known.filter(|msgid| self.messages.get(msgid).is_some_and(|message| message.raw == raw));
        let msgid = match same {
            Some(msgid) => msgid,
            None => {
                self.next_msgid = self.next_msgid.wrapping_add(1);
                let msgid = self.next_msgid;
                let thread = self.thread_of(header).or_else(|| self.messages.get(&known?).map(|m| m.thread));
                let thread = thread.unwrap_or(msgid);
                self.octets += raw.len() as u64;
                let flags = flags.apply(FlagOp::Remove, &Flags::new(SystemFlags::DELETED, []));
                self.messages.insert(msgid, Message { raw, thread, date, flags, places: BTreeMap::new() });
                if let Some(id) = message_id {
                    self.by_id.entry(id).or_insert(msgid);
                }
                msgid
            }
        };
        let mut first = None;
        for label in labels {
            let uid = self.label(batch, msgid, label);
            first = first.or(uid);
        }
        first
    }

    /// The thread of the nearest message this one answers.
    fn thread_of(&self, header: &[u8]) -> Option<u64> {
        let fields = ["In-Reply-To", "References"].into_iter().flat_map(|name| message::header_values(header, name));
        let ids: Vec<String> =
            fields.flat_map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
        let known = ids.iter().find_map(|id| {
            self.by_id.get(id).or_else(|| self.by_id.get(id.trim_start_matches('<').trim_end_matches('>')))
        });
        self.messages.get(known?).map(|message| message.thread)
    }

    /// Makes a batch known, with one mod-sequence.
    fn publish(&mut self, batch: Batch) {
        if batch.0.is_empty() {
            return;
        }
        self.modseq += 1;
        for (name, delta) in batch.0 {
            let Some(there) = self.boxes.get(&name) else { continue };
            let old = Arc::clone(&there.newest.borrow());
            let keywords = delta.upserts.iter().flat_map(|meta| meta.flags.keywords());
            let keywords = Flags::new(SystemFlags::default(), old.keywords.iter().chain(keywords).cloned());
            there.newest.send_replace(Arc::new(Snapshot {
                uid_validity: there.uid_validity,
                uid_next: Uid(there.uid_next),
                highest_modseq: ModSeq(self.modseq),
                keywords: keywords.keywords().into(),
                messages: old.messages.apply(delta),
                ..Snapshot::empty(name)
            }));
        }
    }

    /// Ends the sessions that have a mailbox selected which is no more.
    fn bury(gone: &Label) {
        let last = Arc::clone(&gone.newest.borrow());
        gone.newest.send_replace(Arc::new(Snapshot { dead: true, ..(*last).clone() }));
    }

    /// Mailboxes at and below a name.
    fn below(&self, name: &str) -> Vec<Arc<str>> {
        let under = |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.boxes.keys().filter(|other| under(other)).cloned().collect()
    }
}

fn built_in(name: &str) -> bool {
    name == ROOT || BUILT_IN.iter().any(|(known, ..)| known.eq_ignore_ascii_case(name))
}
