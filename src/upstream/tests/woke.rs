//! After a sleep of the machine. Time is paused: the clock that stands still in a sleep is the one tokio shows.

use tokio::time::{Instant, sleep};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const NIGHT: Duration = Duration::from_secs(8 * 3600);

#[tokio::test(start_paused = true)]
async fn sessions_at_rest_have_to_show_that_they_live() {
    let provider =
        Provider::new([session("", "C: w2 NOOP\nS: w2 OK\nC: w3 NOOP\nH"), session("", "C: w2 NOOP\nS: w2 OK")]);
    let pool = pool_of(&provider, 1);
    drop(pool.lease(Class::Sync, None).await.unwrap());
    // One that lives is asked at once, and goes on.
    sleep(SECOND).await;
    pool.woke(NIGHT);
    sleep(SECOND).await;
    drop(pool.lease(Class::Sync, None).await.unwrap());
    assert_eq!(provider.dialled(), 1);
    // One that has died is replaced after seconds, though it looks as if it had just been used.
    let start = Instant::now();
    pool.woke(NIGHT);
    let mut lease = pool.lease(Class::Interactive, None).await.unwrap();
    assert!(start.elapsed() <= 11 * SECOND, "{:?}", start.elapsed());
    assert_eq!(provider.dialled(), 2);
    lease.noop().await.unwrap();
    drop(lease);
    provider.done().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_waited_for_has_seconds_left() {
    let provider = Provider::new([session("", "C: w2 NOOP\nH")]);
    let pool = pool_of(&provider, 1);
    let mut lease = pool.lease(Class::Sync, None).await.unwrap();
    let start = Instant::now();
    let waking = async {
        sleep(SECOND).await;
        pool.woke(NIGHT);
    };
    let (lost, ()) = tokio::join!(lease.noop(), waking);
    assert!(matches!(lost, Err(Error::Lost { sent: true, .. })), "{lost:?}");
    assert_eq!(start.elapsed(), 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_idle_is_given_back_at_once() {
    let provider = Provider::new([session("IDLE", "C: w2 IDLE\nS: + go\nH"), session("IDLE", "")]);
    let pool = pool_of(&provider, 1);
    let mut lease = pool.lease(Class::Watch, None).await.unwrap();
    let start = Instant::now();
    let waking = async {
        sleep(SECOND).await;
        pool.woke(NIGHT);
    };
    let (heard, ()) = tokio::join!(lease.idle(NIGHT, pace(), std::future::pending()), waking);
    assert_eq!((heard.unwrap(), start.elapsed()), (Vec::new(), SECOND));
    drop(lease);
    let lease = pool.lease(Class::Watch, None).await.unwrap();
    assert_eq!((provider.dialled(), start.elapsed()), (2, 11 * SECOND));
    drop(lease);
    provider.done().await;
}
