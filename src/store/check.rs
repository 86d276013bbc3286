//! Comparing everything with everything: for `mailweir cache check` and the end of tests. Changes nothing.

use std::collections::{HashMap, HashSet};

use super::files::{Hash, on_disk};
use super::key::{self, Key, Owner};
use super::value::{self, BodyRecord, Long, Messages, Place, name_of};
use super::{Error, Inner, MailboxId, Store};

/// Findings told; a store with more is lost anyway, and the list must not fill the memory.
const FINDINGS: usize = 1000;

/// Records between two words about how far it is.
const TELL: u64 = 64;

/// Findings so far, and how far it is.
struct Findings<'a> {
    told: Vec<String>,
    untold: usize,
    seen: u64,
    of: u64,
    watch: &'a dyn Fn(u64, u64),
}

impl Findings<'_> {
    /// One more record is looked at.
    fn step(&mut self) {
        if self.seen.is_multiple_of(TELL) {
            (self.watch)(self.seen, self.of);
        }
        self.seen += 1;
    }

    fn tell(&mut self, finding: impl FnOnce() -> String) {
        if self.told.len() < FINDINGS {
            self.told.push(finding());
        } else {
            self.untold += 1;
        }
    }

    fn ensure(&mut self, holds: bool, finding: impl FnOnce() -> String) {
        if !holds {
            self.tell(finding);
        }
    }
}

impl Store {
    /// Compares everything with everything; the findings in words (empty: sound). Reads and verifies every body, so
    /// it takes its time; writes made meanwhile may show as findings.
    pub fn check(&self) -> Result<Vec<String>, Error> {
        self.check_watched(&|_, _| {})
    }

    /// The same; `watch` is told now and then how many records are looked at, and how many there are.
    pub fn check_watched(&self, watch: &dyn Fn(u64, u64)) -> Result<Vec<String>, Error> {
        let _watch = self.inner.sound()?;
        self.inner.apply_touches()?;
        let trees = &self.inner.trees;
        // A tree is counted by walking it: little beside the reading of every body.
        let of =
            [&trees.idx, &trees.env, &trees.head, &trees.blob, &trees.body].map(|tree| tree.len() as u64).iter().sum();
        let mut findings = Findings { told: Vec::new(), untold: 0, seen: 0, of, watch };
        self.inner.check_mailboxes(&mut findings)?;
        self.inner.check_summaries(&mut findings)?;
        self.inner.check_bodies(&mut findings)?;
        self.inner.check_files(&mut findings)?;
        if findings.untold > 0 {
            findings.told.push(format!("and {} more", findings.untold));
        }
        Ok(findings.told)
    }
}

impl Inner {
    fn check_mailboxes(&self, findings: &mut Findings<'_>) -> Result<(), Error> {
        let mut counts: HashMap<MailboxId, u32> = HashMap::new();
        let mut reader = Messages::default();
        for row in &self.trees.idx {
            findings.step();
            let (key, value) = self.sled(row)?;
            let message = key::uid_of(&key).and_then(|uid| reader.read(uid, &value));
            match (key::mailbox_of(&key), message) {
                (Some(id), Some(_)) => *counts.entry(id).or_default() += 1,
                _ => findings.tell(|| format!("index record {key:02x?}: damaged")),
            }
        }
        let mut known = HashSet::new();
        let mut names = HashSet::new();
        for row in &self.trees.mbox {
            let (key, value) = self.sled(row)?;
            let (Some(id), Some(record)) = (key::mailbox_of(&key), value::mailbox_record(&value)) else {
                findings.tell(|| format!("mailbox record {key:02x?}: damaged"));
                continue;
            };
            known.insert(id);
            let count = counts.get(&id).copied().unwrap_or(0);
            findings.ensure(count == record.exists, || {
                format!("mailbox {} ({:?}): {count} of {} messages", id.0, record.name, record.exists)
            });
            findings.ensure(names.insert(record.name.clone()), || format!("two mailboxes named {:?}", record.name));
        }
        for id in counts.keys().filter(|id| !known.contains(id)) {
            findings.tell(|| format!("messages of mailbox {}, which has no record", id.0));
        }
        for row in &self.trees.gone {
            let (key, value) = self.sled(row)?;
            findings.ensure(value::vanished_set(&value).is_some(), || format!("expunge log {key:02x?}: damaged"));
        }
        for row in &self.trees.mark {
            let (key, value) = self.sled(row)?;
            findings.ensure(value::number(&value).is_some(), || format!("begin of log {key:02x?}: damaged"));
        }
        Ok(())
    }

