//! Sockets that were opened before us by whoever started us: socket activation of systemd, and whatever else speaks its `LISTEN_FDS`.
//!
//! Ports below 1024 can so be served without any right of our own. A socket is found by its address: what stands in `listen` and is
//! here already is taken, the rest is bound. What is here and stands nowhere in `listen` is told and closed.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Mutex, PoisonError};

use listenfd::ListenFd;
use tokio::net::TcpListener;

use super::listener::{self, BindError};

/// The sockets nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Mutex<Vec<(SocketAddr, StdListener)>>);

impl Inherited {
    /// What the service manager handed over, if it did. Changes the environment, so it is called before there are threads; what it cannot
    /// use (not a TCP listener) it tells in words.
    pub fn from_environment() -> (Self, Vec<String>) {
        let mut handed = ListenFd::from_env();
        let mut found = Vec::new();
        let mut faults = Vec::new();
        for place in 0..handed.len() {
            let listener = match handed.take_tcp_listener(place) {
                Ok(Some(listener)) => listener,
                Ok(None) => continue,
                Err(error) => {
                    faults.push(format!("socket {place} of the service manager is not used: {error}"));
                    continue;
                }
            };
            match listener.local_addr().and_then(|address| listener.set_nonblocking(true).map(|()| address)) {
                Ok(address) => found.push((address, listener)),
                Err(error) => faults.push(format!("socket {place} of the service manager is not used: {error}")),
            }
        }
        (Self(Mutex::new(found)), faults)
    }

    /// The listeners of one key: those that are here, and the others bound as [`listener::bind`] does. Must be called within the runtime.
    pub fn bind(&self, key: &str, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Vec<BindError>> {
        let mut here = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listeners = Vec::new();
        let mut missing = Vec::new();
        for address in addresses {
            match here.iter().position(|(at, _)| at == address) {
                Some(at) => match TcpListener::from_std(here.swap_remove(at).1) {
                    Ok(listener) => listeners.push(listener),
                    Err(_) => missing.push(*address),
                },
                None => missing.push(*address),
            }
        }
        listeners.extend(listener::bind(key, &missing)?);
        Ok(listeners)
    }

    /// Closes what nobody has asked for; the addresses.
    pub fn close_rest(&self) -> Vec<SocketAddr> {
        let rest = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        rest.into_iter().map(|(address, _)| address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_here_is_taken_once_and_the_rest_is_bound() {
        let socket = StdListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let (address, free) = (socket.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let inherited = Inherited(Mutex::new(vec![(address, socket)]));
        let bound = inherited.bind("imaps", &[address, free]).unwrap();
        assert_eq!(bound.len(), 2);
        assert!(bound.iter().any(|listener| listener.local_addr().unwrap() == address));
        let again = inherited.bind("pop3s", &[address]).unwrap_err();
        assert!(again[0].to_string().contains("listen.pop3s"), "{}", again[0]);
        drop(bound);
        let rest = Inherited(Mutex::new(vec![(address, StdListener::bind(address).unwrap())]));
        assert_eq!(rest.close_rest(), [address]);
        assert!(rest.close_rest().is_empty() && StdListener::bind(address).is_ok(), "it is closed");
    }
}
