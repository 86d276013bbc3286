//! One upstream with mail in it, a relay that counts, and the daemon in front: what most tests begin with.
//!
//! `everywhere!(test)` makes one test of each kind of upstream from a function that takes a [`World`].

use std::net::SocketAddr;
use std::path::PathBuf;

use super::client::Client;
use super::cyrus::Cyrus;
use super::daemon::{Account, Daemon, Setup};
use super::dovecot::Dovecot;
use super::relay::{Link, Relay};
use super::{PATIENCE, UPSTREAM_PASSWORD, UPSTREAM_USER};

/// Which upstream, and whether the daemon stands in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Dovecot,
    /// The same Dovecot saying IMAP4rev1 only.
    Bare,
    Cyrus,
    /// No daemon: the client talks to Dovecot itself. Proves the test, not the daemon.
    Straight,
}

/// The upstream server of a world.
pub enum Upstream {
    Dovecot(Dovecot),
    /// The daemon uses the second, the test the first.
    Bare(Box<Dovecot>, Dovecot),
    Cyrus(Cyrus),
}

/// Upstream, relay and daemon together.
pub struct World {
    pub kind: Kind,
    // The daemon is dropped first, then the relay, then the server.
    daemon: Option<Daemon>,
    pub relay: Relay,
    pub upstream: Upstream,
}

impl World {
    /// Mail is put in by `fill`, straight at the upstream, before the daemon sees it.
    pub fn new(kind: Kind, fill: impl FnOnce(&mut Client)) -> Self {
        Self::with(kind, Link::default(), |setup| setup, fill)
    }

    /// The same, with a link of a given kind and a changed set-up.
    pub fn with(kind: Kind, link: Link, change: impl FnOnce(Setup) -> Setup, fill: impl FnOnce(&mut Client)) -> Self {
        let is_straight = kind == Kind::Straight || super::straight_run();
        let upstream = match kind {
            Kind::Dovecot | Kind::Straight => Upstream::Dovecot(Dovecot::start()),
            Kind::Cyrus => Upstream::Cyrus(Cyrus::start()),
            Kind::Bare => {
                let full = Dovecot::start();
                let bare = full.bare();
                Upstream::Bare(Box::new(full), bare)
            }
        };
        fill(&mut upstream.client());
        let target = match &upstream {
            Upstream::Dovecot(d) | Upstream::Bare(_, d) => d.imap,
            Upstream::Cyrus(c) => c.imap,
        };
        let relay = Relay::to(target, link);
        let setup = change(Setup::new(Account::at(relay.addr)));
        let daemon = (!is_straight).then(|| Daemon::start(setup));
        Self { kind, daemon, relay, upstream }
    }

    /// A mail program's session, logged in.
    pub fn client(&self) -> Client {
        match &self.daemon {
            Some(daemon) => daemon.client(),
            None => Client::connect(self.relay.addr).login(UPSTREAM_USER, UPSTREAM_PASSWORD),
        }
    }

    /// A connection that is not logged in.
    pub fn connection(&self) -> Client {
        Client::connect(self.daemon.as_ref().map_or(self.relay.addr, |d| d.imap))
    }

    /// Where a mail program is to be pointed.
    pub fn endpoint(&self) -> Endpoint {
        let (user, password) = self.credentials();
        let (imap, imaps, ca_file) = match (&self.daemon, &self.upstream) {
            (Some(d), _) => (d.imap, d.imaps, d.ca_file()),
            (None, Upstream::Dovecot(d) | Upstream::Bare(_, d)) => (self.relay.addr, d.imaps, d.ca_file().to_owned()),
            (None, Upstream::Cyrus(c)) => (self.relay.addr, c.imaps, c.ca_file().to_owned()),
        };
        Endpoint { imap, imaps, ca_file, user, password }
    }

    /// A session at the upstream itself, past daemon and relay.
    pub fn straight(&self) -> Client {
        self.upstream.client()
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a world with a daemon")
    }

    pub fn daemon_mut(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("a world with a daemon")
    }

    /// Whether clients talk to the upstream itself.
    pub fn is_straight(&self) -> bool {
        self.daemon.is_none()
    }

    /// The names of user and password a client gives here.
    pub fn credentials(&self) -> (&'static str, &'static str) {
        if self.is_straight() { (UPSTREAM_USER, UPSTREAM_PASSWORD) } else { (super::ADDRESS, super::LOCAL_PASSWORD) }
    }

    /// Asks with `NOOP` until `client` has been told what `found` looks for; everything said on the way.
    pub fn poll(&self, client: &mut Client, mut found: impl FnMut(&str) -> bool) -> Vec<String> {
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            let lines = client.cmd_ok("NOOP").lines();
            let hit = lines.iter().any(|l| found(l));
            said.extend(lines);
            if hit {
                return said;
            }
            assert!(std::time::Instant::now() < deadline, "never told; so far {said:?}");
            // Not to wait for the change but to leave it room: a poll in a loop would take the processor.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// The settings a mail program is given.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub imap: SocketAddr,
    pub imaps: SocketAddr,
    pub ca_file: PathBuf,
    pub user: &'static str,
    pub password: &'static str,
}

impl Upstream {
    /// A session at the server itself.
    pub fn client(&self) -> Client {
        match self {
            Self::Dovecot(d) => d.client(),
            Self::Bare(d, _) => d.client(),
            Self::Cyrus(c) => c.client(),
        }
    }

    pub fn dovecot(&self) -> &Dovecot {
        match self {
            Self::Dovecot(d) => d,
            Self::Bare(d, _) => d,
            Self::Cyrus(_) => panic!("this world's upstream is Cyrus"),
        }
    }
}

/// One test for each kind of upstream: `everywhere!(name)` beside `fn name(kind: Kind)`.
#[macro_export]
macro_rules! everywhere {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::harness::world::Kind;
            #[test]
            fn dovecot() { super::$name(Kind::Dovecot) }
            #[test]
            fn bare() { super::$name(Kind::Bare) }
            #[test]
            fn cyrus() { super::$name(Kind::Cyrus) }
            #[test]
            fn straight() { super::$name(Kind::Straight) }
        }
    )+};
}

/// The same with Dovecot and straight only, for what no other upstream changes.
#[macro_export]
macro_rules! over_dovecot {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::harness::world::Kind;
            #[test]
            fn dovecot() { super::$name(Kind::Dovecot) }
            #[test]
            fn straight() { super::$name(Kind::Straight) }
        }
    )+};
}
