//! STORE whose answer is lost.

use super::*;
use crate::model::{FlagOp, Flags, ModSeq};

fn provider() -> Arc<Provider> {
    let provider = Provider::new("", &["INBOX"]);
    for subject in ["a", "b", "c"] {
        provider.account().folders.get_mut("INBOX").unwrap().put(&[], &mail(subject));
    }
    provider
}

/// What another program has changed meanwhile fails UNCHANGEDSINCE, and is not stored over.
#[tokio::test(start_paused = true)]
async fn a_condition_outlives_the_connection() {
    for (fault, want) in [
        (Fault::CutBefore, ["a \\Seen", "b Theirs", "c \\Seen"]),
        (Fault::CutAfter, ["a \\Seen", "b Theirs \\Seen", "c \\Seen"]),
    ] {
        let bench = Bench::new(provider()).await;
        let inbox = bench.state("INBOX").await;
        let known = ModSeq(inbox.snapshot().highest_modseq.0);
        // SELECT, UID FETCH, STORE.
        bench.provider.arm(Some((2, fault)));
        bench.provider.account().meanwhile = Some(("AUTHENTICATE", |account| {
            let inbox = account.folders.get_mut("INBOX").unwrap();
            inbox.messages[1].flags.insert("Theirs".into());
        }));
        let seen = Flags::parse(["\\Seen"]);
        let modified = bench.account.store_flags(&inbox, &set("1:3"), FlagOp::Add, &seen, Some(known)).await.unwrap();
        assert_eq!(modified, set("2"), "{fault:?}");
        let mut want = want.map(|shown| {
            let mut words: Vec<&str> = shown.split(' ').collect();
            words[1..].sort_unstable();
            words.join(" ")
        });
        want.sort();
        assert_eq!(bench.provider.shown("INBOX"), want, "{fault:?}");
        // Without a condition the last one wins.
        bench.account.store_flags(&inbox, &set("2"), FlagOp::Add, &seen, None).await.unwrap();
        assert!(bench.provider.shown("INBOX")[1].contains("\\Seen"));
    }
}
