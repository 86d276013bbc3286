//! The pool: turns, limits, giving way, backing off, keeping alive. Time is paused throughout.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::time::{Instant, sleep};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn refusing(text: &str) -> String {
    format!("S: * OK [CAPABILITY SASL-IR AUTH=PLAIN] hi\nC: w1 AUTHENTICATE PLAIN AGFubgBwdw==\nS: w1 NO {text}\nE")
}

#[tokio::test(start_paused = true)]
async fn sessions_are_kept_and_preferred_by_mailbox() {
    let select = |name: &str| session("", &format!("C: w2 SELECT \"{name}\"\nS: w2 OK"));
    let provider = Provider::new([select("a"), select("b")]);
    let pool = pool_of(&provider, 3);
    assert!(pool.caps().is_none());
    let (mut a, mut b) =
        (pool.lease(Class::Interactive, None).await.unwrap(), pool.lease(Class::Interactive, None).await.unwrap());
    a.select("a").await.unwrap();
    b.select("b").await.unwrap();
    drop((a, b));
    for (wish, want) in [("b", "b"), ("a", "a"), ("b", "b"), ("c", "a")] {
        let lease = pool.lease(Class::Interactive, Some(wish)).await.unwrap();
        assert_eq!(lease.selected().unwrap().0, want, "{wish}");
    }
    assert_eq!(provider.dialled(), 2);
    assert!(pool.caps().unwrap().has("IMAP4REV1"));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_that_is_another_now_is_left() {
    let out = "C: w2 SELECT \"a\"\nS: w2 OK\nC: w3 UNSELECT\nS: w3 OK";
    let provider = Provider::new([
        session("UNSELECT", out),
        session("UNSELECT", out),
        session("", "C: w2 SELECT \"b\"\nS: w2 OK"),
    ]);
    let pool = pool_of(&provider, 3);
    let lease = async || pool.lease(Class::Interactive, None).await.unwrap();
    let (mut parked, mut lent, mut other) = (lease().await, lease().await, lease().await);
    parked.select("a").await.unwrap();
    lent.select("a").await.unwrap();
    other.select("b").await.unwrap();
    drop((parked, other));
    assert!(!lent.is_wanted());
    pool.leave("a");
    assert!(lent.is_wanted());
    drop(lent);
    let leases = [lease().await, lease().await, lease().await];
    let selected = leases.iter().filter_map(|lease| lease.selected().map(|(name, _)| name)).collect::<Vec<_>>();
    assert_eq!(selected, ["b"]);
    drop(leases);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn the_turn_is_by_class_then_arrival() {
    let provider = Provider::new([session("", "")]);
    let pool = pool_of(&provider, 1);
    let first = pool.lease(Class::Interactive, None).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (name, class) in [
        ("p", Class::Prefetch),
        ("s1", Class::Sync),
        ("w", Class::Watch),
        ("s2", Class::Sync),
        ("i", Class::Interactive),
    ] {
        let (pool, order) = (pool.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let _lease = pool.lease(class, None).await.unwrap();
            order.lock().unwrap().push(name);
        }));
        sleep(Duration::from_millis(1)).await;
    }
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["i", "s1", "s2", "w", "p"]);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_watcher_gives_way_and_waits_are_bounded() {
    let provider = Provider::new([session("IDLE", "C: w2 IDLE\nS: + \nC: DONE\nS: w2 OK\nC: w3 NOOP\nS: w3 OK")]);
    let pool = pool_of(&provider, 1);
    let mut watch = pool.lease(Class::Watch, None).await.unwrap();
    assert!(!watch.is_wanted());
    let watcher = tokio::spawn(async move {
        assert_eq!(watch.idle(Duration::from_secs(1000), pace(), std::future::pending()).await.unwrap(), []);
        assert!(watch.is_wanted());
        watch.wanted().await;
    });
    sleep(SECOND).await;
    let start = Instant::now();
    let mut lease = pool.lease(Class::Prefetch, None).await.unwrap();
    assert!(start.elapsed() < SECOND);
    lease.noop().await.unwrap();
    watcher.await.unwrap();

    let late = pool.lease(Class::Interactive, None).await.err().unwrap();
    assert!(matches!(late, Error::Unavailable { .. }), "{late}");
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    // Wanted while somebody waited; not any more.
    assert!(!lease.is_wanted());
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_leaves_nothing_behind() {
    let provider = Provider::new([session("", "")]);
    let pool = pool_of(&provider, 1);
    // Gives up while the session is being opened: the login is not wasted.
    assert!(tokio::time::timeout(Duration::ZERO, pool.lease(Class::Interactive, None)).await.is_err());
    let lease = pool.lease(Class::Interactive, None).await.unwrap();
    assert!(tokio::time::timeout(SECOND, pool.lease(Class::Interactive, None)).await.is_err());
    drop(lease);
    pool.lease(Class::Interactive, None).await.unwrap();
    assert_eq!(provider.dialled(), 1);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn backing_off_fails_at_once_and_a_kick_ends_it() {
    let provider = Provider::new([]);
    let pool = pool_of(&provider, 2);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let error = pool.lease(Class::Interactive, None).await.err().unwrap();
        let Error::Unavailable { reason, retry_after } = error else { panic!("{error}") };
        assert!(reason.contains("refuses connections"), "{reason}");
        let start = Instant::now();
        assert!(pool.lease(Class::Sync, None).await.is_err());
        assert_eq!(start.elapsed(), Duration::ZERO);
        waits.push(retry_after);
        pool.kick();
    }
    assert!(waits[0] <= 2 * SECOND && waits[7] > 90 * SECOND, "{waits:?}");
    provider.scripts.lock().unwrap().push_back(session("", ""));
    pool.lease(Class::Interactive, None).await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_not_tried_again_soon() {
    let provider = Provider::new([refusing("[AUTHENTICATIONFAILED] Invalid credentials"), session("", "")]);
    let pool = pool_of(&provider, 2);
    for _ in 0..100 {
        let error = pool.lease(Class::Sync, None).await.err().unwrap();
        assert!(matches!(error, Error::Login(_)), "{error}");
        sleep(10 * SECOND).await;
    }
    assert_eq!(provider.dialled(), 1);
    pool.kick();
    pool.lease(Class::Sync, None).await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_tried_once_whoever_waits() {
    let provider = Provider::new([refusing("[AUTHENTICATIONFAILED] Invalid credentials")]);
    let pool = pool_of(&provider, 3);
    let three = tokio::join!(
        pool.lease(Class::Interactive, None),
        pool.lease(Class::Sync, None),
        pool.lease(Class::Interactive, None)
    );
    assert!(matches!(three, (Err(Error::Login(_)), Err(Error::Login(_)), Err(Error::Login(_)))));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn fewer_connections_than_configured_will_do() {
    let provider = Provider::new([
        session("", ""),
        refusing("[ALERT] Too many simultaneous connections. (Failure)"),
        session("", ""),
    ]);
    let pool = pool_of(&provider, 3);
    let lease = pool.lease(Class::Interactive, None).await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.lease(Class::Interactive, None).await.map(drop) }
    });
    sleep(5 * SECOND).await;
    assert_eq!(provider.dialled(), 2, "one refusal is enough");
    drop(lease);
    waiting.await.unwrap().unwrap();
    // Later the configured number is tried again.
    sleep(Duration::from_secs(30)).await;
    let _one = pool.lease(Class::Interactive, None).await.unwrap();
    sleep(Duration::from_secs(16 * 60)).await;
    let _two = pool.lease(Class::Interactive, None).await.unwrap();
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_refused_after_login_is_closed_and_waited_for() {
    let provider =
        Provider::new([session("", "C: w2 SELECT \"a\"\nS: w2 BAD User is authenticated but not connected.\nE")]);
    let pool = pool_of(&provider, 3);
    let mut lease = pool.lease(Class::Interactive, None).await.unwrap();
    assert!(matches!(lease.select("a").await, Err(Error::Lost { sent: true, .. })));
    drop(lease);
    let error = pool.lease(Class::Interactive, None).await.err().unwrap();
    assert!(matches!(error, Error::Unavailable { retry_after, .. } if retry_after >= 30 * SECOND), "{error}");
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn parked_sessions_are_kept_alive_and_dead_ones_replaced_at_once() {
    let noops = "C: w2 NOOP\nS: w2 OK\nC: w3 NOOP\nS: * 3 EXISTS\nS: w3 OK\nS: * BYE Autologout\nE";
    let provider = Provider::new([session("", noops), session("", "C: w2 NOOP\nH"), session("", "")]);
    let pool = pool_of(&provider, 1);
    drop(pool.lease(Class::Sync, None).await.unwrap());
    sleep(Duration::from_secs(9 * 60)).await;
    // The BYE was heard while parked; no failure, so the next is opened at once.
    let lease = pool.lease(Class::Sync, None).await.unwrap();
    assert_eq!(provider.dialled(), 2);
    drop(lease);
    // Silent for longer than a minute and dead: noticed when taken, replaced.
    sleep(Duration::from_secs(100)).await;
    let start = Instant::now();
    let lease = pool.lease(Class::Sync, None).await.unwrap();
    assert_eq!((provider.dialled(), start.elapsed()), (3, 10 * SECOND));
    drop(lease);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_drops_fresh_sessions_is_not_hammered() {
    let provider = Provider::new((0..3).map(|_| session("", "C: w2 NOOP\nX")));
    let pool = pool_of(&provider, 1);
    for turn in 0..3 {
        let mut lease = loop {
            match pool.lease(Class::Sync, None).await {
                Ok(lease) => break lease,
                Err(Error::Unavailable { retry_after, .. }) if turn == 2 => sleep(retry_after).await,
                Err(error) => panic!("{turn}: {error}"),
            }
        };
        assert!(lease.noop().await.is_err());
    }
    assert!(matches!(pool.lease(Class::Sync, None).await, Err(Error::Unavailable { .. })));
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn shutting_down_logs_out_and_refuses() {
    let provider = Provider::new([session("", "C: w2 LOGOUT\nS: * BYE\nS: w2 OK\nE"), session("", "C: w2 LOGOUT\nH")]);
    let pool = pool_of(&provider, 2);
    let (one, two) =
        (pool.lease(Class::Sync, None).await.unwrap(), pool.lease(Class::Interactive, None).await.unwrap());
    drop(one);
    let start = Instant::now();
    pool.shutdown().await;
    assert!(start.elapsed() <= 3 * SECOND);
    assert!(pool.lease(Class::Interactive, None).await.is_err());
    drop(two);
    provider.done().await;
}

#[derive(Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
    logins: AtomicUsize,
    open: AtomicUsize,
}

impl Meter for Counts {
    fn received(&self, octets: u64) {
        self.received.fetch_add(octets, Ordering::Relaxed);
    }
    fn sent(&self, octets: u64) {
        self.sent.fetch_add(octets, Ordering::Relaxed);
    }
    fn login(&self, outcome: Outcome) {
        assert_eq!(outcome, Outcome::Ok);
        self.logins.fetch_add(1, Ordering::Relaxed);
    }
    fn refused(&self, meaning: Meaning) {
        panic!("nothing is refused here: {meaning:?}");
    }
    fn connections(&self, open: usize) {
        self.open.store(open, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn every_octet_is_counted() {
    let provider = Provider::new([session("", "C: w2 NOOP\nS: w2 OK")]);
    let counts = Arc::new(Counts::default());
    let pool = Pool::new(Config { meter: Arc::clone(&counts) as Arc<dyn Meter>, ..config(&provider, 1) });
    let mut lease = pool.lease(Class::Sync, None).await.unwrap();
    lease.noop().await.unwrap();
    let greeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n".len()
        + "w1 OK [CAPABILITY IMAP4rev1 ] in\r\nw2 OK\r\n".len();
    let said = "w1 AUTHENTICATE PLAIN AGFubgBwdw==\r\nw2 NOOP\r\n".len();
    assert_eq!(counts.received.load(Ordering::Relaxed), greeting as u64);
    assert_eq!(counts.sent.load(Ordering::Relaxed), said as u64);
    assert_eq!((counts.logins.load(Ordering::Relaxed), counts.open.load(Ordering::Relaxed)), (1, 1));
    drop(lease);
    pool.shutdown().await;
    assert_eq!(counts.open.load(Ordering::Relaxed), 0);
}

/// With room for another connection a person still gets the watcher's session, and the watcher the connection.
#[tokio::test(start_paused = true)]
async fn a_person_does_not_wait_for_a_login() {
    let provider =
        Provider::new([session("IDLE", "C: w2 IDLE\nS: + \nC: DONE\nS: w2 OK\nC: w3 NOOP\nS: w3 OK"), session("", "")]);
    let pool = pool_of(&provider, 2);
    let mut watch = pool.lease(Class::Watch, None).await.unwrap();
    let again = pool.clone();
    let watcher = tokio::spawn(async move {
        assert_eq!(watch.idle(Duration::from_secs(1000), pace(), std::future::pending()).await.unwrap(), []);
        drop(watch);
        again.lease(Class::Watch, None).await.unwrap()
    });
    sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    let mut lease = pool.lease(Class::Interactive, None).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    lease.noop().await.unwrap();
    let watch = watcher.await.unwrap();
    assert_eq!(provider.dialled(), 2);
    drop((lease, watch));
    provider.done().await;
}
