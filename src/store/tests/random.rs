//! Random operations against plain maps, with closing and opening in between.

use std::collections::{BTreeMap, HashMap};

use super::*;

#[derive(Default)]
struct Mailbox {
    record: MailboxRecord,
    messages: BTreeMap<u32, MessageMeta>,
    log: BTreeMap<ModSeq, UidSet>,
    floor: Option<ModSeq>,
}

#[derive(Default)]
struct Model {
    mailboxes: BTreeMap<MailboxId, Mailbox>,
    bodies: HashMap<BodyKey, Vec<u8>>,
    summaries: HashMap<BodyKey, SummaryRecord>,
}

impl Model {
    fn forget(&mut self, gone: impl Fn(&BodyKey) -> bool) {
        self.bodies.retain(|key, _| !gone(key));
        self.summaries.retain(|key, _| !gone(key));
    }

    fn put_summary(&mut self, key: BodyKey, new: &SummaryRecord) {
        let known = self.summaries.entry(key).or_default();
        let pairs = [
            (&mut known.header, &new.header),
            (&mut known.envelope, &new.envelope),
            (&mut known.body_structure, &new.body_structure),
            (&mut known.body, &new.body),
        ];
        for (known, new) in pairs {
            if known.is_empty() {
                *known = new.clone();
            }
        }
        self.summaries.retain(|_, record| *record != SummaryRecord::default());
    }

    /// What a sweep takes: messages that are gone, but bodies by provider id only when the LRU wants.
    fn sweep(&mut self) {
        let settled = self.mailboxes.values().all(|mailbox| mailbox.record.uid_validity.0 != 0);
        let mailboxes = std::mem::take(&mut self.mailboxes);
        let gone = |key: &BodyKey| match key {
            BodyKey::Provider(_) => false,
            BodyKey::Message { mailbox, uid_validity, uid } => match mailboxes.get(mailbox) {
                Some(of) if of.record.uid_validity.0 == 0 => false,
                Some(of) => of.record.uid_validity != *uid_validity || !of.messages.contains_key(&uid.0),
                None => true,
            },
        };
        self.forget(gone);
        let lives = |id: u64| mailboxes.values().any(|of| of.messages.values().any(|message| message.gm_msgid == id));
        let bodies = &self.bodies;
        self.summaries.retain(|key, _| match key {
            BodyKey::Provider(id) => !settled || bodies.contains_key(key) || lives(*id),
            BodyKey::Message { .. } => true,
        });
        self.mailboxes = mailboxes;
    }

    fn compare(&self, store: &Store, what: &str) {
        let listed: BTreeMap<_, _> = store.mailboxes().unwrap().into_iter().collect();
        assert_eq!(listed, self.mailboxes.iter().map(|(id, of)| (*id, of.record.clone())).collect(), "{what}");
        for (id, of) in &self.mailboxes {
            assert_eq!(store.load(*id).unwrap(), of.messages.values().cloned().collect::<Vec<_>>(), "{what}");
            let (log, floor) = store.vanished(*id).unwrap();
            assert_eq!(log.into_iter().collect::<BTreeMap<_, _>>(), of.log, "{what}");
            assert_eq!(floor, of.floor.unwrap_or(ModSeq(u64::MAX >> 1)), "{what}");
        }
        for (key, raw) in &self.bodies {
            assert!(store.body(*key).unwrap().is_some_and(|body| body == *raw), "{what}: body of {key:?}");
        }
        for (key, record) in &self.summaries {
            assert_eq!(store.summaries(&[*key], SummaryWant::ALL).unwrap(), [Some(record.clone())], "{what}: {key:?}");
        }
        assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}");
    }
}

struct Run {
    dice: Dice,
    model: Model,
    modseq: u64,
}

impl Run {
    fn mailbox(&mut self) -> Option<MailboxId> {
        let count = u32::try_from(self.model.mailboxes.len()).unwrap();
        (count > 0).then(|| *self.model.mailboxes.keys().nth(self.dice.below(count) as usize).unwrap())
    }

    fn key(&mut self) -> BodyKey {
        match self.mailbox() {
            Some(id) if self.dice.below(2) == 0 => key(id, 1 + self.dice.below(3), 1 + self.dice.below(30)),
            _ => BodyKey::Provider(1 + u64::from(self.dice.below(20))),
        }
    }

