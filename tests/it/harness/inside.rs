//! The daemon inside the test's own process, so that its clock can be set forward: a provider that falls silent is given up after a minute, and
//! nobody needs to wait for it.
//!
//! Only timers jump; bytes flow as ever. Whatever is under way at that moment and has a deadline shorter than the jump loses it, so a test
//! jumps when all is quiet but what it is about.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use mailweir::config::Config;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::daemon::{Daemon, Setup};

/// A jump, and where its end is told.
type Jump = (Duration, mpsc::Sender<()>);

/// A daemon that runs on a thread of this process.
pub struct Inside {
    /// Its files and addresses; no process of its own.
    pub daemon: Daemon,
    jumps: Option<UnboundedSender<Jump>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    /// Back when it listens.
    pub fn start(setup: Setup) -> Self {
        let daemon = Daemon::prepare(setup);
        let file = daemon.config_file();
        let (jumps, mut asked) = unbounded_channel::<Jump>();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            // One thread, as the clock of a runtime with more cannot be stopped.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let config = Config::load(&file).expect("a configuration");
                let running = mailweir::daemon::Daemon::start(config).await.expect("the daemon starts");
                ready.send(()).expect("the test waits");
                while let Some((by, done)) = asked.recv().await {
                    tokio::time::pause();
                    tokio::time::advance(by).await;
                    tokio::time::resume();
                    done.send(()).expect("the test waits");
                }
                running.shutdown().await;
            });
        });
        is_ready.recv().expect("the daemon starts");
        Self { daemon, jumps: Some(jumps), thread: Some(thread) }
    }

    /// Sets its clock forward.
    pub fn jump(&self, by: Duration) {
        let (done, is_done) = mpsc::channel();
        self.jumps.as_ref().expect("it runs").send((by, done)).expect("it runs");
        is_done.recv().expect("the clock is set");
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.jumps.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the daemon panicked");
        }
    }
}
