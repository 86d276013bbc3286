//! One client's numbering of its selected mailbox.
//!
//! A view is the version of the mailbox that the client knows, message for message and number for number. The only way it
//! changes is [`View::catch_up`], which says at the same time what the client has to be told, so the two cannot drift
//! apart. It is a reference to shared pages and a few words: a thousand idle views of one mailbox share its memory.
//!
//! Law 2: sequence numbers live here, and [`View::catch_up`] with its [`Tell`] is the one place that decides whether an
//! EXPUNGE may be told (RFC 9051 §7.5.1, RFC 3501 §7.4.1). Messages that are gone but may not be told yet stay in the view,
//! with the flags last known, until it may. Law 9: pure, no I/O, no clock.

use std::sync::Arc;

use crate::engine::Snapshot;
use crate::model::{
    Change, FlagOp, Flags, Keyword, MessageMeta, ModSeq, Pages, Seq, SequenceSet, SystemFlags, Uid, UidSet,
};
use crate::wire::imap::command::Numbers;

/// What the client knows of its mailbox.
#[derive(Clone, Debug)]
pub struct View {
    shown: Pages,
    keywords: Arc<[Keyword]>,
    /// Everything up to here has been told.
    highest: ModSeq,
    /// UIDs that are `\Recent` to this session, also of messages that are gone.
    recent: UidSet,
    /// How many messages of them are shown.
    recent_count: u32,
}

/// How much may be told now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tell<'a> {
    /// EXPUNGE and VANISHED: not while answering FETCH, STORE or SEARCH, whose numbers they would shift under the client's
    /// feet, nor in IDLE's absence when no command is in progress. Their UID forms allow it.
    pub expunge: bool,
    /// The client knows mod-sequences (CONDSTORE): a change of a mod-sequence alone is told too.
    pub mod_sequences: bool,
    /// The STORE that is being answered.
    pub store: Option<&'a Stored<'a>>,
}

/// A STORE of this client, for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The messages asked for.
    pub uids: &'a UidSet,
    pub op: FlagOp,
    pub flags: &'a Flags,
    pub silent: bool,
    /// Those of them that UNCHANGEDSINCE held back; their state is told in full (RFC 7162 §3.1.3).
    pub failed: &'a UidSet,
}

/// What the client has to be told to know what the view now shows, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// A keyword was not known before: FLAGS and PERMANENTFLAGS are told anew.
    pub keywords: bool,
    /// Ascending, numbers as before this catch-up. To be told from the last to the first, so that each is right when it is read.
    pub expunged: Vec<(Seq, Uid)>,
    /// The number of messages, if some arrived.
    pub exists: Option<u32>,
    /// The number of recent messages, if it or the number of messages is another now.
    pub recent: Option<u32>,
    /// Messages to tell with FETCH, ascending, numbers as after the EXPUNGEs.
    pub changed: Vec<Changed>,
}

impl News {
    pub fn is_empty(&self) -> bool {
        !self.keywords && self.expunged.is_empty() && self.exists.is_none() && self.changed.is_empty()
    }
}

/// A message to tell with FETCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    pub seq: Seq,
    /// The client knows the flags (its own STORE .SILENT) and lacks the new mod-sequence only.
    pub mod_sequence_only: bool,
}

/// A message came up below one the client knows. Numbers cannot express that, so the session has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renumbered;

/// A sequence number the client cannot know (RFC 9051 §6.4.5: such a set is an error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadNumber;

impl View {
    /// The view of a mailbox just selected.
    pub fn new(snapshot: &Snapshot) -> Self {
        Self {
            shown: snapshot.messages.clone(),
            keywords: Arc::clone(&snapshot.keywords),
            highest: snapshot.highest_modseq,
            recent: UidSet::new(),
            recent_count: 0,
        }
    }

    /// Those `\Recent` to this session, and how many of them are shown.
    pub fn recent(&self) -> (&UidSet, u32) {
        (&self.recent, self.recent_count)
    }

    pub fn is_recent(&self, uid: Uid) -> bool {
        self.recent.contains(uid.0)
    }

    /// What is shown from `first` on is recent to this session: nobody has been told of it before.
    pub fn take_recent(&mut self, first: Uid) {
        // An EXAMINE takes nothing, and may be given again what it has.
        let first = first.max(Uid(self.recent.max().map_or(1, |last| last.saturating_add(1))));
        if let Some(last) = self.shown.last().filter(|last| last.uid >= first) {
            self.recent.insert_range(first.0..=last.uid.0);
            self.recent_count += self.shown.len() - self.shown.lower_bound(first);
        }
    }

