//! Sections of large messages: asked of upstream alone, until a client walks through the message.
//!
//! Who reads the text of a message with a film attached does not want the film. A section is asked for alone only where the told
//! BODYSTRUCTURE names it inside a multipart, so that every server means the same octets by it; and what comes must be as long as
//! that structure says. In every other case, and once more than half of the message has been wanted, the answer is cut from the whole
//! message, which then is fetched once and kept like any other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tracing::warn;

use super::account::Inner;
use super::error::Error;
use super::mailbox::State;
use super::summaries::Want;
use crate::message::{self, UpstreamStructure};
use crate::model::{Section, SectionText, Uid, UidSet};
use crate::store::BodyKey;
use crate::upstream::{self, BodyEvent, BodyPart, Class};

/// A message up to this size is fetched whole: it is here within a second or two on a slow line, and what is asked of it next costs nothing.
pub const WHOLE_UP_TO: u32 = 1 << 20;
/// A part above this is big; a second one of the same message says that somebody walks through it.
const BIG: u64 = 256 << 10;
/// A part above this is not held in memory: it goes the way of whole messages, over the disk.
const PART_MOST: u64 = 8 << 20;
/// What the header of a part is taken to weigh before it is asked for, octets.
const HEADER_GUESS: u64 = 2 << 10;
/// Parts kept in memory, octets, and messages of which there are any: what a few clients look at now.
const KEPT_OCTETS: u64 = 16 << 20;
const KEPT_MESSAGES: usize = 256;
/// Pieces between the upstream session and us.
const PIECES: usize = 16;

/// The large messages read by parts lately, the oldest dropped first.
#[derive(Default)]
pub(super) struct Walks {
    of: HashMap<BodyKey, Walk>,
    order: VecDeque<BodyKey>,
    octets: u64,
}

/// How far clients have come with one message.
#[derive(Default)]
struct Walk {
    /// By what stands between the brackets upstream.
    parts: HashMap<String, Bytes>,
    octets: u64,
    has_big: bool,
    /// From now on it is cut from the whole.
    is_over: bool,
    /// Held by whoever fetches parts of it: ten clients asking at once cost one download.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Walks {
    fn walk(&mut self, key: BodyKey) -> &mut Walk {
        if !self.of.contains_key(&key) {
            self.order.push_back(key);
            while self.order.len() > KEPT_MESSAGES {
                self.drop_oldest();
            }
        }
        self.of.entry(key).or_default()
    }

    fn keep(&mut self, key: BodyKey, name: String, part: Bytes) {
        let octets = part.len() as u64;
        let walk = self.walk(key);
        if walk.parts.insert(name, part).is_none() {
            walk.octets += octets;
            walk.has_big |= octets > BIG;
            self.octets += octets;
        }
        while self.octets > KEPT_OCTETS && self.order.len() > 1 {
            self.drop_oldest();
        }
    }

    /// The whole is on its way or here: its parts are of no use any more.
    fn end(&mut self, key: BodyKey) {
        let walk = self.walk(key);
        let octets = walk.octets;
        (walk.parts, walk.octets, walk.is_over) = (HashMap::new(), 0, true);
        self.octets -= octets;
    }

    fn drop_oldest(&mut self) {
        if let Some(dropped) = self.order.pop_front().and_then(|oldest| self.of.remove(&oldest)) {
            self.octets -= dropped.octets;
        }
    }
}

/// A section as upstream is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    /// What stands between the brackets.
    name: String,
    /// Octets, where the structure says so.
    size: Option<u64>,
}

/// How upstream is asked for a section alone; nothing where what it means is better found out here.
fn asked(structure: &UpstreamStructure, section: &Section) -> Option<Asked> {
    let (_, parent) = section.path.split_last()?;
    // Inside a multipart a number means the same to everybody. What `1` of a message without parts is, or `2.1` of a message in a
    // message, is not so clear.
    if !structure.part(parent)?.main.eq_ignore_ascii_case(b"multipart") {
        return None;
    }
    let part = structure.part(&section.path)?;
    let is_message = part.main.eq_ignore_ascii_case(b"message") && part.sub.eq_ignore_ascii_case(b"rfc822");
    let path = section.path.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    match section.text {
        // A multipart has no size to hold against what comes; nor would an empty part tell a failure from the truth.
        SectionText::Whole => part.size.filter(|size| *size > 0).map(|size| Asked { name: path, size: Some(size) }),
        SectionText::Mime => Some(Asked { name: format!("{path}.MIME"), size: None }),
        // Fields are chosen here.
        SectionText::Header | SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_) if is_message => {
            Some(Asked { name: format!("{path}.HEADER"), size: None })
        }
        _ => None,
    }
}