    /// One of few contents, so that keys share them; from nothing to more than one chunk of a file.
    fn body(&mut self) -> Vec<u8> {
        let which = self.dice.below(12);
        let len = [0, 10, 300, 4000, 4096, 4097, 5000, 9000, 70_000, 70_001, 600_000, 4200][which as usize];
        if which.is_multiple_of(3) {
            noise(which.into(), len)
        } else {
            (0..len).map(|n| (n / 40 % 251) as u8).collect()
        }
    }

    fn commit(&mut self, store: &Store, id: MailboxId) {
        self.modseq += 1 + u64::from(self.dice.below(3));
        let modseq = ModSeq(self.modseq);
        let upserts: Vec<_> = (0..self.dice.below(150))
            .map(|_| {
                let flags = ["", "\\Seen", "\\Seen work", "$Forwarded Junk"][self.dice.below(4) as usize];
                let mut message = message(1 + self.dice.below(200), modseq.0, flags);
                message.gm_msgid = u64::from(self.dice.below(20));
                message
            })
            .collect();
        let mut vanished = UidSet::new();
        for _ in 0..self.dice.below(4) {
            let from = 1 + self.dice.below(200);
            vanished.insert_range(from..=from + self.dice.below(9));
        }
        if self.dice.below(20) == 0 {
            vanished.insert_range(150..=u32::MAX);
        }
        let of = self.model.mailboxes.get_mut(&id).unwrap();
        of.messages.extend(upserts.iter().map(|message| (message.uid.0, message.clone())));
        of.messages.retain(|uid, _| !vanished.contains(*uid));
        if !vanished.is_empty() {
            let logged = of.log.entry(modseq).or_default();
            *logged = logged.union(&vanished);
        }
        of.floor.get_or_insert(modseq);
        let exists = u32::try_from(of.messages.len()).unwrap();
        let validity = of.record.uid_validity.0.max(1);
        of.record = record(&of.record.name, validity, modseq.0, exists);
        store.commit(id, &upserts, &vanished, &of.record).unwrap();
    }

    fn step(&mut self, store: &Store) {
        match self.dice.below(30) {
            0..2 => {
                let name = format!("box {}", self.dice.below(6));
                let id = store.mailbox_id(&name).unwrap();
                let fresh = self.model.mailboxes.entry(id).or_default();
                assert!(fresh.record.name.is_empty() || fresh.record.name == name);
                fresh.record.name = name;
            }
            2..8 => {
                if let Some(id) = self.mailbox() {
                    self.commit(store, id);
                }
            }
            8 => {
                // UIDVALIDITY changes: cleared, then the new record.
                if let Some(id) = self.mailbox() {
                    store.clear(id).unwrap();
                    let of = self.model.mailboxes.get_mut(&id).unwrap();
                    let old = of.record.uid_validity;
                    self.modseq += 1;
                    let fresh = record(&of.record.name, 1 + self.dice.below(3), self.modseq, 0);
                    *of = Mailbox { record: fresh.clone(), floor: Some(ModSeq(self.modseq)), ..Mailbox::default() };
                    store.put_mailbox(id, &fresh).unwrap();
                    self.model.forget(|key| {
                        matches!(key, BodyKey::Message { mailbox, uid_validity, .. } if *mailbox == id && *uid_validity == old)
                    });
                }
            }
            9 => {
                if let Some(id) = self.mailbox() {
                    store.remove_mailbox(id).unwrap();
                    self.model.mailboxes.remove(&id);
                    self.model.forget(|key| matches!(key, BodyKey::Message { mailbox, .. } if *mailbox == id));
                }
            }
            10 => {
                if let Some(id) = self.mailbox() {
                    let name = format!("box {}", self.dice.below(6));
                    let taken = self.model.mailboxes.iter().any(|(other, of)| *other != id && of.record.name == name);
                    let of = self.model.mailboxes.get_mut(&id).unwrap();
                    let renamed = MailboxRecord { name, ..of.record.clone() };
                    assert_eq!(store.put_mailbox(id, &renamed).is_err(), taken);
                    if !taken {
                        of.record = renamed;
                    }
                }
            }
            11..15 => {
                let records: Vec<_> = (0..self.dice.below(5))
                    .map(|_| {
                        let len = [20, 700, 6000, 30_000][self.dice.below(4) as usize];
                        let mut record = summary(self.dice.below(50).into(), len);
                        if self.dice.below(2) == 0 {
                            record.header = Bytes::new();
                        }
                        if self.dice.below(2) == 0 {
                            record.body_structure = Bytes::new();
                        }
                        (self.key(), record)
                    })
                    .collect();
                store.put_summaries(&records).unwrap();
                for (key, record) in &records {
                    self.model.put_summary(*key, record);
                }
            }
            15..22 => {
                let (key, body) = (self.key(), self.body());
                store.put_body(key, &body).unwrap();
                self.model.bodies.insert(key, body);
            }
            22..24 => {
                let key = self.key();
                store.remove_bodies(&[key]).unwrap();
                self.model.bodies.remove(&key);
            }
            24..26 => {
                let (from, to) = (self.key(), self.key());
                store.alias(&[(from, to)]).unwrap();
                if let Some(body) = self.model.bodies.get(&from).cloned() {
                    self.model.bodies.entry(to).or_insert(body);
                }
                if let Some(record) = self.model.summaries.get(&from).cloned() {
                    self.model.put_summary(to, &record);
                }
            }
            26 => {
                store.sweep().unwrap();
                self.model.sweep();
            }
            27 => {
                let target = store.file_bytes() / 2;
                store.evict(target).unwrap();
                assert!(store.file_bytes() <= target || store.file_bytes() > 0);
                self.model.bodies.retain(|key, _| store.has_bodies(&[*key]).unwrap()[0]);
            }
            _ => {
                let key = self.key();
                let read = store.body(key).unwrap();
                assert!(read.as_deref() == self.model.bodies.get(&key).map(Vec::as_slice), "{key:?}");
            }
        }
    }
}

