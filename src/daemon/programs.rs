//! Who is connected: every client session with what it says of itself.
//!
//! A session registers when it is accepted and leaves when its task ends, however it ends. What it does meanwhile reaches its entry by
//! way of the task: sessions know nothing of this list. The listeners' gates bound the number of entries; texts that come from a
//! client are cut here (Law 8).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::status::Client;
use crate::wire::imap::mutf7;

/// Characters of a client's own words that are kept: a name and a version have some twenty.
const TEXT_MOST: usize = 60;
/// The same of a mailbox name; deep ones are long.
const NAME_MOST: usize = 120;
/// Clients that are told by name; of more there is only the number.
pub(super) const TOLD_MOST: usize = 200;

tokio::task_local! {
    static OWN: Seat;
}

/// The list. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub(super) struct Programs {
    entries: Arc<Mutex<Entries>>,
}

#[derive(Default)]
struct Entries {
    last: u64,
    by_number: BTreeMap<u64, Entry>,
}

struct Entry {
    protocol: &'static str,
    peer: IpAddr,
    since: Instant,
    account: Option<String>,
    device: Option<String>,
    program: Option<String>,
    mailbox: Option<String>,
}

/// One session's entry; taken off the list when it is dropped.
struct Seat {
    programs: Programs,
    number: u64,
}

impl Programs {
    /// Runs a session as an entry of the list.
    pub(super) async fn seated(&self, protocol: &'static str, peer: IpAddr, session: impl Future<Output = ()>) {
        OWN.scope(self.enter(protocol, peer), session).await;
    }

    fn enter(&self, protocol: &'static str, peer: IpAddr) -> Seat {
        let entry = Entry {
            protocol,
            peer: peer.to_canonical(),
            since: Instant::now(),
            account: None,
            device: None,
            program: None,
            mailbox: None,
        };
        let mut entries = self.lock();
        entries.last += 1;
        let number = entries.last;
        entries.by_number.insert(number, entry);
        Seat { programs: self.clone(), number }
    }

    /// Those logged in, the oldest first, [`TOLD_MOST`] at most; and how many there are of them.
    pub(super) fn told(&self) -> (Vec<Client>, u64) {
        let entries = self.lock();
        let logged_in = || entries.by_number.values().filter(|entry| entry.account.is_some());
        let told = logged_in().take(TOLD_MOST).map(|entry| Client {
            account: entry.account.clone().unwrap_or_default(),
            protocol: entry.protocol.to_owned(),
            peer: if entry.peer.is_loopback() { "this computer".to_owned() } else { entry.peer.to_string() },
            program: entry.program.clone(),
            device: entry.device.clone(),
            mailbox: entry.mailbox.clone(),
            since_seconds: entry.since.elapsed().as_secs(),
        });
        (told.collect(), logged_in().count() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.programs.lock().by_number.remove(&self.number);
    }
}

/// The session of this task is logged in now.
pub(super) fn logged_in(address: &str, device: Option<&str>) {
    own(|entry| {
        entry.account = Some(address.to_owned());
        entry.device = device.map(|device| cut(device, TEXT_MOST));
    });
}

/// The program of this task's session says what it is.
pub(super) fn is_called(name: &str, version: &str) {
    let words = cut(&format!("{} {}", cut(name, TEXT_MOST), version), TEXT_MOST);
    if !words.is_empty() {
        own(|entry| entry.program = Some(words));
    }
}

/// The session of this task has this mailbox open now.
pub(super) fn has_open(mailbox: Option<&str>) {
    let mailbox = mailbox.map(shown);
    own(|entry| entry.mailbox = mailbox);
}

/// A mailbox's name as a person reads it, and not too much of it.
pub(super) fn shown(mailbox: &str) -> String {
    cut(&mutf7::decode(mailbox).unwrap_or_else(|| mailbox.to_owned()), NAME_MOST)
}

fn own(change: impl FnOnce(&mut Entry)) {
    // Outside a listener's session (a test, the simulated provider) there is nobody to tell.
    let _ = OWN.try_with(|seat| {
        if let Some(entry) = seat.programs.lock().by_number.get_mut(&seat.number) {
            change(entry);
        }
    });
}

/// At most so many characters, none of them one that changes how others are shown.
fn cut(text: &str, most: usize) -> String {
    let turns =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !turns(*c));
    let mut words: String = plain.take(most + 1).collect();
    if words.chars().count() > most {
        words = words.chars().take(most).chain(['…']).collect();
    }
    words.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_session_is_told_of_while_it_lasts() {
        let programs = Programs::default();
        let told = programs.clone();
        let session = async move {
            assert_eq!(told.told(), (Vec::new(), 0), "nobody is told of before the login");
            is_called("Thunder\r\nbird", "128\u{202e}.0");
            logged_in("ann@example.org", Some("laptop"));
            has_open(Some("Entw&APw-rfe"));
            let (clients, count) = told.told();
            assert_eq!((clients.len(), count), (1, 1));
            let client = &clients[0];
            assert_eq!(client.program.as_deref(), Some("Thunder  bird 128.0"));
            assert_eq!((client.mailbox.as_deref(), client.device.as_deref()), (Some("Entwürfe"), Some("laptop")));
            assert_eq!((client.peer.as_str(), client.protocol.as_str()), ("this computer", "imap"));
            has_open(None);
            assert_eq!(told.told().0[0].mailbox, None);
        };
        programs.seated("imap", HOME, session).await;
        assert_eq!(programs.told(), (Vec::new(), 0));
    }

    #[tokio::test]
    async fn neither_words_nor_lists_grow_without_end() {
        let programs = Programs::default();
        let seats: Vec<Seat> = (0..TOLD_MOST + 5).map(|_| programs.enter("imap", HOME)).collect();
        for seat in seats {
            let told = programs.clone();
            OWN.scope(seat, async move {
                logged_in("a", None);
                is_called(&"x".repeat(100_000), "1");
                let program = told.told().0.iter().find_map(|client| client.program.clone()).unwrap();
                assert_eq!(program.chars().count(), TEXT_MOST + 1);
            })
            .await;
        }
        let entries = (0..TOLD_MOST + 5).map(|_| programs.enter("pop3", HOME));
        let seats: Vec<Seat> = entries.collect();
        programs.lock().by_number.values_mut().for_each(|entry| entry.account = Some("a".into()));
        let (told, count) = programs.told();
        assert_eq!((told.len(), count), (TOLD_MOST, TOLD_MOST as u64 + 5));
        drop(seats);
    }
}
