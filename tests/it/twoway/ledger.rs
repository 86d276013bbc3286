//! What must be there in the end: kept by the hands that change the account.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{Account, Flags, MAILBOXES, comparable, number};
use crate::harness::mail::{self, Sizes};

/// What must come of it.
pub struct Ledger {
    seed: u64,
    messages: Mutex<Messages>,
}

#[derive(Default)]
struct Messages {
    next: u64,
    live: BTreeMap<u64, Message>,
    gone: u64,
    moved: u64,
}

struct Message {
    mailbox: &'static str,
    /// Somebody has moved it, or is about to move or delete it: nobody else does.
    is_claimed: bool,
    /// Flags that somebody has given and nobody takes away.
    given: Flags,
}

impl Ledger {
    pub fn new(seed: u64) -> Self {
        Self { seed, messages: Mutex::default() }
    }

    pub fn bytes(&self, id: u64) -> Vec<u8> {
        mail::message(self.seed, id, Sizes::Usual).bytes
    }

    /// The number in a Message-ID that `mail` has made.
    pub fn id(&self, message: &[u8]) -> u64 {
        let text = String::from_utf8_lossy(message);
        let line = text.lines().find(|l| l.to_ascii_lowercase().starts_with("message-id:")).expect("a Message-ID");
        number(line)
    }

    pub fn next(&self) -> u64 {
        let mut messages = self.messages.lock().unwrap();
        messages.next += 1;
        messages.next
    }

    pub fn added(&self, id: u64, mailbox: &'static str, given: Flags) {
        self.messages.lock().unwrap().live.insert(id, Message { mailbox, is_claimed: false, given });
    }

    /// Whether the caller may move or delete it. For ever: no message is claimed twice.
    pub fn claim(&self, id: u64) -> bool {
        let mut messages = self.messages.lock().unwrap();
        messages.live.get_mut(&id).is_some_and(|m| !std::mem::replace(&mut m.is_claimed, true))
    }

    pub fn given(&self, id: u64, flag: char) {
        if let Some(message) = self.messages.lock().unwrap().live.get_mut(&id) {
            message.given.insert(flag);
        }
    }

    pub fn moved(&self, id: u64, to: &'static str) {
        let mut messages = self.messages.lock().unwrap();
        messages.moved += 1;
        messages.live.get_mut(&id).expect("a claimed message").mailbox = to;
    }

    pub fn deleted(&self, id: u64) {
        let mut messages = self.messages.lock().unwrap();
        messages.gone += 1;
        messages.live.remove(&id);
    }

    pub fn check(&self, account: &Account) {
        let messages = self.messages.lock().unwrap();
        println!("{} made, {} deleted, {} moved", messages.next, messages.gone, messages.moved);
        assert!(messages.gone > 0 && messages.moved > 0, "the run has done nothing worth a look");
        for mailbox in MAILBOXES {
            let expected: Vec<u64> =
                messages.live.iter().filter(|(_, m)| m.mailbox == mailbox).map(|(id, _)| *id).collect();
            let found: Vec<u64> =
                account[mailbox].iter().flat_map(|(id, copies)| std::iter::repeat_n(*id, copies.len())).collect();
            assert_eq!(found, expected, "messages of {mailbox}");
            for (id, copies) in &account[mailbox] {
                let (message, (flags, bytes)) = (&messages.live[id], &copies[0]);
                assert!(*bytes == comparable(&self.bytes(*id)), "another body: message {id} of {mailbox}");
                // Flags that are given while a message is moved may stay behind with the old copy.
                assert!(message.is_claimed || message.given.is_subset(flags), "{id}: {flags:?} of {:?}", message.given);
                assert!(!flags.contains(&'T'), "{id} is left deleted");
            }
        }
    }
}
