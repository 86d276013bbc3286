//! What POP3 logins have deleted for themselves, kept in the durable state.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::spending;
use crate::model::UniqueId;
use crate::session::pop3::HideSet;
use crate::state::{PopLogin, State};
use crate::store::StorePool;

/// How long QUIT waits for the disk. Past it the client is told of a failure, and a commit that comes after all hides what the client
/// meant to delete; so it is long.
const COMMIT: Duration = Duration::from_secs(30);

/// The hide sets of one account and device.
#[derive(Clone)]
pub(super) struct Hidden {
    state: State,
    threads: StorePool,
    account: Arc<str>,
    device: Arc<str>,
}

impl Hidden {
    pub(super) fn new(state: State, threads: StorePool, address: &str, device: Option<&str>) -> Self {
        let account = spending::key(address).into();
        Self { state, threads, account, device: device.unwrap_or_default().into() }
    }

    fn login<'a>(&'a self, mailbox: &'a str) -> PopLogin<'a> {
        PopLogin { account: &self.account, mailbox, device: &self.device }
    }
}

impl HideSet for Hidden {
    async fn load(&self, mailbox: &str) -> Result<HashSet<UniqueId>, String> {
        let (own, mailbox) = (self.clone(), mailbox.to_owned());
        let loaded = self.threads.run(move || own.state.hidden(&own.login(&mailbox))).await;
        loaded.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn hide(&self, mailbox: &str, ids: Vec<UniqueId>) -> Result<(), String> {
        let (own, mailbox) = (self.clone(), mailbox.to_owned());
        let hidden = self
            .threads
            .run_within(COMMIT, move || own.state.hide(&own.login(&mailbox), &ids, SystemTime::now()))
            .await;
        hidden.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}
