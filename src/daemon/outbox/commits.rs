//! What is asked of the durable state, one thing after the other, and what becomes of an answer that does not come in time.
//!
//! A commit may hang at the disk for longer than anybody waits, and still be made. So nothing is read or decided while the end of an earlier
//! call is not known, also of one that was given up; and a message given up is no row: the late call itself takes it away again, and its
//! file goes at once. Only a machine that loses its power between those two, its disk hanging, keeps both and sends it at its next start: that
//! belongs to the doubt window.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Outbox;
use super::spool::{self, Held};
use crate::state::{self, OutboxItem, State};

/// Who waits for a commit waits minutes (RFC 5321 §4.5.3.2.6: ten).
pub(super) const COMMIT: Duration = Duration::from_secs(30);

impl Outbox {
    /// Runs a call on the durable state, after those before it; its error in words. After an error it may still come to its end.
    pub(super) async fn durable<T: Send + 'static>(
        &self,
        call: impl FnOnce(&State, &str) -> Result<T, state::Error> + Send + 'static,
    ) -> Result<T, String> {
        let (state, key, until) = (self.state.clone(), self.key.clone(), Instant::now() + COMMIT);
        let turn = timeout_at(until, Arc::clone(&self.order).lock_owned()).await;
        let turn =
            turn.map_err(|_| format!("what was asked of the disk before is not done in {} s", COMMIT.as_secs()))?;
        let call = move || {
            let done = call(&state, &key);
            // Not before its end, however late that is.
            drop(turn);
            done
        };
        match self.threads.run_within(until.saturating_duration_since(Instant::now()), call).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Adds a row and keeps its file, within the limits; on the disk when this returns. `None`: there is no room. What is not added, or is
    /// given up, is no row and no file.
    pub(super) async fn add(&self, item: OutboxItem, file: Held) -> Result<Option<i64>, String> {
        let (room, octets, path) = (self.limits(), item.octets, file.path().to_owned());
        let (tell, mut told) = oneshot::channel();
        let added = self.durable(move |state, key| {
            let ids = state.outbox_add(key, &[item], Some(room))?;
            let Some(id) = ids.and_then(|ids| ids.first().copied()) else { return Ok(()) };
            if tell.send(id).is_ok() {
                file.keep();
            } else {
                // Whoever waited has said that it is not kept.
                state.outbox_go_on(id, None, &[])?;
                tracing::warn!(id, "a message came to the disk too late: it is not kept, as was said");
            }
            Ok(())
        });
        let added = added.await;
        // From here on the late call finds nobody to tell, or has told.
        told.close();
        match (told.try_recv(), added) {
            (Ok(id), _) => {
                let mut view = self.view();
                view.messages += 1;
                view.octets += octets;
                drop(view);
                self.wake.notify_one();
                Ok(Some(id))
            }
            (Err(_), Ok(())) => Ok(None),
            (Err(_), Err(words)) => {
                // Not waited for: the disk may hang here too.
                drop(tokio::task::spawn_blocking(move || spool::remove(&path)));
                Err(words)
            }
        }
    }
}
