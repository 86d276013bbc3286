//! What goes wrong with a session: lost at each step, BYE, silence, nonsense, cancellation.

use bytes::Bytes;

use super::*;
use crate::model::Flags;

fn lost(error: &Error) -> Option<bool> {
    match error {
        Error::Lost { sent, .. } => Some(*sent),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn lost_says_whether_the_command_was_sent() {
    // What the provider does, and whether a byte of the command left us.
    let table = [
        ("X", false),
        ("S: * BYE Autologout; idle for too long\nE", false),
        ("C: w2 CREATE \"a\"\nX", true),
        ("C: w2 CREATE \"a\"\nS: * BYE Session expired\nE", true),
        ("C: w2 CREATE \"a\"\nS- w2 O\nX", true),
        ("C: w2 CREATE \"a\"\nH", true),
    ];
    for (script, sent) in table {
        let (provider, mut lease) = lease("", script).await;
        if !sent {
            // The end has come before we speak.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let error = lease.create("a", None).await.unwrap_err();
        assert_eq!(lost(&error), Some(sent), "{script}: {error}");
        let again = lease.create("a", None).await.unwrap_err();
        assert_eq!(lost(&again), Some(false), "{script}: {again}");
        provider.done().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_farewell_is_told() {
    let (provider, mut lease) = lease("", "C: w2 NOOP\nS: * BYE [UNAVAILABLE] going down {3}\nE").await;
    let error = lease.noop().await.unwrap_err();
    assert!(error.to_string().contains("going down {3}"), "{error}");
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn silence_ends_after_the_read_timeout_begun_anew_by_every_byte() {
    let (provider, mut lease) = lease("", "C: w2 NOOP\nS- * 1 EX\nH").await;
    let start = tokio::time::Instant::now();
    assert_eq!(lost(&lease.noop().await.unwrap_err()), Some(true));
    assert_eq!(start.elapsed(), READ_TIMEOUT);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn lost_within_a_literal() {
    let body = Bytes::from(vec![b'x'; 500_000]);
    for script in
        ["C: w2 APPEND \"a\" {500000}\nX", "C: w2 APPEND \"a\" {500000}\nS: + \nX", "C: w2 APPEND \"a\" {500000}\nH"]
    {
        let (provider, mut lease) = lease("", script).await;
        let error = lease.append("a", &Flags::default(), None, &body).await.unwrap_err();
        assert_eq!(lost(&error), Some(true), "{script}");
        provider.done().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nonsense_loses_a_line_and_broken_framing_the_session() {
    let (provider, mut lease) = lease(
        "",
        "C: w2 NOOP\nS: Server Unavailable. 15\nS: \nS: * \nS: * 1 FETCH (\nS: + what\nS: zz OK not ours\nS: \\xFF\\xFE\\0\n\
         S: * 3 FETCH (FLAGS (\\Seen) ODD {3}\nS: a\\0b)\nS: w2 OK caf\\xE9\nC: w3 NOOP\nS: * X {99999999999999999999}\nE",
    )
    .await;
    lease.noop().await.unwrap();
    assert!(matches!(lease.noop().await, Err(Error::Protocol(_))));
    assert_eq!(lost(&lease.noop().await.unwrap_err()), Some(false));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_command_closes_its_session() {
    let provider = Provider::new([session("", "C: w2 NOOP\nE"), session("", "C: w2 NOOP\nS: w2 OK")]);
    let pool = pool_of(&provider, 1);
    let mut lease = pool.lease(Class::Sync, None).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), lease.noop()).await.is_err());
    drop(lease);
    let mut lease = pool.lease(Class::Sync, None).await.unwrap();
    lease.noop().await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_used_on_after_a_cancelled_command_says_that_nothing_was_sent() {
    let (provider, mut lease) = lease("", "C: w2 NOOP\nE").await;
    assert!(tokio::time::timeout(Duration::from_secs(1), lease.noop()).await.is_err());
    assert_eq!(lost(&lease.create("a", None).await.unwrap_err()), Some(false));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_in_idle_is_noticed() {
    let (provider, mut lease) = lease("IDLE", "C: w2 IDLE\nS: + \nH").await;
    let start = tokio::time::Instant::now();
    assert_eq!(
        lost(&lease.idle(Duration::from_secs(300), pace(), std::future::pending()).await.unwrap_err()),
        Some(true)
    );
    assert_eq!(start.elapsed(), Duration::from_secs(300) + READ_TIMEOUT);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn words_about_the_account_stop_every_session() {
    let (provider, mut lease) = lease(
        "",
        "C: w2 NOOP\nS: w2 BAD Request is throttled. Suggested Backoff Time: 90000 milliseconds\nC: w3 NOOP\nS: w3 OK",
    )
    .await;
    for _ in 0..2 {
        let error = lease.noop().await.unwrap_err();
        assert!(
            matches!(error, Error::Unavailable { retry_after, .. } if retry_after == Duration::from_secs(90)),
            "{error}"
        );
    }
    tokio::time::sleep(Duration::from_secs(90)).await;
    lease.noop().await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_body_fetch_closes_its_session_and_a_full_channel_does_not() {
    let head = "C: w2 UID FETCH 1 (UID BODY.PEEK[])\nS: * 1 FETCH (UID 1 BODY[] {70000}\nS- ";
    let whole = format!("{head}{}\nS: )\nS: w2 OK", "x".repeat(70_000));
    let provider = Provider::new([session("", &format!("{head}abc\nE")), session("", &whole)]);
    let pool = pool_of(&provider, 1);
    let uids = crate::model::UidSet::parse("1").unwrap();
    let (out, mut events) = tokio::sync::mpsc::channel(64);
    let mut lease = pool.lease(Class::Sync, None).await.unwrap();
    let cut =
        tokio::time::timeout(Duration::from_secs(1), lease.fetch_bodies(&uids, BodyPart::Whole, false, &out)).await;
    assert!(cut.is_err() && !lease.is_usable());
    drop(lease);
    assert!(matches!(events.try_recv(), Ok(BodyEvent::Start { len: 70_000, .. })));
    let mut lease = pool.lease(Class::Sync, None).await.unwrap();
    lease.fetch_bodies(&uids, BodyPart::Whole, false, &out).await.unwrap();
    assert!(lease.is_usable());
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_idle_can_be_parked_and_taken_up() {
    let provider = Provider::new([session("IDLE", "C: w2 IDLE\nS: + \nC: DONE\nS: w2 OK\nC: w3 NOOP\nS: w3 OK")]);
    let pool = pool_of(&provider, 1);
    let mut lease = pool.lease(Class::Watch, None).await.unwrap();
    assert!(
        tokio::time::timeout(
            Duration::from_secs(1),
            lease.idle(Duration::from_secs(600), pace(), std::future::pending())
        )
        .await
        .is_err()
    );
    drop(lease);
    pool.lease(Class::Interactive, None).await.unwrap().noop().await.unwrap();
    assert_eq!(provider.dialled(), 1);
    provider.done().await;
}

/// A server that repeats itself without end fills no memory.
#[tokio::test(start_paused = true)]
async fn more_answers_than_there_can_be_are_not_kept() {
    const LINES: usize = 100_010;
    let flood = "S: * 1 FETCH (UID 1 FLAGS ())\n".repeat(LINES);
    let (provider, mut lease) = lease("", &format!("C: w2 UID FETCH 1:* (UID FLAGS)\n{flood}S: w2 OK")).await;
    let mut kept = 0;
    let error = lease.fetch_meta("1:*", Items::Flags, None, &mut |_| kept += 1).await.unwrap_err();
    assert!(matches!(&error, Error::Protocol(words) if words.contains("100010 answers")), "{error}");
    assert_eq!(kept, 100_000);
    provider.done().await;
}
