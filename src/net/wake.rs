//! Notices that the machine has slept.
//!
//! The clock that waits are measured by stands still in a sleep (Linux, macOS); the wall clock does not. So hours in which a laptop was shut
//! are moments to every deadline, and a connection that died meanwhile looks as if it had just been used. Where the wall clock has gone
//! ahead of the other one by more than a step of its own, the machine has slept, and whoever holds connections is told at once.
//!
//! A clock that was set forward by hand looks the same, and costs a round trip for each connection.

use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep};

/// How often the clocks are compared: how late a sleep is noticed.
const LOOK: Duration = Duration::from_secs(3);
/// Less than this is the clock being corrected: time servers step it by seconds at most.
const SLEPT: Duration = Duration::from_secs(10);

/// Both clocks, when they were compared last.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    wall: SystemTime,
    running: Instant,
}

impl Clocks {
    /// Compared now.
    pub fn new(wall: SystemTime, running: Instant) -> Self {
        Self { wall, running }
    }

    /// How long the machine has slept since they were compared last, if it has.
    pub fn slept(&mut self, wall: SystemTime, running: Instant) -> Option<Duration> {
        // Set back: nothing can be said of this round.
        let by_wall = wall.duration_since(self.wall).unwrap_or_default();
        let by_running = running.saturating_duration_since(self.running);
        *self = Self { wall, running };
        by_wall.checked_sub(by_running).filter(|slept| *slept >= SLEPT)
    }
}

/// Tells `woke` of every sleep, within seconds after it, until `stop` becomes true or its sender is gone. `wall` reads the wall clock.
pub async fn watch(mut stop: watch::Receiver<bool>, wall: impl Fn() -> SystemTime, woke: impl Fn(Duration)) {
    let mut clocks = Clocks::new(wall(), Instant::now());
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(LOOK) => {}
        }
        if let Some(slept) = clocks.slept(wall(), Instant::now()) {
            woke(slept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_wall_clock_that_runs_ahead_is_a_sleep() {
        let (wall, running) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000), Instant::now());
        let seconds = Duration::from_secs;
        let table = [
            ("awake", 3, 3, None),
            ("a busy machine", 90, 90, None),
            ("a step of the clock", 5, 3, None),
            ("a night", 3 + 8 * 3600, 3, Some(seconds(8 * 3600))),
            ("a minute", 63, 3, Some(seconds(60))),
        ];
        for (name, by_wall, by_running, want) in table {
            let mut clocks = Clocks::new(wall, running);
            assert_eq!(clocks.slept(wall + seconds(by_wall), running + seconds(by_running)), want, "{name}");
            let (wall, running) = (wall + seconds(by_wall + 3), running + seconds(by_running + 3));
            assert_eq!(clocks.slept(wall, running), None, "{name}: told once");
        }
        let mut clocks = Clocks::new(wall, running);
        assert_eq!(clocks.slept(wall - seconds(3600), running + seconds(3)), None, "set back");
        assert_eq!(clocks.slept(wall - seconds(3597), running + seconds(6)), None, "and gone on");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_within_seconds_and_once() {
        let (start, slept, told) = (Instant::now(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stop, stopped) = watch::channel(false);
        let (asleep, heard) = (Arc::clone(&slept), Arc::clone(&told));
        let wall =
            move || SystemTime::UNIX_EPOCH + start.elapsed() + Duration::from_secs(asleep.load(Ordering::Relaxed));
        let watching = tokio::spawn(watch(stopped, wall, move |slept| {
            heard.fetch_add(slept.as_secs(), Ordering::Relaxed);
        }));
        sleep(Duration::from_secs(100)).await;
        assert_eq!(told.load(Ordering::Relaxed), 0);
        slept.fetch_add(7200, Ordering::Relaxed);
        sleep(LOOK * 2).await;
        assert_eq!(told.load(Ordering::Relaxed), 7200);
        sleep(Duration::from_secs(100)).await;
        assert_eq!(told.load(Ordering::Relaxed), 7200, "once");
        stop.send_replace(true);
        watching.await.unwrap();
    }
}
