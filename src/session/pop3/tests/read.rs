//! STAT, LIST, UIDL, RETR, TOP.

use super::*;
use crate::model::{FlagOp, Flags, InternalDate, MessageMeta, Pages, Uid, UidValidity};

#[tokio::test(start_paused = true)]
async fn numbers_sizes_and_ids() {
    let bench = Bench::with(3);
    bench.account.mailbox("INBOX").vanish("2");
    bench
        .play(
            "ann",
            "C: STAT
             S: 
             C: LIST
             S: +OK 2 messages (36 octets)
             S: 1 17
             S: 2 19
             S: .
             C: LIST 2
             S: +OK 2 19
             C: UIDL
             S: +OK Unique-ids follow
             S: 1 101.1
             S: 2 101.3
             S: .
             C: UIDL 2
             S: +OK 2 101.3
             C: UIDL 3
             S: -ERR No such message, only 2 messages in maildrop
             C: LIST 0
             S: -ERR No such message, only 2 messages in maildrop
             C: RETR 99999999999
             S: -ERR No such message, only 2 messages in maildrop
             C: TOP 3 1
             S: -ERR No such message, only 2 messages in maildrop
             C: RETR 2
             S: +OK 19 octets
             S: Subject: 3
             S: 
             S: xxx
             S: .
             C: TOP 1 0
             S: +OK Top of message follows
             S: Subject: 1
             S: 
             S: .
             C: TOP 2 1
             S: +OK Top of message follows
             S: Subject: 3
             S: 
             S: xxx
             S: ."
                .replacen("S: \n", "S: +OK 2 36\n", 1)
                .as_str(),
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_maildrop_stays_as_it_was_at_login() {
    let bench = Bench::with(3);
    let mut client = bench.login("ann").await;
    let inbox = bench.account.mailbox("INBOX");
    inbox.deliver("Subject: new\r\n\r\n");
    inbox.vanish("2");
    inbox.flag(3, FlagOp::Add, "\\Seen");
    assert_eq!(client.ask("STAT").await, "+OK 3 54");
    assert_eq!(client.ask("RETR 2").await, "-ERR Message was deleted by another program");
    assert_eq!(client.ask("RETR 3").await, "+OK 19 octets");
    client.list().await;
    let mut next = bench.login("ann").await;
    assert_eq!(next.ask("STAT").await, "+OK 3 52");
}

#[tokio::test(start_paused = true)]
async fn messages_no_client_was_written_for() {
    let bench = Bench::with(0);
    let inbox = bench.account.mailbox("INBOX");
    for raw in ["A: b\n\n.\n..c\r\rd", "", "A: b", "\r\n.\r\n.", "A: \0\r\r\n\r\n.x\r\n"] {
        inbox.deliver_with(raw.as_bytes(), Flags::default(), None);
    }
    bench
        .play(
            "ann",
            "C: RETR 1
             S: +OK 21 octets
             S: A: b
             S: 
             S: ..
             S: ...c
             S: 
             S: d
             S: .
             C: RETR 2
             S: +OK 0 octets
             S: .
             C: RETR 3
             S: +OK 8 octets
             S: A: b
             S: 
             S: .
             C: RETR 4
             S: +OK 8 octets
             S: 
             S: ..
             S: ..
             S: .
             C: RETR 5
             S: +OK 12 octets
             S: A: \\x80
             S: 
             S: ..x
             S: .",
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn large_messages_flow_and_a_broken_one_ends_the_connection() {
    let bench = Bench::with(1);
    let inbox = bench.account.mailbox("INBOX");
    let lines: Vec<String> =
        (0..8000).map(|n| format!("{}{n} {}", if n % 3 == 0 { "." } else { "" }, "y".repeat(50))).collect();
    let raw = format!("Subject: large\r\n\r\n{}\r\n", lines.join("\r\n"));
    inbox.deliver(&raw);
    let mut client = bench.login("ann").await;
    assert_eq!(client.ask("RETR 2").await, format!("+OK {} octets", raw.len()));
    let got = client.list().await;
    let plain: Vec<&str> = got.iter().map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
    assert_eq!(plain[0], "Subject: large");
    assert!(
        plain[2..]
            == lines.iter().map(|l| l.as_str()).map(|l| l.strip_prefix('.').map_or(l, |_| l)).collect::<Vec<_>>()[..]
    );
    assert_eq!(client.ask("TOP 2 3").await, "+OK Top of message follows");
    assert_eq!(client.list().await.len(), 5);
    inbox.break_off(100_000);
    assert_eq!(client.ask("RETR 1").await, "+OK 17 octets", "what is small is here before a word is said of it");
    client.list().await;
    assert_eq!(client.ask("RETR 2").await, format!("+OK {} octets", raw.len()));
    let mut last = String::new();
    loop {
        let line = client.line().await;
        if line.starts_with('(') {
            break;
        }
        last = line;
    }
    assert_ne!(last, ".", "half a message must not look whole");
}

#[tokio::test(start_paused = true)]
async fn a_message_the_provider_does_not_give_now() {
    let bench = Bench::with(2);
    bench.account.mailbox("INBOX").lose_body(1);
    bench
        .play(
            "ann",
            "C: RETR 1
             S: -ERR [SYS/TEMP] The provider cannot be reached
             C: TOP 1 0
             S: -ERR [SYS/TEMP] The provider cannot be reached
             C: RETR 2
             S: +OK 18 octets
             S: Subject: 2
             S: 
             S: xx
             S: .",
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_walk_in_any_order_brings_the_right_message() {
    let bench = Bench::with(80);
    bench.account.mailbox("INBOX").lose_body(40);
    let mut client = bench.login("ann").await;
    let order = (1..=50).chain([7, 8, 9, 80, 79, 1]).chain(60..=80).chain([40, 41, 42, 43, 45, 46, 44]);
    for number in order {
        if number % 7 == 0 && number < 50 {
            client.ask(&format!("DELE {}", number + 1)).await;
        }
        let answer = client.ask(&format!("RETR {number}")).await;
        if number == 40 {
            assert!(answer.starts_with("-ERR [SYS/TEMP]"), "{answer}");
        } else if answer != "-ERR Message is deleted" {
            assert_eq!(answer, format!("+OK {} octets", 14 + number.to_string().len() + number + 1));
            assert_eq!(client.list().await[0], format!("Subject: {number}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_commands_are_answered_in_order() {
    let bench = Bench::with(2);
    let mut client = bench.connect();
    client.send("USER ann\r\nPASS pw\r\nSTAT\r\nLIST 1\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n").await;
    let mut answers = Vec::new();
    loop {
        let line = client.line().await;
        if line.starts_with('(') {
            break;
        }
        answers.push(line);
    }
    let want = [
        "+OK mailweir ready",
        "+OK Send the password",
        "+OK Logged in, 2 messages (35 octets)",
        "+OK 2 35",
        "+OK 1 17",
        "+OK 17 octets",
        "Subject: 1",
        "",
        "x",
        ".",
        "+OK Deleted",
        "+OK Bye, 1 message deleted",
    ];
    assert_eq!(answers, want);
}

#[tokio::test(start_paused = true)]
async fn the_newest_and_the_recent() {
    let bench = Bench::with(3);
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let date = Some(InternalDate { seconds: now - 86_400, zone: 0 });
    bench.account.mailbox("INBOX").deliver_with(b"Subject: new\r\n\r\n", Flags::default(), date);
    let mut client = bench.login("recent:ann").await;
    assert_eq!(client.ask("STAT").await, "+OK 1 16", "the others are older than 30 days");
    assert_eq!(client.ask("DELE 1").await, "+OK Deleted");
    assert_eq!(client.ask("QUIT").await, "+OK Bye, 1 message deleted");
    assert_eq!(bench.login("ann").await.ask("STAT").await, "+OK 3 54");
    assert_eq!(bench.login("recent:ann").await.ask("STAT").await, "+OK 1 16", "whatever was hidden");
    bench.set(|pop3| pop3.max_messages = Some(2));
    let mut client = bench.login("ann").await;
    assert_eq!(client.ask("UIDL").await, "+OK Unique-ids follow");
    assert_eq!(client.list().await, ["1 101.2", "2 101.3"]);
}

/// The provider gives message ids, and then makes the mailbox anew: other UIDs under another UIDVALIDITY, the same messages.
#[tokio::test(start_paused = true)]
async fn provider_ids_outlast_a_new_uidvalidity() {
    let bench = Bench::with(0);
    let renumber = |validity: u32, first: u32| {
        bench.account.mailbox("INBOX").change(|snapshot, modseq| {
            let message = |n: u32| MessageMeta {
                uid: Uid(first + n),
                flags: Flags::default(),
                modseq,
                internal_date: InternalDate::default(),
                size: 16,
                gm_msgid: 1_700_000_000_000_000_000 + u64::from(n),
            };
            snapshot.uid_validity = UidValidity(validity);
            snapshot.messages = Pages::from_messages((0..3).map(message).collect());
        });
    };
    renumber(7, 1);
    let mut client = bench.login("ann").await;
    assert_eq!(client.ask("UIDL").await, "+OK Unique-ids follow");
    let before = client.list().await;
    assert_eq!(before[1], "2 1700000000000000001");
    client.ask("DELE 2").await;
    assert_eq!(client.ask("QUIT").await, "+OK Bye, 1 message deleted");
    renumber(8, 100);
    let mut client = bench.login("ann").await;
    assert_eq!(client.ask("UIDL").await, "+OK Unique-ids follow");
    assert_eq!(
        client.list().await,
        ["1 1700000000000000000", "2 1700000000000000002"],
        "the same ids, and still hidden"
    );
}
