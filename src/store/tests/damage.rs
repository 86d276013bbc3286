//! Damage to files: what is served is right or missing, never wrong, and the store opens again.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::*;

const MESSAGES: u32 = 300;

/// A kind of damage: its name, and what it does to the store in a directory.
type Damage = (String, Box<dyn Fn(&Path)>);

fn body_of(uid: u32) -> Vec<u8> {
    noise(uid.into(), if uid.is_multiple_of(5) { 20_000 } else { 900 })
}

fn flags_of(uid: u32) -> &'static str {
    ["", "\\Seen", "work \\Flagged"][uid as usize % 3]
}

fn build(dir: &Path) -> MailboxId {
    let store = open(dir);
    let id = store.mailbox_id("INBOX").unwrap();
    let all: Vec<_> = (1..=MESSAGES).map(|uid| message(uid, uid.into(), flags_of(uid))).collect();
    for message in &all {
        store.put_body(key(id, 1, message.uid.0), &body_of(message.uid.0)).unwrap();
    }
    let records: Vec<_> = all.iter().map(|m| (key(id, 1, m.uid.0), summary(m.uid.0.into(), 400))).collect();
    store.put_summaries(&records).unwrap();
    store.commit(id, &all, &UidSet::new(), &record("INBOX", 1, 900, MESSAGES)).unwrap();
    id
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Reads everything; wrong data fails the test, errors end the reading. True if all was there.
fn read_all(store: &Store, id: MailboxId, what: &str) -> Result<bool, Error> {
    let exists = store.mailboxes()?.iter().find(|(of, _)| *of == id).map_or(0, |(_, record)| record.exists);
    let loaded = store.load(id)?;
    for found in &loaded {
        assert_eq!(*found, message(found.uid.0, found.uid.0.into(), flags_of(found.uid.0)), "{what}");
    }
    let mut whole = exists == MESSAGES && loaded.len() == MESSAGES as usize;
    for uid in 1..=MESSAGES {
        let body = store.body(key(id, 1, uid))?;
        assert!(body.as_ref().is_none_or(|body| *body == body_of(uid)), "{what}: wrong body of {uid}");
        let told = store.summaries(&[key(id, 1, uid)], SummaryWant::ALL)?;
        let told = told.into_iter().next().flatten();
        if let Some(told) = &told {
            let right = summary(uid.into(), 400);
            assert!(told.header.is_empty() || told.header == right.header, "{what}: wrong header of {uid}");
            assert!(told.envelope.is_empty() || told.envelope == right.envelope, "{what}: wrong envelope of {uid}");
        }
        whole &= body.is_some() && told.is_some();
    }
    Ok(whole)
}

#[test]
fn a_damaged_body_file_is_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let id = build(dir.path());
    let store = open(dir.path());
    let mut files: Vec<PathBuf> = Vec::new();
    store.inner.files.walk(|_, _, path| files.push(path.to_path_buf())).unwrap();
    assert_eq!(files.len(), MESSAGES as usize / 5);
    let damage: [fn(&Path); 5] = [
        |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |path| fs::write(path, &fs::read(path).unwrap()[..5000]).unwrap(),
        |path| fs::write(path, b"").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, vec![0; 20_000]).unwrap(),
    ];
    for (damage, path) in damage.iter().zip(&files) {
        damage(path);
    }
    assert!(!read_all(&store, id, "body files").unwrap());
    let has = store.has_bodies(&(1..=MESSAGES).map(|uid| key(id, 1, uid)).collect::<Vec<_>>()).unwrap();
    assert_eq!(has.iter().filter(|has| !**has).count(), damage.len(), "the damaged are known to be missing");
    // A file that was cut or grown outside is not what was counted, so the counter may be off by what was damaged.
    let findings = store.check().unwrap();
    assert!(findings.iter().all(|finding| finding.contains("were counted")), "{findings:?}");
    for uid in 1..=MESSAGES {
        store.put_body(key(id, 1, uid), &body_of(uid)).unwrap();
    }
    assert!(read_all(&store, id, "mended").unwrap());
    drop(store);
    assert_eq!(open(dir.path()).check().unwrap(), Vec::<String>::new());
}

fn log_of(dir: &Path) -> PathBuf {
    dir.join("db").join("db")
}

