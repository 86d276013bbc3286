//! Two and three clients on one mailbox: who is told what, and when.

use super::*;
use crate::engine::Snapshot;
use crate::model::FlagOp;

fn filled(count: usize) -> Bench {
    let bench = Bench::new();
    for _ in 0..count {
        bench.account.mailbox("INBOX").deliver(MESSAGE);
    }
    bench
}

#[tokio::test(start_paused = true)]
async fn an_expunge_waits_for_its_moment() {
    filled(4)
        .play(
            "INBOX",
            r#"
            1C: a NOOP
            1S: a OK NOOP completed
            2C: a STORE 2,4 +FLAGS.SILENT (\Deleted)
            2S: a OK Store completed
            2C: b EXPUNGE
            2S: * 4 EXPUNGE
            2S: * 2 EXPUNGE
            2S: b OK Expunge completed
            1C: b FETCH 1:4 (UID)
            1S: * 1 FETCH (UID 1)
            1S: * 2 FETCH (UID 2)
            1S: * 3 FETCH (UID 3)
            1S: * 4 FETCH (UID 4)
            1S: b OK Fetch completed
            1C: c FETCH 2 (FLAGS BODY.PEEK[])
            1S: c NO [EXPUNGEISSUED] Some of the messages no longer exist
            1C: d STORE 1:2 +FLAGS (\Seen)
            1S: * 1 FETCH (FLAGS (\Seen))
            1S: d NO [EXPUNGEISSUED] Some of the messages no longer exist
            1C: e SEARCH ALL
            1S: * SEARCH 1 2 3 4
            1S: e OK Search completed
            1C: f COPY 1:2 Sent
            1S: * 4 EXPUNGE
            1S: * 2 EXPUNGE
            1S: f NO [EXPUNGEISSUED] Some of the messages no longer exist
            1C: g FETCH 1:* (UID)
            1S: * 1 FETCH (UID 1)
            1S: * 2 FETCH (UID 3)
            1S: g OK Fetch completed
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn uid_commands_may_tell_it() {
    let bench = filled(3);
    let inbox = bench.account.mailbox("INBOX");
    for (command, answer, tells) in [
        ("UID FETCH 1:* (FLAGS)", "* 1 FETCH (UID 2 FLAGS ())", true),
        ("UID SEARCH 1:2", "* SEARCH 2 3", false),
        ("UID SEARCH NOT ANSWERED", "* SEARCH 2 3", true),
        ("SEARCH ALL", "* SEARCH 1 2", false),
        ("UID STORE 2 FLAGS ()", "* 1 FETCH (UID 2 FLAGS ())", true),
    ] {
        // Two that stay and one that goes behind the client's back.
        inbox.vanish("1,4:99");
        let mut client = bench.selected("INBOX").await;
        let gone = inbox.deliver(MESSAGE);
        client.command("n", "NOOP").await;
        inbox.vanish(&gone.to_string());
        let lines = client.command("a", command).await;
        assert!(lines.iter().any(|line| line.starts_with(answer)), "{command}: {lines:?}");
        assert_eq!(lines.contains(&"* 3 EXPUNGE".to_owned()), tells, "{command}: {lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn changes_of_others_are_told_with_the_next_command() {
    filled(2)
        .play(
            "INBOX",
            r#"
            2C: x NOOP
            2S: x OK NOOP completed
            1C: a STORE 1 +FLAGS.SILENT (\Answered)
            1S: a OK Store completed
            2C: a UID STORE 1 +FLAGS.SILENT (\Seen)
            2S: * 1 FETCH (UID 1 FLAGS (\Answered \Seen))
            2S: a OK Store completed
            1C: b NOOP
            1S: * 1 FETCH (FLAGS (\Answered \Seen))
            1S: b OK NOOP completed
            2C: b APPEND INBOX {2+}
            2C: x
            2S: * 3 EXISTS
            2S: * 0 RECENT
            2S: b OK [APPENDUID 101 3] Append completed
            1C: c FETCH 3 UID
            1S: c BAD Error in IMAP command FETCH: Invalid messageset
            1C: d FETCH 1 UID
            1S: * 1 FETCH (UID 1)
            1S: * 3 EXISTS
            1S: * 0 RECENT
            1S: d OK Fetch completed
            1C: e ENABLE QRESYNC
            1S: * ENABLED QRESYNC
            1S: * OK [HIGHESTMODSEQ 6] Highest
            1S: e OK Enabled
            2C: c UID STORE 2 FLAGS.SILENT (\Deleted $New)
            2S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $New)
            2S: * OK [PERMANENTFLAGS …
            2S: c OK Store completed
            2C: d EXPUNGE
            2S: * 2 EXPUNGE
            2S: d OK Expunge completed
            2C: e STORE 1 FLAGS.SILENT ()
            2S: e OK Store completed
            1C: f NOOP
            1S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $New)
            1S: * OK [PERMANENTFLAGS …
            1S: * VANISHED 2
            1S: * 1 FETCH (UID 1 FLAGS () MODSEQ (9))
            1S: f OK NOOP completed
            "#
            .replace("{2+}\n            2C: x\n", "{1+}\n            2C: x\n")
            .as_str(),
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn idle_hears_at_once() {
    let bench = filled(2);
    let inbox = bench.account.mailbox("INBOX");
    bench
        .play(
            "INBOX",
            r#"
            1C: a IDLE
            1S: + idling
            ! mail
            1S: * 3 EXISTS
            1S: * 0 RECENT
            2C: a STORE 1 FLAGS.SILENT (\Deleted)
            2S: a OK Store completed
            1S: * 1 FETCH (FLAGS (\Deleted))
            2C: b EXPUNGE
            2S: * 1 EXPUNGE
            2S: b OK Expunge completed
            1S: * 1 EXPUNGE
            1S: * OK Still here
            1S: * OK Still here
            1C: DONE
            1S: a OK Idle completed
            1C: b IDLE
            1S: + idling
            1C: NOOP
            1S: b BAD Expected DONE
            1C: c UNSELECT
            1S: c OK Unselect completed
            1C: d IDLE
            1S: + idling
            1C: done
            1S: d OK Idle completed
            "#,
            |step| {
                assert_eq!(step, "mail");
                inbox.deliver(MESSAGE);
            },
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_told_when_idle_begins() {
    let bench = filled(1);
    let mut client = bench.selected("INBOX").await;
    bench.account.mailbox("INBOX").deliver(MESSAGE);
    client.send("a IDLE\r\nDONE\r\nb NOOP\r\n").await;
    for want in ["+ idling", "* 2 EXISTS", "* 0 RECENT", "a OK Idle completed", "b OK NOOP completed"] {
        assert_eq!(client.line().await, want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_mailbox_ends_its_sessions() {
    let bench = filled(1);
    bench
        .play(
            "",
            r#"
            1C: a CREATE X
            1S: a OK Create completed
            "#,
            |_| {},
        )
        .await;
    let mut one = bench.selected("X").await;
    let mut two = bench.selected("X").await;
    let mut three = bench.selected("X").await;
    two.send("i IDLE\r\n").await;
    assert_eq!(two.line().await, "+ idling");
    assert_eq!(one.command("a", "RENAME X Y").await, ["a OK Rename completed"]);
    assert!(two.line().await.starts_with("* BYE [UNAVAILABLE] Mailbox was deleted"));
    assert_eq!(two.line().await, "(end)");
    three.send("n NOOP\r\n").await;
    assert_eq!(three.line().await, "n OK NOOP completed");
    assert!(three.line().await.starts_with("* BYE [UNAVAILABLE] Mailbox was deleted"));
    assert_eq!(one.command("b", "APPEND Y {1+}\r\nx").await[0], "* 1 EXISTS", "the renamed mailbox stays selected");
    assert_eq!(one.command("c", "DELETE Y").await, ["c OK Delete completed"]);
    assert_eq!(one.command("d", "NOOP").await, ["d OK NOOP completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_below_the_last_ends_the_session() {
    let bench = filled(3);
    let inbox = bench.account.mailbox("INBOX");
    inbox.vanish("2");
    let mut client = bench.selected("INBOX").await;
    inbox.change(|snapshot: &mut Snapshot, modseq| {
        let mut back = snapshot.messages.last().unwrap().clone();
        back.uid = crate::model::Uid(2);
        back.modseq = modseq;
        let upserts = vec![back];
        snapshot.messages =
            snapshot.messages.apply(crate::model::PagesDelta { upserts, vanished: crate::model::UidSet::new() });
    });
    client.send("a NOOP\r\n").await;
    assert_eq!(client.line().await, "a OK NOOP completed");
    assert!(client.line().await.starts_with("* BYE [UNAVAILABLE] Mailbox was put in order"));
}

#[tokio::test(start_paused = true)]
async fn a_flag_set_meanwhile_is_not_silenced() {
    let bench = filled(2);
    let inbox = bench.account.mailbox("INBOX");
    let mut client = bench.selected("INBOX").await;
    inbox.flag(1, FlagOp::Add, "\\Answered");
    inbox.flag(2, FlagOp::Add, "\\Seen");
    let lines = client.command("a", "STORE 1:2 +FLAGS.SILENT (\\Seen)").await;
    assert_eq!(lines, ["* 1 FETCH (FLAGS (\\Answered \\Seen))", "a OK Store completed"]);
}
