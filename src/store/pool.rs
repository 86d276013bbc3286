//! A small pool for calls that block: the store's and the durable state's (Law 4).
//!
//! The threads are tokio's, but few of them: alone, tokio would start hundreds behind a slow disk. There is no queue
//! to overflow: who finds no free thread waits asleep, in order, and holds its call itself. Every call has a deadline,
//! after which its caller goes on without an answer. A thread that hangs cannot be stopped and keeps its place, so a
//! disk that hangs ends in plain refusals rather than in ever more threads.
//!
//! Tokio's own threads, and not some of ours, because a paused clock stands still while one of them works.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::Error;

/// How long a caller waits: a healthy store answers in milliseconds, so a store that takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(5);

/// A bounded pool for blocking calls. Cheap to clone; clones share the bound.
#[derive(Clone, Debug)]
pub struct StorePool {
    threads: Arc<Semaphore>,
    /// Places for work nobody waits for: half of the threads, so that the other half answers.
    apart: Arc<Semaphore>,
    /// The place of what all traffic waits for, beside those.
    at_once: Arc<Semaphore>,
}

impl StorePool {
    /// A pool of so many threads (at least one): two to four serve a disk.
    pub fn new(threads: usize) -> Self {
        let threads = threads.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            threads: Arc::new(Semaphore::new(threads)),
            apart: Arc::new(Semaphore::new((threads / 2).max(1))),
            at_once: Arc::new(Semaphore::new(1)),
        }
    }

    /// Runs a blocking call, waiting five seconds at most. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Failed`] if it panics or does not answer in time.
    pub async fn run<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        self.run_within(DEADLINE, call).await
    }

    /// The same for work that takes long and that nobody waits for: sweeping, evicting, opening again. However many accounts do so at
    /// once, it takes no more than half of the threads.
    pub async fn run_apart<T: Send + 'static>(
        &self,
        deadline: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let until = Instant::now() + deadline;
        let Ok(Ok(place)) = timeout_at(until, Arc::clone(&self.apart).acquire_owned()).await else {
            return Err(Error::Failed(format!("no thread is free within {} s", deadline.as_secs_f32())));
        };
        let work = move || {
            let answer = call();
            // Kept as long as the thread is, also if the caller has given up.
            drop(place);
            answer
        };
        self.run_within(until.saturating_duration_since(Instant::now()), work).await
    }

    /// The same for a short call that all traffic waits for, the count of what crosses the sockets: it has a thread of its own, so that no index
    /// that is being written, however large, holds up the reading of a socket.
    pub async fn run_at_once<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        on(&self.at_once, DEADLINE, call).await
    }

    /// The same with a deadline of one's own.
    pub async fn run_within<T: Send + 'static>(
        &self,
        deadline: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        on(&self.threads, deadline, call).await
    }
}

/// Runs a call when one of these places is free.
async fn on<T: Send + 'static>(
    places: &Arc<Semaphore>,
    deadline: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let until = Instant::now() + deadline;
    let late = || Error::Failed(format!("store does not answer within {} s", deadline.as_secs_f32()));
    let place = match timeout_at(until, Arc::clone(places).acquire_owned()).await {
        Ok(Ok(place)) => place,
        Ok(Err(_)) => return Err(Error::Failed("the pool is closed".into())),
        Err(_) => return Err(late()),
    };
    // The place goes with the call: it is free when the thread is, not when the caller has given up.
    let work = tokio::task::spawn_blocking(move || {
        let answer = call();
        drop(place);
        answer
    });
    match timeout_at(until, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is_panic() => {
            let text = panic_text(&*error.into_panic());
            tracing::error!(text, "a call on the store panicked");
            Err(Error::Failed(format!("panicked: {text}")))
        }
        Ok(Err(_)) => Err(Error::Failed("the runtime is ending".into())),
        Err(_) => Err(late()),
    }
}

