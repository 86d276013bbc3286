//! What the service manager is told, and the sign of life it waits for: systemd's protocol. Others ask nothing.

use std::convert::Infallible;

use crate::daemon::Daemon;

/// Everything listens, or listens again after a reload.
pub(super) fn ready() {
    #[cfg(target_os = "linux")]
    systemd::tell(&[sd_notify::NotifyState::Ready]);
}

/// A reload begins; [`ready`] ends it.
pub(super) fn reloading() {
    #[cfg(target_os = "linux")]
    systemd::tell(&systemd::reloading());
}

/// The end has begun. It may last [`crate::daemon::Daemon::shutdown`]'s grace, so it counts as a sign of life.
pub(super) fn stopping() {
    #[cfg(target_os = "linux")]
    systemd::tell(&[sd_notify::NotifyState::Stopping, sd_notify::NotifyState::Watchdog]);
}

/// Gives signs of life for as long as there is life: each time the daemon has told its state, which takes a turning runtime and every
/// account's locks. A daemon that hangs gives none, and is started anew by the service manager (`WatchdogSec=`).
pub(super) async fn keep_watch(daemon: &Daemon) -> Infallible {
    #[cfg(target_os = "linux")]
    if let Some(period) = systemd::watchdog() {
        let mut clock = tokio::time::interval(period / 3);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let words = systemd::status(&daemon.status());
            systemd::tell(&[sd_notify::NotifyState::Watchdog, sd_notify::NotifyState::Status(&words)]);
        }
    }
    let _ = daemon;
    std::future::pending().await
}

#[cfg(target_os = "linux")]
mod systemd {
    use std::time::Duration;

    use sd_notify::NotifyState;
    use tracing::warn;

    use crate::daemon::status::Status;

    pub(super) fn tell(state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(false, state) {
            warn!(%error, "the service manager was not told");
        }
    }

    pub(super) fn reloading() -> Vec<NotifyState<'static>> {
        // The time belongs to it from systemd 253 on.
        let since = NotifyState::monotonic_usec_now().ok();
        [NotifyState::Reloading].into_iter().chain(since).collect()
    }

    /// How long the manager waits for a sign of life, if it does.
    pub(super) fn watchdog() -> Option<Duration> {
        let mut micros = 0;
        sd_notify::watchdog_enabled(false, &mut micros).then(|| Duration::from_micros(micros)).filter(|p| !p.is_zero())
    }

    /// The line `systemctl status` shows.
    pub(super) fn status(status: &Status) -> String {
        format!("{} accounts, {} mail programs connected", status.accounts.len(), status.sessions)
    }
}
