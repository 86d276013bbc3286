//! STORE, EXPUNGE, COPY, MOVE, APPEND, CONDSTORE and QRESYNC: one client that writes.

use super::*;
use crate::model::FlagOp;

fn filled(count: usize) -> Bench {
    let bench = Bench::new();
    for _ in 0..count {
        bench.account.mailbox("INBOX").deliver(MESSAGE);
    }
    bench
}

#[tokio::test(start_paused = true)]
async fn store_answers() {
    filled(3)
        .play(
            "INBOX",
            r#"
            C: a STORE 1:2 +FLAGS (\Seen)
            S: * 1 FETCH (FLAGS (\Seen))
            S: * 2 FETCH (FLAGS (\Seen))
            S: a OK Store completed
            C: b STORE 2 FLAGS \Seen
            S: * 2 FETCH (FLAGS (\Seen))
            S: b OK Store completed
            C: c STORE 2 -FLAGS.SILENT (\Seen)
            S: c OK Store completed
            C: d UID STORE 2:* +FLAGS ($New)
            S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $New)
            S: * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $New \*)] Flags permitted
            S: * 2 FETCH (UID 2 FLAGS ($New))
            S: * 3 FETCH (UID 3 FLAGS ($New))
            S: d OK Store completed
            C: e UID STORE 50 +FLAGS (\Seen)
            S: e OK Store completed
            C: f STORE 4 +FLAGS (\Seen)
            S: f BAD Error in IMAP command STORE: Invalid messageset
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn conditional_store() {
    let bench = filled(3);
    let inbox = bench.account.mailbox("INBOX");
    inbox.flag(2, FlagOp::Add, "\\Flagged");
    bench
        .play(
            "INBOX",
            r#"
            C: a STORE 1:3 (UNCHANGEDSINCE 4) +FLAGS.SILENT (\Seen)
            S: * OK [HIGHESTMODSEQ 5] Highest
            S: * 1 FETCH (UID 1 MODSEQ (6))
            S: * 2 FETCH (UID 2 FLAGS (\Flagged) MODSEQ (5))
            S: * 3 FETCH (UID 3 MODSEQ (6))
            S: a OK [MODIFIED 2] Conditional store failed for some
            C: b UID STORE 2 (UNCHANGEDSINCE 5) +FLAGS (\Seen)
            S: * 2 FETCH (UID 2 FLAGS (\Flagged \Seen) MODSEQ (7))
            S: b OK Store completed
            C: c FETCH 1:* (FLAGS) (CHANGEDSINCE 6)
            S: * 2 FETCH (FLAGS (\Flagged \Seen) MODSEQ (7))
            S: c OK Fetch completed
            C: d FETCH 1 (MODSEQ)
            S: * 1 FETCH (MODSEQ (6))
            S: d OK Fetch completed
            C: e UID FETCH 1:* (FLAGS) (CHANGEDSINCE 0)
            S: * 1 FETCH (UID 1 FLAGS (\Seen) MODSEQ (6))
            S: * 2 FETCH (UID 2 FLAGS (\Flagged \Seen) MODSEQ (7))
            S: * 3 FETCH (UID 3 FLAGS (\Seen) MODSEQ (6))
            S: e OK Fetch completed
            C: f UID FETCH 1:* (FLAGS) (CHANGEDSINCE 0 VANISHED)
            S: f BAD VANISHED needs QRESYNC enabled, UID FETCH and CHANGEDSINCE
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn expunge() {
    filled(5)
        .play(
            "INBOX",
            r#"
            C: a STORE 1,3,5 +FLAGS.SILENT (\Deleted)
            S: a OK Store completed
            C: b UID EXPUNGE 2:3
            S: * 3 EXPUNGE
            S: b OK Expunge completed
            C: c EXPUNGE
            S: * 4 EXPUNGE
            S: * 1 EXPUNGE
            S: c OK Expunge completed
            C: d EXPUNGE
            S: d OK Expunge completed
            C: e UID FETCH 1:* FLAGS
            S: * 1 FETCH (UID 2 FLAGS ())
            S: * 2 FETCH (UID 4 FLAGS ())
            S: e OK Fetch completed
            C: f STORE 1 +FLAGS.SILENT (\Deleted)
            S: f OK Store completed
            C: g CLOSE
            S: g OK Close completed
            C: h UNSELECT
            S: h BAD No mailbox selected
            C: i STATUS INBOX (MESSAGES)
            S: * STATUS INBOX (MESSAGES 1)
            S: i OK Status completed
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn copy_and_move() {
    filled(4)
        .play(
            "INBOX",
            r#"
            C: a COPY 1,3 Sent
            S: a OK [COPYUID 102 1,3 1:2] Copy completed
            C: b COPY 1 nowhere
            S: b NO [TRYCREATE] Mailbox does not exist
            C: c UID COPY 90 Sent
            S: c OK No messages found
            C: d MOVE 2:3 Sent
            S: * OK [COPYUID 102 2:3 3:4] Moved UIDs
            S: * 3 EXPUNGE
            S: * 2 EXPUNGE
            S: d OK Move completed
            C: e UID MOVE 4 Sent
            S: * OK [COPYUID 102 4 5] Moved UIDs
            S: * 2 EXPUNGE
            S: e OK Move completed
            C: f COPY 1 INBOX
            S: * 2 EXISTS
            S: * 0 RECENT
            S: f OK [COPYUID 101 1 5] Copy completed
            C: g COPY 9 Sent
            S: g BAD Error in IMAP command COPY: Invalid messageset
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn append() {
    filled(0)
        .play(
            "INBOX",
            r#"
            C: a APPEND INBOX (\Seen $Work) " 7-Feb-2026 21:52:25 -0800" {14}
            S: + OK
            C: Subject: a
            C: 
            C: 
            S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work)
            S: * OK [PERMANENTFLAGS …
            S: * 1 EXISTS
            S: * 0 RECENT
            S: a OK [APPENDUID 101 1] Append completed
            C: b UID FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE)
            S: * 1 FETCH (UID 1 FLAGS (\Seen $Work) INTERNALDATE "07-Feb-2026 21:52:25 -0800" RFC822.SIZE 14)
            S: b OK Fetch completed
            C: c APPEND INBOX {3+}
            C: a
            C:  (\Draft) {3+}
            C: b
            C: 
            S: * 3 EXISTS
            S: * 0 RECENT
            S: c OK [APPENDUID 101 2:3] Append completed
            C: d APPEND nowhere {3}
            S: d NO [TRYCREATE] Mailbox does not exist
            C: e APPEND nowhere {3+}
            C: x
            C: 
            S: e NO [TRYCREATE] Mailbox does not exist
            C: f APPEND INBOX {10000001}
            S: f NO [TOOBIG] Message is larger than 10000000 octets
            C: g APPEND INBOX {0+}
            C: 
            S: g NO [CANNOT] An empty message is not taken
            C: h APPEND INBOX "no date" {3}
            S: h BAD APPEND: malformed date
            C: i NOOP
            S: i OK NOOP completed
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn qresync() {
    let bench = filled(6);
    let inbox = bench.account.mailbox("INBOX");
    inbox.vanish("2,5");
    inbox.flag(3, FlagOp::Add, "\\Seen");
    bench
        .play(
            "",
            r#"
            C: a ENABLE QRESYNC
            S: * ENABLED QRESYNC
            S: a OK Enabled
            C: b SELECT INBOX (QRESYNC (101 7 1:4))
            S: * FLAGS …
            S: * OK [PERMANENTFLAGS …
            S: * 4 EXISTS
            S: * 0 RECENT
            S: * OK [UNSEEN 1] First unseen
            S: * OK [UIDVALIDITY 101] UIDs valid
            S: * OK [UIDNEXT 7] Predicted next UID
            S: * OK [HIGHESTMODSEQ 9] Highest
            S: * VANISHED (EARLIER) 2
            S: * 2 FETCH (UID 3 FLAGS (\Seen) MODSEQ (9))
            S: b OK [READ-WRITE] Select completed
            C: c UID FETCH 1:* (FLAGS) (CHANGEDSINCE 7 VANISHED)
            S: * VANISHED (EARLIER) 2,5
            S: * 2 FETCH (UID 3 FLAGS (\Seen) MODSEQ (9))
            S: c OK Fetch completed
            ! forget
            C: d UID FETCH 1:* (FLAGS) (CHANGEDSINCE 7 VANISHED)
            S: * VANISHED (EARLIER) 2,5
            S: * 2 FETCH (UID 3 FLAGS (\Seen) MODSEQ (9))
            S: d OK Fetch completed
            C: e SELECT INBOX (QRESYNC (101 7 1:6 (1:2 1,3)))
            S: * OK [CLOSED] Previous mailbox is now closed
            S: * FLAGS …
            S: * OK [PERMANENTFLAGS …
            S: * 4 EXISTS
            S: * 0 RECENT
            S: * OK [UNSEEN 1] First unseen
            S: * OK …
            S: * OK …
            S: * OK …
            S: * VANISHED (EARLIER) 5
            S: * 2 FETCH (UID 3 FLAGS (\Seen) MODSEQ (9))
            S: e OK [READ-WRITE] Select completed
            C: f STORE 1 +FLAGS (\Deleted)
            S: * 1 FETCH (UID 1 FLAGS (\Deleted) MODSEQ (10))
            S: f OK Store completed
            C: g EXPUNGE
            S: * VANISHED 1
            S: g OK [HIGHESTMODSEQ 11] Expunge completed
            C: h SELECT INBOX (QRESYNC (999 7))
            S: * OK [CLOSED] …
            S: * FLAGS …
            S: * OK …
            S: * 3 EXISTS
            S: * 0 RECENT
            S: * OK [UNSEEN 2] First unseen
            S: * OK …
            S: * OK …
            S: * OK …
            S: h OK [READ-WRITE] Select completed
            "#,
            |step| {
                assert_eq!(step, "forget");
                inbox.forget_log();
            },
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_vanished_from_the_end_is_told() {
    let bench = filled(3);
    bench.account.mailbox("INBOX").vanish("2:3");
    let mut client = bench.selected("").await;
    client.command("e", "ENABLE QRESYNC").await;
    client.command("s", "SELECT INBOX").await;
    let lines = client.command("a", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 4 VANISHED)").await;
    assert_eq!(lines, ["* VANISHED (EARLIER) 2:3", "a OK Fetch completed"]);
    bench.account.mailbox("INBOX").vanish("1");
    let lines = client.command("b", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 4 VANISHED)").await;
    // What still has a number is told as gone from the numbering, once.
    assert_eq!(lines, ["* VANISHED (EARLIER) 2:3", "* VANISHED 1", "b OK Fetch completed"]);
    let lines = client.command("c", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 4 VANISHED)").await;
    assert_eq!(lines, ["* VANISHED (EARLIER) 1:3", "c OK Fetch completed"]);
}

/// The memory of an upload that goes on when its client has gone is still taken.
#[tokio::test(start_paused = true)]
async fn an_upload_without_a_client_counts() {
    let bench = Bench::new();
    let memory = &bench.server.append_memory;
    let all = memory.available_permits();
    let hold = bench.account.mailbox("INBOX").hold();
    let (here, there) = Stream::pair();
    let accepted = Accepted { stream: there, implicit_tls: false, plaintext_login: true };
    let served = tokio::spawn(serve(Arc::clone(&bench.server), accepted, bench.shutdown.clone()));
    let mut client = Client { stream: BufReader::new(here) };
    client.line().await;
    // All in one piece, so that the answers are still to be sent when the client is gone.
    client.send(&format!("a LOGIN ann pw\r\nb APPEND INBOX {{1000+}}\r\n{}\r\n", "x".repeat(1000))).await;
    drop(client);
    served.await.unwrap();
    assert_eq!(memory.available_permits(), all - 1);
    hold.notify_one();
    let back = tokio::time::timeout(Duration::from_secs(1), memory.acquire_many(u32::try_from(all).unwrap())).await;
    assert!(back.is_ok(), "given back when it has ended");
    assert_eq!(bench.account.mailbox("INBOX").now().messages.len(), 1);
}
