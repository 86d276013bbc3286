//! Bringing a mailbox's mirror in step with upstream: what to ask ([`plan`]) and asking it ([`run`]).

mod facts;
mod listing;
pub(crate) mod plan;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod window;
