//! When something is tried, and who is told.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_away_is_asked_ever_less_and_then_gets_all() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().away = true;
    for _ in 0..3 {
        bench.keep(&["bob@example.net>"], |_| ()).await;
    }
    bench.begin();
    bench.pass(60 * MINUTE).await;
    let dialled = bench.server.lock().dialled.clone();
    // One message asks for all.
    assert_eq!(bench.minutes(&dialled), [0, 1, 3, 8, 18, 33, 48]);
    assert_eq!(bench.outbox.status().unwrap().messages, 3);
    bench.server.lock().away = false;
    bench.pass(16 * MINUTE).await;
    assert_eq!(bench.server.lock().got.len(), 3);
    assert_eq!((bench.rows().len(), bench.files()), (0, 0));
    assert_eq!(bench.outbox.status(), None);
    let (envelope, message, _) = bench.server.lock().got[0].clone();
    assert_eq!(envelope, ["MAIL FROM:<ann@example.org> RET=HDRS ENVID=QQ1", "RCPT TO:<bob@example.net>"]);
    assert_eq!(message, MESSAGE);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_put_off_waits_longer_each_time_and_is_told_at_the_end() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt = vec![("slow", "451 4.7.1 greylisted"), ("nobody", "550 5.1.1 no such user")];
    let to = ["bob@example.net>", "slow@example.net> NOTIFY=FAILURE,DELAY ORCPT=rfc822;s+2Bx@y", "nobody@example.net>"];
    bench.keep(&to, |_| ()).await;
    bench.begin();
    bench.pass(5 * HOUR).await;
    let (got, stored) = {
        let provider = bench.server.lock();
        (provider.got.len(), provider.stored.clone())
    };
    assert_eq!(got, 1, "those who are taken get it once");
    assert_eq!(stored.len(), 2, "one is refused, one is told of the delay");
    assert!(
        stored[0].1.contains("Action: failed\r\nStatus: 5.1.1\r\n") && !stored[0].1.contains("slow@"),
        "{}",
        stored[0].1
    );
    assert!(stored[1].1.contains("Action: delayed\r\n") && stored[1].1.contains("Will-Retry-Until"), "{}", stored[1].1);
    assert!(stored[1].1.contains("Original-Recipient: rfc822;s+x@y\r\n"), "{}", stored[1].1);
    bench.pass(6 * 24 * HOUR).await;
    let (dialled, stored) = {
        let provider = bench.server.lock();
        (provider.dialled.clone(), provider.stored.clone())
    };
    let tries = dialled.len();
    assert!((30..50).contains(&tries), "{tries}");
    assert_eq!(bench.minutes(&dialled[..5]), [0, 5, 15, 30, 60]);
    assert_eq!(stored.len(), 3);
    let (folder, last) = &stored[2];
    assert_eq!(*folder, Folder::Inbox);
    assert!(
        last.contains("Action: failed\r\nStatus: 4.4.7\r\n") && last.contains("smtp; 451 4.7.1 greylisted"),
        "{last}"
    );
    assert!(last.contains("Original-Envelope-Id: QQ1\r\n") && last.contains("text/rfc822-headers"), "{last}");
    assert!(!last.contains("Received: from localhost by localhost"), "our trace is not the sender's");
    assert_eq!((bench.rows().len(), bench.files()), (0, 0));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_who_does_not_want_it_or_must_not() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt = vec![("nobody", "550 5.1.1 no such user")];
    bench.keep(&["nobody@example.net> NOTIFY=NEVER", "nobody2@example.net> NOTIFY=SUCCESS"], |_| ()).await;
    bench.keep(&["nobody@example.net>"], |send| send.mail = "MAIL FROM:<>".into()).await;
    bench.keep(&["nobody@example.net>"], |send| send.silent = true).await;
    bench.begin();
    bench.pass(HOUR).await;
    assert_eq!((bench.rows().len(), bench.files()), (0, 0));
    assert_eq!(bench.server.lock().stored, []);
    bench.end().await;
}