    /// The messages as the client numbers them: index 0 has sequence number 1.
    pub fn messages(&self) -> &Pages {
        &self.shown
    }

    /// The HIGHESTMODSEQ a client may be told now. It stands still while an expunge is held back: a client that resynchronised
    /// from a later value would never hear of that expunge (RFC 7162 §3.2.5).
    pub fn highest_modseq(&self) -> ModSeq {
        self.highest
    }

    /// The HIGHESTMODSEQ that CLOSE may tell (RFC 7162 §3.2.8): the newest if nothing has happened but the expunge of what the client knows
    /// to be \Deleted, else where it stands. From a later one it would never hear of what others did meanwhile.
    pub fn highest_at_close(&self, newest: &Snapshot) -> ModSeq {
        let is_deleted = |uid| self.shown.get(uid).is_some_and(|message| message.flags.has(SystemFlags::DELETED));
        match self.clone().catch_up(newest, Tell { expunge: true, mod_sequences: true, store: None }) {
            Ok(News { changed, exists: None, expunged, .. })
                if changed.is_empty() && expunged.iter().all(|(_, uid)| is_deleted(*uid)) =>
            {
                newest.highest_modseq
            }
            _ => self.highest,
        }
    }

    /// The UIDs a command's set names. In the UID form `*` is the last message (RFC 9051 `seq-range`) and UIDs that do not exist
    /// are no error. A sequence number beyond the last is one, and in an empty mailbox every set of them is, as in Dovecot.
    /// `saved` stands for `$`.
    pub fn resolve(&self, numbers: &Numbers, saved: &UidSet) -> Result<UidSet, BadNumber> {
        if numbers.uid || numbers.set.is_saved() {
            return Ok(self.resolve_uids(&numbers.set, saved));
        }
        if self.shown.is_empty() || numbers.set.largest_named() > self.shown.len() {
            return Err(BadNumber);
        }
        Ok(self.numbers_to_uids(&numbers.set.resolve(self.shown.len())))
    }

    /// The same for a set that holds UIDs in any case.
    pub fn resolve_uids(&self, set: &SequenceSet, saved: &UidSet) -> UidSet {
        if set.is_saved() { saved.clone() } else { set.resolve(self.shown.last().map_or(0, |last| last.uid.0)) }
    }

    /// The UIDs at those sequence numbers, numbers beyond the last left out.
    pub fn numbers_to_uids(&self, numbers: &UidSet) -> UidSet {
        let mut uids = UidSet::new();
        for range in numbers.ranges() {
            let count = (range.end() - range.start()) as usize + 1;
            for (_, message) in self.shown.iter_from(range.start().saturating_sub(1)).take(count) {
                uids.insert(message.uid.0);
            }
        }
        uids
    }

    /// The sequence numbers of those UIDs that are shown.
    pub fn uids_to_numbers(&self, uids: &UidSet) -> UidSet {
        self.shown.select(uids).map(|(index, _)| index + 1).collect()
    }

