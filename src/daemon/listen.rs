//! The listeners: from an accepted connection to a session's task.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;

use crate::config::{Config, PlaintextLogin};
use crate::metrics::{Held, Metrics, Protocol};
use crate::net::listener::{self, Gate};
use crate::session::imap::{Accepted, Observer, Server, serve};

use super::logins::{Logins, seated};
use super::{Daemon, StartError, http};

/// Binds `listen.imap` and `listen.imaps` and serves them; the addresses really bound.
pub(super) fn imap(
    daemon: &Daemon,
    config: &Config,
    logins: Logins,
) -> Result<Vec<(&'static str, SocketAddr)>, StartError> {
    let observer: Arc<dyn Observer> = Arc::new(Observed {
        metrics: daemon.shared.metrics.clone(),
        held: Mutex::default(),
        sessions: Arc::clone(&daemon.shared.sessions),
    });
    let server = Arc::new(Server::new(logins, Some(daemon.tls.server_config()), observer, "mailweir ready"));
    let gate = Arc::new(Gate::default());
    let mut faults = Vec::new();
    let mut bound = Vec::new();
    let ports = [("imap", &config.listen.imap, false), ("imaps", &config.listen.imaps, true)];
    for (key, addresses, implicit_tls) in ports {
        match listener::bind(key, addresses) {
            Err(errors) => faults.extend(errors.iter().map(ToString::to_string)),
            Ok(listeners) => bound.extend(listeners.into_iter().map(|listener| (key, listener, implicit_tls))),
        }
    }
    if !faults.is_empty() {
        return Err(StartError(faults));
    }
    let mut addresses = Vec::new();
    for (key, listener, implicit_tls) in bound {
        addresses.push((key, listener.local_addr().map_err(|error| StartError(vec![error.to_string()]))?));
        let (server, policy) = (Arc::clone(&server), config.listen.plaintext_login.clone());
        let (tasks, stop) = (daemon.tasks.clone(), daemon.stop.clone());
        let serving =
            listener::serve(listener, Arc::clone(&gate), daemon.stop_watch.subscribe(), move |stream, ticket| {
                let plaintext_login = lets(&policy, stream.peer_ip());
                let accepted = Accepted { stream, implicit_tls, plaintext_login };
                let stop = stop.child_token();
                let session = serve(Arc::clone(&server), accepted, stop.clone());
                tasks.spawn(async move {
                    seated(stop, session).await;
                    drop(ticket);
                });
            });
        daemon.tasks.spawn(serving);
    }
    Ok(addresses)
}

/// Binds `listen.http` and serves the pages; the addresses really bound.
pub(super) fn http(
    daemon: &Daemon,
    config: &Config,
    routes: &Router,
) -> Result<Vec<(&'static str, SocketAddr)>, StartError> {
    let gate = http::gate();
    let listeners = listener::bind("http", &config.listen.http)
        .map_err(|errors| StartError(errors.iter().map(ToString::to_string).collect()))?;
    let mut addresses = Vec::new();
    for listener in listeners {
        addresses.push(("http", listener.local_addr().map_err(|error| StartError(vec![error.to_string()]))?));
        let (routes, tasks, stop) = (routes.clone(), daemon.tasks.clone(), daemon.stop.clone());
        let serving =
            listener::serve(listener, Arc::clone(&gate), daemon.stop_watch.subscribe(), move |stream, ticket| {
                let serving = http::serve(stream, routes.clone(), stop.clone());
                tasks.spawn(async move {
                    serving.await;
                    drop(ticket);
                });
            });
        daemon.tasks.spawn(serving);
    }
    Ok(addresses)
}

/// Whether the policy lets this peer log in without TLS.
fn lets(policy: &PlaintextLogin, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    match policy {
        PlaintextLogin::Never => false,
        PlaintextLogin::Loopback => peer.is_loopback(),
        PlaintextLogin::Networks(networks) => networks.iter().any(|network| network.contains(peer)),
    }
}

struct Observed {
    metrics: Metrics,
    held: Mutex<Vec<Held>>,
    sessions: Arc<AtomicU64>,
}

impl Observer for Observed {
    fn session_opened(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(self.metrics.session(Protocol::Imap));
    }

    fn session_closed(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).pop();
    }

    fn command(&self, name: &'static str, outcome: &'static str, took: Duration) {
        self.metrics.command(Protocol::Imap, name, outcome, took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_log_in_without_tls() {
        let lan = PlaintextLogin::Networks(vec!["192.168.0.0/16".parse().unwrap()]);
        let table = [
            (PlaintextLogin::Never, "127.0.0.1", false),
            (PlaintextLogin::Loopback, "127.0.0.1", true),
            (PlaintextLogin::Loopback, "::ffff:127.0.0.1", true),
            (PlaintextLogin::Loopback, "192.168.1.5", false),
            (lan.clone(), "192.168.1.5", true),
            (lan, "127.0.0.1", false),
        ];
        for (policy, peer, want) in table {
            assert_eq!(lets(&policy, peer.parse().unwrap()), want, "{policy:?} {peer}");
        }
    }
}
