//! Messages on their way: what the provider is given and what the client is answered.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_message_goes_through() {
    let bench = Bench::new();
    bench
        .play(
            "C: MAIL FROM:<ann@example.org> SIZE=20 BODY=8BITMIME
             S: 250 2.1.0 sender
             C: RCPT TO:<bob@example.net>
             S: 250 2.1.5 recipient
             C: RCPT TO:<nobody@example.net>
             S: 550 5.1.1 no such user
             C: DATA
             S: 354…
             C: Subject: x\\r\\n\\r\\n..dot\\r\\n.\\r\\n
             S: 250 2.0.0 queued as 1
             C: MAIL FROM:<ann@example.org>
             S: 250 2.1.0 sender
             C: RSET
             S: 250 2.0.0 Reset
             P: MAIL FROM:<ann@example.org> SIZE=20 BODY=8BITMIME
             P: RCPT TO:<bob@example.net>
             P: RCPT TO:<nobody@example.net>
             P: DATA
             P: (rests)
             P: MAIL FROM:<ann@example.org>
             P: (reset)",
        )
        .await;
    assert_eq!(bench.provider.message(), "Subject: x\r\n\r\n..dot\r\n.\r\n");
    assert_eq!(*bench.provider.told.lock().unwrap(), [(250, 1, 20)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_answered_in_its_order() {
    let bench = Bench::new();
    let mut batch = "C: MAIL FROM:<ann@example.org>\\r\\n".to_owned();
    let (mut answers, mut heard) = ("S: 250 2.1.0 sender\n".to_owned(), "P: MAIL FROM:<ann@example.org>\n".to_owned());
    for n in 0..120 {
        let name = if n % 3 == 0 { "nobody" } else { "bob" };
        batch += &format!("RCPT TO:<{name}{n}@example.net>\\r\\n");
        answers += if n % 3 == 0 { "S: 550 5.1.1 no such user\n" } else { "S: 250 2.1.5 recipient\n" };
        heard += &format!("P: RCPT TO:<{name}{n}@example.net>\n");
    }
    batch += "RCPT TO:<broken\\r\\nDATA\\r\\n";
    answers += "S: 501 5.1.3…\nS: 354…\n";
    bench
        .play(&format!(
            "{batch}\n{answers}C: x\\r\\n.\\r\\nQUIT\nS: 250 2.0.0 queued as 1\nS: 221…\n{heard}P: DATA\nP: (rests)"
        ))
        .await;
    assert_eq!(*bench.provider.told.lock().unwrap(), [(250, 80, 3)]);
}

#[tokio::test(start_paused = true)]
async fn chunks() {
    let bench = Bench::new();
    let mut client = bench.login().await;
    client.play("C: MAIL FROM:<ann@example.org>\\r\\nRCPT TO:<bob@example.net>\nS: 250…\nS: 250…").await;
    client
        .send("BDAT 5\r\na\r\n.\rBDAT 4\r\n\nb\r\nNOOP\r\nDATA\r\nRCPT TO:<late@example.net>\r\nBDAT 0 LAST\r\n")
        .await;
    client
        .play(
            "S: 250 2.0.0 5 octets received
             S: 250 2.0.0 4 octets received
             S: 250 2.0.0 OK
             S: 503 5.5.1 The message comes by BDAT
             S: 503 5.5.1 The message has begun
             S: 250 2.0.0 queued as 1",
        )
        .await;
    client.leave().await;
    assert_eq!(bench.provider.message(), "a\r\n..\r\nb\r\n.\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_refused_chunk_is_read_and_ends_the_transaction() {
    let bench = Bench::new();
    let mut client = bench.login().await;
    client.play("C: MAIL FROM:<ann@example.org>\\r\\nRCPT TO:<nobody@example.net>\nS: 250…\nS: 550…").await;
    client.send("BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n").await;
    client.play("S: 554 5.5.1 No recipient was taken\nS: 503 5.5.1 MAIL comes first\nS: 250 2.0.0 OK").await;
    // More than anybody takes: where the next command begins cannot be found.
    client.play("C: BDAT 99999999999999999999\nS: 552 5.3.4…\nS: (end)").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_sent() {
    let table = [
        ("a\r\n.\nMAIL FROM:<eve@evil.example>\r\n.\r\n", "550 5.6.0…"),
        ("a\n.\r\nMAIL FROM:<eve@evil.example>\r\n.\r\n", "550 5.6.0…"),
        ("a\r.\rMAIL FROM:<eve@evil.example>\r\n.\r\n", "550 5.6.0…"),
        ("a\n.\nMAIL FROM:<eve@evil.example>\r\n.\r\n", "550 5.6.0…"),
    ];
    let long = format!("{}\r\n.\r\n", "x".repeat(1001));
    for (message, want) in table.into_iter().chain([(long.as_str(), "552 5.3.4…")]) {
        let bench = Bench::new();
        let mut client = bench.login().await;
        client
            .play("C: MAIL FROM:<ann@example.org>\\r\\nRCPT TO:<bob@example.net>\\r\\nDATA\nS: 250…\nS: 250…\nS: 354…")
            .await;
        client.send(message).await;
        client.play(&format!("S: {want}\nC: NOOP\nS: 250 2.0.0 OK")).await;
        assert_eq!(bench.provider.heard().last().map(String::as_str), Some("(closed)"), "{message:?}");
        assert!(!bench.provider.message().ends_with("\r\n.\r\n"), "{message:?}");
        client.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_lost_is_told_truly() {
    let whole = "C: MAIL FROM:<ann@example.org>
         C: RCPT TO:<bob@example.net>
         C: DATA
         C: x\\r\\n.\\r\\n";
    let table = [
        (
            "open",
            "451 4.4.1 away|503 5.5.1 MAIL comes first|503 5.5.1 MAIL comes first|500 5.5.2 Command not known|500 5.5.2 Command not known",
        ),
        ("MAIL", "451 4.4.2…|503 5.5.1…|503 5.5.1…|500…|500…"),
        ("RCPT", "250…|451 4.4.2…|451 4.4.2…|500…|500…"),
        ("DATA", "250…|250…|451 4.4.2…|500…|500…"),
        ("octets", "250…|250…|451 4.4.2…|500…|500…"),
        (
            "verdict",
            "250…|250…|354…|451 4.4.2 The provider was lost before it answered; whether the message was sent is not known: reset",
        ),
    ];
    for (place, answers) in table {
        let bench = Bench::new();
        *bench.provider.lost_at.lock().unwrap() = place;
        let mut client = bench.login().await;
        client.play(whole).await;
        let answers: String = answers.split('|').map(|answer| format!("S: {answer}\n")).collect();
        client.play(&answers).await;
        client.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_no_answer_is_none() {
    let not_known = "250…|250…|451 4.4.2 The provider was lost before it answered; whether the message was sent is not known: reset";
    let table = [
        ("MAIL", 354, "451 4.4.2…|503…|503…", "(closed)"),
        ("MAIL", 421, "451 4.4.2 odd|503…|503…", "(closed)"),
        ("MAIL", 530, "454 4.7.0 odd|503…|503…", "(closed)"),
        ("RCPT", 354, "250…|451 4.4.2…|451…", "(closed)"),
        ("RCPT", 421, "250…|451 4.4.2 odd|451…", "(closed)"),
        ("RCPT", 535, "250…|454 4.7.0 odd|454…", "(closed)"),
        ("DATA", 250, "250…|250…|451 4.4.2…", "(closed)"),
        ("DATA", 334, "250…|250…|451 4.4.2…", "(closed)"),
        ("DATA", 421, "250…|250…|451 4.4.2 odd", "(closed)"),
        ("DATA", 452, "250…|250…|452 4.0.0 odd", "(reset)"),
        (".", 354, "250…|250…|451 4.4.2…", "(closed)"),
        (".", 421, "250…|250…|451 4.4.2 odd", "(closed)"),
        (".", 530, "250…|250…|454 4.7.0 odd", "(closed)"),
        (".", 554, "250…|250…|554 5.0.0 odd", "(rests)"),
        // The dot could not be written: the provider may have it.
        ("dot", 250, "250…|250…|250…", "(closed)"),
        ("dot", 452, "250…|250…|452 4.0.0 odd", "(closed)"),
        ("dot without a word", 250, not_known, "(closed)"),
    ];
    for (place, code, answers, end) in table {
        let bench = Bench::new();
        let is_dot = place.starts_with("dot");
        *bench.provider.odd.lock().unwrap() = Some((if is_dot { "." } else { place }, code));
        if is_dot {
            *bench.provider.lost_at.lock().unwrap() = place;
        }
        let mut client = bench.login().await;
        client.send("MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\nBDAT 1 LAST\r\nx").await;
        let answers: String = answers.split('|').map(|answer| format!("S: {answer}\n")).collect();
        client.play(&answers).await;
        client.leave().await;
        assert_eq!(bench.provider.heard().last().map(String::as_str), Some(end), "{place} {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_offered_is_refused_and_the_rest_left_out() {
    let bench = Bench::new();
    bench
        .play(
            "C: MAIL FROM:<ann@example.org> SMTPUTF8
             S: 555 5.5.4…
             C: MAIL FROM:<ann@example.org> RET=FULL
             S: 555 5.5.4…
             C: MAIL FROM:<ann@example.org>
             S: 250…
             C: RCPT TO:<b\u{f6}b@example.net>
             S: 553 5.6.7…
             C: RCPT TO:<bob@example.net> NOTIFY=NEVER
             S: 555 5.5.4…
             C: MAIL FROM:<ann@example.org>
             S: 503 5.5.1 A message is under way already
             C: DATA
             S: 554 5.5.1 No recipient was taken
             C: RCPT TO:<bob@example.net>
             S: 503 5.5.1 MAIL comes first
             C: MAIL FROM:<ann@example.org> SIZE=1001
             S: 552 5.3.4 The message is larger than 1000 octets
             P: (rests)
             P: (rests)
             P: MAIL FROM:<ann@example.org>
             P: (reset)",
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_kept_waiting() {
    let bench = Bench::new();
    let mut client = bench.login().await;
    client.play("C: MAIL FROM:<ann@example.org>\nS: 250…\nC: RCPT TO:<bob@example.net>\nS: 250…").await;
    // Silence: another's message may need the session.
    let given_back = async {
        while bench.provider.heard().last().map(String::as_str) != Some("(reset)") {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(70), given_back).await.unwrap();
    client
        .play(
            "C: RCPT TO:<bob@example.net>
             S: 451 4.4.2 Too long without a command…
             C: DATA
             S: 451 4.4.2 Too long without a command…
             C: MAIL FROM:<ann@example.org>
             S: 250…
             C: RSET
             S: 250…",
        )
        .await;
    *bench.provider.lost_at.lock().unwrap() = "silence";
    client.play("C: MAIL FROM:<ann@example.org>\nS: 451 4.4.1 The provider takes too long to answer").await;
    client.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_day_that_is_spent_is_told_with_the_time() {
    let bench = Bench::new();
    *bench.provider.spent.lock().unwrap() = true;
    bench.play("C: MAIL FROM:<ann@example.org> SIZE=5\nS: 452 4.5.3 spent until 14:00 (5)\nC: MAIL FROM:<ann@example.org>\nS: 452 4.5.3 spent until 14:00 (1)").await;
    // Spent while a message without SIZE goes.
    *bench.provider.spent.lock().unwrap() = false;
    let mut client = bench.login().await;
    client
        .play("C: MAIL FROM:<ann@example.org>\nS: 250…\nC: RCPT TO:<bob@example.net>\nS: 250…\nC: DATA\nS: 354…")
        .await;
    *bench.provider.spent.lock().unwrap() = true;
    client.play("C: text\\r\\n.\\r\\n\nS: 452 4.5.3 spent until 14:00 (1048576)").await;
    client.leave().await;
    assert_eq!(bench.provider.heard().last().map(String::as_str), Some("(closed)"));
}
