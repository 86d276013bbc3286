//! APPEND and MULTIAPPEND (RFC 9051 §6.3.12, RFC 3502).
//!
//! Upstream gets one APPEND a message, and where the mirror shows the mailbox what is new there is read in the same breath, if the session
//! has it selected. A connection lost in an APPEND is settled by looking among what is new in the mailbox (`arrived`). A
//! MULTIAPPEND that fails takes back what it has stored, as far as upstream told the UIDs, and says what stays; these stand in the journal, so
//! that a crash takes them back too. The one message that is under way at the moment of a crash may stay: nobody was told its UID.
//!
//! Providers' manners: a message that must end with CRLF gets one (Yahoo), flags that APPEND loses are stored afterwards (Outlook), and what
//! the provider has put into the sent folder by itself is not uploaded a second time (`sent`).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::{info, warn};

use super::sent::Filer;
use super::settle::{Fault, Window};
use super::undo::{Undo, ours};
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::engine::mirror::Delta;
use crate::model::{Flags, InternalDate, Uid, UidValidity};
use crate::provider::Quirk;
use crate::upstream::{self, Class, FetchMeta};

/// One message of an APPEND.
#[derive(Clone, Debug)]
pub struct Append {
    pub flags: Flags,
    pub date: Option<InternalDate>,
    pub body: Bytes,
    /// What the body takes of a bound on memory: given back when the last use of it has ended, whoever has gone meanwhile.
    pub memory: Option<Arc<OwnedSemaphorePermit>>,
}

/// Where appended messages are (APPENDUID, RFC 4315 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub uid_validity: UidValidity,
    /// In the order of the messages.
    pub uids: Vec<Uid>,
}

/// Where a message is, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Upstream told it of our own upload.
    Told(UidValidity, Uid),
    /// Seen by looking: it could be another's, and is never taken back.
    Seen(UidValidity, Uid),
    /// It is there; which one it is is not known.
    Somewhere,
}

/// What became of an upload, with what was read right behind it of what is new in the mailbox.
pub(super) struct Uploaded {
    pub(super) places: Vec<Place>,
    /// What is new since before it.
    pub(super) window: Window,
    seen: Seen,
}

/// What is in a mailbox from some UID on.
struct Seen {
    asked: Instant,
    lines: Vec<FetchMeta>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { asked: Instant::now(), lines: Vec::new() }
    }
}

impl Uploaded {
    fn new(places: Vec<Place>, window: Window) -> Self {
        Self { places, window, seen: Seen::default() }
    }
}

impl Place {
    pub(super) fn at(self) -> Option<(UidValidity, Uid)> {
        match self {
            Self::Told(validity, uid) | Self::Seen(validity, uid) => Some((validity, uid)),
            Self::Somewhere => None,
        }
    }
}

impl Inner {
    pub(crate) async fn append(
        self: &Arc<Self>,
        mailbox: &str,
        messages: Vec<Append>,
    ) -> Result<Option<Appended>, Error> {
        self.append_as(mailbox, messages, Filer::Client).await
    }

    pub(crate) async fn append_as(
        self: &Arc<Self>,
        mailbox: &str,
        mut messages: Vec<Append>,
        filer: Filer,
    ) -> Result<Option<Appended>, Error> {
        let limit = self.options.append_limit;
        if messages.iter().any(|message| message.body.len() as u64 > limit) {
            return Err(Error::TooBig { limit });
        }
        let octets = messages.iter().map(|message| message.body.len() as u64).sum();
        let grant = self.options.allowance.upload(octets)?;
        let to = self.resolve(mailbox).await?;
        if let ([message], Filer::Client) = (messages.as_slice(), filer)
            && self.waits_to_be_sent(&to, message).await
        {
            return Ok(None);
        }
        let account = Arc::clone(self);
        self.run_to_end(async move {
            let _grant = grant;
            account.settle_left(&[&to]).await?;
            if account.options.has(Quirk::AppendNeedsCrlfEnd) {
                messages = ended(messages);
            }
            let target = account.state(&to).await?;
            let keywords = account.share_appends(&target, &mut messages).await?;
            let mut uploaded = account.append_all(&target, &messages, filer).await?;
            account.seen_upstream();
            let seen = std::mem::take(&mut uploaded.seen);
            let Uploaded { places, window, .. } = &uploaded;
            if keywords.is_empty() {
                if !account.show_seen(&target, places, seen).await {
                    account.show_arrivals(&target).await;
                }
            } else if let Err(error) = account.keep_appended_keywords(&target, &messages, keywords, &uploaded).await {
                // What fails of taking it back is told by itself.
                let _ = account.take_back(&target, &ours(&target.name, places, window)).await;
                return Err(error);
            }
            let places = uploaded.places;
            account.mend_flags(&target, &messages, &places).await;
            account.keep_appended(&target, messages, &places);
            let at: Option<Vec<(UidValidity, Uid)>> = places.iter().map(|place| place.at()).collect();
            let Some(((uid_validity, _), at)) = at.and_then(|at| Some((*at.first()?, at))) else { return Ok(None) };
            let is_one = at.iter().all(|(validity, _)| *validity == uid_validity);
            Ok(is_one.then(|| Appended { uid_validity, uids: at.into_iter().map(|(_, uid)| uid).collect() }))
        })
        .await
    }