#[test]
fn random_operations_agree_with_maps() {
    for seed in 1..=4 {
        let dir = tempfile::tempdir().unwrap();
        let mut run = Run { dice: Dice::new(seed), model: Model::default(), modseq: 100 };
        for round in 0..6 {
            let store = open(dir.path());
            assert!(!store.was_reset());
            run.model.compare(&store, &format!("seed {seed} round {round}, opened"));
            for _ in 0..60 {
                run.step(&store);
            }
            run.model.compare(&store, &format!("seed {seed} round {round}, worked"));
        }
    }
}

/// Few keys, few contents, everything at once: what is read is always one of the contents that key may have.
#[test]
fn threads_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = store.mailbox_id("INBOX").unwrap();
    let contents: Vec<Vec<u8>> = (0..4).map(|n| noise(n, [800, 6000, 6001, 700_000][n as usize])).collect();
    let keys: Vec<BodyKey> = (1..=5).map(|uid| key(id, 1, uid)).chain((1..=5).map(BodyKey::Provider)).collect();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (store, contents, keys) = (store.clone(), &contents, &keys);
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                for step in 0..250 {
                    let key = keys[dice.below(10) as usize];
                    match dice.below(12) {
                        0..4 => store.put_body(key, &contents[dice.below(4) as usize]).unwrap(),
                        4..8 => {
                            let body = store.body(key).unwrap();
                            assert!(body.is_none_or(|body| contents.iter().any(|of| *of == body)), "{seed} {step}");
                        }
                        8 => store.remove_bodies(&[key]).unwrap(),
                        9 => store.alias(&[(key, keys[dice.below(10) as usize])]).unwrap(),
                        10 => {
                            // The same for all, so that whoever is first has told the right thing.
                            store.put_summaries(&[(key, summary(1, 9000))]).unwrap();
                            let told = store.summaries(&[key], SummaryWant::ALL).unwrap().remove(0);
                            assert!(told.is_none_or(|told| told == summary(1, 9000)), "{seed} {step}");
                        }
                        _ if step % 10 == 0 => drop(store.sweep().unwrap()),
                        _ => drop(store.evict(store.file_bytes() / 2).unwrap()),
                    }
                }
            });
        }
    });
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    drop(store);
    assert_eq!(open(dir.path()).check().unwrap(), Vec::<String>::new());
}
