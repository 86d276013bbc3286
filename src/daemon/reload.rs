//! SIGHUP: the configuration file is read again and taken over, without dropping the sessions of accounts that stay.
//!
//! First everything that can fail: the file, passwords, caches of new accounts, certificates. Any fault, and all of them are logged and
//! nothing has changed. Then what cannot: local logins, limits, accounts. An account whose provider or login there has changed is
//! begun again on its cache and its count, and the mail programs logged in to it come back.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::accounts::{self, Prepared, Running};
use super::http::Door;
use super::tokens::Way;
use super::{Daemon, blocking};
use crate::config::{self, Config};
use crate::net::trust;

/// What becomes of a configured account.
enum Step {
    Stay(Arc<Running>, config::Account),
    Restart(Arc<Running>, config::Account, Way),
    New(Prepared),
}

impl Daemon {
    /// Reads the configuration file again and takes it over, whole or not at all; ends accounts' back-offs.
    pub async fn reload(&self) {
        let _one = self.reloading.lock().await;
        match self.take_over().await {
            Ok(()) => {
                self.context.metrics.set_reloaded(true);
                info!("the configuration was read again");
            }
            Err(faults) => {
                self.context.metrics.set_reloaded(false);
                for fault in &faults {
                    error!("{fault}");
                }
                error!(faults = faults.len(), "the configuration was not taken over; the old one stays");
            }
        }
        self.shared.accounts.all().iter().for_each(|running| running.kick());
    }

    async fn take_over(&self) -> Result<(), Vec<String>> {
        let config = self.read_again().await?;
        let mut steps = Vec::new();
        let mut faults = Vec::new();
        for account in &config.accounts {
            match self.step(account).await {
                Ok(step) => steps.push(step),
                Err(words) => faults.push(format!("{}: {words}", account.address)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let token = Door::token(&config.http).await.map_err(|error| vec![error])?;
        let (tls, settings) = (Arc::clone(&self.tls), config.tls.clone());
        let certificates = blocking(move || tls.reload(&settings)).await;
        certificates.map_err(|error| vec![error])?;
        trust::forget();
        let logins = self.logins.reload(&config.accounts).await;
        logins.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        self.door.set(token.as_ref());
        self.carry_out(steps).await;
        Ok(())
    }

    async fn read_again(&self) -> Result<Config, Vec<String>> {
        let file = self.config.file.clone();
        let read = tokio::task::spawn_blocking(move || Config::load(&file)).await;
        let read = read.map_err(|error| vec![error.to_string()])?;
        let config = read.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        for warning in &config.warnings {
            warn!("{warning}");
        }
        let fixed = [
            ("data_dir", config.data_dir != self.config.data_dir),
            ("listen", config.listen != self.config.listen),
            ("cache", config.cache != self.config.cache),
            ("token_key", config.token_key != self.config.token_key),
            // Its token is taken over now.
            ("http", config::Http { token: self.config.http.token.clone(), ..config.http.clone() } != self.config.http),
            ("log", config.log != self.config.log),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            warn!("`{key}` has changed in {}; that is taken over at the next start", config.file.display());
        }
        Ok(config)
    }

    async fn step(&self, account: &config::Account) -> Result<Step, String> {
        let Some(running) = self.shared.accounts.find(&account.address) else {
            return accounts::prepare(&self.context, account, false).await.map(Step::New);
        };
        let way = self.context.way(account).await?;
        Ok(if running.differs(account, &way) {
            Step::Restart(running, account.clone(), way)
        } else {
            Step::Stay(running, account.clone())
        })
    }

    async fn carry_out(&self, steps: Vec<Step>) {
        let context = &self.context;
        let before = self.shared.accounts.all();
        let after = steps.into_iter().map(|step| async move {
            match step {
                Step::Stay(running, settings) => {
                    running.adjust(&settings);
                    running
                }
                Step::Restart(running, settings, way) => {
                    info!(account = %settings.address, "begun again with its new settings");
                    Arc::new(running.restart(context, settings, way).await)
                }
                Step::New(prepared) => {
                    let running = Running::begin(context, prepared);
                    info!(account = running.account.address(), "a new account");
                    Arc::new(running)
                }
            }
        });
        let after = futures_util::future::join_all(after).await;
        let addresses: Vec<String> = after.iter().map(|running| running.account.address().to_owned()).collect();
        self.shared.accounts.replace(after);
        let gone = before.iter().filter(|running| !addresses.iter().any(|address| running.is(address)));
        let gone = gone.map(|running| async move {
            let address = running.account.address();
            info!(account = address, "no longer configured");
            running.retire().await;
            context.metrics.remove_account(address);
        });
        futures_util::future::join_all(gone).await;
        self.shared.strays.look(context, &addresses).await;
    }
}
