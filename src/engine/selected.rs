//! The handle a session holds on a mailbox it has selected.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::account::Inner;
use super::appetite::Appetite;
use super::audit::{Client, Record, on_behalf};
use super::bodies::BodyReads;
use super::error::Error;
use super::mailbox::State;
use super::snapshot::Snapshot;
use super::summaries::{Summary, Want};
use super::writes::{Copied, CopyMode};
use crate::model::{Arrivals, FlagOp, Flags, ModSeq, Section, Uid, UidSet};
use crate::upstream::Class;

/// A mailbox a session has selected. Cloned freely; while one is alive the mailbox is kept in step.
#[derive(Clone)]
pub struct Mailbox {
    held: Arc<Held>,
}

struct Held {
    account: Arc<Inner>,
    state: Arc<State>,
    appetite: Arc<Appetite>,
    client: Option<Arc<Client>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state.interest.fetch_sub(1, Ordering::Relaxed);
        self.account.interest_changed();
    }
}

impl Mailbox {
    pub(crate) fn new(
        account: Arc<Inner>,
        state: Arc<State>,
        appetite: Arc<Appetite>,
        client: Option<Arc<Client>>,
    ) -> Self {
        state.interest.fetch_add(1, Ordering::Relaxed);
        state.opened.store(account.next_opening(), Ordering::Relaxed);
        account.interest_changed();
        Self { held: Arc::new(Held { account, state, appetite, client }) }
    }

    /// The newest version.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.held.state.snapshot()
    }

    /// What clients call it now.
    pub fn name(&self) -> String {
        self.held.account.shown_name(&self.held.state.name)
    }

    /// Wakes when a newer snapshot is there.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.held.state.newest.subscribe()
    }

    /// Which messages no session has been told of.
    pub fn arrivals(&self) -> &Arrivals {
        &self.held.state.arrivals
    }

    /// Held while a client waits for news (IDLE): upstream is then asked more often, where it does not tell by itself.
    pub fn attend(&self) -> Attending {
        Attending::new(Arc::clone(&self.held))
    }

    /// What vanished after `since` (RFC 7162 VANISHED (EARLIER)); `None` if the log does not reach back so far: the
    /// caller then names every UID of the asked set, below UIDNEXT, that does not exist.
    pub fn vanished_since(&self, since: ModSeq) -> Option<UidSet> {
        self.held.state.log.lock().unwrap_or_else(PoisonError::into_inner).since(since)
    }

    /// Envelope, structure and header of some messages, in the order asked; each may fail by itself.
    pub async fn summaries(&self, uids: &[Uid], want: Want) -> Vec<Result<Arc<Summary>, Error>> {
        self.held.account.summaries(&self.held.state, uids, want).await
    }

    /// Reads whole messages in the order given, ahead from disk and upstream.
    pub fn read(&self, uids: Vec<Uid>) -> BodyReads {
        let Held { account, state, appetite, .. } = &*self.held;
        BodyReads::new(Arc::clone(account), Arc::clone(state), Arc::clone(appetite), uids)
    }

    /// Sections of one large message, asked of upstream without the whole of it; in the order asked. `None` where they are to be cut
    /// from the whole message: it is small, or here, or on its way, or mostly wanted, or upstream's parts cannot be trusted.
    pub async fn parts(&self, uid: Uid, sections: &[Section]) -> Result<Option<Vec<Bytes>>, Error> {
        self.held.account.parts(&self.held.state, uid, sections).await
    }

    /// Octets POP3's RETR sends, of messages of which RFC822.SIZE is known to tell another number.
    pub fn octets(&self) -> Arc<HashMap<Uid, u32>> {
        self.held.state.octets()
    }

    /// Takes note of how many octets RETR has just sent of a message.
    pub fn note_octets(&self, uid: Uid, octets: u64) {
        self.held.account.note_octets(&self.held.state, uid, octets);
    }

    /// STORE (RFC 9051 §6.4.6). When it returns the newest snapshot holds the new flags. The result names what failed
    /// UNCHANGEDSINCE (RFC 7162 §3.1.3).
    pub async fn store(
        &self,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<UidSet, Error> {
        self.held.account.store_flags(&self.held.state, uids, op, flags, unchanged_since).await
    }

    /// EXPUNGE, or UID EXPUNGE of some (RFC 4315). When it returns the newest snapshot lacks them.
    pub async fn expunge(&self, uids: Option<&UidSet>) -> Result<(), Error> {
        let work = self.held.account.expunge(&self.held.state, uids);
        on_behalf(self.held.client.clone(), work).await
    }

    /// COPY or MOVE; `None` when upstream told no COPYUID.
    pub async fn copy(&self, uids: &UidSet, to: &str, mode: CopyMode) -> Result<Option<Copied>, Error> {
        let to = self.held.account.upstream_name(to).await?;
        let work = self.held.account.copy(&self.held.state, uids, &to, mode);
        on_behalf(self.held.client.clone(), work).await
    }

    /// Tells the trail of what a session has done with messages by itself; of what it asked for here is told already.
    pub async fn audit(&self, action: &'static str, uids: &UidSet, tell: impl FnOnce(&mut Record)) {
        let Held { account, state, client, .. } = &*self.held;
        let Some(mut record) = account.begin_audit(action, state, uids).await else { return };
        record.client.clone_from(client);
        tell(&mut record);
        account.end_audit(Some(record), &Ok(()), UidSet::new());
    }

    /// Which of `within` contain `needle` (UTF-8, without regard to case): in the body, or in header and body.
    pub async fn search_text(&self, within: &UidSet, needle: &[u8], body_only: bool) -> Result<UidSet, Error> {
        self.held.account.search_text(&self.held.state, within, needle, body_only).await
    }

    /// Asks upstream whether anything changed, unless it tells us by itself.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.held.account.refresh(&self.held.state).await
    }

    /// Before a change: what earlier writes have left unfinished here is settled. Then comes a look at upstream, unless there was one since
    /// the mirror was read from disk and no UID is named beyond what it knows. Waits as long as that takes: what cannot be looked at cannot
    /// be changed either.
    pub async fn ready_to_change(&self, named: u32) -> Result<(), Error> {
        let (account, state) = (&self.held.account, &self.held.state);
        // A mark that a plain EXPUNGE has spared and a crash kept away would make the next EXPUNGE of that message an idle one.
        account.settle_left(&[&state.name]).await?;
        if state.checked().is_some() && named < state.snapshot().uid_next.0 {
            return Ok(());
        }
        account.freshen(state, Instant::now(), Class::Interactive).await
    }
}

/// A client waits for news while this lives.
pub struct Attending {
    held: Arc<Held>,
}

impl Attending {
    fn new(held: Arc<Held>) -> Self {
        held.state.begin_attending();
        Self { held }
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        self.held.state.end_attending();
    }
}
