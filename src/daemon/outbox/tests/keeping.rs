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
