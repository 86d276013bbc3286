//! Bodies: streamed, inline, quoted, NIL, with the UID behind them, and with nobody listening.

use tokio::sync::mpsc;

use super::*;
use crate::model::{Uid, UidSet, UidValidity};

/// Fetches and gives, per message: UID, octets, structure; `None` octets for a message without `Start`.
async fn fetch(
    lease: &mut Lease,
    uids: &str,
    part: BodyPart,
    structure: bool,
) -> (Vec<(u32, Option<Vec<u8>>, Option<String>)>, Result<(), Error>) {
    let (out, mut events) = mpsc::channel(4);
    let uids = UidSet::parse(uids).unwrap();
    let collect = async {
        let mut messages = Vec::new();
        let mut body: Option<(Uid, u64, Vec<u8>)> = None;
        while let Some(event) = events.recv().await {
            match event {
                BodyEvent::Start { uid, len, .. } => body = Some((uid, len, Vec::new())),
                BodyEvent::Chunk(chunk) => body.as_mut().unwrap().2.extend_from_slice(&chunk),
                BodyEvent::End => {
                    let (_, len, octets) = body.as_ref().unwrap();
                    assert_eq!(*len, octets.len() as u64);
                }
                BodyEvent::Done { meta, body_structure } => {
                    let uid = meta.uid.unwrap();
                    let octets = body.take().map(|(started, _, octets)| {
                        assert_eq!(started, uid);
                        octets
                    });
                    let structure = body_structure.map(|raw| String::from_utf8(raw.to_vec()).unwrap());
                    messages.push((uid.0, octets, structure));
                }
            }
        }
        messages
    };
    let run = async {
        let out = out;
        lease.fetch_bodies(&uids, part, structure, &out).await
    };
    let (outcome, messages) = tokio::join!(run, collect);
    (messages, outcome)
}