    fn check_summaries(&self, findings: &mut Findings<'_>) -> Result<(), Error> {
        let trees = [("envelope", &self.trees.env), ("header", &self.trees.head), ("blob", &self.trees.blob)];
        for (what, tree) in trees {
            for row in tree {
                findings.step();
                let (key, value) = self.sled(row)?;
                let name = || if what == "blob" { format!("{key:?}") } else { name_of(&key) };
                findings.ensure(self.long_read(&value)?.is_some(), || format!("{what} of {}: unreadable", name()));
                if let Some(Long::File { hash, .. }) = Long::read(&value) {
                    let owner = match what {
                        "envelope" => Owner::Envelope(&key),
                        "header" => Owner::Header(&key),
                        _ => Owner::Blob(&key),
                    };
                    let referred = self.sled(self.trees.file.contains_key(owner.reference(&hash)))?;
                    findings.ensure(referred, || format!("{what} of {}: its file is not referred to", name()));
                }
            }
        }
        Ok(())
    }

    fn check_bodies(&self, findings: &mut Findings<'_>) -> Result<(), Error> {
        for row in &self.trees.body {
            findings.step();
            let (key, value) = self.sled(row)?;
            let name = || name_of(&key);
            let Some(record) = BodyRecord::read(&value) else {
                findings.tell(|| format!("body of {}: record damaged", name()));
                continue;
            };
            let body = self.body_bytes(&key, &record)?.filter(|body| blake3::hash(body) == record.hash);
            findings.ensure(body.is_some(), || format!("body of {}: unreadable", name()));
            let listed = self.sled(self.trees.lru.contains_key(Key::lru(record.hour, &key)))?;
            findings.ensure(listed, || format!("body of {}: not in the LRU", name()));
            let small = self.sled(self.trees.small.contains_key(&key))?;
            findings.ensure(small == (record.place == Place::Inline), || format!("body of {}: in two places", name()));
            if record.place == Place::File {
                let referred = self.sled(self.trees.file.contains_key(Owner::Body(&key).reference(&record.hash)))?;
                findings.ensure(referred, || format!("body of {}: its file is not referred to", name()));
            }
        }
        for row in self.trees.small.iter().keys() {
            let key = self.sled(row)?;
            let known = self.sled(self.trees.body.contains_key(&key))?;
            findings.ensure(known, || format!("small body of {}: no record", name_of(&key)));
        }
        for row in self.trees.lru.iter().keys() {
            let row = self.sled(row)?;
            let Some((hour, key)) = key::lru_entry(&row) else {
                findings.tell(|| format!("LRU entry {row:02x?}: malformed"));
                continue;
            };
            let right = self.body_record(key)?.is_some_and(|record| record.hour == hour);
            findings.ensure(right, || format!("LRU entry of {}: leads nowhere", name_of(key)));
        }
        Ok(())
    }

    fn check_files(&self, findings: &mut Findings<'_>) -> Result<(), Error> {
        let mut present: HashMap<Hash, u64> = HashMap::new();
        let walked = self.files.walk(|hash, len, path| match hash {
            Some(hash) => drop(present.insert(hash, len)),
            None => findings.tell(|| format!("{}: not a body file", path.display())),
        });
        self.file(walked)?;
        let mut referred = HashSet::new();
        for row in &self.trees.file {
            let (row, value) = self.sled(row)?;
            let Some((hash, owner)) = Owner::of(&row) else {
                findings.tell(|| format!("reference {row:02x?}: malformed"));
                continue;
            };
            referred.insert(hash);
            let name = || blake3::Hash::from_bytes(hash).to_hex();
            findings
                .ensure(self.refers(owner, &hash)?, || format!("file {}: {owner:02x?} does not refer to it", name()));
            match present.get(&hash) {
                None => findings.tell(|| format!("file {}: absent", name())),
                Some(len) => findings.ensure(value::number(&value) == Some(*len), || {
                    format!("file {}: {len} bytes, {:?} in the reference", name(), value::number(&value))
                }),
            }
        }
        for hash in present.keys().filter(|hash| !referred.contains(*hash)) {
            findings.tell(|| format!("file {}: nobody refers to it", blake3::Hash::from_bytes(*hash).to_hex()));
        }
        let sum: u64 = present.values().map(|len| on_disk(*len)).sum();
        let counted = self.files.bytes();
        findings.ensure(sum == counted, || format!("body files take {sum} bytes, {counted} were counted"));
        Ok(())
    }

    fn refers(&self, owner: Owner<'_>, hash: &Hash) -> Result<bool, Error> {
        let value = match owner {
            Owner::Body(key) => {
                let record = self.body_record(key)?;
                return Ok(record.is_some_and(|record| record.place == Place::File && record.hash == *hash));
            }
            Owner::Envelope(key) => self.trees.env.get(key),
            Owner::Header(key) => self.trees.head.get(key),
            Owner::Blob(key) => self.trees.blob.get(key),
        };
        let value = self.sled(value)?;
        Ok(matches!(value.as_deref().and_then(Long::read), Some(Long::File { hash: of, .. }) if of == *hash))
    }
}
