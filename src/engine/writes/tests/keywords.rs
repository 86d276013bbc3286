//! Keywords that the provider does not keep: a STORE that is cut in two ways at once, and an INBOX that is renamed.

use std::collections::BTreeMap;

use super::*;
use crate::model::{FlagOp, Flags};

const FEW: Option<&str> = Some("\\Deleted \\Seen");

fn flags(text: &str) -> Flags {
    Flags::parse(text.split(' ').filter(|flag| !flag.is_empty()))
}

/// What clients see: flags by UID, as text.
async fn seen(bench: &Bench, name: &str) -> BTreeMap<u32, String> {
    // The clock stands still, and a look of this very moment would do.
    tokio::time::advance(Duration::from_millis(1)).await;
    let state = bench.account.in_step(&name.into()).await.unwrap();
    bench.account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
    let snapshot = state.snapshot();
    snapshot.messages.iter().map(|message| (message.uid.0, message.flags.to_string())).collect()
}

/// 120 messages of which every second one is meant: a dozen commands upstream, which keeps `\Seen` and knows no `work`.
async fn scattered() -> (Bench, UidSet) {
    let provider = Provider::new("", &["INBOX"]);
    {
        let mut account = provider.account();
        (account.permanent, account.line_limit) = (FEW, Some(200));
        let inbox = account.folders.get_mut("INBOX").unwrap();
        for n in 0..120 {
            inbox.put(&[], &mail(&format!("m{n}")));
        }
    }
    (Bench::new(provider).await, (1..=60).map(|n| n * 2).collect())
}

