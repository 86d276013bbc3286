//! Bringing a mailbox's mirror in step with upstream: what to ask ([`plan`]) and asking it ([`run`], `whole` and `changes`).

mod changes;
mod commit;
mod facts;
mod listing;
pub(crate) mod plan;
pub(crate) mod resume;
pub(crate) mod run;
mod whole;
pub(crate) mod window;
