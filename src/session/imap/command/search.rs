//! SEARCH and UID SEARCH. RFC 3501 §6.4.4, RFC 4731 (ESEARCH), RFC 5182 (SEARCHRES), RFC 5032 (WITHIN), RFC 7162 §3.1.5.
//!
//! Evaluated here, cheapest first: what the mirror knows of every message decides what it can; headers are asked only for
//! messages still undecided after that; bodies only for those undecided after the headers. So `UNSEEN FROM x TEXT y` reads
//! the text of unseen messages from x, and nothing else.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt as _, stream};

use super::fetch::BATCHES_AHEAD;
use super::select::present;
use crate::engine::{Error, Want};
use crate::message;
use crate::model::{MessageMeta, ModSeq, Pages, SystemFlags, Uid, UidSet};
use crate::session::backend::{Mailbox, SUMMARY_BATCH};
use crate::session::imap::io::Io;
use crate::session::imap::reply::Reply;
use crate::session::imap::state::{Failure, Session};
use crate::session::imap::view::View;
use crate::session::imap::{Login, render};
use crate::wire::imap::command::{Search, SearchKey, SearchReturn};

impl<L: Login> Session<L> {
    pub(crate) async fn search(&mut self, tag: &str, search: Search) -> Result<Reply, Failure> {
        let Search { uid, returns, charset, mut key } = search;
        self.selected()?;
        let saves = returns.is_some_and(|returns| returns.save);
        let found = match decode(&mut key, charset.as_deref()) {
            Some(()) => self.find(&mut key).await,
            None => Err(bad_charset().into()),
        };
        let (_, selected) = self.selected()?;
        let found = match found {
            Ok(found) => found,
            Err(failure) => {
                if saves {
                    // RFC 5182 §2.1: a search that fails leaves an empty result behind.
                    selected.saved = UidSet::new();
                }
                return Err(failure);
            }
        };
        let view = &selected.view;
        let mod_sequences = names_mod_sequence(&key);
        let mut line = String::new();
        match returns {
            None => plain(&mut line, view, &found, uid, mod_sequences),
            // SAVE alone asks for no answer (RFC 5182 §2.1).
            Some(returns) if returns == (SearchReturn { save: true, ..SearchReturn::default() }) => {}
            Some(returns) => extended(&mut line, tag, view, &found, uid, mod_sequences, returns),
        }
        if let Some(returns) = returns.filter(|returns| returns.save) {
            selected.saved = saved(found, returns);
        }
        render::text(&mut self.io.out, &line);
        if mod_sequences {
            self.enable_condstore();
        }
        Ok(Reply::ok("Search completed"))
    }

    pub(super) async fn find(&mut self, key: &mut SearchKey) -> Result<UidSet, Failure> {
        let (io, selected) = self.selected()?;
        // The answer is about the messages the client knows, as they were when it asked.
        let view = selected.view.clone();
        name_by_uid(key, &view, &selected.saved);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let run =
            Run { messages: view.messages(), now: i64::try_from(now).unwrap_or(i64::MAX), mailbox: &selected.mailbox };
        let everything = run.messages.uids();
        run.find(io, key, everything).await
    }
}

/// Turns sets of sequence numbers and `$` into sets of UIDs, once, so that evaluation knows one kind of number (Law 2).
fn name_by_uid(key: &mut SearchKey, view: &View, saved: &UidSet) {
    let uids = match key {
        SearchKey::Recent => view.recent().0.clone(),
        // RFC 3501 §6.4.4: RECENT UNSEEN, and NOT RECENT.
        SearchKey::New => {
            let messages = view.messages().select(view.recent().0);
            messages.filter(|(_, m)| !m.flags.has(SystemFlags::SEEN)).map(|(_, m)| m.uid.0).collect()
        }
        SearchKey::Old => view.messages().uids().minus(view.recent().0),
        SearchKey::Sequence(set) if set.is_saved() => saved.clone(),
        // Numbers beyond the last match nothing, as in Dovecot.
        SearchKey::Sequence(set) => view.numbers_to_uids(&set.resolve(view.messages().len())),
        SearchKey::Uid(set) => view.resolve_uids(set, saved),
        SearchKey::Saved => saved.clone(),
        SearchKey::Not(key) => return name_by_uid(key, view, saved),
        SearchKey::Or(a, b) => {
            name_by_uid(a, view, saved);
            return name_by_uid(b, view, saved);
        }
        SearchKey::And(keys) => return keys.iter_mut().for_each(|key| name_by_uid(key, view, saved)),
        _ => return,
    };
    let uids = present(view.messages(), &uids);
    let ranges = uids.ranges().map(|range| (Some(*range.start()), Some(*range.end()))).collect::<Vec<_>>();
    *key = if ranges.is_empty() {
        SearchKey::Not(Box::new(SearchKey::All))
    } else {
        SearchKey::Uid(crate::model::SequenceSet(ranges))
    };
}

