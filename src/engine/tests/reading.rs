//! The first reading of a large mailbox: part after part, the newest first, gone on with where it was cut, and with its progress told.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::provider::Provider;
use super::{World, account};
use crate::engine::allowance::{Allowance, Grant};
use crate::engine::error::Error;
use crate::model::{Flags, InternalDate, MessageMeta, ModSeq, Uid, UidSet, UidValidity};
use crate::store::MailboxRecord;
use crate::upstream::{Class, Dial};

const MESSAGES: u32 = 12_500;

#[tokio::test(start_paused = true)]
async fn a_line_that_breaks_costs_a_part_and_not_the_whole() {
    let world = World::new(Provider::default(), 2);
    for _ in 0..MESSAGES {
        world.provider.deliver("INBOX");
    }
    let name = world.account.resolve("INBOX").await.unwrap();
    let state = world.account.state(&name).await.unwrap();
    world.provider.hold("UID FETCH 2501:7500");
    world.provider.die_at("UID FETCH", 3);
    let (account, looked) = (Arc::clone(&world.account), Arc::clone(&state));
    let looking = tokio::spawn(async move { account.freshen(&looked, Instant::now(), Class::Interactive).await });
    world.provider.told("UID FETCH 2501:7500", 1).await;
    let told = world.account.readings.all();
    assert_eq!(told.len(), 1);
    assert_eq!((&*told[0].mailbox, told[0].messages, told[0].of), (&*name, 5000, u64::from(MESSAGES)));
    assert!(!state.is_known(), "a part is no mailbox: numbers would shift when the rest comes");
    world.provider.hold("");
    looking.await.unwrap().unwrap();
    assert_eq!(state.snapshot().messages.len(), MESSAGES);
    assert_eq!(state.snapshot().messages.uids().len(), u64::from(MESSAGES));
    let asked = |set: &str| world.provider.count(&format!("UID FETCH {set} "));
    assert_eq!([asked("7501:*"), asked("2501:7500"), asked("1:2500")], [1, 1, 2], "what was read is not read again");
    // What changed between the two attempts was asked for, and is.
    assert_eq!(asked("1:*"), 1);
    assert_eq!(world.account.readings.all(), []);
}

/// Remembers what it was asked for.
#[derive(Debug, Default)]
struct Asked(Mutex<Vec<u64>>);

impl Allowance for Asked {
    fn download(&self, octets: u64, _: Class) -> Result<Grant, Error> {
        self.0.lock().unwrap().push(octets);
        Ok(Box::new(()))
    }

    fn upload(&self, _: u64) -> Result<Grant, Error> {
        Ok(Box::new(()))
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_not_set_aside_again() {
    let (provider, asked) = (Arc::new(Provider::default()), Arc::new(Asked::default()));
    for _ in 0..MESSAGES {
        provider.deliver("INBOX");
    }
    let dial = Arc::clone(&provider) as Arc<dyn Dial>;
    let (account, _pool, _dir) = account(dial, 2, true, Arc::<Asked>::clone(&asked));
    let name = account.resolve("INBOX").await.unwrap();
    let state = account.state(&name).await.unwrap();
    provider.die_at("UID FETCH", 3);
    account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
    let asked = asked.0.lock().unwrap().clone();
    let left = u64::from(MESSAGES) - 10_000;
    // The rest, and a sweep of the flags of all, which this provider does not tell by itself.
    assert_eq!(asked, [u64::from(MESSAGES) * 160, left * 160 + u64::from(MESSAGES) * 64]);
}

/// Killed while the whole is written at the end of a first reading: only what the parts had not kept is read again.
#[tokio::test(start_paused = true)]
async fn a_kill_in_the_last_step_costs_the_last_part() {
    let world = World::new(Provider::default(), 2);
    for _ in 0..MESSAGES {
        world.provider.deliver("INBOX");
    }
    let name = world.account.resolve("INBOX").await.unwrap();
    // What a kill leaves: two parts that were kept, the mark of how far they are, and some of the third, which was written with the whole.
    let row = |uid| MessageMeta {
        uid: Uid(uid),
        flags: Flags::default(),
        modseq: ModSeq(1),
        internal_date: InternalDate::default(),
        size: 10,
        gm_msgid: 0,
    };
    let rows: Vec<MessageMeta> = (1..=640).chain(2501..=MESSAGES).map(row).collect();
    let record = MailboxRecord {
        name: name.to_string(),
        uid_validity: UidValidity(0),
        uid_next: Uid(MESSAGES + 1),
        highest_modseq: ModSeq(0),
        upstream_modseq: 0,
        exists: 10_000,
        read_only: false,
        permanent: None,
    };
    let left = move |store: &crate::store::Store| {
        store.commit(store.mailbox_id("INBOX")?, &rows, &UidSet::new(), &record)?;
        store.put_blob("reading:INBOX", b"1 7 0 2501 10000")
    };
    world.account.disk(left).await.unwrap();
    let state = world.account.state(&name).await.unwrap();
    world.account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
    assert_eq!(state.snapshot().messages.uids().len(), u64::from(MESSAGES));
    let asked = |set: &str| world.provider.count(&format!("UID FETCH {set} "));
    assert_eq!([asked("7501:*"), asked("2501:7500"), asked("1:2500")], [0, 0, 1], "what was kept is not read again");
    // And what is stored now is the whole: the one after finds it.
    world.account.forget(&state);
    let state = world.account.state(&name).await.unwrap();
    assert_eq!(state.snapshot().messages.uids().len(), u64::from(MESSAGES));
}
