//! Where the provider gives ids, nothing is made to go that has another id than what was meant: not by COPY to where a label takes all others
//! off, not by taking back, not by what stands in the journal.

use bytes::Bytes;

use super::*;
use crate::model::Flags;

const IDS: &str = "OBJECTID UIDPLUS";

fn provider(caps: &'static str, others: &[&str]) -> Arc<Provider> {
    let provider = Provider::new(caps, &[&["INBOX"], others].concat());
    for subject in ["a", "b", "c"] {
        provider.account().folders.get_mut("INBOX").unwrap().put(&[], &mail(subject));
    }
    provider
}

/// Every message of this mailbox is another from now on.
fn replace_all(provider: &Provider, folder: &str) {
    for message in &mut provider.account().folders.get_mut(folder).unwrap().messages {
        message.become_another("stranger");
    }
}

fn said(provider: &Provider, command: &str) -> usize {
    provider.account().said.iter().filter(|said| *said == command).count()
}

/// Gmail: COPY to the trash takes a message out of every other folder.
#[tokio::test(start_paused = true)]
async fn a_stranger_is_not_copied_to_where_nothing_else_is_left_of_it() {
    for (to, quirks, is_sent) in
        [("Trash", &[Quirk::Labels][..], false), ("Work", &[Quirk::Labels], true), ("Trash", &[], true)]
    {
        for is_same in [true, false] {
            let bench = Bench::with(provider(IDS, &["Trash", "Work"]), quirks).await;
            if !is_same {
                replace_all(&bench.provider, "INBOX");
            }
            let inbox = bench.state("INBOX").await;
            let told = bench.account.copy(&inbox, &set("1:2"), to, CopyMode::Copy).await;
            let is_sent = is_sent || is_same;
            assert_eq!((said(&bench.provider, "UID COPY") > 0, told.is_ok()), (is_sent, is_sent), "{to} {quirks:?}");
            assert_eq!(bench.provider.shown(to).len(), if is_sent { 2 } else { 0 }, "{to} {quirks:?}");
            if !is_sent {
                assert_eq!(told, Err(Error::Gone));
            }
        }
    }
}

/// A COPY in pieces of which one is refused: what is taken back is what was copied, or nothing.
#[tokio::test(start_paused = true)]
async fn only_copies_with_the_id_of_their_source_are_taken_back() {
    for is_same in [true, false] {
        let bench = Bench::with(provider(IDS, &["Kept"]), &[Quirk::MoveOneAtATime]).await;
        bench.provider.refuse_nth("UID COPY", 3, "[OVERQUOTA] full");
        if !is_same {
            // The first one is where the ids are asked for.
            bench.provider.account().meanwhile = Some(("UID FETCH", |account| {
                account.folders.get_mut("Kept").unwrap().messages[1].become_another("stranger");
            }));
        }
        let inbox = bench.state("INBOX").await;
        let told = bench.account.copy(&inbox, &set("1:3"), "Kept", CopyMode::Copy).await;
        let (text, left) =
            if is_same { ("full", vec![]) } else { ("full (2 of 3 messages were copied)", vec!["a", "stranger"]) };
        assert_eq!(told, Err(Error::Refused { code: Some("OVERQUOTA".into()), text: text.into() }));
        assert_eq!(bench.provider.shown("Kept"), left);
    }
}

/// A MULTIAPPEND cut short by the end of the program, at every one of its commands.
#[tokio::test(start_paused = true)]
async fn strangers_are_not_taken_back_after_a_crash() {
    let messages = || {
        ["x", "y", "z"]
            .map(|subject| Append {
                flags: Flags::default(),
                date: None,
                body: Bytes::from(mail(subject)),
                memory: None,
            })
            .to_vec()
    };
    let commands = {
        let bench = Bench::new(provider(IDS, &["Kept"])).await;
        bench.account.append("Kept", messages()).await.unwrap();
        bench.provider.account().said.clone()
    };
    assert!(commands.len() > 6, "the ids are asked for: {commands:?}");
    let mut taken_back = 0;
    for (at, command) in commands.iter().enumerate() {
        for is_same in [true, false] {
            let bench = Bench::new(provider(IDS, &["Kept"])).await;
            bench.provider.account().goes_down = true;
            bench.provider.arm(Some((at, Fault::CutAfter)));
            let told = bench.account.append("Kept", messages()).await;
            let what = format!("at {at} {command}, told {told:?}");
            // The ids of the last one were asked for when the connection went, so they are not known.
            let named = commands[..at].iter().filter(|said| *said == "UID FETCH").count();
            if !is_same {
                for message in bench.provider.account().folders.get_mut("Kept").unwrap().messages.iter_mut().take(named)
                {
                    message.become_another("stranger");
                }
            }
            let before = bench.provider.shown("Kept").len();
            let bench = bench.restart().await;
            bench.account.settle_left(&["Kept"]).await.unwrap();
            assert_eq!(bench.pending().await, [""; 0], "{what}");
            let left = bench.provider.shown("Kept").len();
            if is_same {
                taken_back += before - left;
            } else if named > 0 {
                assert_eq!(left, before, "{what}");
            }
        }
    }
    assert!(taken_back > 2, "{taken_back}");
}

