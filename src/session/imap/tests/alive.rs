//! A provider that is silent for long: the client hears from us all the same, but never in the middle of a literal.

use super::*;
use crate::model::FlagOp;

const ALIVE: &str = "* OK Still working";

/// Every command that may have to ask the provider.
#[tokio::test(start_paused = true)]
async fn every_command_is_kept_alive() {
    let table = [
        "SELECT Sent",
        "EXAMINE Sent",
        "CREATE Plans",
        "DELETE Sent",
        "RENAME Sent Gone",
        "SUBSCRIBE Sent",
        "UNSUBSCRIBE INBOX",
        "LIST \"\" * RETURN (STATUS (MESSAGES))",
        "STATUS Sent (MESSAGES)",
        "APPEND Sent {3+}\r\nabc",
        "APPEND Sent {3+}\r\nabc {3+}\r\ndef",
        "CHECK",
        "NOOP",
        "CLOSE",
        "EXPUNGE",
        "UID EXPUNGE 1:*",
        "SEARCH BODY hello",
        "UID SEARCH SUBJECT weir",
        "SORT (SUBJECT) UTF-8 ALL",
        "THREAD REFERENCES UTF-8 ALL",
        "FETCH 1 (ENVELOPE)",
        "FETCH 1 (BODY.PEEK[])",
        "UID FETCH 1 (BODY.PEEK[TEXT])",
        "FETCH 1 (BODY.PEEK[]<0.5>)",
        "STORE 1 +FLAGS (\\Seen)",
        "UID STORE 1 FLAGS.SILENT ()",
        "COPY 1 Sent",
        "UID COPY 1 Sent",
        "MOVE 1 Sent",
        "UID MOVE 1 Sent",
        "GETQUOTA \"\"",
        "GETQUOTAROOT INBOX",
    ];
    for command in table {
        let bench = Bench::new();
        let inbox = bench.account.mailbox("INBOX");
        inbox.deliver(MESSAGE);
        inbox.deliver(MESSAGE);
        inbox.flag(1, FlagOp::Add, "\\Deleted");
        let mut client = bench.selected("INBOX").await;
        bench.account.hold(true);
        // A pause of the client's own is none of ours.
        tokio::time::sleep(Duration::from_secs(90)).await;
        let start = tokio::time::Instant::now();
        client.send(&format!("a {command}\r\n")).await;
        for words in 1..=4 {
            let mut line = client.line().await;
            while words == 1 && (line.starts_with("* LIST ") || line.contains("[CLOSED]")) {
                // What needs no provider was said at once.
                line = client.line().await;
            }
            assert_eq!(line, ALIVE, "{command}");
            let after = start.elapsed();
            let due = Duration::from_secs(10) * words;
            assert!(after >= due && after < due + Duration::from_secs(1), "{command}: after {after:?}");
        }
        bench.account.hold(false);
        let mut last = client.line().await;
        while !last.starts_with("a ") {
            assert!(!last.starts_with(ALIVE) && !last.starts_with('('), "{command}: {last}");
            last = client.line().await;
        }
        assert!(last.starts_with("a OK"), "{command}: {last}");
    }
}

/// A body that stops in its middle: a word of ours would be taken for a part of the message.
#[tokio::test(start_paused = true)]
async fn nothing_is_said_within_a_literal() {
    let bench = Bench::new();
    let inbox = bench.account.mailbox("INBOX");
    inbox.deliver(MESSAGE);
    inbox.flag(1, FlagOp::Add, "\\Seen");
    let mut client = bench.selected("INBOX").await;
    bench.account.hold(true);
    let go_on = inbox.stall_bodies();
    client.send("a FETCH 1 (BODY[])\r\n").await;
    // The message has not begun.
    assert_eq!(client.line().await, ALIVE);
    bench.account.hold(false);
    assert_eq!(client.line().await, format!("* 1 FETCH (BODY[] {{{}}}", MESSAGE.len()));
    let begin = client.bytes(7).await;
    let quiet = tokio::time::timeout(Duration::from_secs(300), client.bytes(1)).await;
    assert!(quiet.is_err(), "the body was to stop");
    go_on.notify_one();
    let body = [begin, client.bytes(MESSAGE.len() - 7).await].concat();
    assert!(body == MESSAGE.as_bytes());
    assert_eq!(client.line().await, ")");
    // Here it may be said again.
    assert_eq!(client.line().await, ALIVE);
    assert_eq!(client.line().await, "a OK Fetch completed");
}

/// A client whose message has been asked for, and one that sends unasked: the words come before or behind, and it is stored as it was.
#[tokio::test(start_paused = true)]
async fn an_upload_is_taken_as_it_is() {
    let bench = Bench::new();
    let mut client = bench.selected("INBOX").await;
    bench.account.hold(true);
    client.send("a APPEND INBOX {6}\r\n").await;
    assert_eq!(client.line().await, "+ OK");
    // It is the client that is slow here.
    tokio::time::sleep(Duration::from_secs(100)).await;
    client.send("abc").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    client.send("def {2+}\r\n").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    client.send("gh\r\n").await;
    let sent = tokio::time::Instant::now();
    assert_eq!(client.line().await, ALIVE);
    assert_eq!(sent.elapsed().as_secs(), 10);
    bench.account.hold(false);
    assert_eq!(client.line().await, "* 2 EXISTS");
    assert_eq!(client.line().await, "* 0 RECENT");
    assert_eq!(client.line().await, "a OK [APPENDUID 101 1:2] Append completed");
}