/// The answer to a charset that is not known (RFC 3501 §6.4.4).
pub(super) fn bad_charset() -> Reply {
    Reply::no("Charset is not known").with("BADCHARSET (US-ASCII UTF-8)")
}

/// Brings the strings to search for into UTF-8. Nothing if the charset is not known.
pub(super) fn decode(key: &mut SearchKey, charset: Option<&str>) -> Option<()> {
    let encoding = match charset {
        None => encoding_rs::UTF_8,
        // Clients that say US-ASCII and send UTF-8 mean UTF-8; the label table would take it for windows-1252.
        Some(name) if name.eq_ignore_ascii_case("US-ASCII") => encoding_rs::UTF_8,
        Some(name) => encoding_rs::Encoding::for_label(name.as_bytes())?,
    };
    recode(key, encoding);
    Some(())
}

fn recode(key: &mut SearchKey, encoding: &'static encoding_rs::Encoding) {
    match key {
        SearchKey::Header(_, text) | SearchKey::Body(text) | SearchKey::Text(text) => {
            *text = encoding.decode_without_bom_handling(text).0.into_owned().into_bytes();
        }
        SearchKey::Not(key) => recode(key, encoding),
        SearchKey::Or(a, b) => {
            recode(a, encoding);
            recode(b, encoding);
        }
        SearchKey::And(keys) => keys.iter_mut().for_each(|key| recode(key, encoding)),
        _ => {}
    }
}

/// What it takes to decide a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cost {
    Mirror,
    Header,
    Text,
}

fn cost(key: &SearchKey) -> Cost {
    match key {
        SearchKey::Header(..) | SearchKey::SentBefore(_) | SearchKey::SentOn(_) | SearchKey::SentSince(_) => {
            Cost::Header
        }
        // An empty string is in every message.
        SearchKey::Body(text) | SearchKey::Text(text) if text.is_empty() => Cost::Mirror,
        SearchKey::Body(_) | SearchKey::Text(_) => Cost::Text,
        SearchKey::Not(key) => cost(key),
        SearchKey::Or(a, b) => cost(a).max(cost(b)),
        SearchKey::And(keys) => keys.iter().map(cost).max().unwrap_or(Cost::Mirror),
        _ => Cost::Mirror,
    }
}

struct Run<'a, M> {
    messages: &'a Pages,
    /// Seconds since the epoch.
    now: i64,
    mailbox: &'a M,
}