    /// Goes on to the newest version and says what the client has to hear. Cost: the pages that differ.
    pub fn catch_up(&mut self, newest: &Snapshot, tell: Tell<'_>) -> Result<News, Renumbered> {
        let mut news = News { keywords: self.take_keywords(&newest.keywords), ..News::default() };
        if self.shown.same(&newest.messages) && tell.store.is_none() {
            self.highest = newest.highest_modseq;
            return Ok(news);
        }
        let target = if tell.expunge { newest.messages.clone() } else { newest.messages.retaining(&self.shown) };
        let last_shown = self.shown.last().map_or(Uid(0), |last| last.uid);
        let (mut arrived, mut renumbered) = (0, false);
        let (shown, expunged) = (&self.shown, &mut news.expunged);
        let mut changed: Vec<(Uid, bool)> = Vec::new();
        shown.diff(&target, |change| match change {
            Change::Vanished { uid } => {
                // The index is there: the difference names messages of `shown` only.
                if let Some(index) = shown.index_of(uid) {
                    expunged.push((Seq(index + 1), uid));
                }
            }
            Change::Arrived(new) => {
                arrived += 1;
                renumbered |= new.uid <= last_shown;
            }
            Change::Changed { old, new } => match tell.store {
                Some(stored) if stored.uids.contains(new.uid.0) => {}
                _ => {
                    if old.flags != new.flags || (tell.mod_sequences && old.modseq != new.modseq) {
                        changed.push((new.uid, false));
                    }
                }
            },
        });
        if renumbered {
            return Err(Renumbered);
        }
        if let Some(stored) = tell.store {
            for (_, old) in shown.select(stored.uids) {
                // Gone for others already: nothing can be said of its flags.
                if let Some(new) = newest.messages.get(old.uid)
                    && let Some(mod_sequence_only) = stored.answer(old, new, tell.mod_sequences)
                {
                    changed.push((new.uid, mod_sequence_only));
                }
            }
            changed.sort_unstable();
        }
        news.changed = changed
            .into_iter()
            .filter_map(|(uid, mod_sequence_only)| {
                target.index_of(uid).map(|index| Changed { seq: Seq(index + 1), mod_sequence_only })
            })
            .collect();
        news.exists = (arrived > 0).then_some(target.len());
        // As many as there are sequence numbers, at most.
        let recent_gone = news.expunged.iter().filter(|(_, uid)| self.recent.contains(uid.0)).count() as u32;
        self.recent_count = self.recent_count.saturating_sub(recent_gone);
        news.recent = (arrived > 0 || recent_gone > 0).then_some(self.recent_count);
        if target.len() == newest.messages.len() {
            self.highest = newest.highest_modseq;
        }
        self.shown = target;
        Ok(news)
    }

    fn take_keywords(&mut self, newest: &Arc<[Keyword]>) -> bool {
        if Arc::ptr_eq(&self.keywords, newest) {
            return false;
        }
        let fresh = newest.iter().any(|keyword| !self.keywords.contains(keyword));
        self.keywords = Arc::clone(newest);
        fresh
    }
}