fn panic_text(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason given".into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[tokio::test]
    async fn calls_run_and_panics_are_reported() {
        let pool = StorePool::new(1);
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
        let error = pool.run(|| -> u8 { panic!("page {} is gone", 3) }).await.unwrap_err();
        assert!(error.to_string().contains("page 3 is gone"), "{error}");
        assert_eq!(pool.run(|| 8).await.unwrap(), 8, "the place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_does_not_wait_for_ever() {
        let pool = StorePool::new(1);
        let (release, held) = sync_channel::<()>(0);
        let stuck = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || held.recv().is_ok()).await }
        });
        let waits = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run_within(Duration::from_secs(2), || ()).await }
        });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(2)).await;
        let error = waits.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("does not answer within 2 s"), "{error}");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(stuck.await.unwrap().is_err(), "the stuck call has its deadline too");
        release.send(()).unwrap();
        assert_eq!(pool.run(|| 9).await.unwrap(), 9, "the thread has come back");
    }

    /// Ten accounts that sweep do not keep an eleventh from answering.
    #[tokio::test(start_paused = true)]
    async fn long_work_leaves_threads_to_those_who_wait() {
        let pool = StorePool::new(4);
        let (begun, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (release, held) = sync_channel::<()>(0);
        let held = Arc::new(std::sync::Mutex::new(held));
        let sweeps: Vec<_> = (0..10)
            .map(|_| {
                let (pool, begun, held) = (pool.clone(), begun.clone(), Arc::clone(&held));
                tokio::spawn(async move {
                    let sweep = move || {
                        begun.send(()).unwrap();
                        held.lock().unwrap().recv().is_ok()
                    };
                    pool.run_apart(Duration::from_secs(300), sweep).await
                })
            })
            .collect();
        for _ in 0..2 {
            told.recv().await.unwrap();
        }
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
        assert!(told.try_recv().is_err(), "two at once");
        let release = std::thread::spawn(move || (0..10).for_each(|_| release.send(()).unwrap()));
        for sweep in sweeps {
            assert!(sweep.await.unwrap().unwrap());
        }
        release.join().unwrap();
    }

    /// However much is written to whatever stores, the count is saved.
    #[tokio::test(start_paused = true)]
    async fn what_all_wait_for_does_not_wait() {
        let pool = StorePool::new(2);
        let (begun, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (release, held) = sync_channel::<()>(0);
        let held = Arc::new(std::sync::Mutex::new(held));
        let writing: Vec<_> = (0..5)
            .map(|_| {
                let (pool, begun, held) = (pool.clone(), begun.clone(), Arc::clone(&held));
                let write = move || {
                    begun.send(()).unwrap();
                    held.lock().unwrap().recv().is_ok()
                };
                tokio::spawn(async move { pool.run_within(Duration::from_secs(120), write).await })
            })
            .collect();
        for _ in 0..2 {
            told.recv().await.unwrap();
        }
        let begin = Instant::now();
        for n in 0..10 {
            assert_eq!(pool.run_at_once(move || n).await.unwrap(), n);
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(told.try_recv().is_err(), "the others still write");
        let release = std::thread::spawn(move || (0..5).for_each(|_| release.send(()).unwrap()));
        for write in writing {
            assert!(write.await.unwrap().unwrap());
        }
        release.join().unwrap();
    }

    #[tokio::test]
    async fn many_callers_share_few_threads() {
        let pool = StorePool::new(2);
        let busy = Arc::new(AtomicUsize::new(0));
        let call = |n: u32| {
            let (pool, busy) = (pool.clone(), Arc::clone(&busy));
            tokio::spawn(async move {
                let work = move || {
                    let most = busy.fetch_add(1, Ordering::SeqCst) + 1;
                    std::thread::yield_now();
                    busy.fetch_sub(1, Ordering::SeqCst);
                    (n * 2, most)
                };
                pool.run(work).await.unwrap()
            })
        };
        let calls: Vec<_> = (0..1000).map(call).collect();
        for (n, call) in (0..).zip(calls) {
            let (answer, most) = call.await.unwrap();
            assert_eq!(answer, n * 2);
            assert!(most <= 2, "{most} at once");
        }
    }
}
