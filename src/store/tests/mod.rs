//! The store as a whole: random operations against a model, damage, crashes, a full disk, eviction.

mod crash;
mod damage;
mod random;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;
use crate::model::{Flags, InternalDate, MessageMeta, UidSet};

fn options() -> Options {
    Options { page_cache: 16 << 20, disk_reserve: 0 }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, &options()).unwrap()
}

fn message(uid: u32, modseq: u64, flags: &str) -> MessageMeta {
    MessageMeta {
        uid: Uid(uid),
        flags: Flags::parse(flags.split_whitespace()),
        modseq: ModSeq(modseq),
        internal_date: InternalDate { seconds: i64::from(uid) * 1000, zone: 60 },
        size: uid * 3,
        gm_msgid: 0,
    }
}

fn record(name: &str, validity: u32, modseq: u64, exists: u32) -> MailboxRecord {
    MailboxRecord {
        name: name.into(),
        uid_validity: UidValidity(validity),
        uid_next: Uid(exists + 1),
        highest_modseq: ModSeq(modseq),
        exists,
        ..MailboxRecord::default()
    }
}

fn key(mailbox: MailboxId, validity: u32, uid: u32) -> BodyKey {
    BodyKey::Message { mailbox, uid_validity: UidValidity(validity), uid: Uid(uid) }
}

/// Bytes that do not compress, the same for the same seed.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn summary(seed: u64, len: usize) -> SummaryRecord {
    let part = |n: u64, len: usize| Bytes::from(noise(seed * 4 + n, len));
    SummaryRecord {
        header: part(0, len * 2),
        envelope: part(1, len / 3 + 1),
        body_structure: part(2, len / 2 + 1),
        body: part(3, len / 2 + 2),
    }
}

#[test]
fn one_file_serves_all_keys_that_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = store.mailbox_id("INBOX").unwrap();
    let raw = noise(1, 50_000);
    let keys = [BodyKey::Provider(9), key(id, 1, 1), key(id, 1, 2)];
    for of in &keys[..2] {
        store.put_body(*of, &raw).unwrap();
    }
    store.alias(&[(keys[0], keys[2])]).unwrap();
    let taken = store.file_bytes();
    assert!(taken < 60_000, "one file, not three: {taken}");
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    store.remove_bodies(&keys[..2]).unwrap();
    assert_eq!(store.body(keys[2]).unwrap().as_deref(), Some(&*raw), "the last key still has it");
    assert_eq!(store.file_bytes(), taken);
    store.remove_bodies(&keys[2..]).unwrap();
    assert_eq!(store.file_bytes(), 0);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[test]
fn the_first_answer_told_is_the_one_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (n, len) in [(1, 30), (2, 1000), (3, 5000), (4, 40_000)] {
        let key = BodyKey::Provider(n);
        let full = summary(n, len);
        let envelope = SummaryRecord { envelope: full.envelope.clone(), ..SummaryRecord::default() };
        store.put_summaries(&[(key, envelope.clone())]).unwrap();
        assert_eq!(store.summaries(&[key], SummaryWant::ALL).unwrap(), [Some(envelope)]);
        // Both in one call: the first of them fills what is empty.
        store.put_summaries(&[(key, full.clone()), (key, summary(99, 50))]).unwrap();
        assert_eq!(store.summaries(&[key], SummaryWant::ALL).unwrap(), [Some(full.clone())]);
        let want = SummaryWant { header: true, ..SummaryWant::default() };
        let header = SummaryRecord { header: full.header, ..SummaryRecord::default() };
        assert_eq!(store.summaries(&[key, BodyKey::Provider(77)], want).unwrap(), [Some(header), None]);
        assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{len}");
    }
}