fn patch(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_database_is_never_believed() {
    let origin = tempfile::tempdir().unwrap();
    let id = build(origin.path());
    let mut dice = Dice::new(42);
    let mut kinds: Vec<Damage> = Vec::new();
    for _ in 0..6 {
        let part = dice.below(1000) as usize;
        kinds.push((
            format!("8 bytes flipped at {part} per mille"),
            Box::new(move |dir| {
                patch(&log_of(dir), |bytes| {
                    let at = bytes.len() / 1000 * part;
                    bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte ^= 0x55);
                });
            }),
        ));
        kinds.push((
            format!("4 KiB zeroed at {part} per mille"),
            Box::new(move |dir| {
                patch(&log_of(dir), |bytes| {
                    let at = bytes.len() / 1000 * part;
                    bytes.iter_mut().skip(at).take(4096).for_each(|byte| *byte = 0);
                });
            }),
        ));
    }
    kinds.push((
        "a third cut off".into(),
        Box::new(|dir| patch(&log_of(dir), |bytes| bytes.truncate(bytes.len() * 2 / 3))),
    ));
    kinds.push((
        "1 KiB cut off".into(),
        Box::new(|dir| patch(&log_of(dir), |bytes| bytes.truncate(bytes.len() - 1024))),
    ));
    kinds.push(("the log deleted".into(), Box::new(|dir| fs::remove_file(log_of(dir)).unwrap())));
    kinds.push((
        "its settings damaged".into(),
        Box::new(|dir| patch(&dir.join("db").join("conf"), |bytes| bytes[0] ^= 0xff)),
    ));
    kinds.push(("all of it deleted".into(), Box::new(|dir| fs::remove_dir_all(dir.join("db")).unwrap())));

    for (what, damage) in kinds {
        let dir = tempfile::tempdir().unwrap();
        copy(origin.path(), dir.path());
        damage(dir.path());
        let mut store = open(dir.path());
        // What is found while running, at a read or only at a write, ends the store, and the next open sets the database aside.
        let found = calm(&what, || read_all(&store, id, &what).map(|_| ())).and_then(|()| calm(&what, || fill(&store)));
        if found.is_err() {
            assert!(store.load(id).is_err() && store.mailbox_id("x").is_err(), "{what}: refused after the fault");
            drop(store);
            store = open(dir.path());
            assert!(store.was_reset(), "{what}: {found:?}");
            fill(&store).unwrap();
        }
        let set_aside = fs::read_dir(dir.path()).unwrap();
        let bad =
            set_aside.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("db.bad-")).count();
        assert_eq!(bad, usize::from(store.was_reset()), "{what}");
        let id = store.mailbox_id("INBOX").unwrap();
        assert!(read_all(&store, id, &what).unwrap(), "{what}: all is there again");
    }
}

/// A call as the pool makes it: a panic of sled's is an error. An assertion of ours, which names the damage, stays one.
fn calm(what: &str, call: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(!text.contains(what), "{text}");
        Err(Error::Failed(text))
    })
}

/// Puts everything anew.
fn fill(store: &Store) -> Result<(), Error> {
    let id = store.mailbox_id("INBOX")?;
    store.clear(id)?;
    for uid in 1..=MESSAGES {
        store.put_body(key(id, 1, uid), &body_of(uid))?;
        store.put_summaries(&[(key(id, 1, uid), summary(uid.into(), 400))])?;
    }
    let all: Vec<_> = (1..=MESSAGES).map(|uid| message(uid, uid.into(), flags_of(uid))).collect();
    store.commit(id, &all, &UidSet::new(), &record("INBOX", 1, 900, MESSAGES)).map(|_| ())
}

#[test]
fn bodies_of_a_provider_survive_the_loss_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = store.mailbox_id("INBOX").unwrap();
    let (kept, lost) = (BodyKey::Provider(77), key(id, 1, 1));
    store.put_body(kept, &noise(1, 30_000)).unwrap();
    store.put_body(lost, &noise(2, 30_000)).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    let store = open(dir.path());
    assert!(store.is_new());
    assert!(store.body(kept).unwrap().is_some_and(|body| body == noise(1, 30_000)));
    // The number of the mailbox means nothing any more.
    assert_eq!(store.body(lost).unwrap(), None);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[test]
fn the_marker_tells_a_shortened_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.marker().unwrap(), 0);
    store.set_marker(5).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).marker().unwrap(), 5);
    fs::remove_file(log_of(dir.path())).unwrap();
    let store = open(dir.path());
    assert!(store.was_reset() || store.marker().unwrap() < 5);
}

#[test]
fn a_panic_ends_the_store_and_the_next_open_looks_closely() {
    let dir = tempfile::tempdir().unwrap();
    let id = build(dir.path());
    let store = open(dir.path());
    let inner = Arc::clone(&store.inner);
    let panicked = std::thread::spawn(move || {
        let _watch = inner.sound().unwrap();
        panic!("as sled does");
    });
    assert!(panicked.join().is_err());
    assert!(store.load(id).is_err());
    drop(store);
    assert!(dir.path().join("suspect").exists());
    let store = open(dir.path());
    assert!(!store.was_reset() && !dir.path().join("suspect").exists());
    assert!(read_all(&store, id, "not to blame").unwrap());
}
