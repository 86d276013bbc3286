//! Who may send, and as whom: this is never an open relay.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_offered() {
    let bench = Bench::new();
    let mut client = bench.connect();
    client
        .play(
            "S: 220 mailweir ESMTP ready
             C: EHLO pc
             S: 250-mailweir
             S: 250-PIPELINING
             S: 250-CHUNKING
             S: 250-SIZE 1000
             S: 250-8BITMIME
             S: 250-ENHANCEDSTATUSCODES
             S: 250 AUTH PLAIN LOGIN
             C: HELO pc
             S: 250 mailweir
             C: NOOP
             S: 250 2.0.0 OK
             C: VRFY ann
             S: 252 2.5.2…
             C: EXPN all
             S: 502 5.5.1…
             C: HELP
             S: 214 2.0.0…
             C: TURN
             S: 500 5.5.2 Command not known
             C: QUIT
             S: 221 2.0.0 Bye
             S: (end)",
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn without_tls_no_password_is_taken_where_the_policy_says_so() {
    let bench = Bench { plaintext_login: false, ..Bench::new() };
    let mut client = bench.connect();
    client.play("S: 220…\nC: EHLO pc").await;
    let mut last = String::new();
    while !last.starts_with("250 ") {
        last = client.line().await;
        assert!(!last.contains("AUTH"), "{last}");
    }
    client.play("C: AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBwdw==\nS: 538 5.7.11…").await;
}

#[tokio::test(start_paused = true)]
async fn logins() {
    let table = [
        ("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBwdw==", "235 2.7.0 Logged in"),
        ("auth plain  AGFubkBleGFtcGxlLm9yZwBwdw==", "235 2.7.0 Logged in"),
        ("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBubw==", "535 5.7.8 Wrong user name or password"),
        // Acting for somebody else.
        ("AUTH PLAIN ZXZlAGFubkBleGFtcGxlLm9yZwBwdw==", "535 5.7.8…"),
        ("AUTH PLAIN \u{7e}", "501 5.5.2 Not base64"),
        ("AUTH PLAIN AA==", "501 5.5.2 Not a PLAIN response"),
        ("AUTH CRAM-MD5", "504 5.5.4…"),
        ("AUTH", "501 5.5.4…"),
        // away@example.org: whoever is refused for another reason than the password is not asked for it.
        ("AUTH PLAIN AGF3YXlAZXhhbXBsZS5vcmcAcHc=", "454 4.7.0…"),
    ];
    for (command, want) in table {
        let mut client = Bench::new().connect();
        client.play("S: 220…\nC: EHLO pc").await;
        while client.line().await.as_bytes().get(3) == Some(&b'-') {}
        client.play(&format!("C: {command}\nS: {want}")).await;
    }
    let challenges = "S: 220…
         C: AUTH PLAIN
         S: 503 5.5.1 EHLO comes first
         C: HELO pc
         S: 250…
         C: AUTH PLAIN
         S: 503 5.5.1 EHLO comes first";
    Bench::new().connect().play(challenges).await;
    for (command, steps) in [
        ("AUTH PLAIN", "S: 334 \nC: AGFubkBleGFtcGxlLm9yZwBwdw==\nS: 235…\nC: AUTH PLAIN\nS: 503…"),
        ("AUTH PLAIN", "S: 334 \nC: *\nS: 501 5.7.0…"),
        ("AUTH LOGIN", "S: 334 VXNlcm5hbWU6\nC: YW5uQGV4YW1wbGUub3Jn\nS: 334 UGFzc3dvcmQ6\nC: cHc=\nS: 235…"),
        ("AUTH LOGIN YW5uQGV4YW1wbGUub3Jn", "S: 334 UGFzc3dvcmQ6\nC: cHc=\nS: 235…"),
    ] {
        let mut client = Bench::new().connect();
        client.play("S: 220…\nC: EHLO pc").await;
        while client.line().await.as_bytes().get(3) == Some(&b'-') {}
        client.play(&format!("C: {command}\n{steps}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dictionary_ends_with_the_connection() {
    let mut client = Bench::new().connect();
    client.play("S: 220…\nC: EHLO pc").await;
    while client.line().await.as_bytes().get(3) == Some(&b'-') {}
    for _ in 0..10 {
        client.play("C: AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBubw==\nS: 535…").await;
    }
    client.play("S: 421 4.7.0 Too many failed logins\nS: (end)").await;
}

#[tokio::test(start_paused = true)]
async fn no_login_no_mail() {
    let bench = Bench::new();
    let mut client = bench.connect();
    client
        .play(
            "S: 220…
             C: MAIL FROM:<ann@example.org>
             S: 530 5.7.0 Log in first
             C: RCPT TO:<bob@example.net>
             S: 503 5.5.1 MAIL comes first
             C: DATA
             S: 503 5.5.1 MAIL comes first
             C: BDAT 3 LAST\\r\\nx\\r\\nQUIT
             S: 503 5.5.1 MAIL comes first
             S: 221…",
        )
        .await;
    assert!(bench.provider.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_from_ones_own_addresses() {
    let bench = Bench::new();
    let mut client = bench.login().await;
    for sender in [
        "eve@example.org",
        "ann@example.net",
        "\"ann\"@example.org",
        "ann%example.org@example.net",
        "ann@example.org.",
        "ann+x@example.org",
        "postmaster",
    ] {
        client.play(&format!("C: MAIL FROM:<{sender}>\nS: 553 5.7.1…")).await;
    }
    for sender in
        ["ann@example.org@evil.example", "ann@example.org,eve@evil.example", "ann@example.org> <eve@evil.example"]
    {
        client.play(&format!("C: MAIL FROM:<{sender}>\nS: 5…")).await;
    }
    // A source route names nobody else.
    client.play("C: MAIL FROM:<@evil.example:eve@example.org>\nS: 553…").await;
    assert!(bench.provider.heard().is_empty());
    client.play("C: MAIL FROM:<ANN.Smith@Example.ORG>\nS: 250 2.1.0 sender").await;
    client.play("C: RSET\nS: 250…\nC: MAIL FROM:<>\nS: 250 2.1.0 sender").await;
}

#[tokio::test(start_paused = true)]
async fn strangers_are_shown_out() {
    let bench = Bench::new();
    let mut client = bench.connect();
    // Much to read for nobody.
    client.play("S: 220…\nC: BDAT 1048577 LAST\nS: 552 5.3.4…\nS: (end)").await;
    let mut client = bench.connect();
    client.play("S: 220…\nC: POST / HTTP/1.1\nS: 421 4.7.0 This is an SMTP server\nS: (end)").await;
    let mut client = bench.connect();
    client.line().await;
    for _ in 0..10 {
        client.play("C: hello\nS: 500…").await;
    }
    client.play("S: 421 4.7.0 Too many commands that make no sense\nS: (end)").await;
    let mut client = bench.connect();
    client.play("S: 220…").await;
    // Silence.
    client.play("S: 421 4.7.0 Login takes too long\nS: (end)").await;
    let mut client = bench.connect();
    client.send(&"x".repeat(20_000)).await;
    client.play("S: 220…\nS: 421 4.5.2 Line is too long\nS: (end)").await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_told() {
    let bench = Bench::new();
    let mut client = bench.login().await;
    client.play("C: MAIL FROM:<ann@example.org>\nS: 250…\nC: RCPT TO:<bob@example.net>\nS: 250…\nC: DATA\nS: 354…\nC: half a mess").await;
    bench.shutdown.cancel();
    client.play("S: 421 4.3.2 Server is shutting down\nS: (end)").await;
    client.session.await.unwrap();
    assert_eq!(bench.provider.heard().last().map(String::as_str), Some("(closed)"), "nothing of it is sent");
}
