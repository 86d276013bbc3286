//! Bodies that stream, clients that do not read, waits that are long.

use super::*;
use crate::model::FlagOp;

fn big(octets: usize) -> String {
    let mut text = String::from("Subject: big\r\n\r\n");
    while text.len() < octets {
        text.push_str("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n");
    }
    text
}

#[tokio::test(start_paused = true)]
async fn a_big_body_arrives_whole_and_in_pieces() {
    let bench = Bench::new();
    let raw = big(3_000_000);
    bench.account.mailbox("INBOX").deliver(&raw);
    bench.account.mailbox("INBOX").flag(1, FlagOp::Add, "\\Seen");
    let mut client = bench.selected("INBOX").await;
    client.send("a UID FETCH 1 (RFC822.SIZE BODY[])\r\n").await;
    assert_eq!(client.line().await, format!("* 1 FETCH (UID 1 RFC822.SIZE {} BODY[] {{{}}}", raw.len(), raw.len()));
    assert!(client.bytes(raw.len()).await == raw.as_bytes());
    assert_eq!(client.line().await, ")");
    assert_eq!(client.line().await, "a OK Fetch completed");
    // Growing pieces until the answer is short, as one client reads.
    let (mut got, mut size, mut turn) = (Vec::new(), 65_536, 0);
    loop {
        turn += 1;
        client.send(&format!("b{turn} UID FETCH 1 (BODY.PEEK[]<{}.{size}>)\r\n", got.len())).await;
        let head = client.line().await;
        let (_, len) = head.rsplit_once('{').unwrap();
        let len: usize = len.trim_end_matches('}').parse().unwrap();
        assert_eq!(head, format!("* 1 FETCH (UID 1 BODY[]<{}> {{{len}}}", got.len()));
        got.extend(client.bytes(len).await);
        assert_eq!(client.line().await, ")");
        assert_eq!(client.line().await, format!("b{turn} OK Fetch completed"));
        if len < size {
            break;
        }
        size *= 2;
    }
    assert!(got == raw.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_ends_the_connection() {
    let bench = Bench::new();
    bench.account.mailbox("INBOX").deliver(&big(1000));
    let mut client = bench.selected("INBOX").await;
    bench.account.mailbox("INBOX").break_off(100);
    client.send("a FETCH 1 BODY.PEEK[]\r\n").await;
    assert_eq!(client.line().await, "* 1 FETCH (BODY[] {1040}");
    let mut rest = String::new();
    client.stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.len() < 1040 && !rest.contains("BYE"), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_does_not_hold_back_the_rest() {
    let bench = Bench::new();
    for _ in 0..3 {
        bench.account.mailbox("INBOX").deliver(MESSAGE);
    }
    bench.account.mailbox("INBOX").lose_body(2);
    bench
        .play(
            "INBOX",
            r#"
            C: a FETCH 1:3 (UID BODY.PEEK[TEXT])
            S: * 1 FETCH (UID 1 BODY[TEXT] {7}
            S: Hello
            S: )
            S: * 3 FETCH (UID 3 BODY[TEXT] {7}
            S: Hello
            S: )
            S: a NO [UNAVAILABLE] The provider cannot be reached
            C: b UID FETCH 2 (FLAGS)
            S: * 2 FETCH (UID 2 FLAGS ())
            S: b OK Fetch completed
            C: c SEARCH SUBJECT weir
            S: c NO [UNAVAILABLE] The provider cannot be reached
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_kept_alive() {
    let bench = Bench::new();
    let inbox = bench.account.mailbox("INBOX");
    inbox.deliver(MESSAGE);
    let mut client = bench.selected("INBOX").await;
    let notify = inbox.hold();
    client.send("a FETCH 1 BODY.PEEK[HEADER.FIELDS (X-NONE)]\r\n").await;
    assert_eq!(client.line().await, "* OK Still working");
    assert_eq!(client.line().await, "* OK Still working");
    notify.notify_one();
    assert_eq!(client.line().await, "* 1 FETCH (BODY[HEADER.FIELDS (X-NONE)] {2}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_let_go() {
    let bench = Bench::new();
    bench.account.mailbox("INBOX").deliver(&big(2_000_000));
    let (here, there) = Stream::pair();
    let accepted = Accepted { stream: there, implicit_tls: false, plaintext_login: true };
    let session = tokio::spawn(serve(Arc::clone(&bench.server), accepted, bench.shutdown.clone()));
    let mut here = here;
    here.write_all(b"a LOGIN ann pw\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\n").await.unwrap();
    tokio::time::timeout(Duration::from_secs(600), session).await.expect("the session ends by itself").unwrap();
    drop(here);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_small() {
    let bench = Bench::new();
    let (_here, there) = Stream::pair();
    let accepted = Accepted { stream: there, implicit_tls: false, plaintext_login: true };
    let future = serve(Arc::clone(&bench.server), accepted, bench.shutdown.clone());
    let size = size_of_val(&future);
    assert!(size <= 4096, "a session's task takes {size} octets; 40 KiB are allowed for all of an idle TLS client");
}