impl Inner {
    /// Sections of one message without the whole of it, or nothing where they are to be cut from the whole.
    pub(crate) async fn parts(
        self: &Arc<Self>,
        state: &Arc<State>,
        uid: Uid,
        sections: &[Section],
    ) -> Result<Option<Vec<Bytes>>, Error> {
        let snapshot = state.snapshot();
        let Some(size) = snapshot.messages.get(uid).map(|message| message.size) else { return Ok(None) };
        if !self.options.parts || size <= WHOLE_UP_TO || state.is_hidden(uid) {
            return Ok(None);
        }
        let key = state.body_key(&snapshot, uid);
        let turn = Arc::clone(&self.walks().walk(key).turn);
        let _turn = turn.lock().await;
        if self.is_whole_at_hand(key).await {
            return Ok(None);
        }
        let want = Want { structure: true, ..Want::default() };
        let mut summary = self.summaries(state, &[uid], want).await;
        let summary = summary.pop().unwrap_or(Err(Error::Expunged))?;
        let structure = message::upstream_structure(&summary.body_structure);
        let names: Option<Vec<Asked>> =
            structure.and_then(|structure| sections.iter().map(|section| asked(&structure, section)).collect());
        let Some(names) = names else { return Ok(None) };

        let mut missing: Vec<Asked> = Vec::new();
        {
            let mut walks = self.walks();
            let walk = walks.walk(key);
            for asked in &names {
                if !walk.parts.contains_key(&asked.name) && !missing.contains(asked) {
                    missing.push(asked.clone());
                }
            }
            let octets: u64 = missing.iter().map(|asked| asked.size.unwrap_or(HEADER_GUESS)).sum();
            let bigs = missing.iter().filter(|asked| asked.size.is_some_and(|size| size > BIG)).count();
            let is_walk = walk.octets + octets > u64::from(size) / 2 || bigs + usize::from(walk.has_big) > 1;
            if walk.is_over || is_walk || missing.iter().any(|asked| asked.size.is_some_and(|size| size > PART_MOST)) {
                walks.end(key);
                return Ok(None);
            }
        }
        let mut have: HashMap<String, Bytes> = HashMap::new();
        for asked in missing {
            let Some(part) = self.fetch_part(state, uid, &asked).await? else {
                // Upstream's parts and its structure do not fit: only the message itself can be believed.
                warn!(account = %self.label(), mailbox = %state.name, %uid, section = asked.name, "upstream does not hand out a part as it described it");
                self.walks().end(key);
                return Ok(None);
            };
            have.insert(asked.name.clone(), part.clone());
            self.walks().keep(key, asked.name, part);
        }
        let mut walks = self.walks();
        let kept = &walks.walk(key).parts;
        let cut = sections.iter().zip(&names).map(|(section, asked)| {
            let part = have.get(&asked.name).or_else(|| kept.get(&asked.name))?;
            Some(match &section.text {
                SectionText::HeaderFields(fields) => message::header_fields(part, fields, false).into(),
                SectionText::HeaderFieldsNot(fields) => message::header_fields(part, fields, true).into(),
                _ => part.clone(),
            })
        });
        Ok(cut.collect())
    }

