//! DELE, RSET, QUIT, and what is left when a session ends otherwise.

use super::*;
use crate::config::OnRetr;
use crate::model::{Role, SystemFlags, Uid, UidValidity};
use crate::session::backend::Account as _;

fn ids(uids: &[u32]) -> HashSet<UniqueId> {
    uids.iter().map(|uid| UniqueId::Number(UidValidity(101), Uid(*uid))).collect()
}

#[tokio::test(start_paused = true)]
async fn deleting_counts_at_quit_only() {
    let bench = Bench::with(4);
    bench
        .play(
            "ann",
            "C: DELE 2
             S: +OK Deleted
             C: DELE 2
             S: -ERR Message is deleted
             C: RETR 2
             S: -ERR Message is deleted
             C: LIST 2
             S: -ERR Message is deleted
             C: STAT
             S: +OK 3 56
             C: UIDL
             S: +OK Unique-ids follow
             S: 1 101.1
             S: 3 101.3
             S: 4 101.4
             S: .
             C: RSET
             S: +OK 4 messages (74 octets)
             C: DELE 5
             S: -ERR No such message, only 4 messages in maildrop
             C: DELE 4
             S: +OK Deleted
             C: QUIT
             S: +OK Bye, 1 message deleted
             S: (end)",
        )
        .await;
    assert_eq!(bench.hidden.of(""), ids(&[4]));
    assert_eq!(*bench.tally.0.lock().unwrap(), [(OnDele::Hide, 1)]);
    let inbox = bench.account.mailbox("INBOX").now();
    assert_eq!(inbox.messages.len(), 4, "upstream holds every message");
    assert!(inbox.messages.iter().all(|message| !message.flags.has(SystemFlags::SEEN)));
    assert_eq!(bench.login("ann").await.ask("STAT").await, "+OK 3 54");
    assert_eq!(bench.login("ann+laptop").await.ask("STAT").await, "+OK 4 74", "another device sees all");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_otherwise_deletes_nothing() {
    let bench = Bench::with(3);
    let deleting = async || {
        let mut client = bench.login("ann").await;
        assert_eq!(client.ask("DELE 1").await, "+OK Deleted");
        client
    };
    deleting().await.drop_dead().await;
    // In the middle of the command's line.
    let mut client = deleting().await;
    client.send("QUIT").await;
    client.drop_dead().await;
    // By an autologout.
    let mut client = deleting().await;
    assert_eq!(client.line().await, "-ERR Autologout, idle for too long");
    client.drop_dead().await;
    // By our own end.
    let mut client = deleting().await;
    bench.shutdown.cancel();
    assert_eq!(client.line().await, "-ERR [SYS/TEMP] Server is shutting down");
    client.drop_dead().await;
    assert!(bench.hidden.of("").is_empty() && bench.tally.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn quit_is_carried_out_though_nobody_hears_the_answer() {
    let bench = Bench::with(3);
    let mut client = bench.login("ann").await;
    client.send("DELE 1\r\nDELE 3\r\n").await;
    assert_eq!((client.line().await, client.line().await), ("+OK Deleted".into(), "+OK Deleted".into()));
    client.send("QUIT\r\n").await;
    client.drop_dead().await;
    settle().await;
    assert_eq!(bench.hidden.of(""), ids(&[1, 3]));
}

/// Whoever has not got what he asked for before QUIT has deleted nothing.
#[tokio::test(start_paused = true)]
async fn quit_behind_answers_that_do_not_arrive_deletes_nothing() {
    let bench = Bench::with(3);
    let mut client = bench.login("ann").await;
    client.send("RETR 1\r\nDELE 1\r\nQUIT\r\n").await;
    client.drop_dead().await;
    settle().await;
    assert!(bench.hidden.of("").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_not_acknowledged() {
    let bench = Bench::with(3);
    let mut client = bench.login("ann").await;
    client.ask("DELE 1").await;
    *bench.hidden.broken.lock().unwrap() = true;
    assert_eq!(client.ask("QUIT").await, "-ERR [SYS/TEMP] The deletions could not be kept; nothing is deleted");
    assert!(bench.hidden.of("").is_empty() && bench.tally.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn seen_is_marked_and_hidden() {
    let bench = Bench::with(3);
    bench.set(|pop3| pop3.on_dele = OnDele::Seen);
    let mut client = bench.login("ann").await;
    client.ask("DELE 2").await;
    assert_eq!(client.ask("QUIT").await, "+OK Bye, 1 message deleted");
    let seen = |uid| bench.account.mailbox("INBOX").now().messages.get(Uid(uid)).unwrap().flags.has(SystemFlags::SEEN);
    assert_eq!([seen(1), seen(2), seen(3)], [false, true, false]);
    assert_eq!(bench.hidden.of(""), ids(&[2]));
}

#[tokio::test(start_paused = true)]
async fn archive_and_trash_move() {
    for (policy, role, name) in [
        (OnDele::Archive, Role::Archive, "Old"),
        (OnDele::Archive, Role::All, "All"),
        (OnDele::Trash, Role::Trash, "Bin"),
    ] {
        let bench = Bench::with(3);
        bench.set(|pop3| pop3.on_dele = policy);
        let mut client = bench.login("ann").await;
        client.ask("DELE 2").await;
        let words =
            format!("-ERR [SYS/PERM] The provider names no mailbox for {}: nothing is deleted", policy.as_str());
        assert_eq!(client.ask("QUIT").await, words);
        assert_eq!(bench.account.mailbox("INBOX").now().messages.len(), 3);
        bench.account.create(name, Some(role)).await.unwrap();
        let mut client = bench.login("ann").await;
        client.ask("DELE 1").await;
        client.ask("DELE 3").await;
        assert_eq!(client.ask("QUIT").await, "+OK Bye, 2 messages deleted");
        assert_eq!(bench.account.mailbox("INBOX").now().messages.uids().to_string(), "2");
        assert_eq!(bench.account.mailbox(name).now().messages.len(), 2, "moved, not lost");
        assert!(bench.hidden.of("").is_empty());
        assert_eq!(*bench.tally.0.lock().unwrap(), [(policy, 2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_trash_already_is_hidden() {
    let bench = Bench::with(0);
    bench.account.create("Bin", Some(Role::Trash)).await.unwrap();
    bench.account.mailbox("Bin").deliver("Subject: x\r\n\r\n");
    bench.set(|pop3| (pop3.on_dele, pop3.mailbox) = (OnDele::Trash, "Bin".into()));
    let mut client = bench.login("ann").await;
    client.ask("DELE 1").await;
    assert_eq!(client.ask("QUIT").await, "+OK Bye, 1 message deleted");
    assert_eq!(bench.account.mailbox("Bin").now().messages.uids().to_string(), "1", "neither gone nor moved");
    assert_eq!(bench.login("ann").await.ask("STAT").await, "+OK 0 0");
}

#[tokio::test(start_paused = true)]
async fn fetched_messages_are_marked_where_that_is_asked_for() {
    for quits in [true, false] {
        let bench = Bench::with(3);
        bench.set(|pop3| pop3.on_retr = OnRetr::Seen);
        let mut client = bench.login("ann").await;
        client.ask("RETR 2").await;
        client.list().await;
        client.ask("TOP 3 1").await;
        client.list().await;
        if quits {
            assert_eq!(client.ask("QUIT").await, "+OK Bye");
        }
        client.drop_dead().await;
        settle().await;
        let seen =
            |uid| bench.account.mailbox("INBOX").now().messages.get(Uid(uid)).unwrap().flags.has(SystemFlags::SEEN);
        assert_eq!([seen(1), seen(2), seen(3)], [false, true, false], "{quits}");
    }
}
