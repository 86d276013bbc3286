//! Greeting, login, TLS, limits before login, the end of a session.

use tokio_rustls::rustls::{self, ClientConfig, ServerConfig};

use super::*;

#[tokio::test(start_paused = true)]
async fn greeting_and_login() {
    let bench = Bench::new();
    bench
        .play(
            "-",
            r#"
            S: * OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR …
            C: a NOOP
            S: a OK NOOP completed
            C: b SELECT INBOX
            S: b BAD Please log in first
            C: c LOGIN ann wrong
            S: c NO [AUTHENTICATIONFAILED] Wrong user name or password
            C: d LOGIN slow x
            S: d NO [LIMIT] …
            C: e LOGIN away x
            S: e NO [UNAVAILABLE] …
            C: f LOGIN {3}
            S: + OK
            C: ann "pw"
            S: f OK [CAPABILITY IMAP4rev1 …
            C: g LOGIN ann pw
            S: g BAD Already logged in
            C: h ID NIL
            S: * ID ("name" "mailweir" "version" "0.1.0")
            S: h OK ID completed
            C: i NAMESPACE
            S: * NAMESPACE (("" "/")) NIL NIL
            S: i OK Namespace completed
            C: j ENABLE CONDSTORE X-UNKNOWN
            S: * ENABLED CONDSTORE
            S: j OK Enabled
            C: k FETCH 1 FLAGS
            S: k BAD No mailbox selected
            C: l LOGOUT
            S: * BYE Logging out
            S: l OK Logout completed
            S: (end)
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn sasl() {
    let bench = Bench::new();
    bench
        .play(
            "-",
            r#"
            S: * OK …
            C: a AUTHENTICATE PLAIN
            S: + 
            C: *
            S: a BAD Authentication cancelled
            C: b AUTHENTICATE PLAIN AGFubgBwdw==
            S: b OK [CAPABILITY …
            2S: * OK …
            2C: a AUTHENTICATE LOGIN
            2S: + VXNlcm5hbWU6
            2C: YW5u
            2S: + UGFzc3dvcmQ6
            2C: cHc=
            2S: a OK [CAPABILITY …
            3S: * OK …
            3C: a AUTHENTICATE PLAIN Ym9iAGFubgBwdw==
            3S: a NO [AUTHORIZATIONFAILED] …
            3C: b AUTHENTICATE LOGIN YW5u
            3S: + UGFzc3dvcmQ6
            3C: cHc=
            3S: b OK [CAPABILITY …
            4S: * OK …
            4C: a AUTHENTICATE PLAIN
            4S: + 
            4C: !!!
            4S: a BAD Not base64
            4C: b AUTHENTICATE CRAM-MD5
            4S: b NO [CANNOT] …
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn no_login_in_the_clear() {
    let mut bench = Bench::new();
    bench.plaintext_login = false;
    let mut client = bench.connect();
    let greeting = client.line().await;
    assert!(greeting.contains(" LOGINDISABLED]") && !greeting.contains("AUTH="), "{greeting}");
    assert_eq!(
        client.command("a", "LOGIN ann pw").await[0],
        "a NO [PRIVACYREQUIRED] Log in over TLS: use STARTTLS or the TLS port"
    );
    assert!(client.command("b", "AUTHENTICATE PLAIN AGFubgBwdw==").await[0].starts_with("b NO [PRIVACYREQUIRED]"));
    assert_eq!(client.command("c", "STARTTLS").await[0], "c BAD TLS is not offered here");
}

#[tokio::test(start_paused = true)]
async fn other_protocols_are_shown_out() {
    for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "EHLO there", "a b HTTP/1.1"] {
        let bench = Bench::new();
        let mut client = bench.connect();
        client.line().await;
        client.send(&format!("{line}\r\na LOGIN ann pw\r\n")).await;
        assert_eq!(client.line().await, "* BYE This is an IMAP server", "{line}");
        assert_eq!(client.line().await, "(end)");
    }
}

#[tokio::test(start_paused = true)]
async fn nonsense_ends_the_session() {
    let bench = Bench::new();
    let mut client = bench.connect();
    client.line().await;
    for turn in 0..10 {
        client.send(&format!("a{turn} FROB\r\n")).await;
        assert!(client.line().await.starts_with(&format!("a{turn} BAD")));
    }
    assert!(client.line().await.starts_with("* BYE Too many"));
    let mut client = bench.selected("INBOX").await;
    for turn in 0..19 {
        assert!(client.command(&format!("a{turn}"), "FROB").await[0].contains("BAD"));
    }
    client.command("b", "NOOP").await;
    assert!(client.command("c", "FROB").await[0].starts_with("c BAD"), "a good command starts the count anew");
}

#[tokio::test(start_paused = true)]
async fn limits_before_login() {
    let bench = Bench::new();
    let mut client = bench.connect();
    client.line().await;
    client.send(&format!("a LOGIN ann {}\r\n", "x".repeat(9000))).await;
    assert!(client.line().await.starts_with("a BAD"));
    assert!(client.line().await.starts_with("* BYE"));
    let mut client = bench.connect();
    client.line().await;
    client.send("a LOGIN ann {5000}\r\n").await;
    assert!(client.line().await.starts_with("a BAD literal"));
    let mut client = bench.connect();
    client.line().await;
    client.send("a APPEND INBOX {3}\r\n").await;
    assert_eq!(client.line().await, "a BAD Please log in first");
    assert!(client.command("b", "LOGIN ann pw").await[0].starts_with("b OK"));
}

#[tokio::test(start_paused = true)]
async fn silence_and_shutdown() {
    let bench = Bench::new();
    let mut silent = bench.connect();
    silent.line().await;
    assert_eq!(silent.line().await, "* BYE Login takes too long");
    let mut idle = bench.selected("INBOX").await;
    assert_eq!(idle.line().await, "* BYE Autologout, idle for too long");
    let mut waiting = bench.selected("INBOX").await;
    let mut idling = bench.selected("INBOX").await;
    idling.send("i IDLE\r\n").await;
    assert_eq!(idling.line().await, "+ idling");
    bench.shutdown.cancel();
    for client in [&mut waiting, &mut idling] {
        assert_eq!(client.line().await, "* BYE [UNAVAILABLE] Server is shutting down");
        assert_eq!(client.line().await, "(end)");
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_commands_keep_their_order() {
    let bench = Bench::new();
    let mut client = bench.connect();
    client.line().await;
    client.send("a LOGIN ann pw\r\nb SELECT INBOX\r\nc NOOP\r\nd LOGOUT\r\ne NOOP\r\n").await;
    let mut tagged = Vec::new();
    loop {
        let line = client.line().await;
        if line == "(end)" {
            break;
        }
        if !line.starts_with('*') {
            tagged.push(line.chars().take(4).collect::<String>());
        }
    }
    assert_eq!(tagged, ["a OK", "b OK", "c OK", "d OK"]);
}

fn certificate() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

#[tokio::test]
async fn starttls_forgets_what_came_in_the_clear() {
    let (server, trust) = certificate();
    let mut bench = Bench::new();
    let login = FakeLogin(bench.account.clone());
    bench.server = Arc::new(Server::new(login, Some(server), Arc::new(Unobserved), "mailweir"));
    bench.plaintext_login = false;
    let mut client = bench.connect();
    let greeting = client.line().await;
    assert!(greeting.contains(" STARTTLS LOGINDISABLED]"), "{greeting}");
    // The second command is an injection: it must not be answered inside TLS.
    client.send("a STARTTLS\r\nb NOOP\r\n").await;
    assert_eq!(client.line().await, "a OK Begin TLS negotiation now");
    let plain = client.stream.into_inner();
    let stream = plain.start_tls_client(trust, "localhost".try_into().unwrap()).await.unwrap();
    let mut client = Client { stream: BufReader::new(stream) };
    let lines = client.command("c", "CAPABILITY").await;
    assert!(lines[0].ends_with(" AUTH=PLAIN AUTH=LOGIN") && !lines[0].contains("STARTTLS"), "{lines:?}");
    assert_eq!(client.command("d", "STARTTLS").await, ["d BAD TLS is active already"]);
    assert!(client.command("e", "LOGIN ann pw").await[0].starts_with("e OK"));
}

/// What is refused is dropped to its end, in whatever pieces it comes: the text of a message is never taken for commands.
#[tokio::test(start_paused = true)]
async fn a_refused_message_is_no_command() {
    let bench = Bench::new();
    let body = format!("x CREATE Injected\r\ny DELETE INBOX\r\n{}\r\n", "z NOOP\r\n".repeat(2200));
    for (logged_in, head, answer) in [
        (true, "a APPEND Nowhere", "a NO [TRYCREATE]"),
        (true, "a APPEND INBOX (", "a BAD"),
        (true, "a APPEND INBOX (\\Seen) \"never\"", "a BAD"),
        (true, "a SEARCH SUBJECT", "a BAD"),
        (true, "a NOOP", "a BAD"),
        (false, "a APPEND INBOX", "a BAD"),
        (false, "a LOGIN", "a BAD"),
    ] {
        let mut client = if logged_in { bench.selected("INBOX").await } else { bench.connect() };
        if !logged_in {
            client.line().await;
        }
        client.send(&format!("{head} {{{}+}}\r\n", body.len())).await;
        let mut answered = client.line().await;
        for piece in body.split_inclusive('\n').collect::<Vec<_>>().chunks(50) {
            client.send(&piece.concat()).await;
            // The other side has read it, and its buffer is empty.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for end in [" (\\Seen) {3+}", "\r\nabc", "\r", "\n", "n NOOP\r\n"] {
            client.send(end).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut next = client.line().await;
        while answered.starts_with("+") || next.starts_with("* ") {
            answered = std::mem::replace(&mut next, client.line().await);
        }
        assert!(answered.starts_with(answer), "{head}: {answered}");
        assert_eq!(next, "n OK NOOP completed", "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_cannot_stay() {
    let bench = Bench::new();
    let mut client = bench.connect();
    client.line().await;
    for turn in 0..20 {
        client.send(&format!("n{turn} NOOP\r\n")).await;
        assert_eq!(client.line().await, format!("n{turn} OK NOOP completed"));
        if let Ok(line) = tokio::time::timeout(Duration::from_secs(29), client.line()).await {
            assert_eq!((turn, line.as_str()), (6, "* BYE Login takes too long"));
            return;
        }
    }
    panic!("still here");
}
