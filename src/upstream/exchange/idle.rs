//! Watching: IDLE (RFC 2177), NOOP where there is none.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::{Idling, Session, nothing};
use crate::upstream::types::Event;

/// Between two NOOPs of a watcher without IDLE while somebody waits for news. 10 to 15 s on one lasting connection have been fine with
/// Mail.ru.
pub const POLL_INTERVAL: Duration = Duration::from_secs(15);

impl Session {
    /// NOOP; what it made upstream tell is in the events.
    pub async fn noop(&mut self) -> Result<(), Error> {
        self.run(Line::new("NOOP"), &mut nothing).await.map(|_| ())
    }

    /// See [`super::super::Lease::idle`], which says when `wanted` resolves.
    pub(in crate::upstream) async fn idle(
        &mut self,
        renew: Duration,
        pace: watch::Receiver<Duration>,
        wanted: impl Future<Output = ()>,
    ) -> Result<Vec<Event>, Error> {
        let renew = self.quirks.idle_renew.map_or(renew, |most| renew.min(most));
        let until = Instant::now() + renew;
        if self.caps().has("IDLE") {
            self.idle_until(until, wanted).await
        } else {
            self.poll_until(until, pace, wanted).await
        }
    }

    async fn idle_until(&mut self, until: Instant, wanted: impl Future<Output = ()>) -> Result<Vec<Event>, Error> {
        let mark = self.begin().await?;
        // IDLE is the one command that may be left and ended later, so a cancelled future does not break the session.
        self.finish();
        let mut wanted = pin!(wanted);
        if self.has_events() || wanted.as_mut().now_or_never().is_some() {
            return Ok(self.take_events());
        }
        let tag = self.next_tag();
        self.queue(format!("{tag} IDLE\r\n").as_bytes());
        *self.idling() = Some(Idling { tag, confirmed: false, done: false });
        let mut is_wanted = false;
        while self.idling().is_some() && !self.has_events() {
            let heard = async {
                self.flush().await?;
                let answer = self.next_answer(None).await?;
                self.idle_answer(answer)
            };
            let heard = tokio::select! {
                biased;
                () = &mut wanted => {
                    is_wanted = true;
                    break;
                }
                heard = heard => heard,
                () = sleep_until(until) => break,
            };
            heard.map_err(|fault| self.broke(&fault, mark))?;
        }
        // What came in the same packet belongs together; the rest comes with the answer to DONE.
        self.hear();
        if is_wanted && !self.has_events() && self.is_usable() {
            // Whoever waits says DONE together with what he asks, and spares himself a round trip.
            return Ok(Vec::new());
        }
        self.end_idle().await.map_err(|fault| self.broke(&fault, mark))?;
        Ok(self.take_events())
    }

    async fn poll_until(
        &mut self,
        until: Instant,
        mut pace: watch::Receiver<Duration>,
        wanted: impl Future<Output = ()>,
    ) -> Result<Vec<Event>, Error> {
        let mut wanted = pin!(wanted);
        let mut has_pace = true;
        loop {
            self.noop().await?;
            if self.has_events() || Instant::now() >= until {
                return Ok(self.take_events());
            }
            let asked = Instant::now();
            loop {
                let next = asked + *pace.borrow_and_update();
                tokio::select! {
                    biased;
                    () = &mut wanted => return Ok(self.take_events()),
                    changed = pace.changed(), if has_pace => has_pace = changed.is_ok(),
                    () = sleep_until(until.min(next)) => break,
                }
            }
        }
    }
}
