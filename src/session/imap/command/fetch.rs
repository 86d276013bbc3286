//! FETCH and UID FETCH. RFC 3501 §6.4.5, RFC 7162 §3.1.4, §3.2.6 (CHANGEDSINCE, VANISHED).
//!
//! Three speeds, by what is asked: what the mirror holds of every message is written in one pass without waiting; envelopes,
//! structures and headers come in batches, some ahead; bodies come one by one in order and are passed on as they arrive.
//! Numbers mean what they meant when the command began: what arrives or goes meanwhile is told afterwards.

mod item;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::select::present;
use crate::engine::{Error, Summary, Want};
use crate::message;
use crate::model::{FlagOp, Flags, MessageMeta, ModSeq, Pages, Section, SectionText, SystemFlags, Uid, UidSet};
use crate::session::backend::{Body, BodyReads, Gmail, Mailbox, PARTS_ABOVE, SUMMARY_BATCH};
use crate::session::imap::io::{Io, Stop};
use crate::session::imap::reply::{Names, Reply, no};
use crate::session::imap::state::{Failure, Selected, Session, Telling};
use crate::session::imap::{Login, render};
use crate::wire::imap::command::{BodySection, Fetch, FetchItem};
use item::{Cut, gmail_item, is_gmail, meta_item, part_of, pass_on};

/// Batches of summaries asked for ahead of the one being written: enough to fill a slow line to the provider.
pub(super) const BATCHES_AHEAD: usize = 4;
/// A stretch of a message up to this is waited for before the first word of the answer: it fits in memory, and a failure on the way
/// is then told as one instead of ending the connection.
const STRETCH_MOST: u32 = 1 << 20;

impl<L: Login> Session<L> {
    pub(crate) async fn fetch(&mut self, fetch: Fetch) -> Result<Reply, Failure> {
        let Fetch { numbers, mut items, changed_since, vanished } = fetch;
        let (_, selected) = self.selected()?;
        let Ok(asked) = selected.view.resolve(&numbers, &selected.saved) else { return Ok(super::bad_number("FETCH")) };
        let asks_gmail = items.iter().any(is_gmail);
        if asks_gmail && !self.server.profile.gmail {
            return Ok(Reply::bad("FETCH: unknown item"));
        }
        if vanished && !(self.qresync && numbers.uid && changed_since.is_some()) {
            // RFC 7162 §3.2.6.
            return Ok(Reply::bad("VANISHED needs QRESYNC enabled, UID FETCH and CHANGEDSINCE"));
        }
        if changed_since.is_some() || items.contains(&FetchItem::ModSeq) {
            self.enable_condstore();
        }
        if changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
            items.push(FetchItem::ModSeq);
        }
        if numbers.uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        let (io, selected) = self.selected()?;
        if vanished && let Some(since) = changed_since {
            // Here `*` is no number of ours: what vanished may have stood behind the last message there is now.
            let asked = if numbers.set.is_saved() { asked.clone() } else { numbers.set.resolve(u32::MAX) };
            let earlier = vanished_earlier(selected, &asked, since);
            render::vanished(&mut io.out, &earlier, true);
        }
        let mut job = Job {
            plan: Plan::new(&items),
            items,
            since: changed_since.unwrap_or_default(),
            messages: selected.view.messages().clone(),
            recent: selected.view.recent().0.clone(),
            asked,
            gmail: BTreeMap::new(),
        };
        let mailbox = selected.mailbox.clone();
        if asks_gmail {
            job.gmail = job.targets().map(|(_, message)| (message.uid, mailbox.gmail(message.uid))).collect();
        }
        let marks_seen = job.plan.sets_seen && !selected.read_only;
        let mut outcome = Outcome::default();
        if job.plan.meta_only() {
            job.metas(io).await?;
        } else {
            job.contents(io, &mailbox, &mut outcome).await?;
        }
        if marks_seen && !outcome.unseen.is_empty() {
            let seen = Flags::new(SystemFlags::SEEN, []);
            // The messages have been delivered; a provider that is away does not make that undone.
            if let Err(error) = io.wait(mailbox.store(&outcome.unseen, FlagOp::Add, &seen, None)).await? {
                tracing::debug!(%error, "could not mark messages as seen");
            }
            self.catch_up(Telling { expunge: numbers.uid, uid: numbers.uid }, None)?;
        }
        Ok(match outcome.failed {
            None => Reply::ok("Fetch completed"),
            // A UID that does not exist is no error (RFC 3501 §6.4.8).
            Some(Error::Expunged) if numbers.uid => {
                Reply::ok("Some of the messages no longer exist").with("EXPUNGEISSUED")
            }
            Some(error) => no(&error, Names::Mailbox),
        })
    }
}