/// A MOVE by COPY cut short by the end of the program, at every one of its commands: what has come to be in the place of its messages is
/// neither marked nor expunged.
#[tokio::test(start_paused = true)]
async fn a_move_is_not_finished_on_strangers() {
    let commands = {
        let bench = Bench::new(provider(IDS, &["Kept"])).await;
        bench.move_all("INBOX", "1:3", "Kept").await.unwrap();
        assert_eq!(bench.provider.shown("Kept"), ["a", "b", "c"]);
        bench.provider.account().said.clone()
    };
    let mut in_danger = 0;
    for (at, command) in commands.iter().enumerate() {
        for fault in [Fault::CutBefore, Fault::CutAfter] {
            let bench = Bench::new(provider(IDS, &["Kept"])).await;
            bench.provider.account().goes_down = true;
            bench.provider.arm(Some((at, fault)));
            let _ = bench.move_all("INBOX", "1:3", "Kept").await;
            let what = format!("{fault:?} at {at} {command}");
            replace_all(&bench.provider, "INBOX");
            let left = bench.provider.shown("INBOX");
            in_danger += usize::from(!bench.pending().await.is_empty() && !left.is_empty());
            let bench = bench.restart().await;
            bench.account.settle_left(&["INBOX"]).await.unwrap();
            assert_eq!(bench.provider.shown("INBOX"), left, "{what}");
            assert_eq!(bench.pending().await, [""; 0], "{what}");
        }
    }
    assert!(in_danger >= 3, "{in_danger} of {commands:?}");
}

/// What COPYUID named has another id than its source: it is no copy, and the source stays.
#[tokio::test(start_paused = true)]
async fn a_source_goes_only_for_a_copy_with_its_id() {
    for is_same in [true, false] {
        let bench = Bench::new(provider(IDS, &["Kept"])).await;
        let inbox = bench.state("INBOX").await;
        if !is_same {
            bench.provider.account().meanwhile = Some(("STORE +FLAGS", |account| {
                account.folders.get_mut("Kept").unwrap().messages[0].become_another("stranger");
            }));
        }
        let at = {
            let probe = Bench::new(provider(IDS, &["Kept"])).await;
            probe.move_all("INBOX", "1:3", "Kept").await.unwrap();
            let said = probe.provider.account().said.clone();
            said.iter().position(|said| said == "STORE +FLAGS").unwrap()
        };
        bench.provider.arm(Some((at, Fault::CutBefore)));
        let told = bench.account.copy(&inbox, &set("1:3"), "Kept", CopyMode::Move).await;
        assert_eq!(told.is_ok(), is_same, "{told:?}");
        assert_eq!(bench.provider.shown("INBOX"), if is_same { &[][..] } else { &["a", "b", "c"] });
        assert!(is_same || bench.provider.shown("Kept").contains(&"stranger".to_owned()));
    }
}

/// A plain EXPUNGE that spared what others had marked, cut short by the end of the program: the marks go to those messages or to none.
#[tokio::test(start_paused = true)]
async fn strangers_get_no_marks() {
    for is_same in [true, false] {
        let provider = provider("OBJECTID", &[]);
        for message in &mut provider.account().folders.get_mut("INBOX").unwrap().messages {
            message.flags.insert("\\Deleted".into());
        }
        let bench = Bench::new(provider).await;
        bench.provider.account().goes_down = true;
        bench.provider.account().meanwhile = Some(("EXPUNGE", |account| account.is_down = true));
        let at = 4;
        bench.provider.arm(Some((at, Fault::CutAfter)));
        let inbox = bench.state("INBOX").await;
        let told = bench.account.expunge(&inbox, Some(&set("1"))).await;
        let said = bench.provider.account().said.clone();
        assert_eq!(said.get(at).map(String::as_str), Some("STORE -FLAGS"), "{said:?}, told {told:?}");
        assert_eq!(bench.pending().await, ["spare"]);
        if !is_same {
            replace_all(&bench.provider, "INBOX");
        }
        let bench = bench.restart().await;
        bench.account.settle_left(&["INBOX"]).await.unwrap();
        let want: &[&str] = if is_same {
            &["a \\Deleted", "b \\Deleted", "c \\Deleted"]
        } else {
            &["stranger", "stranger", "stranger"]
        };
        assert_eq!(bench.provider.shown("INBOX"), want);
        assert_eq!(bench.pending().await, [""; 0]);
    }
}
