//! A client that is gone while its command waits for the provider, or does not come to the point.

use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test(start_paused = true)]
async fn who_goes_gives_its_place_up_at_once() {
    for ahead in ["", "RCPT TO:<bob@example.net>\r\nDATA\r\n", "RCPT TO:<bob@example.net>\r\nBDAT 7 LA"] {
        let bench = Bench::new();
        *bench.provider.lost_at.lock().unwrap() = "silence";
        let mut client = bench.login().await;
        client.send(&format!("MAIL FROM:<ann@example.org>\r\n{ahead}")).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(bench.provider.heard(), [""; 0], "it waits");
        let began = Instant::now();
        client.leave().await;
        assert!(began.elapsed() < Duration::from_secs(1), "{ahead:?}");
        assert_eq!(bench.provider.heard(), ["(given up)"]);
    }
}

/// One that has sent all of its message and closed its side waits for the answers.
#[tokio::test(start_paused = true)]
async fn who_has_said_all_is_answered() {
    for message in ["BDAT 3 last\r\nabc", "DATA\r\nabc\r\n.\r\n"] {
        let bench = Bench::new();
        *bench.provider.lost_at.lock().unwrap() = "silence";
        let mut client = bench.login().await;
        client.send(&format!("MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\n{message}QUIT\r\n")).await;
        client.stream.shutdown().await.unwrap();
        client.play("S: 451 4.4.1 The provider takes too long to answer\nS: 503…\nS: 503…").await;
        client.session.await.unwrap();
    }
}

/// A session at the provider is not held by saying other things.
#[tokio::test(start_paused = true)]
async fn who_only_talks_gives_its_place_up() {
    for says in ["NOOP", "VRFY ann", "MAIL FROM:<ann@example.org>"] {
        let bench = Bench::new();
        let mut client = bench.login().await;
        client.play("C: MAIL FROM:<ann@example.org>\nS: 250…\nC: RCPT TO:<bob@example.net>\nS: 250…").await;
        for _ in 0..2 {
            sleep(Duration::from_secs(29)).await;
            client.play(&format!("C: {says}\nS: …")).await;
            assert_eq!(bench.provider.heard().len(), 2, "{says}: it holds on");
        }
        sleep(Duration::from_secs(29)).await;
        client
            .play(&format!(
                "C: {says}\nS: …\nC: DATA\nS: 451 4.4.2 Too long without a command: begin the message again"
            ))
            .await;
        assert_eq!(bench.provider.heard().last().unwrap(), "(reset)", "{says}");
    }
}
