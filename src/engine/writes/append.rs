//! APPEND and MULTIAPPEND (RFC 9051 §6.3.12, RFC 3502).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::warn;

use super::settle::Window;
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::engine::summaries::Want;
use crate::message;
use crate::model::{FlagOp, Flags, InternalDate, SystemFlags, Uid, UidSet, UidValidity};
use crate::upstream::{self, Class};

/// One message of an APPEND.
#[derive(Clone, Debug)]
pub struct Append {
    pub flags: Flags,
    pub date: Option<InternalDate>,
    pub body: Bytes,
}

/// Where appended messages are (APPENDUID, RFC 4315 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub uid_validity: UidValidity,
    /// In the order of the messages.
    pub uids: Vec<Uid>,
}

impl Inner {
    pub(crate) async fn append(
        self: &Arc<Self>,
        mailbox: &str,
        mut messages: Vec<Append>,
    ) -> Result<Option<Appended>, Error> {
        let limit = self.options.append_limit;
        if messages.iter().any(|message| message.body.len() as u64 > limit) {
            return Err(Error::TooBig { limit });
        }
        let octets = messages.iter().map(|message| message.body.len() as u64).sum();
        let grant = self.options.allowance.upload(octets)?;
        let to = self.resolve(mailbox).await?;
        let account = Arc::clone(self);
        self.run_to_end(async move {
            let _grant = grant;
            account.settle_left(&[&to]).await?;
            let target = account.state(&to).await?;
            let keywords = account.share_appends(&target, &mut messages).await?;
            let window = Window::before(&target);
            let mut done: Vec<(UidValidity, Uid)> = Vec::new();
            // Those whose UIDs upstream told: what was found by looking could be another's, and is never taken back.
            let mut ours: Vec<(UidValidity, Uid)> = Vec::new();
            let mut unknown = false;
            for message in &messages {
                match account.append_one(&target, message).await {
                    Ok((Some(at), told)) => {
                        done.push(at);
                        ours.extend(told.then_some(at));
                    }
                    Ok((None, _)) => unknown = true,
                    Err(error) => {
                        // All or nothing (RFC 3502 §6.3.11): what is there already is taken back.
                        account.take_back(&target, &ours).await;
                        return Err(error);
                    }
                }
            }
            account.seen_upstream();
            if let Err(error) = account.keep_appended_keywords(&target, &messages, keywords, (&done, &window)).await {
                account.take_back(&target, &ours).await;
                return Err(error);
            }
            account.keep_appended(&target, &messages, &done).await;
            let validity = done.first().map(|(validity, _)| *validity);
            Ok(match validity {
                Some(uid_validity) if !unknown => {
                    Some(Appended { uid_validity, uids: done.into_iter().map(|(_, uid)| uid).collect() })
                }
                _ => None,
            })
        })
        .await
    }