#[tokio::test(start_paused = true)]
async fn every_form_of_a_body() {
    let big = "0123456789".repeat(20_000);
    let script = format!(
        r#"C: w2 UID FETCH 1:6 (UID BODYSTRUCTURE BODY.PEEK[])
           S: * 1 FETCH (UID 1 BODYSTRUCTURE ("TEXT" "PLAIN" NIL NIL NIL "7BIT" 3 1) BODY[] {{3}}
           S- abc
           S:  FLAGS (\Seen))
           S: * 7 EXISTS
           S: * 2 FETCH (UID 2 BODY[] "q\"" BODYSTRUCTURE (x))
           S: * 3 FETCH (BODY[] {{200000}}
           S- {big}
           S:  UID 3 ODD (a))
           S: * 4 FETCH (UID 4 BODY[] NIL)
           S: * 5 FETCH (UID 5 FLAGS ())
           S: * 6 FETCH (UID 99 BODY[] {{3}}
           S- xyz
           S: )
           S: * 8 FETCH (X-BIG {{70000}}
           S- {}
           S:  UID 6 BODY[] {{0}}
           S: )
           S: w2 NO Some messages could not be FETCHed (Failure)"#,
        "z".repeat(70_000)
    )
    .replace("q\"", "q\\\"");
    let (provider, mut lease) = lease("", &script).await;
    let (messages, outcome) = fetch(&mut lease, "1:6", BodyPart::Whole, true).await;
    assert!(matches!(outcome, Err(Error::No { .. })));
    let short: Vec<_> = messages.iter().map(|(uid, octets, _)| (*uid, octets.as_ref().map(Vec::len))).collect();
    assert_eq!(short, [(1, Some(3)), (2, Some(2)), (3, Some(200_000)), (4, None), (6, Some(0))]);
    assert_eq!(messages[0].2.as_deref(), Some("(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 3 1)"));
    assert_eq!((messages[1].1.as_deref(), messages[1].2.as_deref()), (Some(&b"q\""[..]), Some("(x)")));
    assert_eq!(messages[2].1.as_deref(), Some(big.as_bytes()));
    let events = lease.take_events();
    assert!(matches!(&events[..], [Event::Exists(7), Event::Fetch(meta)] if meta.uid == Some(Uid(5))), "{events:?}");
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_large_body_with_its_uid_behind_it_is_fetched_again_alone() {
    let huge = "x".repeat(1_200_000);
    let script = format!(
        r#"C: w2 UID FETCH 1:2 (UID BODY.PEEK[])
           S: * 1 FETCH (BODY[] {{1200000}}
           S- {huge}
           S:  UID 1)
           S: * 2 FETCH (BODY[] {{2}}
           S- hi
           S:  UID 2)
           S: w2 OK
           C: w3 UID FETCH 1 (UID BODY.PEEK[])
           S: * 1 FETCH (BODY[] {{1200000}}
           S- {huge}
           S:  UID 1)
           S: w3 OK
           C: w4 UID FETCH 1 (UID BODY.PEEK[HEADER])
           S: * 1 FETCH (BODY[HEADER] {{2}}
           S- hi
           S:  UID 1)
           S: w4 OK
           C: w5 UID FETCH 2 (UID BODY.PEEK[HEADER])
           S: w5 OK"#
    );
    let (provider, mut lease) = lease("", &script).await;
    let (messages, outcome) = fetch(&mut lease, "1:2", BodyPart::Whole, false).await;
    outcome.unwrap();
    let short: Vec<_> = messages.iter().map(|(uid, octets, _)| (*uid, octets.as_ref().map(Vec::len))).collect();
    assert_eq!(short, [(2, Some(2)), (1, Some(1_200_000))]);
    let (messages, outcome) = fetch(&mut lease, "1:2", BodyPart::Header, false).await;
    outcome.unwrap();
    assert_eq!(messages.len(), 1);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn parts() {
    let (provider, mut lease) = lease(
        "",
        r#"C: w2 UID FETCH 1 (UID BODY.PEEK[1.2.MIME])
           S: * 1 FETCH (UID 1 body[1.2.mime] {3}
           S- a:b
           S: )
           S: w2 OK"#,
    )
    .await;
    let (messages, outcome) = fetch(&mut lease, "1", BodyPart::Section("1.2.MIME".into()), false).await;
    outcome.unwrap();
    assert_eq!(messages, [(1, Some(b"a:b".to_vec()), None)]);
    let (_, outcome) = fetch(&mut lease, "1", BodyPart::Section("1] BODY[".into()), false).await;
    assert!(matches!(outcome, Err(Error::No { bad: true, .. })));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_cut_short_has_no_end() {
    let (provider, mut lease) =
        lease("", "C: w2 UID FETCH 1 (UID BODY.PEEK[])\nS: * 1 FETCH (UID 1 BODY[] {100000}\nS- abc\nX").await;
    let (out, mut events) = mpsc::channel(16);
    let outcome = lease.fetch_bodies(&UidSet::parse("1").unwrap(), BodyPart::Whole, false, &out).await;
    assert!(matches!(outcome, Err(Error::Lost { sent: true, .. })));
    drop(out);
    let mut kinds = Vec::new();
    while let Some(event) = events.recv().await {
        kinds.push(matches!(event, BodyEvent::End | BodyEvent::Done { .. }));
    }
    assert_eq!(kinds, [false, false]);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_small_rest_nobody_wants_is_dropped_and_a_large_one_ends_the_session() {
    let (provider, mut lease) = lease(
        "",
        "C: w2 UID FETCH 1 (UID BODY.PEEK[])\nS: * 1 FETCH (UID 1 BODY[] {3}\nS- abc\nS: )\nS: w2 OK\nC: w3 NOOP\nS: w3 OK\n\
         C: w4 UID FETCH 1 (UID BODY.PEEK[])\nS: * 1 FETCH (UID 1 BODY[] {9000000}\nS- abc\nE",
    )
    .await;
    let uids = UidSet::parse("1").unwrap();
    let (out, mut events) = mpsc::channel(1);
    // The receiver leaves after the first event of each.
    let listen = async {
        events.recv().await;
        events.close();
        while events.recv().await.is_some() {}
    };
    let (outcome, ()) = tokio::join!(lease.fetch_bodies(&uids, BodyPart::Whole, false, &out), listen);
    outcome.unwrap();
    lease.noop().await.unwrap();
    let (out, mut events) = mpsc::channel(1);
    let listen = async {
        events.recv().await;
        events.close();
        while events.recv().await.is_some() {}
    };
    let (outcome, ()) = tokio::join!(lease.fetch_bodies(&uids, BodyPart::Whole, false, &out), listen);
    assert!(matches!(outcome, Err(Error::Lost { .. })), "{outcome:?}");
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn the_receiver_pushes_back() {
    let (provider, mut lease) = lease(
        "",
        &format!(
            "C: w2 UID FETCH 1 (UID BODY.PEEK[])\nS: * 1 FETCH (UID 1 BODY[] {{900000}}\nS- {}\nS: )\nS: w2 OK",
            "y".repeat(900_000)
        ),
    )
    .await;
    let (out, mut events) = mpsc::channel(1);
    let uids = UidSet::parse("1").unwrap();
    let slow = async {
        let mut octets = 0;
        while let Some(event) = events.recv().await {
            // Slower than any read time-out: waiting for us is not the provider's silence.
            tokio::time::sleep(Duration::from_secs(100)).await;
            match event {
                BodyEvent::Chunk(chunk) => octets += chunk.len(),
                BodyEvent::Done { .. } => break,
                BodyEvent::Start { .. } | BodyEvent::End => {}
            }
        }
        octets
    };
    let (outcome, octets) = tokio::join!(lease.fetch_bodies(&uids, BodyPart::Whole, false, &out), slow);
    outcome.unwrap();
    assert_eq!(octets, 900_000);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn many_small_rests_nobody_wants_end_the_session_too() {
    let mut script = String::from("C: w2 UID FETCH 1:40 (UID BODY.PEEK[])\n");
    for uid in 1..=40 {
        script.push_str(&format!("S: * {uid} FETCH (UID {uid} BODY[] {{30000}}\nS- {}\nS: )\n", "z".repeat(30_000)));
    }
    let (_provider, mut lease) = lease("", &script).await;
    let (out, mut events) = mpsc::channel(1);
    events.close();
    let outcome = lease.fetch_bodies(&UidSet::parse("1:40").unwrap(), BodyPart::Whole, false, &out).await;
    // Nobody there from the start: not even asked.
    outcome.unwrap();
    let (out, mut events) = mpsc::channel(1);
    let listen = async {
        events.recv().await;
        events.close();
        while events.recv().await.is_some() {}
    };
    let uids = UidSet::parse("1:40").unwrap();
    let (outcome, ()) = tokio::join!(lease.fetch_bodies(&uids, BodyPart::Whole, false, &out), listen);
    assert!(matches!(outcome, Err(Error::Lost { .. })), "{outcome:?}");
}

/// The same in a mailbox that may have to be selected first; what came is told as in [`fetch`].
async fn fetch_in(lease: &mut Lease, mailbox: &str, uids: &str) -> (Vec<(u32, usize)>, Result<(), Error>) {
    let (out, mut events) = mpsc::channel(4);
    let uids = UidSet::parse(uids).unwrap();
    let collect = async {
        let mut messages = Vec::new();
        while let Some(event) = events.recv().await {
            if let BodyEvent::Start { uid, len, .. } = event {
                messages.push((uid.0, len as usize));
            }
        }
        messages
    };
    let run = async {
        let out = out;
        lease.fetch_bodies_in(mailbox, UidValidity(7), &uids, BodyPart::Whole, false, &out).await
    };
    let (outcome, messages) = tokio::join!(run, collect);
    (messages, outcome)
}

/// The peer answers nothing before it has all of it: one flight.
#[tokio::test(start_paused = true)]
async fn select_and_fetch_go_out_together_and_once() {
    let (provider, mut lease) = lease(
        "",
        r#"C: w2 SELECT "a"
           C: w3 UID FETCH 5 (UID BODY.PEEK[])
           S: * 3 EXISTS
           S: * OK [UIDVALIDITY 7] ok
           S: * OK [UIDNEXT 100] ok
           S: w2 OK [READ-WRITE] done
           S: * 2 EXPUNGE
           S: * 1 FETCH (UID 5 BODY[] {3}
           S- abc
           S: )
           S: w3 OK
           C: w4 UID FETCH 6:7 (UID BODY.PEEK[])
           S: * 2 FETCH (UID 6 BODY[] "xy")
           S: w4 OK"#,
    )
    .await;
    let (messages, outcome) = fetch_in(&mut lease, "a", "5").await;
    assert_eq!((messages, outcome), (vec![(5, 3)], Ok(())));
    assert_eq!(lease.selected().map(|(name, selected)| (name, selected.exists)), Some(("a", 2)));
    assert_eq!(lease.take_events(), [Event::Expunge(2)]);
    let (messages, outcome) = fetch_in(&mut lease, "a", "6:7").await;
    assert_eq!((messages, outcome), (vec![(6, 2)], Ok(())));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_left_over_is_ended_in_the_same_flight() {
    let (provider, mut lease) = lease(
        "IDLE",
        r#"C: w2 SELECT "b"
           S: * 9 EXISTS
           S: * OK [UIDVALIDITY 7] ok
           S: * OK [UIDNEXT 100] ok
           S: w2 OK
           C: w3 IDLE
           S: + idling
           C: DONE
           C: w4 SELECT "a"
           C: w5 UID FETCH 5 (UID BODY.PEEK[])
           S: * 8 EXPUNGE
           S: w3 OK
           S: * 3 EXISTS
           S: * OK [UIDVALIDITY 7] ok
           S: * OK [UIDNEXT 100] ok
           S: w4 OK
           S: * 1 FETCH (UID 5 BODY[] "xyz")
           S: w5 OK"#,
    )
    .await;
    lease.select("b").await.unwrap();
    // Left as a watcher leaves it whose session is wanted.
    let idling = lease.idle(Duration::from_secs(600), pace(), std::future::pending());
    assert!(tokio::time::timeout(Duration::from_secs(1), idling).await.is_err());
    let (messages, outcome) = fetch_in(&mut lease, "a", "5").await;
    assert_eq!((messages, outcome), (vec![(5, 3)], Ok(())));
    assert_eq!(lease.take_events(), [], "what was heard of the mailbox that was left");
    assert_eq!(lease.selected().map(|(name, selected)| (name, selected.exists)), Some(("a", 3)));
    provider.done().await;
}

/// What a FETCH sent on trust gives is dropped when the SELECT before it does not bear it out.
#[tokio::test(start_paused = true)]
async fn nothing_is_believed_of_another_mailbox() {
    let body = "x".repeat(9000);
    let script = format!(
        r#"C: w2 SELECT "a"
           C: w3 UID FETCH 5:6 (UID BODY.PEEK[])
           S: * OK [UIDVALIDITY 8] ok
           S: w2 OK
           S: * 1 FETCH (UID 5 BODY[] {{9000}}
           S- {body}
           S: )
           S: * 2 FETCH (UID 6 BODY[] "xyz")
           S: w3 OK
           C: w4 SELECT "gone"
           C: w5 UID FETCH 5 (UID BODY.PEEK[])
           S: w4 NO [NONEXISTENT] no such mailbox
           S: w5 BAD no mailbox selected
           C: w6 NOOP
           S: w6 OK"#
    );
    let (provider, mut lease) = lease("", &script).await;
    assert_eq!(fetch_in(&mut lease, "a", "5:6").await, (vec![], Err(Error::Replaced)));
    let (messages, outcome) = fetch_in(&mut lease, "gone", "5").await;
    assert!(
        matches!(&outcome, Err(Error::No { code: Some(code), bad: false, .. }) if code == "NONEXISTENT"),
        "{outcome:?}"
    );
    assert_eq!(messages, []);
    assert!(lease.selected().is_none());
    lease.noop().await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_large_body_of_another_mailbox_is_not_waited_for() {
    let script = r#"C: w2 SELECT "a"
           C: w3 UID FETCH 5 (UID BODY.PEEK[])
           S: * OK [UIDVALIDITY 8] ok
           S: w2 OK
           S: * 1 FETCH (UID 5 BODY[] {90000000}
           S- xxx
           H"#;
    let (provider, mut lease) = lease("", script).await;
    assert_eq!(fetch_in(&mut lease, "a", "5").await, (vec![], Err(Error::Replaced)));
    assert!(!lease.is_usable());
    provider.done().await;
}

/// A session that rested for long is asked in the same flight whether it lives, and is not waited for as long as another.
#[tokio::test(start_paused = true)]
async fn a_dead_session_shows_soon() {
    let script = r#"C: w2 NOOP
           C: w3 SELECT "a"
           C: w4 UID FETCH 5 (UID BODY.PEEK[])
           S: w2 OK
           S: * OK [UIDVALIDITY 7] ok
           S: * OK [UIDNEXT 100] ok
           S: w3 OK
           S: w4 OK
           C: w5 NOOP
           C: w6 UID FETCH 5 (UID BODY.PEEK[])
           H"#;
    let (provider, mut lease) = lease("", script).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(fetch_in(&mut lease, "a", "5").await, (vec![], Ok(())));
    tokio::time::sleep(Duration::from_secs(100)).await;
    let start = tokio::time::Instant::now();
    let (_, outcome) = fetch_in(&mut lease, "a", "5").await;
    assert!(matches!(outcome, Err(Error::Lost { sent: true, .. })), "{outcome:?}");
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    provider.done().await;
}

/// A name that cannot be quoted waits for its `+`; then everything goes in turn.
#[tokio::test(start_paused = true)]
async fn a_name_that_takes_a_literal_goes_alone() {
    let script = "C: w2 SELECT {2}\nS: + go\nC: \\xC3\\xA9\nS: * OK [UIDVALIDITY 7] ok\nS: w2 OK\n\
                  C: w3 UID FETCH 5 (UID BODY.PEEK[])\nS: * 1 FETCH (UID 5 BODY[] \"xyz\")\nS: w3 OK";
    let (provider, mut lease) = lease("", script).await;
    assert_eq!(fetch_in(&mut lease, "é", "5").await, (vec![(5, 3)], Ok(())));
    provider.done().await;
}
