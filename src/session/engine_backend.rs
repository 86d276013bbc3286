//! The real engine behind the session's seam: every call handed on as it is.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::backend;
use crate::engine::{
    Account, Append, Appended, Body, BodyReads, Copied, CopyMode, Error, Mailbox, Record, Snapshot, StatusData,
    Summary, Want,
};
use crate::model::{Arrivals, FlagOp, Flags, Folders, ModSeq, Role, Section, Uid, UidSet};

impl backend::Account for Account {
    type Mailbox = Mailbox;

    fn address(&self) -> &str {
        Self::address(self)
    }

    fn alert(&self) -> Option<Arc<str>> {
        Self::alert(self)
    }

    fn notice(&self) -> Option<String> {
        Self::notice(self)
    }

    fn name_program(&self, program: &str) {
        Self::name_program(self, program);
    }

    async fn folders(&self) -> Result<Arc<Folders>, Error> {
        Self::folders(self).await
    }

    async fn takes_messages(&self, name: &str) -> Result<bool, Error> {
        Self::takes_messages(self, name).await
    }

    async fn open(&self, name: &str) -> Result<Mailbox, Error> {
        Self::open(self, name).await
    }

    async fn open_mirrored(&self, name: &str) -> Result<Mailbox, Error> {
        Self::open_mirrored(self, name).await
    }

    async fn status(&self, name: &str) -> Result<StatusData, Error> {
        Self::status(self, name).await
    }

    async fn create(&self, name: &str, role: Option<Role>) -> Result<(), Error> {
        Self::create(self, name, role).await
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        Self::delete(self, name).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        Self::rename(self, from, to).await
    }

    async fn subscribe(&self, name: &str, on: bool) -> Result<(), Error> {
        Self::subscribe(self, name, on).await
    }

    async fn append(&self, mailbox: &str, messages: Vec<Append>) -> Result<Option<Appended>, Error> {
        Self::append(self, mailbox, messages).await
    }

    fn append_limit(&self) -> u64 {
        Self::append_limit(self)
    }

    async fn quota(&self, root: &str) -> Result<Vec<Bytes>, Error> {
        Self::quota(self, root).await
    }

    async fn quota_root(&self, mailbox: &str) -> Result<Vec<Bytes>, Error> {
        Self::quota_root(self, mailbox).await
    }

    fn offers_quota(&self) -> bool {
        Self::offers_quota(self)
    }

    fn has_move(&self) -> bool {
        Self::has_move(self)
    }
}

impl backend::Mailbox for Mailbox {
    type Reads = BodyReads;

    fn snapshot(&self) -> Arc<Snapshot> {
        Self::snapshot(self)
    }

    fn name(&self) -> String {
        Self::name(self)
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        Self::watch(self)
    }

    fn arrivals(&self) -> Option<&Arrivals> {
        Some(Self::arrivals(self))
    }

    fn attend(&self) -> Box<dyn Send + Sync> {
        Box::new(Self::attend(self))
    }

    fn vanished_since(&self, since: ModSeq) -> Option<UidSet> {
        Self::vanished_since(self, since)
    }

    async fn summaries(&self, uids: &[Uid], want: Want) -> Vec<Result<Arc<Summary>, Error>> {
        Self::summaries(self, uids, want).await
    }

    fn read(&self, uids: Vec<Uid>) -> BodyReads {
        Self::read(self, uids)
    }

    async fn parts(&self, uid: Uid, sections: &[Section]) -> Result<Option<Vec<Bytes>>, Error> {
        Self::parts(self, uid, sections).await
    }

    fn octets(&self) -> Arc<HashMap<Uid, u32>> {
        Self::octets(self)
    }

    fn note_octets(&self, uid: Uid, octets: u64) {
        Self::note_octets(self, uid, octets);
    }

    async fn store(
        &self,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<UidSet, Error> {
        Self::store(self, uids, op, flags, unchanged_since).await
    }

    async fn expunge(&self, uids: Option<&UidSet>) -> Result<(), Error> {
        Self::expunge(self, uids).await
    }

    async fn copy(&self, uids: &UidSet, to: &str, mode: CopyMode) -> Result<Option<Copied>, Error> {
        Self::copy(self, uids, to, mode).await
    }

    async fn search_text(&self, within: &UidSet, needle: &[u8], body_only: bool) -> Result<UidSet, Error> {
        Self::search_text(self, within, needle, body_only).await
    }

    async fn audit(&self, action: &'static str, uids: &UidSet, tell: impl FnOnce(&mut Record) + Send) {
        Self::audit(self, action, uids, tell).await;
    }

    async fn refresh(&self) -> Result<(), Error> {
        Self::refresh(self).await
    }

    async fn ready_to_change(&self, named: u32) -> Result<(), Error> {
        Self::ready_to_change(self, named).await
    }
}

impl backend::BodyReads for BodyReads {
    type Body = Body;

    async fn next(&mut self) -> Option<(Uid, Result<Body, Error>)> {
        Self::next(self).await
    }
}

impl backend::Body for Body {
    fn len(&self) -> u64 {
        Self::len(self)
    }

    async fn whole(&self) -> Result<Bytes, Error> {
        Self::whole(self).await
    }

    async fn range(&mut self, start: u64, count: u64) -> Result<Bytes, Error> {
        Self::range(self, start, count).await
    }

    async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        Self::chunk(self).await
    }
}
