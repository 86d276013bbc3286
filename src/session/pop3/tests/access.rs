//! Greeting, capabilities, logins.

use super::*;

#[tokio::test(start_paused = true)]
async fn before_and_after_login() {
    let bench = Bench::with(2);
    bench
        .play(
            "",
            "S: +OK mailweir ready
             C: CAPA
             S: +OK Capability list follows
             S: TOP
             S: UIDL
             S: RESP-CODES
             S: AUTH-RESP-CODE
             S: PIPELINING
             S: EXPIRE NEVER
             S: UTF8 USER
             S: LANG
             S: USER
             S: SASL PLAIN LOGIN
             S: IMPLEMENTATION mailweir
             S: .
             C: STLS
             S: -ERR TLS is not offered here
             C: STAT
             S: -ERR Log in first
             C: DELE 1
             S: -ERR Log in first
             C: PASS pw
             S: -ERR USER comes first
             C: APOP ann c4c9334bac560ecc979e58001b3e22fb
             S: -ERR APOP is not served…
             C: UTF8
             S: +OK UTF-8 enabled
             C: LANG
             S: +OK Language listing follows
             S: en English
             S: i-default English
             S: .
             C: LANG de
             S: -ERR No words in that language
             C: LANG en-GB
             S: +OK en Language is English
             C: USER ann
             S: +OK Send the password
             C: PASS wrong
             S: -ERR [AUTH] Wrong user name or password
             C: PASS pw
             S: -ERR USER comes first
             C: user ann
             S: +OK Send the password
             C: pass  p w 
             S: +OK Logged in, 2 messages (35 octets)
             C: CAPA
             S: +OK Capability list follows
             S: TOP
             S: UIDL
             S: RESP-CODES
             S: AUTH-RESP-CODE
             S: PIPELINING
             S: EXPIRE NEVER
             S: UTF8 USER
             S: LANG
             S: USER
             S: SASL PLAIN LOGIN
             S: IMPLEMENTATION mailweir
             S: .
             C: USER ann
             S: -ERR Already logged in
             C: AUTH PLAIN AGFubgBwdw==
             S: -ERR Already logged in
             C: UTF8
             S: -ERR UTF8 belongs before the login
             C: LANG *
             S: +OK i-default…
             C: NOOP
             S: +OK
             C: QUIT
             S: +OK Bye
             S: (end)",
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn sasl() {
    let bench = Bench::with(1);
    let table = [
        "C: AUTH PLAIN AGFubgBwdw==
         S: +OK Logged in…",
        "C: AUTH PLAIN YW5uAGFubgBwdw==
         S: +OK Logged in…",
        "C: auth plain
         S: + 
         C: AGFubgBwdw==
         S: +OK Logged in…",
        "C: AUTH LOGIN
         S: + VXNlcm5hbWU6
         C: YW5u
         S: + UGFzc3dvcmQ6
         C: cHc=
         S: +OK Logged in…",
        "C: AUTH LOGIN YW5u
         S: + UGFzc3dvcmQ6
         C: cHc=
         S: +OK Logged in…",
        "C: AUTH
         S: +OK Mechanisms follow
         S: PLAIN
         S: LOGIN
         S: .",
        "C: AUTH PLAIN
         S: + 
         C: *
         S: -ERR Authentication cancelled
         C: AUTH PLAIN =
         S: -ERR Not a PLAIN response
         C: AUTH PLAIN a
         S: -ERR Not base64
         C: AUTH PLAIN AGFubgB3cm9uZw==
         S: -ERR [AUTH] Wrong user name or password
         C: AUTH PLAIN Ym9iAGFubgBwdw==
         S: -ERR [AUTH] Not allowed to act for another user
         C: AUTH CRAM-MD5
         S: -ERR No such mechanism; there are PLAIN and LOGIN
         C: USER slow
         S: +OK Send the password
         C: PASS x
         S: -ERR [SYS/TEMP] Too many failed logins…
         C: USER away
         S: +OK Send the password
         C: PASS x
         S: -ERR [SYS/TEMP] This account cannot be served now",
    ];
    for script in table {
        bench.play("", &format!("S: +OK mailweir ready\n{script}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_password_in_the_clear_where_that_is_not_allowed() {
    let bench = Bench { plaintext_login: false, ..Bench::with(0) };
    let mut client = bench.connect();
    client.line().await;
    client.ask("CAPA").await;
    let capabilities = client.list().await;
    assert!(!capabilities.iter().any(|line| line.starts_with("USER") || line.starts_with("SASL")), "{capabilities:?}");
    for command in ["USER ann", "PASS pw", "AUTH PLAIN AGFubgBwdw=="] {
        assert_eq!(client.ask(command).await, "-ERR [AUTH] Log in over TLS: use STLS or the TLS port");
    }
}

#[tokio::test(start_paused = true)]
async fn a_maildrop_that_cannot_be_opened() {
    let bench = Bench::with(1);
    bench.set(|pop3| pop3.mailbox = "Nowhere".into());
    let login = "S: +OK mailweir ready\nC: USER ann\nS: +OK Send the password\nC: PASS pw\n";
    bench.play("", &format!("{login}S: -ERR [SYS/PERM] The account has no mailbox Nowhere")).await;
    bench.set(|pop3| pop3.mailbox = "INBOX".into());
    *bench.hidden.broken.lock().unwrap() = true;
    bench.play("", &format!("{login}S: -ERR [SYS/TEMP] What this login has deleted cannot be read now")).await;
}
