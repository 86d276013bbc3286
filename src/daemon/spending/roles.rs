//! What the pool, the sessions and the engine ask of the budget and tell it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::info;

use super::saving::Lowered;
use super::{NOTICE_FOR, Spending, Wish, words};
use crate::budget::{self, Direction};
use crate::engine::{Allowance, Error, Grant};
use crate::metrics::Login;
use crate::net::Way;
use crate::upstream::{self, Class, Meaning, Meter, Outcome, Permit, Permits};

impl Meter for Spending {
    fn received(&self, octets: u64) {
        self.record(Direction::Download, octets);
        self.metrics.received(octets);
    }

    fn sent(&self, octets: u64) {
        self.record(Direction::Upload, octets);
        self.metrics.sent(octets);
    }

    fn login(&self, outcome: Outcome) {
        self.metrics.login(match outcome {
            Outcome::Ok => Login::Ok,
            Outcome::Refused | Outcome::Limited => Login::Refused,
            Outcome::Failed => Login::Failed,
        });
    }

    fn refused(&self, meaning: Meaning) {
        self.metrics.refused(meaning.as_str());
        self.problems.meant(meaning, SystemTime::now());
    }

    fn connections(&self, open: usize) {
        self.open.store(open, Ordering::Relaxed);
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.resize_with(open, || self.metrics.connection());
    }

    fn waiting(&self, waiting: [usize; 5]) {
        self.metrics.set_waiting(waiting);
    }

    fn waited(&self, class: Class, took: Duration) {
        self.metrics.waited(class.index(), took);
    }

    fn hold(&self, way: Way, most: u64) -> u64 {
        self.hold_octets(direction(way), most)
    }

    fn release(&self, way: Way, held: u64) {
        self.release_octets(direction(way), held);
    }

    fn room(self: Arc<Self>, way: Way) -> BoxFuture<'static, ()> {
        async move { self.wait_for_room(direction(way)).await }.boxed()
    }
}

fn direction(way: Way) -> Direction {
    match way {
        Way::In => Direction::Download,
        Way::Out => Direction::Upload,
    }
}

impl Permits for Spending {
    fn connection(&self) -> Result<Permit, upstream::Error> {
        self.may_talk()?;
        match self.budget.try_connection() {
            Some(permit) => Ok(Box::new(permit)),
            None => Err(upstream::Error::Budget("all connections of this account are in use".into())),
        }
    }

    fn login(&self) -> BoxFuture<'_, ()> {
        async {
            self.pacing.login().await;
            while let Err(wait) = self.budget.login(SystemTime::now()) {
                tokio::time::sleep(wait).await;
            }
        }
        .boxed()
    }

    fn command(&self) -> Result<Option<Duration>, upstream::Error> {
        self.may_talk()?;
        Ok(self.budget.command(SystemTime::now()).err())
    }

    fn lowered(&self, maximum: Option<usize>) {
        let mut lowered = self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        *lowered = Lowered { maximum, is_saved: lowered.is_saved && lowered.maximum == maximum };
        drop(lowered);
        match maximum {
            Some(maximum) => {
                info!(account = %self.address, maximum, "the provider bears fewer connections than configured")
            }
            None => info!(account = %self.address, "all configured connections may be used again"),
        }
    }
}

impl Spending {
    fn may_talk(&self) -> Result<(), upstream::Error> {
        let now = SystemTime::now();
        self.budget
            .may_talk(now)
            .map_err(|refused| upstream::Error::Budget(self.refusal(&refused, budget::Class::Interactive, 1, now)))
    }
}

impl Allowance for Spending {
    fn download(&self, octets: u64, class: Class) -> Result<Grant, Error> {
        let class = match class {
            Class::Interactive => budget::Class::Interactive,
            Class::Bulk => budget::Class::Bulk,
            Class::Sync | Class::Watch => budget::Class::Sync,
            Class::Prefetch => budget::Class::Prefetch,
        };
        self.reserve(Direction::Download, class, octets)
    }

    fn upload(&self, octets: u64) -> Result<Grant, Error> {
        self.reserve(Direction::Upload, budget::Class::Interactive, octets)
    }

    fn is_slow(&self) -> bool {
        self.budget.is_slow(SystemTime::now())
    }

    fn notice(&self) -> Option<String> {
        let wish = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let Wish { direction, class, octets, .. } = wish.filter(|wish| wish.at.elapsed() < NOTICE_FOR)?;
        let now = SystemTime::now();
        self.budget.reserve(direction, class, octets, now).err().map(|refused| words(&refused, now))
    }
}
