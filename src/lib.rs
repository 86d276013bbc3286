//! mailweir (architecture prose follows)
pub mod auth;
pub mod budget;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod message;
pub mod metrics;
pub mod model;
pub mod net;
pub mod provider;
pub mod secret;
pub mod session;
pub mod state;
pub mod store;
pub mod upstream;
pub mod wire;