#[test]
fn least_recently_read_goes_first() {
    static HOUR: AtomicU32 = AtomicU32::new(0);
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open_at(dir.path(), &options(), || HOUR.load(Ordering::Relaxed)).unwrap();
    let mut store = open();
    let keys: Vec<_> = (1..=10).map(BodyKey::Provider).collect();
    for (hour, key) in (100..).zip(&keys) {
        HOUR.store(hour, Ordering::Relaxed);
        store.put_body(*key, &noise(hour.into(), 60_000)).unwrap();
    }
    HOUR.store(200, Ordering::Relaxed);
    assert!(store.body(keys[0]).unwrap().is_some());
    drop(store);
    store = open();
    let half = store.file_bytes() / 2;
    let freed = store.evict(half).unwrap();
    assert!(freed > 0 && store.file_bytes() <= half);
    let want = [true, false, false, false, false, false, true, true, true, true];
    assert_eq!(store.has_bodies(&keys).unwrap(), want);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    store.evict(0).unwrap();
    assert_eq!(store.file_bytes(), 0);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[test]
fn below_the_reserve_nothing_is_written_and_everything_read() {
    let dir = tempfile::tempdir().unwrap();
    let body = noise(5, 9000);
    let store = open(dir.path());
    let id = store.mailbox_id("INBOX").unwrap();
    store.commit(id, &[message(1, 5, "a")], &UidSet::new(), &record("INBOX", 1, 5, 1)).unwrap();
    store.put_body(key(id, 1, 1), &body).unwrap();
    drop(store);

    let full = Store::open(dir.path(), &Options { disk_reserve: u64::MAX, ..options() }).unwrap();
    let is_full = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Full)), "{result:?}");
    is_full(full.put_body(key(id, 1, 2), &body));
    is_full(full.put_summaries(&[(key(id, 1, 1), summary(1, 10))]));
    is_full(full.commit(id, &[message(2, 6, "")], &UidSet::new(), &record("INBOX", 1, 6, 2)));
    is_full(full.put_mailbox(id, &record("INBOX", 1, 6, 2)));
    is_full(full.put_blob("folders", b"x"));
    is_full(full.set_marker(1));
    is_full(full.mailbox_id("new").map(|_| ()));
    assert_eq!(full.mailbox_id("INBOX").unwrap(), id);
    assert_eq!(full.load(id).unwrap().len(), 1);
    assert_eq!(full.body(key(id, 1, 1)).unwrap().as_deref(), Some(&*body));
    assert!(full.evict(0).unwrap() > 0, "room can still be made");
    drop(full);

    let store = open(dir.path());
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    store.put_body(key(id, 1, 2), &body).unwrap();
    assert_eq!(store.body(key(id, 1, 2)).unwrap().as_deref(), Some(&*body));
}

#[test]
fn the_expunge_log_is_bounded_and_says_from_when_it_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = store.mailbox_id("INBOX").unwrap();
    assert_eq!(store.vanished(id).unwrap().1, ModSeq(u64::MAX >> 1), "never told anything");
    store.put_mailbox(id, &record("INBOX", 1, 1000, 0)).unwrap();
    assert_eq!(store.vanished(id).unwrap(), (vec![], ModSeq(1000)));
    // Two under one mod-sequence, one of them long.
    let long: UidSet = (1..3000).map(|n| n * 2).collect();
    store.commit(id, &[], &long, &record("INBOX", 1, 1001, 0)).unwrap();
    store.commit(id, &[], &UidSet::parse("1,3").unwrap(), &record("INBOX", 1, 1001, 0)).unwrap();
    let (log, floor) = store.vanished(id).unwrap();
    assert_eq!((log, floor), (vec![(ModSeq(1001), long.union(&UidSet::parse("1,3").unwrap()))], ModSeq(1000)));
    let last = 1001 + 10_000;
    for modseq in 1002..=last {
        let uid = UidSet::parse("9").unwrap();
        store.commit(id, &[], &uid, &record("INBOX", 1, modseq, 0)).unwrap();
    }
    let (log, floor) = store.vanished(id).unwrap();
    assert!((9_000..=10_000).contains(&log.len()), "{}", log.len());
    assert!(log.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(log.first().map(|entry| entry.0.0), Some(floor.0 + 1), "complete from the floor on");
    assert_eq!(log.last().map(|entry| entry.0.0), Some(last));
    store.clear(id).unwrap();
    assert_eq!(store.vanished(id).unwrap(), (vec![], ModSeq(u64::MAX >> 1)));
}