impl<M: Mailbox> Run<'_, M> {
    /// Those of `within` that match.
    async fn find(&self, io: &mut Io, key: &SearchKey, within: UidSet) -> Result<UidSet, Failure> {
        if within.is_empty() {
            return Ok(within);
        }
        match (cost(key), key) {
            (Cost::Mirror, key) => Ok(self
                .messages
                .select(&within)
                .filter(|(_, message)| self.matches(key, message, None) == Some(true))
                .map(|(_, message)| message.uid.0)
                .collect()),
            (Cost::Header, key) => self.find_in_headers(io, key, within).await,
            (Cost::Text, SearchKey::Body(needle)) => Ok(self.find_in_text(io, &within, needle, true).await?),
            (Cost::Text, SearchKey::Text(needle)) => Ok(self.find_in_text(io, &within, needle, false).await?),
            (Cost::Text, SearchKey::Not(key)) => {
                let found = Box::pin(self.find(io, key, within.clone())).await?;
                Ok(within.minus(&found))
            }
            (Cost::Text, SearchKey::Or(a, b)) => {
                let (first, second) = if cost(a) <= cost(b) { (a, b) } else { (b, a) };
                let found = Box::pin(self.find(io, first, within.clone())).await?;
                let rest = Box::pin(self.find(io, second, within.minus(&found))).await?;
                Ok(found.union(&rest))
            }
            (Cost::Text, SearchKey::And(keys)) => {
                let mut keys: Vec<&SearchKey> = keys.iter().collect();
                keys.sort_by_key(|key| cost(key));
                let mut left = within;
                for key in keys {
                    left = Box::pin(self.find(io, key, left)).await?;
                }
                Ok(left)
            }
            // No other key costs that much.
            (Cost::Text, _) => Ok(UidSet::new()),
        }
    }

    async fn find_in_text(
        &self,
        io: &mut Io,
        within: &UidSet,
        needle: &[u8],
        body_only: bool,
    ) -> Result<UidSet, Failure> {
        let found = io.wait(self.mailbox.search_text(within, needle, body_only)).await??;
        Ok(found.intersect(within))
    }

    /// A key that headers decide: asked only for messages that the mirror leaves open.
    async fn find_in_headers(&self, io: &mut Io, key: &SearchKey, within: UidSet) -> Result<UidSet, Failure> {
        let mut found = UidSet::new();
        let mut open: Vec<Uid> = Vec::new();
        for (_, message) in self.messages.select(&within) {
            match self.matches(key, message, None) {
                Some(true) => found.insert(message.uid.0),
                Some(false) => {}
                None => open.push(message.uid),
            }
        }
        let want = Want { header: true, ..Want::default() };
        let mut by_header = UidSet::new();
        let batches: Vec<Vec<Uid>> = open.chunks(SUMMARY_BATCH).map(<[_]>::to_vec).collect();
        let ask = |batch: Vec<Uid>| {
            let mailbox = self.mailbox.clone();
            async move {
                let summaries = mailbox.summaries(&batch, want).await;
                (batch, summaries)
            }
        };
        let mut batches = stream::iter(batches).map(ask).buffered(BATCHES_AHEAD);
        while let Some((batch, summaries)) = io.wait(batches.next()).await? {
            for (uid, summary) in batch.iter().zip(summaries) {
                let header = match summary {
                    Ok(summary) => summary,
                    // Gone meanwhile: it matches nothing any more.
                    Err(Error::Expunged) => continue,
                    Err(error) => return Err(error.into()),
                };
                let Some(message) = self.messages.get(*uid) else { continue };
                if self.matches(key, message, Some(&header.header)) == Some(true) {
                    by_header.insert(uid.0);
                }
            }
        }
        Ok(found.union(&by_header))
    }

    /// Whether a message matches; nothing if that takes the header and it is not given.
    fn matches(&self, key: &SearchKey, message: &MessageMeta, header: Option<&[u8]>) -> Option<bool> {
        let day = || message.internal_date.local_day();
        let age = || self.now - message.internal_date.seconds;
        Some(match key {
            SearchKey::All => true,
            // Numbered by UID before evaluation.
            SearchKey::Sequence(_) | SearchKey::Saved | SearchKey::Recent | SearchKey::New | SearchKey::Old => false,
            // Ascending and without `*` since they were named by UID.
            SearchKey::Uid(set) => {
                let uid = Some(message.uid.0);
                let range = set.0.get(set.0.partition_point(|(_, to)| *to < uid));
                range.is_some_and(|(from, _)| *from <= uid)
            }
            SearchKey::Flag(flag) => {
                message.flags.has(flag.system) && flag.keywords().iter().all(|k| message.flags.has_keyword(k))
            }
            SearchKey::Before(date) => day() < *date,
            SearchKey::On(date) => day() == *date,
            SearchKey::Since(date) => day() >= *date,
            SearchKey::Larger(size) => message.size > *size,
            SearchKey::Smaller(size) => message.size < *size,
            SearchKey::ModSeq(modseq) => message.modseq >= *modseq,
            // RFC 5032: an age of exactly the interval is both.
            SearchKey::Older(seconds) => age() >= i64::from(*seconds),
            SearchKey::Younger(seconds) => age() <= i64::from(*seconds),
            // Empty strings only: others are not evaluated message by message.
            SearchKey::Body(_) | SearchKey::Text(_) => true,
            SearchKey::Header(name, needle) => holds(header?, name, needle),
            SearchKey::SentBefore(date) => sent_day(header?) < *date,
            SearchKey::SentOn(date) => sent_day(header?) == *date,
            SearchKey::SentSince(date) => sent_day(header?) >= *date,
            SearchKey::Not(key) => !self.matches(key, message, header)?,
            SearchKey::Or(a, b) => match (self.matches(a, message, header), self.matches(b, message, header)) {
                (Some(true), _) | (_, Some(true)) => true,
                (Some(false), Some(false)) => false,
                _ => return None,
            },
            SearchKey::And(keys) => {
                let mut open = false;
                for key in keys {
                    match self.matches(key, message, header) {
                        Some(false) => return Some(false),
                        Some(true) => {}
                        None => open = true,
                    }
                }
                if open {
                    return None;
                }
                true
            }
        })
    }
}

