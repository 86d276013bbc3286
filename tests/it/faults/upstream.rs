//! The server behind the relays of a table, and what it is able to do.
//!
//! On Cyrus all accounts are those of one user, and one session makes the mailboxes: processes of it that begin in the same second give the
//! mailboxes they make the same id, one after the other, and two of an id are one mailbox (3.8, seen by `STATUS (MAILBOXID)`).

use std::net::SocketAddr;

use super::stage;
use crate::harness::UPSTREAM_USER;
use crate::harness::client::Client;
use crate::harness::cyrus::Cyrus;
use crate::harness::daemon::Account;
use crate::harness::dovecot::{Dovecot, Options, user};
use crate::harness::relay::{Link, Relay};

/// Which server, and what of it the daemon is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Dovecot with all it has.
    Full,
    /// The same with MOVE and without UIDPLUS.
    MoveOnly,
    /// With UIDPLUS and without MOVE.
    Uidplus,
    Bare,
    Cyrus,
}

impl Kind {
    fn capability(self) -> Option<&'static str> {
        match self {
            Self::Full | Self::Cyrus => None,
            Self::MoveOnly => Some("IMAP4rev1 MOVE"),
            Self::Uidplus => Some("IMAP4rev1 UIDPLUS"),
            Self::Bare => Some("IMAP4rev1"),
        }
    }
}

#[expect(clippy::large_enum_variant, reason = "there is one a test")]
enum Server {
    /// The daemon uses the second, the test the first.
    Dovecot(Dovecot, Dovecot),
    Cyrus(Cyrus),
}

/// A running server with accounts by number.
pub struct Upstream {
    kind: Kind,
    server: Server,
}

impl Upstream {
    pub fn start(kind: Kind) -> Self {
        let server = match kind {
            Kind::Cyrus => Server::Cyrus(Cyrus::start()),
            kind => {
                let whole = Dovecot::start();
                let seen = whole.beside(Options { capability: kind.capability(), ..Options::default() });
                Server::Dovecot(whole, seen)
            }
        };
        Self { kind, server }
    }

    /// Where the daemon would go without a relay.
    pub fn addr(&self) -> SocketAddr {
        match &self.server {
            Server::Dovecot(_, seen) => seen.imap,
            Server::Cyrus(cyrus) => cyrus.imap,
        }
    }

    /// For the daemon of one account. Without UIDPLUS nothing tells UIDs.
    pub fn relay(&self) -> Relay {
        let relay = Relay::to(self.addr(), Link::default());
        if matches!(self.kind, Kind::MoveOnly | Kind::Bare) {
            relay.withhold_uids();
        }
        relay
    }

    /// A session of an account straight at the server, which hides nothing there.
    pub fn straight(&self, account: usize) -> Client {
        match &self.server {
            Server::Dovecot(whole, _) => whole.client_as(&user(account)),
            Server::Cyrus(cyrus) => cyrus.client(),
        }
    }

    /// An account of the daemon's, by number.
    pub fn account(&self, n: usize, relay: &Relay) -> Account {
        // The relay reads along: Cyrus offers COMPRESS.
        let plain = "compress = false".to_owned();
        let account = Account { limits_more: plain, ..Account::of(&user(n), relay.addr) };
        match &self.server {
            Server::Dovecot(..) => account,
            Server::Cyrus(_) => Account { username: UPSTREAM_USER.to_owned(), ..account },
        }
    }

    /// Makes the mailboxes of these rows, each in its account.
    pub fn fill(&self, rows: impl Iterator<Item = (usize, usize)>) {
        let mut open: Option<(usize, Client)> = None;
        for (account, row) in rows {
            let (_, client) = match open.take() {
                Some((of, client)) if of == account || self.kind == Kind::Cyrus => open.insert((of, client)),
                _ => open.insert((account, self.straight(account))),
            };
            stage::fill(client, row);
        }
    }
}