#[test]
fn a_mailbox_keeps_its_id_through_a_rename_and_no_id_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (a, b) = (store.mailbox_id("a").unwrap(), store.mailbox_id("b").unwrap());
    store.commit(a, &[message(1, 2, "")], &UidSet::new(), &record("a", 7, 2, 1)).unwrap();
    assert!(store.put_mailbox(a, &record("b", 7, 2, 1)).is_err(), "the name is taken");
    store.put_mailbox(a, &record("c", 7, 2, 1)).unwrap();
    assert_eq!(store.mailbox_id("c").unwrap(), a);
    assert_eq!(store.load(a).unwrap().len(), 1);
    store.put_body(key(b, 1, 1), b"small").unwrap();
    store.put_body(key(b, 1, 2), &noise(3, 9000)).unwrap();
    store.remove_mailbox(b).unwrap();
    assert_eq!(store.has_bodies(&[key(b, 1, 1), key(b, 1, 2)]).unwrap(), [false, false]);
    assert_eq!(store.file_bytes(), 0);
    drop(store);
    store = open(dir.path());
    let new = store.mailbox_id("b").unwrap();
    assert!(new > b && new != a);
    assert_ne!(store.mailbox_id("a").unwrap(), a);
    assert_eq!(store.mailbox_id("c").unwrap(), a);
}

#[test]
fn large_bodies_are_read_piece_by_piece() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (n, len) in [(1, 0), (2, 300), (3, 600_000), (4, 1_500_000)] {
        let (key, raw) = (BodyKey::Provider(n), noise(n, len));
        store.put_body(key, &raw).unwrap();
        let mut reader = store.open_body(key).unwrap().unwrap();
        assert_eq!(reader.len(), len as u64);
        let mut got = Vec::new();
        while let Some((chunk, hash)) = reader.next_chunk().unwrap() {
            assert_eq!(*blake3::hash(&chunk).as_bytes(), hash);
            got.extend_from_slice(&chunk);
            // Evicted under the reader: what is open stays readable.
            store.remove_bodies(&[key]).unwrap();
        }
        assert!(got == raw, "{len}");
    }
    assert!(store.open_body(BodyKey::Provider(9)).unwrap().is_none());
}

#[test]
fn two_at_once_are_refused_and_nothing_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put_blob("x", b"y").unwrap();
    assert!(Store::open(dir.path(), &options()).is_err());
    assert_eq!(store.blob("x").unwrap().as_deref(), Some(&b"y"[..]));
    drop(store);
    let store = open(dir.path());
    assert!(!store.was_reset() && !store.is_new());
    assert_eq!(store.blob("x").unwrap().as_deref(), Some(&b"y"[..]));
}

#[test]
fn a_bloated_database_is_copied_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = store.mailbox_id("INBOX").unwrap();
    for round in 0..3u64 {
        let records: Vec<_> =
            (1..=200u32).map(|uid| (key(id, 1, uid), summary(round * 1000 + u64::from(uid), 300))).collect();
        store.put_summaries(&records).unwrap();
    }
    let all: Vec<_> = (1..=200u32).map(|uid| message(uid, 3, "x")).collect();
    store.commit(id, &all, &UidSet::new(), &record("INBOX", 1, 3, 200)).unwrap();
    store.put_body(key(id, 1, 1), &noise(1, 9000)).unwrap();
    store.sweep().unwrap();
    assert!(!rewrite::is_due(dir.path(), &store.inner.trees).unwrap(), "a small one stays");
    rewrite::copy(dir.path(), &store.inner.trees, 1 << 20).unwrap();
    drop(store);
    // Every state a crash can leave behind.
    std::fs::rename(dir.path().join("db"), dir.path().join("db.old")).unwrap();
    for _ in 0..2 {
        let store = open(dir.path());
        assert!(!store.is_new() && !store.was_reset());
        assert_eq!(store.load(id).unwrap(), all);
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        drop(store);
        assert!(!dir.path().join("db.old").exists() && !dir.path().join("db.new").exists());
        std::fs::create_dir(dir.path().join("db.new")).unwrap();
    }
    // A log far larger than what the sweep has counted: the next open copies it, and nothing is missing.
    std::fs::write(dir.path().join("db").join("ballast"), vec![1; 65 << 20]).unwrap();
    let store = open(dir.path());
    assert!(!dir.path().join("db").join("ballast").exists(), "a fresh directory");
    assert!(!store.is_new() && !store.was_reset());
    assert_eq!(store.load(id).unwrap(), all);
    assert_eq!(store.body(key(id, 1, 1)).unwrap().as_deref(), Some(&*noise(1, 9000)));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

/// Random numbers with a seed that is told when a test fails.
struct Dice {
    rng: StdRng,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.random_range(0..limit)
    }
}
