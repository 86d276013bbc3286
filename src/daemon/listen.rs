//! The listeners: from an accepted connection to a session's task.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::config::{Config, OnDele, PlaintextLogin};
use crate::metrics::{Held, Metrics, Protocol};
use crate::net::listener::{self, Gate};
use crate::net::networks::is_local;
use crate::net::stream::Stream;
use crate::session::front::{Accepted, Observer};
use crate::session::{imap, pop3, smtp};

use super::logins::{Logins, seated};
use super::{Daemon, StartError, http, programs};

/// One configured list of addresses: its key, and whether it speaks TLS from the first byte.
type Ports<'a> = [(&'static str, &'a [SocketAddr], bool); 2];

/// Binds `listen.imap` and `listen.imaps` and serves them; the addresses really bound.
pub(super) fn imap(
    daemon: &Daemon,
    config: &Config,
    logins: Logins,
) -> Result<Vec<(&'static str, SocketAddr)>, StartError> {
    let observer = observer(daemon, Protocol::Imap);
    let server = Arc::new(imap::Server::new(logins, Some(daemon.tls.server_config()), observer, "mailweir ready"));
    let ports = [("imap", config.listen.imap.as_slice(), false), ("imaps", &config.listen.imaps, true)];
    listen(daemon, config, ports, move |accepted, stop| imap::serve(Arc::clone(&server), accepted, stop))
}

/// The same for `listen.pop3` and `listen.pop3s`.
pub(super) fn pop3(
    daemon: &Daemon,
    config: &Config,
    logins: Logins,
) -> Result<Vec<(&'static str, SocketAddr)>, StartError> {
    let observer = observer(daemon, Protocol::Pop3);
    let deletions = Arc::new(Counted(daemon.shared.metrics.clone()));
    let server = pop3::Server::new(logins, Some(daemon.tls.server_config()), observer, deletions, "mailweir");
    let server = Arc::new(server);
    let ports = [("pop3", config.listen.pop3.as_slice(), false), ("pop3s", &config.listen.pop3s, true)];
    listen(daemon, config, ports, move |accepted, stop| pop3::serve(Arc::clone(&server), accepted, stop))
}

/// The same for `listen.submission` and `listen.submissions`.
pub(super) fn submission(
    daemon: &Daemon,
    config: &Config,
    logins: Logins,
) -> Result<Vec<(&'static str, SocketAddr)>, StartError> {
    let observer = observer(daemon, Protocol::Smtp);
    let server = Arc::new(smtp::Server::new(logins, Some(daemon.tls.server_config()), observer, "mailweir"));
    let ports =
        [("submission", config.listen.submission.as_slice(), false), ("submissions", &config.listen.submissions, true)];
    listen(daemon, config, ports, move |accepted, stop| smtp::serve(Arc::clone(&server), accepted, stop))
}

