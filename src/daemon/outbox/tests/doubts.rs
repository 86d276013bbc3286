//! The lone dot was sent, and no answer came.

use super::*;

/// The doubt window: the dot was sent and no answer came.
#[tokio::test(start_paused = true)]
async fn a_doubt_is_looked_into_where_the_provider_files() {
    for (sent_copy, filed, again) in [
        (SentCopy::Provider, Some(true), false),
        (SentCopy::Provider, Some(false), true),
        (SentCopy::Client, Some(true), true),
    ] {
        let mut bench = Bench::new(sent_copy);
        (bench.server.lock().verdict, bench.server.lock().filed) = ("", filed);
        bench.keep(&["bob@example.net>"], |_| ()).await;
        bench.begin();
        bench.pass(30).await;
        let rows = bench.rows();
        assert!(matches!(&rows[..], [Entry { what: What::Send(send), .. }] if send.is_in_doubt()), "{rows:?}");
        bench.server.lock().verdict = "250 2.0.0 taken";
        bench.pass(HOUR).await;
        assert_eq!(bench.server.lock().got.len(), 1 + usize::from(again), "{sent_copy:?} {filed:?}");
        let looks = bench.server.lock().looks;
        assert_eq!(
            looks,
            if sent_copy == SentCopy::Client {
                0
            } else if again {
                3
            } else {
                1
            }
        );
        assert_eq!((bench.rows().len(), bench.files()), (0, 0));
        bench.end().await;
    }
    // A provider that never answers is not sent the same for ever: the sender is told.
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().verdict = "";
    bench.keep(&["bob@example.net>"], |_| ()).await;
    bench.begin();
    bench.pass(24 * HOUR).await;
    let times: Vec<Instant> = bench.server.lock().got.iter().map(|(.., at)| *at).collect();
    assert_eq!(bench.minutes(&times), [0, 6, 17]);
    let stored = bench.server.lock().stored.clone();
    assert!(
        matches!(&stored[..], [(Folder::Inbox, told)] if told.contains("was lost before it answered")),
        "{stored:?}"
    );
    assert_eq!((bench.rows().len(), bench.files()), (0, 0));
    bench.end().await;
    // While it cannot be looked, nothing is sent.
    let mut bench = Bench::new(SentCopy::Provider);
    (bench.server.lock().verdict, bench.server.lock().filed) = ("", None);
    bench.keep(&["bob@example.net>"], |_| ()).await;
    bench.begin();
    bench.pass(24 * HOUR).await;
    assert_eq!(bench.server.lock().got.len(), 1);
    bench.server.lock().filed = Some(true);
    bench.pass(HOUR).await;
    assert_eq!((bench.server.lock().got.len(), bench.rows().len()), (1, 0));
    bench.end().await;
}

/// The row says that the dot is sent before it is, and what was dropped until then is not sent.
#[tokio::test(start_paused = true)]
async fn the_row_comes_before_the_dot() {
    use super::transaction::{Journal, run};
    struct Watching<'a>(&'a Bench, bool);
    impl Journal for Watching<'_> {
        async fn about_to_send(&mut self, taken: &[usize]) -> Result<(), String> {
            assert_eq!(taken, [0]);
            assert!(self.0.server.lock().got.is_empty(), "nothing was sent yet");
            if self.1 { Ok(()) } else { Err("dropped".into()) }
        }
    }
    for goes in [false, true] {
        let mut bench = Bench::new(SentCopy::Client);
        bench.keep(&["bob@example.net>"], |_| ()).await;
        let Some(Entry { file, what: What::Send(send), .. }) = bench.rows().pop() else { panic!("a row") };
        let config = SmtpConfig {
            label: "ann".into(),
            dial: Arc::new(bench.server.clone()),
            username: "ann".into(),
            meter: Arc::new(()),
            postage: Arc::new(()),
        };
        let passage = Smtp::new(config).lease(&Credentials::Password(Secret::new(*b"pw"))).await.unwrap();
        let path = bench.outbox.dir.join(file);
        let fates = run(passage, &send, (&path, MESSAGE.len() as u64), "", &mut Watching(&bench, goes)).await;
        assert_eq!((fates.is_some(), bench.server.lock().got.len()), (goes, usize::from(goes)));
        bench.begin();
        bench.end().await;
    }
}

/// A server that speaks before the dot is not sent it, and what it says is no acceptance.
#[tokio::test(start_paused = true)]
async fn a_stray_word_before_the_dot_is_no_acceptance() {
    use super::transaction::{Fate, Journal, run};
    struct Slow;
    impl Journal for Slow {
        async fn about_to_send(&mut self, _: &[usize]) -> Result<(), String> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
    }
    for (early, is_refusal) in [("250 2.0.0 stray\r\n", false), ("552 5.3.4 enough\r\n", true)] {
        let bench = Bench::new(SentCopy::Client);
        bench.server.lock().early = early;
        bench.keep(&["bob@example.net>"], |_| ()).await;
        let Some(Entry { file, what: What::Send(send), .. }) = bench.rows().pop() else { panic!("a row") };
        let config = SmtpConfig {
            label: "ann".into(),
            dial: Arc::new(bench.server.clone()),
            username: "ann".into(),
            meter: Arc::new(()),
            postage: Arc::new(()),
        };
        let passage = Smtp::new(config).lease(&Credentials::Password(Secret::new(*b"pw"))).await.unwrap();
        let path = bench.outbox.dir.join(file);
        let fates = run(passage, &send, (&path, MESSAGE.len() as u64), "", &mut Slow).await.unwrap();
        match is_refusal {
            true => assert!(matches!(&fates[..], [Fate::Failed(_)]), "{fates:?}"),
            false => assert!(matches!(&fates[..], [Fate::Lost(_)]), "{fates:?}"),
        }
        assert!(bench.server.lock().got.is_empty(), "the dot was not sent");
    }
}
