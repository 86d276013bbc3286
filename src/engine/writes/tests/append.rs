//! APPEND: once or not at all.

use bytes::Bytes;

use super::*;
use crate::model::{Flags, Uid};

fn message(subject: &str, flags: &[&str]) -> Append {
    Append { flags: Flags::parse(flags.iter().copied()), date: None, body: Bytes::from(mail(subject)), memory: None }
}

fn provider(caps: &'static str) -> Arc<Provider> {
    let provider = Provider::new(caps, &["Drafts", "INBOX", "Sent"]);
    for name in ["Drafts", "INBOX", "Sent"] {
        provider.account().folders.get_mut(name).unwrap().put(&[], &mail("old"));
    }
    provider
}

/// With and without a session that has the mailbox selected: with one, what is new is read behind the APPEND.
#[tokio::test(start_paused = true)]
async fn one_message_is_stored_once_or_not_at_all_and_the_client_knows() {
    for (to, caps, last) in [("INBOX", "UIDPLUS", 4), ("INBOX", "", 4), ("Sent", "UIDPLUS", 2), ("Sent", "", 5)] {
        for at in 0..=last {
            for fault in [Fault::CutBefore, Fault::CutAfter, Fault::Refused("[OVERQUOTA] full")] {
                let bench = Bench::new(provider(caps)).await;
                bench.provider.arm(Some((at, fault)));
                let told = bench.account.append(to, vec![message("new", &["\\Seen"])]).await;
                let shown = bench.provider.shown(to);
                let said = bench.provider.account().said.clone();
                let what = format!("{to} {caps} {fault:?} at {at} of {said:?}: {shown:?}, told {told:?}");
                match &told {
                    Ok(told) => {
                        assert_eq!(shown, ["new \\Seen", "old"], "{what}");
                        let uid = told.as_ref().map(|appended| appended.uids[0].0);
                        assert!(uid == Some(2) || (caps.is_empty() && uid.is_none()), "{what}");
                        let mirrored = bench.state(to).await.snapshot();
                        let flags = mirrored.messages.get(Uid(2)).map(|message| message.flags.clone());
                        assert!(flags.is_none_or(|flags| flags == Flags::parse(["\\Seen"])), "{what}");
                        assert!(at < last || mirrored.messages.len() == 2, "{what}");
                    }
                    Err(_) => assert_eq!(shown, ["old"], "{what}"),
                }
            }
        }
    }
}

/// What somebody else has found out while a message was on its way is not undone by what was read with it.
#[tokio::test(start_paused = true)]
async fn what_is_read_behind_an_append_is_no_newer_than_a_look() {
    let bench = Bench::new(provider("UIDPLUS")).await;
    let sent = bench.state("Sent").await;
    // Others' messages come along.
    bench.provider.account().folders.get_mut("Sent").unwrap().put(&["\\Flagged"], &mail("theirs"));
    bench.account.append("Sent", vec![message("new", &[])]).await.unwrap();
    assert_eq!(bench.provider.account().said, ["APPEND", "UID FETCH"]);
    assert_eq!(sent.snapshot().messages.uids(), set("1:3"));
    // Seen and expunged by somebody else before it could be committed.
    let turn = sent.turn.lock().await;
    let (account, held) = (Arc::clone(&bench.account), message("gone", &[]));
    let append = tokio::spawn(async move { account.append("Sent", vec![held]).await });
    let provider = Arc::clone(&bench.provider);
    let deadline = Instant::now() + Duration::from_secs(5);
    while provider.account().said.len() < 4 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    provider.account().folders.get_mut("Sent").unwrap().messages.retain(|message| message.uid != 4);
    let mut turn = turn;
    bench.account.sync(&sent, &mut turn).await.unwrap();
    drop(turn);
    append.await.unwrap().unwrap();
    assert_eq!(sent.snapshot().messages.uids(), set("1:3"));
}