/// What vanished of the asked UIDs. Those the client still has numbers for are left to the ordinary VANISHED.
fn vanished_earlier<M: Mailbox>(selected: &Selected<M>, asked: &UidSet, since: ModSeq) -> UidSet {
    let snapshot = selected.mailbox.snapshot();
    let mut known = UidSet::new();
    known.insert_range(1..=snapshot.uid_next.0.saturating_sub(1));
    let asked = asked.intersect(&known);
    let gone = match selected.mailbox.vanished_since(since) {
        Some(vanished) => vanished.intersect(&asked),
        None => asked.minus(&present(&snapshot.messages, &asked)),
    };
    gone.minus(&present(selected.view.messages(), &gone)).minus(&present(&snapshot.messages, &gone))
}

/// What the items of a FETCH need.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    want: Want,
    /// Some item is cut from the whole message.
    body: bool,
    /// The only such item is the message itself, which needs no parsing and passes through.
    stream: bool,
    /// Of that only a stretch is asked for.
    stretch: Option<(u32, u32)>,
    /// All that is cut from the message is named by part numbers.
    parts_only: bool,
    /// Some item is cut by the message's structure.
    structure: bool,
    sets_seen: bool,
}

impl Plan {
    fn new(items: &[FetchItem]) -> Self {
        let mut plan = Self::default();
        let (mut whole, mut parts, mut numbered, mut headers) = (0, 0, 0, false);
        for item in items {
            match item {
                FetchItem::Uid
                | FetchItem::Flags
                | FetchItem::InternalDate
                | FetchItem::Rfc822Size
                | FetchItem::ModSeq
                | FetchItem::GmMsgId
                | FetchItem::GmThrId
                | FetchItem::GmLabels => {}
                FetchItem::Envelope => plan.want.envelope = true,
                FetchItem::Body | FetchItem::BodyStructure => plan.want.structure = true,
                FetchItem::Rfc822 | FetchItem::Rfc822Peek => whole += 1,
                FetchItem::Rfc822Header => headers = true,
                FetchItem::Rfc822Text => parts += 1,
                FetchItem::Section(BodySection { section, partial, .. }) => match section.text {
                    SectionText::Whole if section.path.is_empty() => {
                        whole += 1;
                        plan.stretch = partial.filter(|(_, count)| *count <= STRETCH_MOST);
                    }
                    SectionText::Header | SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_)
                        if section.path.is_empty() =>
                    {
                        headers = true;
                    }
                    _ => {
                        plan.structure |= !section.path.is_empty();
                        numbered += usize::from(!section.path.is_empty());
                        parts += 1;
                    }
                },
            }
            plan.sets_seen |= match item {
                FetchItem::Rfc822 | FetchItem::Rfc822Text => true,
                FetchItem::Section(section) => !section.peek,
                _ => false,
            };
        }
        plan.want.header = headers;
        plan.body = whole + parts > 0;
        plan.stream = whole == 1 && parts == 0;
        plan.parts_only = whole == 0 && parts == numbered && parts > 0;
        plan
    }

    fn meta_only(&self) -> bool {
        !self.body && self.want == Want::default()
    }
}

/// One FETCH at work.
struct Job {
    plan: Plan,
    items: Vec<FetchItem>,
    since: ModSeq,
    /// The view as the command found it.
    messages: Pages,
    recent: UidSet,
    asked: UidSet,
    /// What Gmail's items need; empty where they are not asked for.
    gmail: BTreeMap<Uid, Gmail>,
}

#[derive(Default)]
struct Outcome {
    /// The failure that is told; an expunge is the least of them.
    failed: Option<Error>,
    /// Delivered and without \Seen.
    unseen: UidSet,
}

impl Outcome {
    fn fail(&mut self, error: Error) {
        if self.failed.as_ref().is_none_or(|failed| matches!(failed, Error::Expunged)) {
            self.failed = Some(error);
        }
    }
}

/// What is at hand of one message.
struct Contents<B> {
    summary: Option<Arc<Summary>>,
    body: Content<B>,
}

enum Content<B> {
    None,
    /// Passed on as it comes; the first piece is here.
    Stream(B, Option<Bytes>),
    Raw(Bytes, Option<Box<message::Structure>>),
    /// The stretch asked for.
    Stretch(Bytes),
    /// The sections asked for, each by itself.
    Parts(Vec<(Section, Bytes)>),
}

impl Job {
    /// The messages to answer for, with their indices.
    fn targets(&self) -> impl Iterator<Item = (u32, &MessageMeta)> {
        let since = self.since;
        self.messages.select(&self.asked).filter(move |(_, message)| message.modseq > since || since == ModSeq(0))
    }

