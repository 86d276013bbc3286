//! upstream

pub mod api;