/// Somebody else stores another version of the same draft at the same moment: it is not taken for ours.
#[tokio::test(start_paused = true)]
async fn another_version_of_a_draft_is_another_message() {
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        let bench = Bench::new(provider("UIDPLUS")).await;
        bench.provider.arm(Some((0, fault)));
        bench.provider.account().meanwhile = Some(("APPEND", |account| {
            let theirs = format!("Date: Fri, 17 Jul 2026 02:44:25 +0000\r\n{}", mail("new"));
            account.folders.get_mut("Drafts").unwrap().put(&["Theirs"], &theirs);
        }));
        let told = bench.account.append("Drafts", vec![message("new", &[])]).await;
        if fault == Fault::CutBefore {
            assert!(told.is_err(), "{told:?}");
            assert_eq!(bench.provider.shown("Drafts"), ["new Theirs", "old"]);
        } else {
            assert_eq!(told.unwrap().unwrap().uids[0].0, 3);
            assert_eq!(bench.provider.shown("Drafts"), ["new", "new Theirs", "old"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn several_are_stored_all_or_none() {
    let messages = || vec![message("x", &[]), message("y", &[]), message("z", &[])];
    let commands = {
        let bench = Bench::new(provider("UIDPLUS")).await;
        let told = bench.account.append("INBOX", messages()).await.unwrap().unwrap();
        assert_eq!(told.uids.iter().map(|uid| uid.0).collect::<Vec<_>>(), [2, 3, 4]);
        bench.provider.account().said.clone()
    };
    for (at, command) in commands.iter().enumerate() {
        for fault in [Fault::CutBefore, Fault::CutAfter, Fault::Refused("[LIMIT] too fast")] {
            for killed in [false, true] {
                let mut bench = Bench::new(provider("UIDPLUS")).await;
                bench.provider.account().goes_down = killed;
                bench.provider.arm(Some((at, fault)));
                let told = bench.account.append("INBOX", messages()).await;
                if killed {
                    bench = bench.restart().await;
                }
                bench.account.settle_left(&["INBOX"]).await.unwrap();
                let shown = bench.provider.shown("INBOX");
                let what = format!("{fault:?} at {at} {command}, killed {killed}: {shown:?}, told {told:?}");
                let (all, none) = (shown == ["old", "x", "y", "z"], shown == ["old"]);
                // The one under way when the program was killed has a UID nobody was told.
                let under_way = killed && fault == Fault::CutAfter && command == "APPEND" && shown.len() == 2;
                assert!(all || none || under_way, "{what}");
                assert!(told.is_err() || all, "{what}");
                assert!(told.is_ok() || !all || killed, "{what}");
                assert_eq!(bench.pending().await, [""; 0], "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flag_that_append_loses_is_stored() {
    // Seen to be missing where the mailbox is looked at; known to be lost where it is not.
    for (quirks, is_read, want) in [
        (&[][..], true, "new \\Flagged \\Seen"),
        (&[Quirk::AppendLosesFlagged], false, "new \\Flagged \\Seen"),
        (&[], false, "new \\Seen"),
    ] {
        let provider = provider("UIDPLUS");
        provider.account().loses = Some("\\Flagged");
        let bench = Bench::with(provider, quirks).await;
        let account = if is_read {
            Arc::clone(&bench.account)
        } else {
            let account = begin(&bench.provider, &bench.dir, "unread", quirks);
            account.current_folders().await.unwrap();
            account
        };
        account.append("INBOX", vec![message("new", &["\\Seen", "\\Flagged"])]).await.unwrap();
        assert_eq!(bench.provider.shown("INBOX")[0], want, "{quirks:?} {is_read}");
    }
}

/// The provider has filed the copy of what was just sent, or does so while we look, or does not.
#[tokio::test(start_paused = true)]
async fn what_the_provider_has_filed_is_not_uploaded() {
    let dated = |subject: &str| {
        let now = time::OffsetDateTime::now_utc();
        let date = now.format(&time::format_description::well_known::Rfc2822).unwrap();
        format!("Date: {date}\r\n{}", mail(subject))
    };
    let sent = |subject: &str| {
        let body = Bytes::from(dated(subject));
        vec![Append { flags: Flags::parse(["\\Seen"]), date: None, body, memory: None }]
    };
    let bench = Bench::with(provider("UIDPLUS"), &[Quirk::SavesSentCopy]).await;
    bench.provider.account().folders.get_mut("Sent").unwrap().put(&[], &format!("Received: x\r\n{}", dated("one")));
    let told = bench.account.append("Sent", sent("one")).await.unwrap().unwrap();
    assert_eq!(told.uids[0].0, 2);
    assert_eq!(bench.provider.shown("Sent"), ["old", "one \\Seen"], "and has the flags asked for");

    // It comes between our first look and the second.
    bench.provider.arm(None);
    bench.provider.account().meanwhile = Some(("UID FETCH", |account| {
        account.meanwhile = Some(("SELECT", |account| {
            account.folders.get_mut("Sent").unwrap().put(&["\\Seen"], &mail("two"));
        }));
    }));
    let told = bench.account.append("Sent", sent("two")).await.unwrap().unwrap();
    assert_eq!(told.uids[0].0, 3);
    let said = bench.provider.account().said.clone();
    assert!(!said.iter().any(|name| name == "APPEND") && said.iter().filter(|name| *name == "SELECT").count() >= 2);

    // Nobody files this one; and another folder is another matter.
    bench.account.append("Sent", sent("three")).await.unwrap();
    bench.account.append("Drafts", sent("one")).await.unwrap();
    assert_eq!(bench.provider.shown("Sent"), ["old", "one \\Seen", "three \\Seen", "two \\Seen"]);
    assert_eq!(bench.provider.shown("Drafts"), ["old", "one \\Seen"]);
    // Without the quirk it is stored, whatever is there.
    let plain = Bench::new(provider("UIDPLUS")).await;
    plain.provider.account().folders.get_mut("Sent").unwrap().put(&[], &dated("one"));
    plain.account.append("Sent", sent("one")).await.unwrap();
    assert_eq!(plain.provider.shown("Sent").len(), 3);
}