    /// Uploads one message; where it is, and whether upstream told so (else it was found by looking).
    async fn append_one(
        self: &Arc<Self>,
        target: &Arc<State>,
        message: &Append,
    ) -> Result<(Option<(UidValidity, Uid)>, bool), Error> {
        let window = Window::before(target);
        for attempt in 0..2 {
            let mut lease = self.pool.lease(Class::Interactive, None).await?;
            match lease.append(&target.name, &message.flags, message.date, &message.body).await {
                Ok(at) => return Ok((at, true)),
                // Not an octet of it left us: another session is as good.
                Err(upstream::Error::Lost { sent: false, .. }) if attempt == 0 => {}
                Err(upstream::Error::Lost { reason, .. }) => {
                    warn!(account = %self.label(), mailbox = %target.name, %reason, "connection lost during APPEND: looking");
                    drop(lease);
                    return self.settle_append(target, message, &window).await.map(|at| (at, false));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("The connection to the provider was lost".into()))
    }

    /// After a connection was lost in an APPEND: whether the message is there, by Message-ID among what is new, or by size.
    async fn settle_append(
        self: &Arc<Self>,
        target: &Arc<State>,
        message: &Append,
        window: &Window,
    ) -> Result<Option<(UidValidity, Uid)>, Error> {
        self.freshen(target, Instant::now(), Class::Interactive).await?;
        let arrived = target.snapshot();
        let candidates = window.arrivals(&arrived);
        let end = message::header_end(&message.body);
        let id = message::message_id(message.body.get(..end).unwrap_or_default());
        let uids: Vec<Uid> = candidates.iter().map(|new| new.uid).collect();
        let want = Want { header: true, ..Default::default() };
        let mut found = None;
        for (new, summary) in candidates.iter().zip(self.summaries(target, &uids, want).await) {
            let same = match (&id, summary) {
                (Some(id), Ok(summary)) => message::message_id(&summary.header).as_ref() == Some(id),
                (None, Ok(summary)) => {
                    let header = message.body.get(..end).unwrap_or_default();
                    u64::from(new.size) == message.body.len() as u64
                        && summary.header.trim_ascii_end() == header.trim_ascii_end()
                }
                (_, Err(Error::Expunged)) => false,
                // Not seen is not known: a message of the same size is not taken for ours.
                (_, Err(error)) => return Err(error),
            };
            if same {
                found = Some((arrived.uid_validity, new.uid));
            }
        }
        match found {
            Some(at) => Ok(Some(at)),
            None if !window.is_known() => Err(Error::Unavailable(
                "The connection to the provider was lost while storing the message; whether it was stored cannot be seen"
                    .into(),
            )),
            None => Err(Error::Unavailable(
                "The connection to the provider was lost while storing the message; it has not been stored".into(),
            )),
        }
    }

    /// Takes back messages of a MULTIAPPEND that failed later on. They are ours: we have just been told their UIDs.
    async fn take_back(self: &Arc<Self>, target: &Arc<State>, done: &[(UidValidity, Uid)]) {
        let uids: UidSet = done.iter().map(|(_, uid)| uid.0).collect();
        if uids.is_empty() {
            return;
        }
        let taken = async {
            self.freshen(target, Instant::now(), Class::Interactive).await?;
            let mut lease = self.ready(target, Class::Interactive).await?;
            if !lease.caps().has("UIDPLUS") || done.iter().any(|(at, _)| *at != target.snapshot().uid_validity) {
                return Err(Error::Cannot("the messages cannot be named".into()));
            }
            lease.store(&uids, FlagOp::Add, &Flags::new(SystemFlags::DELETED, []), None).await?;
            lease.uid_expunge(&uids).await?;
            Ok(())
        };
        if let Err(error) = taken.await {
            warn!(account = %self.label(), mailbox = %target.name, %uids, %error, "messages of a failed MULTIAPPEND stay");
        }
        self.show_arrivals(target).await;
    }

    /// Shows what was appended, with the keywords that upstream does not keep.
    async fn keep_appended_keywords(
        self: &Arc<Self>,
        target: &Arc<State>,
        messages: &[Append],
        keywords: Vec<Flags>,
        (done, window): (&[(UidValidity, Uid)], &Window),
    ) -> Result<(), Error> {
        if keywords.is_empty() {
            self.show_arrivals(target).await;
            return Ok(());
        }
        let mut found = Vec::new();
        let places = match done.len() == messages.len() {
            true => done,
            false => {
                // Not told by upstream (it lacks UIDPLUS): perhaps it can be seen.
                for message in messages {
                    found.extend(self.settle_append(target, message, window).await.ok().flatten());
                }
                found.as_slice()
            }
        };
        if places.len() != messages.len() {
            warn!(account = %self.label(), mailbox = %target.name, "where a new message is is not known: its keywords are lost");
            self.show_arrivals(target).await;
            return Ok(());
        }
        let uids: UidSet = places.iter().map(|(_, uid)| uid.0).collect();
        let mut new: BTreeMap<UidValidity, Vec<(Uid, Flags)>> = BTreeMap::new();
        for ((validity, uid), keywords) in places.iter().zip(keywords) {
            new.entry(*validity).or_default().push((*uid, keywords));
        }
        for (validity, new) in new {
            self.keep_new(target, validity, new).await?;
        }
        self.show_arrivals(target).await;
        self.show_kept(target, &uids).await;
        Ok(())
    }

    /// The body that was uploaded need not be downloaded, if upstream kept it as it was.
    async fn keep_appended(self: &Arc<Self>, target: &Arc<State>, messages: &[Append], done: &[(UidValidity, Uid)]) {
        if done.len() != messages.len() {
            return;
        }
        let snapshot = target.snapshot();
        for (message, (validity, uid)) in messages.iter().zip(done) {
            let same = snapshot.messages.get(*uid).is_some_and(|new| u64::from(new.size) == message.body.len() as u64);
            if same && *validity == snapshot.uid_validity {
                let (key, body) = (target.body_key(&snapshot, *uid), message.body.clone());
                // What cannot be cached is fetched when asked for.
                let _ = self.disk(move |store| store.put_body(key, &body)).await;
            }
        }
    }
}
