//! What it costs to bring clients up to date: one view with 1 of 100,000 messages changed, and 1,000 views of one mailbox.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mailweir::engine::Snapshot;
use mailweir::model::{Flags, InternalDate, MessageMeta, ModSeq, Pages, PagesDelta, SystemFlags, Uid, UidSet};
use mailweir::session::imap::view::{Tell, View};

const MESSAGES: u32 = 100_000;

fn message(uid: u32, modseq: u64, system: SystemFlags) -> MessageMeta {
    MessageMeta {
        uid: Uid(uid),
        flags: Flags::new(system, []),
        modseq: ModSeq(modseq),
        internal_date: InternalDate::default(),
        size: 4000,
        gm_msgid: 0,
    }
}

fn mailbox() -> Snapshot {
    let mut snapshot = Snapshot::empty("INBOX".into());
    snapshot.messages = Pages::from_messages((1..=MESSAGES).map(|uid| message(uid, 1, SystemFlags::SEEN)).collect());
    snapshot
}

fn changed(old: &Snapshot, upserts: Vec<MessageMeta>, vanished: UidSet) -> Snapshot {
    let mut new = old.clone();
    new.highest_modseq = ModSeq(2);
    new.messages = old.messages.apply(PagesDelta { upserts, vanished });
    new
}

fn catch_up(c: &mut Criterion) {
    let old = mailbox();
    let flag = changed(&old, vec![message(MESSAGES / 2, 2, SystemFlags::FLAGGED)], UidSet::new());
    let gone = changed(&old, Vec::new(), [MESSAGES / 2].into_iter().collect());
    let tell = Tell { expunge: true, mod_sequences: true, store: None };
    let held = Tell { expunge: false, ..tell };
    let mut group = c.benchmark_group("catch_up");
    for (name, new, tell) in
        [("1 flag of 100k", &flag, tell), ("1 gone of 100k", &gone, tell), ("1 held back of 100k", &gone, held)]
    {
        group.bench_function(name, |b| {
            b.iter_batched_ref(|| View::new(&old), |view| black_box(view.catch_up(new, tell)), BatchSize::SmallInput);
        });
    }
    group.bench_function("nothing new of 100k", |b| {
        let mut view = View::new(&old);
        b.iter(|| black_box(view.catch_up(&old, tell)));
    });
    group.bench_function("1,000 views, 1 flag of 100k", |b| {
        b.iter_batched_ref(
            || (0..1000).map(|_| View::new(&old)).collect::<Vec<_>>(),
            |views| {
                for view in views {
                    let _ = black_box(view.catch_up(&flag, tell));
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, catch_up);
criterion_main!(benches);