/// Every further try would begin the block anew: nothing is tried until it is over, a restart between or not.
#[tokio::test(start_paused = true)]
async fn a_block_is_waited_out() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().verdict = "550 5.4.5 Daily user sending limit exceeded";
    for _ in 0..2 {
        bench.keep(&["bob@example.net>"], |_| ()).await;
    }
    bench.begin();
    bench.pass(2 * HOUR).await;
    bench.end().await;
    bench.outbox.view().hold = None;
    bench.begin();
    bench.outbox.kick();
    bench.pass(20 * HOUR).await;
    assert_eq!(bench.server.lock().dialled.len(), 1);
    let status = bench.outbox.status().unwrap();
    assert!(status.words.unwrap().contains("limit of messages for the day"), "told");
    assert!(bench.outbox.held(bench.outbox.now()).is_some());
    bench.server.lock().verdict = "250 2.0.0 taken";
    bench.pass(3 * HOUR).await;
    let got: Vec<Instant> = bench.server.lock().got.iter().map(|(.., at)| *at).collect();
    assert_eq!(got.len(), 3, "one refused, two taken");
    assert!(got[1].duration_since(got[0]) >= Duration::from_secs(24 * HOUR));
    assert_eq!((bench.rows().len(), bench.server.lock().stored.len()), (0, 0), "nothing failed for good");
    bench.end().await;
}

/// What is said of a recipient's account holds nobody back, and the one message that brings a block about is not the first after it.
#[tokio::test(start_paused = true)]
async fn a_recipients_account_is_not_ours() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt =
        vec![("gone", "550 5.7.1 this account is disabled"), ("odd", "550 5.4.5 over the limit")];
    bench.keep(&["gone@example.net>", "bob@example.net>"], |_| ()).await;
    bench.keep(&["odd@example.net>"], |_| ()).await;
    bench.begin();
    bench.pass(HOUR).await;
    assert_eq!(bench.server.lock().got.len(), 1, "bob has it");
    let stored = bench.server.lock().stored.clone();
    assert!(matches!(&stored[..], [(_, told)] if told.contains("gone@example.net")), "{stored:?}");
    assert!(bench.outbox.held(bench.outbox.now()).is_some());
    bench.keep(&["carl@example.net>"], |_| ()).await;
    bench.pass(24 * HOUR).await;
    let got = bench.server.lock().got.clone();
    assert!(got.len() == 2 && got[1].0[1].contains("carl"), "{got:?}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_never_shortened_or_lost() {
    let bench = Bench::new(SentCopy::Client);
    let day = bench.outbox.hold(Duration::from_secs(24 * HOUR), "day".into()).await;
    assert_eq!(bench.outbox.hold(Duration::from_secs(300), "rate".into()).await, day);
    bench.outbox.load().await.unwrap();
    assert_eq!(bench.outbox.held(bench.outbox.now()).as_deref(), Some("day"));
    // Not read yet, as after a start.
    bench.outbox.view().hold = None;
    assert_eq!(bench.outbox.hold(Duration::from_secs(300), "rate".into()).await, day);
    // `outbox retry` ends it; one whose commit has failed is not lost by that.
    let key = hold_key("ann@example.org");
    bench.state.set_value(&key, None).unwrap();
    bench.outbox.view().unwritten = true;
    bench.outbox.load().await.unwrap();
    assert!(bench.outbox.held(bench.outbox.now()).is_some());
    bench.outbox.view().unwritten = false;
    bench.outbox.load().await.unwrap();
    assert_eq!(bench.outbox.held(bench.outbox.now()), None);
}

/// A notification that cannot be written takes nothing from who was refused, and gives nobody a message twice.
#[tokio::test(start_paused = true)]
async fn what_was_sent_is_not_sent_again_for_want_of_a_notice() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt = vec![("nobody", "550 5.1.1 no such user")];
    bench.keep(&["bob@example.net>", "nobody@example.net>"], |_| ()).await;
    bench.server.lock().hides = Some(bench.outbox.dir.clone());
    bench.begin();
    bench.pass(HOUR).await;
    assert_eq!((bench.server.lock().got.len(), bench.rows().len()), (1, 1));
    std::fs::rename(bench.outbox.dir.with_extension("away"), &bench.outbox.dir).unwrap();
    bench.pass(HOUR).await;
    assert_eq!((bench.server.lock().got.len(), bench.rows().len(), bench.files()), (1, 0, 0));
    assert_eq!(bench.server.lock().stored.len(), 1);
    bench.end().await;
}
