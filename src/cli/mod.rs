//! cli

pub mod certs;
