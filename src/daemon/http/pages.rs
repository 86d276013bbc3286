//! Who is let in, and what is told as it changes, over a connection in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::*;
use crate::daemon::setup::kit::tests::{here, kit};
use crate::daemon::status::AccountStatus;
use crate::secret::Secret;

const TOKEN: &str = "0123456789abcdef+x";

/// An account that has downloaded one octet more each time somebody looks.
#[derive(Default)]
struct Growing(AtomicU64, bool);

impl Source for Growing {
    fn status(&self) -> Status {
        let looks = self.0.fetch_add(1, Ordering::Relaxed);
        let downloaded = if self.1 { 7 } else { looks };
        let account = AccountStatus { address: "ann@example.org".into(), downloaded, ..AccountStatus::default() };
        Status { accounts: vec![account], ..Status::default() }
    }

    fn metrics(&self) -> Metrics {
        Metrics::default()
    }
}

struct Site {
    routes: Router,
    stop: CancellationToken,
}

impl Site {
    fn new(token: Option<&str>, still: bool) -> Self {
        let (door, stop) = (Arc::<Door>::default(), CancellationToken::new());
        door.set(token.map(Secret::new).as_ref());
        let source = Arc::new(Growing(AtomicU64::new(0), still));
        let dir = tempfile::tempdir().unwrap();
        let kit = Arc::new(kit(dir.path(), &[], &[("imaps", "0.0.0.0:1993")]));
        Self { routes: routes(Arc::default(), source, door, &kit, stop.clone()), stop }
    }

    async fn open(&self, request: &str) -> Stream {
        let (ours, mut theirs) = Stream::pair();
        tokio::spawn(serve(ours, here(), self.routes.clone(), self.stop.clone()));
        theirs.write_all(request.as_bytes()).await.unwrap();
        theirs
    }

