//! Clients that are none.

use super::*;

#[tokio::test(start_paused = true)]
async fn lines_without_end_are_cut_off() {
    let bench = Bench::with(1);
    let mut client = bench.connect();
    client.line().await;
    // More than the connection's buffer holds: it is taken only as far as it has to be looked at.
    let _ = client.stream.write_all(&vec![b'x'; 40_000]).await;
    assert_eq!(client.line().await, "-ERR Line is too long");
    let mut client = bench.login("ann").await;
    let _ = client.stream.write_all(&[b'y'; 600]).await;
    assert_eq!(client.line().await, "-ERR Line is too long");
    assert_eq!(client.line().await, "(end)");
}

#[tokio::test(start_paused = true)]
async fn nonsense_and_guesses_end_the_connection() {
    let bench = Bench::with(1);
    let mut client = bench.connect();
    client.line().await;
    for _ in 0..10 {
        assert_eq!(client.ask("WHAT").await, "-ERR Unknown command");
    }
    assert_eq!(client.line().await, "(end)");
    let mut client = bench.connect();
    client.line().await;
    for n in 0..10 {
        client.ask(&format!("USER u{n}")).await;
        assert_eq!(client.ask("PASS x").await, "-ERR [AUTH] Wrong user name or password");
    }
    assert_eq!(client.line().await, "(end)");
    let mut client = bench.login("ann").await;
    for _ in 0..19 {
        client.ask("WHAT").await;
    }
    assert_eq!(client.ask("NOOP").await, "+OK", "a program that is understood in between stays");
}

#[tokio::test(start_paused = true)]
async fn a_browser_is_told_and_nothing_of_its_request_is_run() {
    let bench = Bench::with(1);
    let mut client = bench.connect();
    client.line().await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\n\r\nUSER ann\r\nPASS pw\r\nDELE 1\r\nQUIT\r\n").await;
    assert_eq!(client.line().await, "-ERR This is a POP3 server");
    assert_eq!(client.line().await, "(end)");
    assert!(bench.hidden.of("").is_empty());
}

#[tokio::test(start_paused = true)]
async fn silence_before_login_ends_it() {
    let bench = Bench::with(1);
    let mut client = bench.connect();
    client.line().await;
    assert_eq!(client.line().await, "-ERR Login takes too long");
    assert_eq!(client.line().await, "(end)");
}

#[tokio::test(start_paused = true)]
async fn thousands_of_deletions_and_second_thoughts() {
    let bench = Bench::with(100);
    let mut client = bench.login("ann").await;
    for round in 0..50 {
        for number in 1..=100 {
            assert_eq!(client.ask(&format!("DELE {number}")).await, "+OK Deleted", "{round}");
        }
        assert!(client.ask("STAT").await.starts_with("+OK 0 0"));
        assert!(client.ask("RSET").await.starts_with("+OK 100 messages"));
    }
    assert_eq!(client.ask("QUIT").await, "+OK Bye");
    assert!(bench.hidden.of("").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_ends_by_itself() {
    let bench = Bench::with(0);
    bench.account.mailbox("INBOX").deliver(&format!("Subject: x\r\n\r\n{}\r\n", "z".repeat(2_000_000)));
    let mut client = bench.login("ann").await;
    client.send("RETR 1\r\n").await;
    // Held open, never read: the session is over after its write time-out.
    let Client { stream, session } = client;
    tokio::time::timeout(Duration::from_secs(130), session).await.unwrap().unwrap();
    drop(stream);
}
