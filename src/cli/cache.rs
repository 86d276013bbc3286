//! `mailweir cache check | drop`: the disposable class of data.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::{fail, load, progress};
use crate::config::Config;
use crate::daemon::{DataDirLock, cache_dir};
use crate::store::{Options, Store};

#[derive(Debug, Subcommand)]
pub(super) enum Cache {
    /// Compare everything in the cache with everything else; stop the daemon first.
    Check,
    /// Delete the cache. Nothing is lost: it is fetched again. Stop the daemon first.
    Drop,
}

pub(super) async fn run(action: Cache, config: Option<PathBuf>) -> ExitCode {
    let config = match load(config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let work = tokio::task::spawn_blocking(move || {
        let _lock = DataDirLock::take(&config.data_dir)?;
        match action {
            Cache::Check => check(&config),
            Cache::Drop => drop_all(&config),
        }
    });
    match work.await {
        Ok(Ok(code)) => code,
        Ok(Err(words)) => fail(&words),
        Err(error) => fail(&error.to_string()),
    }
}

fn check(config: &Config) -> Result<ExitCode, String> {
    let mut sound = true;
    for account in &config.accounts {
        let dir = cache_dir(&config.data_dir, &account.address);
        if !dir.is_dir() {
            println!("{}: no cache yet", account.address);
            continue;
        }
        let store =
            Store::open(&dir, &Options::for_disk(&dir)).map_err(|error| format!("{}: {error}", account.address))?;
        let bar = progress::bar(&account.address);
        let checked = store.check_watched(&|done, of| bar.at(done, of));
        drop(bar);
        let findings = checked.map_err(|error| format!("{}: {error}", account.address))?;
        if findings.is_empty() {
            println!("{}: sound", account.address);
        }
        sound &= findings.is_empty();
        for finding in findings {
            println!("{}: {finding}", account.address);
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn drop_all(config: &Config) -> Result<ExitCode, String> {
    for account in &config.accounts {
        let dir = cache_dir(&config.data_dir, &account.address);
        match std::fs::remove_dir_all(&dir) {
            Ok(()) => println!("{}: the cache is gone", account.address),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => println!("{}: no cache", account.address),
            Err(error) => return Err(format!("{}: {} cannot be deleted: {error}", account.address, dir.display())),
        }
    }
    Ok(ExitCode::SUCCESS)
}
