//! What is kept, and what is stored over IMAP.

use super::*;

/// A notification is stored until it is stored, and not twice after a crash.
#[tokio::test(start_paused = true)]
async fn a_notification_is_stored_once() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt = vec![("nobody", "550 5.1.1 no such user")];
    bench.server.lock().refuses_store = true;
    bench.keep(&["nobody@example.net>"], |_| ()).await;
    bench.begin();
    bench.pass(3 * HOUR).await;
    let rows = bench.rows();
    assert!(matches!(&rows[..], [Entry { what: What::File(file), .. }] if file.begun), "{rows:?}");
    // It was stored, and we were killed before we could write that down.
    bench.server.lock().stored.push((Folder::Inbox, "there".into()));
    bench.server.lock().refuses_store = false;
    bench.pass(2 * HOUR).await;
    assert_eq!((bench.server.lock().stored.len(), bench.rows().len(), bench.files()), (1, 0, 0));
    bench.end().await;
}

#[tokio::test]
async fn there_is_an_end_to_room() {
    let bench = Bench::new(SentCopy::Client);
    let limits = bench.outbox.limits();
    assert!(bench.outbox.has_room(limits.octets) && !bench.outbox.has_room(limits.octets + 1));
    bench.outbox.spooling.store(limits.octets, Ordering::Relaxed);
    assert!(bench.outbox.has_room(0) && !bench.outbox.has_room(1));
    bench.outbox.view().messages = limits.messages;
    assert!(!bench.outbox.has_room(0));
}

/// A disk that hangs for longer than the client waits, who was told to try again: no row, no file, whenever it comes back.
#[tokio::test(start_paused = true)]
async fn a_commit_that_comes_too_late_leaves_nothing() {
    let mut bench = Bench::new(SentCopy::Client);
    let ((begun, begins), (release, held)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let state = bench.state.clone();
    let stalled = std::thread::spawn(move || state.stall(&begun, &held));
    begins.recv().unwrap();
    let name = spool::write(&bench.outbox.dir, MESSAGE.as_bytes()).unwrap();
    let send = Sending { mail: "MAIL FROM:<ann@example.org>".into(), ..Sending::default() };
    let item = Entry::new(name.clone(), What::Send(send)).item(bench.outbox.now(), bench.outbox.now(), 7);
    let (outbox, file) = (Arc::clone(&bench.outbox), spool::Held::of(bench.outbox.dir.join(name)));
    let adding = tokio::spawn(async move { outbox.add(item, file).await });
    while bench.outbox.order.try_lock().is_ok() {
        tokio::task::yield_now().await;
    }
    // The sender waits for the end of it before it reads anything.
    bench.begin();
    tokio::time::advance(commits::COMMIT + Duration::from_secs(1)).await;
    let words = adding.await.unwrap().unwrap_err();
    assert!(words.contains("does not answer"), "{words}");
    assert!(bench.outbox.order.try_lock().is_err(), "its end is not known");
    release.send(()).unwrap();
    stalled.join().unwrap();
    drop(bench.outbox.order.lock().await);
    assert_eq!((bench.rows().len(), bench.files()), (0, 0));
    bench.pass(HOUR).await;
    assert!(bench.server.lock().dialled.is_empty() && bench.outbox.load().await.unwrap().is_empty());
    bench.keep(&["bob@example.net>"], |_| ()).await;
    bench.pass(MINUTE).await;
    assert_eq!(bench.server.lock().got.len(), 1, "and it goes on");
    bench.end().await;
}

/// A mail program's own copy waits with its message, and is stored only where nobody else has filed one.
#[tokio::test(start_paused = true)]
async fn a_copy_of_what_waits_waits_with_it() {
    use crate::engine::{Append, Unsent as _};
    use crate::model::Flags;
    for filed in [true, false] {
        let mut bench = Bench::new(SentCopy::Provider);
        bench.server.lock().away = true;
        bench.server.lock().filed = Some(filed);
        bench.keep(&["bob@example.net>"], |_| ()).await;
        bench.begin();
        let copy = |text: &'static str| Append { flags: Flags::default(), date: None, body: text.into(), memory: None };
        let own = "Message-ID: <1@example.org>\r\n\r\nmy own\r\n";
        assert!(!bench.outbox.take_copy("<2@example.org>", &copy("another")).await);
        for _ in 0..2 {
            assert!(bench.outbox.take_copy("<1@example.org>", &copy(own)).await);
        }
        assert_eq!((bench.rows().len(), bench.files()), (2, 2), "once");
        // A restart between changes nothing.
        bench.pass(HOUR).await;
        bench.end().await;
        bench.begin();
        bench.pass(HOUR).await;
        assert_eq!((bench.rows().len(), bench.server.lock().stored.len()), (2, 0));
        bench.server.lock().away = false;
        bench.pass(HOUR).await;
        assert_eq!((bench.rows().len(), bench.files(), bench.server.lock().got.len()), (0, 0, 1));
        let stored = bench.server.lock().stored.clone();
        let want = if filed { vec![] } else { vec![(Folder::Sent, own.to_owned())] };
        assert_eq!(stored, want, "filed: {filed}");
        bench.end().await;
    }
}

/// What is too large to be stored is not read into memory to find that out.
#[tokio::test(start_paused = true)]
async fn a_copy_too_large_is_given_up_in_its_time() {
    let mut bench = Bench::new(SentCopy::Mailweir);
    let name = spool::write(&bench.outbox.dir, b"x").unwrap();
    let now = bench.outbox.now();
    let item = Entry::new(name.clone(), What::File(entry::File::new(Folder::Sent, None, true)));
    bench
        .outbox
        .add(item.item(now, now, 2 << 20), spool::Held::of(bench.outbox.dir.join(name)))
        .await
        .unwrap()
        .unwrap();
    bench.begin();
    bench.pass(HOUR).await;
    assert!(bench.outbox.status().unwrap().words.is_some_and(|words| words.contains("larger")));
    bench.pass(6 * 24 * HOUR).await;
    assert_eq!((bench.rows().len(), bench.files(), bench.server.lock().stored.len()), (0, 0, 0));
    bench.end().await;
}
