//! From the greeting to the first command.

use super::*;

/// How a login with this script ends: the error's text, or `ok`.
async fn outcome(script: &str, change: impl FnOnce(&mut Config)) -> String {
    outcome_of(Provider::new([script.to_owned()]), change).await
}

async fn outcome_of(provider: Arc<Provider>, change: impl FnOnce(&mut Config)) -> String {
    let mut config = config(&provider, 1);
    change(&mut config);
    let leased = Pool::new(config).lease(Class::Interactive, None).await;
    provider.done().await;
    match leased {
        Ok(lease) => format!("ok {}", lease.caps().names.iter().cloned().collect::<Vec<_>>().join(" ")),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn ways_to_log_in() {
    let table = [
        // Everything asked for, no SASL-IR: the response waits for the challenge.
        (
            "S: * OK hi\nC: w1 CAPABILITY\nS: * CAPABILITY IMAP4rev1 AUTH=PLAIN \nS: w1 OK\nC: w2 AUTHENTICATE PLAIN\nS: +\n\
             C: AGFubgBwdw==\nS: * CAPABILITY IMAP4rev1 IDLE\nS: w2 OK in",
            "ok IDLE IMAP4REV1",
        ),
        // LOGIN; capabilities asked again after it.
        (
            "S: * OK [CAPABILITY IMAP4rev1 NAMESPACE] hi\nC: w1 LOGIN \"ann\" \"pw\"\nS: w1 OK\nC: w2 CAPABILITY\n\
             S: * CAPABILITY IMAP4rev1 UIDPLUS\nS: w2 OK",
            "ok IMAP4REV1 UIDPLUS",
        ),
        // An offer of PLAIN that is not understood.
        (
            "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\nC: w1 AUTHENTICATE PLAIN AGFubgBwdw==\n\
             S: w1 BAD Command syntax error\nC: w2 LOGIN \"ann\" \"pw\"\nS: w2 OK [CAPABILITY IMAP4rev1] in",
            "ok IMAP4REV1",
        ),
        ("S: * PREAUTH [CAPABILITY IMAP4rev1] in", "ok IMAP4REV1"),
        // ID, never empty, and ENABLE; neither needs to succeed.
        (
            concat!(
                "S: * PREAUTH [CAPABILITY ID ENABLE CONDSTORE IMAP4rev2] in\nC: w1 ID (\"name\" \"mailweir\" \"version\" \"",
                env!("CARGO_PKG_VERSION"),
                "\")\nC: w2 ENABLE CONDSTORE\nS: * ID NIL\nS: w1 BAD what\nS: w2 NO"
            ),
            "ok CONDSTORE ENABLE ID IMAP4REV2",
        ),
    ];
    for (script, want) in table {
        assert_eq!(outcome(script, |_| ()).await, want, "{script}");
    }
}

#[tokio::test(start_paused = true)]
async fn odd_names_and_passwords_are_literals() {
    let script = "S: * OK [CAPABILITY IMAP4rev1] hi\nC: w1 LOGIN \"ann\" {3}\nS: + \nC: pé\nS: w1 OK [CAPABILITY A]";
    let change = |config: &mut Config| config.credentials = Credentials::Password(Secret::new("pé".as_bytes()));
    assert_eq!(outcome(script, change).await, "ok A");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_in_words_and_never_with_the_password() {
    let plain = "S: * OK [CAPABILITY SASL-IR AUTH=PLAIN] hi\nC: w1 AUTHENTICATE PLAIN AGFubgBwdw==\n";
    let table = [
        (
            "S: w1 NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)\nE",
            "upstream login failed: the provider says: Invalid credentials",
        ),
        (
            "S: * NO [WEBALERT https://a.example/] Web login required.\nS: w1 NO [ALERT] Invalid credentials (Failure)\nE",
            "Web login required",
        ),
        (
            "S: w1 NO [UNAVAILABLE] Temporary authentication failure.\nE",
            "upstream unavailable: the provider says: Temporary",
        ),
        (
            "S: w1 NO [ALERT] Too many simultaneous connections. (Failure)\nE",
            "upstream unavailable: the provider says: Too many",
        ),
        ("S: w1 NO\nE", "upstream login failed: the provider refused without a reason"),
        ("S: * BYE [OVERQUOTA] limits\nE", "upstream unavailable"),
        ("X", "the provider closed the connection"),
        ("H", "the provider said nothing"),
    ];
    for (script, want) in table {
        // Longer than the read time-out of a silent login, which an interactive wait is not.
        let provider = Provider::new([format!("{plain}{script}")]);
        let pool = pool_of(&provider, 1);
        let error = pool.lease(Class::Sync, None).await.err().unwrap().to_string();
        assert!(error.contains(want), "{script}: {error}");
        assert!(!error.contains("pw") && !error.contains("AGFu"), "{error}");
        provider.done().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_greets_otherwise_is_given_up() {
    let table = [
        ("S: * BYE Too many connections from your IP\nE", "Too many connections"),
        ("S: 220 mail.example.org ESMTP\nE", "does not speak IMAP"),
        ("X", "closed the connection"),
        ("S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi\nE", "takes no passwords"),
    ];
    for (script, want) in table {
        let got = outcome(script, |_| ()).await;
        assert!(got.contains(want), "{script}: {got}");
    }
    let provider = Provider::new(["H".to_owned()]);
    let error = pool_of(&provider, 1).lease(Class::Sync, None).await.err().unwrap().to_string();
    assert!(error.contains("does not greet") || error.contains("said nothing"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nothing_secret_is_said_before_tls() {
    let caps = "S: * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi\nC: w1 STARTTLS\n";
    let table = [
        // After the handshake capabilities are asked anew; what was injected before it is forgotten.
        (
            format!(
                "{caps}S: w1 OK go\\r\\nw2 OK injected\\r\\n* CAPABILITY EVIL\nC: w2 CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: w2 OK\n\
                 C: w3 LOGIN \"ann\" \"pw\"\nS: w3 OK [CAPABILITY IMAP4rev1]"
            ),
            "ok IMAP4REV1",
        ),
        (format!("{caps}S: w1 NO sorry\nE"), "refuses STARTTLS"),
        ("S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\nE".into(), "does not offer STARTTLS"),
        ("S: * PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] in\nE".into(), "greets as logged in"),
    ];
    for (script, want) in table {
        let provider = Provider { starttls: true, scripts: Mutex::new([script.clone()].into()), ..Provider::default() };
        let got = outcome_of(Arc::new(provider), |_| ()).await;
        assert!(got.contains(want), "{script}: {got}");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_renewed_once() {
    fn oauth(config: &mut Config) {
        config.credentials = Credentials::OAuth(Arc::new(|refused: Option<Secret>| async move {
            Ok(Secret::new(if refused.is_some_and(|refused| refused.expose() == b"old") { *b"new" } else { *b"old" }))
        }));
    }
    // user=ann^Aauth=Bearer old^A^A
    let old = "dXNlcj1hbm4BYXV0aD1CZWFyZXIgb2xkAQE=";
    let new = "dXNlcj1hbm4BYXV0aD1CZWFyZXIgbmV3AQE=";
    let first = format!(
        "S: * OK [CAPABILITY SASL-IR AUTH=XOAUTH2 AUTH=OAUTHBEARER] hi\nC: w1 AUTHENTICATE XOAUTH2 {old}\nS: + eyJzdGF0dXMiOiI0MDAifQ==\n\
         C: \nS: w1 NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)\nC: w2 AUTHENTICATE XOAUTH2 {new}\n"
    );
    assert_eq!(outcome(&format!("{first}S: w2 OK [CAPABILITY A]"), oauth).await, "ok A");
    let refused =
        outcome(&format!("{first}S: w2 NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)\nE"), oauth).await;
    assert!(refused.starts_with("upstream login failed"), "{refused}");
    // n,a=ann,^Ahost=imap.example.org^Aport=993^Aauth=Bearer old^A^A
    let bearer = "S: * OK [CAPABILITY SASL-IR AUTH=OAUTHBEARER] hi\n\
                  C: w1 AUTHENTICATE OAUTHBEARER bixhPWFubiwBaG9zdD1pbWFwLmV4YW1wbGUub3JnAXBvcnQ9OTkzAWF1dGg9QmVhcmVyIG9sZAEB\n\
                  S: + e30=\nC: AQ==\nS: w1 NO [UNAVAILABLE] later\nE";
    let later = outcome(bearer, oauth).await;
    assert!(later.contains("later"), "{later}");
    // {"status":"invalid_token","scope":"mail"}
    let told = bearer.replace("+ e30=", "+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJtYWlsIn0=");
    let told = outcome(&told, oauth).await;
    assert!(told.contains("later (status \"invalid_token\", wants the scope \"mail\")"), "{told}");
    // Nothing is said of a token that is not to be had, and only a lost consent is the user's to mend.
    let greeting = "S: * OK [CAPABILITY SASL-IR AUTH=XOAUTH2] hi\nE";
    for (fault, want) in [
        (TokenFault::Away("the server is away".into()), "upstream unavailable: the server is away"),
        (TokenFault::Login("revoked".into()), "upstream login failed: revoked. Run `mailweir account login ann`"),
        (TokenFault::Setup("who are you".into()), "upstream login failed: who are you"),
    ] {
        let got = outcome(greeting, |config| {
            config.label = "ann".into();
            config.credentials = Credentials::OAuth(Arc::new(move |_| {
                let fault = fault.clone();
                async move { Err(fault) }
            }));
        });
        assert!(got.await.contains(want), "{want}");
    }
    let none = outcome("S: * OK [CAPABILITY AUTH=PLAIN] hi\nE", oauth).await;
    assert!(none.contains("does not offer OAuth"), "{none}");
}

#[tokio::test(start_paused = true)]
async fn qresync_is_used_only_when_believed_and_confirmed() {
    let offer = "S: * PREAUTH [CAPABILITY IMAP4rev1 ENABLE CONDSTORE QRESYNC] in\n";
    let select = |tag: &str, parameter: &str| format!("C: {tag} SELECT \"a\" ({parameter})\nS: {tag} OK");
    let table = [
        (vec![], "C: w1 ENABLE QRESYNC\nS: * ENABLED QRESYNC\nS: w1 OK\n", select("w2", "QRESYNC (7 90)")),
        // Enabled without a word (iCloud), refused, or hidden by the preset.
        (vec![], "C: w1 ENABLE QRESYNC\nS: w1 OK\n", select("w2", "CONDSTORE")),
        (vec![], "C: w1 ENABLE QRESYNC\nS: w1 NO\n", select("w2", "CONDSTORE")),
        (vec!["qresync".to_owned()], "C: w1 ENABLE CONDSTORE\nS: w1 OK\n", select("w2", "CONDSTORE")),
        (vec!["ENABLE".to_owned(), "QRESYNC".to_owned()], "", select("w1", "CONDSTORE")),
    ];
    for (hidden_capabilities, enable, select) in table {
        let provider = Provider::new([format!("{offer}{enable}{select}")]);
        let quirks = Quirks { hidden_capabilities, ..Quirks::default() };
        let pool = Pool::new(Config { quirks, ..config(&provider, 1) });
        let mut lease = pool.lease(Class::Sync, None).await.unwrap();
        lease.reselect("a", Some((crate::model::UidValidity(7), 90))).await.unwrap();
        provider.done().await;
    }
}
