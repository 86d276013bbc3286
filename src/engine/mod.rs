//! An account: its mirror, its bodies, its writes. (The API below is the contract with `session/`.)

pub mod api;

pub use api::*;
