//! store

pub mod api;
