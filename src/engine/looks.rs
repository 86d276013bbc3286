//! Looks at upstream, shared: many who want to know what upstream has cost one question, and one wait.
//!
//! Whoever wants a look joins one that has not begun: what it will see is not older than the wish. A look that has begun may have
//! asked before the wish, so the next one is made, once for all who come meanwhile. So there are, of one thing, at most one look that
//! asks, and one that waits for each standing (Law 8), however many clients poll a provider that hangs; and who shared a look shares
//! its failure.
//!
//! Work in the background never keeps a person waiting: an urgent wish does not join a look that waits in the background's queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::Error;
use crate::upstream::Class;

/// The looks at one thing that have not begun.
#[derive(Debug)]
pub(crate) struct Looks<T> {
    waiting: Mutex<[Option<Waiting<T>>; 2]>,
}

impl<T> Default for Looks<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new([None, None]) }
    }
}

#[derive(Debug)]
struct Waiting<T> {
    /// The latest wish: what is seen at this moment answers all.
    since: Instant,
    outcome: Outcome<T>,
}

/// How a look will end.
#[derive(Debug)]
pub(crate) struct Outcome<T>(watch::Receiver<Option<Result<T, Error>>>);

/// A look to be carried out. Whoever holds it ends it; dropped before, it has failed.
#[derive(Debug)]
pub(crate) struct Look<T> {
    looks: Arc<Looks<T>>,
    place: usize,
    outcome: watch::Sender<Option<Result<T, Error>>>,
}

impl<T> Looks<T> {
    /// Asks for a look begun at or after `since` (which is not in the future). The second is given to who has to carry it out:
    /// nobody else will.
    pub(crate) fn wish(self: &Arc<Self>, since: Instant, class: Class) -> (Outcome<T>, Option<Look<T>>) {
        let mut waiting = self.waiting();
        let place = usize::from(class != Class::Interactive);
        let (urgent, same) = waiting.split_at_mut(place);
        if let Some(known) = urgent.iter_mut().chain(same.first_mut()).flatten().next() {
            known.since = known.since.max(since);
            return (Outcome(known.outcome.0.clone()), None);
        }
        let (sender, outcome) = watch::channel(None);
        if let Some(free) = same.first_mut() {
            *free = Some(Waiting { since, outcome: Outcome(outcome.clone()) });
        }
        (Outcome(outcome), Some(Look { looks: Arc::clone(self), place, outcome: sender }))
    }

    fn waiting(&self) -> MutexGuard<'_, [Option<Waiting<T>>; 2]> {
        // Plain values: a panic while they were held left nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Outcome<T> {
    /// Waits until the look has ended.
    pub(crate) async fn wait(mut self) -> Result<T, Error> {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The task that carried it out panicked, which it has told.
            Ok(None) | Err(_) => Err(Error::Internal("An internal error; see the log".into())),
        }
    }
}

impl<T> Look<T> {
    /// From here on it asks: who comes now has to wait for another.
    pub(crate) fn begin(&self) {
        if let Some(place) = self.place(&mut self.looks.waiting()) {
            *place = None;
        }
    }

    /// Whether what was seen at `seen` answers all who wait, so that nothing has to be asked; then nobody joins any more.
    pub(crate) fn is_answered(&self, seen: Option<Instant>) -> bool {
        let mut waiting = self.looks.waiting();
        let Some(place) = self.place(&mut waiting) else { return false };
        let since = place.as_ref().map(|waiting| waiting.since);
        let answered = since.is_some_and(|since| seen.is_some_and(|seen| seen >= since));
        if answered {
            *place = None;
        }
        answered
    }

    /// Tells all who wait.
    pub(crate) fn end(self, outcome: Result<T, Error>) {
        self.begin();
        self.outcome.send_replace(Some(outcome));
    }

    /// Where we wait, unless we have begun; another may wait there then.
    fn place<'a>(&self, waiting: &'a mut [Option<Waiting<T>>; 2]) -> Option<&'a mut Option<Waiting<T>>> {
        let own = self.outcome.subscribe();
        let place = waiting.get_mut(self.place)?;
        place.as_ref().is_some_and(|waiting| waiting.outcome.0.same_channel(&own)).then_some(place)
    }
}

impl<T> Drop for Look<T> {
    fn drop(&mut self) {
        self.begin();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::{Duration, advance};

    use super::*;
    use Class::{Interactive, Sync};

    #[tokio::test(start_paused = true)]
    async fn who_joins_whom() {
        let looks: Arc<Looks<u32>> = Arc::default();
        let began = Instant::now();
        let (background, behind) = looks.wish(began, Sync);
        let behind = behind.expect("the first carries it out");
        assert!(looks.wish(began, Sync).1.is_none(), "shared");
        let (urgent, first) = looks.wish(began, Interactive);
        let first = first.expect("a person does not wait behind a batch");
        advance(Duration::from_secs(1)).await;
        let later = Instant::now();
        let (joined, none) = looks.wish(later, Sync);
        assert!(none.is_none(), "a batch joins a person");
        assert!(!first.is_answered(Some(began)) && first.is_answered(Some(later)), "the latest wish counts");
        first.end(Ok(1));
        assert_eq!((urgent.wait().await, joined.wait().await), (Ok(1), Ok(1)));

        behind.begin();
        let (next, second) = looks.wish(later, Sync);
        let second = second.expect("one that has begun may be too old");
        assert!(!behind.is_answered(Some(later)), "begun is begun");
        let gone = Error::Unavailable("gone".into());
        behind.end(Err(gone.clone()));
        assert_eq!(background.wait().await, Err(gone), "a failure is shared");
        assert!(looks.wish(later, Sync).1.is_none(), "the end of one leaves the next in its place");
        drop(second);
        assert!(matches!(next.wait().now_or_never(), Some(Err(Error::Internal(_)))), "nobody waits for the dead");
        assert!(looks.wish(later, Sync).1.is_some());
    }
}
