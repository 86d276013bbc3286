//! The black-box tests: one binary, so one link. Every file is named after what it looks at; the ones under `imap/`
//! after the command families of `src/session/imap/command/`.
//!
//! `MAILWEIR_TEST_STRAIGHT=1` points the clients at the upstream itself instead of the daemon. What holds of any IMAP
//! server must pass that way too: it proves that a test asks for the protocol and not for a habit of ours.
#![allow(unreachable_pub, reason = "the harness is a module here and in the end-to-end bench")]
#![allow(dead_code, reason = "each of the two uses its own part of the harness")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking; the lint knows test functions, not their helpers")]

mod accounts;
mod budget;
mod cachesize;
mod check;
mod compare;
mod config;
mod demo;
mod faults;
mod fresh;
mod gmail;
mod harness;
mod hostile;
mod imap;
mod interop;
mod keyring;
mod layering;
mod ledger;
mod licences;
mod limits;
mod memory;
mod oauth;
mod observe;
mod page;
mod parts;
mod pool;
mod pop3;
mod providers;
mod reload;
mod resume;
mod secrets;
mod selfsetup;
mod service;
mod setup;
mod sidebyside;
mod straight;
mod submission;
mod sync;
mod terminal;
mod thunderbird;
mod tls;
mod trickle;
mod twoway;
mod upheaval;
mod wan;
mod weather;
mod writers;