    async fn append_all(
        self: &Arc<Self>,
        target: &Arc<State>,
        messages: &[Append],
        filer: Filer,
    ) -> Result<Uploaded, Error> {
        // Of two that file the same message at once, the second finds it.
        let _filing = match messages {
            [message] if self.is_just_sent(target, message) => Some(self.filing.lock().await),
            _ => None,
        };
        if let [message] = messages
            && let Some((validity, uid)) = self.filed_already(target, message, filer).await
        {
            info!(account = %self.label(), mailbox = %target.name, "the provider has filed this message itself: it is not uploaded again");
            return Ok(Uploaded::new(vec![Place::Seen(validity, uid)], Window::before(target)));
        }
        let mut window = self.window(target, messages.len() > 1).await?;
        if let [message] = messages {
            let mut seen = Seen::default();
            let place = self.append_one(target, message, &window, Some(&mut seen)).await?;
            return Ok(Uploaded { places: vec![place], window, seen });
        }
        let mut undo = Undo::default();
        let mut places = Vec::new();
        for message in messages {
            let stored = match self.append_one(target, message, &window, None).await {
                Ok(place) => {
                    places.push(place);
                    window.take(place.at().map(|(_, uid)| uid));
                    undo.note(self, target, ours(&target.name, &places, &window)).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = stored {
                // All or nothing (RFC 3502 §6.3.11): what is there already is taken back.
                let ours = ours(&target.name, &places, &window).with_ids(undo.ids.clone());
                let taken = self.take_back(target, &ours).await.is_ok();
                if taken && let Some(entry) = undo.entry.take() {
                    entry.done().await;
                }
                let all = messages.len();
                let is_ours = |place: &&Place| place.at().is_some_and(|(_, uid)| ours.uids.contains(uid.0));
                return Err(match places.len() - places.iter().filter(is_ours).count() {
                    0 if taken => error,
                    stay if taken => stored_in_part(error, &format!("at least {stay} of {all} messages are stored")),
                    _ => stored_in_part(error, &format!("up to {} of {all} messages may be stored", places.len() + 1)),
                });
            }
        }
        if let Some(entry) = undo.entry.take()
            && !entry.done().await
        {
            // The entry that is left takes back what is not taken back now.
            let ours = ours(&target.name, &places, &window).with_ids(undo.ids);
            let _ = self.take_back(target, &ours).await;
            return Err(Error::Internal("What is to be kept cannot be kept; see the log".into()));
        }
        Ok(Uploaded::new(places, window))
    }

    /// What is new from here on. The mirror knows where it has just agreed with upstream; else upstream is asked, and always where something
    /// may be taken back and the provider answers an upload of what it has with the message that is there: that one is not ours.
    async fn window(self: &Arc<Self>, target: &Arc<State>, takes_back: bool) -> Result<Window, Error> {
        let exactly = takes_back && self.options.has(Quirk::Labels);
        if let Some(window) = Window::fresh(target).filter(|_| !exactly) {
            return Ok(window);
        }
        let mut tries = 2;
        loop {
            tries -= 1;
            let mut lease = self.pool.lease(Class::Interactive, None).await?;
            match Window::ask(&mut lease, target).await {
                Err(Fault::Lost(_)) if tries > 0 => {}
                asked => return Ok(asked?),
            }
        }
    }

    /// Uploads one message. What is new in a mailbox the mirror shows is asked for behind it, if it is to be `seen` and costs no SELECT.
    async fn append_one(
        self: &Arc<Self>,
        target: &Arc<State>,
        message: &Append,
        window: &Window,
        mut seen: Option<&mut Seen>,
    ) -> Result<Place, Error> {
        let mut tries = 2;
        loop {
            tries -= 1;
            let wanted = seen.as_ref().filter(|_| target.is_known()).map(|_| &*target.name);
            let mut lease = self.pool.lease(Class::Interactive, wanted).await?;
            let snapshot = target.snapshot();
            let is_there = lease
                .selected()
                .is_some_and(|(name, selected)| wanted == Some(name) && selected.uid_validity == snapshot.uid_validity);
            let Append { flags, date, body, .. } = message;
            let appended = match seen.as_deref_mut().filter(|_| is_there) {
                Some(seen) => {
                    *seen = Seen::default();
                    lease.append_and_see((&target.name, flags, *date, body), snapshot.uid_next, &mut seen.lines).await
                }
                None => lease.append(&target.name, flags, *date, body).await,
            };
            let error = match appended {
                Ok(Some((validity, uid))) => return Ok(Place::Told(validity, uid)),
                Ok(None) => return Ok(Place::Somewhere),
                // Not an octet of it left us: another session is as good.
                Err(upstream::Error::Lost { sent: false, .. }) if tries > 0 => continue,
                Err(error) => error,
            };
            match Fault::from(error) {
                Fault::Refused(error) => return Err(error),
                Fault::Lost(reason) => {
                    warn!(account = %self.label(), mailbox = %target.name, reason, "connection lost during APPEND: looking");
                    drop(lease);
                    let found = self.settle_append(target, message, window).await?;
                    return Ok(found.map_or(Place::Somewhere, |(validity, uid)| Place::Seen(validity, uid)));
                }
            }
        }
    }

    /// Shows what was read right behind an APPEND; whether that is all of it, so that nobody has to look.
    ///
    /// It was read without the mailbox's turn, which nobody is to wait for while a message goes up a slow line. So somebody may have
    /// looked meanwhile: of what is below UIDNEXT by now the mirror knows more.
    async fn show_seen(self: &Arc<Self>, target: &Arc<State>, places: &[Place], seen: Seen) -> bool {
        let Seen { asked, mut lines } = seen;
        let [Place::Told(validity, uid)] = places else { return false };
        let is_whole = |line: &FetchMeta| line.flags.is_some() && line.internal_date.is_some() && line.size.is_some();
        if !lines.iter().any(|line| line.uid == Some(*uid)) {
            return false;
        }
        let mut turn = target.turn.lock().await;
        let snapshot = target.snapshot();
        lines.retain(|line| line.uid.is_some_and(|uid| uid >= snapshot.uid_next));
        let is_same = !snapshot.dead && snapshot.uid_validity == *validity && turn.complete;
        if !is_same || !lines.iter().all(is_whole) {
            return false;
        }
        self.commit(target, &mut turn, Delta { seen: lines, ..Delta::default() }, None).await;
        target.set_counted(asked);
        true
    }
}

/// Why a MULTIAPPEND failed of which something is there all the same: the client is to know, or it would store that once more. Without
/// UIDPLUS nothing can be taken back, and what was found by looking is perhaps somebody else's; what upstream is out of reach for is taken
/// back later.
fn stored_in_part(error: Error, words: &str) -> Error {
    let text = format!("{error}; {words}");
    match error {
        Error::Refused { code, .. } => Error::Refused { code, text },
        Error::Limit(_) => Error::Limit(text),
        Error::Internal(_) => Error::Internal(text),
        _ => Error::Unavailable(text),
    }
}

/// Every message with a CRLF at its end.
fn ended(messages: Vec<Append>) -> Vec<Append> {
    let end = |message: Append| {
        if message.body.ends_with(b"\r\n") {
            return message;
        }
        let mut body = BytesMut::with_capacity(message.body.len() + 2);
        body.extend_from_slice(message.body.strip_suffix(b"\n").unwrap_or(&message.body));
        body.extend_from_slice(b"\r\n");
        Append { body: body.freeze(), ..message }
    };
    messages.into_iter().map(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_with_a_line_end() {
        for (body, want) in [("a\r\n", "a\r\n"), ("a", "a\r\n"), ("a\n", "a\r\n"), ("", "\r\n")] {
            let message = Append { flags: Flags::default(), date: None, body: Bytes::from(body), memory: None };
            assert_eq!(ended(vec![message])[0].body, want);
        }
    }
}