    async fn metas(&self, io: &mut Io) -> Result<(), Stop> {
        for (index, meta) in self.targets() {
            render::text(&mut io.out, "* ");
            render::number(&mut io.out, index + 1);
            render::text(&mut io.out, " FETCH (");
            for (place, item) in self.items.iter().enumerate() {
                render::text(&mut io.out, if place > 0 { " " } else { "" });
                self.meta_item(io, item, meta);
            }
            render::text(&mut io.out, ")\r\n");
            io.flush_if_full().await?;
        }
        Ok(())
    }

    async fn contents<M: Mailbox>(&self, io: &mut Io, mailbox: &M, outcome: &mut Outcome) -> Result<(), Stop> {
        let targets: Vec<(u32, Uid)> = self.targets().map(|(index, message)| (index, message.uid)).collect();
        // Of these the parts are asked for first; should the whole be wanted after all, it is read when its turn comes.
        let by_parts: UidSet = match self.plan.parts_only {
            true => self.targets().filter(|(_, m)| m.size > PARTS_ABOVE).map(|(_, m)| m.uid.0).collect(),
            false => UidSet::new(),
        };
        let mut reads = self.plan.body.then(|| {
            let ahead = targets.iter().map(|(_, uid)| *uid).filter(|uid| !by_parts.contains(uid.0));
            mailbox.read(ahead.collect())
        });
        let sections = if by_parts.is_empty() { Vec::new() } else { self.sections() };
        let want = self.plan.want;
        let summarised = want != Want::default();
        let owned: Vec<Vec<(u32, Uid)>> = targets.chunks(SUMMARY_BATCH).map(<[_]>::to_vec).collect();
        drop(targets);
        let ask = |batch: Vec<(u32, Uid)>| {
            let mailbox = mailbox.clone();
            async move {
                if !summarised {
                    return (batch, Vec::new());
                }
                let uids: Vec<Uid> = batch.iter().map(|(_, uid)| *uid).collect();
                // A task of its own: it goes on while this one writes to a client that may be slow, so whatever it holds
                // below is let go in time. If it panics, its answers are missing, and that is told.
                let ahead = tokio::spawn(async move { mailbox.summaries(&uids, want).await });
                (batch, ahead.await.unwrap_or_default())
            }
        };
        let mut batches = stream::iter(owned).map(ask).buffered(BATCHES_AHEAD);
        while let Some((batch, summaries)) = io.wait(batches.next()).await? {
            let mut summaries = summaries.into_iter();
            for (index, uid) in batch {
                let summary = if summarised { Some(summaries.next()) } else { None };
                let mut parts = None;
                let body = match &mut reads {
                    Some(_) if by_parts.contains(uid.0) => match io.wait(mailbox.parts(uid, &sections)).await? {
                        Ok(Some(bytes)) => {
                            parts = Some(sections.iter().cloned().zip(bytes).collect());
                            None
                        }
                        Ok(None) => Some(io.wait(mailbox.read(vec![uid]).next()).await?),
                        Err(error) => Some(Some((uid, Err(error)))),
                    },
                    Some(reads) => Some(io.wait(reads.next()).await?),
                    None => None,
                };
                let mut contents = match self.gather(io, uid, summary, body).await? {
                    Ok(contents) => contents,
                    Err(error) => {
                        outcome.fail(error);
                        continue;
                    }
                };
                if let Some(parts) = parts {
                    contents.body = Content::Parts(parts);
                }
                let Some(meta) = self.messages.at(index) else { continue };
                self.one(io, index, meta, contents).await?;
                if !meta.flags.has(SystemFlags::SEEN) {
                    outcome.unseen.insert(uid.0);
                }
                io.flush_if_full().await?;
            }
        }
        Ok(())
    }

    /// Brings together what one message's answer needs, before any of it is written.
    async fn gather<B: Body>(
        &self,
        io: &mut Io,
        uid: Uid,
        summary: Option<Option<Result<Arc<Summary>, Error>>>,
        body: Option<Option<(Uid, Result<B, Error>)>>,
    ) -> Result<Result<Contents<B>, Error>, Stop> {
        let missing = || Error::Internal("an answer is missing below".to_owned());
        let summary = match summary {
            None => None,
            Some(None) => return Ok(Err(missing())),
            Some(Some(Err(error))) => return Ok(Err(error)),
            Some(Some(Ok(summary))) => Some(summary),
        };
        let body = match body {
            None => return Ok(Ok(Contents { summary, body: Content::None })),
            Some(Some((got, Ok(body)))) if got == uid => body,
            Some(Some((_, Err(error)))) => return Ok(Err(error)),
            Some(_) => return Ok(Err(missing())),
        };
        let mut body = body;
        if self.plan.stream
            && let Some((origin, count)) = self.plan.stretch
        {
            let stretch = io.wait(body.range(origin.into(), count.into())).await?;
            return Ok(stretch.map(|stretch| Contents { summary, body: Content::Stretch(stretch) }));
        }
        if self.plan.stream {
            let first = match io.wait(body.chunk()).await? {
                None => None,
                Some(Ok(chunk)) => Some(chunk),
                Some(Err(error)) => return Ok(Err(error)),
            };
            return Ok(Ok(Contents { summary, body: Content::Stream(body, first) }));
        }
        let raw = match io.wait(body.whole()).await? {
            Ok(raw) => raw,
            Err(error) => return Ok(Err(error)),
        };
        // Once a message, however many of its parts are asked for.
        let structure = self.plan.structure.then(|| Box::new(message::parse(&raw)));
        Ok(Ok(Contents { summary, body: Content::Raw(raw, structure) }))
    }