impl Stored<'_> {
    /// What this STORE's answer says of a message: nothing, everything (`false`), or its mod-sequence only (`true`).
    fn answer(&self, old: &MessageMeta, new: &MessageMeta, mod_sequences: bool) -> Option<bool> {
        if !self.silent || self.failed.contains(new.uid.0) {
            return Some(false);
        }
        if new.flags != old.flags.apply(self.op, self.flags) {
            // Somebody else changed it too: silence covers what the client asked for, not what it cannot know.
            return Some(false);
        }
        (mod_sequences && old.modseq != new.modseq).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InternalDate, PagesDelta};

    fn snapshot() -> Snapshot {
        Snapshot::empty("INBOX".into())
    }

    fn meta(uid: u32, modseq: ModSeq, flags: &str) -> MessageMeta {
        let flags = Flags::parse(flags.split(' '));
        MessageMeta { uid: Uid(uid), flags, modseq, internal_date: InternalDate::default(), size: 1, gm_msgid: 0 }
    }

    type Upserts<'a> = &'a [(u32, &'a str)];

    fn step(old: &Snapshot, upserts: Upserts<'_>, vanished: &str) -> Snapshot {
        let modseq = ModSeq(old.highest_modseq.0 + 1);
        let upserts = upserts.iter().map(|(uid, flags)| meta(*uid, modseq, flags)).collect();
        let vanished = UidSet::parse(vanished).unwrap_or_default();
        Snapshot {
            highest_modseq: modseq,
            messages: old.messages.apply(PagesDelta { upserts, vanished }),
            ..old.clone()
        }
    }

    const ALL: Tell<'_> = Tell { expunge: true, mod_sequences: false, store: None };
    const HELD: Tell<'_> = Tell { expunge: false, mod_sequences: false, store: None };

    /// `-2 -1 =3 ~1` for EXPUNGEs as told, EXISTS, FETCH.
    fn told(news: &News) -> String {
        let expunged = news.expunged.iter().rev().map(|(seq, _)| format!("-{seq}"));
        let exists = news.exists.iter().map(|exists| format!("={exists}"));
        let changed = news
            .changed
            .iter()
            .map(|changed| format!("{}{}", if changed.mod_sequence_only { "m" } else { "~" }, changed.seq));
        expunged.chain(exists).chain(changed).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_told() {
        let base = step(&snapshot(), &[(1, ""), (2, ""), (3, ""), (5, "")], "");
        let table: [(Upserts<'_>, &str, &str, &str); 6] = [
            (&[], "", "", ""),
            (&[(6, ""), (7, "")], "", "=6", "=6"),
            (&[(2, "\\Seen")], "1", "-1 ~1", "~2"),
            (&[(9, ""), (5, "\\Seen")], "1:3", "-3 -2 -1 =2 ~1", "=5 ~4"),
            (&[], "1:9", "-4 -3 -2 -1", ""),
            (&[(4294967295, "")], "2", "-2 =4", "=5"),
        ];
        for (upserts, vanished, free, held) in table {
            let new = step(&base, upserts, vanished);
            let mut view = View::new(&base);
            assert_eq!(told(&view.catch_up(&new, ALL).unwrap()), free, "{upserts:?} {vanished}");
            assert_eq!(view.highest_modseq(), new.highest_modseq);
            let mut view = View::new(&base);
            assert_eq!(told(&view.catch_up(&new, HELD).unwrap()), held, "{upserts:?} {vanished} held back");
            assert_eq!(view.highest_modseq() == new.highest_modseq, vanished.is_empty());
            view.catch_up(&new, ALL).unwrap();
            assert_eq!(view.messages(), &new.messages);
            assert_eq!(view.highest_modseq(), new.highest_modseq);
        }
    }

    #[test]
    fn the_recent_are_counted() {
        let base = step(&snapshot(), &[(2, ""), (5, "")], "");
        let mut view = View::new(&base);
        view.take_recent(Uid(6));
        assert_eq!(view.recent().1, 0);
        view.take_recent(Uid(3));
        // Again, as an EXAMINE is given it.
        view.take_recent(Uid(3));
        assert_eq!((view.recent().0.to_string(), view.recent().1), ("3:5".into(), 1));
        let more = step(&base, &[(7, ""), (900, "")], "");
        assert_eq!(view.catch_up(&more, HELD).unwrap().recent, Some(1));
        view.take_recent(Uid(1));
        assert_eq!((view.recent().0.to_string(), view.recent().1), ("3:900".into(), 3));
        let less = step(&more, &[], "2,7");
        assert_eq!(view.catch_up(&less, HELD).unwrap().recent, None);
        assert_eq!(view.catch_up(&less, ALL).unwrap().recent, Some(2));
        assert!(view.is_recent(Uid(900)) && !view.is_recent(Uid(2)));
    }

    #[test]
    fn a_store_is_answered() {
        let base = step(&snapshot(), &[(1, ""), (2, "\\Flagged"), (3, "")], "");
        let uids = UidSet::parse("1:3").unwrap();
        let flags = Flags::parse(["\\Seen"]);
        let failed = UidSet::parse("2").unwrap();
        let none = UidSet::new();
        // 1 becomes \Seen, 2 was held back, 3 was changed by somebody else as well.
        let new = step(&base, &[(1, "\\Seen"), (3, "\\Seen \\Draft")], "");
        for (silent, mod_sequences, failed, want) in [
            (false, false, &none, "~1 ~2 ~3"),
            (true, false, &none, "~2 ~3"),
            (true, false, &failed, "~2 ~3"),
            (true, true, &failed, "m1 ~2 ~3"),
        ] {
            let stored = Stored { uids: &uids, op: FlagOp::Add, flags: &flags, silent, failed };
            let mut view = View::new(&base);
            let news = view.catch_up(&new, Tell { expunge: false, mod_sequences, store: Some(&stored) }).unwrap();
            assert_eq!(told(&news), want, "{silent} {mod_sequences} {failed}");
        }
    }

    #[test]
    fn numbers() {
        let view = View::new(&step(&snapshot(), &[(3, ""), (5, ""), (9, "")], ""));
        let empty = View::new(&snapshot());
        let resolve = |view: &View, uid, set| {
            let numbers = Numbers { set: SequenceSet::parse(set).unwrap(), uid };
            view.resolve(&numbers, &UidSet::new()).map(|uids| uids.to_string())
        };
        assert_eq!(resolve(&view, false, "1:2,*"), Ok("3,5,9".into()));
        assert_eq!(resolve(&view, false, "3:*"), Ok("9".into()));
        assert_eq!(resolve(&view, false, "4"), Err(BadNumber));
        assert_eq!(resolve(&view, false, "4:*"), Err(BadNumber));
        assert_eq!(resolve(&view, true, "20:*"), Ok("9:20".into()));
        assert_eq!(resolve(&view, true, "7"), Ok("7".into()));
        assert_eq!(resolve(&empty, false, "1:*"), Err(BadNumber));
        assert_eq!(resolve(&empty, true, "*"), Ok("".into()));
        let saved = UidSet::parse("5,8").unwrap();
        for uid in [true, false] {
            assert_eq!(view.resolve(&Numbers { set: SequenceSet::saved(), uid }, &saved), Ok(saved.clone()));
        }
        assert_eq!(view.uids_to_numbers(&UidSet::parse("4:9").unwrap()).to_string(), "2:3");
    }

    #[test]
    fn a_message_from_below_is_noticed() {
        let base = step(&snapshot(), &[(3, ""), (5, "")], "");
        for uid in [1, 4] {
            let new = step(&base, &[(uid, "")], "");
            assert_eq!(View::new(&base).catch_up(&new, ALL), Err(Renumbered));
        }
    }

    #[test]
    fn idle_views_share_the_mailbox() {
        let base = step(&snapshot(), &[(1, "")], "");
        let views: Vec<View> = (0..1000).map(|_| View::new(&base)).collect();
        assert!(views.iter().all(|view| view.messages().same(&base.messages)));
        assert!(size_of::<View>() <= 64, "{}", size_of::<View>());
    }

    /// A client that keeps a plain list and does what it is told, against random versions of the mailbox.
    #[test]
    fn a_naive_client_stays_right() {
        for seed in 1..=40u64 {
            let mut state = seed;
            let mut random = move |below: u32| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) as u32) % below
            };
            let mut now = snapshot();
            let mut next = 1;
            let mut view = View::new(&now);
            // What the client believes: UID and flags by number.
            let mut list: Vec<(u32, String)> = Vec::new();
            for turn in 0..200 {
                let mut upserts = Vec::new();
                for _ in 0..random(4) {
                    upserts.push((next, ""));
                    next += 1 + random(3);
                }
                for _ in 0..random(3) {
                    let index = random(now.messages.len().max(1));
                    if let Some(message) = now.messages.at(index) {
                        upserts.push((message.uid.0, ["", "\\Seen", "\\Deleted"][random(3) as usize]));
                    }
                }
                let from = 1 + random(next + 1);
                let vanished = if random(3) == 0 { format!("{from}:{}", from + random(4)) } else { String::new() };
                now = step(&now, &upserts, &vanished);
                let expunge = random(3) == 0;
                let news = view.catch_up(&now, Tell { expunge, mod_sequences: false, store: None }).unwrap();
                assert!(expunge || news.expunged.is_empty(), "seed {seed} turn {turn}");
                for (seq, uid) in news.expunged.iter().rev() {
                    let gone = list.remove(seq.0 as usize - 1);
                    assert_eq!(gone.0, uid.0, "seed {seed} turn {turn}");
                }
                if let Some(exists) = news.exists {
                    for index in list.len() as u32..exists {
                        let message = view.messages().at(index).unwrap();
                        list.push((message.uid.0, message.flags.to_string()));
                    }
                }
                for changed in &news.changed {
                    let entry = &mut list[changed.seq.0 as usize - 1];
                    entry.1 = view.messages().at(changed.seq.0 - 1).unwrap().flags.to_string();
                }
                let shown = view.messages().iter().map(|message| (message.uid.0, message.flags.to_string()));
                assert!(shown.eq(list.iter().cloned()), "seed {seed} turn {turn}: the client believes something else");
                if expunge {
                    assert_eq!(view.messages(), &now.messages, "seed {seed} turn {turn}");
                }
            }
        }
    }

    #[test]
    fn close_tells_no_more_than_the_client_knows() {
        let start = step(&snapshot(), &[(1, "\\Deleted"), (2, ""), (3, "")], "");
        let view = View::new(&start);
        let own = step(&start, &[], "1");
        assert_eq!(view.highest_at_close(&own), own.highest_modseq);
        // Others did something too, and the client was not told.
        for other in [step(&own, &[(2, "\\Seen")], ""), step(&own, &[], "3"), step(&own, &[(4, "")], "")] {
            assert_eq!(view.highest_at_close(&other), start.highest_modseq);
        }
    }
}
