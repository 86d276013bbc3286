//! Every text a provider is known to say against an account: what we do, what is counted, and what the user reads. The wait of each meaning is
//! the gate's own table; here the words go the whole way, from the wire to whoever asked.

use tokio::time::sleep;

use super::*;

#[derive(Default)]
struct Heard(Mutex<Vec<&'static str>>);

impl Meter for Heard {
    fn received(&self, _: u64) {}
    fn sent(&self, _: u64) {}
    fn login(&self, _: Outcome) {}
    fn refused(&self, meaning: Meaning) {
        self.0.lock().unwrap().push(meaning.as_str());
    }
    fn connections(&self, _: usize) {}
}

/// How often a login is tried on a day on which somebody asks every half hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tries {
    /// The user is needed: not again before he acts.
    Once,
    /// A wrong password may be a provider's bad day, three are none.
    Thrice,
    /// It passes by itself.
    Again,
}

#[tokio::test(start_paused = true)]
async fn at_login_every_text_has_its_reaction() {
    use Tries::{Again, Once, Thrice};
    // What the provider says; the metric; how often it is tried; what the user reads beside the provider's own words.
    let table = [
        (
            "NO [ALERT] Too many simultaneous connections. (Failure)",
            "too_many_connections",
            Again,
            "Other mail programs",
        ),
        (
            "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
            "too_many_connections",
            Again,
            "fewer of them",
        ),
        ("NO [LIMIT] Too many concurrent connections", "too_many_connections", Again, "lower `connections`"),
        ("NO [INUSE] Another session", "too_many_connections", Again, "Other mail programs"),
        ("BAD User is authenticated but not connected.", "too_many_connections", Again, "Other mail programs"),
        ("NO Account is temporarily unavailable", "too_many_connections", Again, "Other mail programs"),
        (
            "NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)",
            "bandwidth",
            Again,
            "at most after 24 hours",
        ),
        ("NO [THROTTLED] later", "throttled", Again, "asks for a pause"),
        (
            "NO Request is throttled. Suggested Backoff Time: 299961 milliseconds",
            "throttled",
            Again,
            "goes on by itself",
        ),
        ("NO [LIMIT] LOGIN Rate limit hit.", "throttled", Again, "goes on by itself"),
        (
            "NO [ALERT] Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)",
            "app_password",
            Once,
            "wants an app password",
        ),
        (
            "NO [AUTHENTICATIONFAILED] NEOBHODIM parol prilozheniya https://help.mail.ru/ / Application password is REQUIRED",
            "app_password",
            Once,
            "wants an app password",
        ),
        (
            "NO [ALERT] Please log in via your web browser: https://support.google.com/ (Failure)",
            "web_login",
            Once,
            "with a browser",
        ),
        ("NO [WEBALERT https://accounts.google.com/x] Web login required.", "web_login", Once, "with a browser"),
        (
            "NO [AUTHENTICATIONFAILED] LOGIN invalid credentials or IMAP is disabled sc=abc",
            "credentials",
            Thrice,
            "user name and password",
        ),
        ("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)", "credentials", Thrice, "user name and password"),
        ("NO [ALERT] Invalid credentials (Failure)", "credentials", Thrice, "user name and password"),
        ("NO [AUTHENTICATIONFAILED] (#AUTH901) Invalid credentials", "credentials", Thrice, "user name and password"),
        ("NO LOGIN failed.", "credentials", Thrice, "user name and password"),
        ("NO AUTHENTICATE failed.", "credentials", Thrice, "user name and password"),
        ("NO Too many bad auth attempts", "credentials", Thrice, "user name and password"),
        ("NO [CONTACTADMIN] call us", "forbidden", Once, "IMAP is allowed"),
        ("NO IMAP access is disabled for your account", "forbidden", Once, "IMAP is allowed"),
        ("NO [EXPIRED] password expired", "forbidden", Once, "IMAP is allowed"),
        ("NO [UNAVAILABLE] Temporary authentication failure.", "ordinary", Again, ""),
        ("NO Server Unavailable. 15", "ordinary", Again, ""),
        ("NO LOGIN Service is temporarily not available", "ordinary", Again, ""),
        ("NO [SERVERBUG] Server error - Please try again later", "ordinary", Again, ""),
        ("NO [UNAVAILABLE] LOGIN Server error while fetching messages", "ordinary", Again, ""),
        // No word on the password: not understood, or understood too late.
        ("BAD AUTHENTICATE Command syntax error. sc=abc", "ordinary", Again, ""),
        ("BAD Command Error. 12", "ordinary", Again, ""),
        ("BAD Command received in Invalid state.", "ordinary", Again, ""),
        ("NO Basic authentication is disabled.", "app_password", Once, "OAuth"),
    ];
    for (said, metric, tries, advice) in table {
        let script = format!(
            "S: * OK [CAPABILITY SASL-IR AUTH=PLAIN LOGINDISABLED] hi\nC: w1 AUTHENTICATE PLAIN AGFubgBwdw==\nS: w1 {said}\nE"
        );
        let provider = Provider::new(std::iter::repeat_n(script, 1000));
        let heard = Arc::new(Heard::default());
        let meter = Arc::<Heard>::clone(&heard);
        let pool = Pool::new(Config { meter, ..config(&provider, 2) });
        let first = pool.lease(Class::Interactive, None).await.err().unwrap();
        assert_eq!(*heard.0.lock().unwrap(), [metric], "{said}");
        let is_hard = matches!(tries, Once | Thrice);
        assert_eq!(matches!(first, Error::Login(_)), is_hard, "{said}: {first}");
        let words = first.to_string();
        let text = said.split_once(' ').unwrap().1;
        let text = text.rsplit_once("] ").map_or(text, |(_, text)| text).trim_end_matches('.');
        assert!(words.contains(text) && words.contains(advice), "{said}: {words}");
        assert_eq!(pool.stopped().is_some(), tries == Once, "{said}");
        for _ in 0..24 * 2 {
            sleep(Duration::from_secs(1800)).await;
            let error = pool.lease(Class::Interactive, None).await.err().unwrap();
            assert_eq!(matches!(error, Error::Login(_)), is_hard, "{said}: {error}");
        }
        let dialled = provider.dialled();
        match tries {
            Once => assert_eq!(dialled, 1, "{said}"),
            Thrice => assert_eq!(dialled, 3, "{said}"),
            Again => assert!((4..=49).contains(&dialled), "{said}: {dialled}"),
        }
        assert_eq!(heard.0.lock().unwrap().len(), dialled, "{said}: each is counted");
        assert_eq!(pool.stopped().is_some(), is_hard, "{said}");
        if let Some(words) = pool.stopped() {
            assert!(words.contains(advice) && words.contains("reload it (SIGHUP)"), "{words}");
            // The user acts: one try, and it is no better.
            pool.kick();
            assert!(pool.lease(Class::Interactive, None).await.is_err());
            sleep(Duration::from_secs(6 * 3600)).await;
            assert!(pool.lease(Class::Interactive, None).await.is_err());
            assert_eq!(provider.dialled(), dialled + 1, "{said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_work_every_text_has_its_reaction() {
    // Said to a command, or by BYE; the metric, none for what concerns the command alone; seconds until the next command may be said.
    let table = [
        ("NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)", Some("bandwidth"), 3600),
        ("NO [OVERQUOTA] Bandwidth limit reached, try again in 2 hours", Some("bandwidth"), 7200),
        ("NO Request is throttled. Suggested Backoff Time: 299961 milliseconds", Some("throttled"), 299),
        ("BAD Request is throttled. Suggested Backoff Time: 1 milliseconds", Some("throttled"), 1),
        ("NO [LIMIT] UID FETCH Rate limit hit.", Some("throttled"), 30),
        ("BAD User is authenticated but not connected.", Some("too_many_connections"), 30),
        ("NO [LIMIT] APPEND Command exceeds the maximum allowed size", None, 0),
        ("NO [OVERQUOTA] Quota exceeded (mailbox for user is full)", None, 0),
        ("NO [SERVERBUG] SELECT Server error - Please try again later", None, 0),
        ("NO [UNAVAILABLE] UID SEARCH Backend error. sc=x", None, 0),
        ("NO Some messages could not be FETCHed (Failure)", None, 0),
        ("NO System Error (Failure)", None, 0),
        ("NO [CANNOT] Folder contains excess whitespace (Failure)", None, 0),
        ("NO [NONEXISTENT] Unknown Mailbox: x (Failure)", None, 0),
        ("NO Server Unavailable. 15", None, 0),
        ("BAD Command Error. 10", None, 0),
        ("BAD Command Argument Error. 11", None, 0),
        ("BAD Command received in Invalid state.", None, 0),
        ("NO Maximum size of appendable message has been exceeded.", None, 0),
        ("NO Folder name is reserved.", None, 0),
        ("BAD [CLIENTBUG] Unrecognised command", None, 0),
        ("NO SEARCH Failure due to backend error", None, 0),
        ("NO [UNAVAILABLE] EXPUNGE Backend error", None, 0),
        ("NO [UNAVAILABLE] UID FETCH Server error while fetching messages", None, 0),
        ("NO UID FETCH Service is temporarily not available", None, 0),
        ("NO [SERVERBUG] UID SEARCH Server error - Please try again later", None, 0),
        ("NO [SERVERBUG] MOVE Server error", None, 0),
        ("BAD [CLIENTBUG] FETCH Bad sequence in the command", None, 0),
        ("BAD [CLIENTBUG] Additional arguments found after last expected argument", None, 0),
        ("NO SELECT Unsafe Login. Please contact kefu@188.com for help", None, 0),
        ("BYE Session invalidated - AccessTokenExpired", None, 0),
        ("BYE Connection is closed. 13", None, 0),
        ("BYE [LIMIT] Too many connections from your IP", Some("too_many_connections"), 30),
        ("BYE Request is throttled. Suggested Backoff Time: 100 seconds", Some("throttled"), 100),
        ("BYE [OVERQUOTA] goodbye", Some("bandwidth"), 3600),
        ("BYE Autologout; idle for too long", None, 0),
        ("BYE Session expired, please login again", None, 0),
        ("BYE Connection closed. 14", None, 0),
    ];
    for (said, metric, wait) in table {
        let answer = if said.starts_with("BYE") { format!("S: * {said}\nX") } else { format!("S: w2 {said}") };
        let provider = Provider::new([session("", &format!("C: w2 NOOP\n{answer}")), session("", "")]);
        let heard = Arc::new(Heard::default());
        let meter = Arc::<Heard>::clone(&heard);
        let pool = Pool::new(Config { meter, ..config(&provider, 1) });
        let mut lease = pool.lease(Class::Interactive, None).await.unwrap();
        let error = lease.noop().await.unwrap_err();
        assert!(!matches!(error, Error::Login(_)), "{said}: {error}");
        drop(lease);
        assert_eq!(*heard.0.lock().unwrap(), Vec::from_iter(metric), "{said}");
        if wait > 0 {
            let refused = pool.lease(Class::Interactive, None).await.err().unwrap();
            let Error::Unavailable { retry_after, .. } = refused else { panic!("{said}: {refused}") };
            assert!((wait..wait * 5 / 4 + 2).contains(&retry_after.as_secs()), "{said}: {retry_after:?}");
            sleep(retry_after).await;
        }
        let again = pool.lease(Class::Interactive, None).await;
        assert!(again.is_ok(), "{said}: {:?}", again.err());
        assert!(pool.stopped().is_none(), "{said}");
    }
}

/// Answers that come drop by drop: nobody says why, and only those who wait are served meanwhile.
#[tokio::test(start_paused = true)]
async fn a_trickle_is_noticed() {
    let heard = Arc::new(Heard::default());
    let meter = Arc::<Heard>::clone(&heard);
    let (first, second) = (drips("* OK so slow", 40), drips("", 0));
    let provider = Arc::new(Made(Mutex::new(vec![second, first])));
    let pool = Pool::new(Config { meter, dial: provider, ..config(&Provider::new([]), 1) });
    let mut lease = pool.lease(Class::Sync, None).await.unwrap();
    lease.noop().await.unwrap();
    assert!(lease.is_usable(), "what may change something is not broken off");
    drop(lease);
    assert_eq!(*heard.0.lock().unwrap(), ["trickle"]);
    for (class, is_served) in
        [(Class::Prefetch, false), (Class::Bulk, false), (Class::Sync, true), (Class::Interactive, true)]
    {
        // Over another session.
        let lease = pool.lease(class, None).await;
        assert_eq!(lease.is_ok(), is_served, "{class:?}");
    }
    sleep(Duration::from_secs(600)).await;
    assert!(pool.lease(Class::Prefetch, None).await.is_ok());
}

/// What only reads is broken off, to be asked for again over another session; if that is slow, too, it goes on there.
#[tokio::test(start_paused = true)]
async fn a_session_that_trickles_is_given_up_once() {
    let heard = Arc::new(Heard::default());
    let meter = Arc::<Heard>::clone(&heard);
    let slow = || drips("* 1 FETCH (UID 1 FLAGS ())", 100);
    let provider = Arc::new(Made(Mutex::new(vec![slow(), slow()])));
    let pool = Pool::new(Config { meter, dial: provider, ..config(&Provider::new([]), 1) });
    let mut lines = Vec::new();
    for is_first in [true, false] {
        let (mut lease, mut told) = (pool.lease(Class::Interactive, None).await.unwrap(), 0);
        let fetched = lease.fetch_meta("1:*", Items::Flags, None, &mut |_| told += 1).await;
        lines.push(told);
        match fetched {
            Err(Error::Lost { reason, sent: true }) if is_first => {
                assert!(reason.contains("less than a kilobyte"), "{reason}")
            }
            Ok(_) if !is_first => assert!(lease.is_usable()),
            other => panic!("{other:?} (first: {is_first})"),
        }
    }
    assert!((10..40).contains(&lines[0]) && lines[1] == 100, "{lines:?}");
    // Each time it is noticed.
    assert_eq!(heard.0.lock().unwrap().len(), 4);
}

/// A connection whose first command is answered by so many lines, one a second; what comes then at once.
fn drips(line: &'static str, times: usize) -> Stream {
    let (ours, theirs) = Stream::pair();
    tokio::spawn(async move {
        let (mut peer, mut said, mut times) = (BufReader::new(theirs), String::new(), times);
        peer.write_all(b"* PREAUTH [CAPABILITY IMAP4rev1] hi\r\n").await?;
        while peer.read_line(&mut said).await? > 0 {
            let tag = said.split(' ').next().unwrap_or_default().to_owned();
            for _ in 0..std::mem::take(&mut times) {
                sleep(Duration::from_secs(1)).await;
                peer.write_all(format!("{line}\r\n").as_bytes()).await?;
            }
            peer.write_all(format!("{tag} OK\r\n").as_bytes()).await?;
            said.clear();
        }
        std::io::Result::Ok(())
    });
    ours
}

/// Connections made beforehand, the last first.
struct Made(Mutex<Vec<Stream>>);

impl Dial for Made {
    fn dial(&self, _: Arc<dyn Tap>) -> BoxFuture<'_, Result<Stream, DialError>> {
        let stream = self.0.lock().unwrap().pop();
        let refused = DialError::Refused { host: "test".into(), port: 143 };
        std::future::ready(stream.ok_or(refused)).boxed()
    }

    fn upgrade(&self, stream: Stream) -> BoxFuture<'_, Result<Stream, DialError>> {
        std::future::ready(Ok(stream)).boxed()
    }

    fn tls(&self) -> TlsMode {
        TlsMode::Implicit
    }

    fn host(&self) -> (&str, u16) {
        ("imap.example.org", 993)
    }
}

/// The pool as the provider's words have left it is told to whoever keeps it, and taken up again.
#[tokio::test(start_paused = true)]
async fn a_lowered_pool_is_remembered() {
    #[derive(Default)]
    struct Kept(Mutex<Vec<Option<usize>>>);

    impl Permits for Kept {
        fn connection(&self) -> Result<Permit, Error> {
            Ok(Box::new(()))
        }
        fn login(&self) -> BoxFuture<'_, ()> {
            std::future::ready(()).boxed()
        }
        fn lowered(&self, maximum: Option<usize>) {
            self.0.lock().unwrap().push(maximum);
        }
    }

    let too_many = "S: * OK [CAPABILITY SASL-IR AUTH=PLAIN] hi\nC: w1 AUTHENTICATE PLAIN AGFubgBwdw==\nS: w1 NO [ALERT] Too many simultaneous connections. (Failure)\nE";
    let provider = Provider::new([session("", ""), too_many.into()]);
    let kept = Arc::new(Kept::default());
    let permits = Arc::<Kept>::clone(&kept);
    let pool = Pool::new(Config { permits, ..config(&provider, 3) });
    let held = pool.lease(Class::Interactive, None).await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(5), pool.lease(Class::Interactive, None)).await;
    assert!(second.is_err(), "it waits for the one there is");
    assert_eq!(*kept.0.lock().unwrap(), [Some(1)]);
    drop((held, pool));

    let provider = Provider::new([session("", ""), session("", ""), session("", "")]);
    let kept = Arc::new(Kept::default());
    let permits = Arc::<Kept>::clone(&kept);
    let pool = Pool::new(Config { permits, lowered: Some(1), ..config(&provider, 3) });
    let mut held = Vec::new();
    for sessions in 1..=3 {
        held.push(pool.lease(Class::Interactive, None).await.unwrap());
        assert_eq!(provider.dialled(), sessions);
        if sessions < 3 {
            let next = tokio::time::timeout(Duration::from_secs(60), pool.lease(Class::Interactive, None)).await;
            assert!(next.is_err() || next.is_ok_and(|next| next.is_err()), "{sessions}: not so soon");
            assert_eq!(provider.dialled(), sessions);
            sleep(Duration::from_secs(15 * 60)).await;
        }
    }
    assert_eq!(*kept.0.lock().unwrap(), [Some(1), Some(2), None]);
}