    fn walks(&self) -> MutexGuard<'_, Walks> {
        self.bodies.walks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the whole message is in memory, on disk, or on its way.
    async fn is_whole_at_hand(&self, key: BodyKey) -> bool {
        if self.bodies.remembered(key).is_some()
            || self.bodies.flights.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key)
        {
            return true;
        }
        let found = self.disk(move |store| store.has_bodies(&[key])).await;
        found.is_ok_and(|found| found.first() == Some(&true))
    }

    /// One section; nothing where upstream does not give it as it is described.
    async fn fetch_part(self: &Arc<Self>, state: &Arc<State>, uid: Uid, asked: &Asked) -> Result<Option<Bytes>, Error> {
        let octets = asked.size.unwrap_or(HEADER_GUESS);
        let _grant = self.options.allowance.download(octets, Class::Interactive)?;
        let done = match self.fetch_part_once(state, uid, asked).await {
            // A session that died in the pool shows it only now.
            Err(upstream::Error::Lost { .. }) => self.fetch_part_once(state, uid, asked).await,
            done => done,
        };
        match done {
            Err(upstream::Error::No { .. }) => Ok(None),
            done => Ok(done?),
        }
    }

    async fn fetch_part_once(
        self: &Arc<Self>,
        state: &Arc<State>,
        uid: Uid,
        asked: &Asked,
    ) -> Result<Option<Bytes>, upstream::Error> {
        let (out, mut events) = mpsc::channel(PIECES);
        let uids = UidSet::from_iter([uid.0]);
        let part = BodyPart::Section(asked.name.clone());
        let fetch = self.fetch_parts_apart(state, uids, part, false, out);
        let read = async move {
            let (mut part, mut expected) = (BytesMut::new(), 0);
            let mut whole = None;
            while let Some(event) = events.recv().await {
                match event {
                    BodyEvent::Start { uid: told, len, .. } => {
                        // What nobody wants is not waited for: the session drops or ends it.
                        if told != uid || len == 0 || len > PART_MOST || asked.size.is_some_and(|size| size != len) {
                            return None;
                        }
                        part.clear();
                        expected = len;
                    }
                    BodyEvent::Chunk(piece) => part.extend_from_slice(&piece),
                    BodyEvent::End => whole = (part.len() as u64 == expected).then(|| part.split().freeze()),
                    BodyEvent::Done { .. } => {}
                }
            }
            whole
        };
        let (fetched, part) = tokio::join!(fetch, read);
        match (fetched, part) {
            (_, Some(part)) => Ok(Some(part)),
            (fetched, None) => fetched.map(|()| None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MailboxId;

    const STRUCTURE: &[u8] = br#"((("text" "plain" NIL NIL NIL "7bit" 10 1)("text" "html" NIL NIL NIL "7bit" 20 1) "alternative")("message" "rfc822" NIL NIL NIL "8bit" 2000 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) ("a" "b" NIL NIL NIL "base64" 3) 1)("a" "b" NIL NIL NIL "base64" 0) "mixed")"#;

    fn section(path: &[u32], text: SectionText) -> Section {
        Section { path: path.to_vec(), text, spelled: "as the client spells it".into() }
    }

    #[test]
    fn what_is_asked_upstream() {
        let structure = message::upstream_structure(STRUCTURE).unwrap();
        let fields = || SectionText::HeaderFields(vec!["From".into()]);
        for (path, text, want) in [
            (&[1, 1][..], SectionText::Whole, Some(("1.1", Some(10)))),
            (&[1, 2], SectionText::Whole, Some(("1.2", Some(20)))),
            (&[1, 2], SectionText::Mime, Some(("1.2.MIME", None))),
            (&[2], SectionText::Whole, Some(("2", Some(2000)))),
            (&[2], SectionText::Header, Some(("2.HEADER", None))),
            (&[2], fields(), Some(("2.HEADER", None))),
            (&[2], SectionText::Mime, Some(("2.MIME", None))),
            // Cut from the whole: the message itself, a multipart, what is empty, what servers see differently, what there is not.
            (&[], SectionText::Text, None),
            (&[1], SectionText::Whole, None),
            (&[3], SectionText::Whole, None),
            (&[2], SectionText::Text, None),
            (&[2, 1], SectionText::Whole, None),
            (&[1, 1, 1], SectionText::Whole, None),
            (&[1, 1], SectionText::Header, None),
            (&[4], SectionText::Whole, None),
            (&[4], SectionText::Mime, None),
            (&[0], SectionText::Mime, None),
        ] {
            let got = asked(&structure, &section(path, text.clone()));
            let want = want.map(|(name, size)| Asked { name: name.to_owned(), size });
            assert_eq!(got, want, "{path:?} {text:?}");
        }
        let single = message::upstream_structure(br#"("text" "plain" NIL NIL NIL "7bit" 10 1)"#).unwrap();
        assert_eq!(asked(&single, &section(&[1], SectionText::Whole)), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let key =
            |id| BodyKey::Message { mailbox: MailboxId(1), uid_validity: crate::model::UidValidity(1), uid: Uid(id) };
        let mut walks = Walks::default();
        for id in 1..=1000 {
            walks.keep(key(id), "1".into(), Bytes::from(vec![0; 100_000]));
            walks.keep(key(id), "1".into(), Bytes::from(vec![0; 100_000]));
            if id % 7 == 0 {
                walks.end(key(id));
            }
            let really: usize = walks.of.values().flat_map(|walk| walk.parts.values()).map(Bytes::len).sum();
            assert_eq!(walks.octets, really as u64);
            assert!(
                walks.octets <= KEPT_OCTETS && walks.of.len() <= KEPT_MESSAGES && walks.of.len() == walks.order.len()
            );
        }
        assert!(walks.of.contains_key(&key(1000)) && !walks.of.contains_key(&key(1)));
    }
}
