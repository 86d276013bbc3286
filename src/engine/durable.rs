//! The engine's door to the durable state: what is small and cannot be fetched again. Every call runs on the bounded pool (Law 4).

use std::sync::Arc;

use tracing::error;

use super::account::Inner;
use super::error::Error;
use crate::state::{self, State};

/// An account's part of the durable state.
#[derive(Clone)]
pub struct Durable {
    state: State,
    /// What the account is called there.
    key: Arc<str>,
    /// Which account of which server it is: what was kept of another means nothing here.
    upstream: Arc<str>,
}

impl Durable {
    pub fn new(state: State, key: &str, upstream: &str) -> Self {
        Self { state, key: key.into(), upstream: upstream.into() }
    }

    pub(crate) fn upstream(&self) -> &str {
        &self.upstream
    }
}

impl Inner {
    /// Runs a call on the durable state, given the account's key; what it changed is on the disk when this returns.
    ///
    /// # Errors
    /// [`Error::Internal`], in words for the client. What fails is logged here, once.
    pub(crate) async fn durably<T, F>(&self, call: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&State, &str) -> Result<T, state::Error> + Send + 'static,
    {
        let Durable { state, key, .. } = self.durable.clone();
        let done = self.store_pool.run(move || call(&state, &key)).await;
        let failure = match done {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(failure)) => failure.to_string(),
            Err(failure) => failure.to_string(),
        };
        error!(account = %self.label(), %failure, "the durable state failed");
        Err(Error::Internal("The local state cannot be written or read; see the log".into()))
    }
}