fn upstream(bench: &Bench) -> BTreeMap<u32, String> {
    let account = bench.provider.account();
    let text = |flags: &std::collections::BTreeSet<String>| flags.iter().cloned().collect::<Vec<_>>().join(" ");
    account.folders["INBOX"].messages.iter().map(|message| (message.uid, text(&message.flags))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_mixed_store_of_a_long_set_is_whole() {
    let (bench, meant) = scattered().await;
    let inbox = bench.state("INBOX").await;
    let is = |uid: &u32, text: &str| if meant.contains(*uid) { text.to_owned() } else { String::new() };
    for (op, asked, above, together) in [
        (FlagOp::Add, "\\Seen work", "\\Seen", "\\Seen work"),
        (FlagOp::Remove, "\\Seen later", "", "work"),
        (FlagOp::Replace, "\\Seen later", "\\Seen", "\\Seen later"),
        (FlagOp::Add, "work", "\\Seen", "\\Seen later work"),
        (FlagOp::Replace, "", "", ""),
    ] {
        bench.provider.arm(None);
        bench.account.store_flags(&inbox, &meant, op, &flags(asked), None).await.unwrap();
        let commands = bench.provider.account().said.iter().filter(|name| name.starts_with("STORE")).count();
        // Nothing but keywords of ours costs upstream nothing.
        assert!(if asked == "work" { commands == 0 } else { commands >= 6 }, "{commands} commands");
        let (there, shown) = (upstream(&bench), seen(&bench, "INBOX").await);
        for uid in 1..=120 {
            assert_eq!(there[&uid], is(&uid, above), "{op:?} {asked}: {uid} upstream");
            assert_eq!(flags(&shown[&uid]), flags(&is(&uid, together)), "{op:?} {asked}: {uid} shown");
        }
    }
}

/// Cut off or refused in the middle of the pieces: what is lost is done after all, what is refused is told, and seen as far as it came.
#[tokio::test(start_paused = true)]
async fn a_mixed_store_that_breaks_is_told_as_it_is() {
    // SELECT and the STOREs, with more behind them where they are broken.
    for at in 0..6 {
        for fault in [Fault::CutBefore, Fault::CutAfter, Fault::Refused("[LIMIT] too fast")] {
            let (bench, meant) = scattered().await;
            let inbox = bench.state("INBOX").await;
            bench.account.freshen(&inbox, Instant::now(), Class::Interactive).await.unwrap();
            bench.provider.arm(Some((at, fault)));
            let told = bench.account.store_flags(&inbox, &meant, FlagOp::Add, &flags("\\Seen work"), None).await;
            let what = format!("{fault:?} at {at}: {told:?}, {:?}", bench.provider.account().said);
            assert_eq!(told.is_err(), matches!(fault, Fault::Refused(_)), "{what}");
            // The mirror without a look of its own.
            let snapshot = inbox.snapshot();
            let shown: BTreeMap<u32, Flags> = snapshot.messages.iter().map(|m| (m.uid.0, m.flags.clone())).collect();
            for (uid, above) in upstream(&bench) {
                let wanted = match (told.is_ok(), meant.contains(uid)) {
                    (true, true) => "\\Seen work",
                    (true, false) => "",
                    (false, _) => above.as_str(),
                };
                assert_eq!(shown[&uid], flags(wanted), "{what}: {uid}");
                assert!(told.is_err() || above == wanted.trim_end_matches(" work"), "{what}: {uid} upstream");
            }
        }
    }
}

fn inbox_of(subjects: &[&str], renames_anew: bool) -> Arc<Provider> {
    let provider = Provider::new("", &["INBOX", "Other"]);
    {
        let mut account = provider.account();
        (account.permanent, account.renames_anew) = (FEW, renames_anew);
        let inbox = account.folders.get_mut("INBOX").unwrap();
        for subject in subjects {
            inbox.put(&[], &mail(subject));
        }
    }
    provider
}

/// The messages of a renamed INBOX have their keywords, under the UIDs they had or under others; also after a restart.
#[tokio::test(start_paused = true)]
async fn a_renamed_inbox_takes_its_keywords_along() {
    for anew in [false, true] {
        // All alike in size and date but the last.
        let mut bench = Bench::new(inbox_of(&["a", "b", "c", "longer"], anew)).await;
        let inbox = bench.state("INBOX").await;
        for (uids, asked) in [("1,4", "work"), ("3", "\\Seen later")] {
            bench.account.store_flags(&inbox, &set(uids), FlagOp::Add, &flags(asked), None).await.unwrap();
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        bench.account.rename("INBOX", "Old").await.unwrap();
        let first = if anew { 41 } else { 1 };
        let want: BTreeMap<u32, String> =
            ["work", "", "\\Seen later", "work"].into_iter().zip(first..).map(|(f, uid)| (uid, f.to_owned())).collect();
        assert_eq!(seen(&bench, "Old").await, want, "anew {anew}");
        assert_eq!(seen(&bench, "INBOX").await, BTreeMap::new(), "anew {anew}");
        bench = bench.restart().await;
        bench.account.current_folders().await.unwrap();
        assert_eq!(seen(&bench, "Old").await, want, "anew {anew}, after a restart");
        // What comes now has none of it.
        bench.provider.account().folders.get_mut("INBOX").unwrap().put(&[], &mail("new"));
        bench.account.current_folders().await.unwrap();
        assert_eq!(seen(&bench, "INBOX").await.into_values().collect::<Vec<_>>(), [""]);
    }
}

/// Where upstream gives new UIDs and another program was at work meanwhile, only what is beyond doubt has its keywords.
#[tokio::test(start_paused = true)]
async fn a_keyword_never_goes_to_another_message() {
    let bench = Bench::new(inbox_of(&["a", "b", "longer", "c"], true)).await;
    let inbox = bench.state("INBOX").await;
    bench.account.store_flags(&inbox, &set("2:3"), FlagOp::Add, &flags("work"), None).await.unwrap();
    bench.provider.arm(None);
    bench.provider.account().meanwhile = Some(("RENAME", |account| {
        drop(account.folders.get_mut("INBOX").unwrap().messages.remove(0));
    }));
    bench.account.rename("INBOX", "Old").await.unwrap();
    let want: BTreeMap<u32, String> = [(41, ""), (42, "work"), (43, "")].map(|(uid, f)| (uid, f.to_owned())).into();
    assert_eq!(seen(&bench, "Old").await, want);
    // One that came meanwhile stands behind the others, and confuses nobody.
    let bench = Bench::new(inbox_of(&["a", "b", "longer"], true)).await;
    let inbox = bench.state("INBOX").await;
    bench.account.store_flags(&inbox, &set("2:3"), FlagOp::Add, &flags("work"), None).await.unwrap();
    bench.provider.arm(None);
    bench.provider.account().meanwhile = Some(("RENAME", |account| {
        account.folders.get_mut("INBOX").unwrap().put(&[], &mail("z"));
    }));
    bench.account.rename("INBOX", "Old").await.unwrap();
    let want = [(41, ""), (42, "work"), (43, "work"), (44, "")].map(|(uid, f)| (uid, f.to_owned())).into();
    assert_eq!(seen(&bench, "Old").await, want);
}

/// Refused, it is as it was.
#[tokio::test(start_paused = true)]
async fn an_inbox_that_is_not_renamed_keeps_its_keywords() {
    let bench = Bench::new(inbox_of(&["a", "b"], false)).await;
    let inbox = bench.state("INBOX").await;
    bench.account.store_flags(&inbox, &set("2"), FlagOp::Add, &flags("work"), None).await.unwrap();
    bench.provider.refuse("RENAME", "[CANNOT] not this one");
    assert!(bench.account.rename("INBOX", "Old").await.is_err());
    let want = [(1, String::new()), (2, "work".to_owned())].into();
    assert_eq!(seen(&bench, "INBOX").await, want);
    let bench = bench.restart().await;
    bench.account.current_folders().await.unwrap();
    assert_eq!(seen(&bench, "INBOX").await, want);
}