    async fn one<B: Body>(
        &self,
        io: &mut Io,
        index: u32,
        meta: &MessageMeta,
        mut contents: Contents<B>,
    ) -> Result<(), Stop> {
        render::text(&mut io.out, "* ");
        render::number(&mut io.out, index + 1);
        render::text(&mut io.out, " FETCH (");
        for (place, item) in self.items.iter().enumerate() {
            render::text(&mut io.out, if place > 0 { " " } else { "" });
            let summary = contents.summary.as_deref();
            let (section, label) = match item {
                FetchItem::Envelope => {
                    render::text(&mut io.out, "ENVELOPE ");
                    io.out.extend_from_slice(summary.map_or(b"NIL", |summary| &summary.envelope));
                    continue;
                }
                FetchItem::Body => {
                    render::text(&mut io.out, "BODY ");
                    io.out.extend_from_slice(summary.map_or(b"NIL", |summary| &summary.body));
                    continue;
                }
                FetchItem::BodyStructure => {
                    render::text(&mut io.out, "BODYSTRUCTURE ");
                    io.out.extend_from_slice(summary.map_or(b"NIL", |summary| &summary.body_structure));
                    continue;
                }
                FetchItem::Rfc822 | FetchItem::Rfc822Peek => (Cut::Whole, "RFC822"),
                FetchItem::Rfc822Header => (Cut::Header, "RFC822.HEADER"),
                FetchItem::Rfc822Text => (Cut::Text, "RFC822.TEXT"),
                FetchItem::Section(section) => (Cut::Section(section), "BODY["),
                item => {
                    self.meta_item(io, item, meta);
                    continue;
                }
            };
            render::text(&mut io.out, label);
            let mut partial = None;
            if let Cut::Section(section) = section {
                partial = section.partial;
                render::text(&mut io.out, &section.section.spelled);
                render::text(&mut io.out, "]");
                if let Some((origin, _)) = partial {
                    render::text(&mut io.out, "<");
                    render::number(&mut io.out, origin);
                    render::text(&mut io.out, ">");
                }
            }
            render::text(&mut io.out, " ");
            if section.is_whole()
                && let Content::Stream(body, first) = &mut contents.body
            {
                pass_on(io, body, first.take(), partial).await?;
                continue;
            }
            if section.is_whole()
                && let Content::Stretch(stretch) = &contents.body
            {
                render::literal_head(&mut io.out, stretch.len() as u64);
                io.body(&message::without_nul(Cow::Borrowed(stretch))).await?;
                continue;
            }
            let raw = match &contents.body {
                Content::Raw(raw, structure) => Some((&raw[..], structure.as_deref())),
                Content::None | Content::Stream(..) | Content::Stretch(_) | Content::Parts(_) => None,
            };
            let part = match (&contents.body, section) {
                (Content::Parts(parts), Cut::Section(asked)) => {
                    parts.iter().find(|(section, _)| *section == asked.section).map(|(_, part)| part)
                }
                _ => None,
            };
            match part.map(|part| Cow::Borrowed(&part[..])).or_else(|| section.bytes(summary, raw)) {
                Some(bytes) => {
                    let bytes = message::without_nul(Cow::Borrowed(part_of(&bytes, partial)));
                    render::literal_head(&mut io.out, bytes.len() as u64);
                    io.body(&bytes).await?;
                }
                // A part that is not there is empty, as in Dovecot; some clients read NIL as an error.
                None => render::text(&mut io.out, "\"\""),
            }
        }
        render::text(&mut io.out, ")\r\n");
        Ok(())
    }
}

impl Job {
    /// The sections named by part numbers.
    fn sections(&self) -> Vec<Section> {
        let sections = self.items.iter().filter_map(|item| match item {
            FetchItem::Section(BodySection { section, .. }) if !section.path.is_empty() => Some(section.clone()),
            _ => None,
        });
        sections.collect()
    }

    fn meta_item(&self, io: &mut Io, item: &FetchItem, meta: &MessageMeta) {
        match self.gmail.get(&meta.uid) {
            Some(gmail) if is_gmail(item) => gmail_item(io, item, meta, gmail),
            _ => meta_item(io, item, meta, self.recent.contains(meta.uid.0)),
        }
    }
}
