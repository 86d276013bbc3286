//! A first reading of a large mailbox that a restart, or a kill, does not begin anew: each part is kept in the store as it arrives.
//!
//! What is kept is no mailbox yet: its record knows no UIDVALIDITY, so nobody is shown a part. Beside it stands how far the reading was;
//! it is believed only where it fits the messages that are found from there on; what lies before is of a last step that was cut, and is read
//! again. What has changed since is asked for at the end, as after a broken line.

use std::sync::Arc;

use crate::engine::account::{Inner, LONG_CALL, now_ms};
use crate::engine::mailbox::{Reading, State};
use crate::engine::mirror::{self, Delta};
use crate::engine::snapshot::Snapshot;
use crate::model::{MessageMeta, UidSet, UidValidity};
use crate::store::MailboxRecord;
use crate::upstream::{FetchMeta, Selected};

/// The store's longest name for a blob; a mailbox with a longer one is read in one go.
const NAME_MOST: usize = 200;

/// How far a reading was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    uid_validity: u32,
    upstream_modseq: u64,
    /// UIDs from here on are read.
    from: u32,
    /// Messages that were told of by then.
    messages: u32,
}

impl Mark {
    fn text(self) -> String {
        format!("1 {} {} {} {}", self.uid_validity, self.upstream_modseq, self.from, self.messages)
    }

    fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text.split(' ');
        if words.next()? != "1" {
            return None;
        }
        let (uid_validity, upstream_modseq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (from, messages) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { uid_validity, upstream_modseq, from, messages })
    }
}

/// How the store names it; `None` for a mailbox whose name is too long.
pub(crate) fn blob_name(mailbox: &str) -> Option<String> {
    Some(format!("reading:{mailbox}")).filter(|name| name.len() <= NAME_MOST)
}

/// A reading to go on with, from what the store has kept of it.
pub(crate) fn kept(mark: Option<&[u8]>, messages: &[MessageMeta]) -> Option<Reading> {
    let mark = Mark::read(mark?)?;
    let read = messages.iter().filter(|message| message.uid.0 >= mark.from);
    let count = read.clone().count();
    if count != mark.messages as usize || mark.uid_validity == 0 || count == 0 {
        return None;
    }
    let seen = read.map(|message| FetchMeta {
        uid: Some(message.uid),
        flags: Some(message.flags.clone()),
        internal_date: Some(message.internal_date),
        size: Some(message.size),
        gm_msgid: Some(message.gm_msgid).filter(|id| *id != 0),
        ..FetchMeta::default()
    });
    Some(Reading {
        uid_validity: UidValidity(mark.uid_validity),
        upstream_modseq: mark.upstream_modseq,
        seen: seen.collect(),
        from: Some(mark.from),
        is_kept: true,
    })
}

impl Inner {
    /// Keeps what a part of a reading has brought, which begins at `begin` of what was seen. A failure is told by `disk`, and costs no
    /// more than reading it again; no later part is kept then, as none would be believed without this one, and a disk that hangs is to hold
    /// up a reading once.
    pub(super) async fn keep_reading(
        self: &Arc<Self>,
        state: &Arc<State>,
        selected: &Selected,
        reading: &mut Reading,
        begin: usize,
    ) {
        let (Some(blob), Some(from)) = (blob_name(&state.name), reading.from) else { return };
        if begin > 0 && !reading.is_kept {
            return;
        }
        let all = |seen: &[FetchMeta]| {
            let base = Snapshot::empty(Arc::clone(&state.name));
            mirror::merge(&base, Delta { seen: seen.to_vec(), ..Delta::default() }, now_ms()).upserts
        };
        let part = all(reading.seen.get(begin..).unwrap_or_default());
        let whole = |seen: &&FetchMeta| seen.flags.is_some() && seen.internal_date.is_some() && seen.size.is_some();
        let mut uids: Vec<_> = reading.seen.iter().filter(whole).filter_map(|seen| seen.uid).collect();
        uids.sort_unstable();
        uids.dedup();
        let messages = u32::try_from(uids.len()).unwrap_or(u32::MAX);
        let mark =
            Mark { uid_validity: reading.uid_validity.0, upstream_modseq: reading.upstream_modseq, from, messages };
        let record = MailboxRecord {
            name: state.name.to_string(),
            uid_validity: UidValidity(0),
            uid_next: selected.uid_next,
            highest_modseq: state.snapshot().highest_modseq,
            upstream_modseq: 0,
            exists: messages,
            read_only: false,
            permanent: None,
        };
        let _storing = state.storing.lock().await;
        let id = state.id();
        let kept = self.disk_within(LONG_CALL, move |store| {
            if begin == 0 {
                store.clear(id)?;
            }
            store.commit(id, &part, &UidSet::new(), &record)?;
            store.put_blob(&blob, mark.text().as_bytes())
        });
        reading.is_kept = kept.await.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Flags, InternalDate, ModSeq, Uid};

    fn message(uid: u32) -> MessageMeta {
        MessageMeta {
            uid: Uid(uid),
            flags: Flags::default(),
            modseq: ModSeq(9),
            internal_date: InternalDate::default(),
            size: 10,
            gm_msgid: 0,
        }
    }

    #[test]
    fn a_mark_is_believed_where_it_fits() {
        let mark = Mark { uid_validity: 7, upstream_modseq: 1 << 40, from: 11, messages: 2 };
        assert_eq!(Mark::read(mark.text().as_bytes()), Some(mark));
        let two = [message(11), message(30)];
        let reading = kept(Some(mark.text().as_bytes()), &two).unwrap();
        assert_eq!((reading.uid_validity, reading.upstream_modseq, reading.from), (UidValidity(7), 1 << 40, Some(11)));
        assert_eq!(reading.seen.iter().filter_map(|meta| meta.uid).collect::<Vec<_>>(), [Uid(11), Uid(30)]);
        for text in
            ["", "1", "1 7 5 11", "1 7 5 11 2 3", "2 7 5 11 2", "1 7 5 12 2", "1 7 5 11 3", "1 0 5 11 2", "1 x 5 11 2"]
        {
            assert!(kept(Some(text.as_bytes()), &two).is_none(), "{text:?}");
        }
        // A last step that was cut: some of what was not read by then is there, too.
        let more = [message(3), message(10), message(11), message(30)];
        let reading = kept(Some(mark.text().as_bytes()), &more).unwrap();
        assert_eq!(reading.seen.iter().filter_map(|meta| meta.uid).collect::<Vec<_>>(), [Uid(11), Uid(30)]);
        assert!(kept(None, &two).is_none());
        assert!(kept(Some(b"1 7 5 11 0"), &[]).is_none());
        assert_eq!(blob_name(&"x".repeat(193)), None);
    }
}