/// The day in the Date field; a message without a readable one was sent on the first day there is, as in Dovecot.
fn sent_day(header: &[u8]) -> i64 {
    message::sent_day(header).unwrap_or(0)
}

/// HEADER: whether a field of that name holds the text, decoded and without regard to case; the empty text asks whether
/// there is such a field at all.
fn holds(header: &[u8], name: &str, needle: &[u8]) -> bool {
    let values = message::header_values(header, name);
    if needle.is_empty() {
        return !values.is_empty();
    }
    let needle = message::fold(&String::from_utf8_lossy(needle));
    values.iter().any(|value| message::fold(value).contains(needle.as_str()))
}

fn names_mod_sequence(key: &SearchKey) -> bool {
    match key {
        SearchKey::ModSeq(_) => true,
        SearchKey::Not(key) => names_mod_sequence(key),
        SearchKey::Or(a, b) => names_mod_sequence(a) || names_mod_sequence(b),
        SearchKey::And(keys) => keys.iter().any(names_mod_sequence),
        _ => false,
    }
}

/// `* SEARCH 1 2 3 (MODSEQ n)`.
fn plain(line: &mut String, view: &View, found: &UidSet, uid: bool, mod_sequences: bool) {
    line.push_str("* SEARCH");
    let mut buffer = itoa::Buffer::new();
    for (index, message) in view.messages().select(found) {
        line.push(' ');
        line.push_str(buffer.format(if uid { message.uid.0 } else { index + 1 }));
    }
    if mod_sequences && !found.is_empty() {
        let _ = write!(line, " (MODSEQ {})", highest_of(view, found));
    }
    line.push_str("\r\n");
}

/// `* ESEARCH (TAG "a") UID MIN 1 … MODSEQ n` (RFC 4731 §3.1, §3.2).
fn extended(
    line: &mut String,
    tag: &str,
    view: &View,
    found: &UidSet,
    uid: bool,
    mod_sequences: bool,
    returns: SearchReturn,
) {
    // A tag is printable ASCII without quotes and backslashes.
    let _ = write!(line, "* ESEARCH (TAG \"{tag}\")");
    if uid {
        line.push_str(" UID");
    }
    let numbers = if uid { found.clone() } else { view.uids_to_numbers(found) };
    let SearchReturn { min, max, all, count, save } = returns;
    let all = all || !(min || max || count || save);
    if let (true, Some(number)) = (min, numbers.min()) {
        let _ = write!(line, " MIN {number}");
    }
    if let (true, Some(number)) = (max, numbers.max()) {
        let _ = write!(line, " MAX {number}");
    }
    if all && !numbers.is_empty() {
        let _ = write!(line, " ALL {numbers}");
    }
    if count {
        let _ = write!(line, " COUNT {}", numbers.len());
    }
    if mod_sequences && !found.is_empty() {
        // Of the messages told: with MIN or MAX alone that is these, else all.
        let told = if (min || max) && !all && !count { ends(found, min, max) } else { found.clone() };
        let _ = write!(line, " MODSEQ {}", highest_of(view, &told));
    }
    line.push_str("\r\n");
}

fn highest_of(view: &View, uids: &UidSet) -> ModSeq {
    view.messages().select(uids).map(|(_, message)| message.modseq).max().unwrap_or_default()
}

fn ends(found: &UidSet, min: bool, max: bool) -> UidSet {
    [found.min().filter(|_| min), found.max().filter(|_| max)].into_iter().flatten().collect()
}

/// What `$` stands for from now on (RFC 5182 §2.4): with MIN or MAX and neither ALL nor COUNT, those messages only.
fn saved(found: UidSet, returns: SearchReturn) -> UidSet {
    let SearchReturn { min, max, all, count, .. } = returns;
    if (min || max) && !all && !count { ends(&found, min, max) } else { found }
}