/// Binds a protocol's addresses, all of them or none, and serves each connection by a task.
fn listen<S: Future<Output = ()> + Send + 'static>(
    daemon: &Daemon,
    config: &Config,
    ports: Ports<'_>,
    session: impl Fn(Accepted, CancellationToken) -> S + Clone + Send + 'static,
) -> Result<Vec<(&'static str, SocketAddr)>, StartError> {
    let gate = Arc::new(Gate::default());
    let mut faults = Vec::new();
    let mut bound = Vec::new();
    for (key, addresses, implicit_tls) in ports {
        match daemon.inherited.bind(key, addresses) {
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
        let (session, policy, lan) = (session.clone(), config.listen.plaintext_login.clone(), config.listen.lan);
        let (tasks, stop, programs) = (daemon.tasks.clone(), daemon.stop.clone(), daemon.shared.programs.clone());
        let serving =
            listener::serve(listener, Arc::clone(&gate), daemon.stop_watch.subscribe(), move |stream, ticket| {
                if lan && is_far(&stream) {
                    return;
                }
                let plaintext_login = lets(&policy, stream.peer_ip());
                let peer = stream.peer_ip();
                // The account is known once somebody has logged in.
                let protocol = spoken(key);
                let span = tracing::info_span!("session", protocol, %peer, account = tracing::field::Empty);
                let accepted = Accepted { stream, implicit_tls, plaintext_login };
                let stop = stop.child_token();
                // Boxed, or the task would have room for it twice and more.
                let session = Box::pin(session(accepted, stop.clone()));
                let programs = programs.clone();
                let session = async move {
                    programs.seated(protocol, peer, seated(stop, session)).await;
                    drop(ticket);
                };
                tasks.spawn(session.instrument(span));
            });
        daemon.tasks.spawn(serving);
    }
    Ok(addresses)
}

/// Binds `listen.http` and serves the pages; the addresses really bound.
pub(super) fn http(
    daemon: &Daemon,
    config: &Config,
    pages: &Router,
) -> Result<Vec<(&'static str, SocketAddr)>, StartError> {
    let gate = http::gate();
    let bound = daemon.inherited.bind("http", &config.listen.http);
    let listeners = bound.map_err(|errors| StartError(errors.iter().map(ToString::to_string).collect()))?;
    let mut addresses = Vec::new();
    for listener in listeners {
        addresses.push(("http", listener.local_addr().map_err(|error| StartError(vec![error.to_string()]))?));
        let (pages, tasks, stop) = (pages.clone(), daemon.tasks.clone(), daemon.stop.clone());
        let (tls, lan) = (daemon.tls.server_config(), config.listen.lan);
        let serving =
            listener::serve(listener, Arc::clone(&gate), daemon.stop_watch.subscribe(), move |stream, ticket| {
                if lan && is_far(&stream) {
                    return;
                }
                let (pages, tls, stop) = (pages.clone(), Arc::clone(&tls), stop.clone());
                tasks.spawn(async move {
                    if let Some((stream, visitor)) = http::visitor::welcome(stream, tls, &stop).await {
                        http::serve(stream, visitor, pages, stop).await;
                    }
                    drop(ticket);
                });
            });
        daemon.tasks.spawn(serving);
    }
    Ok(addresses)
}

/// With `lan`: somebody from beyond the local network, who is not served.
fn is_far(stream: &Stream) -> bool {
    let (peer, ours) = (stream.peer_ip(), stream.local_addr().ip());
    let far = !is_local(peer, ours);
    if far {
        tracing::debug!(%peer, "connection closed: it comes from beyond the local network");
    }
    far
}

/// The protocol behind a key of `listen`.
fn spoken(key: &str) -> &'static str {
    match key {
        "imap" | "imaps" => "imap",
        "pop3" | "pop3s" => "pop3",
        _ => "smtp",
    }
}

fn observer(daemon: &Daemon, protocol: Protocol) -> Arc<dyn Observer> {
    Arc::new(Observed {
        protocol,
        metrics: daemon.shared.metrics.clone(),
        held: Mutex::default(),
        sessions: Arc::clone(&daemon.shared.sessions),
    })
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
    protocol: Protocol,
    metrics: Metrics,
    held: Mutex<Vec<Held>>,
    sessions: Arc<AtomicU64>,
}

impl Observer for Observed {
    fn session_opened(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(self.metrics.session(self.protocol));
    }

    fn session_closed(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).pop();
    }

    fn command(&self, name: &'static str, outcome: &'static str, took: Duration) {
        self.metrics.command(self.protocol, name, outcome, took);
    }

    fn program(&self, name: &str, version: &str) {
        programs::is_called(name, version);
    }

    fn selected(&self, mailbox: Option<&str>) {
        programs::has_open(mailbox);
    }
}

struct Counted(Metrics);

impl pop3::Deletions for Counted {
    fn deleted(&self, account: &str, policy: OnDele, messages: u64) {
        self.0.pop3_deleted(account, policy.as_str(), messages);
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