    /// The whole answer to a request that has come by way of a proxy, so that it is not this computer's own.
    async fn told_afar(&self, line: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        let mut answer = String::new();
        self.open(&request).await.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

const OWNERS: [&str; 5] = ["/", "/status.json", "/metrics", "/readyz", "/events"];
const EVERYBODYS: [&str; 4] = ["/healthz", "/status.css", "/status.js", "/icon.svg"];

#[tokio::test(start_paused = true)]
async fn beyond_this_computer_the_token_opens_the_owners_pages() {
    for token in [None, Some(TOKEN)] {
        let site = Site::new(token, false);
        for path in EVERYBODYS {
            let answer = site.told_afar(&format!("GET {path}"), "", "").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
        for path in OWNERS {
            let answer = site.told_afar(&format!("GET {path}"), "", "").await;
            assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("ann@"), "{path}: {answer}");
            let answer = site.told_afar(&format!("GET {path}"), "Accept: text/html\r\n", "").await;
            assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("ann@"), "{path}: {answer}");
            assert_eq!(answer.contains("<form"), token.is_some(), "{answer}");
        }
        // Whatever is shown, none is right where there is none.
        let right = site.told_afar("GET /metrics", &format!("Authorization: Bearer {TOKEN}\r\n"), "").await;
        assert_eq!(right.starts_with("HTTP/1.1 200"), token.is_some(), "{right}");
        let wrong = site.told_afar("GET /metrics", "Authorization: Bearer 0123456789abcdef+y\r\n", "").await;
        assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_given_once_is_remembered_by_a_cookie() {
    let site = Site::new(Some(TOKEN), false);
    let by_address = site.told_afar("GET /?token=0123456789abcdef%2Bx", "", "").await;
    let by_form = site.told_afar("POST /login", "", "token=0123456789abcdef%2Bx").await;
    for answer in [&by_address, &by_form] {
        assert!(answer.starts_with("HTTP/1.1 303") && answer.contains("location: /\r\n"), "{answer}");
        assert!(answer.contains("HttpOnly; SameSite=Strict") && !answer.contains(TOKEN), "{answer}");
    }
    let cookie = by_form.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    let page = site.told_afar("GET /", &format!("Cookie: {cookie}\r\n"), "").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("ann@example.org"), "{page}");
    let other = cookie.replace('a', "b");
    assert!(site.told_afar("GET /", &format!("Cookie: {other}\r\n"), "").await.starts_with("HTTP/1.1 401"));
    let wrong = site.told_afar("POST /login", "", "token=0123456789abcdef").await;
    assert!(
        wrong.starts_with("HTTP/1.1 401") && wrong.contains("not the token") && !wrong.contains("set-cookie"),
        "{wrong}"
    );
    for path in ["//evil.example/", "/\\evil.example/", "/%2f/evil.example", "http://evil.example/"] {
        let elsewhere = site.told_afar(&format!("GET {path}?token=0123456789abcdef%2Bx"), "", "").await;
        let led = elsewhere.lines().filter_map(|line| line.strip_prefix("location: "));
        assert!(led.clone().all(|to| to == "/"), "{path}: {elsewhere}");
    }
}

/// What a page of another site may make a visitor's browser do: nothing that counts against him.
#[tokio::test(start_paused = true)]
async fn another_sites_page_shows_no_tokens() {
    let site = Site::new(Some(TOKEN), false);
    for _ in 0..3 {
        let answer = site.told_afar("POST /login", "Sec-Fetch-Site: cross-site\r\n", "token=wrong").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    let began = Instant::now();
    let answer = site.told_afar("POST /login", "Sec-Fetch-Site: same-origin\r\n", "token=0123456789abcdef%2Bx").await;
    assert!(answer.starts_with("HTTP/1.1 303") && began.elapsed() < Duration::from_millis(100), "{answer}");
}

/// Whatever shows that a connection from here is somebody else's makes it that.
#[tokio::test(start_paused = true)]
async fn who_comes_through_somebody_on_this_computer_is_not_its_owner() {
    let site = Site::new(None, true);
    let table = [
        ("HTTP/1.1", "Host: localhost\r\n", 200),
        ("HTTP/1.1", "Host: 127.0.0.1:1080\r\n", 200),
        ("HTTP/1.1", "Host: [::1]:1080\r\n", 200),
        ("HTTP/1.1", "", 200),
        ("HTTP/1.0", "", 401),
        ("HTTP/1.1", "Host: 192.168.1.5:1080\r\n", 401),
        ("HTTP/1.1", "Host: localhost\r\nX-Forwarded-Proto: https\r\n", 401),
        ("HTTP/1.1", "Host: localhost\r\nX-Forwarded-Host: mail.example\r\n", 401),
        ("HTTP/1.1", "Host: localhost\r\nForwarded: for=192.0.2.1\r\n", 401),
        ("HTTP/1.1", "Host: localhost\r\nVia: 1.1 proxy\r\n", 401),
        ("HTTP/1.1", "Host: localhost\r\nX-Real-IP: 192.0.2.1\r\n", 401),
        ("HTTP/1.1", "Host: evil.example\r\n", 421),
        ("HTTP/1.1", "Host: 127.0.0.1.evil.example\r\n", 421),
        ("HTTP/1.1", "Host: \r\n", 421),
    ];
    for path in ["/", "/status.json"] {
        for (version, headers, want) in table {
            let mut peer = site.open(&format!("GET {path} {version}\r\n{headers}Connection: close\r\n\r\n")).await;
            let mut answer = String::new();
            peer.read_to_string(&mut answer).await.unwrap();
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert_eq!(status, want.to_string(), "{path} {version} {headers}");
            assert_eq!(answer.contains("ann@"), want == 200, "{answer}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_is_cut_off() {
    let site = Site::new(Some(TOKEN), false);
    for request in [
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(HEAD_MOST)),
        format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(HEAD_MOST)),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: x\r\n".repeat(1000)),
    ] {
        let (ours, mut theirs) = Stream::pair();
        tokio::spawn(serve(ours, here(), site.routes.clone(), site.stop.clone()));
        // Answered and closed perhaps before all of it is said.
        let _ = theirs.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let form = "x".repeat(10_000);
    let answer = site.told_afar("POST /login", "", &form).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn no_answer_goes_without_its_guards() {
    let site = Site::new(Some(TOKEN), false);
    for path in OWNERS.iter().chain(&EVERYBODYS).chain(&["/nothing"]) {
        let answer = site.told_afar(&format!("GET {path}"), "", "").await.to_lowercase();
        for guard in ["content-security-policy: default-src 'none'", "nosniff", "no-referrer", "cache-control: no-"] {
            assert!(answer.contains(guard), "{path} has no {guard}: {answer}");
        }
    }
}

/// Reads what is told until `said` stands in it.
async fn heard(peer: &mut Stream, said: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(said) {
        let read = timeout(Duration::from_secs(60), peer.read_buf(&mut all)).await;
        assert!(read.expect("something is told").unwrap() > 0, "ended: {}", String::from_utf8_lossy(&all));
    }
    String::from_utf8(all).unwrap()
}

const LISTEN: &str = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn what_changes_is_told_and_nothing_else() {
    let site = Site::new(None, false);
    let mut peer = site.open(LISTEN).await;
    let first = heard(&mut peer, "a0-mailboxes").await;
    assert!(first.contains("text/event-stream") && first.contains("[\"overall\","), "{first}");
    let next = heard(&mut peer, "a0-figures").await;
    assert!(!next.contains("a0-mailboxes") && !next.contains("overall"), "{next}");
    site.stop.cancel();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), peer.read_to_end(&mut rest)).await.expect("the end ends it").unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "in order");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_page_is_kept_alive_and_ends_before_its_connection() {
    let site = Site::new(None, true);
    let mut peer = site.open(LISTEN).await;
    heard(&mut peer, "a0-mailboxes").await;
    let began = Instant::now();
    assert!(!heard(&mut peer, ":\n\n").await.contains("event:"));
    assert!((15..=25).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    heard(&mut peer, "\r\n0\r\n\r\n").await;
    assert!(began.elapsed() < LIFETIME, "{:?}", began.elapsed());
    // The connection itself goes on.
    peer.write_all(LISTEN.as_bytes()).await.unwrap();
    heard(&mut peer, "a0-mailboxes").await;
}

#[tokio::test(start_paused = true)]
async fn not_everybody_can_listen() {
    let site = Site::new(None, true);
    let mut peers = Vec::new();
    for _ in 0..16 {
        let mut peer = site.open(LISTEN).await;
        heard(&mut peer, "a0-mailboxes").await;
        peers.push(peer);
    }
    heard(&mut site.open(LISTEN).await, "503").await;
    peers.pop();
    // Found out when it is next told something.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut peer = site.open(LISTEN).await;
    heard(&mut peer, "a0-mailboxes").await;
    let foreign = LISTEN.replace("\r\n\r\n", "\r\nSec-Fetch-Site: cross-site\r\n\r\n");
    heard(&mut site.open(&foreign).await, "403").await;
}
