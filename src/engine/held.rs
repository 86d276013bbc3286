//! The mailboxes of the mirror: each is read from the store when it is first asked for, and held from then on.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use tracing::warn;

use super::account::{Inner, LONG_CALL, now_ms};
use super::error::Error;
use super::keywords::{Local, Overlay};
use super::mailbox::{State, Turn};
use super::mirror;
use super::snapshot::Snapshot;
use super::sync::resume;
use super::vanished::VanishedLog;
use crate::model::{Flags, MessageMeta, ModSeq, Uid, UidSet, UidValidity};
use crate::store::{BodyKey, MailboxId};

impl Inner {
    /// The state of a mailbox, read from the store when it is first asked for.
    pub(crate) async fn state(self: &Arc<Self>, name: &Arc<str>) -> Result<Arc<State>, Error> {
        if let Some(state) = self.mailboxes().get(name) {
            return Ok(Arc::clone(state));
        }
        let _loading = self.loading.lock().await;
        if let Some(state) = self.mailboxes().get(name) {
            return Ok(Arc::clone(state));
        }
        let state = Arc::new(self.load(name).await?);
        self.mailboxes().insert(Arc::clone(name), Arc::clone(&state));
        Ok(state)
    }

    async fn load(&self, name: &Arc<str>) -> Result<State, Error> {
        let wanted = name.to_string();
        // Without them a message would seem to have lost them: then it is not shown at all.
        let kept = self.durable_within(LONG_CALL, move |db, account| db.local_keywords(account, &wanted)).await?;
        let mut overlay = Overlay::new(&kept);
        let wanted = name.to_string();
        let loaded = self
            .disk(move |store| {
                let id = store.mailbox_id(&wanted)?;
                let record = store.mailboxes()?.into_iter().find(|(known, _)| *known == id).map(|(_, record)| record);
                let (messages, log) = (store.load(id)?, store.vanished(id)?);
                let validity = record.as_ref().map_or(UidValidity(0), |record| record.uid_validity);
                let octets = store.octets(id, validity)?;
                let mark = match resume::blob_name(&wanted) {
                    Some(name) if validity == UidValidity(0) && !messages.is_empty() => store.blob(&name)?,
                    _ => None,
                };
                Ok((id, record, messages, log, octets, mark))
            })
            .await;
        let empty = Snapshot::empty(Arc::clone(name));
        let Ok((id, record, messages, (entries, floor), octets, mark)) = loaded else {
            // Passing through without a store: an id no store hands out.
            let id = MailboxId::transient(self.next_opening());
            let state = State::new(id, empty, Turn::default(), VanishedLog::default());
            state.set_store_lost();
            return Ok(state.with_local(Local::new(overlay)));
        };
        let Some(mut record) = record else {
            let state = State::new(id, empty, Turn::default(), VanishedLog::default());
            return Ok(state.with_local(Local::new(overlay)));
        };
        let base = Snapshot { highest_modseq: record.highest_modseq, ..empty };
        let whole = record.uid_validity != UidValidity(0) && messages.len() == record.exists as usize;
        if !whole {
            if record.uid_validity != UidValidity(0) {
                warn!(account = %self.label(), mailbox = %name, expected = record.exists, found = messages.len(),
                    "the cache has lost messages of this mailbox: it is read anew");
            }
            // A first reading goes on where it was.
            let turn = Turn { reading: resume::kept(mark.as_deref(), &messages), ..Turn::default() };
            let state = State::new(id, base, turn, VanishedLog::default());
            return Ok(state.with_local(Local::new(overlay)));
        }
        let mut messages = messages;
        overlay.enter(record.uid_validity);
        let changed = kept.get(&record.uid_validity).map(|kept| kept.changed.clone()).unwrap_or_default();
        let fresh = ModSeq(now_ms().max(record.highest_modseq.0 + 1));
        let late = overlay.restore(&mut messages, &changed, record.highest_modseq, fresh);
        let mut is_stored = true;
        if !late.is_empty() {
            record.highest_modseq = fresh;
            let record = record.clone();
            let stored =
                self.disk_within(LONG_CALL, move |store| store.commit(id, &late, &UidSet::new(), &record)).await;
            is_stored = stored.is_ok();
        }
        let base = Snapshot {
            uid_validity: record.uid_validity,
            uid_next: record.uid_next,
            permanent: record.permanent.as_deref().map(|text| Flags::parse(text.split(' '))),
            read_only: record.read_only,
            highest_modseq: record.highest_modseq,
            ..base
        };
        let turn = Turn { upstream_modseq: record.upstream_modseq, complete: true, ..Turn::default() };
        let octets = by_uid(&messages, octets);
        let state = State::new(id, mirror::restore(base, messages), turn, VanishedLog::new(entries, floor));
        state.set_octets(octets);
        if !is_stored {
            state.set_store_lost();
        }
        Ok(state.with_local(Local::new(overlay)))
    }

    /// Every mailbox the mirror holds now.
    pub(crate) fn states(&self) -> Vec<Arc<State>> {
        self.mailboxes().values().cloned().collect()
    }

    pub(crate) fn known_state(&self, name: &str) -> Option<Arc<State>> {
        self.mailboxes().get(name).cloned()
    }

    /// Drops a state: sessions that have it selected end, the next open begins anew.
    pub(crate) fn forget(&self, state: &Arc<State>) {
        let mut mailboxes = self.mailboxes();
        if mailboxes.get(&state.name).is_some_and(|known| Arc::ptr_eq(known, state)) {
            mailboxes.remove(&state.name);
        }
        drop(mailboxes);
        state.kill();
    }

    /// Takes note of what POP3 has sent of a message, for its LIST.
    pub(crate) fn note_octets(self: &Arc<Self>, state: &Arc<State>, uid: Uid, octets: u64) {
        if state.note_octets(uid, octets) {
            let (account, key) = (Arc::clone(self), state.body_key(&state.snapshot(), uid));
            // What cannot be kept is found again when the message is next sent.
            self.tasks.spawn(async move { account.disk(move |store| store.put_octets(key, octets)).await });
        }
    }

    fn mailboxes(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Arc<State>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Octets kept by body, by the UIDs of the messages that have these bodies.
fn by_uid(messages: &[MessageMeta], octets: Vec<(BodyKey, u64)>) -> HashMap<Uid, u32> {
    let mut own = HashMap::new();
    let mut provider: HashMap<u64, u32> = HashMap::new();
    for (key, octets) in octets {
        let Ok(octets) = u32::try_from(octets) else { continue };
        match key {
            BodyKey::Message { uid, .. } => drop(own.insert(uid, octets)),
            BodyKey::Provider(id) => drop(provider.insert(id, octets)),
        }
    }
    if !provider.is_empty() {
        let known = messages.iter().filter(|message| message.gm_msgid != 0);
        own.extend(known.filter_map(|message| Some((message.uid, *provider.get(&message.gm_msgid)?))));
    }
    own
}
